"""`_streams.records` is what count(*) would say: after every page, whatever came, in both ways of deleting."""

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delta_mirror.core.model import Broken, Child, Entry, Instant, Record, Stream
from delta_mirror.core.plan import Drained, decide
from delta_mirror.mirror.read import Reader
from delta_mirror.mirror.transaction import Deletes
from delta_mirror.mirror.write import Mirror

HERE, THERE = Stream(11, 9, "Client"), Stream(11, 10, "Client")


def client(id_: str, at: int, value: int, *, deleted: bool = False) -> Record:
    children = {"ClientPhone": [Child({"PhoneNumber": str(value)}, None)]} if value else {}
    return Record(id_, Instant(at, str(at)), None, deleted, {"EntityId": id_, "Value": value}, children)


def apply(mirror: Mirror, stream: Stream, *entries: Entry) -> None:
    with mirror.transaction() as tx:
        fitted = tx.fit(stream, entries)
        held = tx.current(stream, [entry.id for entry in fitted if entry.id is not None])
        tx.carry_out(stream, decide(held, fitted, Drained()), 1)


def kept(path: Path) -> dict[Stream, int]:
    with Reader.open(path) as reader:
        return {state.stream: state.records for state in reader.read_streams()}


def counted(path: Path, stream: Stream) -> int:
    with closing(sqlite3.connect(path)) as mirror:
        if not mirror.execute("select count(*) from sqlite_master where name = 'Client'").fetchone()[0]:
            return 0
        of_stream = "_tenant_id = ? and _location_id = ? and _deleted_at is null"
        return int(mirror.execute(f"select count(*) from Client where {of_stream}", stream[:2]).fetchone()[0])


entries = st.one_of(
    st.builds(
        client, st.sampled_from("abcd"), st.integers(1, 6), st.integers(0, 2), deleted=st.sampled_from([False, False, True])
    ),
    st.builds(lambda id_: Broken(id_, None, "{}", "odd"), st.sampled_from("abcd")),
)
pages = st.lists(st.tuples(st.sampled_from([HERE, THERE]), st.lists(entries, max_size=6), st.booleans()), max_size=8)


@settings(max_examples=25, deadline=None)
@given(pages=pages, deletes=st.sampled_from(["remove", "mark"]))
def test_number_of_records_that_is_kept_is_the_number_that_is_there(
    pages: list[tuple[Stream, list[Entry], bool]], deletes: Deletes
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "mirror.db")
        with Mirror.open(path, deletes=deletes) as mirror:
            for stream, page, prunes in pages:
                apply(mirror, stream, *page)
                if prunes:
                    with mirror.transaction() as tx:
                        tx.execute("delete from _tombstones")
                for each in (HERE, THERE):
                    assert kept(path).get(each, 0) == counted(path, each)


def test_page_that_is_dropped_leaves_the_number_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "mirror.db"
    with Mirror.open(path) as mirror:
        apply(mirror, HERE, client("a", 1, 1))

        def take_and_fail() -> None:
            with mirror.transaction() as tx:
                tx.carry_out(HERE, decide({}, tx.fit(HERE, [client("b", 1, 1)]), Drained()), 1)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            take_and_fail()
        assert kept(path) == {HERE: 1}


def test_mirror_that_was_filled_before_there_was_the_number_has_it_after_the_next_opening(tmp_path: Path) -> None:
    path = tmp_path / "mirror.db"
    with Mirror.open(path) as mirror:
        apply(mirror, HERE, client("a", 1, 1), client("b", 1, 1), client("c", 1, 1))
        apply(mirror, HERE, client("c", 2, 1, deleted=True))
        apply(mirror, THERE, client("a", 1, 1))
        with mirror.transaction() as tx:
            tx.remember(Stream(11, 9, "Sale"), None)
    with closing(sqlite3.connect(path)) as older:
        older.execute("alter table _streams drop column records")
        older.execute("pragma user_version = 1")
    Mirror.open(path).close()
    assert kept(path) == {HERE: 2, THERE: 1, Stream(11, 9, "Sale"): 0}
