"""What is behind a call that fails below HTTP, in plain words: name, network, TLS, proxy, time.

Invariants:

- What is said is ours, but for OpenSSL's word on a certificate: the exceptions' own texts hold addresses and headers.
- A failure is final only where asking again cannot help before somebody has mended something.
"""

import http.client
import socket
import ssl
from collections.abc import Iterator
from typing import NamedTuple

import requests
from urllib3 import exceptions as urllib3_errors


class Failure(NamedTuple):
    """What happened, what to do, and whether asking again is useless."""

    trouble: str
    advice: str
    is_final: bool = False


_PROXY = (requests.exceptions.ProxyError, requests.exceptions.InvalidProxyURL, urllib3_errors.ProxyError)
_TLS = (requests.exceptions.SSLError, urllib3_errors.SSLError, ssl.SSLError)
# A connection cut during the handshake is also an SSLError, but no refusal: that one is worth another attempt.
_CUT = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionResetError, TimeoutError)

# The proxy's, too: urllib3 blames it only as long as there is no tunnel through it.
_NO_CONNECTION = (urllib3_errors.NewConnectionError, urllib3_errors.ConnectTimeoutError, urllib3_errors.ProxyError)

_FAILURES: tuple[tuple[tuple[type[BaseException], ...], Failure], ...] = (
    (_PROXY, Failure("the proxy fails", "Check HTTPS_PROXY and NO_PROXY, and that the proxy lets the host through.")),
    (
        (urllib3_errors.NameResolutionError, socket.gaierror),
        Failure("the name of the host cannot be resolved (DNS)", "Check the network and the name."),
    ),
    ((ConnectionRefusedError,), Failure("the connection is refused", "Check the address and the firewall.")),
    (
        (requests.exceptions.Timeout, urllib3_errors.ReadTimeoutError, TimeoutError),
        Failure("time is out", "Check the network; http.timeout gives the service more time."),
    ),
    (
        (urllib3_errors.DecodeError,),
        Failure("the answer cannot be unpacked", "Try again later; a proxy in between may damage answers."),
    ),
    ((urllib3_errors.NewConnectionError,), Failure("no connection can be made", "Check the network.")),
    (
        (urllib3_errors.ProtocolError, ConnectionError, requests.exceptions.ConnectionError, http.client.HTTPException),
        Failure("the connection broke off", "Try again later; the service is slow or interrupted at night."),
    ),
    (
        (ValueError,),  # those of requests are about an address or a header
        Failure("the address cannot be called", "Check the configured addresses and the proxies of the environment.", True),
    ),
)


def diagnose(error: Exception) -> Failure:
    """Return what is behind *error*: the first of the kinds above that it is, or that it wraps."""
    causes = tuple(_causes(error))

    def is_a(kinds: tuple[type[BaseException], ...]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    if is_a(_TLS) and not is_a(_CUT) and not is_a(_PROXY):
        found = next((cause for cause in causes if isinstance(cause, ssl.SSLCertVerificationError)), None)
        trouble = "TLS fails" if found is None else f"TLS fails: {found.verify_message}"
        return Failure(trouble, "Where a company's own certificate authority stands in between, name it in http.ca_file.", True)
    return next((failure for kinds, failure in _FAILURES if is_a(kinds)), Failure("the connection failed", "Check the network."))


def is_unsent(error: Exception) -> bool:
    """Return whether *error* means that no connection was made: nothing of the request can have left this machine."""
    return any(isinstance(cause, _NO_CONNECTION) for cause in _causes(error))


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
