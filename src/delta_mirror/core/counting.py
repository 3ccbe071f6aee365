"""Where a list must end by the mirror's own count, and what stands there: the proof that following has passed nothing by.

A follower reads each page from the last change of the page before. What stands out of order it never meets: from a later
StartDate on, it is not listed. From the StartDate of the whole drain it is, and makes the list longer, or stands at a place of
which the mirror knows nothing. So the end of that list is looked at, by page number: the page on which it must end, and the empty
page behind it.

Invariants:

- Only an empty page ends a list: a page that is cut short may hide what stands behind it.
- An entry at place n must be dated so that the mirror knows at least n entries up to that date. If it knows fewer, something was
  passed by, or pages are not even; both are cured by sweeping.
- Fewer entries than expected prove nothing and accuse nobody: a change that is not visible yet takes its record off the list.
- The view reaches back until it shows two change dates, one of them from before the drain's first call: that nothing stands
  before the last of equal dates, or before what is new, only an older entry shows.
- Whether page numbers count from 0 or 1 is believed from habit as long as all is as expected. Whatever is not, is looked at again
  after the pages 0 and 1 have been compared.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from delta_mirror.core.firstpage import compare
from delta_mirror.core.horizon import SKEW
from delta_mirror.core.model import Page, ascend

MOST_VIEWED = 20  # pages of one list; what moves so much is counted again in the next run

CountKnown = Callable[[int, int], int]
Verdict = Literal["open", "complete", "longer"]


class Tally:
    """How many different entries a follower has met, up to which change date (`upto`, ticks).

    What is dated exactly then is kept apart from what is dated `before`: whoever goes on from there meets all of it again.
    """

    def __init__(self, upto: int, before: int = 0) -> None:
        self.upto = upto
        self.before = before
        self._at_border: set[int] = set()  # digests of what was met at exactly that date

    @property
    def met(self) -> int:
        """How many there are in all."""
        return self.before + len(self._at_border)

    def take(self, dated: Iterable[tuple[int, int | None]], upto: int, cutoff: int) -> None:
        """Count the new entries of a page, (digest, ticks) each, that are dated up to *cutoff*; the page goes up to *upto*."""
        new = {digest: when for digest, when in dated if when is not None and self.upto <= when <= min(upto, cutoff)}
        if upto > self.upto:
            self._at_border.update(digest for digest, when in new.items() if when == self.upto)
            self.before += len(self._at_border) + sum(self.upto < when < upto for when in new.values())
            self.upto, self._at_border = upto, set()
        self._at_border.update(digest for digest, when in new.items() if when == upto)

    def take_rest(self, met: int, upto: int) -> None:
        """Count *met* different entries, which are all from the present border on and up to *upto*."""
        self.before += met
        self.upto, self._at_border = upto + 1, set()


class Count:
    """The look at the end of one list: ask for page `number`, hand the answer to `take`, until the verdict is not "open".

    Args:
        start: the list's StartDate, in ticks; the mirror knows nothing that is dated exactly then.
        expected: how many entries it should have.
        size: entries on a full page.
        cutoff: ticks; what has changed later does not count, unless it is dated in the future.
        count_known: see `Walk`.
        has_ranks: whether the mirror knows each entry of the list, so that its place can be told from its date. Of a feed that
            lists older versions, the mirror knows only the newest.
        from_one: whether the service counts its pages from 1, as far as is known.
        is_sure: whether this drain has seen that.
        compares_first: whether it may have seen it, and the pages 0 and 1 are looked at before anything else.
    """

    def __init__(
        self,
        *,
        start: int,
        expected: int,
        size: int,
        cutoff: int,
        count_known: CountKnown,
        has_ranks: bool,
        from_one: bool | None,
        is_sure: bool,
        compares_first: bool,
    ) -> None:
        self.start = start
        self.from_one = from_one
        self.is_sure = is_sure
        self._expected = expected
        self._size = size
        self._cutoff = cutoff
        self._count_known = count_known
        self._has_ranks = has_ranks
        self._page_zero: Sequence[int] | None = None  # its digests, while the pages 0 and 1 are compared
        self._comparing = compares_first
        self._viewed = 0
        self._begin()

    def _begin(self) -> None:
        """Look at the page on which the list must end; where a single entry is expected there, at the one before as well."""
        self._last = max(0, self._expected - 1) // self._size
        self._is_single = self._expected - self._last * self._size == 1
        self._lowest = self._index = max(0, self._last - self._is_single)
        self._has_ended = False
        self._shows_older = False
        self._dates: set[int] = set()

    @property
    def number(self) -> int:
        """The page to ask for now."""
        if self._comparing:
            return 0 if self._page_zero is None else 1
        return self._index + (self.from_one is True)

    def take(self, page: Page) -> Verdict:
        """Take the answer; return "longer" where something was passed by, "complete" where nothing was for all that shows."""
        self._viewed += 1
        if self._comparing:
            self._compare(page)
            return "open"
        is_longer = self._is_longer(page)
        if not self.is_sure and (is_longer or self._is_off(page)):
            self._comparing = True
            return "open"
        if is_longer:
            return "longer"
        self._note(page)
        return "complete" if self._viewed >= MOST_VIEWED or self._is_complete(page) else "open"

    def _compare(self, page: Page) -> None:
        """Look at the pages 0 and 1, then at the end once more; where they leave a doubt, as if the service counted from 0."""
        if self._page_zero is None:
            self._page_zero = page.digests
            return
        self.from_one = {"same": True, "other": False}.get(compare(self._page_zero, page, is_habit=False))
        self.is_sure = True
        self._comparing = False
        self._begin()

    def _is_complete(self, page: Page) -> bool:
        """Return whether the end has been seen, and enough before it; choose the next page where not."""
        if not self._has_ended:
            # A page is hardly cut short to the one entry that is expected there, and to see more of the end is worth more.
            is_alone = self._is_single and self._index == self._last > self._lowest and len(page.entries) == 1
            self._has_ended = is_alone or not page.entries
            if not self._has_ended:
                self._index += 1
                return False
        if self._lowest == 0 or (self._shows_older and len(self._dates) > 1):
            return True
        self._lowest -= 1
        self._index = self._lowest
        return False

    def _note(self, page: Page) -> None:
        self._dates.update(page.dates)
        self._shows_older = self._shows_older or any(not self._is_later(when, page.clock) for _, when in page.dated)

    def _is_longer(self, page: Page) -> bool:
        """Return whether the list has more entries up to some place on *page* than the mirror knows."""
        if not ascend(page.dates):
            return True
        place = self._index * self._size
        upto, known = self.start, 0
        for _, when in page.dated:
            if self._is_later(when, page.clock):
                continue
            place += 1
            if self._has_ranks and when is not None and self.start <= when <= self._cutoff:
                known, upto = known + self._count_known(upto, when), when
                if place > known:
                    return True
        return place > max(self._expected, self._index * self._size)

    def _is_off(self, page: Page) -> bool:
        """Return whether *page* lies half a page or more behind where its number says: the number may mean the page before it.

        Only where page numbers are thought to count from 1. Thought to count from 0 and wrongly so, they bring pages too early:
        then the list seems longer than it is.
        """
        if not self.from_one:
            return False
        if not page.entries:
            return self._viewed == 1 and self._expected > 0
        first = min(page.dates[0] if page.dates else self._cutoff, self._cutoff)
        return self._count_known(self.start, first) > self._index * self._size + self._size // 2

    def _is_later(self, when: int | None, clock: int) -> bool:
        """Return whether what is dated so has changed since the drain began."""
        return when is not None and self._cutoff < when <= clock + SKEW
