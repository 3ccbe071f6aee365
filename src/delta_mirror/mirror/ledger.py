"""The ledger of calls: what may be sent to the public API now, over all runs and all streams.

Invariants:

- A call is counted before it is sent, in a small transaction of its own, committed: a run that is killed has counted it.
- In any 60 seconds no more than `calls_per_minute` are admitted, over all locations; who is too early waits, and nobody else
  waits for him.
- On a UTC day no more than `calls_per_day` are admitted per location. No stream eats what the other configured streams of
  its location have not used of their shares; what they will not need any more today is free for all.
- Where the service has told us to stop, nothing of that location is admitted before the time it named, in later runs too.
- A clock that was set back blocks nothing: times that lie in the future of the clock by which they were noted do not count.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping

import orjson

from delta_mirror.core.model import Stream
from delta_mirror.errors import BudgetError, LimitedError
from delta_mirror.mirror.file import own_time
from delta_mirror.mirror.write import Mirror, Transaction

MINUTE = 60.0  # seconds
DAY = 86_400  # seconds
PAUSE = 15 * MINUTE  # seconds without a call where the service names no time: calls made while limited prolong the limit
SHORTEST_WAIT = 0.01  # seconds, so that rounding cannot make us wait for nothing again and again


class Ledger:
    """Admits calls, one at a time; may be used from several threads.

    *streams* are the configured ones, which share the days of their locations. *now* is our own clock, by which minutes and
    pauses are measured; *clock* the service's, whose UTC day counts (None: our own). Both in seconds since the epoch.
    A limit of 0 is none.
    """

    def __init__(
        self,
        mirror: Mirror,
        calls_per_minute: int,
        calls_per_day: int,
        streams: Iterable[Stream],
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._mirror = mirror
        self._calls_per_minute = calls_per_minute
        self._calls_per_day = calls_per_day
        self._streams = frozenset(streams)
        self._now = now
        self._sleep = sleep
        self._clock = clock or now

    def share(self, streams: Iterable[Stream]) -> None:
        """Let *streams*, the configured ones, share the days of their locations from now on."""
        self._streams = frozenset(streams)

    def check(self, stream: Stream) -> None:
        """Raise LimitedError where the service has told us to stop, and its time is not over; count nothing."""
        with self._mirror.transaction() as tx:
            self._heed_pause(tx, stream, self._now())

    def admit(self, stream: Stream) -> None:
        """Count one call of *stream*, which may then be sent; wait where the minute is full.

        Raises:
            LimitedError: the service has told us to stop, and its time is not over; nothing was counted.
            BudgetError: the day's calls of the location, or what this stream may have of them, are spent; nothing was
                counted.
        """
        while (wait := self._try_to_admit(stream)) > 0:
            self._sleep(wait)  # outside the transaction: others go on meanwhile

    def limited(self, stream: Stream, until: float | None) -> None:
        """Remember that nothing of the location of *stream* may be called before *until*; None takes a pause of our own."""
        now = self._now()
        ends = now + PAUSE if until is None else until
        reason = "the service limited us and named no time" if until is None else "the service named this time"
        with self._mirror.transaction() as tx:
            tx.execute(
                "insert into _pauses (tenant_id, location_id, until, reason, set_at) values (?, ?, ?, ?, ?) "
                "on conflict (tenant_id, location_id) do update set until = excluded.until, reason = excluded.reason, "
                # The later of two times, unless the earlier note bears a date that our clock has not reached.
                "set_at = excluded.set_at where excluded.until > until or set_at > excluded.set_at",
                (stream.tenant_id, stream.location_id, ends, reason, now),
            )

    def _try_to_admit(self, stream: Stream) -> float:
        """Count one call and return 0, or count nothing and return how many seconds to wait."""
        with self._mirror.transaction() as tx:
            now = self._now()
            self._heed_pause(tx, stream, now)
            used = self._heed_day(tx, stream)
            wait = self._heed_minute(tx, now)
            if wait > 0:
                return wait
            if self._calls_per_minute:
                tx.execute("insert into _call_times (at) values (?)", (now,))
            used[stream.entity] = used.get(stream.entity, 0) + 1
            tx.execute(
                "insert into _calls (tenant_id, location_id, day, calls, by_entity) values (?, ?, ?, 1, ?) "
                "on conflict (tenant_id, location_id, day) do update set calls = calls + 1, by_entity = excluded.by_entity",
                (stream.tenant_id, stream.location_id, self._day(), orjson.dumps(used).decode()),
            )
            return 0.0

    def _day(self) -> str:
        return own_time(self._clock())[:10]

    def _heed_pause(self, tx: Transaction, stream: Stream, now: float) -> None:
        found = tx.execute(
            "select until from _pauses where tenant_id = ? and location_id = ? and until > ? and set_at <= ?",
            (stream.tenant_id, stream.location_id, now, now),
        ).fetchone()
        if found is not None:
            raise LimitedError(
                f"{_name(stream)}: the service told us to stop calling until {own_time(found[0])}; nothing was called. "
                "A run after that time goes on",
                found[0],
            )

    def _heed_day(self, tx: Transaction, stream: Stream) -> dict[str, int]:
        """Return how many calls each entity of the location has used today, if *stream* may use one more."""
        found = tx.execute(
            "select calls, by_entity from _calls where tenant_id = ? and location_id = ? and day = ?",
            (stream.tenant_id, stream.location_id, self._day()),
        ).fetchone()
        calls, used = (0, {}) if found is None else (int(found[0]), dict[str, int](orjson.loads(found[1])))
        if not self._calls_per_day:
            return used
        second_of_day = self._clock() % DAY
        reset = own_time(self._clock() - second_of_day + DAY)
        if calls >= self._calls_per_day:
            raise BudgetError(
                f"{_name(stream)}: the {self._calls_per_day} calls of this day ([dds] calls_per_day) are spent; "
                f"they are given anew at {reset}"
            )
        if calls + self._reserved(stream, used, 1 - second_of_day / DAY) >= self._calls_per_day:
            raise BudgetError(
                f"{_name(stream)}: what is left of the {self._calls_per_day} calls of this day ([dds] calls_per_day) is kept "
                f"for the other entities of the location; they are given anew at {reset}"
            )
        return used

    def _reserved(self, stream: Stream, used: Mapping[str, int], left_of_day: float) -> int:
        """Return how many calls are kept for the other streams of the location: of their shares what the day still needs.

        What has been lent in the course of the day, to streams that needed more than their share, is gone; those that have
        not used up theirs bear it in equal parts. Without that, a stream that comes late would find everything reserved for
        one that has just had its part.
        """
        sharing = {each for each in self._streams if each[:2] == stream[:2]} | {stream}
        share, rest = divmod(self._calls_per_day, len(sharing))
        within = [min(used.get(each.entity, 0), share) for each in sharing]
        lent = max(0, sum(used.values()) - sum(within) - rest)
        lenders = sum(part < share for part in within)
        kept = share - math.ceil(lent / lenders) if lenders else 0
        needed = math.ceil(share * left_of_day)
        return sum(max(0, min(kept - used.get(other.entity, 0), needed)) for other in sharing - {stream})

    def _heed_minute(self, tx: Transaction, now: float) -> float:
        """Return how many seconds to wait until the last 60 have room for one more call; 0 where they have."""
        if not self._calls_per_minute:
            return 0.0
        tx.execute("delete from _call_times where at <= ?", (now - MINUTE,))
        times: list[float] = [at for (at,) in tx.execute("select at from _call_times where at <= ? order by at", (now,))]
        if len(times) < self._calls_per_minute:
            return 0.0
        return max(SHORTEST_WAIT, times[-self._calls_per_minute] + MINUTE - now)


def _name(stream: Stream) -> str:
    return f"{stream.entity} of tenant {stream.tenant_id}, location {stream.location_id}"
