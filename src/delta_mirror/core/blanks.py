"""What becomes of an empty string that is held, when a source comes that cannot tell it from NULL.

Invariants:

- That such a source has nothing where the mirror has the empty string is no difference, and what is held stays.
- Everything else counts as ever, whichever columns are empty beside it.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace

from delta_mirror.core.model import Child, Record, Row, Value
from delta_mirror.core.plan import same_content


def with_blanks_of(held: Record, record: Record, root: bool, tables: Set[str]) -> Record:
    """Return *record* with the empty strings of *held* where it has nothing.

    *root* and *tables* say of which rows the source of *record* cannot tell empty strings: those of the root, and those of these
    child tables.
    """
    if same_content(_without_blanks(held, root, tables), _without_blanks(record, root, tables)):
        return replace(record, root=held.root, children=held.children)
    return replace(
        record,
        root={**_blanks(held.root), **record.root} if root else record.root,
        children={
            name: _alike(rows, held.children.get(name, ())) if name in tables else rows for name, rows in record.children.items()
        },
    )


def _without_blanks(record: Record, root: bool, tables: Set[str]) -> Record:
    children = {
        name: [child._replace(row=_filled(child.row)) for child in rows] if name in tables else rows
        for name, rows in record.children.items()
    }
    return replace(record, root=_filled(record.root) if root else record.root, children=children)


def _alike(rows: Sequence[Child], held: Sequence[Child]) -> list[Child]:
    """Return *rows*, each as one of *held* that differs from it in empty strings alone, where there is one."""
    known: dict[frozenset[tuple[str, Value]], list[Row]] = {}
    for child in held:
        known.setdefault(_form(child.row), []).append(child.row)
    return [child._replace(row=twins.pop(0)) if (twins := known.get(_form(child.row))) else child for child in rows]


def _form(row: Mapping[str, Value]) -> frozenset[tuple[str, Value]]:
    return frozenset(_filled(row).items())


def _filled(row: Mapping[str, Value]) -> Row:
    return {column: value for column, value in row.items() if value != ""}


def _blanks(row: Mapping[str, Value]) -> Row:
    return {column: value for column, value in row.items() if value == ""}
