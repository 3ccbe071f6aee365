"""One request to Accela over HTTP. What is worth another one is an UnansweredError on its way to `Transport.persist`.

This is the one home of requests in this edge; attempts lie in `calls`.

Invariants:

- Whoever asks for something that must not be done twice looks at `NoAnswerError.was_sent` before it goes on to `persist`.
- A redirect is never followed: token and secret would go with it.
- Nothing that one request was given (a cookie) goes with another one.
- No exception of requests or urllib3 leaves this module, and no UnansweredError leaves `persist`.
- No message and no log line holds a secret, a token or a value of a record.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import requests
from requests.structures import CaseInsensitiveDict
from urllib3 import exceptions as urllib3_errors

from delta_mirror.accela.answers import Answer
from delta_mirror.calls.addresses import host_of, is_loopback
from delta_mirror.calls.attempts import Attempts, Manners, UnansweredError
from delta_mirror.calls.diagnosis import diagnose, is_unsent
from delta_mirror.calls.session import PlainSession
from delta_mirror.errors import ProtocolError, UnreachableError

LARGEST_BODY = 16 * 1024 * 1024  # bytes; a contact is far below one hundredth of it
CHUNK = 64 * 1024  # bytes

_log = logging.getLogger("delta_mirror.accela")

Answered = TypeVar("Answered")


@dataclass(slots=True)
class Call:
    """Something that is wanted of the service.

    `wanted` says in messages what is asked for, `address_key` is the key of the configuration that gives the address. `sent`
    counts the attempts; a request that is made again with a new token belongs to the same one.
    """

    wanted: str
    address_key: str | None
    sent: int = 0


class NoAnswerError(UnansweredError):
    """A request that got no whole answer; `was_sent` is False only where it certainly did not leave this machine."""

    def __init__(self, trouble: str, advice: str, *, was_sent: bool) -> None:
        super().__init__(trouble, advice, "no answer")
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
        # Of a limit the run hears by the LimitedError, and remembers it: a run makes one call at a time.
        self._attempts: Attempts[Call] = Attempts(manners, now, lambda call, until: None, sleep=sleep, jitter=jitter, log=_log)
        self._session = PlainSession()
        self._session.headers["Accept"] = "application/json"

    def close(self) -> None:
        """Close every connection."""
        self._session.close()

    def persist(self, call: Call, attempt: Callable[[], Answered]) -> Answered:
        """Return what *attempt* brings, made again while it ends in an UnansweredError and is worth it.

        Raises:
            LimitedError: the service asks for a longer pause than `max_wait`, or limits us to the last attempt.
            UnreachableError: the attempts are used up otherwise.
        """
        return self._attempts.persist(call, attempt)

    def is_last(self, call: Call, wait: float | None = None) -> bool:
        """Return whether *call* has no attempt left, and the service does not ask for a pause that concerns all calls."""
        return call.sent >= self._manners.attempts and (wait or 0.0) <= self._manners.max_wait

    def send(
        self,
        call: Call,
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
            ProtocolError: it is too large, or a redirect.
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
                proxies={"http": "", "https": "", "all": ""} if is_loopback(url) else None,
            ) as response:
                answer = Answer(response.status_code, _body_of(response), _lowered(response.headers), self._now())
        except (OSError, urllib3_errors.HTTPError) as error:  # every exception of requests is an OSError
            failure = diagnose(error)
            _log.debug("%s %s -> %s", method, shown, failure.trouble)
            trouble = f"{failure.trouble} at {host_of(url)}"
            if failure.is_final:
                raise UnreachableError(f"{call.wanted}: {trouble}. {failure.advice}") from error
            raise NoAnswerError(trouble, failure.advice, was_sent=not is_unsent(error)) from error
        finally:
            self._session.cookies.clear()
        _log.debug(
            "%s %s -> %d, %.3f s, traceId %s", method, shown, answer.status, self._now() - started, answer.trace_id or "none"
        )
        if 300 <= answer.status < 400:
            towards = host_of(answer.headers.get("location", ""))
            raise ProtocolError(
                f"the answer is a redirect{f' to {towards}' if towards else ''} (status {answer.status}), which is not followed; "
                f"check {call.address_key}, and whether a login page stands in between"
            )
        return answer


def _body_of(response: requests.Response) -> bytes:
    body = bytearray()
    for chunk in response.iter_content(CHUNK):
        body += chunk
        if len(body) > LARGEST_BODY:
            raise ProtocolError(f"the answer is larger than {LARGEST_BODY} bytes; no contact is")
    return bytes(body)


def _lowered(headers: CaseInsensitiveDict[str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
