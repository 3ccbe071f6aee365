"""`sync refetch`: single records fetched anew, through the installed program."""

import signal
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import orjson
import pytest
from installed import Held, Shop, assert_log_tells_one_story

from delta_mirror.jobs.deltas import run_deltas
from delta_mirror.jobs.refetch import run_refetch
from delta_mirror.mirror.lock import hold
from delta_mirror.simulator import HOUR, MINUTE, START, Stream, World
from delta_mirror.simulator.clock import epoch_seconds
from delta_mirror.simulator.faults import slow, status
from oracle import assert_exact

STREAM_STATE = "select watermark, caught_up_at, last_success_at, state, habits, debt, place from _streams order by 1, 2, 3"
PROMPT = 2.0  # seconds


def singles(shop: Shop) -> list[tuple[int | None, str | None]]:
    """Return location and id of every call for a single record so far."""
    return [(call.location, call.record_id) for call in shop.service.calls if call.endpoint == "latest"]


def outcomes(records: Sequence[dict[str, Any]]) -> list[tuple[int, str]]:
    """Return location and outcome of each record of a report."""
    return [(each["location_id"], each["outcome"]) for each in records]


def tamper(shop: Shop, sql: str, *values: str | int) -> None:
    """Spoil the mirror, as no run would."""
    with closing(sqlite3.connect(shop.mirror)) as mirror, mirror:
        mirror.execute(sql, values)


def test_a_spoilt_record_is_as_the_service_has_it_again_and_the_log_says_what_differed(shop: Shop, world: World) -> None:
    client = world.create("Client", FirstName="Ada")
    world.add_phone(client, "5550100")
    world.create("Client", FirstName="Bo")
    shop.sync("deltas")
    state = shop.rows(STREAM_STATE)
    tamper(shop, "update Client set FirstName = 'Eve' where _id = ?", client)
    tamper(shop, "delete from ClientPhone where _id = ?", client)

    report = shop.sync("refetch", "Client", client, "--json").json()

    assert outcomes(report["records"]) == [(9, "replaced")]
    assert (report["command"], report["outcome"], report["replaced"], report["calls"]) == ("refetch", "done", 1, 1)
    assert_exact(shop.mirror, world)
    fields = orjson.loads(shop.value("select fields from _changes where run_id = ?", report["id"]))
    assert fields["FirstName"] == ["Eve", "Ada"]
    assert set(fields) >= {"FirstName", "ClientPhone"}
    assert shop.rows(STREAM_STATE) == state, "a single record says nothing about its stream"
    assert shop.rows("select command, outcome, calls, replaced from _runs where id = ?", report["id"]) == [
        ("refetch", "done", 1, 1)
    ]


def test_every_outcome_is_told_record_by_record(shop: Shop, world: World) -> None:
    held, gone, back = (world.create("Client") for _ in range(3))
    world.delete(back)
    shop.sync("deltas")
    world.advance(MINUTE)
    world.delete(gone)
    world.revive(back)
    new = world.create("Client")
    edited = world.create("Client")
    before = shop.value("select max(seq) from _changes")

    report = shop.sync("refetch", "Client", held, gone.upper(), back, new, edited, held, "--json").json()

    told = {each["id"]: each["outcome"] for each in report["records"] if each["outcome"] != "not here"}
    assert told == {held: "unchanged", gone: "deleted", back: "revived", new: "inserted", edited: "inserted"}
    assert (report["inserted"], report["deleted"], report["revived"], report["unchanged"]) == (2, 1, 1, 1)
    assert sorted(shop.rows("select op, id from _changes where seq > ?", before)) == sorted(
        [("delete", gone), ("revive", back), ("insert", new), ("insert", edited)]
    )
    # The feed brings the same once more, and there is nothing left to do.
    world.advance(MINUTE)
    before = shop.value("select max(seq) from _changes")
    shop.sync("deltas")
    assert shop.value("select max(seq) from _changes") == before
    assert_exact(shop.mirror, world)


def test_an_older_version_does_not_overwrite_a_newer_one(shop: Shop, world: World) -> None:
    client = world.create("Client", FirstName="older")
    old = world.newest(client)
    world.advance(MINUTE)
    world.edit(client, FirstName="newer")
    shop.sync("deltas")
    with world.lock:  # a replica of the service that lags behind
        world.history(Stream(11, 9, "Client")).newest[client] = old
    report = shop.sync("refetch", "Client", client, "--json").json()
    assert (outcomes(report["records"]), report["superseded"]) == ([(9, "superseded")], 1)
    assert shop.value("select FirstName from Client") == "newer"


def test_a_record_is_asked_for_where_the_mirror_knows_it_and_a_new_one_everywhere(shop: Shop, world: World) -> None:
    here, there, both = (world.create("Client", locations=places) for places in ((9,), (10,), (9, 10)))
    shop.sync("deltas")
    new = world.create("Client", locations=(10,))
    before = len(singles(shop))
    report = shop.sync("refetch", "Client", here, there, both, new, "--json").json()
    # (A 404 makes the program ask for the address once more, and so for this record twice.)
    assert set(singles(shop)[before:]) == {(9, here), (10, there), (9, both), (10, both), (9, new), (10, new)}
    assert [each["outcome"] for each in report["records"] if each["id"] == new] == ["not here", "inserted"]
    assert report["outcome"] == "done"
    assert sum(calls for (calls,) in shop.rows("select calls from _calls")) == len(
        [call for call in shop.service.calls if call.endpoint in ("changes", "latest", "enums")]
    )


def test_locations_that_are_selected_are_asked_and_no_others(shop: Shop, world: World) -> None:
    both = world.create("Client", locations=(9, 10))
    here = world.create("Client", locations=(9,))
    shop.sync("deltas")
    report = shop.sync("refetch", "Client", both, "--location", "10", "--json").json()
    assert outcomes(report["records"]) == [(10, "unchanged")]
    ended = shop.sync("refetch", "Client", here, "--location", "10", "--json", expect=3)
    assert outcomes(ended.json()["records"]) == [(10, "not found")]
    assert shop.value("select count(*) from Client where _id = ? and _location_id = 9", here) == 1
    assert "no stream is selected" in shop.sync("refetch", "Client", both, "--location", "12", expect=3).err


def test_a_record_that_the_service_does_not_know_is_said_and_stays(shop: Shop, world: World) -> None:
    lost, held = world.create("Client"), world.create("Client", FirstName="old")
    shop.sync("deltas")
    with world.lock:
        del world.history(Stream(11, 9, "Client")).newest[lost]
    world.advance(MINUTE)
    world.edit(held, FirstName="new")
    rows = shop.rows("select * from Client where _id = ?", lost)
    ended = shop.sync("refetch", "Client", lost, held, expect=3)
    assert f"{lost}  tenant 11, location 9, Client: not found" in ended.out
    assert "absence is no deletion" in ended.err
    assert lost not in ended.err, "messages bear no ids"
    assert shop.rows("select * from Client where _id = ?", lost) == rows
    assert shop.value("select FirstName from Client where _id = ?", held) == "new", "one bad record does not stop the others"
    assert shop.value("select outcome from _runs order by id desc limit 1") == "unfinished"


def test_a_record_that_no_location_knows_is_not_found(shop: Shop, world: World) -> None:
    world.create("Client")
    shop.sync("deltas")
    ended = shop.sync("refetch", "Client", "00000000-0000-4000-8000-000000000000", "--json", expect=3)
    assert outcomes(ended.json()["records"]) == [(9, "not found"), (10, "not found")]


def test_quiet_says_nothing_of_a_success_and_names_what_is_not_done(shop: Shop, world: World) -> None:
    held = world.create("Client")
    shop.sync("deltas")
    assert shop.sync("--quiet", "refetch", "Client", held)[1:] == ("", "")
    shop.service.faults.append(status(503, endpoint="latest"))
    ended = shop.sync("--quiet", "refetch", "Client", held, expect=3)
    assert ended.out == f"{held}  tenant 11, location 9, Client: failed\n"
    assert "503" in ended.err


def test_a_record_that_cannot_be_applied_goes_to_quarantine(shop: Shop, world: World) -> None:
    client = world.create("Client", FirstName="Ada")
    shop.sync("deltas")
    world.advance(MINUTE)
    world.edit(client, _Odd="x")
    ended = shop.sync("refetch", "Client", client, expect=3)
    assert "underscore" in ended.out
    assert shop.rows("select record_id, source from _quarantine") == [(client, "refetch")]
    assert shop.value("select FirstName from Client") == "Ada"
    # As in the feed it is a new thing only once; but that it is not applied stays true.
    report = shop.sync("refetch", "Client", client, "--json", expect=3).json()
    assert (report["quarantined"], outcomes(report["records"])) == (0, [(9, "quarantined")])


def test_an_answer_that_holds_another_record_is_not_taken(shop: Shop, world: World) -> None:
    client, other = world.create("Client", FirstName="Ada"), world.create("Client", FirstName="Bo")
    shop.sync("deltas")
    world.advance(MINUTE)
    wrong = world.edit(other, FirstName="Cy")
    with world.lock:
        world.history(Stream(11, 9, "Client")).newest[client] = wrong
    ended = shop.sync("refetch", "Client", client, expect=3)
    assert "another record" in ended.err
    assert sorted(shop.rows("select FirstName from Client")) == [("Ada",), ("Bo",)]


def test_refetched_records_share_the_budget_of_their_location(shop: Shop, world: World) -> None:
    clients = [world.create("Client") for _ in range(4)]
    shop.configure(locations=[(11, 9)], calls_per_minute=0, entities=["Client", "Sale"])
    shop.sync("deltas")
    spent = shop.value("select calls from _calls")
    shop.configure(locations=[(11, 9)], entities=["Client"], calls_per_day=spent + 2)
    ended = shop.sync("refetch", "Client", *clients, "--json", expect=3)
    assert sorted(each["outcome"] for each in ended.json()["records"]) == ["failed", "failed", "unchanged", "unchanged"]
    assert shop.value("select calls from _calls") == spent + 2
    assert "given anew at" in ended.err


def test_refetched_records_leave_the_other_entities_what_they_need_of_the_day(shop: Shop, world: World) -> None:
    clients = [world.create("Client") for _ in range(40)]
    noon = epoch_seconds(START)
    shop.configure(locations=[(11, 9)], entities=["Client", "Sale"], calls_per_day=40)
    run_deltas(shop.config(), now=lambda: noon)
    report = run_refetch(shop.config(), "Client", clients, now=lambda: noon)
    # Half of the day is left, and so half of the twenty calls that are the sales'.
    spent = orjson.loads(shop.value("select by_entity from _calls"))
    assert spent["Client"] == 30 - spent["Sale"]
    assert {record.outcome for record in report.records} == {"unchanged", "failed"}
    assert any("kept for the other entities" in (record.why or "") for record in report.records)


def test_what_is_no_id_and_what_is_no_mirror_is_refused(shop: Shop, world: World) -> None:
    client = world.create("Client")
    ended = shop.sync("refetch", "Client", client, expect=2)
    assert "there is no mirror" in ended.err
    assert not shop.mirror.exists()
    shop.sync("deltas")
    runs = shop.value("select count(*) from _runs")
    for odd in ("", "..", "a\nb"):
        shop.sync("refetch", "Client", odd, expect=2)
    shop.sync("refetch", "Klient", client, expect=2)
    shop.sync("refetch", "Client", expect=2)
    assert shop.value("select count(*) from _runs") == runs


def test_another_run_is_heeded_as_the_operator_says(shop: Shop, world: World) -> None:
    client = world.create("Client")
    shop.sync("deltas")
    with hold(shop.mirror):
        shop.sync("refetch", "Client", client, expect=4)
        assert "skipped" in shop.sync("refetch", "Client", client, "--if-running", "skip").err
    assert not singles(shop)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_refetch_that_waits_for_the_service_ends_at_once(shop: Shop, world: World, number: signal.Signals) -> None:
    client = world.create("Client")
    shop.sync("deltas")
    held = Held()
    shop.service.faults.append(slow(held, endpoint="latest"))
    with shop.held_run(held, "refetch", "Client", client) as process:
        told = time.monotonic()
        process.send_signal(number)
        ended = shop.end(process, expect=128 + number)
        assert time.monotonic() - told < PROMPT
    assert "not asked" in ended.out
    assert shop.value("select outcome from _runs order by id desc limit 1") == "stopped"


def test_a_deadline_ends_a_refetch_with_exit_3(shop: Shop, world: World) -> None:
    client = world.create("Client")
    shop.sync("deltas")
    held = Held()
    shop.service.faults.append(slow(held, endpoint="latest"))
    with shop.held_run(held, "refetch", "Client", client, "--deadline", "1s") as process:
        ended = shop.end(process, expect=3)
    assert "deadline" in ended.err
    assert "not asked" in ended.out


def test_a_refetch_between_two_drains_leaves_them_exact(shop: Shop, world: World) -> None:
    world.populate(clients=20, sales=10, over=HOUR)
    shop.sync("deltas")
    world.busy_hour(3, 40, over=10 * MINUTE, entities=("Client",))
    shop.sync("refetch", "Client", *world.ids("Client")[::2])
    world.advance(MINUTE)
    shop.sync("deltas")
    assert_exact(shop.mirror, world)
    assert_log_tells_one_story(shop)
