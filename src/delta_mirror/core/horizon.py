"""What the answers of one drain tell of time: when it began, what time it is, how the service writes times, how far it has come.

Invariants:

- A change dated after the drain's first call belongs to the next drain, unless it is dated in the future: what stands at the end
  of the list for good would else never be read.
"""

from delta_mirror.core.answer import newest_upto
from delta_mirror.core.model import Instant, Page
from delta_mirror.core.values import MINUTE, offset_of, write_ticks

UTC = "+00:00"
SKEW = MINUTE  # by so much a change date may seem ahead of the service's clock without being dated in the future


class Horizon:
    """The times of one drain.

    Attributes:
        first_call: the service's clock when the drain began, in ticks; None before its first answer.
        clock: the service's clock at the last answer, in ticks.
        offset: how the service writes times, UTC as long as that is not known.
        reached: the newest change date that the drain has come to.
    """

    def __init__(self, offset: str | None) -> None:
        self.first_call: int | None = None
        self.clock = 0
        self.offset = offset or UTC
        self._is_offset_known = offset is not None
        self.reached: Instant | None = None

    @property
    def known_offset(self) -> str | None:
        """The offset in which the service writes times, None where that is not known."""
        return self.offset if self._is_offset_known else None

    @property
    def cutoff(self) -> int:
        """The first call: what is dated later belongs to the next drain."""
        assert self.first_call is not None  # noqa: S101 - known from the first answer on
        return self.first_call

    def is_later(self, when: int | None) -> bool:
        """Return whether what is dated so has changed since this drain began."""
        return when is not None and self.cutoff < when <= self.clock + SKEW

    def take(self, page: Page) -> None:
        """Note what time it was at the answer."""
        if self.first_call is None:
            self.first_call = page.clock
        self.clock = page.clock

    def learn_offset(self, end: Instant) -> None:
        """Note how the service has written *end*."""
        self.offset = offset_of(end.text)
        self._is_offset_known = True

    def reach(self, page: Page, upto: int) -> None:
        """Note that the drain has come to the newest date of *page* that is not later than *upto*."""
        newest = newest_upto(page, upto)
        if newest and (self.reached is None or newest.ticks > self.reached.ticks):
            self.reached = newest

    def instant(self, ticks: int) -> Instant:
        """Return *ticks* as the service would write them."""
        return Instant(ticks, write_ticks(ticks, self.offset))
