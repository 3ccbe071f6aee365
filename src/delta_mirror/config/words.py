"""Texts of a configuration, and about it: durations and URLs read, and what is said of a value without saying it.

Invariants:

- Nothing here knows a section or a key: texts go in, and what is read of them comes out.
- What only a refusal needs is imported there: this is on the way of every command.
"""

import re
from collections.abc import Iterable
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from pathlib import Path
from urllib.parse import urlsplit

from delta_mirror.errors import ConfigError

SECOND = 1  # seconds, as all durations here
MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR
LONGEST = 36500 * DAY  # now less this is still a date
LARGEST_FILE = 1 << 20  # bytes of a configuration, or of the file of a secret: a path may lead to a device without an end
LONGEST_SHOWN = 100  # characters of a text that a refusal shows
_UNITS = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY}
_DURATION = re.compile(r"(\d+)([smhd])", re.ASCII)
PRINTABLE = re.compile(r"[!-~]+", re.ASCII)
_HOST_AND_PORT = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?)(?::\d+)?", re.ASCII)


def read_duration(text: str) -> int:
    """Return the seconds of a duration such as `90s`, `10m`, `2h` or `7d`.

    Raises:
        ValueError: *text* is none, or is longer than 36500d; the message can be shown to people.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        msg = f"{quoted(text)} is no duration; write a whole number and s, m, h or d: 90s, 10m, 2h, 7d"
        raise ValueError(msg)
    number, unit = found.groups()
    # The length is looked at first, as int() has an error of its own for thousands of digits.
    digits = number.lstrip("0") or "0"
    if len(digits) > len(str(LONGEST)) or int(digits) * _UNITS[unit] > LONGEST:
        msg = f"a duration may not be longer than {duration_text(LONGEST)}"
        raise ValueError(msg)
    return int(digits) * _UNITS[unit]


def duration_text(seconds: int) -> str:
    """Return *seconds* in the largest unit that leaves no rest."""
    unit = next(unit for unit in ("d", "h", "m", "s") if seconds % _UNITS[unit] == 0)
    return f"{seconds // _UNITS[unit]}{unit}"


def plain_url(text: str) -> str:
    """Return *text* without a slash at its end, scheme and host in lower case.

    Raises:
        ValueError: it cannot be used; the message does not show it.
    """
    if not text:
        raise ValueError("is empty; give an https:// address")
    # Before anything else: urlsplit drops tabs and line feeds in silence.
    if PRINTABLE.fullmatch(text) is None:
        raise ValueError("holds blanks, control characters or letters outside ASCII; give a plain https:// address")
    if "?" in text or "#" in text:
        raise ValueError("has a query or a fragment (? or #); leave it away")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        # Not chained: the error may show the URL.
        raise ValueError("has a host or a port that cannot be read; give https://host or https://host:port") from None
    if parts.scheme not in ("https", "http"):
        raise ValueError("is no https:// address; give https://host or https://host:port")
    if "@" in parts.netloc:
        raise ValueError("holds credentials (before the @); leave them away")
    # Stricter than urlsplit, which takes `[::1]elsewhere` and `a\b` for hosts that other readers of URLs see differently.
    found = _HOST_AND_PORT.fullmatch(parts.netloc.lower())
    if found is None or port == 0:
        raise ValueError("has a host or a port that cannot be read; give https://host or https://host:port")
    if parts.scheme == "http" and not _is_loopback(found.group(1)):
        raise ValueError("must begin with https://; plain http:// is for this machine alone (localhost, 127.0.0.0/8, [::1])")
    return f"{parts.scheme}://{found.group()}{parts.path.rstrip('/')}"


def _is_loopback(host: str) -> bool:
    """Return whether *host* is this machine: by its spelling alone, as what a name resolves to can change."""
    if host == "localhost":
        return True
    try:
        return IPv6Address(host[1:-1]) == IPv6Address("::1") if host.startswith("[") else IPv4Address(host).is_loopback
    except AddressValueError:
        return False


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return which of the *known* words was meant, or all of them where none is near."""
    from difflib import get_close_matches

    by_lower = {name.lower(): name for name in known}
    near = get_close_matches(word.lower(), by_lower, n=1)
    return f"did you mean {by_lower[near[0]]}?" if near else f"known are {', '.join(by_lower.values())}"


def kind_of(value: object) -> str:
    """Return what a value of TOML is called, without the value."""
    names = {bool: "a boolean", int: "a number", float: "a decimal number", str: "text", list: "an array", dict: "a table"}
    return names.get(type(value), "a date or time")


def shown(name: str) -> str:
    """Return a name from the file as it is, or escaped where it would upset a terminal; of a long one the beginning."""
    return _cut(name) if name.isprintable() and name else quoted(name)


def quoted(text: str) -> str:
    """Return a text from the file in quotes, what would upset a terminal as escapes; of a long one the beginning."""
    return repr(_cut(text))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def why(error: OSError) -> str:
    """Return why a file could not be read, as the end of a sentence."""
    if isinstance(error, FileNotFoundError):
        return "does not exist"
    if isinstance(error, IsADirectoryError):
        return "is a folder"
    if isinstance(error, PermissionError):
        return "may not be read by this user"
    return f"cannot be read ({error.strerror})"


def is_utf8(text: str) -> bool:
    """Return whether *text*, decoded by the system or with `surrogateescape`, came from UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def fits_a_header(text: str) -> bool:
    """Return whether *text* can stand in a header of HTTP: printable ASCII without a blank at either end."""
    return text.isascii() and text.isprintable() and text == text.strip()


def expanded(text: str, what: str) -> Path:
    """Return *text* as a path, with `~` and `~user` in front replaced by that home; *what* is named in a refusal."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        msg = f"{what} begins with {Path(text).parts[0]}, and there is no such home folder; write the whole path"
        raise ConfigError(msg) from None
