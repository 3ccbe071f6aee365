"""One request to Accela over HTTP, and what is worth another one.

Invariants:

- `persist` alone waits and asks again. What it may ask again is the caller's decision: an UnansweredError says so.
- A request that may have been carried out never ends in an UnansweredError unless the caller turns it into one.
- A redirect is never followed: token and secret would go with it.
- No exception of requests, urllib3 or tenacity leaves this module.
- No message and no log line holds a secret, a token or a value of a record.
"""

import logging
import ssl
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar, cast

import requests
from requests.structures import CaseInsensitiveDict
from tenacity import RetryCallState, Retrying, retry_if_exception_type
from urllib3 import exceptions as urllib3_errors

from delta_mirror import __version__
from delta_mirror.accela.answers import Answer
from delta_mirror.errors import LimitedError, ProtocolError, UnfinishedError, UnreachableError

FIRST_WAIT = 1.0  # seconds, doubled with every further attempt
LARGEST_BODY = 16 * 1024 * 1024  # bytes; a contact is far below one hundredth of it
CHUNK = 64 * 1024  # bytes

_log = logging.getLogger("delta_mirror.accela")

Answered = TypeVar("Answered")


class Manners(NamedTuple):
    """How patiently the service is asked: seconds to wait for an answer, attempts, seconds between them at most, authorities."""

    timeout: float
    attempts: int
    max_wait: float
    ca_file: str


class UnansweredError(Exception):
    """One attempt without a usable answer, worth another one. `wait` is for how many seconds the service asks."""

    def __init__(self, trouble: str, *, wait: float | None = None, is_limit: bool = False) -> None:
        super().__init__(trouble)
        self.wait = wait
        self.is_limit = is_limit


class NoAnswerError(Exception):
    """A request that got no whole answer; `was_sent` is False only where it certainly did not leave this machine whole."""

    def __init__(self, trouble: str, *, was_sent: bool) -> None:
        super().__init__(trouble)
        self.was_sent = was_sent


class Transport:
    """Sends requests, one after the other. `calls` counts them."""

    def __init__(
        self,
        manners: Manners,
        *,
        now: Callable[[], float],
        sleep: Callable[[float], None],
        jitter: Callable[[], float],
    ) -> None:
        self.calls = 0
        self._manners = manners
        self._now = now
        self._sleep = sleep
        self._jitter = jitter
        self._session = _Session()
        self._session.headers.update({"User-Agent": f"delta-mirror/{__version__}", "Accept": "application/json"})

    def close(self) -> None:
        """Close every connection."""
        self._session.close()

    def persist(self, wanted: str, attempt: Callable[[], Answered]) -> Answered:
        """Return what *attempt* brings, made again while it ends in an UnansweredError and is worth it.

        Raises:
            LimitedError: the service asks for a longer pause than `max_wait`, or limits us to the last attempt.
            UnreachableError: the attempts are used up otherwise.
        """
        retrying = Retrying(
            stop=lambda state: state.attempt_number >= self._manners.attempts or self._is_told_to_stop(_last(state)),
            wait=lambda state: self._pause(state.attempt_number, _last(state)),
            sleep=self._sleep,
            retry=retry_if_exception_type(UnansweredError),
            before_sleep=lambda state: _log.warning(
                "%s: %s; attempt %d of %d in %.1f s",
                *(wanted, _last(state), state.attempt_number + 1, self._manners.attempts, state.upcoming_sleep),
            ),
            reraise=True,
        )
        try:
            return retrying(attempt)
        except UnansweredError as last:
            raise self._give_up(wanted, last) from last

    def _is_told_to_stop(self, last: UnansweredError) -> bool:
        return last.wait is not None and last.wait > self._manners.max_wait

    def _pause(self, attempts: int, last: UnansweredError) -> float:
        own = FIRST_WAIT * 2.0 ** min(attempts - 1, 30) * (1 + self._jitter())
        # A short pause that the service names does not shorten ours: one that answers "0" to all would be asked at full speed.
        return max(min(own, self._manners.max_wait), last.wait or 0.0)

    def _give_up(self, wanted: str, last: UnansweredError) -> UnfinishedError:
        if last.is_limit or self._is_told_to_stop(last):
            until = None if last.wait is None else self._now() + last.wait
            asks = "" if last.wait is None else f", and asks for a pause of {last.wait:.0f} s"
            return LimitedError(f"{wanted}: {last}{asks}. Nothing need be done: a later run goes on.", until)
        return UnreachableError(f"{wanted}: no usable answer: {last}. Check the network and the addresses under [accela].")

    def send(
        self,
        method: str,
        url: str,
        shown: str,
        headers: Mapping[str, str],
        *,
        form: Mapping[str, str] | None = None,
        body: str | None = None,
    ) -> Answer:
        """Return the answer to one request, read whole, whatever its status. *shown* stands for *url* in the log.

        Raises:
            NoAnswerError: none came, or only a part.
            UnreachableError: none can come until something is mended: TLS, an address that cannot be called.
        """
        self.calls += 1
        started = self._now()
        try:
            with self._session.request(
                method,
                url,
                data=form if body is None else body.encode(),
                headers=headers,
                timeout=(self._manners.timeout, self._manners.timeout),
                allow_redirects=False,
                stream=True,
                verify=self._manners.ca_file or True,
                # An empty address overrules the environment's proxy, which knows nothing of this machine's own ports.
                proxies={"http": "", "https": "", "all": ""} if url.startswith("http://") else None,
            ) as response:
                answer = Answer(response.status_code, self._body(response), _lowered(response.headers), self._now())
        except (OSError, urllib3_errors.HTTPError) as error:  # every exception of requests is an OSError
            raise self._translated(error, method, shown) from error
        _log.debug(
            "%s %s -> %d, %.3f s, traceId %s", method, shown, answer.status, self._now() - started, answer.trace_id or "none"
        )
        return answer

    def _translated(self, error: Exception, method: str, shown: str) -> Exception:
        """Return what *error* means, said in our words: the exceptions' own texts hold addresses."""
        causes = list(_causes(error))

        def is_a(*kinds: type[BaseException]) -> bool:
            return any(isinstance(cause, kinds) for cause in causes)

        _log.debug("%s %s -> no answer (%s)", method, shown, type(error).__name__)
        if is_a(ssl.SSLCertVerificationError):
            return UnreachableError(
                "TLS fails; where a company's own certificate authority stands in between, name it in http.ca_file"
            )
        if isinstance(error, ValueError):
            return UnreachableError("the address cannot be called; check the addresses under [accela] and the proxies")
        if is_a(urllib3_errors.NewConnectionError, urllib3_errors.ConnectTimeoutError, urllib3_errors.ProxyError):
            return NoAnswerError("no connection can be made", was_sent=False)
        if is_a(requests.exceptions.Timeout, urllib3_errors.ReadTimeoutError, TimeoutError):
            return NoAnswerError("time is out", was_sent=True)
        return NoAnswerError("the connection broke off", was_sent=True)

    def _body(self, response: requests.Response) -> bytes:
        body = bytearray()
        for chunk in response.iter_content(CHUNK):
            body += chunk
            if len(body) > LARGEST_BODY:
                raise ProtocolError(f"the answer is larger than {LARGEST_BODY} bytes")
        return bytes(body)


class _Session(requests.Session):
    """A session that adds nothing to what is asked, and follows nothing of what is answered."""

    def __init__(self) -> None:
        super().__init__()
        # Proxies come from the environment; .netrc comes with it, and would put its own Authorization in place of ours.
        self.auth = _as_it_is

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return None: even told not to follow a redirect, requests reads all of it, and fails at a Location that is none."""


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _lowered(headers: CaseInsensitiveDict[str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _last(state: RetryCallState) -> UnansweredError:
    """Return what the attempt just made ended in: tenacity stops and waits only after an error that is retried at all."""
    return cast("UnansweredError", state.outcome and state.outcome.exception())


def _causes(error: BaseException) -> list[BaseException]:
    """Return *error* and everything that it wraps: requests and urllib3 wrap by argument, by `reason` and by cause."""
    waiting: list[object] = [error]
    found: list[BaseException] = []
    while waiting:
        cause = waiting.pop(0)
        if isinstance(cause, BaseException) and cause not in found:
            found.append(cause)
            waiting += [*cause.args, getattr(cause, "reason", None), cause.__cause__]
    return found
