"""The nouns of tying mirrored records to something outside: who, with what, and what was last brought there.

Invariants:

- Nothing here acts, and nothing here knows what is outside.
- `seq` is always a number of the mirror's log of changes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from delta_mirror.core.model import Value

NEXUS = "NexusClient"  # the one entity that stands under no tenant and no location

Cells = Mapping[str, Value | None]
"""One row of a data table as a query finds it: NULL is None, and the mirror's own columns are among them."""


class Who(NamedTuple):
    """One record of the mirror."""

    entity: str
    tenant_id: int
    location_id: int
    id: str

    @property
    def person(self) -> tuple[str, int, str]:
        """Return what is the same for one person at several locations."""
        return self.entity, self.tenant_id, self.id

    def __str__(self) -> str:
        """Return it as results show it."""
        place = "" if self.entity == NEXUS else f"tenant {self.tenant_id}, location {self.location_id}, "
        return f"{place}{self.entity} {self.id}"


class Link(NamedTuple):
    """A record and its contact; up to `pushed_seq` the contact is known to hold what is mapped, None where nothing was pushed."""

    who: Who
    contact_id: str
    pushed_seq: int | None = None
    pushed_at: str | None = None


class Claim(NamedTuple):
    """What the mirror says of one record: its contact, empty where its column is, and whether it lives."""

    who: Who
    contact_id: str
    is_alive: bool


@dataclass(frozen=True, slots=True)
class LinkPlan:
    """What becomes of links: those to write, the records to unlink (before that), and those that stay as they are."""

    added: list[Link] = field(default_factory=list)
    changed: list[Link] = field(default_factory=list)
    removed: list[Who] = field(default_factory=list)
    unchanged: list[Link] = field(default_factory=list)


class Left(NamedTuple):
    """A push that nothing has settled for good: its row, up to where it covers, and the marks of what it was to leave behind."""

    number: int
    who: Who
    contact_id: str
    seq: int
    marks: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Source:
    """A living record as it stands: its root row, and child rows table by table.

    The rows of a table of `dated`, which knows of each row when it was last spoken of, come newest first; all others, and those
    of one moment, in the order of their keys.
    """

    root: Cells
    children: Mapping[str, list[Cells]] = field(default_factory=dict)
    dated: frozenset[str] = frozenset()


class Tables(NamedTuple):
    """The columns of an entity's root table, and those of its child tables by name; None of one that does not exist yet."""

    root: list[str]
    children: Mapping[str, list[str] | None]
