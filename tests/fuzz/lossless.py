"""JSON read without losing anything, and held against what the mirror has stored of it. No line of this is the program's.

Invariants:

- A number is its digits, an object the list of its members: nothing is merged and nothing rounded.
- A stored value is the one that was sent, or one that the mirror's documentation says it becomes (docs/mirror.md).
"""

import json
import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from hashlib import sha256
from typing import NamedTuple, cast

from delta_mirror.core.model import Value


class Digits(str):
    """A number, as it stands there."""

    __slots__ = ()


class Members(list[tuple[str, "Sent"]]):
    """An object: its members as they stand there, a name that stands twice twice."""

    __slots__ = ()


Sent = str | bool | None | list["Sent"] | Members


class NoJsonError(Exception):
    """The text is no JSON."""


def parse(text: str | bytes) -> Sent:
    """Return what *text* says; octets that are no UTF-8 become halves of surrogate pairs."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    try:
        found: Sent = json.loads(text, parse_int=Digits, parse_float=Digits, parse_constant=_refuse, object_pairs_hook=Members)
    except (ValueError, RecursionError) as error:
        raise NoJsonError from error
    return found


def _refuse(constant: str) -> None:
    raise NoJsonError(constant)


def content_of(sent: Sent) -> bytes:
    """Return what is equal for equal content, the order of members apart; numbers count by value."""
    done: list[bytes] = []
    waiting: list[Sent | _Ended] = [sent]
    while waiting:  # without recursion: it may be nested as deeply as the parser could follow
        now = waiting.pop()
        if isinstance(now, _Ended):
            parts = [done.pop() for _ in range(now.parts)]
            if now.kind == "object":
                parts = sorted(name + value for value, name in zip(parts[::2], parts[1::2], strict=True))
            done.append(_digest(now.kind, b"".join(parts)))
        elif isinstance(now, Members):
            waiting.append(_Ended("object", 2 * len(now)))
            waiting += [part for pair in now for part in reversed(pair)]
        elif isinstance(now, list):
            waiting.append(_Ended("array", len(now)))
            waiting.extend(cast("list[Sent]", now))
        elif isinstance(now, Digits):
            done.append(_digest("number", _plain(now).encode()))
        else:
            done.append(_digest(type(now).__name__, str(now).encode("utf-8", "surrogatepass")))
    return done.pop()


class _Ended(NamedTuple):
    """The end of an array or object of so many parts."""

    kind: str
    parts: int


def _digest(kind: str, octets: bytes) -> bytes:
    return sha256(kind.encode() + octets).digest()


def _plain(digits: str) -> str:
    """Return what is equal for numbers of equal value."""
    number = exact(digits)
    if isinstance(number, str):
        return number
    sign, figures, exponent = number.as_tuple()
    shown = "".join(map(str, figures)).strip("0")
    ends = len(figures) - len("".join(map(str, figures)).rstrip("0"))
    return f"{'-' * sign}{shown}e{int(exponent) + ends}" if shown else "0"


def exact(digits: str) -> Decimal | str:
    """Return the number that *digits* write, the digits themselves where they are beyond all bounds."""
    try:
        number = Decimal(digits)
    except InvalidOperation:
        return digits
    return number if number.is_finite() else digits


def holds_a_name_twice(sent: Sent) -> bool:
    """Return whether an object in *sent* has a member twice."""
    waiting: list[Sent] = [sent]
    while waiting:
        now = waiting.pop()
        if isinstance(now, Members):
            names = [name for name, _ in now]
            if len(set(names)) < len(names):
                return True
            waiting += [inner for _, inner in now]
        elif isinstance(now, list):
            waiting.extend(cast("list[Sent]", now))
    return False


def is_content(text: str, sent: Sent) -> bool:
    """Return whether *text* is JSON that says what was *sent*."""
    try:
        return content_of(parse(text)) == content_of(sent)
    except NoJsonError:
        return False


def fold(name: str) -> str:
    """Return *name* as SQLite compares names."""
    return re.sub("[A-Z]+", lambda found: found[0].lower(), name)


def is_stored_as(sent: Sent, stored: Value, column: str) -> bool:
    """Return whether *stored* in *column* is what was *sent*, in one of the forms that the documentation gives it."""
    if isinstance(sent, bool):
        return (type(stored) is int and stored == sent) or column.lower() == "entityversion"
    if isinstance(sent, list):
        return isinstance(stored, str) and is_content(stored, sent)
    if sent is None:
        return False
    is_version = column.lower() == "entityversion" and isinstance(stored, str)  # never a number, whatever was sent
    if is_version and (
        re.fullmatch("[0-9A-F]{16}", str(stored)) or (isinstance(sent, Digits) and exact(str(stored)) == exact(sent))
    ):
        return True
    if isinstance(sent, Digits):
        if isinstance(stored, str):
            return stored == sent
        number = exact(sent)
        return isinstance(number, Decimal) and Decimal(repr(stored)) == number
    if not isinstance(stored, str):
        return False
    if stored == sent:
        return True
    if _GUID.fullmatch(sent):
        return stored == sent.lower()
    return _as_date_time(sent) == _as_date_time(stored) is not None


_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_DATE_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)(?::(\d\d)(?:\.(\d{1,7})\d*)?)?(?: ?(Z|[+-]\d\d:?\d\d))?", re.ASCII)


def _as_date_time(text: str) -> Sequence[str] | None:
    found = _DATE_TIME.fullmatch(text)
    if found is None:
        return None
    day, clock, seconds, fraction, offset = (part or "" for part in found.groups())
    zone = "+0000" if offset == "Z" else offset.replace(":", "")
    return day, clock, seconds, fraction.ljust(7, "0") if fraction else "", zone
