"""The simulated service's time: ticks of 100 ns, how they are written, and a clock that a test moves.

Invariants:

- Time is an integer: ticks of 100 ns since 0001-01-01T00:00:00 UTC, as a service with seven fraction digits counts.
- The clock moves only when it is told to, unless it was made to run.
- Nothing here is shared with the program under test: what both got wrong alike would stay unseen.
"""

import re
import time
from datetime import UTC, date, datetime
from email.utils import format_datetime
from functools import lru_cache

SECOND = 10_000_000  # ticks
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

_EPOCH = (date(1970, 1, 1).toordinal() - 1) * DAY
_WRITTEN = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,7}))?(Z|[+-]\d\d:\d\d)?", re.ASCII)


class Moment(int):
    """A date-time of a record, in ticks; it becomes text only when an answer is written."""

    __slots__ = ()


def offset_in_ticks(offset: str) -> int:
    """Return how far *offset* (`Z` or `+hh:mm`) lies ahead of UTC."""
    if offset == "Z":
        return 0
    size = int(offset[1:3]) * HOUR + int(offset[4:]) * MINUTE
    return -size if offset.startswith("-") else size


@lru_cache(maxsize=8192)
def written(ticks: int, offset: str = "+00:00") -> str:
    """Return *ticks* with seven fraction digits, on the wall clock of *offset* and with it at the end."""
    day, in_day = divmod(ticks + offset_in_ticks(offset), DAY)
    seconds, fraction = divmod(in_day, SECOND)
    return f"{date.fromordinal(day + 1)}T{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{fraction:07}{offset}"


def ticks_of(text: str) -> int:
    """Return the ticks of a date-time as `written` gives it; without an offset it is UTC.

    Raises:
        ValueError: *text* is no such date-time.
    """
    wall, offset = wall_clock_of(text)
    return wall - offset


def wall_clock_of(text: str) -> tuple[int, int]:
    """Return the ticks that the wall clock of *text* shows, and its offset from UTC.

    Raises:
        ValueError: *text* is no date-time.
    """
    found = _WRITTEN.fullmatch(text)
    if found is None:
        raise ValueError("not a date-time")
    day, hour, minute, second, fraction, offset = found.groups()
    wall = (date.fromisoformat(day).toordinal() - 1) * DAY + int(hour) * HOUR + int(minute) * MINUTE + int(second) * SECOND
    return wall + int((fraction or "").ljust(7, "0")), offset_in_ticks(offset or "Z")


def http_date(ticks: int) -> str:
    """Return *ticks* as an HTTP header writes them, cut to the second."""
    return format_datetime(datetime.fromtimestamp((ticks - _EPOCH) // SECOND, UTC), usegmt=True)


def epoch_seconds(ticks: int) -> float:
    """Return *ticks* as seconds since 1970: what a program's own `time.time` would say at that moment."""
    return (ticks - _EPOCH) / SECOND


START = ticks_of("2026-05-04T12:00:00Z")


class Clock:
    """A clock in ticks: it stands still until it is advanced, or runs on from where it was set.

    `Clock()` stands at a fixed date, `Clock.running()` follows this machine's clock.
    """

    def __init__(self, start: int = START, *, runs: bool = False) -> None:
        self._base = start
        self._started = time.monotonic_ns() if runs else None

    @classmethod
    def running(cls) -> "Clock":
        """Return a clock that shows this machine's time."""
        return cls(_EPOCH + time.time_ns() // 100, runs=True)

    @property
    def now(self) -> int:
        """The ticks that the clock shows."""
        return self._base if self._started is None else self._base + (time.monotonic_ns() - self._started) // 100

    def advance(self, ticks: int) -> None:
        """Move the clock by *ticks*; it does not go back.

        Raises:
            ValueError: *ticks* is negative.
        """
        if ticks < 0:
            raise ValueError("the clock of the world does not go back")
        self._base += ticks
