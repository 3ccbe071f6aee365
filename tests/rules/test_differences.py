"""What one message of Nexus has changed, as the log tells it."""

from hashlib import sha256

import pytest

from delta_mirror.core.fold import Place
from delta_mirror.core.model import Row
from delta_mirror.nexus.differences import Values, find_differences

PERSON = Place("EX1", "Personal Details", "")
ADDRESS = Place("EX1", "Address Details", "Home")
CASE = Place("EX1", "Case Details", "17")
PICTURE = Place("EX1", "Profile Picture", "")


@pytest.mark.parametrize("place", [PERSON, ADDRESS, CASE, PICTURE])
@pytest.mark.parametrize("held", [None, {}, {"A": 1}])
def test_what_is_as_it_was_is_no_difference(place: Place, held: Values | None) -> None:
    assert find_differences(place, held, None if held is None else {**held}) == {}


def test_of_a_client_its_columns_are_told() -> None:
    before, after = {"FirstName": "Ada", "Gender": "F", "TimeZone": "Z"}, {"FirstName": "Bea", "Gender": "F", "Ethnicity": "E"}
    assert find_differences(PERSON, before, after) == {
        "FirstName": ["Ada", "Bea"],
        "TimeZone": ["Z", None],
        "Ethnicity": [None, "E"],
    }
    assert find_differences(PERSON, None, {"FirstName": "Ada"}) == {"FirstName": [None, "Ada"]}
    assert find_differences(PERSON, {"FirstName": "Ada"}, None) == {"FirstName": ["Ada", None]}


def test_of_an_item_the_row_is_told_as_it_was_and_as_it_is() -> None:
    assert find_differences(ADDRESS, {"Address": "A"}, {"Address": "B"}) == {
        "NexusAddress": [[{"Address": "A"}], [{"Address": "B"}]]
    }
    assert find_differences(ADDRESS, None, {"Address": "B"}) == {"NexusAddress": [[], [{"Address": "B"}]]}
    assert find_differences(ADDRESS, {}, None) == {"NexusAddress": [[{}], []]}


def test_activity_is_told_by_the_table_of_activities() -> None:
    visit = Place("EX1", "officevisit", "1")
    assert find_differences(visit, None, {"Type": "Office Visit"}) == {"NexusActivity": [[], [{"Type": "Office Visit"}]]}


def test_offenses_of_a_case_are_told_beside_it_and_without_order() -> None:
    theft: Row = {"Label": "Theft"}
    fraud: Row = {"Label": "Fraud"}
    before: Values = {"CaseNumber": 17, "Offenses": [theft, fraud]}
    assert find_differences(CASE, before, {"CaseNumber": 17, "Offenses": [fraud, theft]}) == {}
    assert find_differences(CASE, before, {"CaseNumber": 17, "Offenses": [theft, theft]}) == {
        "NexusOffense": [[theft, fraud], [theft, theft]]
    }
    assert find_differences(CASE, before, {"CaseNumber": 18, "Offenses": [fraud, theft]}) == {
        "NexusCase": [[{"CaseNumber": 17}], [{"CaseNumber": 18}]]
    }
    assert find_differences(CASE, before, None) == {"NexusCase": [[{"CaseNumber": 17}], []], "NexusOffense": [[theft, fraud], []]}
    assert find_differences(CASE, {"CaseNumber": 17}, {"CaseNumber": 17, "Offenses": [theft]}) == {"NexusOffense": [[], [theft]]}
    assert before == {"CaseNumber": 17, "Offenses": [theft, fraud]}


def test_offenses_of_what_has_none_are_a_column_as_any_other() -> None:
    assert find_differences(ADDRESS, {"Offenses": "x"}, {"Offenses": "y"}) == {
        "NexusAddress": [[{"Offenses": "x"}], [{"Offenses": "y"}]]
    }


def test_picture_is_told_by_its_hash() -> None:
    old, new = (sha256(image).hexdigest() for image in (b"aGk=", b"aG8="))
    assert find_differences(PICTURE, {"Image": "aGk="}, {"Image": "aG8="}) == {
        "NexusPicture": [[{"Image": old}], [{"Image": new}]]
    }
