"""What is known of the tables of a Starter Export: whose they are, how their rows find their record, what their columns hold.

Invariants:

- A table has one home: the same file name gives the same table of the mirror and the same entity, whatever else the export
  holds and whichever entities are followed. What belongs to no entity is said to belong to none, never guessed.
- A kind is stated only where the service documents it or real files show it. A column is taken for a number on nothing less:
  a ZIP code that has become a number has lost its zero.
- Spelling follows `dds/tables.py`: upper and lower case are the same, and the mirror's name of a table is the feed's, too.

Source: docs/service.md, "Starter Export".
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Literal

from delta_mirror.dds.tables import ENTITIES, KEY, KEY_ALIASES, KEYS_BELOW, VERSION, column_name, table_name

Kind = Literal["text", "number", "guid", "datetime", "version", "any"]
"""What a column holds; `any`: not known, the looks of a value decide where the file has quotes."""


@dataclass(frozen=True, slots=True)
class TableFacts:
    """What is known of one table of an export.

    Attributes:
        table: the mirror's name; the root table bears the name of its entity.
        entity: whose table it is, None where it is nobody's.
        is_root: whether a row of it is a record's root.
        parent: the mirror's table that its rows hang on, None where that is the root.
        key: columns that may hold the key of the root (of a root: its own), best first; a file that has none of them has the
            key in the one column of GUIDs whose values are root keys.
        parent_key: the column that points to the row of `parent`; a file without it has its rows directly under the root.
        own_key: the column by which rows of other tables point to this one's.
        repeated: columns that only repeat what stands in a row above, and are left out where they do.
        columns: all columns in file order, None where they are not known in full.
        kinds: what columns hold, of those of which it is known by their name alone. Ask `kind_of`.
    """

    table: str
    entity: str | None
    is_root: bool
    parent: str | None
    key: tuple[str, ...]
    parent_key: str | None
    own_key: str | None
    repeated: tuple[str, ...]
    columns: tuple[str, ...] | None
    kinds: Mapping[str, Kind]


def facts_of(file_table: str) -> TableFacts:
    """Return what is known of the table that a file calls *file_table* (`SaleLine_ClientUnlimitedService_L`).

    A table that is not known belongs to the longest entity name that its own begins with. All of the service's entities count
    there, also those that nobody follows: a table of `EmployeeSchedule` is never a table of `Employee`.
    """
    table = _HOMES.get(table_name(file_table).lower(), table_name(file_table))
    folded = table.lower()
    entity = _ENTITIES_OF.get(folded) or _longest_beginning(folded)
    if entity is None:
        return TableFacts(table, None, False, None, (), None, None, (), None, _KINDS)
    is_root = folded in _ENTITY_NAMES
    aliases = KEY_ALIASES[entity]
    parent, parent_key, own_key = None, None, None
    if entity == "Appointment" and folded == _LINES.lower():
        own_key = _LINE_KEY
    elif entity == "Appointment" and not is_root:
        parent, parent_key = _LINES, _LINE_KEY
    below = tuple(name for name in KEYS_BELOW.get(entity, ()) if name != own_key)
    return TableFacts(
        table=entity if is_root else table,
        entity=entity,
        is_root=is_root,
        parent=parent,
        # A child may have a key of its own under `EntityId`; what bears the root's name can only be the root's.
        key=(KEY, *aliases) if is_root or entity == "Sale" else (*aliases, KEY),
        parent_key=parent_key,
        own_key=own_key,
        repeated=() if is_root else ("TenantId", "LocationId", KEY, *aliases, *below),
        columns=_COLUMNS.get(folded),
        kinds=_KINDS,
    )


def kind_of(facts: TableFacts, column: str) -> Kind:
    """Return what *column* holds as far as it is known: by its name in the table, else by the service's rules for names."""
    known = facts.kinds.get(column)
    if known is not None:
        return known
    if column.endswith(("Enum", "_Seq")):
        return "number"
    if column.endswith(("_TId", "_LId", "Guid")):
        return "guid"
    return "any"


_FILE_NAME = re.compile(r"([A-Za-z]\w*)_(\d{5,8})\.csv", re.ASCII | re.IGNORECASE)
_WHOLE_DATE = 8  # digits; a name has been met in which the date was cut to five


def split_file_name(name: str) -> tuple[str, str] | None:
    """Return the table and the digits of the date in a file's name, None where it is the name of no table's file.

    The date may be cut off (`BookingRestrictions_20250.csv`), but not to less than five digits; a whole one is a real date.
    """
    found = _FILE_NAME.fullmatch(name)
    if found is None:
        return None
    table, digits = found.groups()
    if len(digits) == _WHOLE_DATE:
        try:
            date.fromisoformat(digits)
        except ValueError:
            return None
    return table, digits


_ENTITY_NAMES = {name.lower(): name for name in ENTITIES}


def _longest_beginning(folded: str) -> str | None:
    found = max(filter(folded.startswith, _ENTITY_NAMES), key=len, default=None)
    return None if found is None else _ENTITY_NAMES[found]


_LINES = "AppointmentService"
_LINE_KEY = "AppointService_LId"

# The file `EmployeeSchedule` holds the rows of a time card, not the time card: no child table can be named like an entity.
_HOMES = {"employeeschedule": "TimeCardEmployeeLSchedule"}

# Tables whose names do not begin with the entity that they belong to, or with that of another one.
_ENTITIES_OF = {
    "bookingrestrictions": "Employee",
    "timecardemployeelschedule": "EmployeeSchedule",
    "timecardemployeelclocktime": "EmployeeActual",
    "employeeclock": "EmployeeActual",
    "employeebreak": "EmployeeActual",
}

_EMPLOYEE_COLUMNS = """
    TenantId Employee_User_TId Prefix FirstName MiddleName LastName Suffix NickName GenderEnum BirthDate AnniversaryDate
    IsRestricted HomeCountryCode HomePhoneNumber CountryCode PhoneNumber Address1 Address2 State City ZipCode Country FileGuid
    IsEmployeeBioEnable IncrementMasking MaskingIncrement EmployeeEntityTypeEnum TerminatedDate HireDate IncludeInProductivity
    AllowBookableOnline AllowDoubleBook AllowSales AllowTips ShowOnSchedule AllowBookableWalkIn NumberOfServicePerDay
    NumberOfMinutesPerDay NumberOfMinutesInARow NumberOfMinuteBreakInARow Client_TId EmployeeNumber EmployeeCode
    DefaultServicePriceLevel HomeLocationId EntityVersion UserTenantDateCreated UserTenantDateUpdated UserName DisplayName
    EmailAddress ObjectStateEnum DateCreated DateUpdated
"""

# In file order, and only where all of them are known: a file without a header can be read by nothing less.
_COLUMNS: Mapping[str, tuple[str, ...]] = {
    table: tuple(names.split())
    for table, names in {
        "employee": _EMPLOYEE_COLUMNS,
        "employeebio": "TenantId Employee_User_TId EmployeeBio",
        "employeecat": "TenantId LocationId Employee_User_TId EmployeeCat_TId",
        "bookingrestrictions": "TenantId LocationId Employee_User_TId Service_TId NumberOfTimePerDay",
        "employeeclock": """
            TenantId LocationId EntityId ClockTime_LId WorkType_TId StartDateTime StartDateTimeClockTimeCreationMethodEnum
            EndDateTime EndDateTimeClockTimeCreationMethodEnum
        """,
        "employeebreak": """
            TenantId LocationId EntityId ClockTime_LId BreakTime_LId BreakStartDateTime
            BreakStartDateTimeClockTimeCreationMethodEnum BreakEndDateTime BreakEndDateTimeClockTimeCreationMethodEnum
        """,
    }.items()
}

_NAMES_OF_KIND: Mapping[Kind, str] = {
    "number": """
        TenantId LocationId HomeLocationId LiabilityLocationId Quantity FinalPrice Amount IsMinor UseForTextMarketing IsRestricted
        IsEmployeeBioEnable IncrementMasking MaskingIncrement IncludeInProductivity AllowBookableOnline AllowDoubleBook
        AllowSales AllowTips ShowOnSchedule AllowBookableWalkIn NumberOfServicePerDay NumberOfMinutesPerDay
        NumberOfMinutesInARow NumberOfMinuteBreakInARow NumberOfTimePerDay
    """,
    "guid": "EntityId",
    "datetime": """
        DateCreated DateUpdated UserTenantDateCreated UserTenantDateUpdated TransactionDateTime SaleDate StartDateTime
        EndDateTime BreakStartDateTime BreakEndDateTime BirthDate AnniversaryDate TerminatedDate HireDate
    """,
    "text": """
        ExternalId Prefix FirstName MiddleName LastName Suffix NickName HomeCountryCode HomePhoneNumber CountryCode PhoneNumber
        FullPhoneNumber Address1 Address2 State City ZipCode Country EmployeeNumber EmployeeCode UserName DisplayName
        EmailAddress EmployeeBio
    """,
    "version": VERSION,
}
_KINDS: Mapping[str, Kind] = {column_name(name): kind for kind, names in _NAMES_OF_KIND.items() for name in names.split()}
