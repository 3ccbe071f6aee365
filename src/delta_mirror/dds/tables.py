"""The tables of the DDS: what they are called, which columns are keys, and what marks a record as deleted.

Invariants:

- A name of the service means the same here however it is spelled: `SaleLine_Service_L` and `SaleLineService` are one table,
  and a column that the program must understand is found in upper and lower case alike.
- What a child row repeats of its root or of its parent (`drop_keys`) is left out of the row, whether the record came by the
  change feed or by a Starter Export: otherwise each of them would log a change after the other.
- Nothing is deleted by silence: `is_deleted` asks for a mark that was sent.

Source: docs/service.md, "Records", "Deletes" and "Starter Export". The functions work on rows in their final form, so that both
readers, of the feed and of the export, go through them.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from delta_mirror.core.model import Child, Row, Stream, Value

ENTITIES = ("Client", "Employee", "Appointment", "Sale", "EmployeeSchedule", "EmployeeActual")

_ENTITY_NAMES = frozenset(name.lower() for name in ENTITIES)

KEY = "EntityId"
CHANGED = "DateUpdated"
VERSION = "EntityVersion"

# Names of a root's key beside `EntityId`. `Client_TId` and `Employee_User_TId` are the export's; the others follow the service's
# rule that a foreign key is the table's name and `Id` (the appointment's own is not documented: its lines are `AppointService`).
KEY_ALIASES: Mapping[str, tuple[str, ...]] = {
    "Client": ("Client_TId",),
    "Employee": ("Employee_User_TId",),
    "Appointment": ("Appointment_LId", "Appoint_LId"),
    "Sale": ("Sale_LId",),
    "EmployeeSchedule": (),
    "EmployeeActual": (),
}

# Columns by which a child points to a row above it, beside tenant, location and the root's key.
KEYS_BELOW: Mapping[str, tuple[str, ...]] = {"Sale": ("SaleDate", "Sale_Seq"), "Appointment": ("AppointService_LId",)}

# Children that are known to come in the feed. Any other table is known to come only once a delta has brought it.
FEED_CHILDREN: Mapping[str, frozenset[str]] = {
    "Client": frozenset({"ClientPhone"}),
    "Employee": frozenset(),
    "Appointment": frozenset({"AppointmentService", "AppointmentServiceStep"}),
    "Sale": frozenset({"SaleLine", "SaleLineService", "SaleLinePayment"}),
    "EmployeeSchedule": frozenset(),
    "EmployeeActual": frozenset(),
}

_STATE = "ObjectStateEnum"
_LINE_STATE = "AppointFinalStateEnum"


class DeleteMark(NamedTuple):
    """What marks a record as deleted: *state* in *column* of the root, or of every row of the child *table*, at least one."""

    table: str | None
    column: str
    state: int


# Client and Employee: a `TerminatedDate` is not asked for, most deleted employees have none. Appointment: an appointment that
# mixes cancelled and other lines lives. A sale and the schedules are never deleted: no mark is documented, and refunds are
# sales of their own.
DELETE_MARKS: Mapping[str, tuple[DeleteMark, ...]] = {
    "Client": (DeleteMark(None, _STATE, 2028),),
    "Employee": (DeleteMark(None, _STATE, 2028),),
    "Appointment": (DeleteMark(None, _LINE_STATE, 2052), DeleteMark("AppointmentService", _LINE_STATE, 2052)),
}

_TEXT_ID = "externalid"

_SPELLINGS = {
    name.lower(): name
    for name in (
        *(KEY, CHANGED, VERSION, "TenantId", "LocationId", _STATE, _LINE_STATE),
        *(name for names in (*KEY_ALIASES.values(), *KEYS_BELOW.values()) for name in names),
    )
}
_TABLE_SPELLINGS = {name.lower(): name for names in FEED_CHILDREN.values() for name in names}
_TABLE_SPELLINGS["salepayment"] = "SaleLinePayment"  # the one table that the export calls by another name than the feed

Keys = Sequence[tuple[str, tuple[Value, ...]]]
"""Columns with the values that a row repeats when it has them: `("TenantId", (11, "11")), ...`."""


def table_name(service_name: str) -> str:
    """Return the mirror's name of a table: without one final `_T` or `_L` and without underscores.

    It may come out empty. It never begins with `sqlite_` or with an underscore: there is none left in it.
    """
    bare = service_name[:-2] if service_name[-2:].upper() in ("_T", "_L") else service_name
    bare = bare.replace("_", "")
    return _TABLE_SPELLINGS.get(bare.lower(), bare)


def column_name(service_name: str) -> str:
    """Return *service_name*, in the documented spelling if it is a column that the program has to understand."""
    return _SPELLINGS.get(service_name.lower(), service_name)


def is_id_column(name: str) -> bool:
    """Return whether a column of the feed holds GUIDs by its name: `EntityId`, `*_TId`, `*_LId`, `*Id`, `*Guid`.

    `ExternalId` is documented as text. What looks like a GUID there is another program's own, and an export has it in quotes, to
    the letter: so it is to the letter from the feed, too.
    """
    return name.endswith(("Id", "Guid")) and name.lower() != _TEXT_ID


def is_entity(table: str) -> bool:
    """Return whether *table* is named like an entity, upper and lower case alike: no child table can be."""
    return table.lower() in _ENTITY_NAMES


def take_key(entity: str, root: Row) -> str | None:
    """Return the record's key, which stands under `EntityId` in *root* afterwards; None where the root bears none.

    Another name of the key is dropped where it says the same. Where it differs (a client that points to another client), it is
    a column like any other.
    """
    key = root.get(KEY)
    for alias in KEY_ALIASES[entity]:
        value = root.get(alias)
        if value is None:
            continue
        if key is None or key == "":
            root[KEY] = key = value
        if value == key:
            del root[alias]
    if isinstance(key, str):
        return key or None
    return str(key) if isinstance(key, int) else None


def keys_of_root(stream: Stream, root: Row) -> Keys:
    """Return what the children of *root* repeat of it. Tenant and location may be repeated as text."""
    key = (root[KEY],)
    keys: list[tuple[str, tuple[Value, ...]]] = [
        ("TenantId", (stream.tenant_id, str(stream.tenant_id))),
        ("LocationId", (stream.location_id, str(stream.location_id))),
        (KEY, key),
    ]
    for alias in KEY_ALIASES[stream.entity]:
        keys.append((alias, key))
    for name in KEYS_BELOW.get(stream.entity, ()):
        if name in root:
            keys.append((name, (root[name],)))
    return keys


def keys_of_child(entity: str, above: Keys, row: Row) -> Keys:
    """Return what the children of the child *row* repeat: what it could have repeated itself, and its own key."""
    own = [(name, (row[name],)) for name in KEYS_BELOW.get(entity, ()) if name in row]
    return [*above, *own] if own else above


def drop_keys(keys: Keys, row: Row) -> None:
    """Take out of *row* the columns that hold only what *keys* say; a column that says something else stays."""
    for name, repeated in keys:
        if name in row and row[name] in repeated:
            del row[name]


def is_deleted(entity: str, root: Row, children: Mapping[str, Sequence[Child]]) -> bool:
    """Return whether a record is marked as deleted, by any of the marks that its entity has."""
    for table, column, state in DELETE_MARKS.get(entity, ()):
        if table is None:
            if _is_state(root.get(column), state):
                return True
        elif (rows := children.get(table)) and all(_is_state(child.row.get(column), state) for child in rows):
            return True
    return False


def _is_state(value: Value | None, state: int) -> bool:
    """Return whether *value* is *state*; a service that writes numbers as text writes its states so, too."""
    return value == state or value == str(state)
