"""How far back a drain starts, and when that leaves a gap.

Invariants:

- Freshness is `caught_up_at`, never the watermark: the watermark of a quiet stream grows old although nothing is missing.
- A drain starts at the earlier of watermark and `caught_up_at`, less the overlap. One record that is dated a month ahead can
  therefore not push the start past the changes of the month between.
- A `caught_up_at` that lies ahead of now was noted by a clock that has been set right since, and where the service sends no Date
  that clock was ours. Nobody knows when it really was: the watermark, which is the service's own, is gone by alone.
- The feed reaches back seven days. Nothing asks further back than that less a margin; what would have to is a gap.
- A service may read the wall clock of StartDate and ignore its offset. Until a change date has shown in which offset it writes,
  a drain that follows another starts twelve hours earlier: no zone lies further behind UTC, and there is nothing to read twice.
- A start is a whole minute: a service that reads StartDate to the millisecond, to 1/300 s, or rounds it, reads a whole minute
  as it is meant.
"""

from dataclasses import dataclass

from delta_mirror.core.values import DAY, HOUR, MINUTE

REACH = 7 * DAY - 10 * MINUTE  # how far back the feed can be asked: its seven days with a margin
WESTERNMOST = 12 * HOUR  # the furthest that a zone lies behind UTC
DEEP = DAY  # how far behind `caught_up_at` the first drain of each UTC day starts


@dataclass(frozen=True, slots=True)
class Window:
    """Where one drain starts, in ticks.

    What is dated before `usual` and still brings a change has become visible late: an ordinary drain would not have met it.
    `limit` is how far back the feed can be asked at all. `gap` is the time (from, to) that the feed can no longer tell of,
    None where there is none.
    """

    start: int
    usual: int
    limit: int
    gap: tuple[int, int] | None


def open_window(
    *,
    now: int,
    overlap: int,
    first_window: int,
    watermark: int | None = None,
    caught_up: int | None = None,
    since: int | None = None,
    offset_known: bool,
) -> Window:
    """Return where a drain that begins at *now* starts; all arguments are ticks.

    *since* is an operator's own wish, which is followed as it is. A stream that was never drained to its end starts
    *first_window* back, or at the place where a starter left it (*caught_up*, *watermark*).
    """
    limit = _whole_minute_after(now - REACH)
    if caught_up is None:
        usual = now - first_window if watermark is None else watermark - overlap
        start, gap = usual, None
    else:
        if caught_up > now:
            caught_up = max(limit + overlap, min(watermark or 0, now))
        behind = caught_up if watermark is None else min(watermark, caught_up)
        usual = max(behind - overlap, caught_up - DEEP)
        first_of_the_day = now // DAY != caught_up // DAY
        start = min(usual, caught_up - DEEP) if first_of_the_day else usual
        if not offset_known:
            start -= WESTERNMOST
        gap = (caught_up, limit) if caught_up - overlap < now - REACH else None
    usual = max(_whole_minute_before(usual), limit)
    if since is not None:
        return Window(since, usual, limit, None)
    return Window(max(_whole_minute_before(start), limit), usual, limit, gap)


def _whole_minute_before(ticks: int) -> int:
    return ticks - ticks % MINUTE


def _whole_minute_after(ticks: int) -> int:
    return ticks + -ticks % MINUTE
