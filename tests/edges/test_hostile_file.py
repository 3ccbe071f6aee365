"""A mirror file that somebody else has written: it runs nothing, and is refused where it would change what is written."""

import os
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from delta_mirror.core.model import Entry, Instant, Record, Stream
from delta_mirror.core.plan import Drained, decide
from delta_mirror.errors import DeltaMirrorError, MirrorFileError
from delta_mirror.mirror.copy import copy_mirror
from delta_mirror.mirror.examine import examine_mirror
from delta_mirror.mirror.file import open_for_reading, open_for_writing
from delta_mirror.mirror.read import Reader
from delta_mirror.mirror.write import Mirror

CLIENTS = Stream(11, 9, "Client")
CANARY = "load_extension('canary')"  # what a stranger's file must not call


def client(id_: str, at: int) -> Record:
    return Record(id_, Instant(at, str(at)), None, deleted=False, root={"EntityId": id_, "FirstName": "Ada"}, children={})


def apply(mirror: Mirror, *entries: Entry) -> None:
    with mirror.transaction() as tx:
        fitted = tx.fit(CLIENTS, entries)
        tx.carry_out(CLIENTS, decide(tx.current(CLIENTS, [e.id for e in fitted if e.id]), fitted, Drained()), 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "mirror.db"
    with Mirror.open(path) as mirror:
        apply(mirror, client("a", 1))
    return path


def spoil(path: Path, script: str) -> None:
    with closing(sqlite3.connect(path)) as stranger:
        stranger.executescript(script)


TRIGGER = f"create trigger evil after insert on _runs begin select {CANARY}; delete from Client; end"
INSTEAD = (
    "alter table _runs rename to _kept; create view _runs as select * from _kept; "
    f"create trigger evil instead of insert on _runs begin select {CANARY}; end"
)
COLUMNS = f"{CANARY} as tenant_id, 9 as location_id, '' as day, 0 as calls, '' as by_entity"
VIEW = f"drop table _calls; create view _calls as select {COLUMNS}"
VIRTUAL = "drop table _pauses; create virtual table _pauses using fts5(tenant_id, location_id, until, reason, set_at)"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (TRIGGER, "holds a trigger, 'evil'"),
        ("create trigger a after update on Client begin update _streams set watermark = 'x'; end", "holds a trigger, 'a'"),
        (INSTEAD, "holds "),
        (VIEW, "where the mirror's own table _calls should be"),
        (VIRTUAL, "where the mirror's own table _pauses should be"),
        ("create unique index one_a_name on Client (FirstName)", "holds a unique index, 'one_a_name'"),
        ("create unique index later on _changes (at)", "would keep rows out of '_changes'"),
        ("create/**/unique index on_name on Client (FirstName)", "holds a unique index, 'on_name'"),
        (
            "drop view _once_Client; drop table Client; create table Client (_tenant_id, _location_id, _id, _synced_at, "
            "_deleted_at, _ticks, EntityId, FirstName unique, primary key (_tenant_id, _location_id, _id))",
            "would keep rows out of 'Client'",
        ),
        (
            "create table NexusClient (_client_id primary key, a); create unique index one on NexusClient (a)",
            "out of 'NexusClient'",
        ),
    ],
    ids=[
        *("trigger", "trigger on records", "instead of", "view", "virtual table"),
        *("unique", "unique of own", "with a comment", "constraint", "of messages"),
    ],
)
def test_trap_in_the_file_is_refused_by_what_writes_and_nothing_is_written(path: Path, script: str, said: str) -> None:
    spoil(path, script)
    before = path.read_bytes()

    for opening in (Mirror.open, Mirror.as_it_is):
        with pytest.raises(MirrorFileError) as refused:
            opening(path)
        assert said in str(refused.value)
    assert path.read_bytes() == before


def test_indexes_of_an_analyst_and_whatever_is_unique_in_tables_of_his_own_are_left_alone(path: Path) -> None:
    spoil(path, "create index by_name on Client (FirstName); create table Own (a unique, b); create unique index one on Own (b)")
    spoil(
        path,
        "create table totals as select _tenant_id, 1 as n from Client; create unique index two on totals (_tenant_id)",
    )
    spoil(path, "create table risk (_client_id primary key, score unique)")
    with Mirror.open(path) as mirror:
        apply(mirror, client("b", 2))
    with closing(sqlite3.connect(path)) as after:
        assert after.execute("select count(*) from Client where FirstName = 'Ada'").fetchone() == (2,)


@pytest.mark.parametrize("condition", ["not null default 'x'", "check (Extra <> 'b')"])
def test_condition_that_somebody_has_put_on_a_table_is_named_where_a_row_does_not_meet_it(path: Path, condition: str) -> None:
    spoil(path, f"alter table Client add column Extra {condition}")
    with Mirror.open(path) as mirror:
        sent = replace(client("b", 2), root={"EntityId": "b", "Extra": "b"} if "check" in condition else {"EntityId": "b"})
        with pytest.raises(MirrorFileError, match=r"condition that delta-mirror has not made,.* constraint failed: "):
            apply(mirror, sent)
    with closing(sqlite3.connect(path)) as after:
        assert after.execute("select count(*) from Client").fetchone() == (1,)


@pytest.mark.parametrize("script", [TRIGGER, INSTEAD, VIEW, VIRTUAL], ids=["trigger", "instead of", "view", "virtual table"])
def test_trap_in_the_file_runs_nothing_where_it_is_only_read(path: Path, tmp_path: Path, script: str) -> None:
    spoil(path, script)

    def read() -> None:
        with Reader.open(path) as reader:
            reader.read_streams()
            reader.last_runs()
            list(reader.changes())
            reader.calls_of("2026-05-04")

    def copy() -> None:
        (tmp_path / "copy.db").touch()
        copy_mirror(path, tmp_path / "copy.db", lambda done, total: None)

    for look in (read, copy, lambda: examine_mirror(path)):
        try:
            look()
        except DeltaMirrorError as error:
            assert any(said in str(error) for said in ("refuses to run", "has lost"))  # noqa: PT017 - some look at what is harmless
    with closing(sqlite3.connect(path)) as after:
        assert after.execute("select count(*) from Client").fetchone() == (1,)


@pytest.mark.parametrize(
    "opening", [lambda path: open_for_reading(path), lambda path: open_for_writing(path, 0o600, 1.0)], ids=["reading", "writing"]
)
def test_view_may_call_only_what_is_harmless_and_no_library_is_loaded(
    path: Path, opening: Callable[[Path], sqlite3.Connection]
) -> None:
    spoil(path, f"create view harmless as select upper('a') as x; create view evil as select {CANARY} as x")
    with closing(opening(path)) as connection:
        assert connection.execute("select x from harmless").fetchone() == ("A",)
        for sql in ("select x from evil", f"select {CANARY}"):
            with pytest.raises(sqlite3.OperationalError, match=r"unsafe use of|not authorized"):
                connection.execute(sql).fetchone()
        assert connection.execute("pragma trusted_schema").fetchone() == (0,)
        assert connection.execute("pragma cell_size_check").fetchone() == (1,)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python's sqlite3 can say so from 3.12 on")
def test_schema_cannot_be_written_as_if_it_were_a_table(path: Path) -> None:
    with closing(open_for_writing(path, 0o600, 1.0)) as connection:
        connection.execute("pragma writable_schema = on")
        with pytest.raises(sqlite3.OperationalError, match="may not be modified"):
            connection.execute("update sqlite_master set sql = 'x'")


def test_view_table_and_index_of_an_analyst_are_no_trap(path: Path) -> None:
    spoil(path, "create view mine as select * from Client; create table notes (x); create index fast on Client (FirstName)")
    with Mirror.open(path) as mirror:
        apply(mirror, client("a", 2), client("b", 2))
    with Reader.open(path) as reader:
        assert [state.records for state in reader.read_streams()] == [2]


def test_expression_in_a_table_that_calls_what_is_not_harmless_is_refused_in_words(path: Path) -> None:
    spoil(path, f"drop table _call_times; create table _call_times (at float, evil default ({CANARY}))")

    def write() -> None:
        with Mirror.open(path) as mirror, mirror.transaction() as tx:
            tx.execute("insert into _call_times (at) values (1.0)")

    with pytest.raises(MirrorFileError, match="refuses to run"):
        write()


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def a_loop(path: Path) -> None:
    path.symlink_to(path)


def a_folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (a_pipe, "a pipe, a socket or a device"),
        (a_device, "a pipe, a socket or a device"),
        (a_loop, "leads to itself"),
        (a_folder, "a folder"),
    ],
)
def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path: Path, make: Callable[[Path], None], said: str) -> None:
    path = tmp_path / "mirror.db"
    make(path)

    for use in (Reader.open, Mirror.open, examine_mirror, lambda name: copy_mirror(name, tmp_path / "copy", lambda *_: None)):
        with pytest.raises(MirrorFileError, match=said):
            use(path)
