"""Nexus messages as a mask lets them be kept: the body is masked before it is read, so that all that follows is masked, too.

Invariants:

- A message is masked as what it is: its columns by their right names, whatever spelling was sent, and by the form in which they
  would be stored. So a hash here equals that of the same value anywhere else.
- What is left is a message still: it can be read again, and gives the same as it gave.
- A message that cannot be read as one is masked by names, wherever they stand in it; where it is no JSON, it is not kept.
- What a message is known and put in order by stays as it was sent.
"""

from collections.abc import Callable, Collection
from typing import NamedTuple

from delta_mirror.core.exact_json import Json, UnreadableError, read_json, write_anyhow
from delta_mirror.core.fold import Place
from delta_mirror.core.mask import Action, Mask, strict
from delta_mirror.core.masked_body import WITHHELD, mask_json, was_changed, withheld
from delta_mirror.core.names import fold
from delta_mirror.nexus.delivery import Delivery
from delta_mirror.nexus.maskable import TABLES
from delta_mirror.nexus.message import Message, column_of, read_message, stored_value
from delta_mirror.nexus.sections import ACTIVITY_TABLE, ALIASES, BY_NAME, CASE_TABLE, OFFENSE_TABLE, OFFENSES, Section, table_of

_DETAILS = "details"
_SUB_TYPE = "subtype"


def mask_delivery(mask: Mask, delivery: Delivery) -> Delivery:
    """Return *delivery* as it may be kept; *delivery* itself where nothing of it is masked."""
    tables = [table for table in mask.tables if table in TABLES]
    if not tables:
        return delivery
    body = mask_message(mask, tables, delivery.body)
    return delivery if body is delivery.body else delivery._replace(body=body)


def mask_message(mask: Mask, tables: Collection[str], body: bytes) -> bytes:
    """Return *body*, that of a message, as it may be kept under what *mask* says of *tables*; itself where nothing is masked."""
    text = body.decode(errors="replace")
    if was_changed(text) == WITHHELD:
        return body
    try:
        sent = read_json(body)
        if not isinstance(sent, dict):
            return withheld(mask, text).encode()
        read = read_message(Delivery(body))
        if isinstance(read, Message):
            left = _mask_details(mask, sent, read.place)
        elif mask.covers_all(tables):
            return withheld(mask, text).encode()
        else:
            # Whatever a member may be a column of.
            left = mask_json(mask, sent, lambda name: mask.strictest(tables, ALIASES.get(fold(name), name)), stored_value)
    except (UnreadableError, RecursionError):
        return withheld(mask, text).encode()
    return body if left is sent else write_anyhow(left).encode()


class Renewed(NamedTuple):
    """A message that was masked anew: its body, and what its content was and is known by."""

    body: bytes
    old_key: str
    key: str


def renew(mask: Mask, tables: Collection[str], body: bytes) -> Renewed | None:
    """Return the message *body*, which was kept, as it may be kept from now on; None where that is as it is."""
    left = mask_message(mask, tables, body)
    return None if left is body else Renewed(left, read_message(Delivery(body)).key, read_message(Delivery(left)).key)


def has_place_in(tables: Collection[str], section: str) -> bool:
    """Return whether what is said of *section*, or of an activity of that type, goes into any of *tables* (folded)."""
    table = table_of(Place("", section, ""))
    return fold(table) in tables or (table == CASE_TABLE and fold(OFFENSE_TABLE) in tables)


def _mask_details(mask: Mask, sent: dict[str, Json], place: Place) -> Json:
    """Return a message that can be read, masked: of a section the keys of `Details`, of an activity all of it at once."""
    section = BY_NAME.get(place.section)
    if section is None:
        action = mask.meet(ACTIVITY_TABLE, "Details")
        return _flat(mask, sent, lambda name: (name, action if fold(name) == _DETAILS else "keep"))
    left = {
        name: _mask_section(mask, section, value) if fold(name) == _DETAILS and isinstance(value, dict) else value
        for name, value in sent.items()
    }
    return left if any(left[name] is not value for name, value in sent.items()) else sent


def _mask_section(mask: Mask, section: Section, details: dict[str, Json]) -> Json:
    has_rows = section.table == CASE_TABLE

    def act(key: str) -> tuple[str, Action]:
        if fold(key) == _SUB_TYPE or (has_rows and fold(key) == fold(OFFENSES)):
            return key, "keep"  # no columns
        column = column_of(section, key)
        action = mask.meet(section.table, column)
        # A new key that two sections bring is, in one of them, a column with the section's first word in front.
        renamed = section.name.split()[0] + key
        named = mask.rules.get(fold(section.table), {})
        return column, max(action, mask.meet(section.table, renamed), key=strict) if fold(renamed) in named else action

    left = _flat(mask, details, act)
    if not has_rows or not isinstance(left, dict):
        return left
    for name, rows in list(left.items()):
        if fold(name) == fold(OFFENSES) and isinstance(rows, list):
            masked = [_mask_offense(mask, row) if isinstance(row, dict) else row for row in rows]
            if any(new is not old for new, old in zip(masked, rows, strict=True)):
                left = {**left, name: masked}
    return left


def _mask_offense(mask: Mask, row: dict[str, Json]) -> Json:
    def act(key: str) -> tuple[str, Action]:
        column = column_of(None, key)
        return column, mask.meet(OFFENSE_TABLE, column)

    return _flat(mask, row, act)


def _flat(mask: Mask, sent: dict[str, Json], act: Callable[[str], tuple[str, Action]]) -> Json:
    """Return *sent* with its own members masked, each as the column that *act* says; *sent* itself where all are kept.

    What is dropped stays as null: by its keys alone it may be told which section a message is of.
    """
    left: dict[str, Json] = {}
    for name, value in sent.items():
        column, action = act(name)
        plain = None if action == "keep" else stored_value(column, value)
        left[name] = value if plain is None else mask.value(action, plain)
    return left if any(left[name] is not value for name, value in sent.items()) else sent
