"""`sync changes`: the log of changes, in the order in which they were carried out, once or as it grows.

Invariants:

- `seq` ascends. Each change that meets the filters comes once, and whatever is committed later has a higher `seq`: there is
  one writer, and no number is ever given twice. So whoever remembers the last `seq` that he has read, and reads on after it,
  misses nothing, across stops of his own and of ours. Numbers may be missing; that means nothing.
- To read on from where the log was pruned, or from where it never was, is refused: what would come then is not everything.
- Who asks for a time or a run of which something was pruned gets what is left, and is told that it is not everything.
- Following keeps nothing open between two looks: a run that ends meanwhile leaves the mirror as if nobody had looked.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from delta_mirror.config import Config
from delta_mirror.core.values import EPOCH, SECOND
from delta_mirror.errors import RefusedError, UnfinishedError
from delta_mirror.jobs.selection import Selection
from delta_mirror.mirror.file import own_time
from delta_mirror.mirror.read import BATCH, Logged, Reader

BETWEEN_LOOKS = 1.0  # seconds


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which changes are meant: those that meet every filter given. `since` is in ticks; `after` a `seq`, not included."""

    selection: Selection = field(default_factory=Selection)
    ids: tuple[str, ...] = ()
    run_id: int | None = None
    since: int | None = None
    after: int | None = None

    @property
    def first_moment(self) -> str | None:
        """`since` as the log has its times, None where there is none."""
        return None if self.since is None else own_time((self.since - EPOCH) // SECOND)

    def read(self, reader: Reader, after: int, limit: int | None) -> Iterator[Logged]:
        """Yield those of them that come after *after*, as far as the log goes now."""
        return reader.changes(
            tenants=self.selection.tenants,
            locations=self.selection.locations,
            entities=self.selection.entities,
            # GUIDs are held in lower case; an id that is none is held as the service wrote it.
            ids=sorted({spelling for id_ in self.ids for spelling in (id_, id_.lower())}),
            run_id=self.run_id,
            since=self.first_moment,
            after=after,
            limit=limit,
        )


def read_changes(config: Config, wanted: Wanted | None = None, *, limit: int | None = None) -> Iterator[Logged]:
    """Yield the logged changes that are wanted, as far as the log goes now.

    Raises:
        MirrorFileError: there is no mirror, or it cannot be read.
        RefusedError: the log cannot be read on from `after`; nothing was yielded.
        UnfinishedError: likewise, or it was pruned meanwhile beyond what was yielded.
    """
    wanted = wanted or Wanted()
    seen, left = wanted.after, limit
    with Reader.open(config.mirror.path) as reader:
        end = reader.highest_seq()
        while left is None or left > 0:
            size = BATCH if left is None else min(BATCH, left)
            with reader.one_state():  # what is pruned while somebody reads is not passed over in silence
                if seen is not None:
                    _check_place(config, reader, seen)
                batch = [change for change in wanted.read(reader, seen or 0, size) if change.seq <= end]
            yield from batch
            if len(batch) < size:
                return
            seen = batch[-1].seq
            left = None if left is None else left - size


def what_is_forgotten(config: Config, wanted: Wanted) -> tuple[str, bool] | None:
    """Return, where the log was pruned, what to say of that, and whether something is gone that *wanted* asks for by time or run.

    None where nothing is missing: the log was never pruned, or only before what is wanted.

    Raises:
        MirrorFileError: there is no mirror, or it cannot be read.
    """
    with Reader.open(config.mirror.path) as reader:
        forgotten = reader.forgotten()
    if not forgotten.through or wanted.after is not None:  # who reads on from a number is refused where something is missing
        return None
    if wanted.run_id is not None and wanted.run_id > forgotten.run_id:
        return None
    since = wanted.first_moment
    if since is not None and since > forgotten.at:
        return None
    what = (
        f"the log of {config.mirror.path} was pruned up to seq {forgotten.through}: of what was carried out until {forgotten.at} "
        f"(run {forgotten.run_id}) it has only what something still needs"
    )
    return what, wanted.run_id is not None or since is not None


def follow_changes(
    config: Config, wanted: Wanted | None = None, *, limit: int | None = None, sleep: Callable[[float], object] = time.sleep
) -> Iterator[list[Logged]]:
    """Yield the wanted changes in batches as runs commit them, without end where there is no *limit*.

    The mirror is opened anew for each look, and *sleep* is called between two of them.

    Raises:
        MirrorFileError: there is no mirror, or it cannot be read.
        RefusedError, UnfinishedError: the log cannot be read on, at the beginning or later.
    """
    wanted = wanted or Wanted()
    seen, left = wanted.after, limit
    while left is None or left > 0:
        size = BATCH if left is None else min(BATCH, left)
        with Reader.open(config.mirror.path) as reader, reader.one_state():
            if seen is not None:
                _check_place(config, reader, seen)
            batch = list(wanted.read(reader, seen or 0, size))
            # What did not meet the filters is seen, too: it may be pruned without anything being missed.
            seen = batch[-1].seq if len(batch) == size else reader.highest_seq()
        if batch:
            yield batch
        if left is not None:
            left -= len(batch)
        if len(batch) < size:
            sleep(BETWEEN_LOOKS)


def _check_place(config: Config, reader: Reader, after: int) -> None:
    highest, pruned = reader.highest_seq(), reader.forgotten().through
    if after > highest:
        raise RefusedError(
            f"the log of {config.mirror.path} has only come to seq {highest}, not to {after}: this is another mirror, or one "
            f"restored from a backup; take over its records anew, and then read on with --after {highest}"
        )
    if after < pruned:
        raise UnfinishedError(
            f"what changed after seq {after} can no longer be told whole: the log of {config.mirror.path} was pruned up to seq "
            f"{pruned}; take over the records of the mirror anew, and then read on with --after {highest}"
        )
