"""One schedule from its beginning to its end, in a folder of its own, and what is told of it.

Invariants:

- Nothing is left of a schedule that holds.
- What is told of one that does not has all that is needed to have it again: seed, steps, and what each call has said.
"""

import shutil
import sqlite3
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from torture.plan import Schedule
from torture.run import Run
from torture.scene import Scene


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a schedule: which ingredients happened, and what did not hold, empty where everything did."""

    happened: Counter[str]
    trouble: str


def carry_out(schedule: Schedule, folder: Path, shim: Path | None, *, keep: Path | None = None) -> Outcome:
    """Return what came of *schedule* in *folder*, which is made; where it does not hold, its files go to *keep*."""
    folder.mkdir()
    trouble = ""
    scene = Scene(schedule, folder, shim)
    run = Run(schedule, scene)
    try:
        with scene:
            run.carry_out()
    except (AssertionError, sqlite3.Error) as error:
        trouble = _told(schedule, scene, error)
        if keep is not None:
            shutil.copytree(folder, keep / str(schedule.seed), dirs_exist_ok=True)
    scene.clear_away()
    return Outcome(+run.happened, trouble)


def _told(schedule: Schedule, scene: Scene, error: Exception) -> str:
    lines = [
        f"schedule {schedule.seed} does not hold: {type(error).__name__}: {error}",
        f"again: make torture SEED={schedule.seed} COUNT=1",
        f"{schedule.records}, {schedule.deletes}, parallel {schedule.parallel}, pages of {schedule.size}, {schedule.dials}",
        *(f"- {step}" for step in schedule.steps),
        *map(str, scene.calls),
    ]
    return "\n".join(lines)
