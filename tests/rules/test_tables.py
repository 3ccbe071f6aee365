"""The tables of the DDS: names, keys, marks of deletion."""

import pytest

from delta_mirror.core.model import Child, Row, Stream
from delta_mirror.dds import tables

ID = "0f0e0d0c-0000-4000-8000-000000000001"
OTHER = "0f0e0d0c-0000-4000-8000-000000000002"


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ("Client_T", "Client"),
        ("ClientPhone_T", "ClientPhone"),
        ("ClientPhone", "ClientPhone"),
        ("SaleLine_L", "SaleLine"),
        ("SaleLine_Service_L", "SaleLineService"),
        ("SaleLine_ClientUnlimitedService_L", "SaleLineClientUnlimitedService"),
        ("TimeCard_Employee_LSchedule", "TimeCardEmployeeLSchedule"),
        ("ClientMembership_T", "ClientMembership"),
        ("Odd_T_L", "OddT"),
        ("sqlite_master", "sqlitemaster"),
        ("_Hidden_T", "Hidden"),
        ("_T", ""),
        ("___", ""),
        ("", ""),
    ],
)
def test_table_loses_one_suffix_and_its_underscores(sent: str, name: str) -> None:
    assert tables.table_name(sent) == name


@pytest.mark.parametrize("sent", ["SalePayment_L", "SalePayment", "salePayment_L"])
def test_payment_of_a_sale_bears_the_name_of_the_export(sent: str) -> None:
    assert tables.table_name(sent) == "SaleLinePayment"


def test_table_beside_the_exception_keeps_its_name() -> None:
    assert tables.table_name("SalePaymentGiftCard") == "SalePaymentGiftCard"
    assert tables.table_name("SaleLinePayment") == "SaleLinePayment"


def test_known_names_are_found_in_any_case() -> None:
    assert tables.table_name("clientphone_t") == "ClientPhone"
    assert tables.column_name("entityID") == "EntityId"
    assert tables.column_name("dateUpdated") == "DateUpdated"
    assert tables.column_name("nickName") == "nickName"


def test_every_entity_is_described() -> None:
    assert set(tables.KEY_ALIASES) == set(tables.ENTITIES) == set(tables.FEED_CHILDREN)
    assert all(tables.table_name(child) == child for children in tables.FEED_CHILDREN.values() for child in children)


@pytest.mark.parametrize("name", ["Client", "client", "SALE", "EmployeeActual"])
def test_entity_is_recognized_in_any_case(name: str) -> None:
    assert tables.is_entity(name)


def test_child_is_no_entity() -> None:
    assert not tables.is_entity("ClientPhone")


@pytest.mark.parametrize(
    ("entity", "root", "key", "left"),
    [
        ("Client", {"EntityId": ID}, ID, {"EntityId": ID}),
        ("Client", {"EntityId": ID, "Client_TId": ID}, ID, {"EntityId": ID}),
        ("Client", {"Client_TId": ID}, ID, {"EntityId": ID}),
        ("Client", {"EntityId": "", "Client_TId": ID}, ID, {"EntityId": ID}),
        ("Client", {"EntityId": ID, "Client_TId": OTHER}, ID, {"EntityId": ID, "Client_TId": OTHER}),
        ("Employee", {"Employee_User_TId": ID, "Client_TId": OTHER}, ID, {"EntityId": ID, "Client_TId": OTHER}),
        ("Employee", {"EntityId": ID, "Client_TId": ID}, ID, {"EntityId": ID, "Client_TId": ID}),
        ("Sale", {"EntityId": ID, "Client_TId": OTHER}, ID, {"EntityId": ID, "Client_TId": OTHER}),
        ("Appointment", {"Appoint_LId": ID}, ID, {"EntityId": ID}),
        ("Appointment", {"Appointment_LId": ID, "Appoint_LId": OTHER}, ID, {"EntityId": ID, "Appoint_LId": OTHER}),
        ("EmployeeActual", {"EntityId": 7}, "7", {"EntityId": 7}),
        ("Employee", {"Client_TId": OTHER}, None, {"Client_TId": OTHER}),
        ("Client", {"EntityId": ""}, None, {"EntityId": ""}),
        ("Client", {"EntityId": 1.5}, None, {"EntityId": 1.5}),
    ],
)
def test_key_stands_under_entity_id(entity: str, root: Row, key: str | None, left: Row) -> None:
    assert tables.take_key(entity, root) == key
    assert root == left


@pytest.mark.parametrize("name", ["EntityId", "Client_TId", "AppointService_LId", "GuardianId", "FileGuid", "Id"])
def test_column_of_ids_is_known_by_the_end_of_its_name(name: str) -> None:
    assert tables.is_id_column(name)


@pytest.mark.parametrize("name", ["ExternalId", "externalId", "Paid", "PAID", "Guide", "IdType", "clientguid", "FILEGUID", ""])
def test_external_id_and_what_only_ends_like_a_word_hold_no_ids(name: str) -> None:
    assert not tables.is_id_column(name)


def dropped(keys: tables.Keys, row: Row) -> Row:
    left = dict(row)
    tables.drop_keys(keys, left)
    return left


def test_child_does_not_repeat_its_root() -> None:
    keys = tables.keys_of_root(Stream(11, 9, "Client"), {"EntityId": ID})
    assert dropped(keys, {"TenantId": 11, "LocationId": "9", "EntityId": ID, "Client_TId": ID, "n": 1}) == {"n": 1}
    assert dropped(keys, {"TenantId": "11", "LocationId": 9, "n": 1}) == {"n": 1}
    assert tables.keys_of_child("Client", keys, {"Sale_Seq": 1}) is keys


def test_column_that_says_something_else_stays() -> None:
    keys = tables.keys_of_root(Stream(11, 9, "Client"), {"EntityId": ID})
    row: Row = {"TenantId": 12, "LocationId": 10, "EntityId": OTHER, "Client_TId": OTHER, "GuardianId": ID, "Sale_Seq": 11}
    assert dropped(keys, row) == row


def test_line_of_a_sale_does_not_repeat_date_and_number() -> None:
    root: Row = {"EntityId": ID, "SaleDate": "2026-05-04", "Sale_Seq": 5}
    keys = tables.keys_of_root(Stream(11, 9, "Sale"), root)
    assert dropped(keys, {"SaleDate": "2026-05-04", "Sale_Seq": 5, "Client_TId": ID}) == {"Client_TId": ID}
    assert dropped(keys, {"SaleDate": "2026-05-05", "Sale_Seq": 6}) == {"SaleDate": "2026-05-05", "Sale_Seq": 6}


def test_row_below_a_line_repeats_neither_the_line_nor_the_sale() -> None:
    keys = tables.keys_of_root(Stream(11, 9, "Sale"), {"EntityId": ID, "Sale_Seq": 5})
    below = tables.keys_of_child("Sale", keys, {"Sale_Seq": 6})
    assert [dropped(below, {"Sale_Seq": number}) for number in (5, 6, 7)] == [{}, {}, {"Sale_Seq": 7}]
    assert tables.keys_of_child("Sale", keys, {"Amount": 1}) is keys


def test_step_does_not_repeat_its_service() -> None:
    keys = tables.keys_of_root(Stream(11, 9, "Appointment"), {"EntityId": ID})
    assert dropped(keys, {"AppointService_LId": OTHER}) == {"AppointService_LId": OTHER}
    below = tables.keys_of_child("Appointment", keys, {"AppointService_LId": OTHER})
    assert dropped(below, {"AppointService_LId": OTHER, "EntityId": ID, "Minutes": 5}) == {"Minutes": 5}
    assert dropped(below, {"AppointService_LId": ID}) == {"AppointService_LId": ID}


@pytest.mark.parametrize("entity", ["Client", "Employee"])
@pytest.mark.parametrize(
    ("state", "deleted"), [(2028, True), ("2028", True), (2028.0, True), (2026, False), (2027, False), ("2026", False)]
)
def test_person_is_deleted_by_its_state(entity: str, state: int | str, deleted: bool) -> None:
    assert tables.is_deleted(entity, {"ObjectStateEnum": state}, {}) is deleted


def test_person_without_a_state_lives() -> None:
    assert not tables.is_deleted("Client", {"TerminatedDate": "2026-05-04"}, {})


def lines(*states: int | str | None) -> dict[str, list[Child]]:
    return {"AppointmentService": [Child({} if state is None else {"AppointFinalStateEnum": state}, None) for state in states]}


@pytest.mark.parametrize(
    ("root", "children", "deleted"),
    [
        ({}, lines(2052), True),
        ({}, lines(2052, "2052"), True),
        ({}, lines(2052, 2050), False),
        ({}, lines(2052, None), False),
        ({}, lines(), False),
        ({}, {}, False),
        ({"AppointFinalStateEnum": 2052}, {}, True),
        ({"AppointFinalStateEnum": "2052"}, lines(2050), True),
        ({"AppointFinalStateEnum": 2050}, lines(2050), False),
        ({"ObjectStateEnum": 2028}, lines(2050), False),
    ],
)
def test_appointment_is_deleted_with_all_its_lines_or_by_its_root(
    root: Row,
    children: dict[str, list[Child]],
    deleted: bool,
) -> None:
    assert tables.is_deleted("Appointment", root, children) is deleted


@pytest.mark.parametrize("entity", ["Sale", "EmployeeSchedule", "EmployeeActual"])
def test_sale_and_schedules_are_never_deleted(entity: str) -> None:
    root: Row = {"ObjectStateEnum": 2028, "AppointFinalStateEnum": 2052}
    assert not tables.is_deleted(entity, root, lines(2052))
