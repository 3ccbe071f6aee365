"""The DDS's HTTP over real sockets: what is sent, what is made of broken connections, and how threads share."""

import gzip
import json
import logging
import ssl
import struct
import threading
from base64 import b64decode
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
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
        "data": [{"Client_T": {"EntityId": RECORD_ID, "FirstName": "Marigold", "DateUpdated": "2026-05-04T11:00:00.0000001+00:00"}}],
    }
).encode()

# A certificate of "localhost" that signs itself, 2020 to 2120, and its key, both in DER. Made for these tests; it guards nothing.
CERTIFICATE = """
MIIBeDCCAR2gAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMBQxEjAQ
BgNVBAMMCWxvY2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABKYGTfMsobfTk1+ht6sQB7ck3DXZmcBmROluvHonj0PDi8Koll3vmJ4SrelywMli
6XViWeRFS+4nDAkSFRsJjRejXjBcMBoGA1UdEQQTMBGCCWxvY2FsaG9zdIcEfwAAATAPBgNVHRMBAf8EBTADAQH/MA4GA1UdDwEB/wQEAwIChDAdBgNVHQ4E
FgQUNcaHmw32EYz8fPpor19Twu/zjMUwCgYIKoZIzj0EAwIDSQAwRgIhAJ8wHVv7QDQE36goFYR3iBgw7fl8ch836n6LGCSlwUf2AiEA7LZZ3Msuk2O0PJ6e
M38FxWoa2BysL2vUY01Ly6iKsKw=
"""
KEY = """
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgLnkwekpTgFOBwH/ikYAtsWXIaLCeIe68KMpxdTEoiiChRANCAASmBk3zLKG305NfoberEAe3
JNw12ZnAZkTpbrx6J49Dw4vCqJZd75ieEq3pcsDJYul1YlnkRUvuJwwJEhUbCY0X
"""


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
    limits: list[tuple[Stream, float | None]] = field(default_factory=list)

    def admit(self, stream: Stream) -> None:
        if len(self.admitted) >= self.budget:
            raise BudgetError("the budget of the day is spent")
        self.admitted.append(stream)

    def limited(self, stream: Stream, until: float | None) -> None:
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
            if reply.reset:
                self.connection.setsockopt(65535 if hasattr(socket_module(), "SO_NOSIGPIPE") else 1, 13, struct.pack("ii", 1, 0))
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
