"""Lines to the broker: connections that stay open, each in the hands of one thread, and one request at a time on each.

This is the one home of HTTP in this edge. It stands on http.client: a message takes two requests, and at a thousand messages a
second requests and urllib3 would take more time for theirs than a processor has (docs/performance.md). What the environment
says of proxies and certificates is found as requests finds it, so that both edges go the same way.

Invariants:

- Nothing is asked again here, and no redirect is followed: the token would go with it.
- A line goes to the configured host alone, or to the proxy that stands before it. To this machine there is no proxy.
- No exception of http.client, requests or a socket leaves this module, and no text of one: it could hold addresses and headers.
- After anything but a whole answer the connection is closed, and the next request opens another.
"""

import http.client
import logging
import socket
import ssl
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import unquote, urlsplit

import requests
from requests.exceptions import ProxyError
from urllib3.util import wait_for_read

from delta_mirror import __version__
from delta_mirror.calls.addresses import host_of, is_loopback
from delta_mirror.calls.attempts import Manners, UnansweredError
from delta_mirror.calls.diagnosis import diagnose
from delta_mirror.errors import ConfigError, ProtocolError, UnreachableError
from delta_mirror.nexus.broker import Answer

LARGEST_BODY = 128 * 1024 * 1024  # bytes; the broker's own limit for a message is 100 MB at most
USER_AGENT = f"delta-mirror/{__version__}"
STALE_AFTER = 2.0  # seconds of silence after which a connection is looked at before it is used again

_log = logging.getLogger("delta_mirror.nexus")


class Route:
    """How the host of *url* is reached from here: by which proxy, and with which certificates.

    Raises:
        ConfigError: `ca_file` holds no certificates, or the environment's proxy cannot be used.
    """

    def __init__(self, url: str, ca_file: str) -> None:
        parts = urlsplit(url)
        self.url = url
        self.host, self.port = parts.hostname or "", parts.port
        self.is_secure = parts.scheme == "https"
        self.proxy: tuple[str, int] | None = None
        self.proxy_headers: dict[str, str] = {}
        verify: object = True
        if not is_loopback(url):
            with requests.Session() as session:
                found = session.merge_environment_settings(url, {}, None, None, None)
            verify = found["verify"]
            self._find_proxy(requests.utils.select_proxy(url, found["proxies"]))
        bundle = ca_file or (verify if isinstance(verify, str) else requests.utils.DEFAULT_CA_BUNDLE_PATH)
        self.tls = _tls(bundle, "http.ca_file" if ca_file else "REQUESTS_CA_BUNDLE") if self.is_secure else None

    def _find_proxy(self, address: str | None) -> None:
        if not address:
            return
        parts = urlsplit(address if "://" in address else f"http://{address}")
        try:
            port = parts.port or 8080
        except ValueError:
            port = 0
        if parts.scheme != "http" or not parts.hostname or not port:
            raise ConfigError(
                "the proxy that the environment names for nexus.service_bus_url (HTTPS_PROXY) cannot be used; give it as "
                "http://host:port, or exempt the host (NO_PROXY)"
            )
        self.proxy = parts.hostname, port
        if parts.username is not None:
            credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self.proxy_headers["Proxy-Authorization"] = f"Basic {b64encode(credentials.encode()).decode('ascii')}"

    def connection(self, timeout: float) -> http.client.HTTPConnection:
        """Return a connection that is not open yet."""
        host, port = self.proxy or (self.host, self.port)
        if self.tls is None:
            connection = http.client.HTTPConnection(host, port, timeout=timeout)
        else:
            connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=self.tls)
        if self.proxy:
            connection.set_tunnel(self.host, self.port, self.proxy_headers)
        return connection


class Line:
    """One connection along *route*; not for two threads at once, but for `hang_up`.

    `sent` counts the requests, `is_down` says that it was hung up.
    """

    def __init__(self, route: Route, manners: Manners, now: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self.sent = 0
        self._route = route
        self._timeout = manners.timeout
        self._now = now
        self._monotonic = monotonic
        self._connection: http.client.HTTPConnection | None = None
        self._used_at = 0.0
        self.is_down = False

    def ask(self, wanted: str, method: str, target: str, authorization: str, *, patience: float = 0.0) -> Answer:
        """Return the answer to one request without a body, read whole, whatever its status.

        *wanted* says in messages what is asked for; *patience* is for how many seconds beyond the usual the broker may be silent.

        Raises:
            UnansweredError: none came, or only a part.
            UnreachableError: none can come until something is mended: TLS, an address that cannot be called; or the line was
                hung up.
            ProtocolError: it is too large.
        """
        headers = {"Authorization": authorization, "User-Agent": USER_AGENT}
        started = self._monotonic()
        try:
            connection = self._open()
            if connection.sock is not None:
                connection.sock.settimeout(self._timeout + patience)
            self.sent += 1
            connection.request(method, target, headers=headers)
            with connection.getresponse() as response:
                body = _body_of(response)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            if self.is_down:  # nobody's failure, and no other attempt could do better
                raise UnreachableError(f"{wanted}: broken off, for the run ends.") from error
            raise self._failure(wanted, error) from error
        except BaseException:
            self.close()
            raise
        self._used_at = self._monotonic()
        if len(body) > LARGEST_BODY:
            self.close()
            raise ProtocolError(f"{wanted}: the answer is larger than {LARGEST_BODY} bytes; no message of the broker is.")
        found = {name.lower(): value for name, value in response.headers.raw_items()}
        _log.debug("%s -> %d, %d bytes, %.3f s", wanted, response.status, len(body), self._used_at - started)
        return Answer(response.status, body, found, self._now())

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def hang_up(self) -> None:
        """Break off whatever is being asked, from another thread, and let nothing more be asked."""
        self.is_down = True
        sock = None if self._connection is None else self._connection.sock
        if sock is not None:
            with suppress(OSError):  # closed in the meantime
                # Of the socket itself: that of TLS takes away what the other thread is reading with.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def _open(self) -> http.client.HTTPConnection:
        """Return the connection, opened anew where the broker may have closed it in a pause."""
        if self.is_down:
            raise ConnectionAbortedError
        connection = self._connection
        if connection is not None and self._has_ended(connection):
            connection.close()
        if connection is None or connection.sock is None:
            connection = self._connection = self._route.connection(self._timeout)
            try:
                connection.connect()
            except ssl.SSLError:
                raise
            except OSError as error:
                if self._route.proxy is None:
                    raise
                raise ProxyError(error) from error
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _has_ended(self, connection: http.client.HTTPConnection) -> bool:
        """Return whether the other side has closed *connection* in a pause: nothing was asked, so only its end can have come."""
        is_stale = self._monotonic() - self._used_at > STALE_AFTER
        return is_stale and connection.sock is not None and wait_for_read(connection.sock, timeout=0.0)

    def _failure(self, wanted: str, error: Exception) -> UnansweredError | UnreachableError:
        failure = diagnose(error)
        trouble = f"{failure.trouble} at {host_of(self._route.url)}"
        _log.debug("%s -> %s", wanted, failure.trouble)
        if failure.is_final:
            return UnreachableError(f"{wanted}: {trouble}. {failure.advice}")
        return UnansweredError(trouble, failure.advice, "no answer")


def _body_of(response: http.client.HTTPResponse) -> bytes:
    body = response.read(LARGEST_BODY + 1)
    if response.length and len(body) <= LARGEST_BODY:  # bytes that were announced and never came
        raise http.client.IncompleteRead(b"")
    return body


def _tls(bundle: str, key: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=bundle)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"{key} cannot be read as certificates in PEM form: {bundle}") from error
