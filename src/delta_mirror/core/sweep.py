"""Reading one list by page numbers, pass after pass, until it has proved complete.

A list that is read by page numbers may move while it is read: an entry that leaves it lets everything behind it slide up, and
what slides over the border between two pages is on neither. One pass therefore proves nothing.

Invariants:

- A list is complete when two passes running list equally many entries and the second has shown as many different ones: entries
  only ever leave the part that counts, so equally many means that none left during the second pass, and what it showed is all.
  Chance can make two passes over a shuffled list equally long: a pass that brings some for the first time proves it only
  where none of the earlier ones is missing now.
- A shuffled list (no order among equals, asked with offset and fetch) shows some entries twice and some not at all in one pass:
  the passes add up for as long as the list stays equally long.
- Shuffled and moving at once, a list can stay equally long while one entry comes and another goes: a shuffled list is complete
  only after some more passes that bring nothing new.
- A service that counts its pages from 1 sends its first page twice. Nobody need know: as many different entries then show as a
  pass lists without its first page. Were they not all, a whole page would be missing, and chance would have hidden it in each
  pass, or have repeated the first page in the same order in each: so long as it may have, the list is read again.
- Where later entries stand among those that count, and all are shuffled, how many of these a pass lists is drawn by lot, and
  tells nothing. Nor does it where an entry without a date may stand on either side of the end of a part of a shuffled list.
- An entry that comes twice in a pass, but for those of a first page that comes twice, is a sign of a shuffled list.
- Where that never comes to pass, passes that bring nothing new end the sweep; of a shuffled list, as many as chance needs to show
  every entry. A part of such a list does not wait for them: the whole list is read instead, and in no more passes.
- Only entries dated up to `cutoff` count, and those dated in the future, which are there to stay. What changes while the list
  is read belongs to the next drain: a list would never come to rest if it had to hold still to its very end.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal

from delta_mirror.core.chance import may_hide, may_repeat
from delta_mirror.core.firstpage import compare
from delta_mirror.core.model import Page, ascend

QUIET_PASSES = 3  # that bring nothing new, where the list comes in the same order each time
CONFIRMING_PASSES = 2  # that bring nothing new, before a shuffled list is complete
FEW = 9  # entries; of fewer, chance may put all that count before all others
MOST_UNEVEN = 3  # passes over a part of a shuffled list, each of another length than the one before

Verdict = Literal["open", "another pass", "complete", "unordered"]


class Pass:
    """What one pass has shown. An entry that came twice is there twice in the numbers, and once in the sets."""

    def __init__(self) -> None:
        self.length = 0  # entries in all
        self.listed = 0  # those that count
        self.on_first = 0  # of these, on page 0
        self.repeated = 0  # entries on page 0, where page 1 was the same in the same order
        self.counted: set[int] = set()  # the entries that count
        self.shown: dict[int, None] = {}  # all, in the order in which they first came

    @property
    def is_even(self) -> bool:
        """Whether no entry came twice, but for a first page that did."""
        return self.length == len(self.shown) + self.repeated

    @property
    def has_later(self) -> bool:
        """Whether there were entries that do not count."""
        return len(self.shown) > len(self.counted)


class Sweep:
    """The passes over one list: ask for page `number`, hand the answer to `receive`, until the list is complete.

    Attributes:
        cutoff: ticks; later entries do not count.
        whole: whether the list is read to its end; otherwise a pass ends with the page that goes beyond the cutoff.
        number: the page to ask for now.
        passes: how many passes are complete.
        pages: how many pages the present pass has taken, or the last one, where that is complete.
        from_one: whether page 1 is page 0 once more, which can prove to be so once the list is complete; None where not known.
        listed: how many different entries dated from *listed_from* on were met.
        beyond: the earliest change date after the cutoff that the present pass has met, in ticks.
    """

    def __init__(self, *, cutoff: int, whole: bool, listed_from: int) -> None:
        self.cutoff = cutoff
        self.whole = whole
        self.listed = 0
        self._listed_from = listed_from
        self.number = 0
        self.passes = 0
        self.from_one: bool | None = None
        self._seen: set[int] = set()
        self._new = 0  # of these, first met in the present pass
        self._pass = Pass()
        self._before: Pass | None = None
        self._steady: set[int] | None = None  # shown by the passes during which nothing left the list
        self._repeats = 0  # passes running in which page 1 was page 0 in the same order
        self._quiet = 0  # passes running that brought nothing new
        self._uneven = 0  # passes of another length than the one before
        self._is_shuffled = False
        self._has_later = False  # entries that do not count were met
        self._is_mixed = False  # entries that count were listed behind later ones
        self.begin_pass()

    def begin_pass(self) -> None:
        """Start over at the first page."""
        self.pages = 0
        self.beyond: int | None = None
        self._end: int | None = None  # the newest change date that this pass has met
        self._has_met_later = False  # entries that do not count, in this pass
        self._page_before: Sequence[int] = ()

    def receive(self, page: Page, future: int) -> Verdict:
        """Take the answer; what is dated after *future* lies ahead of the service's clock.

        An "unordered" page is of a part of a list: without order, no part of the list is what lies between two dates.
        """
        if self.number == 0:
            self.begin_pass()
        self.pages += 1
        if not self.whole and not self._goes_on_ascending(page):
            return "unordered"
        self.take(page.dated, future)
        if self.number == 1:
            self._compare_with_first(page)
        if self._has_doubtful_end(page):
            return "unordered"
        self._page_before = page.digests
        ends = not page.entries or (self.has_listed_as_before if self.whole else self.beyond is not None)
        self.number = 0 if ends else self.number + 1
        if not ends:
            return "open"
        if self.end_pass():
            return "complete"
        return "unordered" if self._has_uneven_passes else "another pass"

    def _compare_with_first(self, page: Page) -> None:
        if list(page.digests) == list(self._page_before):
            self._pass.repeated = len(page.digests)
        elif self.passes == 0 and compare(self._page_before, page, is_habit=False) == "other":
            self.from_one = False

    def take(self, dated: Iterable[tuple[int, int | None]], future: int) -> None:
        """Count the entries of a page, (digest, ticks) each; what is dated after *future* lies ahead of the service's clock."""
        this = self._pass
        is_first = not this.shown
        for digest, ticks in dated:
            this.length += 1
            this.shown.setdefault(digest)
            if ticks is not None and ticks > self.cutoff:
                self.beyond = ticks if self.beyond is None else min(ticks, self.beyond)
                if not self.whole or ticks <= future:
                    self._has_met_later = True
                    continue
            self._is_mixed = self._is_mixed or self._has_met_later
            this.listed += 1
            this.counted.add(digest)
            if digest not in self._seen:
                self._seen.add(digest)
                self._new += 1
                self.listed += ticks is None or ticks >= self._listed_from
        if is_first:
            this.on_first = this.listed

    def end_pass(self) -> bool:
        """Close the pass; return whether the list has proved complete."""
        this, before = self._pass, self._before
        self.passes += 1
        self._quiet = 0 if self._new else self._quiet + 1
        self._repeats = self._repeats + 1 if this.repeated else 0
        self._has_later = self._has_later or this.has_later
        self._is_shuffled = self._is_shuffled or not this.is_even
        if before is not None:
            self._is_shuffled = self._is_shuffled or not _same_order(this.shown, before.shown)
            self._note_length(this, before)
        is_complete = self._shows_all(this) or self._is_quiet(this)
        self._before, self._pass, self._new = this, Pass(), 0
        return is_complete

    def _note_length(self, this: Pass, before: Pass) -> None:
        if this.listed == before.listed:
            self._steady = (self._steady or set()) | this.counted
        else:
            self._steady = None
            self._uneven += 1

    def _shows_all(self, this: Pass) -> bool:
        """Return whether the passes during which nothing left the list have shown all that it has."""
        if self._is_drawn_by_lot or self._steady is None or (self._new and not self._steady >= self._seen):
            return False
        twice = max(0, this.listed - len(self._steady))
        if twice not in (0, this.on_first):
            return False
        if self._is_shuffled:
            is_proved = self._quiet >= CONFIRMING_PASSES and not (twice and may_hide(twice, this.listed, self.passes))
        else:
            is_proved = not self._may_repeat(this)
        if is_proved and twice:
            self.from_one = True
        return is_proved

    def _may_repeat(self, this: Pass) -> bool:
        """Return whether chance may have repeated page 0 of *this* pass as page 1, here and in the passes before."""
        # In each of them, and page 0 itself from pass to pass.
        return this.repeated > 0 and may_repeat(this.repeated, 2 * self._repeats - 1, in_order=True)

    def _is_quiet(self, this: Pass) -> bool:
        """Whether so many passes have brought nothing new that no more is to be expected."""
        if self._is_shuffled:
            return self._quiet >= CONFIRMING_PASSES and not may_hide(1, len(self._seen) + 1, self.passes)
        return self._quiet >= QUIET_PASSES and not self._may_repeat(this)

    @property
    def _has_uneven_passes(self) -> bool:
        """Whether, of a part of a shuffled list, chance seems to decide how many entries a pass lists."""
        return not self.whole and self._is_shuffled and self._uneven >= MOST_UNEVEN

    @property
    def has_listed_as_before(self) -> bool:
        """Whether this pass has listed as many entries as the pass before did in all, so that its empty page can be spared."""
        if self._before is None or self._is_drawn_by_lot or (self._is_shuffled and self._steady is None):
            return False
        if self.passes == 1 and (self._has_later or self._pass.has_later):
            return False  # whether there is an order is not known before a second pass has come to its end
        if len(self._before.counted) < len(self._seen) - self._new:
            return False  # what was hidden then may be back, and behind it what was not shown yet
        return self._pass.listed >= self._before.listed

    @property
    def _is_drawn_by_lot(self) -> bool:
        """Whether chance decides how many of the entries that count a pass lists."""
        is_short = self._before is not None and len(self._before.shown) < FEW
        return self.whole and self._is_shuffled and (self._is_mixed or (is_short and self._has_later))

    def _goes_on_ascending(self, page: Page) -> bool:
        """Return whether the entries of *page* ascend, and those that were not on the page before from its end on."""
        known = set(self._page_before)
        before, self._end = self._end, max(page.dates, default=self._end)
        return ascend(page.dates) and (
            before is None or all(when is None or when >= before or digest in known for digest, when in page.dated)
        )

    def _has_doubtful_end(self, page: Page) -> bool:
        """Return whether, of *page*, which ends a part of a shuffled list, it is drawn by lot how much belongs to that part."""
        return not self.whole and self._is_shuffled and self.beyond is not None and len(page.dates) < len(page.entries)


def _same_order(this: Iterable[int], before: Iterable[int]) -> bool:
    """Return whether the entries that both passes showed came in the same order."""
    place = {digest: at for at, digest in enumerate(before)}
    shared = [place[digest] for digest in this if digest in place]
    return all(left < right for left, right in pairwise(shared))
