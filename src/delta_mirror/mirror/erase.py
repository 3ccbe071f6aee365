"""Removing one person from every table of the mirror, so that nothing of him is left in the bytes of its files.

Invariants:

- What goes and the mark that keeps it from coming back are one transaction: killed at any instant, the mirror has all of a
  person and no mark, or the mark and nothing of him.
- That transaction notes that the files still hold his bytes (`erase_pending` in `_meta`). The note goes only once they do not:
  after a vacuum, and a checkpoint that has emptied the WAL. Both may be repeated by anybody at any time.
- What goes is what bears his id: rows, history, tombstones, messages, what is set aside, links and pushes. A body in quarantine
  of which nobody could read whose it is goes, if it names him, by his id or by the hash that a mask has put in its place.
- Records of others that name him are theirs, and stay; it is said where they are.
- Numbers of `_changes` are never given again, and the log may lack some already: nobody who reads on from a number is misled.
  That of the last push is, where it goes: to keep its row would be to keep whom it was of.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import orjson

from delta_mirror.core.erased import Erased, hashes_of, mark_of, words_of
from delta_mirror.core.keyed import Keyed
from delta_mirror.core.links import NEXUS
from delta_mirror.core.model import Stream
from delta_mirror.mirror.file import own_time
from delta_mirror.mirror.marks import PENDING
from delta_mirror.mirror.read import NEXUS_TALLY, NexusTally
from delta_mirror.mirror.schema import Table, fold, quote
from delta_mirror.mirror.transaction import Transaction

_OF_PERSON = "entity = :entity and tenant_id = :tenant_id and id = :id"
_LOGS = ("_changes", "_tombstones", "_accela_links", "_accela_pushes")  # own tables that name a record by `_OF_PERSON`


class Person(NamedTuple):
    """Whom to erase: a record at every location of a tenant. Of Nexus, tenant 0."""

    entity: str
    tenant_id: int
    id: str


@dataclass(slots=True)
class Removed:
    """What was held of a person, and is no more.

    `tables` has how many rows of which table, without those of none. `living` is how many records lived, `locations` are where
    anything was held, `contacts` the Accela contacts that he was tied to. `was_marked` says that he was erased before.
    """

    tables: dict[str, int] = field(default_factory=dict)
    living: int = 0
    locations: set[int] = field(default_factory=set)
    contacts: list[str] = field(default_factory=list)
    was_marked: bool = False

    def count(self, table: str, rows: int) -> None:
        """Add *rows* of *table*."""
        if rows:
            self.tables[table] = self.tables.get(table, 0) + rows


class Naming(NamedTuple):
    """How many rows of others name a person, by table and column."""

    table: str
    column: str
    rows: int


def tenants_holding(tx: Transaction, entity: str, id_: str) -> list[int]:
    """Return the tenants of which the mirror holds anything of this id, in their order."""
    selects = [f"select tenant_id from {table} where entity = :entity and id = :id" for table in _LOGS]
    selects.append("select tenant_id from _quarantine where entity = :entity and record_id = :id")
    if (root := tx.schema.root(entity)) is not None:
        selects.append(f"select _tenant_id from {quote(root.name)} where _id = :id")
    found = tx.execute(f"{' union '.join(selects)} order by 1", {"entity": entity, "id": id_})
    return [tenant_id for (tenant_id,) in found]


def tenants_marked(tx: Transaction, keyed: Keyed, entity: str, id_: str) -> list[int]:
    """Return the tenants of which this id was erased."""
    tenants = [tenant_id for (tenant_id,) in tx.execute("select distinct tenant_id from _erased where entity = ?", (entity,))]
    marks = {mark_of(keyed, tenant_id, entity, id_): tenant_id for tenant_id in tenants}
    found = tx.execute(
        "select mark from _erased where mark in (select value from json_each(?))", (orjson.dumps(list(marks)).decode(),)
    )
    return sorted(marks[mark] for (mark,) in found)


def tenants_known(tx: Transaction) -> list[int]:
    """Return the tenants of the streams that the mirror has met."""
    return [tenant_id for (tenant_id,) in tx.execute("select distinct tenant_id from _streams order by 1")]


def erase(tx: Transaction, person: Person, keyed: Keyed, now: float, nexus_tables: Sequence[str]) -> Removed:
    """Remove *person*, and mark him; return what was held.

    *nexus_tables* are those that hold what Nexus says of a client. *now* is our own clock.

    Raises:
        MirrorFileError: *keyed* is not the key of this mirror.
    """
    removed = Removed()
    mark = mark_of(keyed, person.tenant_id, person.entity, person.id)
    tx.settle_key(keyed)
    _note_dates(tx, person, mark)
    _remove_aside(tx, person, keyed, mark, removed)
    if person.entity == NEXUS:
        _remove_client(tx, person, removed, nexus_tables)
    else:
        _remove_rows(tx, person, removed)
    found = tx.execute(f"select contact_id from _accela_links where {_OF_PERSON} order by contact_id", person._asdict())
    removed.contacts = [contact_id for (contact_id,) in found]
    for table in _LOGS:
        for (location_id,) in tx.execute(f"select distinct location_id from {table} where {_OF_PERSON}", person._asdict()):
            removed.locations.add(location_id)
        removed.count(table, tx.execute(f"delete from {table} where {_OF_PERSON}", person._asdict()).rowcount)
    marked = tx.execute(
        "insert or ignore into _erased (mark, tenant_id, entity, erased_at) values (?, ?, ?, ?)",
        (mark, person.tenant_id, person.entity, own_time(now)),
    )
    removed.was_marked = not marked.rowcount
    tx.keep(PENDING, own_time(now))
    return removed


def _note_dates(tx: Transaction, person: Person, mark: str) -> None:
    """Note, for each location, under which change date the feed lists the record, as far as the mirror knows."""
    selects = [
        f"select location_id, ticks from _tombstones where {_OF_PERSON}",
        "select location_id, ticks from _quarantine where entity = :entity and tenant_id = :tenant_id and record_id = :id",
    ]
    if (root := tx.schema.root(person.entity)) is not None:
        selects.append(f"select _location_id, _ticks from {quote(root.name)} where _tenant_id = :tenant_id and _id = :id")
    found = tx.execute(
        f"select location_id, max(ticks) from ({' union all '.join(selects)}) where ticks is not null group by 1",
        person._asdict(),
    ).fetchall()
    for location_id, ticks in found:
        tx.note_erased_dates(Stream(person.tenant_id, location_id, person.entity), {mark: ticks})


def _remove_rows(tx: Transaction, person: Person, removed: Removed) -> None:
    """Remove the rows of a record of the DDS, at all locations, and keep the number of living records right."""
    root = tx.schema.root(person.entity)
    if root is None:
        return
    for location_id, is_alive in tx.execute(
        f"select _location_id, _deleted_at is null from {quote(root.name)} where _tenant_id = :tenant_id and _id = :id",
        person._asdict(),
    ).fetchall():
        removed.locations.add(location_id)
        removed.living += is_alive
        tx.execute(
            "update _streams set records = records - ? where tenant_id = ? and location_id = ? and entity = ?",
            (is_alive, person.tenant_id, location_id, person.entity),
        )
    # Child rows are told by the record's id alone: those of another entity's record with this id are not his.
    rivals = "".join(
        f" and not exists (select 1 from {quote(rival.name)} v where v._tenant_id = t._tenant_id "
        "and v._location_id = t._location_id and v._id = t._id)"
        for rival in tx.schema.rivals(person.entity)
    )
    for table in tx.schema.all_children(person.entity):
        which = f"where t._tenant_id = :tenant_id and t._id = :id{rivals}"
        removed.count(table.name, tx.execute(f"delete from {quote(table.name)} as t {which}", person._asdict()).rowcount)
    gone = tx.execute(f"delete from {quote(root.name)} where _tenant_id = :tenant_id and _id = :id", person._asdict())
    removed.count(root.name, gone.rowcount)


def _remove_client(tx: Transaction, person: Person, removed: Removed, tables: Sequence[str]) -> None:
    """Remove what Nexus says of a client: rows, sections, messages. What was counted of messages stays counted."""
    there = {name for (name,) in tx.execute("select name from sqlite_master where type = 'table'")}
    for table in tables:
        if table in there:
            gone = tx.execute(f"delete from {quote(table)} where _client_id = ?", (person.id,)).rowcount
            removed.count(table, gone)
            removed.living += gone if table == NEXUS else 0
    for table in ("_sections", "_messages"):
        removed.count(table, tx.execute(f"delete from {table} where client_id = ?", (person.id,)).rowcount)
    if kept := tx.kept(NEXUS_TALLY):
        tally = NexusTally(**orjson.loads(kept))
        tally.clients -= removed.living
        tally.quarantined -= removed.tables.get("_quarantine", 0)
        tx.keep(NEXUS_TALLY, orjson.dumps(tally).decode())


def _remove_aside(tx: Transaction, person: Person, keyed: Keyed, mark: str, removed: Removed) -> None:
    """Remove what is set aside of *person*, and what is set aside of nobody known and names him."""
    own = "message_id is not null" if person.entity == NEXUS else "entity = :entity and tenant_id = :tenant_id"
    values: Mapping[str, str | int] = person._asdict()
    ids: list[str] = []
    for id_, location_id in tx.execute(f"select id, location_id from _quarantine where {own} and record_id = :id", values):
        ids.append(id_)
        removed.locations |= set() if location_id is None else {location_id}
    himself, hashes = Erased(keyed, [mark]), hashes_of(keyed, person.id)
    for id_, body in tx.execute(f"select id, body from _quarantine where {own} and record_id is null", values):
        words = words_of(body)
        if himself.is_among(person.tenant_id, person.entity, words) or not hashes.isdisjoint(words):
            ids.append(id_)
    for id_ in ids:
        gone = tx.execute("delete from _messages where message_id = (select message_id from _quarantine where id = ?)", (id_,))
        removed.count("_messages", gone.rowcount)
        removed.count("_quarantine", tx.execute("delete from _quarantine where id = ?", (id_,)).rowcount)


def settle(tx: Transaction) -> None:
    """Note that the files hold nothing more of anybody who was erased."""
    tx.execute("delete from _meta where key = ?", (PENDING,))


def find_naming(tx: Transaction, person: Person, check: Callable[[], None]) -> list[Naming]:
    """Return where records of others name *person*: the columns that are called as keys are and hold his id.

    *check* ends it, by raising, even within a long statement.
    """
    found: list[Naming] = []
    with tx.watched(check):
        for table in tx.schema.tables():
            columns = [column for column in table.columns if fold(column).endswith("id")]
            if columns:
                found += _naming_in(tx, table, columns, person)
    return found


def _naming_in(tx: Transaction, table: Table, columns: Sequence[str], person: Person) -> list[Naming]:
    sums = ", ".join(f"total({quote(column)} = :id)" for column in columns)
    # All rows are read: as they lie in the file. Through an index, which SQLite would choose, they lie all over it.
    rows = tx.execute(
        f"select {sums} from {quote(table.name)} not indexed where _tenant_id = :tenant_id", person._asdict()
    ).fetchone()
    return [Naming(table.name, column, int(number)) for column, number in zip(columns, rows, strict=True) if number]
