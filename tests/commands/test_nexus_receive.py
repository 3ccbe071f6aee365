"""`sync nexus receive`: stored first, then completed; nothing lost, whatever dies, fails or comes twice."""

import json
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from installed import PATIENCE, SYNC, Ended, rows_of

from delta_mirror.config import load_config
from delta_mirror.jobs.ingest import Wishes as Ingest
from delta_mirror.jobs.ingest import run_ingest
from delta_mirror.jobs.receive import GRACE, ReceiveReport, Wishes, run_receive
from delta_mirror.simulator.bus import KEY, SUBSCRIPTION, Bus, BusFault
from delta_mirror.simulator.clock import SECOND, Clock
from delta_mirror.simulator.profiles import profile_message
from delta_mirror.simulator.subscription import BusDials

KILLS = 20
PROMPT = 2.0  # seconds
TABLES = ("NexusClient", "NexusAddress", "NexusContact")


class Gate(Event):
    """The `release` of what the broker holds back; `reached` is set as soon as it holds something back."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = Event()

    def is_set(self) -> bool:
        """Answer as an event does."""
        self.reached.set()
        return super().is_set()


class Desk:
    """A folder with a configuration, the mirror that it names, and the broker that it receives from."""

    def __init__(self, folder: Path, bus: Bus) -> None:
        self.folder = folder
        self.bus = bus
        self.mirror = folder / "mirror.db"
        self.configure()

    def configure(self, http: str = "attempts = 1", **nexus: str) -> None:
        """Write a configuration; *nexus* takes the place of what the broker gives."""
        given = dict(line.split(" = ") for line in self.bus.configuration().splitlines()[1:])
        section = "".join(f"{name} = {value}\n" for name, value in (given | {key: f"'{nexus[key]}'" for key in nexus}).items())
        path = self.folder / "config.toml"
        path.write_text(f"[mirror]\npath = 'mirror.db'\n[http]\ntimeout = '20s'\n{http}\n[nexus]\n{section}", encoding="utf-8")
        path.chmod(0o600)

    def start(self, *arguments: str, through: str = 'exec "$@"') -> subprocess.Popen[str]:
        """Return a process that has just been started; *through* is the shell's way to it."""
        return subprocess.Popen(
            ["/bin/sh", "-c", through, "sh", SYNC, *arguments],
            cwd=self.folder,
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.folder), "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self, process: subprocess.Popen[str], *, expect: int = 0) -> Ended:
        """Return how *process* has ended."""
        with process:
            out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == expect, f"exit {process.returncode} instead of {expect}\n{out}\n{err}"
        assert "Traceback" not in err, err
        assert KEY not in out + err
        return Ended(process.returncode, out, err)

    def receive(self, *options: str, expect: int = 0, wait: str = "0s", quiet: bool = False, through: str = 'exec "$@"') -> Ended:
        """Return how `sync nexus receive` has ended, which takes what is there now."""
        call = (*(["--quiet"] if quiet else []), "nexus", "receive", "--wait", wait, *options)
        return self.end(self.start(*call, through=through), expect=expect)

    def report(self, *options: str, expect: int = 0) -> dict[str, Any]:
        """Return what `sync nexus receive --json` tells."""
        found: dict[str, Any] = self.receive("--json", *options, expect=expect).json()
        return found

    def take(self, *, expect: str = "done") -> ReceiveReport:
        """Receive inside this process, which is quicker: for what only leads up to what a test is about, or away from it."""
        report = run_receive(load_config(self.folder / "config.toml"), Wishes(quiet=0.0))
        assert report.outcome == expect, report.trouble
        return report

    def value(self, sql: str) -> Any:
        """Return the one value that the mirror answers to *sql*."""
        [[value]] = rows_of(self.mirror, sql)
        return value

    @property
    def messages(self) -> int:
        """How many messages the mirror has taken."""
        return int(self.value("select count(*) from _messages"))

    @contextmanager
    def running(self, *options: str, wait: str = "0s") -> Iterator[subprocess.Popen[str]]:
        """Start a run that is gone at the end of the body, however that ends."""
        process = self.start("nexus", "receive", "--wait", wait, *options)
        with process:  # which closes its pipes, also where it has ended by itself and nobody has read them
            try:
                yield process
            finally:
                process.kill()

    def hold(self, operation: Any, after: int = 0) -> Gate:
        """Let the broker hold back every call of *operation* after so many; return what lets them go."""
        gate = Gate()
        self.bus.faults.append(BusFault("slow", operation, after=after, times=None, release=gate))
        return gate

    def give_up(self, times: int) -> None:
        """Let the next message be delivered to somebody else so often, who gives it back."""
        with self.bus.lock:
            for _ in range(times):
                taken = self.bus.subscription.take()
                assert taken is not None
                assert taken.token is not None
                self.bus.subscription.unlock(taken.token)


@pytest.fixture
def bus() -> Iterator[Bus]:
    """A well-behaved broker."""
    with Bus() as bus:
        yield bus


@pytest.fixture
def desk(tmp_path: Path, bus: Bus) -> Desk:
    """A folder with a configuration for it, and no mirror yet."""
    return Desk(tmp_path, bus)


def until(holds: Callable[[], bool]) -> None:
    """Return as soon as *holds* does."""
    ends = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < ends
        Event().wait(0.002)


def messages(number: int, clients: int = 10) -> list[bytes]:
    return [profile_message(each, clients) for each in range(number)]


def contents(mirror: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return what the mirror holds of clients, without the times at which it was written."""
    with closing(sqlite3.connect(mirror)) as connection:
        connection.row_factory = sqlite3.Row
        return {
            table: sorted(
                [
                    tuple(value for name, value in dict(row).items() if name != "_synced_at")
                    for row in connection.execute(f"select * from {table}")
                ],
                key=repr,
            )
            for table in TABLES
        }


def in_order(folder: Path, bodies: list[bytes]) -> dict[str, list[tuple[Any, ...]]]:
    """Return what a mirror holds that took *bodies* from a file, in order."""
    folder.mkdir()
    (folder / "messages.jsonl").write_bytes(b"\n".join(bodies))
    (folder / "config.toml").write_text("[mirror]\npath = 'mirror.db'\n", encoding="utf-8")
    run_ingest(load_config(folder / "config.toml"), Ingest((str(folder / "messages.jsonl"),)))
    return contents(folder / "mirror.db")


# What is received


def test_what_waits_is_stored_and_completed_and_told(desk: Desk) -> None:
    desk.bus.publish(*messages(30))
    ended = desk.receive()
    assert ended.err == ""
    assert ended.out.startswith("run 1: 30 messages in ")
    assert "30 applied" in ended.out
    assert desk.messages == 30
    assert len(desk.bus.subscription.completed) == 30
    assert desk.bus.subscription.left == 0
    assert desk.value("select count(*) from NexusClient") == 10


def test_report_for_programs_has_the_run_and_what_became_of_the_messages(desk: Desk) -> None:
    desk.bus.publish(*messages(12))
    desk.bus.publish(*messages(3), message_id=None)
    report = desk.report()
    assert report["messages"] == {"taken": 15, "applied": 12, "superseded": 0, "quarantined": 0, "repeated": 0, "erased": 0} | {
        "applied": report["messages"]["applied"],
        "superseded": report["messages"]["superseded"],
        "repeated": report["messages"]["repeated"],
    }
    assert report["command"] == "nexus receive"
    assert report["outcome"] == "done"
    assert (report["completed"], report["unlocked"], report["lost"], report["most_deliveries"]) == (15, 0, 0, 1)
    assert report["dead_letters"] is False
    assert report["calls"] == len(desk.bus.calls)
    row = rows_of(desk.mirror, "select id, command, outcome, calls, inserted, replaced from _runs")
    assert row == [tuple(report[name] for name in ("id", "command", "outcome", "calls", "inserted", "replaced"))]


def test_where_nothing_waits_a_run_is_done_and_the_tables_are_there(desk: Desk) -> None:
    assert desk.receive(quiet=True) == (0, "", "")
    assert desk.messages == 0
    assert all(desk.value(f"select count(*) from {table}") == 0 for table in TABLES)


def test_broker_in_any_order_with_repetitions_gives_the_same_mirror(tmp_path: Path) -> None:
    bodies = messages(300)
    with Bus(BusDials(order="random", duplicates=0.3)) as bus:
        (tmp_path / "desk").mkdir()
        desk = Desk(tmp_path / "desk", bus)
        bus.publish(*bodies)
        stored = desk.take().stored
        assert stored.repeated == stored.messages - 300 > 30
        assert bus.subscription.left == 0
    assert contents(desk.mirror) == in_order(tmp_path / "other", bodies)


def test_no_more_are_taken_than_are_wanted_and_the_others_stay_free(desk: Desk) -> None:
    desk.bus.publish(*messages(20))
    assert desk.report("--max", "5")["messages"]["taken"] == 5
    assert (desk.bus.subscription.left, desk.bus.subscription.locked) == (15, 0)
    assert desk.bus.counts()["take"] == 5


def test_what_comes_while_it_waits_is_received_and_then_it_ends_by_itself(desk: Desk) -> None:
    with desk.running("--json", wait="1s") as process:
        until(lambda: bool(desk.bus.waiting))
        desk.bus.publish(*messages(3))
        until(lambda: len(desk.bus.subscription.completed) == 3)
        assert desk.end(process).json()["messages"]["taken"] == 3


def test_broker_that_says_too_soon_that_there_is_nothing_is_asked_again(tmp_path: Path) -> None:
    with Bus(BusDials(patience=0.0)) as bus:
        desk = Desk(tmp_path, bus)
        with desk.running("--json", wait="2s") as process:
            until(lambda: any(call.operation == "take" for call in bus.calls))
            bus.publish(*messages(3))
            assert desk.end(process).json()["messages"]["taken"] == 3
        assert len(bus.calls) < 50  # not as fast as it can


# First stored, then completed


def test_nothing_is_completed_before_it_is_stored(desk: Desk) -> None:
    desk.bus.publish(*messages(40))
    gate = desk.hold("complete")
    with desk.running("--json") as process:
        until(gate.reached.is_set)
        assert desk.messages >= 1
        assert desk.bus.subscription.completed == []
        gate.set()
        assert desk.end(process).json()["completed"] == 40


def test_while_the_mirror_cannot_be_written_locks_are_renewed_and_nothing_is_completed(tmp_path: Path) -> None:
    with Bus(BusDials(lock_seconds=1.0)) as bus:
        desk = Desk(tmp_path, bus)
        bus.publish(*messages(1))
        gate = desk.hold("take")
        with desk.running("--json") as process:
            until(gate.reached.is_set)
            with closing(sqlite3.connect(desk.mirror, isolation_level=None)) as other:
                other.execute("begin immediate")
                gate.set()
                until(lambda: bus.counts()["renew"] >= 2)
                assert bus.subscription.completed == []
                other.execute("rollback")
            report = desk.end(process).json()
        assert (report["completed"], report["lost"], report["most_deliveries"]) == (1, 0, 1)


def test_message_whose_lock_is_lost_comes_again_and_changes_nothing(tmp_path: Path) -> None:
    clock = Clock.running()
    with Bus(clock=clock) as bus:
        desk = Desk(tmp_path, bus)
        bus.publish(*messages(1))
        gate = desk.hold("complete")
        with desk.running("--max", "1", "--json") as process:
            until(gate.reached.is_set)
            clock.advance(61 * SECOND)
            gate.set()
            assert desk.end(process).json()["lost"] == 1
        before = contents(desk.mirror)
        report = desk.take()
        assert (report.stored.repeated, report.completed, report.most_often) == (1, 1, 2)
        assert contents(desk.mirror) == before
        assert desk.value("select times from _messages") == 2
        assert desk.value("select count(*) from _changes") == 1


@pytest.mark.parametrize(("attempts", "expect"), [(2, 0), (1, 3)])
def test_completion_whose_answer_is_lost_loses_nothing(desk: Desk, attempts: int, expect: int) -> None:
    desk.configure(http=f"attempts = {attempts}\nmax_wait = '0s'")
    desk.bus.publish(*messages(20))
    desk.bus.faults.append(BusFault("drop", "complete", after=5))
    desk.receive(expect=expect)
    desk.bus.clock.advance(61 * SECOND)
    desk.take()
    assert desk.messages == 20
    assert sorted(desk.bus.subscription.completed) == sorted(
        message_id for (message_id,) in rows_of(desk.mirror, "select message_id from _messages")
    )


def test_message_whose_delivery_is_lost_comes_again(desk: Desk) -> None:
    desk.bus.publish(*messages(5))
    desk.bus.faults.append(BusFault("drop", "take", after=2))
    desk.configure(http="attempts = 2\nmax_wait = '0s'")
    desk.take()
    desk.bus.clock.advance(61 * SECOND)
    desk.take()
    assert desk.messages == 5
    assert desk.bus.subscription.left == 0


def test_run_killed_twenty_times_loses_nothing(tmp_path: Path) -> None:
    clock = Clock.running()
    bodies = messages(KILLS * 40)
    with Bus(BusDials(max_delivery_count=1000), clock=clock) as bus:
        (tmp_path / "desk").mkdir()
        desk = Desk(tmp_path / "desk", bus)
        stored_and_not_completed = 0
        for number in range(KILLS):
            bus.publish(*bodies[number * 40 : (number + 1) * 40])
            with desk.running(wait="30s") as process:
                seen = len(bus.calls)
                until(lambda goal=seen + 1 + number * 4: len(bus.calls) >= goal)  # type: ignore[misc]  # of this round
                process.kill()
                process.communicate()
            assert process.returncode == -signal.SIGKILL
            stored = {message_id for (message_id,) in rows_of(desk.mirror, "select message_id from _messages")}
            completed = set(bus.subscription.completed)
            assert completed <= stored, "a message was completed that is not in the mirror"
            stored_and_not_completed += len(stored - completed) > 0
            assert desk.value("pragma integrity_check") == "ok"
            clock.advance(61 * SECOND)  # the locks of the dead run end
        assert stored_and_not_completed > 0, "no kill fell between storing and completing"
        for _ in range(2):  # a call that the last run had on its way may lock a message even after its end
            desk.take()
            clock.advance(61 * SECOND)
        assert bus.subscription.left == 0
        assert desk.messages == len(bodies)
    assert contents(desk.mirror) == in_order(tmp_path / "other", bodies)


# What cannot be stored, or not be read


def with_room_for(kilobytes: int) -> str:
    """Return the shell's way to a process whose files may not grow beyond that."""
    # No compiled modules are written: they would be cut by the limit, too, and stay so.
    return f'export PYTHONDONTWRITEBYTECODE=1; ulimit -f {kilobytes}; exec "$@"'


def test_what_cannot_be_stored_is_given_back_and_comes_when_there_is_room(desk: Desk) -> None:
    desk.take()
    desk.bus.publish(*messages(1), *(profile_message(each).replace(b"Given", b"G" * 40_000) for each in range(40)))
    room = desk.mirror.stat().st_size // 512 + 600
    ended = desk.receive(expect=3, through=with_room_for(room))
    assert "disk" in ended.err
    stored = desk.messages
    assert len(desk.bus.subscription.completed) == stored < 41
    assert desk.bus.subscription.locked == 0
    assert desk.bus.counts()["unlock"] > 0
    desk.take()
    assert desk.messages == 41
    assert desk.bus.subscription.left == 0


def test_mirror_that_cannot_be_written_at_all_costs_no_message_a_delivery(desk: Desk) -> None:
    desk.take()
    taken = len(desk.bus.calls)
    desk.bus.publish(*messages(10))
    desk.receive(expect=3, through=with_room_for(0))
    assert len(desk.bus.calls) == taken


def test_what_cannot_be_read_goes_to_quarantine_and_is_completed_after_that(desk: Desk) -> None:
    desk.bus.publish(b"{no message", message_id="broken")
    desk.bus.publish(*messages(3))
    ended = desk.receive(quiet=True, expect=3)
    assert "in quarantine: 1 message" in ended.err
    assert desk.bus.subscription.left == 0
    assert desk.value("select count(*) from _quarantine") == 1
    assert rows_of(desk.mirror, "select outcome, count(*) from _messages group by outcome order by 1") == [
        ("applied", 3),
        ("quarantined", 1),
    ]
    desk.bus.publish(b"{no message", message_id="broken")
    desk.take()  # it is said once


# What the broker refuses, and what it has given up


def test_token_refused_in_the_middle_is_made_anew(desk: Desk) -> None:
    desk.bus.publish(*messages(30))
    desk.bus.faults += [BusFault("answer", "take", after=9, status=401), BusFault("answer", "complete", after=5, status=401)]
    desk.take()
    assert desk.messages == 30


def test_wrong_key_is_told_with_what_to_look_at_and_nothing_is_lost(desk: Desk) -> None:
    desk.bus.publish(*messages(3))
    desk.configure(key="d3Jvbmc=")
    ended = desk.receive(quiet=True, expect=3)
    assert "nexus.key_name and nexus.key" in ended.err
    assert ended.err.count("error:") == 1
    assert desk.value("select outcome from _runs") == "unfinished"
    assert desk.bus.subscription.left == 3


def test_pause_that_the_broker_asks_for_holds_for_later_runs_too(desk: Desk) -> None:
    desk.bus.faults.append(BusFault("answer", "take", status=503, headers=(("Retry-After", "600"),)))
    desk.take(expect="unfinished")
    calls = len(desk.bus.calls)
    assert "told us to stop until" in desk.receive(expect=3).err
    assert len(desk.bus.calls) == calls


def test_dead_letters_are_told_and_can_be_taken(desk: Desk) -> None:
    desk.bus.publish(*messages(2))
    desk.give_up(10)
    ended = desk.receive(quiet=True, expect=3)
    assert "$DeadLetterQueue" in ended.err
    assert desk.messages == 1
    desk.configure(subscription=f"{SUBSCRIPTION}/$DeadLetterQueue")
    desk.take()
    desk.configure()
    desk.take()
    assert desk.messages == 2


def test_message_that_was_delivered_often_is_told(desk: Desk) -> None:
    desk.bus.publish(*messages(1))
    desk.give_up(6)
    ended = desk.receive()
    assert "1 messages had been delivered 5 times or more, one of them 7 times" in ended.err


def test_clock_that_differs_from_the_brokers_is_told(tmp_path: Path) -> None:
    with Bus(clock=Clock()) as bus:
        desk = Desk(tmp_path, bus)
        bus.publish(*messages(2))
        assert "the clock of this machine is " in desk.receive().err
        assert desk.messages == 2


# Ends before the end


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
def test_run_that_waits_for_messages_ends_at_once_and_complains_of_nothing(desk: Desk, number: signal.Signals, code: int) -> None:
    desk.configure(http="attempts = 6")
    with desk.running(wait="10m") as process:
        until(lambda: bool(desk.bus.waiting))
        told = time.monotonic()
        process.send_signal(number)
        ended = desk.end(process, expect=code)
        assert time.monotonic() - told < PROMPT
    assert ended.err.startswith("stopped")
    assert desk.value("select outcome from _runs") == "stopped"


def test_stopped_run_leaves_everything_stored_and_completed_or_free(desk: Desk) -> None:
    desk.bus.publish(*messages(400))
    with desk.running(wait="10m") as process:
        until(lambda: len(desk.bus.subscription.completed) > 100)
        process.send_signal(signal.SIGTERM)
        desk.end(process, expect=143)
    assert len(desk.bus.subscription.completed) == desk.messages
    # What was on its way to a receiver that was told to go is locked for a while, by nobody.
    assert desk.bus.subscription.locked <= 32
    desk.bus.clock.advance(61 * SECOND)
    desk.take()
    assert desk.messages == 400


def test_stopped_run_does_not_wait_for_a_broker_that_is_silent(desk: Desk) -> None:
    desk.bus.publish(*messages(3))
    gate = desk.hold("complete")
    with desk.running() as process:
        until(gate.reached.is_set)
        told = time.monotonic()
        process.send_signal(signal.SIGTERM)
        desk.end(process, expect=143)
        assert time.monotonic() - told < GRACE + PROMPT
    gate.set()
    desk.bus.faults.clear()
    desk.bus.clock.advance(61 * SECOND)
    desk.take()
    assert desk.messages == 3
    assert desk.bus.subscription.left == 0


def test_deadline_ends_a_run_with_exit_3_and_keeps_what_it_has(desk: Desk) -> None:
    desk.bus.publish(*messages(3))
    ended = desk.receive("--deadline", "1s", wait="10m", expect=3)
    assert "the deadline was reached" in ended.err
    assert len(desk.bus.subscription.completed) == desk.messages == 3


def test_second_run_ends_at_once_unless_it_is_told_otherwise(desk: Desk) -> None:
    with desk.running(wait="10m"):
        until(lambda: bool(desk.bus.waiting))
        assert "another run" in desk.receive(expect=4).err
        desk.receive("--if-running", "skip")


@pytest.mark.parametrize(
    ("keys", "http", "said"),
    [({"topic": ""}, "", "nexus.topic is missing or empty"), ({}, "ca_file = 'none.pem'", "http.ca_file")],
)
def test_refused_configuration_makes_no_mirror(desk: Desk, keys: dict[str, str], http: str, said: str) -> None:
    desk.configure(http=http, **keys)
    assert said in desk.receive(expect=2).err
    assert [path.name for path in desk.folder.iterdir()] == ["config.toml"]
    assert desk.bus.calls == []


def test_without_the_section_it_is_refused(tmp_path: Path, bus: Bus) -> None:
    desk = Desk(tmp_path, bus)
    (tmp_path / "config.toml").write_text("[mirror]\n", encoding="utf-8")
    assert "[nexus] is missing" in desk.receive(expect=2).err


@pytest.mark.parametrize("options", [("--max", "0"), ("--max", "-1"), ("--wait", "30")])
def test_wishes_that_cannot_be_are_refused(desk: Desk, options: tuple[str, ...]) -> None:
    desk.receive(*options, expect=2)
    assert not desk.mirror.exists()


def test_json_is_one_object_on_one_line(desk: Desk) -> None:
    desk.bus.publish(*messages(1))
    out = desk.receive("--json").out
    assert out.count("\n") == 1
    assert json.loads(out)["id"] == 1
