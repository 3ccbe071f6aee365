"""How an answer of the simulated service is spelt: dates, numbers, row versions, the case of envelope keys.

Invariants:

- A record leaves whole: every column and child row of its body, but for child tables that a dial withholds.
- Dates are written at one offset, the dial's, wherever they stand in a record.
- Members that are null are left out.
"""

from base64 import b64encode
from collections.abc import Callable, Mapping
from functools import lru_cache

import orjson

from delta_mirror.simulator.clock import Moment, written
from delta_mirror.simulator.dials import Dials
from delta_mirror.simulator.salon import CHILDREN, ROOTS, Body, Json, RowVersion
from delta_mirror.simulator.world import Change


def record_of(change: Change, dials: Dials) -> Body:
    """Return the record as the feed shows it under its root key, dates and row versions not yet written."""
    body = change.body
    if dials.omitted or dials.empty_children == "array":
        body = _with_tables(body, change.entity, dials)
    return {ROOTS[change.entity]: _quoted(body, dials)} if dials.numbers_as_strings else {ROOTS[change.entity]: body}


def entry_of(change: Change, dials: Dials) -> Body:
    """Return one element of a page's `data`."""
    record = record_of(change, dials)
    if dials.snapshot_data is None:
        return record
    wrapped: Json = record if dials.snapshot_data == "object" else json_of(record, dials).decode()
    return {spelt("snapshotData", dials): wrapped}


def envelope(members: Mapping[str, Json | None], dials: Dials) -> Body:
    """Return *members*, given in camel case, as the envelope of an answer; of its `data` nothing is spelt anew."""
    body: Body = {}
    for name, value in members.items():
        if value is None:
            continue
        if name != "data":
            value = _members(value, dials)
        body[spelt(name, dials)] = value
    return body


def spelt(name: str, dials: Dials) -> str:
    """Return a camel-case *name* of the envelope in the case of the dial."""
    return name[0].upper() + name[1:] if dials.envelope == "pascal" else name


def json_of(value: Json, dials: Dials) -> bytes:
    """Return *value* as JSON, its dates and row versions written as the dials say."""
    return orjson.dumps(value, default=_writer(dials), option=orjson.OPT_PASSTHROUGH_SUBCLASS)


def _members(value: Json, dials: Dials) -> Json:
    if isinstance(value, dict):
        return {spelt(name, dials): _members(member, dials) for name, member in value.items() if member is not None}
    if isinstance(value, list):
        return [_members(member, dials) for member in value]
    return _quoted_value(value, dials) if dials.numbers_as_strings else value


def _with_tables(body: Body, table: str, dials: Dials) -> Body:
    shown: Body = {}
    for name, value in body.items():
        if name in dials.omitted:
            continue
        if name in CHILDREN.get(table, ()) and isinstance(value, list):
            value = [_with_tables(row, name, dials) for row in value if isinstance(row, dict)]
        shown[name] = value
    if dials.empty_children == "array":
        for name in CHILDREN.get(table, ()):
            if name not in dials.omitted:
                shown.setdefault(name, [])
    return shown


def _quoted(body: Body, dials: Dials) -> Body:
    return {name: _quoted_value(value, dials) for name, value in body.items()}


def _quoted_value(value: Json, dials: Dials) -> Json:
    if isinstance(value, dict):
        return _quoted(value, dials)
    if isinstance(value, list):
        return [_quoted_value(part, dials) for part in value]
    if isinstance(value, RowVersion):
        return str(_written_version(value, dials))
    if isinstance(value, bool | str | Moment):
        return value
    return repr(value)


def _written_version(version: RowVersion, dials: Dials) -> int | str:
    match dials.row_version:
        case "hex":
            return f"{int(version):016X}"
        case "base64":
            return b64encode(int(version).to_bytes(8, "big")).decode()
        case "number":
            return int(version)


@lru_cache(maxsize=64)
def _writer(dials: Dials) -> Callable[[object], int | str]:
    offset = dials.written_offset

    def write(value: object) -> int | str:
        if isinstance(value, Moment):
            return written(value, offset)
        if isinstance(value, RowVersion):
            return _written_version(value, dials)
        raise TypeError(f"no form for {type(value).__name__}")

    return write
