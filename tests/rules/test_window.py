"""How far back a drain starts, and when that leaves a gap."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from delta_mirror.core.values import DAY, HOUR, MINUTE, SECOND, read_ticks
from delta_mirror.core.window import Window, open_window

OVERLAP = 10 * MINUTE
REACH = 6 * DAY + 23 * HOUR + 50 * MINUTE


def at(text: str) -> int:
    ticks = read_ticks(text)
    assert ticks is not None
    return ticks


NOON = at("2026-05-04T12:00:00Z")


def window(
    now: int = NOON,
    *,
    watermark: int | None = None,
    caught_up: int | None = None,
    since: int | None = None,
    overlap: int = OVERLAP,
    first_window: int = REACH,
    offset_known: bool = True,
) -> Window:
    return open_window(
        now=now,
        overlap=overlap,
        first_window=first_window,
        watermark=watermark,
        caught_up=caught_up,
        since=since,
        offset_known=offset_known,
    )


def back(opened: Window) -> int:
    """Return how far before noon the window starts."""
    return NOON - opened.start


@pytest.mark.parametrize(
    ("watermark", "caught_up", "expected"),
    [
        # The earlier of the two, less the overlap.
        (NOON - HOUR, NOON - HOUR, HOUR + OVERLAP),
        (NOON - 2 * HOUR, NOON - HOUR, 2 * HOUR + OVERLAP),
        (NOON - HOUR, NOON - 2 * HOUR, 2 * HOUR + OVERLAP),
        # Of a record dated a month ahead, and of a stream without a change date yet.
        (NOON + 30 * DAY, NOON - HOUR, HOUR + OVERLAP),
        (None, NOON - HOUR, HOUR + OVERLAP),
        # A quiet stream's watermark grows old; it is not read again from there.
        (NOON - 5 * DAY, NOON - HOUR, HOUR + DAY),
        (NOON - 90 * DAY, NOON - HOUR, HOUR + DAY),
        (NOON - 5 * DAY, NOON, DAY),
        # Never further than the feed reaches.
        (NOON - 6 * DAY, NOON - 6 * DAY, REACH),
        (NOON - 60 * DAY, NOON - 60 * DAY, REACH),
        # A starter leaves a watermark without a first drain, and one with both.
        (NOON - DAY, None, DAY + OVERLAP),
        (NOON - 8 * DAY, None, REACH),
        (NOON - 2 * DAY, NOON - 2 * DAY, 3 * DAY),
    ],
)
def test_drain_starts_behind_what_is_known(watermark: int | None, caught_up: int | None, expected: int) -> None:
    assert back(window(watermark=watermark, caught_up=caught_up)) == expected


@pytest.mark.parametrize(("first_window", "expected"), [(HOUR, HOUR), (3 * DAY, 3 * DAY), (7 * DAY, REACH), (30 * DAY, REACH)])
def test_stream_that_was_never_drained_starts_at_the_first_window(first_window: int, expected: int) -> None:
    opened = window(first_window=first_window)
    assert back(opened) == expected
    assert opened.gap is None


def test_first_drain_of_each_day_starts_a_day_behind() -> None:
    midnight = at("2026-05-04T00:00:00Z")
    before, after = midnight - 5 * MINUTE, midnight + 5 * MINUTE
    assert window(after, watermark=before, caught_up=before).start == before - DAY
    assert window(after + HOUR, watermark=after, caught_up=after).start == after - OVERLAP


def test_deep_start_does_not_move_what_counts_as_late() -> None:
    midnight = at("2026-05-04T00:00:00Z")
    before = midnight - 5 * MINUTE
    opened = window(midnight + 5 * MINUTE, watermark=before, caught_up=before)
    assert opened.usual == before - OVERLAP
    assert opened.start < opened.usual


@pytest.mark.parametrize(
    ("watermark", "expected"),
    [
        (NOON - 2 * HOUR, 2 * HOUR + OVERLAP),
        (NOON - 3 * DAY, 4 * DAY),  # as the first drain of a day
        # Read from as far back as the feed reaches, and not called a gap: a quiet stream's watermark grows old.
        (NOON - 30 * DAY, REACH),
        (None, REACH),
        (NOON + 30 * DAY, OVERLAP),
    ],
)
def test_drain_goes_by_the_watermark_alone_where_a_clock_that_was_ahead_has_noted_the_last_one(
    watermark: int | None, expected: int
) -> None:
    for ahead in (1, HOUR, 3 * DAY, 400 * DAY):
        opened = window(watermark=watermark, caught_up=NOON + ahead)
        assert (back(opened), opened.gap) == (expected, None)


def test_overlap_wider_than_a_day_is_cut_to_a_day_behind() -> None:
    assert back(window(watermark=NOON - HOUR, caught_up=NOON - HOUR, overlap=30 * HOUR)) == HOUR + DAY


def test_start_is_the_whole_minute_before() -> None:
    known = NOON - HOUR + 59 * SECOND + 9_999_999
    assert back(window(watermark=known, caught_up=known)) == HOUR + OVERLAP


def test_limit_is_the_whole_minute_after() -> None:
    assert window(NOON + 1, watermark=NOON - 9 * DAY, caught_up=NOON - 9 * DAY).start == NOON - REACH + MINUTE


def test_drain_starts_twelve_hours_earlier_until_an_offset_was_seen() -> None:
    assert back(window(watermark=NOON - HOUR, caught_up=NOON - HOUR, offset_known=False)) == HOUR + OVERLAP + 12 * HOUR
    assert back(window(offset_known=False)) == REACH


def test_operator_is_followed_to_the_letter() -> None:
    since = NOON - 40 * DAY + 17
    opened = window(watermark=NOON - HOUR, caught_up=NOON - HOUR, since=since)
    assert opened.start == since
    assert opened.gap is None
    assert opened.usual == NOON - HOUR - OVERLAP
    assert opened.limit == NOON - REACH


@pytest.mark.parametrize(
    ("caught_up", "leaves_gap"),
    [
        (NOON - HOUR, False),
        (NOON - 6 * DAY, False),
        (NOON - REACH + OVERLAP, False),
        (NOON - REACH + OVERLAP - 1, True),
        (NOON - 8 * DAY, True),
        (None, False),
    ],
)
def test_gap_is_where_the_feed_cannot_be_asked_any_more(caught_up: int | None, leaves_gap: bool) -> None:
    opened = window(watermark=caught_up, caught_up=caught_up)
    assert (opened.gap is not None) is leaves_gap
    if opened.gap is not None and caught_up is not None:
        assert opened.gap == (caught_up, opened.start)


def test_quiet_stream_is_no_gap() -> None:
    assert window(watermark=NOON - 300 * DAY, caught_up=NOON - HOUR).gap is None


TICKS = st.integers(NOON - 20 * DAY, NOON + 20 * DAY)
MAYBE = st.none() | TICKS


@given(
    now=st.integers(NOON, NOON + DAY),
    watermark=MAYBE,
    caught_up=MAYBE,
    overlap=st.integers(0, DAY),
    first_window=st.integers(MINUTE, 7 * DAY),
    offset_known=st.booleans(),
)
def test_start_keeps_its_promises_whatever_is_known(
    now: int, watermark: int | None, caught_up: int | None, overlap: int, first_window: int, offset_known: bool
) -> None:
    assume(caught_up is None or caught_up <= now)
    opened = window(
        now,
        watermark=watermark,
        caught_up=caught_up,
        overlap=overlap,
        first_window=first_window,
        offset_known=offset_known,
    )
    assert opened.start % MINUTE == 0
    assert now - REACH <= opened.start
    assert opened.limit <= opened.start <= opened.usual
    if caught_up is not None:
        assert opened.start <= max(caught_up - overlap, opened.limit)
        if caught_up // DAY < now // DAY:
            assert opened.start <= max(caught_up - DAY, opened.limit)
        assert (opened.gap is not None) == (caught_up - overlap < now - REACH)
        if opened.gap is None and watermark is not None and watermark >= caught_up - DAY:
            assert opened.start <= max(watermark - overlap, caught_up - DAY, opened.limit)
    if opened.gap is not None:
        gap_from, gap_to = opened.gap
        assert gap_from == caught_up
        assert gap_to == opened.start


@given(now=TICKS, since=TICKS, watermark=MAYBE, caught_up=MAYBE)
def test_wish_of_the_operator_is_followed_whatever_is_known(
    now: int, since: int, watermark: int | None, caught_up: int | None
) -> None:
    opened = window(now, since=since, watermark=watermark, caught_up=caught_up)
    assert (opened.start, opened.gap) == (since, None)
