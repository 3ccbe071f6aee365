"""The maintenance window of the service: the hours of each day in which it may be slow, or not there at all.

Invariants:

- The window is what clocks on the wall show in the zone of the service: on the day on which they are put forward or back it is
  an hour shorter or longer, as the work of people who look at those clocks is.
- It may pass midnight. It begins with its first minute and ends before its last.
- Only that the service is not there for us is expected: what it refuses, and what an operator has to mend, never is.
"""

from dataclasses import dataclass
from datetime import datetime, tzinfo

from delta_mirror.errors import LimitedError, UnreachableError

AFTERMATH = 15 * 60.0  # seconds; a pause of up to this, asked for within the window, may outlast it


@dataclass(frozen=True, slots=True)
class Maintenance:
    """The window of each day from *start* to *end*, in minutes from midnight, by the clocks of *zone*."""

    start: int
    end: int
    zone: tzinfo

    def covers(self, epoch: float) -> bool:
        """Return whether the moment, in seconds since the epoch, lies within the window."""
        there = datetime.fromtimestamp(epoch, self.zone)
        minute = there.hour * 60 + there.minute
        if self.start < self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end

    def explains(self, error: Exception, epoch: float) -> bool:
        """Return whether *error*, met at that moment, is a failure of the service that the window leads one to expect."""
        if isinstance(error, LimitedError) and error.noted_at is not None:
            is_short = error.until is not None and error.until - error.noted_at <= AFTERMATH
            return self.covers(epoch) or (is_short and self.covers(error.noted_at))
        return isinstance(error, UnreachableError | LimitedError) and self.covers(epoch)
