"""Forgetting what is old and needed by nothing: entries of the logs, tombstones, counts of calls.

Invariants:

- What an entry is needed for is asked in the transaction that forgets entries: none goes that something needs by then.
- A batch is committed together with what says how far the log of changes was pruned (`pruned_through`, and of when and of which
  run the newest forgotten change was); between two batches others get their turn. Killed at any instant, the mirror is sound,
  and the next run goes on.
- Of what is logged in order, changes and messages, the oldest part goes, up to the first entry that is not old: a clock that was
  behind for a while makes nothing old that came after something young, and one that was ahead keeps nothing for ever. What is
  young is not read at all.
- No record, nothing in quarantine and no link is touched.
- What Nexus needs to put a late message in its place stands in `_sections` and in the tables; no message is needed for it.
- Numbers of `_changes` are never given again; the highest one of `_runs` and of `_accela_pushes` stays, and so are theirs not.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import orjson

from delta_mirror.core.names import fold
from delta_mirror.core.values import DAY, EPOCH, SECOND, read_ticks
from delta_mirror.mirror.file import own_time
from delta_mirror.mirror.transaction import Transaction
from delta_mirror.mirror.write import Mirror

# The feed lists what has changed in the last seven days, older versions too. A record whose tombstone is forgotten too soon
# would come alive by them, and the entries that a drain counts would not be those that the feed lists.
LISTED = 8 * DAY  # ticks; the feed's seven days, with a margin for clocks that differ

_NO_END = 2**63 - 1


class _Log(NamedTuple):
    """A table of which old entries go. `needed` has, by what an entry is needed for, the condition under which it is.

    `time` is the column with the time of an entry where they lie in the order in which they were logged, and `is_old` the
    condition under which an entry is old where they do not.
    """

    table: str
    needed: Mapping[str, str]
    time: str = ""
    is_old: str = "true"
    batch: int = 1000  # entries in a transaction, which takes a fraction of a second: messages and records may be large


_IS_LINKED = "(entity, tenant_id, id) in (select entity, tenant_id, id from _accela_links"
_LOGS = (
    _Log(
        "_changes",
        {
            "not pushed yet: `sync accela push` does": "seq > :pushed",
            "of a linked record that was never pushed to Accela": f"{_IS_LINKED} where pushed_seq is null)",
            # The rows of a record of the DDS bear no dates of their own (docs/accela.md, "A map").
            "needed to tell Accela which of several rows was changed last": (
                f"{_IS_LINKED}) and exists (select 1 from json_each(:mapped) m join json_each(fields) f "
                "on m.value = entity || '.' || lower(f.key))"
            ),
        },
        time="at",
        batch=5000,
    ),
    _Log(
        "_messages",
        {"in quarantine": "message_id in (select message_id from _quarantine where message_id is not null)"},
        time="received_at",
    ),
    _Log(
        "_accela_pushes",
        {
            "still open: `sync accela push` settles it": "marks is not null or outcome = 'sent'",
            "the last of a link": (
                "number = (select max(number) from _accela_pushes) or number in (select max(p.number) from _accela_links l "
                "join _accela_pushes p using (entity, tenant_id, location_id, id) where p.contact_id = l.contact_id "
                "group by entity, tenant_id, location_id, id)"
            ),
        },
        is_old="at < :before",
        batch=50_000,  # small entries; each batch looks up those of all links
    ),
    _Log(
        "_tombstones",
        {
            "younger than 8 days: the feed may still list the record": (
                "deleted_at >= :listed or ticks >= coalesce((select json_extract(s.value, '$[3]') from json_each(:streams) s "
                "where json_extract(s.value, '$[0]') = tenant_id and json_extract(s.value, '$[1]') = location_id "
                "and json_extract(s.value, '$[2]') = entity), :listed_ticks)"
            ),
            "of a linked record that was never pushed to Accela": f"{_IS_LINKED} where pushed_seq is null)",
        },
        is_old="deleted_at < :before",
    ),
    # Behind those that refer to runs. Its entries are small, and each batch looks at all that may refer to one.
    _Log(
        "_runs",
        {
            "the last of a command": "id in (select max(id) from _runs group by command)",
            "of a kept change or push, or of something in quarantine": (
                "id in (select run_id from _changes union select run_id from _accela_pushes union select run_id from _quarantine)"
            ),
        },
        is_old="started_at < :before",
        batch=100_000,
    ),
    _Log(
        "_calls",
        {
            "the last of a location": (
                "(tenant_id, location_id, day) in (select tenant_id, location_id, max(day) from _calls group by 1, 2)"
            )
        },
        is_old="day < :day",
    ),
    _Log("_call_times", {}, is_old="at < :before_seconds", batch=100_000),
)
TABLES = tuple(log.table for log in _LOGS)


@dataclass(slots=True)
class Pruned:
    """How many entries of which table are forgotten, and how many old ones were kept, by table and what they are needed for.

    `through` is the `seq` up to which the log of changes is pruned, by this run or an earlier one, 0 where it never was.
    `size` and `free` are bytes of the file, and how many of them are free for what comes.
    """

    forgotten: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TABLES, 0))
    kept: dict[tuple[str, str], int] = field(default_factory=dict)
    through: int = 0
    size: int = 0
    free: int = 0


def prune(
    mirror: Mirror,
    before: float,
    mapped: Mapping[str, frozenset[str]],
    pruned: Pruned,
    go_on: Callable[[int, int], bool] = lambda done, total: True,
) -> None:
    """Forget what is older than *before*, in seconds since the epoch, and needed by nothing; add what was done to *pruned*.

    *mapped* has the child tables, by entity of the DDS, whose rows are pushed to Accela. *go_on* is asked between two batches
    with how far it is; after a no the rest stays as it is.
    """
    with mirror.transaction(keep=False) as tx:
        bounds = _find_bounds(tx, before, mirror.now(), mapped)
        ends = [_find_end(tx, log, bounds) for log in _LOGS]
    done, total = 0, sum(ends)
    for log, end in zip(_LOGS, ends, strict=True):
        after: int | None = 0
        while after is not None and go_on(done + after, total):
            with mirror.transaction() as tx:
                after = _forget_batch(tx, log, (after, end), bounds, pruned)
        if after is not None:
            break
        done += end
    with mirror.transaction(keep=False) as tx:
        pruned.through = int(tx.kept("pruned_through") or 0)
        page, pages, free = (int(tx.execute(f"pragma {name}").fetchone()[0]) for name in _SIZES)
    pruned.size, pruned.free = page * pages, page * free


_SIZES = ("page_size", "page_count", "freelist_count")


def _find_bounds(
    tx: Transaction, before: float, now: float, mapped: Mapping[str, frozenset[str]]
) -> dict[str, str | float | None]:  # fmt: skip
    """Return what the conditions of `_LOGS` compare with."""
    old = own_time(before)
    listed_ticks = EPOCH + round(now) * SECOND - LISTED
    [pushed] = tx.execute(
        "select coalesce(min(seq), ?) from (select pushed_seq as seq from _accela_links union all "
        "select seq from _accela_pushes where marks is not null)",
        (_NO_END,),
    ).fetchone()
    return {
        "before": old,
        "before_seconds": before,
        "now": own_time(now),
        "day": old[:10],
        "pushed": pushed,
        "mapped": _json([f"{entity}.{fold(table)}" for entity, tables in mapped.items() for table in tables]),
        "listed": own_time((listed_ticks - EPOCH) // SECOND),
        "listed_ticks": listed_ticks,
        "streams": _json(_first_listed(tx, listed_ticks)),
    }


def _find_end(tx: Transaction, log: _Log, bounds: Mapping[str, str | float | None]) -> int:
    """Return the rowid behind which no entry of *log* is old, or behind which there is none."""
    young = "null"
    if log.time:  # with the +, so that no index leads to young entries other than in the order in which they lie
        is_young = f"+{log.time} >= :before and +{log.time} <= :now"
        young = f"(select rowid - 1 from {log.table} where {is_young} order by rowid limit 1)"
    [end] = tx.execute(f"select coalesce({young}, (select max(rowid) from {log.table}), 0)", bounds).fetchone()
    return int(end)


def _first_listed(tx: Transaction, listed_ticks: int) -> list[list[int | str]]:
    """Return of every stream from which change date on its feed may list records, by the service's own clock too.

    Ours may be far ahead just now. What a drain or a count has left open never goes back further than the feed does.
    """
    rows = tx.execute("select tenant_id, location_id, entity, caught_up_at from _streams").fetchall()
    found: list[list[int | str]] = []
    for *stream, caught_up_at in rows:
        caught_up = read_ticks(caught_up_at) if caught_up_at else None
        found.append([*stream, listed_ticks if caught_up is None else min(listed_ticks, caught_up - LISTED)])
    return found


def _forget_batch(
    tx: Transaction, log: _Log, place: tuple[int, int], bounds: Mapping[str, str | float | None], pruned: Pruned
) -> int | None:  # fmt: skip
    """Forget the old entries of the next batch that nothing needs; return where it ends, None where there is none.

    *place* is the rowid behind which it begins, and the one with which it ends at the latest.
    """
    after, end = place
    [upto] = tx.execute(
        f"select max(place) from (select rowid as place from {log.table} where rowid > ? and rowid <= ? order by rowid limit ?)",
        (after, end, log.batch),
    ).fetchone()
    if upto is None:
        return None
    values = {**bounds, "after": after, "upto": upto}
    which = f"from {log.table} where rowid > :after and rowid <= :upto and {log.is_old}"
    why = " ".join(f"when {condition} then {number}" for number, condition in enumerate(log.needed.values()))
    why = f"case {why} end" if why else "null"
    reasons = list(log.needed)
    some_go = False
    for reason, number in tx.execute(f"select {why} as reason, count(*) {which} group by reason", values):
        if reason is None:
            pruned.forgotten[log.table] += number
            some_go = True
        else:
            key = (log.table, reasons[reason])
            pruned.kept[key] = pruned.kept.get(key, 0) + number
    if some_go:
        if log.table == "_changes":
            # Not later than now: a date of a clock that was ahead would for ever be taken for the end of what is forgotten.
            newest = f"select max(seq), min(max(at), :now), max(run_id) {which} and {why} is null"
            _note_forgotten(tx, *tx.execute(newest, values).fetchone())
        tx.execute(f"delete {which} and {why} is null", values)
    return int(upto)


def _note_forgotten(tx: Transaction, seq: int, at: str, run_id: int) -> None:
    """Note how far the log of changes is forgotten: whoever asks for what was before is to be told that it is not all there."""
    tx.keep("pruned_through", str(max(seq, int(tx.kept("pruned_through") or 0))))
    tx.keep("pruned_at", max(at, tx.kept("pruned_at") or ""))
    tx.keep("pruned_run", str(max(run_id, int(tx.kept("pruned_run") or 0))))


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
