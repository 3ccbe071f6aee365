"""What is in hand between the broker and the mirror: how much of it, when a batch is ripe, when there is an end."""

from itertools import count
from threading import Timer

import pytest

from delta_mirror.jobs import inhand
from delta_mirror.jobs.inhand import LINGER, LONGEST_QUESTION, MOST, MOST_BYTES, InHand
from delta_mirror.nexus.broker import Locked
from delta_mirror.nexus.delivery import Delivery

NUMBERS = count(1)


class Time:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def time() -> Time:
    return Time()


def message(size: int = 2, seconds: float = 60.0) -> Locked:
    number = next(NUMBERS)
    return Locked(Delivery(b"x" * size, f"m{number}", number), f"/messages/{number}/lock", seconds, 1, is_dead=False)


def store(hand: InHand) -> list[Locked]:
    """Return the next batch, stored; nothing of it is settled."""
    batch = hand.batch(lambda: True)
    hand.stored()
    return batch


def grow(hand: InHand) -> None:
    """Let as many be in hand as ever may, none of them."""
    for _ in range(12):
        assert hand.ask() is not None
        hand.came(message())
        [each] = hand.batch(lambda: False)
        hand.stored()
        hand.settled(each)


def test_one_message_is_taken_until_the_mirror_has_shown_that_it_stores(time: Time) -> None:
    hand = InHand(0.0, None, time)
    taken: list[Locked] = []
    for limit in (1, 2, 4, 8):
        for _ in range(limit - len(taken)):
            assert hand.ask() == 0
            hand.came(message())
        batch = hand.batch(lambda: True)  # ripe at once: nothing more can come before it is stored
        taken += batch
        assert len(taken) == limit
        hand.stored()
    for each in taken:
        hand.settled(each)
    assert hand.ask() == 0


def test_never_more_than_most_are_in_hand(time: Time) -> None:
    hand = InHand(0.0, None, time)
    grow(hand)
    for _ in range(MOST):
        assert hand.ask() == 0
        hand.came(message())
    assert len(hand.batch(lambda: True)) == MOST  # ripe although no time has passed: there is no room for another one


def test_large_messages_leave_room_for_fewer(time: Time) -> None:
    hand = InHand(30.0, None, time)
    grow(hand)
    for size in (MOST_BYTES // 2, MOST_BYTES // 2):
        assert hand.ask() == 30
        hand.came(message(size))
    shutting = Timer(0.05, hand.shut)
    shutting.start()
    assert hand.ask() is None  # waited, until it was shut: there was no room
    shutting.join()


def test_settling_a_large_message_makes_room_again(time: Time) -> None:
    hand = InHand(30.0, None, time)
    grow(hand)
    assert hand.ask() == 30
    hand.came(message(MOST_BYTES))
    [large] = hand.batch(lambda: False)
    settling = Timer(0.05, hand.settled, [large])
    settling.start()
    assert hand.ask() == 30
    settling.join()


def grow_once(hand: InHand) -> None:
    assert hand.ask() is not None
    hand.came(message())
    [first] = store(hand)
    hand.settled(first)


def test_a_batch_grows_for_a_moment_and_no_longer(time: Time) -> None:
    hand = InHand(30.0, None, time)
    grow(hand)
    assert hand.ask()
    assert hand.ask()
    hand.came(message())
    looks = []

    def look() -> bool:
        looks.append(time.seconds)
        time.seconds += LINGER * 0.6
        return True

    assert len(hand.batch(look)) == 1
    assert len(looks) == 2


def test_it_ends_when_nothing_has_come_for_as_long_as_was_asked(time: Time) -> None:
    hand = InHand(20.0, None, time)
    assert hand.ask() == 20
    time.seconds += 12.5
    hand.came_up_empty()  # sooner than it was asked to be
    assert hand.ask() == 8
    time.seconds += 8
    hand.came_up_empty()
    assert hand.ask() is None
    assert hand.batch(lambda: True) == []


def test_what_comes_makes_the_wait_begin_anew(time: Time) -> None:
    hand = InHand(20.0, None, time)
    assert hand.ask() == 20
    time.seconds += 19
    hand.came(message())
    [first] = store(hand)
    hand.settled(first)
    assert hand.ask() == 20


def test_a_time_in_which_nobody_asked_is_not_counted_as_quiet(time: Time) -> None:
    hand = InHand(20.0, None, time)
    assert hand.ask() == 20
    hand.came(message())
    [first] = hand.batch(lambda: True)
    time.seconds += 300  # a slow disk
    hand.stored()
    hand.settled(first)
    assert hand.ask() == 20


def test_it_does_not_end_while_somebody_still_asks(time: Time) -> None:
    hand = InHand(0.0, None, time)
    grow(hand)
    assert hand.ask() == 0
    assert hand.ask() == 0
    hand.came_up_empty()
    hand.came(message())  # the other one was luckier
    assert len(hand.batch(lambda: False)) == 1
    assert hand.ask() == 0


def test_long_waits_are_asked_for_in_pieces(time: Time) -> None:
    hand = InHand(100.0, None, time)
    asked = []
    while (seconds := hand.ask()) is not None:
        asked.append(seconds)
        time.seconds += seconds
        hand.came_up_empty()
    assert asked == [LONGEST_QUESTION] * 3 + [10]


def test_no_more_are_asked_for_than_are_wanted(time: Time) -> None:
    hand = InHand(30.0, 3, time)
    grow_once(hand)
    assert hand.ask() == 30
    assert hand.ask() == 30
    hand.came(message())
    hand.came(message())
    assert hand.ask() is None
    assert len(hand.batch(lambda: True)) == 2
    assert hand.batch(lambda: True) == []


def test_a_question_that_came_up_empty_makes_room_for_another_one(time: Time) -> None:
    hand = InHand(30.0, 1, time)
    assert hand.ask() == 30
    time.seconds += 5
    hand.came_up_empty()
    assert hand.ask() == 25
    hand.came(message())
    assert hand.ask() is None


def test_whoever_is_in_a_hurry_gets_what_has_come_and_waits_for_nothing(time: Time) -> None:
    hand = InHand(30.0, None, time)
    grow(hand)
    assert hand.ask()
    assert hand.ask()
    hand.came(message())
    assert len(hand.batch(lambda: False)) == 1
    assert hand.batch(lambda: False) == []
    hand.came(message())  # what was asked for comes all the same, and has to be given back
    assert len(hand.rest()) == 1
    assert hand.rest() == []


def test_a_lock_is_to_be_renewed_after_half_its_time_and_again_after_half_of_the_next(time: Time) -> None:
    hand = InHand(30.0, None, time)
    grow(hand)
    assert hand.ask()
    long, short = message(seconds=60.0), message(seconds=10.0)
    hand.came(long)
    assert hand.ask()
    hand.came(short)
    time.seconds += 5
    assert hand.due() == [short]
    assert hand.due() == []  # under way
    hand.renewed(short, 10.0)
    time.seconds += 5
    assert hand.due() == [short]
    time.seconds += 20
    assert hand.due() == [long]


def test_what_is_settled_is_renewed_no_more(time: Time) -> None:
    hand = InHand(30.0, None, time)
    assert hand.ask()
    only = message()
    hand.came(only)
    hand.settled(only)
    hand.renewed(only, 60.0)
    time.seconds += 600
    assert hand.due() == []


def test_the_longest_linger_is_far_below_the_shortest_lock() -> None:
    assert inhand.LINGER < 5.0 / 10  # seconds; a broker locks for five at least
