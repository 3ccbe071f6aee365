"""Which columns of Nexus a mask may take away.

Invariants:

- What tells items apart, and what an activity is, stays as it is.
- A column is named as the mirror names it: another spelling of it would mask nothing, and is refused instead.
"""

from delta_mirror.core.names import fold
from delta_mirror.nexus.sections import ACTIVITY_TABLE, ALIASES, CLIENT_TABLE, LAYOUTS, SECTIONS

TABLES = {fold(layout.table): layout.table for layout in LAYOUTS}
_NATURAL_KEYS = {
    folded: {fold(column) for section in SECTIONS if section.table == table for column in section.natural_key}
    for folded, table in TABLES.items()
}
_OF_ACTIVITY = ("type", "occurredon")


def entity_of(table: str) -> str | None:
    """Return `NexusClient` for each table of Nexus, else None."""
    return CLIENT_TABLE if fold(table) in TABLES else None


def why_needed(table: str, column: str) -> str | None:
    """Return why *column* of *table* cannot be masked, None where it can."""
    name = fold(column)
    if name in _NATURAL_KEYS.get(fold(table), ()):
        return "tells its items apart where a message names none"
    if fold(table) == fold(ACTIVITY_TABLE) and name in _OF_ACTIVITY:
        return "says what its rows are"
    right = ALIASES.get(name)
    return None if right is None or fold(right) == name else f"is called {right} in the mirror; name it so"
