"""The nouns of a mirror: what little they can say of themselves."""

from collections.abc import Sequence

import pytest

from delta_mirror.core.drift import Drift, find_drift
from delta_mirror.core.links import Who
from delta_mirror.core.model import Broken, Instant, Page, Record, Stream, Value, ascend
from delta_mirror.core.plan import Change, Fields, Plan


def record(id_: str, at: int | None = None) -> Record:
    return Record(id_, None if at is None else Instant(at, "then"), None, False, {}, {})


def test_stream_and_record_are_said_with_all_that_names_them() -> None:
    assert str(Stream(11, 9, "Client")) == "tenant 11, location 9, Client"
    assert str(Who("Client", 11, 9, "a")) == "tenant 11, location 9, Client a"
    assert str(Who("NexusClient", 0, 0, "EX1")) == "NexusClient EX1"


def test_person_is_the_same_at_each_location_of_a_tenant() -> None:
    assert Who("Client", 11, 9, "a").person == Who("Client", 11, 10, "a").person != Who("Client", 12, 9, "a").person


@pytest.mark.parametrize(
    ("dates", "do"), [([], True), ([5], True), ([5, 5, 6], True), ([5, 4], False), ([4, 5, 4], False), ([6, 5, 7], False)]
)
def test_dates_ascend_where_none_is_earlier_than_the_one_before(dates: Sequence[int], do: bool) -> None:
    assert ascend(dates) is do


def test_page_tells_the_dates_of_the_entries_that_bear_one() -> None:
    told = Page([record("a", 7), Broken(None, None, "{}", "odd"), record("b", 5)], [1, 2, 3], None, 5)
    assert told.dated == [(1, 7), (2, None), (3, 5)]
    assert told.dates == [7, 5]


def test_drift_is_what_bringing_the_mirror_to_its_source_would_log() -> None:
    values: list[Value | None] = ["x", "y"]
    fields: Fields = {"Name": values}
    changes = [
        Change("insert", record("a"), None),
        Change("revive", record("b"), fields),
        Change("delete", record("c"), None),
        Change("replace", record("d"), fields),
    ]
    assert list(find_drift(Plan(changes))) == [
        Drift("a", "missing"),
        Drift("b", "missing"),
        Drift("c", "extra"),
        Drift("d", "different", fields),
    ]
