"""The DDS's HTTP over real sockets: what is sent, what is made of broken connections, and how threads share."""

import gzip
import json
import logging
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest

from delta_mirror.core.model import PageRequest, Record, Stream
from delta_mirror.core.values import EPOCH, SECOND
from delta_mirror.dds.api import Account, Dds, Manners
from delta_mirror.errors import (
    BudgetError,
    ConfigError,
    CredentialsError,
    LimitedError,
    ProtocolError,
    StreamRefusedError,
    UnreachableError,
)
from delta_mirror.simulator import CLIENT_ID, CLIENT_SECRET, Dials, Service, World, faults
from delta_mirror.simulator import Stream as SimulatedStream
from tls import pem

CLIENTS = Stream(11, 9, "Client")
FIRST = PageRequest("2026-05-04T12:00:00.0000000+00:00", 0, 200, may_be_past_end=False)
SECRET = "not-a-real-secret"
NOW = 1_777_896_000.0  # 2026-05-04T12:00:00Z
NOW_DATE = "Mon, 04 May 2026 12:00:00 GMT"
REFERENCE = "0f0f0f0f-0000-4000-8000-00000000e220"
RECORD_ID = "c1c1c1c1-0000-4000-8000-000000000001"
PAGE = json.dumps(
    {
        "pageNumber": 0,
        "lastChangeDateIncludedInPage": "2026-05-04T11:00:00.0000001+00:00",
        "referenceId": REFERENCE,
        "data": [
            {"Client_T": {"EntityId": RECORD_ID, "FirstName": "Marigold", "DateUpdated": "2026-05-04T11:00:00.0000001+00:00"}}
        ],
    }
).encode()


@dataclass
class Time:
    """A clock that moves only when somebody sleeps, and remembers for how long."""

    seconds: float = NOW
    slept: list[float] = field(default_factory=list)

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds


@dataclass
class Ledger:
    """A ledger of calls that admits so many and remembers what it is told."""

    budget: int = 1000
    admitted: list[Stream] = field(default_factory=list)
    limits: list[tuple[Stream | None, float | None]] = field(default_factory=list)

    def admit(self, stream: Stream) -> None:
        if len(self.admitted) >= self.budget:
            raise BudgetError("the budget of the day is spent")
        self.admitted.append(stream)

    def check(self, stream: Stream) -> None:
        """Nothing is stopped."""

    def limited(self, stream: Stream | None, until: float | None) -> None:
        self.limits.append((stream, until))


@dataclass
class Memory:
    """What is remembered of apps/tenant, by day."""

    kept: dict[str, str] = field(default_factory=dict)

    def remembered(self, day: str) -> str | None:
        return self.kept.get(day)

    def remember(self, day: str, body: str) -> None:
        self.kept = {day: body}


@dataclass(frozen=True)
class Asked:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(urlsplit(self.target).query).items()}


@dataclass(frozen=True)
class Reply:
    """What a server of these tests answers; `raw` is sent as it is instead, and the connection closed, `reset` or in order."""

    status: int = 200
    body: bytes = b""
    headers: Sequence[tuple[str, str]] = ()
    raw: bytes | None = None
    reset: bool = False


class Server(ThreadingHTTPServer):
    """A server whose answers a test writes: by path, one after the other, the last for ever."""

    request_queue_size = 64

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Conversation)
        self.asked: list[Asked] = []
        self.replies: dict[str, list[Reply | Callable[[Asked], Reply]]] = {}
        self.lock = threading.Lock()
        self.ended = threading.Semaphore(0)  # released by every connection that ends
        self.url = f"http://127.0.0.1:{self.server_port}"
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
            self.url = f"https://localhost:{self.server_port}"
        issued = iter(range(1, 1000))
        self.script("/oauth2/token", lambda _: _json({"access_token": f"token-{next(issued)}", "expires_in": 3600}))
        self.script("/apps/tenant", _json([{"tenantId": 11, "publicApiUrl": self.url, "locations": [{"locationId": 9}]}]))

    def script(self, path: str, *replies: Reply | Callable[[Asked], Reply]) -> None:
        self.replies[path] = list(replies)

    def pages(self, *replies: Reply | Callable[[Asked], Reply]) -> None:
        self.script("/publicapi/v1/cdc/entity/Client/changes", *replies)

    def on(self, ending: str) -> list[Asked]:
        with self.lock:
            return [asked for asked in self.asked if asked.path.endswith(ending)]

    def handle_error(self, request: object, client_address: object) -> None:
        """A caller that breaks off is part of the tests."""


class _Conversation(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: Server

    def finish(self) -> None:
        super().finish()
        self.server.ended.release()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_CONNECT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked = Asked(self.command, self.path, dict(self.headers.items()), body)
        with self.server.lock:
            self.server.asked.append(asked)
            script = self.server.replies.get(asked.path, [Reply(404, b"<html>no such page</html>")])
            reply = script.pop(0) if len(script) > 1 else script[0]
        if not isinstance(reply, Reply):
            reply = reply(asked)
        if reply.raw is not None:
            self.wfile.write(reply.raw)
            self.wfile.flush()
            self.close_connection = True
            if reply.reset:  # a connection that lingers for no time is closed by a reset
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        self.send_response_only(reply.status)
        for name, value in reply.headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body)
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the standard library
        """`asked` has it."""


def _json(found: object, status: int = 200, *headers: tuple[str, str]) -> Reply:
    return Reply(status, json.dumps(found).encode(), [("Content-Type", "application/json"), *headers])


GOOD = Reply(200, PAGE, [("Date", NOW_DATE)])
EMPTY = _json({"pageNumber": 0, "data": []})


@contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    with Server(tls) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


@contextmanager
def client(
    marketplace: str,
    *,
    public_api: str = "",
    attempts: int = 3,
    timeout: float = 5.0,
    max_wait: float = 60.0,
    ca_file: str = "",
    time: Time | None = None,
    ledger: Ledger | None = None,
    memory: Memory | None = None,
    largest_body: int = 1 << 20,
) -> Iterator[Dds]:
    time = time or Time()
    dds = Dds(
        Account(marketplace, public_api, "a-partner", SECRET),
        Manners(timeout, attempts, max_wait, ca_file),
        ledger or Ledger(),
        memory or Memory(),
        now=time.now,
        sleep=time.sleep,
        jitter=lambda: 0.0,
        largest_body=largest_body,
    )
    try:
        yield dds
    finally:
        dds.close()


def test_a_page_is_asked_for_with_ids_window_token_and_a_start_date_whose_plus_is_encoded(server: Server) -> None:
    server.pages(GOOD)
    with client(server.url) as dds:
        page = dds.fetch(CLIENTS, FIRST)
    [asked] = server.on("/changes")
    assert asked.query == {
        "TenantId": "11",
        "LocationId": "9",
        "StartDate": FIRST.start,
        "PageNumber": "0",
        "ItemsPerPage": "200",
        "RequestId": asked.query["RequestId"],
    }
    assert "%2B00" in asked.target
    assert "+" not in asked.target
    assert str(UUID(asked.query["RequestId"])) == asked.query["RequestId"]
    assert asked.headers["Authorization"] == "Bearer token-1"  # the location's own, with which apps/tenant was asked, too
    assert asked.headers["Accept"] == "application/json"
    assert asked.headers["Accept-Encoding"] == "gzip"
    [entry] = page.entries
    assert isinstance(entry, Record)
    assert entry.root["FirstName"] == "Marigold"
    assert page.reference_id == REFERENCE
    assert page.clock == EPOCH + int(NOW) * SECOND


def test_client_id_and_secret_go_in_the_body_of_the_token_call_and_nowhere_else(server: Server) -> None:
    server.pages(GOOD)
    with client(server.url) as dds:
        dds.fetch(CLIENTS, FIRST)
    asked = server.on("/oauth2/token")[0]
    assert asked.method == "POST"
    assert asked.target == "/oauth2/token"
    assert asked.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert asked.headers["Accept"] == "application/json"
    assert "Authorization" not in asked.headers
    assert parse_qs(asked.body.decode()) == {
        "grant_type": ["client_credentials"],
        "client_id": ["a-partner"],
        "client_secret": [SECRET],
    }
    assert not [other for other in server.asked if other is not asked and SECRET in f"{other.target}{other.headers}"]


def test_packed_answers_are_unpacked(server: Server) -> None:
    server.pages(Reply(200, gzip.compress(PAGE), [("Content-Encoding", "gzip")]))
    with client(server.url) as dds:
        assert len(dds.fetch(CLIENTS, FIRST).entries) == 1


BROKEN = {
    "reset before the answer": Reply(raw=b"", reset=True),
    "closed before the answer": Reply(raw=b""),
    "body shorter than it says": Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n" + PAGE[:40]),
    "chunks that stop": Reply(raw=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n28\r\n" + PAGE[:40] + b"\r\n"),
    "chunks without a size": Reply(raw=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n"),
    "gzip that is none": Reply(200, PAGE, [("Content-Encoding", "gzip")]),
    "gzip that stops": Reply(200, gzip.compress(PAGE)[:-30], [("Content-Encoding", "gzip")]),
    "no HTTP": Reply(raw=b"\x15\x03\x01\x00\x02"),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_answer_is_asked_for_again_with_a_new_request_id_and_a_new_admission(broken: Reply, server: Server) -> None:
    server.pages(broken, GOOD)
    ledger, time = Ledger(), Time()
    with client(server.url, ledger=ledger, time=time) as dds:
        assert len(dds.fetch(CLIENTS, FIRST).entries) == 1
    asked = server.on("/changes")
    assert len(asked) == len(ledger.admitted) == 2
    assert asked[0].query["RequestId"] != asked[1].query["RequestId"]
    assert time.slept == [1.0]


def test_a_connection_that_breaks_every_time_is_given_up_after_the_attempts_allowed(server: Server) -> None:
    server.pages(Reply(raw=b"", reset=True))
    time = Time()
    with client(server.url, attempts=4, time=time) as dds, pytest.raises(UnreachableError) as refused:
        dds.fetch(CLIENTS, FIRST)
    asked = server.on("/changes")
    assert len(asked) == 4
    assert time.slept == [1.0, 2.0, 4.0]
    for part in ("4 attempts", "broke off", server.url, asked[-1].query["RequestId"]):
        assert part in str(refused.value)


def test_a_service_that_is_too_slow_is_given_up_as_out_of_time(server: Server) -> None:
    release = threading.Event()

    def late(_: Asked) -> Reply:
        release.wait()
        return GOOD

    server.pages(late)
    try:
        with client(server.url, attempts=2, timeout=0.05) as dds, pytest.raises(UnreachableError, match=r"time is out.*timeout"):
            dds.fetch(CLIENTS, FIRST)
    finally:
        release.set()
    assert len(server.on("/changes")) == 2


def test_an_address_where_nobody_listens_is_unreachable_and_named() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with client(url, attempts=2) as dds, pytest.raises(UnreachableError) as refused:
            dds.locations()
    for part in ("refused", url, "2 attempts", "dds.marketplace_url"):
        assert part in str(refused.value)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    path.write_text(pem())
    return path


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_a_certificate_that_nobody_vouches_for_ends_the_call_at_the_first_attempt(tls: ssl.SSLContext) -> None:
    time = Time()
    with serving(tls) as server, client(server.url, time=time) as dds:
        with pytest.raises(UnreachableError, match=r"TLS fails: self[- ]signed certificate.*http\.ca_file"):
            dds.locations()
        assert server.asked == []
    assert time.slept == []


def test_a_company_authority_named_in_the_configuration_is_believed(
    tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/at/all.pem")
    with serving(tls) as server, client(server.url, ca_file=str(certificate)) as dds:
        assert dds.locations() == [(11, 9)]


def test_a_connection_cut_during_the_handshake_is_no_refusal_of_tls() -> None:
    time = Time()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(5)

        def cut() -> None:
            with suppress(TimeoutError):  # a client that does not come again fails the test, and does not hang it
                for _ in range(2):
                    listening.accept()[0].close()

        cutter = threading.Thread(target=cut)
        cutter.start()
        url = f"https://127.0.0.1:{listening.getsockname()[1]}"
        with client(url, attempts=2, time=time) as dds, pytest.raises(UnreachableError, match="after 2 attempts"):
            dds.locations()
        cutter.join()
    assert time.slept == [1.0]


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_ca_file_without_certificates_is_refused_before_any_call(content: str | None, tmp_path: Path) -> None:
    ca_file = tmp_path / "authority.pem"
    if content is not None:
        ca_file.write_text(content)
    with pytest.raises(ConfigError, match=r"http\.ca_file"), client("https://127.0.0.1:1", ca_file=str(ca_file)):
        pass


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_for_the_token_would_go_with_it(status: int, server: Server) -> None:
    with serving() as elsewhere:
        server.pages(Reply(status, headers=[("Location", f"{elsewhere.url}/login?secret=hidden")]))
        with client(server.url) as dds, pytest.raises(ProtocolError) as refused:
            dds.fetch(CLIENTS, FIRST)
        assert elsewhere.asked == []
    assert f"redirect to {elsewhere.url}," in str(refused.value)
    assert "hidden" not in str(refused.value)
    assert len(server.on("/changes")) == 1


def test_a_redirect_of_the_token_call_is_not_followed_for_the_secret_would_go_with_it(server: Server) -> None:
    with serving() as elsewhere:
        server.script("/oauth2/token", Reply(307, headers=[("Location", f"{elsewhere.url}/oauth2/token")]))
        with client(server.url) as dds, pytest.raises(ProtocolError, match="redirect"):
            dds.fetch(CLIENTS, FIRST)
        assert elsewhere.asked == []


def test_a_netrc_of_the_user_adds_nothing_to_any_call(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("default login somebody password something\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    server.pages(GOOD)
    with client(server.url) as dds:
        dds.fetch(CLIENTS, FIRST)
    assert [asked.headers.get("Authorization", "") for asked in server.asked] == ["", "Bearer token-1", "Bearer token-1"]


def test_the_proxy_of_the_environment_is_used_and_named_when_it_refuses(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, server.url.replace("http://", "http://somebody:hidden@"))
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    server.script("api.example.test:443", Reply(407))
    with (
        client("https://api.example.test", attempts=1) as dds,
        pytest.raises(UnreachableError, match="the proxy fails") as refused,
    ):
        dds.locations()
    assert server.asked[0].method == "CONNECT"
    assert server.asked[0].target == "api.example.test:443"
    assert "hidden" not in str(refused.value)


def test_a_service_on_this_machine_is_reached_past_any_proxy(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with client(server.url) as dds:
        assert dds.locations() == [(11, 9)]


def test_an_answer_beyond_the_bound_is_refused_before_it_is_read(server: Server) -> None:
    server.pages(Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n{"))
    with client(server.url) as dds, pytest.raises(ProtocolError, match=r"page 0 of Client.*larger than 1048576 bytes.*RequestId"):
        dds.fetch(CLIENTS, FIRST)
    assert len(server.on("/changes")) == 1


def test_an_answer_that_unpacks_beyond_the_bound_is_refused(server: Server) -> None:
    server.pages(Reply(200, gzip.compress(b" " * (3 << 20)), [("Content-Encoding", "gzip")]))
    with client(server.url) as dds, pytest.raises(ProtocolError, match="larger than 1048576 bytes"):
        dds.fetch(CLIENTS, FIRST)


def test_streams_that_fetch_at_once_share_one_token_a_location_and_one_answer_of_apps_tenant(server: Server) -> None:
    server.pages(GOOD)
    streams = [CLIENTS, CLIENTS._replace(location_id=10)] * 4
    together = threading.Barrier(len(streams))

    def fetch(stream: Stream) -> int:
        together.wait()
        return len(dds.fetch(stream, FIRST).entries)

    with client(server.url) as dds, ThreadPoolExecutor(len(streams)) as pool:
        assert list(pool.map(fetch, streams)) == [1] * len(streams)
    assert len(server.on("/oauth2/token")) == 2  # one of them served for apps/tenant, too
    assert len(server.on("/apps/tenant")) == 1
    tokens = {(asked.query["LocationId"], asked.headers["Authorization"]) for asked in server.on("/changes")}
    assert len(tokens) == 2


def test_streams_whose_shared_token_ran_out_renew_it_once(server: Server) -> None:
    streams = [CLIENTS] * 6
    together = threading.Barrier(len(streams))

    def expired(asked: Asked) -> Reply:
        if asked.headers["Authorization"] == "Bearer token-1":
            together.wait()  # so that all of them have been sent with the old token
            return _json({"message": "Token Exception", "referenceId": REFERENCE}, 401)
        return GOOD

    server.pages(expired)
    with client(server.url) as dds, ThreadPoolExecutor(len(streams)) as pool:
        assert len(list(pool.map(lambda stream: dds.fetch(stream, FIRST), streams))) == len(streams)
    assert len(server.on("/oauth2/token")) == 2
    assert len(server.on("/changes")) == 2 * len(streams)


def test_streams_of_a_tenant_that_moved_ask_for_its_address_once(server: Server) -> None:
    streams = [CLIENTS] * 6
    together = threading.Barrier(len(streams))

    def gone(_: Asked) -> Reply:
        together.wait()
        return Reply(404, b"<html>no such cluster</html>")

    with serving() as moved:
        moved.pages(GOOD)
        server.pages(gone)
        server.script(
            "/apps/tenant",
            _json([{"tenantId": 11, "publicApiUrl": server.url}]),
            _json([{"tenantId": 11, "publicApiUrl": moved.url}]),
        )
        with client(server.url) as dds, ThreadPoolExecutor(len(streams)) as pool:
            assert len(list(pool.map(lambda stream: dds.fetch(stream, FIRST), streams))) == len(streams)
        assert len(moved.on("/changes")) == len(streams)
    assert len(server.on("/apps/tenant")) == 2
    assert len(server.on("/changes")) == len(streams)


def test_a_page_that_fails_in_one_thread_leaves_the_others_alone(server: Server) -> None:
    def answer(asked: Asked) -> Reply:
        return GOOD if asked.query["LocationId"] == "9" else _json({"referenceId": REFERENCE}, 403)

    server.pages(answer)
    with client(server.url) as dds, ThreadPoolExecutor(2) as pool:
        refused = pool.submit(dds.fetch, CLIENTS._replace(location_id=10), FIRST)
        assert len(pool.submit(dds.fetch, CLIENTS, FIRST).result().entries) == 1
        with pytest.raises(StreamRefusedError):
            refused.result()


def test_refused_credentials_are_offered_once_a_run_and_never_shown(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "delta_mirror")
    server.script("/oauth2/token", _json({"error": "invalid_client", "referenceId": REFERENCE}, 401))
    with client(server.url, public_api=server.url) as dds:
        for _ in range(3):
            with pytest.raises(CredentialsError) as refused:
                dds.fetch(CLIENTS, FIRST)
    assert len(server.asked) == 1
    for part in ("client_id", "client_secret", "status 401", REFERENCE, "invalid_client"):
        assert part in str(refused.value)
    assert SECRET not in str(refused.value) + caplog.text
    assert "a-partner" not in str(refused.value) + caplog.text


def test_a_limit_ends_the_call_and_the_ledger_is_told_until_when(server: Server) -> None:
    server.pages(_json({"referenceId": REFERENCE}, 429, ("Retry-After", "3600")))
    ledger, time = Ledger(), Time()
    with client(server.url, ledger=ledger, time=time) as dds, pytest.raises(LimitedError) as limited:
        dds.fetch(CLIENTS, FIRST)
    assert limited.value.until == NOW + 3600
    assert ledger.limits == [(CLIENTS, NOW + 3600)]
    assert time.slept == []
    assert len(server.on("/changes")) == 1


def test_the_log_has_every_attempt_with_its_ids_and_none_of_its_secrets(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "delta_mirror.dds")
    server.pages(_json({"referenceId": REFERENCE}, 500), GOOD)
    server.script(f"/publicapi/v1/cdc/entity/Client/latest/{RECORD_ID}", GOOD)
    with client(server.url) as dds:
        dds.fetch(CLIENTS, FIRST)
        dds.fetch_latest(CLIENTS, RECORD_ID)
    attempts = [record for record in caplog.records if record.levelno == logging.DEBUG]
    assert len(attempts) == len(server.asked)
    failed, good = [record.getMessage() for record in attempts if "/changes" in record.getMessage()]
    for part in (
        "GET /publicapi/v1/cdc/entity/Client/changes",
        "status 500",
        REFERENCE,
        server.on("/changes")[0].query["RequestId"],
    ):
        assert part in failed
    assert "status 200" in good
    [warning] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    for part in ("status 500", REFERENCE, "attempt 2 of 3", "1.0 s"):
        assert part in warning
    for hidden in (SECRET, "token-1", "token-2", "a-partner", "Marigold", RECORD_ID):
        assert hidden not in caplog.text


def test_threads_that_come_one_after_the_other_share_a_connection_and_nothing_that_one_was_given(server: Server) -> None:
    server.pages(Reply(GOOD.status, GOOD.body, [*GOOD.headers, ("Set-Cookie", "who=first; Path=/")]))
    with client(server.url) as dds:
        for _ in range(3):
            with ThreadPoolExecutor(1) as pool:
                pool.submit(dds.fetch, CLIENTS, FIRST).result()
    assert server.ended.acquire(timeout=5)
    assert not server.ended.acquire(timeout=0.2)
    assert [asked.headers.get("Cookie") for asked in server.on("/changes")] == [None] * 3


def test_no_connection_outlives_close(server: Server) -> None:
    together = threading.Barrier(2)

    def at_once(_: Asked) -> Reply:
        together.wait()
        return GOOD

    server.pages(at_once)
    with client(server.url) as dds:
        with ThreadPoolExecutor(2) as pool:
            assert len(list(pool.map(lambda stream: dds.fetch(stream, FIRST), [CLIENTS] * 2))) == 2
        assert not server.ended.acquire(blocking=False)
    assert [server.ended.acquire(timeout=5) for _ in range(2)] == [True, True]


@pytest.fixture
def salon() -> World:
    world = World()
    world.populate(clients=500, employees=3, sales=3)
    return world


@contextmanager
def client_of(service: Service, ledger: Ledger) -> Iterator[Dds]:
    time = Time()
    dds = Dds(
        Account(service.url, "", CLIENT_ID, CLIENT_SECRET),
        Manners(5.0, 3, 60.0, ""),
        ledger,
        Memory(),
        now=time.now,
        sleep=time.sleep,
        jitter=lambda: 0.0,
    )
    try:
        yield dds
    finally:
        dds.close()


def walk(dds: Dds, stream: Stream) -> list[str]:
    """Return the ids on all pages from the beginning, in a world where nothing changes meanwhile."""
    ids: list[str] = []
    request = PageRequest("2026-04-28T00:00:00.0000000+00:00", 0, 100, may_be_past_end=False)
    while entries := dds.fetch(stream, request).entries:
        ids += [str(entry.id) for entry in entries]
        request = replace(request, number=request.number + 1, may_be_past_end=True)
    return ids


DIALS = [
    Dials(past_end="404"),
    Dials(past_end="404", envelope="pascal", suffixed_url=True, gzip=False),
    Dials(envelope="pascal", snapshot_data="string", date_header=False),
]


@pytest.mark.parametrize("dials", DIALS)
def test_every_client_of_the_simulated_salon_is_fetched_and_every_call_was_admitted(dials: Dials, salon: World) -> None:
    ledger = Ledger()
    with Service(salon, dials) as service, client_of(service, ledger) as dds:
        assert dds.locations() == [(11, 9), (11, 10)]
        for location_id in (9, 10):
            stream = CLIENTS._replace(location_id=location_id)
            ids = walk(dds, stream)
            assert len(ids) == len(set(ids)) == len(salon.history(SimulatedStream(11, location_id, "Client")).newest)
            assert dds.clock() == salon.now
        assert len(ledger.admitted) == len(service.pages())
        assert service.tokens_issued == 3


def test_faults_between_the_pages_of_the_simulated_salon_lose_nothing(salon: World) -> None:
    ledger = Ledger()
    with Service(salon) as service, client_of(service, ledger) as dds:
        service.faults += [
            faults.reset(page=0),
            faults.truncated(page=1),
            faults.html(200, page=2),
            faults.status(503, retry_after=2, page=1),
            faults.html(404, page=0),
        ]
        service.before_page = lambda call: service.forget_tokens() if call.page == 1 else None
        ids = walk(dds, CLIENTS)
        assert len(set(ids)) == len(salon.history(SimulatedStream(11, 9, "Client")).newest)
        assert service.faults == []
        assert len(ledger.admitted) == len(service.pages())


def test_a_record_and_the_enums_of_the_simulated_salon_can_be_fetched(salon: World) -> None:
    ledger = Ledger()
    with Service(salon) as service, client_of(service, ledger) as dds:
        [known, *_] = walk(dds, CLIENTS)
        assert [entry.id for entry in dds.fetch_latest(CLIENTS, known).entries] == [known]
        with pytest.raises(StreamRefusedError) as refused:
            dds.fetch_latest(CLIENTS, RECORD_ID)
        assert refused.value.status == 404
        assert RECORD_ID not in str(refused.value)
        enums = dds.fetch_enums(CLIENTS)
        assert all(isinstance(label, str) for labels in enums.values() for label in labels.values())
        with pytest.raises(StreamRefusedError, match="right to EmployeeSchedule") as forbidden:
            dds.fetch(CLIENTS._replace(entity="EmployeeSchedule"), FIRST)
        assert forbidden.value.status == 403
