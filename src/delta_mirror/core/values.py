"""One value, one form, wherever it came from: ticks, GUIDs, row versions, date-times.

Invariants:

- Time is counted in ticks of 100 ns since 0001-01-01T00:00:00 UTC. The service writes seven fraction digits, and
  `datetime` holds only six: it is used for no value of a service.
- Text that is not wholly what it looks like stays as it is, to the letter.
"""

import re
from base64 import b64decode
from binascii import Error as Base64Error
from datetime import date
from decimal import Decimal, InvalidOperation

from delta_mirror.core.model import Instant, Value

TICK = 1
SECOND = 10_000_000  # ticks
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
EPOCH = (date(1970, 1, 1).toordinal() - 1) * DAY  # ticks of 1970-01-01T00:00:00 UTC

_DATE_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[T ]([01]\d|2[0-3]):([0-5]\d)(?::([0-5]\d)(?:\.(\d+))?)?(?: ?(Z|[+-](?:0\d|1[0-4]):?[0-5]\d))?",
    re.ASCII,
)
_GUID = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}", re.ASCII)
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*|(?=\.))(\.\d+(?:[eE][+-]?\d+)?|[eE][+-]?\d+)?", re.ASCII)
_SMALLEST, _LARGEST = -(1 << 63), (1 << 63) - 1  # of SQLite's integers
_LONGEST_INTEGER = len(str(_SMALLEST))
_LONGEST_VERSION = len(str((1 << 64) - 1))  # digits; int() refuses a text of thousands of them
_HEX_VERSION = re.compile(r"(?:0[xX])?([0-9a-fA-F]{16})", re.ASCII)


def read_ticks(text: str) -> int | None:
    """Return the ticks of an ISO 8601 date-time, None where *text* is none.

    A date-time without an offset is taken as UTC; fraction digits beyond the seventh are dropped.
    """
    found = _DATE_TIME.fullmatch(text)
    if found is None:
        return None
    hour, minute, second, fraction, offset = found.groups()[3:]
    try:
        days = date.fromisoformat(text[:10]).toordinal() - 1
    except ValueError:
        return None
    ticks = days * DAY + int(hour) * HOUR + int(minute) * MINUTE
    if second:
        ticks += int(second) * SECOND
    if fraction:
        ticks += int(fraction[:7].ljust(7, "0"))
    return ticks - offset_ticks(offset or "")


def read_instant(text: object) -> Instant | None:
    """Return *text* as an instant that keeps the text, None where it is no date-time."""
    if not isinstance(text, str):
        return None
    ticks = read_ticks(text)
    return None if ticks is None else Instant(ticks, text)


def offset_of(text: str) -> str:
    """Return the offset at the end of a date-time as it is written there: `Z`, `+hh:mm`, or nothing."""
    found = _DATE_TIME.fullmatch(text)
    return (found.group(8) or "") if found else ""


def offset_ticks(offset: str) -> int:
    """Return how far *offset* (`Z`, `+hh:mm`, `-hhmm` or nothing) lies ahead of UTC, in ticks."""
    if offset in ("", "Z"):
        return 0
    size = int(offset[1:3]) * HOUR + int(offset[-2:]) * MINUTE
    return -size if offset[0] == "-" else size


def write_ticks(ticks: int, offset: str = "+00:00") -> str:
    """Return *ticks* as a date-time with seven fraction digits, on the wall clock of *offset* and with it at the end."""
    days, rest = divmod(ticks + offset_ticks(offset), DAY)
    seconds, fraction = divmod(rest, SECOND)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return f"{date.fromordinal(days + 1).isoformat()}T{hour:02}:{minute:02}:{second:02}.{fraction:07}{offset}"


def plain_date_time(text: str) -> str | None:
    """Return the stored form of a text that is wholly a date-time, None where it is not.

    The stored form is ISO 8601 with `T`, seven fraction digits where there is a fraction, its own offset, and `Z` as `+00:00`.
    """
    found = _DATE_TIME.fullmatch(text)
    if found is None or read_ticks(text) is None:
        return None
    year, month, day, hour, minute, second, fraction, offset = found.groups()
    stored = f"{year}-{month}-{day}T{hour}:{minute}"
    if second:
        stored += f":{second}"
    if fraction:
        stored += f".{fraction[:7].ljust(7, '0')}"
    if offset == "Z":
        return stored + "+00:00"
    if offset and ":" not in offset:
        return f"{stored}{offset[:3]}:{offset[3:]}"
    return stored + (offset or "")


def is_guid(text: str) -> bool:
    """Return whether *text* is wholly a GUID in its 36-character form, in either case."""
    return _GUID.fullmatch(text) is not None


def plain_row_version(value: int | float | str) -> str:
    """Return a row version as 16 upper-case hex digits, whether it came as hex, as base64 or as a number.

    What is none of the three comes back as text, never as a number.
    """
    if isinstance(value, int):
        return f"{value:016X}" if 0 <= value < 1 << 64 else str(value)
    if not isinstance(value, str):
        return str(value)
    found = _HEX_VERSION.fullmatch(value)
    if found:
        return found.group(1).upper()
    if len(value) == 12 and value.endswith("="):
        try:
            return b64decode(value, validate=True).hex().upper()
        except (Base64Error, ValueError):
            return value
    if value.isascii() and value.isdigit():
        digits = value.lstrip("0") or "0"
        if len(digits) <= _LONGEST_VERSION and int(digits) < 1 << 64:
            return f"{int(digits):016X}"
    return value


def plain_number(digits: str) -> Value:
    """Return the number that *digits* write, or *digits* themselves where SQLite could not give that number back.

    SQLite holds integers of 64 bits and doubles. A longer integer, and a decimal that is not the shortest way to write some
    double (more than 15 digits, as a rule), stay text to the letter. So does what is no number, or one with leading zeros.
    """
    found = _NUMBER.fullmatch(digits)
    if found is None:
        return digits
    if found.group(1) is None:
        if len(digits) > _LONGEST_INTEGER:  # int() refuses a text of thousands of digits
            return digits
        whole = int(digits)
        return whole if _SMALLEST <= whole <= _LARGEST else digits
    number = float(digits)
    try:
        return number if Decimal(repr(number)) == Decimal(digits) else digits
    except InvalidOperation:  # an exponent beyond what even Decimal holds
        return digits
