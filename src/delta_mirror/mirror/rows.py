"""The rows of records: what the mirror holds of some ids, and what is put in its place.

Invariants:

- A record is written as sent, whole: each column that is not sent is NULL. Child rows are written anew, table by table, where
  they differ.
- One look-up per table for a page, and one statement per table and kind of writing: on the connection itself, for the reason that
  `mirror/transaction.py` gives.
"""

import sqlite3
from collections.abc import Sequence
from typing import cast

import orjson

from delta_mirror.core.model import Child, Record, Row, Stream, Value
from delta_mirror.core.plan import Effect
from delta_mirror.mirror.schema import CHILD_COLUMNS, ROOT_COLUMNS, Schema, Table, quote

_Cells = tuple[str | float | None, ...]
"""One row as it is written, its own columns first."""


class Rows:
    """The tables of records, within a transaction of *connection*. *marks* says that deleted records are marked, not removed."""

    def __init__(self, connection: sqlite3.Connection, schema: Schema, *, marks: bool) -> None:
        self._connection = connection
        self._schema = schema
        self._marks = marks

    def read(self, stream: Stream, keys: str, *, everything: bool) -> list[tuple[Record, int | None]]:
        """Return the records of *keys*, ids as a JSON array, that have rows, each with its change date in ticks.

        Of child rows what deltas write, or, if asked, *everything*, what came by starter alone too.
        """
        root = self._schema.root(stream.entity)
        if root is None:
            return []
        found = list(self._select(root, stream, keys))
        if not found:
            return []
        entity, tenant_id = stream.entity, stream.tenant_id
        tables = self._schema.all_children(entity) if everything else self._schema.children(entity, tenant_id)
        children = self._children(stream, [row[2] for row in found], tables)
        columns, own = root.columns, len(ROOT_COLUMNS)
        return [
            (Record(row[2], None, None, row[4] is not None, _filled(columns, row[own:]), children.get(row[2], {})), row[5])
            for row in found
        ]

    def _select(self, table: Table, stream: Stream, keys: str, order: str = "") -> sqlite3.Cursor:
        names = ", ".join(table.quoted())
        return self._connection.execute(
            f"select {names} from {quote(table.name)} where _tenant_id = ? and _location_id = ? "
            f"and _id in (select value from json_each(?)) {order}",
            (stream.tenant_id, stream.location_id, keys),
        )

    def _children(
        self, stream: Stream, ids: Sequence[str], tables: Sequence[Table]
    ) -> dict[str, dict[str, list[Child]]]:  # fmt: skip
        keys = orjson.dumps(ids).decode()
        children: dict[str, dict[str, list[Child]]] = {}
        for table in tables:
            name, columns, own = table.name, table.columns, len(CHILD_COLUMNS)
            mine: dict[str, list[Child]] = {}
            for row in self._select(table, stream, keys, "order by _id, _n"):
                mine.setdefault(row[2], []).append(Child(_filled(columns, row[own:]), row[4]))
            for id_, rows in mine.items():
                children.setdefault(id_, {})[name] = rows
        return children

    def write(self, stream: Stream, effects: Sequence[Effect], now: str) -> None:
        """Write what *effects* leave of each record, and remove what they do not; *now* is our own time."""
        written = [effect for effect in effects if not effect.record.deleted or (self._marks and effect.had_rows)]
        removed = [] if self._marks else [effect for effect in effects if effect.record.deleted and effect.over is not None]
        gone, new = self._child_rows(stream, written)
        if removed:
            ids = [effect.record.id for effect in removed]
            for table in self._schema.all_children(stream.entity):
                gone.setdefault(table.name, []).extend(ids)
            gone[stream.entity] = ids
        for name, whose in gone.items():
            self._connection.execute(
                f"delete from {quote(name)} where _tenant_id = ? and _location_id = ? "
                "and _id in (select value from json_each(?))",
                (*stream[:2], orjson.dumps(whose).decode()),
            )
        if written:
            self._write_roots(stream, written, now)
        for name, rows in new.items():
            self._connection.executemany(_insert_into(self._child(name)), rows)

    def _child_rows(self, stream: Stream, written: Sequence[Effect]) -> tuple[dict[str, list[str]], dict[str, list[_Cells]]]:
        """Return, per child table, of which of the records *written* the rows are to go, and which rows are to come."""
        gone: dict[str, list[str]] = {}
        new: dict[str, list[_Cells]] = {}
        for record, over, *_ in written:
            sent, before = record.children, {} if over is None else over.children
            for name in {**before, **sent}:
                rows = sent.get(name, ())
                if name in before:
                    if list(rows) == list(before[name]):
                        continue
                    gone.setdefault(name, []).append(record.id)
                if rows:
                    columns = self._child(name).columns
                    new.setdefault(name, []).extend(
                        [
                            (*stream[:2], record.id, number, parent, *map(row.get, columns))
                            for number, (row, parent) in enumerate(rows)
                        ]
                    )
        # Of a record that was not held, child rows may be there all the same: where somebody has deleted its root row by hand.
        # Those of tables that came by starter alone are then the best that is known.
        if fresh := [record.id for record, over, *_ in written if over is None]:
            for table in self._schema.children(stream.entity, stream.tenant_id):
                gone.setdefault(table.name, []).extend(fresh)
        return gone, new

    def _write_roots(self, stream: Stream, written: Sequence[Effect], now: str) -> None:
        root = self._schema.root(stream.entity)
        if root is None:
            raise LookupError(f"there is no table {stream.entity}; entries are fitted before they are carried out")
        for is_held in (False, True):
            rows = [
                (
                    *stream[:2],
                    record.id,
                    now,
                    now if record.deleted else None,
                    ticks_of(record),
                    *map(record.root.get, root.columns),
                )
                for record, over, *_ in written
                if (over is not None) is is_held
            ]
            if rows:
                self._connection.executemany(_insert_into(root) + (_over(root) if is_held else ""), rows)
        self._connection.executemany(
            f"update {quote(root.name)} set _deleted_at = (select t.deleted_at from _tombstones t where t.tenant_id = ? "
            "and t.location_id = ? and t.entity = ? and t.id = _id) where _tenant_id = ? and _location_id = ? and _id = ?",
            [(*stream, *stream[:2], effect.record.id) for effect in written if effect.record.deleted and not effect.died],
        )

    def _child(self, name: str) -> Table:
        table = self._schema.child(name)
        if table is None:
            raise LookupError(f"there is no child table {name}; entries are fitted before they are carried out")
        return table


def ticks_of(record: Record) -> int | None:
    """Return the change date of *record* in ticks, None where it bears none."""
    return None if record.changed is None else record.changed.ticks


def _insert_into(table: Table) -> str:
    return f"insert into {quote(table.name)} ({table.names()}) values ({table.places()})"


def _over(root: Table) -> str:
    """Return what makes an insert write over the row that is there: each column but the key, also those that are not sent.

    `replace into` does the same by a row of its own at the end of the table. That moves the key to it in the index, too, and
    writes half as many pages again.
    """
    names = root.quoted()
    key, others = names[:3], names[3:]
    return f" on conflict ({', '.join(key)}) do update set {', '.join(f'{name} = excluded.{name}' for name in others)}"


def _filled(columns: Sequence[str], values: Sequence[Value | None]) -> Row:
    if None in values:
        return {column: value for column, value in zip(columns, values, strict=True) if value is not None}
    return dict(zip(columns, cast("Sequence[Value]", values), strict=True))
