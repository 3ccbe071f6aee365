"""What must hold of a mirror, whatever has happened to it: looked at by bare sqlite3, measured by what the services know.

Invariants:

- Nothing of the program is used, but the reading of a date.
- Each check raises AssertionError, with a message that names what is wrong.
"""

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

from delta_mirror.simulator import Stream
from delta_mirror.simulator.clock import ticks_of
from oracle import assert_exact
from torture.people import MESSAGE
from torture.scene import SECRETS, TENANT, Scene
from torture.veil import veiled, veiled_row

Place: TypeAlias = tuple[Any, Any, str, str]  # tenant, location, entity, id

# What may come after what: the deletion of something never held leaves no change, but a tombstone that it can be revived from.
_NEXT = {"insert": (None,), "replace": (True,), "delete": (True,), "revive": (None, False)}
_OWN_CHANGES = "select tenant_id, location_id, entity, id, op, fields, run_id from _changes order by seq"


def rows_of(path: Path, sql: str) -> list[tuple[Any, ...]]:
    """Return what the SQLite file at *path* answers to *sql*."""
    with closing(sqlite3.connect(path)) as mirror:
        return mirror.execute(sql).fetchall()


def is_filled(path: Path) -> bool:
    """Return whether a run has come as far as making the tables of a mirror."""
    return bool(rows_of(path, "select count(*) from sqlite_master where name = '_runs'")[0][0])


# --- after every step ----------------------------------------------------------------------------------------------------------


def check_is_sound(path: Path, scene: Scene) -> None:
    """Pass if the file is whole, no child is without its root, and no watermark is ahead of what is held."""
    assert rows_of(path, "pragma integrity_check") == [("ok",)], "integrity_check"
    tables = [
        name for (name,) in rows_of(path, "select name from sqlite_master where type = 'table'") if not name.startswith("_")
    ]
    columns = {name: {row[1] for row in rows_of(path, f'pragma table_info("{name}")')} for name in tables}
    roots = [name for name in tables if "_synced_at" in columns[name] and "_id" in columns[name]]
    of_roots = " union ".join(f'select _tenant_id, _location_id, _id from "{root}"' for root in roots)
    for child in (name for name in tables if {"_n", "_id"} <= columns[name]):
        orphans = rows_of(path, f'select _tenant_id, _location_id, _id from "{child}" except select * from ({of_roots})')
        assert not orphans, f"{child} has rows without a root: {orphans[:3]}"
    check_watermarks(path, scene, roots)
    check_counts(path)


def check_watermarks(path: Path, scene: Scene, roots: Sequence[str]) -> None:
    """Pass if the mirror has, of every record that has not changed since the watermark of its stream, just that version."""
    if scene.service.dials.late_share:
        return  # what the service hides for a while at its own will is nobody's fault
    erased = {person.id for person in scene.people.asked_for()}
    for tenant, location, entity, text in rows_of(path, "select tenant_id, location_id, entity, watermark from _streams"):
        if text is None:
            continue
        mark = ticks_of(text)
        held = rows_of(path, f'select _id, _ticks from "{entity}" where _location_id = {location}') if entity in roots else []
        dead = rows_of(path, f"select id, ticks from _tombstones where location_id = {location} and entity = '{entity}'")
        known = {*held, *dead}
        with scene.world.lock:
            newest = list(scene.world.history(Stream(tenant, location, entity)).newest.values())
        for change in newest:
            is_there = (change.id, change.date) in known or (entity != "Sale" and scene.is_pruned) or change.id in erased
            assert change.date > mark or is_there, f"the watermark of {entity} at {location} is ahead of {change.id}"


def check_counts(path: Path) -> None:
    """Pass if what `_runs` has counted is what `_changes` has, run by run, as far as nothing was pruned.

    Before somebody was erased, more may have been counted: his changes went with him.
    """
    logged = {
        (run, op): number for run, op, number in rows_of(path, "select run_id, op, count(*) from _changes group by run_id, op")
    }
    pruned = max([int(run) for (run,) in rows_of(path, "select value from _meta where key = 'pruned_run'")], default=0)
    kept = {run for run, _ in logged if run > pruned}
    [(erased,)] = rows_of(path, "select coalesce(max(id), 0) from _runs where command = 'erase'")
    for run, *numbers in rows_of(path, "select id, inserted, replaced, deleted, revived from _runs where command = 'deltas'"):
        for op, number in zip(("insert", "replace", "delete", "revive"), numbers, strict=True):
            told = logged.get((run, op), 0)
            assert run not in kept or told == number or (run < erased and told < number), (
                f"run {run}: {number} of {op} counted, not logged so"
            )


def check_log(path: Path, *, from_the_beginning: bool, is_rewritten: bool = False) -> None:
    """Pass if the log tells one story: what is old in a change is what the one before left, and its end is what is held.

    *from_the_beginning*: no starter and no prune lies before, so that every record begins with its insert. *is_rewritten*: a mask
    came later, and may have taken away all that a change has told of.
    """
    alive: dict[Place, bool | None] = {}
    known: dict[Place, dict[str, str]] = {}
    for *where, op, text, run in rows_of(path, _OWN_CHANGES):
        place: Place = (where[0], where[1], where[2], where[3])
        before = alive.get(place)
        is_start = not from_the_beginning and (before is None or (op == "insert" and not before))
        assert is_start or before in _NEXT[op], f"run {run}: {op} of {place[2:]} after {before}"
        alive[place] = op != "delete"
        if op in ("insert", "delete"):
            assert text is None, f"{op} of {place[2:]} with fields"
            known[place] = {}
            continue
        fields: dict[str, list[Any]] = json.loads(text)
        assert fields or op == "revive" or is_rewritten, f"{op} of {place[2:]} changes nothing"
        for name, (old, new) in fields.items():
            assert _same(old) != _same(new), f"{op} of {place[2:]}: {name} is no change"
            if where[2] == "NexusClient" and name.startswith("Nexus"):
                continue  # of items that one message tells of, and not all of the client's
            if op == "replace":
                left = known.get(place, {}).get(name)
                assert left in (None, _same(old)), f"run {run}: {name} of {place[2:]} was {left}, is logged as {_same(old)}"
            known.setdefault(place, {})[name] = _same(new)
    check_end_of_log(path, alive, known)


def check_end_of_log(path: Path, alive: Mapping[Place, bool | None], known: Mapping[Place, Mapping[str, str]]) -> None:
    """Pass if the mirror holds what the log ends with: who lives, and every column that it tells of."""
    with closing(sqlite3.connect(path)) as mirror:
        mirror.row_factory = sqlite3.Row
        for place, lives in alive.items():
            tenant, location, entity, id_ = place
            if entity == "NexusClient":
                continue  # its rows are measured whole, by the messages
            row = mirror.execute(
                f'select * from "{entity}" where _tenant_id = ? and _location_id = ? and _id = ?', (tenant, location, id_)
            ).fetchone()
            is_held = row is not None and row["_deleted_at"] is None
            assert is_held == lives, f"{entity} {id_} {'lives' if is_held else 'is gone'}, and the log says otherwise"
            for name, value in known.get(place, {}).items() if lives else ():
                if name in row.keys():  # noqa: SIM118 - a sqlite3.Row is no dict
                    assert _same(row[name]) == value, f"{entity} {id_}: {name} is not what the log ends with"


def _same(value: object) -> str:
    """Return one text for what counts as one value: rows without regard to their order, numbers by value."""
    if isinstance(value, list):
        return repr(sorted(map(_same, value)))
    if isinstance(value, dict):
        return repr(sorted((name, _same(inner)) for name, inner in value.items() if inner is not None))
    return repr(float(value)) if isinstance(value, int | float) else repr(value)


def check_nothing_completed_is_missing(path: Path, scene: Scene) -> None:
    """Pass if the mirror has every message of which the broker was told that it may forget it."""
    held = {name for (name,) in rows_of(path, "select message_id from _messages")}
    is_erased = bool(scene.people.asked_for("NexusClient"))
    with scene.bus.lock:
        missing = {name for name in scene.bus.subscription.completed if not (is_erased and name.startswith(MESSAGE))} - held
    assert not missing, f"{len(missing)} messages were completed and are not stored"


def check_calls_are_counted(path: Path, scene: Scene) -> None:
    """Pass if no call has reached the public API that the mirror has not counted before."""
    [(counted,)] = rows_of(path, "select coalesce(sum(calls), 0) from _calls")
    assert scene.to_be_counted <= counted, f"{scene.to_be_counted} calls were sent, {counted} are counted"


def check_backup(scene: Scene) -> None:
    """Pass if a backup that lies there is whole, and a mirror."""
    path = scene.folder / "backup.db"
    if path.exists():
        assert rows_of(path, "pragma integrity_check") == [("ok",)], "the backup is damaged"
        assert is_filled(path), "the backup is no mirror"


def check_no_secret(scene: Scene) -> None:
    """Pass if no secret, no token and no address of a record stands where it must not: in outputs, and in files."""
    tokens = [*scene.service._tokens, *scene.accela._tokens]
    forbidden = [text.encode() for text in (*SECRETS, *tokens) if len(text) > 9]
    for path in sorted(scene.folder.rglob("*")):
        if path.is_file() and path.name != "config.toml":
            body = path.read_bytes()
            assert not any(text in body for text in forbidden), f"a secret stands in {path.name}"
            assert path.name != "err" or b"@example.com" not in body, "a value of a record stands in a message"


# --- at the end ----------------------------------------------------------------------------------------------------------------


def check_is_exact(path: Path, scene: Scene) -> None:
    """Pass if the mirror holds what the world says, and nothing else; no stream has a gap or an error."""
    check_rows_are_exact(path, scene)
    trouble = rows_of(path, "select entity, state, last_error, gap_from from _streams where state <> 'following'")
    assert not trouble, f"streams are not as they should be: {trouble}"


def gaps(path: Path) -> list[tuple[Any, ...]]:
    """Return the streams that have a gap."""
    return rows_of(path, "select entity, location_id, gap_from, gap_to from _streams where gap_from is not null")


def check_rows_are_exact(path: Path, scene: Scene) -> None:
    """Pass if the mirror holds what the world says, and nothing else, whatever is said of its streams."""
    dials = scene.service.dials
    streams = [stream for stream in scene.world.streams() if stream.entity in scene.schedule.entities]
    assert_exact(
        path,
        scene.world,
        scene.schedule.deletes,
        dials=dials,
        streams=streams,
        tombstones=not scene.is_pruned,
        mask=veiled_row if scene.is_masked else None,
        erased=[person.id for person in scene.people.asked_for()],
    )


def check_messages(path: Path, scene: Scene) -> None:
    """Pass if the Nexus tables hold what all messages that were ever told give in their own order."""
    people: dict[str, tuple[Any, ...]] = {}
    items: dict[str, dict[tuple[str, str], tuple[Any, ...]]] = {"NexusAddress": {}, "NexusContact": {}}
    clients = set()
    erased = {person.id for person in scene.people.asked_for()}
    for body in scene.told:
        if not body.endswith(b"}"):
            continue
        sent = json.loads(body)
        client, details = sent["Client"]["IntegrationId"], sent["Details"]
        if client in erased:
            continue
        if scene.is_masked:
            details = {
                name: value and veiled(value) if name in ("LastName", "Contact") else value for name, value in details.items()
            }
        clients.add(client)
        key = (client, sent["Activity"]["Identifier"])
        if details["SubType"] == "Personal Details":
            people[client] = (details["FirstName"], details["LastName"])
            continue
        table, names = {
            "Address Details": ("NexusAddress", ("AddressType", "Address")),
            "Contact Details": ("NexusContact", ("ContactType", "Contact")),
        }[details["SubType"]]
        if sent["Action"]["Reason"].endswith("Removed"):
            items[table].pop(key, None)
        else:
            items[table][key] = tuple(details[name] for name in names)
    expected = sorted((client, *people.get(client, (None, None))) for client in clients)
    _compare("NexusClient", expected, rows_of(path, "select _client_id, FirstName, LastName from NexusClient"))
    for table, held in items.items():
        names = ("AddressType", "Address") if table == "NexusAddress" else ("ContactType", "Contact")
        found = rows_of(path, f"select _client_id, _item_id, {', '.join(names)} from {table}")
        _compare(table, sorted((*key, *values) for key, values in held.items()), found)


def _compare(table: str, expected: Iterable[tuple[Any, ...]], found: Iterable[tuple[Any, ...]]) -> None:
    one, other = set(expected), set(found)
    assert one == other, f"{table} lacks {sorted(one - other, key=repr)[:3]}, has {sorted(other - one, key=repr)[:3]} too many"


def check_contacts(scene: Scene) -> None:
    """Pass if every linked client that lives is at its contact as it is, each change written once, and nothing else touched."""
    assert not scene.wasted, f"{scene.wasted} were written without a change"
    erased = {person.id for person in scene.people.asked_for()}
    for place, client in enumerate(scene.linked):
        contact = scene.accela.contacts[f"c-{place}"]
        assert contact["unknownToUs"] == {"list": [1, 2.5, {"deep": None}], "text": "stays"}, "what is not mapped was touched"
        if scene.world.is_deleted(client) or client in erased:
            continue
        body = scene.world.newest(client).body
        wanted = (body.get("FirstName"), body.get("EmailAddress"))
        assert (contact.get("firstName"), contact.get("email") or None) == wanted, f"c-{place} is not as {client} in {TENANT}"
