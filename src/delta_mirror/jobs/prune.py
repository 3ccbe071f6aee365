"""`sync prune`: forget old entries of the logs, keep what something still needs, and say what was kept and why.

Invariants:

- No file is made where there is no mirror.
- A dry run does all of it in one transaction that it then drops: what it tells is what a run would do.
- Told to stop, it ends between two batches; what was forgotten by then stays so, and the next run goes on.
"""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

from delta_mirror.config import Config
from delta_mirror.core.links import NEXUS
from delta_mirror.errors import RefusedError
from delta_mirror.jobs.due import read_maps
from delta_mirror.jobs.outcome import EndedRun
from delta_mirror.jobs.session import deadline, open_mirror
from delta_mirror.mirror.file import own_time
from delta_mirror.mirror.prune import Pruned, prune
from delta_mirror.mirror.read import Reader

COMMAND = "prune"
SHORTEST = 86_400  # seconds; nearly always a slip of the pen, and what is younger is what people look for


@dataclass(frozen=True, slots=True)
class PruneWishes:
    """What an operator asks of a run; all of it in seconds, `wait` below 0 without end."""

    older_than: float
    dry_run: bool = False
    wait: float = 0.0
    time_limit: float | None = None


@dataclass(slots=True)
class PruneReport(EndedRun):
    """What became of a run. `before` is the time before which an entry is old."""

    before: str = ""
    pruned: Pruned = field(default_factory=Pruned)


def run_prune(
    config: Config,
    wishes: PruneWishes,
    *,
    stop: threading.Event | None = None,
    watch: Callable[[int, int], None] = lambda done, total: None,
    now: Callable[[], float] = time.time,
) -> PruneReport:
    """Forget what is older than asked for. *stop*, once set, ends the run; *watch* is told how far it is, and of how much.

    Raises:
        RefusedError: there is no mirror, a map of Accela cannot be read, or too young things are to go; nothing was written.
        BusyError: another run holds the mirror.
    """
    if wishes.older_than < SHORTEST:
        raise RefusedError("--older-than is shorter than 1d; nothing was forgotten. Most keep 90d or a year (365d)")
    mapped = _mapped_tables(config)
    stop = stop or threading.Event()
    with Reader.open(config.mirror.path):
        pass  # a mirror is made by what fills it
    with ExitStack() as stack:
        started_at = now()
        before = max(0.0, started_at - wishes.older_than)
        report = PruneReport(before=own_time(before), started_at=started_at)
        stack.enter_context(deadline(wishes.time_limit, stop, report.trouble, "the next run goes on with the rest"))
        mirror = stack.enter_context(open_mirror(config, stop=stop, wait=wishes.wait, dry_run=wishes.dry_run, now=now))
        if wishes.dry_run:
            stack.enter_context(mirror.rehearsal())
        else:
            report.id = mirror.begin_run(COMMAND, at=started_at)

        def go_on(done: int, total: int) -> bool:
            watch(done, total)
            return not stop.is_set()

        prune(mirror, before, mapped, report.pruned, go_on)
        report.outcome = "stopped" if stop.is_set() else "done"
        report.ended_at = now()
        if report.id is not None:
            mirror.end_run(report.id, report.outcome, None, 0, 0, at=report.ended_at)
    return report


def _mapped_tables(config: Config) -> dict[str, frozenset[str]]:
    """Return the child tables whose rows are pushed to Accela, by entity of the DDS: rows of Nexus bear their own dates."""
    maps = {} if config.accela is None else read_maps(config, config.accela)
    return {entity: frozenset(its.tables()) for entity, its in maps.items() if entity != NEXUS and its.tables()}
