"""The tables of Nexus in the mirror: clients, their items, and every message that was ever taken.

Invariants:

- A batch costs a few statements, however many messages it has: one look-up per table for all keys that it touches.
- A table holds what `_sections` and the messages' values give, and nothing else: no time of our own, no order of arrival.
- The known columns exist from the first run on; one that is new is added, and said. Names compare without regard to case.
- A column of `NexusClient` belongs to one section. Where two sections bring the same new key, the second one's column bears
  that section's first word in front.
- `_sections` and the tables are all that it takes to put a late message in its place: no logged message is read again for that,
  so that the log can be cut short without a loss.
- A message that cannot be applied stands in `_messages` and in `_quarantine`, tied by its id.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, cast

import orjson

from delta_mirror.core.fold import Content, Held, Place, ticks_of
from delta_mirror.core.model import Layout, Row, Value
from delta_mirror.errors import MirrorFileError
from delta_mirror.mirror.read import NEXUS_TALLY, NexusTally
from delta_mirror.mirror.schema import MAX_COLUMNS, CannotBeStoredError, check_column, fold, quote
from delta_mirror.mirror.transaction import Transaction

_OWNERS = "nexus_columns"  # in `_meta`: JSON, which section a new column of a shared table belongs to


class Taken(NamedTuple):
    """One message as it stands in `_messages`; of one that cannot be read, what could not be read is None."""

    message_id: str
    received_at: str
    occurred_at: str | None
    client_id: str | None
    type: str | None
    section: str | None
    outcome: str
    times: int
    sequence: int | None
    body: str | bytes  # text, so that people can read it, where it is text


class ChangedClient(NamedTuple):
    """One line of the log; `fields` is None of an insert."""

    client_id: str
    fields: Mapping[str, object] | None


class NexusTables:
    """The tables, as they are within one transaction and the ones after it; after one that failed they are loaded anew.

    *layouts* are those that there are, *table_of* says which one holds a place, *sections* which columns of which section a
    table is known to have.
    """

    def __init__(
        self,
        layouts: Sequence[Layout],
        table_of: Callable[[Place], str],
        sections: Mapping[str, Sequence[str]],
    ) -> None:
        self._layouts = {layout.table: layout for layout in layouts}
        [self._clients] = [layout.table for layout in layouts if layout.key == ("_client_id",) and not layout.is_dated]
        self._table_of = table_of
        self._sections = sections
        self._columns: dict[str, list[str]] = {}
        self._spelling: dict[str, dict[str, str]] = {}
        self._owners: dict[str, str] = {}

    # ---- shape

    def load(self, tx: Transaction) -> None:
        """Make the tables that are missing, and know the columns of all."""
        for name, layout in self._layouts.items():
            columns = [row[1] for row in tx.execute(f"pragma table_info({quote(name)})")]
            own = _own_columns(layout)
            if not columns:
                columns = [*own, *layout.columns]
                names = ", ".join(map(quote, columns))
                keys = ", ".join(map(quote, layout.key))
                tail = " without rowid" if layout.is_narrow else ""
                tx.execute(f"create table {quote(name)} ({names}, primary key ({keys})){tail}")
            elif columns[: len(own)] != own:
                raise MirrorFileError(
                    f"the mirror has a table {name} that is not ours; rename it, or give [mirror] path another name"
                )
            self._columns[name] = columns[len(own) :]
            self._spelling[name] = {fold(column): column for column in self._columns[name]}
            for column in layout.columns:
                if fold(column) not in self._spelling[name]:
                    self._add(tx, name, column)
        self._owners = {fold(column): section for section, columns in self._sections.items() for column in columns}
        self._owners |= orjson.loads(tx.kept(_OWNERS) or "{}")

    def spell(
        self, tx: Transaction, place: Place, keys: Collection[str], below: Collection[str]
    ) -> tuple[dict[str, str], dict[str, str]]:  # fmt: skip
        """Return the columns of *place* that hold its new *keys*, and those that hold the new keys of the rows *below* it.

        All of them are there afterwards; where one cannot be, none was added.

        Raises:
            CannotBeStoredError: no table can have such columns.
        """
        table = self._table_of(place)
        columns = {key: self._name_in(place, key) for key in keys}
        new = {table: self._missing(table, list(columns.values()))}
        rows_below = self._layouts[table].rows_below
        if below and rows_below is None:
            raise LookupError(f"there are no rows below {place.section}")
        if rows_below:
            new[rows_below[1]] = self._missing(rows_below[1], below)
        # Only now, when all are known to be possible: what goes to quarantine widens no table.
        for name, names in new.items():
            for column in names:
                self._add(tx, name, column)
                tx.said.append(f"column {column} added to table {name}")
        if place.section in self._sections:
            self._own(tx, place.section, columns.values())
        spelling = self._spelling[rows_below[1]] if rows_below else {}
        return (
            {key: self._spelling[table][fold(column)] for key, column in columns.items()},
            {key: spelling[fold(key)] for key in below},
        )

    def _name_in(self, place: Place, key: str) -> str:
        """Return what the column of *place* is called that holds *key*: in a shared table perhaps not as the key is."""
        check_column(key)
        if place.section in self._sections:
            while self._owners.get(fold(key), place.section) != place.section:
                key = place.section.split()[0] + key
        return key

    def _missing(self, table: str, names: Collection[str]) -> list[str]:
        """Return those of *names* that *table* lacks, if it can have them all."""
        for name in names:
            check_column(name)
        if len(set(map(fold, names))) < len(names):
            raise CannotBeStoredError("two of its keys would go to one column")
        missing = [name for name in names if fold(name) not in self._spelling[table]]
        if missing and len(self._columns[table]) + len(missing) > MAX_COLUMNS:
            raise CannotBeStoredError(f"its table would have more than {MAX_COLUMNS} columns")
        return missing

    def _own(self, tx: Transaction, section: str, columns: Iterable[str]) -> None:
        """Let *columns* of the shared table belong to *section*, and keep which of them do that are not known from the start."""
        new = {folded: section for folded in map(fold, columns) if folded not in self._owners}
        if new:
            self._owners |= new
            known = {fold(column) for columns in self._sections.values() for column in columns}
            tx.keep(_OWNERS, orjson.dumps({name: of for name, of in self._owners.items() if name not in known}).decode())

    def _add(self, tx: Transaction, table: str, column: str) -> None:
        tx.execute(f"alter table {quote(table)} add column {quote(column)}")
        self._columns[table].append(column)
        self._spelling[table][fold(column)] = column

    # ---- reading

    def outcomes(self, tx: Transaction, message_ids: Iterable[str]) -> dict[str, str]:
        """Return the outcome of those messages that were taken before."""
        found = tx.execute(
            "select m.message_id, m.outcome from json_each(?) k cross join _messages m on m.message_id = k.value",
            (_json(list(message_ids)),),
        )
        return dict(found.fetchall())

    def bodies(self, tx: Transaction, message_ids: Iterable[str]) -> dict[str, bytes]:
        """Return the bodies of those messages that were taken before."""
        found = tx.execute(
            "select m.message_id, m.body from json_each(?) k cross join _messages m on m.message_id = k.value",
            (_json(list(message_ids)),),
        )
        return {message_id: as_bytes(body) for message_id, body in found}

    def client_rows(self, tx: Transaction, places: Iterable[Place]) -> dict[str, Row]:
        """Return the clients of *places* that there are: with their rows, less what is NULL, where a place lies in these."""
        whole = {(place.client_id,): None for place in places if place.section in self._sections}
        others = {(place.client_id,): None for place in places if (place.client_id,) not in whole}
        rows = {key[0]: row for key, row in self._rows(tx, self._clients, whole)}
        for (client_id,) in tx.execute(
            f"select t._client_id from json_each(?) k cross join {quote(self._clients)} t on t._client_id = k.value",
            (_json([client_id for (client_id,) in others]),),
        ):
            rows[client_id] = {}
        return rows

    def held(self, tx: Transaction, places: Collection[Place], clients: Mapping[str, Row]) -> dict[Place, Held]:
        """Return what is held of those *places* that any message has spoken of; *clients* are the rows of their clients."""
        found: dict[Place, Held] = {}
        by_table: dict[str, dict[tuple[str, ...], Place]] = {}
        for row in tx.execute(
            "select s.client_id, s.section, s.item_id, s.newest, s.emptied, s.columns from json_each(?) k cross join _sections s "
            "on s.client_id = json_extract(k.value, '$[0]') and s.section = json_extract(k.value, '$[1]') "
            "and s.item_id = json_extract(k.value, '$[2]')",
            (_json(list(map(tuple, places))),),
        ):
            place = Place._make(row[:3])
            setters: dict[str, str] = {}
            for order, columns in orjson.loads(row[5]).items():
                setters.update(dict.fromkeys(columns, order or row[3]))
            held = found[place] = Held(row[3], row[4], setters)
            table = self._table_of(place)
            if place.section in self._sections:
                client = clients[place.client_id]
                held.values = {column: client[column] for column in setters if column in client}
            elif held.is_there:
                by_table.setdefault(table, {})[self._key(table, place)] = place
        for table, keys in by_table.items():
            for key, values in self._rows(tx, table, keys):
                found[keys[key]].values = cast("dict[str, Content]", values)
            below = self._layouts[table].rows_below
            if below is not None:
                for key, rows in self._rows_below(tx, below[1], keys).items():
                    found[keys[key]].values[below[0]] = rows
        return found

    def _key(self, table: str, place: Place) -> tuple[str, ...]:
        parts = {"_client_id": place.client_id, "_item_id": place.item_id, "_type": place.section}
        return tuple(parts[column] for column in self._layouts[table].key)

    def _rows(self, tx: Transaction, table: str, keys: Iterable[tuple[str, ...]]) -> list[tuple[tuple[str, ...], Row]]:
        return self._select(tx, table, self._layouts[table].key, keys)

    def _rows_below(self, tx: Transaction, table: str, keys: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], list[Row]]:
        found: dict[tuple[str, ...], list[Row]] = {}
        for key, row in self._select(tx, table, self._layouts[table].key[:-1], keys, "order by t._n"):
            found.setdefault(key, []).append(row)
        return found

    def _select(
        self, tx: Transaction, table: str, key: Sequence[str], keys: Iterable[tuple[str, ...]], order: str = ""
    ) -> list[tuple[tuple[str, ...], Row]]:
        columns = self._columns[table]
        names = ", ".join(f"t.{quote(column)}" for column in (*key, *columns))
        on = " and ".join(f"t.{quote(column)} = json_extract(k.value, '$[{place}]')" for place, column in enumerate(key))
        size = len(key)
        return [
            (row[:size], _filled(columns, row[size:]))
            for row in tx.execute(
                f"select {names} from json_each(?) k cross join {quote(table)} t on {on} {order}", (_json(list(keys)),)
            )
        ]

    # ---- writing

    def write(self, tx: Transaction, touched: Mapping[Place, Held], new_clients: Collection[str]) -> None:
        """Let the tables hold what *touched* holds; *new_clients* are there from now on."""
        tx.execute_many(
            "insert or replace into _sections (client_id, section, item_id, newest, emptied, columns) values (?, ?, ?, ?, ?, ?)",
            [(*place, held.newest, held.emptied, _setters(held)) for place, held in touched.items()],
        )
        by_table: dict[str, dict[Place, Held]] = {}
        for place, held in touched.items():
            by_table.setdefault(self._table_of(place), {})[place] = held
        for table, layout in self._layouts.items():
            its_own = by_table.get(table, {})
            if table == self._clients:
                self._write_clients(tx, its_own, new_clients)
            elif its_own:
                self._write_items(tx, layout, its_own)

    def _write_clients(self, tx: Transaction, touched: Mapping[Place, Held], new_clients: Collection[str]) -> None:
        new: dict[str, Row] = {client_id: {} for client_id in new_clients}
        known: dict[str, list[tuple[str, Held]]] = {}
        for place, held in touched.items():
            if place.client_id in new:
                new[place.client_id].update(cast("Row", held.values))
            else:
                known.setdefault(place.section, []).append((place.client_id, held))
        columns = self._columns[self._clients]
        self._insert(tx, self._clients, [(client_id, *map(row.get, columns)) for client_id, row in new.items()])
        for section, changed in known.items():
            of_section = [column for column in columns if self._owners.get(fold(column)) == section]
            sets = ", ".join(f"{quote(column)} = ?" for column in of_section)
            tx.execute_many(
                f"update {quote(self._clients)} set {sets} where _client_id = ?",
                [(*_columns_of(held, of_section), client_id) for client_id, held in changed],
            )

    def _write_items(self, tx: Transaction, layout: Layout, touched: Mapping[Place, Held]) -> None:
        table, columns = layout.table, self._columns[layout.table]
        where = " and ".join(f"{quote(column)} = ?" for column in layout.key)
        keys = {place: self._key(table, place) for place in touched}
        gone = [keys[place] for place, held in touched.items() if not held.is_there]
        tx.execute_many(f"delete from {quote(table)} where {where}", gone)
        self._insert(
            tx,
            table,
            [
                (*keys[place], ticks_of(held.newest), *_columns_of(held, columns))
                for place, held in touched.items()
                if held.is_there
            ],
        )
        if layout.rows_below is None:
            return
        column, below = layout.rows_below
        tx.execute_many(f"delete from {quote(below)} where {where}", keys.values())
        self._insert(
            tx,
            below,
            [
                (*keys[place], number, *map(row.get, self._columns[below]))
                for place, held in touched.items()
                for number, row in enumerate(_rows_in(held.values.get(column)))
            ],
        )

    def _insert(self, tx: Transaction, table: str, rows: Sequence[tuple[Value | None, ...]]) -> None:
        columns = [*_own_columns(self._layouts[table]), *self._columns[table]]
        tx.execute_many(
            f"insert or replace into {quote(table)} ({', '.join(map(quote, columns))}) values ({', '.join('?' * len(columns))})",
            rows,
        )

    # ---- what was taken

    def log_messages(self, tx: Transaction, taken: Sequence[Taken], again: Mapping[str, int]) -> None:
        """Write *taken* into the log of messages; those that came *again* are only counted.

        One that stands there already was in quarantine: it is judged anew.
        """
        tx.execute_many(
            "insert into _messages "
            "(message_id, received_at, occurred_at, client_id, type, section, outcome, times, sequence, body) "
            "values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) on conflict (message_id) do update set occurred_at = excluded.occurred_at, "
            "client_id = excluded.client_id, type = excluded.type, section = excluded.section, outcome = excluded.outcome, "
            "times = times + excluded.times",
            taken,
        )
        tx.execute_many(
            "update _messages set times = times + ? where message_id = ?", [(times, id_) for id_, times in again.items()]
        )

    def log_changes(self, tx: Transaction, changes: Sequence[ChangedClient], entity: str, run_id: int, now: str) -> None:
        """Write *changes* into the log of changes, in their order."""
        tx.execute_many(
            "insert into _changes (at, run_id, tenant_id, location_id, entity, id, op, fields) values (?, ?, 0, 0, ?, ?, ?, ?)",
            [
                (now, run_id, entity, client_id, *(("insert", None) if fields is None else ("replace", _json(fields))))
                for client_id, fields in changes
            ],
        )

    def set_aside(self, tx: Transaction, taken: Taken, reason: str, run_id: int, source: str) -> bool:
        """Put a message into quarantine; return whether it is new there."""
        id_ = aside_id(taken.message_id)
        now = taken.received_at
        if tx.execute("update _quarantine set last_seen_at = ?, reason = ? where id = ?", (now, reason, id_)).rowcount:
            return False
        body = taken.body if isinstance(taken.body, str) else taken.body.decode("utf-8", "backslashreplace")
        tx.execute(
            "insert into _quarantine (id, first_seen_at, last_seen_at, run_id, source, reason, body, record_id, message_id) "
            "values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (id_, now, now, run_id, source, reason, body, taken.client_id, taken.message_id),
        )
        return True

    def aside(self, tx: Transaction, id_: str) -> tuple[str, int | None, bytes] | None:
        """Return id, number and body of a message in quarantine, None where it is not there any more."""
        found = tx.execute(
            "select m.message_id, m.sequence, m.body from _quarantine q join _messages m using (message_id) where q.id = ?",
            (id_,),
        ).fetchone()
        return None if found is None else (found[0], found[1], as_bytes(found[2]))

    def release(self, tx: Transaction, message_ids: Iterable[str]) -> None:
        """Let messages out of quarantine that were applied."""
        tx.execute_many("delete from _quarantine where id = ?", [(aside_id(message_id),) for message_id in message_ids])

    def has_aside(self, tx: Transaction) -> bool:
        """Return whether any message is in quarantine."""
        return bool(tx.execute("select exists (select 1 from _quarantine where message_id is not null)").fetchone()[0])

    def forget_unread(self, tx: Transaction, message_ids: Iterable[str]) -> dict[str, int]:
        """Take out of the log, and out of quarantine, what stands under these ids as unreadable; return how often it had come."""
        found: dict[str, int] = dict(
            tx.execute(
                "select m.message_id, m.times from json_each(?) k cross join _messages m on m.message_id = k.value "
                "where m.outcome = 'quarantined'",
                (_json(list(message_ids)),),
            ).fetchall()
        )
        tx.execute_many("delete from _messages where message_id = ?", [(message_id,) for message_id in found])
        self.release(tx, found)
        return found

    def read_tally(self, tx: Transaction) -> NexusTally:
        """Return what was counted so far."""
        return NexusTally(**orjson.loads(tx.kept(NEXUS_TALLY) or "{}"))

    def keep_tally(self, tx: Transaction, tally: NexusTally) -> None:
        """Keep what was counted so far."""
        tx.keep(NEXUS_TALLY, orjson.dumps(tally).decode())


def _own_columns(layout: Layout) -> list[str]:
    return [*layout.key, *(("_ticks",) if layout.is_dated else ())]


def _json(value: object) -> str:
    return orjson.dumps(value).decode()


def _setters(held: Held) -> str:
    """Return which message has set which columns: `{"order key": ["Column", ...]}`, "" for the newest, columns by name."""
    by_order: dict[str, list[str]] = {}
    for column in sorted(held.setters):
        order = held.setters[column]
        by_order.setdefault("" if order == held.newest else order, []).append(column)
    return orjson.dumps(by_order, option=orjson.OPT_SORT_KEYS).decode()


def _filled(columns: Sequence[str], values: Sequence[Value | None]) -> Row:
    if None in values:
        return {column: value for column, value in zip(columns, values, strict=True) if value is not None}
    return dict(zip(columns, cast("Sequence[Value]", values), strict=True))


def _columns_of(held: Held, columns: Sequence[str]) -> tuple[Value | None, ...]:
    return cast("tuple[Value | None, ...]", tuple(map(held.values.get, columns)))  # what is rows is no column


def _rows_in(content: Content | None) -> list[Row]:
    return content if isinstance(content, list) else []


def as_text(body: bytes) -> str | bytes:
    """Return *body* as text where it is text, so that people can read it; to the letter in both."""
    try:
        return body.decode()
    except UnicodeDecodeError:
        return body


def as_bytes(body: str | bytes) -> bytes:
    """Return a body as it was sent."""
    return body if isinstance(body, bytes) else body.encode()


def aside_id(message_id: str) -> str:
    """Return under which id a message stands in quarantine."""
    return hashlib.sha256(f"nexus\n{message_id}".encode(errors="surrogatepass")).hexdigest()[:16]
