"""The simulated service's exports: the bytes of real files, what the feed says, the oddities that are asked for."""

from pathlib import Path

import pytest

from delta_mirror.simulator import HOUR, Stream, World
from delta_mirror.simulator.bulk import Bulk, adopt, clients_of, sales_of, write_bulk
from delta_mirror.simulator.export import Quirks, write_export

DAY = "20260504"  # on which the world's clock stands


def small_world() -> World:
    world = World(seed=5, tenants={11: (9,)})
    world.populate(clients=3, employees=2, appointments=2, sales=2, schedules=2, actuals=2)
    return world


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "Tenant11" / "Location9").iterdir()}


def table(content: bytes) -> list[list[str]]:
    """Return the rows of a file, its header among them, read the plainest way."""
    assert content.startswith(b"\xff\xfe")
    text = content[2:].decode("utf-16-le")
    assert text == "" or text.endswith("|$|")
    return [row.split("|@|") for row in text.split("|$|")[:-1]]


def test_file_of_2025_has_a_header_and_text_in_quotes_and_nothing_else_in_them(tmp_path: Path) -> None:
    world = World(tenants={11: (9,)})
    world.create("Client", ExternalId="007", MiddleName="", Prefix=None, AccountBalance=0.5, IsMinor=True)
    write_export(world, tmp_path)
    header, row = table(files_in(tmp_path)[f"Client_{DAY}.csv"])
    assert header[:3] == ['"TenantId"', '"Client_TId"', '"HomeLocationId "']
    client = dict(zip((name.strip('" ') for name in header), row, strict=True))
    [change] = world.history(Stream(11, 9, "Client")).current
    assert client["Client_TId"] == change.id.upper()
    assert (client["ExternalId"], client["MiddleName"], client["Prefix"]) == ('"007"', '""', "")
    assert (client["AccountBalance"], client["IsMinor"]) == (".500000", "1")
    assert client["DateUpdated"] == "2026-05-04 12:00:00.0000000 +00:00"
    assert client["EntityVersion"] == "0000000007000000"


def test_file_of_2021_has_neither(tmp_path: Path) -> None:
    world = World(tenants={11: (9,)})
    world.create("Client", FirstName="Ada", MiddleName="")
    columns = write_export(world, tmp_path, Quirks(kind=2021))
    [row] = table(files_in(tmp_path)[f"Client_{DAY}.csv"])
    client = dict(zip(columns["Client"], row, strict=True))
    assert (client["TenantId"], client["FirstName"], client["MiddleName"]) == ("11", "Ada", "")
    assert columns["Client"]["FirstName"] == "text"
    assert columns["Client"]["AccountBalance"] == "number"


def test_tables_without_rows_are_there_all_the_same(tmp_path: Path) -> None:
    write_export(World(tenants={11: (9,)}), tmp_path / "new")
    write_export(World(tenants={11: (9,)}), tmp_path / "old", Quirks(kind=2021))
    new, old = files_in(tmp_path / "new"), files_in(tmp_path / "old")
    assert set(new) == set(old) >= {f"{table}_{DAY}.csv" for table in ("Client", "ClientPhone", "SaleLine", "SaleLinePayment")}
    assert all(len(table(content)) == 1 for content in new.values())
    assert all(content == b"\xff\xfe" for content in old.values())


def test_deleted_records_are_in_the_export_and_rows_of_every_level_too(tmp_path: Path) -> None:
    world = small_world()
    gone = world.ids("Client")[0]
    world.delete(gone)
    write_export(world, tmp_path)
    files = files_in(tmp_path)
    assert any(gone.upper() in row for row in table(files[f"Client_{DAY}.csv"]))
    appointments = world.history(Stream(11, 9, "Appointment")).current
    lines = [line for change in appointments for line in change.body["AppointmentService_L"]]  # type: ignore[union-attr]
    steps = [step for line in lines for step in line.get("AppointmentServiceStep_L", ())]  # type: ignore[union-attr]
    assert len(table(files[f"AppointmentService_{DAY}.csv"])) == 1 + len(lines)
    assert len(table(files[f"AppointmentServiceStep_{DAY}.csv"])) == 1 + len(steps)


def test_time_cards_have_no_file_of_roots(tmp_path: Path) -> None:
    write_export(small_world(), tmp_path, entities=["EmployeeSchedule", "EmployeeActual"])
    assert set(files_in(tmp_path)) == {f"{table}_{DAY}.csv" for table in ("EmployeeSchedule", "EmployeeClock", "EmployeeBreak")}


@pytest.mark.parametrize("kind", [2021, 2025])
def test_oddities_are_there_when_they_are_asked_for(tmp_path: Path, kind: int) -> None:
    quirks = Quirks(
        kind=2021 if kind == 2021 else 2025,
        next_day=frozenset({"ClientPhone"}),
        short_dates=frozenset({"EmployeeCat"}),
        strays=True,
        reversed_columns=True,
        withheld=frozenset({"SaleLinePayment"}),
        extra_tables={"GiftCard": [{"TenantId": 11, "Number": "7"}]},
        extra_columns={"Sale": {"NeverSeen": "x"}},
        keyless_employees=3,
        orphans=2,
    )
    columns = write_export(small_world(), tmp_path, quirks)
    files = files_in(tmp_path)
    assert {"ClientPhone_20260505.csv", "EmployeeCat_20260.csv", "readme.html", "GiftCard_20260504.csv"} <= set(files)
    assert f"SaleLinePayment_{DAY}.csv" not in files
    header = 1 if kind == 2025 else 0
    employees = table(files[f"Employee_{DAY}.csv"])[header:]
    assert sum(dict(zip(columns["Employee"], row, strict=True))["Employee_User_TId"] == "" for row in employees) == 3
    assert list(columns["Sale"])[:2] == ["TenantId", "NeverSeen"]
    assert sum("DEAD" in field for row in table(files["ClientPhone_20260505.csv"]) for field in row) == 2


def test_export_of_one_seed_differs_from_another_one_only_as_told(tmp_path: Path) -> None:
    size = {"day": DAY, "clients": 20, "sales": 200, "lines": 3}
    plain = Bulk(**size)  # type: ignore[arg-type]
    first, again = (files_in(write_bulk(tmp_path / name, plain).parent.parent) for name in ("first", "again"))
    assert first == again
    other = Bulk(**size, changed=0.1, missing=0.05)  # type: ignore[arg-type]
    sales = {str(sale["EntityId"]): sale for sale, _ in sales_of(plain)}
    others = {str(sale["EntityId"]): sale for sale, _ in sales_of(other)}
    assert others.keys() < sales.keys()
    assert 0 < len(sales) - len(others) < 30
    assert 0 < sum(sales[key] != sale for key, sale in others.items()) < 50
    assert list(clients_of(plain)) == list(clients_of(other))


def test_world_shows_what_it_adopts_as_the_export_has_it(tmp_path: Path) -> None:
    bulk = Bulk(day=DAY, clients=10, sales=10)
    world = World(tenants={11: (9,)})
    adopt(world, bulk, clients=2, sales=3)
    sold = [str(sale["EntityId"]) for sale, _ in sales_of(bulk)][:3]
    assert sorted(world.ids("Sale")) == sorted(sold)
    sale, lines = next(sales_of(bulk))
    body = world.newest(str(sale["EntityId"])).body
    assert body == {**sale, "SaleLine_L": lines}
    world.advance(HOUR)
    assert world.edit(sold[0], Total=1.5).date == world.now
