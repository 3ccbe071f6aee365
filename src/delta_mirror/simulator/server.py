"""What the simulated services that answer in threads share: a server on a port of this machine, and one connection to it.

Invariants:

- It listens on 127.0.0.1 alone.
- Closing the server ends every connection, also those that are kept alive.
"""

import os
import socket
import struct
from abc import abstractmethod
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock


class Server(ThreadingHTTPServer):
    """Knows its open connections, so that those which are kept alive do not outlive it."""

    daemon_threads = False
    request_queue_size = 64

    def __init__(self, port: int, conversation: type["Conversation"]) -> None:
        self._open: set[socket.socket] = set()
        self._ends = False
        self._lock = Lock()
        super().__init__(("127.0.0.1", port), conversation)

    def opened(self, connection: socket.socket) -> None:
        """Count a connection among those that are open."""
        with self._lock:
            self._open.add(connection)
            if self._ends:  # accepted just before the end, and only now in its thread
                connection.shutdown(socket.SHUT_RDWR)

    def closed(self, connection: socket.socket) -> None:
        """Count it among them no more."""
        with self._lock:
            self._open.discard(connection)

    def server_close(self) -> None:
        """End every connection and every thread."""
        with self._lock:
            self._ends = True
            for connection in self._open:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # the other side was faster
        super().server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """A caller that breaks off is no trouble of the service."""


class Conversation(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # an answer leaves in one piece
    server: Server

    def setup(self) -> None:
        """Begin."""
        super().setup()
        self.server.opened(self.connection)

    def finish(self) -> None:
        """End."""
        self.server.closed(self.connection)
        try:
            super().finish()
        except OSError:
            self.close_connection = True  # broken off by the caller while the rest was sent

    def do_GET(self) -> None:
        """Answer a GET."""
        self.converse()

    def do_POST(self) -> None:
        """Answer a POST."""
        self.converse()

    def do_PUT(self) -> None:
        """Answer a PUT."""
        self.converse()

    @abstractmethod
    def converse(self) -> None:
        """Answer one request."""

    def body(self) -> bytes:
        """Return the body of the request in hand."""
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def reset(self) -> None:
        """Close at once and unsent, which the other side sees as a reset."""
        self.server.closed(self.connection)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the standard library
        """Nothing is printed: the service's `calls` has it."""
