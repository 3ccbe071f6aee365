"""A Nexus message as bytes -> what it says of one section, item or activity of one client.

Invariants:

- Nothing is guessed: a message that could mean two things, or none, is `Unreadable` and says why, without a value.
- Every value has the form in which it is stored. Every key that is known has its right name; one that is not is as sent.
- Of two spellings of one key in a message the right one wins. Two that are equally wrong and differ make it unreadable.
- `key` is the same for the same message, however its bytes are laid out; `order` is where it stands among the others of its
  place: time, kind of change, messages without a number before those with one, number, and last the hash of the bytes.
"""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

from delta_mirror.core.exact_json import (
    Json,
    Twice,
    UnreadableError,
    UnwritableError,
    read_json,
    write_anyhow,
    write_sorted,
)
from delta_mirror.core.fold import Content, Place, Statement, order_key
from delta_mirror.core.model import Row, Value
from delta_mirror.core.names import fold
from delta_mirror.core.values import DAY, HOUR, MINUTE, is_guid, plain_date_time, read_ticks, write_ticks
from delta_mirror.nexus.delivery import Delivery
from delta_mirror.nexus.sections import (
    ALIASES,
    BY_NAME,
    DATES,
    LONGEST_REMEMBERED,
    OFFENSE_COLUMNS,
    OFFENSES,
    WHOLE_PROFILE,
    Section,
    compact,
    section_named,
    section_with,
)

PROFILE = "clientprofile"
_CASE = "Case Details"
_ZERO = "00000000-0000-0000-0000-000000000000"
_LAST = 3_652_059 * DAY  # ticks of the first moment after the year 9999
_VERBS = ("created", "added", "updated", "changed", "removed", "deleted")
_CREATED, _UPDATED, _REMOVED = range(3)

# How nearly every OccurredOn is sent, and how all of them are logged.
_AS_LOGGED = re.compile(r"(\d{4}-\d\d-\d\d)T([01]\d|2[0-3]):([0-5]\d):([0-5]\d)\.(\d{7})Z", re.ASCII)
# `4/5/2019 10:38 AM`, month first; the time may have seconds, or be of 24 hours (docs/nexus.md, "Values").
_US_DATE_TIME = re.compile(
    r"(0?[1-9]|1[0-2])/(0?[1-9]|[12]\d|3[01])/(\d{4})(?: +(\d{1,2}):([0-5]\d)(?::([0-5]\d))?(?: ?([AaPp])[Mm])?)?", re.ASCII
)


class _Unknown(NamedTuple):
    """Keys that no table is known to have, in the spelling sent: of the section, and of the rows below it."""

    keys: tuple[str, ...]
    below: tuple[str, ...]


NOTHING_UNKNOWN = _Unknown((), ())


class Message(NamedTuple):
    """What a message says. `unknown` are the keys that no table is known to have.

    `type` and `section` are for the log; `section` is None of an activity. `occurred_at` is UTC, with `Z`.
    """

    key: str
    place: Place
    statement: Statement
    type: str
    section: str | None
    occurred_at: str
    unknown: _Unknown


class Unreadable(NamedTuple):
    """A message that cannot be applied. `client_id` is None where it could not be read."""

    key: str
    reason: str
    client_id: str | None


class _UnclearError(Exception):
    """The message cannot be read; the text is the reason."""


class _Envelope(NamedTuple):
    client_id: str
    type: str
    identifier: str | None
    details: Json
    reason: str
    occurred_on: str


def hash_of(body: bytes) -> str:
    """Return what names *body* to the letter."""
    return sha256(body).hexdigest()[:32]


def read_message(delivery: Delivery) -> Message | Unreadable:
    """Return what the message says, or why it cannot be read."""
    client_id: str | None = None
    try:
        sent = _object(delivery.body)
        client_id = _client_id(sent)
        return _read(_envelope(sent, client_id), delivery)
    except _UnclearError as error:
        return Unreadable(hash_of(delivery.body), str(error), client_id)


def _object(body: bytes) -> dict[str, Json]:
    try:
        sent = read_json(body)
    except UnreadableError as error:
        raise _UnclearError(str(error)) from None
    if not isinstance(sent, dict):
        raise _UnclearError("it is no JSON object")
    return sent


def _read(envelope: _Envelope, delivery: Delivery) -> Message:
    ticks, occurred_at = _moment(envelope.occurred_on)
    rank, named = _read_reason(envelope.reason)
    type_ = _findable(compact(envelope.type))
    is_profile = type_ == PROFILE
    details = envelope.details
    sub_type = _text(_member(details, "SubType"), "Details.SubType") if isinstance(details, dict) else ""
    key = _identity(envelope, sub_type)
    unknown = NOTHING_UNKNOWN
    values: dict[str, Content | None]
    if is_profile:
        if details is not None and not isinstance(details, dict):
            raise _UnclearError("Details is no object")
        section = _section(sub_type, named, details or {})
        values, unknown = _read_section(section, details or {})
        place = Place(envelope.client_id, section.name, _item_id(section, envelope.identifier, values))
    else:
        if envelope.identifier is None:
            raise _UnclearError("Activity.Identifier names no activity")
        place = Place(envelope.client_id, type_, envelope.identifier)
        values = {
            "Type": envelope.type,
            "OccurredOn": plain_text(envelope.occurred_on, is_date=True),
            "Details": None if details is None else write_anyhow(details),
        }
    order = order_key(ticks, rank, delivery.sequence, sha256(delivery.body).hexdigest()[:16])
    return Message(
        key,
        place,
        Statement(order, rank == _REMOVED, values),
        envelope.type,
        place.section if is_profile else None,
        occurred_at,
        unknown,
    )


def _identity(envelope: _Envelope, sub_type: str) -> str:
    """Return what is the same for the same message, and for no other (docs/nexus.md, "How messages travel")."""
    parts: Json = [
        envelope.client_id,
        compact(envelope.type),
        envelope.identifier,
        sub_type,
        envelope.reason,
        envelope.occurred_on,
        envelope.details,
    ]
    try:
        return sha256(write_sorted(parts)).hexdigest()[:32]
    except UnwritableError:
        raise _UnclearError("a key stands twice in it, or it holds half a character, or is nested too deeply") from None


# ---- the envelope


def _member(sent: Mapping[str, Json], name: str) -> Json:
    """Return the member *name*, in whatever case it is sent; the right one wins."""
    if name in sent:
        return sent[name]
    lower = name.lower()
    found = [value for key, value in sent.items() if key.lower() == lower]
    if any(value != found[0] for value in found):
        raise _UnclearError(f"{name} stands in it twice, in different spellings and with different values")
    return found[0] if found else None


def _part(sent: Mapping[str, Json], name: str) -> Mapping[str, Json]:
    part = _member(sent, name)
    if type(part) is dict:
        return part
    if not isinstance(part, dict):
        raise _UnclearError(f"{name} is missing or no object")
    if isinstance(part, Twice):
        raise _UnclearError(f"a key stands twice in {name}")
    return part


def _text(value: Json, where: str) -> str:
    """Return a text of the envelope, "" where it is missing; a number is its digits."""
    if type(value) is str and value and not value.isspace():
        return value
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _UnclearError(f"{where} is no text")
    return "" if isinstance(value, str) and not value.strip() else str(value)


def _client_id(sent: Mapping[str, Json]) -> str:
    if isinstance(sent, Twice):
        raise _UnclearError("a key stands twice in it")
    client_id = _id(_member(_part(sent, "Client"), "IntegrationId"), "Client.IntegrationId")
    if client_id is None:
        raise _UnclearError("Client.IntegrationId names nobody")
    return client_id


def _id(value: Json, where: str) -> str | None:
    """Return an id in its one form, None where it is missing or the vendor's placeholder for none."""
    text = value if type(value) is str and value.isalnum() else _text(value, where)
    if len(text) == len(_ZERO) and is_guid(text):
        text = text.lower()
    return None if not text or text == _ZERO else _whole(text)


def _whole(text: str) -> str:
    """Return *text* if it is text that can be stored, and found again."""
    _findable(text)
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _UnclearError("it holds half a character") from None
    return text


def _findable(name: str) -> str:
    """Return *name*, a part of what a message is looked up by, if it can be: SQLite's JSON ends a text at a NUL."""
    if "\0" in name:
        raise _UnclearError("its type, or one of its ids, holds a NUL")
    return name


def _envelope(sent: Mapping[str, Json], client_id: str) -> _Envelope:
    activity, action = _part(sent, "Activity"), _part(sent, "Action")
    type_ = _text(_member(activity, "Type"), "Activity.Type")
    if not type_:
        raise _UnclearError("Activity.Type is missing")
    return _Envelope(
        client_id,
        type_,
        _id(_member(activity, "Identifier"), "Activity.Identifier"),
        _member(sent, "Details"),
        _text(_member(action, "Reason"), "Action.Reason"),
        _text(_member(action, "OccurredOn"), "Action.OccurredOn"),
    )


def _moment(occurred_on: str) -> tuple[int, str]:
    """Return OccurredOn as ticks, and as it is logged: in UTC, with seven digits and `Z`, so that it sorts as text."""
    usual = _AS_LOGGED.fullmatch(occurred_on)
    midnight = _midnight(usual[1]) if usual else None
    if usual and midnight is not None:
        hours, minutes, seconds, fraction = usual.group(2, 3, 4, 5)
        return midnight + int(hours) * HOUR + int(minutes) * MINUTE + int(seconds + fraction), occurred_on
    ticks = read_ticks(occurred_on)
    if ticks is None:
        iso = _iso(occurred_on, is_date=True) or occurred_on
        ticks = read_ticks(iso if "T" in iso else f"{iso}T00:00")
    if ticks is None or not 0 <= ticks < _LAST:
        raise _UnclearError("Action.OccurredOn is no date-time" if occurred_on else "Action.OccurredOn is missing")
    return ticks, write_ticks(ticks, "") + "Z"


@lru_cache(maxsize=1024)
def _midnight(day: str) -> int | None:
    return read_ticks(f"{day}T00:00")


# ---- which section


def _read_reason(reason: str) -> tuple[int, str]:
    """Return the rank of the kind of change, and what stands before the verb, compact."""
    return _known_reason(reason) if len(reason) <= LONGEST_REMEMBERED else _known_reason.__wrapped__(reason)


@lru_cache(maxsize=1024)
def _known_reason(reason: str) -> tuple[int, str]:
    named = compact(reason)
    verb = next((verb for verb in _VERBS if named.endswith(verb)), "")
    rank = {"created": _CREATED, "added": _CREATED, "removed": _REMOVED, "deleted": _REMOVED}.get(verb, _UPDATED)
    return rank, named.removesuffix(verb)


def _section(sub_type: str, named: str, details: Mapping[str, Json]) -> Section:
    """Return the section: by SubType, else by Reason, else by the keys of Details."""
    spelling = compact(sub_type)
    if spelling not in WHOLE_PROFILE:
        section = section_named(spelling)
        if section is None:
            raise _UnclearError("Details.SubType names no section that is known")
        return section
    by_reason = section_named(named)
    if by_reason is not None:
        return by_reason
    # Keys would mistake a section that is not known for one that has some of them: contacts in an emergency, say.
    if named.endswith("details"):
        raise _UnclearError("Action.Reason names no section that is known")
    by_keys = section_with(details)
    if by_keys is None:
        raise _UnclearError("neither SubType nor Reason nor the keys of Details tell which section it is of")
    return by_keys


def _item_id(section: Section, identifier: str | None, values: Mapping[str, Content | None]) -> str:
    if not section.natural_key:
        return ""
    if identifier is not None:
        return identifier
    parts = [values.get(column) for column in section.natural_key]
    if any(part is None or isinstance(part, list) or not str(part).strip() for part in parts):
        names = " and ".join(section.natural_key)
        raise _UnclearError(f"Activity.Identifier names no item, and without it {names} would have to")
    return _findable(" ".join(map(str, parts)))


# ---- the values


class _Names:
    """The right names of a table: of a key that is sent the column, and how good a spelling of it the key is, 0 the best."""

    def __init__(self, columns: Iterable[str]) -> None:
        self._columns = frozenset(columns)
        self.usual = self._columns | {"SubType"}  # the keys of nearly every message
        self.no_columns = self.usual & {"SubType", OFFENSES}
        self._by_folded = {fold(column): column for column in self._columns}

    def find(self, key: str) -> tuple[str, int] | None:
        """Return column and quality of *key*, None where it is not known."""
        if key in self._columns:
            return key, 0
        folded = fold(key)
        if folded in self._by_folded:
            return self._by_folded[folded], 1
        alias = ALIASES.get(folded)
        return (alias, 2) if alias in self._columns else None


_NAMES = {
    section.name: _Names((*section.columns, OFFENSES) if section.name == _CASE else section.columns)
    for section in BY_NAME.values()
}
_OFFENSE_NAMES = _Names(OFFENSE_COLUMNS)


def _read_section(section: Section, details: Mapping[str, Json]) -> tuple[dict[str, Content | None], _Unknown]:
    names = _NAMES[section.name]
    found, unknown = (details, ()) if names.usual.issuperset(details) else _right_names(names, details)
    values: dict[str, Content | None] = {
        # What is text and does not begin with a digit is stored as it is: nearly all there is.
        column: value if type(value) is str and value and not value[0].isdigit() else stored_value(column, value)
        for column, value in found.items()
        if column not in names.no_columns
    }
    if OFFENSES not in found or section.name != _CASE:
        return values, _Unknown(unknown, ()) if unknown else NOTHING_UNKNOWN
    values[OFFENSES], unknown_below = _offenses(found[OFFENSES])
    return values, _Unknown(unknown, unknown_below)


def _right_names(names: _Names, sent: Mapping[str, Json]) -> tuple[dict[str, Json], tuple[str, ...]]:
    """Return what is sent under the right names, and which keys are not known; SubType is no key of a section."""
    found: dict[str, Json] = {}
    quality: dict[str, int] = {}
    unknown: dict[str, str] = {}  # folded to the spelling sent
    for key, value in sent.items():
        known = names.find(key)
        if known is None and fold(key) == "subtype":
            continue
        column, rank = known or (unknown.setdefault(fold(key), key), 0)
        before = quality.get(column)
        if before is None or rank < before:
            found[column], quality[column] = value, rank
        elif rank == before and found[column] != value:
            raise _UnclearError("one of its keys stands there twice, in different spellings and with different values")
    return found, tuple(unknown.values())


def _offenses(sent: Json) -> tuple[list[Row], tuple[str, ...]]:
    """Return the offenses of a case as rows, and the keys in them that are not known."""
    if sent is None or sent == "":
        return [], ()
    if not isinstance(sent, list):
        raise _UnclearError("Offenses is no list")
    rows: list[Row] = []
    unknown: dict[str, None] = {}
    for each in sent:
        if not isinstance(each, dict):
            raise _UnclearError("one of the Offenses is no object")
        found, new = _right_names(_OFFENSE_NAMES, each)
        unknown |= dict.fromkeys(new)
        rows.append({column: value for column, told in found.items() if (value := stored_value(column, told)) is not None})
    return rows, tuple(unknown)


def column_of(section: Section | None, key: str) -> str:
    """Return what the column is called that holds *key* of *section*, or of an offense (None); of a new key as it is sent."""
    found = (_OFFENSE_NAMES if section is None else _NAMES[section.name]).find(key)
    return key if found is None else found[0]


def stored_value(column: str, sent: Json) -> Value | None:
    """Return *sent* as it is stored: blank and null as None, booleans as numbers, what is nested as JSON text."""
    if isinstance(sent, str):
        return plain_text(sent, is_date=column in DATES) or None
    if sent is None:
        return None
    if isinstance(sent, dict | list):
        return write_anyhow(sent)
    return int(sent) if isinstance(sent, bool) else sent


def plain_text(text: str, *, is_date: bool) -> str:
    """Return the stored form of a text: of one that is wholly a date-time ISO 8601, of any other the text to the letter.

    *is_date* says that a bare `4/5/2019` is a date, too.
    """
    return _iso(text, is_date=is_date) or str(text)


def _iso(text: str, *, is_date: bool) -> str | None:
    if len(text) < len("4/5/2019"):
        return None
    if text[0].isdigit():
        if text[4] == "-" and "T" in text:
            return plain_date_time(text)
        if "/" in text[1:3]:
            return _from_month_first(text, is_date=is_date)
    return None


def _from_month_first(text: str, *, is_date: bool) -> str | None:
    found = _US_DATE_TIME.fullmatch(text)
    if found is None or not (is_date or found[4]):
        return None
    month, day, year, hours, minutes, seconds, half = found.groups()
    iso = f"{year}-{int(month):02}-{int(day):02}"
    if hours is None:
        return iso if read_ticks(f"{iso}T00:00") is not None else None
    hour = int(hours)
    if half:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if half in "Pp" else 0)
    iso += f"T{hour:02}:{minutes}" + (f":{seconds}" if seconds else "")
    return plain_date_time(iso)
