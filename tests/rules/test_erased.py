"""Who was erased, asked of hashes; and what a text may name."""

import json

import pytest

from delta_mirror.core.erased import Erased, hashes_of, mark_of, words_of
from delta_mirror.core.keyed import Keyed
from delta_mirror.core.model import Value

GUID = "0f8e4c1a-1111-4222-8333-abcdefabcdef"
KEYED = Keyed("an invented key of some length")
ERASED = Erased(KEYED, [mark_of(KEYED, 11, "Client", GUID), mark_of(KEYED, 0, "NexusClient", "EX 12/3")])


def test_person_is_found_under_tenant_entity_and_id_and_nobody_else_is() -> None:
    assert ERASED.find(11, "Client", GUID) == mark_of(KEYED, 11, "Client", GUID)
    others = [(12, "Client", GUID), (11, "Employee", GUID), (11, "Client", GUID.replace("0", "1")), (11, "Client", "")]
    assert [ERASED.find(*other) for other in others] == [None] * len(others)
    assert Erased(Keyed("another key"), [mark_of(KEYED, 11, "Client", GUID)]).find(11, "Client", GUID) is None


def test_guid_is_one_person_in_either_case_and_any_other_id_is_taken_to_the_letter() -> None:
    assert ERASED.find(11, "Client", GUID.upper()) is not None
    assert ERASED.find(0, "NexusClient", "ex 12/3") is None


def test_mark_shows_nothing_of_whom_it_marks() -> None:
    assert GUID not in mark_of(KEYED, 11, "Client", GUID)
    assert mark_of(KEYED, 11, "Client", "1") != mark_of(KEYED, 1, "Client", "11")


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"Client_T": {"Key": GUID}}),
        json.dumps({"Client_T": {"Key": GUID.upper()}}),
        '{"Client_T": {"Key": "' + GUID,  # cut off
        "<Client key='" + GUID + "'/>",
        '{"Key": {' + GUID + "}}",
        '"\\u0030' + GUID[1:] + '"',  # an escape where none is needed
    ],
)
def test_body_that_cannot_be_read_names_a_person_by_a_whole_word(body: str) -> None:
    assert ERASED.is_named_in(11, "Client", body)
    assert not ERASED.is_named_in(11, "Employee", body)


def test_id_with_blanks_is_a_word_between_quotes() -> None:
    assert ERASED.is_named_in(0, "NexusClient", '{"IntegrationId": "EX 12/3", "x": "\\"')
    assert not ERASED.is_named_in(0, "NexusClient", "EX 12/3")


def test_part_of_a_word_names_nobody() -> None:
    assert not ERASED.is_named_in(11, "Client", f'{{"Key": "{GUID}0", "x": "a{GUID}", "y": "{GUID[:-1]}"}}')
    assert "5" not in words_of('{"Amount": 42.5, "Year": 1975}')
    assert words_of('{"a": 5}') == {"a", "5"}


@pytest.mark.parametrize(
    ("id_", "forms"),
    [
        ("eX 1", ["eX 1", "ex 1", "EX 1"]),
        ("-12", ["-12", -12]),
        ("012", ["012", 12]),
        ("9" * 18, ["9" * 18, int("9" * 18)]),
        ("9" * 19, ["9" * 19]),
        ("1.0", ["1.0"]),
    ],
)
def test_mask_may_have_left_the_hash_of_an_id_in_each_form_in_which_one_is_sent(id_: str, forms: list[Value]) -> None:
    assert hashes_of(KEYED, id_) == {KEYED.digest("mask", form) for form in forms}


def test_word_of_512_characters_may_be_an_id_and_a_longer_one_is_none() -> None:
    longest, longer = "x" * 512, "y" * 513
    assert words_of(f"{longest} {longer}") == {longest}
    assert words_of(f'{{"": "a {longest[2:]}", "": "b {longer[2:]}"}}') == {
        "",
        f"a {longest[2:]}",
        "a",
        "b",
        longest[2:],
        longer[2:],
    }


def test_picture_is_no_word() -> None:
    assert words_of(json.dumps({"Image": "x" * 100_000})) == {"Image"}
