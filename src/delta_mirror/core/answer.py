"""What one page says, beside its entries: where it ends, how new it is, and whether the feed lists older versions.

Invariants:

- Two things date a page: its envelope and its records. Either may be missing, and where they differ the earlier one counts:
  it only lets more come again.
"""

from delta_mirror.core.model import Instant, Page
from delta_mirror.core.values import HOUR


def end_of(page: Page, anchor: int) -> Instant | None:
    """Return the last change date of *page*, which was asked for from *anchor* (ticks); None where nothing dates it.

    Records whose dates lie far before what was asked for are dated by something else than the feed goes by; then the envelope's
    date alone counts.
    """
    named = page.last_change
    newest = max((entry.changed for entry in page.entries if entry.changed), default=None)
    if newest is None or (named is not None and newest.ticks < anchor - HOUR):
        return named
    return newest if named is None or newest.ticks < named.ticks else named


def newest_upto(page: Page, upto: int) -> Instant | None:
    """Return the newest date that *page* names, its records' or its own, of those that are not later than *upto* (ticks)."""
    dated = [entry.changed for entry in page.entries if entry.changed and entry.changed.ticks <= upto]
    if page.last_change and page.last_change.ticks <= upto:
        dated.append(page.last_change)
    return max(dated, default=None)


def lists_a_record_twice(page: Page) -> bool:
    """Return whether one answer holds two versions of one record, as a feed does that lists every change."""
    ids: dict[str, int] = {}
    for digest, entry in zip(page.digests, page.entries, strict=True):
        if entry.id is not None and ids.setdefault(entry.id, digest) != digest:
            return True
    return False
