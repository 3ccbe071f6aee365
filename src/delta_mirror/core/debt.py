"""What a drain leaves to be counted again: a change that is not visible yet hides one omission from the count of its own run.

Invariants:

- A list is counted in DEBT_RUNS runs after the drain that anchored in it.
- Two lists are owed at most: the oldest, and the newest that brought something new. They are counted in turn, one a run.
"""

from delta_mirror.core.place import Debt
from delta_mirror.core.values import MINUTE

DEBT_RUNS = 8  # for so many runs after a drain that anchored, its list is counted again


def owed_before(debt: Debt | None) -> list[int]:
    """Return the starts that an earlier run has left, the one just counted last."""
    return debt["starts"][1:] + debt["starts"][:1] if debt else []


def owed_after_anchoring(debt: Debt | None, *, start: int, watermark: int, reached: int, full: int) -> Debt:
    """Return what is owed after a drain that anchored in the list from *start*; *debt* is what was owed before (all in ticks)."""
    before = owed_before(debt)
    is_new = not before or reached > watermark
    own = max(start, watermark - watermark % MINUTE) if is_new else max(before)
    oldest = min([start, *before])
    starts = [own, oldest] if not before or before[-1] == oldest else [oldest, own]
    return Debt(starts=list(dict.fromkeys(starts)), full=full, runs=DEBT_RUNS)


def owed_after_counting(debt: Debt | None) -> Debt | None:
    """Return what is still owed after a run that has paid one count of *debt*."""
    if debt is None or debt["runs"] <= 1:
        return None
    return Debt(starts=owed_before(debt), full=debt["full"], runs=debt["runs"] - 1)
