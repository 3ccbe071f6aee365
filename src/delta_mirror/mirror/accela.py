"""What the mirror keeps of Accela: which record belongs to which contact, every push, and what has changed since the last one.

Invariants:

- Whoever calls holds the mirror's lock, so that the log has the same end from the first question to the last.
- A push is in the table, as `sent`, before anything is sent; its row and its link are settled together.
- Records of the DDS and of Nexus come out alike; only the names of their key columns differ, and only this module knows them.
- No row of `_accela_pushes` holds a value of a record: names of fields, and marks from which no value can be read.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import orjson

from delta_mirror.core.links import NEXUS, Cells, Claim, Left, Link, LinkPlan, Source, Tables, Who
from delta_mirror.core.model import Row
from delta_mirror.mirror.file import own_time
from delta_mirror.mirror.schema import fold, quote
from delta_mirror.mirror.transaction import Transaction
from delta_mirror.mirror.write import Mirror

PAUSE = "accela_pause"  # under which `_meta` keeps until when the service has told us to stop, in seconds since the epoch
FAR = 10_000  # changes; a link that lies further behind, and has none, is brought up: the log need not be read from there again

_OWNERS = ("_tenant_id", "_location_id", "_id", "_client_id")  # columns that say whose row it is
_MOMENT = "_ticks"  # the column of a Nexus item that says when a message last spoke of it (OccurredOn)

Histories = dict[tuple[Who, str], list[tuple[list[Row], list[Row]]]]
"""Of a record and a child table of it, newest first, the rows before and after each change."""


class Settled(NamedTuple):
    """What is written of a push. `marks` are None once it is settled for good; `ends` moves the link on to its `seq`."""

    outcome: str
    fields: Sequence[str] = ()
    error: str | None = None
    trace_id: str | None = None
    marks: Mapping[str, str] | None = None
    ends: bool = False


class Pushes:
    """Links and pushes of one mirror, open for writing."""

    def __init__(self, mirror: Mirror, now: Callable[[], float] = time.time) -> None:
        self._mirror = mirror
        self._now = now

    # ---- links

    def links(self) -> list[Link]:
        """Return all links."""
        with self._mirror.transaction() as tx:
            found = tx.execute(
                "select entity, tenant_id, location_id, id, contact_id, pushed_seq, pushed_at from _accela_links "
                "order by entity, tenant_id, location_id, id"
            ).fetchall()
        return [Link(Who(*row[:4]), *row[4:]) for row in found]

    def claims(self, entity: str, column: str) -> list[Claim]:
        """Return what *column* of *entity* says of every record, each person once."""
        with self._mirror.transaction() as tx:
            if not _columns(tx, entity):
                return []
            name = quote(column)
            if entity == NEXUS:
                rows = tx.execute(f"select 0, 0, _client_id, 1, {name} from {quote(entity)}").fetchall()
            else:
                rows = tx.execute(
                    f"select _tenant_id, _location_id, _id, _deleted_at is null, {name} from {quote('_once_' + entity)}"
                ).fetchall()
        return [Claim(Who(entity, *row[:3]), _as_id(row[4]), bool(row[3])) for row in rows]

    def carry_out(self, plan: LinkPlan) -> None:
        """Write what *plan* says of links."""
        if not (plan.removed or plan.added or plan.changed):
            return
        with self._mirror.transaction() as tx:
            for who in plan.removed:
                tx.execute(f"delete from _accela_links where {_OF_WHO}", who)
            for link in [*plan.added, *plan.changed]:
                tx.execute(
                    "insert or replace into _accela_links "
                    "(entity, tenant_id, location_id, id, contact_id, pushed_seq, pushed_at) values (?, ?, ?, ?, ?, ?, ?)",
                    (*link.who, *link[1:]),
                )

    # ---- what is to be pushed

    def tables(self, entity: str) -> Tables | None:
        """Return the tables of *entity* that exist, None where it has not even a root."""
        with self._mirror.transaction() as tx:
            if not _columns(tx, entity):
                return None
            if entity == NEXUS:
                names = [
                    name
                    for (name,) in tx.execute(
                        "select name from sqlite_master where type = 'table' and name glob 'Nexus*' and name <> ? order by name",
                        (entity,),
                    ).fetchall()
                    if "_client_id" in _columns(tx, name)
                ]
            else:
                names = [table.name for table in tx.schema.all_children(entity)]
            return Tables(_columns(tx, entity), {name: _columns(tx, name) for name in names})

    def head(self) -> int:
        """Return the highest number of the log that there ever was."""
        with self._mirror.transaction() as tx:
            found = tx.execute("select seq from sqlite_sequence where name = '_changes'").fetchone()
        return 0 if found is None else int(found[0])

    def changed(self, after: int) -> dict[Who, int]:
        """Return every record that has changed after number *after* of the log, with the number of its last change."""
        with self._mirror.transaction() as tx:
            found = tx.execute(
                "select entity, tenant_id, location_id, id, max(seq) from _changes where seq > ? group by 1, 2, 3, 4", (after,)
            ).fetchall()
        return {Who(*row[:4]): row[4] for row in found}

    def pruned_through(self) -> int:
        """Return the number up to which the log was pruned, 0 where it never was."""
        with self._mirror.transaction() as tx:
            return int(tx.kept("pruned_through") or 0)

    def last_pushes(self, links: Iterable[Link]) -> dict[Who, tuple[int, str]]:
        """Return number and outcome of the last push of each of *links* to the contact that it has now."""
        found: dict[Who, tuple[int, str]] = {}
        with self._mirror.transaction() as tx:
            for link in links:
                row = tx.execute(
                    f"select number, outcome from _accela_pushes where {_OF_WHO} and contact_id = ? order by number desc limit 1",
                    (*link.who, link.contact_id),
                ).fetchone()
                if row is not None:
                    found[link.who] = (row[0], row[1])
        return found

    def left(self) -> list[Left]:
        """Return the pushes that nothing has settled for good, in the order in which they were sent."""
        with self._mirror.transaction() as tx:
            found = tx.execute(
                "select number, entity, tenant_id, location_id, id, contact_id, seq, marks from _accela_pushes "
                "where marks is not null order by number"
            ).fetchall()
        return [Left(row[0], Who(*row[1:5]), row[5], row[6], orjson.loads(row[7])) for row in found]

    def read(self, who: Who, tables: Collection[str]) -> Source | None:
        """Return the record with its rows in *tables*, None where it does not live."""
        of_record, values = _key_of(who)
        with self._mirror.transaction() as tx:
            if not _columns(tx, who.entity):
                return None
            root = _rows(tx, who.entity, f"where {of_record}", values)
            if not root or root[0].get("_deleted_at") is not None:
                return None
            columns = {name: _columns(tx, name) for name in tables}
            dated = frozenset(name for name, known in columns.items() if _MOMENT in known)
            children = {
                name: _rows(tx, name, f"where {of_record} order by {_order_of(tx, name, is_dated=name in dated)}", values)
                for name, known in columns.items()
                if known
            }
        return Source(root[0], children, dated)

    def known(self, everyone: Collection[Who]) -> set[Who]:
        """Return those of *everyone* whom the mirror holds, or remembers as deleted."""
        found = set()
        with self._mirror.transaction() as tx:
            is_there = {entity: bool(_columns(tx, entity)) for entity in {who.entity for who in everyone}}
            for who in everyone:
                key, values = _key_of(who)
                of_record = f"select 1 from {quote(who.entity)} where {key}"
                buried = f"select 1 from _tombstones where {_OF_WHO}"
                if (is_there[who.entity] and tx.execute(of_record, values).fetchone()) or tx.execute(buried, who).fetchone():
                    found.add(who)
        return found

    def histories(self, wanted: Mapping[Who, Collection[str]]) -> Histories:
        """Return, newest first, how the rows of the child tables *wanted* were before and after each change of their record.

        The log is read once for all of them: it has no index by record.
        """
        found: Histories = {}
        if not wanted:
            return found
        ids = orjson.dumps(sorted({who.id for who in wanted})).decode()
        with self._mirror.transaction() as tx:
            for *who, text in tx.execute(
                "select entity, tenant_id, location_id, id, fields from _changes where fields is not null "
                "and id in (select value from json_each(?)) order by seq desc",
                (ids,),
            ):
                for table in wanted.get(Who(*who), ()):
                    change = orjson.loads(text).get(table)
                    if change is not None:
                        found.setdefault((Who(*who), table), []).append((change[0] or [], change[1] or []))
        return found

    # ---- pushes

    def begin(self, run_id: int, link: Link, seq: int, fields: Sequence[str], marks: Mapping[str, str]) -> int:
        """Return the number of a push that is about to be sent; it is in the table afterwards."""
        return self._insert(run_id, link.who, link.contact_id, seq, Settled("sent", fields, marks=marks))

    def note(self, run_id: int, link: Link, seq: int, settled: Settled) -> None:
        """Write down a push that has sent nothing."""
        self._insert(run_id, link.who, link.contact_id, seq, settled)

    def settle(self, left: Left, settled: Settled) -> None:
        """Settle a push, and with it the link, if it is still one to that contact."""
        with self._mirror.transaction() as tx:
            tx.execute(
                "update _accela_pushes set outcome = ?, trace_id = coalesce(?, trace_id), error = ?, marks = ? where number = ?",
                (settled.outcome, settled.trace_id, settled.error, _json(settled.marks), left.number),
            )
            self._end(tx, left.who, left.contact_id, left.seq, settled)

    def pass_over(self, link: Link, seq: int) -> None:
        """Let nothing up to *seq* be pushed any more, without a push."""
        with self._mirror.transaction() as tx:
            tx.execute(f"update _accela_links set pushed_seq = ? where {_OF_WHO}", (seq, *link.who))

    def _insert(self, run_id: int, who: Who, contact_id: str, seq: int, settled: Settled) -> int:
        with self._mirror.transaction() as tx:
            written = tx.execute(
                "insert into _accela_pushes (at, run_id, entity, tenant_id, location_id, id, contact_id, seq, outcome, trace_id, "
                "fields, error, marks) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(own_time(self._now()), run_id, *who, contact_id, seq),
                    *(settled.outcome, settled.trace_id, _json(list(settled.fields)), settled.error, _json(settled.marks)),
                ),
            )
            self._end(tx, who, contact_id, seq, settled)
        return int(written.lastrowid or 0)

    def _end(self, tx: Transaction, who: Who, contact_id: str, seq: int, settled: Settled) -> None:
        """Move the link on, if it is still one to that contact: nothing up to *seq* is to be pushed any more."""
        if settled.ends:
            at = None if settled.outcome == "source_deleted" else own_time(self._now())
            tx.execute(
                "update _accela_links set pushed_seq = max(coalesce(pushed_seq, 0), ?), pushed_at = coalesce(?, pushed_at) "
                f"where {_OF_WHO} and contact_id = ?",
                (seq, at, *who, contact_id),
            )

    def move_on(self, links: Iterable[Link], head: int) -> None:
        """Bring *links*, of which nothing is to be pushed, up to the end of the log, where some lie far behind it."""
        behind = [link for link in links if link.pushed_seq is not None and link.pushed_seq < head]
        if any(head - (link.pushed_seq or 0) > FAR for link in behind):
            with self._mirror.transaction() as tx:
                for link in behind:
                    tx.execute(f"update _accela_links set pushed_seq = ? where {_OF_WHO}", (head, *link.who))

    # ---- being told to stop

    def paused_until(self) -> float:
        """Return until when nothing may be called, in seconds since the epoch; a time that is over where it may."""
        with self._mirror.transaction() as tx:
            return float(tx.kept(PAUSE) or 0.0)

    def pause(self, until: float) -> None:
        """Remember that nothing may be called before *until*."""
        with self._mirror.transaction() as tx:
            tx.keep(PAUSE, str(until))


_OF_WHO = "entity = ? and tenant_id = ? and location_id = ? and id = ?"


def _as_id(value: object) -> str:
    """Return what a column holds as the id of a contact: 253 and 253.0 are "253", NULL is none."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value).strip()


def _json(value: object) -> str | None:
    return None if value is None else orjson.dumps(value).decode()


def _columns(tx: Transaction, table: str) -> list[str]:
    return [row[1] for row in tx.execute(f"pragma table_info({quote(table)})").fetchall()]


def _key_of(who: Who) -> tuple[str, tuple[str | int, ...]]:
    """Return the condition that finds the rows of a record, and its values."""
    if who.entity == NEXUS:
        return "_client_id = ?", (who.id,)
    return "_tenant_id = ? and _location_id = ? and _id = ?", who[1:]


def _order_of(tx: Transaction, table: str, *, is_dated: bool) -> str:
    """Return what stands behind `order by` for the rows of one record: by the columns that tell them apart, newest first."""
    key = [row[1] for row in tx.execute(f"pragma table_info({quote(table)})").fetchall() if row[5]]
    told_apart = [quote(column) for column in key if fold(column) not in _OWNERS]
    return ", ".join([*([f"{_MOMENT} desc"] if is_dated else []), *told_apart]) or "1"


def _rows(tx: Transaction, table: str, where: str, values: Sequence[str | int]) -> list[Cells]:
    found = tx.execute(f"select * from {quote(table)} {where}", values)
    names = [column[0] for column in found.description]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
