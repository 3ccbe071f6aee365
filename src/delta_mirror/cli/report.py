"""How the report of a run is handed over: as text or as JSON, and what is wrong with it.

Invariants:

- What was asked for goes to standard output first; what is wrong is said last, whatever has become of the rest.
- One run is the same JSON whether it has just ended or is read from the mirror.
"""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from delta_mirror.cli.messages import json_text
from delta_mirror.cli.output import as_far_as_read

if TYPE_CHECKING:
    from delta_mirror.core.plan import Counts
    from delta_mirror.jobs.outcome import EndedRun
    from delta_mirror.mirror.read import Run


def hand_over(
    *, as_json: bool, quiet: bool, value: Callable[[], object], text: Callable[[], None], complaints: Callable[[], None]
) -> None:
    """Print *value* as JSON if asked to, or else, unless *quiet*, the *text*; and then complain.

    A pipe that nobody reads any more takes away neither the messages nor the exit code: cron needs both.
    """
    try:
        with as_far_as_read():
            if as_json:
                print_json(value())
            elif not quiet:
                text()
    finally:
        complaints()


def print_json(value: object) -> None:
    """Write *value* as one line of JSON to standard output, which steers no terminal."""
    sys.stdout.write(json_text(value) + "\n")


def ended_as_json(report: "EndedRun", command: str, *, calls: int, pages: int, counts: "Counts") -> dict[str, object]:
    """Return a run that has just ended as programs read its row of `_runs`."""
    from delta_mirror.mirror.file import own_time

    return {
        "id": report.id,
        "command": command,
        "started_at": own_time(report.started_at),
        "ended_at": own_time(report.ended_at),
        "outcome": report.outcome,
        "calls": calls,
        "pages": pages,
        **counts.as_dict(),
    }


def run_as_json(run: "Run") -> dict[str, object]:
    """Return one row of `_runs` as programs read it."""
    return {
        "id": run.id,
        "command": run.command,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "outcome": run.outcome,
        "calls": run.calls,
        "pages": run.pages,
        **run.counts.as_dict(),
    }
