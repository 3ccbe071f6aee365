"""`sync quarantine`: what could not be applied, listed, shown, tried again, given up, through the installed program."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest
from installed import Shop, assert_log_tells_one_story

from delta_mirror.mirror.lock import hold
from delta_mirror.simulator import MINUTE, Stream, World
from delta_mirror.simulator.faults import status
from oracle import assert_exact

MEND = """update _quarantine set body = replace(body, ',"_Odd":"x"', '')"""  # as if a newer program could store it


@pytest.fixture
def shop(shop: Shop) -> Shop:
    """A shop that follows one stream, the clients of location 9, with one client in the mirror."""
    shop.configure(entities=["Client"], locations=[(11, 9)])
    shop.service.world.create("Client", FirstName="Bo", ClientPhone_T=None)
    return shop


def tamper(shop: Shop, *statements: str) -> None:
    """Change the mirror, as no run would."""
    with closing(sqlite3.connect(shop.mirror)) as mirror, mirror:
        for sql in statements:
            mirror.execute(sql)


def odd(world: World, first_name: str = "Ada") -> str:
    """Return the id of a new client that no table can hold."""
    return world.create("Client", _Odd="x", FirstName=first_name)


def short_ids(shop: Shop) -> list[str]:
    """Return the ids that `list` shows."""
    return [line.split()[0] for line in shop.sync("quarantine", "list").out.splitlines()]


def test_list_names_each_thing_on_a_line_without_its_values(shop: Shop, world: World) -> None:
    client = odd(world, "Zebedee")
    world.create("Client", EntityId=None)
    shop.sync("deltas", expect=3)
    told = shop.sync("quarantine", "list").out
    lines = told.splitlines()
    assert len(lines) == 2
    [line] = [line for line in lines if client in line]
    [(id_, first, last)] = shop.rows("select id, first_seen_at, last_seen_at from _quarantine where record_id = ?", client)
    assert line.split("  ")[:5] == [id_[:8], first, last, "11/9 Client", client]
    assert "underscore" in line
    assert any("(no id)" in line and "no key" in line for line in lines)
    assert "Zebedee" not in told
    objects = [json.loads(line) for line in shop.sync("quarantine", "list", "--json").out.splitlines()]
    assert {each["id"] for each in objects} == {id_ for (id_,) in shop.rows("select id from _quarantine")}
    assert {each["record_id"] for each in objects} == {client, None}
    assert all("body" not in each for each in objects)


def test_list_of_an_empty_quarantine_is_empty_and_without_a_mirror_refused(shop: Shop) -> None:
    assert "there is no mirror" in shop.sync("quarantine", "list", expect=2).err
    assert "there is no mirror" in shop.sync("quarantine", "retry", expect=2).err
    assert not shop.mirror.exists()
    shop.sync("deltas")
    assert shop.sync("quarantine", "list").out == ""


def test_short_ids_are_as_long_as_tells_them_apart(shop: Shop, world: World) -> None:
    for _ in range(2):
        odd(world)
    shop.sync("deltas", expect=3)
    tamper(shop, "update _quarantine set id = 'abcdefgh00' || rowid")
    assert short_ids(shop) == ["abcdefgh001", "abcdefgh002"]


def test_show_gives_the_whole_entry_by_the_beginning_of_its_id(shop: Shop, world: World) -> None:
    odd(world, "Zebedee")
    odd(world, "Ermintrude")
    shop.sync("deltas", expect=3)
    for id_, body in shop.rows("select id, body from _quarantine"):
        shown = shop.sync("quarantine", "show", id_[:8].upper())
        assert f"id: {id_}\n" in shown.out
        assert f"body: {body}\n" in shown.out
        assert shop.sync("quarantine", "show", id_, "--json").json()["body"] == body
    tamper(shop, "update _quarantine set id = 'abcd' || rowid")
    assert "2 ids in quarantine begin with 'abcd'" in shop.sync("quarantine", "show", "abcd", expect=2).err
    assert "nothing in quarantine has the id 'beef'" in shop.sync("quarantine", "show", "beef", expect=2).err


def test_what_can_be_applied_now_leaves_and_what_cannot_remains_with_its_reason(shop: Shop, world: World) -> None:
    mended, remaining = odd(world, "Ada"), world.create("Client", _Other="x")
    shop.sync("deltas", expect=3)
    tamper(shop, MEND)
    before = shop.rows("select * from _quarantine where record_id = ?", remaining)
    calls = len(shop.service.calls)

    ended = shop.sync("quarantine", "retry", expect=3)

    assert len(shop.service.calls) == calls, "an entry is applied from its own body"
    assert f"{mended}  inserted" in ended.out
    assert f"{remaining}  remains: the column '_Other' begins with an underscore" in ended.out
    assert "1 of 2 things remain" in ended.err
    assert shop.value("select FirstName from Client where _id = ?", mended) == "Ada"
    assert shop.rows("select * from _quarantine") == before, "body and dates are as they were"
    assert shop.rows("select command, outcome, inserted, calls from _runs order by id desc limit 1") == [
        ("quarantine retry", "unfinished", 1, 0)
    ]
    assert shop.rows("select op, id from _changes order by seq desc limit 1") == [("insert", mended)]


def test_once_nothing_remains_a_retry_is_exit_0(shop: Shop, world: World) -> None:
    odd(world)
    shop.sync("deltas", expect=3)
    tamper(shop, MEND)
    report = shop.sync("quarantine", "retry", "--json").json()
    assert (report["command"], report["outcome"], report["inserted"]) == ("quarantine retry", "done", 1)
    assert [each["outcome"] for each in report["things"]] == ["inserted"]
    assert shop.sync("--quiet", "quarantine", "retry")[1:] == ("", "")
    assert shop.value("select count(*) from _quarantine") == 0
    assert_log_tells_one_story(shop)


def test_only_what_is_named_is_tried_again(shop: Shop, world: World) -> None:
    for name in ("Ada", "Cy"):
        odd(world, name)
    shop.sync("deltas", expect=3)
    tamper(shop, MEND)
    [id_] = [id_ for id_, body in shop.rows("select id, body from _quarantine") if "Cy" in body]
    shop.sync("quarantine", "retry", id_[:8])
    assert sorted(shop.rows("select FirstName from Client")) == [("Bo",), ("Cy",)]
    runs = shop.value("select count(*) from _runs")
    shop.sync("quarantine", "retry", "beef", expect=2)
    assert shop.value("select count(*) from _runs") == runs


def test_two_versions_of_one_record_are_applied_in_the_order_of_their_dates(shop: Shop, world: World) -> None:
    client = odd(world, "older")
    shop.sync("deltas", expect=3)
    world.advance(MINUTE)
    world.edit(client, FirstName="newer")
    shop.sync("deltas", expect=3)
    tamper(shop, MEND)
    assert shop.value("select count(*) from _quarantine") == 2
    report = shop.sync("quarantine", "retry", "--json").json()
    assert [each["outcome"] for each in report["things"]] == ["inserted", "replaced"]
    assert shop.value("select FirstName from Client where _id = ?", client) == "newer"


def test_what_is_older_than_the_record_held_leaves_and_changes_nothing(shop: Shop, world: World) -> None:
    client = odd(world, "older")
    shop.sync("deltas", expect=3)
    tamper(shop, MEND, "create table kept as select * from _quarantine")
    world.advance(MINUTE)
    world.edit(client, _Odd=None, FirstName="newer")
    shop.sync("deltas")
    tamper(shop, "insert into _quarantine select * from kept", "drop table kept")
    report = shop.sync("quarantine", "retry", "--json").json()
    assert ([each["outcome"] for each in report["things"]], report["superseded"]) == (["superseded"], 1)
    assert shop.value("select FirstName from Client where _id = ?", client) == "newer"
    assert shop.value("select count(*) from _quarantine") == 0


def test_what_bears_no_date_is_fetched_anew_lest_it_overwrite_something_newer(shop: Shop, world: World) -> None:
    client = world.create("Client", _Odd="x", FirstName="older", DateUpdated=None)
    shop.sync("deltas", expect=3)
    tamper(shop, MEND)
    world.advance(MINUTE)
    world.edit(client, _Odd=None, FirstName="newer")
    report = shop.sync("quarantine", "retry", "--json").json()
    assert (report["calls"], [each["outcome"] for each in report["things"]]) == (1, ["inserted"])
    assert shop.value("select FirstName from Client where _id = ?", client) == "newer"


def take_the_name_of_the_phones(shop: Shop) -> None:
    """Give the name of the table of phones to a view of somebody else's."""
    shop.sync("deltas")
    tamper(shop, "create view ClientPhone as select 1")


def test_rows_that_no_table_could_hold_are_fetched_anew(shop: Shop, world: World) -> None:
    take_the_name_of_the_phones(shop)
    client = world.create("Client", FirstName="Ada", ClientPhone_T=None)
    world.add_phone(client, "5550100")
    shop.sync("deltas", expect=3)
    assert set(json.loads(shop.value("select body from _quarantine"))) == {"record", "parents"}
    ended = shop.sync("quarantine", "retry", expect=3)
    assert "remains: a child table bears a name that the mirror uses itself" in ended.out
    tamper(shop, "drop view ClientPhone")
    report = shop.sync("quarantine", "retry", "--json").json()
    assert [each["outcome"] for each in report["things"]] == ["inserted"]
    assert (report["calls"], report["pages"]) == (1, 1)
    assert shop.rows("select PhoneNumber from ClientPhone where _id = ?", client) == [("5550100",)]
    assert shop.value("select count(*) from _quarantine") == 0
    world.advance(MINUTE)
    shop.sync("deltas")


def test_two_versions_that_are_fetched_anew_are_one_record_and_both_leave(shop: Shop, world: World) -> None:
    take_the_name_of_the_phones(shop)
    client = world.create("Client", ClientPhone_T=None)
    for number in ("5550100", "5550101"):
        world.add_phone(client, number)
        world.advance(MINUTE)
        shop.sync("deltas", expect=3)
    tamper(shop, "drop view ClientPhone")
    report = shop.sync("quarantine", "retry", "--json").json()
    assert [each["outcome"] for each in report["things"]] == ["inserted", "gone"]
    assert report["calls"] == 1
    assert shop.value("select count(*) from ClientPhone where _id = ?", client) == 2
    assert shop.value("select count(*) from _quarantine") == 0


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda shop, id_: shop.service.world.history(Stream(11, 9, "Client")).newest.pop(id_), "does not know the record"),
        (lambda shop, id_: shop.service.faults.append(status(503, endpoint="latest")), "503"),
    ],
)
def test_what_cannot_be_fetched_remains(shop: Shop, world: World, spoil: Callable[[Shop, str], object], why: str) -> None:
    take_the_name_of_the_phones(shop)
    client = world.create("Client", ClientPhone_T=None)
    world.add_phone(client)
    shop.sync("deltas", expect=3)
    tamper(shop, "drop view ClientPhone")
    spoil(shop, client)
    ended = shop.sync("quarantine", "retry", expect=3)
    assert why in ended.out
    assert shop.value("select count(*) from _quarantine") == 1
    assert shop.value("select count(*) from Client where _id = ?", client) == 0


def test_what_cannot_be_fetched_within_the_maintenance_window_remains_and_is_no_failure(shop: Shop, world: World) -> None:
    shop.configure(maintenance="11:30-12:30", zone="UTC")  # the world begins at noon
    take_the_name_of_the_phones(shop)
    world.add_phone(world.create("Client", ClientPhone_T=None))
    shop.sync("deltas", expect=3)
    tamper(shop, "drop view ClientPhone")
    shop.service.faults.append(status(500, times=2, endpoint="latest"))

    ended = shop.sync("quarantine", "retry", "--json")

    assert ended.json()["outcome"] == "maintenance"
    assert "warning: within the maintenance window ([dds] maintenance): 1 of 1 things remain in quarantine" in ended.err
    assert shop.sync("--quiet", "quarantine", "retry")[1:] == ("", "")


def test_drop_removes_what_is_named_says_so_and_applies_nothing(shop: Shop, world: World) -> None:
    kept, dropped = odd(world), odd(world)
    shop.sync("deltas", expect=3)
    ids = dict(shop.rows("select record_id, id from _quarantine"))
    ended = shop.sync("quarantine", "drop", ids[dropped][:8])
    assert f"dropped {ids[dropped]}" in ended.out
    assert dropped in ended.out
    assert shop.rows("select record_id from _quarantine") == [(kept,)]
    assert shop.value("select count(*) from Client") == 1
    assert shop.value("select command from _runs order by id desc limit 1") == "quarantine drop"


def test_drop_refuses_an_unknown_id_and_then_removes_nothing(shop: Shop, world: World) -> None:
    odd(world)
    shop.sync("deltas", expect=3)
    ended = shop.sync("quarantine", "drop", shop.value("select id from _quarantine"), "beef", expect=2)
    assert "'beef'" in ended.err
    assert shop.value("select count(*) from _quarantine") == 1
    assert shop.value("select count(*) from _runs") == 1
    shop.sync("quarantine", "drop", expect=2)
    assert shop.value("select count(*) from _quarantine") == 1


def test_another_run_is_heeded_by_what_writes_and_not_by_what_reads(shop: Shop, world: World) -> None:
    odd(world)
    shop.sync("deltas", expect=3)
    id_ = shop.value("select id from _quarantine")
    with hold(shop.mirror):
        shop.sync("quarantine", "list")
        shop.sync("quarantine", "show", id_)
        for command in (("retry",), ("drop", id_)):
            shop.sync("quarantine", *command, expect=4)
            assert "skipped" in shop.sync("quarantine", *command, "--if-running", "skip").err
    assert shop.value("select count(*) from _quarantine") == 1


def test_list_show_and_drop_need_no_service_in_the_configuration(shop: Shop, world: World) -> None:
    odd(world)
    shop.sync("deltas", expect=3)
    shop.configuration.write_text(f'[mirror]\npath = "{shop.mirror.name}"\n', encoding="utf-8")
    [id_] = short_ids(shop)
    shop.sync("quarantine", "show", id_)
    shop.sync("quarantine", "drop", id_)
    assert "[dds]" in shop.sync("quarantine", "retry", expect=2).err


def test_a_retried_record_is_met_unchanged_by_the_next_drain(shop: Shop, world: World) -> None:
    client = odd(world)
    shop.sync("deltas", expect=3)
    tamper(shop, MEND)
    shop.sync("quarantine", "retry")
    before = shop.value("select max(seq) from _changes")
    # The feed lists the record with the column that this program cannot store: set aside anew, and the record held stays.
    shop.sync("deltas", expect=3)
    assert shop.value("select max(seq) from _changes") == before
    world.edit(client, _Odd=None)
    world.advance(MINUTE)
    shop.sync("deltas")
    assert shop.value("select count(*) from _quarantine") == 0
    assert_exact(shop.mirror, world)
    assert_log_tells_one_story(shop)
