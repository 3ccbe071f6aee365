"""The writing side of the mirror: one connection, one transaction at a time, a page in each.

Invariants:

- Everything of a page (rows, log, tombstones, quarantine, the place reached) is committed together or not at all.
- A transaction is `begin immediate`: one that begins by reading and then writes would be refused as soon as another program
  has written in between, however long it waits.
- Nothing is read, not even a count, while another thread's transaction is open: it would see what may yet be dropped.
- What is in a transaction is carried out by `transaction.py`, on terms that hold from its begin to its end.
"""

import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson

from delta_mirror.core.erased import Erased
from delta_mirror.core.mask import Mask
from delta_mirror.core.model import Stream
from delta_mirror.core.plan import Counts
from delta_mirror.mirror.file import PATIENCE, open_as_it_is, open_for_writing, own_time, translated
from delta_mirror.mirror.marks import IN_STREAM, Key, load_erased
from delta_mirror.mirror.migrations import migrate
from delta_mirror.mirror.place import resolved
from delta_mirror.mirror.read import StreamState, read_streams
from delta_mirror.mirror.schema import Schema, has_table, quote
from delta_mirror.mirror.transaction import Deletes, Terms, Transaction, numbers_of
from delta_mirror.mirror.workspace import AS as STAGING
from delta_mirror.mirror.workspace import READ_CACHE, attach


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
        return cls(path, open_as_it_is(resolved(path), patience), "remove", {}, now)

    def _migrate(self) -> None:
        with translated(self.path):
            migrate(self._connection, self.now())

    def _refuse_foreign(self, account: str | None) -> None:
        """Refuse a mirror of somebody else before a byte of it is changed: not even its form is brought up to date."""
        with translated(self.path):
            if has_table(self._connection, "_meta"):
                schema = Schema(self._connection, self._feed_tables)
                Transaction(self._terms(), self._connection, schema).check_identity(account)

    def _terms(self) -> Terms:
        return Terms(self.path, self.deletes, self.now, self.erased)

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
    def transaction(self, *, keep: bool = True) -> Iterator[Transaction]:
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
                tx = Transaction(self._terms(), self._connection, self._schema)
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
                    (*numbers_of(counts), run_id),
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
