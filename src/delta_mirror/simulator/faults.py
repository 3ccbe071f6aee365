"""What goes wrong between the service and those who call it.

Invariants:

- A fault strikes only calls that it matches, so many times, and is then gone.
- Of several that match, the one queued first strikes, and only that one.

    service.faults.append(status(503, retry_after=5, entity="Client"))
    service.faults.append(reset(endpoint="token", after=1, times=None))
"""

from dataclasses import dataclass
from threading import Event
from typing import Literal, TypedDict, Unpack

import orjson

Endpoint = Literal["token", "tenants", "changes", "latest", "enums", "unknown"]


class Match(TypedDict, total=False):
    """Which calls a fault strikes; what is not named matches all.

    `page` is the PageNumber as sent. The first `after` calls that match are let through; `times` (1 where it is not named)
    calls are struck then, None is all of them.
    """

    endpoint: Endpoint
    tenant: int
    location: int
    entity: str
    page: int
    after: int
    times: int | None


@dataclass
class Fault:
    """One thing that goes wrong.

    Attributes:
        kind: `answer` answers instead of the service; `reset` breaks the connection; `slow` holds the service's answer back
            until `release` is set. The others spoil how it is sent: `truncated` breaks off after half of it, `drip` sends it
            byte by byte until `release` is set, `bad_gzip` says that it is compressed and sends what cannot be unpacked,
            `wrong_length` names a length that is not its own.
        status: the status of an `answer`.
        headers: the headers of an `answer`.
        body: the body of an `answer`, as it is sent; None is the service's own JSON for that status.
        pause: seconds between two bytes of a `drip`.
        off_by: how many bytes more, or fewer where it is below 0, a `wrong_length` names.
        struck: how often it has struck.
    """

    kind: Literal["answer", "reset", "truncated", "slow", "drip", "bad_gzip", "wrong_length"]
    match: Match
    status: int = 500
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    release: Event | None = None
    pause: float = 0.0
    off_by: int = 0
    struck: int = 0
    _passed: int = 0

    def strikes(self, endpoint: Endpoint, tenant: int | None, location: int | None, entity: str | None, page: int | None) -> bool:
        """Return whether it strikes this call, and count the call."""
        match = self.match
        wanted = (match.get("endpoint"), match.get("tenant"), match.get("location"), match.get("entity"), match.get("page"))
        found = (endpoint, tenant, location, entity, page)
        if any(want is not None and want != have for want, have in zip(wanted, found, strict=True)):
            return False
        if self._passed < match.get("after", 0):
            self._passed += 1
            return False
        self.struck += 1
        return True

    @property
    def spent(self) -> bool:
        """Whether it will strike no more."""
        times = self.match.get("times", 1)
        return times is not None and self.struck >= times


def status(
    code: int,
    *,
    retry_after: int | str | None = None,
    body: bytes | None = None,
    content_type: str = "application/json",
    **match: Unpack[Match],
) -> Fault:
    """Answer with status *code*; *retry_after* is seconds or an HTTP date."""
    headers = [("Content-Type", content_type)]
    if retry_after is not None:
        headers.append(("Retry-After", str(retry_after)))
    return Fault("answer", match, code, tuple(headers), body)


def html(code: int = 200, **match: Unpack[Match]) -> Fault:
    """Answer with a page for people: with 200 a sign-in page, with 404 what a gateway says of a cluster that is gone."""
    body = b"<!DOCTYPE html><html><body><h1>This is not the page you are looking for</h1></body></html>"
    return Fault("answer", match, code, (("Content-Type", "text/html; charset=utf-8"),), body)


def error_in_200(code: str = "InternalError", **match: Unpack[Match]) -> Fault:
    """Answer 200 with an `Error` in the envelope."""
    error = {"ErrorCode": code, "Message": "Something failed", "ValidationFailures": [{"Field": "StartDate"}]}
    body = orjson.dumps({"ReferenceId": "0f0f0f0f-0000-4000-8000-00000000e220", "Error": error})
    return Fault("answer", match, 200, (("Content-Type", "application/json"),), body)


def redirect(to: str, code: int = 302, **match: Unpack[Match]) -> Fault:
    """Answer with a redirect to the address *to*."""
    return Fault("answer", match, code, (("Location", to),), b"")


def reset(**match: Unpack[Match]) -> Fault:
    """Break the connection without an answer."""
    return Fault("reset", match)


def truncated(**match: Unpack[Match]) -> Fault:
    """Send half of the answer and break off."""
    return Fault("truncated", match)


def slow(release: Event, **match: Unpack[Match]) -> Fault:
    """Answer only when *release* is set, or the service is stopped."""
    return Fault("slow", match, release=release)


def drip(release: Event, pause: float, **match: Unpack[Match]) -> Fault:
    """Send the answer a byte at a time, *pause* seconds apart, until *release* is set, or the service is stopped."""
    return Fault("drip", match, release=release, pause=pause)


def bad_gzip(**match: Unpack[Match]) -> Fault:
    """Send an answer that says that it is compressed, and cannot be unpacked."""
    return Fault("bad_gzip", match)


def wrong_length(off_by: int, **match: Unpack[Match]) -> Fault:
    """Name a length that is *off_by* more bytes than are sent, and keep the connection open; below 0, fewer."""
    return Fault("wrong_length", match, off_by=off_by)
