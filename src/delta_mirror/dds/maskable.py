"""Which columns of the DDS a mask may take away, and whose tables are whose.

Invariants:

- What a drain, a starter or `verify` reads to tell records, versions, deletions or owners apart stays as it is.
- Names mean the same in upper and lower case.

Source: docs/service.md, "Records", "Deletes" and "Starter Export".
"""

from delta_mirror.dds.export_tables import facts_of
from delta_mirror.dds.tables import CHANGED, DELETE_MARKS, KEY, KEYS_BELOW, VERSION, is_id_column

_PLACE = ("tenantid", "locationid")
_KEY_ENDINGS = ("_tid", "_lid", "guid")


def entity_of(table: str) -> str | None:
    """Return whose table *table*, a name of the mirror's, is; None where that cannot be told by its name."""
    return facts_of(table).entity


def why_needed(table: str, column: str) -> str | None:
    """Return why *column* of *table* cannot be masked, None where it can."""
    facts, name = facts_of(table), column.lower()
    if name in _PLACE:
        return "says where a record belongs"
    if any(name == mark.column.lower() and _is_of(mark.table, table) for mark in DELETE_MARKS.get(facts.entity or "", ())):
        return "says whether a record is deleted"
    if facts.is_root:
        if name in map(str.lower, facts.key):
            return "is the key of its records"
        if name in (CHANGED.lower(), VERSION.lower()):
            return "tells versions of a record apart"
        return "ties other rows to it" if name in map(str.lower, KEYS_BELOW.get(facts.entity or "", ())) else None
    # Which column of a child table holds the key is not documented for each: the export is searched for it, among all that may.
    if name in map(str.lower, (KEY, *facts.key, *facts.repeated, facts.own_key or "", facts.parent_key or "")):
        return "ties its rows to their record"
    return "may be what ties its rows to their record" if is_id_column(column) or name.endswith(_KEY_ENDINGS) else None


def _is_of(marked: str | None, table: str) -> bool:
    facts = facts_of(table)
    return facts.is_root if marked is None else facts.table.lower() == marked.lower()
