"""`--dry-run`: a drain that asks and decides as any other, and writes nothing.

Invariants:

- The mirror is read and never written, but for the ledger of calls.
- What the drain would have written it keeps in memory, so that a record that comes twice is told once.
"""

from collections.abc import Callable
from typing import NamedTuple

from delta_mirror.core.model import Page, Stream
from delta_mirror.core.paging import Walk
from delta_mirror.core.place import Place
from delta_mirror.core.plan import Drained, Effect, Held, decide
from delta_mirror.core.window import Window
from delta_mirror.errors import UnfinishedError
from delta_mirror.jobs.drain import Drain, Reading, Report, Service, ids_of
from delta_mirror.mirror.read import StreamState
from delta_mirror.mirror.transaction import Transaction
from delta_mirror.mirror.write import Mirror


class _Left(NamedTuple):
    """What the rehearsal would have left of one id, and the change date of what the mirror really holds, in ticks."""

    held: Held
    in_mirror: int | None


class Rehearsal(Drain):
    """A drain that writes nothing; see `Drain`."""

    def __init__(
        self, stream: Stream, service: Service, mirror: Mirror, reading: Reading, watch: Callable[[Report], None]
    ) -> None:
        super().__init__(stream, service, mirror, reading, run_id=0, watch=watch)
        self._left: dict[str, _Left] = {}

    def _apply(self, tx: Transaction, page: Page, drained: Drained, window: Window, *, looks_back: bool) -> None:
        ids = ids_of(page.entries)
        held = tx.current(self._stream, ids)
        known = held | {id_: self._left[id_].held for id_ in ids if id_ in self._left}
        plan = decide(known, page.entries, drained, looks_back=looks_back)
        for id_, effect in plan.effects.items():
            before = held[id_].changed if id_ in held else None
            self._left[id_] = _Left(_held_after(effect), before)
        for entry in plan.erased:
            if entry.id is not None and entry.changed is not None:
                self._meet_erased(entry.id, entry.changed.ticks, known[entry.id].changed, held[entry.id].changed)
        self.report.counts += plan.counts()

    def _meet_erased(self, id_: str, listed: int, before: int | None, in_mirror: int | None) -> None:
        """Remember under which date the feed lists somebody who was erased: a drain would note it, and counts by it."""
        newest = listed if before is None else max(listed, before)
        self._left[id_] = _Left(Held(None, None, newest, deleted=False, is_erased=True), in_mirror)

    def _keep_place(self, tx: Transaction, place: Place | None) -> None:
        """Leave the place as it is: the next real drain begins where the last one ended."""

    def _count_known(self, after: int, upto: int) -> int:
        count = self._mirror.count_known(self._stream, after, upto)
        for left in self._left.values():
            count += _lies_in(left.held.changed, after, upto) - _lies_in(left.in_mirror, after, upto)
        return count

    def _complete(self, known: StreamState, walk: Walk, window: Window, *, resumes: bool) -> None:
        self.report.state = "gap" if known.gap_from or window.gap else "following"

    def _fail(self, error: UnfinishedError) -> None:
        self.report.state, self.report.error = "failing", error


def _held_after(effect: Effect) -> Held:
    record = effect.record
    changed = record.changed.ticks if record.changed else None
    if record.deleted:
        return Held(record if effect.had_rows else None, record, changed, deleted=True)
    return Held(record, None, changed, deleted=False)


def _lies_in(ticks: int | None, after: int, upto: int) -> bool:
    return ticks is not None and after < ticks <= upto
