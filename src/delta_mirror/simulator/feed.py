"""What one call of the change feed lists: filter, order, slice, afresh at each call.

Invariants:

- Nothing is kept between two calls but how many there were: a listing follows from the dials, the world and StartDate at
  that very moment, so that changes between two calls shift the pages, as offset and fetch do.
- A page is cut from the whole listing by its number; no page knows of the one before.
- An ordered listing is not copied: a page costs its own rows and two searches.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import groupby
from random import Random

from delta_mirror.simulator.clock import SECOND, offset_in_ticks, wall_clock_of
from delta_mirror.simulator.dials import Dials
from delta_mirror.simulator.world import Change, Stream, World


class TooOldError(Exception):
    """StartDate lies before the reach of the feed, and the dial refuses that."""


@dataclass(frozen=True, slots=True)
class Cut:
    """One page of a listing.

    Attributes:
        start: StartDate as the service understood it, in ticks.
        size: the rows that it grants on a page.
        past_end: the page lies behind the last one, and is not the first.
    """

    start: int
    size: int
    past_end: bool
    changes: Sequence[Change]


class Feed:
    """The change feed of a world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._calls: dict[Stream, int] = {}

    def cut(self, dials: Dials, stream: Stream, start: str, number: int, size: int) -> Cut:
        """Return page *number* of what *stream* lists from the date-time *start* on.

        Raises:
            ValueError: *start* is no date-time.
            TooOldError: *start* is too old, and the dials do not clamp it.
        """
        world = self._world
        with world.lock:
            call = self._calls[stream] = self._calls.get(stream, 0) + 1
            since = self._since(dials, start)
            head, tail = self._visible(dials, stream, since)
            size = min(size, dials.max_page_size)
            place = max(number - dials.page_base, 0)
            begin, end = _bounds(dials, place, size)
            if dials.order == "ascending":
                changes, length = _slice(head, tail, begin, end), len(head) + len(tail)
            else:
                listing = self._ordered(dials, stream, [*head[:], *tail], call)
                changes, length = listing[begin:end], len(listing)
            return Cut(since, size, place > 0 and begin >= length, changes)

    def _since(self, dials: Dials, start: str) -> int:
        wall, offset = wall_clock_of(start)
        ticks = wall - (offset_in_ticks(dials.written_offset) if dials.start_offset_ignored else offset)
        ticks = _rounded(ticks, dials)
        oldest = self._world.now - dials.reach
        if ticks >= oldest:
            return ticks
        if dials.too_old == "400":
            raise TooOldError
        return oldest

    def _visible(self, dials: Dials, stream: Stream, since: int) -> "tuple[_Span, list[Change]]":
        """Return what may be listed, in change order: a span of which all is visible, and single changes behind it."""
        history, now = self._world.history(stream), self._world.now
        source = history.changes if dials.per_change else history.current
        search = bisect_left if dials.start_inclusive else bisect_right
        begin = search(source, since, key=_date)
        # A change is made at its date or, where that lies ahead, before it: up to here, nothing can still be hidden.
        settled = now - dials.lag - history.latest_by - (dials.late_by if dials.late_share else 0)
        middle = max(begin, bisect_right(source, settled, key=_date))
        tail = [change for change in source[middle:] if change.made + _hidden_for(change, dials) <= now]
        return _Span(source, begin, middle), tail

    def _ordered(self, dials: Dials, stream: Stream, listing: list[Change], call: int) -> list[Change]:
        match dials.order:
            case "descending":
                listing.reverse()
            case "by_id":
                listing.sort(key=lambda change: change.id)
            case "random_stable":
                listing.sort(key=lambda change: _lot(dials, change.id))
            case "random":
                Random(f"{dials.seed}/{stream}/{call}").shuffle(listing)  # noqa: S311 - has to be the same again
            case "ascending_ties_random":
                dice = Random(f"{dials.seed}/{stream}/{call}")  # noqa: S311 - has to be the same again
                ties = [list(tie) for _, tie in groupby(listing, key=_date)]
                listing = [change for tie in ties for change in dice.sample(tie, len(tie))]
            case "ascending_but_one":
                stray = dials.stray or min(self._world.history(stream).newest, key=lambda key: _lot(dials, key), default="")
                listing.sort(key=lambda change: change.id == stray)
            case "ascending":
                pass
        return listing


class _Span:
    """A part of a list, not copied until a part of it is asked for."""

    def __init__(self, source: list[Change], begin: int, end: int) -> None:
        self._source, self._begin, self._end = source, begin, end

    def __len__(self) -> int:
        return self._end - self._begin

    def __getitem__(self, part: slice) -> list[Change]:
        begin, end, _ = part.indices(len(self))
        return self._source[self._begin + begin : self._begin + end]


def _slice(head: _Span, tail: list[Change], begin: int, end: int) -> list[Change]:
    return head[begin:end] + tail[max(begin - len(head), 0) : max(end - len(head), 0)]


def _bounds(dials: Dials, place: int, size: int) -> tuple[int, int]:
    """Return where the page at *place* begins and ends in its listing."""
    if not dials.short_pages:
        return place * size, (place + 1) * size
    sizes = [size - int(_lot(dials, f"{page}") * size / 3) * (page % 2 == 0) for page in range(place + 1)]
    return sum(sizes[:-1]), sum(sizes)


def _rounded(ticks: int, dials: Dials) -> int:
    """Return *ticks* as the service's column of StartDate can hold them."""
    per_second = {"100ns": SECOND, "ms": 1000, "1/300s": 300, "1s": 1}[dials.start_precision]
    half = SECOND // 2 if dials.start_rounding == "nearest" else 0
    return (ticks * per_second + half) // SECOND * SECOND // per_second


def _hidden_for(change: Change, dials: Dials) -> int:
    late = change.late
    if dials.late_share and _lot(dials, f"{change.id}/{change.seq}") < dials.late_share:
        late = max(late, dials.late_by)
    return dials.lag + late


def _lot(dials: Dials, name: str) -> float:
    """Return a number from 0 up to 1 that stays the same for *name*."""
    return int.from_bytes(blake2b(f"{dials.seed}/{name}".encode(), digest_size=6).digest(), "big") / (1 << 48)


def _date(change: Change) -> int:
    return change.date
