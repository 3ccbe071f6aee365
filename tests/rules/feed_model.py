"""A change feed in memory whose every open question is a dial, and a mirror that is a dictionary.

It shares no code with the product: times are parsed and written here in its own way, and what a page holds is computed from the
world alone. It knows nothing of how the product pages.
"""

import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

TICKS = 10_000_000  # a second
EPOCH = datetime(1, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Dials:
    """One service. Each field answers one question that the vendor's documents leave open."""

    page_size: int = 200
    clamp: int = 200
    inclusive: bool = True
    precision: int = 1
    rounds_to_nearest: bool = False
    ignores_offset: bool = False
    offset_minutes: int = 0
    order: str = "ascending"
    page_base: int = 0
    short_pages: bool = False
    per_change: bool = False
    lag: int = 0
    late_shows_old_version: bool = False
    names_last_change: bool = True
    sends_dates: bool = True


@dataclass
class Version:
    """One state of a record: its change date, its content, and when it becomes visible."""

    id: str
    ticks: int
    content: int
    visible_at: int


@dataclass
class Feed:
    """The service: records, a clock, and `answer`."""

    dials: Dials
    now: int
    rng: random.Random
    versions: dict[str, list[Version]] = field(default_factory=dict)
    contents: int = 0

    def change(self, id: str, *, ticks: int | None = None, late: int = 0) -> None:
        """Give the record *id* a new state, dated now unless told otherwise, visible *late* ticks after now."""
        self.contents += 1
        dated = self.now if ticks is None else ticks
        self.versions.setdefault(id, []).append(Version(id, dated, self.contents, self.now + late))

    def truth(self) -> dict[str, tuple[int, int]]:
        """Return what every record is now: id -> (change date, content)."""
        return {id: (versions[-1].ticks, versions[-1].content) for id, versions in self.versions.items()}

    def start_of(self, text: str) -> int:
        """Return StartDate as this service reads it."""
        wall, sign, offset = text[:27], text[27], text[28:]
        seconds, fraction = wall.split(".")
        moment = datetime.fromisoformat(seconds).replace(tzinfo=timezone.utc)
        ticks = int((moment - EPOCH).total_seconds()) * TICKS + int(fraction)
        hours, minutes = offset.split(":")
        written = (int(hours) * 60 + int(minutes)) * (1 if sign == "+" else -1)
        ticks -= (self.dials.offset_minutes if self.dials.ignores_offset else written) * 60 * TICKS
        step = self.dials.precision
        return (ticks + (step // 2 if self.dials.rounds_to_nearest else 0)) // step * step

    def write(self, ticks: int) -> str:
        """Return *ticks* as this service writes them."""
        wall = EPOCH + timedelta(seconds=ticks // TICKS, minutes=self.dials.offset_minutes)
        sign = "-" if self.dials.offset_minutes < 0 else "+"
        ahead = abs(self.dials.offset_minutes)
        return f"{wall:%Y-%m-%dT%H:%M:%S}.{ticks % TICKS:07}{sign}{ahead // 60:02}:{ahead % 60:02}"

    def visible(self) -> list[Version]:
        """Return all entries that the feed can show at this moment."""
        shown = []
        for versions in self.versions.values():
            there = [v for v in versions if v.visible_at <= self.now]
            if not self.dials.per_change:
                there = (there if self.dials.late_shows_old_version else versions)[-1:]
            # A future date is shown although it lies ahead; a recent one only when the lag has passed.
            shown += [v for v in there if v.visible_at <= self.now and not self.now - self.dials.lag < v.ticks <= self.now]
        return shown

    def listing(self, text: str) -> list[Version]:
        """Return the whole list behind one StartDate, in the order in which pages cut it up."""
        start = self.start_of(text)
        found = [v for v in self.visible() if v.ticks > start or (self.dials.inclusive and v.ticks == start)]
        order = self.dials.order
        if order == "ascending":
            found.sort(key=lambda v: (v.ticks, v.id, v.content))
        elif order == "ties shuffled":
            self.rng.shuffle(found)
            found.sort(key=lambda v: v.ticks)
        elif order == "descending":
            found.sort(key=lambda v: (v.ticks, v.id, v.content), reverse=True)
        elif order == "by id":
            found.sort(key=lambda v: (v.id, v.ticks, v.content))
        elif order == "shuffled once":
            found.sort(key=lambda v: (hash((v.id, 7)), v.ticks, v.content))
        elif order == "shuffled":
            self.rng.shuffle(found)
        elif order == "ascending but for one":
            odd = min(self.versions, default="")
            last = max((v.ticks for v in found), default=0)
            found.sort(key=lambda v: (last if v.id == odd else v.ticks, v.id, v.content))
        else:
            raise AssertionError(order)
        return found

    def answer(self, start: str, number: int, size: int) -> list[Version]:
        """Return the entries of one page."""
        size = min(size, self.dials.clamp)
        index = max(number - self.dials.page_base, 0)
        found = self.listing(start)
        if not self.dials.short_pages:
            return found[index * size : index * size + size]
        at = 0
        for page in range(index + 1):
            length = max(1, size - (page * 7 + size) % max(size, 1) // 2) if page % 2 else size
            cut = found[at : at + length]
            at += length
        return cut
