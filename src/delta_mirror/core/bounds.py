"""That a drain ends, whatever the service answers.

Invariants:

- A drain takes at most MOST_PASSES times the calls of one pass over its list; a drain that dies and goes on is one drain.
- The same page at several page numbers running is an error, and so are pages without end that bring nothing of this drain's.
"""

from collections.abc import Sequence

from delta_mirror.errors import PagingError

MOST_PASSES = 20  # over the list of one drain; more means that it never holds still
MOST_PASSES_IN_PARTS = (
    10  # what reading a list part by part may take; more means that the parts overlap, and the whole is cheaper
)
MOST_PAGES = 10_000  # in one drain: two million records at the usual page size
MOST_IDLE_PAGES = 10  # beyond what the entries that belong to this drain would fill, in each of the passes that are allowed
MOST_REPEATS = 3  # the same page at so many page numbers running: a service that repeats itself
MOST_REPEATS_SMALL = 12  # the same for a page so small that chance alone may repeat it
SMALL = 5  # entries; fewer make a small page


class Bounds:
    """What one drain has asked for so far.

    Attributes:
        pages: all pages of the drain, those asked for by processes that died included.
        repeats: how often the present page came running.
    """

    def __init__(self, pages: int = 0) -> None:
        self.pages = pages
        self.repeats = 1
        self._asked = 0  # pages, by this process
        self._widest = 1  # entries on the largest page, which has one at least
        self._narrowest = 0  # entries on the smallest page that another one follows; 0: not known
        self._met = 0  # entries that belong to this drain, each time that one came
        self._longest_pass = 0  # in pages

    def take(self, entries: int, of_this_drain: int) -> None:
        """Count a page with so many *entries*.

        Raises:
            PagingError: the feed does not end.
        """
        self.pages += 1
        self._asked += 1
        self._met += of_this_drain
        self._widest = max(self._widest, entries)
        filled = self._met // self._widest
        if self.pages > MOST_PAGES or self._asked > MOST_PASSES * (filled + MOST_IDLE_PAGES):
            raise PagingError(f"the feed did not end within {self.pages} pages")

    def compare(self, number: int, page: Sequence[int], before: Sequence[int]) -> None:
        """Compare the digests of page *number* with those of the page before.

        Raises:
            PagingError: the service repeats itself.
        """
        if number == 0 or not page or list(page) != list(before):
            self.repeats = 1
            if number > 0 and page:
                self._narrowest = min(self._narrowest or len(before), len(before))
            return
        self.repeats += 1
        if self.repeats >= (MOST_REPEATS if len(page) >= SMALL else MOST_REPEATS_SMALL):
            raise PagingError(f"the feed repeats one page: page {number} is the same as the {self.repeats - 1} before it")

    def end_pass(self, pages: int, passes: int) -> None:
        """Count the last of so many *passes* over the whole list, which took so many *pages*, where another one has to follow.

        Raises:
            PagingError: another one would be too much.
        """
        self._longest_pass = max(self._longest_pass, pages)
        self._afford(pages, passes, self._longest_pass)

    def end_pass_of_ties(self, pages: int, passes: int, met: int) -> None:
        """The same for a pass over a part of the list, while *met* different entries of the list are known in all.

        The list takes no fewer pages than its part, however few of its entries were met outside of it.
        """
        self._afford(pages, passes, max(pages, self._pages_for(met)))

    def are_parts_too_dear(self, met: int) -> bool:
        """Return whether the parts of the list read so far, with *met* different entries in all, took more than they may."""
        return self.pages > MOST_PASSES_IN_PARTS * self._pages_for(met)

    def _pages_for(self, entries: int) -> int:
        return entries // (self._narrowest or self._widest) + 2

    def _afford(self, pages: int, passes: int, pages_of_list: int) -> None:
        if passes >= MOST_PASSES or self.pages + pages > MOST_PASSES * pages_of_list:
            raise PagingError(f"the feed did not hold still for {MOST_PASSES} passes over its pages")
