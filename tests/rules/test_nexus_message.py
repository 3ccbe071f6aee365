"""A Nexus message as bytes -> what it says."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from delta_mirror.core.values import read_ticks
from delta_mirror.nexus.delivery import Delivery
from delta_mirror.nexus.message import Message, Unreadable, read_message
from delta_mirror.nexus.sections import SECTIONS, compact
from nexus_messages import HOME, SAMPLE, ZERO, message


def read(body: bytes, message_id: str | None = None, sequence: int | None = None) -> Message:
    found = read_message(Delivery(body, message_id, sequence))
    assert isinstance(found, Message), found.reason
    return found


def values(body: bytes) -> Mapping[str, Any]:
    return read(body).statement.values


def reason(body: bytes) -> str:
    found = read_message(Delivery(body))
    assert isinstance(found, Unreadable), found
    return found.reason


def bent(**changes: Any) -> bytes:
    """Return a sound message with whole parts of it replaced; None takes a part away."""
    parts = json.loads(message(details={"FirstName": "Ada"})) | changes
    return json.dumps({name: part for name, part in parts.items() if part is not None}).encode()


# The whole message


def test_the_sample_of_the_vendor_is_read_as_printed() -> None:
    found = read(SAMPLE)
    assert found.place == ("EX123456", "Personal Details", "")
    assert found.statement.values == {
        "FirstName": "Johnathan",
        "LastName": "Farmer",
        "DateOfBirth": "1980-05-28",
        "TimeZone": "Mountain Standard Time",
        "Gender": "Male",
        "Ethnicity": "Caucasian",
        "StaticRiskRating": "High - Violence",
        "NeedsClassification": "High - Mental Health",
    }
    assert not found.statement.removes
    assert found.occurred_at == "2019-02-15T14:52:23.0272547Z"
    assert (found.type, found.section) == ("ClientProfile", "Personal Details")
    assert not any(found.unknown)


def test_keys_of_the_envelope_may_stand_in_any_order_and_case() -> None:
    parts = json.loads(SAMPLE)
    turned = {name.upper(): {key.lower(): value for key, value in parts[name].items()} for name in reversed(list(parts))}
    assert read(json.dumps(turned).encode())[1:2] == read(SAMPLE)[1:2]
    assert values(json.dumps(turned).encode()) == values(SAMPLE)


def test_a_message_is_the_same_however_its_bytes_are_laid_out_and_another_if_anything_it_says_differs() -> None:
    parts = json.loads(SAMPLE)
    assert read(json.dumps(parts, indent=3).encode()).key == read(SAMPLE).key
    assert read(json.dumps(dict(reversed(parts.items()))).encode()).key == read(SAMPLE).key
    others = {
        read(message(details={"FirstName": "Ada"}, **changes)).key
        for changes in (
            {},
            {"client": "EX2"},
            {"identifier": HOME},
            {"reason": "Created"},
            {"at": "2026-03-01T10:00:00.0000001Z"},
            {"details": {"FirstName": "Bo"}},
        )
        if "details" not in changes
    } | {read(message(details={"FirstName": "Bo"})).key, read(message(None, {"FirstName": "Ada"})).key}
    assert len(others) == 7


@pytest.mark.parametrize(
    ("part", "name"),
    [
        *((None, "Client"), (None, "Activity"), (None, "Details"), (None, "Action"), ("Client", "IntegrationId")),
        *(
            ("Activity", "Identifier"),
            ("Activity", "Type"),
            ("Details", "SubType"),
            ("Action", "Reason"),
            ("Action", "OccurredOn"),
        ),
    ],
)
def test_of_two_spellings_in_the_envelope_the_right_one_wins_and_two_wrong_ones_have_to_say_the_same(
    part: str | None, name: str
) -> None:
    def spelled(**members: Any) -> bytes:
        whole = json.loads(message("Address Details", {"Address": "x"}, identifier=HOME))
        within = whole if part is None else whole[part]
        right = within.pop(name)
        within |= {spelling: right if value == "right" else value for spelling, value in members.items()}
        return json.dumps(whole).encode()

    right = read(spelled(**{name: "right"}))
    for body in (
        spelled(**{name.lower(): "wrong", name: "right", name.upper(): "odd"}),
        spelled(**{name.upper(): "right"}),
        spelled(**{name.upper(): "right", name.lower(): "right"}),
    ):
        found = read(body)
        assert found[1:2] + found[3:6] == right[1:2] + right[3:6]
        assert found.key == right.key or part == "Details"  # whose keys are of the message, however they are spelled
    assert reason(spelled(**{name.upper(): "right", name.lower(): "wrong"})) == (
        f"{name} stands in it twice, in different spellings and with different values"
    )


# Which section


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.name)
def test_section_is_told_by_subtype_by_reason_and_by_keys(section: Any) -> None:
    details: dict[str, Any] = dict.fromkeys(section.columns, "x") | ({"Offenses": []} if section.name == "Case Details" else {})
    for spelling in (section.name, section.name.replace(" ", ""), section.name.lower(), section.name.removesuffix(" Details")):
        assert read(message(spelling, details, identifier=HOME)).place.section == section.name
        assert read(message(None, details, identifier=HOME, reason=f"{spelling} Updated")).place.section == section.name
    assert read(message(None, details, identifier=HOME)).place.section == section.name


@pytest.mark.parametrize(
    ("other", "name"),
    [("Client Type", "Account Details"), ("Court Case", "Case Details"), ("Court Case Details", "Case Details")],
)
def test_some_sections_have_another_name(other: str, name: str) -> None:
    assert read(message(other, {"Status": "Active"}, identifier=HOME)).place.section == name
    assert read(message(None, {"Status": "Active"}, reason=f"{other} Updated", identifier=HOME)).place.section == name


UNTOLD = "neither SubType nor Reason nor the keys of Details tell which section it is of"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (message("Tattoo Details", {"FirstName": "Ada"}), "Details.SubType names no section that is known"),
        (
            message(
                None, {"ContactType": "Mobile", "Contact": "555"}, reason="Emergency Contact Details Updated", identifier=HOME
            ),
            "Action.Reason names no section that is known",
        ),
        (message(None, {"Colour": "blue"}), UNTOLD),
        (message(None, {"Status": "Active"}), UNTOLD),
        (message(None, {"FirstName": "Ada", "LicensePlate": "X"}), UNTOLD),
        (message(None, {}), UNTOLD),
    ],
    ids=["subtype", "reason", "keys unknown", "keys of two sections", "keys from two sections", "no keys"],
)
def test_a_section_that_is_not_known_or_not_clear_is_unreadable(body: bytes, said: str) -> None:
    assert reason(body) == said


def test_keys_that_two_sections_have_do_not_hide_one_that_one_section_alone_has() -> None:
    assert read(message(None, {"Nick": "A", "Status": "Active", "Ethinicity": "x"})).place.section == "Personal Details"
    assert read(message(None, {"Status": "Active", "AssignedOfficer": "x", "ClientType": "y"})).place.section == "Account Details"


def test_a_reason_alone_names_a_section_where_there_are_no_details() -> None:
    body = bent(Action={"Reason": "Personal Details Removed", "OccurredOn": "2026-03-01T10:00:00Z"}, Details=None)
    found = read(body)
    assert (found.section, found.statement.removes) == ("Personal Details", True)


def test_long_names_are_compared_as_short_ones_are() -> None:
    assert [compact("Case Details" * times) for times in (1, 9_000)] == ["casedetails", "casedetails" * 9_000]


@pytest.mark.parametrize(
    ("said", "removes"),
    [
        ("Removed", True),
        ("Personal Details Removed", True),
        ("personal details deleted", True),
        ("Updated", False),
        ("Created", False),
        ("", False),
        ("Removed by mistake and restored", False),
    ],
)
def test_a_reason_that_ends_in_removed_or_deleted_empties(said: str, removes: bool) -> None:
    assert read(message(details={"FirstName": "Ada"}, reason=said)).statement.removes is removes


@pytest.mark.parametrize(
    ("verb", "rank"),
    [("Created", 0), ("added", 0), ("Updated", 1), ("changed", 1), ("merged", 1), ("", 1), ("Removed", 2), ("deleted", 2)],
)
def test_of_one_moment_what_creates_comes_first_and_what_removes_last(verb: str, rank: int) -> None:
    for said in (verb, f"Personal Details {verb}"):
        found = read(message(None, details={"FirstName": "Ada"}, reason=said), sequence=4)
        ticks = read_ticks("2026-03-01T10:00:00.0000000Z")
        assert found.place.section == "Personal Details"
        assert found.statement.order[:-16] == f"{ticks:019}{rank}{5:020}"


# Spellings and values


@pytest.mark.parametrize(
    ("sub_type", "sent", "column"),
    [
        ("Personal Details", "Ethinicity", "Ethnicity"),
        ("Personal Details", "Ethnicity", "Ethnicity"),
        ("Personal Details", "DateofBirth", "DateOfBirth"),
        ("Personal Details", "StaticRiskChecking", "StaticRiskRating"),
        ("Personal Details", "firstname", "FirstName"),
        ("Protective Order Details", "StayAwayLocations", "StayAwayLocation"),
    ],
)
def test_every_spelling_is_stored_under_the_right_name(sub_type: str, sent: str, column: str) -> None:
    assert values(message(sub_type, {sent: "x"}, identifier=HOME)) == {column: "x"}


@pytest.mark.parametrize(
    "details", [{"Ethinicity": "wrong", "Ethnicity": "right"}, {"Ethnicity": "right", "Ethinicity": "wrong"}]
)
def test_of_two_spellings_the_right_one_wins(details: dict[str, str]) -> None:
    assert values(message(details=details)) == {"Ethnicity": "right"}


def test_two_spellings_that_are_equally_wrong_are_unreadable_if_they_differ_and_one_if_not() -> None:
    said = "one of its keys stands there twice, in different spellings and with different values"
    assert reason(message(details={"FIRSTNAME": "a", "firstname": "b"})) == said
    assert reason(message(details={"Nick": "a", "nick": "b"})) == said
    assert values(message(details={"FIRSTNAME": "a", "firstname": "a"})) == {"FirstName": "a"}


def test_keys_that_differ_beyond_ascii_are_two_as_their_columns_are() -> None:
    for details in ({"Éa": "new", "éa": "old"}, {"STRASSE": "new", "straße": "old"}, {"\u212ainship": "x", "kinship": "y"}):
        assert values(message(details=details)) == details


def test_unknown_keys_are_kept_as_sent_and_said() -> None:
    found = read(message(details={"FirstName": "Ada", "Nick": "A", "Marks": [{"Where": "arm"}]}))
    assert found.unknown == (("Nick", "Marks"), ())
    assert found.statement.values == {"FirstName": "Ada", "Nick": "A", "Marks": '[{"Where":"arm"}]'}


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        (None, None),
        ("", None),
        (" ", " "),
        ("Yes", "Yes"),
        (True, 1),
        (False, 0),
        ("0012", "0012"),
        (12.5, 12.5),
        (123456789012345678901234567890, "123456789012345678901234567890"),
        ("2019-02-15", "2019-02-15"),
        ("2019-02-15T14:25Z", "2019-02-15T14:25+00:00"),
        ("2019-02-15T14:25", "2019-02-15T14:25"),
        ("2019-02-15T14:52:23.0272547Z", "2019-02-15T14:52:23.0272547+00:00"),
        ("2019-02-15T14:52:23.5-07:00", "2019-02-15T14:52:23.5000000-07:00"),
        ("1989-07-24T00:00", "1989-07-24T00:00"),
        ("4/5/2019 10:38 AM", "2019-04-05T10:38"),
        ("4/5/2019 12:38 AM", "2019-04-05T00:38"),
        ("4/5/2019 12:38 PM", "2019-04-05T12:38"),
        ("4/5/2019 1:38 AM", "2019-04-05T01:38"),
        ("4/5/2019 11:38 PM", "2019-04-05T23:38"),
        ("4/5/2019 0:38 AM", "4/5/2019 0:38 AM"),
        ("4/5/2019 0:38", "2019-04-05T00:38"),
        ("4/5/201 ", "4/5/201 "),
        ("2019/4/5T", "2019/4/5T"),
        ("12/25/2019 12:05:09 pm", "2019-12-25T12:05:09"),
        ("4/5/2019 22:38", "2019-04-05T22:38"),
        ("4/5/2019 13:38 PM", "4/5/2019 13:38 PM"),
        ("13/5/2019 10:38 AM", "13/5/2019 10:38 AM"),
        ("2/30/2019 10:38 AM", "2/30/2019 10:38 AM"),
        ("4/5/2019", "4/5/2019"),
        ("seen 4/5/2019 10:38 AM", "seen 4/5/2019 10:38 AM"),
    ],
)
def test_values_have_the_form_in_which_they_are_stored(sent: object, stored: object) -> None:
    assert values(message(details={"NeedsClassification": sent})) == {"NeedsClassification": stored}


def test_a_bare_date_with_the_month_first_is_a_date_where_a_date_is_meant() -> None:
    assert values(message(details={"DateOfBirth": "7/24/1989"})) == {"DateOfBirth": "1989-07-24"}
    assert values(message(details={"DateOfBirth": "2/30/1989"})) == {"DateOfBirth": "2/30/1989"}


def test_offenses_of_a_section_that_has_none_are_a_key_as_any_other() -> None:
    found = read(message(details={"Offenses": [1]}))
    assert (found.statement.values, found.unknown.keys) == ({"Offenses": "[1]"}, ("Offenses",))


def test_offenses_are_rows_of_their_own() -> None:
    sent = {
        "CaseNumber": 17,
        "Offenses": [{"Label": "Theft", "statute": "18-4", "IsPrimary": True, "Note": "x"}, {"Date": "4/5/2019", "Category": ""}],
    }
    found = read(message("Case Details", sent, identifier=HOME))
    assert found.statement.values == {
        "CaseNumber": 17,
        "Offenses": [{"Label": "Theft", "Statute": "18-4", "IsPrimary": 1, "Note": "x"}, {"Date": "2019-04-05"}],
    }
    assert found.unknown == ((), ("Note",))
    nothings: tuple[Any, ...] = (None, "", [])
    for nothing in nothings:
        assert values(message("Case Details", {"Offenses": nothing}, identifier=HOME)) == {"Offenses": []}


# Who and what


def test_ids_that_are_guids_are_in_lower_case_and_others_to_the_letter() -> None:
    found = read(message("Address Details", {"Address": "x"}, client=HOME.upper(), identifier=HOME.upper()))
    assert found.place == (HOME, "Address Details", HOME)
    assert read(message("Address Details", {}, client="Ex1", identifier=17)).place == ("Ex1", "Address Details", "17")
    as_long = "X" * len(HOME)
    assert read(message("Address Details", {}, identifier=as_long)).place.item_id == as_long


@pytest.mark.parametrize("identifier", [None, "", ZERO, " "])
@pytest.mark.parametrize(
    ("sub_type", "details", "item_id"),
    [
        ("Address Details", {"AddressType": "Home"}, "Home"),
        ("Contact Details", {"contacttype": "MobilePhone"}, "MobilePhone"),
        ("Vehicle Details", {"LicensePlate": "ABC 123"}, "ABC 123"),
        ("Employment Details", {"Employer": "Mill"}, "Mill"),
        ("Case Details", {"CaseNumber": 12}, "12"),
        ("Protective Order Details", {"OrderType": "Civil", "EffectiveDate": "4/5/2019"}, "Civil 2019-04-05"),
    ],
)
def test_without_an_identifier_an_item_is_known_by_its_natural_key(
    identifier: str | None, sub_type: str, details: dict[str, Any], item_id: str
) -> None:
    assert read(message(sub_type, details, identifier=identifier)).place.item_id == item_id


@pytest.mark.parametrize(
    ("sub_type", "details"),
    [
        ("Address Details", {"Address": "x"}),
        ("Address Details", {"AddressType": ""}),
        ("Protective Order Details", {"OrderType": "Civil"}),
        ("Protective Order Details", {"EffectiveDate": "2019-04-05"}),
    ],
)
def test_an_item_without_identifier_and_natural_key_is_unreadable(sub_type: str, details: dict[str, str]) -> None:
    said = reason(message(sub_type, details))
    assert said.startswith("Activity.Identifier names no item, and without it ")
    assert said.endswith((" AddressType would have to", " OrderType and EffectiveDate would have to"))


def test_a_section_of_which_there_is_one_needs_no_identifier() -> None:
    assert read(message("Email Details", {"Email": "a@example.com"}, identifier=None)).place.item_id == ""
    assert read(message("Email Details", {"Email": "a@example.com"}, identifier=HOME)).place.item_id == ""


@pytest.mark.parametrize("type_", ["Office Visit", "OfficeVisit", "officevisit", " office visit"])
def test_any_other_type_is_an_activity_by_its_type_without_blanks_and_case(type_: str) -> None:
    found = read(message(None, {"Result": "Kept", "At": "4/5/2019 10:38 AM"}, type_=type_, identifier=HOME))
    assert found.place == ("EX1", "officevisit", HOME)
    assert found.section is None
    assert found.statement.values == {
        "Type": type_,
        "OccurredOn": "2026-03-01T10:00:00.0000000+00:00",
        "Details": '{"At":"4/5/2019 10:38 AM","Result":"Kept"}',
    }


def test_an_activity_without_an_identifier_is_unreadable() -> None:
    assert "Activity.Identifier" in reason(message(None, {"Text": "x"}, type_="Note"))


@pytest.mark.parametrize(
    ("at", "meant"),
    [
        ("2019-02-15T14:25:13.4567890Z", "2019-02-15T14:25:13.456789Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),  # what .NET has where nothing was set
        ("2019-02-15T14:25Z", "2019-02-15T14:25:00Z"),
        ("2019-02-15T14:25:01.5", "2019-02-15T14:25:01.5Z"),
        ("2019-02-15T14:25:00-07:00", "2019-02-15T21:25:00Z"),
        ("4/5/2019 10:38 AM", "2019-04-05T10:38:00Z"),
        ("4/5/2019", "2019-04-05T00:00:00Z"),
        ("2019-02-15", "2019-02-15T00:00:00Z"),
    ],
)
def test_every_form_of_occurred_on_is_a_moment_in_utc(at: str, meant: str) -> None:
    ticks = read_ticks(meant)
    assert int(read(message(details={"FirstName": "x"}, at=at)).statement.order[:19]) == ticks
    assert read_ticks(read(message(details={"FirstName": "x"}, at=at)).occurred_at) == ticks


@pytest.mark.parametrize(
    "at",
    [
        *(None, "", "soon", "2019-13-01T00:00Z", 17, "0001-01-01T00:00+14:00", "9999-12-31T23:59:59-14:00", "24/12/2019", True),
        "2019-02-30T14:25:13.4567890Z",
    ],
)
def test_without_a_moment_a_message_is_unreadable(at: object) -> None:
    expected = {None: "is missing", "": "is missing", True: "is no text"}.get(at, "is no date-time")  # type: ignore[call-overload]
    assert reason(message(details={"FirstName": "x"}, at=at)) == f"Action.OccurredOn {expected}"


# What cannot be read


NO_JSON = "it is no JSON"
UNCLEAR = "a key stands twice in it, or it holds half a character, or is nested too deeply"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        pytest.param(b"", NO_JSON, id="nothing"),
        pytest.param(b"{", NO_JSON, id="half"),
        pytest.param(b"[1]", "it is no JSON object", id="an array"),
        pytest.param(b"null", "it is no JSON object", id="null"),
        pytest.param(b"\xff\xfe{}", NO_JSON, id="no UTF-8"),
        pytest.param(SAMPLE.replace(b"Farmer", b"Far\xffmer"), UNCLEAR, id="a byte that is no UTF-8"),
        pytest.param(SAMPLE.replace(b"Farmer", b"\\ud800"), UNCLEAR, id="half a character"),
        pytest.param(SAMPLE.replace(b"EX123456", b"\\ud800"), "it holds half a character", id="half a character in the id"),
        pytest.param(SAMPLE.replace(b'"Farmer"', b"NaN"), "it holds NaN, which is no JSON", id="NaN"),
        pytest.param(SAMPLE.replace(b"Farmer", b"a\x00b"), NO_JSON, id="a bare NUL"),
        pytest.param(SAMPLE.replace(b'"Farmer"', b"[" * 300 + b"]" * 300), UNCLEAR, id="deep"),
        pytest.param(SAMPLE.replace(b'"Farmer"', b"[" * 100_000), "it is nested too deeply", id="very deep"),
        pytest.param(SAMPLE.replace(b'"LastName"', b'"FirstName"'), UNCLEAR, id="a key twice"),
        pytest.param(
            SAMPLE.replace(b'"Type"', b'"Identifier"'), "a key stands twice in Activity", id="a key of the envelope twice"
        ),
        pytest.param(bent(Client=None), "Client is missing or no object", id="no client"),
        pytest.param(bent(Client={}), "Client.IntegrationId names nobody", id="no id"),
        pytest.param(bent(Client={"IntegrationId": ZERO}), "Client.IntegrationId names nobody", id="zero id"),
        pytest.param(bent(Client={"IntegrationId": True}), "Client.IntegrationId is no text", id="an id that is none"),
        pytest.param(bent(Client=[1]), "Client is missing or no object", id="client no object"),
        pytest.param(bent(Activity=None), "Activity is missing or no object", id="no activity"),
        pytest.param(bent(Activity={"Identifier": ZERO}), "Activity.Type is missing", id="no type"),
        pytest.param(bent(Activity={"Type": ["x"]}), "Activity.Type is no text", id="type no text"),
        pytest.param(bent(Action=None), "Action is missing or no object", id="no action"),
        pytest.param(bent(Details=[1]), "Details is no object", id="details no object"),
        pytest.param(message("Case Details", {"Offenses": "x"}, identifier=HOME), "Offenses is no list", id="offenses no list"),
        pytest.param(
            message("Case Details", {"Offenses": [1]}, identifier=HOME),
            "one of the Offenses is no object",
            id="an offense no object",
        ),
        pytest.param(
            SAMPLE.replace(b'{\n"Client"', b'{\n"Client": 1, "Client"', 1), "a key stands twice in it", id="the client twice"
        ),
        pytest.param(
            bent(Activity={"Type": "ClientProfile", "Identifier": 1.5}), "Activity.Identifier is no text", id="odd item"
        ),
        pytest.param(bent(Action={"Reason": [], "OccurredOn": "x"}), "Action.Reason is no text", id="reason no text"),
        pytest.param(message("x", {"SubType": 1.5}), "Details.SubType is no text", id="subtype no text"),
        pytest.param(message(None, {}, type_="Note"), "Activity.Identifier names no activity", id="an activity without a name"),
    ],
)
def test_what_cannot_be_read_is_unreadable_and_its_reason_names_no_value(body: bytes, said: str) -> None:
    assert reason(body).partition(" (at")[0] == said


def test_numbers_that_no_column_holds_are_their_digits() -> None:
    long = b"1" * 5000
    assert values(SAMPLE.replace(b'"Farmer"', long))["LastName"] == long.decode()
    assert values(SAMPLE.replace(b'"Farmer"', b"1e999"))["LastName"] == "1e999"


def test_a_nul_that_was_sent_as_an_escape_is_text() -> None:
    assert values(SAMPLE.replace(b"Farmer", b"a\\u0000b"))["LastName"] == "a\0b"
