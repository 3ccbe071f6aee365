"""`sync verify`: compare the mirror with a Starter Export, and say where they differ; if asked, fetch those records anew.

Invariants:

- What is compared are the rows, never a hash of them, by the reading and the rules of `sync full-starter`.
- What has changed since is left out on both sides: what the mirror has from deltas that are newer than the watermark which the
  export sets, and what the export has that the deltas have yet to bring.
- No record is changed, unless it is asked for; then by the service's own answer, as `sync refetch` does, and never by the file.
- A record that differs is handed on as soon as it is found: memory does not grow with how many there are.
- What is kept in the mirror is the result alone: up to when, over how many rows, how many records differ.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date

from delta_mirror.config import Config
from delta_mirror.core.drift import Drift, Kind
from delta_mirror.core.model import Stream
from delta_mirror.core.plan import Counts
from delta_mirror.core.values import EPOCH, SECOND, read_ticks
from delta_mirror.errors import RefusedError, UnfinishedError
from delta_mirror.jobs.outcome import EndedRun, outcome_of_run
from delta_mirror.jobs.refetch import Refetched, refetch_records
from delta_mirror.jobs.selection import Selection
from delta_mirror.jobs.session import Session, StoppedError, deadline, open_mirror, open_session
from delta_mirror.jobs.starter import Part, Place, Starter, Watch, folder_for_work, open_starter, refuse_future
from delta_mirror.mirror.baseline import Dates
from delta_mirror.mirror.comparison import Comparison
from delta_mirror.mirror.file import own_time
from delta_mirror.mirror.read import Reader, StreamState
from delta_mirror.mirror.staged import Aside
from delta_mirror.mirror.staging import Staging
from delta_mirror.mirror.workspace import Check
from delta_mirror.mirror.write import Mirror

DEFAULT_OVERLAP = 600  # seconds, for a configuration without [dds]

Found = Callable[[Stream, Drift], None]
"""Is told of each record that differs, as it is found; it should not wait for anything."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the operator asks of a run.

    `source` is a folder or an address, None for the configured one. `repair` fetches anew what differs. `wait` is how many
    seconds another run is waited for, below 0 without end. `deadline` is how many seconds the run may take.
    """

    source: str | None = None
    selection: Selection = field(default_factory=Selection)
    wanted_date: date | None = None
    repair: bool = False
    wait: float = 0.0
    deadline: float | None = None


@dataclass(slots=True)
class Verified:
    """What became of one entity of one location.

    `baseline` is the date of the export, `through` up to when it was compared, None where it was not: then `error` says why.
    `rows` are those of the export that were compared, `newer` the records that were left out because they have changed since,
    `aside` what of the export belongs to no record, `not_compared` the tables of an earlier export that this one lacks.
    """

    stream: Stream
    baseline: str
    through: str | None = None
    rows: int = 0
    newer: int = 0
    kinds: dict[Kind, int] = field(default_factory=lambda: {"missing": 0, "extra": 0, "different": 0})
    repaired: int = 0
    aside: Sequence[Aside] = ()
    not_compared: Sequence[str] = ()
    error: RefusedError | UnfinishedError | None = None

    @property
    def differing(self) -> int:
        """How many records differ, those that were repaired included."""
        return sum(self.kinds.values())


@dataclass(slots=True)
class VerifyReport(EndedRun):
    """What became of a run, which writes nothing where nothing can be compared.

    `notes` say what was passed over, `repairs` what became of each record that was fetched anew.
    """

    streams: list[Verified] = field(default_factory=list)
    calls: int = 0
    pages: int = 0
    notes: list[str] = field(default_factory=list)
    repairs: list[Refetched] = field(default_factory=list)

    @property
    def counts(self) -> Counts:
        """What the repairs have done."""
        return sum((record.counts for record in self.repairs), Counts())

    @property
    def is_whole(self) -> bool:
        """Whether all was compared and, if asked for, everything that differs was asked for anew."""
        return self.is_excused and not any(record.is_expected for record in self.repairs)

    @property
    def is_excused(self) -> bool:
        """Whether that is so but for what the maintenance window explains."""
        left = any(record.outcome in ("failed", "not asked") and not record.is_expected for record in self.repairs)
        return not self.trouble and not left and not self.counts.quarantined and not any(each.error for each in self.streams)

    def total(self, kind: Kind) -> int:
        """Return how many records differ in this way."""
        return sum(each.kinds[kind] for each in self.streams)

    @property
    def has_drift(self) -> bool:
        """Whether any record differs."""
        return any(each.differing for each in self.streams)


def run_verify(
    config: Config,
    wishes: Wishes | None = None,
    *,
    found: Found = lambda stream, drift: None,
    stop: threading.Event | None = None,
    watch: Watch = lambda progress: None,
    now: Callable[[], float] = time.time,
) -> VerifyReport:
    """Compare the selected streams with a Starter Export. *stop*, once set, ends the run; *watch* is told of every chunk read.

    Raises:
        RefusedError: there is no mirror, or configuration, mirror or source cannot be used; nothing was written.
        UnfinishedError: the source or the list of locations cannot be reached; nothing was written.
        BusyError: another run holds the mirror.
    """
    wishes = wishes or Wishes()
    stop = stop or threading.Event()
    report = VerifyReport(started_at=now())
    with Reader.open(config.mirror.path) as reader:  # a mirror is made by what fills it, and not by a path that is mistyped here
        places = _places(config, reader.read_streams())
    with ExitStack() as stack:
        stack.enter_context(deadline(wishes.deadline, stop, report.trouble, "what was not compared is not known; call again"))
        mirror, session = stack.enter_context(_opened(config, wishes, stop, now))
        work = _Work(
            mirror, wishes, report, found, _check_of(stop), DEFAULT_OVERLAP if config.dds is None else config.dds.overlap
        )
        try:
            folder = stack.enter_context(folder_for_work(config, is_file=True))
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
                    check=work.check,
                )
            )
            _note_source(starter, report)
            for part in starter.parts:
                work.verify(starter, part)
            if session is not None and report.id is not None:
                work.repair(session, report.id, stop)
        except StoppedError:
            pass
        report.outcome = outcome_of_run(is_stopped=stop.is_set(), is_whole=report.is_whole, is_excused=report.is_excused)
        mirror.has_drift = report.has_drift
        report.ended_at = now()
        if report.id is not None:
            report.calls = 0 if session is None else session.tally.calls
            mirror.end_run(report.id, report.outcome, None, report.calls, report.pages, at=report.ended_at)
    return report


@contextmanager
def _opened(
    config: Config, wishes: Wishes, stop: threading.Event, now: Callable[[], float]
) -> Iterator[tuple[Mirror, Session | None]]:
    """Open the mirror, and the service where it is needed."""
    if wishes.repair:
        with open_session(config, stop=stop, wait=wishes.wait, now=now) as session:
            yield session.mirror, session
    else:
        with open_mirror(config, stop=stop, wait=wishes.wait, now=now) as mirror:
            yield mirror, None


def _places(config: Config, known: Sequence[StreamState]) -> list[Place] | None:
    """Return the locations that are meant: the configured ones, else those that the mirror knows, None if it knows of none.

    The service is not asked: of a location that the mirror has never met there is nothing to verify.
    """
    if config.dds is not None and config.dds.locations:
        return [(each.tenant_id, each.location_id) for each in config.dds.locations]
    return list(dict.fromkeys((state.stream.tenant_id, state.stream.location_id) for state in known)) or None


def _check_of(stop: threading.Event) -> Check:
    def check() -> None:
        if stop.is_set():
            raise StoppedError

    return check


def _note_source(starter: Starter, report: VerifyReport) -> None:
    report.notes += starter.passed_over
    for tenant_id, location_id in starter.incomplete:
        report.trouble.append(f"tenant {tenant_id}, location {location_id}: the export has no complete run to compare with")
    if not starter.parts and not starter.incomplete:
        report.trouble.append(
            "the export has nothing of what is configured and selected; look at [dds] locations and entities, at SOURCE, and at "
            "the options that select"
        )


@dataclass(slots=True)
class _Work:
    """What a run works with. `overlap` is seconds: what became visible late may not be in the mirror yet."""

    mirror: Mirror
    wishes: Wishes
    report: VerifyReport
    found: Found
    check: Check
    overlap: int
    to_repair: list[Refetched] = field(default_factory=list)

    def verify(self, starter: Starter, part: Part) -> None:
        """Compare one entity of one location; what forbids it is in the report, too."""
        known = self.mirror.read_stream(part.stream)
        own = Verified(part.stream, part.dates.baseline, not_compared=sorted(set(known.starter_tables) - part.tables))
        self.report.streams.append(own)
        try:
            refuse_future(part, self.mirror.now())
            with starter.staged(part, self.mirror.erased) as staging:
                self._compare(staging, part, known, own)
        except (RefusedError, UnfinishedError) as error:
            own.error = error
        else:
            self._keep(own)

    def repair(self, session: Session, run_id: int, stop: threading.Event) -> None:
        """Fetch anew what differs."""
        self.report.repairs = self.to_repair
        self.report.pages = refetch_records(session, self.to_repair, run_id, stop)
        done = Counter(record.stream for record in self.to_repair if record.is_done)
        for own in self.report.streams:
            own.repaired = done[own.stream]
            if own.repaired:
                self._keep(own)

    def _compare(self, staging: Staging, part: Part, known: StreamState, own: Verified) -> None:
        until = self._complete_until(known)
        with self.mirror.attached(staging.path), self.mirror.transaction(keep=False) as tx:
            comparison = Comparison(tx, staging, part.dates.watermark, self.check, complete_until=until)
            for drift in comparison.drifts():
                own.kinds[drift.kind] += 1
                self.found(part.stream, drift)
                if self.wishes.repair:
                    self.to_repair.append(Refetched(part.stream, drift.id, is_known=drift.kind != "missing"))
            own.rows, own.newer, own.aside = comparison.count_rows(), comparison.newer, tuple(staging.aside)
        through = min(part.dates.watermark, part.dates.watermark if until is None else until)
        own.through = own_time((through - EPOCH) / SECOND)

    def _complete_until(self, known: StreamState) -> int | None:
        """Return up to when the mirror is known to be complete, None where it never was: then all that it lacks is drift.

        After a drain what becomes visible late may be missing; what a starter has set lies far enough back already.
        """
        moments = []
        if known.caught_up_at and (caught_up := read_ticks(known.caught_up_at)) is not None:
            moments.append(caught_up - self.overlap * SECOND)
        if known.baseline:
            moments.append(Dates.of(date.fromisoformat(known.baseline)).watermark)
        return max(moments, default=None)

    def _keep(self, own: Verified) -> None:
        """Note the result in the mirror."""
        with self.mirror.transaction() as tx:
            if self.report.id is None:
                self.report.id = tx.begin_run("verify", at=self.report.started_at)
            left = own.differing - own.repaired
            tx.note(own.stream, verified_through=own.through, verified_rows=own.rows, verified_differing=left)
