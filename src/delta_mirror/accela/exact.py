"""JSON of the service, read and written so that what is not touched goes back to the letter.

core/exact_json.py reads for a database: there 1.10 and 1.1 are one value. Here nothing is stored, and a contact of which one
field is set must not go back with another one written otherwise.

Invariants:

- Nothing is dropped: what has a name twice in one object is not read at all.
- A number is kept as the digits sent: 1.10 does not become 1.1 on its way through us.
- What is written is ASCII, so that no proxy and no older server reads it otherwise.
- No error names a value.
"""

import json
from typing import NoReturn, TypeAlias

from delta_mirror.core.exact_json import Digits, UnreadableError, is_deeper

__all__ = ["Digits", "Json", "TwiceError", "UnreadableError", "read_json", "write_json"]

Json: TypeAlias = "dict[str, Json] | list[Json] | str | bool | None"  # a number is a `Digits`, which is a str

DEEPEST = 100  # levels; what is read has to be written again, and each level takes its share of the stack


class TwiceError(UnreadableError):
    """A name stands twice in one object: which of the two counts, and would have to go back, cannot be told."""


def read_json(body: bytes) -> Json:
    """Return what *body* says.

    Raises:
        UnreadableError: it is no JSON, or nested deeper than anything that the service could mean.
        TwiceError: a name stands twice in one object.
    """
    try:
        found: Json = json.loads(body, parse_int=Digits, parse_float=Digits, parse_constant=_refuse, object_pairs_hook=_members)
    except (ValueError, RecursionError):
        raise UnreadableError("the answer is not JSON") from None  # the error of json carries the text
    if is_deeper(found, DEEPEST):
        raise UnreadableError("the answer is nested too deeply")
    return found


def write_json(value: Json) -> str:
    """Return *value* as JSON, its numbers as they were sent."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(name)}:{write_json(member)}" for name, member in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(write_json, value)) + "]"
    return str(value) if isinstance(value, Digits) else json.dumps(value)


def _members(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise TwiceError("a name stands twice in one object of the answer")
    return members


def _refuse(name: str) -> NoReturn:
    """Refuse NaN and the infinities, which Python reads and JSON does not know."""
    raise ValueError(name)
