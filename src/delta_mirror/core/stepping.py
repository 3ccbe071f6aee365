"""How far before the last change a follower anchors: one tick, and further where the service reads StartDate too coarsely.

Invariants:

- A step is long enough when the page that it brings begins where the page before ended, or earlier.
- It is too long when a shorter one has not failed: its entry has changed since, and could not come back.
"""

from collections.abc import Sequence

from delta_mirror.core.values import HOUR, MINUTE, SECOND

STEPS_BACK = (1, SECOND, MINUTE, HOUR)  # in ticks; the next where one proves too short


class Step:
    """The step in use; `index` is its place in STEPS_BACK."""

    def __init__(self, index: int) -> None:
        self.index = index

    @property
    def ticks(self) -> int:
        """How far back that is."""
        return STEPS_BACK[self.index]

    def lengthen(self) -> bool:
        """Take the next longer step; return whether there is one."""
        if self.index + 1 == len(STEPS_BACK):
            return False
        self.index += 1
        return True

    def shorten_if_needless(self, dates: Sequence[int], last: int) -> None:
        """Go back to the shortest step where *dates*, of a page that begins early enough, show none that a shorter one misses.

        *last* is where the page before ended.
        """
        if self.index and not any(last - STEPS_BACK[self.index - 1] < when <= last for when in dates):
            self.index = 0
