"""Accela on this machine: an invented agency's contacts behind the real interface, with a dial for each open question.

Invariants:

- It listens on 127.0.0.1 alone, and imports nothing of the program.
- Every request is in `calls` before it is answered; every write that was carried out is in `written`, whatever was answered.
- A contact changes by a PUT that is carried out, or by a test's own hand, and by nothing else.

    with AccelaService({"253": {"id": "253", "firstName": "Ann"}}, AccelaDials(put="replace")) as service:
        ...  # service.url, service.calls, service.faults
"""

import json
import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

from delta_mirror.simulator.clock import Clock
from delta_mirror.simulator.server import Conversation, Server

Json: TypeAlias = dict[str, Any]

APP_ID = "637000000000000001"
APP_SECRET = "not-a-real-app-secret"  # noqa: S105 - of an invented app
USERNAME = "invented.officer"
PASSWORD = "not-a-real-password"  # noqa: S105 - of an invented officer
AGENCY = "ISLANDTON"
ENVIRONMENT = "PROD"

ENUMERATIONS = (
    *("birthCity", "birthRegion", "birthState", "driverLicenseState", "gender", "preferredChannel", "race", "relation"),
    *("salutation", "status", "type", "address.country", "address.state"),
)
DATES = ("birthDate", "deceasedDate")
_UNESCAPED = {".0": ".", ".1": "-", ".2": "%", ".3": "/", ".c": " ", ".d": "&", ".e": "#"}


@dataclass(frozen=True, slots=True)
class AccelaDials:
    """What the vendor's page leaves open.

    `put` merges a body into the contact, or replaces it. `null` and `empty` are what these do to a field that they are sent
    for. `lists` are the agency's values, by field; one that is not listed is refused, or ignored. `dates` come back as sent or
    with midnight. `refresh` tokens are new in each answer, kept, or not given at all.
    """

    put: Literal["merge", "replace"] = "merge"
    get: Literal["array", "object"] = "array"
    null: Literal["clears", "ignored"] = "clears"
    empty: Literal["clears", "ignored"] = "clears"
    lists: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    unknown: Literal["refused", "ignored"] = "refused"
    dates: Literal["as sent", "with midnight"] = "as sent"
    refresh: Literal["new", "kept", "none"] = "new"
    token_life: int = 900  # seconds


@dataclass(slots=True)
class AccelaCall:
    """One request as it came; `status` is None while it is not answered, or where the connection was broken."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: str
    grant: str | None = None
    contact_id: str | None = None
    status: int | None = None


@dataclass(slots=True)
class AccelaFault:
    """One thing that goes wrong.

    `kind`: `answer` answers instead of the service, which does nothing; `lost` breaks the connection, `slow` holds the answer
    back until `release` is set; `emse` carries the write out and then says that a script failed. A PUT that is lost or slow
    is `written` at once, late (once `release` is set, as a slow script would) or not at all. The first `after` calls that match
    are let through, `times` are struck then, None is all of them.
    """

    kind: Literal["answer", "lost", "slow", "emse"]
    method: str | None = None
    contact_id: str | None = None
    path: str | None = None
    after: int = 0
    times: int | None = 1
    status: int = 500
    body: Json | str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    written: Literal["at once", "late", "no"] = "no"
    release: Event | None = None

    def strikes(self, call: AccelaCall) -> bool:
        """Return whether it strikes this call, and count the call."""
        wanted = ((self.method, call.method), (self.contact_id, call.contact_id), (self.path, call.path))
        if self.times == 0 or any(want not in (None, have) for want, have in wanted):
            return False
        if self.after > 0:
            self.after -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True


class _RefusalError(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class _BrokenError(Exception):
    """The connection is to be broken."""


class AccelaService:
    """The service on a port of this machine; a context manager.

    Attributes:
        contacts: by their ids; a test may change them.
        dials: may be replaced between two calls.
        calls: every request so far.
        written: contact id and body of every PUT that was carried out.
        faults: what is to go wrong.
        before_write, after_write: called with the contact's id around every write, for somebody else who changes it, too.
        before_answer, after_answer: called with every call, once it is in `calls` and once its answer is out.
    """

    def __init__(
        self, contacts: Mapping[str, Json] | None = None, dials: AccelaDials | None = None, *, clock: Clock | None = None
    ) -> None:
        self.contacts: dict[str, Json] = deepcopy(dict(contacts or {}))
        self.dials = dials or AccelaDials()
        self.calls: list[AccelaCall] = []
        self.written: list[tuple[str, Json]] = []
        self.faults: list[AccelaFault] = []
        self.before_write: Callable[[str], object] | None = None
        self.after_write: Callable[[str], object] | None = None
        self.before_answer: Callable[[AccelaCall], object] | None = None
        self.after_answer: Callable[[AccelaCall], object] | None = None
        self.username, self.password = USERNAME, PASSWORD
        self._clock = clock or Clock.running()
        self._tokens: dict[str, int] = {}  # token -> ticks at which it ends
        self._refresh: set[str] = set()
        self._issued = 0
        self._lock = Lock()
        self._went_wrong: list[Exception] = []
        self._server = _Server(self)
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, name="simulated Accela")
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        for fault in self.faults:
            if fault.release is not None:
                fault.release.set()
        self._server.server_close()
        if self._went_wrong and error is None:
            raise self._went_wrong[0]

    # --- what a test asks --------------------------------------------------------------------------------------------------

    def counted(self, method: str) -> int:
        """Return how many calls of *method* for contacts there were."""
        return sum(call.method == method and call.contact_id is not None for call in list(self.calls))

    def grants(self) -> list[str]:
        """Return by which grants tokens were asked for, in their order."""
        return [call.grant for call in list(self.calls) if call.grant is not None]

    def forget_tokens(self, *, refresh: bool = False) -> None:
        """Make every token of access invalid, and where wanted those to refresh them, too."""
        with self._lock:
            self._tokens.clear()
            if refresh:
                self._refresh.clear()

    # --- answering ---------------------------------------------------------------------------------------------------------

    def answer(self, call: AccelaCall) -> tuple[int, Json | str, Mapping[str, str]]:
        """Return status, body and headers of the answer to *call*.

        Raises:
            _BrokenError: there is none.
        """
        fault = self._fault_for(call)
        trace = {"x-accela-traceId": f"trace-{len(self.calls)}"}
        if fault is not None and fault.kind == "answer":
            body = fault.body if fault.body is not None else _said(fault.status, "")
            return fault.status, body, {**trace, **fault.headers}
        try:
            answer = self._answered(call) if fault is None or fault.kind == "emse" else self._struck(call, fault)
        except _RefusalError as refused:
            return refused.status, _said(refused.status, refused.code, refused.message), trace
        except _BrokenError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a test's hook raises has to reach the test
            self._went_wrong.append(error)
            return 500, _said(500, "internal_server_error"), trace
        if fault is not None and fault.kind == "emse":
            answer = {"status": 200, "code": "emse_error", "message": "EMSE operation failed.", "traceId": "t"}
        return 200, answer, trace

    def _struck(self, call: AccelaCall, fault: AccelaFault) -> Json:
        """Return the answer to a call that is lost or slow."""
        reads = call.method != "PUT"
        answer = self._answered(call) if fault.written == "at once" and not reads else {}
        if fault.release is not None:
            fault.release.wait()
        if fault.kind == "lost" and fault.written != "late":
            raise _BrokenError
        if reads or fault.written == "late":
            answer = self._answered(call)
        if fault.kind == "lost":
            raise _BrokenError
        if not reads and fault.written == "no":
            raise _RefusalError(500, "internal_server_error", "The script ran into its time-out")
        return answer

    def _fault_for(self, call: AccelaCall) -> AccelaFault | None:
        with self._lock:
            return next((fault for fault in self.faults if fault.strikes(call)), None)

    def _answered(self, call: AccelaCall) -> Json:
        if call.path == "/oauth2/token":
            return self._token(call)
        if call.contact_id is None:
            raise _RefusalError(404, "resource_not_found", "No such resource")
        self._check_token(call)
        with self._lock:
            if call.contact_id not in self.contacts:
                raise _RefusalError(404, "resource_not_found", "The contact does not exist")
        if call.method == "PUT":
            return {"result": self._write(call.contact_id, call.body), "status": 200}
        with self._lock:
            found = deepcopy(self.contacts[call.contact_id])
        return {"result": [found] if self.dials.get == "array" else found, "status": 200}

    def _token(self, call: AccelaCall) -> Json:
        asked = dict(parse_qsl(call.body, keep_blank_values=True))
        if call.headers.get("x-accela-appid") != APP_ID or (asked.get("client_id"), asked.get("client_secret")) != (
            APP_ID,
            APP_SECRET,
        ):
            raise _RefusalError(400, "oauth:invalid_client", "unknown app")
        with self._lock:
            if call.grant == "refresh_token":
                if asked.get("refresh_token") not in self._refresh:
                    raise _RefusalError(400, "oauth:invalid_grant", "the refresh token is not valid")
                if self.dials.refresh == "new":
                    self._refresh.discard(asked["refresh_token"])
            elif call.grant != "password":
                raise _RefusalError(400, "oauth:unsupported_grant_type", "unknown grant")
            elif (asked.get("username"), asked.get("password"), asked.get("agency_name"), asked.get("environment")) != (
                *(self.username, self.password, AGENCY, ENVIRONMENT),
            ) or "contacts" not in asked.get("scope", "").split():
                raise _RefusalError(400, "oauth:invalid_grant", "the credentials are not valid")
            self._issued += 1
            access, refresh = f"access-{self._issued}", f"refresh-{self._issued}"
            self._tokens[access] = self._clock.now + self.dials.token_life * 10_000_000
            answer: Json = {"access_token": access, "token_type": "bearer", "expires_in": str(self.dials.token_life)}
            if self.dials.refresh == "new" or (self.dials.refresh == "kept" and call.grant == "password"):
                self._refresh.add(refresh)
                answer["refresh_token"] = refresh
        return {**answer, "scope": "contacts"}

    def _check_token(self, call: AccelaCall) -> None:
        token = call.headers.get("authorization", "")
        with self._lock:
            ends = self._tokens.get(token)
        if ends is None:
            raise _RefusalError(401, "invalid_token" if token else "no_token", "The token is not valid")
        if ends <= self._clock.now:
            raise _RefusalError(401, "token_expired", "The token has expired")
        if (call.headers.get("x-accela-agency"), call.headers.get("x-accela-environment")) != (AGENCY, ENVIRONMENT):
            raise _RefusalError(403, "forbidden", "The agency is not that of the token")

    # --- writing -----------------------------------------------------------------------------------------------------------

    def _write(self, contact_id: str, text: str) -> Json:
        try:
            body = json.loads(text)
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise _RefusalError(400, "bad_request", "Request body is required.")
        if self.before_write is not None:
            self.before_write(contact_id)
        with self._lock:
            held = self.contacts[contact_id]
            base: Json = {name: held[name] for name in ("id", "serviceProviderCode") if name in held}
            merged = _merged(held if self.dials.put == "merge" else base, body)
            self.contacts[contact_id] = self._kept(held, merged)
            self.written.append((contact_id, body))
            result = deepcopy(self.contacts[contact_id])
        if self.after_write is not None:
            self.after_write(contact_id)
        return result

    def _kept(self, held: Json, merged: Json) -> Json:
        """Return *merged* as the agency keeps it: dates in its form, values by its lists, what is cleared by the dials."""
        dials = self.dials
        for path in (*_paths(merged),):
            place, name = _place(merged, path)
            value = place[name]
            bare = value.get("value") if path in ENUMERATIONS and isinstance(value, dict) else value
            before = _place(held, path)[0].get(name) if path in _paths(held) else None
            if value == before:
                continue
            if bare is None or bare == "":
                ways = dials.null if bare is None else dials.empty
                place[name] = before if ways == "ignored" else None
            elif path in dials.lists:
                if str(bare) in dials.lists[path]:
                    place[name] = {"value": bare, "text": dials.lists[path][str(bare)]}
                elif dials.unknown == "refused":
                    raise _RefusalError(400, "data_validation_error", f"{path}: {bare} is no value of the agency")
                else:
                    place[name] = before
            elif path in ENUMERATIONS and isinstance(value, dict):
                place[name] = {"value": bare, "text": str(value.get("text") or bare)}
            elif path in DATES and dials.dates == "with midnight":
                place[name] = f"{str(bare)[:10]} 00:00:00"
        return merged

    def identify(self, call: AccelaCall) -> None:
        """Fill in what *call* asks for, and put it in `calls`."""
        if call.path == "/oauth2/token":
            call.grant = dict(parse_qsl(call.body)).get("grant_type")
        elif call.path.startswith("/v4/contacts/"):
            call.contact_id = _unescaped(unquote(call.path.removeprefix("/v4/contacts/")))
        with self._lock:
            self.calls.append(call)


def _said(status: int, code: str, message: str = "") -> Json:
    if code.startswith("oauth:"):
        return {"error": code.removeprefix("oauth:"), "error_description": message}
    codes = {400: "bad_request", 401: "invalid_token", 403: "forbidden", 404: "resource_not_found", 500: "internal_server_error"}
    return {
        "status": status,
        "code": code or codes.get(status, "unknown"),
        "message": message or "Something failed",
        "more": None,
        "traceId": "220101000000-0000",
    }


def _merged(held: Json, body: Json) -> Json:
    """Return *held* with everything that *body* names put over it, objects member by member."""
    merged = deepcopy(held)
    for name, value in body.items():
        inner = merged.get(name)
        if isinstance(value, dict) and isinstance(inner, dict) and "value" not in value:
            merged[name] = _merged(inner, value)
        else:
            merged[name] = deepcopy(value)
    return merged


def _paths(contact: Json) -> list[str]:
    address = contact.get("address")
    parts = [f"address.{name}" for name in address] if isinstance(address, dict) else []
    return [name for name in contact if name != "address"] + parts


def _place(contact: Json, path: str) -> tuple[Json, str]:
    above, _, name = path.rpartition(".")
    return (contact[above] if above else contact), name


def _unescaped(text: str) -> str:
    return re.sub(r"\.[0-3cde]", lambda found: _UNESCAPED[found.group()], text)


class _Server(Server):
    def __init__(self, service: AccelaService) -> None:
        self.service = service
        super().__init__(0, _Conversation)


class _Conversation(Conversation):
    """One connection."""

    server: _Server

    def converse(self) -> None:
        """Answer one request."""
        service = self.server.service
        body = self.body().decode("utf-8", "replace")
        url = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        call = AccelaCall(self.command, url.path, dict(parse_qsl(url.query, keep_blank_values=True)), headers, body)
        service.identify(call)
        if service.before_answer is not None:
            service.before_answer(call)
        try:
            status, answer, more = service.answer(call)
        except _BrokenError:
            self.reset()
            return
        call.status = status
        sent = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
        self.send_response_only(status)
        for name, value in {"Content-Type": "application/json; charset=utf-8", **more}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)
        self.wfile.flush()
        if service.after_answer is not None:
            service.after_answer(call)
