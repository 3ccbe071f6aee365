"""Erasing at the file of SQLite: whose rows go, what is left in the bytes, and how the WAL is waited for."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from delta_mirror.core.keyed import Keyed
from delta_mirror.core.model import Broken, Child, Entry, Instant, Record, Stream
from delta_mirror.core.plan import Drained, decide
from delta_mirror.dds.tables import FEED_CHILDREN
from delta_mirror.jobs.session import StoppedError
from delta_mirror.mirror.clear import check_room, empty_wal, overwrite_what_goes, write_anew
from delta_mirror.mirror.erase import Person, Removed, erase
from delta_mirror.mirror.file import PATIENCE
from delta_mirror.mirror.write import Mirror

NOON = 1_780_000_000.0  # 2026-05-28T20:26:40Z
CLIENTS = Stream(11, 9, "Client")
KEYED = Keyed("an invented key of some length")
FEED_TABLES = {**FEED_CHILDREN, "EmployeeSchedule": ("Shift",), "EmployeeActual": ("Shift",)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mirror.db"


@pytest.fixture
def mirror(path: Path) -> Iterator[Mirror]:
    with opened(path) as mirror:
        yield mirror


def opened(path: Path) -> Mirror:
    return Mirror.open(path, feed_tables=FEED_TABLES, key=lambda: KEYED, now=lambda: NOON)


def take(mirror: Mirror, *entries: Entry, stream: Stream = CLIENTS) -> None:
    with mirror.transaction() as tx:
        fitted = tx.fit(stream, entries)
        held = tx.current(stream, [entry.id for entry in fitted if entry.id is not None])
        tx.carry_out(stream, decide(held, fitted, Drained()), run_id=1)


def record(id_: str, at: int = 10, table: str | None = None, **columns: str) -> Record:
    children = {table: [Child({"Note": f"of {id_}"}, None)]} if table else {}
    return Record(id_, Instant(at, str(at)), None, False, {"EntityId": id_, **columns}, children)


def gone(mirror: Mirror, id_: str, entity: str = "Client") -> Removed:
    with mirror.transaction() as tx:
        removed = erase(tx, Person(entity, 11, id_), KEYED, NOON, [])
    mirror.know_erased(lambda: KEYED)
    return removed


def rows(path: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def test_child_rows_of_another_entitys_record_with_the_same_id_stay(mirror: Mirror, path: Path) -> None:
    schedules, actuals = Stream(11, 9, "EmployeeSchedule"), Stream(11, 9, "EmployeeActual")
    take(mirror, record("a", table="Shift"), stream=schedules)
    take(mirror, record("b", table="Shift"), stream=actuals)

    assert gone(mirror, "b", "EmployeeSchedule").tables == {}
    assert gone(mirror, "a", "EmployeeSchedule").tables == {"Shift": 1, "EmployeeSchedule": 1, "_changes": 1}

    assert rows(path, "select _id, Note from Shift") == [("b", "of b")]
    assert rows(path, "select _id from EmployeeActual") == [("b",)]


def test_what_is_known_of_the_feeds_list_is_the_same_before_and_after(mirror: Mirror) -> None:
    take(mirror, record("a", 10), record("b", 20), Broken("c", Instant(30, "30"), "{}", "no key"), record("d", 40))

    def known() -> list[int]:
        return [mirror.count_known(CLIENTS, after, after + 10) for after in (0, 10, 20, 30, 40)]

    assert known() == [1, 1, 1, 1, 0]
    for id_ in "abc":
        gone(mirror, id_)
    assert known() == [1, 1, 1, 1, 0]
    take(mirror, record("a", 50), record("b", 15), Broken("c", Instant(45, "45"), "{}", "no key"))
    assert known() == [0, 1, 0, 1, 2]  # the newest date counts, as of any record


def test_mirror_that_is_opened_again_knows_who_was_erased(mirror: Mirror, path: Path) -> None:
    gone(mirror, "a")
    mirror.close()
    with opened(path) as again:
        take(again, record("a"), record("b"))
    assert rows(path, "select _id from Client") == [("b",)]


def test_samples_that_analyze_has_taken_go_too(mirror: Mirror, path: Path) -> None:
    take(mirror, record("a"))
    mirror.close()
    with closing(sqlite3.connect(path)) as connection, connection:  # as a SQLite that is built with STAT4 leaves it
        connection.execute("create table four (tbl, idx, neq, nlt, ndlt, sample)")
        connection.execute("insert into four values ('Client', 'x', '1', '1', '1', 'a person''s id')")
        connection.execute("pragma writable_schema = on")
        named = "name = 'sqlite_stat4', tbl_name = 'sqlite_stat4', sql = replace(sql, 'TABLE four', 'TABLE sqlite_stat4')"
        connection.execute(f"update sqlite_master set {named} where name = 'four'")
    assert b"a person's id" in path.read_bytes()
    with opened(path) as again:
        write_anew(again, lambda: None)
    assert b"a person's id" not in path.read_bytes()


def test_writing_anew_that_is_broken_off_has_changed_nothing(mirror: Mirror, path: Path) -> None:
    with mirror.transaction() as tx:
        tx.execute_many("insert into _call_times (at) values (?)", [(float(number),) for number in range(60_000)])
        tx.execute("delete from _call_times where at % 4 > 0")
    before = rows(path, "select * from _call_times")
    stop = threading.Event()
    stop.set()

    def check() -> None:
        if stop.is_set():
            raise StoppedError

    with pytest.raises(StoppedError):
        write_anew(mirror, check)

    assert rows(path, "pragma integrity_check") == [("ok",)]
    assert rows(path, "select * from _call_times") == before
    assert rows(path, "pragma freelist_count") != [(0,)]
    stop.clear()
    write_anew(mirror, check)
    assert rows(path, "pragma freelist_count") == [(0,)]
    assert rows(path, "select * from _call_times") == before
    assert sorted(each.name for each in path.parent.iterdir()) == ["mirror.db", "mirror.db-shm", "mirror.db-wal"]


def test_wal_that_a_reader_keeps_is_waited_for_and_given_up(mirror: Mirror, path: Path) -> None:
    take(mirror, record("a"))
    slept: list[float] = []
    told: list[None] = []
    with closing(sqlite3.connect(path)) as reader:
        reader.execute("begin")
        reader.execute("select * from Client").fetchall()
        take(mirror, record("b"))
        assert not empty_wal(mirror, slept.append, lambda: told.append(None))
        reader.execute("rollback")
    assert sum(slept) == pytest.approx(PATIENCE, abs=1.0)
    assert len(told) == 1
    assert path.with_name("mirror.db-wal").stat().st_size > 0
    assert empty_wal(mirror, slept.append, lambda: told.append(None))
    assert len(told) == 1
    assert path.with_name("mirror.db-wal").stat().st_size == 0


def test_reader_that_lets_go_is_waited_for_no_longer(mirror: Mirror, path: Path) -> None:
    take(mirror, record("a"))
    with closing(sqlite3.connect(path)) as reader:
        reader.execute("begin")
        reader.execute("select * from Client").fetchall()
        take(mirror, record("b"))
        slept: list[float] = []

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            if len(slept) == 3:
                reader.execute("rollback")

        assert empty_wal(mirror, sleep, lambda: None)
    assert len(slept) == 3


def test_room_is_there_on_a_disk_that_has_it_and_commits_are_on_the_disk(mirror: Mirror) -> None:
    check_room(mirror)
    overwrite_what_goes(mirror)
    with mirror.bare() as connection:
        assert connection.execute("pragma secure_delete").fetchone() == (1,)
        assert connection.execute("pragma synchronous").fetchone() == (2,)
