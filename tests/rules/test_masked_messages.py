"""Messages of Nexus, as they may be kept: what their tables say is gone, and the rest is as it was sent."""

import json
from typing import Any

import pytest

from delta_mirror.core.keyed import Keyed
from delta_mirror.core.mask import Action, Mask, Rules
from delta_mirror.core.masked_body import withheld
from delta_mirror.jobs.masking import TERMS
from delta_mirror.nexus.delivery import Delivery
from delta_mirror.nexus.masking import Renewed, has_place_in, mask_delivery, renew
from delta_mirror.nexus.message import read_message
from nexus_messages import HOME, SAMPLE, ZERO, message

KEY = Keyed("a key of tests")


def mask_with(rules: Rules) -> Mask:
    return Mask(rules, TERMS, KEY)


def hashed(value: str | float) -> str:
    return KEY.digest("mask", value)


def left_of(rules: Rules, body: bytes) -> Any:
    """Return what is left of a message, as JSON."""
    return json.loads(mask_delivery(mask_with(rules), Delivery(body)).body)


def changed(body: bytes, **details: Any) -> Any:
    """Return a message as JSON, with other *details*."""
    found = json.loads(body)
    return {**found, "Details": {**found["Details"], **details}}


@pytest.mark.parametrize(
    "body",
    [
        message(details={"FirstName": "Jo"}),
        message("Case Details", {"CaseNumber": "C1", "Offenses": [{"Label": "L"}]}, identifier=HOME),
        message(None, {"Result": "r"}, type_="DrugTest", identifier=HOME),
        message("No Such Section", {"FirstName": "Jo", "List": [{"a": 1}]}),
    ],
)
def test_message_in_which_nothing_is_masked_is_the_very_same(body: bytes) -> None:
    delivery = Delivery(body, "m1", 7)
    assert mask_delivery(mask_with({"NexusClient": {"Email": "drop"}}), delivery) is delivery


def test_what_the_broker_says_of_a_message_stays_with_it() -> None:
    masked = mask_delivery(
        mask_with({"NexusClient": {"FirstName": "drop"}}), Delivery(message(details={"FirstName": "J"}), "m", 7)
    )
    assert (masked.message_id, masked.sequence) == ("m", 7)


def test_section_loses_what_is_masked_in_its_table_and_nothing_else() -> None:
    body = message(details={"FirstName": "Jo", "lastname": "Zebra", "Ethinicity": "Elf", "Gender": "Male", "Shoe": 9})
    of_client: dict[str, Action] = {"FirstName": "drop", "LastName": "hash", "Ethnicity": "hash"}
    rules: Rules = {"NexusClient": of_client, "NexusActivity": {"Details": "drop"}}
    assert left_of(rules, body) == changed(body, FirstName=None, lastname=hashed("Zebra"), Ethinicity=hashed("Elf"))


@pytest.mark.parametrize(
    ("rules", "left"),
    [
        ({"*": "drop"}, None),
        ({"offenses": "hash"}, hashed('[{"Statute":"s"}]')),
        ({"FirstName": "drop"}, [{"Statute": "s"}]),
    ],
)
def test_offenses_of_a_section_that_has_none_are_masked_as_any_other_key(rules: Any, left: Any) -> None:
    body = message(details={"Offenses": [{"Statute": "s"}]})
    assert left_of({"NexusClient": rules, "NexusOffense": {"Statute": "drop"}}, body) == changed(body, Offenses=left)


def test_list_of_a_case_that_is_not_its_offenses_is_a_column_of_the_case() -> None:
    body = message("Case Details", {"CaseNumber": "C1", "Others": [{"Statute": "s"}], "Status": "x"}, identifier=HOME)
    rules: Rules = {"NexusOffense": {"Statute": "drop"}, "NexusCase": {"Status": "drop"}}
    assert left_of(rules, body) == changed(body, Status=None)


def test_what_a_message_is_known_and_put_in_order_by_is_no_column() -> None:
    names = ("IntegrationId", "Identifier", "Type", "Reason", "OccurredOn", "UpdatedBy", "Client", "Action")
    delivery = Delivery(message(details={"FirstName": "Jo"}))
    assert mask_delivery(mask_with({"NexusClient": dict.fromkeys(names, "drop")}), delivery) is delivery


def test_message_that_cannot_be_told_apart_by_names_is_withheld_and_told_from_others() -> None:
    mask = mask_with({"NexusClient": {"Email": "drop"}})
    bodies = [b"no JSON", b"[1]", b"{" * 9]
    for each in bodies:
        assert mask_delivery(mask, Delivery(each)).body.decode() == withheld(mask, each.decode())
    covering, odd = mask_with({"NexusClient": {"*": "drop"}}), message("No Such Section", {"Email": "e"})
    left = mask_delivery(covering, Delivery(odd))
    assert left.body.decode() == withheld(covering, odd.decode())
    assert mask_delivery(covering, left) is left


def test_activity_loses_its_details_all_at_once_and_nothing_else() -> None:
    body = message(None, {"Result": "r"}, type_="DrugTest", identifier=HOME)
    assert left_of({"NexusActivity": {"Details": "drop"}}, body) == {**json.loads(body), "Details": None}
    assert left_of({"NexusActivity": {"details": "hash"}}, body)["Details"] == hashed('{"Result":"r"}')


@pytest.mark.parametrize(
    ("rules", "shoe"),
    [
        ({"Shoe": "hash"}, hashed(9)),
        ({"PersonalShoe": "hash"}, hashed(9)),
        ({"DetailsShoe": "hash"}, 9),
        ({"Shoe": "hash", "PersonalShoe": "drop"}, None),
        ({"Shoe": "drop", "PersonalShoe": "hash"}, None),
        ({"Shoe": "keep", "PersonalShoe": "hash"}, hashed(9)),
    ],
)
def test_new_key_is_masked_under_the_name_that_it_has_where_two_sections_bring_it(rules: Any, shoe: Any) -> None:
    mask = mask_with({"NexusClient": rules})
    masked = mask_delivery(mask, Delivery(message(details={"Shoe": 9})))
    assert json.loads(masked.body)["Details"]["Shoe"] == shoe
    assert mask.met == {("nexusclient", name.lower()) for name in rules if name != "DetailsShoe"}


def test_rows_of_a_case_are_masked_as_their_table_says() -> None:
    offenses = [{"Label": "L", "Statute": "s"}, {"Label": "M"}]
    body = message("Case Details", {"CaseNumber": "C1", "Status": "x", "Offenses": offenses}, identifier=HOME)
    rules: Rules = {"NexusOffense": {"Statute": "hash"}, "NexusCase": {"Status": "drop"}}
    assert left_of(rules, body) == changed(body, Status=None, Offenses=[{"Label": "L", "Statute": hashed("s")}, {"Label": "M"}])


def test_row_of_a_case_that_is_none_stays() -> None:
    body = message("Case Details", {"CaseNumber": "C1", "Offenses": ["text", {"Statute": "s"}]}, identifier=HOME)
    assert left_of({"NexusOffense": {"Statute": "drop"}}, body)["Details"]["Offenses"][0] == "text"


@pytest.mark.parametrize(
    ("rules", "details"),
    [
        ({"NexusClient": {"DateOfBirth": "hash"}}, {"DateOfBirth": hashed("1980-05-28"), "Ethinicity": "E", "City": "C"}),
        ({"NexusClient": {"Ethnicity": "drop"}}, {"DateOfBirth": "5/28/1980", "City": "C"}),
        ({"NexusActivity": {"Details": "drop"}}, None),
        ({"NexusActivity": {"Details": "keep"}, "NexusClient": {"Details": "drop"}}, None),
    ],
)
def test_message_that_cannot_be_read_is_masked_by_names(rules: Any, details: Any) -> None:
    body = message("No Such Section", {"DateOfBirth": "5/28/1980", "Ethinicity": "E", "City": "C"}, identifier=ZERO)
    left = json.loads(body)
    del left["Details"]
    if details is not None:
        left["Details"] = {"SubType": "No Such Section", **details}
    assert left_of(rules, body) == left


def test_half_of_a_surrogate_pair_keeps_nothing_from_being_masked() -> None:
    body = message(details={"FirstName": "Jo", "LastName": "\ud83d"})
    left = json.loads(body)
    del left["Details"]["FirstName"]
    assert left_of({"NexusClient": {"FirstName": "drop"}}, body) == left


def test_message_that_was_kept_is_masked_anew_and_known_by_what_is_left() -> None:
    mask = mask_with({"NexusClient": {"LastName": "drop"}})
    body = mask_delivery(mask, Delivery(SAMPLE)).body
    assert renew(mask, ["nexusclient"], SAMPLE) == Renewed(
        body, read_message(Delivery(SAMPLE)).key, read_message(Delivery(body)).key
    )
    assert read_message(Delivery(SAMPLE)).key != read_message(Delivery(body)).key
    assert renew(mask_with({"NexusClient": {"Email": "drop"}}), ["nexusclient"], SAMPLE) is None


@pytest.mark.parametrize(
    ("tables", "section", "has"),
    [
        (["nexuscase"], "Case Details", True),
        (["nexusoffense"], "Case Details", True),
        (["nexusclient"], "Case Details", False),
        (["nexusclient"], "Email Details", True),
        (["nexusoffense"], "Email Details", False),
        (["nexusactivity"], "DrugTest", True),
        (["nexusclient"], "DrugTest", False),
    ],
)
def test_section_has_its_place_in_its_table_and_a_case_in_that_of_its_rows_too(
    tables: list[str], section: str, has: bool
) -> None:
    assert has_place_in(tables, section) is has
