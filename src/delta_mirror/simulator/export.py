"""The Starter Export of the simulated service: files as the service drops them, with their oddities.

Invariants:

- The bytes are those of real files: UTF-16LE with a byte order mark, `|@|` between columns, `|$|` after every row, no CSV.
- A record in a file says what the feed says of it: the same columns and values, spelt the export's way. Files of 2021 have no
  quotes, and so cannot tell NULL from the empty string.
- Every record that was ever made is in it as it is now, deleted ones too.

    columns = write_export(world, folder, Quirks(kind=2021))
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, TypeAlias

import orjson

from delta_mirror.simulator.clock import Moment, written
from delta_mirror.simulator.salon import CHILDREN, ROOTS, Body, Json, RowVersion
from delta_mirror.simulator.world import Stream, World

Kind: TypeAlias = Literal["text", "number", "guid", "datetime", "version"]
Columns: TypeAlias = dict[str, Kind]
"""The columns of a file in their order, and what they hold."""

BOM = b"\xff\xfe"
_BATCH = 2000  # rows that are written at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Quirks:
    """How an export is written.

    Attributes:
        kind: 2021, without header and quotes, or 2025, with both.
        day: the date of the run, `YYYYMMDD`; where it is empty, the day that the world's clock shows.
        next_day: tables that were dumped after midnight, and bear the next date.
        short_dates: tables in whose names the date is cut to five digits.
        strays: files that are no tables lie beside the tables.
        reversed_columns: columns stand in reverse order, but for the first.
        trailing_blanks: names in the header that bear a blank at their end.
        withheld: tables that are not in the export.
        extra_tables: further files, by their table.
        extra_columns: a value for every row of a table, by table and column.
        keyless_employees: so many rows of `Employee` without a key: users who are no employees.
        orphans: so many child rows in `ClientPhone` and `SaleLine` whose root is not in the export.
        written_offset: the offset at which dates are written.
        schedule_table: what the file of the planned time cards is called.
    """

    kind: Literal[2021, 2025] = 2025
    day: str = ""
    next_day: frozenset[str] = frozenset()
    short_dates: frozenset[str] = frozenset()
    strays: bool = False
    reversed_columns: bool = False
    trailing_blanks: frozenset[str] = frozenset({"HomeLocationId"})
    withheld: frozenset[str] = frozenset()
    extra_tables: Mapping[str, Sequence[Body]] = field(default_factory=dict)
    extra_columns: Mapping[str, Body] = field(default_factory=dict)
    keyless_employees: int = 0
    orphans: int = 0
    written_offset: str = "+00:00"
    schedule_table: Literal["EmployeeSchedule", "TimeCard_Employee_LSchedule"] = "EmployeeSchedule"


STANDARD = Quirks()
STANDARD_ENTITIES = ("Client", "Employee", "Appointment", "Sale")


def write_export(
    world: World, folder: Path, quirks: Quirks = STANDARD, *, entities: Iterable[str] = STANDARD_ENTITIES
) -> dict[str, Columns]:
    """Write an export of all locations into *folder*; return the columns of each table: what `[starter.columns]` has to say.

    Locations without any record have their files, too, all of them empty.
    """
    wanted = tuple(entities)
    with world.lock:
        content = {
            (tenant, location): _tables_of(world, tenant, location, wanted, quirks)
            for tenant, locations in world.tenants.items()
            for location in locations
        }
        day = quirks.day or written(world.now)[:10].replace("-", "")
    rows_of: dict[str, list[Body]] = {}
    for tables in content.values():
        for table, rows in tables.items():
            rows_of.setdefault(table, []).extend(rows)
    columns = {table: _columns_of(table, rows) for table, rows in rows_of.items()}
    if quirks.reversed_columns:
        for table, known in columns.items():
            first, *others = known
            columns[table] = {name: known[name] for name in (first, *reversed(others))}
    for (tenant, location), tables in content.items():
        place = folder / f"Tenant{tenant}" / f"Location{location}"
        place.mkdir(parents=True, exist_ok=True)
        for table, rows in tables.items():
            write_table(place / file_name(table, day, quirks), columns[table], rows, quirks)
        if quirks.strays:
            (place / "readme.html").write_text("<p>These files are invented.</p>", encoding="utf-8")
            (place / f"Client_{day}.temp.csv").write_bytes(BOM + "half a".encode("utf-16-le")[:-1])
    return columns


def file_name(table: str, day: str, quirks: Quirks = STANDARD) -> str:
    """Return what the file of *table* is called in the run of *day*."""
    if table in quirks.next_day:
        day = f"{date.fromisoformat(day) + timedelta(days=1):%Y%m%d}"
    return f"{table}_{day[:5] if table in quirks.short_dates else day}.csv"


def write_table(path: Path, columns: Columns, rows: Iterable[Body], quirks: Quirks = STANDARD) -> None:
    """Write one file; a value that is not in its row is NULL."""
    with TableFile(path, columns, quirks) as file:
        for row in rows:
            file.add(row)


class TableFile:
    """One file that is being written, row by row: `with TableFile(path, columns) as file: file.add(row)`."""

    def __init__(self, path: Path, columns: Columns, quirks: Quirks = STANDARD) -> None:
        quoted = quirks.kind == 2025
        self._file = path.open("wb")
        self._file.write(BOM)
        if quoted:
            names = (f'"{name}{" " if name in quirks.trailing_blanks else ""}"' for name in columns)
            self._file.write(("|@|".join(names) + "|$|").encode("utf-16-le"))
        self._columns = [(name, _writers(kind, quoted, quirks.written_offset)) for name, kind in columns.items()]
        self._lines: list[str] = []

    def add(self, row: Body) -> None:
        """Write *row*; a value that is not in it is NULL."""
        self._lines.append(
            "|@|".join([write[type(row[name])](row[name]) if name in row else "" for name, write in self._columns])
        )
        if len(self._lines) == _BATCH:
            self._flush()

    def _flush(self) -> None:
        if self._lines:
            self._file.write(("|$|".join(self._lines) + "|$|").encode("utf-16-le"))
            self._lines.clear()

    def __enter__(self) -> "TableFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._file.close()


# --- values --------------------------------------------------------------------------------------------------------------------

_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_DATE = re.compile(r"(\d{4}-\d\d-\d\d)(?:T(\d\d:\d\d:\d\d))?", re.ASCII)


def _writers(kind: Kind, quoted: bool, offset: str) -> Mapping[type, Callable[[Any], str]]:
    """Return what writes the values of a column of *kind*, by their type."""

    def text(value: str) -> str:
        if kind == "guid" and _GUID.fullmatch(value):
            return value.upper()
        if kind == "datetime" and _DATE.fullmatch(value):
            return value.replace("T", " ")
        return f'"{value}"' if quoted else value

    def moment(value: Moment) -> str:
        wall = written(value, offset)
        return f"{wall[:10]} {wall[11:27]} {'+00:00' if offset == 'Z' else offset}"

    def nested(value: Json) -> str:
        return text(orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode())

    return {
        str: text,
        int: str,
        bool: lambda value: "1" if value else "0",
        float: _decimal,
        Moment: moment,
        RowVersion: "{:016X}".format,
        list: nested,
        dict: nested,
    }


def _decimal(value: float) -> str:
    """Return *value* with six places, more where it has more, and no zero before the point."""
    text = f"{value:.6f}"
    if float(text) != value:
        text = f"{Decimal(repr(value)):f}"
    if text.startswith("0."):
        return text[1:]
    return "-" + text[2:] if text.startswith("-0.") else text


def _kind_of(name: str, value: Json) -> Kind:
    """Return what a column holds that has *value* in one row."""
    match value:
        case RowVersion():
            return "version"
        case Moment():
            return "datetime"
        case bool() | int() | float():
            return "number"
        case str() if name.endswith(("Id", "Guid")) and name != "ExternalId" and _GUID.fullmatch(value):
            return "guid"
        case str() if name.endswith("Date") and _DATE.fullmatch(value):
            return "datetime"
        case _:
            return "text"


# --- tables --------------------------------------------------------------------------------------------------------------------

_KEYS = {"Client": "Client_TId", "Employee": "Employee_User_TId"}

_EMPLOYEE = """
    TenantId Employee_User_TId Prefix FirstName MiddleName LastName Suffix NickName GenderEnum BirthDate AnniversaryDate
    IsRestricted HomeCountryCode HomePhoneNumber CountryCode PhoneNumber Address1 Address2 State City ZipCode Country FileGuid
    IsEmployeeBioEnable IncrementMasking MaskingIncrement EmployeeEntityTypeEnum TerminatedDate HireDate IncludeInProductivity
    AllowBookableOnline AllowDoubleBook AllowSales AllowTips ShowOnSchedule AllowBookableWalkIn NumberOfServicePerDay
    NumberOfMinutesPerDay NumberOfMinutesInARow NumberOfMinuteBreakInARow Client_TId EmployeeNumber EmployeeCode
    DefaultServicePriceLevel HomeLocationId EntityVersion UserTenantDateCreated UserTenantDateUpdated UserName DisplayName
    EmailAddress ObjectStateEnum DateCreated DateUpdated
"""

# What tables begin with, in file order, whether or not a row has it. What else rows bring follows.
_BEGINNINGS: Mapping[str, str] = {
    "Client": """
        TenantId Client_TId HomeLocationId EntityVersion CreatedBy_User_TId DateCreated DateUpdated ExternalId Prefix FirstName
        MiddleName
    """,
    "ClientPhone": "TenantId Client_TId",
    "Employee": _EMPLOYEE,
    "EmployeeBio": "TenantId Employee_User_TId EmployeeBio",
    "EmployeeCat": "TenantId LocationId Employee_User_TId EmployeeCat_TId",
    "Appointment": "TenantId LocationId EntityId EntityVersion",
    "AppointmentService": "TenantId LocationId AppointService_LId EntityId",
    "AppointmentServiceStep": "TenantId LocationId AppointService_LId",
    "Sale": "TenantId EntityId LocationId SaleDate Sale_Seq TransactionDateTime EntityVersion",
    "SaleLine": "TenantId EntityId LocationId SaleDate Sale_Seq SaleLine_Seq Client_TId",
    "SaleLinePayment": "TenantId EntityId LocationId SaleDate Sale_Seq",
    "EmployeeSchedule": "TenantId LocationId EntityId",
    "TimeCard_Employee_LSchedule": "TenantId LocationId EntityId",
    "EmployeeClock": """
        TenantId LocationId EntityId ClockTime_LId WorkType_TId StartDateTime StartDateTimeClockTimeCreationMethodEnum
        EndDateTime EndDateTimeClockTimeCreationMethodEnum
    """,
    "EmployeeBreak": """
        TenantId LocationId EntityId ClockTime_LId BreakTime_LId BreakStartDateTime
        BreakStartDateTimeClockTimeCreationMethodEnum BreakEndDateTime BreakEndDateTimeClockTimeCreationMethodEnum
    """,
}
_WITHOUT_ROOT = ("EmployeeSchedule", "EmployeeActual")


def _tables_of(
    world: World, tenant: int, location: int, entities: Sequence[str], quirks: Quirks
) -> dict[str, list[Body]]:  # fmt: skip
    """Return the rows of one location by the tables of the export, those without rows among them."""
    tables: dict[str, list[Body]] = {}
    for entity in entities:
        for table in _names_below(entity, entity):
            tables[_file_table(table, quirks)] = []
        for change in world.history(Stream(tenant, location, entity)).current:
            _add_rows(tables, entity, _file_table(ROOTS[entity], quirks), change.body, quirks)
        if entity in _KEYS:
            for row in tables[entity]:
                row[_KEYS[entity]] = row.pop("EntityId")
        if entity in _WITHOUT_ROOT:
            tables.pop(_file_table(ROOTS[entity], quirks), None)
    for table, rows in quirks.extra_tables.items():
        tables[table] = list(rows)
    for table, values in quirks.extra_columns.items():
        tables[table] = [{**row, **values} for row in tables.get(table, ())]
    if "Employee" in tables:
        nobody: Body = {"TenantId": tenant, "UserName": "nobody", "ObjectStateEnum": 2026}
        tables["Employee"] += [dict(nobody) for _ in range(quirks.keyless_employees)]
    for table, key in (("ClientPhone", "Client_TId"), ("SaleLine", "EntityId")):
        if table in tables:
            tables[table] += [{"TenantId": tenant, key: _nobody(place)} for place in range(quirks.orphans)]
    return {table: rows for table, rows in tables.items() if table not in quirks.withheld}


def _nobody(place: int) -> str:
    return f"00000000-dead-4000-8000-{place:012x}"


def _names_below(entity: str, table: str) -> Iterator[str]:
    """Yield the feed's names of the root table of *entity* and of what hangs below *table*."""
    if table == entity and entity not in _WITHOUT_ROOT:
        yield ROOTS[entity]
    for child in CHILDREN.get(table, ()):
        yield child
        yield from _names_below(entity, child)


def _file_table(feed_table: str, quirks: Quirks) -> str:
    if feed_table == "SalePayment_L":
        return "SaleLinePayment"
    if feed_table == "TimeCard_Employee_LSchedule":
        return quirks.schedule_table
    return re.sub(r"_[TL]$", "", feed_table)


def _add_rows(tables: dict[str, list[Body]], feed_table: str, table: str, body: Body, quirks: Quirks) -> None:
    """Add *body* to its table, and what hangs below it to theirs."""
    row: Body = {}
    tables.setdefault(table, []).append(row)
    for name, value in body.items():
        if isinstance(value, list) and (name in CHILDREN.get(feed_table, ()) or _is_table(value)):
            for child in value:
                if isinstance(child, dict):
                    _add_rows(tables, name, _file_table(name, quirks), child, quirks)
        else:
            row[name] = value


def _is_table(value: list[Json]) -> bool:
    return bool(value) and all(isinstance(part, dict) for part in value)


def _columns_of(table: str, rows: Iterable[Body]) -> Columns:
    kinds: dict[str, set[Kind]] = {name: set() for name in _BEGINNINGS.get(table, "TenantId").split()}
    for row in rows:
        for name, value in row.items():
            kinds.setdefault(name, set()).add(_kind_of(name, value))
    # A column is of one kind, and text where its values are not.
    return {name: next(iter(found)) if len(found) == 1 else "text" for name, found in kinds.items()}
