"""One page is fetched while the one before it is applied, and nothing of that shows in the mirror."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from delta_mirror.core.model import Instant, Page, PageRequest, Record, Stream
from delta_mirror.core.plan import Counts
from delta_mirror.core.values import EPOCH, HOUR, SECOND, write_ticks
from delta_mirror.errors import LimitedError
from delta_mirror.jobs.ahead import Ahead, Unread
from delta_mirror.jobs.drain import Drain, Reading
from delta_mirror.mirror.write import Mirror

PATIENCE = 20.0  # seconds after which something that never comes fails the test
CLIENTS = Stream(11, 9, "Client")
NOW = EPOCH + 20_000 * 24 * HOUR
RECORDS = 13
SIZE = 5


def asked(number: int) -> PageRequest:
    return PageRequest("2026-05-04T12:00:00.0000000+00:00", number, SIZE, may_be_past_end=False)


def answer(number: int) -> Page:
    return Page((), (), None, NOW + number)


class Line:
    """A line to a service on which every answer waits until it is let go."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.answers = threading.Event()
        self.asked: list[int] = []

    def fetch(self, request: PageRequest, counted: Callable[[], None]) -> Unread:
        self.asked.append(request.number)
        counted()
        self.begun.set()
        assert self.answers.wait(PATIENCE)
        return lambda: answer(request.number)


@pytest.fixture
def line() -> Iterator[Line]:
    line = Line()
    yield line
    line.answers.set()


def test_page_asked_for_ahead_is_fetched_while_its_asker_goes_on(line: Line) -> None:
    with Ahead(line.fetch, turn=PATIENCE) as ahead:
        ahead.ask(asked(1))
        assert line.asked == [1]  # counted, and not answered yet
        line.answers.set()
        assert ahead.take(asked(1)) == answer(1)
    assert line.asked == [1]


def test_page_that_was_not_asked_for_ahead_is_fetched_when_it_is_taken(line: Line) -> None:
    line.answers.set()
    with Ahead(line.fetch) as ahead:
        ahead.ask(None)
        assert ahead.take(asked(1)) == answer(1)
        ahead.ask(asked(2))
        assert ahead.take(asked(3)) == answer(3)
    assert line.asked == [1, 2, 3]


def test_call_that_has_to_wait_for_its_minute_keeps_nobody_waiting() -> None:
    minute = threading.Event()

    def fetch(request: PageRequest, counted: Callable[[], None]) -> Unread:
        assert minute.wait(PATIENCE)
        counted()
        return lambda: answer(request.number)

    with Ahead(fetch, turn=0.0) as ahead:
        ahead.ask(asked(1))
        minute.set()
        assert ahead.take(asked(1)) == answer(1)


def test_what_fetching_ahead_raises_is_raised_where_the_page_is_taken() -> None:
    def fetch(request: PageRequest, counted: Callable[[], None]) -> Unread:
        raise LimitedError("not before tomorrow", None)

    with Ahead(fetch, turn=PATIENCE) as ahead:
        ahead.ask(asked(1))
        with pytest.raises(LimitedError, match="tomorrow"):
            ahead.take(asked(1))


def test_page_is_read_by_the_thread_that_takes_it() -> None:
    readers: list[int] = []

    def fetch(request: PageRequest, counted: Callable[[], None]) -> Unread:
        counted()

        def read() -> Page:
            readers.append(threading.get_ident())
            return answer(request.number)

        return read

    with Ahead(fetch, turn=PATIENCE) as ahead:
        ahead.ask(asked(1))
        assert ahead.take(asked(1)) == answer(1)
    assert readers == [threading.get_ident()]


def test_fetching_thread_ends_with_the_drain_also_where_a_page_was_dropped(line: Line) -> None:
    before = set(threading.enumerate())
    with Ahead(line.fetch) as ahead:
        ahead.ask(asked(1))
        [thread] = set(threading.enumerate()) - before
        assert thread.daemon
    line.answers.set()
    thread.join(PATIENCE)
    assert not thread.is_alive()


class Salon:
    """A feed of RECORDS clients, one changed every second; *before* is called before each call is counted, with its number."""

    def __init__(self, before: Callable[[int], None], broken: int | None = None) -> None:
        self._before = before
        self._broken = broken
        self._calls = 0
        self.records = [self._record(NOW - HOUR + number * SECOND, f"r{number}") for number in range(RECORDS)]

    def _record(self, ticks: int, name: str) -> Record:
        changed = Instant(ticks, write_ticks(ticks))
        return Record(name, changed, None, False, {"EntityId": name, "DateUpdated": changed.text}, {})

    def greet(self, stream: Stream) -> None:
        pass

    def clock(self) -> int:
        return NOW

    def fetch_unread(self, stream: Stream, request: PageRequest, counted: Callable[[], None]) -> Unread:
        self._calls += 1
        call = self._calls
        self._before(call)
        if call == self._broken:
            raise LimitedError("not before tomorrow", None)
        counted()
        listed = [each for each in self.records if each.changed and each.changed.text > request.start]
        entries = listed[request.number * SIZE : (request.number + 1) * SIZE]
        page = Page(entries, [hash(each.id) for each in entries], entries[-1].changed if entries else None, NOW)
        return lambda: page


def open_mirror(folder: Path) -> Mirror:
    return Mirror.open(folder / "mirror.db", feed_tables={"Client": ()}, now=lambda: 1_700_000_000.0)


def held(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "mirror.db")) as mirror:
        there = mirror.execute("select count(*) from sqlite_master where name = 'Client'").fetchone()[0]
        return int(mirror.execute("select count(*) from Client").fetchone()[0]) if there else 0


def drain(mirror: Mirror, salon: Salon) -> Drain:
    return Drain(CLIENTS, salon, mirror, Reading(size=SIZE, overlap=0, first_window=2 * HOUR), mirror.begin_run("deltas"))


def test_next_page_is_asked_for_before_the_page_in_hand_is_committed(tmp_path: Path) -> None:
    in_mirror: list[int] = []
    with open_mirror(tmp_path) as mirror:
        salon = Salon(lambda call: in_mirror.append(held(tmp_path)))
        report = drain(mirror, salon).run()
        assert report.error is None
        assert held(tmp_path) == RECORDS
    # Of the first two calls neither finds anything: while the second is made, what the first has brought is not written yet.
    assert in_mirror[:3] == [0, 0, 5]


def test_page_before_a_call_that_fails_is_committed_and_the_next_run_goes_on_behind_it(tmp_path: Path) -> None:
    with open_mirror(tmp_path) as mirror:
        report = drain(mirror, Salon(lambda call: None, broken=3)).run()
        assert isinstance(report.error, LimitedError)
        assert report.pages == 2
        assert held(tmp_path) == 9  # a page begins with the last record of the page before
        place = mirror.read_stream(CLIENTS).place
        assert place is not None
        assert place["last"] == NOW - HOUR + 8 * SECOND
        report = drain(mirror, Salon(lambda call: None)).run()
        assert report.error is None
        assert held(tmp_path) == RECORDS


def test_page_that_is_dropped_before_it_is_committed_is_not_counted(tmp_path: Path) -> None:
    with open_mirror(tmp_path) as mirror:
        with closing(sqlite3.connect(tmp_path / "mirror.db")) as other:  # the rows can be written, the place behind them cannot
            other.execute("create index poison on _streams (abs(iif(place is null, 0, -9223372036854775808)))")
        broken = drain(mirror, Salon(lambda call: None))
        with pytest.raises(sqlite3.OperationalError, match="integer overflow"):
            broken.run()
        assert held(tmp_path) == 0
        assert (broken.report.counts, broken.report.late, broken.report.said) == (Counts(), 0, [])
