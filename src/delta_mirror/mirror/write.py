"""The writing side of the mirror: one connection, one transaction at a time, a page in each.

Invariants:

- Everything of a page (rows, log, tombstones, quarantine, the place reached) is committed together or not at all.
- A transaction is `begin immediate`: one that begins by reading and then writes would be refused as soon as another program
  has written in between, however long it waits.
- Nothing is read, not even a count, while another thread's transaction is open: it would see what may yet be dropped.
- A record that is replaced is written as sent, whole. Child rows are written anew, table by table, where they differ.
- The mirror belongs to one account and deletes in one way; a filled mirror does not change its mind.
- Nothing of a person who was erased is written again, by whatever way it comes; only the date under which the feed lists it.
"""

import hashlib
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypedDict, Unpack, cast

import orjson

from delta_mirror.core.erased import Erased
from delta_mirror.core.keyed import Keyed
from delta_mirror.core.mask import Mask
from delta_mirror.core.model import Broken, Child, Entry, Instant, Record, Row, Stream, Value
from delta_mirror.core.plan import Counts, Effect, Held, Plan
from delta_mirror.errors import MirrorFileError
from delta_mirror.mirror.file import PATIENCE, open_as_it_is, open_for_writing, own_time, translated
from delta_mirror.mirror.marks import CHECK, IN_STREAM, Key, check_key, dates_of, forget_dates, load_erased, note_dates
from delta_mirror.mirror.migrations import migrate
from delta_mirror.mirror.place import resolved
from delta_mirror.mirror.read import Json, StreamState, read_streams
from delta_mirror.mirror.schema import (
    CHILD_COLUMNS,
    ROOT_COLUMNS,
    Schema,
    Table,
    has_table,
    quote,
    record_as_json,
    record_from_json,
    set_aside,
)
from delta_mirror.mirror.workspace import AS as STAGING
from delta_mirror.mirror.workspace import READ_CACHE, attach, watched

Deletes = Literal["remove", "mark"]
_Key = tuple[int, int, str]  # tenant, location, id
_NEEDED_AS_IT_IS = ("_streams", "_calls", "_call_times", "_pauses", "_tables")


class StreamColumns(TypedDict, total=False):
    """Columns of `_streams` that a job may set; what is not named keeps its value."""

    state: Literal["new", "following", "failing", "gap"]
    baseline: str | None
    watermark: str | None
    caught_up_at: str | None
    verified_through: str | None
    verified_rows: int | None
    verified_differing: int | None
    last_success_at: str | None
    last_error: str | None
    put_back_at: str
    gap_from: str | None
    gap_to: str | None
    habits: dict[str, Json] | None
    late: int
    superseded: int
    refused_since: str | None
    debt: dict[str, Json] | None
    starter_tables: list[str]


class Mirror:
    """The one writing connection; a context manager. It may be used from several threads, which take turns."""

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        deletes: Deletes,
        feed_tables: Mapping[str, Collection[str]],
        now: Callable[[], float],
    ) -> None:
        self.path = path
        self.deletes = deletes
        self.now = now
        self.run_id: int | None = None  # of the run whose row was committed last through this connection
        self.has_drift = False  # whether that run has found that mirror and source differ
        self.erased: Erased | None = None  # who is marked as erased, None where nobody is
        self.mask: Mask | None = None  # what is done to all that comes, before it comes here
        self._connection = connection
        self._feed_tables = feed_tables
        self._schema: Schema | None = None
        self._turn = threading.RLock()
        self._is_open = False
        self._rehearses = False

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        mode: int = 0o600,
        deletes: Deletes = "remove",
        account: str | None = None,
        key: Key = lambda: None,
        feed_tables: Mapping[str, Collection[str]] | None = None,
        now: Callable[[], float] = time.time,
        patience: float = PATIENCE,
    ) -> Self:
        """Return the mirror at *path*, which is made where it does not exist; all own tables exist afterwards.

        *account* is the marketplace host and the client_id, as an operator reads them; None does not ask whose mirror it is.
        *key* is asked for the operator's key, where the mirror has marks of people who were erased.
        *feed_tables* has, of every entity there is, the child tables that its feed is known to bring. *now* is our own clock,
        *patience* the seconds that a foreign program's lock is waited for.

        Raises:
            MirrorFileError: *path* cannot be a mirror, or is one of another account or another way of deleting; it is
                unchanged; so is one with marks that another key has made.
            BusyError, DiskFullError: as they say.
        """
        mirror = cls(path, open_for_writing(path, mode, patience), deletes, feed_tables or {}, now)
        try:
            mirror._refuse_foreign(account)
            mirror.know_erased(key)
            mirror._migrate()
            with mirror.transaction() as tx:
                tx.settle_identity(account)
        except BaseException:
            mirror.close()
            raise
        return mirror

    @classmethod
    def in_memory(cls, *, deletes: Deletes = "remove", now: Callable[[], float] = time.time) -> Self:
        """Return a mirror that is no file and goes with the process: for a rehearsal where there is none yet."""
        # Not ":memory:": what the cache has no room for goes into a temporary file, so that memory stays flat.
        connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        mirror = cls(Path(":memory:"), connection, deletes, {}, now)
        mirror._migrate()
        return mirror

    @classmethod
    def as_it_is(cls, path: Path, *, now: Callable[[], float] = time.time, patience: float = PATIENCE) -> Self:
        """Return the mirror at *path* for what may be written without its lock, beside a run: the calls that are made.

        It is neither made nor migrated, its mode stays, and it is not asked whose it is.

        Raises:
            MirrorFileError: there is none of today's form, or it cannot be written.
        """
        connection = open_as_it_is(resolved(path), patience)
        with ExitStack() as stack, translated(path):
            stack.callback(connection.close)
            if lost := [name for name in _NEEDED_AS_IT_IS if not has_table(connection, name)]:
                raise MirrorFileError(f"{path} has lost its own tables {', '.join(lost)}; put a backup in its place")
            stack.pop_all()
        return cls(path, connection, "remove", {}, now)

    def _migrate(self) -> None:
        with translated(self.path):
            migrate(self._connection, self.now())

    def _refuse_foreign(self, account: str | None) -> None:
        """Refuse a mirror of somebody else before a byte of it is changed: not even its form is brought up to date."""
        with translated(self.path):
            if has_table(self._connection, "_meta"):
                schema = Schema(self._connection, self._feed_tables)
                Transaction(self, self._connection, schema).check_identity(account)

    def know_erased(self, key: Key) -> None:
        """Read who is marked as erased; from then on they stay out.

        Raises:
            RefusedError: *key* does not bring the key of the marks.
        """
        with self._turn, translated(self.path):
            self.erased = load_erased(self._connection, self.path, key)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the last one to a mirror also empties and removes its WAL."""
        with self._turn, translated(self.path):
            self._connection.close()

    @contextmanager
    def transaction(self, *, keep: bool = True) -> Iterator["Transaction"]:
        """Begin, and at the end of the body commit; after any exception nothing of the body is in the mirror.

        Unless *keep*, nothing of it is in the mirror in any case: for looking at what would come of it. Other threads wait for
        their turn, so the body should not wait for anything itself.
        """
        with self._turn, translated(self.path):
            if self._is_open:
                raise RuntimeError("a transaction of this thread is open already; one inside it could not be kept apart")
            if not self._rehearses:
                self._connection.execute("begin immediate")
            self._is_open = True
            try:
                if self._schema is None:
                    self._schema = Schema(self._connection, self._feed_tables)
                tx = Transaction(self, self._connection, self._schema)
                yield tx
                if keep and not self._rehearses:
                    self._connection.execute("commit")
                    self.run_id = tx.run_id or self.run_id
                elif not self._rehearses:
                    self._schema = None
                    self._connection.execute("rollback")
            except BaseException:
                self._schema = None  # tables made in the body are gone with it
                if self._connection.in_transaction:  # SQLite itself rolls back when the disk is full
                    self._connection.execute("rollback")
                raise
            finally:
                self._is_open = False

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        """Let every transaction of the body see what those before it have done, and at its end let nothing of that be there.

        What does not fit into memory lies in the WAL until then. A transaction that fails ends the rehearsal.
        """
        with self._turn, translated(self.path):
            self._connection.execute("begin immediate")
            self._rehearses = True
            try:
                yield
            finally:
                self._rehearses = False
                self._schema = None  # tables made in the body are gone with it
                if self._connection.in_transaction:
                    self._connection.execute("rollback")

    def be_durable(self) -> None:
        """Let every commit from now on survive also a power failure, at the price of waiting for the disk."""
        with self._turn, translated(self.path):
            self._connection.execute("pragma synchronous = full")

    @contextmanager
    def bare(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection outside of any transaction, for what SQLite refuses within one. For `mirror/` alone."""
        with self._turn, translated(self.path):
            if self._is_open:
                raise RuntimeError("a transaction of this thread is open")
            yield self._connection

    @contextmanager
    def attached(self, path: Path) -> Iterator[None]:
        """Attach the staging at *path* to the mirror's connection while the body runs; see `mirror/workspace.py`."""
        with self._turn, translated(self.path):
            attach(self._connection, path, READ_CACHE)
            try:
                yield
            finally:
                self._connection.execute(f"detach {STAGING}")
                self._connection.execute("pragma shrink_memory")  # the next staging sorts in what the pages have taken

    def read_stream(self, stream: Stream) -> StreamState:
        """Return what is known of *stream*; of one never met, that it is new."""
        with self._turn, translated(self.path):
            return next(iter(read_streams(self._connection, stream)), StreamState(stream))

    def read_streams(self) -> list[StreamState]:
        """Return what is known of every stream that was ever met."""
        with self._turn, translated(self.path):
            return read_streams(self._connection)

    def count_known(self, stream: Stream, after: int, upto: int) -> int:
        """Return how many ids of *stream* have, as far as the mirror knows, last changed after *after* and up to *upto* (ticks).

        Living and deleted ones, those of which something newer is in quarantine, and those who were erased; each once.
        """
        there = "t.tenant_id = :tenant_id and t.location_id = :location_id and t.entity = :entity"
        of_stream = f"{IN_STREAM} and ticks > :after and ticks <= :upto"
        buried = f"exists (select 1 from _tombstones t where {there} and t.id = "
        tombstones = f"select count(*) from _tombstones where {of_stream}"
        aside = f"select count(distinct record_id) from _quarantine where {of_stream} and not {buried}record_id)"
        with self._turn, translated(self.path):
            if has_table(self._connection, stream.entity):
                root = quote(stream.entity)
                of_root = "_tenant_id = :tenant_id and _location_id = :location_id"
                aside += f" and not exists (select 1 from {root} where {of_root} and _id = record_id)"
                rows = f"select count(*) from {root} where {of_root} and _ticks > :after and _ticks <= :upto and _deleted_at is"
                # In two parts, because the living can be counted in the index alone: of a mirror that has just been filled they
                # are nearly all there are. A row that is marked as deleted is counted with its tombstone, unless that was pruned.
                living, marked = f"{rows} null", f"{rows} not null and not {buried}_id)"
            else:
                living = marked = "select 0"
            erased = "select 0" if self.erased is None else f"select count(*) from _erased_dates where {of_stream}"
            found = self._connection.execute(
                f"select ({tombstones}) + ({aside}) + ({living}) + ({marked}) + ({erased})",
                {**stream._asdict(), "after": after, "upto": upto},
            )
            return int(found.fetchone()[0])

    def whereabouts(self, entity: str, ids: Collection[str]) -> set[tuple[Stream, str]]:
        """Return where the mirror knows of *ids*: as a record, as a tombstone, or as a thing in quarantine."""
        selects = [
            "select tenant_id, location_id, id from _tombstones where entity = :entity and id in (select value from wanted)",
            "select tenant_id, location_id, record_id from _quarantine where entity = :entity "
            "and record_id in (select value from wanted)",
        ]
        with self._turn, translated(self.path):
            if has_table(self._connection, entity):
                selects.append(
                    f"select _tenant_id, _location_id, _id from {quote(entity)} where _id in (select value from wanted)"
                )
            found = self._connection.execute(
                f"with wanted as (select value from json_each(:ids)) {' union '.join(selects)}",
                {"entity": entity, "ids": orjson.dumps(list(ids)).decode()},
            )
            return {(Stream(tenant_id, location_id, entity), id_) for tenant_id, location_id, id_ in found}

    def begin_run(self, command: str, *, at: float | None = None) -> int:
        """Return the id of a new run, begun *at* (by default now).

        A run that was left open by a killed process has the outcome `killed` afterwards.
        """
        with self.transaction() as tx:
            return tx.begin_run(command, at=self.now() if at is None else at)

    def end_run(
        self, run_id: int, outcome: str, counts: Counts | None, calls: int, pages: int, *, at: float | None = None
    ) -> None:  # fmt: skip
        """Settle the row of a run that ended *at* (by default now).

        *counts* are those of the whole run, None leaves what was counted page by page.
        """
        ended_at = own_time(self.now() if at is None else at)
        with self.transaction() as tx:
            tx.execute(
                "update _runs set ended_at = ?, outcome = ?, calls = ?, pages = ? where id = ?",
                (ended_at, outcome, calls, pages, run_id),
            )
            if counts is not None:
                tx.execute(
                    "update _runs set inserted = ?, replaced = ?, deleted = ?, revived = ?, unchanged = ?, superseded = ?, "
                    "quarantined = ? where id = ?",
                    (*_numbers(counts), run_id),
                )

    def remembered(self, day: str) -> str | None:
        """Return what was remembered of the tenants on *day*, None where that was another day."""
        with self._turn, translated(self.path):
            found = dict(
                self._connection.execute("select key, value from _meta where key in ('tenants', 'tenants_day')").fetchall()
            )
        return found.get("tenants") if found.get("tenants_day") == day else None

    def remember(self, day: str, body: str) -> None:
        """Remember, for *day*, what the service said of the tenants."""
        with self.transaction() as tx:
            tx.keep("tenants_day", day)
            tx.keep("tenants", body)


class Transaction:
    """What is done to the mirror between a begin and its commit. `said` has, in words, which tables and columns were made."""

    # From here on the connection itself and not sqlite-utils: that would commit each of its writes, guess column types, and
    # look up, delete and insert record by record, in ten times the time. Per page it is one look-up per table, `executemany`.

    def __init__(self, mirror: Mirror, connection: sqlite3.Connection, schema: Schema) -> None:
        self.schema = schema
        self.said: list[str] = []
        self.run_id: int | None = None  # of the run that was begun in it
        self._mirror = mirror
        self._connection = connection

    def execute(
        self, sql: str, values: Sequence[str | bytes | float | None] | Mapping[str, str | float | None] = ()
    ) -> sqlite3.Cursor:
        """Return the cursor of one statement. For the modules of `mirror/` alone: SQL is written nowhere else."""
        return self._connection.execute(sql, values)

    def execute_many(self, sql: str, rows: Iterable[Sequence[str | bytes | float | None]]) -> None:
        """Execute one statement for each of *rows*. For the modules of `mirror/` alone, too."""
        self._connection.executemany(sql, rows)

    def define(self, name: str, function: Callable[[Value | None], Value | None]) -> None:
        """Let statements call *function* of one value as *name*. For the modules of `mirror/` alone, too."""
        self._connection.create_function(name, 1, function, deterministic=True)

    def has(self, table: str) -> bool:
        """Return whether there is a table of this name."""
        return has_table(self._connection, table)

    @contextmanager
    def watched(self, check: Callable[[], None]) -> Iterator[None]:
        """Let *check*, by raising, end even a single long statement of the body. For the modules of `mirror/` alone."""
        with watched(self._connection, check):
            yield

    def begin_run(self, command: str, *, at: float) -> int:
        """Return the id of a new run, begun *at*; one that a killed process has left open has the outcome `killed` afterwards."""
        self.execute("update _runs set outcome = 'killed' where outcome is null")
        begun = self.execute("insert into _runs (command, started_at) values (?, ?)", (command, own_time(at)))
        self.run_id = int(begun.lastrowid or 0)
        return self.run_id

    def keep(self, key: str, value: str) -> None:
        """Set one value of `_meta`."""
        self.execute(
            "insert into _meta (key, value) values (?, ?) on conflict (key) do update set value = excluded.value", (key, value)
        )

    def forget(self, key: str) -> None:
        """Remove one value of `_meta`, if it is there."""
        self.execute("delete from _meta where key = ?", (key,))

    def kept(self, key: str) -> str | None:
        """Return one value of `_meta`, None where there is none."""
        found = self.execute("select value from _meta where key = ?", (key,)).fetchone()
        return None if found is None else str(found[0])

    def replace_enums(self, enums: Mapping[str, Mapping[str, str]]) -> None:
        """Let `_enums` hold *enums* (name, key, label) and nothing else."""
        self.execute("delete from _enums")
        self._connection.executemany(
            # Two keys that are one number, such as "7" and "07", are one value: the first stays.
            "insert or ignore into _enums (name, key, label, column_name) values (?, ?, ?, ?)",
            [(name, key, label, _column_of(name)) for name, values in enums.items() for key, label in values.items()],
        )

    def let_go(self, ids: Sequence[str]) -> int:
        """Remove *ids* from quarantine, whether they were applied or not; return how many were there."""
        return sum(self.execute("delete from _quarantine where id = ?", (id_,)).rowcount for id_ in ids)

    def settle_identity(self, account: str | None) -> None:
        """Note whose mirror it is and how it deletes; once something is in it, refuse another account and another way."""
        for key, value in self.check_identity(account).items():
            self.keep(key, value)

    def settle_key(self, keyed: Keyed) -> None:
        """Note under which key the mirror keeps hashes; once it keeps some, refuse another one.

        Raises:
            MirrorFileError: *keyed* is another one.
        """
        kept = self.kept(CHECK)
        if kept is not None:
            check_key(self._mirror.path, keyed, kept)
        self.keep(CHECK, keyed.check())

    def check_identity(self, account: str | None) -> dict[str, str]:
        """Return what is to be noted of whose mirror it is and how it deletes; refuse as `settle_identity`, and write nothing."""
        known: dict[str, str] = dict(self.execute("select key, value from _meta").fetchall())
        has_records = self.has_rows("_tombstones", *(root.name for root in self.schema.roots()))
        wanted = {"account": account, "deletes": self._mirror.deletes}
        news = {key: value for key, value in wanted.items() if value is not None and known.get(key) != value}
        if "account" in news and "account" in known and (has_records or self.has_rows("_streams")):
            raise MirrorFileError(
                f"{self._mirror.path} was filled from {known['account']}, and the configuration names {news['account']}; "
                "mend the configuration, or give [mirror] path another name"
            )
        if "deletes" in news and "deletes" in known and has_records:
            raise MirrorFileError(
                f'{self._mirror.path} was filled with deletes = "{known["deletes"]}", and the configuration says '
                f'"{news["deletes"]}"; mend the configuration, or give [mirror] path another name and load a starter'
            )
        return news

    def has_rows(self, *tables: str) -> bool:
        """Return whether any of *tables*, which are there, has a row."""
        return any(self.execute(f"select exists (select 1 from {quote(table)})").fetchone()[0] for table in tables)

    def fit(self, stream: Stream, entries: Sequence[Entry], *, by_feed: bool = True) -> list[Entry]:
        """Return *entries* as the tables can hold them, which are made and widened for them; `said` has what was made.

        An entry that no table can hold comes back as `Broken`. *by_feed* says that deltas have brought the entries.
        """
        fitted = self.schema.fit(stream, entries, self.said, by_feed=by_feed)
        for rival in self.schema.rivals(stream.entity):
            ids = orjson.dumps([entry.id for entry in fitted if isinstance(entry, Record)]).decode()
            taken = {
                id_
                for (id_,) in self._connection.execute(
                    f"select _id from {quote(rival.name)} where _tenant_id = ? and _location_id = ? "
                    "and _id in (select value from json_each(?))",
                    (stream.tenant_id, stream.location_id, ids),
                )
            }
            reason = f"a record of {rival.name} has the same id, and both entities have rows in one child table"
            fitted = [
                set_aside(stream.entity, entry, reason) if isinstance(entry, Record) and entry.id in taken else entry
                for entry in fitted
            ]
        return fitted

    def current(self, stream: Stream, ids: Collection[str], *, everything: bool = False) -> dict[str, Held]:
        """Return what the mirror has of *ids*, without those of which it has nothing. One statement per table.

        Of child rows what deltas write, or, if asked, *everything*, what came by starter alone too. Of those who were erased it
        has that they were.
        """
        held = self._rows_held(stream, ids, everything=everything)
        if self._mirror.erased is not None:
            marks = {id_: mark for id_ in ids if (mark := self._mirror.erased.find(stream.tenant_id, stream.entity, id_))}
            dates = dates_of(self._connection, stream, marks.values()) if marks else {}
            held |= {id_: Held(None, None, dates.get(mark), deleted=False, is_erased=True) for id_, mark in marks.items()}
        return held

    def _rows_held(self, stream: Stream, ids: Collection[str], *, everything: bool) -> dict[str, Held]:
        keys = orjson.dumps(list(dict.fromkeys(ids))).decode()
        tombstones = {
            id_: (record_from_json(stream.entity, id_, sent, parents), ticks)
            for id_, sent, parents, ticks in self.execute(
                "select t.id, t.record, t.parents, t.ticks from json_each(:keys) k cross join _tombstones t on t.tenant_id = "
                ":tenant_id and t.location_id = :location_id and t.entity = :entity and t.id = k.value",
                {**stream._asdict(), "keys": keys},
            )
        }
        held = {id_: Held(None, tombstone, ticks, deleted=True) for id_, (tombstone, ticks) in tombstones.items()}
        root = self.schema.root(stream.entity)
        if root is None:
            return held
        rows = list(self._select(root, stream, keys))
        if not rows:
            return held
        tables = self.schema.all_children(stream.entity) if everything else self.schema.children(stream.entity, stream.tenant_id)
        children = self._current_children(stream, [row[2] for row in rows], tables)
        columns, own = root.columns, len(ROOT_COLUMNS)
        bare: list[str] = []
        for row in rows:
            id_, deleted, ticks = row[2], row[4] is not None, row[5]
            record = Record(id_, None, None, deleted, _filled(columns, row[own:]), children.get(id_, {}))
            tombstone = tombstones[id_][0] if id_ in tombstones else None
            held[id_] = Held(record, tombstone, ticks, deleted)
            if ticks is None and not deleted and list(record.root.values()) == [id_]:
                bare.append(id_)
        if bare and self._has_no_exported_roots(stream):
            held.update((id_, replace(held[id_], is_key_alone=True)) for id_ in bare)
        return held

    def _has_no_exported_roots(self, stream: Stream) -> bool:
        """Return whether *stream* stands on a starter that has no table of its roots."""
        found = self.execute(
            "select starter_tables from _streams where tenant_id = ? and location_id = ? and entity = ?", stream
        ).fetchone()
        return bool(found and found[0]) and stream.entity not in orjson.loads(found[0])

    def _select(self, table: Table, stream: Stream, keys: str, order: str = "") -> sqlite3.Cursor:
        names = ", ".join(table.quoted())
        return self.execute(
            f"select {names} from {quote(table.name)} where _tenant_id = ? and _location_id = ? "
            f"and _id in (select value from json_each(?)) {order}",
            (stream.tenant_id, stream.location_id, keys),
        )

    def _current_children(
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

    def carry_out(
        self, stream: Stream, plan: Plan, run_id: int, *, source: str = "deltas", logs_inserts: bool = True
    ) -> Counts:  # fmt: skip
        """Write what *plan* says; return its counts, of quarantine only what is new.

        *source* is what quarantine says of where a thing came from. Unless *logs_inserts*, those stay out of the log of changes.
        """
        now = own_time(self._mirror.now())
        self._write_tombstones(stream, list(plan.effects.values()), now)
        self._write_rows(stream, list(plan.effects.values()), now)
        self._redate(stream, plan)
        self._connection.executemany(
            "insert into _changes (at, run_id, tenant_id, location_id, entity, id, op, fields) values (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (now, run_id, *stream, record.id, op, None if fields is None else orjson.dumps(fields).decode())
                for op, record, fields in plan.changes
                if logs_inserts or op != "insert"
            ],
        )
        self._release(stream, plan)
        self._count_records(stream, plan)
        self._note_erased(stream, plan.erased)
        kept = [broken for broken in plan.quarantine if not self._names_erased(stream, broken)]
        counts = plan.counts()
        unchanged = counts.unchanged + len(plan.quarantine) - len(kept)
        counts = replace(counts, unchanged=unchanged, quarantined=self._set_aside(stream, kept, run_id, source, now))
        self.count(run_id, counts)
        return counts

    def count(self, run_id: int, counts: Counts) -> None:
        """Add *counts* to those of a run: with all that is written, so that the row of a run that is killed tells the truth."""
        self.execute(
            "update _runs set inserted = inserted + ?, replaced = replaced + ?, deleted = deleted + ?, revived = revived + ?, "
            "unchanged = unchanged + ?, superseded = superseded + ?, quarantined = quarantined + ? where id = ?",
            (*_numbers(counts), run_id),
        )

    def _count_records(self, stream: Stream, plan: Plan) -> None:
        """Keep the number of living records: what comes to life or dies is logged, each time, and nothing else is."""
        counts = plan.counts()
        more = counts.inserted + counts.revived - counts.deleted
        if more:
            self.execute(
                "insert into _streams (tenant_id, location_id, entity, records) values (?, ?, ?, ?) "
                "on conflict (tenant_id, location_id, entity) do update set records = records + excluded.records",
                (*stream, more),
            )

    def remember(self, stream: Stream, place: Mapping[str, Json] | None, **columns: Unpack[StreamColumns]) -> None:
        """Set where the drain of *stream* goes on, None where it is at its end, and the named columns of its state."""
        self._set_stream(stream, {"place": place, **columns})

    def note(self, stream: Stream, **columns: Unpack[StreamColumns]) -> None:
        """Set the named columns of the state of *stream* and leave the place of its drain as it is."""
        self._set_stream(stream, columns)

    def _set_stream(self, stream: Stream, columns: Mapping[str, object]) -> None:
        values: dict[str, str | int | None] = {}
        for name, value in columns.items():
            if name != "place" and name not in StreamColumns.__optional_keys__:
                raise ValueError(f"_streams has no column {name} that can be set")
            values[name] = value if value is None or isinstance(value, str | int) else orjson.dumps(value).decode()
        names = ", ".join([*stream._fields, *values])
        sets = ", ".join(f"{name} = excluded.{name}" for name in values)
        self.execute(
            f"insert into _streams ({names}) values ({', '.join('?' * (len(stream) + len(values)))}) "
            f"on conflict (tenant_id, location_id, entity) do {f'update set {sets}' if sets else 'nothing'}",
            (*stream, *values.values()),
        )

    def _write_tombstones(self, stream: Stream, effects: Sequence[Effect], now: str) -> None:
        self._connection.executemany(
            "delete from _tombstones where tenant_id = ? and location_id = ? and entity = ? and id = ?",
            [(*stream, effect.record.id) for effect in effects if effect.buried and not effect.record.deleted],
        )
        # A deletion that is only sent again keeps its date.
        self._connection.executemany(
            "insert into _tombstones (tenant_id, location_id, entity, id, deleted_at, record, parents, ticks) "
            "values (?, ?, ?, ?, ?, ?, ?, ?) on conflict (tenant_id, location_id, entity, id) do update set "
            "record = excluded.record, parents = excluded.parents, ticks = excluded.ticks, "
            "deleted_at = iif(?, excluded.deleted_at, deleted_at)",
            [
                (*stream, effect.record.id, now, *_texts(stream, effect.record), _ticks(effect.record), effect.died)
                for effect in effects
                if effect.record.deleted
            ],
        )

    def _write_rows(self, stream: Stream, effects: Sequence[Effect], now: str) -> None:
        marks = self._mirror.deletes == "mark"
        written = [effect for effect in effects if not effect.record.deleted or (marks and effect.had_rows)]
        removed = [] if marks else [effect for effect in effects if effect.record.deleted and effect.over is not None]
        gone: dict[str, list[_Key]] = {}
        new: dict[str, list[tuple[str | float | None, ...]]] = {}
        for record, over, *_ in written:
            sent, before = record.children, {} if over is None else over.children
            for name in {**before, **sent}:
                rows = sent.get(name, ())
                if name in before:
                    if list(rows) == list(before[name]):
                        continue
                    gone.setdefault(name, []).append((*stream[:2], record.id))
                if rows:
                    columns = self._child(name).columns
                    new.setdefault(name, []).extend(
                        [
                            (*stream[:2], record.id, number, parent, *map(row.get, columns))
                            for number, (row, parent) in enumerate(rows)
                        ]
                    )
        keys: list[_Key] = [(*stream[:2], effect.record.id) for effect in removed]
        if keys:
            for table in self.schema.all_children(stream.entity):
                gone.setdefault(table.name, []).extend(keys)
            gone[stream.entity] = keys
        # Of a record that was not held, child rows may be there all the same: where somebody has deleted its root row by hand.
        # Those of tables that came by starter alone are then the best that is known.
        if fresh := [(*stream[:2], record.id) for record, over, *_ in written if over is None]:
            for table in self.schema.children(stream.entity, stream.tenant_id):
                gone.setdefault(table.name, []).extend(fresh)
        for name, whose in gone.items():
            self._connection.executemany(
                f"delete from {quote(name)} where _tenant_id = ? and _location_id = ? and _id = ?", whose
            )
        root = self.schema.root(stream.entity)
        if written and root is not None:
            for verb, over_rows in (("insert", False), ("replace", True)):
                self._connection.executemany(
                    f"{verb} into {quote(root.name)} ({root.names()}) values ({root.places()})",
                    [
                        (
                            *stream[:2],
                            record.id,
                            now,
                            now if record.deleted else None,
                            _ticks(record),
                            *map(record.root.get, root.columns),
                        )
                        for record, over, *_ in written
                        if (over is not None) is over_rows
                    ],
                )
            self._connection.executemany(
                f"update {quote(root.name)} set _deleted_at = (select t.deleted_at from _tombstones t where t.tenant_id = ? "
                "and t.location_id = ? and t.entity = ? and t.id = _id) where _tenant_id = ? and _location_id = ? and _id = ?",
                [(*stream, *stream[:2], effect.record.id) for effect in written if effect.record.deleted and not effect.died],
            )
        for name, child_rows in new.items():
            table = self._child(name)
            self._connection.executemany(
                f"insert into {quote(table.name)} ({table.names()}) values ({table.places()})", child_rows
            )

    def _child(self, name: str) -> Table:
        table = self.schema.child(name)
        if table is None:
            raise LookupError(f"there is no child table {name}; entries are fitted before they are carried out")
        return table

    def _redate(self, stream: Stream, plan: Plan) -> None:
        if not plan.redated:
            return
        dates = [(_ticks(record), *stream[:2], record.id) for record in plan.redated.values()]
        root = self.schema.root(stream.entity)
        if root is not None:
            self._connection.executemany(
                f"update {quote(root.name)} set _ticks = ? where _tenant_id = ? and _location_id = ? and _id = ?", dates
            )
        self._connection.executemany(
            "update _tombstones set ticks = ? where tenant_id = ? and location_id = ? and entity = ? and id = ?",
            [(ticks, *stream, id_) for ticks, _, _, id_ in dates],
        )

    def _release(self, stream: Stream, plan: Plan) -> None:
        """Let out of quarantine what is overtaken: the id was applied, and not with something older.

        What the mirror held already lets out only what is strictly older. Otherwise a thing that the feed lists in every drain
        beside the version that is held would leave and come back, and count as new, each time.
        """
        if not self.execute(
            "select exists (select 1 from _quarantine where tenant_id = ? and location_id = ? and entity = ?)", stream
        ).fetchone()[0]:
            return
        written = {id_: (effect.record.changed, True) for id_, effect in plan.effects.items()}
        met = {record.id: (record.changed, False) for record in plan.unchanged} | written
        overtaken = []
        for id_, record_id, ticks in self.execute(
            "select q.id, q.record_id, q.ticks from json_each(:keys) k cross join _quarantine q on q.tenant_id = :tenant_id "
            "and q.location_id = :location_id and q.entity = :entity and q.record_id = k.value",
            {**stream._asdict(), "keys": orjson.dumps(list(met)).decode()},
        ):
            changed, is_written = met[record_id]
            if _overtakes(changed, ticks, is_written=is_written):
                overtaken.append((id_,))
        self._connection.executemany("delete from _quarantine where id = ?", overtaken)

    def _note_erased(self, stream: Stream, entries: Sequence[Entry]) -> None:
        """Note under which dates the feed lists people who were erased."""
        if self._mirror.erased is None:
            return
        dates: dict[str, int] = {}
        for entry in entries:
            mark = None if entry.id is None else self._mirror.erased.find(stream.tenant_id, stream.entity, entry.id)
            if mark is not None and entry.changed is not None:
                dates[mark] = max(entry.changed.ticks, dates.get(mark, 0))
        self.note_erased_dates(stream, dates)

    def note_erased_dates(self, stream: Stream, dates: Mapping[str, int]) -> None:
        """Note under which dates, in ticks, the feed of *stream* lists those who bear these marks."""
        note_dates(self._connection, stream, dates)

    def _names_erased(self, stream: Stream, broken: Broken) -> bool:
        """Return whether *broken*, whose id could not be read, names somebody who was erased: its body then is theirs."""
        if self._mirror.erased is None or broken.id is not None:
            return False
        is_named = self._mirror.erased.is_named_in(stream.tenant_id, stream.entity, broken.body)
        if is_named:
            self.said.append("an entry that bears no id names a person who was erased, and was not kept")
        return is_named

    def forget_erased(self, stream: Stream, before: int) -> None:
        """Forget under which dates before *before*, in ticks, the feed has listed people who were erased: it cannot any more."""
        if self._mirror.erased is not None:
            forget_dates(self._connection, stream, before)

    def _set_aside(self, stream: Stream, quarantine: Sequence[Broken], run_id: int, source: str, now: str) -> int:
        """Write what is to go to quarantine; return how much of it is new."""
        new = 0
        for broken in quarantine:
            # By its hash: the same thing met again is the same row.
            id_ = quarantine_id(stream, broken.body)
            again = self.execute("update _quarantine set last_seen_at = ? where id = ?", (now, id_))
            if again.rowcount == 0:
                new += 1
                ticks = None if broken.changed is None else broken.changed.ticks
                self.execute(
                    "insert into _quarantine (id, first_seen_at, last_seen_at, run_id, source, reason, body, "
                    "tenant_id, location_id, entity, record_id, ticks) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (id_, now, now, run_id, source, broken.reason, broken.body, *stream, broken.id, ticks),
                )
        return new


def quarantine_id(stream: Stream, body: str) -> str:
    """Return under which id a thing of *stream* stands in quarantine."""
    name = "/".join(map(str, stream))
    return hashlib.sha256(f"{name}\n{body}".encode(errors="surrogatepass")).hexdigest()[:16]


def _column_of(enum: str) -> str:
    """Return what the columns that hold values of *enum* are called, whether or not its own name ends as theirs do."""
    return enum if enum.lower().endswith("enum") else f"{enum}Enum"


def _filled(columns: Sequence[str], values: Sequence[Value | None]) -> Row:
    if None in values:
        return {column: value for column, value in zip(columns, values, strict=True) if value is not None}
    return dict(zip(columns, cast("Sequence[Value]", values), strict=True))


def _overtakes(changed: Instant | None, ticks: int | None, *, is_written: bool) -> bool:
    if changed is None or ticks is None:
        return is_written
    return ticks <= changed.ticks if is_written else ticks < changed.ticks


def _ticks(record: Record) -> int | None:
    return None if record.changed is None else record.changed.ticks


def _texts(stream: Stream, record: Record) -> tuple[str, str | None]:
    sent, parents = record_as_json(stream.entity, record)
    return sent.decode(), None if parents is None else parents.decode()


def _numbers(counts: Counts) -> tuple[int, ...]:
    return (
        counts.inserted,
        counts.replaced,
        counts.deleted,
        counts.revived,
        counts.unchanged,
        counts.superseded,
        counts.quarantined,
    )
