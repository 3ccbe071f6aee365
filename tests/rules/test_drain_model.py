"""The drain as a state machine: whatever the service is like and whatever happens between two calls, nothing is lost.

All dials of the service are drawn together. Its records change, tie, arrive late, go and come back between any two calls, and
the process dies at any of them. `DELTA_MIRROR_LONG=1` looks at some thousand worlds instead of some dozen.
"""

import json
import os
import random
from typing import Literal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from delta_mirror.core.bounds import MOST_PASSES
from delta_mirror.core.debt import DEBT_RUNS
from delta_mirror.core.paging import Walk
from rules.feed_model import DAYS, HOURS, MINUTES, NOON, TICKS, Dials, Feed, Order
from rules.stream_model import FollowedStream

LONG = bool(os.environ.get("DELTA_MIRROR_LONG"))
MACHINE = settings(
    max_examples=4_000 if LONG else 100,
    stateful_step_count=60 if LONG else 30,
    deadline=None,
    derandomize=not LONG,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
TABLE = settings(max_examples=1_000 if LONG else 40, deadline=None, derandomize=not LONG, print_blob=True)

ORDERS: list[Order] = [
    "ascending",
    "ties shuffled",
    "descending",
    "by id",
    "shuffled once",
    "shuffled",
    "ascending but for one",
    "ascending but for one inside",
]
LATEST = 9 * MINUTES + 30 * TICKS  # within the overlap of ten minutes
# Calls more, once in the life of a stream: two to compare the first pages of a service that counts from 1, and so many to read a
# list of so few records again, until it is no chance that their page comes twice.
COMPARED = 2
READ_AGAIN = {1: 15, 2: 3}
HANDFUL = 7  # calls; what a drain of n records may cost beside n/(size - 1), for a page of 20 and more
QUIET = 3  # calls that a quiet stream costs, beside one for each full page that is read again
TIMES = st.sampled_from([1, 3, 1_000, 33_333, TICKS // 3, TICKS, 20 * TICKS, 5 * MINUTES, 15 * MINUTES, HOURS, 26 * HOURS])
IDS = st.integers(0, 59).map("r{}".format)
SIZES = st.one_of(st.sampled_from([20, 50, 200, 7, 5, 3, 2, 1]), st.integers(1, 200))


@st.composite
def services(draw: st.DrawFn) -> tuple[Dials, int]:
    """Draw a service, and how large a page is asked of it."""
    order = draw(st.sampled_from(ORDERS))
    size = draw(SIZES)
    clamps = draw(st.booleans())
    dated: Literal["all", "some", "none"] = draw(st.sampled_from(["all", "all", "all", "all", "some", "none"]))
    dials = Dials(
        clamp=size if clamps else 200,
        inclusive=draw(st.booleans()),
        precision=draw(st.sampled_from([1, 10_000, 33_333, TICKS, MINUTES])),
        rounding=draw(st.sampled_from(["down", "nearest", "up"])),
        ignores_offset=draw(st.booleans()),
        offset_minutes=draw(st.sampled_from([0, -300, 330])),
        writes_z=draw(st.booleans()),
        order=order,
        page_base=draw(st.sampled_from([0, 1])),
        short_pages=draw(st.sampled_from(["none", "none", "none", "odd", "even"])),
        per_change=dated == "all" and draw(st.booleans()),
        lag=draw(st.sampled_from([0, 5 * MINUTES])),
        shows_old_version=draw(st.booleans()),
        names_last_change=draw(st.booleans()),
        dated=dated,
    )
    return dials, 200 if clamps else size


class AnyFeed(RuleBasedStateMachine):
    """A service of any kind, and one stream of it that is followed."""

    @initialize(service=services(), records=st.integers(0, 120), seed=st.integers(0, 1 << 32))
    def begin(self, service: tuple[Dials, int], records: int, seed: int) -> None:
        dials, size = service
        rng = random.Random(seed)
        self.feed = Feed(dials, NOON, rng)
        self.stream = FollowedStream(self.feed, size)
        self.before = self.stream.kept
        self.dated_before: dict[str, int | None] = {}
        self.future = 0
        for number in range(records):
            self.feed.change(f"r{number}")
            self.feed.now += rng.choice([0, 0, 1, 3, 1_000, TICKS, 30 * TICKS])

    # The world

    @rule(id_=IDS)
    def record_changes(self, id_: str) -> None:
        self.feed.change(id_)

    @rule(first=st.integers(0, 59), count=st.integers(2, 40))
    def many_change_at_one_date(self, first: int, count: int) -> None:
        for number in range(first, first + count):
            self.feed.change(f"r{number % 70}")

    @rule(id_=IDS, late=st.integers(1, LATEST))
    def change_arrives_late(self, id_: str, late: int) -> None:
        self.feed.change(id_, late=late)

    @rule(id_=IDS)
    def record_is_deleted(self, id_: str) -> None:
        self.feed.change(id_, deleted=True)

    @rule(days=st.integers(28, 31))
    def record_comes_that_is_dated_a_month_ahead(self, days: int) -> None:
        self.future += 1
        self.feed.change(f"f{self.future}", ticks=self.feed.now + days * DAYS)

    @rule(ticks=TIMES)
    def time_passes(self, ticks: int) -> None:
        if self.feed.now + ticks < (self.stream.kept.caught_up or NOON) + 6 * DAYS:
            self.feed.now += ticks

    # The program

    @rule(calls=st.integers(1, 6), ticks=st.sampled_from([0, 1_000, TICKS // 3, 5 * TICKS]))
    def calls_are_made(self, calls: int, ticks: int) -> None:
        for _ in range(calls):
            self.feed.now += ticks
            going_on = self.stream.step()
            self.watch()
            if not going_on:
                break

    @rule(
        calls=st.integers(1, 25),
        ids=st.lists(IDS, min_size=1, max_size=4),
        late=st.sampled_from([0, 0, 90 * TICKS]),
        ticks=st.sampled_from([1, 1_000, TICKS]),
    )
    def something_changes_before_every_call(self, calls: int, ids: list[str], late: int, ticks: int) -> None:
        for number in range(calls):
            self.feed.change(ids[number % len(ids)], late=late)
            self.feed.now += ticks
            going_on = self.stream.step()
            self.watch()
            if not going_on:
                break

    @rule()
    def drain_runs_to_its_end(self) -> None:
        self.stream.run()
        self.watch()

    @rule()
    def process_dies(self) -> None:
        self.stream.die()

    @precondition(lambda self: self.stream.walk is not None and self.stream.walk.request is not None)
    @rule()
    def process_dies_before_the_page_is_committed(self) -> None:
        self.stream.step(commits=False)

    # What is promised

    @invariant()
    def watch(self) -> None:
        before, kept = self.before, self.stream.kept
        self.before = kept
        if before.watermark is not None:
            assert kept.watermark is not None
            assert kept.watermark >= before.watermark, "the watermark went back"
        if kept.watermark is not None:
            assert kept.watermark <= self.feed.now, "the watermark lies ahead of the service's clock"
        dated = {id_: held.changed for id_, held in self.stream.held.items()}
        for id_, ticks in self.dated_before.items():
            now = dated[id_]
            assert ticks is None or (now is not None and now >= ticks), "a version was overwritten by an older one"
        self.dated_before = dated
        self.watch_place()
        if kept is not before:
            self.watch_claim()

    def watch_place(self) -> None:
        """See that the place is JSON, and that a walk resumed from it has all that it says."""
        place = json.loads(self.stream.kept.place)
        if place is None or self.stream.walk is None:
            return
        resumed = Walk.resume(place, size=self.stream.size, count_known=self.stream.count_known)
        stands = resumed.place()
        moved = {"mode", "anchor", "page", "reached"}
        assert {key: value for key, value in stands.items() if key not in moved} == {
            key: value for key, value in place.items() if key not in moved
        }
        assert list(stands["reached"] or []) == (place["reached"] or [])

    def watch_claim(self) -> None:
        """See that all is held up to the watermark, less the time in which a change may arrive late.

        Where one record stands among much younger ones, and another is off the list because its change is on its way, the list
        is as long as it should be, and its end as it should be: until that change shows, only reading all pages could tell.
        """
        kept = self.stream.kept
        if kept.watermark is None or kept.caught_up is None or self.feed.dials.order == "ascending but for one inside":
            return
        claimed = min(kept.watermark, kept.caught_up) - self.stream.overlap
        state, truth = self.stream.state(), self.stream.truth()
        for id_, version in self.feed.truth().items():
            assert version.ticks > claimed or state.get(id_) == truth[id_], "the watermark passed something by"

    def teardown(self) -> None:
        """Let the service go quiet and visible: two runs make the mirror exact."""
        if not hasattr(self, "stream"):
            return
        self.feed.now += 20 * MINUTES
        for _ in range(2):
            self.run_watched()
        assert self.stream.state() == self.stream.truth(), "something was lost"

    def run_watched(self) -> None:
        """Run to the end, and see that it takes no more calls than promised."""
        walk = self.stream.walk or self.stream.begin()
        drains = 1 + self.stream.resumed  # a drain that goes on is followed by another one
        starts = [walk.place()["start"], *(json.loads(self.stream.kept.debt) or {"starts": []})["starts"]]
        visible = self.feed.visible()
        calls = self.stream.run()
        self.watch()
        assert self.stream.window is not None
        starts.append(self.stream.window.start)  # the drain that followed may begin further back
        length = sum(version.ticks >= min(starts) for version in visible)
        self.feed.now += 15 * MINUTES
        assert calls <= drains * most_calls(self.feed.dials, self.stream.size, length), f"{calls} calls for {length} entries"


def most_calls(dials: Dials, size: int, length: int) -> int:
    """Return how many calls a drain of a list of so many entries may take in any world: twenty passes."""
    page = min(size, dials.clamp)
    if dials.short_pages != "none":
        page = (page + 1) // 2
    # Counted from 1, the first page comes twice in each of them.
    return MOST_PASSES * (length // page + 2 + dials.page_base)


def test_nothing_is_lost_whatever_happens_between_any_two_calls() -> None:
    run_state_machine_as_test(AnyFeed, settings=MACHINE)


# What it costs, in worlds that stand still.


@st.composite
def ordered_services(draw: st.DrawFn) -> tuple[Dials, int]:
    """Draw a service that sends its records in order, none twice, in pages of a usual size."""
    size = draw(st.integers(20, 200))
    clamps = draw(st.booleans())
    dials = Dials(
        clamp=size if clamps else 200,
        inclusive=draw(st.booleans()),
        precision=draw(st.sampled_from([1, 10_000, 31_250])),  # as 1/300 s does, each divides a minute: a start is read as meant
        rounding=draw(st.sampled_from(["down", "nearest", "up"])),
        ignores_offset=draw(st.booleans()),
        offset_minutes=draw(st.sampled_from([0, -300, 330])),
        page_base=draw(st.sampled_from([0, 1])),
        lag=draw(st.sampled_from([0, 5 * MINUTES])),
        names_last_change=draw(st.booleans()),
    )
    return dials, 200 if clamps else size


@TABLE
@given(service=ordered_services(), records=st.integers(0, 800), gap=st.sampled_from([TICKS // 3, TICKS + 7, 10 * TICKS + 7]))
def test_ordered_drain_takes_a_call_for_each_page_and_a_handful(service: tuple[Dials, int], records: int, gap: int) -> None:
    dials, size = service
    feed = Feed(dials)
    for number in range(records):
        feed.change(f"r{number}")
        feed.now += gap
    feed.now += 10 * MINUTES
    stream = FollowedStream(feed, size)
    # A service that rounds StartDate up makes each page begin a second earlier, and bring what lies there once more.
    net = min(size, dials.clamp) - 1 - (0 if dials.precision == 1 or dials.rounding == "down" else TICKS // gap + 1)

    assert stream.run() <= records // net + HANDFUL + (READ_AGAIN.get(records, COMPARED) if dials.page_base else 0)
    assert stream.state() == stream.truth()
    for _ in range(DEBT_RUNS + 2):
        feed.now += 15 * MINUTES
        start = stream.begin().place()["start"]
        again = sum(version.ticks >= start for version in feed.visible())
        assert stream.run() <= QUIET + again // net
    assert stream.state() == stream.truth()


def test_stream_that_never_had_a_record_costs_one_call_a_run() -> None:
    stream = FollowedStream(Feed())
    for _ in range(3):
        assert stream.run() == 1
        stream.feed.now += 15 * MINUTES
