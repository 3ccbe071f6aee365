"""The ledger of calls: what may be sent to the public API now, over all runs and all streams.

Invariants:

- A call is counted before it is sent, in a small transaction of its own, committed: a run that is killed has counted it.
- In any 60 seconds no more than `calls_per_minute` are admitted, over all locations; who is too early waits, and nobody else
  waits for him.
- On a UTC day no more than `calls_per_day` are admitted per location. No stream eats what the other configured streams of
  its location have not used of their shares; what they will not need any more today is free for all.
- Where the service has told us to stop, nothing of that location is admitted before the time it named, in later runs too; where
  its marketplace has, nothing of any location.
- Whoever has used most of a day is warned, once a run and location, while there is still something left.
- A clock that was set back blocks nothing: times that lie in the future of the clock by which they were noted do not count.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import orjson

from delta_mirror.core.model import Stream
from delta_mirror.errors import BudgetError, LimitedError
from delta_mirror.mirror.file import own_time
from delta_mirror.mirror.read import ACCOUNT
from delta_mirror.mirror.transaction import Transaction
from delta_mirror.mirror.write import Mirror

MINUTE = 60.0  # seconds
DAY = 86_400  # seconds
PAUSE = 15 * MINUTE  # seconds without a call where the service names no time: calls made while limited prolong the limit
SHORTEST_WAIT = 0.01  # seconds, so that rounding cannot make us wait for nothing again and again
MOST = 0.8  # of a day; who has used so much is warned
NAMED = "the service named this time"

_log = logging.getLogger("delta_mirror.ledger")


class _Day(NamedTuple):
    """What a location has used of one UTC day, together and by entity."""

    calls: int
    by_entity: dict[str, int]


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
        self._sharing: dict[tuple[int, int], frozenset[Stream]] = {}
        self.share(streams)
        self._now = now
        self._sleep = sleep
        self._clock = clock or now
        self._warned: set[tuple[int, int]] = set()

    def share(self, streams: Iterable[Stream]) -> None:
        """Let *streams*, the configured ones, share the days of their locations from now on."""
        by_place: dict[tuple[int, int], set[Stream]] = {}
        for stream in streams:
            by_place.setdefault(stream[:2], set()).add(stream)
        self._sharing = {place: frozenset(sharing) for place, sharing in by_place.items()}

    def sharing(self, tenant_id: int, location_id: int) -> frozenset[Stream]:
        """Return the configured streams that share the days of this location; each call asks, so that it is looked up."""
        return self._sharing.get((tenant_id, location_id), frozenset())

    def check(self, stream: Stream | None) -> None:
        """Raise where nothing of the location of *stream* may be called now, the marketplace included; count nothing.

        None asks for the account: whether anything may be called at all.

        Raises:
            LimitedError: the service has told us to stop, and its time is not over.
            BudgetError: the day's calls of the location, or what this stream may have of them, are spent.
        """
        with self._mirror.transaction() as tx:
            now = self._now()
            self._heed_pause(tx, stream, now)
            if stream is None:
                self._heed_pauses_everywhere(tx, now)
            elif self._is_newest_day(tx, stream):
                self._heed_day(tx, stream)

    def admit(self, stream: Stream) -> None:
        """Count one call of *stream*, which may then be sent; wait where the minute is full.

        Raises:
            LimitedError: the service has told us to stop, and its time is not over; nothing was counted.
            BudgetError: the day's calls of the location, or what this stream may have of them, are spent; nothing was
                counted.
        """
        while (wait := self._try_to_admit(stream)) > 0:
            self._sleep(wait)  # outside the transaction: others go on meanwhile

    def limited(self, stream: Stream | None, until: float | None, reason: str = "the service limits our calls") -> None:
        """Remember that nothing of the location of *stream* may be called before *until*; None takes a pause of our own.

        None for *stream* is the marketplace, without which no location can be asked. *reason* is for messages.
        """
        now = self._now()
        ends = now + PAUSE if until is None else until
        why = f"{reason} and named no time" if until is None else NAMED
        with self._mirror.transaction() as tx:
            tx.execute(
                "insert into _pauses (tenant_id, location_id, until, reason, set_at) values (?, ?, ?, ?, ?) "
                "on conflict (tenant_id, location_id) do update set until = excluded.until, reason = excluded.reason, "
                # The later of two times, unless the earlier note bears a date that our clock has not reached.
                "set_at = excluded.set_at where excluded.until > until or set_at > excluded.set_at",
                (*_place(stream), ends, why, now),
            )

    def _try_to_admit(self, stream: Stream) -> float:
        """Count one call and return 0, or count nothing and return how many seconds to wait."""
        with self._mirror.transaction() as tx:
            now = self._now()
            self._heed_pause(tx, stream, now)
            calls, used = self._heed_day(tx, stream)
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
            is_late = self._calls_per_day and calls + 1 >= self._calls_per_day * MOST and stream[:2] not in self._warned
            if is_late:
                self._warned.add(stream[:2])  # here, where the threads take turns
        if is_late:
            _log.warning(
                "tenant %d, location %d: %d of the %d calls of this day ([dds] calls_per_day) are spent; they are given anew at "
                "%s. Run less often or follow fewer entities, or raise the limit if the vendor may charge for it",
                stream.tenant_id,
                stream.location_id,
                calls + 1,
                self._calls_per_day,
                self._reset(),
            )
        return 0.0

    def _day(self) -> str:
        return own_time(self._clock())[:10]

    def _reset(self) -> str:
        """Return when the next UTC day of the service begins."""
        return own_time(self._clock() // DAY * DAY + DAY)

    def _heed_pause(self, tx: Transaction, stream: Stream | None, now: float) -> None:
        found = tx.execute(
            "select until, reason, set_at from _pauses where until > ? and set_at <= ? and (tenant_id, location_id) in "
            "(values (?, ?), (?, ?)) order by until desc",
            (now, now, *_place(stream), *ACCOUNT),
        ).fetchone()
        if found is not None:
            raise _pause_error(_name(stream), *found)

    def _heed_pauses_everywhere(self, tx: Transaction, now: float) -> None:
        """Raise LimitedError where every location that the mirror has met is to be left alone; the first one ends it."""
        found = tx.execute(
            "select min(coalesce(until, 0)), reason, set_at from (select distinct tenant_id, location_id from _streams) "
            "left join (select * from _pauses where until > ? and set_at <= ?) using (tenant_id, location_id)",
            (now, now),
        ).fetchone()
        if found[0]:
            raise _pause_error("every location", *found)

    def _is_newest_day(self, tx: Transaction, stream: Stream) -> bool:
        """Return whether no call of the location was counted on a later day than today.

        Before the service has answered, today is by our own clock. Where that is days behind, calls of today were counted on
        what is a later day to it, and an old day must not be taken for today.
        """
        found = tx.execute(
            "select max(day) from _calls where tenant_id = ? and location_id = ?", (stream.tenant_id, stream.location_id)
        ).fetchone()
        return bool(found[0] == self._day())

    def _heed_day(self, tx: Transaction, stream: Stream) -> _Day:
        """Return what the location has used today, if *stream* may use one call more."""
        found = tx.execute(
            "select calls, by_entity from _calls where tenant_id = ? and location_id = ? and day = ?",
            (stream.tenant_id, stream.location_id, self._day()),
        ).fetchone()
        day = _Day(0, {}) if found is None else _Day(int(found[0]), orjson.loads(found[1]))
        if not self._calls_per_day:
            return day
        if day.calls >= self._calls_per_day:
            raise BudgetError(
                f"{_name(stream)}: the {self._calls_per_day} calls of this day ([dds] calls_per_day) are spent; "
                f"they are given anew at {self._reset()}"
            )
        left_of_day = 1 - self._clock() % DAY / DAY
        if day.calls + self._reserved(stream, day.by_entity, left_of_day) >= self._calls_per_day:
            raise BudgetError(
                f"{_name(stream)}: what is left of the {self._calls_per_day} calls of this day ([dds] calls_per_day) is kept "
                f"for the other entities of the location; they are given anew at {self._reset()}"
            )
        return day

    def _reserved(self, stream: Stream, used: Mapping[str, int], left_of_day: float) -> int:
        """Return how many calls are kept for the other streams of the location: of their shares what the day still needs.

        What has been lent in the course of the day, to streams that needed more than their share, is gone; those that have
        not used up theirs bear it in equal parts. Without that, a stream that comes late would find everything reserved for
        one that has just had its part.
        """
        sharing = self.sharing(stream.tenant_id, stream.location_id) | {stream}
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


def _place(stream: Stream | None) -> tuple[int, int]:
    return ACCOUNT if stream is None else (stream.tenant_id, stream.location_id)


def _name(stream: Stream | None) -> str:
    return "the account" if stream is None else f"{stream.entity} of tenant {stream.tenant_id}, location {stream.location_id}"


def _pause_error(who: str, until: float, reason: str, set_at: float) -> LimitedError:
    why = "the service told us to stop calling" if reason == NAMED else f"{reason}; left alone"
    message = f"{who}: {why} until {own_time(until)}; nothing was called. A run after that time goes on"
    return LimitedError(message, until, set_at)
