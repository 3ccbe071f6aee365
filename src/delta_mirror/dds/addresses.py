"""Addresses of the service: which of them may be called, and how much of one may be said.

Invariants:

- An address that is called is https (http on this machine alone) and holds no user, password, query or fragment.
- No message has more of an address than scheme, host and port: the rest can hold a password or the id of a record.
"""

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

from delta_mirror.errors import ConfigError

_HOST = re.compile(r"[\w.:-]{1,253}", re.ASCII)


def plain_address(url: str) -> str:
    """Return *url* without a slash or `/publicapi` at its end.

    Raises:
        ValueError: it is no address that may be called. The message is a predicate, without the address.
    """
    address = url.strip().rstrip("/")
    if address.lower().endswith("/publicapi"):
        address = address[: -len("/publicapi")].rstrip("/")
    try:
        parts = urlsplit(address)
        host, _port = parts.hostname, parts.port  # a port that is no number is noticed only here
    except ValueError:
        raise ValueError("is no address") from None
    if not host or any(sign.isspace() for sign in address):
        raise ValueError("is no address")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("holds more than a host and a path")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_this_machine(host)):
        raise ValueError("is not https")
    return address


def configured_address(url: str, key: str) -> str:
    """Return the plain address that the configuration gives under *key*.

    Raises:
        ConfigError: it is no address that may be called.
    """
    try:
        return plain_address(url)
    except ValueError as error:
        raise ConfigError(f"{key} {error}") from error


def is_loopback(url: str) -> bool:
    """Return whether *url*, an address that may be called, leads to this machine."""
    return _is_this_machine(urlsplit(url).hostname or "")


def host_of(url: str) -> str:
    """Return scheme, host and port of *url*, and nothing where it is no address."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError:
        return ""
    host = parts.hostname or ""
    return f"{parts.scheme}://{host}{port}" if host and _HOST.fullmatch(host) else ""


def _is_this_machine(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
