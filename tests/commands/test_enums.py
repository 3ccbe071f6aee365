"""`_enums`: the labels of the service's enumerations, fetched once a week in the course of `sync deltas`.

The program's own clock is steered in-process; everything else is the installed program.
"""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from installed import Held, Shop

from delta_mirror.jobs.deltas import run_deltas
from delta_mirror.simulator import MINUTE, Dials, World, salon
from delta_mirror.simulator.faults import slow, status

DAY = 86_400.0  # seconds
NOON = 1_777_896_000.0  # 2026-05-04T12:00:00Z
ALL = sorted((name, int(key), label) for name, values in salon.ENUMS.items() for key, label in values.items())
JOIN = """
select c.FirstName, e.label
from Client c
left join _enums e on e.column_name = 'ObjectStateEnum' and e.key = c.ObjectStateEnum
where c._deleted_at is null
order by c.FirstName
"""


@pytest.fixture
def shop(shop: Shop) -> Shop:
    """A shop that follows the clients of location 9, of whom there is one."""
    shop.configure(entities=["Client"], locations=[(11, 9)])
    shop.service.world.create("Client", FirstName="Ada")
    return shop


def asked(shop: Shop) -> int:
    """Return how often the service was asked for the enumerations."""
    return sum(call.endpoint == "enums" for call in shop.service.calls)


def labels(shop: Shop) -> list[tuple[Any, ...]]:
    """Return name, key and label of all that the mirror holds."""
    return shop.rows("select name, key, label from _enums order by 1, 2")


def run(shop: Shop, at: float, **answers: object) -> list[str]:
    """Run at that time of our own clock, the service answering so where it is said; return what is told of `_enums`."""
    if answers:
        shop.service.faults.append(status(200, endpoint="enums", body=json.dumps(answers).encode()))
    report = run_deltas(shop.config(), now=lambda: at)
    assert report.is_whole
    return [warning for warning in report.warnings if "_enums" in warning]


def test_the_first_run_brings_every_value_with_its_label_by_one_call_that_is_counted(shop: Shop) -> None:
    shop.sync("deltas")
    assert labels(shop) == ALL
    assert asked(shop) == 1
    public = [call for call in shop.service.calls if call.endpoint in ("changes", "enums")]
    assert shop.value("select sum(calls) from _calls") == shop.value("select calls from _runs") == len(public)


@pytest.mark.parametrize("numbers_as_strings", [False, True])
@pytest.mark.parametrize("name", ["ObjectState", "ObjectStateEnum"])
def test_values_of_a_column_join_their_labels_whatever_the_service_spells(
    tmp_path: Path, shop: Shop, world: World, name: str, numbers_as_strings: bool
) -> None:
    shop.service.dials = Dials(numbers_as_strings=numbers_as_strings)
    world.create("Client", FirstName="Bo", ObjectStateEnum=2027)
    world.create("Client", FirstName="Cy", ObjectStateEnum=1)
    body = json.dumps({name: {"2026": "Active", "2027": "Inactive"}, "Gender": {"2026": "no state"}}).encode()
    shop.service.faults.append(status(200, endpoint="enums", body=body))
    shop.sync("deltas")
    assert shop.rows(JOIN) == [("Ada", "Active"), ("Bo", "Inactive"), ("Cy", None)]
    assert shop.value("select distinct name from _enums where column_name = 'ObjectStateEnum'") == name


def test_keys_that_are_no_numbers_are_kept_as_they_are(shop: Shop) -> None:
    assert not run(shop, NOON, Colour={"red": "Red", "7": "Seven", "07": "Seven again"})
    assert labels(shop) == [("Colour", 7, "Seven"), ("Colour", "red", "Red")]


def test_they_are_asked_for_once_a_week(shop: Shop) -> None:
    run(shop, NOON)
    for day in (0, 1, 6):
        run(shop, NOON + day * DAY + 3600)
    assert asked(shop) == 1
    run(shop, NOON + 7 * DAY - 3600)  # on the same UTC day of the next week, at an earlier hour
    assert asked(shop) == 2


def test_an_answer_replaces_all_that_was_held(shop: Shop) -> None:
    run(shop, NOON)
    assert not run(shop, NOON + 7 * DAY, Fresh={"1": "One"})
    assert labels(shop) == [("Fresh", 1, "One")]


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"ObjectState": {}}', b'{"ObjectState": {"2026": null}}'])
def test_an_answer_that_holds_nothing_leaves_what_is_held_and_does_not_fail_the_run(shop: Shop, body: bytes) -> None:
    run(shop, NOON)
    shop.service.faults.append(status(200, endpoint="enums", body=body))
    assert len(run(shop, NOON + 7 * DAY)) == 1
    assert labels(shop) == ALL


def test_a_failure_is_told_and_tried_again_the_next_day(shop: Shop) -> None:
    shop.service.faults.append(status(403, endpoint="enums"))
    ended = shop.sync("deltas")
    assert "warning: the labels of enumerations" in ended.err
    assert "403" in ended.err
    assert shop.value("select outcome from _runs") == "done"
    shop.sync("deltas")
    assert asked(shop) == 1
    assert not run(shop, time.time() + DAY)
    assert asked(shop) == 2
    assert labels(shop) == ALL


def test_quiet_says_nothing_of_a_failure(shop: Shop) -> None:
    shop.service.faults.append(status(500, endpoint="enums"))
    assert shop.sync("--quiet", "deltas")[1:] == ("", "")


def test_a_day_that_was_noted_under_a_wrong_clock_does_not_keep_them_away(shop: Shop) -> None:
    run(shop, NOON + 400 * DAY)
    run(shop, NOON)
    assert asked(shop) == 2


def test_a_dry_run_does_not_ask(shop: Shop) -> None:
    shop.sync("deltas", "--dry-run")
    assert asked(shop) == 0


def test_where_no_stream_could_be_drained_nothing_is_asked(shop: Shop) -> None:
    shop.service.faults.append(status(403, entity="Client"))
    shop.sync("deltas", expect=3)
    assert asked(shop) == 0
    shop.sync("deltas")
    assert asked(shop) == 1


def test_they_are_charged_to_a_location_that_answers(shop: Shop, world: World) -> None:
    world.create("Client", locations=(10,))
    shop.configure(entities=["Client"], locations=[(11, 9), (11, 10)])
    shop.service.faults.append(status(403, entity="Client", location=9))
    shop.sync("deltas", expect=3)
    assert [call.location for call in shop.service.calls if call.endpoint == "enums"] == [10]


def test_a_run_that_waits_for_them_is_stopped_at_once(shop: Shop) -> None:
    held = Held()
    shop.service.faults.append(slow(held, endpoint="enums"))
    with shop.held_run(held, "deltas") as process:
        told = time.monotonic()
        process.terminate()
        shop.end(process, expect=143)
        assert time.monotonic() - told < 2
    assert shop.value("select count(*) from Client") == 1
    shop.service.world.advance(MINUTE)
    shop.sync("deltas")
    assert labels(shop) == ALL
