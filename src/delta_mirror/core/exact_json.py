"""JSON without loss: read with every number as sent, written alike for equal content.

Invariants:

- A number that SQLite cannot give back is `Digits`, the text sent; an object in which a key stands twice is `Twice`, with all
  that was sent. Nothing else differs from what a JSON parser gives.
- There are two parsers, a fast and a careful one, and whichever reads a text, the result is the same. Where the fast one might
  be wrong, the careful one reads: too often rather than too seldom.
- No error names a value.
"""

import json
import re
from collections.abc import Iterable
from typing import NoReturn, TypeAlias

import orjson

from delta_mirror.core.values import plain_number

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"


class UnreadableError(Exception):
    """A text is no JSON, or not the JSON that is wanted; the text of the error says what is the matter, without values."""


class UnwritableError(Exception):
    """A value has no JSON text of one meaning: a key stands twice, half a surrogate pair, nested beyond 254 levels."""


class Digits(str):
    """A number that SQLite could not give back, as the digits sent."""

    __slots__ = ()


class Twice(dict[str, Json]):
    """An object in which a key stands twice, with all that it was sent with in `pairs`."""

    def __init__(self, pairs: list[tuple[str, Json]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs


def pairs_of(sent: dict[str, Json]) -> Iterable[tuple[str, Json]]:
    """Return the members of an object as sent, one that stands twice in it twice."""
    return sent.pairs if isinstance(sent, Twice) else sent.items()


# ---- reading


def read_json(body: bytes) -> Json:
    """Return what *body* says, its numbers as sent.

    orjson is five times as fast as the standard library, but it makes the nearest double of a long number, takes the last of
    two equal keys, and refuses half a surrogate pair together with all that stands around it. What might be such a body is
    read by the other.

    Raises:
        UnreadableError: it is no JSON.
    """
    try:
        parsed: Json = orjson.loads(body)
        if not _may_be_bent(body, parsed):
            return parsed
    except orjson.JSONDecodeError:
        pass
    return _read_carefully(body)


def _classes() -> bytes:
    """Return the table that writes a body in classes of characters: digits, ends of numbers, exponents and the rest."""
    table = bytearray(b" " * 256)
    for characters, symbol in ((b"0123456789.", b"0"), (b",]} \t\r\n", b";"), (b"-", b"-"), (b"eE", b"e")):
        for character in characters:
            table[character] = symbol[0]
    return bytes(table)


_CLASSES = _classes()
_LONG = b"0" * 16  # up to 15 digits come back from a double as they went in
_TINY = re.compile(rb"e-0{3,};")  # 1e-400 would be read as 0.0; what is too large for a double, orjson refuses itself


def _may_be_bent(body: bytes, parsed: Json) -> bool:
    """Return whether *parsed* may differ from *body*. Looks at the bytes alone, in a few passes at the speed of C."""
    classes = body.translate(_CLASSES)
    if _LONG + b";" in classes or _LONG + b"e" in classes or (b"e-000" in classes and _TINY.search(classes)):
        return True
    # Every member has a colon, so one that another of its name has displaced is missed when everything is written out again.
    # Colons within texts count on both sides, but for one that was sent as an escape.
    if b"\\" in body and b"\\u003" in body:
        return True
    try:
        return body.count(b":") != orjson.dumps(parsed).count(b":")
    except orjson.JSONEncodeError:  # too deep to be written
        return True


def _read_carefully(body: bytes) -> Json:
    # A byte that is no UTF-8 becomes half a surrogate pair: that breaks its own entry, not the whole page.
    text = body.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    try:
        parsed: Json = json.loads(
            text, parse_int=_number, parse_float=_number, parse_constant=_refuse_constant, object_pairs_hook=object_of
        )
    except json.JSONDecodeError as error:
        raise UnreadableError(f"it is no JSON (at character {error.pos} of {len(text)})") from None
    except RecursionError:
        raise UnreadableError("it is nested too deeply") from None
    return parsed


def _number(digits: str) -> int | float | str:
    number = plain_number(digits)
    return Digits(digits) if isinstance(number, str) else number


def _refuse_constant(constant: str) -> NoReturn:
    raise UnreadableError(f"it holds {constant}, which is no JSON")


def object_of(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    """Return the object that has these members; `Twice` where one name stands twice among them."""
    members = dict(pairs)
    return members if len(members) == len(pairs) else Twice(pairs)


# ---- looking


def is_deeper(value: object, levels: int) -> bool:
    """Return whether arrays and objects stand in one another more than *levels* deep in *value*."""
    if not isinstance(value, dict | list):
        return False
    return levels == 0 or any(is_deeper(inner, levels - 1) for inner in _inner(value))


def holds_twice(value: Json) -> bool:
    """Return whether a key stands twice in some object of *value*, which must not be nested very deeply."""
    return isinstance(value, Twice) or (isinstance(value, dict | list) and any(holds_twice(inner) for inner in _inner(value)))


def _inner(value: dict[str, Json] | list[Json]) -> Iterable[Json]:
    return value.values() if isinstance(value, dict) else value


# ---- writing

_SORTED = orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_SUBCLASS


def write_sorted(value: Json) -> bytes:
    """Return *value* as compact JSON with its keys sorted: equal for equal content, in whatever order it was sent.

    Raises:
        UnwritableError: it has no such text.
    """
    try:
        return orjson.dumps(value, default=_fragment, option=_SORTED)
    except orjson.JSONEncodeError as error:
        raise UnwritableError from error


def _fragment(value: object) -> orjson.Fragment:
    if isinstance(value, Digits):
        return orjson.Fragment(str(value))
    raise TypeError


def write_anyhow(value: Json) -> str:
    """Return *value* as JSON text with its keys sorted, whatever is the matter with it: a key that stands twice is there twice.

    Written without recursion, for *value* may be nested as deeply as the parser could follow.
    """
    try:
        return write_sorted(value).decode()
    except UnwritableError:
        pass
    parts: list[str] = []
    waiting: list[Json | _Mark] = [value]
    while waiting:
        now = waiting.pop()
        if isinstance(now, _Mark | Digits):
            parts.append(now)
        elif isinstance(now, dict):
            pairs = sorted(pairs_of(now), key=lambda pair: pair[0])
            parts.append("{")
            waiting.append(_Mark("}"))
            for place, (name, inner) in enumerate(reversed(pairs)):
                waiting.extend((*((_Mark(","),) if place else ()), inner, _Mark(json.dumps(name) + ":")))
        elif isinstance(now, list):
            parts.append("[")
            waiting.append(_Mark("]"))
            for place, inner in enumerate(reversed(now)):
                waiting.extend((*((_Mark(","),) if place else ()), inner))
        else:
            parts.append(json.dumps(now) if isinstance(now, str) else orjson.dumps(now).decode())
    return "".join(parts)


class _Mark(str):
    """Punctuation that is written as it stands."""

    __slots__ = ()
