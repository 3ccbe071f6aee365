"""Following a feed that ascends, from page to page without page numbers.

After a full page the feed is asked anew, page 0, from one tick before the last change read: the follower anchors there. What
changes meanwhile moves to the end, where it is met again; nothing can slide past.

Invariants:

- A page anchored at the last change must begin where the page before ended, or earlier: a service that rounds StartDate up would
  else skip what lies between (`core/stepping.py`).
- What shows that the feed does not ascend ends the following: the order within a page, and page 1 beside page 0.
- Only an empty page ends a list; a page that is not full may hide what stands behind it. Page 1 is spared only where the count of
  the list's end will tell.
- A page of fewer entries than SMALL tells nothing of the order: a feed that grants no more is never followed.
- It takes the same memory for fifty records as for fifty million.
"""

from collections.abc import Sequence
from typing import Literal

from delta_mirror.core.answer import end_of
from delta_mirror.core.bounds import SMALL
from delta_mirror.core.counting import Tally
from delta_mirror.core.firstpage import FirstPage
from delta_mirror.core.horizon import Horizon
from delta_mirror.core.model import Instant, Page, ascend
from delta_mirror.core.place import Habits, Place
from delta_mirror.core.stepping import Step
from delta_mirror.core.values import SECOND

Verdict = Literal["open", "ended", "unordered", "ties"]


class Follower:
    """The way from anchor to anchor: ask for page `number` from `anchor`, hand the answer to `receive`, until it is not "open".

    Args:
        start: StartDate of the drain, in ticks.
        size: ItemsPerPage.
        horizon: the times of the drain.
        first_page: what is known of the number of the first page.
        habits: what earlier drains have learnt of the service.
        watermark: the stream's, in ticks: what is dated later, the mirror did not hold before this drain.
        owed: the size of a full page in the count that an earlier run left, None where it left none.

    Attributes:
        anchor: StartDate to ask from now, in ticks.
        number: the page to ask for now.
        last: the change date up to which nothing was passed by, in ticks; None before the first page.
        tally: how many entries were met.
        step: how far before the last change to anchor.
        full: how many entries a page has that is known to be full; 0: not known.
        is_uneven: whether pages that others follow differ in size.
        has_anchored: whether some page was not page 0 of the drain's StartDate, so that something may have been passed by.
    """

    def __init__(
        self,
        start: int,
        *,
        size: int,
        horizon: Horizon,
        first_page: FirstPage,
        habits: Habits,
        watermark: int | None,
        owed: int | None,
    ) -> None:
        self._start = start
        self._size = size
        self._horizon = horizon
        self._first_page = first_page
        self._usually_full = habits["full"]
        self._watermark = watermark
        self._owed = owed
        self.anchor = start
        self.number = 0
        self.last: int | None = None
        self.tally = Tally(start)
        self.step = Step(habits["step"])
        self.full = 0
        self.is_uneven = False
        self.has_anchored = False
        self._moved = False  # page 0 at the present anchor went beyond `last`
        self._ties = 0  # how many lists of ties were swept without a page between
        self._page_before: Sequence[int] = ()

    def resume(self, place: Place) -> None:
        """Go on from *place*."""
        self.last = place["last"]
        self.tally = Tally(place["counted_to"], place["listed"])
        self.full = place["full"]
        self.is_uneven = place["uneven"]
        self.has_anchored = place["anchored"]
        if self.last is not None:
            self.anchor = place["anchor"]

    @property
    def full_size(self) -> int:
        """How many entries a full page has, for all that is known."""
        return self.full or self._owed or self._usually_full or self._size

    @property
    def usual_full(self) -> int:
        """The same as a habit: what this drain has learnt, or earlier ones."""
        return self.full or self._usually_full

    def receive(self, page: Page) -> Verdict:
        """Take the answer.

        An "unordered" feed does not ascend, or its pages are too small to tell. After "ties" there is more around `last` than a
        page holds; what was read of it by page numbers goes to `go_on_behind_ties`.
        """
        verdict = self._receive(page)
        self._page_before = page.digests
        return verdict

    def _receive(self, page: Page) -> Verdict:
        if not page.entries:
            return self._receive_empty()
        dates = page.dates
        end = end_of(page, self.anchor)
        if end is None or not ascend(dates):
            return "unordered"
        return self._receive_anchored(page, dates, end) if self.number == 0 else self._receive_next(page)

    def _receive_empty(self) -> Verdict:
        if self.number == 1:
            self._first_page.learn(from_one=False)
        if self.number == 0 and self.last is not None and self.anchor > self._start:
            return self._step_back(self.last)
        return "ended"

    def _receive_anchored(self, page: Page, dates: Sequence[int], end: Instant) -> Verdict:
        """Take page 0 of the present StartDate."""
        before = self.last
        if before is not None and not self._is_linked(dates, end, before):
            return self._step_back(before)
        self._moved = before is None or end.ticks > before
        self.tally.take(page.dated, end.ticks if before is None else max(end.ticks, before), self._horizon.cutoff)
        if self._moved:
            is_next_drains = before is not None and self._is_next_drains(dates or [end.ticks], before)
            self._advance(page, end, self._horizon.cutoff if is_next_drains else end.ticks)
            if is_next_drains:
                self.has_anchored = True  # a drain that was resumed here has read nothing behind this page: it has to be counted
                return "ended"
        if len(page.entries) >= (self.usual_full or self._size):
            self._note_full(len(page.entries))
            return self._go_on()
        if self._is_looked_behind:
            return "ended"
        self.number = 2 if self._first_page.from_one else 1
        return "open"

    def _receive_next(self, page: Page) -> Verdict:
        """Take the page after one that was not full: usually there is none, and the list ends."""
        likeness = self._first_page.compare(self._page_before, page) if self.number == 1 else "other"
        if likeness == "alike":
            return self._go_on()
        if likeness == "other":
            return self._receive_behind(page)
        if self.has_anchored:
            return "ended"  # the count will say whether the list ends here
        if likeness == "same":
            self.number = 2
            return "open"
        return "unordered"

    def _receive_behind(self, page: Page) -> Verdict:
        """Take a page that follows one that was not full, and which therefore was."""
        self._note_full(len(self._page_before))
        if len(page.entries) > self.full:
            self._note_full(len(page.entries))  # the first page was cut short, although more follow
        known, last = set(self._page_before), self.last
        if last is not None and any(when is not None and when < last and digest not in known for digest, when in page.dated):
            return "unordered"
        return self._go_on()

    def _go_on(self) -> Verdict:
        """Go on behind a page that others follow."""
        if max(self.full, len(self._page_before)) < SMALL:
            return "unordered"
        return self._anchor_at_last() if self._moved else "ties"

    def choose_cutoff_of_ties(self) -> int:
        """Return up to where to read by page numbers after "ties", in ticks.

        The list goes on a little beyond the last change, and further each time that this was not enough: a service that reads
        StartDate coarsely would else bring the same pages again for each page gained.
        """
        assert self.last is not None  # noqa: S101 - only behind a page
        cutoff = min(self.last + (SECOND << min(self._ties, 16)), max(self._horizon.cutoff, self.last))
        self._ties += 1
        return cutoff

    def go_on_behind_ties(self, met: int, upto: int, beyond: int | None) -> Verdict:
        """Go on behind what was read by page numbers: *met* entries up to *upto*; the next is dated *beyond*, if there is one."""
        self.tally.take_rest(met, upto)
        if beyond is None or self._horizon.is_later(beyond):
            return "ended"
        self.last = beyond
        return self._anchor_at_last()

    @property
    def _is_looked_behind(self) -> bool:
        """Whether the count will tell if something stands behind a page that is not full, so that page 1 can be spared."""
        return (self.has_anchored and self._first_page.from_one is True) or (
            self._is_quiet and (self.has_anchored or self._owed is not None)
        )

    @property
    def _is_quiet(self) -> bool:
        """Whether this drain has met nothing that is dated later than the watermark, and knows what a full page is."""
        reached = self._horizon.reached
        is_new = reached is not None and reached.ticks > (self._watermark or 0)
        return self._watermark is not None and not is_new and bool(self.usual_full or self._owed is not None)

    def _advance(self, page: Page, end: Instant, upto: int) -> None:
        self.last = end.ticks
        self._ties = 0
        self._horizon.learn_offset(end)
        self._horizon.reach(page, min(upto, page.clock + SECOND))  # the clock tells whole seconds, and has gone on since

    def _anchor_at_last(self) -> Verdict:
        assert self.last is not None  # noqa: S101 - only a page that has set it leads here
        self.has_anchored = True
        return self._turn_to(self.last - self.step.ticks)

    def _step_back(self, last: int) -> Verdict:
        return self._turn_to(last - self.step.ticks if self.step.lengthen() else self._start)

    def _turn_to(self, ticks: int) -> Verdict:
        """Ask page 0 of the list that starts at *ticks* next."""
        self.anchor = max(self._start, ticks)
        self.number = 0
        return "open"

    def _is_linked(self, dates: Sequence[int], end: Instant, last: int) -> bool:
        """Return whether the page begins where the page before ended, at *last*, or earlier.

        A page with an entry dated up to the last change shows that StartDate was not rounded up. At the first StartDate there is
        nothing to skip.
        """
        earliest = min(dates, default=end.ticks)
        if earliest > last and self.anchor > self._start:
            return False
        self.step.shorten_if_needless(dates, last)
        return True

    def _is_next_drains(self, dates: Sequence[int], before: int) -> bool:
        """Return whether all that goes beyond *before* has changed since this drain began."""
        return all(self._horizon.is_later(when) for when in dates if when > before)

    def _note_full(self, entries: int) -> None:
        """Learn from a page of so many *entries* that another page follows."""
        self.is_uneven = self.is_uneven or self.full not in (0, entries)
        self.full = max(self.full, entries)
