"""`sync accela push`, against the simulated service over real HTTP: what is sent, what is not, and what is on record of it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from delta_mirror.errors import ConfigError, MirrorFileError
from delta_mirror.simulator.accela import AccelaDials, AccelaFault, AccelaService
from nexus_messages import message
from office import NOON, Office, contacts, messages_of

NAMES = '[accela.map.Client]\n"firstName" = "FirstName"\n"lastName" = "LastName"\n'
LINK = "Client,c-1,253,11,9"


@pytest.fixture
def service() -> Iterator[AccelaService]:
    with AccelaService(contacts("253", "254", "255")) as service:
        yield service


@pytest.fixture
def office(tmp_path: Path, service: AccelaService) -> Office:
    office = Office(tmp_path, service)
    office.configure(NAMES)
    return office


def linked(office: Office, **columns: str | None) -> None:
    """Mirror one client, and tie it to contact 253."""
    office.take("c-1", {"FirstName": "Bea", "LastName": "Example", **columns})
    office.link(LINK)


# What is sent


@pytest.mark.parametrize("put", ["merge", "replace"])
def test_a_changed_record_reaches_its_contact_and_nothing_else_in_it_changes(office: Office, put: str) -> None:
    office.service.dials = AccelaDials(put="replace" if put == "replace" else "merge")
    before = office.service.contacts["253"]
    linked(office)

    report = office.push()

    assert office.service.contacts["253"] == {**before, "firstName": "Bea"}
    assert (report.outcome, office.outcomes(), office.calls()) == ("done", ["pushed"], (2, 1))
    row = office.last_push()
    assert (row["entity"], row["id"], row["contact_id"], json.loads(row["fields"])) == ("Client", "c-1", "253", ["firstName"])
    assert (row["tenant_id"], row["location_id"], row["error"], row["marks"]) == (11, 9, None, None)
    assert row["trace_id"].startswith("trace-")
    assert office.sql("select contact_id, pushed_seq, pushed_at from _accela_links") == [("253", 1, "2026-05-28T20:26:40Z")]


def test_the_body_is_everything_that_the_service_gave_known_or_not_with_its_numbers_to_the_letter(office: Office) -> None:
    linked(office)

    office.push()

    [call] = [call for call in office.service.calls if call.method == "PUT"]
    assert '"list":[1,2.5,{"deep":null}]' in call.body
    assert json.loads(call.body) == {**contacts("253")["253"], "firstName": "Bea"}
    assert call.headers["content-type"] == "application/json"
    assert call.headers["authorization"] == "access-1"  # no Bearer
    assert [call.headers[f"x-accela-{name}"] for name in ("appid", "agency", "environment")] == [
        *("637000000000000001", "ISLANDTON", "PROD")
    ]


def test_a_second_run_with_nothing_changed_calls_nothing(office: Office) -> None:
    linked(office)
    office.push()
    calls = len(office.service.calls)

    report = office.push()

    assert (report.outcome, report.contacts, report.calls, len(office.service.calls)) == ("done", [], 0, calls)


def test_a_change_that_no_map_names_costs_one_get_and_is_on_record_as_unchanged(office: Office) -> None:
    linked(office)
    office.push()
    reads, writes = office.calls()
    office.client(FirstName="Bea", LastName="Example", EmailAddress="new@example.com")

    office.push()

    assert office.calls() == (reads + 1, writes)
    assert office.outcomes() == ["pushed", "unchanged"]
    assert office.push().contacts == []


def test_several_changes_of_one_record_are_one_push(office: Office) -> None:
    linked(office)
    office.push()
    for name in ("Cleo", "Dora", "Emma"):
        office.client(FirstName=name, LastName="Example")

    office.push()

    assert [body["firstName"] for _, body in office.service.written] == ["Bea", "Emma"]


def test_the_mirror_is_master_of_what_is_mapped_also_where_the_contact_was_changed_elsewhere(office: Office) -> None:
    linked(office)
    office.push()
    office.service.contacts["253"]["firstName"] = "Changed by hand"
    office.client(FirstName="Bea", LastName="Sample")

    office.push()

    assert (office.service.contacts["253"]["firstName"], office.service.contacts["253"]["lastName"]) == ("Bea", "Sample")
    assert json.loads(office.last_push()["fields"]) == ["firstName", "lastName"]


@pytest.mark.parametrize("get", ["array", "object"])
def test_a_contact_is_read_from_an_array_and_from_an_object(office: Office, get: str) -> None:
    office.service.dials = AccelaDials(get="object" if get == "object" else "array")
    linked(office)

    assert office.push().outcome == "done"


def test_an_id_with_reserved_characters_is_escaped_as_the_vendor_says(office: Office) -> None:
    odd = "A-1/2 b&c#d.e%"
    office.service.contacts[odd] = {**contacts("253")["253"], "id": odd}
    office.client(FirstName="Bea", LastName="Example")
    office.link(f"Client,c-1,{odd},11,9")

    assert office.push().outcome == "done"
    assert office.service.contacts[odd]["firstName"] == "Bea"
    assert "/v4/contacts/A.11.32.cb.dc.ed.0e.2" in {call.path for call in office.service.calls}


def test_the_language_goes_into_the_query(office: Office) -> None:
    office.configure(NAMES, lang="es_MX")
    linked(office)

    office.push()

    assert {call.query.get("lang") for call in office.service.calls if call.contact_id} == {"es_MX"}


def test_only_contacts_that_are_linked_and_have_changed_are_called(office: Office) -> None:
    for number in range(3):
        office.client(f"c-{number}", FirstName="Bea", LastName="Example")
    office.link("Client,c-0,253,11,9", "Client,c-1,254,11,9")
    office.push()
    office.service.calls.clear()
    office.client("c-1", FirstName="Cleo", LastName="Example")
    office.client("c-2", FirstName="Cleo", LastName="Example")

    office.push()

    assert {call.contact_id for call in office.service.calls if call.contact_id} == {"254"}


# Nexus


NEXUS = """[accela.map.NexusClient]
"firstName" = "FirstName"
"birthDate" = { column = "DateOfBirth", type = "date" }
"gender" = { column = "Gender", values = { Male = "M", Female = "F" } }
"address.addressLine1" = { table = "NexusAddress", where = { AddressType = "Home" }, column = "Address" }
"phone1" = { table = "NexusContact", where = { ContactType = "HomePhone" }, column = "Contact" }
"""


A, B = "5a0c2d6e-0000-4000-8000-00000000000a", "5a0c2d6e-0000-4000-8000-00000000000b"


def address(text: str | None, hour: int, *, item: str = A, kind: str = "Home", reason: str = "Updated") -> bytes:
    details = {} if text is None else {"AddressType": kind, "Address": text}
    return message("Address Details", details, identifier=item, reason=reason, at=f"2026-03-01T{hour:02}:00:00Z")


def nexus(office: Office) -> None:
    office.configure(NEXUS)
    person = {"FirstName": "Ann", "LastName": "Example", "DateOfBirth": "1980-02-03", "Gender": "Female"}
    office.ingest(message("Personal Details", person, at="2026-03-01T00:00:00Z"), address("1 Old Road", 1))
    office.link("NexusClient,EX1,253")
    office.push()


def test_a_changed_address_of_nexus_ends_in_the_contact(office: Office) -> None:
    nexus(office)
    assert office.outcomes() == ["unchanged"]
    office.ingest(address("2 New Street", 2))

    office.push()

    assert office.service.contacts["253"]["address"]["addressLine1"] == "2 New Street"
    assert office.service.contacts["253"]["address"]["city"] == "Nowhere"
    assert json.loads(office.last_push()["fields"]) == ["address.addressLine1"]


def line_of(office: Office) -> str:
    office.push()
    return str(office.service.contacts["253"]["address"]["addressLine1"])


def test_of_several_rows_the_one_that_nexus_changed_last_counts_whenever_its_message_came(office: Office) -> None:
    nexus(office)
    office.ingest(address("B at six", 6, item=B))
    assert line_of(office) == "B at six"
    office.ingest(address("A at five", 5))  # late: what happened at six came before it
    assert line_of(office) == "B at six"
    office.ingest(address("A at seven", 7))
    assert line_of(office) == "A at seven"
    office.ingest(address("Somewhere", 8, item="5a0c2d6e-0000-4000-8000-00000000000c", kind="Work"))
    assert line_of(office) == "A at seven"
    office.ingest(address(None, 9, reason="Address Removed"))
    assert line_of(office) == "B at six"


def test_of_several_rows_of_one_moment_the_one_with_the_lowest_key_counts(office: Office) -> None:
    nexus(office)
    office.ingest(address("B", 6, item=B), address("A", 6))

    assert line_of(office) == "A"


def test_an_address_that_is_removed_leaves_the_field_alone(office: Office) -> None:
    nexus(office)
    office.ingest(address(None, 2, reason="Address Details Removed"))

    office.push()

    assert office.service.contacts["253"]["address"]["addressLine1"] == "1 Old Road"
    assert office.outcomes()[-1] == "unchanged"


def test_an_address_that_is_removed_empties_the_field_where_the_map_says_so(office: Office) -> None:
    nexus(office)
    office.configure(NEXUS.replace('column = "Address" }', 'column = "Address", clear = true }'))
    office.ingest(address(None, 2, reason="Address Details Removed"))

    office.push()

    assert office.service.contacts["253"]["address"]["addressLine1"] is None
    assert office.service.contacts["253"]["address"]["city"] == "Nowhere"


def test_a_client_whom_only_an_activity_has_told_of_leaves_every_field_alone_until_more_is_known(office: Office) -> None:
    office.configure(NEXUS)
    office.ingest(message(None, {"Alert": "zone"}, client="EX9", type_="Alert", identifier=B))
    office.link("NexusClient,EX9,253")
    before = office.service.contacts["253"]

    assert [each.outcome for each in office.push().contacts] == ["unchanged"]
    assert (office.service.contacts["253"], office.calls()) == (before, (1, 0))
    office.ingest(message("Personal Details", {"FirstName": "Bea"}, client="EX9"))
    assert [each.outcome for each in office.push().contacts] == ["pushed"]
    assert office.service.contacts["253"] == {**before, "firstName": "Bea"}


def test_clients_of_nexus_are_linked_by_a_column_too(office: Office) -> None:
    office.configure(NEXUS.replace("]\n", ']\ncontact_id = "AgencyNumber"\n', 1))
    office.ingest(message("Personal Details", {"FirstName": "Bea", "AgencyNumber": 253}))

    assert [each.outcome for each in office.push().contacts] == ["pushed"]
    assert office.service.contacts["253"]["firstName"] == "Bea"


def test_of_rows_of_the_dds_the_one_that_the_log_has_last_counts(office: Office) -> None:
    office.configure('[accela.map.Client]\n"phone1" = { table = "ClientPhone", column = "Number" }')
    one, two, three = ({"Number": f"555-010{number}"} for number in (1, 2, 3))
    office.client(phones=[one])
    office.link(LINK)
    office.client(phones=[one, three, two])
    office.push()
    assert office.service.contacts["253"]["phone1"] == "555-0103"  # of two that came at once the first

    office.client(phones=[one, three, {**two, "Type": 32}])
    office.push()
    assert office.service.contacts["253"]["phone1"] == "555-0102"


def test_rows_of_a_child_table_of_the_dds_are_mapped_by_what_they_hold(office: Office) -> None:
    office.configure('[accela.map.Client]\n"phone1" = { table = "ClientPhone", where = { IsPrimary = true }, column = "Number" }')
    office.client(phones=[{"Number": "555-0101", "IsPrimary": 0}, {"Number": "555-0102", "IsPrimary": 1}])
    office.link(LINK)

    office.push()

    assert office.service.contacts["253"]["phone1"] == "555-0102"


# Clearing


CLEAR = '[accela.map.Client]\n"firstName" = "FirstName"\n"email" = { column = "EmailAddress", clear = true }\n'
CLEAR_GENDER = CLEAR + '"gender" = { column = "Sex", clear = true }\n'


def test_a_null_leaves_the_field_alone_unless_the_map_clears_it(office: Office) -> None:
    office.client("c-2", FirstName="Bea", EmailAddress="bea@example.com")
    office.configure(CLEAR)
    linked(office, FirstName=None)

    office.push()

    assert office.service.contacts["253"]["email"] is None
    assert office.service.contacts["253"]["firstName"] == "Ann"
    assert office.calls()[1] == 1


def test_a_field_that_null_does_not_clear_is_sent_once_as_an_empty_text(office: Office) -> None:
    office.service.dials = AccelaDials(null="ignored")
    office.configure(CLEAR_GENDER)
    office.client("c-2", EmailAddress="x@example.com", Sex="F", FirstName="Ann")
    office.client(FirstName="Bea")
    office.link(LINK)

    report = office.push()

    assert [body["email"] for _, body in office.service.written] == [None, ""]
    assert [body["gender"] for _, body in office.service.written] == [None, {"value": ""}]
    assert not office.service.contacts["253"]["email"]
    assert (report.outcome, office.outcomes(), office.calls()) == ("done", ["pushed"], (3, 2))


def test_a_field_that_cannot_be_cleared_is_named_and_not_tried_again_in_every_run(office: Office) -> None:
    office.service.dials = AccelaDials(null="ignored", empty="ignored")
    office.configure(CLEAR)
    office.client("c-2", EmailAddress="x@example.com", FirstName="Ann")
    office.client(FirstName="Bea")
    office.link(LINK)

    report = office.push()

    assert (report.outcome, office.outcomes()) == ("unfinished", ["partly"])
    assert office.last_push()["error"] == "did not take: email"
    assert office.calls() == (3, 2)
    assert office.push().contacts == []


# What does not take


def test_a_field_that_did_not_take_is_named_and_tried_again_only_after_a_change_or_when_asked(office: Office) -> None:
    office.service.dials = AccelaDials(lists={"gender": {"F": "Female", "M": "Male"}}, unknown="ignored")
    office.configure(NAMES + '"gender" = "Sex"\n')
    linked(office, Sex="X")

    report = office.push()

    [pushed] = report.contacts
    assert (report.outcome, pushed.outcome, pushed.missed) == ("unfinished", "partly", ("gender",))
    assert json.loads(office.last_push()["fields"]) == ["firstName", "gender"]
    assert office.last_push()["error"] == "did not take: gender"
    assert office.sql("select pushed_seq from _accela_links") == [(1,)]
    assert office.push().contacts == []
    assert [each.outcome for each in office.push(retry_failed=True).contacts] == ["partly"]
    office.client(FirstName="Bea", LastName="Example", Sex="M")
    assert [each.outcome for each in office.push().contacts] == ["pushed"]
    assert office.push(retry_failed=True).contacts == []


def test_a_refused_value_fails_with_the_names_of_its_fields_and_no_value_and_is_tried_again(office: Office) -> None:
    office.service.dials = AccelaDials(lists={"gender": {"F": "Female"}})
    office.configure(NAMES + '"gender" = "Sex"\n')
    linked(office, Sex="Zebra")

    report = office.push()

    [pushed] = report.contacts
    assert (report.outcome, pushed.outcome) == ("unfinished", "failed")
    assert pushed.error == "data_validation_error (status 400), naming gender"
    assert "Zebra" not in " ".join(messages_of(report)) + str(office.last_push())
    assert office.calls() == (1, 1)  # the answer says that nothing was written
    assert [each.outcome for each in office.push().contacts] == ["failed"]


def test_one_contact_that_fails_does_not_stop_the_others(office: Office) -> None:
    for number, contact in enumerate(("253", "254", "255")):
        office.client(f"c-{number}", FirstName="Bea", LastName="Example")
        office.link(f"Client,c-{number},{contact},11,9")
    del office.service.contacts["254"]
    office.service.faults.append(AccelaFault("answer", "PUT", contact_id="253", status=403))

    report = office.push()

    assert {each.link.contact_id: each.outcome for each in report.contacts} == {"253": "failed", "254": "failed", "255": "pushed"}
    assert [each.error for each in report.contacts][:2] == [
        "forbidden (status 403)",
        "the contact is gone (404); mend the link, or remove it",
    ]


def test_a_contact_that_is_gone_fails_in_each_run_with_one_get(office: Office) -> None:
    linked(office)
    del office.service.contacts["253"]

    assert [office.push().outcome for _ in range(2)] == ["unfinished", "unfinished"]
    assert (office.outcomes(), office.calls()) == (["failed", "failed"], (2, 0))


def test_an_answer_with_another_contact_is_never_written_back(office: Office) -> None:
    linked(office)
    office.service.faults.append(
        AccelaFault("answer", "GET", status=200, body={"result": [contacts("999")["999"]], "status": 200})
    )

    report = office.push()

    assert report.outcome == "unfinished"
    assert (office.outcomes(), office.calls()[1]) == (["failed"], 0)
    assert "another contact" in office.last_push()["error"]


def test_a_value_that_is_not_listed_leaves_the_field_alone_and_is_said(office: Office) -> None:
    office.configure(NAMES + '"gender" = { column = "Sex", values = { Female = "F" } }\n')
    linked(office, Sex="Other")

    report = office.push()

    assert report.contacts[0].left_alone == {"gender": "its value is not in the table of values"}
    assert office.service.contacts["253"]["gender"] == {"value": "F", "text": "Female"}
    assert report.outcome == "done"


# Scripts, time-outs, lost answers


def test_an_error_of_a_script_after_the_write_is_pushed_with_a_warning(office: Office) -> None:
    linked(office)
    office.service.faults.append(AccelaFault("emse", "PUT"))

    report = office.push()

    assert (report.outcome, office.outcomes()) == ("done", ["pushed"])
    assert office.last_push()["error"] == "emse_error: the write was done, and a script of the agency failed after it"
    assert report.contacts[0].warning
    assert office.push().contacts == []


def test_an_error_of_a_script_before_the_write_fails_and_is_tried_again(office: Office) -> None:
    linked(office)
    office.service.faults.append(AccelaFault("answer", "PUT", status=500))

    report = office.push()

    assert (report.outcome, office.outcomes(), office.service.written) == ("unfinished", ["failed"], [])
    assert "internal_server_error (status 500)" in office.last_push()["error"]
    assert office.push().outcome == "done"
    assert office.outcomes() == ["failed", "pushed"]


def test_a_server_error_after_which_the_contact_shows_the_change_is_pushed(office: Office) -> None:
    linked(office)

    def fail_after(contact_id: str) -> None:
        raise RuntimeError("a script that breaks off after the write")

    office.service.after_write = fail_after

    report = office.push()
    office.service._went_wrong.clear()

    assert (report.outcome, office.outcomes()) == ("done", ["pushed"])
    assert "the write was done, although the answer was internal_server_error" in office.last_push()["error"]


@pytest.mark.parametrize("written", ["at once", "no"])
def test_a_put_whose_answer_is_lost_is_settled_by_a_get_and_never_sent_blindly(office: Office, written: str) -> None:
    linked(office)
    office.service.faults.append(AccelaFault("lost", "PUT", written="at once" if written == "at once" else "no"))

    report = office.push()

    if written == "at once":
        assert (report.outcome, office.outcomes(), office.calls()) == ("done", ["pushed"], (2, 1))
        assert office.push().contacts == []
    else:
        assert (report.outcome, office.outcomes(), office.calls()) == ("unfinished", ["failed"], (2, 1))
        assert office.push().outcome == "done"
        assert (office.outcomes(), office.calls()) == (["failed", "pushed"], (4, 2))
    assert len(office.service.written) == 1


def test_a_slow_script_that_writes_after_the_time_is_out_is_found_by_the_next_run_and_not_sent_again(office: Office) -> None:
    from threading import Event

    release, done = Event(), Event()
    office.configure(NAMES, http="")
    office.configuration.write_text(office.configuration.read_text().replace('timeout = "2s"', 'timeout = "1s"'))
    linked(office)
    office.service.faults.append(AccelaFault("slow", "PUT", written="late", release=release))
    office.service.after_write = lambda contact_id: done.set()

    first = office.push()

    assert (first.outcome, office.outcomes()) == ("unfinished", ["failed"])
    assert office.last_push()["marks"] is not None
    assert "no whole answer" in office.last_push()["error"]
    release.set()
    assert done.wait(10)
    second = office.push()
    assert (second.outcome, office.outcomes()) == ("done", ["pushed"])
    assert office.last_push()["marks"] is None
    assert len(office.service.written) == 1
    assert office.push().contacts == []


def test_a_push_that_a_killed_run_has_left_behind_is_settled_first_and_not_sent_again(office: Office) -> None:
    linked(office)
    office.push()
    office.client(FirstName="Cleo", LastName="Example")
    office.push()
    office.sql("update _accela_pushes set outcome = 'sent', marks = ? where number = 2", marks_of(office, "Cleo"))
    office.sql("update _accela_links set pushed_seq = 1")

    report = office.push()

    assert (report.outcome, [each.outcome for each in report.contacts]) == ("done", ["pushed"])
    assert (office.outcomes(), len(office.service.written)) == (["pushed", "pushed"], 2)


def test_a_push_left_behind_is_settled_by_what_was_sent_then_and_the_newer_change_is_sent_with_the_same_reading(
    office: Office,
) -> None:
    linked(office)
    office.push()
    office.client(FirstName="Cleo", LastName="Example")
    office.push()
    office.sql("update _accela_pushes set outcome = 'sent', marks = ? where number = 2", marks_of(office, "Cleo"))
    office.sql("update _accela_links set pushed_seq = 1")
    office.client(FirstName="Dora", LastName="Example")
    reads, writes = office.calls()

    office.push()

    assert office.outcomes() == ["pushed", "pushed", "pushed"]
    assert office.calls() == (reads + 2, writes + 1)


def test_a_push_left_behind_that_was_never_carried_out_is_failed_and_sent_anew(office: Office) -> None:
    linked(office)
    office.push()
    office.client(FirstName="Cleo", LastName="Example")
    office.push()
    office.sql("update _accela_pushes set outcome = 'sent', marks = ? where number = 2", marks_of(office, "Dora"))
    office.sql("update _accela_links set pushed_seq = 1")
    office.service.contacts["253"]["firstName"] = "Bea"

    office.push()

    assert office.outcomes() == ["pushed", "failed", "pushed"]
    assert office.service.contacts["253"]["firstName"] == "Cleo"


def test_a_push_left_behind_is_settled_also_when_its_link_has_gone(office: Office) -> None:
    linked(office)
    office.push()
    office.sql("update _accela_pushes set outcome = 'sent', marks = ?", marks_of(office, "Bea"))
    office.link("Client,c-1,,11,9")

    report = office.push()

    assert (report.outcome, office.outcomes(), report.contacts) == ("done", ["pushed"], [])


def test_a_push_left_behind_at_an_old_contact_says_nothing_of_the_new_one(office: Office) -> None:
    linked(office)
    office.push()
    office.sql("update _accela_pushes set outcome = 'sent', marks = ?", marks_of(office, "Bea"))
    office.link("Client,c-1,254,11,9")
    office.service.faults.append(AccelaFault("answer", "GET", contact_id="254", status=403))

    assert [each.outcome for each in office.push().contacts] == ["failed"]
    assert office.outcomes() == ["pushed", "failed"]
    assert [each.outcome for each in office.push().contacts] == ["pushed"]


def marks_of(office: Office, first_name: str) -> str:
    from delta_mirror.accela.contact import marks

    return json.dumps(marks("253", {"firstName": first_name}, ["firstName"]))


def test_somebody_else_between_reading_and_writing_is_said_as_far_as_the_second_reading_shows(office: Office) -> None:
    linked(office)

    def change(contact_id: str) -> None:
        office.service.contacts[contact_id]["comment"] = "written by somebody else"
        office.service.contacts[contact_id]["address"]["city"] = "Elsewhere"

    office.service.after_write = change

    report = office.push()

    assert (report.outcome, report.contacts[0].beside) == ("done", ("address.city", "comment"))
    assert office.last_push()["error"] == "changed beside it: address.city, comment"


# Links, deletions


def test_a_changed_contact_is_pushed_anew_and_a_removed_link_no_more(office: Office) -> None:
    linked(office)
    office.push()
    office.link("Client,c-1,254,11,9")

    office.push()

    assert office.service.contacts["254"]["firstName"] == "Bea"
    office.link("Client,c-1,,11,9")
    office.client(FirstName="Cleo", LastName="Example")
    assert office.push().contacts == []


@pytest.mark.parametrize("deletes", ["remove", "mark"])
def test_a_deleted_record_leaves_its_contact_alone_and_is_noted_once(office: Office, deletes: str) -> None:
    office.configure(NAMES)
    office.configuration.write_text(
        office.configuration.read_text().replace('path = "mirror.db"', f'path = "mirror.db"\ndeletes = "{deletes}"')
    )
    office.client(FirstName="Bea", LastName="Example", deletes=deletes)
    office.link(LINK)
    office.push()
    calls = len(office.service.calls)
    office.client(FirstName="Bea", LastName="Example", deleted=True, deletes=deletes)

    report = office.push()

    assert (report.outcome, office.outcomes()) == ("done", ["pushed", "source_deleted"])
    assert len(office.service.calls) == calls
    assert office.push().contacts == []
    office.client(FirstName="Cleo", LastName="Example", deletes=deletes)
    assert [each.outcome for each in office.push().contacts] == ["pushed"]


def test_a_record_that_was_deleted_before_its_first_push_is_noted_too(office: Office) -> None:
    linked(office)
    office.client(FirstName="Bea", LastName="Example", deleted=True)

    assert [each.outcome for each in office.push().contacts] == ["source_deleted"]
    assert office.push().contacts == []


def test_a_link_of_a_record_that_the_mirror_does_not_hold_waits_until_it_does(office: Office) -> None:
    office.client("other", FirstName="Ann", LastName="Example")
    assert office.link(LINK).unknown == 1

    assert (office.push().absent, office.outcomes()) == (1, [])
    office.client(FirstName="Bea", LastName="Example")
    assert [each.outcome for each in office.push().contacts] == ["pushed"]


def test_a_record_that_came_by_a_baseline_and_has_no_change_in_the_log_is_pushed_once(office: Office) -> None:
    linked(office)
    office.sql("delete from _changes")

    assert [each.outcome for each in office.push().contacts] == ["pushed"]
    assert office.push().contacts == []


def test_where_the_log_was_pruned_a_record_is_read_once_more(office: Office) -> None:
    linked(office)
    office.push()
    office.client("c-2", FirstName="Ann", LastName="Example")
    office.sql("insert into _meta (key, value) values ('pruned_through', '2')")

    assert [each.outcome for each in office.push().contacts] == ["unchanged"]
    assert office.push().contacts == []


def test_links_far_behind_the_log_are_brought_up_so_that_it_need_not_be_read_from_there(office: Office) -> None:
    linked(office)
    office.push()
    office.client("c-2", FirstName="Ann", LastName="Example")
    office.sql("update sqlite_sequence set seq = 20000 where name = '_changes'")

    office.push()

    assert office.sql("select pushed_seq from _accela_links") == [(20000,)]


# Links by a column


BY_COLUMN = '[accela.map.Client]\ncontact_id = "ExternalId"\n"firstName" = "FirstName"\n'


def test_a_column_links_and_a_person_at_several_locations_is_one(office: Office) -> None:
    office.configure(BY_COLUMN)
    office.client(location=9, FirstName="Bea", ExternalId="253")
    office.client(location=10, FirstName="Bea of ten", ExternalId="253")

    office.push()

    assert office.service.contacts["253"]["firstName"] == "Bea of ten"  # the newest
    assert office.sql("select location_id, contact_id from _accela_links") == [(10, "253")]
    office.client(location=9, FirstName="Bea of nine", ExternalId="253")
    office.push()
    assert office.service.contacts["253"]["firstName"] == "Bea of nine"
    assert office.sql("select location_id, contact_id from _accela_links") == [(9, "253")]
    assert office.push().contacts == []


def test_a_column_that_is_emptied_unlinks_and_one_that_changes_pushes_anew(office: Office) -> None:
    office.configure(BY_COLUMN)
    office.client(FirstName="Bea", ExternalId=253)
    office.push()
    office.client(FirstName="Bea", ExternalId=254)

    office.push()

    assert office.service.contacts["254"]["firstName"] == "Bea"
    office.client(FirstName="Cleo", ExternalId="")
    assert (office.push().contacts, office.sql("select * from _accela_links")) == ([], [])


def test_two_living_records_that_name_one_contact_are_refused_and_the_others_pushed(office: Office) -> None:
    office.configure(BY_COLUMN)
    for id_, contact in (("c-1", "253"), ("c-2", "253"), ("c-3", "254")):
        office.client(id_, FirstName="Bea", ExternalId=contact)

    report = office.push()

    assert (report.outcome, [who.id for who in report.rivals]) == ("unfinished", ["c-1", "c-2"])
    assert [each.link.contact_id for each in report.contacts] == ["254"]
    office.client("c-2", FirstName="Bea", ExternalId="253", deleted=True)
    assert [each.link.contact_id for each in office.push().contacts] == ["253"]


# Limits, dry runs, many


def test_a_limit_leaves_the_others_for_the_next_run_and_a_failing_one_keeps_nobody_waiting(office: Office) -> None:
    for number, contact in enumerate(("253", "254", "255")):
        office.client(f"c-{number}", FirstName="Bea", LastName="Example")
        office.link(f"Client,c-{number},{contact},11,9")
    del office.service.contacts["253"]

    reports = [office.push(limit=1) for _ in range(4)]

    assert [report.contacts[0].link.contact_id for report in reports] == ["253", "254", "255", "253"]
    assert (reports[0].waiting, reports[1].outcome) == (2, "done")


def test_a_dry_run_shows_each_field_and_writes_nothing_at_all(office: Office) -> None:
    linked(office)
    before = office.mirror.read_bytes()

    report = office.push(dry_run=True)

    [pushed] = report.contacts
    assert (pushed.outcome, pushed.changes) == ("would push", {"firstName": ("Ann", "Bea")})
    assert (report.id, office.calls(), office.outcomes()) == (None, (1, 0), [])
    assert office.mirror.read_bytes() == before
    assert office.service.contacts == contacts("253", "254", "255")


def test_a_dry_run_of_a_push_left_behind_tells_what_would_become_of_it_and_leaves_it(office: Office) -> None:
    linked(office)
    office.push()
    office.sql("update _accela_pushes set outcome = 'sent', marks = ?", marks_of(office, "Bea"))
    office.sql("update _accela_links set pushed_seq = null")

    assert [each.outcome for each in office.push(dry_run=True).contacts] == ["pushed"]
    assert office.outcomes() == ["sent"]


def test_a_thousand_contacts_in_one_run_cost_the_calls_they_need_and_not_more(office: Office) -> None:
    ids = [str(number) for number in range(1000, 2000)]
    office.service.contacts.update(contacts(*ids))
    office.client("c-0", FirstName="Ann", LastName="Example")
    office.sql(
        "insert into Client (_tenant_id, _location_id, _id, FirstName, LastName) with recursive n(x) as (select 1000 union all "
        "select x + 1 from n where x < 1999) select 11, 9, 'p-' || x, iif(x % 2, 'Bea', 'Ann'), 'Example' from n"
    )
    office.link(*(f"Client,p-{id_},{id_},11,9" for id_ in ids))

    report = office.push()

    assert report.counts() == {"unchanged": 500, "pushed": 500}
    assert office.calls() == (1500, 500)
    assert report.calls == 2001  # one for the token
    assert office.push().calls == 0


# Refusals


@pytest.mark.parametrize(
    ("maps", "said"),
    [
        ('[accela.map.Client]\n"firstNam" = "FirstName"', "firstNam is no field of a contact; did you mean firstName?"),
        ('[accela.map.Client]\n"id" = "FirstName"', "id is assigned by Accela"),
        (
            '[accela.map.Client]\n"firstName" = "FristName"',
            "FristName is no column of Client in the mirror; did you mean FirstName?",
        ),
        ('[accela.map.Client]\n"phone1" = { table = "ClientFone", column = "X" }', "ClientFone is no table of a Client"),
        ('[accela.map.Client]\n"birthDate" = { column = "FirstName", type = "day" }', "type is day, which is no type"),
        ('[accela.map.Client]\ncontact_id = "Nowhere"\n"firstName" = "FirstName"', "Nowhere is no column of Client"),
        ("", "there is no [accela.map.ENTITY]"),
    ],
)
def test_a_map_that_names_something_unknown_is_refused_by_name_before_anything_is_sent(
    office: Office, maps: str, said: str
) -> None:
    linked(office)
    office.configure(maps)

    with pytest.raises(ConfigError) as caught:
        office.push()

    assert said in str(caught.value)
    assert (office.service.calls, office.outcomes()) == ([], [])
    assert office.sql("select command from _runs where command like 'accela push'") == []


def test_without_a_mirror_the_push_is_refused_and_no_file_is_made(office: Office) -> None:
    with pytest.raises(MirrorFileError):
        office.push()

    assert not office.mirror.exists()


def test_links_of_an_entity_without_a_map_are_said(office: Office) -> None:
    linked(office)
    office.configure('[accela.map.Employee]\n"firstName" = "FirstName"')

    report = office.push()

    assert (report.unmapped, report.outcome, report.calls) == ({"Client": 1}, "done", 0)


# Tokens, limits


def test_a_token_is_renewed_before_its_end_by_the_newest_refresh_token(office: Office) -> None:
    linked(office)
    office.push()
    assert office.service.grants() == ["password"]  # of this run; tokens are not kept across runs
    for number in range(3):
        office.client(f"d-{number}", FirstName="Bea", LastName="Example")
        office.service.contacts[f"30{number}"] = {**contacts("x")["x"], "id": f"30{number}"}
        office.link(f"Client,d-{number},30{number},11,9")

    def age(contact_id: str) -> None:
        office.clock.time += 850

    office.service.after_write = age
    report = office.push()

    assert report.outcome == "done"
    assert office.service.grants() == ["password", "password", "refresh_token", "refresh_token", "refresh_token"]
    sent = [dict(part.split("=") for part in call.body.split("&")) for call in office.service.calls if call.grant]
    assert [form.get("refresh_token") for form in sent] == [None, None, "refresh-2", "refresh-3", "refresh-4"]
    assert office.clock.time > NOON


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_token_that_is_refused_in_the_middle_is_renewed_and_the_call_made_once_more(office: Office, method: str) -> None:
    linked(office)
    expired = {"status": 401, "code": "token_expired", "message": "expired"}
    office.service.faults.append(AccelaFault("answer", method, path="/v4/contacts/253", status=401, body=expired))

    report = office.push()

    assert (report.outcome, office.outcomes(), len(office.service.written)) == ("done", ["pushed"], 1)
    assert office.service.grants() == ["password", "refresh_token"]


def test_a_refresh_token_that_is_refused_falls_back_to_the_password(office: Office) -> None:
    linked(office)
    office.service.before_write = lambda contact_id: office.service.forget_tokens(refresh=True)

    report = office.push()

    assert (report.outcome, office.service.grants()) == ("done", ["password", "refresh_token", "password"])


@pytest.mark.parametrize("refresh", ["kept", "none"])
def test_an_answer_without_a_new_refresh_token_is_lived_with(office: Office, refresh: str) -> None:
    office.service.dials = AccelaDials(refresh="kept" if refresh == "kept" else "none")
    linked(office)
    office.service.before_write = lambda contact_id: office.service.forget_tokens()

    assert office.push().outcome == "done"
    assert office.service.grants() == ["password", "refresh_token" if refresh == "kept" else "password"]


def test_credentials_that_are_refused_end_the_run_after_one_try_and_show_nothing(office: Office) -> None:
    for number in range(3):
        office.client(f"c-{number}", FirstName="Bea", LastName="Example")
        office.link(f"Client,c-{number},25{number + 3},11,9")
    office.configure(NAMES, password="Tr0ub4dor")

    report = office.push()

    assert (report.outcome, report.contacts, office.service.grants()) == ("unfinished", [], ["password"])
    assert "invalid_grant" in report.trouble[0]
    assert "Tr0ub4dor" not in str(report.trouble)


def test_credentials_that_are_refused_with_a_status_of_success_are_refused_all_the_same(office: Office) -> None:
    linked(office)
    office.service.faults.append(AccelaFault("answer", "POST", status=200, body={"error": "invalid_grant"}))

    report = office.push()

    assert (report.outcome, office.calls()) == ("unfinished", (0, 0))
    assert report.trouble[0].startswith("Accela refuses the credentials: invalid_grant (status 400)")


def test_a_token_that_is_refused_at_once_ends_the_run(office: Office) -> None:
    linked(office)
    office.service.faults.append(AccelaFault("answer", "GET", status=401, times=None))

    report = office.push()

    assert (report.outcome, office.service.grants(), office.calls()) == ("unfinished", ["password", "refresh_token"], (2, 0))
    assert "has just given" in report.trouble[0]


@pytest.mark.parametrize(
    ("headers", "pause"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"X-RateLimit-Reset": "9"}, 9.0),
        ({"X-RateLimit-Reset": str(int(NOON) + 11)}, 11.0),
        ({"X-RateLimit-Reset": str((int(NOON) + 13) * 1000)}, 13.0),
        ({}, 1.0),
        ({"Retry-After": "0"}, 1.0),
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_too_many_calls_are_waited_for_as_told(office: Office, method: str, headers: dict[str, str], pause: float) -> None:
    linked(office)
    office.service.faults.append(AccelaFault("answer", method, status=429, headers=headers))

    report = office.push()

    assert (report.outcome, office.clock.slept, len(office.service.written)) == ("done", [pause], 1)


def test_a_pause_longer_than_max_wait_ends_the_run_and_later_ones_call_nothing_before(office: Office) -> None:
    for number in range(2):
        office.client(f"c-{number}", FirstName="Bea", LastName="Example")
        office.link(f"Client,c-{number},25{number + 3},11,9")
    office.service.faults.append(AccelaFault("answer", "PUT", status=429, headers={"Retry-After": "600"}))

    report = office.push()

    assert (report.outcome, office.clock.slept) == ("unfinished", [])
    assert office.outcomes() == ["failed"]
    calls = len(office.service.calls)
    assert office.push().outcome == "unfinished"
    assert len(office.service.calls) == calls
    office.clock.time += 601
    assert office.push().outcome == "done"


def test_a_service_that_is_not_there_ends_the_run_and_leaves_no_word_of_any_contact(office: Office) -> None:
    linked(office)
    office.configure(NAMES, api_url="http://127.0.0.1:9")

    report = office.push()

    assert (report.outcome, report.contacts, office.outcomes()) == ("unfinished", [], [])
    assert "the connection is refused at http://127.0.0.1:9" in report.trouble[0]
    assert "Check accela.api_url" in report.trouble[0]


def test_a_service_that_fails_at_one_contact_is_asked_again_and_then_for_the_others(office: Office) -> None:
    for number in range(2):
        office.client(f"c-{number}", FirstName="Bea", LastName="Example")
        office.link(f"Client,c-{number},25{number + 3},11,9")
    office.service.faults.append(AccelaFault("answer", "GET", contact_id="253", status=500, times=2))

    report = office.push()

    assert [each.outcome for each in report.contacts] == ["failed", "pushed"]
    assert office.clock.slept == [1.0]


def test_a_service_that_fails_at_many_contacts_in_a_row_is_left_alone(office: Office) -> None:
    ids = [str(number) for number in range(300, 320)]
    office.take_all({f"c-{id_}": {"FirstName": "Bea", "LastName": "Example"} for id_ in ids})
    office.link(*(f"Client,c-{id_},{id_},11,9" for id_ in ids))
    office.service.contacts.update(contacts(*ids))
    office.service.faults.append(AccelaFault("answer", "GET", status=503, times=None))

    report = office.push()

    assert (len(report.contacts), report.outcome) == (5, "unfinished")
    assert "5 contacts one after the other" in report.trouble[0]
    office.service.faults.clear()
    taken = [each.link.contact_id for each in office.push(limit=5).contacts]
    assert not set(taken) & {each.link.contact_id for each in report.contacts}  # those that failed go to the end of the queue


def test_a_page_of_a_gateway_is_no_contact(office: Office) -> None:
    linked(office)
    office.service.faults.append(AccelaFault("answer", "GET", status=200, body="<html>Sign in</html>"))

    report = office.push()

    assert (office.outcomes(), report.outcome) == (["failed"], "unfinished")
    assert "not the service's own JSON" in office.last_push()["error"]


def test_an_error_with_a_status_of_success_is_an_error(office: Office) -> None:
    linked(office)
    body = {"status": 400, "code": "bad_request", "message": "Request body is required."}
    office.service.faults.append(AccelaFault("answer", "PUT", status=200, body=body))

    office.push()

    assert (office.outcomes(), office.last_push()["error"]) == (["failed"], "bad_request (status 400)")


@pytest.mark.parametrize(
    "fault",
    [
        AccelaFault("answer", "POST", status=200, body="<html>Sign in</html>", times=None),
        AccelaFault("answer", "POST", status=302, headers={"Location": "https://login.example/?u=x"}, times=None),
    ],
)
def test_an_answer_that_holds_no_token_ends_the_run_and_is_no_word_about_any_contact(office: Office, fault: AccelaFault) -> None:
    linked(office)
    office.service.faults.append(fault)

    report = office.push()

    assert (report.outcome, report.contacts, office.calls(), office.outcomes()) == ("unfinished", [], (0, 0), [])
    assert report.trouble[0].startswith("asking for a token: the answer is ")
    assert "?u=x" not in report.trouble[0]


def test_a_redirect_is_not_followed_and_says_where_it_leads(office: Office) -> None:
    linked(office)
    office.service.faults.append(AccelaFault("answer", "GET", status=302, headers={"Location": "https://login.example/?u=x"}))

    report = office.push()

    assert (report.outcome, office.outcomes(), office.calls()) == ("unfinished", ["failed"], (1, 0))
    assert office.last_push()["error"] == (
        "the answer is a redirect to https://login.example (status 302), which is not followed; check accela.api_url, and "
        "whether a login page stands in between"
    )


def test_a_put_that_was_answered_by_a_redirect_is_settled_by_a_get(office: Office) -> None:
    linked(office)
    office.service.faults.append(AccelaFault("answer", "PUT", status=302, headers={"Location": "https://login.example/"}))

    office.push()

    assert (office.outcomes(), office.calls()) == (["failed"], (2, 1))
    assert "the contact does not show it yet" in office.last_push()["error"]


def test_a_pause_may_be_asked_for_as_a_date(office: Office) -> None:
    linked(office)
    office.service.faults.append(
        AccelaFault("answer", "GET", status=429, headers={"Retry-After": "Thu, 28 May 2026 20:27:00 GMT"})
    )

    assert (office.push().outcome, office.clock.slept) == ("done", [20.0])


def test_a_contact_that_never_answers_whole_fails_and_keeps_nobody_waiting(office: Office) -> None:
    for number in range(2):
        office.client(f"c-{number}", FirstName="Bea", LastName="Example")
        office.link(f"Client,c-{number},25{number + 3},11,9")
    office.service.faults.append(AccelaFault("lost", "GET", contact_id="253", times=None))

    report = office.push()

    assert [(each.link.contact_id, each.outcome) for each in report.contacts] == [("253", "failed"), ("254", "pushed")]
    assert "no whole answer (the connection broke off at http://127.0.0.1" in str(report.contacts[0].error)
    assert office.service.counted("GET") == 2 + 2  # so many attempts, and the two readings of the other one


def test_a_push_whose_second_reading_is_no_contact_is_settled_by_the_next_run(office: Office) -> None:
    linked(office)
    office.service.faults.append(AccelaFault("answer", "GET", status=200, body="<html>Sign in</html>", after=1))

    assert [each.outcome for each in office.push().contacts] == ["failed"]
    assert "it was sent, and then: the answer is not the service's own JSON" in office.last_push()["error"]
    assert [each.outcome for each in office.push().contacts] == ["pushed"]
    assert (office.outcomes(), len(office.service.written)) == (["pushed"], 1)


@pytest.mark.parametrize("address", [["1 Old Road"], "1 Old Road", 1])
def test_what_stands_where_an_object_belongs_is_never_written_over(office: Office, address: object) -> None:
    office.configure('[accela.map.Client]\n"firstName" = "FirstName"\n"address.city" = "City"\n')
    office.service.contacts["253"]["address"] = address
    linked(office, City="Elsewhere")

    report = office.push()

    assert (report.outcome, office.outcomes(), office.calls()) == ("unfinished", ["failed"], (1, 0))
    assert office.last_push()["error"] == "no object, but something else stands in address; it is left alone"
    office.configure(NAMES)
    assert [each.outcome for each in office.push().contacts] == ["pushed"]
    assert office.service.contacts["253"]["address"] == address


def test_a_contact_that_is_nested_too_deeply_to_be_written_again_fails_alone(office: Office) -> None:
    linked(office)
    nested = '{"id": "253", "deep": ' + "[" * 600 + "]" * 600 + "}"
    office.service.faults.append(AccelaFault("answer", "GET", status=200, body=f'{{"result": [{nested}], "status": 200}}'))

    assert [each.outcome for each in office.push().contacts] == ["failed"]
    assert office.calls() == (1, 0)
    assert office.push().outcome == "done"
