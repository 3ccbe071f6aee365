"""What a mirror must hold, worked out from the simulated world alone, and whether it does.

Invariants:

- Nothing of the program is used: the mirror is read by bare sqlite3, the contract of its tables is written down here a second
  time.
- Compared are records as trees: numbers by value and apart from text, child rows without regard to their order, a grandchild
  together with the row that it hangs on.
- A difference is told per record and column.
"""

import json
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from delta_mirror.simulator import Change, Dials, Stream, World
from delta_mirror.simulator.envelope import json_of, record_of

Value: TypeAlias = int | float | str
Row: TypeAlias = dict[str, Value]

_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_DATE_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d)(:\d\d)?(?:\.(\d+))?(Z|[+-]\d\d:\d\d)?", re.ASCII)
_KEY_NAMES = {"Client": {"EntityId", "Client_TId"}, "Employee": {"EntityId", "Employee_User_TId"}}
_PARENT_TABLES = {"AppointmentServiceStep": "AppointmentService"}
_TOLD = 25  # differences, at most


@dataclass(frozen=True, slots=True)
class Node:
    """One row that a record puts into the mirror; `parent` is the child row that it hangs on, None under the root."""

    table: str
    row: Row
    parent: Row | None = None


# --- what must be held ---------------------------------------------------------------------------------------------------------


def expected_rows(
    world: World,
    tenant: int,
    location: int,
    entity: str,
    *,
    dials: Dials | None = None,
    deletes: Literal["remove", "mark"] = "remove",
    since: int | None = None,
) -> dict[str, list[Row]]:
    """Return, per table, the rows of one stream as the mirror must hold them: service columns, and `_id`.

    *since* leaves out records whose date is not later: those that a mirror without a starter need not have seen. Of the *dials*
    those count that change a value: the offset of dates, numbers in quotes, child tables withheld.
    """
    tables: dict[str, list[Row]] = {}
    for change in _living(world, Stream(tenant, location, entity), deletes):
        if since is not None and change.date <= since:
            continue
        for node in nodes_of(change, location, dials or Dials()):
            tables.setdefault(node.table, []).append({"_id": change.id, **node.row})
    return tables


def nodes_of(change: Change, location: int, dials: Dials) -> list[Node]:
    """Return the rows of a record at one location, its root first."""
    sent = json.loads(json_of(record_of(change, dials), dials))
    [root] = sent.values()
    version = change.body["EntityVersion"]
    assert isinstance(version, int)
    nodes = [Node(change.entity, {**_stored(root), "EntityVersion": f"{int(version):016X}"})]
    nodes.extend(_children(change, location, root, root, None))
    return nodes


def is_deleted(change: Change) -> bool:
    """Return whether the record counts as deleted by the rules that the service documents."""
    state = change.body.get("ObjectStateEnum")
    if change.entity in ("Client", "Employee"):
        return state == 2028
    if change.entity != "Appointment":
        return False
    lines = change.body.get("AppointmentService_L", [])
    assert isinstance(lines, list)
    final = [line.get("AppointFinalStateEnum") for line in lines if isinstance(line, dict)]
    return change.body.get("AppointFinalStateEnum") == 2052 or (bool(final) and all(state == 2052 for state in final))


def table_of(name: str) -> str:
    """Return the mirror's name of a child table of the feed."""
    return "SaleLinePayment" if name == "SalePayment_L" else re.sub(r"_[TL]$", "", name).replace("_", "")


def _all(world: World, stream: Stream) -> list[Change]:
    with world.lock:
        return list(world.history(stream).newest.values())


def _living(world: World, stream: Stream, deletes: str) -> list[Change]:
    return [change for change in _all(world, stream) if deletes == "mark" or not is_deleted(change)]


def _children(
    change: Change, location: int, root: Mapping[str, object], above: Mapping[str, object], parent: Row | None
) -> Iterator[Node]:
    for name, held in above.items():
        if not _is_table(held):
            continue
        assert isinstance(held, list)
        for sent in held:
            row = _stored(
                {column: value for column, value in sent.items() if not _is_key(change, location, root, above, column, value)}
            )
            yield Node(table_of(name), row, parent)
            yield from _children(change, location, root, sent, row)


def _is_table(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(part, dict) for part in value)


def _is_key(
    change: Change, location: int, root: Mapping[str, object], above: Mapping[str, object], column: str, value: object
) -> bool:
    """Whether a child's column holds only the key of its root or parent, and so is not stored again."""
    if column == "TenantId":
        return str(value) == str(change.tenant)
    if column == "LocationId":
        return str(value) == str(location)
    if column in _KEY_NAMES.get(change.entity, {"EntityId"}):
        return value == change.id
    if change.entity == "Sale" and column in ("SaleDate", "Sale_Seq"):
        return value == root[column]
    return column == "AppointService_LId" and above is not root and value == above.get(column)


def _stored(sent: Mapping[str, object]) -> Row:
    return {column: _stored_value(column, value) for column, value in sent.items() if value is not None and not _is_table(value)}


def _stored_value(column: str, value: object) -> Value:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int | float):
        return value
    if not isinstance(value, str):
        return _canonical_json(value)
    if column.endswith(("Id", "Guid")) and _GUID.fullmatch(value):
        return value.lower()
    found = _DATE_TIME.fullmatch(value)
    if found is None:
        return value
    minute, second, fraction, offset = found.groups()
    text = minute + (second or "") + (f".{fraction[:7].ljust(7, '0')}" if fraction else "")
    return text + ("+00:00" if offset == "Z" else offset or "")


def _canonical_json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


# --- what is held --------------------------------------------------------------------------------------------------------------


def mirror_rows(
    path: Path, tenant: int | None = None, location: int | None = None, entity: str | None = None
) -> dict[str, list[dict[str, Value]]]:
    """Return the rows of the mirror's data tables with their own columns, without those that are NULL.

    *entity* keeps the rows of that root table and of the child rows whose record is in it.
    """
    with closing(_opened(path)) as mirror:
        names = [name for name in _tables(mirror) if not name.startswith(("_", "Nexus", "sqlite_"))]
        kept = {} if entity is None else {_place(row) for row in _rows(mirror, entity)} if entity in names else set()
        held: dict[str, list[dict[str, Value]]] = {}
        for name in names:
            for row in _rows(mirror, name):
                of_stream = tenant in (None, row["_tenant_id"]) and location in (None, row["_location_id"])
                is_root = "_n" not in row
                if of_stream and (entity is None or (name == entity if is_root else _place(row) in kept)):
                    held.setdefault(name, []).append(row)
        return held


def own_rows(path: Path, table: str) -> list[dict[str, Value]]:
    """Return the rows of one of the mirror's own tables, without what is NULL."""
    with closing(_opened(path)) as mirror:
        return _rows(mirror, table)


def _opened(path: Path) -> sqlite3.Connection:
    mirror = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    mirror.row_factory = sqlite3.Row
    return mirror


def _tables(mirror: sqlite3.Connection) -> list[str]:
    return [row["name"] for row in mirror.execute("select name from sqlite_master where type = 'table' order by name")]


def _rows(mirror: sqlite3.Connection, table: str) -> list[dict[str, Value]]:
    quoted = '"' + table.replace('"', '""') + '"'
    return [
        {column: row[column] for column in row.keys() if row[column] is not None}  # noqa: SIM118 - a sqlite3.Row is no dict
        for row in mirror.execute(f"select * from {quoted}")
    ]


def _place(row: Mapping[str, Value]) -> tuple[Value, Value, Value]:
    return row["_tenant_id"], row["_location_id"], row["_id"]


# --- whether they are the same -------------------------------------------------------------------------------------------------


def assert_exact(
    path: Path,
    world: World,
    deletes: Literal["remove", "mark"] = "remove",
    *,
    dials: Dials | None = None,
    streams: Collection[Stream] | None = None,
    since: int | None = None,
    tombstones: bool = True,
    mask: Callable[[str, Row], Row] | None = None,
    erased: Collection[str] = (),
) -> None:
    """Pass if the mirror at *path* holds exactly what the world says, and is sound in itself.

    *streams* are those that the mirror was told to follow: without them all streams of the world of the entities that the
    dials enable. Records whose date is not later than *since* may be missing, as a mirror without a starter never saw them.
    *tombstones* False leaves those out, as after a prune. *mask* gives what may be held of a row of a table; nothing is held
    of the ids in *erased*.

    Raises:
        AssertionError: it does not; the message lists the differences.
    """
    found = differences(
        path, world, deletes, dials=dials, streams=streams, since=since, tombstones=tombstones, mask=mask, erased=erased
    )
    if found:
        more = f"\n  ... and {len(found) - _TOLD} more" if len(found) > _TOLD else ""
        raise AssertionError("the mirror is not exact:\n  " + "\n  ".join(found[:_TOLD]) + more)


def differences(
    path: Path,
    world: World,
    deletes: Literal["remove", "mark"] = "remove",
    *,
    dials: Dials | None = None,
    streams: Collection[Stream] | None = None,
    since: int | None = None,
    tombstones: bool = True,
    mask: Callable[[str, Row], Row] | None = None,
    erased: Collection[str] = (),
) -> list[str]:
    """Return in which ways the mirror is not what `assert_exact` asks for, one line each."""
    dials = dials or Dials()
    if streams is None:
        streams = [stream for stream in world.streams() if stream.entity in dials.enabled]
    held = mirror_rows(path)
    found = _unsound(path, held)
    mirrored = _records_held(held)
    logged = {(row["tenant_id"], row["location_id"], row["id"]) for row in own_rows(path, "_changes") if row["op"] == "delete"}
    for stream in sorted(streams):
        for change in _living(world, stream, deletes):
            if change.id in erased:
                continue  # and so what is held of it is too many
            where = f"{stream.entity} {change.id} at {stream.tenant}/{stream.location}"
            nodes = _masked(nodes_of(change, stream.location, dials), mask)
            rows = mirrored.pop((stream.tenant, stream.location, change.id), {})
            if not rows and since is not None and change.date <= since:
                continue
            if not rows and is_deleted(change) and (stream.tenant, stream.location, change.id) not in logged:
                continue  # deleted before it was ever held: no row to mark
            found.extend(_of_record(where, nodes, rows))
            marked = "_deleted_at" in next(iter(rows.get(stream.entity, [])), {})
            if rows.get(stream.entity) and marked != is_deleted(change):
                found.append(f"{where}: {'marked as deleted, but lives' if marked else 'deleted, but not marked'}")
    for (tenant, location, record_id), rows in mirrored.items():
        found.append(f"{record_id} at {tenant}/{location}: held in {', '.join(sorted(rows))}, but must not be")
    if tombstones:
        found.extend(_of_tombstones(path, world, streams, dials, since, mask, erased))
    return found


def _masked(nodes: Sequence[Node], mask: Callable[[str, Row], Row] | None) -> list[Node]:
    if mask is None:
        return list(nodes)
    return [
        Node(node.table, mask(node.table, node.row), node.parent and mask(_PARENT_TABLES[node.table], node.parent))
        for node in nodes
    ]


def _records_held(
    held: Mapping[str, Sequence[dict[str, Value]]],
) -> dict[tuple[Value, Value, Value], dict[str, list[dict[str, Value]]]]:
    records: dict[tuple[Value, Value, Value], dict[str, list[dict[str, Value]]]] = {}
    for table, rows in held.items():
        for row in rows:
            records.setdefault(_place(row), {}).setdefault(table, []).append(row)
    return records


def _unsound(path: Path, held: Mapping[str, Sequence[dict[str, Value]]]) -> list[str]:
    """Return what is wrong with the mirror whatever the world says."""
    with closing(_opened(path)) as mirror:
        found = [f"integrity_check: {row[0]}" for row in mirror.execute("pragma integrity_check") if row[0] != "ok"]
    roots = {_place(row) for rows in held.values() for row in rows if "_n" not in row}
    for table, rows in held.items():
        children = [row for row in rows if "_n" in row]
        found.extend(f"{table}: an orphan of {row['_id']}" for row in children if _place(row) not in roots)
        parents = {(*_place(row), row["_n"]) for row in held.get(_PARENT_TABLES.get(table, ""), ())}
        for row in children:
            if table in _PARENT_TABLES and (*_place(row), row.get("_parent_n")) not in parents:
                found.append(f"{table} of {row['_id']}: _parent_n {row.get('_parent_n')} points nowhere")
            if table not in _PARENT_TABLES and "_parent_n" in row:
                found.append(f"{table} of {row['_id']}: _parent_n under the root itself")
        counted: dict[tuple[Value, Value, Value], list[Value]] = {}
        for row in children:
            counted.setdefault(_place(row), []).append(row["_n"])
        for place, numbers in counted.items():
            if sorted(map(str, numbers)) != sorted(map(str, range(len(numbers)))):
                found.append(f"{table} of {place[2]}: _n is {numbers}")
    return found


def _of_record(where: str, nodes: Sequence[Node], rows: Mapping[str, Sequence[dict[str, Value]]]) -> Iterator[str]:
    root = nodes[0]
    held_roots = rows.get(root.table, [])
    if not held_roots:
        yield f"{where}: missing"
        return
    held_root = _service_columns(held_roots[0])
    for column in sorted({*root.row, *held_root}):
        if not _same(root.row.get(column), held_root.get(column)):
            yield f"{where}: {column} must be {root.row.get(column)!r}, is {held_root.get(column)!r}"
    by_number = {(table, row.get("_n")): row for table, held in rows.items() for row in held}
    expected = Counter((node.table, _frozen(node.row), _frozen(node.parent)) for node in nodes[1:])
    held = Counter(
        (table, _frozen(_service_columns(row)), _frozen(_parent(table, row, by_number)))
        for table, some in rows.items()
        if table != root.table
        for row in some
    )
    for (table, row, _), times in sorted((expected - held).items(), key=repr):
        yield f"{where}: {table} lacks{_times(times)} {dict(row or ())}"
    for (table, row, _), times in sorted((held - expected).items(), key=repr):
        yield f"{where}: {table} must not hold{_times(times)} {dict(row or ())}"


def _parent(
    table: str, row: Mapping[str, Value], by_number: Mapping[tuple[str, Value | None], Mapping[str, Value]]
) -> Row | None:
    if "_parent_n" not in row:
        return None
    parent = by_number.get((_PARENT_TABLES.get(table, ""), row["_parent_n"]))
    return None if parent is None else _service_columns(parent)


def _of_tombstones(
    path: Path,
    world: World,
    streams: Iterable[Stream],
    dials: Dials,
    since: int | None,
    mask: Callable[[str, Row], Row] | None,
    erased: Collection[str],
) -> Iterator[str]:
    held = {
        (row["tenant_id"], row["location_id"], row["entity"], row["id"]): json.loads(str(row["record"]))
        for row in own_rows(path, "_tombstones")
    }
    for stream in sorted(streams):
        for change in (change for change in _all(world, stream) if change.id not in erased):
            where = f"tombstone of {stream.entity} {change.id} at {stream.tenant}/{stream.location}"
            record = held.pop((*stream, change.id), None)
            if not is_deleted(change):
                if record is not None:
                    yield f"{where}: there is one, but the record lives"
                continue
            if record is None:
                if since is None or change.date > since:
                    yield f"{where}: missing"
                continue
            expected = Counter(
                (node.table, _frozen(node.row)) for node in _masked(nodes_of(change, stream.location, dials), mask)
            )
            kept = Counter((table, _frozen(_service_columns(row))) for table, rows in record.items() for row in rows)
            for table, row in sorted(((expected - kept) + (kept - expected)).keys(), key=repr):
                yield f"{where}: differs in {table}, {dict(row or ())}"
    for tenant, location, entity, record_id in held:
        yield f"tombstone of {entity} {record_id} at {tenant}/{location}: no such record was deleted"


def _service_columns(row: Mapping[str, Value | None]) -> Row:
    return {column: value for column, value in row.items() if value is not None and not column.startswith("_")}


def _frozen(row: Mapping[str, Value] | None) -> frozenset[tuple[str, Value]] | None:
    return None if row is None else frozenset((column, _plain(value)) for column, value in row.items())


def _same(one: Value | None, other: Value | None) -> bool:
    return _plain(one) == _plain(other)


def _plain(value: Value | None) -> Value:
    """Return *value* with JSON text in one spelling; what is missing as text that no service sends."""
    if value is None:
        return "\0missing"
    if isinstance(value, str) and value.startswith(("{", "[")):
        try:
            return _canonical_json(json.loads(value))
        except ValueError:
            return value
    return value


def _times(times: int) -> str:
    return f" ({times} times)" if times > 1 else ""
