"""A host on this machine that answers whatever it is told to, to the octet; and answers that break programs.

Invariants:

- After each answer the connection is closed: what was announced and does not come is missed at once, and nobody waits.
- An answer is a status line, headers and a body as HTTP/1.1 has them, unless it is said to be bent.
"""

import gzip
import socket
import threading
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from types import TracebackType
from typing import NamedTuple, Self

from fuzz import hostile
from fuzz.choices import Choices

LARGEST_BOMB = 24 << 20  # octets; larger than any answer that may be taken here
_STATUSES = (201, 202, 204, 206, 300, 301, 302, 304, 307, 308, 400, 401, 403, 404, 404, 405, 407, 408, 409, 410, 413, 418,
             422, 429, 429, 451, 500, 501, 502, 503, 503, 504, 511, 599, 100, 101, 103, 999, 0)  # fmt: skip
_DATES = (
    "Mon, 04 May 2026 12:00:00 GMT", "Mon, 04 May 2026 12:00:00 -0000", "Mon, 04 May 2026 12:00:00 +9999", "04 May 2026",
    "Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 GMT", "Mon, 01 Jan 0001 00:00:00 +1400",
    "Thu, 01 Jan 1970 00:00:00 GMT",
    "Mon, 99 May 2026 12:00:00 GMT", "Mon, 04 May 26 12:00 EST", "Mon, 04 May 99999 12:00:00 GMT",
    "Sunday, 06-Nov-94 08:49:37 GMT",
    "Sun Nov  6 08:49:37 1994", ",", "Mon,", "0", "-1", "1 1 1 1 1", "Mon, 04 May 2026 12:00:00 +999999999999", "",
)  # fmt: skip
_PAUSES = (
    "0", "1", "61", "600", "-1", "1.5", "1e9", "9" * 18, "9" * 19, "9" * 5000, "NaN", "inf", "0x10", "٣", " 7 ", "7;8", *_DATES,
)  # fmt: skip
_PLACES = (
    "/", "https://elsewhere.example/login?token=x", "http://[", "//", "https://u:p@elsewhere.example", "\x1b[2J", "https://\u202e/",
    "https://elsewhere.example:99999/", "javascript:x", "https://elsewhere.example\r\nX: y", "..", "https:///", "",
)  # fmt: skip
_LENGTHS = ("0", "1", "-1", "99999999999999999999", "9" * 5000, "0x10", "1, 1", "1e3", "٣", "", "268435457")
_ENCODINGS = (
    "identity",
    "gzip, gzip",
    "gzip",
    "deflate",
    "x-gzip",
    "br",
    "zstd",
    "gzip, deflate, gzip, deflate",
    "gzip, " * 400 + "gzip",
    "nonsense",
    "",
)
_TYPES = ("application/json", "text/html; charset=utf-16", "application/json; charset=nonsense", "\x1b[2J", "")


class Asked(NamedTuple):
    """One request: its method, its target, its headers by their names in lower case, and its body."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Line:
    """The host; a context manager. What it answers comes from `answer`, which is set for each try; `asked` is what was asked."""

    def __init__(self) -> None:
        self.answer: Callable[[Asked], bytes] = lambda asked: b""
        self.asked: list[Asked] = []
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True, name="hostile host")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._socket.close()

    def script(self, answer: Callable[[Asked], bytes]) -> None:
        """Answer by *answer* from now on, and forget what was asked."""
        self.asked.clear()
        self.answer = answer

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                connection.settimeout(10)
                asked = _read(connection)
                if asked is not None:
                    self.asked.append(asked)
                    connection.sendall(self.answer(asked))
                    # Closed in order, so that what was sent arrives before the end.
                    connection.shutdown(socket.SHUT_WR)


def _read(connection: socket.socket) -> Asked | None:
    octets = b""
    while b"\r\n\r\n" not in octets:
        piece = connection.recv(65_536)
        if not piece:
            return None
        octets += piece
    head, _, body = octets.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(headers.get("content-length", "0")):
        body += connection.recv(65_536)
    method, target, _ = first.split(" ")
    return Asked(method, target, headers, body)


# ---- answers


def plain(body: bytes, status: int = 200, headers: Sequence[tuple[str, str]] = ()) -> bytes:
    """Return a whole answer in good order."""
    return _written(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body))), *headers], body)


def answer(choices: Choices, body: bytes, more: Sequence[tuple[str, Sequence[str]]] = ()) -> bytes:
    """Return a whole answer with *body*: mostly in good order, at times with another status, odd headers, or bent.

    *more* are headers that this service has, and what they may hold.
    """
    status = 200 if not choices.one_in(3) else choices.among(_STATUSES)
    headers = [("Date", choices.among(_DATES))]
    known = (("Retry-After", _PAUSES), ("Location", _PLACES), ("Set-Cookie", ("a=b", "\x1b[2J")), *more)
    for name, values in known:
        if choices.one_in(4):
            headers.append((name, _value(choices, values)))
    if choices.one_in(8):
        body, coding = _packed(choices, body)
        headers.append(("Content-Encoding", coding))
    if choices.one_in(16):
        body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (body[:7], body[7:]) if piece) + b"0\r\n\r\n"
        headers.append(("Transfer-Encoding", choices.among(("chunked", "chunked, chunked", "gzip, chunked", "x"))))
    elif not choices.one_in(16):
        told = str(max(len(body) + choices.among((0, 0, 0, 0, 0, 0, -1, 1, 1000)), 0)) if not choices.one_in(8) else ""
        headers.append(("Content-Length", told or choices.among(_LENGTHS)))
    headers.append(("Content-Type", choices.among(_TYPES)))
    if choices.one_in(40):
        headers += [(f"X-{number}", "x" * 100) for number in range(choices.among((90, 101, 700)))]
    if choices.one_in(40):
        headers.append(("X-Long", "x" * choices.among((60_000, 66_000))))
    octets = _written(status, headers, body)
    return hostile.bent(choices, octets) if choices.one_in(12) else octets


def _value(choices: Choices, values: Sequence[str]) -> str:
    return choices.among(values) if not choices.one_in(6) else hostile.text(choices, values)


def _written(status: int, headers: Sequence[tuple[str, str]], body: bytes) -> bytes:
    lines = [f"HTTP/1.1 {status} {'OK' if status == 200 else 'x'}", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join(lines).encode("utf-8", "surrogatepass") + b"\r\n\r\n" + body


def _packed(choices: Choices, body: bytes) -> tuple[bytes, str]:
    coding = choices.among(_ENCODINGS)
    match choices.below(6):
        case 0:
            octets = body
        case 1 | 2:
            octets = gzip.compress(body, mtime=0)
        case 3:
            octets = zlib.compress(body)
        case 4:
            octets = gzip.compress(gzip.compress(body, mtime=0), mtime=0)
        case _:
            octets = _bomb(choices.among((1, 2)))
    return (hostile.bent(choices, octets) if choices.one_in(3) else octets), coding


@cache
def _bomb(layers: int) -> bytes:
    octets = b" " * (LARGEST_BOMB * layers**3)
    for _ in range(layers):
        octets = gzip.compress(octets, mtime=0)
    return octets
