"""The budget of calls, as the service sees it: `service.calls` is the truth of what was sent."""

from collections import Counter
from collections.abc import Callable
from threading import Event
from typing import Literal

import pytest
from installed import Shop

from delta_mirror.errors import BudgetError, LimitedError
from delta_mirror.jobs.deltas import RunReport, Wishes, run_deltas
from delta_mirror.jobs.selection import Selection
from delta_mirror.mirror.ledger import Ledger
from delta_mirror.mirror.write import Mirror
from delta_mirror.simulator import DAY, HOUR, MINUTE, SECOND, World
from delta_mirror.simulator.clock import epoch_seconds, written
from delta_mirror.simulator.faults import status
from oracle import assert_exact

BOTH = [(11, 9), (11, 10)]


class Patience(Event):
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
def run(shop: Shop, world: World) -> Callable[..., RunReport]:
    """Return what runs `deltas` on the clock of the world, or one that is *off* by so many ticks."""

    def carry_out(wishes: Wishes | None = None, off: int = 0) -> RunReport:
        return run_deltas(shop.config(), wishes, stop=Patience(world), now=lambda: epoch_seconds(world.now + off))

    return carry_out


def errors_of(report: RunReport, location: int) -> list[type[Exception] | None]:
    """Return the class of what broke each stream of *location* off."""
    return [type(each.error) if each.error else None for each in report.streams if each.stream.location_id == location]


def test_run_with_the_budget_spent_makes_no_call_at_all_and_says_when_it_is_given_anew(
    shop: Shop, world: World, run: Callable[..., RunReport]
) -> None:
    world.populate(clients=80, sales=80, over=DAY)
    shop.configure(items_per_page=5, calls_per_day=10, entities=["Client", "Sale"])
    assert errors_of(run(), 9) == [BudgetError, BudgetError]
    assert Counter(call.location for call in shop.service.pages()) == {9: 10, 10: 10}
    before = len(shop.service.calls)
    world.advance(HOUR)
    report = run()
    assert len(shop.service.calls) == before
    assert (report.outcome, report.calls) == ("unfinished", 0)
    for each in report.streams:
        assert "given anew at 2026-05-05T00:00:00Z" in str(each.error)
    ended = shop.sync("--quiet", "deltas", expect=3)
    assert ended.err.count("given anew at 2026-05-05T00:00:00Z") == 4
    shop.configure(items_per_page=200, calls_per_day=1000)
    run()
    assert_exact(shop.mirror, world)


def test_large_stream_leaves_the_small_ones_of_its_location_their_calls(
    shop: Shop, world: World, run: Callable[..., RunReport]
) -> None:
    world.populate(clients=400, employees=2, appointments=4, sales=4, over=DAY)
    shop.configure(
        items_per_page=10,
        calls_per_day=24,
        locations=[(11, 9)],
        entities=["Client", "Employee", "Appointment", "Sale"],
        parallel=1,
    )
    report = run()
    states = {each.stream.entity: each.state for each in report.streams}
    assert states == {"Client": "failing", "Employee": "following", "Appointment": "following", "Sale": "following"}
    assert "is kept for the other entities" in str(next(each.error for each in report.streams if each.error))
    assert len(shop.service.pages("Client")) > 24 / 4  # at noon, half of what the others may need is free
    for _ in range(11):
        world.advance(HOUR)
        run()
    assert 20 < len(shop.service.pages()) <= 24  # in the evening most of what nobody has needed goes to the large one
    assert len(shop.service.pages("Client")) > 24 / 2


def test_most_of_the_day_spent_is_warned_of_once_a_run_and_location(shop: Shop, world: World) -> None:
    shop.configure(calls_per_day=5, entities=["Client"], locations=BOTH)
    shop.fill()
    world.advance(DAY)
    today = "select calls from _calls where day = '2026-05-05'"
    for _ in range(3):
        shop.fill()
    assert shop.rows(today) == [(3,), (3,)]
    for spent in (4, 5):
        ended = shop.sync("deltas")
        for location in (9, 10):
            warning = (
                f"warning: tenant 11, location {location}: {spent} of the 5 calls of this day ([dds] calls_per_day) are spent"
            )
            assert ended.err.count(warning) == 1
        assert ended.err.count("given anew at 2026-05-06T00:00:00Z") == 2
    assert shop.rows(today) == [(5,), (5,)]


def test_run_that_goes_on_after_it_has_warned_says_it_once_and_with_quiet_not_at_all(shop: Shop, world: World) -> None:
    world.populate(clients=200, over=DAY)
    shop.configure(items_per_page=5, calls_per_day=10, entities=["Client"], locations=[(11, 9)])
    ended = shop.sync("deltas", expect=3)
    assert shop.public_calls() == 10
    assert ended.err.count("warning: tenant 11, location 9: ") == 1
    world.advance(DAY)
    ended = shop.sync("--quiet", "deltas", expect=3)
    assert shop.public_calls() == 20
    assert "warning" not in ended.err


@pytest.mark.parametrize("locations", [[], BOTH], ids=["of the account", "configured"])
def test_stop_for_hours_quiets_later_runs_and_the_marketplace_with_them(
    shop: Shop, world: World, run: Callable[..., RunReport], locations: list[tuple[int, int]]
) -> None:
    world.populate(clients=20, sales=20, over=DAY)
    shop.configure(http={"attempts": 6, "max_wait": "60s"}, locations=locations, entities=["Client", "Sale"])
    run()
    world.advance(HOUR)
    for location in (9, 10):
        shop.service.faults.append(status(429, retry_after=20 * 3600, location=location))
    run()
    before = len(shop.service.calls)
    for _ in range(3):  # over midnight, after which the marketplace would be asked for the tenants anew
        world.advance(6 * HOUR)
        report = run()
        assert report.outcome == "unfinished"
        assert "the service told us to stop calling until 2026-05-05T09:0" in str(
            [report.trouble, *(each.error for each in report.streams)]
        )
    assert len(shop.service.calls) == before
    world.advance(2 * HOUR)
    assert run().outcome == "done"
    assert_exact(shop.mirror, world)


@pytest.mark.parametrize("locations", [[], BOTH], ids=["of the account", "configured"])
@pytest.mark.parametrize("endpoint", ["token", "tenants"])
def test_stop_of_the_marketplace_quiets_every_location(
    shop: Shop,
    world: World,
    run: Callable[..., RunReport],
    endpoint: Literal["token", "tenants"],
    locations: list[tuple[int, int]],
) -> None:
    world.populate(clients=20, over=DAY)
    shop.configure(http={"attempts": 6, "max_wait": "60s"}, locations=locations, entities=["Client"], parallel=1)
    shop.service.faults.append(status(503, retry_after=7200, endpoint=endpoint))
    run()
    assert Counter(call.endpoint for call in shop.service.calls)[endpoint] == 1
    [pause] = shop.rows("select tenant_id, location_id, reason from _pauses")
    assert pause == (0, 0, "the service named this time")
    before = len(shop.service.calls)
    world.advance(119 * MINUTE)
    assert run().outcome == "unfinished"
    assert len(shop.service.calls) == before
    world.advance(2 * MINUTE)
    assert run().outcome == "done"
    assert_exact(shop.mirror, world)


def test_stop_of_the_marketplace_is_shown_by_status(shop: Shop) -> None:
    shop.configure(entities=["Client"])
    shop.fill()
    with Mirror.open(shop.mirror) as mirror:
        Ledger(mirror, 0, 0, ()).limited(None, None)
    before = len(shop.service.calls)
    assert "paused: every location until" in shop.sync("status").out
    ended = shop.sync("--quiet", "deltas", expect=3)
    assert ended.err.startswith("error: the account: the service limits our calls and named no time; left alone until")
    assert len(shop.service.calls) == before


def test_burst_of_429_quiets_the_location_for_a_quarter_of_an_hour(
    shop: Shop, world: World, run: Callable[..., RunReport]
) -> None:
    world.populate(clients=20, sales=20, over=DAY)
    shop.configure(http={"attempts": 3, "max_wait": "60s"}, entities=["Client", "Sale"], parallel=1, locations=BOTH)
    shop.service.faults.append(status(429, location=9, times=None))
    report = run()
    assert errors_of(report, 9) == [LimitedError, LimitedError]
    assert errors_of(report, 10) == [None, None]
    assert len(shop.service.pages(location=9)) == 3  # the second stream has heard of it
    shop.service.faults.clear()
    world.advance(14 * MINUTE)
    report = run()
    assert "the service limits our calls and named no time; left alone until" in str(report.streams[0].error)
    assert len(shop.service.pages(location=9)) == 3
    world.advance(MINUTE)
    assert run().outcome == "done"
    assert_exact(shop.mirror, world)


def test_403_for_all_streams_of_a_location_quiets_it_for_a_quarter_of_an_hour(
    shop: Shop, world: World, run: Callable[..., RunReport]
) -> None:
    world.populate(clients=20, sales=20, over=DAY)
    shop.configure(entities=["Client", "Sale"], locations=BOTH)
    shop.service.faults.append(status(403, location=9, times=None))
    report = run()
    assert report.trouble[0].startswith("tenant 11, location 9: the service answers 403 to every stream")
    assert errors_of(report, 10) == [None, None]
    before = len(shop.service.pages(location=9))
    shop.service.faults.clear()
    world.advance(14 * MINUTE)
    report = run()
    assert errors_of(report, 9) == [LimitedError, LimitedError]
    assert "the service refuses every stream and named no time; left alone until" in str(report.streams[0].error)
    assert len(shop.service.pages(location=9)) == before
    world.advance(2 * MINUTE)
    assert run().outcome == "done"
    assert_exact(shop.mirror, world)


def test_403_that_does_not_concern_every_configured_stream_quiets_nothing(
    shop: Shop, world: World, run: Callable[..., RunReport]
) -> None:
    world.populate(clients=20, sales=20, over=DAY)
    shop.service.faults += [status(403, entity=entity, location=9, times=None) for entity in ("Client", "Sale")]
    shop.configure(entities=["Client", "Sale", "Employee"], locations=[(11, 9)])
    assert run().trouble == []
    assert run(Wishes(Selection(entities=("Client", "Sale")))).trouble == []
    shop.configure(entities=["Client"], locations=[(11, 9)])
    assert run().trouble == []
    assert shop.rows("select * from _pauses") == []


def test_day_of_the_budget_is_the_services_however_wrong_our_clock_is(
    shop: Shop, world: World, run: Callable[..., RunReport]
) -> None:
    world.populate(clients=300, over=DAY)
    shop.configure(items_per_page=5, calls_per_day=6, entities=["Client"], locations=[(11, 9)])
    days = []
    for off in (-3 * DAY, -3 * DAY, -3 * DAY, -3 * DAY, 5 * DAY):
        run(off=off)
        before = len(shop.service.pages())
        assert errors_of(run(off=off), 9) == [BudgetError]
        assert len(shop.service.pages()) == before
        days.append((written(world.now)[:10], 6))
        world.advance(DAY)
    assert shop.rows("select day, calls from _calls order by day") == days
