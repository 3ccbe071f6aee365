"""What is known of a client's profile: its sections, their keys and spellings, and the tables that hold them.

Invariants:

- A key has one right name, that of the vendor's table; what a message may call it besides stands in `ALIASES` and nowhere else.
- Names are compared without regard to case, those of sections and types also without regard to blanks.
- The same key in two sections that share a table would be two things in one column: within `NexusClient` no name is there twice.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from delta_mirror.core.fold import Place
from delta_mirror.core.model import Layout

CLIENT_TABLE = "NexusClient"
ACTIVITY_TABLE = "NexusActivity"
CASE_TABLE = "NexusCase"
OFFENSE_TABLE = "NexusOffense"
PICTURE_TABLE = "NexusPicture"
LONGEST_REMEMBERED = 100  # characters: what memory the look-ups take must not depend on what is sent
OFFENSES = "Offenses"  # the key of a case that is no column, but rows of their own table


class Section(NamedTuple):
    """One section of the profile. Without a `natural_key` there is one per client, else many, each an item.

    `natural_key` names the columns that tell items apart where a message has no identifier.
    """

    name: str
    table: str
    columns: tuple[str, ...]
    natural_key: tuple[str, ...] = ()


# docs/nexus.md, "Sections"
SECTIONS = (
    Section(
        "Personal Details",
        CLIENT_TABLE,
        (
            "FirstName",
            "MiddleName",
            "LastName",
            "DateOfBirth",
            "TimeZone",
            "Gender",
            "Ethnicity",
            "StaticRiskRating",
            "NeedsClassification",
        ),
    ),
    Section("Account Details", CLIENT_TABLE, ("Status", "AssignedCaseload", "AssignedOfficer", "ClientType")),
    Section("Email Details", CLIENT_TABLE, ("Email",)),
    Section("Address Details", "NexusAddress", ("AddressType", "Address"), ("AddressType",)),
    Section("Contact Details", "NexusContact", ("ContactType", "Contact"), ("ContactType",)),
    Section("Vehicle Details", "NexusVehicle", ("Make", "Model", "Year", "Color", "LicensePlate"), ("LicensePlate",)),
    Section(
        "Employment Details",
        "NexusEmployment",
        ("Employer", "Occupation", "WorkAddress", "WorkPhone", "Wage", "WageUnit", "WorkEnvironment"),
        ("Employer",),
    ),
    Section(
        "Case Details",
        CASE_TABLE,
        (
            "CaseNumber",
            "CaseDate",
            "Status",
            "StartDate",
            "ActualEndDate",
            "EarlyReleaseDate",
            "ProjectedEndDate",
            "EndReason",
        ),
        ("CaseNumber",),
    ),
    Section(
        "Protective Order Details",
        "NexusProtectiveOrder",
        (
            "OrderType",
            "EffectiveDate",
            "ExpirationDate",
            "ProtectedPersons",
            "PeacefulContact",
            "NoContact",
            "StayAwayPersons",
            "StayAwayLocation",
            "StayAwayVehicles",
            "MoveOutAddress",
            "ChildCustody",
        ),
        ("OrderType", "EffectiveDate"),
    ),
    Section("Profile Picture", PICTURE_TABLE, ("Image",)),
)
OFFENSE_COLUMNS = ("Label", "Date", "Statute", "Category", "IsPrimary")
ACTIVITY_COLUMNS = ("Type", "OccurredOn", "Details")

# Other spellings, in lower case, that no change of case leads to the right one.
ALIASES: Mapping[str, str] = {
    "ethinicity": "Ethnicity",
    "staticriskchecking": "StaticRiskRating",
    "stayawaylocations": "StayAwayLocation",
}

# Where `4/5/2019` is a date, and not a number of something.
DATES = frozenset(
    (
        "ActualEndDate",
        "CaseDate",
        "Date",
        "DateOfBirth",
        "EarlyReleaseDate",
        "EffectiveDate",
        "ExpirationDate",
        "ProjectedEndDate",
        "StartDate",
    )
)

BY_NAME: Mapping[str, Section] = {section.name: section for section in SECTIONS}


def _layouts() -> tuple[Layout, ...]:
    columns: dict[str, tuple[str, ...]] = {}
    items: set[str] = set()
    for section in SECTIONS:
        columns[section.table] = columns.get(section.table, ()) + section.columns
        if section.natural_key:
            items.add(section.table)
    found = [
        Layout(
            table,
            ("_client_id", "_item_id") if table in items else ("_client_id",),
            names,
            rows_below=(OFFENSES, OFFENSE_TABLE) if table == CASE_TABLE else None,
            is_dated=table != CLIENT_TABLE,
            is_narrow=table in items,
        )
        for table, names in columns.items()
    ]
    return (
        *found,
        Layout(OFFENSE_TABLE, ("_client_id", "_item_id", "_n"), OFFENSE_COLUMNS, is_narrow=True),
        Layout(ACTIVITY_TABLE, ("_client_id", "_type", "_item_id"), ACTIVITY_COLUMNS, is_dated=True),
    )


LAYOUTS = _layouts()


def table_of(place: Place) -> str:
    """Return the table that holds *place*."""
    section = BY_NAME.get(place.section)
    return ACTIVITY_TABLE if section is None else section.table


def compact(name: str) -> str:
    """Return *name* as names of sections and types are compared: without blanks, in lower case."""
    return _compact(name) if len(name) <= LONGEST_REMEMBERED else _compact.__wrapped__(name)


@lru_cache(maxsize=4096)
def _compact(name: str) -> str:
    return "".join(name.split()).lower()


def _spellings() -> dict[str, Section]:
    found = {}
    for section in SECTIONS:
        whole = compact(section.name)
        for spelling in (whole, whole.removesuffix("details"), f"{whole.removesuffix('details')}details"):
            found[spelling] = section
    others = {"clienttype": "Account Details", "courtcase": "Case Details", "picture": "Profile Picture"}
    for spelling, name in others.items():
        found[spelling] = found[f"{spelling}details"] = BY_NAME[name]
    return found


_BY_SPELLING = _spellings()
WHOLE_PROFILE = frozenset(("", "clientprofile", "profile"))  # names that name no section


def section_named(spelling: str) -> Section | None:
    """Return the section that the compact *spelling* names, None where it names none that is known."""
    return _BY_SPELLING.get(spelling)


_TELLING: dict[str, list[Section]] = {}  # columns, in lower case, to the sections that have them
for _section in SECTIONS:
    for _column in (*_section.columns, *((OFFENSES,) if _section.name == "Case Details" else ())):
        _TELLING.setdefault(_column.lower(), []).append(_section)


def section_with(keys: Iterable[str]) -> Section | None:
    """Return the one section that alone has some of *keys*, None where there is none or more than one."""
    found: set[str] = set()
    for key in keys:
        lower = key.lower()
        having = _TELLING.get(ALIASES[lower].lower() if lower in ALIASES else lower, [])
        if len(having) == 1:
            found.add(having[0].name)
    return BY_NAME[found.pop()] if len(found) == 1 else None
