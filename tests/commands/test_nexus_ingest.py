"""`sync nexus ingest`, and what the other commands say of Nexus, through the installed program."""

import gzip
import json
import os
import random
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from installed import PATIENCE, SYNC, Ended, rows_of, wait_until_it_listens

from nexus_messages import HOME, SAMPLE, message


class Office:
    """A folder with a configuration that names nothing but the mirror, and files of messages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mirror = folder / "mirror.db"
        (folder / "config.toml").write_text('[mirror]\npath = "mirror.db"\n', encoding="utf-8")

    def write(self, name: str, *bodies: bytes) -> str:
        """Write a file of lines; return its name."""
        (self.folder / name).write_bytes(b"\n".join(bodies))
        return name

    @contextmanager
    def running(self, *arguments: str, stdin: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[bytes]]:
        """Start a process that is gone at the end of the body."""
        process = subprocess.Popen(
            [SYNC, *arguments],
            cwd=self.folder,
            env={"PATH": os.defpath, "HOME": str(self.folder / "home"), "LC_ALL": "C.UTF-8"},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            for stream in filter(None, (process.stdin, process.stdout, process.stderr)):
                stream.close()
            process.wait(PATIENCE)

    def sync(self, *arguments: str, expect: int = 0, given: bytes = b"") -> Ended:
        """Return how `sync` with these arguments has ended, *given* on its standard input."""
        with self.running(*arguments, stdin=subprocess.PIPE) as process:
            out, err = process.communicate(given, timeout=PATIENCE)
        ended = Ended(process.returncode, out.decode(), err.decode())
        assert ended.code == expect, f"exit {ended.code} instead of {expect}\n{ended.out}\n{ended.err}"
        assert "Traceback" not in ended.err
        return ended

    def ingest(self, *arguments: str, expect: int = 0, given: bytes = b"") -> Any:
        """Return what an ingest reports."""
        return self.sync("nexus", "ingest", "--json", *arguments, expect=expect, given=given).json()

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return what the mirror answers."""
        return rows_of(self.mirror, sql)

    def taken(self) -> int:
        """Return how many messages the mirror has, 0 while there is none."""
        try:
            return int(self.rows("select count(*) from _messages")[0][0]) if self.mirror.exists() else 0
        except sqlite3.OperationalError:  # not made yet
            return 0

    def contents(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return what may not depend on order and number of deliveries."""
        tables = [name for (name,) in self.rows("select name from sqlite_master where type = 'table' and name like 'Nexus%'")]
        held = {name: sorted(self.rows(f"select * from {name}"), key=repr) for name in [*tables, "_sections"]}
        return held | {"_messages": self.rows("select message_id, occurred_at, client_id, body from _messages order by 1")}


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


def test_the_sample_is_taken_from_a_file_and_can_be_queried(office: Office) -> None:
    office.write("sample.json", SAMPLE)
    assert "1 file, 1 message in" in office.sync("nexus", "ingest", "sample.json").out
    assert office.rows("select FirstName, Ethnicity, DateOfBirth from NexusClient where _client_id = 'EX123456'") == [
        ("Johnathan", "Caucasian", "1980-05-28")
    ]
    assert office.ingest("sample.json")["messages"] == {
        "taken": 1, "applied": 0, "superseded": 0, "quarantined": 0, "repeated": 1, "erased": 0,
    }  # fmt: skip


def test_files_folders_gzip_and_standard_input_are_one_run(office: Office) -> None:
    one = office.write("one.jsonl", message(details={"FirstName": "Ada"}), message("Email Details", {"Email": "a@example.com"}))
    (office.folder / "in").mkdir()
    (office.folder / "in" / "two.json.gz").write_bytes(gzip.compress(b"[" + message(client="EX2") + b"]"))
    told = office.ingest(one, "in", "-", given=message(client="EX3"))
    assert (told["files"], told["messages"]["applied"], told["inserted"], told["outcome"]) == (3, 4, 3, "done")
    assert office.ingest(given=message(client="EX4"))["inserted"] == 1  # without a path: standard input
    columns = ["id", "command", "outcome", "inserted", "replaced", "superseded", "quarantined"]
    logged = office.rows(f"select {', '.join(columns)} from _runs order by id")
    assert logged[0] == tuple(told[column] for column in columns) == (1, "nexus ingest", "done", 3, 1, 0, 0)


def test_what_is_broken_goes_to_quarantine_with_exit_3_once_and_the_rest_is_taken(office: Office) -> None:
    office.write("mixed.jsonl", message(details={"FirstName": "Ada"}), b"{broken", message(client="EX2"))
    told = office.ingest("mixed.jsonl", expect=3)
    assert (told["quarantined"], told["messages"]["applied"], told["outcome"]) == (1, 2, "unfinished")
    assert office.ingest("mixed.jsonl")["quarantined"] == 0
    listed = json.loads(office.sync("quarantine", "list", "--json").out)
    assert (listed["source"], listed["entity"]) == ("nexus ingest", None)
    assert "no JSON" in listed["reason"]
    assert "body: {broken" in office.sync("quarantine", "show", listed["id"][:6]).out
    assert "1 in quarantine" in office.sync("status").out


def test_a_file_that_breaks_off_does_not_stop_the_others(office: Office) -> None:
    (office.folder / "cut.gz").write_bytes(gzip.compress(message() + b"\n" + os.urandom(50_000).hex().encode())[:-9])
    office.write("good.jsonl", message(client="EX2"))
    ended = office.sync("nexus", "ingest", "--json", "cut.gz", "good.jsonl", expect=3)
    assert ended.json()["messages"]["applied"] == 2
    assert "cut.gz: it breaks off" in ended.err


def test_what_is_refused_writes_nothing(office: Office) -> None:
    office.write("good.jsonl", message())
    assert "cannot be read" in office.sync("nexus", "ingest", "good.jsonl", "gone.jsonl", expect=2).err
    assert not office.mirror.exists()


def test_a_dry_run_tells_what_would_be_and_writes_nothing(office: Office) -> None:
    office.write(
        "some.jsonl", message(details={"FirstName": "Ada", "Nick": "x"}), message(details={"FirstName": "Ada", "Nick": "x"})
    )
    assert office.ingest("--dry-run", "some.jsonl")["messages"]["repeated"] == 1
    assert not office.mirror.exists()
    office.write("other.jsonl", message(client="EX2"))
    office.ingest("other.jsonl")
    before = office.mirror.read_bytes()
    told = office.ingest("--dry-run", "some.jsonl", "other.jsonl")
    assert told["messages"] == {"taken": 3, "applied": 1, "superseded": 0, "quarantined": 0, "repeated": 2, "erased": 0}
    assert told["id"] is None
    assert office.mirror.read_bytes() == before
    assert sorted(path.name for path in office.folder.iterdir() if path.name.startswith("mirror.db-")) == []


def test_status_and_changes_tell_of_nexus_apart_from_the_streams(office: Office) -> None:
    office.ingest(given=message(details={"FirstName": "Ada"}))
    assert "nexus: 1 client; messages: 1 applied" in office.sync("status").out
    office.ingest(given=message(details={"FirstName": "Bo"}, at="2026-03-01T10:00:01.0Z") + b"\n" + SAMPLE.replace(b"\n", b" "))
    told = office.sync("status", "--json").json()
    assert told["streams"] == []
    assert told["nexus"]["messages"] == {"applied": 3, "superseded": 0, "quarantined": 0}
    assert (told["nexus"]["clients"], told["nexus"]["last_occurred_at"]) == (2, "2026-03-01T10:00:01.0000000Z")
    assert "nexus: 2 clients; messages: 3 applied" in office.sync("status").out
    changes = [json.loads(line) for line in office.sync("changes", "NexusClient", "--json", "--id", "EX1").out.splitlines()]
    assert [(each["op"], each["fields"]) for each in changes] == [("insert", None), ("replace", {"FirstName": ["Ada", "Bo"]})]
    assert {(each["tenant_id"], each["location_id"], each["entity"]) for each in changes} == {(0, 0, "NexusClient")}
    assert '0/0 replace NexusClient EX1  FirstName: "Ada" -> "Bo"' in office.sync("changes", "--entity", "NexusClient").out


def test_retry_applies_what_can_be_read_now_and_drop_gives_the_rest_up(office: Office) -> None:
    # An earlier version that could not read it has left behind what this one can.
    broken, good = b"{", message(details={"FirstName": "Ada"})
    office.ingest(given=broken + b"\n" + broken, expect=3)
    with closing(sqlite3.connect(office.mirror, isolation_level=None)) as mirror:
        id_ = sha256(good).hexdigest()[:32]
        mirror.execute(
            "insert into _messages (message_id, received_at, outcome, times, body) values (?, 'then', 'quarantined', 2, ?)",
            (id_, good.decode()),
        )
        mirror.execute(
            "insert into _quarantine (id, first_seen_at, last_seen_at, run_id, source, reason, body, message_id) "
            "values (?, 'then', 'then', 1, 'nexus ingest', 'was not known', ?, ?)",
            (sha256(f"nexus\n{id_}".encode()).hexdigest()[:16], good.decode(), id_),
        )
    told = office.sync("quarantine", "retry", "--json", expect=3).json()
    assert sorted(each["outcome"] for each in told["things"]) == ["inserted", "remains"]
    assert office.rows("select outcome, times from _messages order by 1") == [("applied", 2), ("quarantined", 2)]
    [thing] = [each for each in told["things"] if each["outcome"] == "remains"]
    office.sync("quarantine", "drop", thing["id"])
    assert office.sync("quarantine", "list").out == ""
    assert office.ingest(given=broken, expect=3)["quarantined"] == 1  # it comes back


def test_a_run_that_waits_for_standard_input_ends_at_once_when_told_to_stop(office: Office) -> None:
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        with office.running("nexus", "ingest", "-", stdin=subprocess.PIPE) as process:
            wait_until_it_listens(process)  # type: ignore[arg-type]
            process.send_signal(number)
            assert process.wait(PATIENCE) == code
            assert process.stderr is not None
            assert b"stopped" in process.stderr.read()


def test_a_deadline_ends_a_run_and_says_so(office: Office) -> None:
    with office.running("nexus", "ingest", "--deadline", "1s", "-", stdin=subprocess.PIPE) as process:
        assert process.wait(PATIENCE) == 3
        assert process.stderr is not None
        assert b"the deadline was reached" in process.stderr.read()


def some_messages(number: int) -> list[bytes]:
    """Return messages of few clients, each of another moment."""
    dice = random.Random(5)
    sections = {"Personal Details": "FirstName", "Address Details": "Address", "Case Details": "CaseNumber"}
    return [
        message(
            section := dice.choice(sorted(sections)),
            {sections[section]: str(n)},
            client=f"EX{dice.randrange(300)}",
            identifier=HOME,
            reason=dice.choice(["Updated", "Updated", "Removed"]),
            at=f"2026-03-01T10:{n % 60:02}:{n // 60 % 60:02}.{n:07}Z",
        )
        for n in range(number)
    ]


def test_a_run_killed_again_and_again_ends_as_if_it_had_run_once(office: Office, tmp_path: Path) -> None:
    bodies = some_messages(10_000)
    name = office.write("many.jsonl", *bodies)
    taken = 0
    for _ in range(3):
        with office.running("nexus", "ingest", name) as process:
            while (now := office.taken()) <= taken:  # until it has committed something new
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.01)
                    raise AssertionError("it has ended before it could be killed")
            process.kill()
            process.wait(PATIENCE)
        taken = max(now, office.taken())
        assert office.rows("pragma integrity_check") == [("ok",)]
    assert taken < len(bodies)
    office.sync("--quiet", "nexus", "ingest", name)
    (tmp_path / "other").mkdir()
    other = Office(tmp_path / "other")
    random.Random(6).shuffle(bodies)
    other.ingest(other.write("many.jsonl", *bodies))
    assert office.contents() == other.contents()
