"""Each trap of a feed by its name: what is read, what it costs, and that nothing is passed by."""

import json
import random
from collections.abc import Iterable, Sequence
from typing import Literal

import pytest

from delta_mirror.core.bounds import MOST_PASSES, MOST_PASSES_IN_PARTS, MOST_REPEATS, SMALL
from delta_mirror.core.counting import MOST_VIEWED
from delta_mirror.core.debt import DEBT_RUNS
from delta_mirror.core.model import Broken, Instant, Page, Record
from delta_mirror.core.paging import Walk
from delta_mirror.core.place import NO_HABITS, Debt, Place
from delta_mirror.core.values import SECOND, read_instant, write_ticks
from delta_mirror.errors import PagingError
from rules.feed_model import DAYS, HOURS, MINUTES, NOON, TICKS, Dials, Feed, Order, Rounding, Version
from rules.stream_model import FollowedStream, Kept

START = NOON - DAYS
LATER = 20 * MINUTES  # by then all is visible


def feed_of(records: int, dials: Dials | None = None, *, gap: int = TICKS) -> Feed:
    """Return a feed of so many records, changed one after the other."""
    feed = Feed(dials or Dials())
    change_each(feed, range(records), gap=gap)
    return feed


def change_each(feed: Feed, numbers: Iterable[int], *, gap: int = TICKS) -> None:
    """Change these records, one after the other."""
    for number in numbers:
        feed.change(f"r{number:04}")
        feed.now += gap


def feed_of_ties(before: int, tied: int, after: int, dials: Dials | None = None) -> Feed:
    """Return a feed of which *tied* records bear one change date."""
    feed = feed_of(before, dials)
    for number in range(tied):
        feed.change(f"tie{number:04}")
    for number in range(after):
        feed.now += TICKS
        feed.change(f"z{number:04}")
    feed.now += TICKS
    return feed


def drain_while(stream: FollowedStream, changes: Iterable[str | None], *, tick: int = TICKS) -> int:
    """Run one drain, with a change of the next of these records after each call; return how many calls it took."""
    before = stream.feed.calls
    coming = iter(changes)
    while stream.step():
        stream.feed.now += tick
        changed = next(coming, None)
        if changed is not None:
            stream.feed.change(changed)
    return stream.feed.calls - before


def assert_exact(stream: FollowedStream) -> None:
    assert stream.state() == stream.truth()


def settle(stream: FollowedStream, runs: int = 2) -> None:
    """Let all become visible, run as often as promised, and see that the mirror is exact."""
    for _ in range(runs):
        stream.feed.now += LATER
        stream.run()
    assert_exact(stream)


# Re-anchoring


def test_record_that_changes_between_two_calls_takes_no_other_with_it() -> None:
    feed = feed_of(400)
    stream = FollowedStream(feed, 50)
    calls = drain_while(stream, ["r0010"])
    assert_exact(stream)
    assert calls <= 400 // 49 + 5


def test_many_records_that_change_between_calls_take_no_other_with_them() -> None:
    feed = feed_of(1_400)
    stream = FollowedStream(feed, 100)
    calls = drain_while(stream, [f"r{number:04}" for number in range(12)])
    assert set(stream.held) == set(stream.truth())
    assert calls <= 1_400 // 99 + 5
    settle(stream)


def test_full_page_is_followed_from_one_tick_before_its_last_change() -> None:
    feed = feed_of(120)
    walk = begin(START, 50)
    answer(walk, feed)
    request = walk.request
    assert request is not None
    assert (read(request.start), request.number) == (NOON + 49 * TICKS - 1, 0)


@pytest.mark.parametrize("inclusive", [True, False])
@pytest.mark.parametrize(("before", "tied", "after"), [(30, 40, 30), (49, 2, 0), (0, 49, 60), (199, 1, 530)])
def test_tie_that_is_cut_by_a_page_is_whole(before: int, tied: int, after: int, inclusive: bool) -> None:
    feed = feed_of_ties(before, tied, after, Dials(inclusive=inclusive))
    stream = FollowedStream(feed, 50)
    calls = stream.run()
    assert_exact(stream)
    assert calls <= (before + tied + after) // 49 + 12  # the tie itself may be read twice


# Ties wider than a page


@pytest.mark.parametrize("order", ["ascending", "ties shuffled"])
def test_tie_wider_than_a_page_comes_to_an_end_and_is_whole(order: Order) -> None:
    feed = feed_of_ties(20, 130, 100, Dials(order=order))
    stream = FollowedStream(feed, 50)
    calls = stream.run()
    assert_exact(stream)
    assert calls <= (24 if order == "ascending" else 24 + MOST_PASSES * 3)


@pytest.mark.parametrize(("order", "passes"), [("ascending", 2), ("ties shuffled", 12)])
def test_wide_tie_in_a_long_list_is_read_again_by_itself_and_not_the_whole_list(order: Order, passes: int) -> None:
    feed = feed_of_ties(1_000, 120, 1_000, Dials(order=order))
    stream = FollowedStream(feed, 50)
    calls = stream.run()
    assert_exact(stream)
    assert calls <= 2_120 // 49 + 5 + passes * (120 // 50 + 2)


def test_place_counts_nothing_twice_however_often_the_process_dies_at_a_tie() -> None:
    stream = FollowedStream(feed_of_ties(30, 15, 60), 20)
    for _ in range(6):
        stream.step()
        stream.die()
        place = json.loads(stream.kept.place)
        assert place["listed"] == sum(version.ticks < place["counted_to"] for version in stream.feed.visible())
    settle(stream)


def test_record_of_a_wide_tie_that_changes_between_two_calls_takes_no_other_with_it() -> None:
    feed = feed_of_ties(0, 700, 0)
    stream = FollowedStream(feed, 200)
    calls = drain_while(stream, [None, "tie0003"])
    assert set(stream.held) == set(stream.truth())
    assert calls <= 6 * (700 // 200 + 1)
    settle(stream)


def test_list_whose_parts_have_taken_too_many_calls_is_read_whole() -> None:
    stream = FollowedStream(feed_of_ties(0, 130, 0), 50)
    stream.step()
    for passes, mode in ((MOST_PASSES_IN_PARTS, "following"), (MOST_PASSES_IN_PARTS + 1, "sweeping")):
        place: Place = json.loads(stream.kept.place)
        place["pages"] = passes * (50 // 50 + 2) - 1
        walk = Walk.resume(place, size=50, count_known=stream.count_known)
        answer(walk, stream.feed)
        assert walk.request is not None
        assert (walk.place()["mode"], walk.request.number) == (mode, 1 if mode == "following" else 0)


def test_unordered_tie_is_read_until_as_many_have_shown_as_a_pass_lists() -> None:
    feed = feed_of_ties(0, 130, 0, Dials(order="ties shuffled"))
    stream = FollowedStream(feed, 20)
    calls = stream.run()
    assert_exact(stream)
    assert calls <= MOST_PASSES * (130 // 20 + 1)


def test_shuffled_ties_that_follow_each_other_are_whole_although_some_records_bear_no_date() -> None:
    feed = Feed(Dials(clamp=7, order="ties shuffled", short_pages="even", dated="some"))
    for tie in ("a", "b"):
        for number in range(35):
            feed.change(f"{tie}{number:04}")
        feed.now += 14 * TICKS
    settle(FollowedStream(feed))


# How exactly StartDate is read


@pytest.mark.parametrize("gap", [1_000, TICKS // 7, 2 * TICKS])
@pytest.mark.parametrize("rounding", ["down", "nearest", "up"])
@pytest.mark.parametrize("precision", [10_000, 33_333, TICKS, MINUTES])
def test_start_date_that_is_read_coarsely_skips_nothing(precision: int, rounding: Rounding, gap: int) -> None:
    stream = FollowedStream(feed_of(300, Dials(precision=precision, rounding=rounding), gap=gap), 50)
    calls = stream.run()
    assert_exact(stream)
    # Read to the minute, records that change seven times a second are as good as tied.
    assert calls <= (60 if precision == MINUTES and gap == TICKS // 7 else 15)


def test_step_back_is_remembered_for_the_next_drain() -> None:
    feed = feed_of(300, Dials(precision=MINUTES, rounding="up"), gap=10 * TICKS + 1)
    stream = FollowedStream(feed, 50)
    first = stream.run()
    assert json.loads(stream.kept.habits)["step"] > 0
    stream.feed.now += LATER
    assert stream.run() < first
    assert_exact(stream)


def test_step_back_is_forgotten_where_it_was_only_a_record_that_changed() -> None:
    feed = feed_of(300)
    stream = FollowedStream(feed, 50)
    drain_while(stream, ["r0049"])  # the one that the second page should have begun with
    assert json.loads(stream.kept.habits)["step"] == 0
    settle(stream)


# Order


@pytest.mark.parametrize("order", ["descending", "by id", "shuffled once", "shuffled"])
def test_feed_without_order_is_read_whole(order: Order) -> None:
    feed = feed_of(1_000, Dials(order=order))
    stream = FollowedStream(feed, 200)
    calls = stream.run()
    assert_exact(stream)
    assert calls <= (2 * 6 + 1 if order != "shuffled" else MOST_PASSES * 6)


@pytest.mark.parametrize("order", ["descending", "by id", "shuffled once"])
def test_feed_without_order_that_moves_is_read_whole(order: Order) -> None:
    feed = feed_of(600, Dials(order=order))
    stream = FollowedStream(feed, 50)
    drain_while(stream, [f"r{number:04}" for number in range(0, 300, 30)])
    assert set(stream.held) == set(stream.truth())
    settle(stream)


@pytest.mark.parametrize("order", ["by id", "shuffled once"])
def test_list_whose_entries_keep_their_places_comes_to_rest_although_something_changes_at_every_call(order: Order) -> None:
    stream = FollowedStream(feed_of(120, Dials(order=order)), 20)
    calls = drain_while(stream, (f"r{number * 7 % 120:04}" for number in range(1_000)))
    assert stream.errors == 0
    assert calls <= 6 * (120 // 20 + 1)


@pytest.mark.parametrize("records", [610, 600, 401, 400, 399, 201])
def test_one_record_out_of_order_is_found_by_counting(records: int) -> None:
    feed = feed_of(records, Dials(order="ascending but for one"))
    stream = FollowedStream(feed, 200)
    calls = stream.run()
    assert_exact(stream)
    assert calls <= 3 * (records // 199 + 2) + 3


def test_ordered_feed_is_counted_once_and_swept_never() -> None:
    feed = feed_of(610)
    stream = FollowedStream(feed, 200)
    walk, calls = drive(stream)
    assert_exact(stream)
    # Three full pages and the rest, the empty page behind it; then the page on which the list must end, and the empty one behind.
    assert calls == 4 + 1 + 2
    assert walk.debt == Debt(starts=[walk.place()["start"]], full=200, runs=DEBT_RUNS)


def test_short_drain_is_not_counted() -> None:
    walk, calls = drive(FollowedStream(feed_of(10), 200))
    assert calls == 2
    assert walk.debt is None


def test_omission_hidden_by_a_change_on_its_way_is_found_by_a_later_count() -> None:
    feed = feed_of(401, Dials(order="ascending but for one inside"))
    stream = FollowedStream(feed, 50)
    while stream.walk is None or stream.walk.place()["mode"] != "counting":
        stream.step()
    feed.change("r0100", late=5 * MINUTES)  # leaves the list, which is then as long as if r0000 were not on it
    while stream.step():
        pass
    assert "r0000" not in stream.held
    settle(stream)


@pytest.mark.parametrize("hidden", [1, 2, 60])
def test_what_stands_last_out_of_order_is_met_however_many_changes_are_on_their_way(hidden: int) -> None:
    feed = feed_of(401, Dials(order="ascending but for one"))
    stream = FollowedStream(feed, 50)
    while stream.walk is None or stream.walk.place()["mode"] != "counting":
        stream.step()
    for number in range(100, 100 + hidden):
        feed.change(f"r{number:04}", late=5 * MINUTES)
    while stream.step():
        pass
    assert "r0000" in stream.held
    settle(stream)


def test_what_stands_last_out_of_order_is_met_where_an_older_version_of_it_is_held() -> None:
    # By number nothing is missing: the mirror counts it too, at its older date.
    feed = feed_of(120, Dials(order="ascending but for one"))
    stream = FollowedStream(feed, 50)
    stream.run()
    for turn in range(5):
        change_each(feed, [0, *range(60 + turn, 120)])
        feed.now += LATER
        stream.run()
        assert_exact(stream)


@pytest.mark.parametrize("short_pages", ["odd", "even"])
@pytest.mark.parametrize("order", ["ascending but for one", "ascending but for one inside"])
@pytest.mark.parametrize("size", [10, 20])
def test_record_out_of_order_is_found_where_every_second_page_is_short(
    size: int, order: Order, short_pages: Literal["odd", "even"]
) -> None:
    # A page that is cut short to just what is expected on it hides what stands on the next one.
    for records in range(3 * size, 6 * size):
        stream = FollowedStream(feed_of(records, Dials(short_pages=short_pages, order=order)), size)
        stream.run()
        assert_exact(stream)


def test_feed_whose_pages_are_too_small_to_show_an_order_is_swept() -> None:
    for size in range(1, SMALL):
        stream = FollowedStream(feed_of(20, Dials(order="ascending but for one inside", clamp=size)), 200)
        calls = stream.run()
        assert_exact(stream)
        assert json.loads(stream.kept.debt) is None
        assert calls <= 3 * (20 // size + 1) + 2


def test_change_behind_the_last_page_does_not_hide_what_stands_behind_it() -> None:
    feed = feed_of(400, Dials(order="ascending but for one"))
    stream = FollowedStream(feed, 50)
    while stream.walk is None or stream.walk.place()["mode"] != "counting":
        stream.step()
    feed.now += TICKS
    for number in range(200, 250):
        feed.change(f"r{number:04}")
    feed.now += TICKS
    while stream.step():
        pass
    assert "r0000" in stream.held


def test_what_is_owed_is_counted_in_turn_the_oldest_list_and_the_newest() -> None:
    feed = feed_of(120)
    stream = FollowedStream(feed, 50)
    stream.kept = Kept(watermark=NOON - DAYS, caught_up=NOON - DAYS)
    assert drive(stream)[0].debt is not None
    feed.now += HOURS
    change_each(feed, range(60))
    drive(stream)
    newest = NOON + 119 * TICKS - 119 * TICKS % MINUTES  # the watermark that the second drain found, in whole minutes
    oldest = min(json.loads(stream.kept.debt)["starts"])
    assert oldest < NOON - DAYS
    counted = []
    for _ in range(4):
        debt = json.loads(stream.kept.debt)
        assert set(debt["starts"]) == {oldest, newest}
        counted.append(debt["starts"][0])
        feed.now += LATER
        walk, calls = drive(stream)
        assert calls == 2 + 3 - 1  # a full page and the rest; then the end of the list, and the empty page behind it
        assert 0 <= counted[-1] - walk.place()["anchor"] <= SECOND  # the list that was read last
    assert counted == [oldest, newest] * 2


@pytest.mark.parametrize("inclusive", [True, False])
def test_record_dated_exactly_at_the_start_of_a_list_is_no_omission(inclusive: bool) -> None:
    feed = Feed(Dials(inclusive=inclusive), NOON)
    for number in range(120):
        feed.change(f"r{number:04}", ticks=NOON + number * MINUTES // 5)
    feed.now = NOON + HOURS
    stream = FollowedStream(feed, 50)
    stream.kept = Kept(watermark=NOON, caught_up=NOON, habits='{"offset": "+00:00", "step": 0, "full": 50}')
    drive(stream)
    stream.kept = Kept(watermark=NOON + 10 * MINUTES, caught_up=NOON + 30 * MINUTES, habits=stream.kept.habits)
    walk, calls = drive(stream)
    assert walk.place()["start"] == NOON
    assert calls == 3 + 1 + 2
    assert_exact(stream)


@pytest.mark.parametrize("inclusive", [True, False])
@pytest.mark.parametrize(("gap", "precision"), [(TICKS, 1), (3 * TICKS // 10, TICKS)])  # in the second case StartDate is cut off
def test_feed_in_which_something_changes_at_the_start_of_a_list_and_just_before_is_counted_and_not_swept(
    gap: int, precision: int, inclusive: bool
) -> None:
    feed = feed_of(300, Dials(inclusive=inclusive, precision=precision), gap=gap)
    stream = FollowedStream(feed, 50)
    stream.run()
    feed.now += HOURS
    change_each(feed, range(100), gap=gap)
    stream.run()
    newest = NOON + 299 * gap - 299 * gap % MINUTES
    assert newest in {version.ticks for versions in feed.versions.values() for version in versions}
    assert newest in json.loads(stream.kept.debt)["starts"]
    for _ in range(2):
        feed.now += 15 * MINUTES
        assert stream.run() == 2 + 1 + 2
        assert json.loads(stream.kept.debt) is not None


def test_drain_that_is_swept_pays_what_was_owed() -> None:
    debt = Debt(starts=[START, START - DAYS], full=50, runs=DEBT_RUNS)
    walk = Walk(START, size=50, count_known=none_known, debt=debt)
    answer(walk, feed_of(120, Dials(order="descending")))
    assert walk.request is not None
    assert (read(walk.request.start), walk.request.number) == (START - DAYS, 0)
    assert walk.debt is None


def test_count_is_owed_for_eight_runs_and_no_longer() -> None:
    stream = FollowedStream(feed_of(410, gap=5 * TICKS), 200)
    stream.run()
    costs = []
    for _ in range(DEBT_RUNS + 3):
        stream.feed.now += LATER
        costs.append(stream.run())
    assert costs == [costs[0]] * DEBT_RUNS + [costs[0] - 1] * 3


# Page numbers


@pytest.mark.parametrize("records", [0, 6, 199, 200, 201, 400, 610])
def test_service_that_counts_pages_from_one_is_read_whole(records: int) -> None:
    stream = FollowedStream(feed_of(records, Dials(page_base=1)), 200)
    calls = stream.run()
    assert_exact(stream)
    assert calls <= records // 199 + 6


@pytest.mark.parametrize("page_base", [0, 1])
@pytest.mark.parametrize("records", [20, 49, 50, 51, 120, 150])
def test_quiet_stream_costs_its_full_pages_and_three_whatever_number_its_pages_begin_at(
    records: int, page_base: Literal[0, 1]
) -> None:
    stream = FollowedStream(feed_of(records, Dials(page_base=page_base)), 50)
    stream.run()
    for _ in range(DEBT_RUNS + 2):
        stream.feed.now += LATER // 2
        start = stream.begin().place()["start"]
        again = sum(version.ticks >= start for version in stream.feed.visible())
        assert stream.run() <= 3 + again // 49
    assert_exact(stream)


def test_tie_that_fills_most_of_a_page_makes_no_quiet_run_dearer() -> None:
    stream = FollowedStream(feed_of_ties(0, 150, 51), 200)
    stream.run()
    for _ in range(DEBT_RUNS):
        stream.feed.now += LATER
        assert stream.run() <= 3 + 201 // 199  # all lies within the overlap, and is read again
    assert_exact(stream)


@pytest.mark.parametrize("habit", [True, False, None])
@pytest.mark.parametrize("page_base", [0, 1])
@pytest.mark.parametrize("order", ["ascending", "ascending but for one", "ascending but for one inside"])
def test_service_that_counts_its_pages_otherwise_than_it_used_to_is_read_whole(
    order: Order, page_base: Literal[0, 1], habit: bool | None
) -> None:
    for records in (50, 51, 99, 100, 101, 149, 151, 210):
        stream = FollowedStream(feed_of(records, Dials(page_base=page_base, order=order)), 50)
        stream.kept = Kept(watermark=stream.feed.now, caught_up=stream.feed.now - DAYS)  # nothing new: no page 1 is asked
        stream.kept = stream.kept._replace(habits=json.dumps({"offset": "+00:00", "step": 0, "full": 50, "from_one": habit}))
        calls = stream.run()
        assert_exact(stream)
        assert order != "ascending" or calls <= records // 49 + 3 + 4  # the pages 0 and 1 compared, and the end once more


def test_page_that_is_known_to_come_twice_is_asked_for_once() -> None:
    stream = FollowedStream(feed_of(21, Dials(page_base=1, clamp=20, precision=10_000, rounding="up"), gap=TICKS // 3), 200)
    # The first page twice and the rest; from its end on, a step back; then the end of the list, and the empty page behind it.
    assert stream.run() == 3 + 2 + 2 + 1
    assert_exact(stream)


def test_service_that_counts_pages_from_one_and_shuffles_equals_is_known_by_the_page_that_comes_twice() -> None:
    stream = FollowedStream(feed_of_ties(0, 40, 0, Dials(page_base=1, order="ties shuffled")), 50)
    assert stream.run() == 3
    assert json.loads(stream.kept.habits)["from_one"] is True
    assert_exact(stream)


@pytest.mark.parametrize(("records", "calls"), [(1, 21), (2, 9), (3, 7), (6, 3)])
def test_list_so_short_that_chance_may_have_repeated_its_page_is_read_again_once_in_the_life_of_a_stream(
    records: int, calls: int
) -> None:
    stream = FollowedStream(feed_of(records, Dials(page_base=1)), 200)
    assert stream.run() == calls
    assert_exact(stream)
    stream.feed.now += LATER // 2
    assert stream.run() == 3


@pytest.mark.parametrize("size", range(1, SMALL))
@pytest.mark.parametrize("page_base", [0, 1])
@pytest.mark.parametrize("order", ["shuffled", "ties shuffled"])
def test_pages_of_a_shuffled_feed_that_are_the_same_by_chance_take_no_record_with_them(
    order: Order, page_base: Literal[0, 1], size: int
) -> None:
    for seed in range(40):
        feed = Feed(Dials(order=order, page_base=page_base, clamp=size), rng=random.Random(seed))
        for number in range(size * (1 + seed % 3) + seed % 2):
            feed.change(f"r{number:04}")
        stream = FollowedStream(feed, 200)
        feed.now += TICKS
        stream.run()
        assert stream.errors == 0
        assert_exact(stream)


def test_change_between_the_pages_0_and_1_teaches_no_wrong_size_of_a_full_page() -> None:
    stream = FollowedStream(feed_of(40, Dials(page_base=1)), 200)
    drain_while(stream, ["r0010"])
    assert json.loads(stream.kept.habits)["full"] == 0
    settle(stream)


def test_service_that_counts_pages_from_one_and_has_no_order_is_read_whole() -> None:
    stream = FollowedStream(feed_of(610, Dials(page_base=1, order="by id")), 200)
    calls = stream.run()
    assert_exact(stream)
    assert calls <= 2 * 5 + 1


def test_page_that_comes_three_times_running_is_an_error() -> None:
    walk = begin(START, 50)
    feed = feed_of(50, Dials(order="by id"))
    page = page_of(feed, list(reversed(feed.listing(write_ticks(START)))))
    for _ in range(MOST_REPEATS - 1):
        walk.receive(page)
    with pytest.raises(PagingError, match="repeats one page"):
        walk.receive(page)


def test_small_page_may_repeat_by_chance() -> None:
    walk = begin(START, 2)
    feed = feed_of(2, Dials(order="by id"))
    page = page_of(feed, list(reversed(feed.listing(write_ticks(START)))))
    for _ in range(MOST_REPEATS + 1):
        walk.receive(page)
    assert walk.request is not None


# Ends


def test_feed_that_brings_other_new_entries_on_every_page_is_given_up_soon() -> None:
    feed = feed_of(20, Dials(order="descending"))
    walk = begin(START, 20)
    walk.receive(page_of(feed, feed.listing(write_ticks(START))))
    for number in range(300):
        feed.now += TICKS
        new = [Version(f"new{number}-{each}", feed.now, 1000 + 20 * number + each, False, feed.now) for each in range(20)]
        try:
            walk.receive(page_of(feed, new))
        except PagingError as error:
            assert "did not end" in str(error)  # noqa: PT017 - at which page it is raised is not the point
            return
    pytest.fail("it goes on and on")


def test_feed_that_never_holds_still_is_given_up_and_keeps_what_came() -> None:
    feed = feed_of(120, Dials(order="by id"))
    stream = FollowedStream(feed, 20)
    steps = 0
    while stream.errors == 0:
        # One comes late with a date in the list, one leaves it: each pass lists others than the one before.
        feed.change(f"new{steps:05}", ticks=NOON + steps)
        feed.change(f"r{steps % 120:04}")
        steps += 1
        stream.step()
    assert stream.feed.calls <= MOST_PASSES * (2 + (120 + steps) // 20)
    assert stream.kept.watermark is None
    assert stream.kept.place == "null"
    assert len(stream.held) >= 120
    settle(stream)


def test_drain_that_dies_again_and_again_has_no_more_passes_than_one_that_lives() -> None:
    feed = feed_of(120, Dials(order="by id"))
    stream = FollowedStream(feed, 20)
    steps = 0
    while stream.errors == 0:
        feed.change(f"new{steps:05}", ticks=NOON + steps)
        feed.change(f"r{steps % 120:04}")
        steps += 1
        stream.step()
        if steps % 30 == 0:
            stream.die()
    assert stream.feed.calls <= MOST_PASSES * (2 + (120 + steps) // 20)
    settle(stream)


@pytest.mark.parametrize("size", [20, 200])
def test_drain_ends_although_something_changes_at_every_call(size: int) -> None:
    feed = feed_of(400)
    stream = FollowedStream(feed, size)
    calls = drain_while(stream, (f"r{number * 7 % 400:04}" for number in range(1_000)))
    assert stream.walk is None
    assert calls <= 400 // (size - 1) + 12
    settle(stream)


def test_drain_ends_although_a_page_changes_at_every_call() -> None:
    feed = feed_of(400)
    stream = FollowedStream(feed, 20)
    calls = 0
    while stream.step():
        calls += 1
        feed.now += TICKS
        for number in range(25):
            feed.change(f"r{(calls * 25 + number) % 400:04}")
        feed.now += TICKS
    assert calls <= 200
    settle(stream)


def test_short_page_that_is_not_the_last_ends_nothing() -> None:
    for dials in (Dials(short_pages="odd"), Dials(short_pages="even")):
        stream = FollowedStream(feed_of(599, dials), 100)
        stream.run()
        assert_exact(stream)


@pytest.mark.parametrize(("short_pages", "uneven"), [("none", False), ("even", True)])
def test_pages_that_others_follow_are_remembered_to_differ_in_length(short_pages: Literal["none", "even"], uneven: bool) -> None:
    stream = FollowedStream(feed_of(60, Dials(short_pages=short_pages)), 20)
    seen = []
    while stream.step():
        seen.append((json.loads(stream.kept.place)["uneven"], json.loads(stream.kept.place)["mode"]))
    # Page 0 is cut short, and page 1 is not.
    assert [each for each, _ in seen] == [False] + [uneven] * (len(seen) - 1)
    assert ("counting" in {mode for _, mode in seen}) is not uneven


def test_list_whose_pages_differ_in_length_is_not_counted_by_them() -> None:
    # Page 0 is cut short, and page 1 is not: by page numbers the list would end earlier than it does.
    dials = Dials(short_pages="even", order="ascending but for one")
    for records in range(60, 90):
        stream = FollowedStream(feed_of(records, dials), 10)
        stream.run()
        assert_exact(stream)


@pytest.mark.parametrize("clamp", [20, 49, 50, 199])
def test_service_that_grants_smaller_pages_is_read_at_its_own_size(clamp: int) -> None:
    stream = FollowedStream(feed_of(400, Dials(clamp=clamp)), 200)
    calls = stream.run()
    assert_exact(stream)
    assert calls <= 400 // (clamp - 1) + 5
    assert json.loads(stream.kept.habits)["full"] == clamp


def test_only_a_page_behind_an_answered_first_one_may_be_past_the_end() -> None:
    feed = feed_of(10)
    walk = begin(START, 200)
    first = walk.request
    answer(walk, feed)
    second = walk.request
    assert first is not None
    assert second is not None
    assert (first.number, first.may_be_past_end) == (0, False)
    assert (second.number, second.may_be_past_end) == (1, True)


# Dates


def test_one_record_dated_a_month_ahead_hides_none_of_the_later_changes() -> None:
    feed = feed_of(100)
    feed.change("ahead", ticks=feed.now + 30 * DAYS)
    stream = FollowedStream(feed, 50)
    stream.run()
    for number in range(51):
        feed.now += HOURS // 4
        feed.change(f"r{number:04}")
        stream.run()
    assert stream.kept.watermark is not None
    assert stream.kept.watermark <= feed.now
    settle(stream)


def test_page_full_of_records_dated_a_month_ahead_is_no_end() -> None:
    feed = feed_of(30)
    for number in range(90):
        feed.change(f"ahead{number}", ticks=feed.now + (20 + number % 7) * DAYS)
    stream = FollowedStream(feed, 20)
    calls = stream.run()
    assert_exact(stream)
    assert calls <= 120 // 19 + 6
    assert stream.kept.watermark is not None
    assert stream.kept.watermark <= feed.now


def test_records_without_dates_are_followed_by_the_date_of_the_page() -> None:
    stream = FollowedStream(feed_of(400, Dials(dated="none")), 50)
    calls = stream.run()
    assert_exact(stream)
    assert stream.kept.watermark == NOON + 399 * TICKS
    assert calls <= 4 * (400 // 50 + 2)


def test_pages_without_a_date_are_followed_by_the_dates_of_the_records() -> None:
    stream = FollowedStream(feed_of(400, Dials(names_last_change=False)), 50)
    calls = stream.run()
    assert_exact(stream)
    assert stream.kept.watermark == NOON + 399 * TICKS
    assert calls <= 400 // 49 + 5


def test_page_without_any_date_is_read_by_numbers() -> None:
    walk = begin(START, 2)
    entries = [Broken(None, None, "{}", "no key")] * 2
    walk.receive(Page(entries=entries, digests=[1, 2], last_change=None, clock=NOON))
    assert walk.request is not None
    assert walk.request.number == 1
    assert walk.place()["mode"] == "sweeping"


@pytest.mark.parametrize("minutes", [-300, 0, 330])
def test_service_that_ignores_the_offset_is_asked_on_its_own_wall_clock(minutes: int) -> None:
    dials = Dials(ignores_offset=True, offset_minutes=minutes)
    stream = FollowedStream(feed_of(300, dials), 50)
    stream.run()
    assert_exact(stream)
    for number in range(20):
        stream.feed.now += HOURS // 2
        stream.feed.change(f"r{number:04}")
        stream.run()
        assert_exact(stream)


def test_first_page_is_asked_anew_where_its_offset_shows_that_the_start_was_read_too_late() -> None:
    feed = feed_of(10, Dials(ignores_offset=True, offset_minutes=-300))
    walk = Walk(START, size=50, count_known=none_known, habits={"offset": "+05:30", "step": 0, "full": 0})
    answer(walk, feed)
    request = walk.request
    assert request is not None
    assert (request.number, request.start[-6:], read(request.start)) == (0, "-05:00", START)


def test_first_page_is_asked_anew_for_its_offset_once_and_no_more() -> None:
    walk = Walk(START, size=50, count_known=none_known, habits={"offset": "+05:30", "step": 0, "full": 0})
    answer(walk, feed_of(10, Dials(ignores_offset=True, offset_minutes=-300)))
    answer(walk, feed_of(10, Dials(ignores_offset=True, offset_minutes=-360)))  # its clocks have been put back
    assert walk.request is not None
    assert walk.request.number == 1


def test_late_row_is_met_within_the_overlap() -> None:
    feed = feed_of(300, gap=10 * TICKS)
    stream = FollowedStream(feed, 200)
    for number in range(57):
        feed.change(f"r{number:04}", late=9 * MINUTES)
        feed.now += 2 * MINUTES
        feed.change("r0299")
        stream.run()
    settle(stream, 1)


# The watermark, and where a killed drain goes on


def test_watermark_stands_until_the_drain_is_complete() -> None:
    stream = FollowedStream(feed_of(400), 50)
    while stream.step():
        assert stream.kept.watermark is None
        if stream.feed.calls == 5:
            stream.die()
            break
    stream.run()
    assert stream.kept.watermark == NOON + 399 * TICKS


@pytest.mark.parametrize("order", ["ascending", "by id"])
@pytest.mark.parametrize("commits", [True, False])
@pytest.mark.parametrize("after", range(1, 14))
def test_drain_killed_after_any_call_goes_on_and_passes_nothing_by(after: int, commits: bool, order: Order) -> None:
    feed = feed_of_ties(100, 70, 100, Dials(order=order))
    stream = FollowedStream(feed, 50)
    for _ in range(after - 1):
        stream.step()
    if stream.walk is None or stream.walk.request is not None:
        stream.step(commits=commits)
    stream.die()
    feed.now += 26 * HOURS
    feed.change("r0003")
    feed.now += TICKS
    stream.run()
    assert_exact(stream)


def test_drain_killed_before_any_page_was_committed_begins_anew() -> None:
    stream = FollowedStream(feed_of(10))
    stream.step(commits=False)
    assert stream.kept.place == "null"
    stream.run()
    assert_exact(stream)


def test_resumed_drain_asks_for_the_page_behind_the_last_one_committed() -> None:
    stream = FollowedStream(feed_of(400), 50)
    for _ in range(3):
        stream.step()
    assert stream.walk is not None
    assert stream.walk.request is not None
    expected = stream.walk.request.start
    stream.die()
    resumed = stream.begin()
    assert resumed.request is not None
    assert (resumed.request.start, resumed.request.number) == (expected, 0)


def test_resumed_drain_whose_first_page_is_all_new_is_counted() -> None:
    # Of a feed that runs backwards only the newest was read; two hours later everything on page 0 is newer still.
    feed = feed_of(1, Dials(order="descending", clamp=1))
    stream = FollowedStream(feed, 200)
    stream.run()
    change_each(feed, range(60), gap=MINUTES)
    stream.step()
    stream.die()
    feed.now += 2 * HOURS
    change_each(feed, range(3))
    stream.run()
    assert stream.kept.caught_up is not None
    assert_exact(stream)


def test_watermark_stays_behind_a_tie_of_the_next_drain_that_a_page_has_cut() -> None:
    feed = feed_of(5)
    stream = FollowedStream(feed, 5)
    stream.step()
    stream.die()
    feed.now += 2 * HOURS
    for number in range(5 * (MOST_VIEWED + 5)):
        feed.change(f"r{number:04}")
    feed.now += MINUTES
    while stream.step():  # the drain that goes on, and not the one that follows it
        pass
    assert len(stream.held) < len(feed.versions)
    assert stream.kept.watermark is not None
    assert stream.kept.watermark < feed.truth()["r0000"].ticks


def test_drain_killed_before_its_count_goes_on_with_the_count() -> None:
    stream = FollowedStream(feed_of(120), 50)
    modes = set()
    while stream.walk is None or not stream.walk.looks_back:
        stream.step()
        modes.add(json.loads(stream.kept.place)["mode"])
    assert modes == {"following", "counting"}
    stream.die()
    walk, calls = drive(stream)
    assert calls == 2 + 1  # the page on which the list must end, as it holds a single entry the one before, and the empty one
    assert walk.debt is not None
    assert_exact(stream)


def test_swept_drain_begins_its_list_anew_but_keeps_count_of_its_passes() -> None:
    stream = FollowedStream(feed_of(200, Dials(order="shuffled once")), 20)
    for _ in range(14):
        stream.step()
    place: Place = json.loads(stream.kept.place)
    assert (place["mode"], place["passes"]) == ("sweeping", 1)
    resumed = Walk.resume(place, size=20, count_known=stream.count_known)
    assert resumed.request is not None
    assert (resumed.request.number, resumed.place()["passes"]) == (0, 1)


def test_drain_killed_while_it_reads_a_tie_goes_on_behind_the_last_page_before_it() -> None:
    stream = FollowedStream(feed_of_ties(100, 130, 100), 50)
    while stream.walk is None or json.loads(stream.kept.place)["anchor"] < NOON + 99 * TICKS:
        stream.step()
    for _ in range(2):
        stream.step()
    assert stream.walk.request is not None
    assert stream.walk.request.number > 1
    stream.die()
    walk = stream.begin()
    assert walk.place()["mode"] == "following"
    assert walk.request is not None
    assert read(walk.request.start) >= NOON + 98 * TICKS
    stream.run()
    assert_exact(stream)


def test_what_an_older_release_has_kept_is_understood() -> None:
    place = {
        "mode": "following", "start": START, "first_call": NOON + 120 * TICKS, "anchor": NOON + 49 * TICKS - 1, "step": 0,
        "last": NOON + 49 * TICKS, "reached": [NOON + 49 * TICKS, "2026-05-04T12:00:49.0000000+00:00"],
        "counted_to": NOON + 49 * TICKS, "listed": 50, "full": 50, "uneven": False, "offset": "+00:00", "anchored": True,
        "old_versions": False, "passes": 0, "page": 0, "pages": 1,
    }  # fmt: skip
    stream = FollowedStream(feed_of(120), 50)
    stream.step()
    stream.die()
    stream.kept = Kept(
        place=json.dumps(place),
        habits='{"offset": "+00:00", "step": 0, "full": 50}',
        debt=json.dumps({"starts": [START], "full": 50, "runs": 8}),
    )
    stream.run()
    assert_exact(stream)


def test_place_says_the_same_after_it_was_kept_as_text() -> None:
    stream = FollowedStream(feed_of_ties(100, 70, 100, Dials(offset_minutes=330, precision=TICKS, rounding="up")), 50)
    while stream.step():
        place = json.loads(stream.kept.place)
        assert stream.walk is not None
        assert stream.walk.looks_back or stream.walk.request is None or place["page"] == stream.walk.request.number
        assert place["mode"] in ("following", "counting", "done")
        assert (place["uneven"], place["old_versions"]) == (False, False)
        again = Walk.resume(place, size=50, count_known=stream.count_known).place()
        moved = ("mode", "anchor", "page")
        assert {k: v for k, v in json.loads(json.dumps(again)).items() if k not in moved} == {
            k: v for k, v in place.items() if k not in moved
        }


# What it keeps in mind


def test_follower_may_forget_what_lies_behind_and_a_sweeper_nothing() -> None:
    walk = begin(START, 50)
    answer(walk, feed_of(120))
    assert walk.entries_return_from == NOON + 49 * TICKS - 1 - SECOND
    walk = begin(START, 50)
    answer(walk, feed_of(120, Dials(order="descending")))
    assert walk.entries_return_from is None


def test_habits_that_no_longer_hold_cost_calls_and_lose_nothing() -> None:
    for habits in ('{"offset": "+05:30", "step": 3, "full": 20}', '{"offset": "-05:00", "step": 0, "full": 200}'):
        stream = FollowedStream(feed_of(400, Dials(clamp=50)), 200)
        stream.kept = stream.kept._replace(habits=habits)
        stream.run()
        assert_exact(stream)


def test_count_never_puts_back_an_older_version_of_equal_date() -> None:
    feed = Feed(Dials(order="ties shuffled", per_change=True))
    for _ in range(2):
        for number in range(30):
            feed.change(f"r{number:04}")
    feed.change("ahead", ticks=feed.now + 30 * DAYS)
    feed.now += DAYS
    stream = FollowedStream(feed, 20)
    stream.run()
    assert_exact(stream)


def test_ordered_feed_that_lists_every_change_is_counted_by_its_length_and_swept_never() -> None:
    feed = Feed(Dials(per_change=True))
    for number in range(120):
        change_each(feed, [number // 2])
    stream = FollowedStream(feed, 20)
    walk, calls = drive(stream)
    assert walk.place()["old_versions"] is True
    assert calls <= 120 // 19 + 5
    assert_exact(stream)


def test_feed_that_lists_every_change_leaves_the_newest_version() -> None:
    feed = Feed(Dials(per_change=True, order="shuffled once"))
    for turn in range(4):
        for number in range(100):
            feed.change(f"r{number:04}", deleted=turn == 2)
        feed.now += TICKS
    stream = FollowedStream(feed, 50)
    stream.run()
    assert_exact(stream)


# The walk alone, without a mirror


def none_known(after: int, upto: int) -> int:
    return 0


def begin(start: int, size: int) -> Walk:
    return Walk(start, size=size, count_known=none_known, habits=NO_HABITS)


def read(text: str) -> int:
    instant = read_instant(text)
    assert instant is not None
    return instant.ticks


def page_of(feed: Feed, versions: Sequence[Version]) -> Page:
    entries = [Record(v.id, Instant(v.ticks, feed.write(v.ticks)), None, v.deleted, {}, {}) for v in versions]
    last = max((v.ticks for v in versions), default=None)
    return Page(
        entries=entries,
        digests=[v.content for v in versions],
        last_change=None if last is None else Instant(last, feed.write(last)),
        clock=feed.now,
    )


def answer(walk: Walk, feed: Feed) -> None:
    request = walk.request
    assert request is not None
    walk.receive(page_of(feed, feed.answer(request.start, request.number, request.size)))


def drive(stream: FollowedStream) -> tuple[Walk, int]:
    """Run one drain; return its walk, and how many calls it took."""
    before = stream.feed.calls
    walk = stream.walk = stream.begin()
    while stream.step():
        pass
    return walk, stream.feed.calls - before
