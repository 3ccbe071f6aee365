"""Where we are in a drain: what to ask next, when it is complete, and how far the watermark may go.

The feed answers "what has changed since StartDate?" in numbered pages, and promises nothing else: not the order, not that the
pages hold still, not that a page is full, not how exactly it reads StartDate. A record that changes between two calls leaves
its place, everything behind it moves up by one, and a reader who counts pages up never sees what slid over the page border.
So the walk does without page numbers where it can:

**Following.** After a full page the feed is asked anew, page 0, from one tick before the last change read: the walk anchors
there. What changes meanwhile moves to the end, where it is met again; nothing can slide past. Right if the feed ascends.

**Sweeping.** Where page numbers cannot be avoided - more records at one change date than a page holds, a feed that does not
ascend - all pages are read by number, and read again until the list has proved complete (`core/sweep.py`).

**Counting.** That a feed looks ascending is no proof that it is. Before the watermark moves after a drain that anchored, the
end of the list is looked at: it has to be where the mirror's own count puts it, and as the mirror knows it (`core/counting.py`).
If not, something was passed by, and all is swept. A change that is not visible yet shortens the list and can hide one omission,
so the count is owed again in the next few runs (`core/debt.py`): once nothing is hidden any more, it shows.

Invariants:

- No input or output: pages come in, requests go out, and `place()` is all that a later process needs to go on.
- The watermark takes only change dates up to which everything has been read, and none ahead of the service's clock.
- A change dated after the drain's first call never keeps a drain going: it belongs to the next one.
- A page of fewer entries than SMALL tells nothing of the order: a feed that grants no more is always swept.
- Every loop is bounded (`core/bounds.py`).
- Following takes the same memory for fifty records as for fifty million. Sweeping remembers a number per entry.
"""

from collections.abc import Sequence

from delta_mirror.core.answer import end_of, lists_a_record_twice, newest_upto
from delta_mirror.core.bounds import SMALL, Bounds
from delta_mirror.core.counting import SKEW, Count, CountKnown, Tally
from delta_mirror.core.debt import owed_after_anchoring, owed_after_counting
from delta_mirror.core.firstpage import Likeness, compare
from delta_mirror.core.model import Instant, Page, PageRequest, ascend
from delta_mirror.core.place import NO_HABITS, Debt, Habits, Mode, Place
from delta_mirror.core.stepping import Step
from delta_mirror.core.sweep import Sweep
from delta_mirror.core.values import SECOND, offset_of, offset_ticks, write_ticks

UTC = "+00:00"
END_OF_TIME = 1 << 62  # ticks, far beyond the year 9999


class Walk:
    """One drain of one stream: ask for `request`, hand the answer to `receive`, until there is no request.

    Args:
        start: StartDate of the first call, in ticks.
        size: ItemsPerPage.
        count_known: how many records the mirror holds, or remembers as deleted, whose change date lies after the first and not
            after the second of its arguments (ticks).
        watermark: the stream's, in ticks: what is dated later, the mirror did not hold before this drain.
        habits: what earlier drains have learnt of the service. A StartDate is written at the offset in which the service writes:
            one that reads the wall clock and ignores the offset then reads what is meant.
        debt: the count that an earlier run left.
    """

    def __init__(
        self,
        start: int,
        *,
        size: int,
        count_known: CountKnown,
        watermark: int | None = None,
        habits: Habits = NO_HABITS,
        debt: Debt | None = None,
    ) -> None:
        self._size = size
        self._count_known = count_known
        self._debt = debt
        self._watermark = watermark
        self._offset = UTC if habits["offset"] is None else habits["offset"]
        self._offset_known = habits["offset"] is not None
        self._usually_full = habits["full"]
        self._usually_from_one = habits.get("from_one")
        self._start = Instant(start, write_ticks(start, self._offset))
        self._anchor = self._start
        self._number = 0
        self._mode: Mode = "following"
        self._first_call: int | None = None
        self._clock = 0  # the service's at the last answer
        self._step = Step(habits["step"])
        self._last: int | None = None  # change date up to which nothing was passed by, in ticks
        self._reached: Instant | None = None
        self._tally = Tally(start)
        self._full = 0  # entries on a page that is known to be full; 0: not known
        self._uneven = False  # pages that others follow differ in size
        self._anchored = False
        self._old_versions = False  # the feed lists older versions of a record beside its newest
        self._moved = False  # page 0 at the present anchor went beyond `_last`
        self._bounds = Bounds()
        self._sweep: Sweep | None = None
        self._passes = 0  # over the whole list, complete
        self._swept = False
        self._ties = 0  # how many lists of ties were swept without a page between
        self._count: Count | None = None
        self._from_one: bool | None = None  # page 1 is page 0: the service counts from 1
        self._perhaps_from_one = False  # the same, but chance may have had it so
        self._answered = ""  # the StartDate whose page 0 was answered
        self._page_before: Sequence[int] = ()

    @classmethod
    def resume(
        cls, place: Place, *, size: int, count_known: CountKnown, watermark: int | None = None, debt: Debt | None = None
    ) -> "Walk":
        """Return the walk that *place* was taken from, at a point from which nothing is passed by."""
        habits = Habits(offset=place["offset"], step=place["step"], full=place["full"], from_one=place.get("from_one"))
        walk = cls(place["start"], size=size, count_known=count_known, watermark=watermark, habits=habits, debt=debt)
        walk._first_call = place["first_call"]
        walk._last = place["last"]
        walk._reached = Instant(*place["reached"]) if place["reached"] else None
        walk._tally = Tally(place["counted_to"], place["listed"])
        walk._full = place["full"]
        walk._uneven = place["uneven"]
        walk._anchored = place["anchored"]
        walk._old_versions = place["old_versions"]
        walk._passes = place["passes"]
        walk._bounds = Bounds(place["pages"])
        if place["mode"] == "sweeping":
            walk._sweep_all(walk._start.ticks)
        elif place["mode"] == "counting":
            walk._mode = "counting"
        elif walk._last is not None:
            walk._anchor = walk._instant(place["anchor"])
        return walk

    @property
    def request(self) -> PageRequest | None:
        """The page to ask for now, None when the drain is complete.

        The mirror is counted here and not in `receive`, for by now it holds what the last page brought.
        """
        if self._mode == "done":
            return None
        if self._mode == "counting" and self._count is None:
            self._begin_count()
        past_end = self._number > 0 and (self._answered == self._anchor.text or self._mode == "counting")
        return PageRequest(self._anchor.text, self._number, self._size, may_be_past_end=past_end)

    @property
    def request_ahead(self) -> PageRequest | None:
        """What `request` will be once the last page is in the mirror; None where there is none, or it is not known yet."""
        return None if self._mode == "counting" and self._count is None else self.request

    @property
    def looks_back(self) -> bool:
        """Whether the page asked for now is only looked at, to count a list that was read before."""
        return self._mode == "counting"

    @property
    def first_call(self) -> int | None:
        """The service's clock when the drain began, in ticks."""
        return self._first_call

    @property
    def reached(self) -> Instant | None:
        """The newest change date that the drain has come to: the watermark, once the drain is complete."""
        return self._reached

    @property
    def habits(self) -> Habits:
        """What was learnt of the service."""
        return Habits(
            offset=self._offset if self._offset_known else None,
            step=self._step.index,
            full=self._full or self._usually_full,
            from_one=self._counts_from_one,
        )

    @property
    def entries_return_from(self) -> int | None:
        """Ticks; entries dated earlier will not be met again in this drain. None: any may."""
        return self._anchor.ticks - SECOND if self._mode == "following" else None

    @property
    def debt(self) -> Debt | None:
        """The count that is owed by the next run, once this drain is complete."""
        if self._swept or self._old_versions:
            return None
        if not self._anchored:
            return owed_after_counting(self._debt)
        reached = self._reached.ticks if self._reached else 0
        return owed_after_anchoring(
            self._debt, start=self._start.ticks, watermark=self._watermark or 0, reached=reached, full=self._full
        )

    def place(self) -> Place:
        """Return what a later process needs to go on behind the last page received."""
        whole = self._sweep is not None and self._sweep.whole
        return Place(
            mode="following" if self._mode == "sweeping" and not whole else self._mode,
            start=self._start.ticks,
            first_call=self._first_call,
            anchor=self._anchor.ticks,
            step=self._step.index,
            last=self._last,
            reached=(self._reached.ticks, self._reached.text) if self._reached else None,
            counted_to=self._tally.upto,
            listed=self._tally.before,
            full=self._full,
            uneven=self._uneven,
            offset=self._offset if self._offset_known else None,
            anchored=self._anchored,
            old_versions=self._old_versions,
            passes=self._passes,
            page=self._number,
            pages=self._bounds.pages,
            from_one=self._counts_from_one,
        )

    def receive(self, page: Page) -> None:
        """Take the answer to `request`.

        Raises:
            PagingError: the pages repeat themselves or never hold still. The watermark must stay; what came may be kept.
        """
        if self._first_call is None:
            self._first_call = page.clock
        self._clock = page.clock
        self._bounds.take(len(page.entries), sum(not self._is_later(when) for _, when in page.dated))
        self._bounds.compare(self._number, page.digests, self._page_before)
        if self._number == 0:
            self._answered = self._anchor.text
        if lists_a_record_twice(page):
            self._old_versions = True
        if self._starts_late_by_offset(page):
            return
        if self._mode == "sweeping":
            self._receive_swept(page)
        elif self._mode == "counting":
            self._receive_count(page)
        else:
            self._follow(page)
        self._page_before = page.digests

    # Following

    def _follow(self, page: Page) -> None:
        if not page.entries:
            if self._number == 1:
                self._from_one = False
            if self._number == 0 and self._last is not None and self._anchor.ticks > self._start.ticks:
                self._step_back()
            else:
                self._end_list()
            return
        dates = page.dates
        end = end_of(page, self._anchor.ticks)
        if end is None or not ascend(dates):
            self._sweep_all(self._start.ticks, first=page if self._is_first_page else None)
        elif self._number == 0:
            self._receive_anchored(page, dates, end)
        else:
            self._receive_next(page)

    def _receive_anchored(self, page: Page, dates: Sequence[int], end: Instant) -> None:
        """Take page 0 of the present StartDate."""
        if self._last is not None and not self._is_linked(dates, end):
            self._step_back()
            return
        before = self._last
        self._moved = before is None or end.ticks > before
        self._tally.take(page.dated, end.ticks if before is None else max(end.ticks, before), self._cutoff)
        is_full = len(page.entries) >= (self._full or self._usually_full or self._size)
        if self._moved:
            is_next_drains = before is not None and self._is_next_drains(dates or [end.ticks], before)
            self._advance(page, end, self._cutoff if is_next_drains else end.ticks)
            if is_next_drains:
                self._anchored = True  # a drain that was resumed here has read nothing behind this page: it has to be counted
                self._end_list()
                return
        if not is_full and self._is_looked_behind:
            self._end_list()
        elif not is_full:
            self._number = 2 if self._from_one else 1
        else:
            self._note_full(len(page.entries))
            self._go_on(page)

    def _receive_next(self, page: Page) -> None:
        """Take the page after one that was not full: usually there is none, and the list ends."""
        likeness = self._compare_first_pages(page) if self._number == 1 else "other"
        if self._anchored and likeness in ("same", "perhaps the same"):
            self._end_list()  # the count will say whether the list ends here
        elif likeness == "same":
            self._number = 2
        elif likeness == "perhaps the same":
            self._sweep_all(self._start.ticks, first=page)
        elif likeness == "alike":
            self._go_on()
        else:
            self._note_full(len(self._page_before))
            if len(page.entries) > self._full:
                self._note_full(len(page.entries))  # the first page was cut short, although more follow
            known = set(self._page_before)
            if any(
                when is not None and self._last is not None and when < self._last and digest not in known
                for digest, when in page.dated
            ):
                self._sweep_all(self._start.ticks)
            else:
                self._go_on()

    def _compare_first_pages(self, page: Page) -> Likeness:
        """Return what *page* 1 is beside page 0, and learn from it what number the service begins at."""
        likeness = compare(self._page_before, page, is_habit=self._counts_from_one is True)
        self._perhaps_from_one = likeness == "perhaps the same"
        if likeness in ("same", "other"):
            self._from_one = likeness == "same"
        return likeness

    def _go_on(self, page: Page | None = None) -> None:
        """Go on behind a page that others follow; *page* is page 0, where it is at hand."""
        if max(self._full, len(self._page_before)) < SMALL:
            self._sweep_all(self._start.ticks, first=page if self._is_first_page else None)
        elif self._moved:
            self._anchor_at_last()
        else:
            self._sweep_ties(page)

    @property
    def _is_looked_behind(self) -> bool:
        """Whether the count will tell if something stands behind a page that is not full, so that page 1 can be spared."""
        return (self._anchored and self._from_one is True) or (self._is_quiet and (self._anchored or self._debt is not None))

    @property
    def _is_quiet(self) -> bool:
        """Whether this drain has met nothing that is dated later than the watermark, and knows what a full page is."""
        is_new = self._reached is not None and self._reached.ticks > (self._watermark or 0)
        is_full_known = self._full or self._usually_full or self._debt
        return self._watermark is not None and not is_new and bool(is_full_known)

    def _advance(self, page: Page, end: Instant, upto: int) -> None:
        self._last = end.ticks
        self._learn_offset(end)
        self._ties = 0
        self._reach(page, min(upto, page.clock + SECOND))  # the clock tells whole seconds, and has gone on since

    def _anchor_at_last(self) -> None:
        assert self._last is not None  # noqa: S101 - only a page that has set it leads here
        self._anchored = True
        self._turn_to(max(self._start.ticks, self._last - self._step.ticks))

    def _is_linked(self, dates: Sequence[int], end: Instant) -> bool:
        """Return whether the page begins where the page before ended, or earlier.

        A service that rounds StartDate up would silently skip what lies between; a page with an entry dated up to the last
        change shows that it did not. At the first StartDate there is nothing to skip.
        """
        assert self._last is not None  # noqa: S101 - asked only behind a page
        earliest = min(dates, default=end.ticks)
        if earliest > self._last and self._anchor.ticks > self._start.ticks:
            return False
        self._step.shorten_if_needless(dates, self._last)
        return True

    def _is_next_drains(self, dates: Sequence[int], before: int) -> bool:
        """Return whether all that goes beyond *before* has changed since this drain began."""
        return all(self._is_later(when) for when in dates if when > before)

    def _step_back(self) -> None:
        assert self._last is not None  # noqa: S101 - asked only behind a page
        is_longer = self._step.lengthen()
        self._turn_to(max(self._start.ticks, self._last - self._step.ticks) if is_longer else self._start.ticks)

    def _end_list(self) -> None:
        if self._anchored and self._uneven:
            # Where a page lies in the list cannot be told from its number: no count is possible.
            self._sweep_all(self._start.ticks)
        elif self._anchored or self._debt:
            self._mode = "counting"
        else:
            self._mode = "done"

    # Sweeping

    def _sweep_all(self, start: int, first: Page | None = None) -> None:
        """Read the whole list by page numbers from *start*; *first* is its page 0, where it is at hand."""
        if self._debt:
            start = min(start, *self._debt["starts"])
        if first is not None and start < self._start.ticks:
            first = None
        self._mode = "sweeping"
        self._swept = True
        self._start = self._instant(start)
        self._begin_sweep(self._start.ticks, Sweep(cutoff=self._cutoff, whole=True, listed_from=self._tally.upto), first)

    def _sweep_ties(self, first: Page | None) -> None:
        """Read what lies around the last change by page numbers: there is more of it than a page holds.

        The list goes on a little beyond the last change, and further each time that this was not enough: a service that reads
        StartDate coarsely would else bring the same pages again for each page gained.
        """
        assert self._last is not None  # noqa: S101 - only behind a page
        if self._bounds.are_parts_too_dear(self._tally.met):
            self._sweep_all(self._start.ticks)
            return
        self._mode = "sweeping"
        cutoff = min(self._last + (SECOND << min(self._ties, 16)), max(self._cutoff, self._last))
        self._ties += 1
        self._begin_sweep(self._anchor.ticks, Sweep(cutoff=cutoff, whole=False, listed_from=self._tally.upto), first)

    def _begin_sweep(self, start: int, sweep: Sweep, first: Page | None) -> None:
        self._sweep = sweep
        self._turn_to(start)
        if first is not None:
            self._answered = self._anchor.text
            self._receive_swept(first)

    def _receive_swept(self, page: Page) -> None:
        sweep = self._sweep
        assert sweep is not None  # noqa: S101 - the mode says so
        verdict = sweep.receive(page, page.clock + SKEW)
        if verdict == "unordered":
            self._sweep_all(self._start.ticks)
            return
        if sweep.from_one is not None:
            self._from_one = sweep.from_one
        end = end_of(page, self._anchor.ticks)
        if end is not None:
            self._learn_offset(end)
            self._reach(page, min(sweep.cutoff, page.clock))
        self._passes += sweep.whole and verdict != "open"
        if verdict == "complete":
            self._end_sweep(sweep)
            return
        if verdict == "another pass" and sweep.whole:
            self._bounds.end_pass(sweep.pages, self._passes)
        elif verdict == "another pass":
            self._bounds.end_pass_of_ties(sweep.pages, sweep.passes, self._tally.before + sweep.listed)
        self._number = sweep.number

    def _end_sweep(self, sweep: Sweep) -> None:
        self._sweep = None
        if sweep.whole:
            self._mode = "done"
            return
        self._mode = "following"
        self._tally.take_rest(sweep.listed, sweep.cutoff)
        if sweep.beyond is None or self._is_later(sweep.beyond):
            self._end_list()
            return
        self._last = sweep.beyond
        self._anchor_at_last()

    # Counting

    def _begin_count(self) -> None:
        """Count the list from the start of this drain, or from that of the debt, which lies further back."""
        start = min(self._start.ticks, self._debt["starts"][0]) if self._debt else self._start.ticks
        if self._count_known(start - 1, start):
            start -= SECOND  # whether the list has what is dated exactly at its start is not known
        known = self._count_known(self._start.ticks, self._cutoff)
        # The mirror also knows records by a version that has since been replaced and passed by: then fewer were met than known.
        met = self._tally.met
        expected = max(known, met) if self._old_versions else min(known, met) if self._anchored else known
        expected += self._count_known(start, self._start.ticks) + self._count_known(self._clock + SKEW, END_OF_TIME)
        self._count = Count(
            start=start,
            expected=expected,
            size=self._counted_size,
            cutoff=self._cutoff,
            count_known=self._count_known,
            has_ranks=not self._old_versions,
            from_one=self._counts_from_one,
            is_sure=self._from_one is not None,
            compares_first=self._perhaps_from_one,
        )
        self._turn_to(start)
        self._number = self._count.number

    @property
    def _counted_size(self) -> int:
        return self._full or (self._debt["full"] if self._debt else 0) or self._usually_full or self._size

    @property
    def _counts_from_one(self) -> bool | None:
        return self._usually_from_one if self._from_one is None else self._from_one

    def _receive_count(self, page: Page) -> None:
        count = self._count
        assert count is not None  # noqa: S101 - the mode says so
        verdict = count.take(page)
        if count.is_sure and count.from_one is not None:
            self._from_one = count.from_one
        if verdict == "longer":
            self._sweep_all(count.start)
        elif verdict == "complete":
            self._mode = "done"
        else:
            self._number = count.number
            self._bounds.repeats = 1

    # What all have in common

    @property
    def _cutoff(self) -> int:
        """What is dated later than the drain's first call belongs to the next drain."""
        assert self._first_call is not None  # noqa: S101 - known from the first answer on
        return self._first_call

    def _is_later(self, when: int | None) -> bool:
        """Return whether what is dated so has changed since this drain began.

        What is dated in the future has not: it stands at the end of the list for good, and would else never be read.
        """
        return when is not None and self._cutoff < when <= self._clock + SKEW

    @property
    def _is_first_page(self) -> bool:
        return self._number == 0 and self._anchor.ticks == self._start.ticks

    def _instant(self, ticks: int) -> Instant:
        return Instant(ticks, write_ticks(ticks, self._offset))

    def _turn_to(self, ticks: int) -> None:
        """Ask page 0 of the list that starts at *ticks* next."""
        self._anchor = self._instant(ticks)
        self._number = 0
        self._bounds.repeats = 1

    def _note_full(self, entries: int) -> None:
        """Learn from a page of so many *entries* that another page follows."""
        self._uneven = self._uneven or self._full not in (0, entries)
        self._full = max(self._full, entries)

    def _reach(self, page: Page, upto: int) -> None:
        newest = newest_upto(page, upto)
        if newest and (self._reached is None or newest.ticks > self._reached.ticks):
            self._reached = newest

    def _starts_late_by_offset(self, page: Page) -> bool:
        """Ask the first page anew where a service that ignores the offset would have read StartDate as a later time."""
        if not self._is_first_page or self._bounds.pages > 1 or self._mode != "following":
            return False
        end = end_of(page, self._anchor.ticks)
        if end is None or offset_ticks(self._offset) <= offset_ticks(offset_of(end.text)):
            return False
        self._learn_offset(end)
        self._start = self._instant(self._start.ticks)
        self._turn_to(self._start.ticks)
        return True

    def _learn_offset(self, end: Instant) -> None:
        self._offset = offset_of(end.text)
        self._offset_known = True
