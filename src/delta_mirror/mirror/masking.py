"""A mask that has changed, carried out on what the mirror holds already.

Invariants:

- Everything is rewritten in one transaction with the record of the mask that is in force: tables, log of changes, tombstones,
  quarantine, messages. A process that is killed leaves the mirror as it was, and the next one begins anew.
- What is rewritten is no change of the service: nothing is logged of it.
- Each value is what the mask in force makes of what was sent, or is not there: no value is hashed twice.
- Old values are gone from the file itself, free pages and WAL included, before that is no longer noted as due (`UNSWEPT`).
- The key of the hashes is in the mirror by its check value alone. Hashes of two keys never stand side by side.
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import orjson

from delta_mirror.core.fold import without_digest
from delta_mirror.core.mask import Mask, Rules, folded, hashes
from delta_mirror.core.masked_body import mask_body
from delta_mirror.core.model import Row, Stream, Value
from delta_mirror.core.names import fold
from delta_mirror.errors import BusyError, DiskFullError, MirrorFileError
from delta_mirror.mirror.clear import check_room, empty_wal, overwrite_what_goes, write_anew
from delta_mirror.mirror.marks import CHECK
from delta_mirror.mirror.mask_state import IN_FORCE, LIFTED, MET, UNSWEPT, lifted_from, met_from, rules_from
from delta_mirror.mirror.nexus import as_bytes, as_text, aside_id
from delta_mirror.mirror.schema import holds_records, quote
from delta_mirror.mirror.transaction import Transaction, quarantine_id
from delta_mirror.mirror.workspace import clear_work_folder
from delta_mirror.mirror.write import Mirror

_BATCH = 500  # rows that are looked at together
_PATIENCE = 2.0  # seconds that another program is waited for; one that reads for longer is not done soon

_Json = dict[str, list[Row]]
_Fields = dict[str, list[Value | None] | list[list[Row]]]


class Renewed(Protocol):
    """A message that was masked anew: its body, and what its content was and is known by."""

    @property
    def body(self) -> bytes:
        """The body."""

    @property
    def old_key(self) -> str:
        """What its content was known by."""

    @property
    def key(self) -> str:
        """What its content is known by."""


class Messages(NamedTuple):
    """What the service of messages knows: how one is masked anew (None: it is as it was), and what a section's tables are."""

    entity: str
    renew: Callable[[Mask, Collection[str], bytes], Renewed | None]
    has_place_in: Callable[[Collection[str], str], bool]


@dataclass(frozen=True, slots=True)
class Carried:
    """What was done. `columns` were rewritten, `lifted` may be held again and are not there; both as `Table.Column`.

    `unswept` says why old values may still lie in free pages, None where they do not.
    """

    columns: Sequence[str] = ()
    lifted: Sequence[str] = ()
    unswept: str | None = None


def carry_out_mask(mirror: Mirror, mask: Mask, messages: Messages) -> Carried:
    """Let *mirror* hold what *mask* allows and nothing else; return what that has done.

    Raises:
        MirrorFileError: the hashes that it holds are of another key; nothing was changed.
    """
    with mirror.transaction(keep=False) as tx:
        before = rules_from(tx.kept(IN_FORCE))
        is_unswept = tx.kept(UNSWEPT) is not None
        _check_key(tx, mirror, mask, before)
    columns: list[str] = []
    lifted: list[str] = []
    if folded(before) != mask.rules:
        steps = mask.since(before)
        if steps:
            clear_work_folder(mirror.path)
        with _overwriting(mirror) if steps else nullcontext(), mirror.transaction() as tx:
            if steps:
                columns = _rewrite(tx, steps, messages)
                for name in columns:
                    mask.meet(*name.split(".", 1))
                tx.keep(UNSWEPT, "yes")
                is_unswept = True
            lifted = _note_lifted(tx, mask, before)
            tx.keep(IN_FORCE, orjson.dumps(mask.written).decode())
            _keep_key(tx, mask)
    return Carried(columns, lifted, _sweep(mirror) if is_unswept else None)


@contextmanager
def _overwriting(mirror: Mirror) -> Iterator[None]:
    """Let what the body rewrites be overwritten, and on the disk when it is committed; what comes after is written as usual."""
    with mirror.bare() as connection:
        before = {name: connection.execute(f"pragma {name}").fetchone()[0] for name in ("synchronous", "secure_delete")}
    overwrite_what_goes(mirror)
    try:
        yield
    finally:
        with mirror.bare() as connection:
            for name, value in before.items():
                connection.execute(f"pragma {name} = {value}")


def _sweep(mirror: Mirror) -> str | None:
    """Clear the files of what was rewritten; return what kept that from being done, None where it is done."""
    began = time.monotonic()

    def wait(seconds: float) -> None:
        if time.monotonic() - began > _PATIENCE:
            raise _ReadLongError
        time.sleep(seconds)

    try:
        check_room(mirror)
        write_anew(mirror, lambda: None)
        is_empty = empty_wal(mirror, wait, lambda: None)
    except _ReadLongError:
        is_empty = False
    except (DiskFullError, BusyError) as error:
        return str(error)
    if not is_empty:
        return "another program reads an older state of the mirror"
    with mirror.transaction() as tx:
        tx.forget(UNSWEPT)
    return None


class _ReadLongError(Exception):
    """Another program reads for so long that it is not waited for: the next run tries again."""


def keep_met(mirror: Mirror, mask: Mask) -> None:
    """Keep which of the columns that *mask* names have come, beside those that had come before."""
    came = set(mask.met)
    if not came:
        return
    with mirror.transaction() as tx:
        known = met_from(tx.kept(MET))
        if not came <= known:
            tx.keep(MET, orjson.dumps(sorted(known | came)).decode())


def is_due(mirror: Mirror, mask: Mask) -> bool:
    """Return whether *mask* is another one than that which was carried out last on what *mirror* holds."""
    with mirror.transaction(keep=False) as tx:
        return folded(rules_from(tx.kept(IN_FORCE))) != mask.rules


def forget_lifted(tx: Transaction, stream: Stream) -> None:
    """Note that *stream* is whole: all of it has come under the mask that is in force."""
    noted = lifted_from(tx.kept(LIFTED))
    if noted.pop(_name(*stream), None) is None:
        return
    if noted:
        tx.keep(LIFTED, orjson.dumps(noted).decode())
    else:
        tx.forget(LIFTED)


# ---- the key


def _check_key(tx: Transaction, mirror: Mirror, mask: Mask, before: Rules) -> None:
    known, check = tx.kept(CHECK), mask.key_check()
    if check is None or known in (None, check):
        return
    if hashes(before) or _has_marks(tx):
        raise MirrorFileError(
            f"{mirror.path} holds hashes of another mask_key, and hashes of two keys could not be told apart. Put that key back. "
            'If it is lost: say "drop" instead of "hash" for one run, then "hash" again, and load a Starter Export'
        )


def _keep_key(tx: Transaction, mask: Mask) -> None:
    check = mask.key_check()
    if check is not None:
        tx.keep(CHECK, check)
    elif not _has_marks(tx):
        tx.forget(CHECK)


def _has_marks(tx: Transaction) -> bool:
    """Return whether people are marked as erased: their marks are of the same key."""
    return tx.has_rows("_erased") if tx.has("_erased") else False


# ---- what may be held again


def _note_lifted(tx: Transaction, mask: Mask, before: Rules) -> list[str]:
    """Note, of every stream, what it lacks of what it may hold now; return the columns."""
    noted = lifted_from(tx.kept(LIFTED))
    columns = mask.lifted(before)
    told = [f"{table}.{column}" for table, column in columns]
    streams = tx.execute("select tenant_id, location_id, entity from _streams").fetchall()
    for tenant_id, location_id, entity in streams:
        own = [name for name, (table, _) in zip(told, columns, strict=True) if mask.entity_of(table) in (entity, None)]
        key = _name(tenant_id, location_id, entity)
        still = [name for name in noted.get(key, ()) if mask.action(*name.split(".", 1)) != "drop"]
        noted[key] = list(dict.fromkeys([*still, *own]))
    left = {key: names for key, names in noted.items() if names}
    if left:
        tx.keep(LIFTED, orjson.dumps(left).decode())
    else:
        tx.forget(LIFTED)
    return told


def _name(tenant_id: int, location_id: int, entity: str) -> str:
    return f"{tenant_id}/{location_id}/{entity}"


# ---- what is there


def _rewrite(tx: Transaction, steps: Mask, messages: Messages) -> list[str]:
    """Do *steps* to everything that is held; return the columns of tables that were rewritten."""
    columns = _rewrite_tables(tx, steps)
    for entity in _entities(tx, steps):
        for seq, fields in _rows(tx, "_changes", "fields", entity):
            left = _mask_fields(steps, entity, orjson.loads(fields))
            tx.execute("update _changes set fields = ? where seq = ?", (orjson.dumps(left).decode(), seq))
        for rowid, record in _rows(tx, "_tombstones", "record", entity):
            rows: _Json = orjson.loads(record)
            masked = {table: [steps.row(table, row) for row in its_rows] for table, its_rows in rows.items()}
            tx.execute("update _tombstones set record = ? where rowid = ?", (orjson.dumps(masked).decode(), rowid))
        for rowid, body in _rows(tx, "_quarantine", "body", entity):
            _rewrite_quarantined(tx, steps, entity, rowid, body)
    if messages.entity in steps.entities():
        _rewrite_messages(tx, steps, messages)
    return columns


def _rewrite_tables(tx: Transaction, steps: Mask) -> list[str]:
    done: list[str] = []
    tx.define("masked", lambda value: steps.value("hash", value))
    for (table,) in tx.execute("select name from sqlite_master where type = 'table' order by name").fetchall():
        if fold(table) not in steps.tables:
            continue
        columns = [row[1] for row in tx.execute(f"pragma table_info({quote(table)})")]
        if not holds_records(table, columns):
            continue  # somebody else's
        acts = {name: steps.action(table, name) for name in columns if not name.startswith("_")}
        drops = [quote(name) for name, act in acts.items() if act == "drop"]
        hashes = [quote(name) for name, act in acts.items() if act == "hash"]
        if not drops and not hashes:
            continue
        sets = [*(f"{name} = null" for name in drops), *(f"{name} = masked({name})" for name in hashes)]
        tx.execute(f"update {quote(table)} set {', '.join(sets)}")
        done += [f"{table}.{name}" for name, act in acts.items() if act != "keep"]
    return done


def _entities(tx: Transaction, steps: Mask) -> list[str]:
    """Return the entities of which something may have to be rewritten."""
    concerned = steps.entities()
    found = tx.execute(
        "select entity from _streams union select entity from _changes union select entity from _tombstones "
        "union select entity from _quarantine where entity is not null"
    ).fetchall()
    return [entity for (entity,) in found if None in concerned or entity in concerned]


def _rows(tx: Transaction, table: str, column: str, entity: str) -> Iterator[tuple[int, str]]:
    """Yield number and text of the rows of *entity* that have any, in batches, so that memory stays flat."""
    last = 0
    while found := tx.execute(
        f"select rowid, {column} from {table} where rowid > ? and entity = ? and {column} is not null order by rowid "
        f"limit {_BATCH}",
        (last, entity),
    ).fetchall():
        yield from found
        last = found[-1][0]


def _mask_fields(steps: Mask, entity: str, fields: _Fields) -> _Fields:
    """Return what a line of the log says, masked: what no longer differs is no longer there."""
    left: _Fields = {}
    for name, (old, new) in fields.items():
        if isinstance(old, list) and isinstance(new, list):
            table = name.removesuffix("[]")
            sides: list[list[Row]] = [[steps.row(table, row) for row in side] for side in (old, new)]
            if sides[0] != sides[1] or [old, new] == sides:
                left[name] = sides
        elif not isinstance(old, list) and not isinstance(new, list):
            action = steps.action(entity, name)
            values = [steps.value(action, old), steps.value(action, new)]
            if values[0] != values[1]:
                left[name] = values
    return left


def _rewrite_quarantined(tx: Transaction, steps: Mask, entity: str, rowid: int, body: str) -> None:
    tables = steps.of_entity(entity)
    left = mask_body(steps, tables, body) if tables else body
    if left is body:
        return
    found = tx.execute("select tenant_id, location_id, entity from _quarantine where rowid = ?", (rowid,)).fetchone()
    id_ = quarantine_id(Stream(*found), left)
    # Two things that differed in what is taken away are one now.
    tx.execute("delete from _quarantine where id = ? and rowid <> ?", (id_, rowid))
    tx.execute("update _quarantine set id = ?, body = ? where rowid = ?", (id_, left, rowid))


# ---- messages


def _rewrite_messages(tx: Transaction, steps: Mask, messages: Messages) -> None:
    tables = [table for table in steps.tables if steps.entity_of(table) == messages.entity]
    last = 0
    while found := tx.execute(
        f"select rowid, message_id, body from _messages where rowid > ? order by rowid limit {_BATCH}", (last,)
    ).fetchall():
        for rowid, message_id, body in found:
            renewed = messages.renew(steps, tables, as_bytes(body))
            if renewed is not None:
                _rewrite_message(tx, rowid, message_id, renewed)
        last = found[-1][0]
    _forget_digests(tx, lambda section: messages.has_place_in(tables, section))


def _rewrite_message(tx: Transaction, rowid: int, message_id: str, renewed: Renewed) -> None:
    """Keep a message anew, under the name that its content has now, where its content is what it is known by."""
    name = renewed.key if message_id == renewed.old_key else message_id
    body = as_text(renewed.body)
    # One that differed in what is taken away alone is the same message now.
    tx.execute(
        "update _messages set times = times + (select m.times from _messages m where m.rowid = :own) "
        "where message_id = :name and rowid <> :own",
        {"own": rowid, "name": name},
    )
    if tx.execute("select changes()").fetchone()[0]:
        tx.execute("delete from _messages where rowid = ?", (rowid,))
    else:
        tx.execute("update _messages set message_id = ?, body = ? where rowid = ?", (name, body, rowid))
    text = body if isinstance(body, str) else body.decode("utf-8", "backslashreplace")
    tx.execute("delete from _quarantine where id = ? and message_id <> ?", (aside_id(name), message_id))
    tx.execute(
        "update _quarantine set id = ?, message_id = ?, body = ? where message_id = ?", (aside_id(name), name, text, message_id)
    )


def _forget_digests(tx: Transaction, is_concerned: Callable[[str], bool]) -> None:
    """Take out of what is known of sections the digests of messages as they were sent: candidates could be tried against them."""
    tx.define("without_digest", lambda order: without_digest(str(order)))
    tx.define("setters_without_digests", lambda columns: setters_without_digests(str(columns)))
    for (section,) in tx.execute("select distinct section from _sections").fetchall():
        if is_concerned(section):
            tx.execute(
                "update _sections set newest = without_digest(newest), emptied = without_digest(emptied), "
                "columns = setters_without_digests(columns) where section = ?",
                (section,),
            )


def setters_without_digests(columns: str) -> str:
    """Return which message has set which columns, as `_sections` has it, with the messages' digests taken away."""
    setters: dict[str, list[str]] = {}
    for order, names in orjson.loads(columns).items():
        setters.setdefault(without_digest(order), []).extend(names)
    return orjson.dumps(setters, option=orjson.OPT_SORT_KEYS).decode()
