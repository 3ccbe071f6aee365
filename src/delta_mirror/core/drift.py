"""How two sides differ: what a mirror holds of records, and what their source says of them.

Invariants:

- A difference is what bringing the mirror to the source would log as a change, no more and no less: order of child rows is none,
  12 equals 12.0, a record that both sides know as deleted is none.
- Differences are told by name; values are carried along for whoever asks for them, and said nowhere by themselves.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from delta_mirror.core.model import Op
from delta_mirror.core.plan import Fields, Plan

Kind = Literal["missing", "extra", "different"]

_KINDS: dict[Op, Kind] = {"insert": "missing", "revive": "missing", "delete": "extra", "replace": "different"}


class Drift(NamedTuple):
    """One record that differs.

    `missing`: it lives in the source and not in the mirror. `extra`: it lives in the mirror and not in the source. `different`:
    it lives in both. Only of a different one there are `fields`: per column or child table what the mirror has and what the
    source has; None where the mirror's tables cannot hold what the source has.
    """

    id: str
    kind: Kind
    fields: Fields | None = None


def find_drift(plan: Plan) -> Iterator[Drift]:
    """Yield how the records of *plan*, which would bring a mirror to its source, differ now."""
    for op, record, fields in plan.changes:
        kind = _KINDS[op]
        yield Drift(record.id, kind, fields if kind == "different" else None)
