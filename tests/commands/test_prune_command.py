"""`sync prune`, through the installed program: what it says, what it writes, and that a kill at any instant does no harm."""

import signal
import sqlite3
import subprocess
import time
from contextlib import closing, suppress

import pytest
from installed import Shop

from delta_mirror.jobs.prune import PruneWishes, run_prune
from delta_mirror.mirror.lock import hold
from delta_mirror.simulator import World
from oracle import assert_exact

OLD = "2020-01-01T00:00:00Z"
CHANGES = 150_000
KILLS = 5


@pytest.fixture
def old(shop: Shop, world: World) -> Shop:
    """A shop with three clients whose logs are years old."""
    for number in range(3):
        world.create("Client", FirstName=f"Ada {number}")
    shop.fill()
    age(shop)
    return shop


def age(shop: Shop) -> None:
    with closing(sqlite3.connect(shop.mirror)) as mirror, mirror:
        mirror.execute("update _changes set at = ?", (OLD,))
        mirror.execute("update _runs set started_at = ?, ended_at = ?", (OLD, OLD))
        mirror.execute("delete from _calls")


def pruned_through(shop: Shop) -> int:
    return int(shop.value("select coalesce(max(cast(value as integer)), 0) from _meta where key = 'pruned_through'"))


def test_what_was_forgotten_and_what_was_kept_is_said(old: Shop) -> None:
    old.fill()
    age(old)

    ended = old.sync("prune", "--older-than", "90d")

    lines = ended.out.splitlines()
    assert lines[0].startswith("run 3: forgotten of what is older than 20")
    assert lines[0].endswith(": 3 changes, 1 run")
    assert lines[1:3] == ["kept: 1 run: the last of a command", "the log of changes goes back to seq 4"]
    size = old.mirror.stat().st_size
    assert lines[3].startswith(f"the file has {size:,} bytes, of which ")
    assert ended.err == ""
    assert old.rows("select command, outcome from _runs") == [("deltas", "done"), ("prune", "done")]
    assert old.value("select count(*) from Client") == 3


def test_as_json(old: Shop) -> None:
    report = old.sync("prune", "--older-than", "90d", "--json").json()

    assert report["forgotten"] == {
        "_changes": 3,
        "_messages": 0,
        "_accela_pushes": 0,
        "_tombstones": 0,
        "_runs": 0,
        "_calls": 0,
        "_call_times": 0,
    }
    assert report["kept"] == [{"table": "_runs", "why": "the last of a command", "number": 1}]
    assert (report["run_id"], report["outcome"], report["pruned_through"]) == (2, "done", 3)
    assert report["bytes"] >= report["free_bytes"] >= 0


def test_quiet_says_nothing_and_a_dry_run_forgets_nothing(old: Shop) -> None:
    before = old.contents()

    told = old.sync("prune", "--older-than", "90d", "--dry-run")

    assert told.out.startswith("dry run, nothing is written: would forget of what is older than ")
    assert "3 changes" in told.out
    assert old.contents() == before
    assert old.sync("--quiet", "prune", "--older-than", "90d")[1:] == ("", "")
    assert old.value("select count(*) from _changes") == 0


def test_deltas_after_it_are_exact_and_as_cheap_as_before_however_far_our_clock_is_ahead(shop: Shop, world: World) -> None:
    ids = [world.create("Client", FirstName=f"Ada {number}") for number in range(6)]
    shop.fill()
    for id_ in ids[:3]:
        world.delete(id_)
    shop.fill()
    shop.fill()
    before = shop.public_calls()
    shop.fill()
    quiet = shop.public_calls() - before
    later = time.time() + 40 * 86_400

    report = run_prune(shop.config(), PruneWishes(86_400.0), now=lambda: later)
    before = shop.public_calls()
    shop.fill()

    assert (report.pruned.forgotten["_changes"], report.pruned.forgotten["_tombstones"]) == (9, 0)
    assert shop.public_calls() - before == quiet
    assert_exact(shop.mirror, world)


def test_who_reads_on_from_before_what_was_forgotten_is_told(old: Shop) -> None:
    old.sync("prune", "--older-than", "90d")

    assert "was pruned up to seq 3" in old.sync("changes", "--after", "2", expect=3).err
    assert old.sync("changes", "--after", "3").out == ""


@pytest.fixture
def pruned(old: Shop, world: World) -> Shop:
    """The shop of `old` after it was pruned, with a run since that has logged one change more."""
    old.sync("prune", "--older-than", "90d")
    world.create("Client", FirstName="Bea")
    old.fill()
    return old


@pytest.mark.parametrize("arguments", [("--run", "1"), ("--since", "2019-01-01T00:00:00Z"), ("--since", OLD)], ids=" ".join)
def test_who_asks_for_a_time_or_a_run_that_was_forgotten_gets_the_rest_and_is_told(
    pruned: Shop, arguments: tuple[str, ...]
) -> None:
    ended = pruned.sync("changes", *arguments, expect=3)

    assert "was pruned up to seq 3: of what was carried out until 2020-01-01T00:00:00Z (run 1)" in ended.err
    assert len(ended.out.splitlines()) == (1 if arguments[0] == "--since" else 0)
    assert "was pruned" in pruned.sync("--quiet", "changes", "--limit", "1", "--follow", "--since", OLD, expect=3).err


def test_who_asks_for_what_came_later_is_told_nothing_and_who_asks_for_all_where_it_begins(pruned: Shop) -> None:
    assert pruned.sync("changes", "--run", "3").err == ""
    assert pruned.sync("changes", "--since", "2020-01-01T00:00:01Z").err == ""
    assert pruned.sync("changes", "--after", "3").err == ""
    assert "was pruned up to seq 3" in pruned.sync("changes", expect=0).err
    assert pruned.sync("--quiet", "changes").err == ""


def test_change_dated_by_a_clock_that_was_ahead_does_not_for_ever_make_later_times_incomplete(old: Shop, world: World) -> None:
    with closing(sqlite3.connect(old.mirror)) as mirror, mirror:
        mirror.execute("update _changes set at = '2090-01-01T00:00:00Z' where seq = 2")
    old.sync("prune", "--older-than", "90d")
    world.create("Client", FirstName="Bea")
    old.fill()
    later = "2089-01-01T00:00:00Z"
    with closing(sqlite3.connect(old.mirror)) as mirror, mirror:
        mirror.execute("update _changes set at = ?", (later,))

    ended = old.sync("changes", "--since", later)

    assert (ended.err, len(ended.out.splitlines())) == ("", 1)
    assert "was pruned up to seq 3" in old.sync("changes", "--since", OLD, expect=3).err


def test_another_run_is_failed_on_or_passed_over(old: Shop) -> None:
    with hold(old.mirror):
        old.sync("prune", "--older-than", "90d", expect=4)
        assert old.sync("prune", "--older-than", "90d", "--if-running", "skip").err.startswith("skipped: ")
    assert old.value("select count(*) from _changes") == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Missing option '--older-than'"),
        (("--older-than", "5"), "'5' is no duration"),
        (("--older-than", "23h"), "--older-than is shorter than 1d"),
    ],
)
def test_what_cannot_be_meant_is_refused(old: Shop, arguments: tuple[str, ...], said: str) -> None:
    before = old.contents()

    assert said in old.sync("prune", *arguments, expect=2).err
    assert old.contents() == before


def test_deadline_ends_it_with_what_was_done_by_then(old: Shop) -> None:
    ended = old.sync("prune", "--older-than", "90d", "--deadline", "0s", expect=3)

    assert "the deadline was reached; what was committed stays, and the next run goes on with the rest" in ended.err
    assert old.value("select outcome from _runs order by id desc limit 1") == "stopped"
    old.sync("prune", "--older-than", "90d")
    assert old.value("select count(*) from _changes") == 0


def test_a_run_killed_at_any_instant_leaves_a_sound_log_and_the_next_one_goes_on(old: Shop) -> None:
    with closing(sqlite3.connect(old.mirror)) as mirror, mirror:
        mirror.executemany(
            "insert into _changes (at, run_id, tenant_id, location_id, entity, id, op) "
            "values (?, 1, 11, 9, 'Client', ?, 'insert')",
            [(OLD, str(number)) for number in range(CHANGES)],
        )
    records = old.rows("select * from Client")
    top = CHANGES + 3
    killed_at_work = 0
    for number in range(KILLS):
        before = pruned_through(old)
        process = old.start("prune", "--older-than", "90d")
        while process.poll() is None and pruned_through(old) == before:  # until a first batch is committed, and a little longer
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.001)
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.003 * number)
        process.kill()
        process.communicate()
        assert old.value("pragma integrity_check") == "ok"
        through = pruned_through(old)
        assert old.rows("select min(seq), count(*) from _changes") == [(through + 1 if through < top else None, top - through)]
        killed_at_work += process.returncode == -signal.SIGKILL and before < through < top
    assert killed_at_work > 0
    old.sync("prune", "--older-than", "90d")
    assert old.value("select count(*) from _changes") == 0
    assert old.rows("select * from Client") == records
