"""A call in as many attempts as it is worth: when it is made again, how long is waited before, and what it ends in.

This is the one home of tenacity. An attempt that is worth another one ends in an UnansweredError, which goes no further than
`Attempts.persist`.

Invariants:

- A call is given up once it has sent `attempts` requests.
- A pause grows with every attempt, up to `max_wait`, and is never shorter than the service asks for. Where the service asks
  for more than `max_wait`, the call is given up at once.
- No exception of tenacity leaves this module, and no UnansweredError leaves `persist`.
"""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, cast

from delta_mirror.errors import DeltaMirrorError, LimitedError, UnreachableError

if TYPE_CHECKING:
    from tenacity import RetryCallState

FIRST_WAIT = 1.0  # seconds, doubled with every further attempt
LONGEST_STOP = 7 * 86400.0  # seconds; a Retry-After beyond it is a slip, and must not stop the mirror for ever

_SECONDS = re.compile(r"\d{1,18}(?:\.\d+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Manners:
    """How patiently a service is asked.

    `timeout` (seconds) holds for connecting and for each wait for bytes. `attempts` counts the first one. `max_wait` is the
    longest pause between two attempts, in seconds. `ca_file` is a file of certificate authorities that takes the place of the
    usual ones, empty for the usual ones.
    """

    timeout: float
    attempts: int
    max_wait: float
    ca_file: str


class Call(Protocol):
    """Something that is wanted of a service.

    `wanted` says in messages what is asked for. `address_key` is the key of the configuration that gives the address, None
    where none does. `sent` counts the requests so far.
    """

    wanted: str
    address_key: str | None
    sent: int


AnyCall = TypeVar("AnyCall", bound=Call)
Answered = TypeVar("Answered")


class UnansweredError(Exception):
    """One attempt without a usable answer, worth another one.

    `wait` is for how many seconds the service asks, None where for none. `status` is None where no answer came.
    """

    def __init__(self, trouble: str, advice: str, trace: str, *, status: int | None = None, wait: float | None = None) -> None:
        super().__init__(trouble)
        self.trouble = trouble
        self.advice = advice
        self.trace = trace
        self.status = status
        self.wait = wait


class Attempts(Generic[AnyCall]):
    """Makes attempts. Several threads may use it at once.

    `limited` is told of every call that the service stops, and until when (our own seconds since the epoch, `now`) where it
    said. `jitter` gives a number from 0 to 1. `log` is where attempts that are made again are told.
    """

    def __init__(
        self,
        manners: Manners,
        now: Callable[[], float],
        limited: Callable[[AnyCall, float | None], None],
        *,
        sleep: Callable[[float], None],
        jitter: Callable[[], float],
        log: logging.Logger,
    ) -> None:
        self._manners = manners
        self._now = now
        self._limited = limited
        self._sleep = sleep
        self._jitter = jitter
        self._log = log

    def persist(self, call: AnyCall, attempt: Callable[[], Answered]) -> Answered:
        """Return what *attempt* brings, made again while it ends in an UnansweredError and is worth it.

        Raises:
            LimitedError: the service asks for a longer pause than `max_wait`, or limits us to the last attempt; `limited` has
                been told.
            UnreachableError: the attempts are used up otherwise.
        """
        try:
            return attempt()  # nearly always the only one, and then tenacity would take longer than the rest of a small call
        except UnansweredError as error:
            first = [error]
        from tenacity import Retrying, retry_if_exception_type  # most runs need none of it

        def go_on() -> Answered:
            if first:
                raise first.pop()
            return attempt()

        retrying = Retrying(
            stop=lambda state: call.sent >= self._manners.attempts or self._is_told_to_stop(_last(state)),
            wait=lambda state: self._pause(call, _last(state)),
            sleep=self._sleep,
            retry=retry_if_exception_type(UnansweredError),
            before_sleep=lambda state: self._warn(call, _last(state), state.upcoming_sleep),
            reraise=True,
        )
        try:
            return retrying(go_on)
        except UnansweredError as last:
            raise self._give_up(call, last) from last

    def _is_told_to_stop(self, last: UnansweredError) -> bool:
        return last.wait is not None and last.wait > self._manners.max_wait

    def _pause(self, call: AnyCall, last: UnansweredError) -> float:
        own = FIRST_WAIT * 2.0 ** min(call.sent - 1, 30) * (1 + self._jitter())
        # A short Retry-After does not shorten the pause: a service that answers "0" to all would be asked at full speed.
        return max(min(own, self._manners.max_wait), last.wait or 0.0)

    def _warn(self, call: AnyCall, last: UnansweredError, pause: float) -> None:
        number = f"attempt {call.sent + 1} of {self._manners.attempts}"
        self._log.warning("%s: %s (%s); %s in %.1f s", call.wanted, last.trouble, last.trace, number, pause)

    def _give_up(self, call: AnyCall, last: UnansweredError) -> DeltaMirrorError:
        """Return the error that *call* ends in after *last*; `limited` is told of a limit."""
        if last.status in (429, 503) or self._is_told_to_stop(last):
            until = None if last.wait is None else self._now() + last.wait
            self._limited(call, until)
            asks = "" if last.wait is None else f", and asks for a pause of {last.wait:.0f} s"
            return LimitedError(
                f"{call.wanted}: the service does not answer for now: {last.trouble}{asks} ({last.trace}). "
                "Nothing need be done: a later run goes on.",
                until,
            )
        tried = "after 1 attempt" if call.sent == 1 else f"after {call.sent} attempts"
        where = f" Check {call.address_key}." if call.address_key is not None and last.status is None else ""
        return UnreachableError(f"{call.wanted}: no usable answer {tried}: {last.trouble} ({last.trace}). {last.advice}{where}")


def asked_pause(retry_after: str, then: float) -> float | None:
    """Return the seconds that the header Retry-After asks for, None where it asks for nothing.

    *then* is the service's clock when it answered, in seconds since the epoch: a date is read by that one.
    """
    text = retry_after.strip()
    seconds = read_seconds(text)
    if seconds is None:
        until = read_http_date(text)
        if until is None:
            return None
        seconds = until - then
    return min(max(seconds, 0.0), LONGEST_STOP)


def read_seconds(text: str) -> float | None:
    """Return the seconds that *text* writes as a plain number, None where it is none."""
    return float(text) if _SECONDS.fullmatch(text) else None


@lru_cache(maxsize=64)  # the clock of a service that is asked a thousand times a second says the same a thousand times
def read_http_date(text: str) -> float | None:
    """Return an HTTP date in seconds since the epoch, None where *text* is none."""
    try:
        then = parsedate_to_datetime(text)
        return (then if then.tzinfo is not None else then.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def _last(state: "RetryCallState") -> UnansweredError:
    """Return what the attempt just made ended in: tenacity stops and waits only after an error that is retried at all."""
    return cast("UnansweredError", state.outcome and state.outcome.exception())
