"""The mutation tester: every module of rules is in its table, and what explains a survivor is still true of the code."""

import re
import tomllib
from typing import Any

import pytest
from documents import ROOT, SOURCE, code_in, rows, section

from mutation.run import AT_IMPORT, EXPLAINED, HELD_BY

CONTRIBUTING = ROOT / "docs" / "contributing.md"
LISTED: list[dict[str, Any]] = tomllib.loads(EXPLAINED.read_text(encoding="utf-8"))["explained"]


def pure_modules() -> set[str]:
    """Return the modules that do no input or output, by the contract that says so."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    [named] = [each["source_modules"] for each in contracts if each["name"] == "the rules do no input or output"]
    found: set[str] = set()
    for name in named:
        path = SOURCE.joinpath(*name.split(".")[1:])
        found.update(f"{path.relative_to(SOURCE).as_posix()}/{each.name}" for each in path.glob("*.py"))
        if not path.is_dir():
            found.add(path.relative_to(SOURCE).with_suffix(".py").as_posix())
    return found


def has_functions(module: str) -> bool:
    return re.search(r"^ *def ", (SOURCE / module).read_text(encoding="utf-8"), re.MULTILINE) is not None


def test_faults_are_tried_in_every_module_of_rules() -> None:
    assert {module for module in pure_modules() if has_functions(module)} <= set(HELD_BY)
    assert [module for module in (*HELD_BY, *AT_IMPORT) if not (SOURCE / module).is_file()] == []


def test_tests_that_hold_a_module_exist() -> None:
    assert [name for names in HELD_BY.values() for name in names if not (ROOT / "tests" / name).is_file()] == []


@pytest.mark.parametrize("each", LISTED, ids=lambda each: f"{each['module']}: {each['was'][:40]}")
def test_what_explains_a_fault_is_said_of_a_line_that_is_there(each: dict[str, Any]) -> None:
    source = " ".join((SOURCE / each["module"]).read_text(encoding="utf-8").split())

    assert " ".join(each["was"].split()) in source
    assert each["why"]
    assert each["becomes"]
    assert each["was"] not in each["becomes"]


def test_score_is_written_down_for_every_module_in_which_faults_are_tried() -> None:
    scores = rows(section(CONTRIBUTING, "How much the tests notice"))

    assert [code_in(row[0])[0] for row in scores] == sorted(HELD_BY)
    for faults, tried, *became in (map(int, row[1:]) for row in scores):
        assert sum(became) == tried <= faults
