"""What the entries of one page do to the mirror: insert, replace, delete, revive, or nothing; and what changed.

Invariants:

- Entries are taken in the order sent. Each is judged against what the ones before it have left, because a feed may list
  every change of a record, older snapshots too. The log has each change; the mirror gets the last state only.
- Never backwards: an entry that is dated strictly earlier than what is held changes nothing. Of two entries of equal date
  in one drain the higher row version stays. A row version decides nothing else: the documentation calls it random.
- REPLACE, never UPDATE: what is written is the entry as sent, whole. What it lacks is gone.
- A record that is sent again as it is held writes nothing and logs nothing. Values are compared by value (12 equals 12.0,
  "12" does not); child rows as trees, their order is no change.
- The log says what differs and nothing else. Where a root is its key alone, because it came by a source that knows nothing more
  of it, the columns that are filled in are written, and are no change.
- An entry that cannot be applied goes to quarantine, unless something newer of its id is held; what is applied afterwards in
  the same page, and is not older, takes it out again.
- An entry of a record that was erased changes nothing, whatever it says, and is set aside nowhere: it counts as unchanged.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import NamedTuple

from delta_mirror.core.model import Broken, Child, Entry, Op, Record, Row, Value

Fields = dict[str, list[Value | None] | list[list[Row]]]


@dataclass(frozen=True, slots=True)
class Held:
    """What the mirror has of one id.

    `record` has the rows, also those of a deleted record where the mirror marks instead of removing; `tombstone` is the
    deleting record. Of both only the rows count: `changed`, the ticks of the version held, stands here. `deleted` says that
    the last thing known of the id is its deletion. `is_key_alone` says that the root came by a source that knows nothing of it
    but its key, so that nothing is known of its other columns. `is_erased` says that the record was erased, and is to stay out.
    """

    record: Record | None
    tombstone: Record | None
    changed: int | None
    deleted: bool
    is_key_alone: bool = False
    is_erased: bool = False


class Change(NamedTuple):
    """One line of the log. `fields` says what differs: of a replace against the rows held, of a revive against the tombstone."""

    op: Op
    record: Record
    fields: Fields | None


class Effect(NamedTuple):
    """What is to stand in the mirror of one id after the page.

    `record` alive is written as the rows; deleted it becomes the tombstone. `over` has the rows that the mirror holds now,
    `buried` says that it holds a tombstone now. Of a deleted record `had_rows` says that there are rows to be removed or
    marked, `died` that it was alive, or unknown, before: a deletion that is only sent again keeps its date.
    """

    record: Record
    over: Record | None
    buried: bool
    had_rows: bool
    died: bool


@dataclass(frozen=True, slots=True)
class Counts:
    """How many entries did what. `unchanged` are all that were taken and logged no change; `quarantined` only the new ones."""

    inserted: int = 0
    replaced: int = 0
    deleted: int = 0
    revived: int = 0
    unchanged: int = 0
    superseded: int = 0
    quarantined: int = 0

    def as_dict(self) -> dict[str, int]:
        """Return the counts by name."""
        return {each.name: getattr(self, each.name) for each in fields(Counts)}

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(Counts)))


@dataclass(slots=True)
class Plan:
    """What is to be carried out for one page.

    `changes` are for the log, in the order sent. `effects` and `redated` are what is to be written, once per id: a redated
    record is held as sent but for its change date (where a mask drops that column, nothing else tells the versions apart).
    `unchanged` logged no change; among them are deletions of records never held, and deletions sent again with other content.
    `superseded` changed nothing because something newer is held. `quarantine` are the entries that cannot be applied, `erased`
    those of records that were erased.
    """

    changes: list[Change] = field(default_factory=list)
    effects: dict[str, Effect] = field(default_factory=dict)
    redated: dict[str, Record] = field(default_factory=dict)
    unchanged: list[Record] = field(default_factory=list)
    superseded: list[Entry] = field(default_factory=list)
    quarantine: list[Broken] = field(default_factory=list)
    erased: list[Entry] = field(default_factory=list)

    def records(self, op: Op) -> list[Record]:
        """Return the records that log this kind of change, in the order sent."""
        return [change.record for change in self.changes if change.op == op]

    def counts(self) -> Counts:
        """Return the counts of this plan, all of its quarantine taken as new."""
        ops = Counter(change.op for change in self.changes)
        return Counts(
            inserted=ops["insert"],
            replaced=ops["replace"],
            deleted=ops["delete"],
            revived=ops["revive"],
            unchanged=len(self.unchanged) + len(self.erased),
            superseded=len(self.superseded),
            quarantined=len(self.quarantine),
        )


class Drained:
    """What one drain has taken so far: of each id the change date and row version.

    Across drains nothing is remembered: there an entry of equal date is taken as sent, whatever its row version.
    """

    def __init__(self) -> None:
        self._taken: dict[str, tuple[int, str]] = {}

    def __len__(self) -> int:
        return len(self._taken)

    def take(self, record: Record) -> None:
        """Remember *record* as the last one taken of its id."""
        if record.changed is None or record.version is None:
            self._taken.pop(record.id, None)
        else:
            self._taken[record.id] = (record.changed.ticks, record.version)

    def outranks(self, record: Record) -> bool:
        """Return whether this drain has taken a higher row version of the same id and the same date."""
        if record.changed is None or record.version is None:
            return False
        ticks, version = self._taken.get(record.id, (None, ""))
        return ticks == record.changed.ticks and version > record.version

    def knows(self, id_: str) -> bool:
        """Return whether this drain remembers what it took of this id."""
        return id_ in self._taken

    def forget_before(self, ticks: int) -> None:
        """Forget what is dated before *ticks*: an ordered drain does not meet those dates again."""
        self._taken = {id_: taken for id_, taken in self._taken.items() if taken[0] >= ticks}


_NOTHING = Held(record=None, tombstone=None, changed=None, deleted=False)


def decide(held: Mapping[str, Held], entries: Sequence[Entry], drained: Drained, *, looks_back: bool = False) -> Plan:
    """Return what *entries*, in this order, do to a mirror that has *held* of their ids; *drained* has taken them afterwards.

    *looks_back* says that the entries stand where the drain has been before, and may have forgotten which versions it took:
    then one of equal date changes nothing, for a feed that lists every change may show the older of the two.
    """
    plan = Plan()
    left: dict[str, Held] = {}  # by the entries before, of ids that they have changed
    for entry in entries:
        before = _NOTHING if entry.id is None else left.get(entry.id) or held.get(entry.id, _NOTHING)
        ticks = None if entry.changed is None else entry.changed.ticks
        if before.is_erased:
            plan.erased.append(entry)
        elif ticks is not None and before.changed is not None and ticks < before.changed:
            plan.superseded.append(entry)
        elif isinstance(entry, Broken):
            plan.quarantine.append(entry)
        elif drained.outranks(entry) or (looks_back and not drained.knows(entry.id) and _is_rival(before, entry)):
            plan.superseded.append(entry)
        else:
            drained.take(entry)
            after = _take(plan, entry, before, held.get(entry.id, _NOTHING))
            if after is not None:
                left[entry.id] = after
    return plan


def _is_rival(before: Held, entry: Record) -> bool:
    """Return whether *entry* bears the date of what is held, and other content."""
    if entry.changed is None or entry.changed.ticks != before.changed:
        return False
    last_sent = (before.tombstone or before.record) if before.deleted else before.record
    return last_sent is None or before.deleted != entry.deleted or not same_content(last_sent, entry)


def _take(plan: Plan, entry: Record, before: Held, in_mirror: Held) -> Held | None:
    """Add to *plan* what *entry* does; return what is then held of its id, None where that is what was held before."""
    op: Op | None = None
    differs: Fields | None = None
    died = False
    if entry.deleted:
        if before.deleted:
            last_sent = before.tombstone or before.record
            if last_sent is not None and same_content(last_sent, entry):
                return _take_again(plan, entry, before)
            died = entry.id in plan.effects and plan.effects[entry.id].died
        else:
            op = None if before.record is None else "delete"
            died = True
    elif before.record is not None and not before.deleted:
        if same_content(before.record, entry):
            return _take_again(plan, entry, before)
        if not (before.is_key_alone and same_content(replace(before.record, root=entry.root), entry)):
            op, differs = "replace", find_differences(before.record, entry)
    elif before.tombstone is not None:
        op, differs = "revive", find_differences(before.tombstone, entry)
    else:
        op = "insert"

    if op is None:
        plan.unchanged.append(entry)
    else:
        plan.changes.append(Change(op, entry, differs))
    had_rows = entry.deleted and before.record is not None
    plan.effects[entry.id] = Effect(entry, in_mirror.record, in_mirror.tombstone is not None, had_rows, died)
    plan.redated.pop(entry.id, None)
    if plan.quarantine:
        plan.quarantine = [broken for broken in plan.quarantine if broken.id != entry.id or _is_later(broken, entry)]
    ticks = None if entry.changed is None else entry.changed.ticks
    if not entry.deleted:
        return Held(entry, None, ticks, deleted=False)
    return Held(entry if had_rows else None, entry, ticks, deleted=True)


def _is_later(broken: Broken, record: Record) -> bool:
    return broken.changed is not None and record.changed is not None and broken.changed.ticks > record.changed.ticks


def _take_again(plan: Plan, entry: Record, before: Held) -> Held | None:
    """Add to *plan* an entry that is held as sent; return what is then held, None where not even the change date is new."""
    plan.unchanged.append(entry)
    if entry.changed is None or entry.changed.ticks == before.changed:
        return None
    if entry.id in plan.effects:
        plan.effects[entry.id] = plan.effects[entry.id]._replace(record=entry)
    else:
        plan.redated[entry.id] = entry
    return Held(before.record, before.tombstone, entry.changed.ticks, before.deleted)


def same_content(old: Record, new: Record) -> bool:
    """Return whether both records have the same values and the same child rows, in whatever order."""
    return old.root == new.root and _same_children(_filled(old.children), _filled(new.children))


def find_differences(old: Record, new: Record) -> Fields:
    """Return what differs: `{"Column": [old, new], "ChildTable": [[old rows], [new rows]]}`, with None for an absent value.

    A grandchild that has moved to another parent stands under its own table, although its rows are the same. A child table
    that bears the name of a column of the root stands as `Name[]`.
    """
    differs: Fields = {
        column: [value, new.root.get(column)] for column, value in old.root.items() if new.root.get(column) != value
    }
    differs.update({column: [None, value] for column, value in new.root.items() if column not in old.root})
    old_tables, new_tables = _filled(old.children), _filled(new.children)
    for table in _changed_tables(old_tables, new_tables):
        name = f"{table}[]" if table in old.root or table in new.root else table
        differs[name] = [[child.row for child in side.get(table, ())] for side in (old_tables, new_tables)]
    return differs


# Child rows as trees. A child names the number of its parent row, not the table that the number belongs to. The table is found
# from the names, as the service builds them ("SaleLineTax" under "SaleLine"), or because only one table comes into question.
# Where it stays open, the order of rows counts as a difference: at worst a record is replaced that need not have been, and
# no change is ever taken for none.

_Tables = dict[str, Sequence[Child]]
_FrozenRow = frozenset[tuple[str, Value]]
_Group = frozenset[tuple[object, int]]  # what a Counter holds, as a value that can itself be counted
_Tree = tuple[str, _FrozenRow, _Group]
_Lineage = tuple[_FrozenRow, ...]


def _filled(children: Mapping[str, Sequence[Child]]) -> _Tables:
    return {table: rows for table, rows in children.items() if rows}


def _same_children(old: _Tables, new: _Tables) -> bool:
    if old.keys() != new.keys():
        return False
    if all(list(rows) == list(new[table]) for table, rows in old.items()):
        return True
    if any(len(rows) != len(new[table]) for table, rows in old.items()):
        return False
    parents = _parent_tables(old, new)
    return parents is not None and _trees(old, parents) == _trees(new, parents)


def _changed_tables(old: _Tables, new: _Tables) -> list[str]:
    """Return the child tables that differ: by their rows, or, with the same rows, by the parents that these belong to."""
    if _same_children(old, new):
        return []
    names = list({**old, **new})
    parents = _parent_tables(old, new)
    changed = [name for name in names if _bag(old.get(name, ())) != _bag(new.get(name, ())) or _moved(name, old, new, parents)]
    nested = [name for name in names if any(child.parent is not None for side in (old, new) for child in side.get(name, ()))]
    return changed or nested  # alike row by row and parent by parent, and yet other trees: twins that have swapped their children


def _bag(rows: Iterable[Child]) -> Counter[_FrozenRow]:
    return Counter(frozenset(child.row.items()) for child in rows)


def _moved(name: str, old: _Tables, new: _Tables, parents: Mapping[str, str] | None) -> bool:
    """Return whether rows of table *name*, which are alike on both sides, belong to other parents, looking at unchanged ones."""
    if parents is None:
        return list(old[name]) != list(new[name])
    if name not in parents:
        return False
    old_groups, new_groups = (_rows_by_parent(name, side, parents) for side in (old, new))
    unchanged = [line for line, groups in old_groups.items() if groups.total() == new_groups.get(line, Counter()).total()]
    return any(old_groups[line] != new_groups[line] for line in unchanged)


def _rows_by_parent(name: str, tables: _Tables, parents: Mapping[str, str]) -> dict[_Lineage, Counter[_Group]]:
    """Return, per parent row with all its ancestors, the bags of rows of table *name* under it; alike parents stand together."""
    under: dict[int | None, list[Child]] = {}
    for child in tables[name]:
        under.setdefault(child.parent, []).append(child)
    grouped: dict[_Lineage, Counter[_Group]] = {(): Counter([frozenset(_bag(under.get(None, ())).items())])}
    for number in range(len(tables.get(parents[name], ()))):
        group = frozenset(_bag(under.get(number, ())).items())
        grouped.setdefault(_lineage(parents[name], number, tables, parents), Counter())[group] += 1
    return grouped


def _lineage(table: str, number: int, tables: _Tables, parents: Mapping[str, str]) -> _Lineage:
    child = tables[table][number]
    own: _Lineage = (frozenset(child.row.items()),)
    return own if child.parent is None else own + _lineage(parents[table], child.parent, tables, parents)


def _trees(tables: _Tables, parents: Mapping[str, str]) -> Counter[_Tree]:
    """Return the child rows of the root, each with everything under it, without any order."""
    under: dict[tuple[str, int], list[tuple[str, int]]] = {}
    for table, rows in tables.items():
        for number, child in enumerate(rows):
            if child.parent is not None:
                under.setdefault((parents[table], child.parent), []).append((table, number))

    def tree(table: str, number: int) -> _Tree:
        below = Counter(tree(*place) for place in under.get((table, number), ()))
        return table, frozenset(tables[table][number].row.items()), frozenset(below.items())

    return Counter(
        tree(table, number) for table, rows in tables.items() for number, child in enumerate(rows) if child.parent is None
    )


def _parent_tables(old: _Tables, new: _Tables) -> dict[str, str] | None:
    """Return, of each table with grandchildren, the table of its parents, alike for both sides; None where that stays open."""
    found: dict[str, str] = {}
    for name in {**old, **new}:
        # -1 where a side has no such rows: there any number of parents will do.
        needed = [
            max((-1 if row.parent is None else row.parent for row in side.get(name, ())), default=-1) for side in (old, new)
        ]
        if max(needed) < 0:
            continue
        able = [
            table
            for table in {**old, **new}
            if table != name and all(len(side.get(table, ())) > number for side, number in zip((old, new), needed, strict=True))
        ]
        by_name = max((table for table in able if name.startswith(table)), key=len, default=None)
        direct = [table for table in able if all(child.parent is None for side in (old, new) for child in side.get(table, ()))]
        if by_name is not None:
            found[name] = by_name
        elif len(able) == 1:
            found[name] = able[0]
        elif len(direct) == 1:
            found[name] = direct[0]
        else:
            return None
    for name in found:
        above, steps = name, 0
        while above in found:
            above, steps = found[above], steps + 1
            if steps > len(found):
                return None  # in a circle
    return found
