"""How a run has ended, as `_runs` keeps it."""

from dataclasses import dataclass, field
from typing import Literal

RunOutcome = Literal["done", "maintenance", "unfinished", "stopped"]
WENT_WELL: tuple[RunOutcome, ...] = ("done", "maintenance")  # what was asked for is done, or nobody is to get mail for the rest


def outcome_of_run(*, is_stopped: bool, is_whole: bool, is_excused: bool) -> RunOutcome:
    """Return how a run has ended: *is_excused* says that all was done but for what the maintenance window explains."""
    if is_stopped:
        return "stopped"
    if is_whole:
        return "done"
    return "maintenance" if is_excused else "unfinished"


@dataclass(slots=True)
class EndedRun:
    """What the report of any run says. `id` is None where it has written nothing; the times are seconds since the epoch.

    `trouble` is what kept the whole of what was asked for from being done, beside what the report says of its parts.
    """

    id: int | None = None
    started_at: float = 0.0
    ended_at: float = 0.0
    outcome: str = "done"
    trouble: list[str] = field(default_factory=list)
