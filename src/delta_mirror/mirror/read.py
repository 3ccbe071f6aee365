"""What is read from the mirror by name: the state of streams, the log of changes, the last run, counts.

Invariants:

- Nothing here writes. A `Reader` cannot: its connection is read-only, and it works while a run writes.
- A listing is one statement, and so one state of the mirror. It streams: a log of any length takes no memory.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson

from delta_mirror.core.model import Op, Stream, Value
from delta_mirror.core.plan import Counts, Fields
from delta_mirror.mirror.file import open_for_reading, translated
from delta_mirror.mirror.schema import quote

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
    last_success_at: str | None = None
    last_error: str | None = None
    gap_from: str | None = None
    gap_to: str | None = None
    place: dict[str, Json] | None = None
    habits: dict[str, Json] | None = None
    late: int = 0
    superseded: int = 0
    refused_since: str | None = None
    debt: dict[str, Json] | None = None


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
        return cls(path, open_for_reading(path))

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

    def count_records(self, stream: Stream) -> int:
        """Return how many living records of *stream* the mirror holds."""
        with self._translated():
            return count_records(self._connection, stream)

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
        """Yield the log in its order, as far as it meets every filter that is given.

        *since* is an own time of the mirror and is included; *after* is a `seq`, which is not.
        """
        wanted: list[str] = ["seq > ?"]
        values: list[str | int] = [after]
        one_of: tuple[tuple[str, Sequence[int] | Sequence[str]], ...] = (
            ("tenant_id", tenants),
            ("location_id", locations),
            ("entity", entities),
            ("id", ids),
        )
        for column, given in one_of:
            if given:
                wanted.append(f"{column} in ({', '.join('?' * len(given))})")
                values.extend(given)
        if run_id is not None:
            wanted.append("run_id = ?")
            values.append(run_id)
        if since is not None:
            wanted.append("at >= ?")
            values.append(since)
        values.append(-1 if limit is None else limit)
        with self._translated():
            for seq, at, run, tenant_id, location_id, entity, id_, op, fields in self._connection.execute(
                "select seq, at, run_id, tenant_id, location_id, entity, id, op, fields from _changes "
                f"where {' and '.join(wanted)} order by seq limit ?",
                values,
            ):
                stream = Stream(tenant_id, location_id, entity)
                yield Logged(seq, at, run, stream, id_, op, None if fields is None else orjson.loads(fields))

    def last_run(self) -> Run | None:
        """Return the run that began last, None where there was none."""
        with self._translated():
            found = self._connection.execute(
                "select id, command, started_at, ended_at, outcome, calls, pages, "
                "inserted, replaced, deleted, revived, unchanged, superseded, quarantined from _runs order by id desc limit 1"
            ).fetchone()
        if found is None:
            return None
        id_, command, started_at, ended_at, outcome, calls, pages, *counts = found
        return Run(id_, command, started_at, ended_at, outcome, calls, pages, Counts(*counts))

    def ask(self, sql: str) -> tuple[list[str], list[tuple[Value | None, ...]]]:
        """Return the column names and the rows of one query, as anybody's SQLite tool would."""
        with self._translated():
            found = self._connection.execute(sql)
            return [column[0] for column in found.description], found.fetchall()

    def quarantine_count(self) -> int:
        """Return how many things are in quarantine."""
        with self._translated():
            return int(self._connection.execute("select count(*) from _quarantine").fetchone()[0])


_STATE = (
    "state",
    "baseline",
    "watermark",
    "caught_up_at",
    "verified_through",
    "last_success_at",
    "last_error",
    "gap_from",
    "gap_to",
    "late",
    "superseded",
    "refused_since",
)


def read_streams(connection: sqlite3.Connection, only: Stream | None = None) -> list[StreamState]:
    """Return the rows of `_streams`, of all streams or of *only* one."""
    which, values = ("", ()) if only is None else (" where tenant_id = ? and location_id = ? and entity = ?", only)
    found = connection.execute(
        f"select tenant_id, location_id, entity, place, habits, debt, {', '.join(_STATE)} from _streams{which} "
        "order by tenant_id, location_id, entity",
        values,
    )
    return [
        StreamState(
            Stream(tenant_id, location_id, entity),
            place=None if place is None else orjson.loads(place),
            habits=None if habits is None else orjson.loads(habits),
            debt=None if debt is None else orjson.loads(debt),
            **dict(zip(_STATE, state, strict=True)),
        )
        for tenant_id, location_id, entity, place, habits, debt, *state in found
    ]


def count_records(connection: sqlite3.Connection, stream: Stream) -> int:
    """Return how many living records of *stream* there are; none where no record has made its table yet."""
    is_there = connection.execute(
        "select exists (select 1 from sqlite_master where type = 'table' and name = ?)", (stream.entity,)
    )
    if not is_there.fetchone()[0]:
        return 0
    found = connection.execute(
        f"select count(*) from {quote(stream.entity)} where _tenant_id = ? and _location_id = ? and _deleted_at is null",
        stream[:2],
    )
    return int(found.fetchone()[0])


def has_table(connection: sqlite3.Connection, name: str) -> bool:
    """Return whether there is a table of this name, in this spelling."""
    found = connection.execute("select exists (select 1 from sqlite_master where type = 'table' and name = ?)", (name,))
    return bool(found.fetchone()[0])
