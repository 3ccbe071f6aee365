"""That a drain ends, whatever the service answers."""

import pytest

from delta_mirror.core.bounds import (
    MOST_IDLE_PAGES,
    MOST_PAGES,
    MOST_PASSES,
    MOST_PASSES_IN_PARTS,
    MOST_REPEATS,
    MOST_REPEATS_SMALL,
    SMALL,
    Bounds,
)
from delta_mirror.errors import PagingError


@pytest.mark.parametrize(("entries", "times"), [(SMALL, MOST_REPEATS), (SMALL - 1, MOST_REPEATS_SMALL)])
def test_page_that_comes_too_often_is_an_error(entries: int, times: int) -> None:
    bounds = Bounds()
    page = list(range(entries))
    for number in range(1, times - 1):
        bounds.compare(number, page, page)
    with pytest.raises(PagingError, match=f"repeats one page: page {times - 1} is the same as the {times - 1} before it"):
        bounds.compare(times - 1, page, page)


def test_empty_page_and_another_page_are_no_repeats() -> None:
    bounds = Bounds()
    for number in range(1, 10):
        bounds.compare(number, [], [])
        bounds.compare(number, [number], [number - 1])
    assert bounds.repeats == 1


def test_empty_pages_in_a_row_and_the_first_page_of_another_list_are_no_repeats() -> None:
    bounds = Bounds()
    for number in range(1, 10):
        bounds.compare(number, [], [])
        assert bounds.repeats == 1
    for _ in range(10):
        bounds.compare(0, [1], [1])
        assert bounds.repeats == 1


def test_pages_that_bring_nothing_of_this_drain_come_to_an_end() -> None:
    bounds = Bounds()
    for _ in range(MOST_PASSES * MOST_IDLE_PAGES):
        bounds.take(20, 0)
    with pytest.raises(PagingError, match="did not end"):
        bounds.take(20, 0)


@pytest.mark.parametrize(("size", "brought", "filled"), [(20, [19], 0), (20, [19, 1], 1), (20, [20, 20], 2), (1, [1], 1)])
def test_pages_that_are_filled_by_entries_of_this_drain_allow_for_more(size: int, brought: list[int], filled: int) -> None:
    bounds = Bounds()
    for of_this_drain in brought:
        bounds.take(size, of_this_drain)
    for _ in range(MOST_PASSES * (filled + MOST_IDLE_PAGES) - len(brought)):
        bounds.take(size, 0)
    with pytest.raises(PagingError, match="did not end"):
        bounds.take(size, 0)


def test_pages_of_a_drain_that_died_count() -> None:
    Bounds(MOST_PAGES - 1).take(20, 20)
    with pytest.raises(PagingError, match="did not end"):
        Bounds(MOST_PAGES).take(20, 20)


def test_twenty_passes_over_the_list_are_enough() -> None:
    bounds = Bounds()
    for number in range(1, MOST_PASSES):
        bounds.take(20, 20)
        bounds.end_pass(1, number)
    with pytest.raises(PagingError, match="hold still"):
        bounds.end_pass(1, MOST_PASSES)


def test_calls_made_otherwise_leave_fewer_passes() -> None:
    bounds = Bounds(pages=MOST_PASSES * 3 - 6)
    for _ in range(3):
        bounds.take(20, 20)
    bounds.end_pass(3, 1)
    for _ in range(3):
        bounds.take(20, 20)
    with pytest.raises(PagingError, match="hold still"):
        bounds.end_pass(3, 2)


def test_ties_have_no_more_calls_than_twenty_passes_over_what_is_known() -> None:
    bounds = Bounds(pages=20 * 4 - 2)
    bounds.take(10, 10)
    bounds.end_pass_of_ties(1, passes=2, met=20)
    with pytest.raises(PagingError, match="hold still"):
        bounds.end_pass_of_ties(2, passes=2, met=20)
    bounds.end_pass_of_ties(2, passes=2, met=30)


def test_part_of_a_list_has_its_twenty_passes_however_little_of_it_is_known() -> None:
    bounds = Bounds()
    for number in range(1, MOST_PASSES):
        for _ in range(6):
            bounds.take(7, 7)
        bounds.end_pass_of_ties(6, passes=number, met=1)
    with pytest.raises(PagingError, match="hold still"):
        bounds.end_pass_of_ties(6, passes=MOST_PASSES, met=1)


@pytest.mark.parametrize(("met", "pages"), [(0, 2), (19, 3), (20, 4), (39, 5)])
def test_parts_are_too_dear_once_they_have_taken_ten_passes_over_as_many_pages_as_the_smallest_full_one_makes(
    met: int, pages: int
) -> None:
    bounds = Bounds()
    before: list[int] = [1, 2]  # the last page of another list
    for number, entries in enumerate((10, 30, 15, 5)):
        page = list(range(100 * number, 100 * number + entries))
        bounds.take(entries, entries)
        bounds.compare(number, page, before)
        before = page
    bounds.compare(4, [], before)
    bounds.pages = MOST_PASSES_IN_PARTS * pages
    assert not bounds.are_parts_too_dear(met)
    bounds.pages += 1
    assert bounds.are_parts_too_dear(met)
