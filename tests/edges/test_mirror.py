"""The mirror as a file of SQLite: what is in it after a page, after a rollback, and what is refused."""

import json
import os
import resource
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from delta_mirror import __version__
from delta_mirror.core.model import Broken, Child, Entry, Instant, Record, Row, Stream, Value
from delta_mirror.core.plan import Counts, Drained, decide
from delta_mirror.errors import BusyError, DiskFullError, MirrorFileError
from delta_mirror.mirror.file import SCHEMA_VERSION, translated
from delta_mirror.mirror.read import Reader
from delta_mirror.mirror.schema import MAX_COLUMNS, OWN_TABLES, quote
from delta_mirror.mirror.transaction import Deletes
from delta_mirror.mirror.write import Mirror

CLIENTS = Stream(11, 9, "Client")
ELSEWHERE = Stream(11, 10, "Client")
FEED_TABLES = {"Client": ("ClientPhone",), "Appointment": ("AppointmentService",), "Sale": ()}
NOON = 1_780_000_000.0  # 2026-05-28T20:26:40Z
AT_NOON = "2026-05-28T20:26:40Z"
LATER = "2026-05-28T21:26:40Z"


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.time = NOON

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mirror.db"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def mirror(path: Path, clock: Clock) -> Iterator[Mirror]:
    with Mirror.open(path, feed_tables=FEED_TABLES, now=clock) as opened:
        yield opened


@pytest.fixture
def marking(path: Path, clock: Clock) -> Iterator[Mirror]:
    with Mirror.open(path, feed_tables=FEED_TABLES, now=clock, deletes="mark") as opened:
        yield opened


def client(
    id_: str = "a",
    at: int | None = 10,
    *,
    deleted: bool = False,
    phones: Sequence[str] | None = None,
    more: Mapping[str, Value] | None = None,
    **columns: Value,
) -> Record:
    root: Row = {"EntityId": id_, "DateUpdated": str(at), **columns, **(more or {})}
    children = {} if phones is None else {"ClientPhone": [Child({"PhoneNumber": number}, None) for number in phones]}
    return Record(id_, None if at is None else Instant(at, str(at)), None, deleted, root, children)


def with_children(record: Record, children: Mapping[str, Sequence[Mapping[str, Value]]]) -> Record:
    return replace(record, children={name: [Child(dict(row), None) for row in rows] for name, rows in children.items()})


def apply(mirror: Mirror, *entries: Entry, stream: Stream = CLIENTS, run_id: int = 1) -> tuple[Counts, list[str]]:
    """Take one page as a drain does; return what was counted and what was said."""
    with mirror.transaction() as tx:
        fitted = tx.fit(stream, entries)
        held = tx.current(stream, [entry.id for entry in fitted if entry.id is not None])
        counts = tx.carry_out(stream, decide(held, fitted, Drained()), run_id)
        return counts, tx.said


def select(path: Path, sql: str) -> list[tuple[Value | None, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def one(path: Path, sql: str) -> Value | None:
    ((value,),) = select(path, sql)
    return value


def table(path: Path, name: str, columns: str = "*") -> list[tuple[Value | None, ...]]:
    return select(path, f"select {columns} from {quote(name)} order by 1, 2")


def living(reader: Reader, stream: Stream) -> int:
    return next((state.records for state in reader.read_streams() if state.stream == stream), 0)


def logged(path: Path) -> list[tuple[str, str, object]]:
    return [
        (str(id_), str(op), None if fields is None else json.loads(str(fields)))
        for id_, op, fields in select(path, "select id, op, fields from _changes order by seq")
    ]


# Rows


def test_row_is_kept_under_the_names_and_with_the_values_of_the_service(mirror: Mirror, path: Path) -> None:
    apply(mirror, client(Code="0012", Price=12.5, Count=3, Empty="", Big=2**62, phones=["1", "2"]))
    assert table(path, "Client") == [
        (11, 9, "a", AT_NOON, None, 10, "a", "10", "0012", 12.5, 3, "", 2**62),
    ]
    assert table(path, "ClientPhone") == [(11, 9, "a", 0, None, "1"), (11, 9, "a", 1, None, "2")]
    assert select(path, "select type from pragma_table_info('Client') where cid > 5") == [("",)] * 7


def test_column_absent_from_the_new_record_is_null_and_child_absent_is_gone(mirror: Mirror, path: Path) -> None:
    apply(mirror, client(FirstName="Ann", phones=["1", "2"]), client("b", FirstName="Bea", phones=["3"]))
    apply(mirror, client(at=11, LastName="Lee", phones=["2"]))
    assert table(path, "Client", "_id, FirstName, LastName") == [("a", None, "Lee"), ("b", "Bea", None)]
    assert table(path, "ClientPhone", "_id, _n, PhoneNumber") == [("a", 0, "2"), ("b", 0, "3")]
    apply(mirror, client(at=12, LastName="Lee"))
    assert table(path, "ClientPhone", "_id, _n, PhoneNumber") == [("b", 0, "3")]
    assert logged(path)[2:] == [
        (
            "a",
            "replace",
            {
                "DateUpdated": ["10", "11"],
                "FirstName": ["Ann", None],
                "LastName": [None, "Lee"],
                "ClientPhone": [[{"PhoneNumber": "1"}, {"PhoneNumber": "2"}], [{"PhoneNumber": "2"}]],
            },
        ),
        ("a", "replace", {"DateUpdated": ["11", "12"], "ClientPhone": [[{"PhoneNumber": "2"}], []]}),
    ]


def test_record_sent_again_unchanged_writes_nothing_and_logs_nothing(mirror: Mirror, path: Path, clock: Clock) -> None:
    apply(mirror, client(FirstName="Ann", phones=["1", "2"]))
    clock.time += 3600
    counts, _ = apply(mirror, client(FirstName="Ann", phones=["2", "1"]))
    assert counts == Counts(unchanged=1)
    assert table(path, "Client", "_id, _synced_at") == [("a", AT_NOON)]
    assert logged(path) == [("a", "insert", None)]
    apply(mirror, client(at=11, FirstName="Ann", phones=["2", "1"]))
    assert table(path, "Client", "_id, _synced_at") == [("a", LATER)]
    assert table(path, "ClientPhone", "_n, PhoneNumber") == [(0, "2"), (1, "1")]


def test_grandchild_points_to_its_parent_row(mirror: Mirror, path: Path) -> None:
    appointments = Stream(11, 9, "Appointment")
    children = {
        "AppointmentService": [Child({"Name": "Cut"}, None), Child({"Name": "Dye"}, None)],
        "AppointmentServiceStep": [Child({"Step": 1}, 1), Child({"Step": 2}, 0)],
    }
    sent = Record("a", Instant(1, "1"), None, False, {"EntityId": "a"}, children)
    apply(mirror, sent, stream=appointments)
    assert table(path, "AppointmentServiceStep", "_n, _parent_n, Step") == [(0, 1, 1), (1, 0, 2)]
    counts, _ = apply(mirror, sent, stream=appointments)
    assert counts == Counts(unchanged=1)
    gone = replace(sent, deleted=True)
    apply(mirror, gone, stream=appointments)
    assert table(path, "AppointmentServiceStep") == []
    counts, _ = apply(mirror, gone, stream=appointments)
    assert counts == Counts(unchanged=1)
    assert one(path, "select parents from _tombstones") == '{"AppointmentServiceStep":[1,0]}'


def test_older_version_does_not_overwrite_a_newer_one(mirror: Mirror, path: Path) -> None:
    apply(mirror, client(at=10, FirstName="new"))
    counts, _ = apply(mirror, client(at=9, FirstName="old"))
    assert counts == Counts(superseded=1)
    assert one(path, "select FirstName from Client") == "new"


def test_same_content_under_a_newer_date_is_newer_than_what_lies_between(mirror: Mirror, path: Path) -> None:
    masked = replace(client(at=10), root={"EntityId": "a"})
    apply(mirror, masked)
    apply(mirror, replace(masked, changed=Instant(12, "12")))
    counts, _ = apply(mirror, replace(masked, changed=Instant(11, "11"), root={"EntityId": "a", "FirstName": "old"}))
    assert counts == Counts(superseded=1)
    apply(mirror, replace(masked, deleted=True, changed=Instant(13, "13")))
    apply(mirror, replace(masked, deleted=True, changed=Instant(15, "15")))
    counts, _ = apply(mirror, replace(masked, changed=Instant(14, "14")))
    assert counts == Counts(superseded=1)


def test_client_at_two_locations_has_a_row_in_each_and_one_in_the_view(mirror: Mirror, path: Path) -> None:
    apply(mirror, client(at=10, FirstName="here"), client("b", FirstName="b"))
    apply(mirror, client(at=11, FirstName="there", LastName="Lee"), stream=ELSEWHERE)
    assert table(path, "Client", "_location_id, FirstName") == [(9, "b"), (9, "here"), (10, "there")]
    assert table(path, "_once_Client", "_id, FirstName, LastName") == [("a", "there", "Lee"), ("b", "b", None)]
    apply(mirror, client(at=12, deleted=True), stream=ELSEWHERE)
    assert table(path, "_once_Client", "_id, FirstName") == [("a", "here"), ("b", "b")]


def test_view_shows_the_living_before_the_deleted(marking: Mirror, path: Path) -> None:
    apply(marking, client(at=10, FirstName="here"))
    apply(marking, client(at=11, FirstName="there"), stream=ELSEWHERE)
    apply(marking, client(at=12, FirstName="there", deleted=True), stream=ELSEWHERE)
    with Reader.open(path) as reader:
        assert (living(reader, CLIENTS), living(reader, ELSEWHERE)) == (1, 0)
    assert table(path, "_once_Client", "_location_id, FirstName") == [(9, "here")]


# Deletions


def test_deleted_record_leaves_no_rows_and_a_tombstone_as_sent(mirror: Mirror, path: Path) -> None:
    apply(mirror, client(FirstName="Ann", phones=["1"]), client("b", phones=["2"]))
    counts, _ = apply(mirror, client(at=11, deleted=True, FirstName="Bea", phones=["3"]))
    assert counts == Counts(deleted=1)
    assert select(path, "select _id from Client union all select _id from ClientPhone") == [("b",), ("b",)]
    ((tombstone, deleted_at),) = select(path, "select record, deleted_at from _tombstones")
    assert json.loads(str(tombstone)) == {
        "Client": [{"EntityId": "a", "DateUpdated": "11", "FirstName": "Bea"}],
        "ClientPhone": [{"PhoneNumber": "3"}],
    }
    assert deleted_at == AT_NOON
    assert logged(path)[-1] == ("a", "delete", None)


def test_marked_record_keeps_its_rows_as_last_sent(marking: Mirror, path: Path, clock: Clock) -> None:
    apply(marking, client(FirstName="Ann", phones=["1", "2"]))
    apply(marking, client(at=11, deleted=True, FirstName="Bea", phones=["3"]))
    assert table(path, "Client", "_id, FirstName, _deleted_at") == [("a", "Bea", AT_NOON)]
    assert table(path, "ClientPhone", "_n, PhoneNumber") == [(0, "3")]
    clock.time += 3600
    counts, _ = apply(marking, client(at=12, deleted=True, FirstName="Cleo"))
    assert counts == Counts(unchanged=1)
    assert table(path, "Client", "FirstName, _deleted_at, _synced_at") == [("Cleo", AT_NOON, LATER)]
    assert table(path, "ClientPhone") == []
    assert [op for _, op, _ in logged(path)] == ["insert", "delete"]


@pytest.mark.parametrize("deletes", ["remove", "mark"])
def test_record_sent_alive_again_is_revived_against_its_tombstone(path: Path, deletes: Deletes) -> None:
    with Mirror.open(path, deletes=deletes, feed_tables=FEED_TABLES) as mirror:
        apply(mirror, client(FirstName="Ann", phones=["1"]))
        apply(mirror, client(at=11, deleted=True, FirstName="Ann", phones=["1"]))
        counts, _ = apply(mirror, client(at=12, FirstName="Bea", phones=["1"]))
    assert counts == Counts(revived=1)
    assert logged(path)[-1] == ("a", "revive", {"DateUpdated": ["11", "12"], "FirstName": ["Ann", "Bea"]})
    assert table(path, "Client", "_id, FirstName, _deleted_at") == [("a", "Bea", None)]
    assert table(path, "ClientPhone", "_id, PhoneNumber") == [("a", "1")]
    assert table(path, "_tombstones") == []


@pytest.mark.parametrize("deletes", ["remove", "mark"])
def test_deletion_of_something_never_held_leaves_a_tombstone_and_nothing_else(path: Path, deletes: Deletes) -> None:
    with Mirror.open(path, deletes=deletes, feed_tables=FEED_TABLES) as mirror:
        counts, _ = apply(mirror, client(deleted=True, phones=["1"]))
        assert counts == Counts(unchanged=1)
        assert (table(path, "Client"), table(path, "ClientPhone"), logged(path)) == ([], [], [])
        assert one(path, "select id from _tombstones") == "a"
        counts, _ = apply(mirror, client(at=11))
    assert counts == Counts(revived=1)


@pytest.mark.parametrize("deletes", ["remove", "mark"])
def test_record_revived_after_its_tombstone_was_pruned_is_an_insert(path: Path, deletes: Deletes) -> None:
    with Mirror.open(path, deletes=deletes, feed_tables=FEED_TABLES) as mirror:
        apply(mirror, client(phones=["1", "2"]))
        apply(mirror, client(at=11, deleted=True, phones=["1", "2"]))
        with mirror.transaction() as tx:
            tx.execute("delete from _tombstones")
        counts, _ = apply(mirror, client(at=12, phones=["3"]))
    assert counts == Counts(inserted=1)
    assert table(path, "ClientPhone", "_n, PhoneNumber") == [(0, "3")]


@pytest.mark.parametrize("deletes", ["remove", "mark"])
def test_record_that_comes_goes_and_comes_in_one_page_ends_as_sent_last(path: Path, deletes: Deletes) -> None:
    with Mirror.open(path, deletes=deletes, feed_tables=FEED_TABLES) as mirror:
        apply(mirror, client(at=1, phones=["1"]), client(at=2, deleted=True, phones=["2"]), client(at=3, phones=["3"]))
        assert table(path, "ClientPhone", "_n, PhoneNumber") == [(0, "3")]
        assert table(path, "_tombstones") == []
        apply(mirror, client(at=4, phones=["4"]), client(at=5, deleted=True, phones=["5"]))
    assert [id_ for (id_,) in select(path, "select _id from Client")] == (["a"] if deletes == "mark" else [])
    assert table(path, "ClientPhone", "_n, PhoneNumber") == ([(0, "5")] if deletes == "mark" else [])
    assert [op for _, op, _ in logged(path)] == ["insert", "delete", "revive", "replace", "delete"]


# Tables and columns


def test_new_tables_and_columns_are_added_and_said(mirror: Mirror, path: Path) -> None:
    _, said = apply(mirror, client(phones=["1"]))
    assert said == ["table Client added", "table ClientPhone added"]
    _, said = apply(mirror, client("b", NickName="B"), client("c", Mood=1, NickName="C"))
    assert said == ["column NickName added to table Client", "column Mood added to table Client"]
    assert table(path, "Client", "_id, NickName, Mood") == [("a", None, None), ("b", "B", None), ("c", "C", 1)]
    _, said = apply(mirror, client("d", NickName="D", Mood=2, phones=["1"]))
    assert said == []


def test_name_that_differs_in_case_is_the_existing_one(mirror: Mirror, path: Path) -> None:
    apply(mirror, client(Mood="x", phones=["1"]))
    sent = with_children(client("b", at=11, mood="y"), {"clientPHONE": [{"phonenumber": "2"}]})
    counts, said = apply(mirror, sent)
    assert (counts, said) == (Counts(inserted=1), [])
    assert table(path, "Client", "_id, Mood") == [("a", "x"), ("b", "y")]
    assert table(path, "ClientPhone", "_id, PhoneNumber") == [("a", "1"), ("b", "2")]
    counts, _ = apply(mirror, sent)
    assert counts == Counts(unchanged=1)


def test_names_in_one_page_that_differ_in_case_are_one_column(mirror: Mirror, path: Path) -> None:
    apply(mirror, client(Mood=1), client("b", mood=2), with_children(client("c"), {"Pets": [{"Cat": 1}, {"cat": 2}]}))
    assert table(path, "Client", "_id, Mood") == [("a", 1), ("b", 2), ("c", None)]
    assert table(path, "Pets", "_n, Cat") == [(0, 1), (1, 2)]


def test_letters_beyond_ascii_keep_their_case(mirror: Mirror, path: Path) -> None:
    counts, _ = apply(mirror, client(Änderung=1, änderung=2))
    assert counts == Counts(inserted=1)
    assert select(path, "select Änderung, änderung from Client") == [(1, 2)]


@pytest.mark.parametrize(
    "name",
    ['a"b', "a]b[c", "a b", "select", "a'b", "a;drop table Client", "ü", "a`b", "rowid", "a.b", "?1", "--", "%s", "{x}", ":a"],
)
def test_name_from_outside_means_itself_and_nothing_else(mirror: Mirror, path: Path, name: str) -> None:
    sent = with_children(client(more={name: 7}), {name: [{name: 8}]})
    for entry in (sent, client("b"), replace(sent, changed=Instant(11, "11"), root={**sent.root, name: 9})):
        apply(mirror, entry)
    assert table(path, "Client", f"_id, {quote(name)}") == [("a", 9), ("b", None)]
    assert table(path, name, f"_id, _n, {quote(name)}") == [("a", 0, 8)]
    assert logged(path)[-1][2] == {name: [7, 9]}
    apply(mirror, client("b", at=12, deleted=True, more={name: 1}))
    assert select(path, f"select _id, {quote(name)} from _once_Client") == [("a", 9)]


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (client("b", _id=1), "a column begins with an underscore, as only the mirror's own do"),
        (client("b", Mood=1, mood=2), "two of its columns differ only in case"),
        (client("b", more={"a\0b": 1}), "a name in it holds a NUL"),
        (client("b", more={"\ud800": 1}), "a name in it is no text"),
        (client("b", more={"x" * 300: 1}), "a name in it is longer than 256 characters"),
        (client("b", more={f"Column{n}": n for n in range(MAX_COLUMNS)}), "its table would have more than 1900 columns"),
        (with_children(client("b"), {"sale": [{"A": 1}]}), "a child table bears the name of an entity"),
        (with_children(client("b"), {"client": [{"A": 1}]}), "a child table bears the name of an entity"),
        (with_children(client("b"), {"_changes": [{"A": 1}]}), "a child table bears a name that the mirror uses itself"),
        (with_children(client("b"), {"sqlite_x": [{"A": 1}]}), "a child table bears a name that the mirror uses itself"),
        (with_children(client("b"), {"Pet": [{"A": 1}], "pet": [{"A": 1}]}), "two of its child tables reduce to one name"),
        (with_children(client("b"), {"Pet": [{"A": 1}, {"a": 1, "A": 2}]}), "two of its columns differ only in case"),
    ],
)
def test_record_that_no_table_can_hold_goes_to_quarantine_and_the_others_go_on(
    mirror: Mirror, path: Path, entry: Entry, reason: str
) -> None:
    apply(mirror, client("z", phones=["1"]))
    counts, said = apply(mirror, client("a"), entry, client("c"))
    assert (counts, said) == (Counts(inserted=2, quarantined=1), [])
    assert select(path, "select record_id, reason, ticks from _quarantine") == [("b", reason, 10)]
    body = json.loads(str(one(path, "select body from _quarantine")))
    assert isinstance(entry, Record)
    assert body["record"]["Client"] == [entry.root]
    assert [row[0] for row in select(path, "select _id from Client order by 1")] == ["a", "c", "z"]


def test_widest_table_still_holds_its_records(mirror: Mirror, path: Path) -> None:
    apply(mirror, client(more={f"Column{n}": n for n in range(MAX_COLUMNS - 2)}))
    counts, _ = apply(mirror, client("b", Column7=7), client("c", OneMore=1))
    assert counts == Counts(inserted=1, quarantined=1)
    assert select(path, "select _id, Column7 from _once_Client order by 1") == [("a", 7), ("b", 7)]


def test_table_that_somebody_else_made_in_the_file_is_left_alone(mirror: Mirror, path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("create table Pet (name); create view Broken as select * from nowhere; create table Mine (x)")
    mirror.close()
    with Mirror.open(path, feed_tables=FEED_TABLES) as again:
        taken = [with_children(client(name), {name: [{"name": "Rex"}]}) for name in ("pet", "broken")]
        counts, _ = apply(again, *taken, client("c"))
    assert counts == Counts(inserted=1, quarantined=2)
    assert table(path, "Pet", "name, name") == []


def test_table_that_came_by_starter_alone_is_left_by_deltas_until_one_brings_it(mirror: Mirror, path: Path) -> None:
    apply(mirror, client(phones=["1"]), client("b"), stream=Stream(12, 9, "Client"))
    apply(mirror, with_children(client("b"), {"ClientGiftCard": [{"Code": "9"}]}), stream=Stream(12, 9, "Client"))
    with mirror.transaction() as tx:  # what a starter would have loaded for tenant 11
        tx.execute(
            "insert into ClientGiftCard values (11, 9, 'a', 0, null, '1'), (11, 9, 'b', 0, null, '2'), (11, 9, 'c', 0, null, '3')"
        )
    apply(mirror, client("a", phones=["1"]), client("b"), client("c"))
    apply(mirror, client("a", at=11))
    mine = "select _id, Code from ClientGiftCard where _tenant_id = 11 order by 1"
    assert select(path, mine) == [("a", "1"), ("b", "2"), ("c", "3")]
    apply(mirror, with_children(client("b", at=12), {"ClientGiftCard": []}))
    assert select(path, mine) == [("a", "1"), ("c", "3")]
    apply(mirror, client("a", at=13))
    assert select(path, mine) == [("c", "3")]
    assert select(path, "select entity, name, tenant_id from _tables where name = 'ClientGiftCard'") == [
        ("Client", "ClientGiftCard", None),
        ("Client", "ClientGiftCard", 12),
        ("Client", "ClientGiftCard", 11),
    ]


def test_removed_record_leaves_no_row_in_a_table_that_came_by_starter_alone(mirror: Mirror, path: Path) -> None:
    apply(mirror, with_children(client(), {"ClientGiftCard": [{"Code": "9"}]}), stream=Stream(12, 9, "Client"))
    apply(mirror, client())
    with mirror.transaction() as tx:
        tx.execute("insert into ClientGiftCard values (11, 9, 'a', 0, null, '1')")
    apply(mirror, client(at=11, deleted=True))
    assert table(path, "ClientGiftCard", "_tenant_id, Code") == [(12, "9")]


# One transaction


def test_page_is_in_the_mirror_whole_or_not_at_all(mirror: Mirror, path: Path) -> None:
    apply(mirror, client(FirstName="Ann"), client("b", at=1))
    before = "\n".join(_dump(path))

    def page() -> None:
        with mirror.transaction() as tx:
            sent: list[Entry] = [
                client(at=11, NickName="A", phones=["1"]),
                client("b", at=2, deleted=True),
                Broken("x", None, "{}", "why"),
            ]
            fitted = tx.fit(CLIENTS, sent)
            tx.carry_out(CLIENTS, decide(tx.current(CLIENTS, ["a", "b"]), fitted, Drained()), 1)
            tx.remember(CLIENTS, {"page": 3}, watermark="w")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        page()
    assert "\n".join(_dump(path)) == before
    _, said = apply(mirror, client(at=11, NickName="A", phones=["1"]))
    assert said == ["column NickName added to table Client", "table ClientPhone added"]


def _dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def test_killed_process_leaves_the_pages_it_committed_and_nothing_of_the_next(path: Path) -> None:
    program = f"""
import os, signal
from pathlib import Path
from delta_mirror.core.model import Instant, Record, Stream
from delta_mirror.core.plan import Drained, decide
from delta_mirror.mirror.write import Mirror

stream = Stream(11, 9, "Client")
mirror = Mirror.open(Path({str(path)!r}))
mirror.begin_run("deltas")
for page in (1, 2):
    with mirror.transaction() as tx:
        sent = tx.fit(stream, [Record(str(page), Instant(page, ""), None, False, {{"EntityId": str(page)}}, {{}})])
        tx.carry_out(stream, decide(tx.current(stream, [str(page)]), sent, Drained()), 1)
        tx.remember(stream, {{"page": page}})
        if page == 2:
            os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = subprocess.run([sys.executable, "-c", program], check=False, timeout=30)
    assert ended.returncode == -9
    with Mirror.open(path) as mirror:
        assert select(path, "select _id from Client") == [("1",)]
        assert mirror.read_stream(CLIENTS).place == {"page": 1}
        mirror.begin_run("deltas")
    assert select(path, "select outcome, inserted from _runs order by id") == [("killed", 1), (None, 0)]
    assert one(path, "pragma integrity_check") == "ok"


def test_transactions_of_several_threads_take_turns(mirror: Mirror, path: Path) -> None:
    def write(location: int) -> None:
        for number in range(10):
            apply(mirror, client(f"{location}-{number}", phones=["1"]), stream=Stream(11, location, "Client"))

    threads = [threading.Thread(target=write, args=(location,)) for location in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert one(path, "select count(*) from Client") == 40
    assert one(path, "select count(*) from ClientPhone") == 40


def test_nobody_can_write_between_what_is_read_and_what_is_written(mirror: Mirror, path: Path) -> None:
    with mirror.transaction() as tx, closing(sqlite3.connect(path, timeout=0)) as foreign:
        assert tx.current(CLIENTS, ["a"]) == {}
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            foreign.execute("insert into _meta values ('theirs', '1')")


def test_transaction_inside_a_transaction_is_refused(mirror: Mirror) -> None:
    with mirror.transaction() as tx:
        with pytest.raises(RuntimeError), mirror.transaction():
            pass
        tx.remember(CLIENTS, None)
    assert mirror.read_stream(CLIENTS).state == "new"


def test_reader_sees_whole_pages_while_a_run_writes(mirror: Mirror, path: Path) -> None:
    apply(mirror, client(phones=["1"]))
    with mirror.transaction() as tx:
        fitted = tx.fit(CLIENTS, [client("b", phones=["2"])])
        tx.carry_out(CLIENTS, decide(tx.current(CLIENTS, ["b"]), fitted, Drained()), 1)
        with Reader.open(path) as reader:
            assert living(reader, CLIENTS) == 1
    with Reader.open(path) as reader:
        assert living(reader, CLIENTS) == 2


# Quarantine


def test_thing_in_quarantine_counts_once(mirror: Mirror, path: Path, clock: Clock) -> None:
    thing = Broken("x", Instant(5, "5"), '{"a":1}', "no key")
    assert apply(mirror, thing, thing)[0].quarantined == 1
    clock.time += 3600
    assert apply(mirror, thing, run_id=2)[0].quarantined == 0
    assert select(path, "select first_seen_at, last_seen_at, run_id, source, reason, body, entity from _quarantine") == [
        (AT_NOON, LATER, 1, "deltas", "no key", '{"a":1}', "Client")
    ]
    assert apply(mirror, thing, stream=ELSEWHERE)[0].quarantined == 1


def test_thing_leaves_quarantine_when_its_id_is_applied(mirror: Mirror, path: Path) -> None:
    apply(mirror, Broken("a", Instant(5, "5"), "1", "x"), Broken("a", None, "2", "x"), Broken("b", None, "3", "x"))
    apply(mirror, client("a", at=4))
    assert table(path, "_quarantine", "body, body") == [("1", "1"), ("3", "3")]
    apply(mirror, client("a", at=5, FirstName="Ann"))
    assert table(path, "_quarantine", "body, body") == [("3", "3")]
    apply(mirror, client("b", at=5), stream=ELSEWHERE)
    assert table(path, "_quarantine", "body, body") == [("3", "3")]


def test_thing_that_is_listed_beside_what_is_held_does_not_come_back_as_new(mirror: Mirror) -> None:
    page: list[Entry] = [client("a", at=4), *(Broken("a", at, str(at), "x") for at in (Instant(4, "4"), Instant(5, "5"), None))]
    assert apply(mirror, *page)[0].quarantined == 3
    assert apply(mirror, *page)[0].quarantined == 0


def test_thing_older_than_what_is_held_is_superseded(mirror: Mirror) -> None:
    apply(mirror, client("a", at=6))
    assert apply(mirror, Broken("a", Instant(5, "5"), "1", "x"))[0] == Counts(superseded=1)


# What is known of streams and runs


def test_own_tables_and_their_columns_exist_from_the_first_opening(path: Path) -> None:
    Mirror.open(path).close()
    with closing(sqlite3.connect(path)) as connection:
        for name, own in OWN_TABLES.items():
            assert [row[1] for row in connection.execute(f"pragma table_info({name})")] == list(own.columns)
        assert connection.execute("pragma user_version").fetchone() == (SCHEMA_VERSION,)
        assert connection.execute("pragma journal_mode").fetchone() == ("wal",)


def test_number_of_a_change_is_never_given_twice(mirror: Mirror, path: Path) -> None:
    apply(mirror, client("a"), client("b"))
    with mirror.transaction() as tx:
        tx.execute("delete from _changes")
    apply(mirror, client("c"))
    assert one(path, "select seq from _changes") == 3


def test_state_of_a_stream_comes_back_as_remembered(mirror: Mirror) -> None:
    with mirror.transaction() as tx:
        tx.remember(CLIENTS, {"start": "2026", "pages": [1, 2]}, state="following", watermark="w", late=3, debt={"n": 1})
    found = mirror.read_stream(CLIENTS)
    assert (found.place, found.state, found.watermark, found.late, found.debt) == (
        {"start": "2026", "pages": [1, 2]},
        "following",
        "w",
        3,
        {"n": 1},
    )
    with mirror.transaction() as tx:
        tx.note(CLIENTS, state="failing", last_error="no answer")
    found = mirror.read_stream(CLIENTS)
    assert (found.place, found.state, found.watermark) == ({"start": "2026", "pages": [1, 2]}, "failing", "w")
    with mirror.transaction() as tx:
        tx.remember(CLIENTS, None, last_error=None)
    found = mirror.read_stream(CLIENTS)
    assert (found.place, found.last_error, found.watermark) == (None, None, "w")
    assert mirror.read_stream(ELSEWHERE).state == "new"


@pytest.mark.parametrize("deletes", ["remove", "mark"])
def test_known_are_all_ids_that_changed_after_a_date_each_once(path: Path, deletes: Deletes) -> None:
    with Mirror.open(path, deletes=deletes, feed_tables=FEED_TABLES) as mirror:
        assert mirror.count_known(CLIENTS, 0, 1000) == 0
        apply(mirror, *(client(str(at), at=at) for at in range(1, 7)))
        apply(mirror, client("6", at=8, deleted=True), client("never", at=9, deleted=True), client("1", at=10), stream=CLIENTS)
        apply(mirror, client("5", at=50), stream=ELSEWHERE)
        apply(mirror, Broken("1", Instant(11, ""), "1", "x"), Broken("q", Instant(11, ""), "2", "x"))
        apply(mirror, Broken("q", Instant(12, ""), "3", "x"), Broken(None, None, "4", "x"))
        assert mirror.count_known(CLIENTS, 0, 1000) == 8
        assert mirror.count_known(CLIENTS, 5, 1000) == 4
        assert mirror.count_known(CLIENTS, 8, 1000) == 3
        assert mirror.count_known(CLIENTS, 12, 1000) == 0
        assert mirror.count_known(CLIENTS, 5, 10) == mirror.count_known(CLIENTS, 5, 11) - 1


def test_run_has_its_row(mirror: Mirror, path: Path, clock: Clock) -> None:
    run_id = mirror.begin_run("deltas")
    counts, _ = apply(mirror, client(), client(), client(at=9), Broken(None, None, "1", "x"), run_id=run_id)
    taken = "inserted, unchanged, superseded, quarantined"
    assert select(path, f"select outcome, {taken} from _runs") == [(None, 1, 1, 1, 1)]
    clock.time += 3600
    mirror.end_run(run_id, "done", counts, calls=5, pages=2)
    with Reader.open(path) as reader:
        run = reader.last_run()
    assert run is not None
    assert (run.command, run.started_at, run.ended_at, run.outcome) == ("deltas", AT_NOON, LATER, "done")
    assert (run.calls, run.pages, run.counts) == (5, 2, Counts(inserted=1, unchanged=1, superseded=1, quarantined=1))


def test_answer_about_the_tenants_is_kept_for_its_day(mirror: Mirror) -> None:
    assert mirror.remembered("2026-05-28") is None
    mirror.remember("2026-05-28", "[1]")
    mirror.remember("2026-05-28", "[2]")
    assert (mirror.remembered("2026-05-28"), mirror.remembered("2026-05-29")) == ("[2]", None)


def test_log_is_read_by_filter(mirror: Mirror, path: Path, clock: Clock) -> None:
    apply(mirror, client("a"), client("b"))
    clock.time += 3600
    apply(mirror, client("a", at=11, FirstName="Ann"), run_id=2)
    apply(mirror, client("a"), stream=Stream(12, 10, "Sale"), run_id=2)
    with Reader.open(path) as reader:
        assert [change.seq for change in reader.changes()] == [1, 2, 3, 4]
        assert [change.seq for change in reader.changes(ids=["a"])] == [1, 3, 4]
        assert [change.seq for change in reader.changes(entities=["Client"], run_id=2)] == [3]
        assert [change.seq for change in reader.changes(tenants=[12, 13])] == [4]
        assert [change.seq for change in reader.changes(locations=[9], limit=2)] == [1, 2]
        assert [change.seq for change in reader.changes(since=LATER)] == [3, 4]
        assert [change.seq for change in reader.changes(after=2)] == [3, 4]
        third = next(iter(reader.changes(after=2)))
        assert (third.stream, third.op, third.at) == (CLIENTS, "replace", LATER)
        assert third.fields == {"DateUpdated": ["10", "11"], "FirstName": [None, "Ann"]}
        assert [state.stream for state in reader.read_streams()] == [CLIENTS, Stream(12, 10, "Sale")]
        assert (living(reader, CLIENTS), living(reader, Stream(1, 1, "Nothing"))) == (2, 0)
        assert reader.quarantine_count() == 0


def test_reader_cannot_write_and_leaves_a_closed_mirror_readable(path: Path) -> None:
    with Mirror.open(path) as mirror:
        apply(mirror, client())
    assert not path.with_name("mirror.db-wal").exists()
    with Reader.open(path) as reader:
        assert living(reader, CLIENTS) == 1
    with Mirror.open(path) as mirror:
        apply(mirror, client("b"))


@contextmanager
def _as_a_user_without_rights() -> Iterator[None]:
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_user_who_may_only_read_reads_a_closed_mirror_and_cannot_open_it_for_writing() -> None:
    with tempfile.TemporaryDirectory() as folder:  # the folders of fixtures are closed to others
        path = Path(folder, "mirror.db")
        with Mirror.open(path) as mirror:
            apply(mirror, client())
        path.chmod(0o444)
        Path(folder).chmod(0o555)
        with _as_a_user_without_rights():
            with Reader.open(path) as reader:
                assert living(reader, CLIENTS) == 1
            with pytest.raises(MirrorFileError, match="mend owner or mode"):
                Mirror.open(path, mode=0o444)
            with pytest.raises(MirrorFileError, match="mend owner or mode"):
                Mirror.open(Path(folder, "other.db"))
        Path(folder).chmod(0o700)


# What is refused


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
@pytest.mark.parametrize("mode", [0o600, 0o660])
def test_file_and_wal_have_the_mode_in_every_umask(path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        with Mirror.open(path, mode=mode) as mirror:
            apply(mirror, client())
            modes = {found.name: stat.S_IMODE(found.stat().st_mode) for found in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("mirror.db", "mirror.db-wal", "mirror.db-shm"), mode)
    with Mirror.open(path, mode=0o640):
        assert stat.S_IMODE(path.stat().st_mode) == 0o640


def _foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table theirs (x)")


def _newer(path: Path) -> None:
    Mirror.open(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma user_version = 99")


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda path: path.write_bytes(b"name,phone\n" * 1000), "is not a SQLite file"),
        (lambda path: path.mkdir(), "is a folder"),
        (_foreign, "is a SQLite file, but not a mirror"),
        (_newer, f"was written by a newer delta-mirror ({__version__}, schema 99; this is"),
    ],
    ids=["text", "folder", "foreign", "newer"],
)
def test_what_is_no_mirror_is_refused_and_left_as_it_is(path: Path, prepare: object, message: str) -> None:
    assert callable(prepare)
    prepare(path)
    before = path.read_bytes() if path.is_file() else b""
    for opening in (Mirror.open, Reader.open):
        with pytest.raises(MirrorFileError) as refused:
            opening(path)
        assert message in str(refused.value)
        assert str(path) in str(refused.value)
    assert (path.read_bytes() if path.is_file() else b"") == before


def test_missing_folder_and_missing_mirror_are_said(tmp_path: Path) -> None:
    with pytest.raises(MirrorFileError, match="there is no folder"):
        Mirror.open(tmp_path / "nowhere" / "mirror.db")
    with pytest.raises(MirrorFileError, match="cannot be made"):
        Mirror.open(Path("/proc/mirror.db"))
    with pytest.raises(MirrorFileError, match="there is no mirror"):
        Reader.open(tmp_path / "mirror.db")
    assert list(tmp_path.iterdir()) == []


def test_empty_file_becomes_a_mirror(path: Path) -> None:
    path.touch()
    with pytest.raises(MirrorFileError):
        Reader.open(path)
    Mirror.open(path).close()
    with Reader.open(path) as reader:
        assert reader.last_run() is None


def test_file_name_is_never_taken_for_a_name_of_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (":memory:", "file:x?mode=memory", "a%20b#c?d.db"):
        Mirror.open(Path(name)).close()
        with Reader.open(Path(name)) as reader:
            assert reader.quarantine_count() == 0
    assert sorted(found.name for found in tmp_path.iterdir() if not found.name.endswith(("-shm", "-wal"))) == [
        ":memory:",
        "a%20b#c?d.db",
        "file:x?mode=memory",
    ]


def test_mirror_of_another_account_is_refused_by_name(path: Path) -> None:
    with Mirror.open(path, account="marketplace.example.com, client_id first") as mirror, mirror.transaction() as tx:
        tx.remember(CLIENTS, None)
    with pytest.raises(MirrorFileError) as refused:
        Mirror.open(path, account="marketplace.example.com, client_id second")
    assert "client_id first" in str(refused.value)
    assert "client_id second" in str(refused.value)
    Mirror.open(path).close()
    Mirror.open(path, account="marketplace.example.com, client_id first").close()


def test_filled_mirror_does_not_change_the_way_it_deletes(path: Path) -> None:
    Mirror.open(path, deletes="remove", account="one").close()
    with Mirror.open(path, deletes="mark", account="other") as mirror:  # nothing is in it yet
        apply(mirror, client())
    with pytest.raises(MirrorFileError, match='was filled with deletes = "mark"'):
        Mirror.open(path, deletes="remove", account="other")
    with pytest.raises(MirrorFileError, match="was filled from other"):
        Mirror.open(path, deletes="mark", account="one")


def test_foreign_program_that_locks_the_file_is_said(mirror: Mirror, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as foreign:
        foreign.execute("begin immediate")
        with pytest.raises(BusyError, match="another program keeps"):
            Mirror.open(path, patience=0.01)
        foreign.execute("rollback")
    Mirror.open(path, patience=0.01).close()


@contextmanager
def _no_file_longer_than(length: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (length, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_disk_that_takes_no_more_is_said_and_the_page_is_not_there(mirror: Mirror, path: Path) -> None:
    apply(mirror, client())
    page = [client(str(number), Text="x" * 5000) for number in range(200)]
    with _no_file_longer_than(300_000), pytest.raises(DiskFullError, match="fails to read or write"):
        apply(mirror, *page)
    assert one(path, "select count(*) from Client") == 1
    counts, _ = apply(mirror, *page)
    assert counts == Counts(inserted=200)


@pytest.mark.parametrize(
    ("statement", "error", "message"),
    [
        ("insert into t values (zeroblob(1000000))", DiskFullError, "is full"),
        ("nonsense", sqlite3.OperationalError, "syntax error"),
    ],
)
def test_what_sqlite_says_is_told_in_words_of_ours(path: Path, statement: str, error: type[Exception], message: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table t (x)")
        connection.execute("pragma max_page_count = 10")
        with pytest.raises(error, match=message), translated(path):
            connection.execute(statement)


def test_damaged_file_is_said(path: Path) -> None:
    with Mirror.open(path) as mirror:
        apply(mirror, *(client(str(number), Text="x" * 500) for number in range(200)))
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)

    def read() -> None:
        with Mirror.open(path) as mirror:
            apply(mirror, client("1"))

    with pytest.raises(MirrorFileError, match="is damaged"):
        read()


def test_opening_a_mirror_that_is_complete_does_not_load_sqlite_utils(path: Path) -> None:
    Mirror.open(path).close()
    program = f"""
import sys
from pathlib import Path
from delta_mirror.mirror.write import Mirror
Mirror.open(Path({str(path)!r})).close()
print("sqlite_utils" in sys.modules, "filelock" in sys.modules)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert ended.stdout == "False False\n"


def notes(id_: str, at: int, *texts: str) -> Record:
    return Record(
        id_, Instant(at, ""), None, False, {"EntityId": id_}, {"Notes": [Child({"Text": text}, None) for text in texts]}
    )


def test_one_id_under_two_entities_that_share_a_child_table_is_set_aside_and_takes_nothing_from_the_other(path: Path) -> None:
    employees = Stream(11, 9, "Employee")
    with Mirror.open(path, feed_tables={"Client": (), "Employee": ()}) as mirror:
        apply(mirror, notes("a", 10, "of the client"), notes("b", 10, "of another client"))
        counts, _ = apply(mirror, notes("a", 11, "of the employee"), notes("c", 11, "of another employee"), stream=employees)
        assert (counts.inserted, counts.quarantined) == (1, 1)
        assert (
            apply(mirror, Record("b", Instant(12, ""), None, False, {"EntityId": "b"}, {}), stream=employees)[0].quarantined == 1
        )
        assert apply(mirror, notes("a", 10, "of the client"))[0].unchanged == 1
    assert table(path, "Notes", "_id, Text") == [("a", "of the client"), ("b", "of another client"), ("c", "of another employee")]
    assert one(path, "select count(*) from _changes where op = 'replace'") == 0
