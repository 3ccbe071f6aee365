"""A change as one line of text, for people.

Invariants:

- Values are written as in JSON, so that text and number, blank and NULL can be told apart.
- Of child tables only the rows that differ are shown: `+` a new one, `-` one that is gone, `~` one in which something differs.
- `EntityVersion` and `DateUpdated` go with nearly every change and say nothing: they are left out, unless all is asked for.
"""

from collections import Counter
from typing import TYPE_CHECKING, cast

from delta_mirror.cli.messages import json_text, plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from delta_mirror.core.model import Row, Value
    from delta_mirror.core.plan import Fields
    from delta_mirror.mirror.read import Logged

WIDTH_ON_A_TERMINAL = 60  # characters of one value
NOISE = ("EntityVersion", "DateUpdated")
LEAST_ALIKE = 0.5  # from which on two rows are taken for one that has changed
MOST_PAIRS = 10_000  # of old and new rows; beyond that they are not compared one by one


def as_line(change: "Logged", *, width: int | None, verbose: bool) -> str:
    """Return one change as one line, values shortened to *width* characters, None to none."""
    stream = change.stream
    line = f"{change.seq} {change.at} {stream.tenant_id}/{stream.location_id} {change.op:<7} {stream.entity} {plain(change.id)}"
    told = fields_as_text(change.fields or {}, width=width, verbose=verbose)
    return f"{line}  {told}" if told else line


def fields_as_text(fields: "Fields", *, width: int | None, verbose: bool) -> str:
    """Return what differs, field by field, as part of a line; arguments as of `as_line`."""
    told, passed_over = [], []
    for name, (old, new) in fields.items():
        if name in NOISE and not verbose:
            passed_over.append(name)
        elif isinstance(old, list) and isinstance(new, list):
            told.append(f"{plain(name)}: {_rows(old, new, width)}")
        else:
            told.append(f"{plain(name)}: {_pair(cast('Value | None', old), cast('Value | None', new), width)}")
    if passed_over and not told:
        told.append(f"nothing but {' and '.join(sorted(passed_over))}")
    return "; ".join(told)


def _rows(old: "Sequence[Row]", new: "Sequence[Row]", width: int | None) -> str:
    """Return what differs between the rows of a child table, whose order is no difference."""
    gone, come = _left_over(old, new), _left_over(new, old)
    if not gone and not come:
        return "the same rows under other parents"
    changed: list[tuple[Row, Row]] = []
    if len(gone) * len(come) <= MOST_PAIRS:
        alike = sorted(
            ((_likeness(before, after), -i, -j) for i, before in enumerate(gone) for j, after in enumerate(come)), reverse=True
        )
        taken: dict[int, int] = {}
        for likeness, i, j in alike:
            if likeness >= LEAST_ALIKE and -i not in taken and -j not in taken.values():
                taken[-i] = -j
        changed = [(gone[i], come[j]) for i, j in sorted(taken.items())]
        gone = [row for i, row in enumerate(gone) if i not in taken]
        come = [row for j, row in enumerate(come) if j not in taken.values()]
    return " ".join(
        [
            *(f"~{{{_changed(before, after, width)}}}" for before, after in changed),
            *(f"-{{{_row(row, width)}}}" for row in gone),
            *(f"+{{{_row(row, width)}}}" for row in come),
        ]
    )


def _left_over(rows: "Sequence[Row]", others: "Sequence[Row]") -> "list[Row]":
    """Return *rows* less those that stand among *others*, each as often as it stands there."""
    there = Counter(frozenset(row.items()) for row in others)
    left = []
    for row in rows:
        key = frozenset(row.items())
        if there[key]:
            there[key] -= 1
        else:
            left.append(row)
    return left


def _likeness(before: "Row", after: "Row") -> float:
    """Return how alike two rows are, from 0 to 1: of all their columns, those that agree. A number within the record decides."""
    columns = {**before, **after}
    numbers = [column for column in columns if column.endswith("_Seq")]
    if any(before.get(column) != after.get(column) for column in numbers):
        return 0.0
    return max(LEAST_ALIKE if numbers else 0.0, sum(before.get(column) == after.get(column) for column in columns) / len(columns))


def _changed(before: "Row", after: "Row", width: int | None) -> str:
    differs = [
        f"{plain(column)}: {_pair(before.get(column), after.get(column), width)}"
        for column in {**before, **after}
        if before.get(column) != after.get(column)
    ]
    return ", ".join([*_named(before, after, width), *differs])


def _named(before: "Row", after: "Row", width: int | None) -> list[str]:
    """Return what tells the row apart: the keys and numbers of the service that it has kept."""
    return [
        f"{plain(column)} {_value(value, width)}"
        for column, value in after.items()
        if column.endswith(("_Seq", "_LId")) and before.get(column) == value
    ]


def _row(row: "Row", width: int | None) -> str:
    return ", ".join(f"{plain(column)} {_value(value, width)}" for column, value in row.items())


def _pair(old: "Value | None", new: "Value | None", width: int | None) -> str:
    return f"{_value(old, width)} -> {_value(new, width)}"


def _value(value: "Value | None", width: int | None) -> str:
    text = json_text(value)
    return text if width is None or len(text) <= width else text[: width - 1] + "…"
