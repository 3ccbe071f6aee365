"""The oracle itself: it passes what is exact and tells every kind of difference."""

import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from delta_mirror.simulator import Dials, World
from delta_mirror.simulator.salon import appointment, client
from oracle import Node, Row, assert_exact, differences, expected_rows, is_deleted, mirror_rows, nodes_of, table_of


def salon() -> World:
    world = World(seed=5, tenants={11: (9,)})
    world.populate(clients=12, employees=4, appointments=6, sales=5)
    world.busy_hour(1, 80)
    return world


def write_mirror(path: Path, world: World, dials: Dials | None = None, deletes: str = "remove") -> None:
    """Write by hand what an exact mirror of *world* holds, the children of a record in reverse order."""
    dials = dials or Dials()
    tables: dict[str, list[dict[str, object]]] = {}
    tombs: list[tuple[object, ...]] = []
    for stream in world.streams():
        for change in world.history(stream).newest.values():
            nodes = nodes_of(change, stream.location, dials)
            if is_deleted(change):
                record: dict[str, list[Row]] = {}
                for node in nodes:
                    record.setdefault(node.table, []).append(node.row)
                tombs.append((*stream, change.id, json.dumps(record)))
                if deletes == "remove":
                    continue
            place = {"_tenant_id": stream.tenant, "_location_id": stream.location, "_id": change.id}
            root = {**place, **nodes[0].row, "_deleted_at": "2026-01-01T00:00:00Z" if is_deleted(change) else None}
            tables.setdefault(stream.entity, []).append(root)
            numbers: dict[int, int] = {}
            children: dict[str, list[Node]] = {}
            for node in reversed(nodes[1:]):
                numbers[id(node.row)] = len(children.setdefault(node.table, []))
                children[node.table].append(node)
            for table, some in children.items():
                for node in some:
                    above = None if node.parent is None else numbers[id(node.parent)]
                    own = {**place, "_n": numbers[id(node.row)], "_parent_n": above}
                    tables.setdefault(table, []).append({**own, **node.row})
    with closing(sqlite3.connect(path)) as mirror, mirror:
        mirror.execute("create table _tombstones (tenant_id, location_id, entity, id, record)")
        mirror.execute("create table _changes (tenant_id, location_id, entity, id, op)")
        mirror.executemany("insert into _tombstones values (?, ?, ?, ?, ?)", tombs)
        for table, rows in tables.items():
            columns = sorted({column for row in rows for column in row})
            mirror.execute(f"create table {table} ({', '.join(columns)})")
            places = ", ".join("?" for _ in columns)
            mirror.executemany(
                f"insert into {table} values ({places})", [[row.get(column) for column in columns] for row in rows]
            )


def mirror_of(tmp_path: Path, world: World) -> Path:
    path = tmp_path / "mirror.db"
    write_mirror(path, world)
    return path


def spoil(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as mirror, mirror:
        assert mirror.execute(statement).rowcount == 1


@pytest.mark.parametrize("deletes", ["remove", "mark"])
@pytest.mark.parametrize(
    "dials", [Dials(), Dials(numbers_as_strings=True, written_offset="-04:00"), Dials(omitted=frozenset({"ClientPhone_T"}))]
)
def test_an_exact_mirror_passes(tmp_path: Path, dials: Dials, deletes: str) -> None:
    world, path = salon(), tmp_path / "mirror.db"
    write_mirror(path, world, dials, deletes)
    assert_exact(path, world, "mark" if deletes == "mark" else "remove", dials=dials)


SPOILT = {
    "a value of a root row": (
        "update Client set FirstName = 'Else' where _id = (select min(_id) from Client)",
        "FirstName must be",
    ),
    "text for a number": ("update Sale set Total = cast(Total as text) where _id = (select min(_id) from Sale)", "Total must be"),
    "a column not sent": ("update Client set Suffix = 'II' where _id = (select min(_id) from Client)", "Suffix must be None"),
    "a missing record": (
        "delete from Client where _id = (select min(_id) from (select _id from Client except select _id from ClientPhone))",
        "missing",
    ),
    "a missing child row": ("delete from SaleLine where rowid = (select max(rowid) from SaleLine)", "SaleLine lacks"),
    "a child row twice": ("insert into SaleLine select * from SaleLine limit 1", "SaleLine must not hold"),
    "an orphan": ("update ClientPhone set _id = 'nobody' where rowid = 1", "ClientPhone: an orphan of nobody"),
    "a parent that is not there": ("update AppointmentServiceStep set _parent_n = 99 where rowid = 1", "points nowhere"),
    "a hole in _n": ("update SaleLinePayment set _n = 7 where rowid = 1", "_n is [7]"),
    "a mark on a living record": (
        "update Client set _deleted_at = '2026' where _id = (select min(_id) from Client)",
        "marked as deleted, but lives",
    ),
    "a missing tombstone": ("delete from _tombstones where rowid = 1", "missing"),
    "a tombstone of a living record": (
        "insert into _tombstones select 11, 9, 'Client', min(_id), '{}' from Client",
        "there is one, but the record lives",
    ),
    "a tombstone with other content": ("update _tombstones set record = '{}' where rowid = 1", "differs in"),
}


@pytest.mark.parametrize(("statement", "told"), SPOILT.values(), ids=list(SPOILT))
def test_each_kind_of_difference_is_told(tmp_path: Path, statement: str, told: str) -> None:
    world = salon()
    world.create("Client", birth=lambda dice, birth: client(dice, birth, phones=0))
    path = mirror_of(tmp_path, world)
    with closing(sqlite3.connect(path)) as mirror, mirror:
        mirror.execute("alter table Client add column Suffix")
    assert not differences(path, world)
    spoil(path, statement)
    with pytest.raises(AssertionError, match=f"the mirror is not exact:(.|\n)*{re.escape(told)}"):
        assert_exact(path, world)


def test_a_grandchild_under_another_parent_is_told(tmp_path: Path) -> None:
    world = World(tenants={11: (9,)})
    while len(expected_rows(world, 11, 9, "Appointment").get("AppointmentServiceStep", ())) < 1:
        world.create("Appointment", birth=lambda dice, birth: appointment(dice, birth, lines=2))
    path = mirror_of(tmp_path, world)
    assert not differences(path, world)
    spoil(path, "update AppointmentServiceStep set _parent_n = 1 - _parent_n where rowid = 1")
    assert [line.partition(": ")[2].partition(" {")[0] for line in differences(path, world)] == [
        "AppointmentServiceStep lacks",
        "AppointmentServiceStep must not hold",
    ]


def test_a_child_of_the_root_itself_points_to_no_parent(tmp_path: Path) -> None:
    world = World(tenants={11: (9,)})
    world.create("Sale")
    path = mirror_of(tmp_path, world)
    spoil(path, "update SaleLinePayment set _parent_n = 0")
    assert differences(path, world)[0].endswith("_parent_n under the root itself")


def test_json_text_may_be_spelt_in_any_way_but_must_say_the_same(tmp_path: Path) -> None:
    world = World(tenants={11: (9,)})
    world.create("Client", ContactPreferences={"Text": True, "Mail": False}, Tags=["é"])
    path = mirror_of(tmp_path, world)
    spoil(path, """update Client set ContactPreferences = '{"Text": true, "Mail": false}', Tags = '["\\u00e9"]'""")
    assert not differences(path, world)
    spoil(path, """update Client set ContactPreferences = '{"Text": true, "Mail": true}'""")
    assert len(differences(path, world)) == 1


def test_a_file_that_is_not_sound_is_told(tmp_path: Path) -> None:
    world = World(tenants={11: (9,)})
    path = mirror_of(tmp_path, world)
    with closing(sqlite3.connect(path)) as mirror, mirror:
        mirror.execute("create table _meta (key)")
        mirror.execute("insert into _meta values (null)")
        mirror.execute("pragma writable_schema = on")
        mirror.execute("update sqlite_master set sql = 'create table _meta (key not null)' where name = '_meta'")
    assert differences(path, world) == ["integrity_check: NULL value in _meta.key"]


def test_a_deleted_record_that_was_held_must_stay_marked(tmp_path: Path) -> None:
    world = World(tenants={11: (9,)})
    gone = world.create("Client")
    world.delete(gone)
    path = mirror_of(tmp_path, world)
    assert not differences(path, world, "mark")  # never held alive: nothing to mark
    spoil(path, f"insert into _changes values (11, 9, 'Client', '{gone}', 'delete')")
    assert differences(path, world, "mark") == [f"Client {gone} at 11/9: missing"]


def test_a_deleted_record_that_is_kept_must_be_marked(tmp_path: Path) -> None:
    world, path = World(tenants={11: (9,)}), tmp_path / "mirror.db"
    gone = world.delete(world.create("Client")).id
    write_mirror(path, world, deletes="mark")
    assert not differences(path, world, "mark")
    spoil(path, "update Client set _deleted_at = null")
    assert differences(path, world, "mark") == [f"Client {gone} at 11/9: deleted, but not marked"]


def test_a_record_of_no_stream_is_told(tmp_path: Path) -> None:
    world = salon()
    path = mirror_of(tmp_path, world)
    spoil(path, "insert into Client (_tenant_id, _location_id, _id) values (11, 10, 'nobody')")
    assert differences(path, world) == ["nobody at 11/10: held in Client, but must not be"]


def test_a_value_is_told_by_record_and_column(tmp_path: Path) -> None:
    world = World(tenants={11: (9,)})
    ada = world.create("Client", FirstName="Ada")
    path = mirror_of(tmp_path, world)
    spoil(path, "update Client set FirstName = 'Bo'")
    assert differences(path, world) == [f"Client {ada} at 11/9: FirstName must be 'Ada', is 'Bo'"]


def test_records_from_before_may_be_missing_but_not_wrong(tmp_path: Path) -> None:
    world = World(tenants={11: (9,)})
    world.create("Client", FirstName="Ada")
    path = mirror_of(tmp_path, world)
    since = world.now
    late = world.create("Client", date=since - 1)
    assert not differences(path, world, since=since)
    assert differences(path, world) == [f"Client {late} at 11/9: missing"]
    spoil(path, "update Client set FirstName = 'Bo'")
    assert len(differences(path, world, since=since)) == 1


@pytest.mark.parametrize(
    ("act", "deleted"),
    [
        (lambda world: world.delete(world.create("Client")), True),
        (lambda world: world.delete(world.create("Employee"), plain=True), True),
        (lambda world: world.delete(world.create("Appointment")), True),
        (lambda world: world.delete(world.create("Appointment"), plain=True), True),
        (lambda world: world.revive(world.delete(world.create("Appointment")).id), False),
        (lambda world: world.edit(world.create("Client"), ObjectStateEnum=2027), False),
        (lambda world: world.edit(world.create("Sale"), ObjectStateEnum=2028), False),
    ],
)
def test_deleted_is_what_the_service_documents(act: Callable[[World], object], deleted: bool) -> None:
    world = World()
    act(world)
    [newest] = [world.newest(key) for stream in world.streams() for key in world.ids(stream.entity)]
    assert is_deleted(newest) is deleted


def test_an_appointment_with_one_living_line_lives() -> None:
    world = World()
    place = world.create("Appointment")
    while len(lines := world.newest(place).body["AppointmentService_L"]) < 2:  # type: ignore[arg-type]
        place = world.create("Appointment")
    assert isinstance(lines, list)
    for line in range(len(lines)):
        assert not is_deleted(world.newest(place))
        world.cancel_line(place, line)
    assert is_deleted(world.newest(place))


def test_rows_are_what_the_contract_says_of_them() -> None:
    world = World()
    minor = world.create(
        "Client", GuardianId="ABCDEF00-0000-4000-8000-000000000001", Notes="ABCDEF00-0000-4000-8000-000000000001",
        IsMinor=True, MiddleName="", Zone="2026-05-04T08:00:00.5Z", Kept="2026-05-04", Tags=["b", "a"],
    )  # fmt: skip
    world.add_phone(minor, "5550199")
    row = expected_rows(world, 11, 9, "Client", dials=Dials(written_offset="Z"))["Client"][0]
    assert row["GuardianId"] == "abcdef00-0000-4000-8000-000000000001"
    assert row["Notes"] == "ABCDEF00-0000-4000-8000-000000000001"
    assert (row["IsMinor"], row["MiddleName"], row["Tags"], row["Kept"]) == (1, "", '["b","a"]', "2026-05-04")
    assert row["Zone"] == "2026-05-04T08:00:00.5000000+00:00"
    assert row["DateUpdated"] == "2026-05-04T12:00:00.0000001+00:00"
    assert row["EntityVersion"] == "0000000007000001"
    phone = expected_rows(world, 11, 9, "Client")["ClientPhone"][-1]
    assert "TenantId" not in phone
    assert "Client_TId" not in phone
    assert phone["PhoneNumber"] == "5550199"


def test_keys_of_root_and_parent_are_not_stored_again_and_all_others_are() -> None:
    world = World()
    world.populate(sales=1, appointments=6, employees=6, locations=(9,))
    step = expected_rows(world, 11, 9, "Appointment")["AppointmentServiceStep"][0]
    assert set(step) == {"_id", "Step_Seq", "Minutes"}
    line = expected_rows(world, 11, 9, "Sale")["SaleLine"][0]
    assert set(line) == {"_id", "SaleLine_Seq", "Client_TId", "Quantity", "FinalPrice", "ComputedGuid"}
    category = expected_rows(world, 11, 9, "Employee")["EmployeeCat"][0]
    assert set(category) == {"_id", "EmployeeCat_TId"}


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("ClientPhone_T", "ClientPhone"),
        ("SaleLine_Service_L", "SaleLineService"),
        ("SalePayment_L", "SaleLinePayment"),
        ("TimeCard_Employee_LSchedule", "TimeCardEmployeeLSchedule"),
    ],
)
def test_tables_bear_the_names_of_the_contract(name: str, table: str) -> None:
    assert table_of(name) == table


def test_mirror_rows_of_one_entity_bring_its_children_alone(tmp_path: Path) -> None:
    path = mirror_of(tmp_path, salon())
    assert set(mirror_rows(path, 11, 9, "Sale")) == {"Sale", "SaleLine", "SaleLinePayment"}
    assert mirror_rows(path, 11, 10) == {}
