"""`[mirror.mask]` on whole runs: no value that it takes away is in any byte beside the mirror, whichever way it came."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from installed import Shop

from delta_mirror.core.keyed import Keyed
from delta_mirror.simulator import DAY, Clock, Service, World
from delta_mirror.simulator.export import Quirks, write_export

KEY = "0f" * 32
OTHER_KEY = "f0" * 32
MASK = {
    "Client": {"EmailAddress": "hash", "Notes": "drop", "Score": "hash"},
    "ClientPhone": {"FullPhoneNumber": "drop", "PhoneNumber": "hash"},
}
INPUTS = ("config.toml", "export", "messages", "mask_key.txt")  # what the operator has put there himself


@pytest.fixture
def world() -> World:
    """A salon whose clients have something to hide; its clock goes with this machine's."""
    world = World(seed=11, clock=Clock.running())
    world.populate(clients=12, employees=3, appointments=4, sales=5, over=2 * DAY)
    for number, id_ in enumerate(world.ids("Client")):
        world.edit(id_, EmailAddress=clear(number, "mail"), Notes=clear(number, "notes"), Score=number + 0.5)
        world.add_phone(id_, f"77{number:05}")
    world.settle()
    return world


@pytest.fixture
def shop(tmp_path: Path, service: Service) -> Shop:
    shop = Shop(tmp_path, service)
    masked(shop, MASK)
    return shop


def clear(number: int, what: str) -> str:
    return f"clear-{what}-{number:04}@zebra.example"


def masked(shop: Shop, mask: Mapping[str, Mapping[str, str]], *, key: str = KEY, more: str = "", deletes: str = "remove") -> None:
    """Write a configuration with this mask."""
    lines = [more]
    for table, columns in mask.items():
        lines += [f"[mirror.mask.{json.dumps(table)}]", *(f'{json.dumps(name)} = "{action}"' for name, action in columns.items())]
    shop.configure(mirror={"mask_key": key, "deletes": deletes}, locations=[(11, 9), (11, 10)], more="\n".join(lines))


def bytes_of(folder: Path) -> bytes:
    """Return all that the program has left in *folder*."""
    return b"".join(
        path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not set(path.relative_to(folder).parts) & set(INPUTS)
    )


def assert_nothing_is_clear(shop: Shop, *outputs: str, also: tuple[str, ...] = ()) -> None:
    found = bytes_of(shop.folder) + "".join(outputs).encode()
    words = [clear(number, what) for number in range(12) for what in ("mail", "notes")]
    left = [word for word in (*words, *also) if word.encode() in found]
    assert not left, left


def export(shop: Shop, quirks: Quirks | None = None) -> str:
    shutil.rmtree(shop.folder / "export", ignore_errors=True)
    write_export(shop.service.world, shop.folder / "export", quirks or Quirks())
    return "export"


def test_what_is_masked_is_nowhere_whether_it_came_by_delta_or_by_starter(shop: Shop) -> None:
    ended = shop.sync("--verbose", "deltas")
    assert_nothing_is_clear(shop, ended.out, ended.err)
    by_delta = data_of(shop)
    key = Keyed(KEY)
    held = dict(shop.rows("select _id, EmailAddress from Client"))
    expected = {id_: key.digest("mask", clear(number, "mail")) for number, id_ in enumerate(shop.service.world.ids("Client"))}
    assert held == expected
    assert set(shop.rows("select Score from Client")) == {(key.digest("mask", n + 0.5),) for n in range(12)}
    assert "Notes" not in columns_of(shop, "Client")
    assert "FullPhoneNumber" not in columns_of(shop, "ClientPhone")
    shop.mirror.unlink()
    ended = shop.sync("full-starter", export(shop))
    assert_nothing_is_clear(shop, ended.out, ended.err)
    assert data_of(shop) == by_delta
    ended = shop.sync("verify", "export")
    assert_nothing_is_clear(shop, ended.out, ended.err)
    shop.sync("deltas")
    assert shop.rows("select * from _changes") == []


def test_a_change_of_what_is_dropped_is_none_and_one_of_what_is_hashed_is_told_by_hashes(shop: Shop) -> None:
    shop.fill()
    first, second = shop.service.world.ids("Client")[:2]
    shop.service.world.edit(first, Notes="clear-notes-new@zebra.example")
    shop.service.world.edit(second, EmailAddress="clear-mail-new@zebra.example")
    shop.service.world.settle()
    shop.fill()
    assert_nothing_is_clear(shop, also=("clear-notes-new", "clear-mail-new"))
    changes = {id_: json.loads(fields) for id_, fields in shop.rows("select id, fields from _changes where op = 'replace'")}
    told = {column for fields in changes.values() for column in fields} - {"DateUpdated", "EntityVersion"}
    assert told == {"EmailAddress"}
    assert changes[second]["EmailAddress"][1] == Keyed(KEY).digest("mask", "clear-mail-new@zebra.example")


def history(shop: Shop) -> None:
    """Let things have happened that leave values in every corner of the mirror."""
    world = shop.service.world
    shop.fill()
    ids = world.ids("Client")
    world.edit(ids[0], EmailAddress=clear(0, "mail") + "x", Notes=clear(0, "notes") + "x")
    world.remove_phone(ids[0])
    world.delete(ids[1])
    world.delete(ids[2])
    world.edit(ids[3], _odd=1)
    world.settle()
    shop.fill(expect="unfinished")
    world.revive(ids[2])
    world.settle()
    shop.fill()


def test_a_mask_that_is_new_rewrites_what_is_there_and_logs_nothing(shop: Shop) -> None:
    masked(shop, {})
    history(shop)
    before = shop.rows("select seq, at, run_id, entity, id, op from _changes")
    words = [word for number in range(12) for word in (clear(number, "mail"), clear(number, "notes"))]
    assert all(word.encode() in bytes_of(shop.folder) for word in words)
    masked(shop, MASK)
    ended = shop.sync("deltas")
    assert "[mirror.mask] was carried out" in ended.err
    assert_nothing_is_clear(shop, ended.out, ended.err)
    assert shop.rows("select seq, at, run_id, entity, id, op from _changes") == before
    odd = shop.service.world.ids("Client")[3]  # the mirror has the version before, one that is filled anew has none
    rewritten = data_of(shop, without=odd)
    assert shop.value("select count(*) from _quarantine where body glob '{\"masked\":*' and body glob '*hash*'") == 0
    assert shop.value("select count(*) from _quarantine where body glob '{\"masked\":*'") == 1
    shop.mirror.unlink()
    shop.fill(expect="unfinished")
    assert data_of(shop, without=odd) == rewritten
    again = shop.sync("deltas")
    assert "[mirror.mask]" not in again.err


def data_of(shop: Shop, without: str = "") -> dict[str, list[tuple[object, ...]]]:
    """Return what the mirror holds of the service."""
    tables = "select name from sqlite_master where type = 'table' and name not glob '_*' and name not glob 'sqlite_*'"
    names = [name for (name,) in shop.rows(tables)]
    return {name: content for name in names if (content := sorted(rows_of(shop, name, without), key=repr))}


def rows_of(shop: Shop, name: str, without: str) -> list[tuple[object, ...]]:
    columns = sorted(columns_of(shop, name) - {"_synced_at"})
    names = ", ".join(f'"{column}"' for column in columns)
    return [
        tuple((column, value) for column, value in zip(columns, row, strict=True) if value is not None)
        for row in shop.rows(f'select {names} from "{name}"')
        if without not in row
    ]


def columns_of(shop: Shop, table: str) -> set[str]:
    return {row[1] for row in shop.rows(f'pragma table_info("{table}")')}
