"""`sync deltas`, promise by promise: the whole command on a real mirror, against the simulated service.

In-process runs only where the program's own clock has to be steered; everything else is the installed program.
"""

import json
import signal
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from typing import Literal

import pytest
from installed import Held, Shop, assert_log_tells_one_story, assert_sound, wait_until_it_listens

from delta_mirror.core.values import read_ticks
from delta_mirror.errors import BudgetError, LimitedError
from delta_mirror.jobs.deltas import run_deltas
from delta_mirror.simulator import DAY, HOUR, MINUTE, SECOND, START, Dials, Service, World
from delta_mirror.simulator.clock import epoch_seconds, ticks_of, written
from delta_mirror.simulator.faults import Fault, error_in_200, html, redirect, reset, slow, status, truncated
from delta_mirror.simulator.salon import rows
from delta_mirror.simulator.service import Call
from oracle import assert_exact, own_rows


def only_clients(shop: Shop, size: int = 200, *, calls_per_day: int = 0, calls_per_minute: int = 0) -> None:
    """Let *shop* follow one stream: the clients of location 9."""
    shop.configure(
        entities=["Client"],
        locations=[(11, 9)],
        items_per_page=size,
        calls_per_day=calls_per_day,
        calls_per_minute=calls_per_minute,
    )


def some_clients(world: World, number: int, *, over: int = DAY) -> None:
    """Create so many clients at location 9."""
    world.populate(clients=number, locations=(9,), over=over)


# --- 1: REPLACE, never UPDATE --------------------------------------------------------------------------------------------------


def test_a_column_absent_from_the_new_record_is_null_and_an_absent_child_is_gone(shop: Shop, world: World) -> None:
    client = world.create("Client", EmailAddress="ada@example.com", Nick="A.", ClientPhone_T=None)
    world.add_phone(client, "5550100")
    world.add_phone(client, "5550101")
    shop.fill()
    assert shop.value("select count(*) from ClientPhone") == 2
    world.advance(MINUTE)
    world.edit(client, EmailAddress=None, Nick="")
    world.remove_phone(client, 0)
    world.advance(MINUTE)
    shop.sync("deltas")
    assert shop.rows("select EmailAddress, Nick from Client") == [(None, "")]
    assert shop.rows("select PhoneNumber, _n from ClientPhone") == [("5550101", 0)]
    world.remove_phone(client, 0)
    world.advance(MINUTE)
    shop.sync("deltas")
    assert shop.value("select count(*) from ClientPhone") == 0
    assert_exact(shop.mirror, world)


def test_a_value_is_kept_as_sent_when_its_type_changes(shop: Shop, world: World) -> None:
    client = world.create("Client", ExternalId="0012", LoyaltyPoints=12)
    seen = []
    shop.sync("deltas")
    for external, points in (("0012", 12), (12, "12"), (0.5, 12.5), ("1e3", True), (9007199254740993, "")):
        world.edit(client, ExternalId=external, LoyaltyPoints=points)
        world.advance(MINUTE)
        shop.fill()
        seen += shop.rows("select ExternalId, typeof(ExternalId), LoyaltyPoints, typeof(LoyaltyPoints) from Client")
        assert_exact(shop.mirror, world)
    assert seen == [
        ("0012", "text", 12, "integer"),
        (12, "integer", "12", "text"),
        (0.5, "real", 12.5, "real"),
        ("1e3", "text", 1, "integer"),
        (9007199254740993, "integer", "", "text"),
    ]


def test_columns_and_tables_never_seen_before_are_added_and_said(shop: Shop, world: World) -> None:
    client = world.create("Client")
    shop.sync("deltas")
    world.edit(client, ShoeSize=42, ClientPet_T=[{"PetName": "Rex"}])
    world.advance(MINUTE)
    ended = shop.sync("deltas")
    assert "column ShoeSize added to table Client" in ended.err
    assert "table ClientPet added" in ended.err
    assert shop.rows("select ShoeSize from Client") == [(42,)]
    assert shop.rows("select PetName from ClientPet") == [("Rex",)]


def test_a_record_sent_again_unchanged_writes_nothing_and_logs_nothing(shop: Shop, world: World) -> None:
    some_clients(world, 30, over=5 * MINUTE)  # all of them within the overlap
    only_clients(shop)
    shop.fill()
    before = shop.contents(without=HOUSEKEEPING)
    told = shop.sync("deltas", "--json").json()
    assert (told["unchanged"], told["inserted"], told["replaced"]) == (30, 0, 0)
    assert shop.contents(without=HOUSEKEEPING) == before


# --- 2: deletes ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deletes", ["remove", "mark"])
def test_deletes_leave_tombstones_and_a_revived_record_is_whole_again(
    shop: Shop, world: World, deletes: Literal["remove", "mark"]
) -> None:
    shop.configure(mirror={"deletes": deletes})
    world.populate(clients=8, employees=8, appointments=8, sales=4, phones=2, over=HOUR)
    shop.fill()
    doomed = [world.ids(entity)[place] for entity in ("Client", "Employee", "Appointment") for place in (0, 1)]
    for place, record in enumerate(doomed):
        world.delete(record, plain=bool(place % 2))
    mixed = next(key for key in world.ids("Appointment")[2:] if len(rows(world.newest(key).body, "AppointmentService_L")) > 1)
    world.cancel_line(mixed)
    world.advance(MINUTE)
    told = shop.sync("deltas", "--json").json()
    assert told["deleted"] == sum(len(world.newest(record).locations) for record in doomed)
    assert_exact(shop.mirror, world, deletes)
    assert {row["id"] for row in own_rows(shop.mirror, "_tombstones")} == set(doomed)
    marked = {key for (key,) in shop.rows("select _id from Client where _deleted_at is not null")}
    assert marked == (set(doomed[:2]) if deletes == "mark" else set())
    if deletes == "remove":
        assert not shop.rows("select * from ClientPhone where _id in (?, ?)", *doomed[:2])

    for record in doomed:
        world.revive(record)
    world.advance(MINUTE)
    told = shop.sync("deltas", "--json").json()
    assert told["revived"] == sum(len(world.newest(record).locations) for record in doomed)
    assert not own_rows(shop.mirror, "_tombstones")
    assert_exact(shop.mirror, world, deletes)
    assert_log_tells_one_story(shop)


def test_a_deletion_of_something_never_held_leaves_a_tombstone_and_no_change(shop: Shop, world: World) -> None:
    client = world.create("Client", EmailAddress="gone@example.com")
    world.delete(client)
    shop.sync("deltas")
    assert shop.rows("select op from _changes") == []
    [(record,)] = shop.rows("select record from _tombstones")
    assert json.loads(record)["Client"][0]["EmailAddress"] == "gone@example.com"
    assert_exact(shop.mirror, world)


def test_silence_deletes_no_sale(shop: Shop, world: World) -> None:
    world.populate(sales=20, over=HOUR)
    shop.fill()
    world.refund(world.ids("Sale")[0])
    world.advance(3 * DAY)
    shop.sync("deltas")
    world.advance(3 * DAY)
    shop.sync("deltas")
    assert shop.value("select count(*) from Sale") == 21
    assert_exact(shop.mirror, world)


# --- 4: few calls --------------------------------------------------------------------------------------------------------------


def test_a_quiet_stream_costs_two_calls_a_run_and_the_pages_that_are_read_again(shop: Shop, world: World) -> None:
    some_clients(world, 95, over=2 * HOUR)
    only_clients(shop, size=10)
    shop.fill()
    again = []
    for changes in (0, 0, 25, 0, 0):
        for record in world.ids("Client")[:changes]:
            world.edit(record)
            world.advance(SECOND)
        if changes:
            shop.fill()
        world.advance(15 * MINUTE)
        before = len(shop.service.pages())
        shop.fill()
        start = ticks_of(shop.service.pages()[before].start or "")
        again.append(sum(world.newest(record).date > start for record in world.ids("Client")))
        assert shop.pages_since(before) <= 2 + again[-1] // 10 + 1
    assert again[2:] == [25, 25, 25]
    world.advance(DAY)
    shop.configure(entities=["Sale"], locations=[(11, 9)])  # of which there never was one
    for _ in range(2):
        before = len(shop.service.pages())
        shop.sync("deltas")
        assert shop.pages_since(before) <= 2


def test_an_ordered_drain_costs_its_pages_and_a_handful_by_the_page_size_that_is_granted(shop: Shop, world: World) -> None:
    some_clients(world, 400)
    for size, granted in ((40, 40), (200, 25)):
        shop.mirror.unlink(missing_ok=True)
        shop.service.dials = Dials(max_page_size=granted)
        only_clients(shop, size=size)
        before = len(shop.service.pages())
        shop.sync("deltas")
        assert 400 // granted <= shop.pages_since(before) <= 400 // (granted - 1) + 5
        assert shop.value("select count(*) from Client") == 400


def test_an_unordered_drain_costs_at_most_twenty_passes_and_keeps_what_it_has(shop: Shop, world: World) -> None:
    some_clients(world, 60)
    only_clients(shop, size=10)
    shop.service.dials = Dials(order="random")
    shop.service.before_page = lambda call: world.busy_hour(call.at, 2, over=SECOND, entities=("Client",))
    ended = shop.sync("deltas", expect=None)
    assert len(shop.service.pages()) <= 20 * (60 // 10 + 12)
    assert shop.value("select count(*) from Client") >= 50
    if ended.code:
        assert shop.stream()["watermark"] is None
        assert "did not hold still" in shop.stream()["last_error"]
    shop.service.before_page = None
    shop.fill()
    shop.sync("deltas")
    assert_exact(shop.mirror, world, streams=[s for s in world.streams() if s.entity == "Client" and s.location == 9])


# --- 5: the watermark follows the data -----------------------------------------------------------------------------------------


def test_a_drain_that_is_broken_off_goes_on_from_its_place(shop: Shop, world: World) -> None:
    some_clients(world, 100)
    only_clients(shop, size=10)
    shop.service.faults.append(truncated(endpoint="changes", after=4))
    ended = shop.sync("deltas", expect=3)
    assert "error: " in ended.err
    held = shop.value("select count(*) from Client")
    state = shop.stream()
    assert held == 4 * 10 - 3  # each page but the first begins with the last record of the page before
    assert (state["state"], state["watermark"], state["caught_up_at"]) == ("failing", None, None)
    # Data and place are one: the place is the newest change date that is held, and the next call is asked from there.
    assert json.loads(state["place"])["last"] == shop.value("select max(_ticks) from Client")
    before = len(shop.service.pages())
    shop.fill()
    first = shop.service.pages()[before]
    assert first.start is not None
    assert ticks_of(first.start) == json.loads(state["place"])["last"] - 1
    assert shop.stream()["place"] is None
    assert (shop.stream()["state"], shop.stream()["last_error"]) == ("following", None)
    assert_exact(shop.mirror, world)
    assert_log_tells_one_story(shop)


def test_a_drain_that_used_up_its_passes_before_it_was_broken_off_begins_anew_in_the_same_run(shop: Shop, world: World) -> None:
    some_clients(world, 60)
    only_clients(shop, size=10)
    shop.service.dials = Dials(order="descending")
    shop.service.faults.append(truncated(endpoint="changes", after=4))
    shop.fill(expect="unfinished")
    place = json.loads(shop.stream()["place"])
    assert place["mode"] == "sweeping"
    with closing(sqlite3.connect(shop.mirror)) as mirror, mirror:  # as if its pages had moved for nineteen passes before
        mirror.execute("update _streams set place = ?", (json.dumps(place | {"passes": 19}),))
    shop.fill()
    assert shop.stream()["last_error"] is None
    assert_exact(shop.mirror, world)


def test_data_and_place_of_a_page_are_committed_together_or_not_at_all(shop: Shop, world: World) -> None:
    some_clients(world, 50)
    only_clients(shop, size=10)
    shop.service.faults.append(reset(endpoint="changes", after=2))
    shop.fill(expect="unfinished")
    held, place = shop.value("select count(*) from Client"), shop.stream()["place"]
    poisoned = world.ids("Client")[25]
    with closing(sqlite3.connect(shop.mirror)) as mirror:  # a defect in the middle of a page, as far as the program can tell
        mirror.execute(f"create index poison on Client (iif(_id = '{poisoned}', abs(-9223372036854775808), 0))")
    shop.sync("deltas", expect=1)
    assert shop.value("select count(*) from Client") == held
    assert shop.stream()["place"] == place
    assert_sound(shop)
    with closing(sqlite3.connect(shop.mirror)) as mirror:
        mirror.execute("drop index poison")
    shop.sync("deltas")
    assert_exact(shop.mirror, world)
    assert_log_tells_one_story(shop)


def test_the_watermark_waits_for_the_end_of_the_drain_and_never_goes_back(shop: Shop, world: World) -> None:
    some_clients(world, 60)
    only_clients(shop, size=10)
    shop.fill()
    marks = [shop.stream()["watermark"]]
    assert read_ticks(marks[0]) == world.newest(world.ids("Client")[-1]).date
    for record in world.ids("Client"):
        world.edit(record)
        world.advance(SECOND)
    shop.service.faults.append(reset(endpoint="changes", after=3))
    shop.sync("deltas", expect=3)
    assert shop.stream()["watermark"] == marks[0]
    assert_sound(shop)
    for since in ((), ("--since", "2026-05-01T00:00:00Z"), ()):
        shop.sync("deltas", *since)
        marks.append(shop.stream()["watermark"])
        world.edit(world.ids("Client")[3])
        world.advance(MINUTE)
    ticks = [read_ticks(mark) or 0 for mark in marks]
    assert ticks == sorted(ticks)
    assert ticks[-1] > ticks[0]


def test_the_watermark_is_kept_as_the_service_wrote_it_to_its_last_digit(shop: Shop, world: World) -> None:
    world.create("Client", date=START - HOUR + 1234567)
    shop.service.dials = Dials(written_offset="-04:00")
    shop.sync("deltas")
    assert shop.stream()["watermark"] == "2026-05-04T07:00:00.1234567-04:00"


def test_a_date_ahead_of_the_clock_never_becomes_the_watermark(shop: Shop, world: World) -> None:
    some_clients(world, 5, over=HOUR)
    ahead = world.create("Client", date=world.now + 30 * DAY)
    only_clients(shop)
    shop.fill()
    assert (read_ticks(shop.stream()["watermark"]) or 0) <= world.now
    assert shop.value("select count(*) from Client where _id = ?", ahead) == 1
    world.advance(HOUR)
    some_clients(world, 5, over=HOUR)
    shop.sync("deltas")
    assert_exact(shop.mirror, world)


# --- 6: never backwards, never emptied -----------------------------------------------------------------------------------------

HOUSEKEEPING = ("_runs", "_calls", "_call_times", "_streams")  # what every run writes
LIES: dict[str, Callable[[], Fault]] = {
    "an Error in a 200": lambda: error_in_200(endpoint="changes", times=None),
    "a sign-in page in a 200": lambda: html(200, endpoint="changes", times=None),
    "a gateway's 404": lambda: html(404, endpoint="changes", times=None),
    "the service's own 404": lambda: status(404, endpoint="changes", times=None),
    "a 500": lambda: status(500, endpoint="changes", times=None),
    "half an answer": lambda: truncated(endpoint="changes", times=None),
    "a redirect": lambda: redirect("/login", endpoint="changes", times=None),
    "an empty body": lambda: status(200, body=b"", endpoint="changes", times=None),
    "an empty list": lambda: status(200, body=b"[]", endpoint="changes", times=None),
    "an object without data": lambda: status(200, body=b"{}", endpoint="changes", times=None),
    "data that is no list": lambda: status(200, body=b'{"data": {}}', endpoint="changes", times=None),
}


def test_the_mirror_is_never_emptied_by_an_answer_that_is_no_page(shop: Shop, world: World) -> None:
    some_clients(world, 12, over=5 * MINUTE)
    only_clients(shop)
    shop.fill()
    world.edit(world.ids("Client")[0], FirstName="new")
    world.advance(MINUTE)
    state, before = shop.stream(), shop.contents(without=HOUSEKEEPING)
    for name, lie in LIES.items():
        shop.service.faults[:] = [lie()]
        [report] = shop.fill(expect="unfinished").streams
        assert shop.contents(without=HOUSEKEEPING) == before, name
        now = shop.stream()
        assert (now["watermark"], now["caught_up_at"]) == (state["watermark"], state["caught_up_at"]), name
        assert (now["state"], now["last_error"]) == ("failing", str(report.error)), name
    ended = shop.sync("--quiet", "deltas", expect=3)
    assert ended.err == f"error: {shop.stream()['last_error']}\n"
    shop.service.faults.clear()
    shop.sync("deltas")
    assert_exact(shop.mirror, world)


def page_of(*entries: object, changed: str | None = None) -> bytes:
    """Return a page as the service sends it."""
    page = {"lastChangeDateIncludedInPage": changed} if changed else {}
    return json.dumps({**page, "referenceId": "0f0f0f0f-0000-4000-8000-000000000001", "data": entries}).encode()


def entry_of(client: str, changed: int, **columns: object) -> dict[str, object]:
    """Return one entry for a client."""
    return {"Client_T": {"TenantId": 11, "EntityId": client, "DateUpdated": written(changed), "ObjectStateEnum": 2026, **columns}}


def test_a_version_with_a_strictly_earlier_date_does_not_overwrite_a_newer_one(shop: Shop, world: World) -> None:
    client = world.create("Client", FirstName="new")
    only_clients(shop)
    shop.fill()
    date = world.newest(client).date
    old = page_of(entry_of(client, date - 1, FirstName="old"), changed=written(date))
    shop.service.faults.append(status(200, body=old, endpoint="changes"))
    told = shop.sync("deltas", "--json").json()
    assert told["superseded"] == 1
    assert shop.rows("select FirstName from Client") == [("new",)]
    same = page_of(entry_of(client, date, FirstName="same date, other content"), changed=written(date))
    shop.service.faults.append(status(200, body=same, endpoint="changes", page=0))
    shop.service.faults.append(status(200, body=page_of(), endpoint="changes", times=None))
    told = shop.sync("deltas", "--json", expect=None).json()
    assert told["replaced"] == 1
    assert shop.rows("select FirstName from Client") == [("same date, other content",)]


def test_row_versions_that_are_random_refuse_no_update(shop: Shop) -> None:
    world = World(seed=5, random_versions=True)
    world.populate(clients=30, over=DAY, locations=(9,))
    with Service(world) as service:
        shop.service = service
        only_clients(shop)
        for _ in range(3):
            for record in world.ids("Client"):
                world.edit(record, LoyaltyPoints=world.count)
            world.advance(MINUTE)
            assert shop.sync("deltas", "--json").json()["superseded"] == 0
        assert_exact(shop.mirror, world)


# --- 7: one writer -------------------------------------------------------------------------------------------------------------


def test_a_second_run_ends_with_exit_4_at_once_and_calls_nothing(shop: Shop, world: World) -> None:
    some_clients(world, 30)
    only_clients(shop, size=10)
    held = Held()
    shop.service.faults.append(slow(held, endpoint="changes", after=1))
    with shop.held_run(held, "deltas") as first:
        calls = len(shop.service.calls)
        ended = shop.sync("deltas", expect=4)
        assert f"another run (process {first.pid}) holds" in ended.err
        shop.sync("deltas", "--dry-run", expect=4)
        assert shop.sync("--quiet", "deltas", "--if-running", "skip") == (0, "", "")
        assert len(shop.service.calls) == calls
        held.set()
        shop.end(first)
    assert shop.value("select count(*) from _runs") == 1
    assert_exact(shop.mirror, world)


def test_a_run_that_waits_for_another_one_goes_on_after_it_and_can_be_stopped(shop: Shop, world: World) -> None:
    some_clients(world, 30)
    only_clients(shop, size=10)
    held = Held()
    shop.service.faults.append(slow(held, endpoint="changes", after=1))
    with shop.held_run(held, "deltas") as first:
        waiting = ("deltas", "--if-running", "wait")
        with shop.running(*waiting) as waits, shop.running(*waiting) as stopped:
            wait_until_it_listens(stopped)
            stopped.send_signal(signal.SIGTERM)
            shop.end(stopped, expect=143)
            held.set()
            shop.end(first)
            shop.end(waits)
    assert shop.rows("select id, outcome from _runs") == [(1, "done"), (2, "done")]


# --- 8: one bad stream or record does not stop the others ----------------------------------------------------------------------


def test_a_refused_stream_does_not_stop_the_others(shop: Shop, world: World) -> None:
    world.populate(clients=30, employees=8, appointments=20, sales=20, over=DAY)
    shop.service.faults.append(status(403, entity="Sale", location=9, times=None))
    ended = shop.sync("deltas", expect=3)
    [complaint] = ended.err.split("error: ")[1:]
    assert "Sale of tenant 11, location 9" in complaint
    assert "referenceId" in complaint
    assert_exact(shop.mirror, world, streams=[s for s in world.streams() if (s.location, s.entity) != (9, "Sale")])
    states = {(place, entity): state for place, entity, state in shop.rows("select location_id, entity, state from _streams")}
    assert Counter(states.values()) == {"following": 7, "failing": 1}
    assert states[9, "Sale"] == "failing"
    shop.service.faults.clear()
    shop.fill()
    assert_exact(shop.mirror, world)


def test_a_location_where_every_stream_is_refused_is_left_alone_for_a_while(shop: Shop, world: World) -> None:
    world.populate(clients=10, sales=10, over=DAY)
    shop.service.faults.append(status(403, location=9, times=None))
    ended = shop.sync("deltas", expect=3)
    assert "every stream" in ended.err
    before = len(shop.service.pages(location=9))
    shop.sync("deltas", expect=3)
    assert len(shop.service.pages(location=9)) == before
    assert len(shop.service.pages(location=10)) > 0


def test_a_broken_record_goes_to_quarantine_whole_and_counts_once(shop: Shop, world: World) -> None:
    some_clients(world, 20, over=5 * MINUTE)
    broken = world.create("Client", FirstName="Odd", _Odd="x", ClientPhone_T=None)
    world.add_phone(broken, "5550199")
    last = world.create("Client", FirstName="behind it")
    only_clients(shop)
    world.advance(MINUTE)
    ended = shop.sync("deltas", expect=3)
    assert "1 record could not be applied and is in quarantine" in ended.err
    [row] = own_rows(shop.mirror, "_quarantine")
    assert (row["entity"], row["record_id"]) == ("Client", broken)
    assert "underscore" in str(row["reason"])
    for part in ("Odd", "5550199", broken):
        assert part in str(row["body"])
    # It holds nothing back: not the others, not the watermark.
    assert shop.value("select count(*) from Client") == 21
    assert read_ticks(shop.stream()["watermark"]) == world.newest(last).date
    assert shop.stream()["state"] == "following"

    shop.sync("deltas")  # met again, and not new any more
    [again] = own_rows(shop.mirror, "_quarantine")
    assert {key: value for key, value in again.items() if key != "last_seen_at"} == {
        key: value for key, value in row.items() if key != "last_seen_at"
    }
    world.edit(broken, _Odd=None)
    world.advance(MINUTE)
    shop.fill()
    assert not own_rows(shop.mirror, "_quarantine")
    assert_exact(shop.mirror, world)


# --- 9: the budget -------------------------------------------------------------------------------------------------------------


class Patience(threading.Event):
    """A stop event whose waits pass on the clock of the world, at once."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        self.waited: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        """Let the time pass."""
        assert timeout is not None
        self.waited.append(timeout)
        self._world.advance(round(timeout * SECOND) + 1)
        return self.is_set()


def world_clock(world: World) -> Callable[[], float]:
    """Return the program's own clock: that of the world."""
    return lambda: epoch_seconds(world.now)


def test_the_calls_of_a_day_are_kept_over_runs_and_given_anew_the_next_day(shop: Shop, world: World) -> None:
    some_clients(world, 200)
    only_clients(shop, size=10, calls_per_day=12)
    now = world_clock(world)
    [report] = run_deltas(shop.config(), now=now).streams
    assert isinstance(report.error, BudgetError)
    assert len(shop.service.pages()) == 12
    world.advance(HOUR)
    [report] = run_deltas(shop.config(), now=now).streams
    assert isinstance(report.error, BudgetError)
    assert len(shop.service.pages()) == 12
    held = shop.value("select count(*) from Client")
    assert held > 100
    world.advance(DAY)
    run_deltas(shop.config(), now=now)
    assert len(shop.service.pages()) == 24
    assert shop.value("select count(*) from Client") > held
    assert [calls for (calls,) in shop.rows("select calls from _calls order by day")] == [12, 12]


def test_a_spent_budget_is_exit_3_and_says_when_calls_are_given_anew(shop: Shop, world: World) -> None:
    some_clients(world, 200)
    only_clients(shop, size=10, calls_per_day=5)
    ended = shop.sync("deltas", expect=3)
    assert "the 5 calls of this day ([dds] calls_per_day) are spent" in ended.err
    assert "T00:00:00Z" in ended.err


def test_no_sixty_seconds_see_more_calls_than_a_minute_may_have(shop: Shop, world: World) -> None:
    some_clients(world, 150)
    only_clients(shop, size=10, calls_per_minute=7)
    stop = Patience(world)
    for _ in range(2):  # two runs share the minute
        report = run_deltas(shop.config(), stop=stop, now=world_clock(world))
        assert report.outcome == "done"
    times = sorted(call.at for call in shop.service.pages())
    assert len(times) > 14
    assert all(later - earlier >= 60 * SECOND for earlier, later in zip(times, times[7:], strict=False))
    assert stop.waited


def test_a_short_retry_after_is_waited_for_and_every_attempt_counts(shop: Shop, world: World) -> None:
    some_clients(world, 10)
    shop.configure(entities=["Client"], locations=[(11, 9)], http={"attempts": 6, "max_wait": "60s"})
    shop.service.faults.append(status(429, retry_after=17, endpoint="changes", times=2))
    stop = Patience(world)
    report = run_deltas(shop.config(), stop=stop, now=world_clock(world))
    assert report.outcome == "done"
    assert stop.waited == [17.0, 17.0]
    first, second, third = [call.at for call in shop.service.pages()][:3]
    assert second - first >= 17 * SECOND
    assert third - second >= 17 * SECOND
    assert report.calls == shop.public_calls() == shop.value("select sum(calls) from _calls")


def test_a_retry_after_beyond_max_wait_quiets_the_next_runs_too(shop: Shop, world: World) -> None:
    world.populate(clients=20, sales=20, over=DAY)
    shop.configure(http={"attempts": 6, "max_wait": "60s"}, parallel=1, entities=["Client", "Sale"])
    shop.service.faults.append(status(429, retry_after=3600, location=9))
    now = world_clock(world)
    report = run_deltas(shop.config(), stop=Patience(world), now=now)
    assert [each.stream.location_id for each in report.streams if isinstance(each.error, LimitedError)] == [9, 9]
    assert len(shop.service.pages(location=9)) == 1
    world.advance(50 * MINUTE)
    report = run_deltas(shop.config(), stop=Patience(world), now=now)
    assert len(shop.service.pages(location=9)) == 1
    assert [each.error for each in report.streams if each.stream.location_id == 10] == [None, None]
    world.advance(11 * MINUTE)
    report = run_deltas(shop.config(), stop=Patience(world), now=now)
    assert report.outcome == "done"
    assert_exact(shop.mirror, world)


def test_a_limit_of_the_service_ends_the_command_with_exit_3(shop: Shop, world: World) -> None:
    some_clients(world, 10)
    shop.service.faults.append(status(503, retry_after=7200, location=9))
    ended = shop.sync("deltas", expect=3)
    assert "asks for a pause of 7200 s" in ended.err
    before = len(shop.service.pages(location=9))
    ended = shop.sync("deltas", expect=3)
    assert "nothing was called" in ended.err
    assert len(shop.service.pages(location=9)) == before


def test_a_token_is_fetched_once_for_each_location(shop: Shop, world: World) -> None:
    world.populate(clients=60, employees=8, appointments=20, sales=30, over=DAY)
    shop.configure(items_per_page=10, locations=[(11, 9), (11, 10)], parallel=8)
    shop.sync("deltas")
    of_location = {
        location: {call.headers["authorization"] for call in shop.service.pages(location=location)} for location in (9, 10)
    }
    assert [len(tokens) for tokens in of_location.values()] == [1, 1]
    assert not of_location[9] & of_location[10]
    assert shop.service.tokens_issued <= 3  # the third is the marketplace's own


def test_a_token_that_runs_out_is_renewed_once(shop: Shop, world: World) -> None:
    some_clients(world, 60)
    only_clients(shop, size=10)

    def run_out(call: Call) -> None:
        if len(shop.service.pages()) == 3:
            shop.service.forget_tokens()

    shop.service.before_page = run_out
    shop.sync("deltas")
    assert Counter(call.status for call in shop.service.pages())[401] == 1
    assert len({call.headers["authorization"] for call in shop.service.pages()}) == 2
    assert_exact(shop.mirror, world)


def test_a_token_refused_again_at_once_ends_the_stream_with_two_calls(shop: Shop, world: World) -> None:
    some_clients(world, 10)
    only_clients(shop)
    shop.service.faults.append(status(401, endpoint="changes", times=None))
    ended = shop.sync("deltas", expect=3)
    assert "refuses a token that it has just issued" in ended.err
    assert len(shop.service.pages()) == 2


def test_refused_credentials_are_offered_once_and_end_with_exit_3(shop: Shop, world: World) -> None:
    some_clients(world, 10)
    shop.configure(client_secret="another-secret")
    ended = shop.sync("deltas", expect=3)
    assert "does not accept the credentials" in ended.err
    assert "another-secret" not in ended.err + ended.out
    assert len(shop.service.calls) == 1


# --- 10: a gap is said ---------------------------------------------------------------------------------------------------------


def test_a_mirror_left_alone_for_too_long_has_a_gap_and_is_followed_on(shop: Shop, world: World) -> None:
    some_clients(world, 20)
    only_clients(shop)
    shop.fill()
    caught_up = shop.stream()["caught_up_at"]
    world.edit(world.ids("Client")[0], FirstName="lost")
    world.advance(9 * DAY)
    world.edit(world.ids("Client")[1], FirstName="found")
    world.advance(MINUTE)
    ended = shop.sync("deltas", expect=3)
    state = shop.stream()
    assert (state["state"], state["gap_from"]) == ("gap", caught_up)
    reach = world.now - 7 * DAY + 10 * MINUTE
    assert 0 <= (read_ticks(state["gap_to"]) or 0) - reach <= MINUTE
    assert "run `sync full-starter`" in ended.err
    assert caught_up in ended.err
    assert shop.value("select FirstName from Client where _id = ?", world.ids("Client")[1]) == "found"
    # It stays until a starter closes it, and the stream is followed on meanwhile.
    world.edit(world.ids("Client")[2], FirstName="later")
    world.advance(MINUTE)
    shop.sync("deltas", expect=3)
    assert shop.stream()["gap_to"] == state["gap_to"]
    assert shop.value("select FirstName from Client where _id = ?", world.ids("Client")[2]) == "later"
    told = shop.sync("status", "--json").json()["streams"]
    assert [(each["state"], each["gap_from"], each["gap_to"]) for each in told] == [("gap", caught_up, state["gap_to"])]


def test_a_stream_refused_for_over_a_day_has_a_gap(shop: Shop, world: World) -> None:
    world.populate(clients=10, sales=5, over=HOUR)
    shop.configure(locations=[(11, 9)], entities=["Client", "Sale"])
    shop.fill()
    caught_up = shop.stream("Sale")["caught_up_at"]
    shop.service.faults.append(status(403, entity="Sale", times=None))
    for pause, state in ((HOUR, "failing"), (23 * HOUR, "failing"), (2 * HOUR, "gap")):
        world.advance(pause)
        shop.sync("deltas", expect=3)
        assert shop.stream("Sale")["state"] == state
    assert shop.stream("Sale")["gap_from"] == caught_up
    assert shop.stream("Client")["state"] == "following"


def test_clock_that_was_days_ahead_takes_no_changes_with_it_where_the_service_sends_no_time(shop: Shop, world: World) -> None:
    some_clients(world, 20)
    only_clients(shop)
    shop.service.dials = Dials(date_header=False)
    days = 3

    def now() -> float:
        return epoch_seconds(world.now) + days * 86_400

    assert run_deltas(shop.config(), now=now).outcome == "done"
    days = 0  # somebody has set the clock
    for _ in range(2):
        world.advance(HOUR)
        world.edit(world.ids("Client")[0], FirstName="Later")
        assert run_deltas(shop.config(), now=now).outcome == "done"
        assert_exact(shop.mirror, world)
        assert shop.stream()["gap_from"] is None
        assert abs((read_ticks(shop.stream()["caught_up_at"]) or 0) - world.now) < MINUTE


def test_a_quiet_stream_is_not_a_gap(shop: Shop, world: World) -> None:
    some_clients(world, 20)
    only_clients(shop)
    for _ in range(4):
        shop.fill()
        world.advance(4 * DAY)
    shop.sync("deltas")
    state = shop.stream()
    assert world.now - (read_ticks(state["watermark"]) or 0) > 15 * DAY
    assert (state["state"], state["gap_from"]) == ("following", None)
    world.edit(world.ids("Client")[0], FirstName="awake")
    world.advance(MINUTE)
    shop.sync("deltas")
    assert_exact(shop.mirror, world)


# --- --since -------------------------------------------------------------------------------------------------------------------


def test_since_reads_from_there_and_the_watermark_does_not_go_back(shop: Shop, world: World) -> None:
    some_clients(world, 20)
    only_clients(shop)
    shop.fill()
    before = shop.stream()
    world.advance(HOUR)
    pages = len(shop.service.pages())
    shop.sync("deltas", "--since", "2026-05-02T02:00:00+02:00")
    assert (shop.service.pages()[pages].start or "").startswith("2026-05-02T00:00:00")
    after = shop.stream()
    assert after["watermark"] == before["watermark"]
    assert (read_ticks(after["caught_up_at"]) or 0) >= (read_ticks(before["caught_up_at"]) or 0)


def test_since_later_than_the_usual_start_does_not_jump_over_a_hole(shop: Shop, world: World) -> None:
    some_clients(world, 20)
    only_clients(shop)
    shop.fill()
    before = shop.stream()
    world.advance(HOUR)
    world.edit(world.ids("Client")[0], FirstName="in the hole")
    world.advance(3 * HOUR)
    world.edit(world.ids("Client")[1], FirstName="behind it")
    world.advance(MINUTE)
    shop.sync("deltas", "--since", written(world.now - HOUR, "Z"))
    after = shop.stream()
    assert (after["watermark"], after["caught_up_at"]) == (before["watermark"], before["caught_up_at"])
    assert shop.value("select count(*) from Client where FirstName = 'behind it'") == 1
    assert shop.value("select count(*) from Client where FirstName = 'in the hole'") == 0
    shop.sync("deltas")
    assert_exact(shop.mirror, world)


@pytest.mark.parametrize("text", ["2026-05-04T12:00:00", "yesterday", "10", "2026-13-01T00:00:00Z", ""])
def test_since_without_a_zone_or_sense_is_refused(shop: Shop, text: str) -> None:
    ended = shop.sync("deltas", "--since", text, expect=2)
    assert "--since" in ended.err
    assert not shop.mirror.exists()
    assert not shop.service.calls


# --- --dry-run -----------------------------------------------------------------------------------------------------------------

COUNTS = ("inserted", "replaced", "deleted", "revived", "unchanged", "superseded")


@pytest.mark.parametrize("as_json", [False, True])
def test_a_dry_run_without_a_mirror_creates_no_file(shop: Shop, world: World, *, as_json: bool) -> None:
    world.populate(clients=20, sales=5, over=DAY)
    before = sorted(shop.folder.iterdir())
    ended = shop.sync("deltas", "--dry-run", *(["--json"] if as_json else []))
    assert sorted(shop.folder.iterdir()) == before
    if as_json:
        told = ended.json()
        assert told["id"] is None
        assert told["inserted"] == shop.sync("deltas", "--json").json()["inserted"] > 20
    else:
        assert "nothing written" in ended.out


def test_a_dry_run_says_what_a_real_one_then_does_and_writes_only_the_count_of_calls(shop: Shop, world: World) -> None:
    world.populate(clients=60, employees=8, appointments=20, sales=20, over=DAY)
    shop.configure(items_per_page=10)
    shop.fill()
    for seed in range(2):
        world.busy_hour(seed, 60)
        world.advance(MINUTE)
        counting = ("_calls", "_call_times")
        before, calls = shop.contents(without=counting), shop.value("select sum(calls) from _calls")
        dry = shop.sync("deltas", "--dry-run", "--json").json()
        assert shop.contents(without=counting) == before
        assert shop.value("select sum(calls) from _calls") == calls + dry["calls"]
        real = shop.sync("deltas", "--json").json()
        assert {key: dry[key] for key in COUNTS} == {key: real[key] for key in COUNTS}
        assert sum(dry[key] for key in COUNTS) > 30
    assert_exact(shop.mirror, world)
