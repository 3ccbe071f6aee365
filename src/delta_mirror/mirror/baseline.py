"""The change-over: everything of one stream becomes what a staged Starter Export says, in one transaction.

Invariants:

- Whoever reads the mirror sees all of the old or all of the new. A process that is killed on the way has changed nothing.
- What is judged one by one goes through the rules and the writing of deltas, so that log, tombstones and quarantine come out
  alike; only what is plainly new is moved by SQLite itself.
- The first baseline of a stream logs no inserts; after that, every difference from what was held is in the log.
- The watermark, also where it goes back by it, is the one that the export sets: the deltas go on from there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from delta_mirror.core.model import Stream
from delta_mirror.core.plan import Counts
from delta_mirror.core.values import DAY, write_ticks
from delta_mirror.mirror.comparison import NEW, SAME, Comparison
from delta_mirror.mirror.file import own_time
from delta_mirror.mirror.masking import forget_lifted
from delta_mirror.mirror.read import StreamState
from delta_mirror.mirror.schema import quote
from delta_mirror.mirror.staged import Aside, StagedTable
from delta_mirror.mirror.staging import Staging
from delta_mirror.mirror.transaction import Transaction
from delta_mirror.mirror.workspace import AS

LACKING = 0.2  # of the living records; an export that lacks more of them is not believed without being told to


@dataclass(frozen=True, slots=True)
class Dates:
    """What the date of an export's files sets: *baseline* is that date as text, *watermark* the day before, in ticks."""

    baseline: str
    watermark: int

    @classmethod
    def of(cls, day: date) -> "Dates":
        """Return what files of *day* set: midnight UTC of the day before."""
        return cls(day.isoformat(), (day.toordinal() - 2) * DAY)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What one change-over has done, or would do. `is_first`: the stream stood on no starter before.

    `rows` are those of the export that belong to a record, `newer` the records that were left as they are because they have
    changed since.
    """

    counts: Counts
    rows: int
    newer: int
    is_first: bool
    aside: Sequence[Aside]
    said: Sequence[str]


def find_lack(comparison: Comparison, staging: Staging) -> str | None:
    """Return what makes the export look broken beside what is held, None where nothing does.

    What the export marks as deleted is in it, and so is not lacking; neither is what has changed since.
    """
    if comparison.living and not staging.records:
        return f"it is empty, and the mirror holds {comparison.living:,} living records"
    if comparison.absent > LACKING * comparison.living:
        return f"it lacks {comparison.absent:,} of the {comparison.living:,} living records that the mirror holds"
    return None


def change_over(
    tx: Transaction, staging: Staging, comparison: Comparison, dates: Dates, known: StreamState, run_id: int, now: float
) -> Loaded:
    """Make the stream what *staging* says, as *comparison* has found, within *tx*; return what was done."""
    stream = staging.stream
    is_first = known.baseline is None
    at = own_time(now)
    counts = Counts(inserted=comparison.new, unchanged=comparison.same, superseded=comparison.newer)
    with comparison.watched():
        _sweep(tx, stream)
    if comparison.new:
        _insert_new(tx, staging, comparison, at)
        if not is_first:
            _log_inserts(tx, stream, run_id, at)
    _release(tx, stream)
    tx.count(run_id, counts)
    for plan in comparison.plans():
        counts += tx.carry_out(stream, plan, run_id, source="full-starter", logs_inserts=not is_first)
    tx.remember(
        stream,
        None,
        state="following",
        baseline=dates.baseline,
        watermark=write_ticks(dates.watermark),
        caught_up_at=write_ticks(dates.watermark, "Z").replace(".0000000", ""),
        last_success_at=at,
        last_error=None,
        gap_from=None,
        gap_to=None,
        # What was found out about the rows before them says nothing of these.
        verified_through=None,
        verified_rows=None,
        verified_differing=None,
        refused_since=None,
        debt=None,
        starter_tables=sorted(staging.tables),
    )
    _count_records(tx, stream)
    forget_lifted(tx, stream)
    return _loaded(counts, staging, comparison, tx, is_first=is_first)


def rehearse(tx: Transaction, staging: Staging, comparison: Comparison, known: StreamState) -> Loaded:
    """Return what `change_over` would do, and write nothing."""
    counts = Counts(inserted=comparison.new, unchanged=comparison.same, superseded=comparison.newer)
    for plan in comparison.plans():
        counts += plan.counts()
    return _loaded(counts, staging, comparison, tx, is_first=known.baseline is None)


def _loaded(counts: Counts, staging: Staging, comparison: Comparison, tx: Transaction, *, is_first: bool) -> Loaded:
    return Loaded(
        counts, staging.rows, comparison.newer, is_first, tuple(staging.aside), tuple(tx.said)
    )  # fmt: skip


def _insert_new(tx: Transaction, staging: Staging, comparison: Comparison, at: str) -> None:
    """Insert what is plainly new, table by table, in the order of the records: pages are filled one after the other."""
    stream = staging.stream
    place = {"tenant_id": stream.tenant_id, "location_id": stream.location_id}
    root = staging.root
    columns = [(staging.rules.key, "i.id")] if root is None else comparison.staged_columns(root)
    joined = "" if root is None else root.joined()
    live = tx.schema.root(stream.entity)
    with comparison.watched():
        if live is not None:
            names = ["_tenant_id", "_location_id", "_id", "_synced_at", "_deleted_at", "_ticks"]
            values = [":tenant_id", ":location_id", "i.id", ":at", "null", "i.changed"]
            _insert(tx, live.name, names, values, columns, joined, {**place, "at": at})
        for table in staging.children:
            if table.rows:
                _insert_children(tx, table, comparison, place)


def _insert_children(tx: Transaction, table: StagedTable, comparison: Comparison, place: dict[str, int]) -> None:
    name = comparison.live_name(table)
    names = ["_tenant_id", "_location_id", "_id", "_n", "_parent_n"]
    values = [":tenant_id", ":location_id", "i.id", "p.rowid - s.first", "p._parent_n"]
    _insert(tx, name, names, values, comparison.staged_columns(table), table.joined(), place)


def _insert(
    tx: Transaction,
    name: str,
    names: Sequence[str],
    values: Sequence[str],
    columns: Sequence[tuple[str, str]],
    joined: str,
    given: Mapping[str, int | str],
) -> None:
    into = ", ".join([*names, *(quote(column) for column, _ in columns)])
    chosen = ", ".join([*values, *(value for _, value in columns)])
    tx.execute(f"insert into main.{quote(name)} ({into}) select {chosen} from {AS}.fates i {joined} where i.fate = {NEW}", given)


def _count_records(tx: Transaction, stream: Stream) -> None:
    """Set the number of living records that is kept for the stream by counting them: rows may have been changed by hand."""
    root = tx.schema.root(stream.entity)
    if root is not None:
        tx.execute(
            "update main._streams set records = (select count(*) "
            f"from main.{quote(root.name)} where _tenant_id = ? and _location_id = ? and _deleted_at is null) "
            "where tenant_id = ? and location_id = ? and entity = ?",
            (*stream[:2], *stream),
        )


def _sweep(tx: Transaction, stream: Stream) -> None:
    """Remove child rows without a record. They can only be somebody else's work, and would be in the way of what comes."""
    root = tx.schema.root(stream.entity)
    if root is None:
        return
    without = "".join(
        f" and not exists (select 1 from main.{quote(owner.name)} x where x._tenant_id = c._tenant_id "
        "and x._location_id = c._location_id and x._id = c._id)"
        for owner in (root, *tx.schema.rivals(stream.entity))
    )
    for table in tx.schema.all_children(stream.entity):
        tx.execute(
            f"delete from main.{quote(table.name)} as c where c._tenant_id = ? and c._location_id = ?{without}", stream[:2]
        )


def _release(tx: Transaction, stream: Stream) -> None:
    """Let out of quarantine what is overtaken, by the rule of deltas: an id was written, or is held with something newer."""
    of_stream = "q.tenant_id = ? and q.location_id = ? and q.entity = ?"
    if tx.execute(f"select exists (select 1 from main._quarantine q where {of_stream})", stream).fetchone()[0]:
        tx.execute(
            f"delete from main._quarantine where id in (select q.id from {AS}.fates i cross join main._quarantine q "
            f"on {of_stream} and q.record_id = i.id where (i.fate = {NEW} and coalesce(q.ticks <= i.changed, 1)) "
            f"or (i.fate = {SAME} and q.ticks < i.changed))",
            stream,
        )


def _log_inserts(tx: Transaction, stream: Stream, run_id: int, at: str) -> None:
    tx.execute(
        "insert into main._changes (at, run_id, tenant_id, location_id, entity, id, op) "
        f"select ?, ?, ?, ?, ?, id, 'insert' from {AS}.fates where fate = {NEW}",
        (at, run_id, *stream),
    )
