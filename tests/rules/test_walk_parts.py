"""What a walk through a feed is made of: what one page says, what chance may have done, how far back it anchors, what it owes."""

from collections.abc import Sequence

import pytest

from delta_mirror.core.answer import end_of, lists_a_record_twice, newest_upto
from delta_mirror.core.chance import may_hide, may_repeat
from delta_mirror.core.debt import DEBT_RUNS, owed_after_anchoring, owed_after_counting, owed_before
from delta_mirror.core.firstpage import FirstPage, Likeness, compare
from delta_mirror.core.horizon import SKEW, Horizon
from delta_mirror.core.model import Broken, Instant, Page, Record
from delta_mirror.core.place import Debt
from delta_mirror.core.stepping import STEPS_BACK, Step
from delta_mirror.core.values import HOUR, MINUTE, SECOND

NOON = 1_000 * HOUR


def page(*dates: int | None, named: int | None = None) -> Page:
    entries = [Record(str(n), None if at is None else Instant(at, "sent"), None, False, {}, {}) for n, at in enumerate(dates)]
    return Page(entries, range(len(entries)), None if named is None else Instant(named, "named"), NOON)


# What a page says


@pytest.mark.parametrize(
    ("dates", "named", "end"),
    [
        ((), None, None),
        ((), NOON, (NOON, "named")),
        ((None, None), NOON, (NOON, "named")),
        ((None,), None, None),
        ((NOON - 2, NOON - 1, NOON - 3), None, (NOON - 1, "sent")),
        ((NOON - 2, NOON - 1), NOON, (NOON - 1, "sent")),
        ((NOON, NOON + 2), NOON + 1, (NOON + 1, "named")),
        ((NOON,), NOON, (NOON, "named")),
        # Records that are dated by something else than the feed goes by.
        ((NOON - HOUR,), NOON + 5, (NOON - HOUR, "sent")),
        ((NOON - HOUR - 1,), NOON + 5, (NOON + 5, "named")),
        ((NOON - HOUR - 1,), None, (NOON - HOUR - 1, "sent")),
    ],
)
def test_page_ends_at_the_earlier_of_its_two_dates(
    dates: tuple[int | None, ...], named: int | None, end: tuple[int, str] | None
) -> None:
    assert end_of(page(*dates, named=named), NOON) == end


@pytest.mark.parametrize(
    ("dates", "named", "newest"),
    [
        ((), None, None),
        ((NOON + 1,), NOON + 1, None),
        ((NOON - 1, NOON, NOON + 1), None, (NOON, "sent")),
        ((NOON - 1, None), NOON, (NOON, "named")),
        ((NOON - 1,), NOON + 1, (NOON - 1, "sent")),
        ((NOON - 1,), NOON - 2, (NOON - 1, "sent")),
    ],
)
def test_newest_date_of_a_page_is_told_up_to_a_moment(
    dates: tuple[int | None, ...], named: int | None, newest: tuple[int, str] | None
) -> None:
    assert newest_upto(page(*dates, named=named), NOON) == newest


@pytest.mark.parametrize(
    ("ids", "digests", "does"),
    [
        (["a", "b"], [1, 1], False),
        (["a", "b"], [1, 2], False),
        (["a", "a"], [1, 1], False),
        (["a", "b", "a"], [1, 2, 3], True),
        ([None, None], [1, 2], False),
        ([], [], False),
    ],
)
def test_two_versions_of_one_record_in_one_answer_are_noticed(ids: Sequence[str | None], digests: list[int], does: bool) -> None:
    assert lists_a_record_twice(Page([Broken(id_, None, "{}", "odd") for id_ in ids], digests, None, NOON)) is does


# What chance may have done


@pytest.mark.parametrize(
    ("missing", "among", "passes", "may"),
    [
        (1, 1, 11, True),
        (1, 1, 12, False),
        (1, 4, 12, True),
        (1, 4, 13, False),
        (2, 4, 6, True),
        (2, 4, 7, False),
        (4, 4, 2, True),
    ],
)
def test_chance_hides_an_entry_from_so_many_passes_and_several_from_fewer(
    missing: int, among: int, passes: int, may: bool
) -> None:
    assert may_hide(missing, among, passes) is may


@pytest.mark.parametrize(
    ("entries", "times", "in_order", "may"),
    [
        *((1, 16, True, True), (1, 17, True, False), (5, 1, True, True), (6, 1, True, False), (5, 2, True, False)),
        *((1, 16, False, True), (6, 1, False, True), (9, 1, False, True), (10, 1, False, False), (6, 2, False, False)),
    ],
)
def test_chance_repeats_a_page_the_less_the_larger_it_is_and_the_better_it_is_in_order(
    entries: int, times: int, in_order: bool, may: bool
) -> None:
    assert may_repeat(entries, times, in_order=in_order) is may


@pytest.mark.parametrize(
    ("zero", "one", "likeness"),
    [
        ([], [], "other"),
        ([], [1], "other"),
        ([1, 2], [], "other"),
        ([1, 2], [3, 4], "other"),
        ([1, 2], [2, 3], "alike"),
        ([1, 2], [1, 2, 2], "alike"),
        ([1, 2, 3, 4, 5], [1, 2, 3, 4, 5], "perhaps the same"),
        ([1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6], "same"),
        ([1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 6, 5], "perhaps the same"),
        (list(range(10)), list(reversed(range(10))), "same"),
    ],
)
def test_page_one_is_told_from_page_zero_by_what_chance_does_not_repeat(
    zero: list[int], one: list[int], likeness: Likeness
) -> None:
    found = Page([Broken(None, None, "{}", "odd")] * len(one), one, None, NOON)
    assert compare(zero, found, is_habit=False) == likeness
    assert compare(zero, found, is_habit=True) == likeness.removeprefix("perhaps the ")
    first = FirstPage(None)
    assert first.compare(zero, found) == likeness
    assert (first.from_one, first.is_perhaps_one) == (
        {"same": True, "other": False}.get(likeness),
        likeness == "perhaps the same",
    )


@pytest.mark.parametrize("habit", [None, True, False])
def test_number_of_the_first_page_is_known_by_habit_until_this_drain_has_seen_it(habit: bool | None) -> None:
    first = FirstPage(habit)
    first.learn(None)
    assert (first.known, first.from_one, first.is_perhaps_one) == (habit, None, False)
    found = Page([Broken(None, None, "{}", "odd")] * 2, [1, 2], None, NOON)
    assert first.compare([1, 2], found) == ("same" if habit else "perhaps the same")
    first.learn(from_one=False)
    assert first.known is first.from_one is False


# What the answers tell of time


def test_what_has_changed_since_the_drain_began_is_later_and_what_is_dated_in_the_future_is_not() -> None:
    times = Horizon(None)
    for clock in (NOON, NOON + 10):
        times.take(Page([], [], None, clock))
    assert (times.first_call, times.cutoff, times.clock) == (NOON, NOON, NOON + 10)
    assert Horizon(None).first_call is None
    assert [times.is_later(when) for when in (None, NOON, NOON + 1, NOON + 10 + SKEW, NOON + 11 + SKEW)] == [
        *(False, False, True, True, False)
    ]


def test_times_are_written_as_the_service_writes_them_once_that_is_known() -> None:
    times = Horizon(None)
    assert (times.known_offset, times.instant(0)) == (None, (0, "0001-01-01T00:00:00.0000000+00:00"))
    times.learn_offset(Instant(5, "2026-05-04T12:00:00-04:00"))
    assert (times.offset, times.known_offset) == ("-04:00", "-04:00")
    assert times.instant(5 * HOUR) == (5 * HOUR, "0001-01-01T01:00:00.0000000-04:00")
    assert (Horizon("+02:00").offset, Horizon("+02:00").known_offset) == ("+02:00", "+02:00")


def test_newest_date_that_was_reached_never_goes_back() -> None:
    times = Horizon(None)
    times.reach(page(NOON + 5), NOON)
    assert times.reached is None
    for dates, upto, reached in (
        ((NOON - 2, NOON), NOON, NOON),
        ((NOON - 1,), NOON, NOON),
        ((NOON + 1, NOON + 5), NOON + 4, NOON + 1),
    ):
        times.reach(page(*dates), upto)
        assert times.reached == (reached, "sent")


# How far back


def test_step_is_lengthened_to_its_end_and_no_further() -> None:
    step = Step(0)
    assert [(step.ticks, step.lengthen()) for _ in range(5)] == [
        *((1, True), (SECOND, True), (MINUTE, True), (HOUR, False), (HOUR, False))
    ]
    assert step.index == len(STEPS_BACK) - 1


@pytest.mark.parametrize(
    ("index", "dates", "left"),
    [
        (0, [NOON], 0),
        (2, [NOON], 2),
        (2, [NOON - SECOND + 1], 2),
        (2, [NOON - SECOND], 0),
        (2, [NOON + 1, NOON - MINUTE], 0),
        (2, [], 0),
        (1, [NOON], 1),
        (1, [NOON - 1], 0),
        (3, [NOON - MINUTE], 0),
        (3, [NOON - MINUTE + 1, NOON - HOUR], 3),
    ],
)
def test_step_stays_long_where_a_shorter_one_would_have_missed_a_date(index: int, dates: list[int], left: int) -> None:
    step = Step(index)
    step.shorten_if_needless(dates, NOON)
    assert step.index == left


# What is owed


def debt(*starts: int, runs: int = 3) -> Debt:
    return Debt(starts=list(starts), full=200, runs=runs)


@pytest.mark.parametrize(("before", "starts"), [(None, []), (debt(5), [5]), (debt(5, 9), [9, 5])])
def test_list_just_counted_goes_last(before: Debt | None, starts: list[int]) -> None:
    assert owed_before(before) == starts


@pytest.mark.parametrize(
    ("before", "runs"),
    [(None, None), (debt(5, runs=1), None), (debt(5, runs=0), None), (debt(5, 9, runs=2), 1), (debt(5, 9, runs=8), 7)],
)
def test_list_is_owed_for_one_run_less_after_each_count(before: Debt | None, runs: int | None) -> None:
    after = owed_after_counting(before)
    assert after == (None if runs is None else Debt(starts=[9, 5], full=200, runs=runs))


M = MINUTE


@pytest.mark.parametrize(
    ("before", "start", "watermark", "reached", "starts"),
    [
        # The first list: its own newest part and the whole of it.
        (None, 2 * M, 5 * M + 7, 5 * M + 8, [5 * M, 2 * M]),
        (None, 2 * M, 5 * M + 7, 5 * M + 7, [5 * M, 2 * M]),
        (None, 5 * M, 5 * M + 7, 5 * M + 8, [5 * M]),
        (None, 6 * M, 5 * M + 7, 5 * M + 8, [6 * M]),
        # Something new: the newest takes the place of the one before; the one just counted goes last.
        (debt(2 * M, 4 * M), 3 * M, 5 * M + 7, 5 * M + 8, [5 * M, 2 * M]),
        (debt(4 * M, 2 * M), 3 * M, 5 * M + 7, 5 * M + 8, [2 * M, 5 * M]),
        (debt(4 * M), 3 * M, 5 * M + 7, 5 * M + 8, [3 * M, 5 * M]),
        # Nothing new: no start in the place of another.
        (debt(2 * M, 4 * M), 3 * M, 5 * M + 7, 5 * M + 7, [4 * M, 2 * M]),
        (debt(4 * M, 2 * M), 3 * M, 5 * M + 7, 5 * M + 6, [2 * M, 4 * M]),
        (debt(4 * M, 2 * M), 1 * M, 5 * M + 7, 5 * M + 6, [1 * M, 4 * M]),
    ],
)
def test_two_lists_are_owed_at_most_the_oldest_and_the_newest_that_brought_something(
    before: Debt | None, start: int, watermark: int, reached: int, starts: list[int]
) -> None:
    found = owed_after_anchoring(before, start=start, watermark=watermark, reached=reached, full=20)
    assert found == Debt(starts=starts, full=20, runs=DEBT_RUNS)
