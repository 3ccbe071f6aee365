"""The nouns of a mirror, and nothing that acts.

Invariants:

- A value is `None`, `int`, `float` or `str`; a boolean has become 0 or 1, anything nested JSON text.
- `None` never stands in a row: a column that is absent and a column that is NULL are the same thing.
- Everything here has its final form: names as the mirror's tables and columns bear them, values as they are stored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, NamedTuple

Value = int | float | str
Row = dict[str, Value]


class Stream(NamedTuple):
    """One tenant, location and entity: the unit that is drained, and that can fail, on its own."""

    tenant_id: int
    location_id: int
    entity: str

    def __str__(self) -> str:
        """Return the stream's name as messages have it."""
        return f"tenant {self.tenant_id}, location {self.location_id}, {self.entity}"


class Instant(NamedTuple):
    """A point in time as a service wrote it.

    `ticks` are 100 ns since 0001-01-01T00:00:00 UTC and are what is compared; `text` is the service's own and is what is kept.
    """

    ticks: int
    text: str


class Child(NamedTuple):
    """One child row; its `_n` is its place in the list that holds it.

    `parent` is the `_n` of the row that it belongs to, None where that is the root.
    """

    row: Row
    parent: int | None


@dataclass(frozen=True, slots=True)
class Record:
    """One entity instance: its root row and all its child rows, as the mirror would hold them.

    `changed` is the record's change date, None where it bears none. `version` is its row version as 16 hex digits, comparable
    as text. `deleted` says whether the record is marked as deleted by the rules of its service.
    """

    id: str
    changed: Instant | None
    version: str | None
    deleted: bool
    root: Row
    children: Mapping[str, Sequence[Child]]


@dataclass(frozen=True, slots=True)
class Broken:
    """An entry of a page that cannot be applied; it goes to quarantine whole.

    `id` and `changed` are None where they could not be read. `body` is the entry as JSON text, `reason` names no value.
    `words` is what may have been an id in a body that was masked since: it is looked at, and never kept.
    """

    id: str | None
    changed: Instant | None
    body: str
    reason: str
    words: frozenset[str] = field(default=frozenset(), repr=False, compare=False)


Entry = Record | Broken


@dataclass(frozen=True, slots=True)
class PageRequest:
    """One page to ask for.

    `start` is the StartDate as text; `number` counts from 0; `size` is ItemsPerPage. `may_be_past_end` says that a 404 of the
    service itself would mean "no such page" here; everywhere else it is a failure.
    """

    start: str
    number: int
    size: int
    may_be_past_end: bool


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of a change feed, its entries in the order sent.

    `last_change` is the change date that the envelope names, None where it names none. `clock` is the service's clock at the
    answer in ticks (our own where it sends none). `digests` tell entries apart by id, change date and content.
    """

    entries: Sequence[Entry]
    digests: Sequence[int]
    last_change: Instant | None
    clock: int
    reference_id: str | None = None

    @property
    def dated(self) -> list[tuple[int, int | None]]:
        """Each entry as its digest and its change date in ticks."""
        return [
            (digest, entry.changed.ticks if entry.changed else None)
            for digest, entry in zip(self.digests, self.entries, strict=True)
        ]

    @property
    def dates(self) -> list[int]:
        """The change dates of the entries that bear one, in ticks."""
        return [entry.changed.ticks for entry in self.entries if entry.changed]


def ascend(dates: Sequence[int]) -> bool:
    """Return whether none of *dates* is earlier than the one before it."""
    return all(left <= right for left, right in pairwise(dates))


class Layout(NamedTuple):
    """One table of a fixed shape: its key, of columns of the mirror's own, and the service's columns that are known.

    `rows_below` names a column that holds rows, and the table in which they lie under the same key with `_n` behind it.
    `is_dated` says that a row knows how new it is, `is_narrow` that its rows lie best in the order of their keys.
    """

    table: str
    key: tuple[str, ...]
    columns: tuple[str, ...]
    rows_below: tuple[str, str] | None = None
    is_dated: bool = False
    is_narrow: bool = False


Op = Literal["insert", "replace", "delete", "revive"]
