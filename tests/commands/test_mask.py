"""`[mirror.mask]` on whole runs: no value that it takes away is in any byte beside the mirror, whichever way it came."""

import json
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path

import pytest
from installed import Shop

from delta_mirror.core.keyed import Keyed
from delta_mirror.errors import ConfigError
from delta_mirror.jobs.deltas import run_deltas
from delta_mirror.simulator import DAY, Clock, Service, World
from delta_mirror.simulator.export import Quirks, write_export
from nexus_messages import HOME, message

KEY = "0f" * 32
OTHER_KEY = "f0" * 32
MASK = {
    "Client": {"EmailAddress": "hash", "Notes": "drop", "Score": "hash"},
    "ClientPhone": {"FullPhoneNumber": "drop", "PhoneNumber": "hash"},
}
KILLS = 4
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
    with closing(sqlite3.connect(shop.mirror)) as mirror:  # free pages with old values in them, as years leave some
        mirror.executescript("pragma secure_delete = off; create table scratch as select * from Client; drop table scratch")
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


def test_what_is_lifted_is_said_and_a_starter_brings_it_back(shop: Shop) -> None:
    shop.fill()
    masked(shop, {"ClientPhone": MASK["ClientPhone"]})
    ended = shop.sync("prune", "--older-than", "1d")  # any command that writes: deltas would read some of it again already
    assert "no longer takes away Client.EmailAddress, Client.Notes, Client.Score" in ended.err
    assert shop.value("select count(*) from Client where EmailAddress is not null and _deleted_at is null") == 0
    assert shop.sync("status", "--json").json()["mask"]["lifted"]["11/9/Client"]
    assert "11/9/Client lacks what [mirror.mask] took away before: Client.EmailAddress" in shop.sync("status").out
    masked(shop, {"ClientPhone": MASK["ClientPhone"], "Client": {"Score": "hash"}})
    shop.sync("prune", "--older-than", "1d")
    lacking = shop.sync("status", "--json").json()["mask"]["lifted"]["11/9/Client"]
    assert lacking == ["Client.EmailAddress", "Client.Notes", "Client.Score"]
    before = shop.value("select count(*) from _changes where op = 'replace'")
    shop.sync("full-starter", export(shop))
    shop.fill()  # what has changed since the day before the export comes by deltas
    assert set(shop.rows("select EmailAddress from Client")) == {(clear(number, "mail"),) for number in range(12)}
    assert shop.value("select count(*) from _changes where op = 'replace'") == before + 12
    assert "mask" not in shop.sync("status", "--json").json()


def test_hashes_of_another_key_are_refused_until_they_are_dropped(shop: Shop) -> None:
    shop.fill()
    kept = shop.contents()
    masked(shop, MASK, key=OTHER_KEY)
    assert "of another mask_key" in shop.sync("deltas", expect=2).err
    assert shop.contents() == kept
    masked(shop, {"Client": {**MASK["Client"], "EmailAddress": "drop", "Score": "drop"}, "ClientPhone": {"PhoneNumber": "drop"}})
    shop.fill()
    masked(shop, MASK, key=OTHER_KEY)
    assert "no longer takes away Client.EmailAddress" not in shop.sync("status").out
    shop.sync("full-starter", export(shop))
    shop.fill()
    assert (Keyed(OTHER_KEY).digest("mask", clear(3, "mail")),) in shop.rows("select EmailAddress from Client")


def test_a_thing_that_could_not_be_applied_is_fetched_anew_when_it_can_be(shop: Shop) -> None:
    world = shop.service.world
    first, second = world.ids("Client")[:2]
    world.edit(first, _odd=1)
    masked(shop, {"Client": {"*": "drop", "City": "keep"}, "Employee": {"LastName": "hash"}})
    world.edit(second, _odd=1)
    shop.fill(expect="unfinished")
    assert_nothing_is_clear(shop, shop.sync("quarantine", "list", "--json").out)
    assert shop.value("select count(*) from _quarantine where body glob '{\"withheld\":*'") == 2
    world.edit(first, _odd=None, City="Newtown")
    before = shop.public_calls()
    shop.sync("quarantine", "retry", expect=3)
    assert shop.public_calls() > before
    assert shop.value("select City from Client where _id = ?", first) == "Newtown"
    assert_nothing_is_clear(shop)


@pytest.mark.parametrize(
    ("mask", "word"),
    [
        ({"Client": {"EntityId": "drop"}}, "EntityId, which is the key of its records"),
        ({"ClientPhone": {"Client_TId": "hash"}}, "Client_TId, which ties its rows to their record"),
        ({"Cleint": {"EmailAddress": "drop"}}, "Cleint is no table of the mirror; did you mean Client?"),
        ({"ClientPhone_T": {"PhoneNumber": "drop"}}, "ClientPhone_T is called ClientPhone in the mirror"),
        ({"Client": {"EmailAddress": "remove"}}, 'something else than "drop", "hash" or "keep" for EmailAddress'),
        ({"Client": {"_id": "drop"}}, "the mirror's own cannot be masked"),
        ({"Client": {"Mail": "drop", "MAIL": "hash"}}, "twice, in different spellings"),
    ],
)
def test_a_mask_that_cannot_be_carried_out_is_refused_by_name(shop: Shop, mask: dict[str, dict[str, str]], word: str) -> None:
    masked(shop, mask)
    with pytest.raises(ConfigError, match=re.escape(word)):
        run_deltas(shop.config())
    assert not shop.mirror.exists()


def test_a_mask_that_is_refused_is_exit_2_of_whatever_writes(shop: Shop) -> None:
    masked(shop, {"Client": {"EntityId": "hash"}})
    assert "[mirror.mask]" not in shop.sync("status").err
    for command in (("deltas",), ("nexus", "ingest", "config.toml")):
        assert "mirror.mask.Client cannot mask EntityId" in shop.sync(*command, expect=2).err


def test_a_hash_without_a_key_is_refused(shop: Shop) -> None:
    masked(shop, MASK, key="")
    with pytest.raises(ConfigError, match=r"mirror\.mask_key is empty"):
        shop.config()


def test_a_rehearsal_neither_carries_out_a_mask_nor_takes_it_for_changes(shop: Shop) -> None:
    shop.fill()
    kept = shop.contents(without=("_calls", "_call_times"))
    told = shop.sync("deltas", "--dry-run", "--json").json()
    assert (told["replaced"], told["inserted"]) == (0, 0)
    masked(shop, {"Employee": {"LastName": "drop"}})
    assert "the next run that writes carries it out" in shop.sync("deltas", "--dry-run").err
    assert shop.contents(without=("_calls", "_call_times")) == kept
    assert "has changed and was not carried out" in shop.sync("status").out
    assert "[mirror.mask] has changed" in shop.sync("doctor", expect=5).out


def test_a_program_that_reads_keeps_old_values_alive_and_that_is_said_until_they_are_gone(shop: Shop) -> None:
    masked(shop, {})
    shop.fill()
    masked(shop, MASK)
    with closing(sqlite3.connect(shop.mirror, isolation_level=None)) as reader:
        reader.execute("begin")
        reader.execute("select count(*) from Client").fetchone()
        ended = shop.sync("deltas")
        assert "may still lie in free pages" in ended.err
        assert "another program reads" in ended.err
        assert "may still lie in free pages" in shop.sync("status").out
    assert "may still" not in shop.sync("deltas").err
    assert_nothing_is_clear(shop)
    assert "may still" not in shop.sync("status").out


def test_a_run_that_is_killed_while_it_carries_a_mask_out_leaves_all_of_it_done_or_nothing(shop: Shop) -> None:
    masked(shop, {})
    history(shop)
    masked(shop, MASK)
    whole = shop.contents()
    for share in range(KILLS):
        with shop.running("prune", "--older-than", "1d") as process:
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.1 + 0.5 * share / KILLS)
            process.kill()
        in_force = shop.rows("select value from _meta where key = 'mask'")
        if in_force:
            assert shop.value("select count(*) from Client where EmailAddress glob 'clear*'") == 0
            assert shop.value("select count(*) from _changes where fields glob '*clear*'") == 0
        else:
            assert shop.contents(without=("_runs", "_migrations")) == {
                name: rows for name, rows in whole.items() if name not in ("_runs", "_migrations")
            }
    assert shop.value("pragma integrity_check") == "ok"
    shop.sync("prune", "--older-than", "1d")
    assert_nothing_is_clear(shop)


def test_messages_are_masked_wherever_they_are_kept_and_a_new_mask_rewrites_them(shop: Shop) -> None:
    lines = [
        message("Email Details", {"Email": "first@zebra.example"}, at="2026-03-01T10:00:00.0000000Z"),
        message("Email Details", {"Email": "second@zebra.example"}, at="2026-03-02T10:00:00.0000000Z"),
        message("Case Details", {"CaseNumber": "C1", "Offenses": [{"Label": "zebra-offense"}]}, identifier=HOME),
        message("No Such Section", {"Email": "odd@zebra.example"}, client="EX2"),
        b"no JSON of zebra",
    ]
    (shop.folder / "messages").mkdir()
    (shop.folder / "messages" / "all.jsonl").write_bytes(b"\n".join(lines[:4]))
    (shop.folder / "messages" / "bad.jsonl").write_bytes(lines[4])
    mask = {"NexusClient": {"Email": "hash"}, "NexusOffense": {"Label": "drop"}}
    kept = []
    for first in (mask, {}):
        masked(shop, first)
        shop.sync("nexus", "ingest", "messages", expect=3)
        masked(shop, mask)
        ended = shop.sync("nexus", "ingest", "messages")  # all of them are known
        assert b"zebra" not in bytes_of(shop.folder) + ended.err.encode(), first
        assert shop.rows("select Email from NexusClient where _client_id = 'EX1'") == [
            (Keyed(KEY).digest("mask", "second@zebra.example"),)
        ]
        assert shop.rows("select outcome, count(*), max(times) from _messages group by 1 order by 1") == [
            ("applied", 3, 2),
            ("quarantined", 2, 2),
        ]
        kept.append((data_of(shop), shop.rows("select message_id, body, outcome from _messages order by 1")))
        assert shop.value("select count(*) from _quarantine q join _messages m using (message_id) where q.body = m.body") == 2
        shop.mirror.unlink()
    assert kept[0] == kept[1]


def test_doctor_names_columns_of_the_mask_that_have_never_come(shop: Shop) -> None:
    masked(shop, {"Client": {"EmailAddress": "drop", "EmialAddress": "drop", "*": "keep"}})
    shop.fill()
    told = shop.sync("doctor", expect=None).out
    assert "are they spelled as the service does? Client.EmialAddress" in told
    assert "Client.EmailAddress" not in told


def test_a_map_that_reads_what_is_masked_is_refused(shop: Shop) -> None:
    shop.fill()
    account = 'app_id = "x"\napp_secret = "x"\nagency = "A"\nusername = "u"\npassword = "p"'
    masked(shop, MASK, more=f'[accela]\n{account}\n[accela.map.Client]\n"email" = "{{EmailAddress}}"')
    refused = shop.sync("accela", "push", expect=2)
    assert "accela.map.Client.email reads Client.EmailAddress, which [mirror.mask] takes away" in refused.err


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
