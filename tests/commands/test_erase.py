"""`sync erase`: a person is nowhere in the bytes any more, and stays out by whatever way he comes; others are as they were."""

import hashlib
import json
import os
import pty
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from furnished import WRITING, furnished
from installed import PATIENCE, SYNC, Shop

from delta_mirror.cli.main import run
from delta_mirror.errors import MirrorFileError
from delta_mirror.jobs.baseline import Wishes as Baseline
from delta_mirror.jobs.baseline import run_baseline
from delta_mirror.jobs.deltas import Wishes as Deltas
from delta_mirror.jobs.deltas import run_deltas
from delta_mirror.jobs.erase import EraseReport, EraseWishes, run_erase
from delta_mirror.jobs.ingest import IngestReport, run_ingest
from delta_mirror.jobs.ingest import Wishes as Ingest
from delta_mirror.jobs.link import run_link
from delta_mirror.jobs.quarantine import retry_quarantined
from delta_mirror.jobs.refetch import run_refetch
from delta_mirror.jobs.session import open_mirror
from delta_mirror.jobs.verify import Wishes as Verify
from delta_mirror.jobs.verify import run_verify
from delta_mirror.mirror.lock import hold
from delta_mirror.nexus.message import hash_of
from delta_mirror.simulator import DAY, HOUR, LAG, Clock, Service, World
from delta_mirror.simulator.export import write_export
from health import listening
from nexus_messages import message

KEY = "an invented key of some length"
LOCATIONS = [(11, 9), (11, 10)]
# What is true of the person alone, and so is to be found nowhere.
FIRST, SECOND, THIRD = "Zaphodina", "Trillianne", "Slartibart"
PHONE, ODD, HIDDEN = "555-0142-42", "Magrathea", "Deepthought"


@pytest.fixture
def world() -> World:
    world = World(seed=7, clock=Clock.running())
    world.populate(clients=12, sales=6, over=DAY)
    return world


@pytest.fixture
def shop(tmp_path: Path, service: Service) -> Shop:
    shop = Shop(tmp_path, service)
    configure(shop)
    return shop


def configure(shop: Shop, key: str = KEY) -> None:
    shop.configure(mirror={"mask_key": key}, locations=LOCATIONS, entities=["Client", "Sale"])


def erase(shop: Shop, id_: str, entity: str = "Client", *, tenants: Sequence[int] = ()) -> EraseReport:
    """Erase inside this process, which is quicker."""
    return run_erase(shop.config(), EraseWishes(entity, id_, tenants))


def tamper(shop: Shop, sql: str, *values: object) -> None:
    with closing(sqlite3.connect(shop.mirror)) as mirror, mirror:
        mirror.execute(sql, values)


def ingest(shop: Shop, *messages: bytes) -> IngestReport:
    path = shop.folder / "messages.jsonl"
    path.write_bytes(b"\n".join(messages))
    report = run_ingest(shop.config(), Ingest([str(path)]))
    path.unlink()
    return report


def holding(shop: Shop, *texts: str) -> list[tuple[str, str]]:
    """Return which of *texts* is in the bytes of which file beside the mirror, the configuration apart, in either case."""
    files = [path for path in shop.folder.rglob("*") if path.is_file() and path != shop.configuration]
    assert shop.mirror in files
    bytes_of = {path.name: path.read_bytes().lower() for path in files}
    return [(name, text) for name, body in bytes_of.items() for text in texts if text.lower().encode() in body]


def somebody(world: World, *, locations: Sequence[int] = (9, 10)) -> str:
    return world.create("Client", FirstName=FIRST, locations=locations)


@pytest.fixture
def held(shop: Shop, world: World) -> tuple[Shop, str]:
    """A mirror that holds somebody, and the id."""
    id_ = somebody(world)
    world.settle(LAG)
    shop.fill()
    return shop, id_


def all_but(shop: Shop, id_: str) -> dict[str, list[tuple[object, ...]]]:
    """Return what the mirror holds of everybody else."""
    tables = shop.contents(without=("_meta", "_runs", "_erased", "_erased_dates", "sqlite_sequence", "_streams"))
    del tables["sqlite_master"]
    return {name: [row for row in rows if id_ not in map(str, row)] for name, rows in tables.items()}


# Nothing is left


def test_person_with_everything_there_can_be_is_found_nowhere_in_the_bytes(shop: Shop, world: World) -> None:
    id_ = somebody(world)
    other = world.create("Client", FirstName="Arthur", GuardianId=None)
    shop.fill()
    world.edit(id_, FirstName=SECOND)
    world.add_phone(id_, PHONE)
    shop.fill()
    world.delete(id_)
    shop.fill()
    world.revive(id_)
    world.edit(id_, FirstName=THIRD)
    shop.fill()
    world.edit(id_, _Odd=ODD)  # no table can hold it
    world.create("Client", EntityId=None, Note=f"{HIDDEN} of {id_}", Key=id_.upper(), locations=(10,))
    shop.fill(expect="unfinished")
    run_link(
        shop.config(), ["entity,id,contact_id,tenant_id,location_id", f"Client,{id_},25300253,11,9", f"Client,{other},7,11,9"]
    )
    for who, contact in ((id_, "25300253"), (other, "7")):
        tamper(
            shop,
            "insert into _accela_pushes (at, run_id, entity, tenant_id, location_id, id, contact_id, outcome) "
            "values ('2026-01-01T00:00:00Z', 1, 'Client', 11, 9, ?, ?, 'pushed')",
            who,
            contact,
        )
    (shop.folder / "mirror.db.starter").mkdir()  # as a run that was killed leaves it
    (shop.folder / "mirror.db.starter" / "staging.db").write_text(f"{id_} {THIRD}")
    texts = (id_, FIRST, SECOND, THIRD, PHONE, ODD, HIDDEN, "25300253")
    assert {text for _, text in holding(shop, *texts)} == set(texts), "a test that looks for what never was there shows nothing"
    before = all_but(shop, id_)
    [key_bodies] = [[row[0] for row in before["_quarantine"]]]
    living = shop.rows("select location_id, records from _streams where entity = 'Client' order by 1")

    ended = shop.sync("erase", "Client", id_.upper(), "--yes")

    assert holding(shop, *texts) == []
    after = all_but(shop, id_)
    assert len(key_bodies) == len(after["_quarantine"]) + 1  # the thing without a key named the person
    assert {name: rows for name, rows in after.items() if name != "_quarantine"} == {
        name: rows for name, rows in before.items() if name != "_quarantine"
    }
    assert shop.rows("select location_id, records from _streams where entity = 'Client' order by 1") == [
        (location, number - 1) for location, number in living
    ]
    assert re.search(
        r"rows of _quarantine 3, ClientPhone \d+, Client 2, _changes 8, _accela_links 1, _accela_pushes 1", ended.out
    ), ended.out
    assert "at location 9, 10" in ended.out
    assert "mirror.db is written anew" in ended.err
    assert "the Accela contact that it was tied to stays as it is: 25300253" in ended.out
    assert "copies (`sync backup`)" in ended.out
    assert shop.value("select command || outcome || deleted from _runs order by id desc limit 1") == "erasedone2"
    assert shop.rows("select tenant_id, entity from _erased") == [(11, "Client")]
    assert_sound_but_for(shop, id_)


def assert_sound_but_for(shop: Shop, id_: str) -> None:
    assert shop.value("pragma integrity_check") == "ok"
    assert shop.value("pragma freelist_count") == 0
    assert shop.rows("select * from _meta where key = 'erase_pending'") == []
    assert id_ not in str(shop.contents())


def test_client_of_nexus_is_found_nowhere_and_the_others_are_as_they_were(shop: Shop) -> None:
    him = [
        message(details={"FirstName": FIRST}, client="EX42"),
        message(details={"FirstName": SECOND}, client="EX42", at="2026-03-02T10:00:00Z"),
        message("Case Details", {"CaseNumber": "C-4711-0815", "Offenses": [{"Label": PHONE}]}, client="EX42", identifier="c1"),
        message("Profile Picture", {"Image": "aW52ZW50ZWQ" * 900}, client="EX42"),
        message(None, {"Text": THIRD}, client="EX42", type_="Note", identifier="n1"),
        message("No Such Section", {"x": ODD}, client="EX42"),
        b'{"Client": {"IntegrationId": "EX42"}, "x": "' + HIDDEN.encode(),  # cut off
    ]
    them = [
        message(details={"FirstName": "Arthur"}, client="EX421"),
        message("No Such Section", {"x": "y"}, client="EX421"),
        b'{"Client": {"IntegrationId": "EX421"}, "x": "',
    ]
    ingest(shop, *him, *them)
    texts = (FIRST, SECOND, THIRD, PHONE, ODD, HIDDEN, "aW52ZW50ZWQaW52ZW50ZWQ", "C-4711-0815", '"EX42"')
    assert {text for _, text in holding(shop, *texts)} == set(texts)

    report = erase(shop, "EX42", "NexusClient")

    assert holding(shop, *texts) == []
    assert report.was_held
    assert shop.rows("select _client_id from NexusClient") == [("EX421",)]
    assert sorted(shop.rows("select client_id, outcome from _messages"), key=str) == [
        ("EX421", "applied"),
        ("EX421", "quarantined"),
        (None, "quarantined"),
    ]
    assert shop.value("select count(*) from _quarantine") == 2
    nexus = shop.sync("status", "--json").json()
    assert (nexus["nexus"]["clients"], nexus["nexus"]["messages"]["quarantined"]) == (1, 2)
    assert nexus["erased"] == {"marked": 1, "pending_since": None}
    again = ingest(shop, *him, *them)
    assert (again.tallied.erased, again.tallied.repeated, again.tallied.messages) == (7, 1, 10)
    assert holding(shop, *texts) == []


def test_records_of_others_that_name_the_person_stay_and_are_told(held: tuple[Shop, str]) -> None:
    shop, id_ = held
    world = shop.service.world
    sale = world.create("Sale", Client_TId=id_)
    world.create("Client", FirstName="Ward", GuardianId=id_)
    world.settle(LAG)
    shop.fill()

    ended = shop.sync("erase", "Client", id_, "--yes")

    assert "records of others name it, and stay: " in ended.out
    assert "Client.GuardianId in 1 rows" in ended.out
    assert "Sale.Client_TId in 1 rows" in ended.out
    assert shop.value("select Client_TId from Sale where _id = ?", sale) == id_


@pytest.mark.parametrize("is_masked", [False, True])
def test_thing_without_an_id_that_names_the_person_under_a_mask_goes_and_does_not_come_again(
    held: tuple[Shop, str], is_masked: bool
) -> None:
    shop, id_ = held
    world = shop.service.world
    masked = '[mirror.mask]\nClient = { Friend = "hash" }\nNexusClient = { LastName = "hash" }'
    shop.configure(mirror={"mask_key": KEY}, locations=LOCATIONS, entities=["Client", "Sale"], more=masked if is_masked else "")

    def come(hidden: str) -> None:
        world.create("Client", EntityId=None, Friend=id_, Note=hidden, locations=(9,))
        world.settle(LAG)
        run_deltas(shop.config())
        ingest(shop, json.dumps({"Client": {}, "LastName": "EX42", "x": hidden}).encode())

    come(HIDDEN)
    assert shop.value("select count(*) from _quarantine where body like ?", f"%{HIDDEN}%") == 2
    erase(shop, id_)
    erase(shop, "EX42", "NexusClient")
    assert holding(shop, HIDDEN) == []
    come(ODD)
    assert holding(shop, HIDDEN, ODD) == []


@pytest.mark.parametrize("id_", ["a\tb", "EX\u00a042", "EX\u202e42", "."])
def test_person_under_an_id_that_no_address_can_have_is_erased_all_the_same(shop: Shop, id_: str) -> None:
    shop.service.world.create("Client", record_id=id_, FirstName=FIRST, locations=(9,))
    shop.service.world.settle(LAG)
    shop.fill()
    ingest(shop, message(details={"FirstName": SECOND}, client=id_))
    assert {text for _, text in holding(shop, FIRST, SECOND)} == {FIRST, SECOND}
    erase(shop, id_)
    erase(shop, id_, "NexusClient")
    assert holding(shop, FIRST, SECOND) == []


# Nobody comes back


def test_person_who_was_erased_does_not_come_back_by_deltas_whatever_happens_to_him(held: tuple[Shop, str]) -> None:
    shop, id_ = held
    world = shop.service.world
    erase(shop, id_)
    world.edit(id_, FirstName=SECOND)
    world.settle(LAG)
    shop.fill()
    world.delete(id_)
    world.settle(LAG)
    shop.fill()
    world.edit(id_, _Odd=ODD)
    world.create("Client", EntityId=None, Key=id_, Note=HIDDEN)
    world.settle(LAG)
    report = shop.fill()

    assert report.counts.unchanged >= 3
    assert holding(shop, id_, FIRST, SECOND, ODD, HIDDEN) == []
    assert any("names a person who was erased" in said for each in report.streams for said in each.said)
    assert shop.stream("Client", 9)["watermark"] > shop.value("select max(DateUpdated) from Client where _location_id = 9")


def test_runs_ask_for_as_many_pages_as_if_nobody_had_been_erased_and_so_do_dry_ones(tmp_path: Path) -> None:
    newcomers = [f"00000000-0000-4000-8000-{number:012}" for number in range(12)]
    told = []
    for erases in (False, True):
        world = World(seed=9)
        world.populate(clients=40, over=DAY, locations=(9,))
        ids = world.ids("Client")
        with Service(world) as service:
            (tmp_path / str(erases)).mkdir()
            shop = Shop(tmp_path / str(erases), service)
            shop.configure(mirror={"mask_key": KEY}, locations=[(11, 9)], entities=["Client"], items_per_page=8)
            shop.fill()
            if erases:
                for id_ in (*ids[5:13], *newcomers):
                    erase(shop, id_)
            asked: list[int] = []
            for number in range(4):  # what was followed is counted again in the runs that come next
                for is_dry in (True, False):
                    before = len(service.pages())
                    run_deltas(shop.config(), Deltas(dry_run=is_dry))
                    asked.append(shop.pages_since(before))
                if number == 1:
                    world.advance(2 * HOUR)
                    for id_ in ids[8:20]:
                        world.edit(id_, FirstName=SECOND)
                    for id_ in newcomers:
                        world.create("Client", record_id=id_)
                    world.settle(LAG)
            told.append(asked)
    assert told[0] == told[1]


def test_dates_of_people_who_were_erased_go_when_the_feed_cannot_list_them_any_more(held: tuple[Shop, str]) -> None:
    shop, id_ = held
    erase(shop, id_)
    assert shop.value("select count(*) from _erased_dates") == 2
    tamper(
        shop, "insert into _erased_dates select tenant_id, location_id, entity, 'another', ticks - ? from _erased_dates", 9 * DAY
    )
    shop.fill()
    assert shop.rows("select location_id from _erased_dates where mark <> 'another' order by 1") == [(9,), (10,)]
    assert shop.rows("select * from _erased_dates where mark = 'another'") == []


def test_person_who_was_erased_stays_out_of_a_baseline_and_is_not_missed_by_verify(held: tuple[Shop, str]) -> None:
    shop, id_ = held
    world = shop.service.world
    sale = next(sale for sale in world.ids("Sale") if shop.value("select count(*) from SaleLine where _id = ?", sale) > 1)
    erase(shop, id_)
    erase(shop, sale, "Sale")
    write_export(world, shop.folder / "export")
    drifts: list[str] = []

    before = run_verify(shop.config(), Verify(str(shop.folder / "export")), found=lambda stream, drift: drifts.append(drift.id))
    loaded = run_baseline(shop.config(), Baseline(str(shop.folder / "export")))
    after = run_verify(shop.config(), Verify(str(shop.folder / "export"), repair=True))

    assert not {id_, sale} & set(drifts)
    assert (before.total("missing"), after.total("missing"), loaded.outcome) == (0, 0, "done")
    for entity in ("Client", "Sale"):
        tables = [entity, *(name for (name,) in shop.rows("select distinct name from _tables where entity = ?", entity))]
        rows = sum(each.loaded.rows for each in loaded.streams if each.loaded and each.stream.entity == entity)
        assert rows == sum(shop.value(f'select count(*) from "{name}"') for name in tables)
    assert not any(aside for each in loaded.streams if each.loaded for aside in each.loaded.aside)
    assert [name for name, _ in holding(shop, id_, FIRST, sale) if name.startswith("mirror")] == []


def test_person_who_was_erased_is_neither_fetched_nor_tried_again_nor_linked(held: tuple[Shop, str]) -> None:
    shop, id_ = held
    world = shop.service.world
    nameless = world.create("Client", EntityId=None, Note=HIDDEN, locations=(9,))
    world.settle(LAG)
    shop.fill(expect="unfinished")
    erase(shop, id_)
    # As if a newer program could read whose it is.
    tamper(
        shop, 'update _quarantine set body = replace(body, \'"Client_T":{\', \'"Client_T":{"EntityId":"\' || ? || \'",\')', id_
    )
    before = shop.public_calls()

    fetched = run_refetch(shop.config(), "Client", [id_])
    retried = retry_quarantined(shop.config())
    link = run_link(shop.config(), ["entity,id,contact_id,tenant_id,location_id", f"Client,{id_.upper()},253,11,9"])

    assert {record.outcome for record in fetched.records} == {"erased"}
    assert fetched.is_excused
    assert shop.public_calls() == before
    assert [each.outcome for each in retried.things] == ["erased"]
    assert (link.erased, link.total) == (1, 0)
    assert nameless
    assert shop.value("select count(*) from _quarantine") == 0
    assert holding(shop, id_, HIDDEN) == []


@pytest.mark.parametrize("comes_again", [False, True])
def test_message_that_nobody_could_read_leaves_when_it_turns_out_to_be_of_a_client_who_was_erased(
    shop: Shop, comes_again: bool
) -> None:
    readable = message(details={"FirstName": HIDDEN}, client="EX42")
    ingest(shop, message("No Such Section", {"x": HIDDEN}, client="EX1"), message(client="EX1"))
    # As if a program that knows the section had come: what it can read, this one has set aside.
    named = (hash_of(readable), readable.decode(), "quarantined")
    tamper(shop, "update _messages set message_id = ?, body = ?, client_id = null where outcome = ?", *named)
    tamper(shop, "update _quarantine set id = ?, message_id = ?, record_id = null", aside_id(named[0]), named[0])
    erase(shop, "EX42", "NexusClient")
    assert {name for name, _ in holding(shop, HIDDEN)} == {"mirror.db"}

    if comes_again:
        assert ingest(shop, readable).tallied.erased == 1
    else:
        assert [each.outcome for each in retry_quarantined(shop.config()).things] == ["erased"]

    assert shop.rows("select client_id from _messages") == [("EX1",)]
    assert shop.value("select count(*) from _quarantine") == 0
    assert shop.sync("status", "--json").json()["nexus"]["messages"]["quarantined"] == 0


def aside_id(message_id: str) -> str:
    return hashlib.sha256(f"nexus\n{message_id}".encode()).hexdigest()[:16]


# The key


def test_another_key_or_none_is_refused_by_every_command_that_writes(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(shop.folder)
    with listening() as check, furnished(shop, check):
        shop.sync("deltas", "--entity", "Client", expect=None)
        text = shop.configuration.read_text(encoding="utf-8")
        shop.sync("erase", "Client", "not-there", "--yes")
        before = shop.contents()
        shop.configuration.write_text(re.sub("mask_key = .*", 'mask_key = "another invented key"', text), encoding="utf-8")
        for command in WRITING:
            assert run(["--config", str(shop.configuration), *command]) == 2, command  # in this process, which is quicker
            assert "was used with another [mirror] mask_key" in capsys.readouterr().err, command
        shop.configuration.write_text(re.sub("mask_key = .*", "", text), encoding="utf-8")
        assert "and [mirror] mask_key is empty" in shop.sync("deltas", expect=2).err
        assert shop.contents() == before
        findings = shop.sync("doctor", "--json", expect=5).json()["findings"]
        [found] = [each["what"] for each in findings if each["check"] == "erased"]
        assert found == "[mirror] mask_key is empty, and 1 are marked as erased: nothing can be written"
        assert "erased: 1 marked" in shop.sync("status").out


def test_without_a_key_it_is_refused_with_the_way_to_make_one(held: tuple[Shop, str]) -> None:
    shop, id_ = held
    shop.configure(locations=LOCATIONS)
    before = shop.contents()
    ended = shop.sync("erase", "Client", id_, "--yes", expect=2)
    assert "mirror.mask_key is empty, and `sync erase` needs it; make one with `python3 -c" in ended.err
    assert shop.contents() == before
    shop.fill()  # nobody is marked, so that nobody asks for the key


def test_key_that_can_be_guessed_is_told_before_it_is_used(held: tuple[Shop, str]) -> None:
    shop, id_ = held
    configure(shop, "short")
    findings = shop.sync("doctor", "--json", expect=5).json()["findings"]
    [found] = [each["what"] for each in findings if each["check"] == "erased"]
    assert found == "[mirror] mask_key has fewer than 16 characters: whoever has the mirror can guess it"
    configure(shop)
    assert "erased" not in {each["check"] for each in shop.sync("doctor", "--json").json()["findings"]}
    erase(shop, id_)
    assert "ok       erased" in shop.sync("doctor").out


def test_mirror_that_hashes_with_another_key_marks_nobody(held: tuple[Shop, str]) -> None:
    shop, id_ = held
    tamper(shop, "insert into _meta (key, value) values ('mask_key_check', 'of another key')")
    before = shop.contents()
    with pytest.raises(MirrorFileError, match="was used with another"):
        erase(shop, id_)
    assert shop.contents() == before


# Whom is meant


def test_somebody_of_whom_nothing_is_held_is_marked_and_stays_out(held: tuple[Shop, str]) -> None:
    shop, _ = held
    world = shop.service.world
    id_ = "00000000-0000-4000-8000-00000000abcd"

    ended = shop.sync("erase", "Client", id_, "--yes")
    world.create("Client", record_id=id_, FirstName=SECOND)
    world.settle(LAG)
    shop.fill()

    assert f"Client {id_} of tenant 11: not held" in ended.out
    assert "nothing of this id was held" in ended.err
    assert holding(shop, id_, SECOND) == []
    assert erase(shop, id_).persons.keys() == {("Client", 11, id_)}


def test_id_that_two_tenants_hold_is_refused_until_one_is_named(tmp_path: Path) -> None:
    world = World(seed=3, tenants={11: (9,), 12: (5,)})
    with Service(world) as service:
        shop = Shop(tmp_path, service)
        shop.configure(mirror={"mask_key": KEY}, entities=["Client"])
        id_ = world.create("Client", FirstName=FIRST)
        world.create("Client", FirstName=FIRST, tenant=12)
        shop.fill()
        tamper(shop, "update Client set _id = ? where _tenant_id = 12", id_)
        before = shop.contents()
        assert "the tenants 11 and 12 each hold" in shop.sync("erase", "Client", id_, "--yes", expect=2).err
        assert shop.contents() == before
        shop.sync("erase", "Client", id_, "--yes", "--tenant", "12")
        assert shop.rows("select _tenant_id from Client") == [(11,)]
        assert shop.rows("select tenant_id from _erased") == [(12,)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("Client", " "), "an ID is empty"),
        (("Client", os.fsdecode(b"\xff")), "no text in UTF-8"),
        (("NexusClient", "EX1", "--tenant", "11"), "stands under no tenant"),
        (("Person", "x"), "'Person' is not one of"),
    ],
)
def test_what_cannot_be_meant_is_refused(held: tuple[Shop, str], arguments: tuple[str, ...], said: str) -> None:
    shop, _ = held
    before = shop.contents()
    assert said in shop.sync("erase", *arguments, "--yes", expect=2).err
    assert shop.contents() == before


def test_no_mirror_is_made(shop: Shop) -> None:
    assert "there is no mirror" in shop.sync("erase", "Client", "x", "--yes", expect=2).err
    assert not shop.mirror.exists()


def test_mirror_that_knows_of_no_tenant_wants_one_named(shop: Shop) -> None:
    shop.configuration.write_text(f'[mirror]\nmask_key = "{KEY}"\n', encoding="utf-8")
    ingest(shop, message())
    with pytest.raises(Exception, match="name one with --tenant"):
        erase(shop, "x")
    assert erase(shop, "x", tenants=[11]).persons.keys() == {("Client", 11, "x")}


# Asking


def test_dry_run_tells_all_and_writes_nothing(held: tuple[Shop, str]) -> None:
    shop, id_ = held
    before = shop.contents()
    told = shop.sync("erase", "Client", id_, "--dry-run", "--json").json()
    assert shop.contents() == before
    done = shop.sync("erase", "Client", id_, "--yes", "--json").json()
    assert told["erased"] == done["erased"]
    assert told["erased"][0]["rows"]["Client"] == 2
    assert (told["run_id"], told["outcome"], done["outcome"]) == (None, "done", "done")
    assert shop.sync("--quiet", "erase", "Client", id_, "--yes")[1:] == ("", "")


@contextmanager
def at_a_terminal(shop: Shop, *arguments: str) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    ours, theirs = pty.openpty()
    environment = {"PATH": os.defpath, "HOME": str(shop.folder / "home"), "LC_ALL": "C.UTF-8", "TERM": "dumb"}
    process = subprocess.Popen([SYNC, *arguments], cwd=shop.folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    try:
        yield process, ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def read_until(terminal: int, text: str) -> str:
    shown = b""
    while text.encode() not in shown:
        shown += os.read(terminal, 65536)
    return shown.decode()


@pytest.mark.parametrize(("typed", "code"), [("{id}", 0), ("something else", 2), ("", 2)])
def test_at_a_terminal_it_asks_for_the_id_once_more(held: tuple[Shop, str], typed: str, code: int) -> None:
    shop, id_ = held
    with at_a_terminal(shop, "erase", "Client", id_) as (process, terminal):
        shown = read_until(terminal, "Type the ID once more")
        assert "rows of ClientPhone" in shown
        assert shop.value("select count(*) from Client where _id = ?", id_) == 2
        os.write(terminal, f"{typed.format(id=id_)}\n".encode())
        with suppress(OSError):  # what Linux answers where the other side of a terminal is closed
            while os.read(terminal, 65536):
                pass
        assert process.wait(PATIENCE) == code
    assert shop.value("select count(*) from Client where _id = ?", id_) == (0 if code == 0 else 2)


def test_where_nobody_can_be_asked_it_wants_to_be_told(held: tuple[Shop, str]) -> None:
    shop, id_ = held
    assert "Give --yes" in shop.sync("erase", "Client", id_, expect=2).err
    assert shop.value("select count(*) from Client where _id = ?", id_) == 2


# What goes wrong


def test_another_run_is_failed_on_or_passed_over(held: tuple[Shop, str]) -> None:
    shop, id_ = held
    with hold(shop.mirror):
        shop.sync("erase", "Client", id_, "--yes", expect=4)
        assert shop.sync("erase", "Client", id_, "--yes", "--if-running", "skip").err.startswith("skipped: ")
        with at_a_terminal(shop, "erase", "Client", id_, "--if-running", "skip") as (process, terminal):
            assert "skipped: " in read_until(terminal, "skipped: ")
            assert process.wait(PATIENCE) == 0
    assert shop.value("select count(*) from Client where _id = ?", id_) == 2


def test_reader_that_keeps_the_wal_is_waited_for_and_what_is_left_is_said_and_finished_by_the_next_call(
    held: tuple[Shop, str],
) -> None:
    shop, id_ = held
    stop = threading.Event()
    with closing(sqlite3.connect(shop.mirror)) as reader:
        reader.execute("begin")
        reader.execute("select count(*) from Client").fetchone()
        said: list[str] = []

        def hear(message: str) -> None:
            if "waiting" in message:
                said.append(message)
                stop.set()

        report = run_erase(shop.config(), EraseWishes("Client", id_), stop=stop, tell=hear)

        assert (report.outcome, said) == (
            "stopped",
            ["another program is reading mirror.db; waiting for it, so that the WAL can be emptied"],
        )
        assert shop.rows("select * from Client where _id = ?", id_) == []
        assert holding(shop, FIRST) != []
        reader.execute("rollback")
    assert "bytes of somebody who was erased may be in the files of the mirror" in shop.sync("status").out
    findings = shop.sync("doctor", "--json", expect=5).json()["findings"]
    assert [each["remedy"] for each in findings if each["check"] == "erased"] == ["sync erase, with the same ENTITY and ID"]
    ended = shop.sync("erase", "Client", id_, "--yes")
    assert "not held; was erased before" in ended.out
    assert holding(shop, id_, FIRST) == []
    assert "bytes of somebody" not in shop.sync("status").out


def test_deadline_leaves_the_person_out_of_the_tables_and_says_that_bytes_may_be_left(held: tuple[Shop, str]) -> None:
    shop, id_ = held
    ended = shop.sync("erase", "Client", id_, "--yes", "--deadline", "0s", expect=3)
    assert "the deadline was reached; what was committed stays, and call again: bytes of the person may still be" in ended.err
    shop.sync("erase", "Client", id_, "--yes")
    assert holding(shop, id_, FIRST) == []


def can_mount() -> bool:
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_mount(), reason="needs a namespace of mounts, so root")
def test_without_room_to_write_the_file_anew_nothing_is_written(held: tuple[Shop, str]) -> None:
    shop, id_ = held
    (shop.folder / "small").mkdir()
    text = shop.configuration.read_text(encoding="utf-8").replace('"mirror.db"', '"small/mirror.db"')
    shop.configuration.write_text(text, encoding="utf-8")
    look = "import sqlite3; print(sqlite3.connect('small/mirror.db').execute('select count(*) from _erased').fetchone())"
    line = (
        f'mount -t tmpfs -o size=12m none small && cp mirror.db small/ && "$@"; code=$?; {sys.executable} -c "{look}"; exit $code'
    )
    done = subprocess.run(
        ["unshare", "--mount", "bash", "-c", line, "-", SYNC, "erase", "Client", id_, "--yes"],
        cwd=shop.folder,
        env={"PATH": f"{os.defpath}:/usr/sbin:/sbin", "HOME": str(shop.folder), "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 3, done.stderr
    assert re.search(
        r"has to be written anew, which needs [\d,]+ bytes in its folder for a while, and [\d,]+ are free", done.stderr
    )
    assert "nothing was written" in done.stderr
    assert done.stdout.strip() == "(0,)"


KILLS = 6
CHANGES = 30_000


def test_killed_at_any_instant_it_has_all_or_nothing_of_the_person_and_the_next_call_finishes(held: tuple[Shop, str]) -> None:
    shop, id_ = held
    with closing(sqlite3.connect(shop.mirror)) as mirror, mirror:
        mirror.executemany(  # so that it takes a while
            "insert into _changes (at, run_id, tenant_id, location_id, entity, id, op, fields) "
            "values ('2026-01-01T00:00:00Z', 1, 11, 9, 'Client', ?, 'replace', ?)",
            [(f"somebody-{number}", "x" * 300) for number in range(CHANGES)],
        )
    whole = shop.mirror.read_bytes()
    begun = time.monotonic()
    shop.sync("erase", "Client", id_, "--yes")
    took = time.monotonic() - begun
    killed = 0
    for number in range(KILLS):
        shop.mirror.write_bytes(whole)
        process = shop.start("erase", "Client", id_, "--yes")
        with suppress(subprocess.TimeoutExpired):
            process.wait(took * (number + 1) / KILLS)
        process.kill()
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
        assert shop.value("pragma integrity_check") == "ok"
        rows = shop.value("select count(*) from Client where _id = ?", id_)
        logged = shop.value("select count(*) from _changes where id = ?", id_)
        marks = shop.value("select count(*) from sqlite_master where name = '_erased'") and shop.value(
            "select count(*) from _erased"
        )
        assert (rows, bool(logged), marks) in ((2, True, 0), (0, False, 1))
        erase(shop, id_)
        assert holding(shop, id_, FIRST) == []
        assert shop.value("select count(*) from _changes where id like 'somebody-%'") == CHANGES
    assert killed, "none was killed at work"


def test_reading_commands_and_backups_go_on_and_a_backup_taken_afterwards_has_nothing_of_the_person(
    held: tuple[Shop, str],
) -> None:
    shop, id_ = held
    erase(shop, id_)
    shop.sync("backup", "copy.db")
    assert shop.sync("changes", "--id", id_).out == ""
    assert holding(shop, id_, FIRST) == []
    shop.mirror.unlink()
    (shop.folder / "copy.db").rename(shop.mirror)
    shop.service.world.edit(id_, FirstName=SECOND)
    shop.service.world.settle(LAG)
    shop.fill()
    assert holding(shop, id_, SECOND) == []


def test_mirror_is_asked_for_marks_once_a_run_and_no_key_is_fetched_without_any(held: tuple[Shop, str]) -> None:
    shop, _ = held
    configure(shop, "env:NOT_SET")
    with open_mirror(shop.config(), stop=threading.Event()) as mirror:
        assert mirror.erased is None
