"""Messages of invented clients under supervision, as a broker brings them.

Invariants:

- The same number gives the same message, whatever else was asked for.
- Nothing of the program under test is imported here.
"""

import orjson

from delta_mirror.simulator.clock import MINUTE, START, written

_STREETS = ("Elm Street", "Mill Lane", "Station Road", "Harbour View", "Orchard Close")
_LABELS = ("Home", "Work", "Other")


def profile_message(number: int, clients: int = 100) -> bytes:
    """Return message *number* of a stream that tells of *clients* clients: their persons, addresses and contacts by turns."""
    client, turn = number % clients, number // clients
    sections: tuple[tuple[str, str, dict[str, str | None]], ...] = (
        (
            "Personal Details",
            _id(client, 0),
            {"FirstName": f"Given{client}", "MiddleName": "", "LastName": f"Family{client}-{turn}"},
        ),
        (
            "Address Details",
            _id(client, 1 + turn % 2),
            {"AddressType": _LABELS[turn % 3], "Address": f"{number} {_STREETS[turn % 5]}"},
        ),
        ("Contact Details", _id(client, 9), {"ContactType": "MobilePhone", "Contact": f"555-{number:07}"}),
    )
    section, identifier, details = sections[turn % len(sections)]
    message = {
        "Client": {"IntegrationId": f"EX{client:06}"},
        "Activity": {"Type": "ClientProfile", "Identifier": identifier},
        "Action": {
            "Reason": "Updated",
            "OccurredOn": written(START + number * MINUTE, "Z"),
            "UpdatedBy": "officer@county.example",
        },
        "Details": {"SubType": section, **details},
    }
    return orjson.dumps(message)


def _id(client: int, part: int) -> str:
    return f"{client:08x}-0000-4000-8000-{part:012x}"
