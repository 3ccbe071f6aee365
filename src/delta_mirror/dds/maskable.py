"""Which columns of the DDS a mask may take away, and whose tables are whose.

Invariants:

- What a drain, a starter or `verify` reads to tell records, versions, deletions or owners apart stays as it is.
- Names mean the same in upper and lower case.

Source: docs/service.md, "Records", "Deletes" and "Starter Export".
"""

from delta_mirror.dds.export_tables import facts_of
from delta_mirror.dds.tables import CHANGED, DELETE_MARKS, KEY, KEY_ALIASES, KEYS_BELOW, VERSION, is_entity, is_id_column

_PLACE = ("tenantid", "locationid")
_KEY_ENDINGS = ("_tid", "_lid", "guid")


def entity_of(table: str) -> str | None:
    """Return whose table *table*, a name of the mirror's, is; None where that cannot be told by its name."""
    return facts_of(table).entity


def stored_as(table: str) -> str:
    """Return what the mirror calls *table*, a name of the mirror's or of the service's."""
    return table if is_entity(table) else facts_of(table).table


def why_needed(table: str, column: str) -> str | None:
    """Return why *column* of *table* cannot be masked, None where it can."""
    name, entity, is_root = column.lower(), entity_of(table) or "", is_entity(table)
    if name in _PLACE:
        return "says where a record belongs"
    for mark in DELETE_MARKS.get(entity, ()):
        is_of_it = is_root if mark.table is None else table.lower() == mark.table.lower()
        if is_of_it and name == mark.column.lower():
            return "says whether a record is deleted"
    if is_root:
        return _why_needed_of_root(entity, name)
    # Which column of a child table holds the key is not documented for each: the export is searched for it, among all that may.
    facts = facts_of(table)
    if name in _lowered(*facts.repeated, facts.own_key):
        return "ties its rows to their record"
    return "may be what ties its rows to their record" if _may_be_key(column) else None


def _may_be_key(column: str) -> bool:
    """Return whether *column* of a child table may hold keys, by its name.

    One in small letters alone does not show where its last word begins: `ownerid` may, and with it `ispaid`; `IsPaid` may not.
    """
    is_id = column.endswith(("Id", "ID")) or (column.islower() and column.endswith("id"))
    return column.lower().endswith(_KEY_ENDINGS) or (is_id and is_id_column(f"{column[:-2]}Id"))


def _why_needed_of_root(entity: str, name: str) -> str | None:
    if name in _lowered(KEY, *KEY_ALIASES[entity]):
        return "is the key of its records"
    if name in _lowered(CHANGED, VERSION):
        return "tells versions of a record apart"
    return "ties other rows to it" if name in _lowered(*KEYS_BELOW.get(entity, ())) else None


def _lowered(*names: str | None) -> set[str]:
    return {name.lower() for name in names if name}
