"""The mirror and a staged Starter Export side by side: what is to be done with each record of one stream.

Invariants:

- What is compared are the rows themselves, never a stored hash, and by value: 12 equals 12.0, "12" does not. Where a file cannot
  tell the empty string from NULL, an empty string that is held equals the nothing that the file has, and stays.
- A record or tombstone whose own change date is at or after the watermark that the export sets is left out on both sides: the
  deltas know it better than the file.
- SQLite sorts out what is plainly new and plainly the same, in one walk through both files. Only the rest becomes `Record`s,
  which are judged by the rules of deltas (`core/plan.py`), some hundred at a time.
- Child tables that the export does not have stay out of it. Where it has no table of roots, so does the root that is held.
- Nothing is written here but tables and columns that the export brings, which go with the transaction, and notes in the staging.

How drift is found, without any change:

    with mirror.attached(staging.path), mirror.transaction(keep=False) as tx:
        comparison = Comparison(tx, staging, watermark, complete_until=caught_up)  # of `baseline.Dates`, and of the stream
        for drift in comparison.drifts():
            ...  # comparison.count_rows() is how many rows were compared, comparison.newer how many records were passed over
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import orjson

from delta_mirror.core.blanks import with_blanks_of
from delta_mirror.core.drift import Drift, find_drift
from delta_mirror.core.model import Broken, Child, Entry, Instant, Record, Row
from delta_mirror.core.plan import Drained, Held, Plan, decide
from delta_mirror.core.values import read_instant
from delta_mirror.mirror.schema import Table, fold, quote
from delta_mirror.mirror.staged import StagedTable
from delta_mirror.mirror.staging import Staging
from delta_mirror.mirror.transaction import Transaction
from delta_mirror.mirror.workspace import AS, Check

CHUNK = 300  # records that are judged at a time
NEW, SAME, OPEN, NEWER = range(4)  # of `fates`: nowhere in the mirror; as it is held; to be judged; the mirror's is newer
_AT_ONCE = 50  # columns in one comparison: SQLite limits how deep an expression may be


class Comparison:
    """One stream of the mirror beside the export's version of it, within a transaction on a mirror that it is attached to.

    *since* is the watermark that the export sets, in ticks. *complete_until* is for finding drift alone, and up to when the
    mirror is known to be complete: what the export dates later is left out, as the deltas have yet to bring it. Records that
    bear one date on both sides are the same version, and are then compared in any case.

    `new`, `same`, `open`, `newer` and `absent` say how many records are in which case: only in the export; as they are held; to
    be judged one by one; left out; in the mirror alone.
    """

    def __init__(
        self, tx: Transaction, staging: Staging, since: int, check: Check = lambda: None, *, complete_until: int | None = None
    ) -> None:
        self.stream = staging.stream
        self.new = self.same = self.open = self.newer = self.absent = self.living = 0
        self._tx = tx
        self._staging = staging
        self._since = since
        self._until = complete_until
        self._check = check
        self._names: dict[str, dict[str, str]] = {}  # per table, the mirror's spelling of the export's columns
        self._tables: dict[str, str] = {}  # the mirror's spelling of the export's child tables
        self.is_plain = self._fit()
        self._sort_out()

    # ---- names

    def _fit(self) -> bool:
        """Make what the export needs of tables and columns; return whether its names can be stored as they are.

        Where they cannot, every record has to be looked at by itself: which of them have a value there, decides.
        """
        tables = [table for table in self._staging.children if table.has_columns]
        root = self._staging.root
        names = [column.name for column in root.columns] if root else []
        sample = Record(
            "",
            None,
            None,
            deleted=False,
            root=dict.fromkeys(names or [self._staging.rules.key], 0),
            children={table.shape.table: [Child({column.name: 0 for column in table.columns}, None)] for table in tables},
        )
        [fitted] = self._tx.fit(self.stream, [sample], by_feed=False)
        if isinstance(fitted, Broken):
            return False
        self._names[self.stream.entity] = dict(zip(sample.root, fitted.root, strict=True))
        for sent, name in zip(sample.children, fitted.children, strict=True):
            self._tables[sent] = name
            self._names[sent] = dict(zip(sample.children[sent][0].row, fitted.children[name][0].row, strict=True))
        return True

    # ---- sorting out

    def _sort_out(self) -> None:
        execute = self._tx.execute
        with self.watched():
            execute(f"drop table if exists {AS}.fates")
            execute(f"drop table if exists {AS}.differing")
            execute(f"drop table if exists {AS}.absent")
            execute(f"create table {AS}.fates as select *, 0 as fate from {AS}.ids limit 0")
            execute(f"create table {AS}.differing (id primary key) without rowid")
            execute(f"create table {AS}.absent (id)")
            self._write_fates()
            if self.is_plain:
                self._find_differing()
            execute(f"update {AS}.fates set fate = {OPEN} where id in (select id from {AS}.differing) and fate = {SAME}")
            self._find_absent()
        counted = dict(execute(f"select fate, count(*) from {AS}.fates group by fate").fetchall())
        self.new, self.same, self.open, self.newer = (int(counted.get(fate, 0)) for fate in (NEW, SAME, OPEN, NEWER))
        self.absent = int(execute(f"select count(*) from {AS}.absent").fetchone()[0])

    def _live(self) -> Table | None:
        return self._tx.schema.root(self.stream.entity)

    def _write_fates(self) -> None:
        root = self._live()
        there = "t.tenant_id = :tenant_id and t.location_id = :location_id and t.entity = :entity and t.id = i.id"
        joins = f"left join main._tombstones t on {there} "
        held, ticks, dead = "null", "null", "null"
        if root is not None:
            joins += f"left join main.{quote(root.name)} x on {self._of('x')} and x._id = i.id"
            held, ticks, dead = "x._id", "x._ticks", "x._deleted_at"
        rivals = "".join(
            f" or exists (select 1 from main.{quote(rival.name)} v where {self._of('v')} and v._id = i.id)"
            for rival in self._tx.schema.rivals(self.stream.entity)
        )
        newer = f"({ticks} >= :since or t.ticks >= :since)"
        if self._until is not None:
            of_one_date = f"coalesce({ticks} = i.changed or t.ticks = i.changed, 0)"
            newer = f"(({newer} or i.changed >= :until) and not {of_one_date})"
        self._tx.execute(
            f"insert into {AS}.fates select i.*, case when {newer} then {NEWER} "
            f"when {0 if self.is_plain else 1} or i.gone or t.id is not null or {dead} is not null{rivals} then {OPEN} "
            f"when {held} is null then {NEW} else {SAME} end from {AS}.ids i {joins}",
            self._values(),
        )

    def _find_differing(self) -> None:
        """Note the held records whose rows are not, row by row, those of the export. That their order differs is judged later."""
        root, live = self._staging.root, self._live()
        add = f"insert or ignore into {AS}.differing select i.id from {AS}.fates i"
        if live is None:
            return
        if root is not None and root.has_columns:
            pairs = self._pairs(root, live, self.stream.entity)
            self._tx.execute(
                f"{add} {root.joined()} cross join main.{quote(live.name)} x on {self._of('x')} and x._id = i.id "
                f"where i.fate = {SAME} and ({_unlike(pairs)})",
                self._values(),
            )
        for table in self._staging.children:
            self._check()
            held = self._tx.schema.child(self._tables.get(table.shape.table, table.shape.table))
            if held is None:
                continue
            extra = f"main.{quote(held.name)} x where {self._of('x')} and x._id = i.id"
            if not table.has_columns:
                self._tx.execute(f"{add} where i.fate = {SAME} and exists (select 1 from {extra})", self._values())
                continue
            pairs = [("x._parent_n", "p._parent_n"), *self._pairs(table, held, table.shape.table)]
            self._tx.execute(
                f"{add} {table.joined()} left join main.{quote(held.name)} x on {self._of('x')} and x._id = i.id "
                f"and x._n = p.rowid - s.first where i.fate = {SAME} and (x._n is null or {_unlike(pairs)})",
                self._values(),
            )
            self._tx.execute(
                f"{add} left join {table.spans} s on s.id = i.id where i.fate = {SAME} "
                f"and exists (select 1 from {extra} and x._n >= coalesce(s.rows, 0))",
                self._values(),
            )

    def _pairs(self, table: StagedTable, live: Table, sent_name: str) -> list[tuple[str, str]]:
        """Return, column by column, what is to be compared; what the export does not have is to be NULL."""
        names = self._names[sent_name]
        staged = {names[column.name]: column.value for column in table.columns}
        held = "x.{}" if table.tells_empty else "nullif(x.{}, '')"
        return [(held.format(quote(column)), staged.get(column, "null")) for column in live.columns]

    def _find_absent(self) -> None:
        root = self._live()
        if root is None:
            return
        self._tx.execute(
            f"insert into {AS}.absent select id from (select x._id as id, x._ticks as ticks, x._deleted_at as dead "
            f"from main.{quote(root.name)} x where {self._of('x')} and not exists (select 1 from {AS}.ids i where i.id = x._id)) "
            "where dead is null and (ticks is null or ticks < :since) order by id",
            self._values(),
        )
        self.living = int(
            self._tx.execute(
                f"select count(*) from main.{quote(root.name)} x where {self._of('x')} and x._deleted_at is null", self._values()
            ).fetchone()[0]
        )

    # ---- what has to be judged

    def plans(self) -> Iterator[Plan]:
        """Yield what is to be done with the records that are neither plainly new nor plainly the same."""
        for ids in self._chunks("fates", OPEN):
            yield self._judge(ids)
        for ids in self._chunks("absent"):
            yield self._bury(ids)

    def drifts(self) -> Iterator[Drift]:
        """Yield every record that differs, as `core/drift.py` has it."""
        for ids in self._chunks("fates", NEW):
            yield from (Drift(id_, "missing") for id_ in ids)
        for plan in self.plans():
            yield from find_drift(plan)
            yield from self._unstorable(plan)

    def _unstorable(self, plan: Plan) -> Iterator[Drift]:
        """Yield the records that no table can hold as the export has them: the mirror has something else, or nothing."""
        ids = [broken.id for broken in plan.quarantine if broken.id is not None]
        living = {id_ for id_, held in self._tx.current(self.stream, ids).items() if not held.deleted} if ids else set()
        yield from (Drift(id_, "different" if id_ in living else "missing") for id_ in ids)

    def _chunks(self, table: str, fate: int | None = None) -> Iterator[list[str]]:
        # By rowid: the rows stand in the order of the ids, and no index has to be made for it.
        which = "" if fate is None else f"fate = {fate} and "
        last = 0
        while found := self._tx.execute(
            f"select rowid, id from {AS}.{table} where {which}rowid > ? order by rowid limit {CHUNK}", (last,)
        ).fetchall():
            self._check()
            yield [id_ for _, id_ in found]
            last = found[-1][0]

    def _judge(self, ids: Sequence[str]) -> Plan:
        held = self._tx.current(self.stream, ids, everything=True)
        entries = self._tx.fit(self.stream, self._staged(ids, held), by_feed=False)
        own = {fold(table) for table in (*self._staging.tables, *self._tables.values())}
        compared = {
            # Never backwards does not hold here: what is dated at or after the watermark has been left out before.
            id_: replace(each, record=_only(each.record, own), changed=None)
            for id_, each in held.items()
        }
        return decide(compared, [self._with_blanks(compared, entry) for entry in entries], Drained())

    def _with_blanks(self, held: Mapping[str, Held], entry: Entry) -> Entry:
        """Return *entry* with the empty strings that are held, where the file that it comes from cannot tell them."""
        before = held.get(entry.id) if entry.id is not None else None
        if before is None or isinstance(entry, Broken):
            return entry
        last = (before.tombstone or before.record) if before.deleted else before.record
        blind = [table.shape for table in self._staging.tables.values() if not table.tells_empty]
        if last is None or not blind:
            return entry
        folded = {fold(self._tables.get(shape.table, shape.table)) for shape in blind if not shape.is_root}
        names = {name for name in (*last.children, *entry.children) if fold(name) in folded}
        return with_blanks_of(last, entry, any(shape.is_root for shape in blind), names)

    def _bury(self, ids: Sequence[str]) -> Plan:
        held = self._tx.current(self.stream, ids, everything=True)
        dead = [
            replace(each.record, deleted=True, changed=_dated(each.changed)) for each in held.values() if each.record is not None
        ]
        return decide({id_: replace(each, changed=None) for id_, each in held.items()}, dead, Drained())

    def _staged(self, ids: Sequence[str], held: dict[str, Held]) -> list[Record]:
        """Return the export's version of *ids*."""
        rules = self._staging.rules
        wanted = f"json_each(?) k cross join {AS}.ids i on i.id = k.value"  # the fates have no index
        keys = orjson.dumps(list(ids)).decode()
        gone = dict(self._tx.execute(f"select i.id, i.gone from {wanted}", (keys,)).fetchall())
        roots: dict[str, Row] = {}
        if (root := self._staging.root) is not None and root.has_columns:
            roots = {id_: row for id_, _, row in self._rows(root, "null", wanted, keys)}
        children: dict[str, dict[str, list[Child]]] = {}
        for table in self._staging.children:
            if table.has_columns:
                for id_, parent, row in self._rows(table, "p._parent_n", wanted, keys):
                    children.setdefault(id_, {}).setdefault(table.shape.table, []).append(Child(row, parent))
        records = []
        for id_, marked in gone.items():
            before = held.get(id_)
            row = roots.get(id_, {})
            changed = read_instant(row.get(rules.changed))
            if root is None:
                # The export says nothing of the root but its key: what the deltas have brought of it stays.
                is_held = before is not None and before.record is not None
                row = dict(before.record.root) if before and before.record and is_held else {rules.key: id_}
                changed = _dated(before.changed) if before and is_held else None
            records.append(Record(id_, changed, None, bool(marked), row, children.get(id_, {})))
        return records

    def _rows(self, table: StagedTable, parent: str, wanted: str, keys: str) -> Iterator[tuple[str, int | None, Row]]:
        values = "".join(f", {column.value}" for column in table.columns)
        names = [column.name for column in table.columns]
        order = "" if table.shape.is_root else " order by i.id, p.rowid"
        found = self._tx.execute(f"select i.id, {parent}{values} from {wanted} {table.joined()}{order}", (keys,)).fetchall()
        for id_, above, *row in found:
            yield id_, above, {name: value for name, value in zip(names, row, strict=True) if value is not None}

    def count_rows(self) -> int:
        """Return how many rows of the export belong to the records that are compared."""
        if not self.newer:
            return self._staging.rows
        rows = self._staging.records - self.newer
        for table in self._staging.children:
            if table.has_columns:
                sums = f"select coalesce(sum(s.rows), 0) from {AS}.fates i cross join {table.spans} s on s.id = i.id"
                rows += int(self._tx.execute(f"{sums} where i.fate <> {NEWER}").fetchone()[0])
        return rows

    # ---- for the change-over

    def staged_columns(self, table: StagedTable) -> list[tuple[str, str]]:
        """Return, of a table whose names can be stored, the mirror's columns and what gives their values."""
        names = self._names[self.stream.entity if table.shape.is_root else table.shape.table]
        return [(names[column.name], column.value) for column in table.columns]

    def live_name(self, table: StagedTable) -> str:
        """Return what the mirror calls a child table of the export."""
        return self._tables[table.shape.table]

    def _of(self, alias: str) -> str:
        return f"{alias}._tenant_id = :tenant_id and {alias}._location_id = :location_id"

    def _values(self) -> dict[str, str | int | None]:
        return {**self.stream._asdict(), "since": self._since, "until": self._until}

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Let the run be stopped within the statements of the body."""
        with self._tx.watched(self._check):
            yield


def _unlike(pairs: Sequence[tuple[str, str]]) -> str:
    """Return what is true where any pair differs; NULL equals NULL."""
    slices = [pairs[start : start + _AT_ONCE] for start in range(0, len(pairs), _AT_ONCE)]
    return " or ".join(
        f"({', '.join(one for one, _ in some)}) is not ({', '.join(other for _, other in some)})" for some in slices
    ) or "0"  # fmt: skip


def _only(record: Record | None, tables: set[str]) -> Record | None:
    if record is None:
        return None
    return replace(record, children={name: rows for name, rows in record.children.items() if fold(name) in tables})


def _dated(ticks: int | None) -> Instant | None:
    return None if ticks is None else Instant(ticks, "")
