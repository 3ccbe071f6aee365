"""Where an SFTP address leads: `sftp://user@host[:port]/path` taken apart.

Invariants:

- What is not wholly understood is refused. A refusal does not show the address: it may hold a password.
- A path is the host's own, from its root. `/~/` at its beginning, or no path at all, means the folder that a login begins in.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv6Address
from urllib.parse import unquote, urlsplit

from delta_mirror.errors import RefusedError

PORT = 22

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.ASCII | re.IGNORECASE)
_SFTP = "sftp://"
_FORM = "write sftp://user@host/path or sftp://user@host:port/path"
_HOST_AND_PORT = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9](?:[a-z0-9._-]*[a-z0-9])?))(?::(\d{1,5}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class SftpAddress:
    """A folder on an SFTP host. `host` is in lower case and without brackets; an empty `path` is where a login begins."""

    user: str
    host: str
    port: int
    path: str

    @property
    def known_as(self) -> str:
        """The name of the host in a `known_hosts` file."""
        return self.host if self.port == PORT else f"[{self.host}]:{self.port}"

    def __str__(self) -> str:
        """Return the host, and the port where it is not the usual one, as messages have it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORT else f"{host}:{self.port}"


def is_address(source: str) -> bool:
    """Return whether *source* is an address of any kind, and not the path of a folder."""
    return _SCHEME.match(source) is not None


def read_address(source: str) -> SftpAddress:
    """Return what the address *source* says.

    Raises:
        RefusedError: it is no SFTP address, or holds what it may not.
    """
    if not source.lower().startswith(_SFTP):
        raise RefusedError(f"SOURCE is neither a folder nor an SFTP address; {_FORM}")
    if not source.isprintable() or " " in source:
        raise RefusedError("the SFTP address holds blanks or control characters; write them as %20 and the like")
    if "?" in source or "#" in source:
        raise RefusedError("the SFTP address holds ? or #; write them as %3F and %23")
    try:
        parts = urlsplit(source)
    except ValueError:
        raise RefusedError(f"the SFTP address has a host that cannot be read; {_FORM}") from None
    login, _, place = parts.netloc.rpartition("@")
    if ":" in login:
        raise RefusedError(f"the SFTP address holds a password, which is not used; log in with a key, and {_FORM}")
    found = _HOST_AND_PORT.fullmatch(place.lower())
    port = PORT if found is None or found[3] is None else int(found[3])
    if found is None or not 0 < port < 65536 or (found[1] and not _is_ipv6(found[1])):
        raise RefusedError(f"the SFTP address has a host or a port that cannot be read; {_FORM}")
    user, path = _decoded(login), _decoded(parts.path)
    if not user:
        raise RefusedError(f"the SFTP address names no user; {_FORM}")
    return SftpAddress(user, found[1] or found[2], port, _plain_path(path))


def _plain_path(path: str) -> str:
    if path in ("/", "/~"):
        return ""
    return path[len("/~/") :] if path.startswith("/~/") else path


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def _decoded(text: str) -> str:
    """Return *text* without its percent signs; what is no UTF-8 stays as the bytes that it was."""
    plain = unquote(text, errors="surrogateescape")
    if "\0" in plain:
        raise RefusedError("the SFTP address holds a NUL character, which no name can")
    return plain
