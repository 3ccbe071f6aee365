"""One stream as the program follows it, call by call: the walk and the plan are real, the mirror is a dictionary.

It can die before, after and instead of any commit. What outlives a process is kept as JSON text and nowhere else.
"""

import json
from collections.abc import Sequence
from typing import NamedTuple

from delta_mirror.core.model import Entry, Instant, Page, Record
from delta_mirror.core.paging import Walk
from delta_mirror.core.place import NO_HABITS, Debt, Habits, Place
from delta_mirror.core.plan import Drained, Held, decide
from delta_mirror.core.window import Window, open_window
from delta_mirror.errors import PagingError
from rules.feed_model import DAYS, MINUTES, TICKS, Feed, Version

FIRST_WINDOW = 7 * DAYS - 10 * MINUTES


class Kept(NamedTuple):
    """What the mirror remembers of a stream; all but the first two as JSON text."""

    watermark: int | None = None
    caught_up: int | None = None
    place: str = "null"
    habits: str = "null"
    debt: str = "null"


class FollowedStream:
    """A mirror of one feed, and the drain that is under way on it.

    Attributes:
        held: id -> what the mirror has.
        kept: what outlives a process beside it.
        walk: the drain under way, None between drains.
        runs: what each completed drain cost in calls, since the last `run`.
        errors: how many drains the paging gave up.
    """

    def __init__(self, feed: Feed, size: int = 200, overlap: int = 10 * MINUTES) -> None:
        self.feed = feed
        self.size = size
        self.overlap = overlap
        self.held: dict[str, Held] = {}
        self.kept = Kept()
        self.walk: Walk | None = None
        self.window: Window | None = None
        self.drained = Drained()
        self.resumed = False
        self.errors = 0

    def count_known(self, after: int, upto: int) -> int:
        return sum(held.changed is not None and after < held.changed <= upto for held in self.held.values())

    def state(self) -> dict[str, tuple[int | None, int, bool]]:
        """Return what the mirror holds: id -> (change date, content, deleted)."""
        return {id_: (held.changed, _content(held), held.deleted) for id_, held in self.held.items()}

    def truth(self) -> dict[str, tuple[int | None, int, bool]]:
        """Return what the mirror would hold if nothing were missing."""
        bears_date = self.feed.dials.bears_date
        return {id_: (v.ticks if bears_date(id_) else None, v.content, v.deleted) for id_, v in self.feed.truth().items()}

    def begin(self) -> Walk:
        """Begin a drain, or go on with the one that was broken off."""
        kept = self.kept
        place: Place | None = json.loads(kept.place)
        habits: Habits = json.loads(kept.habits) or NO_HABITS
        debt: Debt | None = json.loads(kept.debt)
        self.window = open_window(
            now=self._clock(),
            overlap=self.overlap,
            first_window=FIRST_WINDOW,
            watermark=kept.watermark,
            caught_up=kept.caught_up,
            offset_known=habits["offset"] is not None,
        )
        if debt:
            debt["starts"] = [max(start, self.window.limit) for start in debt["starts"]]
        self.drained = Drained()
        self.resumed = place is not None and max(place["anchor"], place["start"]) >= self.window.limit
        if place is not None and self.resumed:
            place["start"] = max(place["start"], self.window.limit)
            return Walk.resume(place, size=self.size, count_known=self.count_known, watermark=kept.watermark, debt=debt)
        return Walk(
            self.window.start,
            size=self.size,
            count_known=self.count_known,
            watermark=kept.watermark,
            habits=habits,
            debt=debt,
        )

    def step(self, *, commits: bool = True) -> bool:
        """Make one call of the drain under way, or complete it; return whether it goes on.

        Where it does not commit, the process dies after it has received the page.
        """
        self.walk = self.walk or self.begin()
        request = self.walk.request
        if request is None:
            self._complete(self.walk)
            return False
        looks_back = self.walk.looks_back
        versions = self.feed.answer(request.start, request.number, request.size)
        page = self._page(versions)
        gave_up = False
        try:
            self.walk.receive(page)
        except PagingError:
            gave_up = True
        if not commits:
            self.die()
            return False
        self._apply(page.entries, looks_back=looks_back)
        if gave_up:
            self.errors += 1
            self.kept = self.kept._replace(place="null")
            self.walk = None
            return False
        self.kept = self.kept._replace(place=json.dumps(self.walk.place()))
        if self.walk.entries_return_from is not None:
            self.drained.forget_before(self.walk.entries_return_from)
        return True

    def die(self) -> None:
        """Lose what was not committed."""
        self.walk = None

    def run(self) -> int:
        """Run as the command does, to the end; return how many calls it took."""
        before = self.feed.calls
        while self.step():
            pass
        if self.resumed:
            while self.step():
                pass
        return self.feed.calls - before

    def _clock(self) -> int:
        """Return the service's clock as HTTP tells it, in whole seconds."""
        return self.feed.now // TICKS * TICKS

    def _page(self, versions: list[Version]) -> Page:
        last = max((version.ticks for version in versions), default=None)
        names_it = last is not None and (self.feed.dials.names_last_change or self.feed.dials.dated == "none")
        return Page(
            entries=[self._record(version) for version in versions],
            digests=[version.content for version in versions],
            last_change=Instant(last, self.feed.write(last)) if last is not None and names_it else None,
            clock=self._clock(),
        )

    def _record(self, version: Version) -> Record:
        changed = Instant(version.ticks, self.feed.write(version.ticks)) if self.feed.dials.bears_date(version.id) else None
        row_version = f"{version.content:016X}"
        return Record(version.id, changed, row_version, version.deleted, {"Content": version.content}, {})

    def _apply(self, entries: Sequence[Entry], *, looks_back: bool) -> None:
        plan = decide(self.held, entries, self.drained, looks_back=looks_back)
        for id_, effect in plan.effects.items():
            record = effect.record
            ticks = record.changed.ticks if record.changed else None
            tombstone = record if record.deleted else None
            self.held[id_] = Held(None if record.deleted else record, tombstone, ticks, deleted=record.deleted)

    def _complete(self, walk: Walk) -> None:
        first_call = walk.first_call
        assert first_call is not None
        before, reached = self.kept.watermark, walk.reached
        self.kept = Kept(
            watermark=reached.ticks if reached and (before is None or reached.ticks > before) else before,
            caught_up=max(first_call, self.kept.caught_up or 0),
            habits=json.dumps(walk.habits),
            debt=json.dumps(walk.debt),
        )
        self.walk = None


def _content(held: Held) -> int:
    record = held.tombstone if held.deleted else held.record
    assert record is not None
    content = record.root["Content"]
    assert isinstance(content, int)
    return content
