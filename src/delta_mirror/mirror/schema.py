"""The tables of the mirror: its own, and those of the service, which are made and widened as records bring them.

Invariants:

- Every name from outside goes into a statement through `quote`, and through nothing else.
- Data columns have no declared type: SQLite would turn "0012" into 12 under a numeric one. The own columns of a data table
  come first, in the order of `ROOT_COLUMNS` and `CHILD_COLUMNS`; the service's follow in the order in which they were met.
- SQLite compares names without regard to ASCII case, and so does everything here: a name that differs in case from one that
  exists is that one.
- A record is either fitted whole or, with a reason that names no value, set aside whole; nothing of a record that is set
  aside makes a table or a column.
- What is made here is made inside the caller's transaction and vanishes with it: after a rollback a `Schema` is loaded anew.
"""

import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import orjson

from delta_mirror.core.model import Broken, Child, Entry, Record, Row, Stream
from delta_mirror.core.names import fold as fold  # whoever names tables asks here

if TYPE_CHECKING:
    from sqlite_utils import Database

ROOT_COLUMNS = ("_tenant_id", "_location_id", "_id", "_synced_at", "_deleted_at", "_ticks")
CHILD_COLUMNS = ("_tenant_id", "_location_id", "_id", "_n", "_parent_n")
MAX_COLUMNS = 1900  # SQLite's own limit is 2000
MAX_NAME = 256  # characters; a statement has MAX_COLUMNS names three times at most, and SQLite takes a thousand million


def quote(name: str) -> str:
    """Return *name* as an identifier that means it and nothing else, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


class _OwnTable(NamedTuple):
    columns: Mapping[str, type]
    key: tuple[str, ...] = ()
    defaults: Mapping[str, str | int] = {}
    is_narrow: bool = False  # without a rowid: rows lie in the order of their keys


_STREAM: dict[str, type] = {"tenant_id": int, "location_id": int, "entity": str}
_STREAM_KEY = ("tenant_id", "location_id", "entity")

OWN_TABLES: Mapping[str, _OwnTable] = {
    "_meta": _OwnTable({"key": str, "value": str}, ("key",)),
    "_streams": _OwnTable(
        {
            **_STREAM,
            "state": str,
            "baseline": str,
            "watermark": str,
            "caught_up_at": str,
            "verified_through": str,
            "verified_rows": int,  # how many rows of the export were compared then
            "verified_differing": int,  # how many records differed, less those that were repaired
            "last_success_at": str,
            "last_error": str,
            "gap_from": str,
            "gap_to": str,
            "place": str,  # JSON: where a drain that was not finished goes on
            "habits": str,  # JSON: what drains have learnt of how the service pages and writes its dates
            "late": int,
            "superseded": int,
            "refused_since": str,
            "debt": str,  # JSON: the lists that are to be counted again
            "records": int,  # how many live, kept with every page: to count millions of rows takes seconds
            "starter_tables": str,  # JSON: the tables that the baseline brought; a later export may not lack one of them
            "put_back_at": str,  # when a turn ended that brought nothing: streams that had none since come first
        },
        _STREAM_KEY,
        {"state": "new", "late": 0, "superseded": 0, "records": 0},
    ),
    "_changes": _OwnTable(
        {"seq": int, "at": str, "run_id": int, **_STREAM, "id": str, "op": str, "fields": str},
        ("seq",),
    ),
    "_tombstones": _OwnTable(
        # `parents` is JSON, per child table the parent numbers of its rows: `record` has nothing but what the service sent.
        {**_STREAM, "id": str, "deleted_at": str, "record": str, "parents": str, "ticks": int},
        (*_STREAM_KEY, "id"),
    ),
    "_runs": _OwnTable(
        {
            "id": int,
            "command": str,
            "started_at": str,
            "ended_at": str,
            "outcome": str,
            **dict.fromkeys(
                ("calls", "pages", "inserted", "replaced", "deleted", "revived", "unchanged", "superseded", "quarantined"), int
            ),
        },
        ("id",),
        dict.fromkeys(
            ("calls", "pages", "inserted", "replaced", "deleted", "revived", "unchanged", "superseded", "quarantined"), 0
        ),
    ),
    "_quarantine": _OwnTable(
        {
            "id": str,
            "first_seen_at": str,
            "last_seen_at": str,
            "run_id": int,
            "source": str,
            "reason": str,
            "body": str,
            **_STREAM,
            "record_id": str,
            "ticks": int,
            "message_id": str,
        },
        ("id",),
    ),
    "_calls": _OwnTable(
        {"tenant_id": int, "location_id": int, "day": str, "calls": int, "by_entity": str}, ("tenant_id", "location_id", "day")
    ),
    "_call_times": _OwnTable({"at": float}),
    "_pauses": _OwnTable(
        {"tenant_id": int, "location_id": int, "until": float, "reason": str, "set_at": float}, ("tenant_id", "location_id")
    ),
    # A key that is a number is stored as one, and compares with a column that holds it as text, too.
    "_enums": _OwnTable({"name": str, "key": int, "label": str, "column_name": str}, ("name", "key")),
    "_messages": _OwnTable(
        {
            "message_id": str,
            "received_at": str,
            "occurred_at": str,
            "client_id": str,
            "type": str,
            "section": str,
            "outcome": str,
            "times": int,
            "sequence": int,
            "body": str,
        },
        ("message_id",),
    ),
    # What of each section and item is known beside its values; `columns` is JSON, order key of a message to what it has set last.
    "_sections": _OwnTable(
        dict.fromkeys(("client_id", "section", "item_id", "newest", "emptied", "columns"), str),
        ("client_id", "section", "item_id"),
        is_narrow=True,
    ),
    "_accela_links": _OwnTable(
        {"entity": str, "tenant_id": int, "location_id": int, "id": str, "contact_id": str, "pushed_seq": int, "pushed_at": str},
        ("entity", "tenant_id", "location_id", "id"),
    ),
    "_accela_pushes": _OwnTable(
        {
            "number": int,
            "at": str,
            "run_id": int,
            "entity": str,
            "tenant_id": int,
            "location_id": int,
            "id": str,
            "contact_id": str,
            "seq": int,
            "outcome": str,
            "trace_id": str,
            "fields": str,  # JSON: names of fields and no values
            "error": str,
            "marks": str,  # JSON: what a later reading of the contact is held against; NULL once nothing is open
        },
        ("number",),
    ),
    # People who were erased, so that they do not come back. Nothing here says who they were: a mark is a hash under a key.
    "_erased": _OwnTable({"mark": str, "tenant_id": int, "entity": str, "erased_at": str}, ("mark",), is_narrow=True),
    # Under which change date the feed lists somebody who was erased, for as long as it can: drains count what it lists.
    "_erased_dates": _OwnTable({**_STREAM, "mark": str, "ticks": int}, (*_STREAM_KEY, "mark"), is_narrow=True),
    # What has become of the own tables since the file was made, and by which version of the program.
    "_migrations": _OwnTable({"version": int, "at": str, "program": str, "what": str}),
    # Which child tables an entity has. With a tenant: that a delta of this tenant has brought the table; without: that it exists.
    "_tables": _OwnTable({"entity": str, "name": str, "tenant_id": int}),
}

# None on `_changes` by id: measured with a million changes under random GUIDs, it makes each change five times as dear to log
# (82 us instead of 16), and saves a third of a second at a look-up. By time it grows at its end, for 1 us a change: "what changed
# in the last hour" is what everybody asks, with this program or without, and a log of years is long.
_OWN_INDEXES: Mapping[str, tuple[str, ...]] = {
    "_changes": ("at",),
    "_quarantine": (*_STREAM_KEY, "record_id"),
    "_call_times": ("at",),
    "_accela_pushes": ("entity", "tenant_id", "location_id", "id"),  # the last one of a record is looked up by each run
    "_tombstones": (*_STREAM_KEY, "ticks"),  # each drain counts some of them, and they are as wide as records
}


@dataclass(slots=True)
class Table:
    """One data table: its name as it is spelt, and the service's columns of it in their order."""

    name: str
    is_root: bool
    columns: list[str] = field(default_factory=list)
    known: set[str] = field(default_factory=set)
    spelling: dict[str, str] = field(default_factory=dict)  # folded name -> name

    def add(self, column: str) -> None:
        """Note one more column."""
        self.columns.append(column)
        self.known.add(column)
        self.spelling[fold(column)] = column

    def quoted(self) -> list[str]:
        """Return all columns, the own ones first, each quoted."""
        return [*map(quote, ROOT_COLUMNS if self.is_root else CHILD_COLUMNS), *map(quote, self.columns)]

    def names(self) -> str:
        """Return all columns, the own ones first, as they stand in a statement."""
        return ", ".join(self.quoted())

    def places(self) -> str:
        """Return as many question marks as `names` has columns."""
        return ", ".join("?" * len(self.quoted()))


class Schema:
    """What tables there are. *feed_tables* has, of each entity, the child tables that its feed is known to bring."""

    def __init__(self, connection: sqlite3.Connection, feed_tables: Mapping[str, Collection[str]]) -> None:
        self._connection = connection
        self._entities = {fold(entity) for entity in feed_tables}
        self._feed_tables = {entity: sorted(map(fold, names)) for entity, names in feed_tables.items()}
        self._tables: dict[str, Table] = {}
        self._foreign: set[str] = set()  # names that are taken by something that is no data table
        self._brought: dict[tuple[str, int | None], dict[str, None]] = {}  # in the order in which they were met
        self._load()

    def root(self, entity: str) -> Table | None:
        """Return the root table of *entity*, None where no record has made it yet."""
        return self._tables.get(fold(entity))

    def tables(self) -> list[Table]:
        """Return all data tables."""
        return list(self._tables.values())

    def roots(self) -> list[Table]:
        """Return all root tables."""
        return [table for table in self._tables.values() if table.is_root]

    def children(self, entity: str, tenant_id: int) -> list[Table]:
        """Return the child tables that deltas of this tenant write.

        A table that the feed is not known to bring, and that no delta of the tenant ever brought, came by starter alone:
        deltas leave it.
        """
        names = dict.fromkeys([*self._feed_tables.get(entity, ()), *self._brought.get((entity, tenant_id), ())])
        return [self._tables[name] for name in names if name in self._tables]

    def all_children(self, entity: str) -> list[Table]:
        """Return all child tables of *entity*, whatever brought them."""
        names = dict.fromkeys([*self._feed_tables.get(entity, ()), *self._brought.get((entity, None), ())])
        return [self._tables[name] for name in names if name in self._tables]

    def rivals(self, entity: str) -> list[Table]:
        """Return the root tables of the other entities that share a child table with *entity*.

        Child rows are told apart by the record's id alone, so two such entities cannot both hold one id.
        """
        own = {table.name for table in self.all_children(entity)}
        return [
            root
            for root in self.roots()
            if fold(root.name) != fold(entity) and any(table.name in own for table in self.all_children(root.name))
        ]

    def child(self, name: str) -> Table | None:
        """Return the child table *name*, in whatever case, None where no row has made it yet."""
        table = self._tables.get(fold(name))
        return None if table is None or table.is_root else table

    def fit(self, stream: Stream, entries: Sequence[Entry], said: list[str], *, by_feed: bool = True) -> list[Entry]:
        """Return *entries* as the tables can hold them; every table and column that they need exists afterwards.

        What was made is added to *said*. Names that differ only in case from existing ones have become those. *by_feed* says
        that deltas have brought the entries: they then write these tables from now on.
        """
        if self._fits(stream, entries, by_feed=by_feed):
            return list(entries)
        made: dict[str, list[str]] = {}
        fitted: list[Entry] = []
        for entry in entries:
            if isinstance(entry, Broken):
                fitted.append(entry)
                continue
            try:
                fitted.append(self._fit_record(stream, entry, made))
            except CannotBeStoredError as error:
                fitted.append(set_aside(stream.entity, entry, str(error)))
        self._make(stream, made, said)
        if by_feed:
            brought = {fold(name): name for entry in fitted if isinstance(entry, Record) for name in entry.children}
            self._note_tables(stream.entity, stream.tenant_id, brought)
        return fitted

    def _load(self) -> None:
        columns: dict[str, list[str]] = {}
        for name, sql in self._connection.execute(
            "select name, sql from sqlite_master where type in ('table', 'view')"
        ).fetchall():
            # Tables and views that somebody else has put here are only names that are taken: to look into them can fail.
            if name.startswith(("_", "sqlite_")) or not sql.upper().startswith("CREATE TABLE"):
                self._foreign.add(fold(name))
            else:
                columns[name] = [row[1] for row in self._connection.execute(f"pragma table_info({quote(name)})")]
        for name, names in columns.items():
            for own, is_root in ((ROOT_COLUMNS, True), (CHILD_COLUMNS, False)):
                if tuple(names[: len(own)]) == own:
                    self._tables[fold(name)] = table = Table(name, is_root)
                    for column in names[len(own) :]:
                        table.add(column)
                    break
            else:
                self._foreign.add(fold(name))
        for entity, name, tenant_id in self._connection.execute("select entity, name, tenant_id from _tables order by rowid"):
            self._brought.setdefault((entity, tenant_id), {})[fold(name)] = None

    def _fits(self, stream: Stream, entries: Sequence[Entry], *, by_feed: bool) -> bool:
        """Return whether every table and every column of *entries* is there, spelt as they spell it.

        One union per table instead of a look at every row: this is what a page costs where nothing is new.
        """
        rows: dict[str, list[Row]] = {stream.entity: []}
        for entry in entries:
            if isinstance(entry, Record):
                rows[stream.entity].append(entry.root)
                for name, children in entry.children.items():
                    rows.setdefault(name, []).extend([child.row for child in children])
        brought = self._brought.get((stream.entity, stream.tenant_id if by_feed else None), {})
        for name, its_rows in rows.items():
            if name != stream.entity and fold(name) not in brought:
                return False
            if its_rows:
                table = self._tables.get(fold(name))
                if table is None or table.name != name or table.is_root != (name == stream.entity):
                    return False
                if not table.known.issuperset(set().union(*its_rows)):
                    return False
        return True

    def _fit_record(self, stream: Stream, record: Record, made: dict[str, list[str]]) -> Record:
        """Return *record* with names as the tables spell them; add to *made* what it needs and nobody before it needed."""
        new: dict[str, list[str]] = {}
        root = self._fit_rows(stream.entity, [record.root], made, new, is_root=True)[0]
        children: dict[str, list[Child]] = {}
        for sent, rows in record.children.items():
            name = self._child_name(stream.entity, sent, made)
            if any(fold(name) == fold(other) for other in children):
                raise CannotBeStoredError("two of its child tables reduce to one name")
            fitted = self._fit_rows(name, [child.row for child in rows], made, new, is_root=False)
            children[name] = [Child(row, child.parent) for row, child in zip(fitted, rows, strict=True)]
        for name, columns in new.items():
            made.setdefault(name, []).extend(columns)
        return replace(record, root=root, children=children)

    def _child_name(self, entity: str, sent: str, made: Mapping[str, list[str]]) -> str:
        folded = fold(sent)
        existing = self._tables.get(folded)
        if folded in self._entities or folded == fold(entity) or (existing is not None and existing.is_root):
            raise CannotBeStoredError("a child table bears the name of an entity")
        if existing is not None:
            return existing.name
        if folded in self._foreign or folded.startswith(("_", "sqlite_")):
            raise CannotBeStoredError("a child table bears a name that the mirror uses itself")
        check_name(sent)
        return next((name for name in made if fold(name) == folded), sent)

    def _fit_rows(
        self, name: str, rows: Sequence[Row], made: Mapping[str, list[str]], new: dict[str, list[str]], *, is_root: bool
    ) -> list[Row]:
        """Return *rows* in the spelling of table *name*; add to *new* the columns that it lacks."""
        table = self._tables.get(fold(name)) or Table(name, is_root)
        if table.is_root != is_root or (is_root and fold(name) in self._foreign):
            raise CannotBeStoredError("the table of its entity is taken by something else")
        spelling = table.spelling | {fold(column): column for column in made.get(name, ())}
        columns: list[str] = []
        for column in dict.fromkeys(column for row in rows for column in row):
            if fold(column) not in spelling:
                check_column(column)
                spelling[fold(column)] = column
                columns.append(column)
        if len(spelling) > MAX_COLUMNS:
            raise CannotBeStoredError(f"its table would have more than {MAX_COLUMNS} columns")
        if rows and (columns or name not in made):
            new[name] = columns
        fitted = [{spelling[fold(column)]: value for column, value in row.items()} for row in rows]
        if any(len(row) != len(sent) for row, sent in zip(fitted, rows, strict=True)):
            raise CannotBeStoredError("two of its columns differ only in case")
        return fitted

    def _make(self, stream: Stream, made: Mapping[str, list[str]], said: list[str]) -> None:
        """Make and widen tables. sqlite-utils would declare a type for every column, so this is bare DDL."""
        for name, columns in made.items():
            table = self._tables.get(fold(name))
            if table is None:
                table = self._tables[fold(name)] = Table(name, is_root=name == stream.entity)
                for column in columns:
                    table.add(column)
                self._connection.execute(_create(table))
                if table.is_root:
                    # For counting what has changed since a date without a look at the rows themselves.
                    index = quote(f"_ticks_{name}")
                    counted = "_tenant_id, _location_id, _ticks, _deleted_at"
                    self._connection.execute(f"create index {index} on {quote(name)} ({counted})")
                said.append(f"table {name} added")
            elif columns:
                for column in columns:
                    self._connection.execute(f"alter table {quote(table.name)} add column {quote(column)}")
                    table.add(column)
                    said.append(f"column {column} added to table {table.name}")
            else:
                continue
            if table.is_root:
                self._make_view(table)
        self._note_tables(stream.entity, None, {fold(name): name for name in made if name != stream.entity})

    def _make_view(self, table: Table) -> None:
        """Make the view with one row per tenant and id: the living before the deleted, then the newest."""
        view = quote(f"_once_{table.name}")
        self._connection.execute(f"drop view if exists {view}")
        self._connection.execute(
            f"create view {view} as select {table.names()} from (select *, row_number() over (partition by _tenant_id, _id "
            f"order by _deleted_at is not null, _ticks desc, _synced_at desc, _location_id) as _place from {quote(table.name)}) "
            "where _place = 1"
        )

    def _note_tables(self, entity: str, tenant_id: int | None, names: Mapping[str, str]) -> None:
        known = self._brought.setdefault((entity, tenant_id), {})
        for folded, name in names.items():
            if folded not in known:
                known[folded] = None
                self._connection.execute(
                    "insert into _tables (entity, name, tenant_id) values (?, ?, ?)", (entity, name, tenant_id)
                )


class CannotBeStoredError(Exception):
    """A record has names that no table of the mirror can have; the message is the reason."""


def check_column(name: str) -> None:
    """Return if a service's column can be called *name*, raise `CannotBeStoredError` if not."""
    if name.startswith("_"):
        raise CannotBeStoredError("a column begins with an underscore, as only the mirror's own do")
    check_name(name)


def check_name(name: str) -> None:
    """Return if a column or table can be called *name*, raise `CannotBeStoredError` if not."""
    if len(name) > MAX_NAME:
        raise CannotBeStoredError(f"a name in it is longer than {MAX_NAME} characters")
    if "\0" in name:
        raise CannotBeStoredError("a name in it holds a NUL")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise CannotBeStoredError("a name in it is no text") from error


def record_as_json(entity: str, record: Record) -> tuple[bytes, bytes | None]:
    """Return `{"Client": [row], "ClientPhone": [rows]}`, and of grandchildren the numbers of their parents, None without any.

    The second is `{"SaleLineTax": [0, 0, 1]}`. It stands apart, so that the first is what the service has sent and nothing else.
    """
    tables = {name: rows for name, rows in record.children.items() if rows}
    parents = {name: [child.parent for child in rows] for name, rows in tables.items() if any(c.parent is not None for c in rows)}
    sent = orjson.dumps({entity: [record.root], **{name: [child.row for child in rows] for name, rows in tables.items()}})
    return sent, orjson.dumps(parents) if parents else None


def record_from_json(entity: str, id_: str, sent: str, parents: str | None) -> Record:
    """Return the deleted record that `record_as_json` wrote; only its rows count."""
    tables: dict[str, list[Row]] = orjson.loads(sent)
    numbers: dict[str, list[int | None]] = orjson.loads(parents) if parents else {}
    root = tables.pop(entity)[0]
    children = {
        name: [Child(row, parent) for row, parent in zip(rows, numbers.get(name) or [None] * len(rows), strict=True)]
        for name, rows in tables.items()
    }
    return Record(id_, None, None, deleted=True, root=root, children=children)


def holds_records(name: str, columns: Sequence[str]) -> bool:
    """Return whether a table is one of records, of the feed or of messages: those of an analyst may begin much alike."""
    begins = tuple(columns)
    return any(begins[: len(own)] == own for own in (ROOT_COLUMNS, CHILD_COLUMNS)) or (
        begins[:1] == ("_client_id",) and fold(name).startswith("nexus")
    )


def set_aside(entity: str, record: Record, reason: str) -> Broken:
    """Return *record*, which no table can hold, as an entry for quarantine: its rows, and the parents of grandchildren."""
    rows = {name: [child.row for child in rows] for name, rows in record.children.items()}
    parents = {name: [child.parent for child in rows] for name, rows in record.children.items()}
    # Not with orjson, which refuses the very names that can be the reason.
    body = json.dumps({"record": {entity: [record.root], **rows}, "parents": parents})
    return Broken(record.id, record.changed, body, reason)


def _create(table: Table) -> str:
    # Measured with 200,000 records under random GUIDs: roots, whose rows are wide, go in a third faster with a rowid. Child rows
    # are narrow and always wanted together: without one they lie together, in a file a fifth smaller, and are replaced faster.
    key = "_tenant_id, _location_id, _id" if table.is_root else "_tenant_id, _location_id, _id, _n"
    return f"create table {quote(table.name)} ({table.names()}, primary key ({key})){'' if table.is_root else ' without rowid'}"


def missing(connection: sqlite3.Connection) -> dict[str, list[str]]:
    """Return, of each own table that is not there whole, the columns that it lacks."""
    lacking: dict[str, list[str]] = {}
    for name, table in OWN_TABLES.items():
        there = {row[1] for row in connection.execute(f"pragma main.table_info({quote(name)})")}
        columns = [column for column in table.columns if column not in there]
        if columns:
            lacking[name] = columns
    return lacking


def missing_indexes(connection: sqlite3.Connection) -> list[str]:
    """Return the own tables that lack their index."""
    there = {name for (name,) in connection.execute("select name from sqlite_master where type = 'index'")}
    return [name for name in _OWN_INDEXES if _index_name(name) not in there]


def complete_own_tables(connection: sqlite3.Connection, only: Collection[str] = tuple(OWN_TABLES)) -> list[str]:
    """Make the own tables, columns and indexes that are missing, of *only* these tables, within the caller's transaction.

    Returns:
        The names of what was made; an index goes with its table, where that is new.
    """
    made = _complete_columns(connection, only)
    for name in missing_indexes(connection):
        if name in only:
            columns = ", ".join(map(quote, _OWN_INDEXES[name]))
            connection.execute(f"create index {quote(_index_name(name))} on {quote(name)} ({columns})")
            if name not in made:
                made.append(f"index of {name}")
    return made


def _index_name(table: str) -> str:
    return "_".join(("idx", table, *_OWN_INDEXES[table]))


def _complete_columns(connection: sqlite3.Connection, only: Collection[str]) -> list[str]:
    lacking = {name: columns for name, columns in missing(connection).items() if name in only}
    if not lacking:
        return []
    # sqlite-utils takes longer to import than a quiet run takes altogether: only where there is something to make. It would
    # commit each of its writes; inside a transaction that is open it joins that.
    from sqlite_utils import Database

    database = Database(connection, recursive_triggers=False)
    made: list[str] = []
    for name, columns in lacking.items():
        if len(columns) == len(OWN_TABLES[name].columns):
            _make_own_table(database, name)
            made.append(name)
        else:
            made += [f"{name}.{column}" for column in columns]
        there = database.table(name).columns_dict
        for column in (column for column in columns if column not in there):
            kind, default = OWN_TABLES[name].columns[column], OWN_TABLES[name].defaults.get(column)
            database.table(name).add_column(column, kind, not_null_default=default)
    return made


def _make_own_table(database: "Database", name: str) -> None:
    wanted = OWN_TABLES[name]
    if name == "_changes":
        # Bare DDL, because sqlite-utils' oldest supported version cannot say AUTOINCREMENT. Without it a number that `prune` has
        # freed would be given again, and whoever reads on from the last number seen would miss that change.
        columns = ", ".join(
            "seq integer primary key autoincrement" if column == "seq" else f"{column} {'integer' if kind is int else 'text'}"
            for column, kind in wanted.columns.items()
        )
        database.execute(f"create table _changes ({columns})")
        return
    if wanted.is_narrow:
        columns = ", ".join(f"{column} {'integer' if kind is int else 'text'}" for column, kind in wanted.columns.items())
        database.execute(f"create table {name} ({columns}, primary key ({', '.join(wanted.key)})) without rowid")
        return
    database.create_table(name, dict(wanted.columns), pk=_key(wanted.key), defaults=dict(wanted.defaults))


def count_records(connection: sqlite3.Connection) -> None:
    """Count what `_streams.records` says from then on, of a mirror that was filled before there was this column."""
    connection.execute("update _streams set records = 0")
    for (entity,) in connection.execute("select distinct entity from _streams").fetchall():
        if has_table(connection, entity):
            connection.execute(
                "update _streams set records = (select count(*) "
                f"from {quote(entity)} where _tenant_id = _streams.tenant_id and _location_id = _streams.location_id "
                "and _deleted_at is null) where entity = ?",
                (entity,),
            )


def has_table(connection: sqlite3.Connection, name: str) -> bool:
    """Return whether there is a table of this name, in this spelling."""
    found = connection.execute("select exists (select 1 from sqlite_master where type = 'table' and name = ?)", (name,))
    return bool(found.fetchone()[0])


def has_column(connection: sqlite3.Connection, table: str, column: str) -> bool:
    """Return whether *table* is there and has *column*."""
    return column in {row[1] for row in connection.execute(f"pragma table_info({quote(table)})")}


def _key(columns: tuple[str, ...]) -> str | tuple[str, ...] | None:
    return (columns[0] if len(columns) == 1 else columns) if columns else None
