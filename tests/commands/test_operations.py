"""What a machine that is left alone needs of a run: the maintenance window, the metrics file, the health check."""

import os
import signal
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from furnished import WRITING, furnished, name_of
from installed import Held, Shop, call, wait_until_it_listens

from delta_mirror.core.values import EPOCH, SECOND
from delta_mirror.jobs.deltas import RunReport, run_deltas
from delta_mirror.mirror.lock import hold
from delta_mirror.simulator import HOUR, Clock, Service, World
from delta_mirror.simulator.export import write_export
from delta_mirror.simulator.faults import Fault, html, reset, slow, status
from health import Check, listening
from oracle import assert_exact

NOON = "11:30-12:30"  # the world begins at noon
EVENING = "18:00-19:00"


@pytest.fixture
def check() -> Iterator[Check]:
    with listening() as check:
        yield check


@pytest.fixture
def run(shop: Shop, world: World) -> Callable[[], RunReport]:
    """Return what runs `deltas` on the clock of the world."""
    return lambda: run_deltas(shop.config(), now=lambda: (world.now - EPOCH) / SECOND)


def metrics_of(file: Path) -> dict[str, float]:
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return {name.removeprefix("delta_mirror_"): float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


# The maintenance window


@pytest.mark.parametrize("fault", [status(500, times=None, entity="Client"), reset(times=None, entity="Client")])
def test_failure_of_the_service_within_the_window_is_shown_and_no_failure(shop: Shop, world: World, fault: Fault) -> None:
    world.populate(clients=3, sales=3)
    shop.configure(maintenance=NOON, zone="UTC")
    shop.service.faults.append(fault)

    ended = shop.sync("deltas", "--json")
    silent = shop.sync("--quiet", "deltas")
    report = ended.json()

    assert "warning: within the maintenance window ([dds] maintenance): page 0 of Client" in ended.err
    assert "error: " not in ended.err
    assert (silent.out, silent.err) == ("", "")
    assert report["outcome"] == "maintenance"
    assert {stream["entity"]: stream["expected"] for stream in report["streams"]}["Client"] is True
    assert shop.rows("select distinct outcome from _runs") == [("maintenance",)]
    assert shop.stream("Client")["state"] == "failing"
    assert "maintenance" in shop.sync("status").out
    shop.service.faults.clear()
    shop.fill()
    assert_exact(shop.mirror, world)


def test_same_failure_outside_of_the_window_is_one(shop: Shop, world: World) -> None:
    world.populate(clients=3)
    shop.configure(maintenance=EVENING, zone="UTC")
    shop.service.faults.append(status(500, times=None, entity="Client"))

    assert "error: page 0 of Client" in shop.sync("--quiet", "deltas", expect=3).err


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda shop: shop.service.faults.append(status(403, times=1, entity="Client")), "the service refuses it"),
        (lambda shop: shop.service.faults.append(status(401, times=None, entity="Client")), "refuses a token"),
        (lambda shop: shop.configure(maintenance=NOON, zone="UTC", client_secret="wrong"), "does not accept the credentials"),
        (lambda shop: shop.configure(maintenance=NOON, zone="UTC", calls_per_day=1), "calls of this day"),
        (lambda shop: shop.service.world.edit(shop.service.world.ids("Client")[0], _Odd="x"), "is in quarantine"),
    ],
    ids=["403", "401", "credentials", "budget", "quarantine"],
)
def test_what_somebody_has_to_mend_is_a_failure_at_any_hour(
    shop: Shop, world: World, spoil: Callable[[Shop], object], said: str
) -> None:
    world.populate(clients=3)
    shop.configure(maintenance=NOON, zone="UTC")
    spoil(shop)

    assert said in shop.sync("--quiet", "deltas", expect=3).err


def test_gap_is_a_failure_at_any_hour(shop: Shop, world: World) -> None:
    world.populate(clients=3)
    shop.configure(maintenance=NOON, zone="UTC")
    shop.fill()
    world.advance(24 * HOUR * 9)
    shop.service.faults.append(status(500, times=None, entity="Sale"))

    ended = shop.sync("--quiet", "deltas", expect=3)

    assert "gap: the feed can no longer tell" in ended.err


@pytest.fixture
def night(shop: Shop, world: World) -> Shop:
    """A shop with a drained mirror, whose service answers no question for a single record while it is maintained."""
    world.populate(clients=8, sales=4, over=3 * 24 * HOUR)
    shop.configure(maintenance=NOON, zone="UTC")
    shop.fill()
    shop.service.faults.append(status(500, times=None, endpoint="latest"))
    return shop


def test_single_records_that_do_not_come_within_the_window_are_shown_and_no_failure(night: Shop) -> None:
    known = night.value("select min(_id) from Client")

    ended = night.sync("refetch", "Client", known, "--json")

    assert ended.json()["outcome"] == "maintenance"
    assert [record["outcome"] for record in ended.json()["records"]] == ["failed"]
    assert "warning: within the maintenance window" in ended.err
    assert night.sync("--quiet", "refetch", "Client", known)[1:] == ("", "")
    night.service.faults[:] = [status(404, times=None, endpoint="latest")]
    night.sync("refetch", "Client", known, expect=3)


def test_drift_that_is_not_repaired_within_the_window_is_drift_and_the_health_check_and_the_metrics_say_so(
    night: Shop, check: Check
) -> None:
    text = night.configuration.read_text(encoding="utf-8")
    ops = f'[ops]\nmetrics_file = "delta.prom"\nping_url = "{check.url}/id"'
    night.configuration.write_text(text.replace("[ops]", ops), encoding="utf-8")
    write_export(night.service.world, night.folder / "export")
    with closing(sqlite3.connect(night.mirror)) as mirror, mirror:
        mirror.execute("update Client set FirstName = 'Somebody' where _id = (select min(_id) from Client)")

    ended = night.sync("verify", "export", "--repair", expect=5)

    assert night.rows("select outcome from _runs where command = 'verify'") == [("maintenance",)]
    assert "warning: within the maintenance window" in ended.err
    assert check.paths == ["/id/fail"]
    drifted = {name: value for name, value in metrics_of(night.folder / "delta.prom").items() if name.startswith("stream_drift")}
    assert sum(drifted.values()) == 1


def test_marketplace_that_is_away_within_the_window_is_no_failure_either(
    shop: Shop, run: Callable[[], RunReport], world: World
) -> None:
    world.populate(clients=3)
    shop.configure(maintenance=NOON, zone="UTC")
    shop.service.faults.append(html(endpoint="token", times=None))

    report = run()

    assert (report.outcome, report.is_whole, report.is_excused) == ("maintenance", False, True)
    assert "not the service's own JSON" in report.expected[0]


def test_pause_that_was_asked_for_within_the_window_quiets_the_run_behind_it_and_is_no_failure(
    shop: Shop, run: Callable[[], RunReport], world: World
) -> None:
    world.populate(clients=3)
    shop.configure(maintenance="11:30-12:05", zone="UTC", locations=[(11, 9)])
    shop.service.faults.append(status(503, times=1, entity="Client"))
    assert run().outcome == "maintenance"
    calls = len(shop.service.calls)
    world.advance(HOUR // 6)  # 12:10, outside; the pause is over at 12:15

    report = run()

    assert (report.outcome, len(shop.service.calls)) == ("maintenance", calls)
    world.advance(HOUR // 6)
    assert run().outcome == "done"


# The metrics file


def test_metrics_say_of_every_stream_how_fresh_it_is_and_of_the_last_run_how_it_went(shop: Shop, world: World) -> None:
    world.populate(clients=5, sales=3)
    file = shop.folder / "told" / "delta.prom"
    file.parent.mkdir()
    shop.configure(ops={"metrics_file": "told/delta.prom"}, locations=[(11, 9)], entities=["Client", "Sale"])
    shop.service.faults.append(status(500, times=1, entity="Sale"))

    shop.sync("deltas", expect=3)

    told = metrics_of(file)
    client, sale = (f'{{tenant="11",location="9",entity="{name}"' for name in ("Client", "Sale"))
    run = shop.rows("select calls, pages, inserted from _runs")[0]
    assert [told[f'last_run_{what}{{command="deltas"}}'] for what in ("calls", "pages", "success")] == [*run[:2], 0]
    assert told['last_run_records{command="deltas",what="inserted"}'] == run[2]
    assert told['last_run_outcome{command="deltas",outcome="unfinished"}'] == 1
    assert told[f"stream_records{client}}}"] == shop.stream("Client")["records"] > 0
    assert (told[f'stream_state{client},state="following"}}'], told[f'stream_state{sale},state="failing"}}']) == (1, 1)
    assert sum(value for name, value in told.items() if name.startswith("stream_state")) == 2
    assert told[f"stream_caught_up_time_seconds{client}}}"] == (world.now - EPOCH) // SECOND
    assert f"stream_caught_up_time_seconds{sale}}}" not in told
    assert told['calls_today{tenant="11",location="9"}'] >= 0
    assert (told["quarantine"], told["calls_per_day"]) == (0, 0)
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert [path.name for path in file.parent.iterdir()] == ["delta.prom"]


def test_every_command_that_writes_a_run_writes_the_metrics_and_calls_the_health_check(tmp_path: Path, check: Check) -> None:
    world = World(seed=7, clock=Clock.running())
    world.populate(clients=3, sales=2)
    with Service(world) as service:
        shop = Shop(tmp_path, service)
        with furnished(shop, check):
            for number, command in enumerate(WRITING, start=1):
                shop.sync(*command, expect=None)

                [[outcome]] = shop.rows("select outcome from _runs where id = ? and command = ?", number, name_of(command))
                told = metrics_of(shop.folder / "delta.prom")
                assert told[f'last_run_outcome{{command="{name_of(command)}",outcome="{outcome}"}}'] == 1
                assert check.paths[number - 1 :] == ["/ping-secret" if outcome == "done" else "/ping-secret/fail"]
    assert told['nexus_messages{outcome="applied"}'] == told["nexus_clients"] == 2
    assert told["nexus_last_received_time_seconds"] >= told['last_run_start_time_seconds{command="nexus ingest"}']
    assert told["nexus_dead_letters"] == 0
    assert (told["accela_links"], told['accela_pushes{state="waiting"}'], told['accela_pushes{state="failed"}']) == (1, 0, 0)
    assert told["accela_last_pushed_time_seconds"] >= told['last_run_start_time_seconds{command="accela push"}']


def test_command_that_writes_no_run_tells_nobody(shop: Shop, world: World, check: Check) -> None:
    world.populate(clients=2)
    shop.fill()
    shop.configure(ops={"metrics_file": "delta.prom", "ping_url": f"{check.url}/secret"})

    shop.sync("deltas", "--dry-run")
    shop.sync("status")
    with hold(shop.mirror):
        shop.sync("deltas", expect=4)
    shop.configure(ops={"metrics_file": "delta.prom", "ping_url": f"{check.url}/secret"}, mirror={"deletes": "mark"})
    shop.sync("deltas", expect=2)

    assert not (shop.folder / "delta.prom").exists()
    assert check.paths == []


def test_metrics_that_cannot_be_written_fail_no_run_and_leave_the_old_ones(shop: Shop, world: World) -> None:
    world.populate(clients=2)
    closed = shop.folder / "closed"
    closed.mkdir()
    (closed / "delta.prom").write_text("old", encoding="ascii")
    closed.chmod(0o500)
    shop.configure(ops={"metrics_file": "closed/delta.prom"})

    ended = call(shop, "deltas", expect=0)

    assert "warning: the metrics file" in ended.err
    assert "closed/delta.prom cannot be written (Permission denied)" in ended.err
    assert (closed / "delta.prom").read_text(encoding="ascii") == "old"
    assert call(shop, "--quiet", "deltas", expect=0).err == ""


# The health check


def test_health_check_is_called_after_each_run_by_how_it_went(shop: Shop, world: World, check: Check) -> None:
    world.populate(clients=2)
    shop.configure(ops={"ping_url": f"{check.url}/secret-id"}, maintenance=EVENING, zone="UTC")
    calls = len(shop.service.calls)

    shop.sync("deltas")
    shop.service.faults.append(status(500, times=1, entity="Client"))
    shop.sync("deltas", expect=3)
    shop.configure(ops={"ping_url": f"{check.url}/secret-id"}, maintenance=NOON, zone="UTC")
    shop.service.faults.append(status(500, times=1, entity="Client"))
    shop.sync("deltas")

    assert check.paths == ["/secret-id", "/secret-id/fail", "/secret-id"]
    assert shop.value("select sum(calls) from _runs") == shop.value("select sum(calls) from _calls")
    assert len(shop.service.calls) > calls


def test_health_check_that_is_not_there_fails_no_run_and_its_address_is_said_nowhere(shop: Shop, world: World) -> None:
    world.populate(clients=2)
    shop.configure(ops={"ping_url": "http://127.0.0.1:1/secret-id"})

    ended = shop.sync("--verbose", "deltas")

    assert "warning: the health check ([ops] ping_url) was not told of this run: it cannot be reached" in ended.err
    assert "secret-id" not in ended.err + ended.out
    assert shop.sync("--quiet", "deltas").err == ""


def test_run_that_is_stopped_or_fails_as_a_whole_is_told_as_a_failure(shop: Shop, world: World, check: Check) -> None:
    world.populate(clients=2)
    shop.configure(ops={"ping_url": f"{check.url}/id"})
    held = Held()
    shop.service.faults.append(slow(held, entity="Client"))
    with shop.held_run(held, "deltas") as process:
        wait_until_it_listens(process)
        process.send_signal(signal.SIGTERM)
        shop.end(process, expect=128 + signal.SIGTERM)

    assert check.paths == ["/id/fail"]


def test_lock_is_free_while_the_health_check_is_waited_for(shop: Shop, world: World, check: Check) -> None:
    world.populate(clients=2)
    shop.configure(ops={"ping_url": f"{check.url}/id"})
    check.release.clear()
    with shop.running("deltas") as process:
        while not check.paths:
            assert process.poll() is None
        with hold(shop.mirror):
            check.release.set()
        shop.end(process)


def test_metrics_and_health_check_leave_nothing_beside_the_mirror(shop: Shop, world: World, check: Check) -> None:
    world.populate(clients=2)
    shop.configure(ops={"metrics_file": "delta.prom", "ping_url": check.url})

    shop.sync("deltas")

    beside = {path.name for path in shop.folder.iterdir()}
    assert beside == {"config.toml", "mirror.db", "mirror.db.lock", "delta.prom"}
    with closing(sqlite3.connect(shop.mirror)) as mirror:
        assert mirror.execute("pragma integrity_check").fetchall() == [("ok",)]
    assert os.access(shop.folder / "delta.prom", os.R_OK)
