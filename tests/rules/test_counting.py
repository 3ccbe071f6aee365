"""What the end of a list tells of the rest of it, and how many pages that takes."""

from collections.abc import Sequence

import pytest

from delta_mirror.core.counting import MOST_VIEWED, Count, Tally, Verdict
from delta_mirror.core.horizon import SKEW
from delta_mirror.core.model import Instant, Page, Record

START = 100  # ticks; the list's StartDate
CUTOFF = 1_000_000
SIZE = 10


class Listed:
    """A list as the service has it and as the mirror knows it, both as change dates, read in pages of SIZE."""

    def __init__(
        self,
        dates: Sequence[int],
        known: Sequence[int] | None = None,
        *,
        from_one: bool = False,
        cut: dict[int, int] | None = None,
    ) -> None:
        self.dates = dates
        self.known = dates if known is None else known
        self.from_one = from_one
        self.cut = cut or {}
        self.asked: list[int] = []

    def count_known(self, after: int, upto: int) -> int:
        return sum(after < when <= upto for when in self.known)

    def count(
        self, *, from_one: bool | None = False, is_sure: bool = True, has_ranks: bool = True, compares_first: bool = False
    ) -> Count:
        return Count(
            start=START,
            expected=len(self.known),
            size=SIZE,
            cutoff=CUTOFF,
            count_known=self.count_known,
            has_ranks=has_ranks,
            from_one=from_one,
            is_sure=is_sure,
            compares_first=compares_first,
        )

    def page(self, number: int) -> Page:
        index = max(0, number - self.from_one)
        first = sum(self.cut.get(each, SIZE) for each in range(index))
        shown = range(len(self.dates))[first : first + self.cut.get(index, SIZE)]
        entries = [Record(str(at), Instant(self.dates[at], "then"), None, False, {}, {}) for at in shown]
        return Page(entries=entries, digests=list(shown), last_change=None, clock=CUTOFF)

    def judge(self, count: Count | None = None) -> Verdict:
        """Count to the end; `asked` has the page numbers."""
        count = count or self.count()
        while True:
            self.asked.append(count.number)
            verdict = count.take(self.page(count.number))
            if verdict != "open":
                return verdict


def dates(count: int) -> list[int]:
    return list(range(1_000, 1_000 + 10 * count, 10))


@pytest.mark.parametrize(
    ("entries", "asked"),
    [(0, [0]), (1, [0, 1]), (9, [0, 1]), (10, [0, 1]), (11, [0, 1]), (12, [1, 2]), (20, [1, 2]), (21, [1, 2])],
)
def test_end_of_a_list_as_it_is_known_takes_two_pages(entries: int, asked: list[int]) -> None:
    listed = Listed(dates(entries))
    assert listed.judge() == "complete"
    assert listed.asked == asked


@pytest.mark.parametrize("entries", range(1, 32))
def test_entry_that_the_mirror_lacks_makes_the_list_longer_wherever_it_stands(entries: int) -> None:
    for missing in range(entries):
        all_dates = dates(entries)
        assert Listed(all_dates, all_dates[:missing] + all_dates[missing + 1 :]).judge() == "longer"


def test_change_that_is_not_visible_yet_accuses_nobody() -> None:
    for hidden in range(25):
        all_dates = dates(25)
        assert Listed(all_dates[:hidden] + all_dates[hidden + 1 :], all_dates).judge() == "complete"


@pytest.mark.parametrize("hidden", [0, 1, 2, 15])
def test_entry_out_of_order_at_the_end_shows_although_as_many_are_hidden(hidden: int) -> None:
    all_dates = dates(43)
    seen = [*all_dates[3 + hidden : -1], all_dates[2], all_dates[-1]]
    assert Listed(seen, all_dates[:2] + all_dates[3:]).judge() == "longer"


def test_entry_that_is_held_in_an_older_version_is_out_of_place() -> None:
    known = dates(34)
    # The second has changed at 1215, and stands at the end: the list is as long as expected.
    seen = [known[0], *known[2:-1], 1215, known[-1]]
    assert Listed(seen, known).judge() == "longer"


@pytest.mark.parametrize("cut", [{0: 8}, {1: 8}, {2: 8}, {2: 5}, {3: 2}, {0: 9, 1: 9}])
def test_pages_that_are_not_even_hide_nothing(cut: dict[int, int]) -> None:
    for entries in range(28, 40):
        known = dates(entries)
        assert Listed([*known[:-1], known[2] + 1, known[-1]], known, cut=cut).judge() == "longer"


def test_view_reaches_back_to_what_is_older_than_the_last_of_equal_dates() -> None:
    tied = [*dates(20), *[5_000] * 25]
    listed = Listed(tied)
    assert listed.judge() == "complete"
    assert listed.asked == [4, 5, 3, 2, 1]


def test_view_reaches_back_to_what_is_older_than_the_drain() -> None:
    listed = Listed(dates(30) + [CUTOFF + 1 + each for each in range(25)], dates(30))
    assert listed.judge() == "complete"
    assert listed.asked[:2] == [2, 3]
    assert listed.asked[-1] == 6
    listed = Listed([*dates(28), CUTOFF + 1, CUTOFF + 2, CUTOFF + 3], dates(35))  # some have left the end of the list
    assert listed.judge() == "complete"
    assert listed.asked == [3, 4, 2]

    listed = Listed([*dates(29), CUTOFF + 1, CUTOFF + 2, CUTOFF + 3], dates(35))  # two dates at the end, and both are later
    assert listed.judge() == "complete"
    assert listed.asked == [3, 4, 2]


def test_what_is_dated_in_the_future_is_no_news() -> None:
    ahead = CUTOFF + SKEW + 1
    assert Listed([*dates(15), ahead]).judge() == "complete"
    assert Listed([*dates(15), ahead], dates(15)).judge() == "longer"
    assert Listed([*dates(15), ahead - 1], dates(15)).judge() == "complete"
    assert Listed([*dates(15), CUTOFF + 1, ahead], dates(15)).judge() == "longer"


def test_what_is_dated_exactly_at_the_start_of_the_list_is_not_known() -> None:
    ahead = CUTOFF + SKEW + 1
    assert Listed([START], [ahead]).judge() == "longer"  # as long as expected, and out of place
    assert Listed([START - 1], [ahead]).judge() == "complete"  # a service that reads StartDate coarsely lists what is older


def test_what_is_dated_exactly_at_the_cutoff_was_there_when_the_drain_began() -> None:
    ahead = CUTOFF + SKEW + 1
    assert Listed([*dates(15), CUTOFF], dates(15)).judge() == "longer"
    assert Listed([*dates(15), CUTOFF], [*dates(15), ahead]).judge() == "longer"  # as long as expected, and out of place


def test_list_of_older_versions_is_judged_by_its_length_alone() -> None:
    known = [1_000, *[2_000] * 22]
    listed = Listed(dates(23), known)
    assert listed.judge(listed.count(has_ranks=True)) == "longer"
    assert listed.judge(listed.count(has_ranks=False)) == "complete"


@pytest.mark.parametrize("entries", [10, 11, 25, 30, 31])
@pytest.mark.parametrize("from_one", [True, False])
def test_number_of_the_first_page_is_found_where_habit_is_wrong(from_one: bool, entries: int) -> None:
    for habit in (True, False, None):
        listed = Listed(dates(entries), from_one=from_one)
        count = listed.count(from_one=habit, is_sure=False)
        assert listed.judge(count) == "complete"
        assert not count.is_sure or count.from_one is from_one
        longer = Listed(dates(entries + 1), dates(entries), from_one=from_one)
        assert longer.judge(longer.count(from_one=habit, is_sure=False)) == "longer"


@pytest.mark.parametrize(
    ("entries", "hidden", "asked", "compares"),
    [
        (0, 0, [1], False),
        (25, 0, [3, 4], False),
        (30, 4, [3, 4], False),
        (30, 5, [3, 4], True),  # the page lies half a page further back in the list than it should
        (30, 10, [3, 2], True),  # it is empty
    ],
)
def test_pages_0_and_1_are_compared_only_where_the_end_is_not_where_habit_puts_it(
    entries: int, hidden: int, asked: list[int], compares: bool
) -> None:
    for is_sure in (True, False):
        listed = Listed(dates(entries)[hidden:], dates(entries), from_one=True)
        assert listed.judge(listed.count(from_one=True, is_sure=is_sure)) == "complete"
        assert listed.asked == (asked if is_sure or not compares else [asked[0], 0, 1, *asked])


@pytest.mark.parametrize("hidden", [0, 5, 10])
def test_page_that_comes_late_in_a_list_whose_pages_count_from_zero_costs_no_comparison(hidden: int) -> None:
    listed = Listed(dates(30)[hidden:], dates(30))
    assert listed.judge(listed.count(from_one=None, is_sure=False)) == "complete"
    assert listed.asked[0] == 2
    assert 0 not in listed.asked


def test_page_without_a_date_lies_nowhere_else_than_its_number_says() -> None:
    count = Listed(dates(3)).count(from_one=True, is_sure=False)
    assert count.take(Page([Record("1", None, None, False, {}, {})], [1], None, CUTOFF)) == "open"
    assert count.number == 2


@pytest.mark.parametrize(("entries", "verdict"), [(5, "longer"), (6, "complete")])
def test_first_page_so_small_that_chance_may_have_repeated_it_is_not_counted_by(entries: int, verdict: Verdict) -> None:
    listed = Listed(dates(entries), from_one=True)
    assert listed.judge(listed.count(from_one=False, is_sure=False)) == verdict
    assert listed.asked[:3] == [0, 1, 0]  # the end is not where it should be: the pages 0 and 1 are compared


def test_pages_that_may_have_been_seen_to_be_the_same_are_compared_first() -> None:
    listed = Listed(dates(25), from_one=True)
    count = listed.count(from_one=None, is_sure=False, compares_first=True)
    assert listed.judge(count) == "complete"
    assert listed.asked == [0, 1, 3, 4]


def test_pages_that_have_some_entries_in_common_tell_nothing_of_the_number_of_the_first() -> None:
    listed = Listed(dates(25))
    count = listed.count(from_one=None, is_sure=False, compares_first=True)
    count.take(listed.page(0))
    before, behind = listed.page(0), listed.page(1)
    shifted = Page([*before.entries[-1:], *behind.entries[:-1]], [*before.digests[-1:], *behind.digests[:-1]], None, CUTOFF)
    assert count.take(shifted) == "open"
    assert count.from_one is None


def test_list_that_does_not_end_is_viewed_no_further_than_some_pages() -> None:
    listed = Listed(dates(30) + [CUTOFF + 1 + each for each in range(10 * SIZE * MOST_VIEWED)], dates(30))
    assert listed.judge() == "complete"
    assert len(listed.asked) == MOST_VIEWED


def test_tally_counts_each_entry_once_up_to_the_cutoff() -> None:
    tally = Tally(100)
    tally.take([(1, 110), (2, 120), (3, 120)], upto=120, cutoff=130)
    tally.take([(3, 120), (4, 120), (5, 125), (6, 140), (7, None)], upto=140, cutoff=130)
    assert (tally.met, tally.upto) == (5, 140)
    tally.take_rest(2, 150)
    assert (tally.met, tally.upto) == (7, 151)


def test_tally_that_goes_on_from_what_was_kept_counts_what_lies_at_its_border_once() -> None:
    tally = Tally(100)
    tally.take([(1, 110), (2, 120), (3, 120)], upto=120, cutoff=200)
    going_on = Tally(tally.upto, tally.before)
    for _ in range(2):
        going_on.take([(2, 120), (3, 120), (4, 120)], upto=120, cutoff=200)
    assert (tally.met, going_on.met) == (3, 4)
    going_on.take_rest(5, 120)  # a list of ties shows all of the border, what was met there before too
    going_on.take([(9, 120), (10, 121)], upto=121, cutoff=200)
    assert going_on.met == 1 + 5 + 1
