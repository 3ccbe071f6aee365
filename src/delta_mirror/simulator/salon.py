"""What the records of an invented salon look like.

Invariants:

- A body is what stands under a record's root key in the feed: columns, and child tables as lists of rows. A column that is
  NULL is left out, and so is a child table without rows.
- Nobody in it exists: surnames are made up, phone numbers are 555-01xx, addresses are at example.com.
- Everything follows from the dice that are handed in.

The root keys of clients, appointments and sales are the service's own. Those of the other entities are not known and are
invented here, among them a `TimeCard_L` that does not resemble its entity on purpose.
"""

from collections.abc import Callable, Mapping
from random import Random
from typing import NamedTuple, TypeAlias

from delta_mirror.simulator.clock import DAY, HOUR, MINUTE, Moment, written

Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"]
Body: TypeAlias = dict[str, Json]

ACTIVE, INACTIVE, DELETED = 2026, 2027, 2028  # ObjectStateEnum
BOOKED, CHECKED_IN, CANCELLED = 2049, 2050, 2052  # AppointFinalStateEnum

ROOTS: Mapping[str, str] = {
    "Client": "Client_T",
    "Employee": "Employee_T",
    "Appointment": "Appointment_L",
    "Sale": "Sale_L",
    "EmployeeSchedule": "TimeCard_L",
    "EmployeeActual": "TimeCard_L",
}
CHILDREN: Mapping[str, tuple[str, ...]] = {
    "Client": ("ClientPhone_T",),
    "Employee": ("EmployeeBio_T", "EmployeeCat_L"),
    "Appointment": ("AppointmentService_L",),
    "AppointmentService_L": ("AppointmentServiceStep_L",),
    "Sale": ("SaleLine_L", "SalePayment_L"),
    "EmployeeSchedule": ("TimeCard_Employee_LSchedule",),
    "EmployeeActual": ("EmployeeClock_L", "EmployeeBreak_L"),
}
ENUMS: Mapping[str, Mapping[str, str]] = {
    "ObjectState": {"2026": "Active", "2027": "Inactive", "2028": "Deleted"},
    "AppointFinalState": {"2049": "Booked", "2050": "Checked in", "2052": "Cancelled"},
    "PhoneType": {"31": "Mobile", "32": "Home", "33": "Work"},
    "Gender": {"92": "Female", "93": "Male", "94": "Not told"},
}

_FIRST = (
    "Ada", "Bo", "Chloé", "Dov", "Elif", "Finn", "Gösta", "Hana", "Ines", "José", "Kaya", "Liv", "Mei", "Nils", "Oyá", "Pia",
    "Quinn", "Ravi", "Søren", "Tess", "Uma", "Veda", "Wren", "Xia", "Yara", "Zoë",
)  # fmt: skip
_LAST = (
    "Sampleton", "O'Placeholder", "Mockingham", "van Exempel", "Fictitia", "Beispiel-Muster", "Nonesuch", "Dummyfield",
    "Testarossa-Null", 'Quote"well', "Imaginova", "Standin", "Pseudonymous", "Ersatz", "Facsimile", "Notreal",
)  # fmt: skip
_STREETS = ("Invented Way", "Nowhere Lane", "Example Street", "Placeholder Square")
_SERVICES = ("Cut", "Colour", "Manicure", "Massage", "Blow dry")


class RowVersion(int):
    """An 8-byte row version; it becomes hex, base64 or a number only when an answer is written."""

    __slots__ = ()


class Birth(NamedTuple):
    """What a new record is given by the world."""

    tenant: int
    location: int
    id: str
    date: Moment
    version: RowVersion


def guid(dice: Random) -> str:
    """Return a new GUID in lower case."""
    digits = f"{dice.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def rows(body: Body, table: str) -> list[Body]:
    """Return the child rows of *table* directly under *body*; the list is new, the rows are the body's own."""
    held = body.get(table, [])
    return [row for row in held if isinstance(row, dict)] if isinstance(held, list) else []


def phone(dice: Random, tenant: int, client: str, number: str | None = None) -> Body:
    """Return a phone of a client; it has no key of its own, so that two may be equal."""
    bits = dice.getrandbits(20)
    if number is None:
        number = f"55501{bits % 100:02}"
    return {
        "TenantId": tenant,
        "Client_TId": client,
        "PhoneTypeEnum": 31 + bits % 3,
        "CountryCode": "1",
        "PhoneNumber": number,
        "FullPhoneNumber": f"+1 ({201 + bits // 128 % 700}) {number[:3]}-{number[3:]}",
        "UseForTextMarketing": bits % 2 == 0,
    }


def client(dice: Random, birth: Birth, phones: int | None = None) -> Body:
    """Return a new client with so many *phones*, none to three where that is left to the dice."""
    bits = dice.getrandbits(62)
    first, last = _FIRST[bits % 26], _LAST[bits // 32 % 16]
    body: Body = {
        "TenantId": birth.tenant,
        "EntityId": birth.id,
        "HomeLocationId": birth.location,
        "EntityVersion": birth.version,
        "CreatedBy_User_TId": guid(dice),
        "DateCreated": birth.date,
        "DateUpdated": birth.date,
        "FirstName": first,
        "LastName": last,
        "GenderEnum": 92 + bits // 512 % 3,
        "BirthDate": f"{1940 + bits // 2048 % 70}-{1 + bits // 4096 % 12:02}-{1 + bits // 8192 % 28:02}",
        "Address1": f"{1 + bits // 16384 % 999} {_STREETS[bits % 4]}",
        "City": "Exampleville",
        "State": "ZZ",
        "ZipCode": f"{bits % 9000:05}",
        "Country": "US",
        "EmailAddress": f"client.{bits % 10**9}@example.com",
        "IsMinor": bits % 11 == 0,
        "AllowsEmail": bits % 3 == 0,
        "AccountBalance": bits % 20_000 / 100,
        "LoyaltyPoints": bits % 5_000,
        "ObjectStateEnum": ACTIVE,
    }
    if bits % 2:
        body["ExternalId"] = f"{bits % 10_000:06}"
    if bits % 5 == 0:
        body["MiddleName"] = "" if bits % 10 else "Q."
    if bits % 7 == 0:
        body["Prefix"] = "Dr."
    if bits % 13 == 0:
        body["GuardianId"] = guid(dice).upper()
    if bits % 17 == 0:
        body["ContactPreferences"] = {"Text": True, "Mail": False, "Hours": [9, 17]}
    if bits % 19 == 0:
        body["Tags"] = ["regular", "café"]
    count = bits // 7 % 4 if phones is None else phones
    if count:
        body["ClientPhone_T"] = [phone(dice, birth.tenant, birth.id) for _ in range(count)]
    return body


def employee(dice: Random, birth: Birth) -> Body:
    """Return a new employee, with a biography and the categories worked in."""
    first, last = dice.choice(_FIRST), dice.choice(_LAST)
    key: Body = {"TenantId": birth.tenant, "Employee_User_TId": birth.id}
    body: Body = {
        "TenantId": birth.tenant,
        "EntityId": birth.id,
        "FirstName": first,
        "LastName": last,
        "DisplayName": f"{first} {last[0]}.",
        "EmployeeNumber": f"{dice.randrange(10_000):04}",
        "EmailAddress": f"staff.{dice.randrange(10**6)}@example.com",
        "PhoneNumber": f"202-555-01{dice.randrange(100):02}",
        "FileGuid": guid(dice).upper(),
        "HireDate": f"20{dice.randrange(10, 26)}-03-01T00:00:00",
        "IsEmployeeBioEnable": dice.random() < 0.5,
        "MaskingIncrement": dice.choice((0.5, 1, 2.25, 12.0)),
        "HomeLocationId": birth.location,
        "EntityVersion": birth.version,
        "ObjectStateEnum": ACTIVE,
        "DateCreated": birth.date,
        "DateUpdated": birth.date,
        "EmployeeBio_T": [{**key, "EmployeeBio": f'{first} likes «invented» hair; said "hello".\nSecond line.'}],
    }
    if dice.random() < 0.3:
        body["Client_TId"] = guid(dice)
    if categories := dice.randrange(4):
        body["EmployeeCat_L"] = [{**key, "LocationId": birth.location, "EmployeeCat_TId": guid(dice)} for _ in range(categories)]
    return body


def appointment_service(dice: Random, birth: Birth, steps: int | None = None) -> Body:
    """Return a service line of an appointment, with its *steps*, none to two where that is left to the dice."""
    place: Body = {"TenantId": birth.tenant, "LocationId": birth.location}
    key = guid(dice)
    line: Body = {
        **place,
        "AppointService_LId": key,
        "EntityId": birth.id,
        "ServiceName": dice.choice(_SERVICES),
        "Employee_User_TId": guid(dice),
        "StartDateTime": Moment(birth.date + dice.randrange(1, 200) * HOUR),
        "DurationInMinutes": dice.choice((30, 45, 60)),
        "Price": dice.randrange(100, 20_000) / 100,
        "AppointFinalStateEnum": BOOKED,
    }
    count = dice.randrange(3) if steps is None else steps
    if count:
        line["AppointmentServiceStep_L"] = [
            {**place, "AppointService_LId": key, "Step_Seq": step + 1, "Minutes": dice.choice((10, 15, 20))}
            for step in range(count)
        ]
    return line


def appointment(dice: Random, birth: Birth, lines: int | None = None) -> Body:
    """Return a new appointment with so many service *lines*, one to three where that is left to the dice."""
    count = dice.randrange(1, 4) if lines is None else lines
    body: Body = {
        "TenantId": birth.tenant,
        "LocationId": birth.location,
        "EntityId": birth.id,
        "EntityVersion": birth.version,
        "Client_TId": guid(dice),
        "DateCreated": birth.date,
        "DateUpdated": birth.date,
        "IsWalkIn": dice.random() < 0.2,
        "Notes": dice.choice(("", "prefers silence", "first visit")),
    }
    if count:
        body["AppointmentService_L"] = [appointment_service(dice, birth) for _ in range(count)]
    return body


def sale(dice: Random, birth: Birth) -> Body:
    """Return a new sale, with its lines and one payment over their sum."""
    day = written(birth.date)[:10]
    number = dice.randrange(1, 100_000)
    key: Body = {
        "TenantId": birth.tenant,
        "EntityId": birth.id,
        "LocationId": birth.location,
        "SaleDate": day,
        "Sale_Seq": number,
    }
    cents = [dice.randrange(100, 9_000) for _ in range(dice.randrange(1, 4))]
    buyer = guid(dice)
    return {
        **key,
        "TransactionDateTime": birth.date,
        "EntityVersion": birth.version,
        "DateCreated": birth.date,
        "DateUpdated": birth.date,
        "Total": sum(cents) / 100,
        "IsRefund": False,
        "SaleLine_L": [
            {
                **key,
                "SaleLine_Seq": place + 1,
                "Client_TId": buyer,
                "Quantity": 1,
                "FinalPrice": price / 100,
                "ComputedGuid": guid(dice),
            }
            for place, price in enumerate(cents)
        ],
        "SalePayment_L": [{**key, "Payment_Seq": 1, "Amount": sum(cents) / 100}],
    }


def schedule(dice: Random, birth: Birth) -> Body:
    """Return a planned time card of an employee."""
    place: Body = {"TenantId": birth.tenant, "LocationId": birth.location, "EntityId": birth.id}
    begin = birth.date + dice.randrange(14) * DAY
    return {
        **place,
        "EntityVersion": birth.version,
        "DateCreated": birth.date,
        "DateUpdated": birth.date,
        "Employee_User_TId": guid(dice),
        "TimeCard_Employee_LSchedule": [
            {**place, "StartDateTime": Moment(begin + part * 5 * HOUR), "EndDateTime": Moment(begin + (part * 5 + 4) * HOUR)}
            for part in range(dice.randrange(1, 3))
        ],
    }


def actual(dice: Random, birth: Birth) -> Body:
    """Return a worked time card of an employee, clock times and breaks side by side."""
    place: Body = {"TenantId": birth.tenant, "LocationId": birth.location, "EntityId": birth.id}
    clock = guid(dice)
    body: Body = {
        **place,
        "EntityVersion": birth.version,
        "DateCreated": birth.date,
        "DateUpdated": birth.date,
        "Employee_User_TId": guid(dice),
        "EmployeeClock_L": [
            {**place, "ClockTime_LId": clock, "StartDateTime": birth.date, "EndDateTime": Moment(birth.date + 8 * HOUR)}
        ],
    }
    if dice.random() < 0.5:
        body["EmployeeBreak_L"] = [
            {
                **place,
                "ClockTime_LId": clock,
                "BreakTime_LId": guid(dice),
                "BreakStartDateTime": Moment(birth.date + 4 * HOUR),
                "BreakEndDateTime": Moment(birth.date + 4 * HOUR + 30 * MINUTE),
            }
        ]
    return body


BIRTHS: Mapping[str, Callable[[Random, Birth], Body]] = {
    "Client": client,
    "Employee": employee,
    "Appointment": appointment,
    "Sale": sale,
    "EmployeeSchedule": schedule,
    "EmployeeActual": actual,
}


def is_deleted(entity: str, body: Body) -> bool:
    """Return whether the service counts a record of that *body* as deleted."""
    if entity in ("Client", "Employee"):
        return body["ObjectStateEnum"] == DELETED
    if entity == "Appointment":
        lines = rows(body, "AppointmentService_L")
        states = {line.get("AppointFinalStateEnum") for line in lines}
        return states == {CANCELLED} or body.get("AppointFinalStateEnum") == CANCELLED
    return False


def mark_deleted(entity: str, body: Body, date: int, *, plain: bool) -> None:
    """Make *body* that of a deleted record.

    *plain* is the other way in which the service says so: an employee without a `TerminatedDate`, an appointment whose own
    row bears the state, not its lines.

    Raises:
        ValueError: the service does not delete records of that *entity*.
    """
    if entity in ("Client", "Employee"):
        body["ObjectStateEnum"] = DELETED
        if entity == "Employee" and not plain:
            body["TerminatedDate"] = Moment(date)
    elif entity == "Appointment":
        lines = rows(body, "AppointmentService_L")
        for line in lines if not plain else ():
            line["AppointFinalStateEnum"] = CANCELLED
        if plain or not lines:
            body["AppointFinalStateEnum"] = CANCELLED
    else:
        raise ValueError(f"the service knows no deleted {entity}")


def mark_living(entity: str, body: Body) -> None:
    """Make *body* that of a living record again, whichever way it was deleted."""
    if entity in ("Client", "Employee"):
        body["ObjectStateEnum"] = ACTIVE
        body.pop("TerminatedDate", None)
    elif entity == "Appointment":
        body.pop("AppointFinalStateEnum", None)
        for line in rows(body, "AppointmentService_L"):
            line["AppointFinalStateEnum"] = BOOKED
