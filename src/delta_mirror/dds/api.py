"""The DDS over HTTP: tokens, tenants and pages, and what is done when an answer does not come.

Invariants:

- Every attempt to the public API is admitted, and so counted, before it is sent. Calls to the marketplace are not counted.
- A call makes at most `attempts` attempts; only a new token or a new address is worth one more, each of them once.
- A page is empty because the service says so: by an empty page, or by a 404 in its own JSON where the asker has said that
  the end may be passed. Every other 404 is a failure.
- A token is fetched once however many streams wait for it. Tokens and the secret go to the configured marketplace and to
  the address that it names, over https (http on this machine alone); a redirect is never followed, for they would go with it.
- No exception of requests, urllib3 or tenacity leaves this module.
- No message and no log line holds a secret, a token, the id or a value of a record. A message about a failed call has its
  status, its referenceId and its RequestId, as far as they exist: the vendor's support asks for them.
"""

import logging
import random
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import Generic, Protocol, TypeVar, cast
from urllib.parse import quote, urlencode, urlsplit
from uuid import uuid4

import orjson
import requests
from tenacity import RetryCallState, Retrying, retry_if_exception_type
from urllib3 import exceptions as urllib3_errors

from delta_mirror import __version__
from delta_mirror.core.model import Page, PageRequest, Stream
from delta_mirror.core.values import EPOCH, SECOND
from delta_mirror.dds.wire import is_own_json, read_page, reference_of
from delta_mirror.errors import (
    ConfigError,
    CredentialsError,
    DeltaMirrorError,
    LimitedError,
    ProtocolError,
    StreamRefusedError,
    UnreachableError,
)

FIRST_WAIT = 1.0  # seconds, doubled with every further attempt
TOKEN_LIFE = 3600.0  # seconds, where the service does not say
TOKEN_MARGIN = 300.0  # seconds before its end at which a token is renewed
LONGEST_STOP = 7 * 86400.0  # seconds; a Retry-After beyond it is a slip, and must not stop the mirror for ever
LARGEST_BODY = 256 * 1024 * 1024  # bytes; two hundred records are far below one hundredth of it
CHUNK = 64 * 1024  # bytes

_SECONDS = re.compile(r"\d{1,18}(?:\.\d+)?", re.ASCII)
_TOKEN = re.compile(r"[\x21-\x7e]+", re.ASCII)
_HOST = re.compile(r"[\w.:-]{1,253}", re.ASCII)
# The codes that OAuth 2 (RFC 6749, 5.2) defines; any other text of a refusal stays out of messages.
_OAUTH_ERRORS = frozenset(
    {"invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type", "invalid_scope"}
)

_log = logging.getLogger("delta_mirror.dds")

Answered = TypeVar("Answered")


@dataclass(frozen=True, slots=True)
class Account:
    """Whose records are mirrored, and where the service is asked for them.

    `public_api_url` is empty where apps/tenant is to be asked for the address of each tenant.
    """

    marketplace_url: str
    public_api_url: str
    client_id: str
    client_secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Manners:
    """How patiently the service is asked.

    `timeout` (seconds) holds for connecting and for each wait for bytes. `attempts` counts the first one. `max_wait` is the
    longest pause between two attempts, in seconds. `ca_file` is a file of certificate authorities that takes the place of the
    usual ones, empty for the usual ones.
    """

    timeout: float
    attempts: int
    max_wait: float
    ca_file: str


class Admission(Protocol):
    """What is asked before a call and told after a refused one: the ledger of calls. Several threads use it at once."""

    def admit(self, stream: Stream) -> None:
        """Count one attempt durably, waiting where a minute is full.

        Raises:
            BudgetError: the location's calls of the day are spent.
            LimitedError: the service has told an earlier call to stop, and the time is not over.
        """
        ...

    def check(self, stream: Stream) -> None:
        """Raise LimitedError where nothing of the location of *stream* may be called now; count nothing."""
        ...

    def limited(self, stream: Stream, until: float | None) -> None:
        """Remember that the service told *stream* to stop, until *until* (our own seconds since the epoch) where it said."""
        ...


class TenantMemory(Protocol):
    """Where the answer of apps/tenant is kept for one UTC day (`YYYY-MM-DD`). Several threads use it at once."""

    def remembered(self, day: str) -> str | None:
        """Return what was remembered on *day*, None where nothing was."""
        ...

    def remember(self, day: str, body: str) -> None:
        """Keep *body* for *day*, in place of whatever was kept."""
        ...


class _UnansweredError(Exception):
    """One attempt without a usable answer, worth another one. Never leaves this module."""

    def __init__(self, trouble: str, advice: str, trace: str, *, status: int | None = None, wait: float | None = None) -> None:
        super().__init__(trouble)
        self.trouble = trouble
        self.advice = advice
        self.trace = trace
        self.status = status
        self.wait = wait  # seconds that the service asks for


@dataclass(frozen=True, slots=True)
class _Answer:
    """One answer, read whole. `date` is the service's own clock in seconds since the epoch, `received` is ours."""

    status: int
    body: bytes
    received: float
    date: float | None
    retry_after: str
    location: str
    request_id: str | None

    def trace(self) -> str:
        """Return what the vendor's support asks for."""
        return _trace(self.status, reference_of(self.body), self.request_id)


@dataclass(frozen=True, slots=True, eq=False)
class _Token:
    text: str = field(repr=False)
    renew_at: float  # our own seconds since the epoch


@dataclass(frozen=True, slots=True)
class _Tenant:
    locations: tuple[int, ...]
    public_api_url: str | None


@dataclass(frozen=True, slots=True, eq=False)
class _Listing:
    """What apps/tenant answered on `day`; `asked` says that it was in this run."""

    day: str
    tenants: Mapping[int, _Tenant]
    asked: bool


@dataclass(slots=True)
class _Tally:
    """How many attempts one call has made."""

    sent: int = 0


class _Shared(Generic[Answered]):
    """Something that is fetched by one thread while the others wait for it. A failure is shared by those who waited."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: Answered | None = None
        self._flight: Future[Answered] | None = None

    def get(self, fetch: Callable[[], Answered], serves: Callable[[Answered], bool]) -> Answered:
        """Return what is held if it *serves*, else what *fetch* brings, to this thread or to the one that is at it already."""
        with self._lock:
            if self._held is not None and serves(self._held):
                return self._held
            flight = self._flight
            if flight is None:
                own = self._flight = Future[Answered]()
        if flight is not None:
            return flight.result()
        try:
            brought = fetch()
        except BaseException as error:
            with self._lock:
                self._flight = None
            own.set_exception(error)
            raise
        with self._lock:
            self._held, self._flight = brought, None
        own.set_result(brought)
        return brought


class Dds:
    """The service's marketplace and its public API, as one account sees them.

    Several threads may fetch at once. `now` gives our own clock in seconds since the epoch, `jitter` a number from 0 to 1.

    Raises:
        ConfigError: an address is no plain https address, or `ca_file` holds no certificates.
    """

    def __init__(
        self,
        account: Account,
        manners: Manners,
        admission: Admission,
        memory: TenantMemory,
        *,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
        new_request_id: Callable[[], str] = lambda: str(uuid4()),
        largest_body: int = LARGEST_BODY,
    ) -> None:
        self._account = account
        self._manners = manners
        self._admission = admission
        self._memory = memory
        self._now = now
        self._sleep = sleep
        self._jitter = jitter
        self._new_request_id = new_request_id
        self._largest_body = largest_body
        self._marketplace = _configured(account.marketplace_url, "dds.marketplace_url")
        self._public_api = _configured(account.public_api_url, "dds.public_api_url") if account.public_api_url else None
        _check_ca_file(manners.ca_file)
        self._ahead = 0.0  # seconds by which the service's clock is ahead of ours
        self._lock = threading.Lock()
        self._own = threading.local()
        self._sessions: list[requests.Session] = []
        self._tokens: dict[tuple[int, int] | None, _Shared[_Token]] = {}
        self._listing: _Shared[_Listing] = _Shared()
        self._outdated: dict[int, _Listing] = {}  # by tenant: the listing that a 404 or a missing tenant made us doubt
        self._credentials_refused: str | None = None

    def locations(self) -> list[tuple[int, int]]:
        """Return (tenant_id, location_id) of every location that apps/tenant lists, in its order.

        Raises:
            CredentialsError, UnreachableError, LimitedError: as everywhere.
            ProtocolError: the answer cannot be read as a list of tenants.
        """
        tenants = self._tenants(None).tenants
        return [(tenant_id, location_id) for tenant_id, tenant in tenants.items() for location_id in tenant.locations]

    def clock(self) -> int:
        """Return the service's clock now, in ticks: ours, corrected by the last Date that the service sent with an answer.

        A Date tells whole seconds and is corrected from the moment of receipt, so this clock is never ahead of the service's.
        """
        return _ticks(self._now() + self._ahead)

    def greet(self, stream: Stream) -> None:
        """Make sure of an address and a token for *stream*, so that `clock` is the service's before anything is asked of it.

        Costs no call of the public API, and nothing at all where the location is to be left alone. Errors as of `fetch`.
        """
        self._admission.check(stream)
        self._address(stream)
        self._token((stream.tenant_id, stream.location_id), stream, None)

    def fetch(self, stream: Stream, request: PageRequest) -> Page:
        """Return the page that *request* asks for.

        Raises:
            CredentialsError: the service refuses the credentials, or a token that it has just issued.
            LimitedError: the service told us to stop; the ledger of calls has been told.
            UnreachableError: no usable answer in all attempts.
            StreamRefusedError: the service refuses this stream.
            ProtocolError: the answer is no page, carries an `Error`, is a redirect, or is too large.
            BudgetError: from the ledger of calls.
        """
        query = {"StartDate": request.start, "PageNumber": str(request.number), "ItemsPerPage": str(request.size)}
        return self._ask(
            stream,
            f"cdc/entity/{quote(stream.entity, safe='')}/changes",
            query,
            lambda body, clock: read_page(body, stream, clock),
            wanted=f"page {request.number} of {_named(stream)}",
            may_have_moved=request.number == 0,
            past_end=_empty_page if request.may_be_past_end else None,
        )

    def fetch_latest(self, stream: Stream, id: str) -> Page:  # noqa: A002 - the service's own word
        """Return the page that holds the one record *id* as it is now. Errors as of `fetch`.

        A record that the service does not know is a StreamRefusedError of status 404.
        """
        return self._ask(
            stream,
            f"cdc/entity/{quote(stream.entity, safe='')}/latest/{quote(id, safe='')}",
            {},
            lambda body, clock: read_page(body, stream, clock),
            wanted=f"a single record of {_named(stream)}",
            may_have_moved=True,
            shown=f"cdc/entity/{stream.entity}/latest/*",
        )

    def fetch_enums(self, stream: Stream) -> Mapping[str, Mapping[str, str]]:
        """Return the service's enums as *stream* sees them: name -> key -> label. Errors as of `fetch`."""
        return self._ask(
            stream,
            "system/enums",
            {},
            lambda body, _clock: _read_enums(body),
            wanted=f"the enums for {_named(stream)}",
            may_have_moved=True,
        )

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            sessions, self._sessions = self._sessions, []
            self._own = threading.local()
        for session in sessions:
            session.close()

    # The public API

    def _ask(
        self,
        stream: Stream,
        path: str,
        query: Mapping[str, str],
        read: Callable[[bytes, int], Answered],
        *,
        wanted: str,
        may_have_moved: bool,
        past_end: Callable[[int, str | None], Answered] | None = None,
        shown: str | None = None,
    ) -> Answered:
        """Return what *read* makes of the answer to GET *path*.

        Args:
            stream: whose tenant, location, token and budget it is.
            path: below `/publicapi/v1/`.
            query: beside the ids.
            read: gets the body and the service's clock in ticks; raises ProtocolError.
            wanted: what is asked for, for messages.
            may_have_moved: a 404 may mean that the tenant has moved to another cluster.
            past_end: gives the answer where the service itself says 404, where that is an answer.
            shown: the path for the log, where *path* has something in it that is not for logs.
        """
        refused: _Token | None = None

        def attempt(tally: _Tally) -> Answered:
            nonlocal refused
            while True:
                listing, address = self._address(stream)
                token = self._token((stream.tenant_id, stream.location_id), stream, refused)
                self._admission.admit(stream)
                tally.sent += 1
                request_id = self._new_request_id()
                ids = {"TenantId": str(stream.tenant_id), "LocationId": str(stream.location_id)}
                answer = self._send(
                    "GET",
                    f"{address}/publicapi/v1/{path}?{urlencode({**ids, **query, 'RequestId': request_id}, quote_via=quote)}",
                    f"/publicapi/v1/{shown or path}",
                    wanted,
                    token=token,
                    request_id=request_id,
                )
                if answer.status // 100 == 2:
                    return self._read(answer, read)
                if answer.status == 401 and refused is None:
                    refused = token
                    continue
                if answer.status == 404:
                    if past_end is not None and is_own_json(answer.body):
                        self._learn_clock(answer)
                        return past_end(self._clock_of(answer), reference_of(answer.body))
                    if may_have_moved and listing is not None and self._has_new_listing(stream, listing):
                        continue
                raise self._refusal(answer, stream, wanted, listing)

        return self._persist(attempt, stream, wanted, address_key="dds.public_api_url" if self._public_api else None)

    def _read(self, answer: _Answer, read: Callable[[bytes, int], Answered]) -> Answered:
        """Return what *read* makes of a 2xx answer, and take the service's clock from it."""
        try:
            found = read(answer.body, self._clock_of(answer))
        except ProtocolError as error:
            # Looked at only now: a page is large, and nearly every one is read at the first go.
            if not _is_json(answer.body):
                raise _UnansweredError(
                    "the answer is not the service's own JSON",
                    "A gateway, a login page or a maintenance page answers in the service's place.",
                    answer.trace(),
                    status=answer.status,
                ) from error
            raise ProtocolError(f"{error} ({answer.trace()})") from error
        self._learn_clock(answer)
        return found

    def _refusal(self, answer: _Answer, stream: Stream, wanted: str, listing: _Listing | None) -> Exception:
        """Return the error that a refused attempt for *stream* ends in, or the one that asks for another attempt."""
        general = self._general_refusal(answer, wanted)
        if general is not None:
            return general
        trace = answer.trace()
        if answer.status == 401:
            return CredentialsError(
                f"{wanted}: the service refuses a token that it has just issued ({trace}). Check that location "
                f"{stream.location_id} of tenant {stream.tenant_id} is activated for this client_id."
            )
        if answer.status == 403:
            advice = (
                f"Ask the vendor whether this client_id has a right to {stream.entity} and whether the location is activated."
            )
        elif answer.status == 404:
            advice = "Check tenant_id and location_id, and that the location is activated for this client_id."
            tenant = listing.tenants.get(stream.tenant_id) if listing is not None else None
            if tenant is not None and tenant.locations and stream.location_id not in tenant.locations:
                advice += f" apps/tenant does not list location {stream.location_id} under this tenant."
        else:
            advice = "Check tenant_id, location_id and the entity's name."
        if answer.body and not is_own_json(answer.body):
            advice += " The answer is not the service's own JSON: something in between may have given it."
        return StreamRefusedError(f"{wanted}: the service refuses it ({trace}). {advice}", answer.status)

    def _address(self, stream: Stream) -> tuple[_Listing | None, str]:
        """Return the public API's address for *stream*, with the listing that names it (None: the configuration does).

        Raises:
            StreamRefusedError: apps/tenant does not list the tenant, even asked anew.
            ProtocolError: it lists the tenant without an address, or with one that cannot be used.
        """
        if self._public_api is not None:
            return None, self._public_api
        listing = self._tenants(stream)
        # A tenant that was activated after today's answer was remembered is worth one more question.
        if stream.tenant_id not in listing.tenants and not listing.asked and self._has_new_listing(stream, listing):
            listing = self._tenants(stream)
        tenant = listing.tenants.get(stream.tenant_id)
        if tenant is None:
            raise StreamRefusedError(
                f"{_named(stream)}: apps/tenant does not list tenant {stream.tenant_id}. "
                "Check tenant_id, and that a location of it is activated for this client_id.",
                404,
            )
        if tenant.public_api_url is None:
            raise ProtocolError(
                f"{_named(stream)}: apps/tenant names no publicApiUrl for tenant {stream.tenant_id}. Set dds.public_api_url."
            )
        try:
            return listing, _plain_address(tenant.public_api_url)
        except ValueError as error:
            raise ProtocolError(
                f"{_named(stream)}: the publicApiUrl that apps/tenant names for tenant {stream.tenant_id} {error}. "
                "Ask the vendor, or set dds.public_api_url."
            ) from error

    # The marketplace

    def _tenants(self, stream: Stream | None) -> _Listing:
        """Return what apps/tenant lists today: as this run has it, as memory has it, or as the service says now."""
        today = self._today()
        return self._listing.get(lambda: self._recall(today) or self._ask_tenants(stream), lambda held: held.day == today)

    def _has_new_listing(self, stream: Stream, doubted: _Listing) -> bool:
        """Return whether there is a listing newer than *doubted*, asking apps/tenant for it once per run and tenant."""
        with self._lock:
            if self._outdated.setdefault(stream.tenant_id, doubted) is not doubted:
                return False
        self._listing.get(lambda: self._ask_tenants(stream), lambda held: held is not doubted)
        return True

    def _recall(self, today: str) -> _Listing | None:
        body = self._memory.remembered(today)
        if body is None:
            return None
        try:
            return _Listing(today, _read_tenants(body.encode()), asked=False)
        except ProtocolError:
            _log.warning("what was remembered of apps/tenant cannot be read; asking again")
            return None

    def _ask_tenants(self, stream: Stream | None) -> _Listing:
        """Return what apps/tenant lists now, and keep it for the rest of the UTC day."""
        wanted = "apps/tenant"
        refused: _Token | None = None

        def attempt(tally: _Tally) -> tuple[bytes, Mapping[int, _Tenant]]:
            nonlocal refused
            while True:
                place = (stream.tenant_id, stream.location_id) if stream else None
                token = self._token(place, stream, refused)
                tally.sent += 1
                answer = self._send("GET", f"{self._marketplace}/apps/tenant", "/apps/tenant", wanted, token=token)
                if answer.status // 100 == 2:
                    return answer.body, self._read(answer, lambda body, _clock: _read_tenants(body))
                if answer.status == 401 and refused is None:
                    refused = token
                    continue
                general = self._general_refusal(answer, wanted)
                if general is not None:
                    raise general
                if answer.status in (401, 403):
                    raise CredentialsError(
                        f"{wanted}: the service does not let this client_id ask ({answer.trace()}). Check dds.client_id, "
                        "and with the vendor that it is active."
                    )
                raise ProtocolError(f"{wanted}: the marketplace refuses it ({answer.trace()}). Check dds.marketplace_url.")

        body, tenants = self._persist(attempt, stream, wanted, address_key="dds.marketplace_url")
        today = self._today()
        self._memory.remember(today, body.decode())
        return _Listing(today, tenants, asked=True)

    def _token(self, place: tuple[int, int] | None, stream: Stream | None, refused: _Token | None) -> _Token:
        """Return a token for *place* (tenant and location; None: the marketplace) that is not *refused*.

        *stream* is on whose behalf it is fetched where none is held.
        """
        with self._lock:
            shared = self._tokens.setdefault(place, _Shared())
        return shared.get(lambda: self._fetch_token(stream), lambda held: held is not refused and self._now() < held.renew_at)

    def _fetch_token(self, stream: Stream | None) -> _Token:
        """Return a token that the service issues now.

        Once the credentials are refused they are refused for the rest of the run: offering them again for every stream of
        every location is how accounts get locked.
        """
        wanted = "an access token"
        if self._credentials_refused is not None:
            raise CredentialsError(self._credentials_refused)
        form = {
            "grant_type": "client_credentials",
            "client_id": self._account.client_id,
            "client_secret": self._account.client_secret,
        }

        def attempt(tally: _Tally) -> _Token:
            tally.sent += 1
            asked = self._now()
            answer = self._send("POST", f"{self._marketplace}/oauth2/token", "/oauth2/token", wanted, form=form)
            if answer.status // 100 == 2:
                return self._read(answer, lambda body, _clock: _read_token(body, asked))
            own = is_own_json(answer.body) or (answer.status == 401 and not answer.body.strip())
            if own and answer.status in (400, 401, 403, 404):
                code = _oauth_error(answer.body)
                self._credentials_refused = (
                    f"{wanted}: the service does not accept the credentials "
                    f"({answer.trace()}{f', {code}' if code else ''}). dds.client_id or dds.client_secret is wrong, or "
                    "belongs to another dds.marketplace_url."
                )
                raise CredentialsError(self._credentials_refused)
            general = self._general_refusal(answer, wanted)
            if general is not None:
                raise general
            if answer.status in (400, 401, 403):
                raise _UnansweredError(
                    "the token call is refused by something that is not the service",
                    "A gateway or a proxy in between refuses the call; the credentials may be right.",
                    answer.trace(),
                    status=answer.status,
                )
            raise ProtocolError(f"{wanted}: the marketplace refuses it ({answer.trace()}). Check dds.marketplace_url.")

        return self._persist(attempt, stream, wanted, address_key="dds.marketplace_url")

    # One call, in several attempts

    def _persist(
        self, attempt: Callable[[_Tally], Answered], stream: Stream | None, wanted: str, *, address_key: str | None
    ) -> Answered:
        """Return what *attempt* brings, made again while it is worth it; the one place where anything is retried.

        Raises:
            LimitedError: the service asks for a longer pause than `max_wait`, or limits us to the last attempt.
            UnreachableError: the attempts are used up otherwise.
        """
        tally = _Tally()

        def stop(state: RetryCallState) -> bool:
            return tally.sent >= self._manners.attempts or self._told_to_stop(_last(state))

        def wait(state: RetryCallState) -> float:
            pause = FIRST_WAIT * 2.0 ** min(tally.sent - 1, 30) * (1 + self._jitter())
            # A short Retry-After does not shorten the pause: a service that answers "0" to all would be asked at full speed.
            return max(min(pause, self._manners.max_wait), _last(state).wait or 0.0)

        def warn(state: RetryCallState) -> None:
            last = _last(state)
            _log.warning(
                "%s: %s (%s); attempt %d of %d in %.1f s",
                wanted,
                last.trouble,
                last.trace,
                tally.sent + 1,
                self._manners.attempts,
                state.upcoming_sleep,
            )

        retrying = Retrying(
            stop=stop,
            wait=wait,
            sleep=self._sleep,
            retry=retry_if_exception_type(_UnansweredError),
            before_sleep=warn,
            reraise=True,
        )
        try:
            return retrying(attempt, tally)
        except _UnansweredError as last:
            raise self._given_up(last, tally.sent, stream, wanted, address_key) from last

    def _told_to_stop(self, last: _UnansweredError) -> bool:
        return last.wait is not None and last.wait > self._manners.max_wait

    def _given_up(
        self, last: _UnansweredError, sent: int, stream: Stream | None, wanted: str, address_key: str | None
    ) -> DeltaMirrorError:
        """Return the error that *last*, the last of *sent* attempts, ends in; the ledger of calls learns of a limit."""
        if last.status in (429, 503) or self._told_to_stop(last):
            until = None if last.wait is None else self._now() + last.wait
            if stream is not None:
                self._admission.limited(stream, until)
            asks = "" if last.wait is None else f", and asks for a pause of {last.wait:.0f} s"
            return LimitedError(
                f"{wanted}: the service does not answer for now: {last.trouble}{asks} ({last.trace}). "
                "Nothing need be done: a later run goes on.",
                until,
            )
        tried = "after 1 attempt" if sent == 1 else f"after {sent} attempts"
        where = f" Check {address_key}." if address_key is not None and last.status is None else ""
        return UnreachableError(f"{wanted}: no usable answer {tried}: {last.trouble} ({last.trace}). {last.advice}{where}")

    def _general_refusal(self, answer: _Answer, wanted: str) -> Exception | None:
        """Return the error for a status that means the same wherever it comes from, None where it does not."""
        if answer.status in (408, 429) or answer.status >= 500:
            return _UnansweredError(
                {408: "the service timed out", 429: "too many calls", 503: "the service is unavailable"}.get(
                    answer.status, "the service failed"
                ),
                "Try again later; if it stays, send the ids above to the vendor's support.",
                answer.trace(),
                status=answer.status,
                wait=self._asked_pause(answer),
            )
        if 300 <= answer.status < 400:
            towards = f" to {_host_of(answer.location)}" if _host_of(answer.location) else ""
            return ProtocolError(
                f"{wanted}: the answer is a redirect{towards}, which is not followed ({answer.trace()}). "
                "Check the addresses under [dds], and whether a login page stands in between."
            )
        if answer.status == 407:
            return UnreachableError(
                f"{wanted}: the proxy asks for credentials ({answer.trace()}). Give them in the address of the proxy "
                "(HTTPS_PROXY), or exempt the host (NO_PROXY)."
            )
        return None

    def _asked_pause(self, answer: _Answer) -> float | None:
        """Return the seconds of `Retry-After`, None where there is none; a date is read by the service's own clock."""
        text = answer.retry_after.strip()
        if _SECONDS.fullmatch(text):
            seconds = float(text)
        else:
            then = _read_http_date(text)
            if then is None:
                return None
            seconds = then - (answer.received + self._ahead if answer.date is None else answer.date)
        return min(max(seconds, 0.0), LONGEST_STOP)

    # One attempt

    def _send(
        self,
        method: str,
        url: str,
        shown: str,
        wanted: str,
        *,
        token: _Token | None = None,
        form: Mapping[str, str] | None = None,
        request_id: str | None = None,
    ) -> _Answer:
        """Return the answer to one attempt, read whole, whatever its status.

        Raises:
            _UnansweredError: none came, or only a part.
            UnreachableError: none can come until something is mended: TLS, an address that cannot be called.
            ProtocolError: it is larger than `largest_body`.
        """
        headers = {"Accept": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token.text}"
        session = self._session()
        started = self._now()
        try:
            with session.request(
                method,
                url,
                data=form,
                headers=headers,
                timeout=(self._manners.timeout, self._manners.timeout),
                allow_redirects=False,
                stream=True,
                verify=self._manners.ca_file or True,
                # An empty address overrules the environment's proxy, which knows nothing of this machine's own ports.
                proxies={"http": "", "https": "", "all": ""} if _is_loopback(urlsplit(url).hostname or "") else None,
            ) as response:
                body = self._body(response, wanted, request_id)
        except (OSError, urllib3_errors.HTTPError) as error:  # every exception of requests is an OSError
            trouble, advice, final = _diagnosis(error)
            trace = _trace(None, None, request_id)
            _log.debug("%s %s -> %s, %.3f s (%s)", method, shown, trouble, self._now() - started, trace)
            if final:
                raise UnreachableError(f"{wanted}: {trouble} at {_host_of(url)} ({trace}). {advice}") from error
            raise _UnansweredError(f"{trouble} at {_host_of(url)}", advice, trace) from error
        answer = _Answer(
            response.status_code,
            body,
            self._now(),
            _read_http_date(response.headers.get("Date", "")),
            response.headers.get("Retry-After", ""),
            response.headers.get("Location", ""),
            request_id,
        )
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("%s %s -> %d bytes, %.3f s (%s)", method, shown, len(body), answer.received - started, answer.trace())
        return answer

    def _body(self, response: requests.Response, wanted: str, request_id: str | None) -> bytes:
        told = response.headers.get("Content-Length", "")
        body = bytearray()
        if not (told.isdecimal() and len(told) < 19 and int(told) > self._largest_body):
            for chunk in response.iter_content(CHUNK):
                body += chunk
                if len(body) > self._largest_body:
                    break
            else:
                return bytes(body)
        raise ProtocolError(
            f"{wanted}: the answer is larger than {self._largest_body} bytes ({_trace(response.status_code, None, request_id)}). "
            "A smaller dds.items_per_page makes smaller pages."
        )

    def _session(self) -> requests.Session:
        """Return this thread's own session: a session of requests is not safe to share."""
        session: requests.Session | None = getattr(self._own, "session", None)
        if session is None:
            session = requests.Session()
            # Proxies come from the environment, so the environment is trusted; but .netrc comes with it, and would put its own
            # Authorization in place of ours (or beside the secret) unless some auth is set.
            session.auth = _as_it_is
            session.headers.update({"User-Agent": f"delta-mirror/{__version__}", "Accept-Encoding": "gzip"})
            self._own.session = session
            with self._lock:
                self._sessions.append(session)
        return session

    # Clocks

    def _clock_of(self, answer: _Answer) -> int:
        return _ticks(answer.received + self._ahead if answer.date is None else answer.date)

    def _learn_clock(self, answer: _Answer) -> None:
        """Correct our clock by the Date of an answer that the service itself gave; a gateway's is not believed."""
        if answer.date is not None:
            self._ahead = answer.date - answer.received

    def _today(self) -> str:
        return datetime.fromtimestamp(self._now(), UTC).date().isoformat()


def _last(state: RetryCallState) -> _UnansweredError:
    """Return what the attempt just made ended in: tenacity stops and waits only after an error that is retried at all."""
    return cast("_UnansweredError", state.outcome and state.outcome.exception())


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _named(stream: Stream) -> str:
    return f"{stream.entity} of tenant {stream.tenant_id}, location {stream.location_id}"


def _empty_page(clock: int, reference_id: str | None) -> Page:
    return Page(entries=(), digests=(), last_change=None, clock=clock, reference_id=reference_id)


def _trace(status: int | None, reference_id: str | None, request_id: str | None) -> str:
    named = (
        "no answer" if status is None else f"status {status}",
        reference_id and f"referenceId {reference_id}",
        request_id and f"RequestId {request_id}",
    )
    return ", ".join(part for part in named if part)


def _ticks(seconds: float) -> int:
    return EPOCH + int(seconds * SECOND)


def _read_http_date(text: str) -> float | None:
    """Return an HTTP date in seconds since the epoch, None where *text* is none."""
    try:
        then = parsedate_to_datetime(text)
        return (then if then.tzinfo is not None else then.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


# Addresses


def _configured(url: str, key: str) -> str:
    try:
        return _plain_address(url)
    except ValueError as error:
        raise ConfigError(f"{key} {error}") from error


def _plain_address(url: str) -> str:
    """Return *url* without a slash or `/publicapi` at its end.

    Raises:
        ValueError: it is no https address (http will do on this machine), or holds more than host and path. The message is a
            predicate without the address, for an address can hold a password.
    """
    address = url.strip().rstrip("/")
    if address.lower().endswith("/publicapi"):
        address = address[: -len("/publicapi")].rstrip("/")
    try:
        parts = urlsplit(address)
        host, _port = parts.hostname, parts.port  # a port that is no number is noticed only here
    except ValueError:
        raise ValueError("is no address") from None
    if not host or any(sign.isspace() for sign in address):
        raise ValueError("is no address")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("holds more than a host and a path")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(host)):
        raise ValueError("is not https")
    return address


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _host_of(url: str) -> str:
    """Return scheme and host of *url* alone: paths, queries and user names are not for messages."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError:
        return ""
    host = parts.hostname or ""
    return f"{parts.scheme}://{host}{port}" if host and _HOST.fullmatch(host) else ""


def _check_ca_file(path: str) -> None:
    """Refuse a file without certificates now: later, requests would call it a failure of the service's."""
    if path:
        try:
            ssl.create_default_context(cafile=path)
        except OSError as error:  # ssl.SSLError is one
            raise ConfigError(f"http.ca_file cannot be read as certificates in PEM form: {path}") from error


# Failures below HTTP


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield *error* and everything that it wraps: requests and urllib3 wrap by argument, by `reason` and by cause.

    `__context__` is left out: it would lead to an error that the caller of ours may be dealing with.
    """
    waiting: list[object] = [error]
    seen: set[int] = set()
    while waiting:
        cause = waiting.pop(0)
        if isinstance(cause, BaseException) and id(cause) not in seen:
            seen.add(id(cause))
            yield cause
            waiting += [*cause.args, getattr(cause, "reason", None), cause.__cause__]


def _diagnosis(error: Exception) -> tuple[str, str, bool]:
    """Return what happened, what to do, and whether asking again is useless. The exceptions' own texts hold addresses."""
    causes = tuple(_causes(error))

    def is_a(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    if is_a(requests.exceptions.ProxyError, requests.exceptions.InvalidProxyURL, urllib3_errors.ProxyError):
        return "the proxy fails", "Check HTTPS_PROXY and NO_PROXY, and that the proxy lets the host through.", False
    # A connection cut during the handshake is also an SSLError, but no refusal: that one is worth another attempt.
    cut = is_a(ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionResetError, TimeoutError)
    if is_a(requests.exceptions.SSLError, urllib3_errors.SSLError, ssl.SSLError) and not cut:
        found = next((cause for cause in causes if isinstance(cause, ssl.SSLCertVerificationError)), None)
        trouble = "TLS fails" if found is None else f"TLS fails: {found.verify_message}"
        return trouble, "Where a company's own certificate authority stands in between, name it in http.ca_file.", True
    if is_a(urllib3_errors.NameResolutionError, socket.gaierror):
        return "the name of the host cannot be resolved (DNS)", "Check the network and the name.", False
    if is_a(ConnectionRefusedError):
        return "the connection is refused", "Check the address and the firewall.", False
    if is_a(requests.exceptions.Timeout, urllib3_errors.ReadTimeoutError, TimeoutError):
        return "time is out", "Check the network; http.timeout gives the service more time.", False
    if is_a(urllib3_errors.DecodeError):
        return "the answer cannot be unpacked", "Try again later; a proxy in between may damage answers.", False
    if is_a(urllib3_errors.NewConnectionError):
        return "no connection can be made", "Check the network.", False
    if is_a(urllib3_errors.ProtocolError, ConnectionError, requests.exceptions.ConnectionError):
        return "the connection broke off", "Try again later; the service is slow or interrupted at night.", False
    if is_a(ValueError):  # requests' errors of this kind are about an address or a header
        return "the address cannot be called", "Check the addresses under [dds] and the proxies of the environment.", True
    return "the connection failed", "Check the network.", False


# Answers other than pages


def _is_json(body: bytes) -> bool:
    """Return whether *body* is JSON: an object, or (as apps/tenant answers) an array."""
    if is_own_json(body):
        return True
    try:
        return isinstance(orjson.loads(body), list)
    except orjson.JSONDecodeError:
        return False


def _members(body: bytes, what: str) -> object:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ProtocolError(f"{what}: the answer is not JSON") from error


def _read_token(body: bytes, asked: float) -> _Token:
    """Return the token of an answer to a question of *asked*.

    `expires_in` may be missing or text. The margin is at most half the life, so that a short-lived token still serves.
    """
    found = _members(body, "an access token")
    text = found.get("access_token") if isinstance(found, dict) else None
    if not isinstance(found, dict) or not isinstance(text, str) or not _TOKEN.fullmatch(text):
        raise ProtocolError("an access token: the answer holds none that can be sent")
    told = _SECONDS.fullmatch(str(found.get("expires_in")).strip())
    life = float(told.group()) if told is not None else 0.0
    life = life if life > 0 else TOKEN_LIFE
    return _Token(text, asked + life - min(TOKEN_MARGIN, life / 2))


def _oauth_error(body: bytes) -> str | None:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    code = found.get("error") if isinstance(found, dict) else None
    return code if isinstance(code, str) and code in _OAUTH_ERRORS else None


def _read_tenants(body: bytes) -> dict[int, _Tenant]:
    """Return the tenants of an answer of apps/tenant, by id.

    Its shape is not documented beyond "activated tenants, their locations, each tenant's publicApiUrl", so it is read
    tolerantly: a list, or an object that holds one; keys in any case; a tenant may come in several entries.

    Raises:
        ProtocolError: there is no list, or not one tenant in it can be read.
    """
    entries = _entries(_members(body, "apps/tenant"))
    if entries is None:
        raise ProtocolError("apps/tenant: the answer holds no list of tenants")
    tenants: dict[int, _Tenant] = {}
    for entry in entries:
        named = _lowered(entry)
        tenant_id = _number(named, "tenantid", "id")
        if tenant_id is None:
            continue
        before = tenants.get(tenant_id, _Tenant((), None))
        url = named.get("publicapiurl")
        tenants[tenant_id] = _Tenant(
            tuple(dict.fromkeys((*before.locations, *_locations(named)))),
            url if isinstance(url, str) and url.strip() else before.public_api_url,
        )
    if entries and not tenants:
        raise ProtocolError("apps/tenant: not one tenant of the answer can be read")
    return tenants


def _entries(found: object, depth: int = 0) -> Sequence[object] | None:
    if isinstance(found, list):
        return found
    if not isinstance(found, dict) or depth > 2:
        return None
    named = _lowered(found)
    if "tenantid" in named or "locations" in named:
        return [found]  # a single tenant, not wrapped in a list
    for member in named.values():
        entries = _entries(member, depth + 1)
        if entries is not None:
            return entries
    return None


def _locations(tenant: Mapping[str, object]) -> Iterator[int]:
    own = _number(tenant, "locationid")
    if own is not None:
        yield own
    listed = tenant.get("locations", tenant.get("locationids"))
    for location in listed if isinstance(listed, list) else ():
        named = _lowered(location) if isinstance(location, dict) else {"id": location}
        location_id = _number(named, "locationid", "id")
        if location_id is not None:
            yield location_id


def _lowered(entry: object) -> dict[str, object]:
    return {str(key).lower(): value for key, value in entry.items()} if isinstance(entry, dict) else {}


def _number(named: Mapping[str, object], *keys: str) -> int | None:
    """Return the first of *keys* that is a whole number or the digits of one."""
    for key in keys:
        value = named.get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 19:
            return int(value)
    return None


def _read_enums(body: bytes) -> Mapping[str, Mapping[str, str]]:
    """Return the enums of an answer: every object of plain values, at the top or one wrapping below it.

    Raises:
        ProtocolError: there is none.
    """
    found = _members(body, "the enums")
    enums: dict[str, dict[str, str]] = {}
    for name, member in found.items() if isinstance(found, dict) else ():
        if not isinstance(member, dict):
            continue
        wrapped = {inner: values for inner, values in member.items() if isinstance(values, dict)}
        for each, values in (wrapped or {name: member}).items():
            enums[each] = {key: str(label) for key, label in values.items() if isinstance(label, str | int | float)}
    if not enums:
        raise ProtocolError("the enums: the answer holds none that can be read")
    return enums
