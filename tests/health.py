"""A health check on this machine, that remembers how it was called."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Check(ThreadingHTTPServer):
    """Remembers by which paths it was called, and answers with `status` once `release` is set."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.status = 200
        self.location = ""
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.release = threading.Event()
        self.release.set()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Check)
        self.server.paths.append(self.path)
        self.server.headers.append(dict(self.headers))
        self.server.release.wait(30)
        self.send_response(self.server.status)
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that the base class gives it
        pass


@contextmanager
def listening() -> Iterator[Check]:
    """Let a health check listen while the body runs."""
    with Check() as check:
        thread = threading.Thread(target=check.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield check
        finally:
            check.release.set()
            check.shutdown()
            thread.join()
