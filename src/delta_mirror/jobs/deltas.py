"""`sync deltas`: bring every configured stream up to date, several at a time, with one writer.

Invariants:

- One bad stream does not stop the others.
- Whoever was caught up longest ago comes first, but a turn that brings nothing counts as one: where a run is too short for all
  streams, all have their turn in the end, also behind those that hang or fail every time.
- Calls are counted in the mirror before they are sent, also by a dry run where there is a mirror.
- Told to stop, the run stops at once: the page in hand is committed or dropped whole.
- A 403 is the stream's own matter, unless every stream of a location gets it: then the location is left alone for a while.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from delta_mirror.config import Config
from delta_mirror.core.model import Stream
from delta_mirror.core.plan import Counts
from delta_mirror.core.values import EPOCH, SECOND, read_ticks
from delta_mirror.core.window import REACH
from delta_mirror.errors import StreamRefusedError, UnfinishedError
from delta_mirror.jobs.drain import Drain, Reading, Report
from delta_mirror.jobs.enums import refresh_enums
from delta_mirror.jobs.outcome import EndedRun, outcome_of_run
from delta_mirror.jobs.rehearsal import Rehearsal
from delta_mirror.jobs.selection import Selection
from delta_mirror.jobs.session import Session, StoppedError, deadline, open_session, unless_stopped, work_through
from delta_mirror.mirror.file import own_time
from delta_mirror.mirror.ledger import Ledger
from delta_mirror.mirror.write import Mirror


@dataclass(slots=True)
class RunReport(EndedRun):
    """What became of a run.

    `expected` is trouble within the maintenance window of the service, which explains it. `warnings` are what went wrong beside
    the streams and keeps nothing from being done.
    """

    streams: list[Report] = field(default_factory=list)
    calls: int = 0
    expected: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def counts(self) -> Counts:
        """What all streams together have done."""
        return sum((report.counts for report in self.streams), Counts())

    @property
    def pages(self) -> int:
        """How many pages all streams together have read."""
        return sum(report.pages for report in self.streams)

    @property
    def is_whole(self) -> bool:
        """Whether all was done: no stream failed or has a gap, and nothing new is in quarantine."""
        return self.is_excused and not self.expected and not any(each.error for each in self.streams)

    @property
    def is_excused(self) -> bool:
        """Whether all was done but for what the maintenance window explains."""
        is_well = all((not each.error or each.is_expected) and not each.gap for each in self.streams)
        return is_well and not self.trouble and not self.counts.quarantined

    def settle(self, ended_at: float, *, is_stopped: bool) -> None:
        """Note when and how the run has ended."""
        self.ended_at = ended_at
        self.outcome = outcome_of_run(is_stopped=is_stopped, is_whole=self.is_whole, is_excused=self.is_excused)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the operator asks of a run.

    `since` is where to read from, in ticks. `wait` is how many seconds another run is waited for, below 0 without end.
    `deadline` is how many seconds the run may take.
    """

    selection: Selection = field(default_factory=Selection)
    since: int | None = None
    dry_run: bool = False
    wait: float = 0.0
    deadline: float | None = None


def run_deltas(
    config: Config,
    wishes: Wishes | None = None,
    *,
    stop: threading.Event | None = None,
    watch: Callable[[Report], None] = lambda report: None,
    now: Callable[[], float] = time.time,
) -> RunReport:
    """Bring the selected streams up to date. *stop*, once set, ends the run; *watch* is told of every page.

    Raises:
        RefusedError: configuration or mirror cannot be used; nothing was written.
        BusyError: another run holds the mirror.
    """
    dds = config.require_dds()
    wishes = wishes or Wishes()
    stop = stop or threading.Event()
    report = RunReport(started_at=now())
    with ExitStack() as stack:
        # First, so that the time spent waiting for another run counts.
        stack.enter_context(deadline(wishes.deadline, stop, report.trouble, "the next run goes on from there"))
        session = stack.enter_context(open_session(config, stop=stop, wait=wishes.wait, dry_run=wishes.dry_run, now=now))
        mirror, service = session.mirror, session.service
        if not wishes.dry_run:
            report.id = mirror.begin_run("deltas", at=report.started_at)
        streams = _choose_streams(session, wishes.selection, stop, report)
        begun: list[Drain] = []
        reading = Reading(dds.items_per_page, dds.overlap * SECOND, dds.first_window * SECOND, wishes.since)

        def drain(stream: Stream) -> Report:
            def go_on(progress: Report) -> None:
                watch(progress)
                if stop.is_set():
                    raise StoppedError

            own = (
                Rehearsal(stream, service, mirror, reading, go_on)
                if report.id is None
                else Drain(stream, service, mirror, reading, report.id, go_on)
            )
            begun.append(own)
            drained = own.run()
            drained.is_expected = drained.error is not None and session.expects(drained.error)
            return drained

        work_through(_most_behind_first(streams, mirror), drain, dds.parallel, stop)
        # Of a run that was stopped those that were broken off, too: what they have done is in the mirror.
        report.streams = sorted((each.report for each in begun), key=lambda each: each.stream)
        if report.id is not None:
            _put_back(report.streams, mirror, service.clock())
        if report.id is not None and not stop.is_set():
            drained = {each.stream for each in report.streams if not each.error}
            warning = refresh_enums(session, [stream for stream in streams if stream in drained], stop)
            report.warnings += [warning] if warning else []
        report.calls = session.tally.calls
        doubts = (session.doubt_clock(), _doubt_since(wishes.since, service.clock()))
        report.warnings += [doubt for doubt in doubts if doubt]
        _heed_refusals(report, session.ledger, dry_run=wishes.dry_run)
        report.settle(now(), is_stopped=stop.is_set())
        if report.id is not None:
            # Every page has added its counts with what it wrote. Of a stopped run one may be about to be committed just now.
            counts = None if stop.is_set() else report.counts
            mirror.end_run(report.id, report.outcome, counts, report.calls, report.pages, at=report.ended_at)
    return report


def _doubt_since(since: int | None, now: int) -> str | None:
    """Return what an operator should know of where he wanted to read from, where the feed cannot do as he wished."""
    if since is None or now - REACH <= since <= now:
        return None
    if since > now:
        return "--since lies ahead of the service's clock: nothing can have changed since"
    return (
        "--since lies further back than the feed's seven days: what it brought may begin later than that. "
        "Only a Starter Export has the time before"
    )


def _choose_streams(session: Session, selection: Selection, stop: threading.Event, report: RunReport) -> list[Stream]:
    """Return the selected streams; where there are none, *report* says why, unless the run was told to stop."""
    try:
        streams = unless_stopped(session.streams, stop)
    except StoppedError:
        return []
    except UnfinishedError as error:
        (report.expected if session.expects(error) else report.trouble).append(str(error))
        return []
    chosen = [stream for stream in streams if selection.takes(stream)]
    if not chosen:
        report.trouble.append("no stream is selected; look at [dds] locations and entities, and at the options that select")
    return chosen


def _most_behind_first(streams: Sequence[Stream], mirror: Mirror) -> list[Stream]:
    """Return *streams* as they had their turn, those that never had one before all others, else in the order given."""
    turns = {
        state.stream: max(read_ticks(at or "") or 0 for at in (state.caught_up_at, state.put_back_at))
        for state in mirror.read_streams()
    }
    return sorted(streams, key=lambda stream: turns.get(stream, 0))


def _put_back(reports: Sequence[Report], mirror: Mirror, now: int) -> None:
    """Let those whose turn has ended by *now*, in ticks, without a page, or with a failure, come behind the others next time."""
    idle = [each.stream for each in reports if each.error or not each.pages]
    if idle:
        with mirror.transaction() as tx:
            for stream in idle:
                tx.note(stream, put_back_at=own_time((now - EPOCH) // SECOND))


def _heed_refusals(report: RunReport, ledger: Ledger, *, dry_run: bool) -> None:
    """Leave alone, for a while, every location that has answered 403 to all of its streams: that is how a limit may look."""
    by_place: dict[tuple[int, int], list[Report]] = {}
    for each in report.streams:
        by_place.setdefault(each.stream[:2], []).append(each)
    for place, of_place in sorted(by_place.items(), key=lambda each: each[0]):
        refused = [each for each in of_place if isinstance(each.error, StreamRefusedError) and each.error.status == 403]
        # Of a single stream it is the stream's own matter, and of those that were not selected nothing is known.
        if len(of_place) > 1 and len(refused) == len(of_place) >= len(ledger.sharing(*place)):
            report.trouble.append(
                f"tenant {place[0]}, location {place[1]}: the service answers 403 to every stream; either it limits our calls, "
                "or the location is not activated for this account. The next runs leave it alone for a quarter of an hour"
            )
            if not dry_run:
                ledger.limited(refused[0].stream, None, "the service refuses every stream")
