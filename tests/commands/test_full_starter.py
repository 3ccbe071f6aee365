"""`sync full-starter` as people and cron call it: what it prints, how it ends, what it leaves behind, also when it is killed."""

import os
import pty
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from installed import PATIENCE, Shop, assert_sound, wait_until_it_listens

from delta_mirror.cli.messages import LOGGER
from delta_mirror.cli.progress import FileWatch
from delta_mirror.core.model import Stream
from delta_mirror.errors import DiskFullError
from delta_mirror.jobs.baseline import Wishes, run_baseline
from delta_mirror.jobs.starter import Progress
from delta_mirror.simulator import DAY, Clock, Service, World
from delta_mirror.simulator.bulk import Bulk, write_bulk
from delta_mirror.simulator.export import Quirks, write_export
from oracle import assert_exact

KILLS = 8


@pytest.fixture
def world() -> World:
    """A salon whose clock goes with this machine's: the age of an export counts here."""
    world = World(seed=7, clock=Clock.running())
    world.populate(clients=40, employees=8, appointments=20, sales=30, over=3 * DAY)
    return world


@pytest.fixture
def shop(tmp_path: Path, service: Service) -> Shop:
    shop = Shop(tmp_path, service)
    shop.configure(locations=[(11, 9), (11, 10)])
    return shop


def export(shop: Shop, quirks: Quirks | None = None, name: str = "export") -> str:
    """Write an export of how things are now; return where it lies."""
    write_export(shop.service.world, shop.folder / name, quirks or Quirks())
    return name


def add_to_configuration(shop: Shop, *lines: str) -> None:
    shop.configuration.write_text("\n".join([shop.configuration.read_text(encoding="utf-8"), *lines, ""]), encoding="utf-8")


def test_a_starter_then_deltas_and_the_mirror_is_as_the_service(shop: Shop) -> None:
    ended = shop.sync("full-starter", export(shop, Quirks(orphans=2, keyless_employees=3)))
    assert shop.service.calls == []
    assert "tenant 11, location 9, Client" in ended.out
    assert "loaded" in ended.out
    assert "run 1: 8 of 8 streams" in ended.out
    assert "tenant 11, location 9, Employee: 3 rows of Employee set aside: they bear no key" in ended.err
    assert_exact(shop.mirror, shop.service.world)
    assert shop.rows("select command, outcome, calls from _runs") == [("full-starter", "done", 0)]
    assert {stream["baseline"] for stream in [shop.stream("Client"), shop.stream("Sale")]} == {
        time.strftime("%Y-%m-%d", time.gmtime())
    }
    shop.service.world.busy_hour(1, 60)
    shop.service.world.settle()
    shop.fill()
    assert_exact(shop.mirror, shop.service.world)
    assert not shop.mirror.with_name("mirror.db.starter").exists()


def test_the_source_of_the_configuration_is_the_default_and_none_at_all_is_refused(shop: Shop) -> None:
    refused = shop.sync("full-starter", expect=2)
    assert "[starter] source is empty" in refused.err
    assert "nowhere" in shop.sync("full-starter", "nowhere", expect=2).err
    assert not shop.mirror.exists()
    export(shop)
    add_to_configuration(shop, "[starter]", 'source = "export"')
    assert "8 of 8 streams" in shop.sync("full-starter").out


def test_a_refused_entity_stays_as_it_was_and_the_others_are_loaded(shop: Shop) -> None:
    export(shop)
    [broken] = (shop.folder / "export" / "Tenant11" / "Location9").glob("ClientPhone_*.csv")
    broken.write_bytes(broken.read_bytes()[:-4])
    ended = shop.sync("full-starter", "export", expect=3)
    assert "ClientPhone_" in ended.err
    assert "cut off" in ended.err
    assert shop.rows("select location_id from _streams where entity = 'Client'") == [(10,)]
    assert shop.value("select count(*) from Sale where _location_id = 9") > 0
    assert shop.rows("select outcome from _runs") == [("unfinished",)]


def test_where_everything_is_refused_nothing_is_written(shop: Shop) -> None:
    export(shop, Quirks(day="20260101"))
    ended = shop.sync("full-starter", "export", expect=2)
    assert "over 6 days back" in ended.err
    assert "nothing was loaded" in ended.out
    assert shop.rows("select * from _runs") == shop.rows("select * from _streams") == []
    assert "no complete run of 20260102" in shop.sync("full-starter", "export", "--date", "20260102", expect=2).err
    assert "'2026-01-01' is no day" in shop.sync("full-starter", "export", "--date", "2026-01-01", expect=2).err


def test_an_old_export_is_loaded_by_force_and_the_gap_behind_it_is_said(shop: Shop) -> None:
    export(shop, Quirks(day="20260101"))
    shop.sync("full-starter", "export", "--force")
    assert shop.stream("Client")["caught_up_at"] == "2025-12-31T00:00:00Z"
    assert "gap" in shop.sync("deltas", expect=3).err
    export(shop, name="newer")
    shop.sync("full-starter", "newer")
    assert (shop.stream("Client")["state"], shop.stream("Client")["gap_from"]) == ("following", None)


def test_an_export_that_is_dated_in_the_future_is_refused_even_by_force_but_tomorrow_may_have_come_elsewhere(shop: Shop) -> None:
    today = datetime.now(UTC)
    shop.sync("full-starter", export(shop, Quirks(day=f"{today + timedelta(days=1):%Y%m%d}"), "tomorrow"))
    before = shop.stream("Client")
    later = export(shop, Quirks(day=f"{today + timedelta(days=3):%Y%m%d}"), "later")
    assert "a day that has not come" in shop.sync("full-starter", later, "--force", expect=2).err
    assert "a day that has not come" in shop.sync("verify", later, expect=2).err
    assert shop.stream("Client") == before


def test_a_much_smaller_export_and_one_that_lacks_a_table_are_refused_unless_forced(shop: Shop) -> None:
    shop.sync("full-starter", export(shop))
    clients = shop.value("select count(*) from Client")
    with closing(sqlite3.connect(shop.mirror)) as mirror, mirror:  # as if they had not changed for weeks
        mirror.execute("update Client set _ticks = null")
        mirror.execute("update Employee set _ticks = null")
    for file in (shop.folder / "export").rglob("Client_*.csv"):
        file.write_bytes(b"\xff\xfe")
    for file in (shop.folder / "export").rglob("EmployeeCat_*.csv"):
        file.unlink()
    ended = shop.sync("full-starter", "export", expect=3)
    assert "location 9, Client: the export" in ended.err
    assert "it is empty, and the mirror holds" in ended.err
    assert "lacks EmployeeCat, which an earlier one brought" in ended.err
    assert shop.value("select count(*) from Client") == clients
    shop.sync("full-starter", "export", "--force")
    assert shop.value("select count(*) from Client") == 0
    assert shop.value("select count(*) from EmployeeCat") > 0


def test_a_dry_run_says_what_would_change_and_makes_no_file(shop: Shop) -> None:
    export(shop)
    before = {path.name for path in shop.folder.iterdir()}
    ended = shop.sync("full-starter", "export", "--dry-run")
    assert "dry run, nothing written: 8 of 8 streams" in ended.out
    assert {path.name for path in shop.folder.iterdir()} == before
    shop.sync("full-starter", "export")
    contents = shop.contents()
    shop.service.world.busy_hour(2, 30)
    export(shop, name="later")
    told = shop.sync("full-starter", "later", "--dry-run", "--json").json()
    assert shop.contents() == contents
    assert told["id"] is None
    real = shop.sync("full-starter", "later", "--json").json()
    assert [each | {"error": None} for each in told["streams"]] == real["streams"]


def test_json_is_the_row_of_the_run_with_its_streams(shop: Shop) -> None:
    told = shop.sync("full-starter", export(shop, Quirks(keyless_employees=1)), "--json", "--location", "9").json()
    [row] = shop.rows("select id, command, outcome, calls, pages, inserted, replaced, deleted, revived, unchanged from _runs")
    assert tuple(told[name] for name in ("id", "command", "outcome", "calls", "pages")) == row[:5]
    assert tuple(told[name] for name in ("inserted", "replaced", "deleted", "revived", "unchanged")) == row[5:]
    assert [(each["location_id"], each["entity"]) for each in told["streams"]] == [
        (9, "Client"), (9, "Employee"), (9, "Appointment"), (9, "Sale"),
    ]  # fmt: skip
    assert told["streams"][1]["set_aside"] == [{"table": "Employee", "rows": 1, "reason": "they bear no key"}]


def test_quiet_says_nothing_on_success_and_everything_that_is_wrong(shop: Shop) -> None:
    ended = shop.sync("--quiet", "full-starter", export(shop, Quirks(orphans=1, strays=True)))
    assert (ended.out, ended.err) == ("", "")
    (shop.folder / "export" / "Tenant11" / "Location9" / "Client_20991231.csv").write_bytes(b"no export")
    assert shop.sync("--quiet", "full-starter", "export", "--date", "20991231", expect=2).err


def test_what_the_deltas_had_missed_is_summed_up_and_listed_by_changes(shop: Shop) -> None:
    shop.sync("full-starter", export(shop))
    with closing(sqlite3.connect(shop.mirror)) as mirror, mirror:
        mirror.execute("update Client set FirstName = 'spoilt', _ticks = null where _id in (select _id from Client limit 1)")
    ended = shop.sync("full-starter", "export")
    assert "1 replaced" in ended.out
    assert "what the deltas had missed is in the lines above; `sync changes --run 2` lists them" in ended.out
    assert "FirstName" in shop.sync("changes", "--run", "2").out
    assert "the deltas had missed nothing" in shop.sync("full-starter", "export").out


def test_selected_streams_alone_are_loaded_and_none_at_all_is_said(shop: Shop) -> None:
    export(shop)
    ended = shop.sync("full-starter", "export", "--entity", "Client", "--location", "10")
    [said] = [line for line in ended.err.splitlines() if "passed over" in line]
    files = {
        path for path in (shop.folder / "export").rglob("*.csv") if path.parts[-2] != "Location10" or "Client" not in path.name
    }
    assert f"{len(files)} files passed over that the options do not select" in said
    assert shop.rows("select location_id, entity from _streams") == [(10, "Client")]
    assert "nothing of what is configured and selected" in shop.sync("full-starter", "export", "--location", "77", expect=2).err


def test_locations_that_are_not_configured_are_asked_for_and_a_failure_says_what_to_do(shop: Shop) -> None:
    shop.configure()
    export(shop)
    shop.sync("full-starter", "export")
    assert shop.value("select count(*) from _streams") == 8
    shop.mirror.unlink()
    shop.configure(marketplace_url="http://127.0.0.1:9")
    ended = shop.sync("full-starter", "export", expect=3)
    assert "list them as [[dds.locations]]" in ended.err


def test_without_the_section_dds_every_location_of_the_export_is_loaded(shop: Shop) -> None:
    export(shop)
    shop.configuration.write_text('[mirror]\npath = "mirror.db"\n', encoding="utf-8")
    assert "no section [dds]" in shop.sync("full-starter", "export").err
    assert_exact(shop.mirror, shop.service.world)
    shop.configure(locations=[(11, 9), (11, 10)])
    shop.fill()
    assert_exact(shop.mirror, shop.service.world)


def test_another_run_that_holds_the_mirror_is_heeded(shop: Shop) -> None:
    export(shop)
    shop.sync("full-starter", "export")
    holder = subprocess.Popen(
        [sys.executable, "-c", "import sys, filelock\nwith filelock.FileLock(sys.argv[1]): print(flush=True); sys.stdin.read()",
         str(shop.mirror) + ".lock"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    with holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        shop.sync("full-starter", "export", expect=4)
        shop.sync("full-starter", "export", "--if-running", "skip")
        holder.kill()
    assert shop.value("select count(*) from _runs") == 1


# Killed and stopped


@pytest.fixture(scope="module")
def bulk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A large export: 6,000 sales with four lines each."""
    folder = tmp_path_factory.mktemp("bulk")
    write_bulk(folder, Bulk(day=time.strftime("%Y%m%d", time.gmtime()), sales=6_000))
    return folder


@pytest.fixture
def filled(shop: Shop) -> Shop:
    """A mirror that holds some sales which no export has, so that it can be told from one that was loaded."""
    shop.configure(locations=[(11, 9)], entities=["Sale"])
    shop.fill()
    return shop


def test_a_run_killed_at_any_instant_changes_nothing_and_the_next_one_clears_up(filled: Shop, bulk: Path) -> None:
    before = filled.contents(without=["_changes"])
    begun = time.monotonic()
    filled.sync("full-starter", str(bulk), "--force", "--dry-run")
    whole = 1.3 * (time.monotonic() - begun)
    killed = left = 0
    for number in range(KILLS):
        process = filled.start("full-starter", str(bulk), "--force")
        with process:
            try:
                process.wait(whole * (number + 1) / KILLS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
        if process.returncode == 0:
            break
        if filled.stream("Sale")["baseline"] is not None:
            break  # killed between its commit and its end: all of it is in
        killed += process.returncode == -signal.SIGKILL
        left += filled.mirror.with_name("mirror.db.starter").exists()
        assert filled.contents(without=["_changes"]) == before
        assert_sound(filled)
    assert killed >= KILLS / 3
    assert left > 0, "no kill left anything to clear up"
    filled.sync("full-starter", str(bulk), "--force")
    assert filled.value("select count(*) from SaleLine where _id not in (select _id from Sale)") == 0
    assert filled.value("select count(*) from Sale") >= 6_000
    assert not filled.mirror.with_name("mirror.db.starter").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_told_to_stop_it_ends_in_good_order_and_nothing_is_changed(filled: Shop, bulk: Path, number: signal.Signals) -> None:
    before = filled.contents()
    with filled.running("full-starter", str(bulk), "--force") as process:
        wait_until_it_listens(process)
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + number, (out, err)
    assert "what was not loaded is as it was" in err
    assert filled.contents() == before
    assert not filled.mirror.with_name("mirror.db.starter").exists()


def test_at_its_deadline_it_ends_and_nothing_is_changed(filled: Shop, bulk: Path) -> None:
    before = filled.contents()
    report = run_baseline(filled.config(), Wishes(str(bulk), force=True, deadline=0.001))
    assert (report.outcome, report.id) == ("stopped", None)
    assert report.trouble == [
        "the deadline was reached; what was committed stays, and what was not loaded is as it was; call again"
    ]
    assert filled.contents() == before


def test_on_a_full_disk_nothing_is_changed_and_the_rest_is_not_tried(filled: Shop, bulk: Path) -> None:
    filled.configure(locations=[(11, 9), (11, 10)], entities=["Sale"])
    for location in (9, 10):
        shutil.copytree(bulk / "Tenant11" / "Location9", filled.folder / "export" / "Tenant11" / f"Location{location}")
    before = filled.contents()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limit[1]))
    try:
        report = run_baseline(filled.config(), Wishes(str(filled.folder / "export"), force=True))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    [refused] = report.streams
    assert isinstance(refused.error, DiskFullError)
    assert report.trouble == ["of the export 1 more was not tried"]
    assert filled.contents() == before
    assert not filled.mirror.with_name("mirror.db.starter").exists()


def test_readers_see_the_old_or_the_new(filled: Shop, bulk: Path) -> None:
    old = filled.value("select count(*) from Sale")
    seen = set()
    with filled.running("full-starter", str(bulk), "--force") as process:
        while process.poll() is None:
            seen.add(filled.rows("select (select count(*) from Sale), (select count(*) from SaleLine)")[0])
        process.communicate()
    seen.add(filled.rows("select (select count(*) from Sale), (select count(*) from SaleLine)")[0])
    assert len(seen) == 2
    assert min(sales for sales, _ in seen) == old


@pytest.mark.parametrize("quiet", [True, False])
def test_without_a_terminal_progress_is_told_in_a_line_now_and_then(
    quiet: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter([0.0, 5.0, 20.0, 20.0, 20.0, 20.0, 20.0, 25.0, 40.0, 40.0, 40.0, 40.0, 40.0])
    reading = Progress(total=4000, done=1000, rows=500, stream=Stream(11, 9, "Sale"))
    monkeypatch.setattr(LOGGER, "handlers", [])  # whoever has set messages up before has sent them elsewhere
    monkeypatch.setattr(LOGGER, "propagate", True)
    with caplog.at_level("INFO", LOGGER.name), FileWatch(quiet=quiet, as_lines=True, clock=lambda: next(seconds)) as watch:
        for _ in range(3):
            watch(reading)
    told = "tenant 11, location 9, Sale: reading, 25 % done, 500 rows, 25 a second, about 60 s left"
    assert caplog.messages == ([] if quiet else [told])


WATCHED = """
import itertools, pathlib, sys
from delta_mirror.cli.progress import FileWatch
from delta_mirror.config import load_config
from delta_mirror.jobs.baseline import Wishes, run_baseline
# A second at every look at the clock: what is over sooner than half a second shows no bar.
with FileWatch(quiet=False, as_lines=False, clock=itertools.count().__next__) as watch:
    run_baseline(load_config(pathlib.Path(sys.argv[1])), Wishes(sys.argv[2]), watch=watch)
"""


def test_on_a_terminal_a_bar_shows_rows_and_time_left(shop: Shop, bulk: Path) -> None:
    shop.configure(locations=[(11, 9)], entities=["Sale"])
    outer, inner = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", WATCHED, shop.configuration, bulk],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=inner, env={"TERM": "xterm", "COLUMNS": "120"},
    )  # fmt: skip
    os.close(inner)
    shown = b""
    with process, suppress(OSError):  # what a terminal ends with, once nobody writes to it any more
        while piece := os.read(outer, 4096):
            shown += piece
    os.close(outer)
    assert process.returncode == 0
    assert b"11/9 Sale" in shown
    assert b" rows" in shown
    assert b" %" in shown
