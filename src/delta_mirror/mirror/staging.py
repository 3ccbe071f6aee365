"""One entity of one location as a Starter Export has it, laid out beside the mirror so that SQLite can compare and move it.

Invariants:

- The staging is a SQLite file of its own, without a journal, in a private folder beside the mirror. It is thrown away after
  every entity; what a killed run has left goes at the beginning of the next one.
- Rows go in as they are read. Then each table is sorted once by the key of its record, and from then on everything is read in
  that order: comparing and inserting walk through both files from front to back, however large they are.
- A row that belongs to no record is never loaded, and is counted with the reason.
- What a child row only repeats of its record or of the row above it is left out, value by value; what says something else stays.
- Memory is flat: SQLite sorts in the same folder what does not fit into its cache.
- A record of a person who was erased is taken out before anything is compared; nothing of it is counted, or set aside.

How it is used (the names `i`, `s` and `p` are those of the queries):

    with work_folder(mirror_path) as folder, Staging(folder, stream, rules, erased=mirror.erased) as staging:
        for shape, batches in files:
            staging.load(shape, file_name, batches)
        staging.settle()            # ExportError: the export contradicts itself
        with mirror.attached(staging.path): ...   # see mirror/comparison.py and mirror/baseline.py
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from delta_mirror.core.erased import Erased
from delta_mirror.core.model import Stream
from delta_mirror.core.values import read_ticks
from delta_mirror.errors import ExportError
from delta_mirror.mirror.file import translated
from delta_mirror.mirror.schema import MAX_COLUMNS
from delta_mirror.mirror.staged import Aside, Column, Rows, Rules, Shape, StagedTable
from delta_mirror.mirror.workspace import AS, Check, attach, watched

_SAMPLE = 1000  # rows by which the column is found that holds the key
_CHUNK = 10_000  # records of which it is asked at a time whether they were erased


class Staging:
    """The export's version of one stream, less those who were *erased*; a context manager. See the module's own text."""

    def __init__(
        self, folder: Path, stream: Stream, rules: Rules, check: Check = lambda: None, *, erased: Erased | None = None
    ) -> None:
        self.stream = stream
        self.rules = rules
        self.path = folder / "staging.db"
        self.tables: dict[str, StagedTable] = {}
        self.aside: list[Aside] = []
        self.records = 0
        self._check = check
        self._erased = erased
        self._files = 0  # that were loaded, or begun
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> Self:
        self.path.unlink(missing_ok=True)
        # Made by us, so that nobody else can read it; SQLite gives its own files the mode of this one.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        with translated(self.path):
            self._connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            # Where SQLite puts what it sorts, for the whole process: /tmp may be small, and belongs to others, too.
            self._connection.execute(f"pragma temp_store_directory = {_literal(str(self.path.parent))}")
            attach(self._connection, self.path)
            self._connection.create_function("ticks", 1, _ticks, deterministic=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._connection is not None:
            self._connection.execute("pragma temp_store_directory = ''")
        self.close()
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the connection that fills the staging; the file stays."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @property
    def root(self) -> StagedTable | None:
        """The root table, None where the export has none: then the root of a record is its key alone."""
        return next((table for table in self.tables.values() if table.shape.is_root), None)

    @property
    def children(self) -> list[StagedTable]:
        """The other tables."""
        return [table for table in self.tables.values() if not table.shape.is_root]

    @property
    def rows(self) -> int:
        """How many rows belong to a record, roots included."""
        return self.records + sum(table.rows for table in self.children)

    def load(self, shape: Shape, file: str, batches: Iterable[Rows]) -> int:
        """Take in the rows of one file, and return how many there were. No batch at all: the table is there, and empty.

        Of two files that bring one table, as one of a schedule's may come under two names, one is taken: where one is empty, the
        other; where both have the same rows, the first.

        Raises:
            ExportError: two files bring one table with different rows, or its columns cannot be stored.
        """
        table = StagedTable(shape, self._files, file)
        self._files += 1
        sql = self._sql
        with translated(self.path):
            sql("begin")
            insert = ""
            for batch in batches:
                self._check()
                if not insert:
                    self._begin_table(table, batch.columns)
                    table.tells_empty = batch.tells_empty
                    insert = f"insert into {table.raw} values ({', '.join('?' * len(batch.columns))})"
                if batch.rows:
                    assert self._connection is not None  # noqa: S101 - open as long as it is filled
                    self._connection.executemany(insert, batch.rows)
                    table.raw_rows += len(batch.rows)
            known = self.tables.get(shape.table)
            self.tables[shape.table] = table if known is None else self._one_of(known, table)
            sql("commit")
        return table.raw_rows

    def _one_of(self, first: StagedTable, second: StagedTable) -> StagedTable:
        """Return which of two files of one table is taken, and forget the other."""
        if first.raw_rows and second.raw_rows and not self._have_same_rows(first, second):
            raise ExportError(
                f"{second.file}: {first.file} brings the same table of the mirror, {first.shape.table}, with other rows, so that "
                f"it cannot be told which of them hold; {self._left_as_it_was()}. Ask the vendor which file is meant, and take "
                "the other one away"
            )
        taken, left = (second, first) if second.raw_rows and not first.raw_rows else (first, second)
        if left.has_columns:
            self._sql(f"drop table {left.raw}")
        return taken

    def _have_same_rows(self, first: StagedTable, second: StagedTable) -> bool:
        if first.raw_rows != second.raw_rows or first.places.keys() != second.places.keys():
            return False
        counted = [
            f"select {', '.join(columns)}, count(*) from {table.raw} group by {', '.join(columns)}"
            for table in (first, second)
            if (columns := [table.places[name] for name in first.places])
        ]
        return self._sql(f"{' except '.join(counted)} limit 1").fetchone() is None

    def _begin_table(self, table: StagedTable, columns: Sequence[str]) -> None:
        table.has_columns = True
        table.places = {name: f"c{place}" for place, name in enumerate(columns)}
        if len(table.places) < len(columns):
            raise ExportError(f"{table.file}: two of its columns have one name; {self._left_as_it_was()}")
        if len(columns) > MAX_COLUMNS:
            raise ExportError(
                f"{table.file}: it has {len(columns):,} columns, and a table of the mirror holds at most {MAX_COLUMNS:,}; "
                f"{self._left_as_it_was()}. Look whether this is a file of the export at all; if it is, ask the vendor for one "
                "without them"
            )
        self._sql(f"create table {table.raw} ({', '.join(table.places.values())})")

    def settle(self) -> None:
        """Sort everything by record and find out what belongs together; `aside` has what does not.

        Raises:
            ExportError: a key stands twice among the roots, or it cannot be told to which record the rows of a table belong.
        """
        with translated(self.path), self._watched():
            sql = self._sql
            sql("begin")
            sql(f"create table {AS}.ids (id primary key, place, changed, gone default 0{self._carried()}) without rowid")
            if (root := self.root) is not None:
                self._settle_root(root)
            for table in self._parents_first():
                self._settle_child(table)
            if root is None:
                self._make_roots()
            for table in self._parents_first():
                self._drop_strays(table)
                self._find_repeated(table)
            self._find_gone()
            self._leave_out_erased()
            self.records = int(sql(f"select count(*) from {AS}.ids").fetchone()[0])
            sql("commit")

    # ---- roots

    def _carried_names(self) -> list[str]:
        """Return the columns of the root that child rows may repeat, beside its key."""
        root = self.root
        if root is None:
            return []
        wanted = dict.fromkeys(name for table in self.children for name in table.shape.repeated)
        plain = {self.rules.key, "TenantId", "LocationId", *root.shape.key}
        return [name for name in wanted if name in root.places and name not in plain]

    def _carried(self) -> str:
        return _listed(f"r{place}" for place, _ in enumerate(self._carried_names()))

    def _settle_root(self, root: StagedTable) -> None:
        if not root.has_columns:
            return
        names = [name for name in root.shape.key if name in root.places]
        if not names:
            raise ExportError(
                f"{root.file}: no column holds the key of its records ({' or '.join(root.shape.key)}); {self._left_as_it_was()}"
            )
        key = _first_filled([root.places[name] for name in names])
        places = ", ".join(root.places.values())
        sql = self._sql
        sql(f"create table {root.sorted} (_id, {places})")
        sql(
            f"insert into {root.sorted} select cast({key} as text), {places} from {root.raw} "
            f"where {_is_key(key)} order by 1, rowid"
        )
        sql(f"drop table {root.raw}")
        carried = _listed(root.places[name] for name in self._carried_names())
        changed = f"ticks({root.places[self.rules.changed]})" if self.rules.changed in root.places else "null"
        try:
            sql(f"insert into {AS}.ids select _id, rowid, {changed}, 0{carried} from {root.sorted}")
        except sqlite3.IntegrityError as error:
            raise ExportError(
                f"{root.file}: one key stands in more than one row, so that it cannot be told which of them holds; "
                f"{self._left_as_it_was()}"
            ) from error
        root.rows = int(sql(f"select count(*) from {root.sorted}").fetchone()[0])
        self._put_aside(root, root.raw_rows - root.rows, "they bear no key")
        qualified = _first_filled([f"p.{root.places[name]}" for name in names])
        for name, place in root.places.items():
            if name == names[0]:
                root.columns.append(Column(self.rules.key, qualified))
            elif name not in names:
                root.columns.append(Column(name, f"p.{place}"))
            elif self._holds(f"nullif(p.{place}, {qualified})", f"{root.sorted} p"):
                root.columns.append(Column(name, f"nullif(p.{place}, {qualified})"))

    def _make_roots(self) -> None:
        """Let the records be what the child rows name: of these entities no table of roots is exported."""
        tables = [table for table in self.children if table.has_columns]
        if tables:
            named = " union ".join(f"select id from {table.spans}" for table in tables)
            self._sql(f"insert into {AS}.ids (id) select id from ({named}) order by 1")

    # ---- child rows

    def _parents_first(self) -> list[StagedTable]:
        """Return the child tables with rows of any number, parents before what hangs on them."""
        ordered: list[StagedTable] = []
        left = [table for table in self.children if table.has_columns]
        while left:
            ready = [table for table in left if table.shape.parent not in {other.shape.table for other in left}] or left
            ordered += ready
            left = [table for table in left if table not in ready]
        return ordered

    def _parent_of(self, table: StagedTable) -> StagedTable | None:
        """Return the table that the rows of *table* hang on, None where they belong directly to the root, or to nothing."""
        if table.shape.parent is None or table.shape.parent_key not in table.places:
            return None
        parent = self.tables.get(table.shape.parent)
        return parent if parent is not None and parent.shape.own_key in parent.places else None

    def _hangs_on_nothing(self, table: StagedTable) -> bool:
        """Return whether *table* points to rows that the export does not have."""
        return table.shape.parent_key in table.places and self._parent_of(table) is None

    def _settle_child(self, table: StagedTable) -> None:
        sql = self._sql
        parent = self._parent_of(table)
        if parent is not None:
            pointer = table.places[table.shape.parent_key or ""]
            found, joined = "l.id, l.n", f"cross join {parent.links} l on l.own = r.{pointer}"
        elif not self._hangs_on_nothing(table) and (name := self._find_key(table)) is not None:
            key = f"nullif(r.{table.places[name]}, '')"
            found, joined = f"cast({key} as text), null", f"where {_is_key(key)}"
            if name in table.shape.repeated:
                del table.places[name]  # it says nothing else; a wide column less to sort
        else:
            found, joined = "null, null", "where 0"
        sql(f"create table {table.sorted} (_id, _parent_n{_listed(table.places.values())})")
        copied = _listed(f"r.{place}" for place in table.places.values())
        sql(f"insert into {table.sorted} select {found}{copied} from {table.raw} r {joined} order by 1, r.rowid")
        sql(f"drop table {table.raw}")
        sql(f"create table {table.spans} (id primary key, first, rows) without rowid")
        sql(f"insert into {table.spans} select _id, min(rowid), count(*) from {table.sorted} group by _id")
        own_key = table.shape.own_key
        if own_key in table.places and any(other.shape.parent == table.shape.table for other in self.children):
            # Rows of records that are not there are among them: what hangs on those is as much without a root as they are.
            own = f"p.{table.places[own_key or '']}"
            sql(f"create table {table.links} (own primary key, id, n) without rowid")
            sql(
                f"insert or ignore into {table.links} select {own}, s.id, p.rowid - s.first from {table.spans} s "
                f"cross join {table.sorted} p on p.rowid between s.first and s.first + s.rows - 1 "
                f"where {own} is not null order by 1, p.rowid"
            )

    def _find_key(self, table: StagedTable) -> str | None:
        """Return the name of the column that holds the key of the record, None where there is none.

        The service's documents do not name it for every table. Then it is the one column that no row lacks and whose values are
        keys of roots; not of all rows, for some may have lost their root.
        """
        candidates = [name for name in table.shape.key if name in table.places]
        if self.root is None and not candidates:
            raise ExportError(
                f"{table.file}: no column holds the key of its records ({' or '.join(table.shape.key)}); {self._left_as_it_was()}"
            )
        named = [name for name in candidates if self.root is None or any(self._meets_roots(table, name))]
        others = [] if named else [name for name in table.places if self._is_filled_with_keys(table, name)]
        if len(others) > 1:
            raise ExportError(
                f"{table.file}: it cannot be told which column holds the key of its records, {' or '.join(map(repr, others))}; "
                f"{self._left_as_it_was()}"
            )
        return next(iter([*named, *others, *candidates]), None)

    def _is_filled_with_keys(self, table: StagedTable, name: str) -> bool:
        met = self._meets_roots(table, name)
        return None not in met and 2 * sum(map(bool, met)) > len(met)

    def _meets_roots(self, table: StagedTable, name: str) -> list[int | None]:
        """Return, of the first rows, whether the column *name* has the key of a root; None where it has nothing."""
        is_key = f"nullif({table.places[name]}, '') in (select id from {AS}.ids)"
        found = self._sql(f"select {is_key} from {table.raw} order by rowid limit {_SAMPLE}")
        return [met for (met,) in found]

    def _drop_strays(self, table: StagedTable) -> None:
        """Take out the spans of records that are not there; their rows stay where nobody looks for them."""
        sql = self._sql
        found = int(sql(f"select coalesce(sum(rows), 0) from {table.spans}").fetchone()[0])
        sql(f"delete from {table.spans} where id not in (select id from {AS}.ids)")
        table.rows = int(sql(f"select coalesce(sum(rows), 0) from {table.spans}").fetchone()[0])
        above = f"row of {table.shape.parent}" if table.shape.parent_key in table.places else self.stream.entity
        if self.root is not None:
            self._put_aside(table, table.raw_rows - table.rows, f"the {above} that they belong to is not in the export")
        else:
            self._put_aside(table, table.raw_rows - found, "they bear no key")

    def _find_repeated(self, table: StagedTable) -> None:
        """Choose the columns of *table* that are stored: all but those that only repeat what stands above."""
        candidates = {name: self._unless_repeated(table, name) for name in table.shape.repeated if name in table.places}
        kept: set[str] = set()
        if candidates and table.rows:
            says_more = ", ".join(f"max({value} is not null)" for value in candidates.values())
            found = self._sql(f"select {says_more} from {AS}.ids i {table.joined()}").fetchone()
            kept = {name for name, more in zip(candidates, found, strict=True) if more}
        for name, place in table.places.items():
            if name in kept:
                table.columns.append(Column(name, candidates[name]))
            elif name not in candidates:
                table.columns.append(Column(name, f"p.{place}"))

    def _unless_repeated(self, table: StagedTable, name: str) -> str:
        """Return what gives the value of a column where it says more than the rows above, else NULL."""
        value = f"p.{table.places[name]}"
        own = {"TenantId": self.stream.tenant_id, "LocationId": self.stream.location_id}
        if name in own:
            return f"iif({value} in ({own[name]}, '{own[name]}'), null, {value})"
        if name == self.rules.key or name in table.shape.key:
            return f"iif(cast({value} as text) = i.id, null, {value})"
        carried = self._carried_names()
        if name in carried:
            value = f"nullif({value}, i.r{carried.index(name)})"
        if name == table.shape.parent_key and self._parent_of(table) is not None:
            return "null"  # the rows were joined by it
        return value

    def _find_gone(self) -> None:
        """Note which records the export marks as deleted."""
        for mark in self.rules.marks:
            table = self.root if mark.table is None else self.tables.get(mark.table)
            if table is None or mark.column not in table.places or not (table.rows or table.shape.is_root):
                continue
            state = f"coalesce(p.{table.places[mark.column]} in ({mark.state}, '{mark.state}'), 0)"
            self._sql(
                f"update {AS}.ids set gone = 1 where id in (select i.id from {AS}.ids i {table.joined()} "
                f"group by i.id having min({state}) = 1)"
            )

    # ---- people who were erased

    def _leave_out_erased(self) -> None:
        """Take out the records of people who were erased: to whoever looks at what is left, they were never in the export."""
        marked = list(self._find_erased())
        for (id_,) in marked:
            self._sql(f"delete from {AS}.ids where id = ?", (id_,))
            for table in self._parents_first():
                found = self._sql(f"select rows from {table.spans} where id = ?", (id_,)).fetchone()
                table.rows -= found[0] if found else 0
                self._sql(f"delete from {table.spans} where id = ?", (id_,))
        if (root := self.root) is not None:
            root.rows -= len(marked)

    def _find_erased(self) -> Iterator[tuple[str]]:
        """Yield the ids of those who were erased. Asked for only where somebody is: each is hashed."""
        if self._erased is None:
            return
        tenant_id, _, entity = self.stream
        last = ""
        while ids := self._sql(f"select id from {AS}.ids where id > ? order by id limit {_CHUNK}", (last,)).fetchall():
            self._check()
            yield from [(id_,) for (id_,) in ids if self._erased.find(tenant_id, entity, id_)]
            last = ids[-1][0]

    # ---- for all

    def _sql(self, statement: str, values: tuple[str, ...] = ()) -> sqlite3.Cursor:
        assert self._connection is not None  # noqa: S101 - open as long as it is filled
        return self._connection.execute(statement, values)

    def _holds(self, value: str, table: str) -> bool:
        return bool(self._sql(f"select exists (select 1 from {table} where {value} is not null)").fetchone()[0])

    def _put_aside(self, table: StagedTable, rows: int, reason: str) -> None:
        if rows:
            self.aside.append(Aside(table.shape.table, rows, reason))

    def _left_as_it_was(self) -> str:
        return f"nothing of it was loaded, and {self.stream} is as it was"

    @contextmanager
    def _watched(self) -> Iterator[None]:
        assert self._connection is not None  # noqa: S101 - open as long as it is filled
        with watched(self._connection, self._check):
            yield


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _ticks(value: object) -> int | None:
    return read_ticks(value) if isinstance(value, str) else None


def _is_key(value: str) -> str:
    """Return what is true where *value* can be the key of a record. What holds a NUL counts as none: SQLite's JSON, through which
    records are looked up, ends a text there, so that another record could be found in its place.
    """
    return f"{value} is not null and instr({value}, char(0)) = 0"


def _listed(names: Iterable[str]) -> str:
    """Return *names* as they go on in a list that has begun."""
    return "".join(f", {name}" for name in names)


def _first_filled(values: Sequence[str]) -> str:
    filled = [f"nullif({value}, '')" for value in values]
    return filled[0] if len(filled) == 1 else f"coalesce({', '.join(filled)})"
