"""A run killed at any instant leaves a sound mirror, and the next run goes on: SIGKILL, at instants spread over a whole drain."""

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from installed import Held, Shop, assert_log_tells_one_story, assert_sound

from delta_mirror.simulator import DAY, MINUTE, Service, World
from delta_mirror.simulator.faults import slow
from oracle import assert_exact

KILLS = 30
SIZE = 6  # rows a page: a drain takes some hundred pages
BACKLOG = 300  # changes between two kills, so that every run has pages to read from its beginning to its end


@pytest.fixture
def large(tmp_path: Path) -> Iterator[Shop]:
    """A salon with many pages, and a folder."""
    world = World(seed=40)
    world.populate(clients=220, employees=40, appointments=140, sales=160, over=3 * DAY)
    with Service(world) as service:
        shop = Shop(tmp_path, service)
        shop.configure(items_per_page=SIZE)
        yield shop


def entries_applied(shop: Shop) -> int:
    """Return how many entries of pages the mirror has committed, over all runs."""
    return int(shop.value("select coalesce(sum(inserted + replaced + deleted + revived + unchanged + superseded), 0) from _runs"))


def entries_answered(shop: Shop) -> int:
    """Return how many entries the service has sent, over all pages whose answer is out."""
    return sum(call.rows or 0 for call in shop.service.pages() if call.status == 200)


def time_of_a_whole_run(shop: Shop) -> float:
    """Return how many seconds a run takes, from its start as a process to its end, that fills a mirror of its own."""
    begun = time.monotonic()
    shop.sync("deltas")
    return time.monotonic() - begun


def test_a_run_killed_at_any_instant_leaves_a_sound_mirror_and_the_next_run_goes_on(large: Shop) -> None:
    shop, world = large, large.service.world
    whole = time_of_a_whole_run(shop)
    assert_exact(shop.mirror, world)
    assert entries_applied(shop) == entries_answered(shop)  # so that the difference tells what a kill has dropped
    for leftover in shop.folder.glob("mirror.db*"):
        leftover.unlink()
    killed = between_fetch_and_commit = resumed = 0
    applied_before, answered_before = 0, entries_answered(shop)
    for number in range(KILLS):
        begun = time.monotonic()
        process = shop.start("deltas")
        with process:
            try:
                process.wait(whole * (number + 1) / KILLS)
            except subprocess.TimeoutExpired:
                answered = entries_answered(shop)
                process.kill()
                process.communicate()
        if process.returncode == 0:
            whole = min(whole, time.monotonic() - begun)  # the machine has become faster than when we measured
        if process.returncode == -signal.SIGKILL and shop.mirror.exists() and has_tables(shop):
            killed += 1
            assert_sound(shop)
            assert_log_tells_one_story(shop)
            # Only what was answered before the kill counts: an answer that came later was never there to be committed.
            applied = entries_applied(shop)
            between_fetch_and_commit += answered - answered_before > applied - applied_before
            resumed += shop.value("select count(*) from _streams where place is not null") > 0
        applied_before, answered_before = entries_applied(shop) if has_tables(shop) else 0, entries_answered(shop)
        world.busy_hour(number, BACKLOG, over=10 * MINUTE)
    assert killed >= KILLS / 4, f"only {killed} runs were killed at work"
    assert between_fetch_and_commit > 0, "no kill fell between a fetch and its commit"
    assert resumed > 0, "no kill left a drain behind that could go on"
    shop.sync("deltas")
    assert_exact(shop.mirror, world)
    assert_sound(shop)
    assert_log_tells_one_story(shop)
    assert {outcome for (outcome,) in shop.rows("select outcome from _runs")} <= {"killed", "done"}


def test_a_killed_run_has_counted_the_call_that_was_under_way_and_its_lock_blocks_nobody(shop: Shop) -> None:
    shop.service.world.populate(clients=30, over=DAY, locations=(9,))
    shop.configure(entities=["Client"], locations=[(11, 9)], items_per_page=10)
    held = Held()
    shop.service.faults.append(slow(held, endpoint="changes", after=2))
    with shop.held_run(held, "deltas") as process:
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert shop.value("select sum(calls) from _calls") == shop.public_calls() == 3
    assert shop.mirror.with_name("mirror.db.lock").exists()
    shop.sync("deltas")
    assert_exact(shop.mirror, shop.service.world)
    assert shop.rows("select outcome from _runs order by id") == [("killed",), ("done",)]
    assert shop.value("select sum(calls) from _calls") == shop.public_calls()


def has_tables(shop: Shop) -> bool:
    """Return whether the run came as far as making a mirror."""
    return shop.mirror.exists() and bool(shop.value("select count(*) from sqlite_master where name = '_runs'"))
