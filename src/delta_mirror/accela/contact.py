"""An Accela contact: which of its fields can be mapped, what of it can be compared, and how a mapped field is set in it.

Invariants:

- A contact is what the service has sent, known to us or not. Setting fields gives a new one in which nothing else differs.
- A field that is compared has one text, `shown`: of an enumeration its value, of a date its first ten characters, of anything
  blank, null or missing nothing at all.
- A field is either mappable, with its kind, or there is a reason why it is not; a third does not exist.

Source: docs/accela.md, "The fields of a contact": the vendor's page on updating a contact.
"""

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Literal

from delta_mirror.accela.exact import Json

Contact = dict[str, Json]
Kind = Literal["text", "date_time", "enumeration"]
Wanted = Mapping[str, str | None]
"""What the mapped fields are to hold, by their names; None is to be cleared."""

_ADDRESS: Mapping[str, Kind] = {
    **dict.fromkeys(("addressLine1", "addressLine2", "addressLine3", "city"), "text"),
    "country": "enumeration",
    "postalCode": "text",
    "state": "enumeration",
}

FIELDS: Mapping[str, Kind] = {
    **{f"address.{name}": kind for name, kind in _ADDRESS.items()},
    "birthCity": "enumeration",
    "birthDate": "date_time",
    "birthRegion": "enumeration",
    "birthState": "enumeration",
    "businessName": "text",
    "comment": "text",
    "deceasedDate": "date_time",
    "driverLicenseNumber": "text",
    "driverLicenseState": "enumeration",
    "email": "text",
    "fax": "text",
    "faxCountryCode": "text",
    "federalEmployerId": "text",
    "firstName": "text",
    "fullName": "text",
    "gender": "enumeration",
    "individualOrOrganization": "text",
    "lastName": "text",
    "middleName": "text",
    "organizationName": "text",
    "passportNumber": "text",
    "phone1": "text",
    "phone1CountryCode": "text",
    "phone2": "text",
    "phone2CountryCode": "text",
    "phone3": "text",
    "phone3CountryCode": "text",
    "postOfficeBox": "text",
    "preferredChannel": "enumeration",
    "race": "enumeration",
    "relation": "enumeration",
    "salutation": "enumeration",
    "socialSecurityNumber": "text",
    "stateIdNumber": "text",
    "status": "enumeration",
    "suffix": "text",
    "title": "text",
    "tradeName": "text",
    "type": "enumeration",
}

_SYSTEM = ("id", "serviceProviderCode")  # the service assigns them


def why_not_mappable(field: str) -> str | None:
    """Return why nothing can be mapped to *field*, as the end of a sentence; None where it can."""
    if field in FIELDS:
        return None
    if field in _SYSTEM:
        return "is assigned by Accela and cannot be mapped"
    if field == "address":
        return 'is a whole object; map its parts, each in quotes: "address.addressLine1", "address.city" ...'
    above, _, last = field.rpartition(".")
    if last in ("value", "text") and FIELDS.get(above) == "enumeration":
        return f'is a part of an enumeration; map "{above}", and its value is sent'
    return "is no field of a contact"


def shown(contact: Contact, field: str) -> str:
    """Return what *contact* holds in *field*, in the form in which it is compared: nothing where that is blank or missing."""
    held = _held(contact, field)
    if isinstance(held, dict):  # an enumeration; where a service sends one as a bare text, that is its value
        held = held.get("value")
    if isinstance(held, bool):
        return "true" if held else "false"
    return comparable(field, held) if isinstance(held, str) else ""


def comparable(field: str, value: str | None) -> str:
    """Return *value* of *field* in the form in which it is compared."""
    if value is None or not value.strip():
        return ""
    return value[:10] if FIELDS[field] == "date_time" else value


def differing(contact: Contact, wanted: Wanted) -> list[str]:
    """Return the names of the fields that do not hold what is *wanted*, in the order in which they are wanted."""
    return [field for field, value in wanted.items() if shown(contact, field) != comparable(field, value)]


def obstructed(contact: Contact, wanted: Wanted) -> list[str]:
    """Return the names of what *contact* holds where an object belongs that has a *wanted* part: setting it would wipe that."""
    above = dict.fromkeys(field.rpartition(".")[0] for field in wanted)
    return [name for name in above if name and not isinstance(contact.get(name), dict | None)]


def with_fields(contact: Contact, wanted: Wanted, *, blank: Literal[""] | None = None) -> Contact:
    """Return *contact* with all *wanted* fields set and nothing else changed; *blank* is how a field is cleared.

    Nothing of it may be `obstructed`. An enumeration is set by its value alone: with the text of the old value beside the new
    one, two answers would be possible. Of the other kinds, what holds the wanted already stays in the service's own form (a
    date with its midnight, say).
    """
    changed = dict(contact)
    for field, value in wanted.items():
        if shown(contact, field) == comparable(field, value) and (value is None or FIELDS[field] != "enumeration"):
            continue
        above, _, last = field.rpartition(".")
        place = changed
        if above:
            inner = changed.get(above)
            place = changed[above] = dict(inner) if isinstance(inner, dict) else {}
        new: Json = blank if value is None else value
        place[last] = {"value": new} if FIELDS[field] == "enumeration" and new is not None else new
    return changed


def changed_beside(before: Contact, after: Contact, fields: Iterable[str]) -> list[str]:
    """Return the names of what differs between two readings of a contact, other than *fields*; of the address, its parts."""
    mapped = set(fields)
    parts, parts_after = _parts(before), _parts(after)
    return sorted(name for name in {**parts, **parts_after} if name not in mapped and parts.get(name) != parts_after.get(name))


def marks(contact_id: str, wanted: Wanted, fields: Iterable[str]) -> dict[str, str]:
    """Return a mark of what each of *fields* is to hold: it tells later whether the contact holds that, and not what it was."""
    return {field: _mark(contact_id, field, comparable(field, wanted[field])) for field in fields}


def marked(contact_id: str, contact: Contact, left: Mapping[str, str]) -> list[str]:
    """Return those fields of *left*, the marks of a push, that the contact holds as it left them."""
    return [field for field, mark in left.items() if _mark(contact_id, field, shown(contact, field)) == mark]


def _mark(contact_id: str, field: str, text: str) -> str:
    return sha256("\0".join((contact_id, field, text)).encode(errors="surrogatepass")).hexdigest()[:16]


def _held(contact: Contact, field: str) -> Json:
    above, _, last = field.rpartition(".")
    place: Json = contact.get(above) if above else contact
    return place.get(last) if isinstance(place, dict) else None


def _parts(contact: Contact) -> Contact:
    address = contact.get("address")
    if not isinstance(address, dict):
        return contact
    others = {name: held for name, held in contact.items() if name != "address"}
    return {**others, **{f"address.{name}": part for name, part in address.items()}}
