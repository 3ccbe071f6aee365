"""The nouns of a staging: what is known of the tables of an export, of its entity, and where they stand once they are staged.

Invariants:

- What comes from the service's own rules comes in as values: `mirror/` knows no service.
- `i`, `s` and `p` are names of the queries: the records, the spans of a table, and its rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from delta_mirror.core.model import Value
from delta_mirror.mirror.workspace import AS


class Shape(Protocol):
    """What is known of one table of an export: where its rows belong. See `delta_mirror.dds.export_tables.TableFacts`."""

    @property
    def table(self) -> str:
        """The mirror's name of the table."""

    @property
    def is_root(self) -> bool:
        """Whether its rows are records."""

    @property
    def parent(self) -> str | None:
        """The table of the rows that its own hang on, None where that is the root."""

    @property
    def key(self) -> tuple[str, ...]:
        """Columns that may hold the key of the record, best first."""

    @property
    def parent_key(self) -> str | None:
        """The column that points to the row of `parent`."""

    @property
    def own_key(self) -> str | None:
        """The column by which rows of other tables point to this table's."""

    @property
    def repeated(self) -> tuple[str, ...]:
        """Columns that are left out where they only repeat what stands above."""


class Rows(Protocol):
    """Some rows of one file, in order. See `delta_mirror.dds.export.Batch`."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The names, as they are stored."""

    @property
    def rows(self) -> list[tuple[Value | None, ...]]:
        """The values, in their stored form."""

    @property
    def tells_empty(self) -> bool:
        """Whether the file can tell the empty string from NULL; if not, both are None."""


class Mark(NamedTuple):
    """What marks a record as deleted: *state* in *column* of the root, or of every row of the child *table*, at least one."""

    table: str | None
    column: str
    state: int


@dataclass(frozen=True, slots=True)
class Rules:
    """What the service's rules say of an entity: the name of its key, of its change date, and what marks it as deleted."""

    key: str
    changed: str
    marks: Sequence[Mark]


class Aside(NamedTuple):
    """Rows of a table that were not loaded, and why."""

    table: str
    rows: int
    reason: str


class Column(NamedTuple):
    """A column of a staged table: its name in the export, and what gives its value in a query."""

    name: str
    value: str


@dataclass(slots=True)
class StagedTable:
    """One table of the staging.

    `number` is in the names of its SQLite tables; `columns` are those to be stored; `rows` how many of its rows belong to a
    record. `tells_empty`: its file can tell the empty string from NULL. `places` are the columns of the file by name, as they are
    called in the staging. A file with neither header nor rows has no columns, and then there are no SQLite tables of it.
    """

    shape: Shape
    number: int
    file: str
    has_columns: bool = False
    tells_empty: bool = True
    places: dict[str, str] = field(default_factory=dict)
    columns: list[Column] = field(default_factory=list)
    raw_rows: int = 0
    rows: int = 0

    @property
    def raw(self) -> str:
        """The table of the rows as they were read."""
        return f"{AS}.raw_{self.number}"

    @property
    def sorted(self) -> str:
        """The table of the rows in the order of their records."""
        return f"{AS}.rows_{self.number}"

    @property
    def spans(self) -> str:
        """The table that has, of each record, its first row and how many there are."""
        return f"{AS}.spans_{self.number}"

    @property
    def links(self) -> str:
        """The table that has, of each row that others point to, record and number."""
        return f"{AS}.links_{self.number}"

    def joined(self) -> str:
        """Return the joins that add to the records `i` their rows `p`, in order; `s` is the span."""
        if self.shape.is_root:
            return f"cross join {self.sorted} p on p.rowid = i.place"
        return (
            f"cross join {self.spans} s on s.id = i.id "
            f"cross join {self.sorted} p on p.rowid between s.first and s.first + s.rows - 1"
        )
