"""One transaction on the mirror: what is held of the records of a page, and a plan carried out on it.

Invariants:

- Nothing here commits: `Mirror.transaction` does, everything of a body together or nothing of it.
- The mirror belongs to one account and deletes in one way; a filled mirror does not change its mind.
- Nothing of a person who was erased is written again, by whatever way it comes; only the date under which the feed lists it.
"""

import hashlib
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple, TypedDict, Unpack

import orjson

from delta_mirror.core.erased import Erased, words_of
from delta_mirror.core.keyed import Keyed
from delta_mirror.core.model import Broken, Entry, Instant, Record, Stream, Value
from delta_mirror.core.plan import Counts, Effect, Held, Plan
from delta_mirror.errors import MirrorFileError
from delta_mirror.mirror.file import own_time
from delta_mirror.mirror.marks import CHECK, check_key, dates_of, forget_dates, note_dates
from delta_mirror.mirror.read import Json
from delta_mirror.mirror.rows import Rows, ticks_of
from delta_mirror.mirror.schema import Schema, has_table, quote, record_as_json, record_from_json, set_aside
from delta_mirror.mirror.workspace import watched

Deletes = Literal["remove", "mark"]


class Terms(NamedTuple):
    """On what a mirror is written: where it lies, how it deletes, our own clock, and who was erased (None: nobody)."""

    path: Path
    deletes: Deletes
    now: Callable[[], float]
    erased: Erased | None


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


class Transaction:
    """What is done to the mirror between a begin and its commit. `said` has, in words, which tables and columns were made."""

    # From here on the connection itself and not sqlite-utils: that would commit each of its writes, guess column types, and
    # look up, delete and insert record by record, in ten times the time. Per page it is one look-up per table, `executemany`.

    def __init__(self, terms: Terms, connection: sqlite3.Connection, schema: Schema) -> None:
        self.schema = schema
        self.said: list[str] = []
        self.run_id: int | None = None  # of the run that was begun in it
        self._terms = terms
        self._connection = connection
        self._rows = Rows(connection, schema, marks=terms.deletes == "mark")

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
            check_key(self._terms.path, keyed, kept)
        self.keep(CHECK, keyed.check())

    def check_identity(self, account: str | None) -> dict[str, str]:
        """Return what is to be noted of whose mirror it is and how it deletes; refuse as `settle_identity`, and write nothing."""
        known: dict[str, str] = dict(self.execute("select key, value from _meta").fetchall())
        has_records = self.has_rows("_tombstones", *(root.name for root in self.schema.roots()))
        wanted = {"account": account, "deletes": self._terms.deletes}
        news = {key: value for key, value in wanted.items() if value is not None and known.get(key) != value}
        if "account" in news and "account" in known and (has_records or self.has_rows("_streams")):
            raise MirrorFileError(
                f"{self._terms.path} was filled from {known['account']}, and the configuration names {news['account']}; "
                "mend the configuration, or give [mirror] path another name"
            )
        if "deletes" in news and "deletes" in known and has_records:
            raise MirrorFileError(
                f'{self._terms.path} was filled with deletes = "{known["deletes"]}", and the configuration says '
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
        if self._terms.erased is not None:
            marks = {id_: mark for id_ in ids if (mark := self._terms.erased.find(stream.tenant_id, stream.entity, id_))}
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
        bare: list[str] = []
        for record, ticks in self._rows.read(stream, keys, everything=everything):
            tombstone = tombstones[record.id][0] if record.id in tombstones else None
            held[record.id] = Held(record, tombstone, ticks, record.deleted)
            if ticks is None and not record.deleted and list(record.root.values()) == [record.id]:
                bare.append(record.id)
        if bare and self._has_no_exported_roots(stream):
            held.update((id_, replace(held[id_], is_key_alone=True)) for id_ in bare)
        return held

    def _has_no_exported_roots(self, stream: Stream) -> bool:
        """Return whether *stream* stands on a starter that has no table of its roots."""
        found = self.execute(
            "select starter_tables from _streams where tenant_id = ? and location_id = ? and entity = ?", stream
        ).fetchone()
        return bool(found and found[0]) and stream.entity not in orjson.loads(found[0])

    def carry_out(
        self, stream: Stream, plan: Plan, run_id: int, *, source: str = "deltas", logs_inserts: bool = True
    ) -> Counts:  # fmt: skip
        """Write what *plan* says; return its counts, of quarantine only what is new.

        *source* is what quarantine says of where a thing came from. Unless *logs_inserts*, those stay out of the log of changes.
        """
        now = own_time(self._terms.now())
        self._write_tombstones(stream, list(plan.effects.values()), now)
        self._rows.write(stream, list(plan.effects.values()), now)
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
            (*numbers_of(counts), run_id),
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
                (*stream, effect.record.id, now, *_texts(stream, effect.record), ticks_of(effect.record), effect.died)
                for effect in effects
                if effect.record.deleted
            ],
        )

    def _redate(self, stream: Stream, plan: Plan) -> None:
        if not plan.redated:
            return
        dates = [(ticks_of(record), *stream[:2], record.id) for record in plan.redated.values()]
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
        if self._terms.erased is None:
            return
        dates: dict[str, int] = {}
        for entry in entries:
            mark = None if entry.id is None else self._terms.erased.find(stream.tenant_id, stream.entity, entry.id)
            if mark is not None and entry.changed is not None:
                dates[mark] = max(entry.changed.ticks, dates.get(mark, 0))
        self.note_erased_dates(stream, dates)

    def note_erased_dates(self, stream: Stream, dates: Mapping[str, int]) -> None:
        """Note under which dates, in ticks, the feed of *stream* lists those who bear these marks."""
        note_dates(self._connection, stream, dates)

    def _names_erased(self, stream: Stream, broken: Broken) -> bool:
        """Return whether *broken*, whose id could not be read, names somebody who was erased: its body then is theirs."""
        if self._terms.erased is None or broken.id is not None:
            return False
        words = broken.words or words_of(broken.body)  # as it came: what is masked may name nobody any more
        is_named = self._terms.erased.is_among(stream.tenant_id, stream.entity, words)
        if is_named:
            self.said.append("an entry that bears no id names a person who was erased, and was not kept")
        return is_named

    def forget_erased(self, stream: Stream, before: int) -> None:
        """Forget under which dates before *before*, in ticks, the feed has listed people who were erased: it cannot any more."""
        if self._terms.erased is not None:
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


def _overtakes(changed: Instant | None, ticks: int | None, *, is_written: bool) -> bool:
    if changed is None or ticks is None:
        return is_written
    return ticks <= changed.ticks if is_written else ticks < changed.ticks


def _texts(stream: Stream, record: Record) -> tuple[str, str | None]:
    sent, parents = record_as_json(stream.entity, record)
    return sent.decode(), None if parents is None else parents.decode()


def numbers_of(counts: Counts) -> tuple[int, ...]:
    """Return *counts* in the order of the columns of `_runs` that hold them."""
    return (
        counts.inserted,
        counts.replaced,
        counts.deleted,
        counts.revived,
        counts.unchanged,
        counts.superseded,
        counts.quarantined,
    )
