"""Many streams in one run: a chain of hundreds of locations, and its calls spread over the minutes that they take."""

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from installed import Held, Shop

from delta_mirror.jobs.deltas import run_deltas
from delta_mirror.simulator import MINUTE, SECOND, Service, World
from delta_mirror.simulator.clock import epoch_seconds
from delta_mirror.simulator.faults import slow

LOCATIONS = 500
ENTITIES = ["Client", "Employee", "Appointment", "Sale"]
A_MINUTE = 60  # calls
PARALLEL = 4


class Patience(threading.Event):
    """A stop event whose waits pass on the clock of the world, at once."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def wait(self, timeout: float | None = None) -> bool:
        """Let the time pass."""
        assert timeout is not None
        self._world.advance(round(timeout * SECOND) + 1)
        return self.is_set()


@pytest.fixture
def world() -> World:
    return World(seed=7, tenants={11: tuple(range(1, LOCATIONS + 1))})


@pytest.fixture
def chain(tmp_path: Path, world: World) -> Iterator[Shop]:
    """A tenant with five hundred locations, all of them followed, and one sale at every tenth."""
    for location in range(1, LOCATIONS + 1, 10):
        world.create("Sale", locations=(location,))
    world.advance(MINUTE)
    with Service(world) as service:
        shop = Shop(tmp_path, service)
        shop.configure(calls_per_minute=A_MINUTE, calls_per_day=1000, entities=ENTITIES, parallel=PARALLEL)
        yield shop


def most_in_a_minute(times: list[int]) -> int:
    """Return how many calls at most were made within any 60 seconds."""
    times = sorted(times)
    return max(number - bisect_left(times, at - MINUTE + 1) + 1 for number, at in enumerate(times))


def test_five_hundred_locations_keep_to_the_minute_with_a_token_each_and_few_connections(chain: Shop, world: World) -> None:
    began, before = world.now, threading.active_count()
    threads: list[int] = []

    report = run_deltas(
        chain.config(),
        stop=Patience(world),
        watch=lambda progress: threads.append(threading.active_count() - before),
        now=lambda: epoch_seconds(world.now),
    )

    assert (report.outcome, len(report.streams), report.counts.inserted) == ("done", LOCATIONS * len(ENTITIES), LOCATIONS // 10)
    counted = [call.at for call in chain.service.calls if call.endpoint in ("changes", "enums")]
    assert len(counted) == report.calls < 1.1 * LOCATIONS * len(ENTITIES)
    # Between the moment at which a call is admitted and that at which it comes, another thread may have let a minute pass.
    assert most_in_a_minute(counted) <= A_MINUTE + 2 * PARALLEL
    assert (world.now - began) / MINUTE < 1.1 * len(counted) / A_MINUTE + 1
    assert Counter(call.endpoint for call in chain.service.calls)["token"] <= LOCATIONS + 1
    # The service answers each connection in a thread of its own, so that these are counted, too.
    assert max(threads) <= 6 * PARALLEL


def test_who_was_caught_up_longest_ago_comes_first_so_that_short_runs_reach_all(tmp_path: Path) -> None:
    world = World(seed=7, tenants={11: (1, 2, 3, 4, 5)})
    with Service(world) as service:
        shop = Shop(tmp_path, service)
        shop.configure(entities=["Client"], parallel=1)
        reached: list[list[int | None]] = []
        for _ in range(3):
            service.calls.clear()
            stop, seen = threading.Event(), list[object]()

            def end_after_two(progress: object, seen: list[object] = seen, stop: threading.Event = stop) -> None:
                seen.append(progress)
                if len(seen) == 3:  # each has one page; the third stream is broken off
                    stop.set()

            run_deltas(shop.config(), stop=stop, watch=end_after_two, now=lambda: epoch_seconds(world.now))
            reached.append(list(dict.fromkeys(call.location for call in service.calls if call.endpoint == "changes")))
            world.advance(MINUTE)

    assert [places[:2] for places in reached] == [[1, 2], [3, 4], [5, 1]]


def test_stream_that_hangs_every_time_does_not_keep_the_others_from_their_turn(tmp_path: Path) -> None:
    world = World(seed=7, tenants={11: (1, 2, 3)})
    with Service(world) as service:
        shop = Shop(tmp_path, service)
        shop.configure(entities=["Client"], parallel=1)
        for _ in range(2):
            stop, held = threading.Event(), Held()
            held.reached = stop  # as a deadline that ends the run while the stream hangs
            service.faults.append(slow(held, endpoint="changes", location=1))
            run_deltas(shop.config(), stop=stop, now=lambda: epoch_seconds(world.now))
            held.set()
            world.advance(MINUTE)

        assert shop.rows("select location_id from _streams where caught_up_at is not null order by 1") == [(2,), (3,)]
