"""The mask: what of each column may be held, of rows, of what was set aside, and of messages."""

import json
from typing import Any

import pytest

from delta_mirror.core.keyed import Keyed
from delta_mirror.core.mask import Action, Mask, Rules, Terms
from delta_mirror.core.masked_body import mask_body, mask_entry, was_changed
from delta_mirror.core.model import Broken, Child, Record, Row
from delta_mirror.dds import maskable as of_dds
from delta_mirror.jobs.masking import TERMS
from delta_mirror.nexus import maskable as of_nexus
from delta_mirror.nexus.delivery import Delivery
from delta_mirror.nexus.masking import mask_delivery
from delta_mirror.nexus.message import Message, read_message
from nexus_messages import HOME, SAMPLE, ZERO, message

KEY = Keyed("a key of tests")
MAIL = "jo@zebra.example"


def mask_with(rules: Rules, keyed: Keyed | None = KEY) -> Mask:
    return Mask(rules, TERMS, keyed)


def hashed(value: str | float) -> str:
    return KEY.digest("mask", value)


def record(**root: Any) -> Record:
    phones = [Child({"PhoneNumber": "5550100", "PhoneTypeEnum": 31}, None), Child({"PhoneTypeEnum": 32}, None)]
    return Record("c1", None, None, deleted=False, root={"EntityId": "c1", **root}, children={"ClientPhone": phones})


def test_drop_leaves_out_hash_hashes_and_all_else_stays() -> None:
    of_client: dict[str, Action] = {"EmailAddress": "hash", "Notes": "drop", "City": "keep"}
    mask = mask_with({"Client": of_client, "ClientPhone": {"PhoneNumber": "drop"}})
    sent = record(EmailAddress=MAIL, Notes="private", City="Exampleville")
    masked = mask.record("Client", sent)
    assert masked.root == {"EntityId": "c1", "EmailAddress": hashed(MAIL), "City": "Exampleville"}
    assert [child.row for child in masked.children["ClientPhone"]] == [{"PhoneTypeEnum": 31}, {"PhoneTypeEnum": 32}]
    assert sent.root["EmailAddress"] == MAIL, "the record itself is left as it came"


def test_a_record_of_another_entity_is_the_very_same() -> None:
    sent = record(EmailAddress=MAIL)
    assert mask_with({"Employee": {"EmailAddress": "drop"}}).record("Client", sent) is sent


def test_a_mask_that_keeps_everything_is_none() -> None:
    assert not mask_with({"Client": {"EmailAddress": "keep"}})
    assert mask_with({"Client": {"EmailAddress": "drop"}})


def test_root_and_children_are_masked_each_by_itself_and_children_stay_where_they_hang() -> None:
    below = {"ClientPhone": [Child({"PhoneNumber": "5550100"}, 3)]}
    sent = Record("c1", None, None, deleted=False, root={"EntityId": "c1", "Notes": "private"}, children=below)
    masked = mask_with({"ClientPhone": {"PhoneNumber": "drop"}}).record("Client", sent)
    assert (masked.root, masked.children) == (sent.root, {"ClientPhone": [Child({}, 3)]})
    masked = mask_with({"Client": {"Notes": "drop"}}).record("Client", sent)
    assert (masked.root, masked.children) == ({"EntityId": "c1"}, below)


def test_of_rows_of_an_export_the_places_that_are_stored_are_told_by_their_header() -> None:
    mask = mask_with({"Client": {"Mail": "hash", "Notes": "drop", "Zip": "drop"}})
    assert mask.columns("client", ["A", "MAIL", "Notes"]) == [(0, "keep"), (1, "hash")]
    assert mask.columns("Client", ["A", "B"]) is None
    assert mask.columns("Client", ["Notes"]) == []
    assert mask.met == {("client", "mail"), ("client", "notes")}


def test_key_is_told_from_another_only_where_something_is_hashed_with_it() -> None:
    assert mask_with(HASH).key_check() == KEY.check()
    assert mask_with(DROP).key_check() is None
    assert mask_with(HASH, None).key_check() is None


def test_hashes_without_a_key_are_a_fault_of_the_program() -> None:
    with pytest.raises(RuntimeError, match=r"^a mask that hashes was made without a key$"):
        mask_with(HASH, None).row("Client", {"Mail": MAIL})


def test_text_that_is_withheld_is_marked_by_its_hash_where_there_is_a_key() -> None:
    assert mask_with(DROP).mark("sent") == KEY.digest("mask", "withheld", "sent")
    assert mask_with(DROP, None).mark("sent") is None


def test_what_a_name_may_mean_in_several_tables_is_masked_as_the_strictest_says() -> None:
    mask = mask_with({"Client": {"Mail": "hash"}, "Employee": {"Mail": "drop"}, "ClientPhone": {"Number": "hash"}})
    assert mask.strictest(["client", "employee"], "Mail") == "drop"
    assert mask.strictest(["client", "clientphone"], "Mail") == "hash"
    assert mask.strictest([], "Mail") == "keep"


def test_equal_values_have_equal_hashes_and_what_is_not_there_has_none() -> None:
    mask = mask_with({"Client": {"Mail": "hash", "Points": "hash"}, "NexusClient": {"Email": "hash"}})
    assert mask.row("Client", {"Mail": MAIL}) == {"Mail": hashed(MAIL)}
    assert mask.row("NexusClient", {"Email": MAIL}) == {"Email": hashed(MAIL)}
    assert mask.row("Client", {"Points": 12}) == mask.row("Client", {"Points": 12.0})
    assert mask.row("Client", {"Points": 12}) != mask.row("Client", {"Points": "12"})
    assert mask.row("Client", {"Mail": ""}) == {"Mail": ""}
    assert mask.hashed(None) is None
    assert mask.value("hash", MAIL) == hashed(MAIL)
    assert mask.value("drop", MAIL) is None
    assert mask.value("keep", MAIL) == MAIL
    assert mask.row("Client", {}) == {}


def test_names_compare_as_sqlite_compares_them_also_ones_that_are_met_later() -> None:
    mask = mask_with({"client": {"EMAILADDRESS": "drop"}})
    assert mask.row("Client", {"EmailAddress": MAIL, "City": "X"}) == {"City": "X"}
    assert mask.row("CLIENT", {"emailAddress": MAIL}) == {}


def test_every_column_may_be_meant_but_not_what_something_is_told_by() -> None:
    mask = mask_with({"Client": {"*": "drop", "City": "keep", "ZipCode": "hash"}, "SaleLine": {"*": "drop"}})
    sent: Row = {
        "EntityId": "c1",
        "TenantId": 11,
        "DateUpdated": "2026-01-01T00:00:00+00:00",
        "EntityVersion": "00000000000007D1",
        "ObjectStateEnum": 2026,
        "City": "Exampleville",
        "ZipCode": "00123",
        "FirstName": "Jo",
        "NeverSeenBefore": "private",
    }
    masked = mask.row("Client", sent)
    assert masked == {**{name: sent[name] for name in list(sent)[:6]}, "ZipCode": hashed("00123")}
    assert mask.row("SaleLine", {"Sale_Seq": 3, "Employee_TId": "e", "Note": "private"}) == {"Sale_Seq": 3, "Employee_TId": "e"}


@pytest.mark.parametrize(
    ("table", "column", "why"),
    [
        ("Client", "EntityId", "is the key of its records"),
        ("Client", "client_tid", "is the key of its records"),
        ("Client", "TenantId", "says where a record belongs"),
        ("Sale", "LocationId", "says where a record belongs"),
        ("Client", "DateUpdated", "tells versions of a record apart"),
        ("Client", "entityversion", "tells versions of a record apart"),
        ("EmployeeSchedule", "DateUpdated", "tells versions of a record apart"),
        ("Client", "ObjectStateEnum", "says whether a record is deleted"),
        ("Appointment", "AppointFinalStateEnum", "says whether a record is deleted"),
        ("AppointmentService", "AppointFinalStateEnum", "says whether a record is deleted"),
        ("Sale", "SaleDate", "ties other rows to it"),
        ("AppointmentService", "AppointService_LId", "ties its rows to their record"),
        ("AppointmentServiceStep", "AppointService_LId", "ties its rows to their record"),
        ("SaleLine", "Sale_Seq", "ties its rows to their record"),
        ("SaleLine", "entityid", "ties its rows to their record"),
        ("ClientPhone", "Client_TId", "ties its rows to their record"),
        ("ClientPhone", "OwnerId", "may be what ties its rows to their record"),
        ("ClientPhone", "ownerid", "may be what ties its rows to their record"),
        ("ClientPhone", "OWNERID", "may be what ties its rows to their record"),
        ("ClientPhone", "PictureGuid", "may be what ties its rows to their record"),
        ("SaleLine", "Employee_TID", "may be what ties its rows to their record"),
    ],
)
def test_a_column_that_something_is_told_by_cannot_be_masked(table: str, column: str, why: str) -> None:
    assert of_dds.why_needed(table, column) == why


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("Client", "EmailAddress"),
        ("Client", "ExternalId"),
        ("Sale", "Client_TId"),
        ("ClientPhone", "IsPaid"),
        ("ClientPhone", "externalid"),
        ("Client", "SaleDate"),
    ],
)
def test_any_other_column_can(table: str, column: str) -> None:
    assert of_dds.why_needed(table, column) is None


@pytest.mark.parametrize(
    ("named", "table"),
    [("client", "client"), ("EmployeeSchedule", "EmployeeSchedule"), ("SaleLine_Service_L", "SaleLineService")],
)
def test_table_of_the_service_is_known_by_what_the_mirror_calls_it(named: str, table: str) -> None:
    assert of_dds.stored_as(named) == table


@pytest.mark.parametrize(
    ("table", "column", "why"),
    [
        ("NexusVehicle", "licenseplate", "tells its items apart where a message names none"),
        ("NexusActivity", "Type", "says what its rows are"),
        ("NexusActivity", "Details", None),
        ("NexusClient", "Type", None),
        ("NexusClient", "Ethinicity", "is called Ethnicity in the mirror; name it so"),
        ("NexusClient", "ethnicity", None),
        ("NexusClient", "Email", None),
        ("Client", "LicensePlate", None),
    ],
)
def test_of_nexus_natural_keys_and_wrong_spellings_are_refused(table: str, column: str, why: str | None) -> None:
    assert of_nexus.why_needed(table, column) == why


def test_tables_of_nexus_are_those_of_its_client() -> None:
    assert [of_nexus.entity_of(table) for table in ("NexusClient", "nexusvehicle", "Client")] == ["NexusClient"] * 2 + [None]


KEEP: Rules = {}
HASH: Rules = {"Client": {"Mail": "hash"}}
DROP: Rules = {"Client": {"Mail": "drop"}}


@pytest.mark.parametrize(
    ("before", "after", "step", "lifted"),
    [
        (KEEP, HASH, "hash", False),
        (KEEP, DROP, "drop", False),
        (HASH, DROP, "drop", False),
        (HASH, HASH, "keep", False),
        (DROP, HASH, "keep", True),
        (DROP, KEEP, "keep", True),
        (HASH, KEEP, "drop", True),  # a hash in a column of values would be hashed again one day
        (KEEP, {"Client": {"*": "drop"}}, "drop", False),
        ({"Client": {"*": "drop"}}, {"Client": {"*": "drop", "Mail": "keep"}}, "keep", True),
        ({"Client": {"*": "drop", "Mail": "keep"}}, {"Client": {"*": "drop"}}, "drop", False),
        ({"Client": {"*": "hash"}}, DROP, "drop", True),  # all the others
    ],
)
def test_what_was_stored_under_another_mask_is_brought_to_this_one(
    before: Rules, after: Rules, step: Action, lifted: bool
) -> None:
    mask = mask_with(after)
    assert mask.since(before).action("Client", "Mail") == step
    assert (("Client", "Mail") in mask.lifted(before) or ("Client", "*") in mask.lifted(before)) == lifted


def broken(body: Any, mask: Mask) -> str:
    entry = mask_entry(mask, "Client", Broken("c1", None, body if isinstance(body, str) else json.dumps(body), "odd"))
    assert isinstance(entry, Broken)
    return entry.body


def test_what_is_set_aside_is_masked_by_names_wherever_they_stand() -> None:
    mask = mask_with(
        {"Client": {"Mail": "hash", "Notes": "drop"}, "ClientPhone": {"Number": "drop"}, "Employee": {"City": "drop"}}
    )
    sent = {"Mail": MAIL, "NOTES": "private", "City": "X", "ClientPhone": [{"Number": "5550100", "Kind": 1}], "_odd": None}
    for body in ({"Client": sent}, {"SnapshotData": {"Client": sent}}, {"SnapshotData": json.dumps({"Client": sent})}):
        left = broken(body, mask)
        assert was_changed(left) == "masked"
        assert "private" not in left
        assert "5550100" not in left
        assert MAIL not in left
        assert hashed(MAIL) in left
        assert '"City":"X"' in left
        assert mask_body(mask_with({"Client": {"City": "drop"}}), ["client"], left).count('"masked"') == 1
    plain = '{"Client": {"City": "X"}}'
    assert broken(plain, mask) == plain


def test_what_cannot_be_told_apart_is_withheld_and_two_of_them_are_two() -> None:
    mask = mask_with({"Client": {"Mail": "drop"}})
    bodies = [f'["{MAIL}"]', json.dumps(MAIL), "no JSON " + MAIL, json.dumps({"SnapshotData": "{" + MAIL})]
    withheld = {broken(body, mask) for body in bodies}
    assert len(withheld) == len(bodies)
    assert all(was_changed(body) == "withheld" and MAIL not in body for body in withheld)
    assert was_changed(broken({"Client": {"City": "X"}}, mask_with({"Client": {"*": "drop"}}, None))) == "withheld"
    deep = '{"Client":' + '{"a":' * 5000 + f'{{"Mail":"{MAIL}"}}' + "}" * 5001
    assert MAIL not in broken(deep, mask)


def details_of(mask: Mask, body: bytes) -> Any:
    return json.loads(mask_delivery(mask, Delivery(body)).body)["Details"]


def test_a_message_is_masked_by_the_right_names_and_is_a_message_still() -> None:
    mask = mask_with({"NexusClient": {"Ethnicity": "drop", "LastName": "hash", "DateOfBirth": "hash"}})
    left = mask_delivery(mask, Delivery(SAMPLE))
    assert b"Caucasian" not in left.body
    assert b"Farmer" not in left.body
    read, before = read_message(left), read_message(Delivery(SAMPLE))
    assert isinstance(read, Message)
    assert isinstance(before, Message)
    assert (read.place, read.type, read.occurred_at) == (before.place, before.type, before.occurred_at)
    assert read.statement.values == {
        **before.statement.values,
        "Ethnicity": None,
        "LastName": hashed("Farmer"),
        "DateOfBirth": hashed("1980-05-28"),
    }


def test_one_value_has_one_hash_in_whichever_form_it_came() -> None:
    mask = mask_with({"NexusClient": {"DateOfBirth": "hash"}})
    forms = [message(details={"DateOfBirth": text}) for text in ("5/28/1980", "1980-05-28")]
    assert [details_of(mask, form)["DateOfBirth"] for form in forms] == [hashed("1980-05-28")] * 2


def test_a_section_that_is_told_by_its_keys_alone_is_told_by_them_still() -> None:
    mask = mask_with({"NexusClient": {"Email": "drop"}})
    body = message(None, {"Email": MAIL}, reason="")
    left = mask_delivery(mask, Delivery(body))
    read = read_message(left)
    assert isinstance(read, Message)
    assert read.section == "Email Details"
    assert read.statement.values == {"Email": None}


def test_offenses_activities_and_new_keys_are_masked_as_their_tables_say() -> None:
    mask = mask_with(
        {
            "NexusOffense": {"Statute": "drop"},
            "NexusActivity": {"Details": "drop"},
            "NexusClient": {"*": "drop", "Gender": "keep"},
        }
    )
    case = message("Case Details", {"CaseNumber": "C1", "Offenses": [{"Label": "L", "Statute": "secret"}]}, identifier=HOME)
    assert details_of(mask, case)["Offenses"] == [{"Label": "L", "Statute": None}]
    drug_test = message(None, {"Result": "secret"}, type_="DrugTest", identifier=HOME)
    assert details_of(mask, drug_test) is None
    person = message(details={"FirstName": "Jo", "Gender": "Male", "Shoe": 9})
    assert details_of(mask, person) == {"SubType": "Personal Details", "FirstName": None, "Gender": "Male", "Shoe": None}


def test_a_message_that_cannot_be_read_is_masked_by_names_or_withheld() -> None:
    mask = mask_with({"NexusClient": {"Email": "drop", "Ethnicity": "hash"}})
    odd = message("No Such Section", {"Email": MAIL, "Ethinicity": "Elf"}, identifier=ZERO)
    left = mask_delivery(mask, Delivery(odd)).body
    assert MAIL.encode() not in left
    assert b"Elf" not in left
    assert json.loads(left)["Client"] == {"IntegrationId": "EX1"}
    for body in (b"no JSON: " + MAIL.encode(), b'["' + MAIL.encode() + b'"]', b"\xff" + MAIL.encode()):
        assert MAIL.encode() not in mask_delivery(mask, Delivery(body)).body
    assert mask_delivery(mask_with({"Client": {"Email": "drop"}}), Delivery(odd)).body is odd


def test_a_mask_shows_no_key() -> None:
    assert "a key of tests" not in repr(mask_with(HASH)) + repr(vars(mask_with(HASH)))


def test_terms_of_a_table_nobody_knows_are_for_everybody() -> None:
    terms = Terms(lambda table, column: None, lambda table: None)
    mask = Mask({"Odd": {"Mail": "drop"}}, terms, None)
    entry = mask_entry(mask, "Client", Broken("c1", None, json.dumps({"Client": {"Mail": MAIL}}), "odd"))
    assert isinstance(entry, Broken)
    assert MAIL not in entry.body
