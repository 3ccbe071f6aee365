"""The simulated service does what its dials say, over real sockets."""

import ast
import json
import re
import signal
import socket
import subprocess
import sys
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from threading import Event, Thread
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest
import requests

import delta_mirror.simulator
from delta_mirror.simulator import (
    CLIENT_ID,
    CLIENT_SECRET,
    DAY,
    HOUR,
    LAG,
    MINUTE,
    SECOND,
    START,
    Clock,
    Dials,
    Service,
    Stream,
    World,
)
from delta_mirror.simulator.clock import epoch_seconds, http_date, ticks_of, written
from delta_mirror.simulator.faults import (
    Fault,
    Match,
    bad_gzip,
    drip,
    error_in_200,
    html,
    redirect,
    reset,
    slow,
    status,
    truncated,
    wrong_length,
)
from delta_mirror.simulator.feed import Feed
from delta_mirror.simulator.salon import Body, rows

CLIENTS = Stream(11, 9, "Client")
LONG_AGO = START - 6 * DAY
ALL_CLIENTS = {"TenantId": 11, "LocationId": 9, "StartDate": written(LONG_AGO), "ItemsPerPage": 200}


class Caller:
    """A partner who knows the address, the credentials, and nothing else."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.session = requests.Session()
        self.renew()

    def renew(self) -> None:
        sent = {"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        answer = self.session.post(self.service.url + "/oauth2/token", data=sent, timeout=5)
        self.session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def get(self, path: str, **query: object) -> requests.Response:
        asked = {name: str(value) for name, value in query.items()}
        return self.session.get(self.service.url + path, params=asked, timeout=5, allow_redirects=False)

    def changes(self, entity: str = "Client", **query: object) -> requests.Response:
        return self.get(f"/publicapi/v1/cdc/entity/{entity}/changes", **{**ALL_CLIENTS, **query})

    def names(self, **query: Any) -> list[str]:
        return [record["FirstName"] for record in self.records(**query)]

    def records(self, entity: str = "Client", **query: Any) -> list[dict[str, Any]]:
        answer = self.changes(entity, **query)
        assert answer.status_code == 200, answer.text
        return [next(iter(entry.values())) for entry in answer.json()["data"]]

    def pages(self, size: int, first: int = 0, **query: Any) -> Iterator[list[str]]:
        """All pages of one listing, up to the first empty one, as first names."""
        for number in range(first, 10_000):
            names = self.names(PageNumber=number, ItemsPerPage=size, **query)
            if not names:
                return
            yield names


@contextmanager
def calling(world: World, dials: Dials | None = None) -> Iterator[Caller]:
    with Service(world, dials) as service:
        caller = Caller(service)
        with caller.session:
            yield caller


def row_of(number: int) -> World:
    """A world of so many clients, named 000, 001, ... in the order of their dates, one second apart."""
    world = World()
    for place in range(number):
        world.create("Client", FirstName=f"{place:03}", date=START - HOUR + place * SECOND)
    return world


def date_of(place: int) -> int:
    return START - HOUR + place * SECOND


# --- the clock and the world ---------------------------------------------------------------------------------------------------


def test_time_is_written_and_read_to_the_tick() -> None:
    assert written(START + 1) == "2026-05-04T12:00:00.0000001+00:00"
    assert written(START, "-04:00") == "2026-05-04T08:00:00.0000000-04:00"
    assert written(START, "+05:30") == "2026-05-04T17:30:00.0000000+05:30"
    assert written(START, "Z") == "2026-05-04T12:00:00.0000000Z"
    for offset in ("Z", "-04:00", "+05:30"):
        assert ticks_of(written(START + 1234567, offset)) == START + 1234567
    assert http_date(START + 9_999_999) == "Mon, 04 May 2026 12:00:00 GMT"
    assert epoch_seconds(START) == 1777896000


def test_the_clock_stands_until_it_is_told_to_move_and_never_goes_back() -> None:
    clock = Clock()
    assert clock.now == START
    clock.advance(MINUTE)
    assert clock.now == START + MINUTE
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-1)


def test_a_running_clock_shows_the_time_of_this_machine() -> None:
    clock = Clock.running()
    assert abs(epoch_seconds(clock.now) - time.time()) < 5
    assert clock.now <= clock.now


def all_bodies(world: World) -> list[Body]:
    return [change.body for stream in world.streams() for change in world.history(stream).changes]


def lively(seed: int) -> World:
    world = World(seed)
    world.populate(clients=20, employees=5, appointments=10, sales=10, schedules=3, actuals=3)
    world.busy_hour(1, 300)
    return world


def test_a_world_is_the_same_again_from_its_seed_and_other_from_another() -> None:
    assert all_bodies(lively(1)) == all_bodies(lively(1))
    assert all_bodies(lively(1)) != all_bodies(lively(2))


def test_a_busy_hour_takes_its_hour_and_may_be_had_twice() -> None:
    world = lively(1)
    before = world.now
    one, two = world.busy_hour(7, 50), world.busy_hour(7, 50, over=90 * SECOND)
    assert world.now == before + HOUR + 90 * SECOND
    assert len({change.seq for change in one + two}) == 100
    assert len({world.busy_hour(7, 1)[0].entity for _ in range(20)}) > 1
    assert [change.date for change in one + two] == sorted(change.date for change in one + two)


def test_a_busy_hour_holds_every_kind_of_change() -> None:
    world = lively(1)
    found = set()
    for stream in world.streams():
        by_id: dict[str, bool] = {}
        for change in world.history(stream).changes:
            was = by_id.get(change.id)
            gone = change.body.get("ObjectStateEnum") == 2028
            found.add({None: "create", False: "delete" if gone else "edit", True: "still" if gone else "revive"}[was])
            by_id[change.id] = gone
    assert found == {"create", "delete", "edit", "still", "revive"}
    assert any(body.get("IsRefund") for body in all_bodies(world))


def test_nothing_that_is_null_stands_in_a_record() -> None:
    def empty(value: object) -> bool:
        if isinstance(value, dict):
            return any(map(empty, value.values()))
        return value is None or value == [] or (isinstance(value, list) and any(map(empty, value)))

    assert not any(map(empty, all_bodies(lively(1))))


def test_dates_rise_strictly_while_the_clock_stands() -> None:
    world = World()
    client = world.create("Client")
    dates = [world.newest(client).date, *(world.edit(client).date for _ in range(3))]
    assert dates == [START, START + 1, START + 2, START + 3]


def test_new_records_were_created_when_they_were_updated_and_changed_ones_were_not() -> None:
    world = World()
    client = world.create("Client")
    body = world.newest(client).body
    assert body["DateCreated"] == body["DateUpdated"] == START
    body = world.edit(client, FirstName="Else").body
    assert (body["DateCreated"], body["DateUpdated"]) == (START, START + 1)


def test_tied_changes_bear_one_date_and_rising_versions() -> None:
    world = World()
    with world.tied() as date:
        ids = [world.create("Client") for _ in range(3)]
    changes = [world.newest(client) for client in ids]
    assert {change.date for change in changes} == {date}
    assert [change.body["EntityVersion"] for change in changes] == [0x07000000, 0x07000001, 0x07000002]
    assert world.newest(world.create("Client")).date > date


def test_versions_are_random_where_that_is_asked_for() -> None:
    world = World(random_versions=True)
    client = world.create("Client")
    versions = [world.edit(client).body["EntityVersion"] for _ in range(20)]
    assert versions != sorted(versions, key=str)
    assert len(set(versions)) == 20


def test_a_records_own_dates_do_not_go_back() -> None:
    world = World()
    ahead = world.create("Client", date=START + 30 * DAY)
    assert world.edit(ahead).date == START + 30 * DAY + 1
    with pytest.raises(ValueError, match="do not go back"):
        world.edit(ahead, date=START)
    assert world.newest(world.create("Client")).date < START + SECOND


def test_a_change_leaves_the_record_as_it_was_before_alone() -> None:
    world = World()
    client = world.create("Client")
    while len(rows(world.newest(client).body, "ClientPhone_T")) != 2:
        client = world.create("Client")
    before = json.dumps(world.newest(client).body)
    old = world.newest(client)
    world.add_phone(client, "5550111")
    world.alter(client, lambda body: rows(body, "ClientPhone_T")[0].clear())
    assert json.dumps(old.body) == before
    assert [len(rows(change.body, "ClientPhone_T")) for change in world.history(CLIENTS).changes if change.id == client] == [
        2,
        3,
        3,
    ]


def test_a_table_goes_with_its_last_row_and_a_column_with_its_value() -> None:
    world = World()
    client = world.create("Client", EmailAddress="someone@example.com", ClientPhone_T=None)
    world.add_phone(client)
    assert "ClientPhone_T" not in world.remove_phone(client).body
    assert "EmailAddress" not in world.edit(client, EmailAddress=None).body


def test_a_refund_is_a_new_sale_with_negative_amounts() -> None:
    world = World()
    sale = world.create("Sale")
    taken = world.newest(world.refund(sale)).body
    sold = world.newest(sale).body
    assert taken["EntityId"] != sold["EntityId"]
    for table, column in (("SaleLine_L", "FinalPrice"), ("SalePayment_L", "Amount")):
        amounts = [row[column] for row in rows(sold, table)]
        assert [-row[column] for row in rows(taken, table)] == amounts  # type: ignore[operator]
        assert {row["EntityId"] for row in rows(taken, table)} == {taken["EntityId"]}


def test_deleting_an_employee_names_the_day_or_leaves_it_out() -> None:
    world = World()
    one, two = world.create("Employee"), world.create("Employee")
    assert world.delete(one).body["TerminatedDate"] == START
    assert "TerminatedDate" not in world.delete(two, plain=True).body
    assert "TerminatedDate" not in world.revive(one).body
    with pytest.raises(ValueError, match="no deleted Sale"):
        world.delete(world.create("Sale"))


def test_an_appointment_without_lines_is_deleted_by_its_own_row() -> None:
    world = World()
    bare = world.create("Appointment", AppointmentService_L=None)
    assert not world.is_deleted(bare)
    assert world.delete(bare).body["AppointFinalStateEnum"] == 2052
    assert world.is_deleted(bare)
    world.revive(bare)
    assert not world.is_deleted(bare)


def test_a_client_of_two_locations_changes_in_both() -> None:
    world = World()
    shared = world.create("Client", locations=(9, 10))
    alone = world.create("Client", locations=(10,))
    world.edit(shared, FirstName="Else")
    for location, ids in ((9, {shared}), (10, {shared, alone})):
        newest = world.history(Stream(11, location, "Client")).newest
        assert set(newest) == ids
        assert newest[shared].body["FirstName"] == "Else"


def test_populating_spreads_dates_over_the_days_before_now() -> None:
    world = World()
    world.populate(clients=100, over=5 * DAY, phones=3, shared=0.5)
    dates = [world.newest(client).date for client in world.ids("Client")]
    assert (min(dates), dates == sorted(set(dates))) == (START - 5 * DAY, True)
    assert START - 2 * HOUR < max(dates) < START
    assert all(len(rows(world.newest(client).body, "ClientPhone_T")) == 3 for client in world.ids("Client"))
    assert 20 < sum(len(world.newest(client).locations) == 2 for client in world.ids("Client")) < 80


# --- calls ---------------------------------------------------------------------------------------------------------------------


def test_a_token_comes_for_credentials_in_a_form_or_in_json() -> None:
    with Service(World()) as service:
        sent = {"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        one = requests.post(service.url + "/oauth2/token", data=sent, timeout=5)
        two = requests.post(service.url + "/oauth2/token", json=sent, timeout=5)
        assert one.json()["access_token"].count(".") == 2
        assert one.json()["access_token"] != two.json()["access_token"]
        assert (one.json()["token_type"], one.json()["expires_in"], service.tokens_issued) == ("Bearer", 3600, 2)
        assert service.calls[0].form == ("grant_type", "client_id", "client_secret")
        assert CLIENT_SECRET not in repr(service.calls)


def test_a_token_is_refused_to_wrong_credentials_and_to_a_secret_in_the_query() -> None:
    with Service(World()) as service:
        wrong = requests.post(service.url + "/oauth2/token", data={"client_id": CLIENT_ID, "client_secret": "guess"}, timeout=5)
        assert (wrong.status_code, wrong.json()["error"]) == (401, "invalid_client")
        right = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        query = requests.post(service.url + "/oauth2/token", params=right, data=right, timeout=5)
        assert (query.status_code, service.tokens_issued) == (400, 0)


def test_a_token_ends_after_an_hour_on_the_worlds_clock() -> None:
    world = World()
    with calling(world) as caller:
        world.advance(HOUR - 1)
        assert caller.changes().status_code == 200
        world.advance(1)
        refused = caller.changes()
        assert (refused.status_code, refused.json()["message"]) == (401, "Token Exception")
        caller.renew()
        assert caller.changes().status_code == 200
        caller.service.forget_tokens()
        assert caller.changes().status_code == 401
        assert requests.get(caller.service.url + "/apps/tenant", timeout=5).status_code == 401


@pytest.mark.parametrize("suffixed", [False, True])
def test_tenants_are_listed_with_their_locations_and_address(suffixed: bool) -> None:
    with calling(World(tenants={11: (9, 10), 12: (1,)}), Dials(suffixed_url=suffixed)) as caller:
        listed = caller.get("/apps/tenant").json()
        assert [(one["tenantId"], [place["locationId"] for place in one["locations"]]) for one in listed] == [
            (11, [9, 10]),
            (12, [1]),
        ]
        assert {one["publicApiUrl"] for one in listed} == {caller.service.url + ("/publicapi" if suffixed else "")}


def test_the_envelope_is_that_of_the_documents() -> None:
    with calling(row_of(3)) as caller:
        page = caller.changes(PageNumber=0, ItemsPerPage=2).json()
        about = {"pageNumber": 0, "itemsPerPage": 2, "tenantId": 11, "locationId": 9}
        assert page["request"] == {"entityType": "Client", "startDate": written(LONG_AGO), **about}
        assert {name: page[name] for name in about} == about
        assert page["lastChangeDateIncludedInPage"] == written(date_of(1))
        assert re.fullmatch(r"[0-9a-f-]{36}", page["referenceId"])
        assert [list(entry) for entry in page["data"]] == [["Client_T"], ["Client_T"]]
        assert "lastChangeDateIncludedInPage" not in caller.changes(PageNumber=2).json()
        assert caller.changes().json()["referenceId"] != page["referenceId"]


def test_pages_hold_twenty_unless_told_and_two_hundred_at_most() -> None:
    with calling(row_of(201)) as caller:
        query = {"TenantId": "11", "LocationId": "9", "StartDate": written(LONG_AGO)}
        plain = caller.get("/publicapi/v1/cdc/entity/Client/changes", **query)
        assert (len(plain.json()["data"]), plain.json()["itemsPerPage"]) == (20, 20)
        assert caller.changes(ItemsPerPage=500).json()["itemsPerPage"] == 200
        assert len(caller.names(ItemsPerPage=500)) == 200
        assert caller.names(ItemsPerPage=500, PageNumber=1) == ["200"]


def test_parameters_are_known_in_any_case() -> None:
    with calling(row_of(1)) as caller:
        query = {"TENANTID": "11", "locationid": "9", "startDATE": written(LONG_AGO)}
        assert caller.get("/publicapi/v1/cdc/entity/Client/changes", **query).status_code == 200


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"StartDate": "yesterday"}, 400),
        ({"StartDate": "2026-05-04T00:00:00.0000000 00:00"}, 400),  # what an unencoded plus sign becomes
        ({"PageNumber": -1}, 400),
        ({"PageNumber": "one"}, 400),
        ({"ItemsPerPage": 0}, 400),
        ({"TenantId": "x"}, 400),
        ({"TenantId": 12}, 404),
        ({"LocationId": 8}, 404),
        ({"entity": "Nobody"}, 404),
        ({"entity": "EmployeeSchedule"}, 403),
    ],
)
def test_what_cannot_be_answered_is_refused_in_the_services_own_json(asked: dict[str, Any], code: int) -> None:
    with calling(World()) as caller:
        refused = caller.changes(**asked)
        assert refused.status_code == code
        assert {"error", "message", "referenceId"} == set(refused.json())


def test_a_single_record_comes_in_the_same_envelope() -> None:
    world = row_of(3)
    with calling(world) as caller:
        client = world.ids("Client")[1]
        path = "/publicapi/v1/cdc/entity/Client/latest/"
        page = caller.get(path + client, TenantId=11, LocationId=9).json()
        assert [entry["Client_T"]["FirstName"] for entry in page["data"]] == ["001"]
        assert caller.get(path + client.upper(), TenantId=11, LocationId=9).status_code == 200
        assert caller.get(path + client, TenantId=11, LocationId=10).status_code == 404
        assert caller.get(path + "nobody", TenantId=11, LocationId=9).json()["message"] == "No such record"


def test_enums_are_names_with_keys_and_labels() -> None:
    with calling(World()) as caller:
        enums = caller.get("/publicapi/v1/system/enums", TenantId=11, LocationId=9).json()
        assert enums["ObjectState"]["2028"] == "Deleted"


def test_each_entity_has_the_shape_of_the_facts() -> None:
    world = World()
    everything = ("Client", "Employee", "Appointment", "Sale", "EmployeeSchedule", "EmployeeActual")
    world.populate(
        clients=40, employees=9, appointments=9, sales=4, schedules=4, actuals=9, locations=(9,)
    )  # fmt: skip
    with calling(world, Dials(enabled=everything)) as caller:
        tables: dict[str, set[str]] = {}
        for entity in everything:
            for record in caller.records(entity):
                assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", record["EntityId"])
                assert re.fullmatch(r"2026-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}\+00:00", record["DateUpdated"])
                names = {name for name, value in record.items() if isinstance(value, list) and isinstance(value[0], dict)}
                tables[entity] = tables.get(entity, set()) | names
                for line in record.get("AppointmentService_L", []):
                    for step in line.get("AppointmentServiceStep_L", []):
                        assert step["AppointService_LId"] == line["AppointService_LId"]
        assert tables == {
            "Client": {"ClientPhone_T"},
            "Employee": {"EmployeeBio_T", "EmployeeCat_L"},
            "Appointment": {"AppointmentService_L"},
            "Sale": {"SaleLine_L", "SalePayment_L"},
            "EmployeeSchedule": {"TimeCard_Employee_LSchedule"},
            "EmployeeActual": {"EmployeeClock_L", "EmployeeBreak_L"},
        }


# --- dials ---------------------------------------------------------------------------------------------------------------------


class Started(NamedTuple):
    dials: Dials
    start: str
    first: str


@pytest.mark.parametrize(
    "case",
    [
        Started(Dials(), written(date_of(5)), "006"),
        Started(Dials(start_inclusive=True), written(date_of(5)), "005"),
        Started(Dials(), written(date_of(5) - 1), "005"),
        Started(Dials(start_precision="1s"), written(date_of(5) - 1), "005"),
        Started(Dials(start_precision="1s"), written(date_of(5) + 9_999_999), "006"),
        Started(Dials(start_precision="1s", start_rounding="nearest"), written(date_of(5) - 1), "006"),
        Started(Dials(start_precision="ms", start_inclusive=True), written(date_of(5) + 9_999), "005"),
        Started(Dials(start_precision="ms", start_inclusive=True), written(date_of(5) + 10_000), "006"),
        Started(Dials(start_precision="1/300s", start_inclusive=True), written(date_of(5) + 33_333), "005"),
        Started(Dials(start_precision="1/300s", start_inclusive=True), written(date_of(5) + 33_334), "006"),
        Started(Dials(), written(date_of(5), "-04:00"), "006"),
        Started(Dials(start_offset_ignored=True), written(date_of(5) - 4 * HOUR, "+04:00"), "006"),
        Started(Dials(start_offset_ignored=True, written_offset="-04:00"), written(date_of(5), "-04:00"), "006"),
        Started(Dials(start_offset_ignored=True, written_offset="-04:00"), written(date_of(5) - 4 * HOUR), "006"),
    ],
)
def test_start_date_is_read_as_the_dials_say(case: Started) -> None:
    with calling(row_of(10), case.dials) as caller:
        assert caller.names(StartDate=case.start)[0] == case.first


@pytest.mark.parametrize("offset", ["+00:00", "-04:00", "Z", "+05:30"])
def test_dates_are_written_at_the_dials_offset(offset: str) -> None:
    with calling(row_of(1), Dials(written_offset=offset)) as caller:
        page = caller.changes().json()
        assert page["lastChangeDateIncludedInPage"] == written(date_of(0), offset)
        assert page["data"][0]["Client_T"]["DateUpdated"] == written(date_of(0), offset)
        assert page["request"]["startDate"] == written(LONG_AGO, offset)


NAMES = [f"{place:03}" for place in range(60)]


def test_listings_ascend_by_change_date() -> None:
    world = row_of(60)
    with calling(world) as caller:
        assert caller.names() == NAMES
        world.edit(world.ids("Client")[7])
        assert caller.names() == [*NAMES[:7], *NAMES[8:], "007"]


def test_listings_descend() -> None:
    with calling(row_of(60), Dials(order="descending")) as caller:
        assert caller.names() == NAMES[::-1]


def test_listings_go_by_id() -> None:
    with calling(row_of(60), Dials(order="by_id")) as caller:
        ids = [record["EntityId"] for record in caller.records()]
        assert ids == sorted(ids)
        assert len(ids) == 60


def test_random_listings_are_stable_or_drawn_anew_at_each_call() -> None:
    world = row_of(60)
    with calling(world, Dials(order="random_stable")) as caller:
        one, two = caller.names(), caller.names()
        assert one == two != NAMES
        assert sorted(one) == NAMES
        caller.service.dials = Dials(order="random")
        one, two = caller.names(), caller.names()
        assert one != two
        assert sorted(one) == sorted(two) == NAMES


def test_ties_come_in_another_order_at_each_call_and_all_else_ascends() -> None:
    world = row_of(20)
    with world.tied():
        for place in range(20, 40):
            world.create("Client", FirstName=f"{place:03}")
    with calling(world) as caller:
        assert caller.names() == caller.names() == NAMES[:40]
        caller.service.dials = Dials(order="ascending_ties_random")
        one, two = caller.names(), caller.names()
        assert one[:20] == two[:20] == NAMES[:20]
        assert one[20:] != two[20:]
        assert sorted(one) == sorted(two) == NAMES[:40]


def test_one_record_is_out_of_order() -> None:
    world = row_of(60)
    with calling(world, Dials(order="ascending_but_one", stray=world.ids("Client")[3])) as caller:
        assert caller.names() == [*NAMES[:3], *NAMES[4:], "003"]
        assert caller.names(StartDate=written(date_of(3))) == NAMES[4:]
        caller.service.dials = Dials(order="ascending_but_one")
        stray = caller.names()[-1]
        assert caller.names() == [*(name for name in NAMES if name != stray), stray]


def test_pages_count_from_nought_or_from_one() -> None:
    with calling(row_of(5)) as caller:
        assert [caller.names(PageNumber=page, ItemsPerPage=2) for page in range(3)] == [NAMES[:2], NAMES[2:4], NAMES[4:5]]
        caller.service.dials = Dials(page_base=1)
        pages = [caller.names(PageNumber=page, ItemsPerPage=2) for page in range(5)]
        assert pages == [NAMES[:2], NAMES[:2], NAMES[2:4], NAMES[4:5], []]


def test_a_page_past_the_end_is_empty_or_404_but_the_first_is_always_a_page() -> None:
    with calling(row_of(4)) as caller:
        assert caller.names(PageNumber=2, ItemsPerPage=2) == []
        caller.service.dials = Dials(past_end="404")
        refused = caller.changes(PageNumber=2, ItemsPerPage=2)
        assert (refused.status_code, refused.json()["message"]) == (404, "No such page")
        assert caller.changes(PageNumber=0, StartDate=written(START)).json()["data"] == []
        caller.service.dials = Dials(past_end="404", page_base=1)
        assert caller.names(PageNumber=1, StartDate=written(START)) == []
        assert caller.changes(PageNumber=2, StartDate=written(START)).status_code == 404


def test_items_per_page_are_clamped() -> None:
    with calling(row_of(10), Dials(max_page_size=3)) as caller:
        assert list(caller.pages(200)) == [NAMES[:3], NAMES[3:6], NAMES[6:9], NAMES[9:10]]
        assert caller.changes(ItemsPerPage=200).json()["itemsPerPage"] == 3


def test_a_short_page_may_be_followed_by_a_full_one_and_nothing_is_left_out() -> None:
    with calling(row_of(60), Dials(short_pages=True)) as caller:
        pages = list(caller.pages(9))
        sizes = [len(page) for page in pages]
        assert [name for page in pages for name in page] == NAMES
        assert any(one < two for one, two in pairwise(sizes))
        assert max(sizes) == 9
        assert list(caller.pages(1)) == [[name] for name in NAMES]


def test_pages_shift_when_the_world_changes_between_two_calls() -> None:
    world = row_of(10)
    with calling(world) as caller:
        assert caller.names(ItemsPerPage=5) == NAMES[:5]
        world.edit(world.ids("Client")[0])
        assert caller.names(ItemsPerPage=5, PageNumber=1) == [*NAMES[6:10], "000"]


def test_older_snapshots_are_listed_where_there_is_an_entry_per_change() -> None:
    world = World()
    client = world.create("Client", FirstName="one")
    world.create("Client", FirstName="else")
    world.edit(client, FirstName="two")
    with calling(world) as caller:
        assert caller.names() == ["else", "two"]
        caller.service.dials = Dials(per_change=True)
        assert caller.names() == ["one", "else", "two"]


@pytest.mark.parametrize("per_change", [False, True])
def test_changes_stay_hidden_for_the_lag(per_change: bool) -> None:
    world = World()
    client = world.create("Client", FirstName="one")
    with calling(world, Dials(lag=LAG, per_change=per_change)) as caller:
        world.advance(LAG - 1)
        assert caller.names() == []
        world.advance(1)
        assert caller.names() == ["one"]
        world.edit(client, FirstName="two")
        assert caller.names() == (["one"] if per_change else [])
        world.settle(LAG)
        assert caller.names() == (["one", "two"] if per_change else ["two"])


def test_a_late_change_shows_after_later_ones_but_at_its_own_date() -> None:
    world = World()
    world.create("Client", FirstName="late", late=8 * MINUTE)
    world.advance(MINUTE)
    world.create("Client", FirstName="prompt")
    with calling(world) as caller:
        assert caller.names() == ["prompt"]
        world.advance(7 * MINUTE - 1)
        assert caller.names() == ["prompt"]
        world.advance(1)
        assert caller.names() == ["late", "prompt"]


def test_pages_go_on_across_changes_of_which_some_are_hidden() -> None:
    world = row_of(10)
    hidden = world.create("Client", FirstName="hidden", date=date_of(4) + 1, late=HOUR)
    with calling(world) as caller:
        assert list(caller.pages(3)) == [NAMES[:3], NAMES[3:6], NAMES[6:9], NAMES[9:10]]
        assert list(caller.pages(2)) == [NAMES[place : place + 2] for place in range(0, 10, 2)]
        world.settle()
        assert [name for page in caller.pages(3) for name in page] == [*NAMES[:5], "hidden", *NAMES[5:10]]
        assert world.now == world.newest(hidden).date + HOUR


def test_a_share_of_changes_is_late() -> None:
    world = World()
    for place in range(60):
        world.create("Client", FirstName=NAMES[place])
    with calling(world, Dials(late_share=0.5, late_by=5 * MINUTE, lag=MINUTE)) as caller:
        world.advance(MINUTE + 1000)
        prompt = caller.names()
        assert 15 < len(prompt) < 45
        assert prompt == sorted(prompt)
        world.advance(4 * MINUTE)
        assert caller.names() == prompt
        world.advance(MINUTE)
        assert caller.names() == NAMES


def test_a_change_dated_ahead_is_visible_when_it_was_made() -> None:
    world = World()
    world.create("Client", FirstName="ahead", date=START + 30 * DAY)
    with calling(world, Dials(lag=MINUTE)) as caller:
        assert caller.names() == []
        world.advance(MINUTE)
        assert caller.names() == ["ahead"]
        assert caller.changes().json()["lastChangeDateIncludedInPage"] == written(START + 30 * DAY)


def test_the_envelope_is_spelt_in_pascal_case_and_records_stay_as_they_are() -> None:
    world = World()
    world.create("Client", FirstName="000", camelColumn=1)
    with calling(world, Dials(envelope="pascal")) as caller:
        page = caller.changes(RequestId="r-1").json()
        assert page["Data"][0]["Client_T"]["camelColumn"] == 1
        assert page["Data"][0]["Client_T"]["FirstName"] == "000"
        assert page["Request"]["EntityType"] == "Client"
        assert {"LastChangeDateIncludedInPage", "PageNumber", "ReferenceId"} < set(page)
        assert page["RequestId"] == "r-1"
        assert caller.changes(StartDate="?").json()["Error"]["ErrorCode"] == "ValidationFailed"


def test_records_are_wrapped_as_snapshots() -> None:
    with calling(row_of(1), Dials(snapshot_data="string", envelope="pascal")) as caller:
        [entry] = caller.changes().json()["Data"]
        assert json.loads(entry.pop("SnapshotData"))["Client_T"]["FirstName"] == "000"
        assert not entry
        caller.service.dials = Dials(snapshot_data="object")
        assert caller.changes().json()["data"][0]["snapshotData"]["Client_T"]["FirstName"] == "000"


def test_the_last_change_is_left_out() -> None:
    with calling(row_of(1), Dials(last_change=False)) as caller:
        assert "lastChangeDateIncludedInPage" not in caller.changes().json()


def test_numbers_come_in_quotes() -> None:
    world = World()
    world.create("Client", AccountBalance=1.5, ContactPreferences={"Hours": [9], "Text": True})
    with calling(world, Dials(numbers_as_strings=True, row_version="number")) as caller:
        page = caller.changes().json()
        client = page["data"][0]["Client_T"]
        assert (client["ObjectStateEnum"], client["AccountBalance"], client["EntityVersion"]) == ("2026", "1.5", "117440512")
        assert client["ContactPreferences"] == {"Hours": ["9"], "Text": True}
        assert (page["pageNumber"], page["request"]["tenantId"]) == ("0", "11")


@pytest.mark.parametrize(
    ("form", "read"),
    [
        ("hex", lambda text: int(text, 16)),
        ("base64", lambda text: int.from_bytes(b64decode(text), "big")),
        ("number", lambda n: n),
    ],
)
def test_row_versions_are_written_in_three_ways(form: Any, read: Callable[[Any], int]) -> None:
    with calling(row_of(1), Dials(row_version=form)) as caller:
        assert read(caller.records()[0]["EntityVersion"]) == 0x07000000


def test_empty_child_tables_are_left_out_or_empty_arrays() -> None:
    world = World()
    world.create("Client", ClientPhone_T=None)
    with calling(world) as caller:
        assert "ClientPhone_T" not in caller.records()[0]
        caller.service.dials = Dials(empty_children="array")
        assert caller.records()[0]["ClientPhone_T"] == []


def test_a_child_table_that_is_withheld_does_not_come() -> None:
    world = World()
    world.populate(appointments=9, locations=(9,))
    with calling(world, Dials(omitted=frozenset({"AppointmentServiceStep_L"}), empty_children="array")) as caller:
        text = caller.changes("Appointment").text
        assert "AppointmentService_L" in text
        assert "AppointmentServiceStep_L" not in text


def test_the_date_header_is_the_worlds_or_missing() -> None:
    world = World()
    with calling(world) as caller:
        world.advance(90 * SECOND)
        assert caller.changes().headers["Date"] == "Mon, 04 May 2026 12:01:30 GMT"
        caller.service.dials = Dials(date_header=False)
        assert "Date" not in caller.changes().headers


def test_a_start_date_before_the_reach_is_clamped_or_refused() -> None:
    world = World()
    world.create("Client", FirstName="old", date=START - 8 * DAY)
    world.create("Client", FirstName="new", date=START - 6 * DAY)
    with calling(world) as caller:
        page = caller.changes(StartDate=written(START - 30 * DAY)).json()
        assert [entry["Client_T"]["FirstName"] for entry in page["data"]] == ["new"]
        assert page["request"]["startDate"] == written(START - 7 * DAY)
        caller.service.dials = Dials(too_old="400")
        assert caller.changes(StartDate=written(START - 7 * DAY - 1)).status_code == 400
        assert caller.names(StartDate=written(START - 7 * DAY)) == ["new"]


def test_answers_are_compressed_for_those_who_accept_it() -> None:
    with calling(row_of(20)) as caller:
        assert caller.changes().headers["Content-Encoding"] == "gzip"
        caller.session.headers["Accept-Encoding"] = "identity"
        assert "Content-Encoding" not in caller.changes().headers
        caller.session.headers["Accept-Encoding"] = "gzip"
        caller.service.dials = Dials(gzip=False)
        assert "Content-Encoding" not in caller.changes().headers


def test_an_entity_is_listed_only_where_it_is_enabled() -> None:
    with calling(World(), Dials(enabled=("Sale",))) as caller:
        assert caller.changes("Sale").status_code == 200
        assert caller.changes("Client").status_code == 403


@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize(
    "order", ["ascending", "ascending_ties_random", "ascending_but_one", "descending", "by_id", "random_stable"]
)
def test_the_pages_of_a_quiet_world_hold_everything_once(order: Any, short: bool) -> None:
    world = row_of(50)
    dials = Dials(order=order, short_pages=short, page_base=1, lag=MINUTE, start_inclusive=True)
    feed = Feed(world)
    cuts = [feed.cut(dials, CLIENTS, written(LONG_AGO), page, 7) for page in range(1, 20)]
    found = [change.id for cut in cuts for change in cut.changes]
    assert sorted(found) == sorted(world.ids("Client"))


# --- the log, the hook, the faults ---------------------------------------------------------------------------------------------


def test_every_request_is_logged() -> None:
    with calling(row_of(1)) as caller:
        caller.changes(PageNumber=3, RequestId="r-1")
        caller.get("/nowhere")
        token, page, lost = caller.service.calls
        assert (token.method, token.endpoint, token.status) == ("POST", "token", 200)
        assert (page.endpoint, page.entity, page.tenant, page.location, page.page, page.size) == (
            "changes",
            "Client",
            11,
            9,
            3,
            200,
        )
        assert (page.start, page.request_id, page.status, page.rows, page.at) == (written(LONG_AGO), "r-1", 200, 0, START)
        assert page.headers["authorization"].startswith("Bearer ")
        assert (lost.path, lost.endpoint, lost.status) == ("/nowhere", "unknown", 404)
        assert caller.service.pages("Client", 9) == [page]
        assert caller.service.pages("Sale") == []


def test_the_world_may_change_before_each_page_is_computed() -> None:
    world = World()
    with calling(world) as caller:
        caller.service.before_page = lambda call: world.create("Client", FirstName=f"page {call.page}")
        assert caller.names(PageNumber=0) == ["page 0"]
        assert caller.names(PageNumber=0) == ["page 0", "page 0"]


def test_what_a_hook_raises_reaches_the_test() -> None:
    def fail(call: object) -> None:
        raise LookupError("seen")

    def call() -> None:
        with calling(World()) as caller:
            caller.service.before_page = fail
            assert caller.changes().status_code == 500

    with pytest.raises(LookupError, match="seen"):
        call()


def test_a_status_comes_with_retry_after() -> None:
    with calling(row_of(1)) as caller:
        caller.service.faults += [
            status(503, retry_after=7),
            status(429, retry_after=http_date(START), body=b"slow down", content_type="text/plain"),
        ]
        one, two, three = caller.changes(), caller.changes(), caller.changes()
        assert (one.status_code, one.headers["Retry-After"], "referenceId" in one.json()) == (503, "7", True)
        assert (two.status_code, two.headers["Retry-After"], two.text) == (429, "Mon, 04 May 2026 12:00:00 GMT", "slow down")
        assert three.status_code == 200
        assert [call.status for call in caller.service.pages()] == [503, 429, 200]


def test_a_fault_strikes_what_it_matches_and_so_often() -> None:
    matches: list[tuple[Match, list[int]]] = [
        ({"entity": "Client", "times": 2}, [500, 200, 500, 200]),
        ({"location": 10, "times": None}, [200, 200, 200, 200]),
        ({"after": 2, "times": None}, [200, 200, 500, 500]),
        ({"page": 0, "endpoint": "changes"}, [500, 200, 200, 200]),
        ({"endpoint": "token"}, [200, 200, 200, 200]),
    ]
    with calling(World()) as caller:
        for match, codes in matches:
            caller.service.faults[:] = [status(500, **match)]
            found = [caller.changes(entity, PageNumber=0).status_code for entity in ("Client", "Sale", "Client", "Client")]
            assert found == codes, match


def test_html_errors_and_redirects_come_instead_of_json() -> None:
    with calling(World()) as caller:
        caller.service.faults += [html(), html(404), error_in_200("Broken"), redirect("https://example.com/")]
        for code in (200, 404):
            answer = caller.changes()
            assert (answer.status_code, answer.headers["Content-Type"]) == (code, "text/html; charset=utf-8")
        answer = caller.changes()
        assert (answer.status_code, answer.json()["Error"]["ErrorCode"]) == (200, "Broken")
        answer = caller.changes()
        assert (answer.status_code, answer.headers["Location"]) == (302, "https://example.com/")


@pytest.mark.parametrize("fault", [reset, truncated])
def test_an_answer_is_broken_off(fault: Callable[[], Fault]) -> None:
    with calling(row_of(20)) as caller:
        caller.service.faults.append(fault())
        with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)) as broken:
            caller.changes()
        assert ("reset by peer" if fault is reset else "IncompleteRead") in repr(broken.value)
        assert caller.changes().status_code == 200
        assert [call.status for call in caller.service.pages()] == [None if fault is reset else 200, 200]


def test_an_answer_cannot_be_unpacked() -> None:
    with calling(row_of(1)) as caller:
        caller.service.faults.append(bad_gzip())
        with pytest.raises(requests.exceptions.ContentDecodingError):
            caller.changes()
        assert caller.changes().status_code == 200


@pytest.mark.parametrize("off_by", [-7, 7])
def test_an_answer_names_a_wrong_length(off_by: int) -> None:
    with calling(row_of(1)) as caller:
        caller.session.headers["Accept-Encoding"] = "identity"
        length = len(caller.changes().content)
        caller.service.faults.append(wrong_length(off_by))
        address = caller.service.url + f"/publicapi/v1/cdc/entity/Client/changes?{urlencode(ALL_CLIENTS)}"
        with caller.session.get(address, stream=True, timeout=5) as answer:
            assert int(answer.headers["Content-Length"]) == length + off_by
            there = min(length, length + off_by)
            assert len(answer.raw.read(there)) == there


def test_an_answer_comes_byte_by_byte_until_it_is_let_go() -> None:
    with calling(row_of(1)) as caller:
        whole = caller.names()
        caller.service.faults.append(drip(Event(), 0.0))
        assert caller.names() == whole
        release, arrived = Event(), []
        caller.service.faults.append(drip(release, 600.0))
        waiting = Thread(target=lambda: arrived.append(caller.names()))
        waiting.start()
        while len(caller.service.pages()) < 3 or caller.service.pages()[-1].status is None:
            assert waiting.is_alive()
        assert not arrived
        release.set()
        waiting.join(5)
        assert arrived == [whole]


def test_a_slow_answer_waits_for_its_release() -> None:
    with calling(row_of(1)) as caller:
        release, arrived = Event(), []
        caller.service.faults.append(slow(release))
        waiting = Thread(target=lambda: arrived.append(caller.names()))
        waiting.start()
        while not caller.service.pages():
            assert waiting.is_alive()
        with requests.Session() as other:
            for _ in range(20):
                assert other.get(caller.service.url + "/apps/tenant", timeout=5).status_code == 401
        assert not arrived
        release.set()
        waiting.join(5)
        assert arrived == [["000"]]


def test_a_service_ends_at_once_although_connections_are_open_and_a_call_is_held_back() -> None:
    with requests.Session() as session, Service(World()) as service:
        idle = socket.create_connection(("127.0.0.1", int(service.url.rpartition(":")[2])))
        service.faults.append(slow(Event()))
        failed: list[object] = []

        def call() -> None:
            try:
                failed.append(session.get(service.url + "/apps/tenant", timeout=30).status_code)
            except requests.ConnectionError as error:
                failed.append(error)

        waiting = Thread(target=call)
        waiting.start()
        while not service.calls:
            assert waiting.is_alive()
        begin = time.monotonic()
    waiting.join(5)
    idle.close()
    assert time.monotonic() - begin < 2
    assert len(failed) == 1


def test_connections_are_kept_alive() -> None:
    with calling(row_of(1)) as caller:
        caller.changes()
        answer = caller.session.get(caller.service.url + "/apps/tenant", timeout=5, stream=True)
        assert answer.raw.connection is not None
        local = answer.raw.connection.sock.getsockname()
        answer.content  # noqa: B018 - read to its end, so that the connection goes back to the pool
        again = caller.session.get(caller.service.url + "/apps/tenant", timeout=5, stream=True)
        assert again.raw.connection is not None
        assert again.raw.connection.sock.getsockname() == local
        again.close()


# --- the program ----------------------------------------------------------------------------------------------------------------


def test_the_program_prints_its_address_and_ends_on_sigterm() -> None:
    command = [
        sys.executable,
        "-m",
        "delta_mirror.simulator",
        "--clients",
        "5",
        "--location",
        "9",
        "--dial",
        "max_page_size=2",
        "--dial",
        "order=descending",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        url = program.stdout.readline().strip()
        line = program.stdout.readline().split()
        form = {line[0]: line[1], line[2]: line[3]}
        token = requests.post(url + "/oauth2/token", data=form, timeout=5).json()["access_token"]
        asked = {"TenantId": "11", "LocationId": "9", "StartDate": written(Clock.running().now - 6 * DAY)}
        address = url + "/publicapi/v1/cdc/entity/Client/changes"
        page = requests.get(address, asked, headers={"Authorization": "Bearer " + token}, timeout=5).json()
        dates = [entry["Client_T"]["DateUpdated"] for entry in page["data"]]
        assert dates == sorted(dates, reverse=True)
        assert len(dates) == 2
        program.send_signal(signal.SIGTERM)
        assert program.wait(5) == 0


def test_the_program_refuses_a_dial_that_there_is_not() -> None:
    command = [sys.executable, "-m", "delta_mirror.simulator", "--dial", "volume=11"]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert refused.returncode == 2
    assert "no such dial: volume" in refused.stderr


def test_the_simulator_imports_nothing_of_the_program() -> None:
    folder = Path(delta_mirror.simulator.__file__).parent
    found = set()
    for source in folder.glob("*.py"):
        for node in ast.walk(ast.parse(source.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom):
                found.add(node.module or "")
            elif isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
    ours = {name for name in found if name.startswith("delta_mirror")}
    assert ours
    assert all(name.startswith("delta_mirror.simulator") for name in ours)
    assert {name.partition(".")[0] for name in found - ours} <= sys.stdlib_module_names | {"orjson"}
