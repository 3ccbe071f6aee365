"""Where a follower goes from a page: to the next page number, or to the last change that it has read."""

from collections.abc import Sequence

import pytest

from delta_mirror.core.firstpage import FirstPage
from delta_mirror.core.following import Follower
from delta_mirror.core.horizon import Horizon
from delta_mirror.core.model import Instant, Page, Record
from delta_mirror.core.place import NO_HABITS, Place
from delta_mirror.core.values import HOUR, MINUTE, SECOND

START = 1_000 * HOUR
NOW = START + HOUR


def page(dates: Sequence[int], digests: Sequence[int] | None = None) -> Page:
    entries = [Record(str(when), Instant(when, "2026-05-04T12:00:00+00:00"), None, False, {}, {}) for when in dates]
    return Page(entries, dates if digests is None else digests, None, NOW)


def follower(size: int = 10, first_page: FirstPage | None = None) -> tuple[Follower, Horizon]:
    times = Horizon(None)
    times.take(page([]))
    first_page = first_page or FirstPage(None)
    found = Follower(START, size=size, horizon=times, first_page=first_page, habits=NO_HABITS, watermark=None, owed=None)
    return found, times


DATES = [START + number * SECOND for number in range(1, 10)]


def test_page_behind_one_that_is_not_full_is_looked_at() -> None:
    first_page = FirstPage(None)
    under_way, _ = follower(first_page=first_page)
    assert under_way.receive(page(DATES)) == "open"
    assert (under_way.anchor, under_way.number) == (START, 1)
    assert under_way.receive(page([])) == "ended"
    assert first_page.from_one is False


def test_page_one_that_shows_some_of_page_zero_leads_on_from_the_last_change() -> None:
    under_way, _ = follower()
    under_way.receive(page(DATES))
    assert under_way.receive(page([*DATES[1:], NOW])) == "open"
    assert (under_way.anchor, under_way.number) == (DATES[-1] - 1, 0)


def test_older_entry_behind_the_last_change_shows_that_the_feed_does_not_ascend() -> None:
    under_way, _ = follower()
    under_way.receive(page(DATES))
    assert under_way.receive(page([DATES[3] + 1, NOW])) == "unordered"


@pytest.mark.parametrize("mode", ["following", "done"])
def test_follower_that_was_broken_off_goes_on_from_where_it_had_anchored(mode: str) -> None:
    under_way, _ = follower()
    kept: dict[str, object] = {
        "mode": mode, "anchor": DATES[4], "last": DATES[5], "counted_to": DATES[5], "listed": 5, "full": 10, "uneven": False,
        "anchored": True,
    }  # fmt: skip
    under_way.resume(Place(**kept))  # type: ignore[typeddict-item]
    assert (under_way.anchor, under_way.number, under_way.last) == (DATES[4], 0, DATES[5])
    under_way, _ = follower()
    under_way.resume(Place(**{**kept, "last": None}))  # type: ignore[typeddict-item]
    assert under_way.anchor == START


def test_ties_are_read_a_little_further_each_time_that_it_was_not_enough_and_never_into_the_next_drain() -> None:
    under_way, times = follower(size=5)
    assert under_way.receive(page([START + SECOND] * 5, range(5))) == "open"
    assert under_way.receive(page([START + SECOND] * 5, range(5))) == "ties"
    last = START + SECOND
    assert [under_way.choose_cutoff_of_ties() - last for _ in range(3)] == [SECOND, 2 * SECOND, 4 * SECOND]
    for _ in range(9):
        under_way.choose_cutoff_of_ties()
    assert under_way.choose_cutoff_of_ties() == times.cutoff
    under_way, times = follower(size=5)
    under_way.receive(page([NOW + MINUTE * 2] * 5, range(5)))
    assert under_way.choose_cutoff_of_ties() == NOW + MINUTE * 2
