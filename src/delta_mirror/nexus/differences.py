"""What one message has changed, as the log of changes tells it.

Invariants:

- What differs and nothing else: of a client its columns, of items the rows that are not as they were, old and new.
- The order of offenses is no difference. A picture is told by its hash: the log is no album.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import cast

from delta_mirror.core.fold import Content, Place
from delta_mirror.core.model import Row, Value
from delta_mirror.core.plan import Fields
from delta_mirror.nexus.sections import CASE_TABLE, CLIENT_TABLE, OFFENSE_TABLE, OFFENSES, PICTURE_TABLE, table_of

Values = Mapping[str, Content]


def find_differences(place: Place, before: Values | None, after: Values | None) -> Fields:
    """Return what differs at *place*; None is an item that is not there."""
    if before == after:
        return {}
    table = table_of(place)
    if table == CLIENT_TABLE:
        old, new = cast("Row", before or {}), cast("Row", after or {})
        return {column: [old.get(column), new.get(column)] for column in {**old, **new} if old.get(column) != new.get(column)}
    old_row, new_row = _row(table, before), _row(table, after)
    fields: Fields = {} if old_row == new_row else {table: [old_row, new_row]}
    old_offenses, new_offenses = _offenses(before), _offenses(after)
    if old_offenses != new_offenses and _bag(old_offenses) != _bag(new_offenses):
        fields[OFFENSE_TABLE] = [old_offenses, new_offenses]
    return fields


def _row(table: str, values: Values | None) -> list[Row]:
    if values is None:
        return []
    row = cast("Row", {**values})
    if table == CASE_TABLE:
        row.pop(OFFENSES, None)
    if table == PICTURE_TABLE:
        row = {column: sha256(str(value).encode()).hexdigest() for column, value in row.items()}
    return [row]


def _offenses(values: Values | None) -> list[Row]:
    found = (values or {}).get(OFFENSES)
    return found if isinstance(found, list) else []


def _bag(rows: Iterable[Row]) -> Counter[frozenset[tuple[str, Value]]]:
    return Counter(frozenset(row.items()) for row in rows)
