"""Hashes under a key: one for what is equal, another for whatever differs, and nothing of the key to be seen."""

import hashlib
import hmac
import re
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from delta_mirror.core.keyed import LENGTH, Keyed
from delta_mirror.core.model import Value

KEYED = Keyed("an invented key")
VALUES = st.none() | st.integers() | st.floats(allow_nan=False) | st.text()


@given(st.lists(VALUES, max_size=4), st.lists(VALUES, max_size=4))
def test_lists_of_parts_have_one_hash_exactly_where_they_are_equal(
    one: Sequence[Value | None], other: Sequence[Value | None]
) -> None:
    assert (KEYED.digest("mask", *one) == KEYED.digest("mask", *other)) == (one == other)


def test_parts_cannot_run_into_each_other() -> None:
    lists: list[tuple[Value | None, ...]] = [("ab", "c"), ("a", "bc"), ("abc",), ("abc", ""), ("", "abc"), ("abc", None), ()]
    assert len({KEYED.digest("mask", *parts) for parts in lists}) == len(lists)


def test_text_that_looks_like_the_encoding_of_other_parts_is_told_from_them() -> None:
    assert KEYED.digest("mask", "a", "b") != KEYED.digest("mask", "as1:b")
    assert KEYED.digest("mask", "1:a") != KEYED.digest("mask", "", "a")


def test_equal_numbers_have_one_hash_and_the_same_digits_as_text_another() -> None:
    assert KEYED.digest("mask", 12) == KEYED.digest("mask", 12.0)
    assert KEYED.digest("mask", 0) == KEYED.digest("mask", -0.0)
    assert KEYED.digest("mask", 12) != KEYED.digest("mask", "12")
    assert KEYED.digest("mask", None) != KEYED.digest("mask", "")


def test_hash_of_one_purpose_is_none_of_another() -> None:
    assert KEYED.digest("mask", "a") != KEYED.digest("erased", "a")
    assert KEYED.digest("check") == KEYED.check()


def test_another_key_makes_other_hashes_and_another_check() -> None:
    other = Keyed("another invented key")
    assert KEYED.digest("mask", "a") != other.digest("mask", "a")
    assert KEYED.check() != other.check()
    assert KEYED.check() == Keyed("an invented key").check()


def test_half_of_a_surrogate_pair_is_hashed_as_any_other_character_and_may_stand_in_a_key() -> None:
    lone = ["\ud83d", "\ude00", "\ufffd", "?"]  # JSON can bring them; a key of the environment that is not UTF-8 has them
    assert len({KEYED.digest("mask", text) for text in lone}) == len(lone)
    assert len({Keyed(text).digest("mask", "a") for text in lone}) == len(lone)


def test_hash_is_hmac_sha256_of_kind_length_and_text_of_each_part() -> None:
    by_hand = hmac.new(b"an invented key", b"s6:eraseds6:Clienti2:11s2:\xc3\xa9n0:f4:-0.5", hashlib.sha256).hexdigest()
    assert KEYED.digest("erased", "Client", 11, "é", None, -0.5) == by_hand
    assert re.fullmatch("[0-9a-f]+", by_hand)
    assert len(by_hand) == LENGTH


def test_key_shows_itself_to_nobody() -> None:
    assert f"{KEYED!r} {KEYED} {[KEYED]}" == "*** *** [***]"
    assert not hasattr(KEYED, "__dict__")
