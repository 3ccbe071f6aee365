"""What the mirror says of the mask that is in force: which rules, and what is left to be done for them.

Invariants:

- Only the rules stand here: names and what becomes of them. No value, and no key.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from delta_mirror.core.mask import EVERY, Rules, folded
from delta_mirror.core.names import fold
from delta_mirror.mirror.read import Reader

IN_FORCE = "mask"  # keys of `_meta`: the rules as they were written, as JSON
UNSWEPT = "mask_unswept"  # there while old values may still lie in free pages
MET = "mask_met"  # JSON, a list of table and column, folded: what the rules name and has come
LIFTED = "mask_lifted"  # JSON, by stream: what was taken away, may be held now, and has not come again


@dataclass(frozen=True, slots=True)
class MaskState:
    """What is left to be done. `is_due`: the configuration has a mask that was not carried out on what the mirror holds.

    `is_unswept`: values that it takes away may still lie in free pages. `lifted` has, by stream, what may be held now and was
    taken away before. `unmet` are columns, as `Table.Column`, that the configuration names and that have never come.
    """

    is_due: bool = False
    is_unswept: bool = False
    lifted: Mapping[str, Sequence[str]] = field(default_factory=dict)
    unmet: Sequence[str] = ()

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to be done."""
        return not (self.is_due or self.is_unswept or self.lifted)


def read_mask_state(reader: Reader, rules: Rules) -> MaskState:
    """Return what is left to be done for *rules*, those of the configuration."""
    return MaskState(
        folded(rules_from(reader.kept(IN_FORCE))) != folded(rules),
        reader.kept(UNSWEPT) is not None,
        lifted_from(reader.kept(LIFTED)),
        _unmet(rules, met_from(reader.kept(MET))),
    )


def _unmet(rules: Rules, met: Collection[tuple[str, str]]) -> list[str]:
    return [
        f"{table}.{column}"
        for table, named in rules.items()
        for column, action in named.items()
        if action != "keep" and column != EVERY and (fold(table), fold(column)) not in met
    ]


def met_from(kept: str | None) -> set[tuple[str, str]]:
    """Return what `_meta` keeps of columns that are named and have come."""
    met: list[tuple[str, str]] = orjson.loads(kept) if kept else []
    return {(table, column) for table, column in met}


def rules_from(kept: str | None) -> Rules:
    """Return the rules that `_meta` keeps as those in force."""
    rules: Rules = orjson.loads(kept) if kept else {}
    return rules


def lifted_from(kept: str | None) -> dict[str, list[str]]:
    """Return what `_meta` keeps of columns that have not come again, by stream: `tenant/location/entity`."""
    lifted: dict[str, list[str]] = orjson.loads(kept) if kept else {}
    return lifted
