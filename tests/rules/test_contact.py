"""The fields of a contact, how they are compared and set."""

import json
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delta_mirror.accela.contact import (
    FIELDS,
    Contact,
    changed_beside,
    differing,
    marked,
    marks,
    obstructed,
    shown,
    why_not_mappable,
    with_fields,
)
from delta_mirror.accela.exact import UnreadableError, read_json, write_json

# The vendor's page on updating a contact, "Request Information": its 42 body fields, of an object its parts.
TEXTS = """businessName comment driverLicenseNumber email fax faxCountryCode federalEmployerId firstName fullName
individualOrOrganization lastName middleName organizationName passportNumber phone1 phone1CountryCode phone2 phone2CountryCode
phone3 phone3CountryCode postOfficeBox socialSecurityNumber stateIdNumber suffix title tradeName address.addressLine1
address.addressLine2 address.addressLine3 address.city address.postalCode"""
ENUMERATIONS = """birthCity birthRegion birthState driverLicenseState gender preferredChannel race relation salutation status type
address.country address.state"""
DATE_TIMES = "birthDate deceasedDate"
NOT_MAPPABLE = ("id", "serviceProviderCode", "address")


def test_all_body_fields_of_the_vendor_are_known_with_their_types() -> None:
    assert dict(FIELDS) == {
        **dict.fromkeys(TEXTS.split(), "text"),
        **dict.fromkeys(ENUMERATIONS.split(), "enumeration"),
        **dict.fromkeys(DATE_TIMES.split(), "date_time"),
    }
    tops = {name.partition(".")[0] for name in FIELDS} | {"id", "serviceProviderCode"}
    assert len(tops) == 42


@pytest.mark.parametrize(
    ("field", "why"),
    [
        ("id", "is assigned by Accela and cannot be mapped"),
        ("serviceProviderCode", "is assigned by Accela"),
        ("address", 'is a whole object; map its parts, each in quotes: "address.addressLine1", "address.city" ...'),
        ("gender.value", 'is a part of an enumeration; map "gender", and its value is sent'),
        ("address.state.text", 'is a part of an enumeration; map "address.state", and its value is sent'),
        ("FirstName", "is no field of a contact"),
        ("address.zip", "is no field of a contact"),
        ("firstName.value", "is no field of a contact"),
        ("", "is no field of a contact"),
    ],
)
def test_a_field_that_cannot_be_mapped_says_why(field: str, why: str) -> None:
    assert (why_not_mappable(field) or "").startswith(why)
    assert why_not_mappable("firstName") is None


@pytest.mark.parametrize(
    ("field", "held", "text"),
    [
        ("firstName", "Ann", "Ann"),
        ("firstName", " Ann", " Ann"),
        ("firstName", "", ""),
        ("firstName", "  ", ""),
        ("firstName", None, ""),
        ("firstName", True, "true"),
        ("firstName", False, "false"),
        ("birthDate", "1980-02-03", "1980-02-03"),
        ("birthDate", "1980-02-03 00:00:00", "1980-02-03"),
        ("birthDate", "1980-02-03T13:00:00Z", "1980-02-03"),
        ("gender", {"value": "F", "text": "Female"}, "F"),
        ("gender", {"value": None, "text": None}, ""),
        ("gender", {"text": "Female"}, ""),
        ("gender", "F", "F"),
        ("gender", None, ""),
        ("gender", [], ""),
    ],
)
def test_a_field_is_compared_by_value_by_its_first_ten_characters_and_blank_like_null(field: str, held: Any, text: str) -> None:
    assert shown({field: held}, field) == text
    assert shown({}, field) == ""


def test_a_field_of_the_address_is_compared_as_any_other() -> None:
    held: Contact = {"city": "There", "address": {"city": "Here", "state": {"value": "CA", "text": "California"}}}
    assert (shown(held, "address.city"), shown(held, "address.state"), shown(held, "address.postalCode")) == ("Here", "CA", "")
    assert shown({"address": None}, "address.city") == ""


@pytest.mark.parametrize("address", ["nowhere", [], "", True])
def test_what_stands_where_the_address_belongs_is_in_the_way_of_its_parts_alone(address: Any) -> None:
    assert obstructed({"address": address}, {"firstName": "Ann", "address.city": "Here", "address.state": "CA"}) == ["address"]
    assert obstructed({"address": address, "firstName": []}, {"firstName": "Ann"}) == []


@pytest.mark.parametrize("contact", [{}, {"address": None}, {"address": {}}, {"address": {"city": "Here"}}])
def test_address_that_is_one_or_can_become_one_is_in_the_way_of_nothing(contact: Any) -> None:
    assert obstructed(contact, {"address.city": "There"}) == []


@pytest.mark.parametrize("address", [None, "nowhere", [], {}])
def test_an_address_that_is_none_yet_becomes_one(address: Any) -> None:
    assert with_fields({"address": address}, {"address.city": "Here"}) == {"address": {"city": "Here"}}
    assert with_fields({}, {"address.city": "Here"}) == {"address": {"city": "Here"}}


def test_an_enumeration_is_set_by_its_value_alone_also_where_it_holds_that_already() -> None:
    before: Contact = {"gender": {"value": "F", "text": "Female"}, "type": {"value": "A", "text": "a"}}

    after = with_fields(before, {"gender": "M", "type": "A"})

    assert after == {"gender": {"value": "M"}, "type": {"value": "A"}}
    assert before["gender"] == {"value": "F", "text": "Female"}


def test_a_date_that_is_the_same_day_stays_in_the_form_of_the_service() -> None:
    assert with_fields({"birthDate": "1980-02-03 00:00:00"}, {"birthDate": "1980-02-03"}) == {"birthDate": "1980-02-03 00:00:00"}


@pytest.mark.parametrize(("blank", "sent"), [(None, (None, None)), ("", ("", {"value": ""}))])
def test_a_field_is_cleared_by_null_or_by_an_empty_text_and_one_that_is_blank_stays(blank: Any, sent: tuple[Any, Any]) -> None:
    before: Contact = {"email": "x", "gender": {"value": "F"}, "fax": " "}

    after = with_fields(before, {"email": None, "gender": None, "fax": None, "title": None}, blank=blank)

    assert after == {"email": sent[0], "gender": sent[1], "fax": " "}


def test_what_differs_is_named_in_the_order_of_the_map() -> None:
    held: Contact = {"firstName": "Ann", "lastName": "", "birthDate": "1980-02-03 00:00:00"}

    assert differing(held, {"lastName": "X", "firstName": "Bea", "birthDate": "1980-02-03", "email": None}) == [
        *("lastName", "firstName")
    ]


def test_what_changed_beside_the_mapped_fields_is_named_of_the_address_by_its_parts() -> None:
    before: Contact = {"a": "1", "firstName": "Ann", "address": {"city": "X", "state": None}, "gone": "1"}
    after: Contact = {"a": "2", "firstName": "Bea", "address": {"city": "X", "state": {"value": "CA"}}, "new": None}

    assert changed_beside(before, after, ["firstName"]) == ["a", "address.state", "gone"]
    assert changed_beside(before, before, []) == []
    assert changed_beside({}, {"address": {"city": "X"}}, ["address.state"]) == ["address.city"]
    assert changed_beside({"address": "X"}, {}, []) == ["address"]
    assert changed_beside({"address": {"city": "X"}}, {"address": None}, []) == ["address.city"]


def test_marks_tell_what_a_contact_holds_and_not_what_it_is() -> None:
    left = marks("253", {"firstName": "Bea", "email": None, "gender": "F"}, ["firstName", "email"])

    assert set(left) == {"firstName", "email"}
    assert "Bea" not in json.dumps(left)
    assert marked("253", {"firstName": "Bea", "email": " "}, left) == ["firstName", "email"]
    assert marked("253", {"firstName": "Ann", "email": "x"}, left) == []
    assert marks("254", {"firstName": "Bea"}, ["firstName"])["firstName"] != left["firstName"]


def test_mark_is_written_as_mirrors_hold_it_already() -> None:
    whole = "2\0firstName\0\ud800".encode(errors="surrogatepass")
    assert marks("2", {"firstName": "\ud800"}, ["firstName"]) == {"firstName": sha256(whole).hexdigest()[:16]}


# JSON


@pytest.mark.parametrize(
    "text",
    ['{"a":1.10,"b":[1e400,12345678901234567890123,-0,{"c":null,"d":true}],"é":"\\ud800","":""}', "[]", '"x"', "0"],
)
def test_json_goes_back_to_the_letter(text: str) -> None:
    written = write_json(read_json(text.encode()))

    assert written.isascii()
    assert json.loads(written, parse_float=str, parse_int=str) == json.loads(text, parse_float=str, parse_int=str)


def test_number_is_written_as_a_number_with_the_digits_sent() -> None:
    assert write_json(read_json(b'{"a": [1.10, "1.10", 1E400]}')) == '{"a":[1.10,"1.10",1E400]}'


def test_what_is_nested_more_deeply_than_a_contact_can_be_is_refused() -> None:
    assert write_json(read_json(b"[" * 100 + b"]" * 100)) == "[" * 100 + "]" * 100
    with pytest.raises(UnreadableError, match=r"^the answer is nested too deeply$"):
        read_json(b"[" * 101 + b"]" * 101)


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"a":NaN}', b"\xff", b"[" * 100_000, b'{"a":1'])
def test_what_is_no_json_is_refused_without_a_word_of_it(body: bytes) -> None:
    with pytest.raises(UnreadableError) as caught:
        read_json(body)
    assert str(caught.value) == "the answer is not JSON"
    assert caught.value.__cause__ is None


json_values = st.recursive(
    st.none() | st.booleans() | st.text(max_size=3) | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)
contacts = st.fixed_dictionaries(
    {},
    optional={
        "address": st.none() | st.dictionaries(st.sampled_from(["city", "state", "zone"]), json_values),
        **dict.fromkeys(["firstName", "gender", "birthDate", "unknown"], json_values),
    },
)
wanted = st.dictionaries(st.sampled_from(sorted(FIELDS)), st.none() | st.text(max_size=12), max_size=6)


@given(contact=contacts, wanted=wanted)
def test_setting_fields_leaves_everything_else_and_the_contact_itself_as_it_was(
    contact: Any, wanted: dict[str, str | None]
) -> None:
    before = json.dumps(contact, sort_keys=True)

    after = json.loads(json.dumps(with_fields(contact, wanted)))

    assert json.dumps(contact, sort_keys=True) == before
    for held in (contact, after):
        address = held.get("address")
        for name in wanted:
            above, _, last = name.rpartition(".")
            if not above:
                held.pop(name, None)
            elif isinstance(address, dict):
                address.pop(last, None)
    if any("." in name for name in wanted) and not isinstance(contact.get("address"), dict):
        contact.pop("address", None)  # what was no address has made room for one
        if after.get("address") in ({}, None, "") or not isinstance(after.get("address"), dict):
            after.pop("address", None)
    assert after == contact
