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
- Where later entries stand among those that count, and all are shuffled, how many of these a pass lists is drawn by lot, and
  tells nothing. Nor does it where an entry without a date may stand on either side of the end of a part of a shuffled list.
- Where that never comes to pass, passes that bring nothing new end the sweep; more of them where the list is shuffled.
- A service that counts its pages from 1 sends its first page twice, shuffled perhaps so that nobody can tell. Then as many
  different entries show as a pass lists without its first page. Were they not all, a whole page would be missing, and hidden by
  chance in each quiet pass: the more it holds, the fewer of those are needed.
- Only entries dated up to `cutoff` count, and those dated in the future, which are there to stay. What changes while the list
  is read belongs to the next drain: a list would never come to rest if it had to hold still to its very end.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal

from delta_mirror.core.model import Page, ascend

QUIET_PASSES = 3  # that bring nothing new, where the list comes in the same order each time
QUIET_PASSES_SHUFFLED = 12  # the same where the order differs: in one pass, chance hides up to one entry in three
CONFIRMING_PASSES = 2  # that bring nothing new, before a shuffled list is complete

Verdict = Literal["open", "another pass", "complete", "unordered"]


class Sweep:
    """The passes over one list: ask for page `number`, hand the answer to `receive`, until the list is complete.

    Attributes:
        cutoff: ticks; later entries do not count.
        whole: whether the list is read to its end; otherwise a pass ends with the page that goes beyond the cutoff.
        number: the page to ask for now.
        passes: how many passes are complete.
        pages: how many pages the present pass has taken, or the last one, where that is complete.
        from_one: whether page 1 was page 0 once more; None where it was not asked for.
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
        self.pages = 0
        self.from_one: bool | None = None
        self.beyond: int | None = None
        self._page_before: Sequence[int] = ()
        self._end: int | None = None  # the newest change date that the present pass has met
        self._seen: set[int] = set()
        self._pass: list[int] = []
        self._pass_before: list[int] | None = None
        self._steady: set[int] | None = None  # shown by the passes during which nothing left the list
        self._first_page: int | None = None  # entries on the first page of the present pass
        self._shown: dict[int, None] = {}  # by the present pass, later entries too, in the order in which they first came
        self._shown_before: dict[int, None] = {}
        self._is_shuffled = False
        self._has_met_later = False  # in the present pass
        self._is_mixed = False  # entries that count were listed behind later ones
        self._quiet = 0
        self._new = 0

    def receive(self, page: Page, future: int) -> Verdict:
        """Take the answer; what is dated after *future* lies ahead of the service's clock.

        An "unordered" page is of a part of a list: without order, no part of the list is what lies between two dates.
        """
        if self.number == 0:
            self.begin_pass()
        self.pages += 1
        is_repeat = self.number == 1 and page.is_again(self._page_before)
        if self.number == 1:
            self.from_one = is_repeat
        if not is_repeat:
            if not self.whole and not self._goes_on_ascending(page):
                return "unordered"
            self.take(page.dated, future)
            if self._has_doubtful_end(page):
                return "unordered"
        self._page_before = page.digests
        ends = not page.entries or (self.has_listed_as_before if self.whole else self.beyond is not None)
        self.number = 0 if ends else self.number + 1
        if not ends:
            return "open"
        return "complete" if self.end_pass() else "another pass"

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

    def take(self, dated: Iterable[tuple[int, int | None]], future: int) -> None:
        """Count the entries of a page, (digest, ticks) each; what is dated after *future* lies ahead of the service's clock."""
        for digest, ticks in dated:
            self._shown.setdefault(digest)
            if ticks is not None and ticks > self.cutoff:
                self.beyond = ticks if self.beyond is None else min(ticks, self.beyond)
                if not self.whole or ticks <= future:
                    self._has_met_later = True
                    continue
            self._is_mixed = self._is_mixed or self._has_met_later
            self._pass.append(digest)
            if digest not in self._seen:
                self._seen.add(digest)
                self._new += 1
                self.listed += ticks is None or ticks >= self._listed_from
        if self._first_page is None:
            self._first_page = len(self._pass)

    @property
    def has_listed_as_before(self) -> bool:
        """Whether this pass has listed as many entries as the pass before did in all, so that its empty page can be spared."""
        is_as_long = self._pass_before is not None and len(self._pass) >= len(self._pass_before)
        return is_as_long and not self._is_drawn_by_lot

    @property
    def _is_drawn_by_lot(self) -> bool:
        """Whether chance decides how many of the entries that count a pass lists."""
        return self.whole and self._is_shuffled and self._is_mixed

    def end_pass(self) -> bool:
        """Close the pass; return whether the list has proved complete."""
        this, before = self._pass, self._pass_before
        if before is not None and len(this) == len(before):
            self._steady = (self._steady or set()) | set(this)
        else:
            self._steady = None
        self._quiet = 0 if self._new else self._quiet + 1
        self._is_shuffled = self._is_shuffled or (before is not None and not self._is_as_before(this, before))
        shows_all = self._shows_all(len(this))
        self.passes += 1
        self._pass_before, self._pass, self._first_page, self._new = this, [], None, 0
        self._shown_before, self._shown = self._shown, {}
        return shows_all or self._quiet >= (QUIET_PASSES_SHUFFLED if self._is_shuffled else QUIET_PASSES)

    def _is_as_before(self, this: Sequence[int], before: Sequence[int]) -> bool:
        """Return whether the list has come in the order of the pass before, what counts and what is later."""
        return _same_order(this, before) and _same_order(list(self._shown), list(self._shown_before))

    def _shows_all(self, listed: int) -> bool:
        """Return whether the passes during which nothing left the list have shown all that it has."""
        if self._is_drawn_by_lot or self._steady is None or (self._new and not self._steady >= self._seen):
            return False
        if not self._is_shuffled:
            return len(self._steady) >= listed
        first_page = self._first_page or 0
        if len(self._steady) == listed - first_page:
            return self._quiet * first_page >= QUIET_PASSES_SHUFFLED
        return len(self._steady) >= listed and self._quiet >= CONFIRMING_PASSES

    def begin_pass(self) -> None:
        """Start over at the first page."""
        self.beyond = self._end = None
        self.pages = 0
        self._has_met_later = False


def _same_order(this: Sequence[int], before: Sequence[int]) -> bool:
    """Return whether the entries that both passes showed came in the same order, each once."""
    place = {digest: at for at, digest in enumerate(before)}
    if len(place) < len(before) or len(set(this)) < len(this):
        return False
    shared = [place[digest] for digest in this if digest in place]
    return all(left < right for left, right in pairwise(shared))
