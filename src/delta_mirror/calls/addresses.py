"""How much of an address may be said, and whether it leads to this machine.

Invariants:

- No message has more of an address than scheme, host and port: the rest can hold a password or the id of a record.
- Whether an address leads to this machine is told by its spelling alone: what a name resolves to can change.
"""

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

_HOST = re.compile(r"[\w.:-]{1,253}", re.ASCII)


def is_loopback(url: str) -> bool:
    """Return whether *url*, an address that may be called, leads to this machine."""
    return is_this_machine(urlsplit(url).hostname or "")


def host_of(url: str) -> str:
    """Return scheme, host and port of *url*, and nothing where it is no address."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError:
        return ""
    host = parts.hostname or ""
    return f"{parts.scheme}://{host}{port}" if host and _HOST.fullmatch(host) else ""


def is_this_machine(host: str) -> bool:
    """Return whether the name or the number *host* is this machine's own."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
