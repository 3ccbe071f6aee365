"""Whether a service counts its pages from 1: it answers page 0 with its first page, and page 1 with the same once more.

Invariants:

- Believed from zero, a service that counts from 1 costs calls. Believed from one, a service that counts from 0 has a page passed
  by. So the second is believed only of pages that chance does not repeat, or where earlier drains have found it.
- Pages that have some entries in common, and not all, tell nothing: something has changed between the two calls, or equals are
  shuffled.
"""

from collections.abc import Sequence
from typing import Literal

from delta_mirror.core.chance import may_repeat
from delta_mirror.core.model import Page

Likeness = Literal["same", "perhaps the same", "alike", "other"]


def compare(zero: Sequence[int], one: Page, *, is_habit: bool) -> Likeness:
    """Return what page *one* is beside page *zero* (its digests); *is_habit* says that it used to be the same."""
    if not zero or set(zero).isdisjoint(one.digests):
        return "other"
    if sorted(one.digests) != sorted(zero):
        return "alike"
    if is_habit or not may_repeat(len(zero), 1, in_order=list(zero) == list(one.digests)):
        return "same"
    return "perhaps the same"


class FirstPage:
    """What is known of the number of the first page; *habit* is what earlier drains have found.

    Attributes:
        from_one: whether this drain has seen that the service counts from 1; None where it has seen nothing of it.
        is_perhaps_one: whether it has seen as much, but chance may have had it so.
    """

    def __init__(self, habit: bool | None) -> None:
        self._habit = habit
        self.from_one: bool | None = None
        self.is_perhaps_one = False

    @property
    def known(self) -> bool | None:
        """Whether the service counts from 1, by this drain or by habit."""
        return self._habit if self.from_one is None else self.from_one

    def learn(self, from_one: bool | None) -> None:
        """Take what a sweep or a count has found; None where it has found nothing."""
        if from_one is not None:
            self.from_one = from_one

    def compare(self, zero: Sequence[int], one: Page) -> Likeness:
        """Return what page *one* is beside page *zero*, and learn from it."""
        likeness = compare(zero, one, is_habit=self.known is True)
        self.is_perhaps_one = likeness == "perhaps the same"
        if likeness in ("same", "other"):
            self.from_one = likeness == "same"
        return likeness
