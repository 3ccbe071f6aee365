"""What is set aside, as it may be kept: exactly what a mask takes away is gone, and the rest is as it was sent."""

import json
from dataclasses import replace

import pytest

from delta_mirror.core.erased import words_of
from delta_mirror.core.exact_json import Json, write_anyhow
from delta_mirror.core.keyed import Keyed
from delta_mirror.core.mask import Mask, Rules
from delta_mirror.core.masked_body import mask_body, mask_entry, mask_page, was_changed
from delta_mirror.core.model import Broken, Page, Record
from delta_mirror.jobs.masking import TERMS

KEY = Keyed("a key of tests")
MAIL = "jo@zebra.example"
MASK = Mask({"Client": {"Mail": "hash", "Notes": "drop"}}, TERMS, KEY)


def hashed(value: str | float) -> str:
    return KEY.digest("mask", value)


def kept(body: str, mask: Mask = MASK) -> str:
    return mask_body(mask, ["client"], body)


@pytest.mark.parametrize(
    ("sent", "left"),
    [
        ({"Mail": MAIL, "City": "X", "Notes": "n"}, {"Mail": hashed(MAIL), "City": "X"}),
        ({"Mail": None, "Notes": None, "City": 1, "mail": ""}, {"Mail": None, "Notes": None, "City": 1, "mail": ""}),
        ({"MAIL": 12}, {"MAIL": hashed(12)}),
        ({"Mail": True}, {"Mail": hashed(1)}),
        ({"Mail": {"b": [1], "a": None}}, {"Mail": hashed('{"a":null,"b":[1]}')}),
        ({"Mail": [1, "x"]}, {"Mail": hashed('[1,"x"]')}),
        ({"a": [1, {"Notes": "n", "b": [{"Mail": MAIL}]}, "x"]}, {"a": [1, {"b": [{"Mail": hashed(MAIL)}]}, "x"]}),
        ({"SnapshotData": '{"Mail": "' + MAIL + '"}', "Text": "no {"}, {"SnapshotData": {"Mail": hashed(MAIL)}, "Text": "no {"}),
        ({"SnapshotData": {"Notes": "n"}, "Text": "x"}, {"SnapshotData": {}, "Text": "x"}),
    ],
)
def test_members_are_masked_by_name_wherever_they_stand(sent: Json, left: Json) -> None:
    assert kept(json.dumps(sent)) == write_anyhow({"masked": left})


def test_key_that_stands_twice_is_masked_both_times() -> None:
    body = '{"Mail":"a","City":"X","Mail":"b","City":"Y"}'
    assert kept(body) == f'{{"masked":{{"City":"X","City":"Y","Mail":"{hashed("a")}","Mail":"{hashed("b")}"}}}}'
    body = '{"SnapshotData":"{\\"Notes\\":1}","City":"X","City":"Y"}'
    assert kept(body) == '{"masked":{"City":"X","City":"Y","SnapshotData":{}}}'


def test_number_of_many_digits_is_hashed_as_the_text_that_was_sent() -> None:
    digits = "12345678901234567890.5"
    assert kept(f'{{"Mail": {digits}}}') == f'{{"masked":{{"Mail":"{hashed(digits)}"}}}}'


@pytest.mark.parametrize(
    "body", ['{ "City" : "X" }', '{ "a": [ {"b": 1}, 2 ] }', '{ "SnapshotData": {"City": "X"} }', '{ "Mail": null }']
)
def test_body_in_which_nothing_is_masked_is_kept_to_the_letter(body: str) -> None:
    assert kept(body) is body


def test_half_of_a_surrogate_pair_keeps_nothing_from_being_masked() -> None:
    left, left_of_snapshot = '{"masked":{"City":"\\ud83d"}}', '{"masked":{"SnapshotData":{"City":"\\ud83d"}}}'
    body = '{"City":"\\ud83d","Notes":"n"}'
    assert kept(body) == left
    assert kept(json.dumps({"SnapshotData": body})) == left_of_snapshot
    for each in ('{"City":"\ud83d","Notes":"n"}', '{"SnapshotData":"{\\"City\\":\\"\\ud83d\\",\\"Notes\\":1}"}'):
        assert was_changed(kept(each)) == "masked"
        assert "Notes" not in kept(each)


def test_what_is_withheld_says_so_and_is_told_from_others() -> None:
    why = "[mirror.mask] takes columns of it away, and it cannot be read column by column"
    for body in ("no JSON", "[1]"):
        mark = KEY.digest("mask", "withheld", body)
        assert kept(body) == f'{{"withheld":"{why}","withheld_mark":"{mark}"}}'
    rules: Rules = {"Client": {"*": "drop"}}
    body, without_key = '{"City":"X"}', f'{{"withheld":"{why}"}}'
    mark = KEY.digest("mask", "withheld", body)
    assert kept(body, Mask(rules, TERMS, KEY)) == f'{{"withheld":"{why}","withheld_mark":"{mark}"}}'
    assert kept(body, Mask(rules, TERMS, None)) == without_key
    assert kept(without_key) is without_key


def test_entry_that_is_set_aside_without_an_id_is_asked_for_what_it_may_name_after_it_was_masked() -> None:
    body = f'{{"Mail":"{MAIL}","Key":"k1"}}'
    entry = mask_entry(MASK, "Client", Broken(None, None, body, "odd"))
    assert isinstance(entry, Broken)
    assert entry.words == words_of(body) >= {MAIL, "k1"}
    before = frozenset({"k2"})
    entry = mask_entry(MASK, "Client", Broken("c1", None, body, "odd", before))
    assert isinstance(entry, Broken)
    assert (entry.words, entry.id, entry.reason) == (before, "c1", "odd")


def test_page_is_masked_entry_by_entry_and_stays_the_page_that_it_was() -> None:
    record = Record("c1", None, None, deleted=False, root={"EntityId": "c1", "Mail": MAIL}, children={})
    broken = Broken("c2", None, f'{{"Notes":"{MAIL}"}}', "odd")
    page = Page([record, broken], [7, 8], None, 9, "reference")
    masked = mask_page(MASK, "Client", page)
    assert masked == Page(
        [replace(record, root={"EntityId": "c1", "Mail": hashed(MAIL)}), Broken("c2", None, '{"masked":{}}', "odd")],
        [7, 8],
        None,
        9,
        "reference",
    )
    assert mask_page(MASK, "Sale", page) == page
