"""`sync full-starter`: load a Starter Export as the new baseline.

Invariants:

- One entity of one location is loaded whole or not at all, and one that is refused does not stop the others.
- A file is refused before the mirror is touched, and the change-over is one transaction: a run that is killed, or told to stop,
  has changed over some entities and left the others as they were.
- The service is not called, unless the configuration names no location.
- A run that changes nothing leaves no trace: its row is written with the first change-over.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date

from delta_mirror.config import Config
from delta_mirror.core.model import Stream
from delta_mirror.core.plan import Counts
from delta_mirror.core.values import DAY, EPOCH, SECOND
from delta_mirror.errors import DiskFullError, ExportError, RefusedError, UnfinishedError
from delta_mirror.jobs.outcome import EndedRun
from delta_mirror.jobs.selection import Selection
from delta_mirror.jobs.session import StoppedError, deadline, open_mirror, open_session, unless_stopped
from delta_mirror.jobs.starter import Part, Place, Starter, Watch, check_source, folder_for_work, open_starter, refuse_future
from delta_mirror.mirror.baseline import Loaded, change_over, find_lack, rehearse
from delta_mirror.mirror.comparison import Comparison
from delta_mirror.mirror.read import StreamState
from delta_mirror.mirror.staging import Staging
from delta_mirror.mirror.workspace import Check
from delta_mirror.mirror.write import Mirror

OLDEST = 6 * DAY  # ticks; the feed reaches 7 days back, and a run of deltas has to follow within the last of them
_AS_IT_WAS = "the mirror is as it was"


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the operator asks of a run.

    `source` is a folder or an address, None for the configured one. `force` loads what would be refused for its age or its size.
    `wait` is how many seconds another run is waited for, below 0 without end. `deadline` is how many seconds the run may take.
    """

    source: str | None = None
    selection: Selection = field(default_factory=Selection)
    wanted_date: date | None = None
    force: bool = False
    dry_run: bool = False
    wait: float = 0.0
    deadline: float | None = None


@dataclass(slots=True)
class Report:
    """What became of one entity of one location. `error` is what it was refused for, or could not be done for."""

    stream: Stream
    baseline: str
    loaded: Loaded | None = None
    error: RefusedError | UnfinishedError | None = None


@dataclass(slots=True)
class BaselineReport(EndedRun):
    """What became of a run; `notes` say what was passed over."""

    streams: list[Report] = field(default_factory=list)
    calls: int = 0
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def counts(self) -> Counts:
        """What all streams together have done."""
        return sum((report.loaded.counts for report in self.streams if report.loaded), Counts())

    @property
    def has_loaded(self) -> bool:
        """Whether anything was loaded."""
        return any(report.loaded for report in self.streams)

    @property
    def is_whole(self) -> bool:
        """Whether all was done: no entity was refused, and nothing new is in quarantine."""
        return not self.trouble and not self.counts.quarantined and not any(report.error for report in self.streams)


def run_baseline(
    config: Config,
    wishes: Wishes | None = None,
    *,
    stop: threading.Event | None = None,
    watch: Watch = lambda progress: None,
    now: Callable[[], float] = time.time,
) -> BaselineReport:
    """Load the selected streams from a Starter Export. *stop*, once set, ends the run; *watch* is told of every chunk read.

    Raises:
        RefusedError: configuration, mirror or source cannot be used; nothing was written.
        UnfinishedError: the source or the list of locations cannot be reached; nothing was written.
        BusyError: another run holds the mirror.
    """
    wishes = wishes or Wishes()
    stop = stop or threading.Event()
    report = BaselineReport(started_at=now())
    check_source(config, wishes.source)
    with ExitStack() as stack:
        stack.enter_context(deadline(wishes.deadline, stop, report.trouble, "what was not loaded is as it was; call again"))
        mirror, places = stack.enter_context(_opened(config, wishes, stop, report, now))
        # A rehearsal without a mirror makes no file beside it, either.
        is_file = config.mirror.path.exists()
        try:
            folder = stack.enter_context(folder_for_work(config, is_file=is_file))
            starter = stack.enter_context(
                open_starter(
                    config,
                    wishes.source,
                    places,
                    wishes.selection,
                    wanted_date=wishes.wanted_date,
                    folder=folder,
                    mask=mirror.mask,
                    watch=watch,
                    check=_check_of(stop),
                )
            )
            _note_source(starter, report)
            for part in starter.parts:
                own = _load(starter, part, mirror, wishes, report, now)
                if isinstance(own.error, DiskFullError):
                    left = len(starter.parts) - len(report.streams)
                    report.trouble += [f"of the export {left} more {'was' if left == 1 else 'were'} not tried"] if left else []
                    break
        except StoppedError:
            pass
        report.outcome = "stopped" if stop.is_set() else "done" if report.is_whole else "unfinished"
        report.ended_at = now()
        if report.id is not None:
            mirror.end_run(report.id, report.outcome, None, report.calls, 0, at=report.ended_at)
    return report


@contextmanager
def _opened(
    config: Config, wishes: Wishes, stop: threading.Event, report: BaselineReport, now: Callable[[], float]
) -> Iterator[tuple[Mirror, Sequence[Place] | None]]:
    """Open the mirror, and find out which locations are meant; None: all that the export has."""
    if config.dds is None or config.dds.locations:
        with open_mirror(config, stop=stop, wait=wishes.wait, dry_run=wishes.dry_run, now=now) as mirror:
            places = None if config.dds is None else [(each.tenant_id, each.location_id) for each in config.dds.locations]
            if places is None:
                report.warnings.append(
                    f"{config.path} has no section [dds]: every location that the export has is taken, and the mirror does not "
                    "know whose it is until the section is there"
                )
            yield mirror, places
        return
    with open_session(config, stop=stop, wait=wishes.wait, dry_run=wishes.dry_run, now=now) as session:
        try:
            places = list(dict.fromkeys(stream[:2] for stream in unless_stopped(session.streams, stop)))
        except UnfinishedError as error:
            raise UnfinishedError(
                f"{error}. The configuration names no location, and so the service had to be asked for them. To load without it, "
                "list them as [[dds.locations]] with tenant_id and location_id"
            ) from error
        except StoppedError:
            places = []
        report.calls = session.tally.calls
        yield session.mirror, places


def _check_of(stop: threading.Event) -> Callable[[], None]:
    def check() -> None:
        if stop.is_set():
            raise StoppedError

    return check


def _note_source(starter: Starter, report: BaselineReport) -> None:
    report.notes += starter.passed_over
    for tenant_id, location_id in starter.incomplete:
        report.trouble.append(
            f"tenant {tenant_id}, location {location_id}: the export has no complete run, and nothing of it was loaded"
        )
    if not starter.parts and not starter.incomplete:
        report.trouble.append(
            "the export has nothing of what is configured and selected; look at [dds] locations and entities, at SOURCE, and at "
            "the options that select"
        )


def _load(
    starter: Starter, part: Part, mirror: Mirror, wishes: Wishes, report: BaselineReport, now: Callable[[], float]
) -> Report:  # fmt: skip
    """Load one entity of one location and return what became of it; what forbids it is in there, too."""
    own = Report(part.stream, part.dates.baseline)
    known = mirror.read_stream(part.stream)
    try:
        refuse_future(part, now())
        if not wishes.force:
            _refuse_old(part, now())
            _refuse_without_a_table(part, known)
        with starter.staged(part, mirror.erased) as staging:
            own.loaded = _carry_over(mirror, staging, part, known, wishes, report, starter.check, now)
    except (RefusedError, UnfinishedError) as error:
        own.error = error
    report.streams.append(own)
    return own


def _refuse_old(part: Part, now: float) -> None:
    if part.dates.watermark < EPOCH + int(now * SECOND) - OLDEST:
        raise ExportError(
            f"{part.stream}: the export is of {part.dates.baseline}, so that deltas would have to begin over 6 days back, and "
            f"the feed reaches 7; {_AS_IT_WAS}. Ask for a newer export; --force loads this one, and leaves a gap behind it"
        )


def _refuse_without_a_table(part: Part, known: StreamState) -> None:
    lacking = sorted(set(known.starter_tables) - part.tables)
    if lacking:
        raise ExportError(
            f"{part.stream}: the export of {part.dates.baseline} lacks {', '.join(lacking)}, which an earlier one brought; "
            f"{_AS_IT_WAS}. Look whether the export is complete; if the service has given the table up, --force loads the rest "
            "and leaves its rows as they are"
        )


def _carry_over(
    mirror: Mirror,
    staging: Staging,
    part: Part,
    known: StreamState,
    wishes: Wishes,
    report: BaselineReport,
    check: Check,
    now: Callable[[], float],
) -> Loaded:
    """Change the stream over to what *staging* has, or only find out what that would do."""
    with mirror.attached(staging.path), mirror.transaction(keep=not wishes.dry_run) as tx:
        comparison = Comparison(tx, staging, part.dates.watermark, check)
        lack = find_lack(comparison, staging)
        if lack and not wishes.force:
            raise ExportError(
                f"{part.stream}: the export of {part.dates.baseline} may be broken: {lack}; {_AS_IT_WAS}. If that is right, "
                "--force loads it, and deletes them"
            )
        if wishes.dry_run:
            return rehearse(tx, staging, comparison, known)
        run_id = report.id or tx.begin_run("full-starter", at=report.started_at)
        loaded = change_over(tx, staging, comparison, part.dates, known, run_id, now())
    report.id = run_id
    return loaded
