"""The ledger of calls: what it admits, what it counts, and whom it makes wait."""

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from delta_mirror.core.model import Stream
from delta_mirror.errors import BudgetError, LimitedError
from delta_mirror.mirror.ledger import Ledger
from delta_mirror.mirror.write import Mirror

MIDNIGHT = 1_779_926_400.0  # 2026-05-28T00:00:00Z
HOUR = 3600.0
CLIENTS, EMPLOYEES, APPOINTMENTS, SALES = (Stream(11, 9, entity) for entity in ("Client", "Employee", "Appointment", "Sale"))
ALL = (CLIENTS, EMPLOYEES, APPOINTMENTS, SALES)


class Clock:
    """A clock that moves when somebody sleeps."""

    def __init__(self) -> None:
        self.time = MIDNIGHT
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mirror.db"


@pytest.fixture
def mirror(path: Path, clock: Clock) -> Iterator[Mirror]:
    with Mirror.open(path, now=clock) as opened:
        yield opened


@pytest.fixture
def ledger(mirror: Mirror, clock: Clock) -> Callable[..., Ledger]:
    """Return what opens the books: a ledger of a new run on the same mirror."""

    def open_books(*, minute: int = 0, day: int = 0, streams: Iterable[Stream] = ALL, day_of: Clock | None = None) -> Ledger:
        return Ledger(mirror, minute, day, streams, now=clock, sleep=clock.sleep, clock=day_of)

    return open_books


def admitted(books: Ledger, stream: Stream = CLIENTS, most: int = 2000) -> int:
    """Return how many calls are admitted until one is not."""
    for number in range(most):
        try:
            books.admit(stream)
        except BudgetError:
            return number
    return most


def calls(path: Path) -> list[tuple[int, int, str, int, dict[str, int]]]:
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("select tenant_id, location_id, day, calls, by_entity from _calls order by 1, 2, 3").fetchall()
    return [(*row[:4], json.loads(row[4])) for row in found]


def test_call_is_counted_and_committed_before_it_is_sent(ledger: Callable[..., Ledger], path: Path) -> None:
    books = ledger(minute=60, day=1000)
    books.admit(CLIENTS)
    books.admit(SALES)
    books.admit(CLIENTS)
    books.admit(Stream(12, 3, "Client"))
    assert calls(path) == [
        (11, 9, "2026-05-28", 3, {"Client": 2, "Sale": 1}),
        (12, 3, "2026-05-28", 1, {"Client": 1}),
    ]


def test_calls_are_counted_where_there_is_no_limit(ledger: Callable[..., Ledger], path: Path, clock: Clock) -> None:
    assert admitted(ledger(), most=300) == 300
    assert (calls(path)[0][3], clock.slept) == (300, [])


def test_full_minute_is_waited_for_and_slides(ledger: Callable[..., Ledger], clock: Clock) -> None:
    books = ledger(minute=3)
    for offset in (0, 10, 20):
        clock.time = MIDNIGHT + offset
        books.admit(CLIENTS)
    books.admit(Stream(12, 3, "Sale"))  # over all locations
    assert clock.slept == [40]
    books.admit(CLIENTS)
    books.admit(CLIENTS)
    books.admit(CLIENTS)
    assert clock.slept == [40, 10, 10, 40]


def test_limit_that_was_lowered_holds_from_the_next_call_on(ledger: Callable[..., Ledger], clock: Clock) -> None:
    books = ledger(minute=5)
    for offset in range(5):
        clock.time = MIDNIGHT + offset
        books.admit(CLIENTS)
    ledger(minute=2).admit(CLIENTS)
    assert clock.slept == [59]


def test_in_no_minute_more_is_admitted_than_allowed(ledger: Callable[..., Ledger], clock: Clock) -> None:
    books = ledger(minute=7)
    times = []
    for number in range(60):
        clock.time += (number * 37 % 11) / 3
        books.admit(CLIENTS)
        times.append(clock.time)
    assert all(later - earlier >= 60 for earlier, later in zip(times, times[7:], strict=False))
    assert times[-1] - times[0] < 60 * 9


def test_minute_is_kept_over_runs(ledger: Callable[..., Ledger], mirror: Mirror, path: Path, clock: Clock) -> None:
    books = ledger(minute=2)
    books.admit(CLIENTS)
    books.admit(CLIENTS)
    mirror.close()
    with Mirror.open(path, now=clock) as again:
        Ledger(again, 2, 0, ALL, now=clock, sleep=clock.sleep).admit(CLIENTS)
    assert clock.slept == [60]


def test_nobody_else_waits_while_one_waits_for_the_minute(mirror: Mirror, clock: Clock) -> None:
    met = []

    def sleep(seconds: float) -> None:
        with mirror.transaction() as tx:  # refused if the ledger still had its own open
            met.append(tx.said)
        clock.time += seconds

    books = Ledger(mirror, 1, 0, ALL, now=clock, sleep=sleep)
    books.admit(CLIENTS)
    books.admit(CLIENTS)
    assert met == [[]]


def test_clock_that_was_set_back_blocks_nothing(ledger: Callable[..., Ledger], clock: Clock) -> None:
    books = ledger(minute=2)
    clock.time = MIDNIGHT + 24 * HOUR
    books.admit(CLIENTS)
    books.admit(CLIENTS)
    books.limited(CLIENTS, clock.time + HOUR)
    clock.time = MIDNIGHT
    books.admit(CLIENTS)
    books.admit(CLIENTS)
    assert clock.slept == []
    books.limited(CLIENTS, clock.time + HOUR)
    with pytest.raises(LimitedError):
        books.admit(CLIENTS)


def test_spent_day_is_refused_until_the_next_utc_day(ledger: Callable[..., Ledger], path: Path, clock: Clock) -> None:
    books = ledger(day=20, streams=[CLIENTS])
    clock.time += HOUR
    assert admitted(books) == 20
    with pytest.raises(BudgetError, match=r"Client of tenant 11, location 9: the 20 calls .* given anew at 2026-05-29T00:00:00Z"):
        books.admit(CLIENTS)
    assert calls(path)[0][3] == 20
    assert admitted(ledger(day=20, streams=[CLIENTS])) == 0
    assert admitted(books, Stream(11, 10, "Client")) == 20
    clock.time = MIDNIGHT + 24 * HOUR
    assert admitted(books) == 20


def test_day_is_the_one_of_the_service(ledger: Callable[..., Ledger], path: Path) -> None:
    service = Clock()
    service.time = MIDNIGHT + 24 * HOUR - 1
    books = ledger(day=5, streams=[CLIENTS], day_of=service)
    assert admitted(books) == 5
    service.time += 1
    assert admitted(books) == 5
    assert [row[2] for row in calls(path)] == ["2026-05-28", "2026-05-29"]


def test_stream_cannot_eat_the_shares_of_the_others_in_the_morning(ledger: Callable[..., Ledger]) -> None:
    books = ledger(day=1000)
    assert [admitted(books, stream) for stream in ALL] == [250, 250, 250, 250]


def test_what_the_others_will_not_need_any_more_is_free_in_the_evening(ledger: Callable[..., Ledger], clock: Clock) -> None:
    books = ledger(day=1000)
    clock.time += 12 * HOUR
    assert admitted(books, CLIENTS) == 1000 - 3 * 125
    clock.time += 11.9 * HOUR
    assert admitted(books, CLIENTS) == 3 * 125 - 3 * 2
    assert [admitted(books, stream) for stream in ALL] == [0, 2, 2, 2]


def test_what_was_lent_is_borne_by_all_who_have_calls_left(ledger: Callable[..., Ledger], clock: Clock) -> None:
    books = ledger(day=1000)
    clock.time += 12 * HOUR
    assert [admitted(books, stream) for stream in ALL] == [625, 125, 125, 125]


def test_stream_that_has_used_its_share_gets_no_reserve(ledger: Callable[..., Ledger]) -> None:
    books = ledger(day=100, streams=[CLIENTS, SALES])
    assert admitted(books, SALES) == 50
    with pytest.raises(BudgetError, match="is kept for the other entities of the location; they are given anew at"):
        books.admit(SALES)
    assert admitted(books, CLIENTS) == 50


def test_streams_of_other_locations_share_nothing(ledger: Callable[..., Ledger]) -> None:
    assert admitted(ledger(day=10, streams=[CLIENTS, Stream(11, 10, "Sale"), Stream(12, 9, "Sale")])) == 10


def test_stream_that_is_not_configured_counts_as_one_more(ledger: Callable[..., Ledger]) -> None:
    books = ledger(day=90, streams=[CLIENTS, SALES])
    assert admitted(books, EMPLOYEES) == 30


def test_nothing_is_called_before_the_time_that_the_service_named(
    ledger: Callable[..., Ledger], path: Path, clock: Clock
) -> None:
    ledger().limited(CLIENTS, MIDNIGHT + HOUR)
    books = ledger()
    with pytest.raises(LimitedError, match=r"until 2026-05-28T01:00:00Z; nothing was called") as refused:
        books.admit(SALES)
    assert refused.value.until == MIDNIGHT + HOUR
    assert calls(path) == []
    books.admit(Stream(11, 10, "Client"))
    clock.time += HOUR
    books.admit(SALES)


def test_limit_without_a_time_is_a_pause_of_a_quarter_of_an_hour(ledger: Callable[..., Ledger], clock: Clock) -> None:
    books = ledger()
    books.limited(CLIENTS, None)
    clock.time += 15 * 60 - 1
    with pytest.raises(LimitedError):
        books.admit(CLIENTS)
    clock.time += 1
    books.admit(CLIENTS)


def test_of_two_limits_the_later_time_holds(ledger: Callable[..., Ledger], clock: Clock) -> None:
    books = ledger()
    books.limited(CLIENTS, MIDNIGHT + 2 * HOUR)
    books.limited(SALES, MIDNIGHT + HOUR)
    clock.time += 1.5 * HOUR
    with pytest.raises(LimitedError):
        books.admit(CLIENTS)
    clock.time += HOUR
    books.admit(CLIENTS)
    books.limited(CLIENTS, clock.time + HOUR)
    with pytest.raises(LimitedError):
        books.admit(SALES)
