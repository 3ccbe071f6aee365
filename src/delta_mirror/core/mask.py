"""What the mirror may hold of each column: everything, a hash of it, or nothing (`[mirror.mask]`).

A mask is carried out on what comes in, in the process that reads it, before anything else sees it: on entries of the feed, rows
of an export, messages. So all that is compared, logged, set aside and written is masked already, and nothing is masked twice.

Invariants:

- `drop` leaves the column out, as if it had not been sent. `hash` puts the keyed hash of the value in its place: equal values
  have equal hashes in every table, and values that are equal in the mirror (12 and 12.0) are equal values here.
- What is not there is not hashed, and the empty text stays the empty text: some exports cannot tell the two apart.
- What is read, compared or joined by (`Terms.why_needed`) is never masked: not by `*` either.
- Names compare as SQLite compares them. A column that `*` covers is masked from its first appearance on.
- A mask shows no value and no key.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple, cast, get_args

from delta_mirror.core.keyed import Keyed
from delta_mirror.core.model import Child, Record, Row, Value
from delta_mirror.core.names import fold

Action = Literal["drop", "hash", "keep"]
ACTIONS: tuple[Action, ...] = get_args(Action)
EVERY = "*"  # the name that means each column that is not named itself

Rules = Mapping[str, Mapping[str, Action]]

_RANK: Mapping[Action, int] = {"keep": 0, "hash": 1, "drop": 2}


class Terms(NamedTuple):
    """What the services' own rules say of names.

    `why_needed` tells why a column of a table cannot be masked, None where it can; `entity_of` whose table it is, None where
    that is not known.
    """

    why_needed: Callable[[str, str], str | None]
    entity_of: Callable[[str], str | None]


class Mask:
    """The rules of one configuration, by table and column. Several threads use it at once.

    `written` has them as they were written, `rules` with all names folded. *keyed* may be None where no rule says `hash`.
    """

    def __init__(self, rules: Rules, terms: Terms, keyed: Keyed | None) -> None:
        self.written = rules
        self.rules = folded(rules)
        self.met: set[tuple[str, str]] = set()  # table and column, names folded, of what was named and has come
        self._terms = terms
        self._keyed = keyed
        self._tables = {table: _TableMask(table, self) for table, named in self.rules.items() if _masks(named)}

    def __bool__(self) -> bool:
        """Whether anything is masked at all."""
        return bool(self._tables)

    @property
    def tables(self) -> list[str]:
        """The tables of which something is masked, their names folded."""
        return list(self._tables)

    def key_check(self) -> str | None:
        """Return what tells the key of the hashes from another one, None where nothing is hashed."""
        return self._keyed.check() if self._keyed is not None and hashes(self.rules) else None

    def entity_of(self, table: str) -> str | None:
        """Return whose table *table* is, None where nobody knows."""
        return self._terms.entity_of(table)

    def action(self, table: str, column: str) -> Action:
        """Return what becomes of *column* of *table*."""
        named = self.rules.get(fold(table), {})
        found = named.get(fold(column))
        if found is not None:
            return found
        every = named.get(EVERY, "keep")
        return "keep" if every == "keep" or self._terms.why_needed(table, column) else every

    def meet(self, table: str, column: str) -> Action:
        """Return what becomes of *column* of *table*, which has come: one that is named was not mistyped."""
        if fold(column) in self.rules.get(fold(table), ()):
            self.met.add((fold(table), fold(column)))
        return self.action(table, column)

    def value(self, action: Action, value: Value | None) -> Value | None:
        """Return what is stored instead of *value*."""
        if action == "hash":
            return self.hashed(value)
        return value if action == "keep" else None

    def hashed(self, value: Value | None) -> Value | None:
        """Return the hash of *value*; what is not there, and the empty text, has none and stays."""
        if value is None or value == "":
            return value
        if self._keyed is None:
            raise RuntimeError("a mask that hashes was made without a key")
        return self._keyed.digest("mask", value)

    def row(self, table: str, row: Row) -> Row:
        """Return *row* of *table* as it may be stored; *row* itself where nothing of it is masked."""
        of_table = self._tables.get(fold(table))
        return row if of_table is None else of_table.row(row)

    def record(self, entity: str, record: Record) -> Record:
        """Return *record* of *entity* as it may be stored."""
        root = self.row(entity, record.root)
        children = {name: self._children(name, rows) for name, rows in record.children.items()}
        if root is record.root and all(rows is record.children[name] for name, rows in children.items()):
            return record
        return replace(record, root=root, children=children)

    def _children(self, table: str, rows: Sequence[Child]) -> Sequence[Child]:
        of_table = self._tables.get(fold(table))
        return rows if of_table is None else [Child(of_table.row(row), parent) for row, parent in rows]

    def columns(self, table: str, columns: Sequence[str]) -> list[tuple[int, Action]] | None:
        """Return, of rows that have *columns*, the places that are stored and what becomes of each; None: all, as they are."""
        acts = [self.meet(table, column) for column in columns]
        if not any(act != "keep" for act in acts):
            return None
        return [(place, act) for place, act in enumerate(acts) if act != "drop"]

    def of_entity(self, entity: str) -> list[str]:
        """Return the masked tables that *entity* has, and those of which nobody knows whose they are."""
        return [table for table in self._tables if self._terms.entity_of(table) in (entity, None)]

    def entities(self) -> set[str | None]:
        """Return whose tables are masked; None stands for tables of which nobody knows."""
        return {self._terms.entity_of(table) for table in self._tables}

    def strictest(self, tables: Iterable[str], column: str) -> Action:
        """Return the strictest of what becomes of *column* in any of *tables*."""
        return max((self.action(table, column) for table in tables), key=strict, default="keep")

    def covers_all(self, tables: Iterable[str]) -> bool:
        """Return whether any of *tables* masks all its columns but those that are named."""
        return any(self.rules[table].get(EVERY, "keep") != "keep" for table in tables)

    def mark(self, text: str) -> str | None:
        """Return what tells *text* from other texts and nothing else of it, None where there is no key for that."""
        return None if self._keyed is None else self._keyed.digest("mask", "withheld", text)

    def since(self, before: Rules) -> "Mask":
        """Return what is to be done to what was stored under the rules *before*.

        What these rules here forbid, and no more; but a hash that is to be a value again goes: it is none, and in a column that
        is hashed anew one day it would be hashed twice.
        """
        return Mask(self._steps(before, _step), self._terms, self._keyed)

    def lifted(self, before: Rules) -> list[tuple[str, str]]:
        """Return table and column of what *before* has taken away and may be stored now, in the spelling that was written."""
        spelling = {fold(table): table for table in [*self.written, *before]}
        spelled = {
            (fold(table), fold(name)): name for rules in (self.written, before) for table in rules for name in rules[table]
        }
        return [
            (spelling[table], spelled[table, name])
            for table, named in self._steps(before, _loosened).items()
            for name, action in sorted(named.items())
            if action != "keep"
        ]

    def _steps(self, before: Rules, step: Callable[[Action, Action], Action]) -> dict[str, dict[str, Action]]:
        old = Mask(before, self._terms, None)
        found: dict[str, dict[str, Action]] = {}
        for table in dict.fromkeys([*old.rules, *self.rules]):
            then, now = old.rules.get(table, {}), self.rules.get(table, {})
            found[table] = {name: step(old._named(table, name), self._named(table, name)) for name in {EVERY, *then, *now}}
        return found

    def _named(self, table: str, name: str) -> Action:
        return self.rules.get(table, {}).get(EVERY, "keep") if name == EVERY else self.action(table, name)


class _TableMask:
    """The mask of one table, which learns what becomes of each column when it first meets it, in the spelling that is sent."""

    def __init__(self, table: str, mask: Mask) -> None:
        self._table = table
        self._mask = mask
        self._known: frozenset[str] = frozenset()
        self._hits: tuple[tuple[str, Action], ...] = ()

    def row(self, row: Row) -> Row:
        """Return *row* masked; a row that has nothing of what is masked itself."""
        if not self._known.issuperset(row):
            self._learn(row)
        masked: Row | None = None
        for column, action in self._hits:
            if column in row:
                if masked is None:
                    masked = row.copy()
                if action == "drop":
                    del masked[column]
                else:
                    masked[column] = cast("Value", self._mask.hashed(row[column]))
        return row if masked is None else masked

    def _learn(self, columns: Collection[str]) -> None:
        known = self._known.union(columns)
        acts = {column: self._mask.meet(self._table, column) for column in known}
        # In this order: another thread that sees the new columns as known must see what becomes of them.
        self._hits = tuple((column, act) for column, act in acts.items() if act != "keep")
        self._known = known


def folded(rules: Rules) -> Rules:
    """Return *rules* with all names as they are compared."""
    return {fold(table): {fold(name): action for name, action in named.items()} for table, named in rules.items()}


def hashes(rules: Rules) -> bool:
    """Return whether any of *rules* says `hash`."""
    return any("hash" in named.values() for named in rules.values())


def strict(action: Action) -> int:
    """Return how much *action* takes away, to compare by."""
    return _RANK[action]


def _masks(named: Mapping[str, Action]) -> bool:
    return any(action != "keep" for action in named.values())


def _step(then: Action, now: Action) -> Action:
    if (then, now) == ("hash", "keep"):
        return "drop"
    return now if _RANK[now] > _RANK[then] else "keep"


def _loosened(then: Action, now: Action) -> Action:
    return then if _RANK[now] < _RANK[then] else "keep"
