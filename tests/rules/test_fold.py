"""What messages give is the same in whatever order they come."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from delta_mirror.core.fold import Held, Statement, order_key, ticks_of, without_digest
from delta_mirror.core.model import Value

Told = tuple[bool, dict[str, Value | None]]


def in_order(statements: list[Statement]) -> tuple[bool, dict[str, Value]]:
    """Return what the statements give when they are simply applied one after the other."""
    there, values = False, dict[str, Value]()
    for said in sorted(statements, key=lambda each: each.order):
        there = not said.removes
        if said.removes:
            values = {}
        else:
            for column, value in said.values.items():
                values.pop(column, None)
                if value is not None:
                    assert not isinstance(value, list)
                    values[column] = value
    return there, values


told = st.lists(
    st.tuples(st.booleans(), st.dictionaries(st.sampled_from("abcd"), st.none() | st.integers(0, 3), max_size=4)), max_size=8
)


@given(told=told, order=st.randoms(use_true_random=False), again=st.lists(st.integers(0, 7), max_size=6))
def test_any_order_with_any_repetitions_gives_what_the_right_order_gives(
    told: list[Told], order: Random, again: list[int]
) -> None:
    statements = [Statement(order_key(n, 1, None, "00"), removes, values) for n, (removes, values) in enumerate(told)]
    arriving = statements + [statements[n] for n in again if n < len(statements)]
    order.shuffle(arriving)
    held = Held()
    for said in arriving:
        held.take(said)
    assert (held.is_there, held.values) == in_order(statements)


def test_what_is_taken_again_changes_nothing_and_says_so() -> None:
    held = Held()
    said = Statement(order_key(1, 1, None, "00"), False, {"a": 1, "b": None})
    assert held.take(said)
    assert not held.take(said)


def test_what_is_taken_again_behind_something_newer_changes_nothing_and_says_so() -> None:
    held = Held()
    removal, older, newer = Statement("1", True, {}), Statement("2", False, {"a": 1}), Statement("3", False, {"b": 1})
    assert [held.take(said) for said in (removal, older, newer)] == [True, True, True]
    assert [held.take(said) for said in (removal, older, newer)] == [False, False, False]
    assert (held.is_there, held.values) == (True, {"a": 1, "b": 1})


def test_a_column_that_was_emptied_is_not_filled_by_an_older_message() -> None:
    held = Held()
    held.take(Statement("2", False, {"a": None}))
    held.take(Statement("1", False, {"a": "old", "b": "kept"}))
    assert held.values == {"b": "kept"}


def test_after_a_removal_a_later_message_starts_from_nothing_even_if_the_removal_comes_last() -> None:
    held = Held()
    held.take(Statement("1", False, {"a": "old", "b": "old"}))
    held.take(Statement("3", False, {"b": "new"}))
    held.take(Statement("2", True, {"a": "old", "b": "old"}))
    assert held.is_there
    assert held.values == {"b": "new"}


def test_keys_put_messages_in_order_of_time_kind_number_and_digest() -> None:
    keys = [
        order_key(5, 2, 9, "ff"),
        order_key(6, 0, None, "aa"),
        order_key(6, 0, None, "bb"),
        order_key(6, 0, 0, "00"),
        order_key(6, 0, 2, "00"),
        order_key(6, 0, 10, "00"),
        order_key(6, 1, None, "00"),
        order_key(6, 2, None, "00"),
        order_key(7, 0, None, "00"),
        order_key(10, 0, None, "00"),
    ]
    assert keys == sorted(keys)
    assert ticks_of(keys[0]) == 5


def test_key_without_its_digest_is_the_last_of_its_moment_rank_and_number() -> None:
    assert without_digest(order_key(6, 1, 2, "0a1b")) == order_key(6, 1, 2, "ffff")
    assert without_digest(order_key(6, 1, None, "ff")) == order_key(6, 1, None, "ff")
    assert without_digest("") == ""


def test_key_is_written_as_mirrors_hold_it_already() -> None:
    assert order_key(6, 1, None, "ab") == "0000000000000000006" + "1" + "00000000000000000000" + "ab"
    assert order_key(6, 1, 0, "ab") == "0000000000000000006" + "1" + "00000000000000000001" + "ab"
