"""What is read from the mirror by name: the state of streams, the log of changes, the last run, counts.

Invariants:

- Nothing here writes. A `Reader` cannot: its connection is read-only, and it works while a run writes.
- A log of any length takes little memory, and holds nothing up: it is read a batch at a time, up to where it ended at the
  first one. Somebody who looks at it for hours keeps no run from emptying the WAL.
- Nothing counts records: their number is kept.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson

from delta_mirror.core.model import Op, Stream, Value
from delta_mirror.core.plan import Counts, Fields
from delta_mirror.mirror.file import open_for_reading, translated
from delta_mirror.mirror.migrations import lend_missing

BATCH = 500  # changes read at a time

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


@dataclass(frozen=True, slots=True)
class StreamState:
    """What the mirror knows of a stream: one row of `_streams`.

    Times are texts; `place`, `habits` and `debt` are as remembered.
    """

    stream: Stream
    state: str = "new"
    baseline: str | None = None
    watermark: str | None = None
    caught_up_at: str | None = None
    verified_through: str | None = None
    verified_rows: int | None = None
    verified_differing: int | None = None
    last_success_at: str | None = None
    last_error: str | None = None
    put_back_at: str | None = None
    gap_from: str | None = None
    gap_to: str | None = None
    place: dict[str, Json] | None = None
    habits: dict[str, Json] | None = None
    late: int = 0
    superseded: int = 0
    refused_since: str | None = None
    debt: dict[str, Json] | None = None
    records: int = 0
    starter_tables: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Logged:
    """One row of `_changes`."""

    seq: int
    at: str
    run_id: int
    stream: Stream
    id: str
    op: Op
    fields: Fields | None


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What of `_changes` is gone by pruning: up to which `seq`, and the latest time and the last run of all of it.

    Nothing is gone where `through` is 0. Some of what is older may be there all the same, because something needs it.
    """

    through: int
    at: str
    run_id: int


@dataclass(frozen=True, slots=True)
class Run:
    """One row of `_runs`. A run that is still going, or was killed, has no `ended_at`."""

    id: int
    command: str
    started_at: str
    ended_at: str | None
    outcome: str | None
    calls: int
    pages: int
    counts: Counts


ACCOUNT = (0, 0)  # stands in `_pauses` for every location; no real tenant or location has the number 0


@dataclass(frozen=True, slots=True)
class Pause:
    """One row of `_pauses`: a location, or `ACCOUNT`, that is left alone until then, in seconds since the epoch."""

    tenant_id: int
    location_id: int
    until: float
    reason: str


@dataclass(frozen=True, slots=True)
class SetAside:
    """One row of `_quarantine` without its body. `stream` is None of a thing that belongs to none, `ticks` its change date."""

    stream: Stream | None
    id: str
    first_seen_at: str
    last_seen_at: str
    run_id: int
    source: str
    reason: str
    record_id: str | None
    ticks: int | None

    @property
    def is_message(self) -> bool:
        """Whether it is a Nexus message."""
        return self.source.startswith("nexus ")


@dataclass(slots=True)
class NexusTally:
    """What is counted of Nexus, all runs together: messages by outcome, those that came again, clients; and the last dates.

    Kept with every batch, so that nobody has to count millions of messages.
    """

    applied: int = 0
    superseded: int = 0
    quarantined: int = 0
    repeated: int = 0
    clients: int = 0
    last_received_at: str | None = None
    last_occurred_at: str | None = None


NEXUS_TALLY = "nexus"  # its key in `_meta`, as JSON
DEAD_LETTERS = "nexus_dead_letters"  # in `_meta`: 1 where the broker had given messages up when it was last asked, else 0


class Reader:
    """A read-only connection to a mirror; a context manager."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection

    @classmethod
    def open(cls, path: Path) -> Self:
        """Return a reader of the mirror at *path*.

        Raises:
            MirrorFileError: there is none, or it cannot be read.
        """
        connection = open_for_reading(path)
        try:
            with translated(path):
                lend_missing(connection)
        except BaseException:
            connection.close()
            raise
        return cls(path, connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _translated(self) -> AbstractContextManager[None]:
        return translated(self._path)

    def read_streams(self) -> list[StreamState]:
        """Return every stream that the mirror knows, also those that are no longer configured."""
        with self._translated():
            return read_streams(self._connection)

    @contextmanager
    def one_state(self) -> Iterator[None]:
        """Let everything that is read in the body be of one and the same state of the mirror."""
        with self._translated():
            self._connection.execute("begin")
            try:
                yield
            finally:
                self._connection.execute("rollback")

    def changes(
        self,
        *,
        tenants: Sequence[int] = (),
        locations: Sequence[int] = (),
        entities: Sequence[str] = (),
        ids: Sequence[str] = (),
        run_id: int | None = None,
        since: str | None = None,
        after: int = 0,
        limit: int | None = None,
    ) -> Iterator[Logged]:
        """Yield the log as it is now, in its order, as far as it meets every filter that is given.

        *since* is an own time of the mirror and is included; *after* is a `seq`, which is not.
        """
        wanted: list[str] = []
        values: list[str | int] = []
        one_of: tuple[tuple[str, Sequence[int] | Sequence[str]], ...] = (
            ("tenant_id", tenants),
            ("location_id", locations),
            ("entity", entities),
            ("id", ids),
        )
        for column, given in one_of:
            if given:
                wanted.append(f" and {column} in ({', '.join('?' * len(given))})")
                values.extend(given)
        if run_id is not None:
            wanted.append(" and run_id = ?")
            values.append(run_id)
        if since is not None:
            # With the +, so that the numbers lead through the log and the index of times does not: it would have to be sorted.
            wanted.append(" and +at >= ?")
            values.append(since)
        sql = (
            "select seq, at, run_id, tenant_id, location_id, entity, id, op, fields from _changes "
            f"where seq > ? and seq <= ?{''.join(wanted)} order by seq limit ?"
        )
        end, left = self.highest_seq(), limit
        if since is not None:
            after = max(after, self._first_since(since, end) - 1)
        if run_id is not None:
            after, end = max(after, self._first_seq(run_id, end) - 1), min(end, self._first_seq(run_id + 1, end) - 1)
        while True:
            size = BATCH if left is None else min(BATCH, left)
            with self._translated():
                batch = self._connection.execute(sql, (after, end, *values, size)).fetchall()
            for seq, at, run, tenant_id, location_id, entity, id_, op, fields in batch:
                stream = Stream(tenant_id, location_id, entity)
                yield Logged(seq, at, run, stream, id_, op, None if fields is None else orjson.loads(fields))
            if left is not None:
                left -= len(batch)
            if len(batch) < BATCH or left == 0:
                return
            after = batch[-1][0]

    def _first_seq(self, run_id: int, end: int) -> int:
        """Return a number that no change of an earlier run reaches, and below which there is none of *run_id* or a later one.

        Runs come one after the other and so do their changes: to search by halves needs no index, which would be written with
        every change.
        """
        low, high = 1, end + 1
        while low < high:
            middle = (low + high) // 2
            with self._translated():
                found = self._connection.execute(
                    "select run_id from _changes where seq >= ? order by seq limit 1", (middle,)
                ).fetchone()
            if found is None or found[0] >= run_id:
                high = middle
            else:
                low = middle + 1
        return low

    def _first_since(self, since: str, end: int) -> int:
        """Return the lowest number of a change that was carried out at *since* or later, one beyond *end* where there is none."""
        with self._translated():
            # With the +: the lowest number of all would else be looked for from the beginning of the log.
            [first] = self._connection.execute("select min(+seq) from _changes where at >= ?", (since,)).fetchone()
        return end + 1 if first is None else int(first)

    def highest_seq(self) -> int:
        """Return the highest `seq` that a change of this mirror has ever had, 0 where there was none."""
        with self._translated():
            found = self._connection.execute("select seq from sqlite_sequence where name = '_changes'").fetchone()
        return 0 if found is None else int(found[0])

    def kept(self, key: str) -> str | None:
        """Return one value of `_meta`, None where there is none."""
        with self._translated():
            found = self._connection.execute("select value from _meta where key = ?", (key,)).fetchone()
        return None if found is None else str(found[0])

    def forgotten(self) -> Forgotten:
        """Return what of the log is gone by pruning."""
        with self._translated():
            rows = self._connection.execute("select key, value from _meta where key like 'pruned!_%' escape '!'").fetchall()
        found: dict[str, str] = dict(rows)
        return Forgotten(int(found.get("pruned_through", 0)), found.get("pruned_at", ""), int(found.get("pruned_run", 0)))

    def last_run(self) -> Run | None:
        """Return the run that began last, None where there was none."""
        return next(iter(self._runs("order by id desc limit 1")), None)

    def last_runs(self) -> list[Run]:
        """Return, of every command, the run that began last, by the name of the command."""
        return self._runs("where id in (select max(id) from _runs group by command) order by command")

    def outcome(self, run_id: int) -> str | None:
        """Return how a run has ended; None where it has not, or where there is none of that number."""
        return next((run.outcome for run in self._runs("where id = ?", run_id)), None)

    def starts(self, command: str, since: str) -> list[str]:
        """Return when the runs of *command* began that began at *since*, an own time of the mirror, or later."""
        with self._translated():
            found = self._connection.execute(
                "select started_at from _runs where command = ? and started_at >= ? order by started_at", (command, since)
            )
            return [str(started_at) for (started_at,) in found]

    def _runs(self, which: str, *values: int) -> list[Run]:
        with self._translated():
            found = self._connection.execute(
                "select id, command, started_at, ended_at, outcome, calls, pages, "
                f"inserted, replaced, deleted, revived, unchanged, superseded, quarantined from _runs {which}",
                values,
            ).fetchall()
        return [
            Run(id_, command, started_at, ended_at, outcome, calls, pages, Counts(*counts))
            for id_, command, started_at, ended_at, outcome, calls, pages, *counts in found
        ]

    def ask(self, sql: str) -> tuple[list[str], list[tuple[Value | None, ...]]]:
        """Return the column names and the rows of one query, as anybody's SQLite tool would."""
        with self._translated():
            found = self._connection.execute(sql)
            return [column[0] for column in found.description], found.fetchall()

    def quarantine(self) -> list[SetAside]:
        """Return what is in quarantine, without the bodies, by stream and change date: the order in which to try again."""
        with self._translated():
            found = self._connection.execute(
                "select tenant_id, location_id, entity, id, first_seen_at, last_seen_at, run_id, source, reason, record_id, "
                "ticks from _quarantine order by tenant_id, location_id, entity, ticks, first_seen_at, id"
            ).fetchall()
        return [
            SetAside(Stream(tenant_id, location_id, entity) if entity is not None else None, *own)
            for tenant_id, location_id, entity, *own in found
        ]

    def nexus_tally(self) -> NexusTally | None:
        """Return what is counted of Nexus, None where no message ever came."""
        with self._translated():
            found = self._connection.execute("select value from _meta where key = ?", (NEXUS_TALLY,)).fetchone()
        return None if found is None else NexusTally(**orjson.loads(found[0]))

    def has_dead_letters(self) -> bool | None:
        """Return whether the broker had given messages up when it was last asked, None where it never was."""
        with self._translated():
            found = self._connection.execute("select value from _meta where key = ?", (DEAD_LETTERS,)).fetchone()
        return None if found is None else bool(int(found[0]))

    def quarantined_body(self, id_: str) -> str | None:
        """Return the body of one thing in quarantine, None where it is not there."""
        with self._translated():
            found = self._connection.execute("select body from _quarantine where id = ?", (id_,)).fetchone()
        return None if found is None else str(found[0])

    def quarantine_count(self) -> int:
        """Return how many things are in quarantine."""
        with self._translated():
            return int(self._connection.execute("select count(*) from _quarantine").fetchone()[0])

    def quarantine_by_stream(self) -> dict[Stream, int]:
        """Return how many things each stream has in quarantine; what came from no stream is not among them."""
        with self._translated():
            found = self._connection.execute(
                "select tenant_id, location_id, entity, count(*) from _quarantine where entity is not null group by 1, 2, 3"
            )
            return {Stream(*stream): number for *stream, number in found}

    def calls_of(self, day: str) -> dict[tuple[int, int], int]:
        """Return the calls that each location (tenant and location) has had on the UTC day *day*."""
        with self._translated():
            found = self._connection.execute("select tenant_id, location_id, calls from _calls where day = ?", (day,))
            return {(tenant_id, location_id): calls for tenant_id, location_id, calls in found}

    def pauses(self, now: float) -> list[Pause]:
        """Return the pauses that are in force at *now*, by the rule of the ledger: a note dated ahead of the clock is none."""
        with self._translated():
            found = self._connection.execute(
                "select tenant_id, location_id, until, reason from _pauses where until > ? and set_at <= ? "
                "order by tenant_id, location_id",
                (now, now),
            )
            return [Pause(*pause) for pause in found]

    def child_tables(self) -> list[tuple[str, str, int | None]]:
        """Return entity and name of every child table (None), and again for each tenant to whom a delta has brought it."""
        with self._translated():
            return self._connection.execute("select entity, name, tenant_id from _tables order by rowid").fetchall()


_STATE = (
    "state",
    "baseline",
    "watermark",
    "caught_up_at",
    "verified_through",
    "verified_rows",
    "verified_differing",
    "last_success_at",
    "last_error",
    "put_back_at",
    "gap_from",
    "gap_to",
    "late",
    "superseded",
    "refused_since",
    "records",
)


def read_streams(connection: sqlite3.Connection, only: Stream | None = None) -> list[StreamState]:
    """Return the rows of `_streams`, of all streams or of *only* one."""
    which, values = ("", ()) if only is None else (" where tenant_id = ? and location_id = ? and entity = ?", only)
    found = connection.execute(
        "select tenant_id, location_id, entity, place, habits, debt, starter_tables, "
        f"{', '.join(_STATE)} from _streams{which} "
        "order by tenant_id, location_id, entity",
        values,
    )
    return [
        StreamState(
            Stream(tenant_id, location_id, entity),
            place=None if place is None else orjson.loads(place),
            habits=None if habits is None else orjson.loads(habits),
            debt=None if debt is None else orjson.loads(debt),
            starter_tables=() if tables is None else tuple(orjson.loads(tables)),
            **dict(zip(_STATE, state, strict=True)),
        )
        for tenant_id, location_id, entity, place, habits, debt, tables, *state in found
    ]
