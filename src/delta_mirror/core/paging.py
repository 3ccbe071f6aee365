"""Where we are in a drain: what to ask next, when it is complete, and how far the watermark may go.

The feed answers "what has changed since StartDate?" in numbered pages, and promises nothing else: not the order, not that the
pages hold still, not that a page is full, not how exactly it reads StartDate. A record that changes between two calls leaves
its place, everything behind it moves up by one, and a reader who counts pages up never sees what slid over the page border.
So the walk does without page numbers where it can:

**Following.** After a full page the feed is asked anew, page 0, from one tick before the last change read: the walk anchors
there. What changes meanwhile moves to the end, where it is met again; nothing can slide past. Right if the feed ascends
(`core/following.py`).

**Sweeping.** Where page numbers cannot be avoided - more records at one change date than a page holds, a feed that does not
ascend - all pages are read by number, and read again until the list has proved complete (`core/sweep.py`).

**Counting.** That a feed looks ascending is no proof that it is. Before the watermark moves after a drain that anchored, the
end of the list is looked at: it has to be where the mirror's own count puts it, and as the mirror knows it (`core/counting.py`).
If not, something was passed by, and all is swept. A change that is not visible yet shortens the list and can hide one omission,
so the count is owed again in the next few runs (`core/debt.py`): once nothing is hidden any more, it shows.

Invariants:

- No input or output: pages come in, requests go out, and `place()` is all that a later process needs to go on.
- The watermark takes only change dates up to which everything has been read, and none ahead of the service's clock.
- A change dated after the drain's first call never keeps a drain going: it belongs to the next one (`core/horizon.py`).
- The first page number, 0 or 1, is the service's affair (`core/firstpage.py`), and so is chance (`core/chance.py`): neither has a
  record passed by.
- Every loop is bounded (`core/bounds.py`).
- Following takes the same memory for fifty records as for fifty million. Sweeping remembers a number per entry.
"""

from collections.abc import Sequence

from delta_mirror.core.answer import end_of, lists_a_record_twice
from delta_mirror.core.bounds import Bounds
from delta_mirror.core.counting import Count, CountKnown
from delta_mirror.core.debt import owed_after_anchoring, owed_after_counting
from delta_mirror.core.firstpage import FirstPage
from delta_mirror.core.following import Follower
from delta_mirror.core.following import Verdict as FollowerVerdict
from delta_mirror.core.horizon import SKEW, Horizon
from delta_mirror.core.model import Instant, Page, PageRequest
from delta_mirror.core.place import NO_HABITS, Debt, Habits, Mode, Place
from delta_mirror.core.sweep import Sweep
from delta_mirror.core.values import SECOND, offset_of, offset_ticks

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
        self._start = start
        self._horizon = Horizon(habits["offset"])
        self._first_page = FirstPage(habits.get("from_one"))
        self._follower = Follower(
            start,
            size=size,
            horizon=self._horizon,
            first_page=self._first_page,
            habits=habits,
            watermark=watermark,
            owed=debt["full"] if debt else None,
        )
        self._anchor = self._horizon.instant(start)  # StartDate of the list that is being read
        self._mode: Mode = "following"
        self._sweep: Sweep | None = None
        self._count: Count | None = None
        self._passes = 0  # over the whole list, complete
        self._swept = False
        self._old_versions = False  # the feed lists older versions of a record beside its newest
        self._bounds = Bounds()
        self._answered = ""  # the StartDate whose page 0 was answered
        self._page_before: Sequence[int] = ()

    @classmethod
    def resume(
        cls, place: Place, *, size: int, count_known: CountKnown, watermark: int | None = None, debt: Debt | None = None
    ) -> "Walk":
        """Return the walk that *place* was taken from, at a point from which nothing is passed by."""
        habits = Habits(offset=place["offset"], step=place["step"], full=place["full"], from_one=place.get("from_one"))
        walk = cls(place["start"], size=size, count_known=count_known, watermark=watermark, habits=habits, debt=debt)
        walk._horizon.first_call = place["first_call"]
        walk._horizon.reached = Instant(*place["reached"]) if place["reached"] else None
        walk._follower.resume(place)
        walk._old_versions = place["old_versions"]
        walk._passes = place["passes"]
        walk._bounds = Bounds(place["pages"])
        if place["mode"] == "sweeping":
            walk._sweep_all(walk._start)
        elif place["mode"] == "counting":
            walk._mode = "counting"
        else:
            walk._turn_to(walk._follower.anchor)
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
        return self._horizon.first_call

    @property
    def reached(self) -> Instant | None:
        """The newest change date that the drain has come to: the watermark, once the drain is complete."""
        return self._horizon.reached

    @property
    def habits(self) -> Habits:
        """What was learnt of the service."""
        return Habits(
            offset=self._horizon.known_offset,
            step=self._follower.step.index,
            full=self._follower.usual_full,
            from_one=self._first_page.known,
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
        if not self._follower.has_anchored:
            return owed_after_counting(self._debt)
        reached = self.reached.ticks if self.reached else 0
        return owed_after_anchoring(
            self._debt, start=self._start, watermark=self._watermark or 0, reached=reached, full=self._follower.full
        )

    def place(self) -> Place:
        """Return what a later process needs to go on behind the last page received."""
        whole = self._sweep is not None and self._sweep.whole
        follower = self._follower
        return Place(
            mode="following" if self._mode == "sweeping" and not whole else self._mode,
            start=self._start,
            first_call=self.first_call,
            anchor=self._anchor.ticks,
            step=follower.step.index,
            last=follower.last,
            reached=(self.reached.ticks, self.reached.text) if self.reached else None,
            counted_to=follower.tally.upto,
            listed=follower.tally.before,
            full=follower.full,
            uneven=follower.is_uneven,
            offset=self._horizon.known_offset,
            anchored=follower.has_anchored,
            old_versions=self._old_versions,
            passes=self._passes,
            page=self._number,
            pages=self._bounds.pages,
            from_one=self._first_page.known,
        )

    def receive(self, page: Page) -> None:
        """Take the answer to `request`.

        Raises:
            PagingError: the pages repeat themselves or never hold still. The watermark must stay; what came may be kept.
        """
        self._horizon.take(page)
        self._bounds.take(len(page.entries), sum(not self._horizon.is_later(when) for _, when in page.dated))
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
        is_page_zero, is_first_page = self._number == 0, self._is_first_page
        verdict = self._follower.receive(page)
        if verdict == "unordered":
            self._sweep_all(self._start, first=page if is_first_page else None)
        elif verdict == "ties":
            self._sweep_ties(first=page if is_page_zero else None)
        else:
            self._go_on(verdict)

    def _go_on(self, verdict: FollowerVerdict) -> None:
        if verdict == "ended":
            self._end_list()
        elif self._follower.number == 0:
            self._turn_to(self._follower.anchor)

    def _end_list(self) -> None:
        if self._follower.has_anchored and self._follower.is_uneven:
            # Where a page lies in the list cannot be told from its number: no count is possible.
            self._sweep_all(self._start)
        elif self._follower.has_anchored or self._debt:
            self._mode = "counting"
        else:
            self._mode = "done"

    # Sweeping

    def _sweep_all(self, start: int, first: Page | None = None) -> None:
        """Read the whole list by page numbers from *start*; *first* is its page 0, where it is at hand."""
        if self._debt:
            start = min(start, *self._debt["starts"])
        if first is not None and start < self._start:
            first = None
        self._start = start
        self._swept = True
        self._begin_sweep(start, cutoff=self._horizon.cutoff, whole=True, first=first)

    def _sweep_ties(self, first: Page | None) -> None:
        """Read what lies around the last change by page numbers: there is more of it than a page holds."""
        if self._bounds.are_parts_too_dear(self._follower.tally.met):
            self._sweep_all(self._start)
            return
        cutoff = self._follower.choose_cutoff_of_ties()
        self._begin_sweep(self._follower.anchor, cutoff=cutoff, whole=False, first=first)

    def _begin_sweep(self, start: int, *, cutoff: int, whole: bool, first: Page | None) -> None:
        self._mode = "sweeping"
        self._sweep = Sweep(cutoff=cutoff, whole=whole, listed_from=self._follower.tally.upto)
        self._turn_to(start)
        if first is not None:
            self._answered = self._anchor.text
            self._receive_swept(first)

    def _receive_swept(self, page: Page) -> None:
        sweep = self._sweep
        assert sweep is not None  # noqa: S101 - the mode says so
        verdict = sweep.receive(page, page.clock + SKEW)
        if verdict == "unordered":
            self._sweep_all(self._start)
            return
        self._first_page.learn(sweep.from_one)
        end = end_of(page, self._anchor.ticks)
        if end is not None:
            self._horizon.learn_offset(end)
            self._horizon.reach(page, min(sweep.cutoff, page.clock))
        self._passes += sweep.whole and verdict != "open"
        if verdict == "complete":
            self._end_sweep(sweep)
        elif verdict == "another pass" and sweep.whole:
            self._bounds.end_pass(sweep.pages, self._passes)
        elif verdict == "another pass":
            self._bounds.end_pass_of_ties(sweep.pages, sweep.passes, self._follower.tally.before + sweep.listed)

    def _end_sweep(self, sweep: Sweep) -> None:
        self._sweep = None
        if sweep.whole:
            self._mode = "done"
            return
        self._mode = "following"
        self._go_on(self._follower.go_on_behind_ties(sweep.listed, sweep.cutoff, sweep.beyond))

    # Counting

    def _begin_count(self) -> None:
        """Count the list from the start of this drain, or from that of the debt, which lies further back."""
        start = min(self._start, self._debt["starts"][0]) if self._debt else self._start
        if self._count_known(start - 1, start):
            # Whether the list has what is dated exactly at its start is not known. Where something changes at every whole second,
            # nothing is dated between two of them.
            start -= SECOND // 2 if self._count_known(start - SECOND - 1, start - SECOND) else SECOND
        known = self._count_known(self._start, self._horizon.cutoff)
        # The mirror also knows records by a version that has since been replaced and passed by: then fewer were met than known.
        met = self._follower.tally.met
        expected = max(known, met) if self._old_versions else min(known, met) if self._follower.has_anchored else known
        expected += self._count_known(start, self._start) + self._count_known(self._horizon.clock + SKEW, END_OF_TIME)
        self._count = Count(
            start=start,
            expected=expected,
            size=self._follower.full_size,
            cutoff=self._horizon.cutoff,
            count_known=self._count_known,
            has_ranks=not self._old_versions,
            from_one=self._first_page.known,
            is_sure=self._first_page.from_one is not None,
            compares_first=self._first_page.is_perhaps_one,
        )
        self._turn_to(start)

    def _receive_count(self, page: Page) -> None:
        count = self._count
        assert count is not None  # noqa: S101 - the mode says so
        verdict = count.take(page)
        if count.is_sure:
            self._first_page.learn(count.from_one)
        if verdict == "longer":
            self._sweep_all(count.start)
        elif verdict == "complete":
            self._mode = "done"
        else:
            self._bounds.repeats = 1

    # What all have in common

    @property
    def _number(self) -> int:
        if self._mode == "sweeping" and self._sweep is not None:
            return self._sweep.number
        if self._mode == "counting" and self._count is not None:
            return self._count.number
        return self._follower.number

    @property
    def _is_first_page(self) -> bool:
        return self._number == 0 and self._anchor.ticks == self._start

    def _turn_to(self, ticks: int) -> None:
        """Read the list that starts at *ticks* next."""
        self._anchor = self._horizon.instant(ticks)
        self._bounds.repeats = 1

    def _starts_late_by_offset(self, page: Page) -> bool:
        """Ask the first page anew where a service that ignores the offset would have read StartDate as a later time."""
        if not self._is_first_page or self._bounds.pages > 1 or self._mode != "following":
            return False
        end = end_of(page, self._anchor.ticks)
        if end is None or offset_ticks(self._horizon.offset) <= offset_ticks(offset_of(end.text)):
            return False
        self._horizon.learn_offset(end)
        self._turn_to(self._start)
        return True
