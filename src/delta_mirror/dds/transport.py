"""One call to the service over HTTP, in as many attempts as it is worth.

A `Call` is something wanted. `Transport.persist` makes attempts at it, each of which sends (`send`), looks at the status and
reads (`read`). What is worth another attempt is an UnansweredError on its way from an attempt to `persist`. This is the one
home of requests in this edge.

Invariants:

- A call is given up once it has sent `attempts` requests; only within an attempt may there be one more (a new token or address).
- Nothing but `persist` waits or asks again. A redirect is never followed: token and secret would go with it.
- No exception of requests, urllib3 or tenacity leaves this module, and no UnansweredError leaves `persist`.
- There are as many connections as calls at a time, however many streams. Nothing that one call was given (a cookie) goes with
  another one.
- No message and no log line holds a secret, a token, the id or a value of a record. A message about a failed call has its
  status, its referenceId and its RequestId, as far as they exist: the vendor's support asks for them.
"""

import logging
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

import requests
from urllib3 import exceptions as urllib3_errors

from delta_mirror.calls.addresses import host_of, is_loopback
from delta_mirror.calls.attempts import Attempts, Manners, UnansweredError, asked_pause, read_http_date
from delta_mirror.calls.diagnosis import diagnose
from delta_mirror.calls.session import PlainSession
from delta_mirror.core.model import Stream
from delta_mirror.core.values import EPOCH, SECOND
from delta_mirror.dds.answers import Token, is_own_answer
from delta_mirror.dds.wire import reference_of
from delta_mirror.errors import ConfigError, ProtocolError, UnreachableError

LARGEST_BODY = 256 * 1024 * 1024  # bytes; two hundred records are far below one hundredth of it
CHUNK = 64 * 1024  # bytes

_log = logging.getLogger("delta_mirror.dds")

Answered = TypeVar("Answered")


@dataclass(slots=True)
class Call:
    """Something that is wanted of the service, and what has been done for it so far.

    `wanted` says in messages what is asked for. `stream` is on whose behalf, None where for none. `stops` is the stream whose
    location is to be left alone where the service says stop, None where that holds for all. `address_key` is the key of the
    configuration that gives the address, None where none does. `sent` counts the requests, `refused` is the token that one of
    them was refused with.
    """

    wanted: str
    stream: Stream | None
    stops: Stream | None
    address_key: str | None
    sent: int = 0
    refused: Token | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, read whole. `date` is the service's own clock in seconds since the epoch, `received` is ours."""

    status: int
    body: bytes
    received: float
    date: float | None
    retry_after: str
    location: str
    request_id: str | None

    @property
    def is_good(self) -> bool:
        """Whether the status is one of the 2xx."""
        return self.status // 100 == 2

    def trace(self) -> str:
        """Return what the vendor's support asks for."""
        return _trace(self.status, reference_of(self.body), self.request_id)


class Clock:
    """Our own clock (`now`, seconds since the epoch), and the service's as far as its answers have told it."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self._ahead = 0.0  # seconds by which the service's clock is ahead of ours

    def ticks(self) -> int:
        """Return the service's clock now, in ticks."""
        return _ticks(self.now() + self._ahead)

    def ticks_at(self, answer: Answer) -> int:
        """Return the service's clock when it gave *answer*, in ticks."""
        return _ticks(self.seconds_at(answer))

    def seconds_at(self, answer: Answer) -> float:
        """Return the service's clock when it gave *answer*, in seconds since the epoch."""
        return answer.received + self._ahead if answer.date is None else answer.date

    def learn(self, answer: Answer) -> None:
        """Correct our clock by the Date of an answer that the service itself gave; a gateway's is not to be believed."""
        if answer.date is not None:
            self._ahead = answer.date - answer.received

    def today(self) -> str:
        """Return the UTC day by our own clock, as `YYYY-MM-DD`."""
        return datetime.fromtimestamp(self.now(), UTC).date().isoformat()


class Transport:
    """Makes calls. Several threads may use it at once.

    `limited` is told of every stream that the service stops (None: of all), and until when (our own seconds since the epoch)
    where it said.

    Raises:
        ConfigError: `ca_file` holds no certificates.
    """

    def __init__(
        self,
        manners: Manners,
        clock: Clock,
        limited: Callable[[Stream | None, float | None], None],
        *,
        sleep: Callable[[float], None],
        jitter: Callable[[], float],
        largest_body: int,
    ) -> None:
        self._manners = manners
        self._clock = clock
        self._attempts: Attempts[Call] = Attempts(
            manners, clock.now, lambda call, until: limited(call.stops, until), sleep=sleep, jitter=jitter, log=_log
        )
        self._largest_body = largest_body
        self._lock = threading.Lock()
        self._sessions: set[requests.Session] = set()
        self._idle: list[requests.Session] = []
        _check_ca_file(manners.ca_file)

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            sessions, self._sessions, self._idle = self._sessions, set(), []
        for session in sessions:
            session.close()

    # One call

    def persist(self, call: Call, attempt: Callable[[], Answered]) -> Answered:
        """Return what *attempt* brings, made again while it ends in an UnansweredError and is worth it.

        Raises:
            LimitedError: the service asks for a longer pause than `max_wait`, or limits us to the last attempt; `limited` has
                been told.
            UnreachableError: the attempts are used up otherwise.
        """
        return self._attempts.persist(call, attempt)

    # One answer

    def read(self, answer: Answer, read: Callable[[], Answered]) -> Answered:
        """Return what *read* makes of *answer*, which the service seems to have given, and take its clock from it.

        Raises:
            UnansweredError: *read* cannot read it, and something else has given it.
            ProtocolError: *read* cannot read it.
        """
        try:
            found = read()
        except ProtocolError as error:
            # Looked at only now: a page is large, and nearly every one is read at the first go.
            if not is_own_answer(answer.body):
                raise UnansweredError(
                    "the answer is not the service's own JSON",
                    "A gateway, a login page or a maintenance page answers in the service's place.",
                    answer.trace(),
                    status=answer.status,
                ) from error
            raise ProtocolError(f"{error} ({answer.trace()})") from error
        self._clock.learn(answer)
        return found

    def refuse_for_all(self, call: Call, answer: Answer) -> None:
        """Raise what the status of a bad *answer* means whatever was asked; return where that depends on what was asked."""
        if answer.status in (408, 429) or answer.status >= 500:
            raise UnansweredError(
                {408: "the service timed out", 429: "too many calls", 503: "the service is unavailable"}.get(
                    answer.status, "the service failed"
                ),
                "Try again later; if it stays, send the ids above to the vendor's support.",
                answer.trace(),
                status=answer.status,
                wait=asked_pause(answer.retry_after, self._clock.seconds_at(answer)),
            )
        if 300 <= answer.status < 400:
            towards = f" to {host_of(answer.location)}" if host_of(answer.location) else ""
            raise ProtocolError(
                f"{call.wanted}: the answer is a redirect{towards}, which is not followed ({answer.trace()}). "
                "Check the addresses under [dds], and whether a login page stands in between."
            )
        if answer.status == 407:
            raise UnreachableError(
                f"{call.wanted}: the proxy asks for credentials ({answer.trace()}). Give them in the address of the proxy "
                "(HTTPS_PROXY), or exempt the host (NO_PROXY)."
            )

    # One request

    def send(
        self,
        call: Call,
        method: str,
        url: str,
        shown: str,
        *,
        token: Token | None = None,
        form: Mapping[str, str] | None = None,
        request_id: str | None = None,
    ) -> Answer:
        """Return the answer to one request, read whole, whatever its status. *shown* stands for *url* in the log.

        Raises:
            UnansweredError: none came, or only a part.
            UnreachableError: none can come until something is mended: TLS, an address that cannot be called.
            ProtocolError: it is larger than `largest_body`.
        """
        call.sent += 1
        started = self._clock.now()
        try:
            with self._session() as session, self._request(session, method, url, token, form) as response:
                body = self._body(call, response, request_id)
        except (OSError, urllib3_errors.HTTPError) as error:  # every exception of requests is an OSError
            failure, trace = diagnose(error), _trace(None, None, request_id)
            _log.debug("%s %s -> %s, %.3f s (%s)", method, shown, failure.trouble, self._clock.now() - started, trace)
            trouble = f"{failure.trouble} at {host_of(url)}"
            if failure.is_final:
                raise UnreachableError(f"{call.wanted}: {trouble} ({trace}). {failure.advice}") from error
            raise UnansweredError(trouble, failure.advice, trace) from error
        received = self._clock.now()
        sent = response.headers
        date = read_http_date(sent.get("Date", ""))
        answer = Answer(
            response.status_code, body, received, date, sent.get("Retry-After", ""), sent.get("Location", ""), request_id
        )
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("%s %s -> %d bytes, %.3f s (%s)", method, shown, len(body), received - started, answer.trace())
        return answer

    def _request(
        self, session: requests.Session, method: str, url: str, token: Token | None, form: Mapping[str, str] | None
    ) -> requests.Response:
        headers = {"Accept": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token.text}"
        return session.request(
            method,
            url,
            data=form,
            headers=headers,
            timeout=(self._manners.timeout, self._manners.timeout),
            allow_redirects=False,
            stream=True,
            verify=self._manners.ca_file or True,
            # An empty address overrules the environment's proxy, which knows nothing of this machine's own ports.
            proxies={"http": "", "https": "", "all": ""} if is_loopback(url) else None,
        )

    def _body(self, call: Call, response: requests.Response, request_id: str | None) -> bytes:
        told = response.headers.get("Content-Length", "")
        body = bytearray()
        if not (told.isdecimal() and len(told) < 19 and int(told) > self._largest_body):
            for chunk in response.iter_content(CHUNK):
                body += chunk
                if len(body) > self._largest_body:
                    break
            else:
                return bytes(body)
        trace = _trace(response.status_code, None, request_id)
        raise ProtocolError(
            f"{call.wanted}: the answer is larger than {self._largest_body} bytes ({trace}). "
            "A smaller dds.items_per_page makes smaller pages."
        )

    @contextmanager
    def _session(self) -> Iterator[requests.Session]:
        """Let the body have a session for itself: one of requests is not safe to share.

        It is the one that was used last, and belongs to no thread: threads come and go with each stream.
        """
        with self._lock:
            session = self._idle.pop() if self._idle else None
            if session is None:
                session = PlainSession()
                session.headers["Accept-Encoding"] = "gzip"
                self._sessions.add(session)
        try:
            yield session
        finally:
            session.cookies.clear()
            with self._lock:
                is_ours = session in self._sessions
                if is_ours:
                    self._idle.append(session)
            if not is_ours:  # all was closed meanwhile
                session.close()


def _trace(status: int | None, reference_id: str | None, request_id: str | None) -> str:
    named = (
        "no answer" if status is None else f"status {status}",
        reference_id and f"referenceId {reference_id}",
        request_id and f"RequestId {request_id}",
    )
    return ", ".join(part for part in named if part)


def _ticks(seconds: float) -> int:
    return EPOCH + int(seconds * SECOND)


def _check_ca_file(path: str) -> None:
    """Refuse a file without certificates now: later, requests would call it a failure of the service's."""
    if path:
        try:
            ssl.create_default_context(cafile=path)
        except OSError as error:  # ssl.SSLError is one
            raise ConfigError(f"http.ca_file cannot be read as certificates in PEM form: {path}") from error
