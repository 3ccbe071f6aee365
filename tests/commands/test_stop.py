"""Ctrl-C and SIGTERM end a run at once and in good order, wherever it just is."""

import signal
import time

import pytest
from installed import Held, Shop, assert_log_tells_one_story, assert_sound

from delta_mirror.simulator import DAY
from delta_mirror.simulator.faults import slow, status
from oracle import assert_exact

PROMPT = 2.0  # seconds
EXITS = {signal.SIGINT: 130, signal.SIGTERM: 143}


@pytest.fixture
def large(shop: Shop) -> Shop:
    """A shop with several pages in every stream."""
    shop.service.world.populate(clients=60, sales=30, over=DAY)
    shop.configure(items_per_page=10, entities=["Client", "Sale"])
    return shop


@pytest.mark.parametrize("number", EXITS, ids=["Ctrl-C", "SIGTERM"])
def test_a_run_that_waits_for_a_page_ends_at_once_with_nothing_half_written(large: Shop, number: signal.Signals) -> None:
    held = Held()
    large.service.faults.append(slow(held, entity="Client", location=9, after=2))
    with large.held_run(held, "deltas") as process:
        told = time.monotonic()
        process.send_signal(number)
        ended = large.end(process, expect=EXITS[number])
        assert time.monotonic() - told < PROMPT
    assert "stopped" in ended.err
    assert large.value("select outcome from _runs") == "stopped"
    assert large.stream("Client")["watermark"] is None
    assert large.value("select count(*) from Client where _location_id = 9") == 19  # two pages of ten, which share one
    assert_sound(large)
    assert_log_tells_one_story(large)
    large.sync("deltas")
    assert_exact(large.mirror, large.service.world)
    assert_log_tells_one_story(large)


@pytest.mark.parametrize(("endpoint", "number"), [("token", signal.SIGTERM), ("tenants", signal.SIGINT)])
def test_a_run_that_waits_for_the_marketplace_ends_at_once(large: Shop, endpoint: str, number: signal.Signals) -> None:
    held = Held()
    large.service.faults.append(slow(held, endpoint="token" if endpoint == "token" else "tenants"))
    with large.held_run(held, "deltas") as process:
        told = time.monotonic()
        process.send_signal(number)
        large.end(process, expect=EXITS[number])
        assert time.monotonic() - told < PROMPT
    assert large.value("select outcome from _runs") == "stopped"
    large.sync("deltas")
    assert_exact(large.mirror, large.service.world)


@pytest.mark.parametrize("endpoint", ["tenants", "changes"])
def test_a_run_that_pauses_between_two_attempts_ends_at_once(large: Shop, endpoint: str) -> None:
    large.configure(
        http={"attempts": 6, "max_wait": "60s"}, entities=["Client"], locations=[] if endpoint == "tenants" else [(11, 9)]
    )
    large.service.faults.append(status(503, retry_after=50, endpoint="tenants" if endpoint == "tenants" else "changes"))
    with large.running("deltas") as process:
        assert process.stderr is not None
        assert any("attempt 2 of 6" in line for line in process.stderr)
        told = time.monotonic()
        process.send_signal(signal.SIGTERM)
        large.end(process, expect=143)
        assert time.monotonic() - told < PROMPT
    assert large.value("select outcome from _runs") == "stopped"


def test_a_stopped_dry_run_leaves_nothing_behind(large: Shop) -> None:
    before = sorted(large.folder.iterdir())
    held = Held()
    large.service.faults.append(slow(held, entity="Client", after=2))
    with large.held_run(held, "deltas", "--dry-run") as process:
        process.send_signal(signal.SIGTERM)
        large.end(process, expect=143)
    assert sorted(large.folder.iterdir()) == before


def test_a_run_ends_at_its_deadline_with_exit_3_and_keeps_what_it_has(large: Shop) -> None:
    held = Held()
    large.service.faults.append(slow(held, entity="Client", location=9, after=2))
    with large.held_run(held, "deltas", "--deadline", "1s") as process:
        ended = large.end(process, expect=3)
    assert "the deadline was reached" in ended.err
    assert large.value("select count(*) from Client where _location_id = 9") == 19
    assert_sound(large)
    large.sync("deltas", "--deadline", "10m")
    assert_exact(large.mirror, large.service.world)
