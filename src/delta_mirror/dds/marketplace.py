"""The marketplace: tokens and tenants, each asked for once however many streams wait.

Invariants:

- A token belongs to one location (one more to the account, for the question which locations there are). It is held until
  shortly before its end, or until it is refused.
- apps/tenant is asked once a UTC day over all runs, and within a run once more for every tenant that its answer may be wrong of.
- Credentials that are refused are refused for the rest of the run: offering them again for every stream of every location is
  how accounts get locked.
- Client_id and secret stand in the body of the token call and nowhere else.
- Calls to the marketplace are not counted by the ledger of calls.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from delta_mirror.calls.attempts import UnansweredError
from delta_mirror.core.model import Stream
from delta_mirror.dds.addresses import configured_address, plain_address
from delta_mirror.dds.answers import Tenant, Token, read_oauth_error, read_tenants, read_token
from delta_mirror.dds.transport import Answer, Call, Clock, Transport
from delta_mirror.dds.wire import is_own_json
from delta_mirror.errors import CredentialsError, ProtocolError, StreamRefusedError

_log = logging.getLogger("delta_mirror.dds")

Fetched = TypeVar("Fetched")


@dataclass(frozen=True, slots=True)
class Account:
    """Whose records are mirrored, and where the service is asked for them.

    `public_api_url` is empty where apps/tenant is to be asked for the address of each tenant.
    """

    marketplace_url: str
    public_api_url: str
    client_id: str
    client_secret: str = field(repr=False)


class TenantMemory(Protocol):
    """Where the answer of apps/tenant is kept for one UTC day (`YYYY-MM-DD`). Several threads use it at once."""

    def remembered(self, day: str) -> str | None:
        """Return what was remembered on *day*, None where nothing was."""
        ...

    def remember(self, day: str, body: str) -> None:
        """Keep *body* for *day*, in place of whatever was kept."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Listing:
    """What apps/tenant answered on `day`; `asked` says that it was in this run."""

    day: str
    tenants: Mapping[int, Tenant]
    asked: bool


class Marketplace:
    """The marketplace as one account sees it. Several threads may use it at once.

    Where a *stream* is given, it is on its behalf that the marketplace is asked: with the token of its location.

    Raises:
        ConfigError: the marketplace's address is no plain https address.
    """

    def __init__(self, account: Account, memory: TenantMemory, transport: Transport, clock: Clock) -> None:
        self._account = account
        self._memory = memory
        self._transport = transport
        self._clock = clock
        self._address = configured_address(account.marketplace_url, "dds.marketplace_url")
        self._lock = threading.Lock()
        self._tokens: dict[tuple[int, int] | None, _Shared[Token]] = {}
        self._listing: _Shared[Listing] = _Shared()
        self._doubted: dict[int, Listing] = {}  # by tenant: the listing that a 404 or a missing tenant made us doubt
        self._credentials_refused: str | None = None

    # Tenants

    def listing(self, stream: Stream | None) -> Listing:
        """Return what apps/tenant lists today: as this run has it, as memory has it, or as the service says now."""
        today = self._clock.today()
        return self._listing.get(lambda: self._recall(today) or self._ask_tenants(stream), lambda held: held.day == today)

    def has_newer_listing(self, stream: Stream, doubted: Listing) -> bool:
        """Return whether there is a listing newer than *doubted*, asking apps/tenant for it once per run and tenant."""
        with self._lock:
            if self._doubted.setdefault(stream.tenant_id, doubted) is not doubted:
                return False
        self._listing.get(lambda: self._ask_tenants(stream), lambda held: held is not doubted)
        return True

    def public_api(self, stream: Stream) -> tuple[Listing, str]:
        """Return the public API's address for *stream*, with the listing that names it.

        Raises:
            StreamRefusedError: apps/tenant does not list the tenant, even asked anew.
            ProtocolError: it lists the tenant without an address, or with one that cannot be used.
        """
        listing = self.listing(stream)
        # A tenant that was activated after today's answer was remembered is worth one more question.
        if stream.tenant_id not in listing.tenants and not listing.asked and self.has_newer_listing(stream, listing):
            listing = self.listing(stream)
        tenant = listing.tenants.get(stream.tenant_id)
        if tenant is None:
            raise StreamRefusedError(
                f"{named(stream)}: apps/tenant does not list tenant {stream.tenant_id}. "
                "Check tenant_id, and that a location of it is activated for this client_id.",
                404,
            )
        if tenant.public_api_url is None:
            raise ProtocolError(
                f"{named(stream)}: apps/tenant names no publicApiUrl for tenant {stream.tenant_id}. Set dds.public_api_url."
            )
        try:
            return listing, plain_address(tenant.public_api_url)
        except ValueError as error:
            raise ProtocolError(
                f"{named(stream)}: the publicApiUrl that apps/tenant names for tenant {stream.tenant_id} {error}. "
                "Ask the vendor, or set dds.public_api_url."
            ) from error

    def _recall(self, today: str) -> Listing | None:
        body = self._memory.remembered(today)
        if body is None:
            return None
        try:
            return Listing(today, read_tenants(body.encode()), asked=False)
        except ProtocolError:
            _log.warning("what was remembered of apps/tenant cannot be read; asking again")
            return None

    def _ask_tenants(self, stream: Stream | None) -> Listing:
        """Return what apps/tenant lists now, and keep it for the rest of the UTC day."""
        call = Call("apps/tenant", stream, None, "dds.marketplace_url")

        def send(token: Token) -> Answer:
            return self._transport.send(call, "GET", f"{self._address}/apps/tenant", "/apps/tenant", token=token)

        def attempt() -> tuple[bytes, Mapping[int, Tenant]]:
            answer = self.send_with_token(call, send)
            if answer.is_good:
                return answer.body, self._transport.read(answer, lambda: read_tenants(answer.body))
            self._transport.refuse_for_all(call, answer)
            if answer.status in (401, 403):
                raise CredentialsError(
                    f"{call.wanted}: the service does not let this client_id ask ({answer.trace()}). Check dds.client_id, "
                    "and with the vendor that it is active."
                )
            raise _refused_address(call, answer)

        body, tenants = self._transport.persist(call, attempt)
        today = self._clock.today()
        self._memory.remember(today, body.decode())
        return Listing(today, tenants, asked=True)

    # Tokens

    def send_with_token(self, call: Call, send: Callable[[Token], Answer]) -> Answer:
        """Return what *send* is answered with a token for *call*: with a new one where the first is refused, once a call."""
        token = self.token(call.stream, call.refused)
        answer = send(token)
        if answer.status == 401 and call.refused is None:
            call.refused = token
            return send(self.token(call.stream, token))
        return answer

    def token(self, stream: Stream | None, refused: Token | None = None) -> Token:
        """Return a token of the location of *stream* (None: of the account alone) that is not *refused*.

        Raises:
            CredentialsError: the service does not accept the credentials.
        """
        place = None if stream is None else (stream.tenant_id, stream.location_id)
        with self._lock:
            shared = self._tokens.setdefault(place, _Shared())
        return shared.get(
            lambda: self._fetch_token(stream), lambda held: held is not refused and self._clock.now() < held.renew_at
        )

    def _fetch_token(self, stream: Stream | None) -> Token:
        """Return a token that the service issues now."""
        if self._credentials_refused is not None:
            raise CredentialsError(self._credentials_refused)
        call = Call("an access token", None, None, "dds.marketplace_url")
        form = {
            "grant_type": "client_credentials",
            "client_id": self._account.client_id,
            "client_secret": self._account.client_secret,
        }

        def attempt() -> Token:
            asked = self._clock.now()
            answer = self._transport.send(call, "POST", f"{self._address}/oauth2/token", "/oauth2/token", form=form)
            if answer.is_good:
                return self._transport.read(answer, lambda: read_token(answer.body, asked))
            self._refuse_credentials(call, answer)
            self._transport.refuse_for_all(call, answer)
            if answer.status in (400, 401, 403):
                raise UnansweredError(
                    "the token call is refused by something that is not the service",
                    "A gateway or a proxy in between refuses the call; the credentials may be right.",
                    answer.trace(),
                    status=answer.status,
                )
            raise _refused_address(call, answer)

        return self._transport.persist(call, attempt)

    def _refuse_credentials(self, call: Call, answer: Answer) -> None:
        """Raise CredentialsError where *answer*, to a token call, is the service's own refusal of the credentials."""
        own = is_own_json(answer.body) or (answer.status == 401 and not answer.body.strip())
        if own and answer.status in (400, 401, 403, 404):
            code = read_oauth_error(answer.body)
            self._credentials_refused = (
                f"{call.wanted}: the service does not accept the credentials ({answer.trace()}{f', {code}' if code else ''}). "
                "dds.client_id or dds.client_secret is wrong, or belongs to another dds.marketplace_url."
            )
            raise CredentialsError(self._credentials_refused)


class _Shared(Generic[Fetched]):
    """Something that is fetched by one thread while the others wait for it. A failure is shared by those who waited."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: Fetched | None = None
        self._flight: Future[Fetched] | None = None

    def get(self, fetch: Callable[[], Fetched], serves: Callable[[Fetched], bool]) -> Fetched:
        """Return what is held if it *serves*, else what *fetch* brings, to this thread or to the one that is at it already."""
        with self._lock:
            if self._held is not None and serves(self._held):
                return self._held
            flight = self._flight
            if flight is None:
                own = self._flight = Future[Fetched]()
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


def named(stream: Stream) -> str:
    """Return what messages call *stream*."""
    return f"{stream.entity} of tenant {stream.tenant_id}, location {stream.location_id}"


def _refused_address(call: Call, answer: Answer) -> ProtocolError:
    return ProtocolError(f"{call.wanted}: the marketplace refuses it ({answer.trace()}). Check dds.marketplace_url.")
