"""What an operator asks of a push, and what became of it.

Invariants:

- Values of records stand in `changes` alone, and nowhere in a text: the one is a result, the others are messages.
"""

from dataclasses import dataclass, field

from delta_mirror.core.links import Link, Who
from delta_mirror.jobs.outcome import EndedRun


@dataclass(frozen=True, slots=True)
class PushWishes:
    """What the operator asks of a run. `wait` and `time_limit` are seconds, `wait` below 0 is without end."""

    limit: int | None = None
    dry_run: bool = False
    retry_failed: bool = False
    wait: float = 0.0
    time_limit: float | None = None


@dataclass(slots=True)
class Pushed:
    """What became of one link in this run, or, in a dry run, would.

    `changes` has of each field that differs what the contact holds and what it is to hold: these are values, for results alone.
    `left_alone` says of which fields, and why, the record could not tell what they are to hold.
    """

    link: Link
    outcome: str
    changes: dict[str, tuple[str, str]] = field(default_factory=dict)
    missed: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    left_alone: dict[str, str] = field(default_factory=dict)
    error: str | None = None
    warning: str | None = None
    trace_id: str | None = None

    @property
    def is_done(self) -> bool:
        """Whether nothing of it is left to do."""
        return self.outcome in ("pushed", "unchanged", "source_deleted", "would push")


@dataclass(slots=True)
class PushReport(EndedRun):
    """What became of a run. `waiting` is how many a limit has left over.

    `rivals` are records that claim one contact, `absent` links of records that the mirror does not hold, `unmapped` links of
    entities without a map.
    """

    calls: int = 0
    links: int = 0
    due: int = 0
    waiting: int = 0
    contacts: list[Pushed] = field(default_factory=list)
    rivals: list[Who] = field(default_factory=list)
    absent: int = 0
    unmapped: dict[str, int] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Whether everything that was to be done is done."""
        return not self.trouble and not self.rivals and all(each.is_done for each in self.contacts)

    def counts(self) -> dict[str, int]:
        """Return how many contacts had which outcome."""
        found: dict[str, int] = {}
        for each in self.contacts:
            found[each.outcome] = found.get(each.outcome, 0) + 1
        return found
