"""What is known of an export's tables: whose they are, where their rows hang, what a file's name says."""

import pytest

from delta_mirror.dds.export_tables import TableFacts, facts_of, kind_of, split_file_name


@pytest.mark.parametrize(
    ("file_table", "table", "entity"),
    [
        ("Client", "Client", "Client"),
        ("client", "Client", "Client"),
        ("Client_T", "Client", "Client"),
        ("ClientPhone", "ClientPhone", "Client"),
        ("ClientMembership_T", "ClientMembership", "Client"),
        ("Employee", "Employee", "Employee"),
        ("EmployeeBio", "EmployeeBio", "Employee"),
        ("BookingRestrictions", "BookingRestrictions", "Employee"),
        ("EmployeeSchedule", "TimeCardEmployeeLSchedule", "EmployeeSchedule"),
        ("TimeCard_Employee_LSchedule", "TimeCardEmployeeLSchedule", "EmployeeSchedule"),
        ("TimeCard_Employee_LClockTime", "TimeCardEmployeeLClockTime", "EmployeeActual"),
        ("EmployeeClock", "EmployeeClock", "EmployeeActual"),
        ("EmployeeBreak", "EmployeeBreak", "EmployeeActual"),
        ("AppointmentServiceStep", "AppointmentServiceStep", "Appointment"),
        ("SaleLine_ClientUnlimitedService_L", "SaleLineClientUnlimitedService", "Sale"),
        ("SaleLine_Service_L", "SaleLineService", "Sale"),
        ("SalePayment", "SaleLinePayment", "Sale"),
        ("SaleNeverSeenBefore", "SaleNeverSeenBefore", "Sale"),
        ("EmployeeScheduleNote", "EmployeeScheduleNote", "EmployeeSchedule"),
        ("GiftCard", "GiftCard", None),
    ],
)
def test_table_has_one_name_and_one_home(file_table: str, table: str, entity: str | None) -> None:
    facts = facts_of(file_table)
    assert (facts.table, facts.entity) == (table, entity)


def test_of_a_table_that_is_nobodys_nothing_is_known_but_its_name_and_the_kinds_of_its_columns() -> None:
    kinds = facts_of("Client").kinds
    assert facts_of("Gift_Card_T") == TableFacts("GiftCard", None, False, None, (), None, None, (), None, kinds)


@pytest.mark.parametrize("entity", ["Client", "Employee", "Appointment", "Sale"])
def test_root_table_is_named_like_its_entity_and_repeats_nothing(entity: str) -> None:
    facts = facts_of(entity)
    assert (facts.table, facts.is_root, facts.parent, facts.parent_key, facts.repeated) == (entity, True, None, None, ())
    assert facts.key[0] == "EntityId"


def test_file_of_planned_time_cards_is_no_root() -> None:
    facts = facts_of("EmployeeSchedule")
    assert (facts.is_root, facts.key) == (False, ("EntityId",))


@pytest.mark.parametrize(
    ("file_table", "key"),
    [
        ("ClientPhone", "Client_TId"),
        ("EmployeeBio", "Employee_User_TId"),
        ("SaleLine", "EntityId"),
        ("EmployeeClock", "EntityId"),
    ],
)
def test_child_finds_its_record_by_the_name_that_the_export_gives_the_key(file_table: str, key: str) -> None:
    assert facts_of(file_table).key[0] == key


@pytest.mark.parametrize("file_table", ["AppointmentServiceStep", "AppointmentServiceAddOn", "AppointmentStateChange"])
def test_what_bears_no_appointment_is_found_through_its_service(file_table: str) -> None:
    facts = facts_of(file_table)
    assert (facts.parent, facts.parent_key) == ("AppointmentService", "AppointService_LId")
    assert "AppointService_LId" in facts.repeated
    assert facts_of("AppointmentService").own_key == "AppointService_LId"
    assert "AppointService_LId" not in facts_of("AppointmentService").repeated


@pytest.mark.parametrize(
    ("file_table", "repeated"),
    [
        ("SaleLine", ("TenantId", "LocationId", "EntityId", "Sale_LId", "SaleDate", "Sale_Seq")),
        ("ClientPhone", ("TenantId", "LocationId", "EntityId", "Client_TId")),
        ("EmployeeClock", ("TenantId", "LocationId", "EntityId")),
    ],
)
def test_child_repeats_the_keys_of_what_stands_above_it(file_table: str, repeated: tuple[str, ...]) -> None:
    assert facts_of(file_table).repeated == repeated


def test_employee_has_54_columns_each_once() -> None:
    columns = facts_of("Employee").columns
    assert columns is not None
    assert len(columns) == len(set(columns)) == 54


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ("TenantId", "number"),
        ("GenderEnum", "number"),
        ("SaleLine_Seq", "number"),
        ("EntityVersion", "version"),
        ("DateUpdated", "datetime"),
        ("Anything_TId", "guid"),
        ("Anything_LId", "guid"),
        ("AnythingGuid", "guid"),
        ("anything_lid", "any"),
        ("anythingguid", "any"),
        ("ZipCode", "text"),
        ("ExternalId", "text"),
        ("DefaultServicePriceLevel", "any"),
        ("Isolation", "any"),
    ],
)
def test_kind_of_a_column_is_known_or_it_is_any(column: str, kind: str) -> None:
    assert kind_of(facts_of("Client"), column) == kind


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("Client_20260501.csv", ("Client", "20260501")),
        ("CLIENT_20260501.CSV", ("CLIENT", "20260501")),
        ("TimeCard_Employee_LSchedule_20260501.csv", ("TimeCard_Employee_LSchedule", "20260501")),
        ("BookingRestrictions_20250.csv", ("BookingRestrictions", "20250")),
        ("Client_20261301.csv", None),
        ("Client_2026.csv", None),
        ("Client_202605011.csv", None),
        ("Client_20260501.temp.csv", None),
        ("Client.temp_20260501.csv", None),
        ("Client_20260501.csv.filepart", None),
        ("Client_20260501.txt", None),
        ("readme.html", None),
        ("_20260501.csv", None),
        ("Client_\uff12\uff10\uff12\uff160501.csv", None),
    ],
)
def test_name_of_a_file_gives_table_and_date(name: str, found: tuple[str, str] | None) -> None:
    assert split_file_name(name) == found
