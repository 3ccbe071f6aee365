"""The DDS's JSON: pages, records in their stored form, entries that cannot be stored, numbers, odd answers."""

import json
from collections.abc import Mapping
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delta_mirror.core.model import Broken, Child, Entry, Page, Record, Row, Stream, Value
from delta_mirror.core.values import plain_number, read_ticks
from delta_mirror.dds.wire import DEEPEST, is_own_json, read_entry, read_page, reference_of
from delta_mirror.errors import ProtocolError

ID = "0f0e0d0c-aaaa-4000-8000-000000000001"
OTHER = "0f0e0d0c-bbbb-4000-8000-000000000002"
REFERENCE = "6f9619ff-8b86-4011-b42d-00c04fc964ff"
CHANGED = "2026-05-04T12:00:00.1234567+00:00"
BOM = b"\xef\xbb\xbf"  # before it, the fast parser gives up and the careful one reads

CLIENT = Stream(11, 9, "Client")
SALE = Stream(11, 9, "Sale")
APPOINTMENT = Stream(11, 9, "Appointment")


def page_of(elements: str, stream: Stream = CLIENT) -> Page:
    return read_page(f'{{"referenceId":"{REFERENCE}","data":[{elements}]}}'.encode(), stream, 5)


def entry_of(element: str, stream: Stream = CLIENT) -> Entry:
    return page_of(element, stream).entries[0]


def record_of(root: Mapping[str, object] | str, stream: Stream = CLIENT) -> Record:
    text = root if isinstance(root, str) else json.dumps({"EntityId": ID, **root})
    entry = entry_of(f'{{"{stream.entity}_T":{text}}}', stream)
    assert isinstance(entry, Record), entry
    return entry


def column_of(sent: str, name: str = "Column") -> Value | None:
    """Return what is stored of a column that was sent as the JSON text *sent*, its type as it is."""
    value = record_of(f'{{"EntityId":"{ID}","{name}":{sent}}}').root.get(name)
    assert type(value) in (int, float, str, type(None))
    return value


def broken_of(element: str, stream: Stream = CLIENT) -> Broken:
    entry = entry_of(element, stream)
    assert isinstance(entry, Broken), entry
    return entry


# ---- the envelope


def envelope(**changes: object) -> dict[str, object]:
    members: dict[str, object] = {
        "request": {"entityType": "Client", "pageNumber": 0},
        "lastChangeDateIncludedInPage": CHANGED,
        "pageNumber": 0,
        "itemsPerPage": 200,
        "tenantId": 11,
        "locationId": 9,
        "referenceId": REFERENCE,
        "data": [{"Client_T": {"EntityId": ID}}],
    }
    return {name: value for name, value in {**members, **changes}.items() if value is not ...}


def pascal(members: Mapping[str, object]) -> dict[str, object]:
    return {name[0].upper() + name[1:]: value for name, value in members.items()}


@pytest.mark.parametrize("spell", [dict, pascal])
def test_page_is_read_in_either_spelling(spell: type[dict[str, object]]) -> None:
    page = read_page(json.dumps(spell(envelope())).encode(), CLIENT, 5)
    assert [entry.id for entry in page.entries] == [ID]
    assert page.last_change is not None
    assert (page.last_change.text, page.last_change.ticks) == (CHANGED, read_ticks(CHANGED))
    assert (page.clock, page.reference_id) == (5, REFERENCE)


@pytest.mark.parametrize("last", [..., None, "soon", 7])
def test_page_without_a_last_change_has_none(last: object) -> None:
    assert read_page(json.dumps(envelope(lastChangeDateIncludedInPage=last)).encode(), CLIENT, 5).last_change is None


def test_page_with_an_empty_array_is_empty() -> None:
    page = read_page(json.dumps(envelope(data=[])).encode(), CLIENT, 5)
    assert (page.entries, page.digests) == ([], [])


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"null", b"[]", b"7", b"<html></html>", b'{"data":[', b'{"data":[]} x', b"{}", b'{"message":"gone"}'),
        *(b'{"referenceId":"x","data":' + data + b"}" for data in (b"null", b"{}", b'"[]"', b"0")),
        b'{"referenceId":"x","pageNumber":0,"itemsPerPage":200}',
        b'{"data":[],"Data":[]}',
        b'{"data":[],"data":[]}',
        b'{"data":[],"pageNumber":NaN}',
        b'{"data":[-Infinity]}',
        b'{"data":' + b"[" * 2000 + b"]" * 2000 + b"}",
        "{}".encode("utf-16"),
    ],
)
def test_what_has_no_single_array_of_data_is_no_page(body: bytes) -> None:
    with pytest.raises(ProtocolError, match="Client of tenant 11, location 9 is no page"):
        read_page(body, CLIENT, 5)


@pytest.mark.parametrize("body", [b"null", b"[]", b"7", b'"{}"'])
def test_json_that_is_no_object_is_told_from_what_is_no_json(body: bytes) -> None:
    with pytest.raises(ProtocolError, match="location 9 is no page: it is JSON, but no object\\. Nothing of it was taken"):
        read_page(body, CLIENT, 5)


def test_refused_page_is_named_by_its_reference() -> None:
    with pytest.raises(ProtocolError, match=REFERENCE):
        read_page(json.dumps(envelope(data=...)).encode(), CLIENT, 5)


@pytest.mark.parametrize("name", ["Error", "error"])
def test_error_with_status_200_is_no_page_and_its_words_are_not_repeated(name: str) -> None:
    error = {
        "ErrorCode": "CDC-12",
        "Message": "Ada Example is secret",
        "ValidationFailures": [{"PropertyName": "StartDate", "AttemptedValue": "Ada"}, {}],
    }
    with pytest.raises(ProtocolError) as caught:
        read_page(json.dumps(envelope(**{name: error})).encode(), CLIENT, 5)
    message = str(caught.value)
    assert "code CDC-12 and 2 failed validations" in message
    assert REFERENCE in message
    assert "Ada" not in message


def test_single_failed_validation_is_one() -> None:
    with pytest.raises(ProtocolError, match=r"carries an error and 1 failed validation\."):
        read_page(json.dumps(envelope(Error={"ValidationFailures": [{}]})).encode(), CLIENT, 5)


@pytest.mark.parametrize("error", ["Ada Example failed", {}, {"ErrorCode": "Ada Example\n"}, True, [1]])
def test_error_of_any_shape_is_an_error(error: object) -> None:
    with pytest.raises(ProtocolError, match="carries an error") as caught:
        read_page(json.dumps(envelope(error=error)).encode(), CLIENT, 5)
    assert "Ada" not in str(caught.value)


def test_null_member_does_not_hide_one_in_another_case() -> None:
    assert len(read_page(f'{{"data":null,"Data":[{{"A":{{"EntityId":"{ID}"}}}}]}}'.encode(), CLIENT, 5).entries) == 1


def test_null_error_is_none() -> None:
    assert len(read_page(json.dumps(envelope(Error=None)).encode(), CLIENT, 5).entries) == 1


@pytest.mark.parametrize(
    ("body", "reference"),
    [
        (b'{"referenceId":"abc-1"}', "abc-1"),
        (b'{"ReferenceId":12}', "12"),
        (b'{"Error":{"ReferenceId":"abc-2"}}', "abc-2"),
        (b'{"referenceId":"two words"}', None),
        (b'{"referenceId":["x"]}', None),
        (b'{"other":1}', None),
        (b"[1]", None),
        (b"<html>", None),
        (b"\xff\xfe", None),
        (b"", None),
    ],
)
def test_reference_is_found_in_any_answer(body: bytes, reference: str | None) -> None:
    assert reference_of(body) == reference


@pytest.mark.parametrize(
    ("body", "own"),
    [
        (b'{"referenceId":"abc"}', True),
        (b'{"Error":{"ErrorCode":"NotFound"}}', True),
        (b'{"message":"no such page"}', True),
        (BOM + b'{"data":[]}', True),
        (b'{"statusCode":404,"message":"Resource not found"}', False),
        (b'{"Message":"No HTTP resource was found","MessageDetail":"no type"}', False),
        (b'{"fault":{"faultstring":"no proxy"}}', False),
        (b"<html>not found</html>", False),
        (b"not found", False),
        (b'"not found"', False),
        (b"[]", False),
        (b"", False),
    ],
)
def test_gateway_is_told_from_the_service(body: bytes, own: bool) -> None:
    assert is_own_json(body) is own


# ---- entries


@pytest.mark.parametrize("name", ["Client_T", "client_t", "Whatever_L", "EntityId", "Data"])
def test_root_is_the_single_key_whatever_it_is_called(name: str) -> None:
    assert entry_of(f'{{"{name}":{{"EntityId":"{ID}"}},"Nothing":null}}').id == ID


@pytest.mark.parametrize("name", ["SnapshotData", "snapshotData"])
@pytest.mark.parametrize("as_text", [True, False])
def test_snapshot_is_unwrapped(name: str, as_text: bool) -> None:
    inner = {"Client_T": {"EntityId": ID, "FirstName": 'Ada "é"'}}
    entry = entry_of(json.dumps({name: json.dumps(inner) if as_text else inner}))
    assert isinstance(entry, Record)
    assert entry.root == {"EntityId": ID, "FirstName": 'Ada "é"'}


def test_numbers_within_a_snapshot_are_as_exact_as_others() -> None:
    inner = f'{{"Client_T":{{"EntityId":"{ID}","Long":12345678901234567890123}}}}'
    entry = entry_of(json.dumps({"SnapshotData": inner}))
    assert isinstance(entry, Record)
    assert entry.root["Long"] == "12345678901234567890123"


def test_record_is_read_whole() -> None:
    record = record_of(
        {
            "TenantId": 11,
            "EntityVersion": "00000000000a1b2c",
            "DateUpdated": "2026-05-04T12:00:00.5Z",
            "FirstName": "Ada",
            "ObjectStateEnum": 2028,
            "ClientPhone_T": [{"TenantId": 11, "EntityId": ID, "PhoneNumber": "5550100"}, {"PhoneNumber": "5550101"}],
        }
    )
    assert record.id == ID
    assert record.version == "00000000000A1B2C"
    assert record.changed is not None
    assert record.changed.text == "2026-05-04T12:00:00.5Z"
    assert record.deleted
    assert record.root == {
        "TenantId": 11,
        "EntityId": ID,
        "EntityVersion": "00000000000A1B2C",
        "DateUpdated": "2026-05-04T12:00:00.5000000+00:00",
        "FirstName": "Ada",
        "ObjectStateEnum": 2028,
    }
    assert record.children == {"ClientPhone": [Child({"PhoneNumber": "5550100"}, None), Child({"PhoneNumber": "5550101"}, None)]}


def test_key_goes_by_other_names_too() -> None:
    employee = entry_of(f'{{"Employee_T":{{"Employee_User_TId":"{ID.upper()}"}}}}', Stream(11, 9, "Employee"))
    assert isinstance(employee, Record)
    assert (employee.id, employee.root) == (ID, {"EntityId": ID})
    assert record_of({"Client_TId": ID.upper()}).root == {"EntityId": ID}
    assert record_of({"Client_TId": OTHER}).root == {"EntityId": ID, "Client_TId": OTHER}


def test_names_that_matter_are_understood_in_any_case() -> None:
    record = record_of(
        f'{{"entityID":"{ID.upper()}","dateUpdated":"{CHANGED}","entityVersion":"000000000000000a","objectStateEnum":2028,'
        '"clientphone_T":[{"tenantId":11,"n":1}],"firstName":"Ada"}'
    )
    assert (record.id, record.version, record.deleted) == (ID, "000000000000000A", True)
    assert record.changed is not None
    assert record.changed.text == CHANGED
    assert record.root["firstName"] == "Ada"
    assert record.children == {"ClientPhone": [Child({"n": 1}, None)]}


@pytest.mark.parametrize("sent", [None, "yesterday", 7, "2026-02-30T00:00:00Z"])
def test_record_without_a_readable_change_date_has_none(sent: object) -> None:
    assert record_of({"DateUpdated": sent}).changed is None


@pytest.mark.parametrize(
    ("sent", "stored", "version"),
    [
        ('"0x00000000000a1b2c"', "00000000000A1B2C", "00000000000A1B2C"),
        ('"AAAAAAAKGyw="', "00000000000A1B2C", "00000000000A1B2C"),
        ("662316", "00000000000A1B2C", "00000000000A1B2C"),
        ('"662316"', "00000000000A1B2C", "00000000000A1B2C"),
        ("18446744073709551615", "FFFFFFFFFFFFFFFF", "FFFFFFFFFFFFFFFF"),
        ('"random"', "random", None),
        ('"sixteen letters!"', "sixteen letters!", None),
        ("1.5", "1.5", None),
    ],
)
def test_row_version_has_one_form(sent: str, stored: str, version: str | None) -> None:
    record = record_of(f'{{"EntityId":"{ID}","EntityVersion":{sent}}}')
    assert record.root["EntityVersion"] == stored
    assert record.version == version


@pytest.mark.parametrize("name", ["EntityId", "Client_TId", "AppointService_LId", "GuardianId", "ComputedGuid"])
def test_guid_of_an_id_column_is_in_lower_case(name: str) -> None:
    record = record_of({"EntityId": ID.upper(), name: OTHER.upper() if name != "EntityId" else ID.upper()})
    assert record.root[name] == (OTHER if name != "EntityId" else ID)


@pytest.mark.parametrize(
    ("name", "text"), [("Note", OTHER.upper()), ("ExternalId", "ABC-1"), ("ExternalId", OTHER.upper()), ("Paid", "YES")]
)
def test_other_text_keeps_its_case(name: str, text: str) -> None:
    assert column_of(json.dumps(text), name) == text


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ("2026-05-04T12:00:00Z", "2026-05-04T12:00:00+00:00"),
        ("2026-05-04T12:00:00.5-04:00", "2026-05-04T12:00:00.5000000-04:00"),
        ("2026-05-04T12:00:00.1234567+00:00", "2026-05-04T12:00:00.1234567+00:00"),
        ("2026-05-04T12:00:00", "2026-05-04T12:00:00"),
        ("2026-05-04T12:00", "2026-05-04T12:00"),
        ("2026-05-04T12:00Z", "2026-05-04T12:00+00:00"),
        ("2026-05-04T12:00:00+0200", "2026-05-04T12:00:00+02:00"),
        ("2026-05-04 12:00:00.5Z", "2026-05-04 12:00:00.5Z"),
        ("2026-05-04", "2026-05-04"),
        ("2026-02-30T12:00:00Z", "2026-02-30T12:00:00Z"),
        ("2026-05-04T12:00:00Z or so", "2026-05-04T12:00:00Z or so"),
        ("about the Table", "about the Table"),
    ],
)
def test_date_time_with_its_t_has_one_form(sent: str, stored: str) -> None:
    assert column_of(json.dumps(sent)) == stored


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ("true", 1),
        ("false", 0),
        ("null", None),
        ('""', ""),
        ('"0012"', "0012"),
        ("12", 12),
        ("42.5", 42.5),
        ("12.000000", 12.0),
        ('{"b":[1,{"ü":"é"}], "a" : 1.50, "c":null}', '{"a":1.5,"b":[1,{"ü":"é"}],"c":null}'),
        ("[1, 2]", "[1,2]"),
        ('[{"a":1}, 2]', '[{"a":1},2]'),
        (
            '{"long":12345678901234567890123,"b":0.1000000000000000055}',
            '{"b":0.1000000000000000055,"long":12345678901234567890123}',
        ),
    ],
)
def test_value_has_its_stored_form(sent: str, stored: Value | None) -> None:
    value = column_of(sent)
    assert (value, type(value)) == (stored, type(stored))


# ---- child rows


def children_of(root: Mapping[str, object], stream: Stream) -> Mapping[str, list[tuple[Row, int | None]]]:
    return {name: [(child.row, child.parent) for child in rows] for name, rows in record_of(root, stream).children.items()}


def test_empty_array_is_a_child_table_without_rows() -> None:
    record = record_of({"ClientPhone_T": []})
    assert record.children == {"ClientPhone": []}
    assert record.root == {"EntityId": ID}


def test_grandchildren_are_counted_over_the_whole_record() -> None:
    services = [
        {"AppointService_LId": ID, "AppointmentServiceStep_L": [{"n": 1, "AppointService_LId": ID}, {"n": 2}]},
        {"AppointService_LId": OTHER},
        {"AppointService_LId": OTHER, "AppointmentServiceStep_L": [{"n": 3, "AppointService_LId": ID, "Note_L": [{"m": 1}]}]},
    ]
    found = children_of({"AppointmentService_L": services, "Note_L": [{"m": 2}]}, APPOINTMENT)
    assert found == {
        "AppointmentService": [({"AppointService_LId": key}, None) for key in (ID, OTHER, OTHER)],
        "AppointmentServiceStep": [({"n": 1}, 0), ({"n": 2}, 0), ({"n": 3, "AppointService_LId": ID}, 2)],
        "Note": [({"m": 1}, 2), ({"m": 2}, None)],
    }


def test_table_within_itself_points_to_its_own_rows() -> None:
    found = children_of({"Part_L": [{"n": 0, "Part_L": [{"n": 1, "Part_L": [{"n": 2}]}]}, {"n": 3}]}, SALE)
    assert found == {"Part": [({"n": 0}, None), ({"n": 1}, 0), ({"n": 2}, 1), ({"n": 3}, None)]}


def test_rows_of_a_sale_repeat_nothing_of_it() -> None:
    line = {"TenantId": "11", "EntityId": ID.upper(), "LocationId": 9, "SaleDate": "2026-05-04T00:00:00Z", "Sale_Seq": 3, "n": 1}
    root = {"SaleDate": "2026-05-04T00:00:00Z", "Sale_Seq": 3, "SaleLine_L": [line], "SalePayment_L": [{"LocationId": 10}]}
    assert children_of(root, SALE) == {"SaleLine": [({"n": 1}, None)], "SaleLinePayment": [({"LocationId": 10}, None)]}


def test_names_that_differ_only_in_case_under_several_parents_are_one_table() -> None:
    found = children_of({"Line_L": [{"part_L": [{"n": 1}]}, {"Part_L": [{"n": 2}]}]}, SALE)
    assert found["part"] == [({"n": 1}, 0), ({"n": 2}, 1)]


def test_cancelled_appointment_is_deleted() -> None:
    line = {"AppointFinalStateEnum": 2052}
    assert record_of({"AppointmentService_L": [line, line]}, APPOINTMENT).deleted
    assert not record_of({"AppointmentService_L": [line, {}]}, APPOINTMENT).deleted


def test_column_named_like_a_child_table_is_fine() -> None:
    record = record_of({"ClientPhone": "none", "ClientPhone_T": [{"n": 1}]})
    assert record.root["ClientPhone"] == "none"
    assert record.children == {"ClientPhone": [Child({"n": 1}, None)]}


# ---- entries that cannot be stored


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


def rows_within_rows(levels: int) -> str:
    return '[{"n":1,"Part_T":' * levels + "[]" + "}]" * levels


@pytest.mark.parametrize(
    ("root", "reason"),
    [
        ('"_n":1', "begins with an underscore"),
        ('"_n":true', "begins with an underscore"),
        ('"_n":{}', "begins with an underscore"),
        ('"_n":"00000000000007D1"', "begins with an underscore"),
        ('"ClientPhone_T":[{"_n":"x"}]', "begins with an underscore"),
        ('"City":"x","CITY":"y"', "differ only in case"),
        ('"entityid":"x"', "differ only in case"),
        ('"ClientPhone_T":[{"a":1,"A":2}]', "differ only in case"),
        ('"Sale_L":[]', "named like an entity"),
        ('"client":[{"a":1}]', "named like an entity"),
        ('"Part_T":[{"Employee_T":[]}]', "named like an entity"),
        ('"Part_T":[],"Part_L":[]', "go to one child table"),
        ('"Part_T":[],"part_T":[{"a":1}]', "go to one child table"),
        ('"Part_T":[{"SalePayment_L":[],"SaleLinePayment":[]}]', "go to one child table"),
        ('"_T":[]', "leaves nothing to call it"),
        ('"a\\u0000b":1', "holds a NUL"),
        ('"a\\u0000b":[]', "holds a NUL"),
        ('"Note":"\\ud800"', "half a surrogate pair"),
        ('"Note\\udc00":1', "half a surrogate pair"),
        ('"Note":1,"Note":1', "a key stands twice"),
        ('"Note":1,"Note":null', "a key stands twice"),
        ('"Note":{"a":"b: c","a":"\\u003a"}', "a key stands twice"),
        ('"Note":1,"Note":"\\u003a"', "a key stands twice"),
        ('"ClientPhone_T":[{"a":1,"a":2}]', "a key stands twice"),
        (f'"Note":{nested(DEEPEST + 1)}', "nested deeper"),
        (f'"Note":{{"a":{nested(700)}}}', "nested deeper"),
        ('"Note":' + '{"a":' * (DEEPEST + 1) + "1" + "}" * (DEEPEST + 1), "nested deeper"),
        (f'"Part_T":{rows_within_rows(DEEPEST)}', "nested deeper"),
        (f'"Part_T":{rows_within_rows(100)}', "nested deeper"),
    ],
)
def test_entry_that_cannot_be_stored_breaks_alone(root: str, reason: str) -> None:
    element = f'{{"Client_T":{{"EntityId":"{ID.upper()}","DateUpdated":"{CHANGED}",{root}}}}}'
    good = f'{{"Client_T":{{"EntityId":"{OTHER}"}}}}'
    page = page_of(f"{good},{element},{good}")
    first, broken, last = page.entries
    assert isinstance(first, Record)
    assert first == last
    assert isinstance(broken, Broken)
    assert reason in broken.reason
    assert (broken.id, broken.changed and broken.changed.text) == (ID, CHANGED)
    assert page.digests[0] == page.digests[2] != page.digests[1]


@pytest.mark.parametrize(
    ("element", "reason"),
    [
        ("7", "no object"),
        ("null", "no object"),
        ('"text"', "no object"),
        ("[]", "no object"),
        ("{}", "no single root"),
        ('{"Client_T":null}', "no single root"),
        ('{"Client_T":[{}]}', "no single root"),
        ('{"Client_T":{},"Other_T":{}}', "no single root"),
        (f'{{"EntityId":"{ID}","FirstName":"Ada"}}', "no single root"),
        (f'{{"Client_T":{{"EntityId":"{ID}"}},"Other":1}}', "no single root"),
        ('{"Client_T":{},"Client_T":{}}', "a key stands twice"),
        ('{"SnapshotData":{"A":{"EntityId":"a"}},"SnapshotData":{"A":{"EntityId":"b"}}}', "a key stands twice"),
        ('{"Client_T":{"EntityId":"a\\ud800"}}', "half a surrogate pair"),
        ('{"Client_T":{"EntityId":true,"_n":1}}', "begins with an underscore"),
        ('{"Client_T":{}}', "no key"),
        ('{"Client_T":{"EntityId":null}}', "no key"),
        ('{"Client_T":{"EntityId":""}}', "no key"),
        ('{"Client_T":{"EntityId":{"a":1}}}', "no key"),
        ('{"Client_T":{"EntityId":[1]}}', "no key"),
        ('{"Client_T":{"Employee_User_TId":"x"}}', "no key"),
        ('{"SnapshotData":"{"}', "SnapshotData cannot be read: it is no JSON"),
        ('{"SnapshotData":"{\\"a\\":NaN}"}', "SnapshotData cannot be read: it holds NaN"),
        ('{"SnapshotData":"{\\"A\\":{\\"EntityId\\":\\"a\\ud800\\"}}"}', "half a surrogate pair"),
        ('{"SnapshotData":null}', "no single root"),
        ('{"SnapshotData":"\\"text\\""}', "no single root"),
        ('{"SnapshotData":{"SnapshotData":{}}}', "no key"),
    ],
)
def test_entry_that_is_no_record_is_broken(element: str, reason: str) -> None:
    broken = broken_of(element)
    assert reason in broken.reason
    assert (broken.id, broken.changed) == (None, None)


def test_table_and_column_at_the_deepest_level_are_stored() -> None:
    record = record_of(f'{{"EntityId":"{ID}","Note":{nested(DEEPEST)},"Part_T":{rows_within_rows(DEEPEST - 1)}}}')
    assert len(record.children["Part"]) == DEEPEST - 1


@pytest.mark.parametrize(
    "element",
    [
        '{"Client_T":{"_a":12345678901234567890123,"é":"\\"x\\""}}',
        '{"Client_T":{"_a":1,"b":1.50,"b":[true,null,{}],"c":"\\ud800"}}',
        f'{{"Client_T":{{"_a":12345678901234567890123,"c":{{"a":{nested(300)},"b":""}}}}}}',
    ],
)
def test_body_of_a_broken_entry_holds_all_that_was_sent(element: str) -> None:
    def exactly(text: str) -> object:
        return json.loads(text, parse_int=Decimal, parse_float=Decimal, object_pairs_hook=lambda pairs: sorted(pairs, key=repr))

    broken = broken_of(element)
    assert exactly(broken.body) == exactly(element)
    assert read_entry(broken.body, CLIENT) == broken
    broken.body.encode()


def test_body_does_not_depend_on_the_order_of_keys() -> None:
    assert broken_of('{"A":{"y":1,"x":"\\ud800"},"B":{}}').body == broken_of('{"B":{},"A":{"x":"\\ud800","y":1}}').body
    assert broken_of('{"A":{"y":1,"x":2},"B":{}}').body == broken_of('{"B":{},"A":{"x":2,"y":1}}').body


def test_byte_that_is_no_utf8_breaks_its_own_entry() -> None:
    body = b'{"data":[{"Client_T":{"EntityId":"a"}},{"Client_T":{"EntityId":"b","Name":"J\xfcrgen"}}]}'
    good, broken = read_page(body, CLIENT, 5).entries
    assert isinstance(good, Record)
    assert isinstance(broken, Broken)
    assert broken.id == "b"


def test_reason_names_no_value() -> None:
    for root in (
        '"_n":"Ada"',
        '"City":"Ada","CITY":"Ada"',
        '"Note":"Ada\\ud800"',
        '"Note":"Ada","Note":"Ada"',
        '"_T":[{"x":"Ada"}]',
    ):
        assert "Ada" not in broken_of(f'{{"Client_T":{{"EntityId":"Ada",{root}}}}}').reason


def test_null_twin_of_a_column_is_no_twin() -> None:
    assert record_of(f'{{"EntityId":"{ID}","City":null,"CITY":"x","_n":null}}').root == {"EntityId": ID, "CITY": "x"}


def test_names_that_differ_beyond_ascii_are_two_as_they_are_in_sqlite() -> None:
    record = record_of(f'{{"EntityId":"{ID}","É":1,"é":2,"Ort_T":[{{"ß":1,"SS":2}}],"Örtchen_T":[{{"a":1}}],"örtchen_L":[]}}')
    assert (record.root["É"], record.root["é"]) == (1, 2)
    assert record.children["Ort"] == [Child({"ß": 1, "SS": 2}, None)]
    assert record.children["Örtchen"] == [Child({"a": 1}, None)]
    assert record.children["örtchen"] == []


def test_columns_stand_in_the_order_in_which_they_were_sent() -> None:
    sent = f'{{"EntityVersion":"00000000000007D1","EntityId":"{ID}","City":"x"}}'
    assert list(record_of(sent).root) == ["EntityVersion", "EntityId", "City"]


def test_entry_out_of_quarantine_is_read_like_one_of_a_page() -> None:
    element = f'{{"Client_T":{{"EntityId":"{ID}","Long":12345678901234567890123}}}}'
    assert read_entry(element, CLIENT) == entry_of(element)
    lost = read_entry("{", CLIENT)
    assert isinstance(lost, Broken)
    assert (lost.body, "no JSON" in lost.reason) == ("{", True)


# ---- numbers, and the two parsers


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ("9223372036854775807", 9223372036854775807),
        ("-9223372036854775808", -9223372036854775808),
        ("9223372036854775808", "9223372036854775808"),
        ("-9223372036854775809", "-9223372036854775809"),
        ("18446744073709551616", "18446744073709551616"),
        ("9" * 5000, "9" * 5000),
        ("1234567890123456", 1234567890123456),
        ("0.30000000000000004", 0.30000000000000004),
        ("33.333333333333336", 33.333333333333336),
        ("12345678901.500000", 12345678901.5),
        ("0.1000000000000000055", "0.1000000000000000055"),
        ("9007199254740993e0", "9007199254740993e0"),
        ("8.000000000000001", "8.000000000000001"),
        ("12345678901234567.5", "12345678901234567.5"),
        ("1.2345678901234567890e5", "1.2345678901234567890e5"),
        ("-0.12345678901234567891", "-0.12345678901234567891"),
        ("1e400", "1e400"),
        ("1e-400", "1e-400"),
        ("-5E-0324", -5e-324),
        ("1e-99999999999999999999999", "1e-99999999999999999999999"),
        ("1E2", 100.0),
        ("-0", 0),
        ("0.0", 0.0),
    ],
)
@pytest.mark.parametrize("after", ["", "\n", " "])
def test_number_is_stored_as_sent_or_as_its_digits(sent: str, stored: Value, after: str) -> None:
    value = column_of(sent + after)
    assert (value, type(value)) == (stored, type(stored))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (".500000", 0.5),
        ("-.500000", -0.5),
        ("0012", "0012"),
        ("+1", "+1"),
        ("1_000", "1_000"),
        (" 1", " 1"),
        ("", ""),
        ("-", "-"),
    ],
)
def test_number_of_an_export_may_lack_its_zero_and_text_is_no_number(text: str, value: Value) -> None:
    assert (plain_number(text), type(plain_number(text))) == (value, type(value))


@given(st.from_regex(r"-?(0|[1-9][0-9]{0,22})(\.[0-9]{1,22})?([eE][+-]?[0-9]{1,3})?", fullmatch=True))
@settings(max_examples=150, deadline=None)
def test_no_number_is_bent(digits: str) -> None:
    value = column_of(digits)
    if isinstance(value, str):
        assert value == digits
        assert Decimal(repr(float(digits))) != Decimal(digits) or abs(int(Decimal(digits))) >= 1 << 63
    else:
        assert Decimal(repr(value)) == Decimal(digits)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 66), 1 << 66) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.sampled_from(["EntityId", "TenantId", "a_T", "GuardianId"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(
    st.lists(
        st.fixed_dictionaries({"Client_T": st.fixed_dictionaries({"EntityId": st.just(ID)}, optional={"x": JSON, "y": JSON})})
        | JSON
    ),
    st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_both_parsers_give_the_same_page(elements: list[object], ascii_only: bool) -> None:
    body = json.dumps({"data": elements}, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    fast, careful = read_page(body, CLIENT, 5), read_page(BOM + body, CLIENT, 5)
    assert repr(fast) == repr(careful)


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" ,\n", " :\t")])
def test_key_that_stands_twice_is_noticed_however_the_page_is_written(separators: tuple[str, str]) -> None:
    comma, colon = separators
    root = comma.join(f'"{name}"{colon}"a: \\"b\\": c"' for name in ("EntityId", "Note", "Other", "Note"))
    assert "twice" in broken_of(f'{{"Client_T"{colon}{{{root}}}}}').reason


# ---- digests


def test_digest_tells_entries_apart_by_content_alone() -> None:
    first = f'{{"Client_T":{{"EntityId":"{ID}","City":"x","Zip":1}}}}'
    reordered = f'{{"Client_T": {{"Zip":1,"City":"x","EntityId":"{ID}"}}}}'
    changed = first.replace('"x"', '"y"')
    broken = first.replace("City", "_c")
    snapshot = json.dumps({"SnapshotData": first})
    digests = page_of(",".join((first, reordered, changed, broken, snapshot))).digests
    assert digests[0] == digests[1] == digests[4]
    assert len(set(digests)) == 3


def test_digest_tells_broken_entries_apart_too() -> None:
    one, other = '{"Client_T":{"_n":1}}', '{"Client_T":{"_n":2}}'
    digests = page_of(",".join((one, other, one, "7", '{"a":1,"a":2}'))).digests
    assert digests[0] == digests[2]
    assert len(set(digests)) == 4


def test_key_with_a_nul_goes_to_quarantine() -> None:
    page = read_page(
        json.dumps({"data": [{"Client_T": {"EntityId": "ab\0cd"}}, {"Client_T": {"EntityId": "b"}}]}).encode(), CLIENT, 5
    )
    assert isinstance(page.entries[0], Broken)
    assert page.entries[0].reason == "the root's key holds a NUL"
    assert isinstance(page.entries[1], Record)
