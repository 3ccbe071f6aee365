"""A change feed in memory whose every open question is a dial.

It shares no code with the product: times are read and written here in its own way, and what a page holds is computed from the
world alone. It knows nothing of how the product pages.
"""

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple
from zlib import crc32

TICKS = 10_000_000  # a second
MINUTES = 60 * TICKS
HOURS = 60 * MINUTES
DAYS = 24 * HOURS
YEAR_ONE = datetime(1, 1, 1, tzinfo=UTC)
NOON = (datetime(2026, 5, 4, 12, tzinfo=UTC) - YEAR_ONE) // timedelta(seconds=1) * TICKS  # where most worlds begin

Order = Literal[
    "ascending",
    "ties shuffled",
    "descending",
    "by id",
    "shuffled once",
    "shuffled",
    "ascending but for one",
    "ascending but for one inside",
]


Rounding = Literal["down", "nearest", "up"]


@dataclass(frozen=True)
class Dials:
    """One service. Each field answers one question that the vendor's documents leave open.

    `clamp` is the largest page that it grants; `short_pages` says which page numbers it may cut short, although more follow.
    `precision` is how exactly StartDate is read, in ticks, and `rounding` which way. `lag` is how far behind now the feed ends.
    `shows_old_version` says that a record whose change is not visible yet is listed as it was before; else it is not listed.
    `dated` says which records bear their change date.
    """

    clamp: int = 200
    inclusive: bool = True
    precision: int = 1
    rounding: Rounding = "down"
    ignores_offset: bool = False
    offset_minutes: int = 0
    writes_z: bool = False
    order: Order = "ascending"
    page_base: Literal[0, 1] = 0
    short_pages: Literal["none", "odd", "even"] = "none"
    per_change: bool = False
    lag: int = 0
    shows_old_version: bool = False
    names_last_change: bool = True
    dated: Literal["all", "some", "none"] = "all"

    def bears_date(self, id: str) -> bool:  # noqa: A002 - the service's own word
        """Return whether the record *id* bears its change date."""
        return self.dated == "all" or (self.dated == "some" and crc32(id.encode()) % 4 > 0)


class Version(NamedTuple):
    """One state of a record. `content` is a number of its own for each state of any record, and rises with time."""

    id: str
    ticks: int
    content: int
    deleted: bool
    visible_at: int


@dataclass
class Feed:
    """The service: records, a clock, and `answer`."""

    dials: Dials = Dials()
    now: int = NOON
    rng: random.Random = field(default_factory=lambda: random.Random(0))
    versions: dict[str, list[Version]] = field(default_factory=dict)
    contents: int = 0
    calls: int = 0
    written: dict[int, str] = field(default_factory=dict)

    def change(self, id: str, *, ticks: int | None = None, late: int = 0, deleted: bool = False) -> None:  # noqa: A002
        """Give the record *id* a new state, dated now unless told otherwise, visible *late* ticks after now."""
        self.contents += 1
        dated = self.now if ticks is None else ticks
        self.versions.setdefault(id, []).append(Version(id, dated, self.contents, deleted, self.now + late))

    def truth(self) -> dict[str, Version]:
        """Return what every record is now."""
        return {key: versions[-1] for key, versions in self.versions.items()}

    def start_of(self, text: str) -> int:
        """Return StartDate as this service reads it."""
        wall, offset = text[:27], text[27:].replace("Z", "+00:00")
        seconds, fraction = wall.split(".")
        ticks = (datetime.fromisoformat(seconds + "+00:00") - YEAR_ONE) // timedelta(seconds=1) * TICKS + int(fraction)
        hours, minutes = offset[1:].split(":")
        written = (int(hours) * 60 + int(minutes)) * (-1 if offset[0] == "-" else 1)
        ticks -= (self.dials.offset_minutes if self.dials.ignores_offset else written) * MINUTES
        step = self.dials.precision
        return (ticks + {"down": 0, "nearest": step // 2, "up": step - 1}[self.dials.rounding]) // step * step

    def write(self, ticks: int) -> str:
        """Return *ticks* as this service writes them."""
        if ticks not in self.written:
            wall = YEAR_ONE + timedelta(seconds=ticks // TICKS, minutes=self.dials.offset_minutes)
            ahead = abs(self.dials.offset_minutes)
            offset = f"{'-' if self.dials.offset_minutes < 0 else '+'}{ahead // 60:02}:{ahead % 60:02}"
            if self.dials.writes_z and ahead == 0:
                offset = "Z"
            self.written[ticks] = f"{wall:%Y-%m-%dT%H:%M:%S}.{ticks % TICKS:07}{offset}"
        return self.written[ticks]

    def is_visible(self, version: Version) -> bool:
        """Return whether *version* has come to the feed. A future date is shown at once, a recent one after the lag."""
        return version.visible_at <= self.now and not self.now - self.dials.lag < version.ticks <= self.now

    def visible(self) -> list[Version]:
        """Return all entries that the feed can show at this moment."""
        if self.dials.per_change:
            return [version for versions in self.versions.values() for version in versions if self.is_visible(version)]
        shown = []
        for versions in self.versions.values():
            for version in reversed(versions):
                if self.is_visible(version):
                    shown.append(version)
                    break
                if not self.dials.shows_old_version:
                    break
        return shown

    def listing(self, text: str) -> list[Version]:
        """Return the whole list behind one StartDate, in the order in which pages cut it up."""
        start = self.start_of(text) - self.dials.inclusive
        found = [version for version in self.visible() if version.ticks > start]
        order = self.dials.order
        if order in ("ascending", "descending"):
            found.sort(key=lambda v: (v.ticks, v.id, v.content), reverse=order == "descending")
        elif order == "ties shuffled":
            found.sort(key=lambda v: (v.ticks, self.rng.random()))
        elif order == "by id":
            found.sort(key=lambda v: (v.id, v.ticks, v.content))
        elif order == "shuffled once":
            found.sort(key=lambda v: (crc32(v.id.encode()), v.ticks, v.content))
        elif order == "shuffled":
            found.sort(key=lambda v: self.rng.random())
        else:
            odd = min(self.versions, default="")
            dates = sorted(v.ticks for v in found) or [0]
            place = dates[len(dates) // 2] if order == "ascending but for one inside" else dates[-1]
            found.sort(key=lambda v: (place if v.id == odd else v.ticks, v.id, v.content))
        return found

    def answer(self, start: str, number: int, size: int) -> list[Version]:
        """Return the entries of one page."""
        self.calls += 1
        size = min(size, self.dials.clamp)
        page = max(number - self.dials.page_base, 0)
        found = self.listing(start)
        if self.dials.short_pages == "none":
            return found[page * size : page * size + size]
        first = sum(self._length(each, size) for each in range(page))
        return found[first : first + self._length(page, size)]

    def _length(self, page: int, size: int) -> int:
        """Return how many entries the page of this number has, where the list does not end before."""
        is_short = page % 2 == (self.dials.short_pages == "odd")
        return size - (page * 7 + 3) % size // 2 if is_short else size
