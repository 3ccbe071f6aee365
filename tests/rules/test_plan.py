"""What one page does to what is held: the rules as tables, and as a property."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delta_mirror.core.model import Broken, Child, Entry, Instant, Record, Row, Value
from delta_mirror.core.plan import Counts, Drained, Fields, Held, Plan, decide, find_differences, same_content

ID = "00000000-0000-4000-8000-000000000001"


def record(
    name: Value | None = "Ann",
    at: int | None = 10,
    *,
    version: str | None = None,
    deleted: bool = False,
    children: Mapping[str, Sequence[Child]] | None = None,
    id_: str = ID,
) -> Record:
    root: Row = {"EntityId": id_}
    if name is not None:
        root["FirstName"] = name
    return Record(id_, None if at is None else Instant(at, str(at)), version, deleted, root, children or {})


def alive(held: Record) -> Held:
    return Held(held, None, None if held.changed is None else held.changed.ticks, deleted=False)


def gone(tombstone: Record, rows: Record | None = None) -> Held:
    return Held(rows, tombstone, None if tombstone.changed is None else tombstone.changed.ticks, deleted=True)


def broken(at: int | None = 10, id_: str | None = ID) -> Broken:
    return Broken(id_, None if at is None else Instant(at, str(at)), "{}", "no key")


def judge(held: Held | None, *entries: Entry, drained: Drained | None = None) -> Plan:
    return decide({} if held is None else {ID: held}, entries, Drained() if drained is None else drained)


def ops(plan: Plan) -> list[str]:
    return [change.op for change in plan.changes]


def outcome(plan: Plan) -> str:
    """Name the one thing that a plan of one entry does."""
    if plan.changes:
        return plan.changes[0].op
    if plan.superseded:
        return "superseded"
    if plan.quarantine:
        return "quarantine"
    return "buried" if plan.effects else "unchanged"


@pytest.mark.parametrize(
    ("held", "entry", "expected"),
    [
        (None, record(), "insert"),
        (None, record(at=None), "insert"),
        (None, record(deleted=True), "buried"),
        (None, broken(), "quarantine"),
        (alive(record()), record(), "unchanged"),
        (alive(record()), record("Bea", 11), "replace"),
        (alive(record()), record("Bea", 10), "replace"),
        (alive(record()), record("Bea", 9), "superseded"),
        (alive(record()), record("Bea", None), "replace"),
        (alive(record(at=None)), record("Bea", 1), "replace"),
        (alive(record()), record(at=9, deleted=True), "superseded"),
        (alive(record()), record(at=11, deleted=True), "delete"),
        (alive(record()), broken(9), "superseded"),
        (alive(record()), broken(10), "quarantine"),
        (alive(record()), broken(None), "quarantine"),
        (gone(record(deleted=True)), record(deleted=True), "unchanged"),
        (gone(record(deleted=True)), record("Bea", 11, deleted=True), "buried"),
        (gone(record(deleted=True)), record("Bea", 9, deleted=True), "superseded"),
        (gone(record(deleted=True)), record("Bea", 9), "superseded"),
        (gone(record(deleted=True)), record("Ann", 11), "revive"),
        (gone(record(deleted=True)), record("Ann", 10), "revive"),
        (gone(record(deleted=True), rows=record(deleted=True)), record(at=11), "revive"),
        # Marked rows, of which the tombstone was pruned.
        (Held(record(deleted=True), None, 10, deleted=True), record(at=11), "insert"),
        (Held(record(deleted=True), None, 10, deleted=True), record(deleted=True), "unchanged"),
        (Held(record(deleted=True), None, 10, deleted=True), record("Bea", 11, deleted=True), "buried"),
    ],
)
def test_one_entry_against_what_is_held(held: Held | None, entry: Entry, expected: str) -> None:
    assert outcome(judge(held, entry)) == expected


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [(12, 12.0, True), ("12", 12, False), ("", None, False), (1, 1.5, False), ("a", "A", False), (2**53, 2.0**53, True)],
)
def test_values_are_compared_as_values(old: Value | None, new: Value | None, same: bool) -> None:
    assert same_content(record(old), record(new)) is same


def test_entry_of_equal_date_that_is_only_looked_back_at_changes_nothing() -> None:
    held = {ID: alive(record("new", 10))}
    for entry, expected in ((record("old", 10), 1), (record("new", 10), 0), (record("newer", 11), 0)):
        assert decide(held, [entry], Drained(), looks_back=True).counts().superseded == expected
    assert not decide(held, [record("old", 10)], Drained()).superseded


@pytest.mark.parametrize(
    ("held", "entry", "expected"),
    [
        (gone(record(deleted=True)), record(deleted=True), "unchanged"),
        (gone(record(deleted=True)), record("Bea", deleted=True), "superseded"),
        (gone(record(deleted=True)), record(), "superseded"),
        (gone(record(deleted=True), rows=record("Bea", deleted=True)), record(deleted=True), "unchanged"),
        (Held(record(deleted=True), None, 10, deleted=True), record(deleted=True), "unchanged"),
        (Held(None, None, 10, deleted=True), record(deleted=True), "superseded"),
        (alive(record()), record(deleted=True), "superseded"),
        (alive(record(at=None)), record("Bea", None), "replace"),
    ],
)
def test_what_is_looked_back_at_changes_nothing_whether_it_lives_or_not(held: Held, entry: Record, expected: str) -> None:
    assert outcome(decide({ID: held}, [entry], Drained(), looks_back=True)) == expected


def test_drain_that_remembers_what_it_took_judges_by_that_where_it_looks_back() -> None:
    drained = Drained()
    judge(None, record("old", 10, version="A"), drained=drained)
    plan = decide({ID: alive(record("old", 10))}, [record("new", 10, version="B")], drained, looks_back=True)
    assert ops(plan) == ["replace"]


def test_of_equal_dates_in_one_drain_the_higher_row_version_stays() -> None:
    drained = Drained()
    judge(None, record("new", 10, version="00000000000000AB"), drained=drained)
    held = alive(record("new", 10))
    older = record("old", 10, version="00000000000000AA")
    assert judge(held, older, drained=drained).superseded == [older]
    assert outcome(judge(held, record("newer", 10, version="00000000000000AC"), drained=drained)) == "replace"
    assert outcome(judge(held, record("odd", 10), drained=drained)) == "replace"


def test_row_version_of_an_entry_that_was_unchanged_counts_too() -> None:
    drained = Drained()
    judge(alive(record("new")), record("new", 10, version="B"), drained=drained)
    assert outcome(judge(alive(record("new")), record("old", 10, version="A"), drained=drained)) == "superseded"


def test_across_drains_the_row_version_decides_nothing() -> None:
    assert outcome(judge(alive(record("new", 10, version="B")), record("old", 10, version="A"))) == "replace"


def test_row_version_does_not_hold_back_a_later_date() -> None:
    drained = Drained()
    judge(None, record("new", 10, version="B"), drained=drained)
    assert outcome(judge(alive(record("new", 10)), record("newer", 11, version="A"), drained=drained)) == "replace"


@pytest.mark.parametrize("last", [record("b", 10), record("b", None, version="C"), record("b", None)])
def test_drain_forgets_a_version_when_an_entry_without_one_or_without_a_date_is_taken_after_it(last: Record) -> None:
    drained = Drained()
    judge(None, record("a", 10, version="B"), last, drained=drained)
    assert not drained.knows(ID)
    assert outcome(judge(alive(record("b", 10)), record("c", 10, version="A"), drained=drained)) == "replace"


def test_ordered_drain_keeps_in_mind_only_what_can_come_again() -> None:
    drained = Drained()
    judge(None, record("x", 10, version="B"), drained=drained)
    drained.forget_before(10)
    assert len(drained) == 1
    drained.forget_before(11)
    assert len(drained) == 0
    assert outcome(judge(alive(record("x", 10)), record("y", 10, version="A"), drained=drained)) == "replace"


def test_entries_of_one_id_are_taken_in_the_order_sent() -> None:
    plan = judge(None, record("a", 1), record("b", 2), record("c", 3, deleted=True), record("d", 4), record("e", 4))
    assert ops(plan) == ["insert", "replace", "delete", "revive", "replace"]
    assert [change.fields for change in plan.changes] == [
        None,
        {"FirstName": ["a", "b"]},
        None,
        {"FirstName": ["c", "d"]},
        {"FirstName": ["d", "e"]},
    ]
    assert list(plan.effects) == [ID]
    assert plan.effects[ID].record == record("e", 4)
    assert plan.effects[ID].over is None


def test_older_snapshot_behind_a_newer_one_changes_nothing() -> None:
    plan = judge(alive(record("a", 1)), record("c", 3), record("b", 2))
    assert (ops(plan), plan.superseded) == (["replace"], [record("b", 2)])
    assert plan.effects[ID].record == record("c", 3)
    assert plan.effects[ID].over == record("a", 1)


def test_change_that_is_taken_back_in_the_same_page_is_logged_both_ways() -> None:
    plan = judge(alive(record("a", 1)), record("b", 2), record("a", 1), record("a", 3))
    assert (ops(plan), len(plan.superseded)) == (["replace", "replace"], 1)
    assert plan.effects[ID].record == record("a", 3)


def test_deletion_of_something_never_held_leaves_a_tombstone_and_no_change() -> None:
    plan = judge(None, record(deleted=True))
    assert (plan.changes, len(plan.unchanged)) == ([], 1)
    assert (plan.effects[ID].had_rows, plan.effects[ID].died) == (False, True)


def test_deletion_sent_again_with_other_content_keeps_its_date() -> None:
    plan = judge(gone(record(deleted=True)), record("Bea", 11, deleted=True))
    assert plan.effects[ID].died is False
    plan = judge(gone(record(deleted=True)), record("Bea", 11), record("Bea", 12, deleted=True))
    assert plan.effects[ID].died is True
    plan = judge(alive(record()), record("Bea", 11, deleted=True), record("Cleo", 12, deleted=True))
    assert plan.effects[ID].died is True
    assert plan.effects[ID].had_rows is True


def test_same_content_under_a_newer_date_is_redated_and_no_change() -> None:
    plan = judge(alive(record("a", 1)), record("a", 3), record("b", 2))
    assert (ops(plan), plan.unchanged, plan.superseded) == ([], [record("a", 3)], [record("b", 2)])
    assert plan.redated == {ID: record("a", 3)}
    for again in (record("a", 1), record("a", None)):
        plan = judge(alive(record("a", 1)), again)
        assert (plan.unchanged, plan.redated) == ([again], {})
    plan = judge(alive(record("a", 1)), record("a", 3), record("b", 4))
    assert plan.redated == {}
    plan = judge(alive(record("a", 1)), record("b", 2), record("b", 3))
    assert plan.effects[ID].record == record("b", 3)


def test_columns_that_are_filled_in_where_a_root_was_its_key_alone_are_written_and_no_change() -> None:
    known = Held(record(None, 1, children={"P": phones("1", "2")}), None, 1, deleted=False, is_key_alone=True)
    whole = record("Ann", 2, children={"P": phones("2", "1")})
    plan = judge(known, whole)
    assert (ops(plan), plan.unchanged, plan.effects[ID].record) == ([], [whole], whole)
    assert ops(judge(replace(known, is_key_alone=False), whole)) == ["replace"]
    plan = judge(known, record("Ann", 2, children={"P": phones("1")}))
    assert (ops(plan), plan.unchanged) == (["replace"], [])


def test_absent_column_is_logged_with_nothing_as_its_value() -> None:
    assert judge(alive(record("Ann")), record(None, 11)).changes[0].fields == {"FirstName": ["Ann", None]}
    assert judge(alive(record(None)), record("Ann", 11)).changes[0].fields == {"FirstName": [None, "Ann"]}


def test_broken_entry_leaves_with_a_good_one_that_is_not_older() -> None:
    assert judge(None, broken(10), record(at=10)).quarantine == []
    assert judge(None, broken(None), record(at=10)).quarantine == []
    assert len(judge(None, broken(11), record(at=10)).quarantine) == 1
    assert len(judge(None, record(at=10), broken(11)).quarantine) == 1
    assert len(judge(None, broken(10, id_=None), record(at=10)).quarantine) == 1


def test_counts_say_what_each_entry_did() -> None:
    plan = judge(None, record("a", 2), record("a", 2), record("b", 1), record("c", 3, deleted=True), broken(9), record("d", 4))
    assert plan.counts() == Counts(inserted=1, deleted=1, revived=1, unchanged=1, superseded=1, quarantined=1)
    assert plan.counts() + Counts(quarantined=2) == Counts(1, 0, 1, 1, 1, 1, 3)
    assert plan.counts().as_dict() == {
        "inserted": 1,
        "replaced": 0,
        "deleted": 1,
        "revived": 1,
        "unchanged": 1,
        "superseded": 1,
        "quarantined": 1,
    }
    assert plan.records("revive") == [record("d", 4)]


# Child rows


def phones(*numbers: str) -> list[Child]:
    return [Child({"PhoneNumber": number}, None) for number in numbers]


def lines(*tree: tuple[str, Sequence[str]]) -> dict[str, list[Child]]:
    """Return service lines, each with its steps."""
    services = [Child({"Service": name}, None) for name, _ in tree]
    steps = [Child({"Step": step}, number) for number, (_, its_steps) in enumerate(tree) for step in its_steps]
    return {"AppointmentService": services, "AppointmentServiceStep": steps}


def differences(old: Mapping[str, Sequence[Child]], new: Mapping[str, Sequence[Child]]) -> Fields:
    """Return what differs, and check that it agrees with the comparison, in both directions."""
    one, other = record(children=old), record(children=new)
    found = find_differences(one, other)
    assert same_content(one, other) is (not found)
    assert same_content(other, one) is (not found)
    return found


def test_child_absent_from_the_new_record_is_a_change() -> None:
    found = differences({"ClientPhone": phones("1", "2")}, {"ClientPhone": phones("2")})
    assert found == {"ClientPhone": [[{"PhoneNumber": "1"}, {"PhoneNumber": "2"}], [{"PhoneNumber": "2"}]]}
    assert differences({"ClientPhone": phones("1")}, {}) == {"ClientPhone": [[{"PhoneNumber": "1"}], []]}


def test_order_of_child_rows_and_empty_tables_are_no_change() -> None:
    assert differences({"ClientPhone": phones("1", "2", "2")}, {"ClientPhone": phones("2", "1", "2")}) == {}
    assert differences({"ClientPhone": []}, {}) == {}


def test_number_of_alike_child_rows_counts() -> None:
    assert list(differences({"P": phones("1", "1", "2")}, {"P": phones("1", "2", "2")})) == ["P"]


def test_grandchild_follows_its_parent_whatever_its_number() -> None:
    assert differences(lines(("Cut", ["a"]), ("Dye", ["b", "c"])), lines(("Dye", ["c", "b"]), ("Cut", ["a"]))) == {}


def test_grandchild_with_another_parent_is_a_change_of_its_table() -> None:
    found = differences(lines(("Cut", ["a"]), ("Dye", ["b"])), lines(("Cut", ["b"]), ("Dye", ["a"])))
    assert list(found) == ["AppointmentServiceStep"]


def test_moved_grandchild_is_logged_beside_another_change() -> None:
    old = lines(("Cut", ["a"]), ("Dye", ["b"]), ("Wash", []))
    new = lines(("Cut", ["b"]), ("Dye", ["a"]), ("Dry", []))
    assert list(differences(old, new)) == ["AppointmentService", "AppointmentServiceStep"]


def test_edited_parent_is_no_change_of_its_grandchildren() -> None:
    assert list(differences(lines(("Cut", ["a"]), ("Dye", ["b"])), lines(("Cut", ["a"]), ("Bleach", ["b"])))) == [
        "AppointmentService"
    ]


def test_twins_are_told_apart_by_what_is_under_them() -> None:
    assert list(differences(lines(("Cut", ["a", "b"]), ("Cut", [])), lines(("Cut", ["a"]), ("Cut", ["b"])))) == [
        "AppointmentServiceStep"
    ]
    old = {"X": phones("1", "1"), "XA": [Child({"A": 1}, 0)], "XB": [Child({"B": 1}, 0)]}
    new = {"X": phones("1", "1"), "XA": [Child({"A": 1}, 0)], "XB": [Child({"B": 1}, 1)]}
    assert list(differences(old, new)) == ["XA", "XB"]


def test_moved_grandchild_of_twins_is_logged_beside_another_change() -> None:
    old = lines(("Cut", ["a"]), ("Cut", ["a"]), ("Dye", ["b"]))
    new = lines(("Cut", ["a"]), ("Cut", ["b"]), ("Bleach", ["a"]))
    assert list(differences(old, new)) == ["AppointmentService", "AppointmentServiceStep"]


def test_grandchildren_that_are_new_leave_others_to_be_compared_without_order() -> None:
    def tree(*names: str) -> dict[str, list[Child]]:
        return {"Service": phones("1"), "ServiceStep": [Child({"Step": name}, 0) for name in names]}

    old, new = tree("a", "b"), tree("b", "a")
    assert differences(old, new) == {}
    assert list(differences(old, new | {"ServiceAddOn": [Child({"AddOn": 1}, 0)]})) == ["ServiceAddOn"]


def test_parents_are_told_apart_by_their_own_parents() -> None:
    def tree(number: int) -> dict[str, list[Child]]:
        return {
            "S": [Child({"Name": "1"}, None), Child({"Name": "2"}, None)],
            "SStep": [Child({"Step": 1}, 0), Child({"Step": 1}, 1)],
            "SStepNote": [Child({"Note": 1}, number)],
        }

    assert list(differences(tree(0), tree(1))) == ["SStepNote"]


def test_no_change_is_taken_for_none_where_the_table_of_the_parents_is_open() -> None:
    old = {"X": phones("1", "2"), "Y": phones("3", "3"), "Note": [Child({"Text": "a"}, 0), Child({"Text": "b"}, 1)]}
    moved = {**old, "Note": [Child({"Text": "a"}, 1), Child({"Text": "b"}, 0)]}
    assert list(differences(old, moved)) == ["Note"]


def test_parents_are_found_where_one_table_alone_has_so_many_rows() -> None:
    def tree(first: str, second: str, *under: int) -> dict[str, list[Child]]:
        # Of no help: the names, and that the notes stand under the root as well as the lines.
        return {
            "Note": phones("9"),
            "Line": phones(first, second),
            "Tax": [Child({"Rate": rate}, number) for rate, number in enumerate(under)],
        }

    assert differences(tree("1", "2", 0, 1), tree("2", "1", 1, 0)) == {}
    assert list(differences(tree("1", "2", 0, 1), tree("1", "2", 1, 0))) == ["Tax"]


def test_parents_are_found_under_the_root_whatever_else_has_grandchildren() -> None:
    def tree(first: str, second: str, *states: int) -> dict[str, list[Child]]:
        # Were they those of the steps, which all belong to the same service, each state would have moved to another step.
        number = int(first) - 1
        return {
            "AppointmentService": phones(first, second),
            "AppointmentServiceStep": [Child({"Step": 1}, number), Child({"Step": 2}, number)],
            "AppointmentStateChange": [Child({"State": state}, number) for state, number in enumerate(states)],
        }

    assert differences(tree("1", "2", 0, 1), tree("2", "1", 1, 0)) == {}


def test_parents_are_found_where_one_table_alone_is_under_the_root() -> None:
    def tree(first: str, second: str) -> dict[str, list[Child]]:
        # By the numbers alone, the states could as well belong to the steps.
        return {
            "AppointmentService": phones(first, second),
            "AppointmentServiceStep": [Child({"Step": first}, 0), Child({"Step": second}, 1)],
            "AppointmentStateChange": [Child({"State": first}, 0), Child({"State": second}, 1)],
        }

    assert differences(tree("1", "2"), tree("2", "1")) == {}


def test_child_table_named_like_a_column_has_a_place_of_its_own() -> None:
    old, new = record("Ann", children={"FirstName": phones("1")}), record("Bea", children={"FirstName": phones("2")})
    assert find_differences(old, new) == {
        "FirstName": ["Ann", "Bea"],
        "FirstName[]": [[{"PhoneNumber": "1"}], [{"PhoneNumber": "2"}]],
    }


# The rules as a property: whatever is sent, in whatever pages, the last of the newest is held, and the log tells how it came.

_SENT = st.builds(
    record,
    name=st.sampled_from(["a", "b"]),
    at=st.integers(1, 4),
    deleted=st.booleans(),
    id_=st.sampled_from(["1", "2"]),
    children=st.sampled_from([{}, {"P": phones("1")}, {"P": phones("1", "2")}, {"P": phones("2", "1")}]),
)


def _carried_out(held: dict[str, Held], plan: Plan) -> None:
    """Do what a mirror that removes deleted records does."""
    for id_, effect in plan.effects.items():
        before = held.get(id_)
        assert effect.over == (before.record if before else None)
        assert effect.buried is (before is not None and before.tombstone is not None)
        held[id_] = gone(effect.record) if effect.record.deleted else alive(effect.record)
    for id_, redated in plan.redated.items():
        assert redated.changed is not None
        before = held[id_]
        held[id_] = Held(before.record, before.tombstone, redated.changed.ticks, before.deleted)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(_SENT, max_size=6), max_size=4))
def test_whatever_the_pages_the_last_of_the_newest_is_held_and_the_log_tells_how_it_came(pages: list[list[Record]]) -> None:
    held: dict[str, Held] = {}
    newest: dict[str, Record] = {}
    log: dict[str, list[str]] = {"1": [], "2": []}
    drained = Drained()
    for page in pages:
        plan = decide(held, page, drained)
        counts = plan.counts()
        assert counts.inserted + counts.replaced + counts.deleted + counts.revived + counts.unchanged + counts.superseded == len(
            page
        )
        _carried_out(held, plan)
        for change in plan.changes:
            log[change.record.id].append(change.op)
        for sent in page:
            before = newest.get(sent.id)
            assert sent.changed is not None
            if before is None or before.changed is None or sent.changed.ticks >= before.changed.ticks:
                newest[sent.id] = sent
    for id_, last in newest.items():
        found = held[id_].tombstone if last.deleted else held[id_].record
        assert found is not None
        assert same_content(found, last)
        assert held[id_].deleted is last.deleted
        assert last.changed is not None
        assert held[id_].changed == last.changed.ticks
    for id_, told in log.items():
        lives = False
        for number, op in enumerate(told):
            assert (op == "insert") <= (number == 0)
            assert lives is (op in ("replace", "delete"))
            lives = op != "delete"
        assert lives is (id_ in newest and not newest[id_].deleted)


# People who were erased


@pytest.mark.parametrize("entry", [record(), record("Bea", 11), record(deleted=True), broken(), broken(None)])
def test_entry_of_a_person_who_was_erased_changes_nothing_whatever_it_says(entry: Entry) -> None:
    drained = Drained()
    plan = judge(Held(None, None, None, deleted=False, is_erased=True), entry, entry, drained=drained)
    assert plan.erased == [entry, entry]
    assert plan == Plan(erased=[entry, entry])
    assert plan.counts() == Counts(unchanged=2)
    assert len(drained) == 0
