"""The messages in hand: taken from the broker under a lock, not yet settled with it.

Invariants:

- No more are in hand, or on their way, than may be: one at first, and twice as many after each batch that was stored. A mirror
  that cannot be written costs a single message one of the deliveries after which a broker gives it up, and not a thousand.
- The end is there when as many have come as are wanted, when the reception was shut, or when nothing has come for as long as was
  asked while somebody was asking. Nothing is handed on after it but what has come before.
- Nothing here waits for the network: whoever calls does.
"""

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass

from delta_mirror.nexus.broker import Locked

MOST = 1000  # messages in hand
MOST_BYTES = 64 * 1024 * 1024  # of their bodies; pictures are large
LINGER = 0.1  # seconds for which a batch may grow: to commit a hundred messages to disk takes hardly longer than to commit one
LOOK_AROUND = 0.2  # seconds between two looks at the clock
LONGEST_QUESTION = 30  # seconds; what stands between here and the broker may cut longer silences


@dataclass(slots=True)
class _Held:
    locked: Locked
    renew_at: float


class InHand:
    """What receivers, the one that stores, and settlers tell each other. Several threads use it at once.

    *wait* is for how many seconds nothing may come, *wanted* how many messages may come at most, None for all. *clock* is
    monotonic.
    """

    def __init__(self, wait: float, wanted: int | None, clock: Callable[[], float]) -> None:
        self._wait = wait
        self._wanted = wanted
        self._clock = clock
        turn = threading.RLock()
        self._room = threading.Condition(turn)  # receivers wait for it
        self._news = threading.Condition(turn)  # the one that stores waits for it
        self._limit = 1
        self._asking = 0
        self._came = 0
        self._bytes = 0
        self._held: dict[str, _Held] = {}
        self._pending: list[Locked] = []
        self._first_at = 0.0  # when the oldest of the pending ones came
        self._quiet_from = clock()
        self._came_up_empty = False  # since then
        self._is_shut = False

    # Receivers

    def ask(self) -> int | None:
        """Return for how many seconds the broker is to be asked for a message, None where no more is wanted. May take long."""
        with self._room:
            while not self._is_over():
                if self._may_ask():
                    now = self._clock()
                    if not self._asking and not self._came_up_empty:
                        self._quiet_from = now  # that nothing came while nobody asked says nothing
                    self._asking += 1
                    return min(max(math.ceil(self._quiet_from + self._wait - now), 0), LONGEST_QUESTION)
                self._room.wait(LOOK_AROUND)
            self._room.notify_all()
            self._news.notify()
            return None

    def came(self, locked: Locked) -> None:
        """Take in that a question brought a message."""
        with self._room:
            now = self._clock()
            self._asking -= 1
            self._came += 1
            self._bytes += len(locked.delivery.body)
            self._held[locked.target] = _Held(locked, now + locked.seconds / 2)
            if not self._pending:
                self._first_at = now
            self._pending.append(locked)
            self._quiet_from, self._came_up_empty = now, False
            if len(self._pending) == 1 or self._is_ripe():
                self._news.notify()

    def came_up_empty(self) -> None:
        """Take in that a question brought nothing."""
        with self._room:
            self._asking -= 1
            self._came_up_empty = True
            if not self._asking:
                self._news.notify()
                self._room.notify_all()

    def shut(self) -> None:
        """Let nothing more be asked."""
        with self._room:
            self._is_shut = True
            self._news.notify()
            self._room.notify_all()

    # The one that stores

    def batch(self, is_patient: Callable[[], bool]) -> list[Locked]:
        """Return what is to be stored next, nothing at the end.

        *is_patient* is called now and then; once it says no, what has come is returned at once, and what has been asked for is
        not waited for.
        """
        with self._news:
            while True:
                hurries = not is_patient()
                if self._pending and (hurries or self._is_ripe()):
                    return self.rest()
                if not self._pending and (hurries or self._is_over()) and (hurries or not self._asking):
                    return []
                self._news.wait(LINGER if self._pending else LOOK_AROUND)

    def rest(self) -> list[Locked]:
        """Return what has come and was not handed on yet."""
        with self._news:
            rest, self._pending = self._pending, []
            return rest

    def stored(self) -> None:
        """Take in that a batch could be stored: more may be in hand."""
        with self._room:
            self._limit = min(self._limit * 2, MOST)
            self._room.notify_all()

    # Settlers

    def settled(self, locked: Locked) -> None:
        """Forget *locked*: it is no longer in hand, whatever became of it."""
        with self._room:
            if self._held.pop(locked.target, None) is not None:
                self._bytes -= len(locked.delivery.body)
                self._room.notify()

    def due(self) -> list[Locked]:
        """Return the messages whose locks are to be renewed now; none is returned again before it was renewed."""
        with self._room:
            now = self._clock()
            due = [held for held in self._held.values() if held.renew_at <= now]
            for held in due:
                held.renew_at = math.inf
            return [held.locked for held in due]

    def renewed(self, locked: Locked, seconds: float) -> None:
        """Take in that the lock of *locked* holds for so many seconds from now."""
        with self._room:
            held = self._held.get(locked.target)
            if held is not None:
                held.renew_at = self._clock() + seconds / 2

    # Whoever has the turn

    def _may_ask(self) -> bool:
        is_wanted = self._wanted is None or self._came + self._asking < self._wanted
        return is_wanted and self._has_room() and self._bytes < MOST_BYTES and not self._is_quiet()

    def _has_room(self) -> bool:
        return self._asking + len(self._held) < self._limit

    def _is_quiet(self) -> bool:
        return self._came_up_empty and self._clock() - self._quiet_from >= self._wait

    def _is_over(self) -> bool:
        if self._is_shut or (self._wanted is not None and self._came >= self._wanted):
            return True
        # While somebody still asks, a message may come yet, and then it is not quiet.
        return self._is_quiet() and not self._asking

    def _is_ripe(self) -> bool:
        """Return whether a batch should not grow any more: nothing can come just now, or it has had its time."""
        is_stuck = not self._asking and not self._has_room()
        return is_stuck or self._is_over() or self._clock() - self._first_at >= LINGER
