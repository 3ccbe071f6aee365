"""A subscription of a Service Bus topic over REST: take a message under a lock, and complete it, unlock it, or renew its lock.

What an answer says is read in `broker`, how a request is made lies in `line`, tokens are made in `sas`.

Invariants:

- A message is only ever taken under a lock (peek-lock). What would take it for good before it is stored is not used at all.
- That a lock is lost is no failure: the message comes again.
- A token is made anew before it ends, and once when it is refused, then by the broker's clock: ours may be wrong.
- The token goes to the configured host and nowhere else.

Source: docs/nexus.md, "How messages travel".
"""

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import urlsplit

from delta_mirror.calls.attempts import Attempts, Manners, UnansweredError, asked_pause
from delta_mirror.errors import CredentialsError, DeltaMirrorError, ProtocolError, StreamRefusedError, UnreachableError
from delta_mirror.nexus.broker import Answer, Locked, read_lock, read_locked, subscription_path
from delta_mirror.nexus.line import Line, Route
from delta_mirror.nexus.sas import sign

DEAD_LETTERS = "$DeadLetterQueue"
TOKEN_LIFE = 3600  # seconds
TOKEN_MARGIN = 300  # seconds before its end at which a token is made anew
NO_LOCK = "00000000-0000-0000-0000-000000000000"
NO_ENTITY = b"messaging entity"  # of which the broker speaks where it knows no such topic or subscription
GONE = (404, 410)  # of a message: its lock is lost; of a subscription: there is none

_log = logging.getLogger("delta_mirror.nexus")

Answered = TypeVar("Answered")


@dataclass(frozen=True, slots=True)
class Subscription:
    """Which subscription is received from, and the key that opens it."""

    url: str
    topic: str
    name: str
    key_name: str
    key: str = field(repr=False)


@dataclass(slots=True)
class _Call:
    """Something that is wanted of the broker. `sent` counts the requests."""

    wanted: str
    address_key: str | None = "nexus.service_bus_url"
    sent: int = 0


class Bus:
    """The subscription as one key sees it. Several threads may use it at once, each over a connection of its own.

    `limited` is told until when the broker wants to be left alone (our own seconds since the epoch; None where it named no
    time). `now` is our own clock, `jitter` gives a number from 0 to 1.

    Raises:
        ConfigError: `ca_file` holds no certificates, or the environment's proxy cannot be used.
    """

    def __init__(
        self,
        subscription: Subscription,
        manners: Manners,
        limited: Callable[[float | None], None],
        *,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._subscription = subscription
        self._base = f"{subscription.url}/{subscription_path(subscription.topic, subscription.name)}"
        self._path = urlsplit(self._base).path
        self._manners = manners
        self._now = now
        self._monotonic = monotonic
        self._route = Route(subscription.url, manners.ca_file)
        self._attempts: Attempts[_Call] = Attempts(
            manners, now, lambda _, until: limited(until), sleep=sleep, jitter=jitter, log=_log
        )
        self._turn = threading.Lock()
        self._own = threading.local()
        self._lines: list[Line] = []
        self._takers: set[Line] = set()
        self._token, self._renew_at = "", 0.0
        self._ahead = 0.0  # seconds by which the broker's clock is ahead of ours

    def take(self, seconds: int) -> Locked | None:
        """Return a message under a lock, None where none came within *seconds*, or before `stop_taking` broke it off.

        Raises:
            CredentialsError: the key is refused, or may not listen.
            StreamRefusedError: there is no such subscription, or it cannot be read over REST.
            LimitedError, UnreachableError, ProtocolError: as everywhere.
        """
        call = _Call("a message")
        line = self._line()
        with self._turn:
            self._takers.add(line)

        def attempt() -> Locked | None:
            answer = self._ask(call, "POST", f"{self._path}/messages/head?timeout={seconds}", patience=seconds)
            return self._read(call, answer, lambda: self._locked(answer))

        try:
            return self._attempts.persist(call, attempt)
        except UnreachableError:
            if line.is_down:
                return None
            raise

    def complete(self, locked: Locked) -> bool:
        """Take a message off the subscription for good; return whether its lock still held. Errors as of `take`."""
        return self._settle("completing a message", "DELETE", locked)

    def unlock(self, locked: Locked) -> bool:
        """Give a message back, to be delivered again; return whether its lock still held. Errors as of `take`."""
        return self._settle("unlocking a message", "PUT", locked)

    def renew(self, locked: Locked) -> float | None:
        """Return for how many seconds from now the lock holds anew, None where it is lost. Errors as of `take`.

        A broker that does not say is taken to have given as much as at first.
        """
        call = _Call("renewing the lock of a message")

        def attempt() -> float | None:
            answer = self._ask(call, "POST", locked.target)
            if answer.status in GONE:
                return None
            return self._read(call, answer, lambda: read_lock(answer) if "brokerproperties" in answer.headers else locked.seconds)

        return self._attempts.persist(call, attempt)

    def knock(self) -> None:
        """Return if the broker lets us in, raise if not; nothing is taken, locked or counted as a delivery. Errors as of `take`.

        It is asked to renew a lock that nobody has. What it answers to that, 404 or 410, it answers for a subscription that
        is not there as well, so that only its words can tell of one.
        """
        call = _Call("knocking at the subscription")

        def attempt() -> None:
            answer = self._ask(call, "POST", f"{self._path}/messages/{NO_LOCK}/{NO_LOCK}")
            if answer.status not in GONE or NO_ENTITY in answer.body.lower():
                self._read(call, answer, lambda: None)
            else:
                self._learn(answer)

        self._attempts.persist(call, attempt)

    def has_dead_letters(self) -> bool:
        """Return whether the broker has given messages up; False where it does not tell. Asks once, and fails silently.

        With a key that may only listen this is the one way to know: the oldest of them is looked at, and given back.
        """
        if self._subscription.name.lower().endswith(f"/{DEAD_LETTERS}".lower()):
            return False
        call = _Call("what the broker has given up")
        try:
            answer = self._ask(call, "POST", f"{self._path}/{DEAD_LETTERS}/messages/head?timeout=0")
            if answer.status != 201:
                return False
            locked = read_locked(answer, f"{self._base}/{DEAD_LETTERS}")
            self._ask(call, "PUT", locked.target)
        except (UnansweredError, DeltaMirrorError) as error:
            _log.debug("%s cannot be seen: %s", call.wanted, error)
            return False
        # What does not say that it lies there may be any message: not every gateway knows of that path.
        return locked.is_dead

    def clock_behind(self) -> float:
        """Return by how many seconds our clock is behind the broker's, as its last answer told."""
        return self._ahead

    def calls(self) -> int:
        """Return how many requests were sent."""
        with self._turn:
            return sum(line.sent for line in self._lines)

    def stop_taking(self) -> None:
        """Break off every `take` of other threads, and let none of them take any more."""
        with self._turn:
            takers = list(self._takers)
        for line in takers:
            line.hang_up()

    def close(self) -> None:
        """Break everything off, and let nothing more be asked."""
        with self._turn:
            lines = list(self._lines)
        for line in lines:
            line.hang_up()
            line.close()

    def _locked(self, answer: Answer) -> Locked | None:
        if answer.status == 204:
            return None
        if not {"brokerproperties", "location"} & answer.headers.keys():
            raise UnansweredError(
                "the answer is not the broker's",
                "A gateway, a login page or a maintenance page answers in the broker's place.",
                answer.trace(),
                status=answer.status,
            )
        return read_locked(answer, self._base)

    def _settle(self, wanted: str, method: str, locked: Locked) -> bool:
        call = _Call(wanted)

        def attempt() -> bool:
            answer = self._ask(call, method, locked.target)
            return self._read(call, answer, lambda: True) if answer.status not in GONE else False

        return self._attempts.persist(call, attempt)

    def _ask(self, call: _Call, method: str, target: str, *, patience: float = 0.0) -> Answer:
        """Return the answer to one request, made again with a new token where the first is refused."""
        token = self._authorization()
        line = self._line()
        call.sent += 1
        answer = line.ask(call.wanted, method, target, token, patience=patience)
        if answer.status == 401:
            self._learn(answer)
            answer = line.ask(call.wanted, method, target, self._authorization(refused=token), patience=patience)
        return answer

    def _read(self, call: _Call, answer: Answer, read: Callable[[], Answered]) -> Answered:
        """Return what *read* makes of a good answer, or raise what a bad one means."""
        if not answer.is_good:
            raise _refusal(call, answer)
        found = read()
        self._learn(answer)
        return found

    def _learn(self, answer: Answer) -> None:
        if answer.date is not None:
            self._ahead = answer.date - answer.received

    def _authorization(self, refused: str = "") -> str:
        with self._turn:
            clock = self._now() + self._ahead
            if not self._token or self._token == refused or clock >= self._renew_at:
                self._renew_at = clock + TOKEN_LIFE - TOKEN_MARGIN
                expiry = int(clock) + TOKEN_LIFE
                self._token = sign(self._base, self._subscription.key_name, self._subscription.key, expiry)
            return self._token

    def _line(self) -> Line:
        """Return this thread's own connection."""
        line: Line | None = getattr(self._own, "line", None)
        if line is None:
            line = self._own.line = Line(self._route, self._manners, self._now, self._monotonic)
            with self._turn:
                self._lines.append(line)
        return line


def _refusal(call: _Call, answer: Answer) -> DeltaMirrorError | UnansweredError:
    """Return what the status of a bad *answer* means."""
    status, trace = answer.status, answer.trace()
    if status in (408, 429) or status >= 500:
        trouble = {408: "the broker timed out", 429: "too many calls", 503: "the broker is busy"}.get(status, "the broker failed")
        then = answer.received if answer.date is None else answer.date
        return UnansweredError(
            trouble,
            "Try again later; if it stays, ask whoever runs the Service Bus.",
            trace,
            status=status,
            wait=asked_pause(answer.headers.get("retry-after", ""), then),
        )
    if 300 <= status < 400:
        return ProtocolError(
            f"{call.wanted}: the answer is a redirect, which is not followed ({trace}). Check nexus.service_bus_url, and whether "
            "a login page stands in between."
        )
    if status == 407:
        return UnreachableError(
            f"{call.wanted}: the proxy asks for credentials ({trace}). Give them in the address of the proxy (HTTPS_PROXY), or "
            "exempt the host (NO_PROXY)."
        )
    if status in (401, 403):
        return CredentialsError(
            f"{call.wanted}: the broker does not accept the key ({trace}). Check nexus.key_name and nexus.key, that the key has "
            "the right to listen to this topic, and that the broker lets this machine's address in."
        )
    if status in GONE:
        return StreamRefusedError(
            f"{call.wanted}: the broker knows no such topic or subscription ({trace}). Check nexus.topic, nexus.subscription and "
            "nexus.service_bus_url.",
            status,
        )
    return StreamRefusedError(
        f"{call.wanted}: the broker refuses it ({trace}). Check nexus.topic and nexus.subscription; a subscription that requires "
        "sessions cannot be read over REST.",
        status,
    )
