"""The mutation tester: its table is of modules and tests that exist, and what explains a survivor is said of lines that do."""

import tomllib
from typing import Any

import pytest
from documents import ROOT, SOURCE, code_in, rows, section

from mutation.run import AT_IMPORT, EXPLAINED, HELD_BY, pure_modules

CONTRIBUTING = ROOT / "docs" / "contributing.md"
LISTED: list[dict[str, Any]] = tomllib.loads(EXPLAINED.read_text(encoding="utf-8"))["explained"]


def test_modules_in_which_faults_are_tried_exist_and_are_found_by_the_contract_that_says_what_is_pure() -> None:
    assert [module for module in (*HELD_BY, *AT_IMPORT) if not (SOURCE / module).is_file()] == []
    assert {"core/plan.py", "dds/wire.py", "nexus/message.py", "accela/mapping.py"} <= pure_modules()
    assert {"core/__init__.py", "dds/api.py", "mirror/write.py", "nexus/delivery.py"}.isdisjoint(pure_modules())


def test_tests_that_hold_a_module_exist() -> None:
    assert [name for names in HELD_BY.values() for name in names if not (ROOT / "tests" / name).is_file()] == []


@pytest.mark.parametrize("each", LISTED, ids=lambda each: f"{each['module']}: {each['was'][:40]}")
def test_what_explains_a_fault_is_said_of_a_line_that_is_there(each: dict[str, Any]) -> None:
    source = " ".join((SOURCE / each["module"]).read_text(encoding="utf-8").split())

    assert " ".join(each["was"].split()) in source
    assert each["why"]
    assert each["becomes"]
    assert each["was"] not in each["becomes"]


def test_scores_that_are_written_down_are_of_modules_in_which_faults_are_tried_and_add_up() -> None:
    text = section(CONTRIBUTING, "How much the tests notice")
    scores = rows(text)

    assert [code_in(row[0])[0] for row in scores] == sorted(HELD_BY)
    counts = [[int(count) for count in row[1:]] for row in scores]
    for faults, tried, *became in counts:
        assert sum(became) == tried <= faults
    _, tried, noticed, cut_off, left, open_ones = map(sum, zip(*counts, strict=True))
    share = 100 * (noticed + cut_off) / tried
    assert f"of {tried:,} faults that were tried {noticed:,} were noticed and {cut_off} cut off (**{share:.1f} %**)" in text
    assert f"{left} survived and are explained, {open_ones} are open" in text
