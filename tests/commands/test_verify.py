"""`sync verify`: what it finds, what it leaves out, what it repairs, and that it changes nothing else."""

import json
import re
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from installed import Held, Shop

from delta_mirror.core.drift import Drift
from delta_mirror.core.model import Stream
from delta_mirror.jobs.baseline import Wishes as Baseline
from delta_mirror.jobs.baseline import run_baseline
from delta_mirror.jobs.session import seconds_of
from delta_mirror.jobs.verify import Wishes, run_verify
from delta_mirror.simulator import DAY, HOUR, LAG, MINUTE, Clock, Dials, Service, World
from delta_mirror.simulator.export import Quirks, write_export
from delta_mirror.simulator.faults import slow
from oracle import assert_exact

ENTITIES = ("Client", "Employee", "Appointment", "Sale", "EmployeeSchedule", "EmployeeActual")


@pytest.fixture
def world() -> World:
    world = World(seed=5, clock=Clock.running())
    world.populate(clients=30, employees=6, appointments=12, sales=20, over=3 * DAY)
    return world


@pytest.fixture
def shop(tmp_path: Path, service: Service) -> Shop:
    shop = Shop(tmp_path, service)
    shop.configure(locations=[(11, 9), (11, 10)])
    return shop


def export(shop: Shop, name: str = "export", quirks: Quirks | None = None) -> str:
    write_export(shop.service.world, shop.folder / name, quirks or Quirks())
    return name


@pytest.fixture
def loaded(shop: Shop) -> Shop:
    """A mirror that has just been loaded, and drained once."""
    assert run_baseline(shop.config(), Baseline(str(shop.folder / export(shop)))).outcome == "done"
    shop.service.world.settle(LAG)
    shop.fill()
    return shop


def spoil(shop: Shop, *statements: str) -> None:
    with closing(sqlite3.connect(shop.mirror)) as mirror, mirror:
        for statement in statements:
            assert mirror.execute(statement).rowcount > 0, statement


def one_client(shop: Shop) -> str:
    return str(shop.value("select min(_id) from Client where _location_id = 9 and _deleted_at is null"))


def all_rows(shop: Shop) -> dict[str, list[tuple[object, ...]]]:
    """Return every row of every table but those that say how runs went."""
    names = [name for (name,) in shop.rows("select name from sqlite_master where type = 'table'")]
    kept = [name for name in names if name not in ("_runs", "_streams", "_calls", "_call_times", "_meta", "sqlite_sequence")]
    return {name: shop.rows(f'select * from "{name}"') for name in kept}


# What is found


def test_mirror_that_was_just_loaded_equals_the_export_to_the_last_row(shop: Shop) -> None:
    shop.sync("full-starter", export(shop))
    before = all_rows(shop)
    ended = shop.sync("verify", "export")
    held = sum(
        len(rows) for name, rows in before.items() if not name.startswith("_") and name not in ("sqlite_stat1",)
    )  # deleted records are in the export, too
    [compared] = re.findall(r"run 2: ([\d,]+) rows compared", ended.out)
    assert int(compared.replace(",", "")) >= held
    assert "left out" not in ended.out
    assert "nothing differs" in ended.out.splitlines()[-1]
    assert all_rows(shop) == before
    assert shop.service.calls == []


def test_one_row_that_was_spoilt_by_hand_is_found_and_named_without_its_values(loaded: Shop) -> None:
    client = one_client(loaded)
    spoil(loaded, f"update Client set FirstName = 'Tampered' where _id = '{client}' and _location_id = 9")
    ended = loaded.sync("verify", "export", expect=5)
    assert ended.out.splitlines()[0] == f"11/9 Client {client} different  FirstName"
    assert "1 different" in ended.out
    assert "tenant 11, location 9, Client: 1 record differs from the export; --repair fetches" in ended.err
    assert "Tampered" not in ended.out + ended.err


def test_values_are_shown_when_they_are_asked_for_the_mirrors_first(loaded: Shop) -> None:
    client = one_client(loaded)
    [(true,)] = loaded.rows(f"select FirstName from Client where _id = '{client}' and _location_id = 9")
    spoil(loaded, f"update Client set FirstName = 'Tampered' where _id = '{client}' and _location_id = 9")
    assert f'FirstName: "Tampered" -> "{true}"' in loaded.sync("verify", "export", "--show-values", expect=5).out


def test_records_that_lack_that_are_too_many_and_that_differ_in_child_rows_are_told_apart(loaded: Shop) -> None:
    lacking, changed = (
        str(id_) for (id_,) in loaded.rows("select distinct _id from SaleLine where _location_id = 9 order by 1 limit 2")
    )
    spoil(
        loaded,
        f"delete from Sale where _id = '{lacking}'",
        f"delete from SaleLine where _id = '{lacking}'",
        f"delete from SaleLine where _id = '{changed}' and _n = 0",
        "insert into Client (_tenant_id, _location_id, _id, _synced_at, _ticks, EntityId) "
        "values (11, 10, 'invented', '2026-01-01T00:00:00Z', 5, 'invented')",
    )
    ended = loaded.sync("verify", "export", "--json", expect=5)
    told = ended.json()
    assert {kind: told[kind] for kind in ("missing", "extra", "different")} == {"missing": 1, "extra": 1, "different": 1}
    where = {"tenant_id": 11}
    assert sorted(told["records"], key=lambda record: str(record["kind"])) == [
        {"entity": "Sale", "location_id": 9, "id": changed, "kind": "different", "fields": ["SaleLine"], **where},
        {"entity": "Client", "location_id": 10, "id": "invented", "kind": "extra", "fields": None, **where},
        {"entity": "Sale", "location_id": 9, "id": lacking, "kind": "missing", "fields": None, **where},
    ]
    assert len(ended.out.splitlines()) == 1
    assert [each["rows"] > 0 for each in told["streams"]] == [True] * 8


def test_json_has_both_values_when_they_are_asked_for(loaded: Shop) -> None:
    client = one_client(loaded)
    spoil(loaded, f"update Client set FirstName = null, ExternalId = '0012' where _id = '{client}' and _location_id = 9")
    [record] = loaded.sync("verify", "export", "--json", "--show-values", expect=5).json()["records"]
    assert set(record["fields"]) == {"FirstName", "ExternalId"}
    assert record["fields"]["FirstName"][0] is None
    assert record["fields"]["ExternalId"][0] == "0012"


def test_a_mirror_that_the_deltas_alone_have_filled_lacks_what_is_older(shop: Shop) -> None:
    shop.service.world.settle(8 * DAY)
    shop.service.world.busy_hour(3, 5)
    shop.service.world.settle(LAG)
    shop.fill()
    export(shop, quirks=Quirks(day=today(shop)))
    report = verify(shop, "export")
    assert report["missing"] > 0
    assert report["different"] == report["extra"] == 0


def today(shop: Shop) -> str:
    import time

    return time.strftime("%Y%m%d", time.gmtime(seconds_of(shop.service.world.now)))


def verify(shop: Shop, source: str) -> dict[str, int]:
    """Return how many records differ, at the time of the world."""
    found: list[tuple[Stream, Drift]] = []
    report = run_verify(
        shop.config(),
        Wishes(str(shop.folder / source)),
        found=lambda stream, drift: found.append((stream, drift)),
        now=lambda: seconds_of(shop.service.world.now),
    )
    assert report.outcome == "done", (report.trouble, [each.error for each in report.streams])
    counts = {kind: report.total(kind) for kind in ("missing", "extra", "different")}
    assert sum(counts.values()) == len(found)
    return {**counts, "newer": sum(each.newer for each in report.streams), "rows": sum(each.rows for each in report.streams)}


def test_records_that_no_table_can_hold_as_the_export_has_them_differ(loaded: Shop) -> None:
    clients = loaded.value("select count(*) from Client where _location_id = 9 and _deleted_at is null")
    odd = export(loaded, "odd", Quirks(extra_columns={"Client": {"Odd" * 100: "x"}}))
    told = loaded.sync("verify", odd, "--json", "--entity", "Client", "--location", "9", expect=5).json()
    assert told["different"] == clients
    assert {record["fields"] is None for record in told["records"]} == {True}


# What is left out


def test_what_has_changed_since_by_delta_is_no_drift(loaded: Shop) -> None:
    before = verify(loaded, "export")
    loaded.service.world.busy_hour(1, 40)
    loaded.service.world.settle(LAG)
    loaded.fill()
    after = verify(loaded, "export")
    assert (after["missing"], after["extra"], after["different"]) == (0, 0, 0)
    assert after["newer"] > before["newer"]
    assert after["rows"] < before["rows"]


def test_what_the_deltas_have_yet_to_bring_is_no_drift(loaded: Shop) -> None:
    loaded.service.world.advance(HOUR)
    loaded.service.world.busy_hour(2, 40)
    loaded.service.world.settle(LAG)
    ahead = verify(loaded, export(loaded, "ahead"))
    assert (ahead["missing"], ahead["extra"], ahead["different"]) == (0, 0, 0)
    assert ahead["newer"] > 0
    loaded.fill()
    assert verify(loaded, "ahead")["newer"] == 0


def test_what_the_deltas_should_have_brought_and_did_not_is_drift(loaded: Shop) -> None:
    loaded.service.world.busy_hour(4, 40)
    loaded.service.world.advance(2 * HOUR)
    loaded.service.world.settle(LAG)
    loaded.fill()
    [(client,)] = loaded.rows(
        "select _id from Client where _location_id = 9 and _deleted_at is null order by _ticks desc limit 1"
    )
    # As it was in an earlier version, and so does not bear the date of the export's.
    spoil(
        loaded,
        "update Client set FirstName = 'Earlier', DateUpdated = '2026-01-01T00:00:00.0000000+00:00', _ticks = 5 "
        f"where _id = '{client}' and _location_id = 9",
    )
    found = verify(loaded, export(loaded, "later"))
    assert (found["missing"], found["extra"], found["different"]) == (0, 0, 1)


# What is kept


def test_result_is_kept_and_status_shows_it(loaded: Shop) -> None:
    rows = verify(loaded, "export")["rows"]
    [through] = {each["verified_through"] for each in loaded.sync("status", "--json").json()["streams"]}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT00:00:00Z", through)
    assert f"verified: 0 of {rows:,} rows differ as of {through}" in loaded.sync("status").out
    spoil(loaded, f"update Client set FirstName = 'Tampered' where _id = '{one_client(loaded)}' and _location_id = 9")
    loaded.sync("verify", "export", expect=5)
    told = loaded.sync("status").out
    assert f"verified: 1 record differs in {rows:,} rows as of {through}" in told
    assert "location 9, Client: 1 of its records differed from the Starter Export" in told
    assert "`sync verify --repair`" in told
    [(command, outcome)] = loaded.rows("select command, outcome from _runs order by id desc limit 1")
    assert (command, outcome) == ("verify", "done")


def test_selected_streams_alone_are_compared_and_named(loaded: Shop) -> None:
    told = loaded.sync("verify", "export", "--entity", "Client", "--location", "9", "--json").json()
    assert [(each["entity"], each["location_id"]) for each in told["streams"]] == [("Client", 9)]
    assert "(tenant 11, location 9, Client)" in next(
        line for line in loaded.sync("status").out.splitlines() if line.startswith("verified:")
    )


def test_a_new_baseline_is_not_what_was_verified_before(loaded: Shop) -> None:
    loaded.sync("verify", "export")
    loaded.sync("full-starter", "export")
    assert loaded.stream("Client")["verified_through"] is None
    assert "verified:" not in loaded.sync("status").out


# Repair


def test_repair_fetches_what_differs_and_nothing_else(loaded: Shop) -> None:
    client = one_client(loaded)
    [(sale, *_)] = loaded.rows("select _id from Sale where _location_id = 10 order by 1 limit 1")
    spoil(
        loaded,
        f"update Client set FirstName = 'Tampered' where _id = '{client}' and _location_id = 9",
        f"delete from Sale where _id = '{sale}'",  # and leave its lines
    )
    loaded.service.calls.clear()
    ended = loaded.sync("verify", "export", "--repair", expect=5)
    assert "1 different, 1 repaired" in ended.out
    assert "1 missing, 1 repaired" in ended.out
    assert ended.err == ""
    assert_exact(loaded.mirror, loaded.service.world)
    assert sum("/latest/" in call.path for call in loaded.service.calls) == 2
    changes = loaded.sync("changes", "--run", str(loaded.value("select max(id) from _runs")), "--json").out
    assert sorted(json.loads(line)["op"] for line in changes.splitlines()) == ["insert", "replace"]
    assert loaded.stream("Client")["verified_differing"] == 0
    assert "nothing differs" in loaded.sync("verify", "export").out
    assert "differed" not in loaded.sync("status").out


def test_what_the_service_does_not_know_is_said_and_stays(loaded: Shop) -> None:
    spoil(
        loaded,
        "insert into Client (_tenant_id, _location_id, _id, _synced_at, _ticks, EntityId) "
        "values (11, 9, '00000000-0000-4000-8000-000000000000', '2026-01-01T00:00:00Z', 5, 'invented')",
    )
    ended = loaded.sync("verify", "export", "--repair", expect=5)
    assert "1 record differs from the export; `sync full-starter` loads the export" in ended.err
    assert "404" in ended.err
    assert loaded.value("select count(*) from Client where _id like '00000000%'") == 1


def test_repair_that_cannot_call_is_not_all_done(loaded: Shop) -> None:
    spoil(loaded, f"update Client set FirstName = 'Tampered' where _id = '{one_client(loaded)}' and _location_id = 9")
    loaded.configure(locations=[(11, 9), (11, 10)], client_secret="wrong")
    assert "Client: " in loaded.sync("verify", "export", "--repair", expect=3).err
    assert loaded.stream("Client")["verified_differing"] == 1


def test_without_repair_the_service_is_not_called_even_where_no_location_is_configured(loaded: Shop) -> None:
    loaded.configure()
    loaded.service.calls.clear()
    assert "nothing differs" in loaded.sync("verify", "export").out
    assert loaded.service.calls == []


# How it ends


def test_quiet_says_nothing_when_nothing_differs_and_lists_what_does(loaded: Shop) -> None:
    ended = loaded.sync("--quiet", "verify", "export")
    assert (ended.out, ended.err) == ("", "")
    spoil(loaded, f"update Client set FirstName = 'Tampered' where _id = '{one_client(loaded)}' and _location_id = 9")
    assert "different  FirstName" in loaded.sync("--quiet", "verify", "export", expect=5).out


def test_without_a_mirror_or_a_source_it_is_refused_and_no_file_is_made(shop: Shop) -> None:
    export(shop)
    before = sorted(path.name for path in shop.folder.iterdir())
    assert str(shop.mirror) in shop.sync("verify", "export", expect=2).err
    assert sorted(path.name for path in shop.folder.iterdir()) == before
    shop.fill()
    assert "[starter] source is empty" in shop.sync("verify", expect=2).err
    assert "there is no folder" in shop.sync("verify", "nowhere", expect=2).err
    assert shop.rows("select command from _runs") == [("deltas",)]


def test_entity_whose_file_is_broken_is_not_compared_and_the_others_are(loaded: Shop) -> None:
    [broken] = (loaded.folder / "export" / "Tenant11" / "Location9").glob("ClientPhone_*.csv")
    broken.write_bytes(broken.read_bytes()[:-4])
    ended = loaded.sync("verify", "export", expect=3)
    assert "ClientPhone_" in ended.err
    assert "not compared" in ended.out
    assert loaded.rows("select entity, location_id from _streams where verified_through is null") == [("Client", 9)]
    only = loaded.sync("verify", "export", "--entity", "Client", "--location", "9", expect=2)
    assert "ClientPhone_" in only.err


def test_location_without_a_complete_run_is_not_all_done(loaded: Shop) -> None:
    [lacking] = (loaded.folder / "export" / "Tenant11" / "Location9").glob("Client_*.csv")
    lacking.unlink()
    ended = loaded.sync("verify", "export", expect=3)
    assert "not complete: without Client" in ended.err
    assert "tenant 11, location 9: the export has no complete run to compare with" in ended.err
    assert len(ended.out.splitlines()) == 5


def test_another_run_holds_the_mirror_and_verify_says_so(loaded: Shop) -> None:
    held = Held()
    loaded.service.faults.append(slow(held))
    with loaded.held_run(held, "deltas"):
        assert "another run" in loaded.sync("verify", "export", expect=4).err
        assert "skipped" in loaded.sync("verify", "export", "--if-running", "skip").err


def test_run_that_is_over_its_deadline_says_so_and_leaves_nothing_behind(loaded: Shop) -> None:
    ended = loaded.sync("verify", "export", "--deadline", "0s", expect=3)
    assert "the deadline was reached" in ended.err
    assert not loaded.mirror.with_name("mirror.db.starter").exists()


def test_reader_that_has_enough_does_not_keep_the_result_from_being_kept(loaded: Shop) -> None:
    spoil(loaded, "update Client set FirstName = 'Tampered' where _location_id = 9")
    with loaded.running("verify", "export") as process:
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        process.communicate(timeout=60)
    assert process.returncode == 5
    assert int(str(loaded.stream("Client")["verified_differing"])) > 0


# Whatever happened before


@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 1000),
    deletes=st.sampled_from(["remove", "mark"]),
    kind=st.sampled_from([2025, 2025, 2021]),
    steps=st.lists(st.sampled_from(["change", "deltas", "export", "wait"]), max_size=6),
)
def test_a_mirror_that_is_right_differs_from_no_export(seed: int, deletes: str, kind: int, steps: list[str]) -> None:
    world = World(seed)
    world.populate(clients=14, employees=4, appointments=6, sales=8)
    with tempfile.TemporaryDirectory() as folder, Service(world, Dials(enabled=ENTITIES)) as service:
        shop = Shop(Path(folder), service)
        shop.configure(mirror={"deletes": deletes}, locations=[(11, 9), (11, 10)], entities=ENTITIES)
        quirks = Quirks(kind=2021 if kind == 2021 else 2025, orphans=1, keyless_employees=1)
        columns = write_export(world, Path(folder) / "first", quirks, entities=ENTITIES)
        lines = ["[starter.columns]"]
        for table, known in columns.items():
            lines.append(f"{table} = [{', '.join(f'{{ name = {name!r}, type = {type_!r} }}' for name, type_ in known.items())}]")
        shop.configuration.write_text("\n".join([shop.configuration.read_text(), *lines]))
        run_baseline(shop.config(), Baseline(str(Path(folder) / "first"), force=True), now=lambda: seconds_of(world.now))
        newest = "first"
        for number, step in enumerate(steps):
            if step == "change":
                world.busy_hour(seed + number, 12)
            elif step == "deltas":
                world.settle(LAG)
                shop.fill()
            elif step == "export":
                newest = f"export{number}"
                write_export(world, Path(folder) / newest, quirks, entities=ENTITIES)
            else:
                world.advance(7 * HOUR + MINUTE)
            found = verify(shop, str(Path(folder) / newest))
            assert (found["missing"], found["extra"], found["different"]) == (0, 0, 0), (number, step)
