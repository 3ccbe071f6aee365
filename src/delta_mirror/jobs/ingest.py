"""`sync nexus ingest`: take Nexus messages from files, a batch in each transaction.

Invariants:

- Killed at any instant and run again over the same files, it ends as if it had run once: what was taken comes again, and
  changes nothing.
- A file that cannot be read to its end does not stop the others, and what came before in it is taken.
- Nothing is written before all paths are known to be there.
- A dry run does all of it in one transaction that it then drops.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from delta_mirror.config import Config
from delta_mirror.jobs.intake import Intake, Tallied, make_tables
from delta_mirror.jobs.outcome import EndedRun
from delta_mirror.jobs.session import StoppedError, deadline, open_mirror, unless_stopped
from delta_mirror.mirror.write import Mirror
from delta_mirror.nexus.delivery import Delivery
from delta_mirror.nexus.files import DamagedError, Source, find_sources

COMMAND = "nexus ingest"
BATCH = 2000  # messages in a transaction
BATCH_BYTES = 16 << 20  # of their bodies: pictures are large


@dataclass(slots=True)
class IngestReport(EndedRun):
    """What became of a run. `files` counts those that were begun."""

    files: int = 0
    of_files: int = 0
    tallied: Tallied = field(default_factory=Tallied)
    said: list[str] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Whether all was done: every file read to its end, and nothing new in quarantine."""
        return not self.trouble and not self.tallied.new_in_quarantine


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the operator asks of a run.

    `wait` is how many seconds another run is waited for, below 0 without end; `deadline` how many seconds the run may take.
    """

    paths: Sequence[str] = ()
    dry_run: bool = False
    wait: float = 0.0
    deadline: float | None = None


def run_ingest(
    config: Config,
    wishes: Wishes,
    *,
    stop: threading.Event | None = None,
    watch: Callable[[IngestReport], None] = lambda report: None,
    now: Callable[[], float] = time.time,
) -> IngestReport:
    """Take what lies at the paths. *stop*, once set, ends the run; *watch* is told of every batch.

    Raises:
        RefusedError: a path, the configuration or the mirror cannot be used; nothing was written.
        BusyError: another run holds the mirror.
    """
    sources = find_sources(wishes.paths)
    stop = stop or threading.Event()
    report = IngestReport(started_at=now(), of_files=len(sources))
    with ExitStack() as stack:
        again = "the same files can be read again without harm"
        stack.enter_context(deadline(wishes.deadline, stop, report.trouble, again))
        mirror = stack.enter_context(open_mirror(config, stop=stop, wait=wishes.wait, dry_run=wishes.dry_run, now=now))
        if wishes.dry_run:
            stack.enter_context(mirror.rehearsal())
        else:
            report.id = mirror.begin_run(COMMAND, at=report.started_at)
        _take_all(mirror, sources, report, stop, watch)
        report.outcome = "stopped" if stop.is_set() else "done" if report.is_whole else "unfinished"
        report.ended_at = now()
        if report.id is not None:
            mirror.end_run(report.id, report.outcome, report.tallied.counts(), 0, 0, at=report.ended_at)
    return report


def _take_all(
    mirror: Mirror, sources: Sequence[Source], report: IngestReport, stop: threading.Event, watch: Callable[[IngestReport], None]
) -> None:
    make_tables(mirror)
    intake = Intake(mirror, report.id or 0, source=COMMAND)
    report.tallied, report.said = intake.tallied, intake.said
    batches = _batches(sources, report)
    try:
        # In a thread of its own: standard input can keep a run waiting that is told to stop.
        while batch := unless_stopped(lambda: next(batches, None), stop):
            intake.take(batch)
            watch(report)
            if stop.is_set():
                return
    except StoppedError:
        return


def _batches(sources: Sequence[Source], report: IngestReport) -> Iterator[list[Delivery]]:
    """Yield what lies in *sources*, in batches over the borders of files; *report* says which cannot be read to their ends."""
    batch: list[Delivery] = []
    size = 0
    for delivery in _deliveries(sources, report):
        batch.append(delivery)
        size += len(delivery.body)
        if len(batch) == BATCH or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _deliveries(sources: Sequence[Source], report: IngestReport) -> Iterator[Delivery]:
    for source in sources:
        report.files += 1
        found = 0
        try:
            for body in source.bodies():
                found += 1
                yield Delivery(body)
        except DamagedError as error:
            told = "nothing of it was" if not found else f"the {found} messages before that were"
            report.trouble.append(f"{source.name}: {error}; {told} taken. Mend the file and read it again: that does no harm")
