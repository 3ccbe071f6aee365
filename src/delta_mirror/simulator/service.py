"""The simulated service's HTTP face: marketplace and public API on one port of this machine.

Invariants:

- It listens on 127.0.0.1 alone.
- Every request is in `calls` before it is answered, whatever then goes wrong with it.
- What it says of time (tokens, Date) is said by the clock of the world.
- Every JSON answer of the service's own carries a referenceId.
- Leaving the context ends every thread and connection, and raises what went wrong inside the service itself.

    with Service(world, Dials(order="descending")) as service:
        requests.get(service.url + "/apps/tenant", ...)
"""

import gzip
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from random import Random
from threading import Lock, Thread
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl, urlsplit

import orjson

from delta_mirror.simulator import salon
from delta_mirror.simulator.clock import SECOND, http_date, written
from delta_mirror.simulator.dials import Dials
from delta_mirror.simulator.envelope import entry_of, envelope, json_of, spelt
from delta_mirror.simulator.faults import Endpoint, Fault
from delta_mirror.simulator.feed import Feed, TooOldError
from delta_mirror.simulator.salon import Json
from delta_mirror.simulator.server import Conversation, Server
from delta_mirror.simulator.world import Change, Stream, World

CLIENT_ID = "demo-partner"
CLIENT_SECRET = "not-a-real-secret"  # noqa: S105 - of an invented partner
TOKEN_LIFETIME = 3600  # seconds
DEFAULT_PAGE = 20  # rows
_COMPRESSED_FROM = 1024  # bytes
_LOGGED_HEADERS = ("accept", "accept-encoding", "authorization", "content-type", "user-agent")


@dataclass
class Call:
    """One request as it came, and the status that it got.

    Attributes:
        query: the parameters of the URL, names as sent.
        form: the names in the body of a token call, without their values.
        headers: some of the headers, names in lower case.
        at: ticks on the world's clock.
        start: StartDate as sent.
        page: PageNumber as sent, None where it was not sent.
        size: ItemsPerPage likewise.
        record_id: of a call for a single record.
        rows: how many entries the answer held.
        status: None while it is not answered, or where the connection was broken.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    at: int
    endpoint: Endpoint = "unknown"
    form: tuple[str, ...] = ()
    tenant: int | None = None
    location: int | None = None
    entity: str | None = None
    start: str | None = None
    page: int | None = None
    size: int | None = None
    request_id: str | None = None
    record_id: str | None = None
    rows: int | None = None
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "application/json; charset=utf-8"),)


class RefusalError(Exception):
    """The service refuses a call, in its own JSON."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class Service:
    """The service on a port of this machine; a context manager.

    Attributes:
        dials: may be replaced between two calls.
        calls: every request so far.
        faults: what is to go wrong, see `faults`.
        before_page: called before each page is computed, with the call; a test changes the world there.
        tokens_issued: how many tokens were handed out.
    """

    def __init__(
        self,
        world: World,
        dials: Dials | None = None,
        *,
        port: int = 0,
        client_id: str = CLIENT_ID,
        client_secret: str = CLIENT_SECRET,
    ) -> None:
        self.world = world
        self.dials = dials or Dials()
        self.client_id, self.client_secret = client_id, client_secret
        self.calls: list[Call] = []
        self.faults: list[Fault] = []
        self.before_page: Callable[[Call], object] | None = None
        self.tokens_issued = 0
        self._feed = Feed(world)
        self._lock = Lock()
        self._dice = Random(f"{world.seed}/service")  # noqa: S311 - has to be the same again
        self._tokens: dict[str, int] = {}  # token -> ticks at which it ends
        self._slow: list[Fault] = []
        self._went_wrong: list[Exception] = []
        self._server = _Server(self, port)
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, name="simulated service")
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        with self._lock:
            for fault in [*self.faults, *self._slow]:
                if fault.release is not None:
                    fault.release.set()
        self._server.server_close()
        if self._went_wrong and error is None:
            raise self._went_wrong[0]

    # --- what a test asks --------------------------------------------------------------------------------------------------

    def pages(self, entity: str | None = None, location: int | None = None) -> list[Call]:
        """Return the calls for pages so far, of one *entity* and *location* where they are named."""
        with self._lock:
            calls = list(self.calls)
        return [
            call
            for call in calls
            if call.endpoint == "changes" and entity in (None, call.entity) and location in (None, call.location)
        ]

    def forget_tokens(self) -> None:
        """Make every token handed out so far invalid."""
        with self._lock:
            self._tokens.clear()

    # --- answering ---------------------------------------------------------------------------------------------------------

    def answer(self, call: Call, body: bytes) -> tuple[Answer, Fault | None]:
        """Return the answer to *call*, and the fault that its sender has to carry out."""
        fault = self._fault_for(call)
        if fault is not None and fault.kind == "slow" and fault.release is not None:
            fault.release.wait()
        if fault is not None and fault.kind == "answer":
            if fault.body is not None:
                return Answer(fault.status, fault.body, fault.headers), fault
            refusal = self._refusal(RefusalError(fault.status, f"Status{fault.status}", HTTPStatus(fault.status).phrase))
            return Answer(fault.status, refusal.body, fault.headers), fault
        try:
            return self._answered(call, body), fault
        except RefusalError as refused:
            return self._refusal(refused), fault
        except Exception as error:  # noqa: BLE001 - whatever a test's hook raises has to reach the test
            self._went_wrong.append(error)
            return self._refusal(RefusalError(500, "Defect", "the simulator itself failed")), fault

    def identify(self, call: Call, body: bytes) -> None:
        """Fill in what *call* asks for, and put it in `calls`."""
        parts = [part for part in call.path.split("/") if part]
        match [part.lower() for part in parts]:
            case ["oauth2", "token"]:
                call.endpoint, call.form = "token", tuple(self._credentials(call, body))
            case ["apps", "tenant"]:
                call.endpoint = "tenants"
            case ["publicapi", "v1", "cdc", "entity", _, "changes"]:
                call.endpoint, call.entity = "changes", parts[4]
            case ["publicapi", "v1", "cdc", "entity", _, "latest", _]:
                call.endpoint, call.entity, call.record_id = "latest", parts[4], parts[6]
            case ["publicapi", "v1", "system", "enums"]:
                call.endpoint = "enums"
        asked = {name.lower(): value for name, value in call.query.items()}
        call.tenant, call.location = _whole(asked.get("tenantid")), _whole(asked.get("locationid"))
        call.page, call.size = _whole(asked.get("pagenumber")), _whole(asked.get("itemsperpage"))
        call.start, call.request_id = asked.get("startdate"), asked.get("requestid")
        with self._lock:
            self.calls.append(call)

    def _answered(self, call: Call, body: bytes) -> Answer:
        if call.endpoint == "token":
            return self._token(call, body)
        if call.endpoint == "unknown":
            raise RefusalError(404, "NotFound", "No such resource")
        if call.method != "GET":
            raise RefusalError(405, "MethodNotAllowed", "Only GET is allowed here")
        self._check_token(call)
        if call.endpoint == "tenants":
            return self._tenants()
        stream = self._stream_of(call)
        if call.endpoint == "enums":
            return Answer(200, orjson.dumps({name: dict(keys) for name, keys in salon.ENUMS.items()}))
        if stream.entity not in salon.ROOTS:
            raise RefusalError(404, "EntityNotFound", "No such entity")
        if stream.entity not in self.dials.enabled:
            raise RefusalError(403, "EntityNotEnabled", "This entity is not enabled for the partner")
        return self._latest(call, stream) if call.endpoint == "latest" else self._page(call, stream)

    def _token(self, call: Call, body: bytes) -> Answer:
        if call.method != "POST":
            raise RefusalError(405, "MethodNotAllowed", "Only POST is allowed here")
        if {"client_id", "client_secret"} & {name.lower() for name in call.query}:
            raise RefusalError(400, "invalid_request", "Credentials do not belong in the query")
        sent = self._credentials(call, body)
        if sent.get("grant_type", "client_credentials") != "client_credentials":
            raise RefusalError(400, "unsupported_grant_type", "Unknown grant_type")
        if (sent.get("client_id"), sent.get("client_secret")) != (self.client_id, self.client_secret):
            raise RefusalError(401, "invalid_client", "Unknown client_id or client_secret")
        with self._lock:
            self.tokens_issued += 1
            claims = {"sub": self.client_id, "jti": self.tokens_issued}
            token = ".".join(_base64url(part) for part in (b'{"alg":"none"}', orjson.dumps(claims), b"signature"))
            self._tokens[token] = self.world.now + TOKEN_LIFETIME * SECOND
        members = {"access_token": token, "token_type": "Bearer", "expires_in": TOKEN_LIFETIME, "scope": "publicapi"}
        return Answer(200, orjson.dumps(members))

    def _credentials(self, call: Call, body: bytes) -> dict[str, str]:
        """Return what the body of a token call names, from a form or from JSON."""
        if call.headers.get("content-type", "").startswith("application/json"):
            try:
                sent = orjson.loads(body)
            except orjson.JSONDecodeError:
                return {}
            return {str(name): str(value) for name, value in sent.items()} if isinstance(sent, dict) else {}
        return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))

    def _check_token(self, call: Call) -> None:
        kind, _, token = call.headers.get("authorization", "").partition(" ")
        with self._lock:
            ends = self._tokens.get(token, 0) if kind.lower() == "bearer" else 0
        if ends <= self.world.now:
            raise RefusalError(401, "TokenException", "Token Exception")

    def _tenants(self) -> Answer:
        address = self.url + ("/publicapi" if self.dials.suffixed_url else "")
        listed: list[Json] = [
            {
                "tenantId": tenant,
                "name": f"Invented Salons {tenant}",
                "publicApiUrl": address,
                "locations": [{"locationId": location, "name": f"Nowhere {location}"} for location in locations],
            }
            for tenant, locations in self.world.tenants.items()
        ]
        return Answer(200, json_of(listed, self.dials))

    def _stream_of(self, call: Call) -> Stream:
        if call.tenant is None or call.location is None:
            raise RefusalError(400, "ValidationFailed", "TenantId and LocationId are required")
        if call.tenant not in self.world.tenants:
            raise RefusalError(404, "TenantNotFound", "No such tenant")
        if call.location not in self.world.tenants[call.tenant]:
            raise RefusalError(404, "LocationNotFound", "No such location")
        return Stream(call.tenant, call.location, call.entity or "")

    def _page(self, call: Call, stream: Stream) -> Answer:
        dials = self.dials
        number = 0 if call.page is None else call.page
        size = DEFAULT_PAGE if call.size is None else call.size
        asked = {name.lower() for name in call.query}
        if call.start is None or number < 0 or size < 1:
            raise RefusalError(400, "ValidationFailed", "StartDate, PageNumber or ItemsPerPage is missing or out of range")
        if ("pagenumber" in asked and call.page is None) or ("itemsperpage" in asked and call.size is None):
            raise RefusalError(400, "ValidationFailed", "PageNumber and ItemsPerPage are whole numbers")
        if self.before_page is not None:
            self.before_page(call)
        try:
            cut = self._feed.cut(dials, stream, call.start, number, size)
        except ValueError as error:
            raise RefusalError(400, "ValidationFailed", "StartDate is no date-time") from error
        except TooOldError as error:
            raise RefusalError(400, "StartDateTooOld", "Changes are kept for 7 days") from error
        if cut.past_end and dials.past_end == "404":
            raise RefusalError(404, "PageNotFound", "No such page")
        call.rows = len(cut.changes)
        newest = max((change.date for change in cut.changes), default=None)
        about: dict[str, Json | None] = {
            "pageNumber": number,
            "itemsPerPage": cut.size,
            "tenantId": stream.tenant,
            "locationId": stream.location,
        }
        start = written(cut.start, dials.written_offset)
        shown = None if newest is None or not dials.last_change else written(newest, dials.written_offset)
        return self._enveloped(call, {"startDate": start, **about}, {"lastChangeDateIncludedInPage": shown, **about}, cut.changes)

    def _latest(self, call: Call, stream: Stream) -> Answer:
        with self.world.lock:
            change = self.world.history(stream).newest.get((call.record_id or "").lower())
        if change is None:
            raise RefusalError(404, "RecordNotFound", "No such record")
        call.rows = 1
        about: dict[str, Json | None] = {"tenantId": stream.tenant, "locationId": stream.location}
        return self._enveloped(call, {"id": change.id, **about}, about, [change])

    def _enveloped(
        self,
        call: Call,
        request: Mapping[str, Json | None],
        about: Mapping[str, Json | None],
        changes: Sequence[Change],
    ) -> Answer:
        dials = self.dials
        echo: Json = {"entityType": call.entity or "", **{name: value for name, value in request.items() if value is not None}}
        data: Json = [entry_of(change, dials) for change in changes]
        members: dict[str, Json | None] = {"request": echo, **about, "referenceId": self._reference(), "data": data}
        if dials.envelope == "pascal":
            members["requestId"] = call.request_id
        return Answer(200, json_of(envelope(members, dials), dials))

    def _refusal(self, refused: RefusalError) -> Answer:
        dials = self.dials
        error: Json = {"errorCode": refused.code, "message": refused.message}
        members = envelope({"error": error, "message": refused.message, "referenceId": self._reference()}, dials)
        if refused.code.startswith("invalid_"):
            members[spelt("error", dials)] = refused.code  # RFC 6749, 5.2: of a token call, `error` is the code itself
        return Answer(refused.status, json_of(members, dials))

    def _reference(self) -> str:
        with self._lock:
            return salon.guid(self._dice)

    def _fault_for(self, call: Call) -> Fault | None:
        with self._lock:
            for fault in self.faults:
                if fault.strikes(call.endpoint, call.tenant, call.location, call.entity, call.page):
                    if fault.spent:
                        self.faults.remove(fault)
                    if fault.release is not None:
                        self._slow.append(fault)
                    return fault
        return None


class _Server(Server):
    def __init__(self, service: Service, port: int) -> None:
        self.service = service
        super().__init__(port, _Conversation)


class _Conversation(Conversation):
    """One connection."""

    server: _Server

    def converse(self) -> None:
        """Answer one request."""
        service = self.server.service
        body = self.body()
        url = urlsplit(self.path)
        call = Call(
            self.command,
            url.path,
            dict(parse_qsl(url.query, keep_blank_values=True)),
            {name: value for name in _LOGGED_HEADERS if (value := self.headers.get(name)) is not None},
            service.world.now,
        )
        service.identify(call, body)
        answer, fault = service.answer(call, body)
        if fault is not None and fault.kind == "reset":
            self.reset()
            return
        call.status = answer.status
        self._send(answer, fault)

    def _send(self, answer: Answer, fault: Fault | None) -> None:
        service, body = self.server.service, answer.body
        kind = None if fault is None else fault.kind
        headers = dict(answer.headers)
        if service.dials.gzip and len(body) >= _COMPRESSED_FROM and "gzip" in self.headers.get("Accept-Encoding", ""):
            body = gzip.compress(body, compresslevel=1, mtime=0)
            headers["Content-Encoding"] = "gzip"
        if kind == "bad_gzip":
            body, headers["Content-Encoding"] = _not_to_be_unpacked(answer.body), "gzip"
        length = len(body) + (fault.off_by if fault is not None else 0)
        self.send_response_only(answer.status)
        if service.dials.date_header:
            self.send_header("Date", http_date(service.world.now))
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(max(length, 0)))
        self.end_headers()
        if fault is not None and kind == "drip":
            body = self._drip(body, fault)
        self.wfile.write(body[: len(body) // 2] if kind == "truncated" else body)
        self.wfile.flush()
        self.close_connection |= kind == "truncated"

    def _drip(self, body: bytes, fault: Fault) -> bytes:
        """Send *body* byte by byte until *fault* is released; return what is left of it then."""
        for place in range(len(body)):
            if fault.release is not None and fault.release.wait(fault.pause):
                return body[place:]
            self.wfile.write(body[place : place + 1])
            self.wfile.flush()
        return b""


def _not_to_be_unpacked(body: bytes) -> bytes:
    """Return *body* compressed, with its middle overwritten."""
    packed = bytearray(gzip.compress(body, compresslevel=1, mtime=0))
    middle = len(packed) // 2
    packed[middle - 4 : middle + 4] = b"\xff" * 8
    return bytes(packed)


def _whole(text: str | None) -> int | None:
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def _base64url(part: bytes) -> str:
    return urlsafe_b64encode(part).rstrip(b"=").decode()
