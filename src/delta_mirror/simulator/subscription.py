"""A subscription of a broker, as far as those who receive from it can tell: locks, redelivery, dead letters.

Invariants:

- What is published is delivered until it is completed under a lock that still holds, or is given up: at least once.
- Time is the clock's that was given; a lock ends when that clock says so.
- A message that was delivered `max_delivery_count` times and not completed is given up: it lies among the dead letters.
- Nothing of the program under test is imported here.
"""

import heapq
from collections import deque
from dataclasses import dataclass, field
from random import Random
from typing import Literal
from uuid import UUID

from delta_mirror.simulator.clock import SECOND, Clock


@dataclass(frozen=True, slots=True)
class BusDials:
    """How a broker may behave.

    Attributes:
        lock_seconds: for how long a message is locked.
        max_delivery_count: after how many deliveries it is given up.
        order: in which order messages are delivered.
        duplicates: which part of what is published is published once more, under the same MessageId.
        location: what the header Location is: the whole address, its path, what stands beside the address that was asked, an
            address of another host, or not there.
        properties: whether BrokerProperties is there.
        date_header: whether Date is there.
        patience: the longest that a question for a message is kept waiting, in real seconds; less than was asked for is how
            a partitioned broker answers.
        latency: real seconds that every answer takes.
    """

    lock_seconds: float = 60.0
    max_delivery_count: int = 10
    order: Literal["arrival", "random"] = "arrival"
    duplicates: float = 0.0
    location: Literal["whole", "path", "beside", "foreign", "none"] = "whole"
    properties: bool = True
    date_header: bool = True
    patience: float = 60.0
    latency: float = 0.0


@dataclass(slots=True)
class Message:
    """One message; `count` is how often it was delivered, `token` names the lock that it is under, None where under none."""

    body: bytes
    message_id: str
    sequence: int
    enqueued: int
    count: int = 0
    token: str | None = None
    locked_until: int = 0


@dataclass(slots=True)
class SimulatedSubscription:
    """What a broker knows of one subscription. Not for several threads at once.

    Attributes:
        completed: the MessageIds in the order in which they were completed.
        dead: where what is given up goes; None where nothing ever is.
    """

    clock: Clock
    dials: BusDials = field(default_factory=BusDials)
    seed: int = 1
    completed: list[str] = field(default_factory=list)
    dead: "SimulatedSubscription | None" = None
    _waiting: deque[Message] = field(default_factory=deque)
    _locked: dict[str, Message] = field(default_factory=dict)
    _ends: list[tuple[int, str]] = field(default_factory=list)  # a heap of locks by their end, those that are gone too
    _sequence: int = 0
    _dice: Random = field(default_factory=Random)

    def __post_init__(self) -> None:
        self._dice.seed(self.seed)

    def publish(self, body: bytes, message_id: str | None = None) -> None:
        """Let *body* be delivered, under a MessageId of its own where none is given."""
        name = message_id or UUID(int=self._dice.getrandbits(128), version=4).hex
        for _ in range(2 if self._dice.random() < self.dials.duplicates else 1):
            self._sequence += 1
            self._waiting.append(Message(body, name, self._sequence, self.clock.now))

    @property
    def left(self) -> int:
        """How many messages are neither completed nor given up."""
        self._expire()
        return len(self._waiting) + len(self._locked)

    @property
    def locked(self) -> int:
        """How many messages are under a lock now."""
        self._expire()
        return len(self._locked)

    def take(self) -> Message | None:
        """Return the next message, locked; None where there is none now."""
        self._expire()
        if not self._waiting:
            return None
        if self.dials.order == "random":
            self._waiting.rotate(-self._dice.randrange(len(self._waiting)))
        message = self._waiting.popleft()
        message.count += 1
        self._lock(message)
        return message

    def under(self, token: str) -> Message | None:
        """Return the message under this lock, None where it no longer holds."""
        self._expire()
        return self._locked.get(token)

    def complete(self, token: str) -> bool:
        """Take the message under this lock off; return whether the lock still held."""
        message = self._unlocked(token)
        if message is not None:
            self.completed.append(message.message_id)
        return message is not None

    def unlock(self, token: str) -> bool:
        """Let the message under this lock be delivered again; return whether the lock still held."""
        message = self._unlocked(token)
        if message is not None:
            self._give_back(message)
        return message is not None

    def renew(self, token: str) -> Message | None:
        """Return the message under this lock, which lasts anew; None where the lock no longer holds."""
        message = self._unlocked(token)
        if message is not None:
            self._lock(message, token)
        return message

    def _unlocked(self, token: str) -> Message | None:
        self._expire()
        return self._locked.pop(token, None)

    def _lock(self, message: Message, token: str | None = None) -> None:
        message.token = token or str(UUID(int=self._dice.getrandbits(128), version=4))
        message.locked_until = self.clock.now + round(self.dials.lock_seconds * SECOND)
        self._locked[message.token] = message
        heapq.heappush(self._ends, (message.locked_until, message.token))

    def _expire(self) -> None:
        now = self.clock.now
        while self._ends and self._ends[0][0] <= now:
            _, token = heapq.heappop(self._ends)
            message = self._locked.get(token)
            if message is not None and message.locked_until <= now:
                del self._locked[token]
                self._give_back(message)

    def _give_back(self, message: Message) -> None:
        message.token = None
        if self.dead is not None and message.count >= self.dials.max_delivery_count:
            self.dead._waiting.append(message)
        else:
            self._waiting.appendleft(message)
