"""A source that cannot tell the empty string from NULL takes none away, and changes nothing else."""

from collections.abc import Mapping, Sequence

import pytest

from delta_mirror.core.blanks import with_blanks_of
from delta_mirror.core.model import Child, Record, Row
from delta_mirror.core.plan import find_differences

ID = "00000000-0000-4000-8000-000000000001"
PHONES = frozenset({"Phone"})


def record(root: Row, children: Mapping[str, Sequence[Child]] | None = None) -> Record:
    return Record(ID, None, None, False, {"EntityId": ID, **root}, children or {})


def rows(*listed: Row) -> list[Child]:
    return [Child(row, None) for row in listed]


HELD = record(
    {"Name": "Ann", "Note": ""}, {"Phone": rows({"Number": "1", "Text": ""}, {"Number": "2"}), "Card": rows({"No": ""})}
)
SENT = record({"Name": "Ann"}, {"Phone": rows({"Number": "2"}, {"Number": "1"}), "Card": rows({})})


@pytest.mark.parametrize(
    ("root", "tables", "differ"),
    [
        (True, frozenset({"Phone", "Card"}), []),
        (True, PHONES, ["Card"]),
        (False, frozenset({"Phone", "Card"}), ["Note"]),
        (True, frozenset(), ["Phone", "Card"]),
        (False, frozenset(), ["Note", "Phone", "Card"]),
    ],
)
def test_empty_string_is_held_back_only_where_the_source_cannot_tell_it(
    root: bool, tables: frozenset[str], differ: list[str]
) -> None:
    assert list(find_differences(HELD, with_blanks_of(HELD, SENT, root, tables))) == differ


def test_record_that_is_otherwise_alike_comes_back_as_held() -> None:
    found = with_blanks_of(HELD, SENT, True, frozenset({"Phone", "Card"}))
    assert (found.root, found.children) == (HELD.root, HELD.children)


def test_what_else_differs_counts_beside_empty_strings() -> None:
    sent = record({"Name": "Bea", "Town": "Ulm"}, {"Phone": rows({"Number": "3"}, {"Number": "1"}), "Mail": rows({"At": "x"})})
    found = with_blanks_of(HELD, sent, True, PHONES | {"Mail"})
    assert found.root == {"EntityId": ID, "Name": "Bea", "Town": "Ulm", "Note": ""}
    assert found.children == {"Phone": rows({"Number": "3"}, {"Number": "1", "Text": ""}), "Mail": rows({"At": "x"})}


def test_empty_string_of_the_source_itself_and_what_now_stands_in_its_place_count() -> None:
    sent = record({"Name": "", "Note": "new"}, {"Phone": rows({"Number": "1", "Text": "new"})})
    found = with_blanks_of(HELD, sent, True, PHONES)
    assert found.root == {"EntityId": ID, "Name": "", "Note": "new"}
    assert found.children == {"Phone": rows({"Number": "1", "Text": "new"})}


def test_each_row_that_is_held_gives_its_empty_strings_once() -> None:
    held = record({}, {"Phone": rows({"Number": "1", "Text": ""}, {"Number": "1"}, {"Number": "2", "Text": ""})})
    sent = record({"Name": "Ann"}, {"Phone": rows({"Number": "1"}, {"Number": "1"}, {"Number": "1"}, {"Number": "2"})})
    found = with_blanks_of(held, sent, False, PHONES)
    assert found.children == {
        "Phone": rows({"Number": "1", "Text": ""}, {"Number": "1"}, {"Number": "1"}, {"Number": "2", "Text": ""})
    }


def test_twins_but_for_an_empty_string_keep_what_is_under_them() -> None:
    parents = rows({"No": 1, "Text": ""}, {"No": 1})
    held = record({}, {"Line": parents, "LineTax": [Child({"Rate": 1}, 0), Child({"Rate": 2}, 1)]})
    sent = record({}, {"Line": rows({"No": 1}, {"No": 1}), "LineTax": [Child({"Rate": 1}, 1), Child({"Rate": 2}, 0)]})
    assert find_differences(held, with_blanks_of(held, sent, True, frozenset({"Line"}))) == {}
