"""Addresses of the service: which of them may be called.

Invariants:

- An address that is called is https (http on this machine alone) and holds no user, password, query or fragment.
"""

from urllib.parse import urlsplit

from delta_mirror.calls.addresses import is_this_machine
from delta_mirror.errors import ConfigError


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
    if parts.scheme != "https" and not (parts.scheme == "http" and is_this_machine(host)):
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
