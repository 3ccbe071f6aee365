"""What a release rests on: one version, a changelog of the form that it names, lower bounds that can be tested."""

import re
import subprocess
import sys
import tomllib
from datetime import date
from importlib.metadata import version
from pathlib import Path

from documents import ROOT, SOURCE, text_of

from delta_mirror import __version__

CHANGELOG = ROOT / "CHANGELOG.md"
KINDS = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def releases() -> list[tuple[str, str]]:
    """Return version and date of every release in the changelog, as they stand there."""
    return re.findall(r"^## \[(\d[^\]]*)\] - (\S+)$", text_of(CHANGELOG), re.MULTILINE)


def as_numbers(text: str) -> tuple[int, ...]:
    assert re.fullmatch(r"\d+\.\d+\.\d+", text), f"{text} is no semantic version"
    return tuple(map(int, text.split(".")))


def test_version_stands_in_one_place_and_is_that_of_the_program_and_the_package() -> None:
    told = subprocess.run([Path(sys.executable).with_name("sync"), "--version"], capture_output=True, text=True, check=True)
    places = [path for path in SOURCE.rglob("*.py") if re.search(r"__version__\s*(:.*)?=", path.read_text(encoding="utf-8"))]

    assert told.stdout == f"delta-mirror {__version__}\n"
    assert version("delta-mirror") == __version__
    assert places == [SOURCE / "__init__.py"]
    assert "version" not in PROJECT
    assert PROJECT["dynamic"] == ["version"]


def test_changelog_is_of_the_form_that_it_names() -> None:
    titles = re.findall(r"^## (.+)$", text_of(CHANGELOG), re.MULTILINE)
    parts = re.findall(r"^### (.+)$", text_of(CHANGELOG), re.MULTILINE)

    assert titles[0] == "[Unreleased]"
    assert titles[1:] == [f"[{number}] - {day}" for number, day in releases()]
    assert set(parts) <= set(KINDS)
    assert [day for _, day in releases() if date.fromisoformat(day).isoformat() != day] == []


def test_releases_stand_newest_first_and_the_program_is_not_behind_them() -> None:
    numbers = [as_numbers(number) for number, _ in releases()]

    assert numbers == sorted(numbers, reverse=True)
    assert as_numbers(__version__) >= max(numbers, default=(0, 0, 0))


def test_every_dependency_has_a_lower_bound_that_can_be_tested_and_no_upper_one() -> None:
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    plain = r"[\w.-]+(\[[\w,]+\])?>=\d[\w.]*|delta-mirror\[[\w,]+\]"

    assert [each for group in groups for each in group if not re.fullmatch(plain, each)] == []
