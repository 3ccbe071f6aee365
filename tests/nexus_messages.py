"""Nexus messages for tests, and the vendor's own sample."""

import json
from collections.abc import Mapping
from typing import Any

# As the vendor's page prints it.
SAMPLE = b"""\
{
"Client": {
"IntegrationId": "EX123456"
},
"Activity": {
"Identifier": "00000000-0000-0000-0000-000000000000",
"Type": "ClientProfile"
},
"Details": {
"FirstName": "Johnathan",
"LastName": "Farmer",
"DateOfBirth": "1980-05-28",
"TimeZone": "Mountain Standard Time",
"Gender": "Male",
"Ethinicity": "Caucasian",
"StaticRiskRating": "High - Violence",
"NeedsClassification": "High - Mental Health"
},
"Action": {
"Reason": "Personal Details Updated",
"OccurredOn": "2019-02-15T14:52:23.0272547Z",
"UpdatedBy": "officer@county.org"
}
}
"""
ZERO = "00000000-0000-0000-0000-000000000000"
HOME = "5a0c2d6e-0000-4000-8000-000000000001"


def message(
    sub_type: str | None = "Personal Details",
    details: Mapping[str, Any] | None = None,
    *,
    client: Any = "EX1",
    identifier: Any = ZERO,
    type_: Any = "ClientProfile",
    reason: Any = "Updated",
    at: Any = "2026-03-01T10:00:00.0000000Z",
    by: str = "officer@example.org",
) -> bytes:
    """Return a message as the newer ones are; without a *sub_type* as the older ones are."""
    named = {} if sub_type is None else {"SubType": sub_type}
    return json.dumps(
        {
            "Client": {"IntegrationId": client},
            "Activity": {"Identifier": identifier, "Type": type_},
            "Details": {**named, **(details or {})},
            "Action": {"Reason": reason, "OccurredOn": at, "UpdatedBy": by},
        }
    ).encode()
