"""`sync deltas`: bring every configured stream up to date, several at a time, with one writer.

Invariants:

- One bad stream does not stop the others.
- Calls are counted in the mirror before they are sent, also by a dry run where there is a mirror.
- Told to stop, the run stops at once: the page in hand is committed or dropped whole.
- A 403 is the stream's own matter, unless every stream of a location gets it: then the location is left alone for a while.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue

from delta_mirror.config import Config, DdsSection
from delta_mirror.core.model import Stream
from delta_mirror.core.plan import Counts
from delta_mirror.core.values import SECOND
from delta_mirror.dds.api import Account, Dds, Manners
from delta_mirror.dds.tables import FEED_CHILDREN
from delta_mirror.errors import StreamRefusedError, UnfinishedError
from delta_mirror.jobs.drain import Drain, Reading, Report
from delta_mirror.jobs.rehearsal import Rehearsal
from delta_mirror.jobs.selection import Selection
from delta_mirror.mirror.ledger import Ledger
from delta_mirror.mirror.lock import hold
from delta_mirror.mirror.write import Mirror

LOOK_AROUND = 0.2  # seconds between two looks at whether the run was told to stop


class StoppedError(Exception):
    """The run was told to stop. Raised where a thread would wait or go on, never shown."""


@dataclass(slots=True)
class RunReport:
    """What became of a run. `trouble` is what kept the whole of it from being done, beside what the streams report."""

    id: int | None = None
    started_at: float = 0.0
    ended_at: float = 0.0
    outcome: str = "done"
    streams: list[Report] = field(default_factory=list)
    calls: int = 0
    trouble: list[str] = field(default_factory=list)

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
        return not self.trouble and not self.counts.quarantined and all(not r.error and not r.gap for r in self.streams)


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
        mirror = stack.enter_context(_open_mirror(config, dds, wishes, now))
        sleep = _interruptible(stop)
        ledger = Ledger(mirror, dds.calls_per_minute, dds.calls_per_day, (), now, sleep)
        tally = _Tally(ledger)
        service = _connect(config, dds, tally, _Forgetful(mirror) if wishes.dry_run else mirror, sleep, now)
        stack.callback(service.close)
        if not wishes.dry_run:
            report.id = mirror.begin_run("deltas")
        stack.enter_context(_deadline(wishes.deadline, stop, report))
        streams = _choose_streams(dds, service, ledger, wishes.selection, report)
        reading = Reading(dds.items_per_page, dds.overlap * SECOND, dds.first_window * SECOND, wishes.since)

        def drain(stream: Stream) -> Report:
            def go_on(progress: Report) -> None:
                watch(progress)
                if stop.is_set():
                    raise StoppedError

            if report.id is None:
                return Rehearsal(stream, service, mirror, reading, go_on).run()
            return Drain(stream, service, mirror, reading, report.id, go_on).run()

        finished = _drain_all(streams, drain, dds.parallel, stop)
        report.streams = sorted(finished, key=lambda each: each.stream)
        report.calls = tally.calls
        _heed_refusals(report, ledger, dry_run=wishes.dry_run)
        report.outcome = "stopped" if stop.is_set() else "done" if report.is_whole else "unfinished"
        report.ended_at = now()
        if report.id is not None:
            mirror.end_run(report.id, report.outcome, report.counts, report.calls, report.pages)
    return report


def _choose_streams(dds: DdsSection, service: Dds, ledger: Ledger, selection: Selection, report: RunReport) -> list[Stream]:
    """Return the selected streams; where there are none, *report* says why."""
    try:
        streams = list_streams(dds, service)
    except UnfinishedError as error:
        report.trouble.append(str(error))
        return []
    ledger.share(streams)
    chosen = [stream for stream in streams if selection.takes(stream)]
    if not chosen:
        report.trouble.append("no stream is selected; look at [dds] locations and entities, and at the options that select")
    return chosen


def list_streams(dds: DdsSection, service: Dds) -> list[Stream]:
    """Return the configured streams: of the configured locations, or of all that the account has."""
    places: Sequence[tuple[int, int]] = dds.locations or service.locations()
    return [Stream(tenant_id, location_id, entity) for tenant_id, location_id in places for entity in dds.entities]


def account_name(dds: DdsSection) -> str:
    """Return what a mirror is filled from, as the mirror keeps it: the marketplace's host and the client_id."""
    return f"{dds.marketplace_url.split('://', 1)[1]} as {dds.client_id}"


@contextmanager
def _open_mirror(config: Config, dds: DdsSection, wishes: Wishes, now: Callable[[], float]) -> Iterator[Mirror]:
    path: Path = config.mirror.path
    if wishes.dry_run and not path.exists():
        with Mirror.in_memory(deletes=config.mirror.deletes, now=now) as mirror:
            yield mirror
        return
    with (
        hold(path, mode=config.mirror.mode, wait=wishes.wait),
        Mirror.open(
            path,
            mode=config.mirror.mode,
            deletes=config.mirror.deletes,
            account=account_name(dds),
            feed_tables=FEED_CHILDREN,
            now=now,
        ) as mirror,
    ):
        yield mirror


def _connect(
    config: Config,
    dds: DdsSection,
    tally: "_Tally",
    memory: "Mirror | _Forgetful",
    wait: Callable[[float], None],
    now: Callable[[], float],
) -> Dds:
    return Dds(
        Account(dds.marketplace_url, dds.public_api_url, dds.client_id, dds.client_secret.reveal()),
        Manners(
            timeout=config.http.timeout,
            attempts=config.http.attempts,
            max_wait=config.http.max_wait,
            ca_file=str(config.http.ca_file or ""),
        ),
        tally,
        memory,
        now=now,
        sleep=wait,
    )


def _drain_all(
    streams: Sequence[Stream], drain: Callable[[Stream], Report], parallel: int, stop: threading.Event
) -> list[Report]:
    """Drain *streams*, so many at a time, and return their reports; told to stop, those that are finished.

    The threads are daemons: one that waits for the network must not keep a stopped run from ending.
    """
    waiting: SimpleQueue[Stream] = SimpleQueue()
    done: SimpleQueue[Report | BaseException] = SimpleQueue()
    for stream in streams:
        waiting.put(stream)

    def work() -> None:
        while not stop.is_set():
            try:
                stream = waiting.get_nowait()
            except Empty:
                return
            try:
                done.put(drain(stream))
            except StoppedError:
                return
            except BaseException as error:  # noqa: BLE001 - it is raised again where the run waits for it
                done.put(error)
                return

    for _ in range(min(parallel, len(streams))):
        threading.Thread(target=work, daemon=True, name="drain").start()
    reports: list[Report] = []
    while len(reports) < len(streams) and not stop.is_set():
        try:
            outcome = done.get(timeout=LOOK_AROUND)
        except Empty:
            continue
        if isinstance(outcome, BaseException):
            stop.set()
            raise outcome
        reports.append(outcome)
    return reports


def _heed_refusals(report: RunReport, ledger: Ledger, *, dry_run: bool) -> None:
    """Leave alone, for a while, every location that has answered 403 to all of its streams: that is how a limit may look."""
    places = {(each.stream.tenant_id, each.stream.location_id) for each in report.streams}
    for place in sorted(places):
        of_place = [each for each in report.streams if each.stream[:2] == place]
        refused = [each for each in of_place if isinstance(each.error, StreamRefusedError) and each.error.status == 403]
        if len(of_place) > 1 and len(refused) == len(of_place):
            report.trouble.append(
                f"tenant {place[0]}, location {place[1]}: the service answers 403 to every stream; either it limits our calls, "
                "or the location is not activated for this account. The next runs leave it alone for a quarter of an hour"
            )
            if not dry_run:
                ledger.limited(refused[0].stream, None)


@contextmanager
def _deadline(seconds: float | None, stop: threading.Event, report: RunReport) -> Iterator[None]:
    """Stop the run when *seconds* are over."""
    if seconds is None:
        yield
        return

    def expire() -> None:
        report.trouble.append("the deadline was reached; what was committed stays, and the next run goes on from there")
        stop.set()

    timer = threading.Timer(seconds, expire)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _interruptible(stop: threading.Event) -> Callable[[float], None]:
    def wait(seconds: float) -> None:
        if stop.wait(seconds):
            raise StoppedError

    return wait


class _Tally:
    """The ledger as a service sees it, with the calls of this run counted."""

    def __init__(self, ledger: Ledger) -> None:
        self.calls = 0
        self._ledger = ledger
        self._turn = threading.Lock()

    def admit(self, stream: Stream) -> None:
        """Admit one call of *stream*, or raise what forbids it."""
        self._ledger.admit(stream)
        with self._turn:
            self.calls += 1

    def limited(self, stream: Stream, until: float | None) -> None:
        """Remember that the service told us to stop."""
        self._ledger.limited(stream, until)

    def check(self, stream: Stream) -> None:
        """Raise LimitedError where nothing of the location of *stream* may be called now."""
        self._ledger.check(stream)


class _Forgetful:
    """What a dry run remembers of tenants: what the mirror knows already, and nothing more."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror

    def remembered(self, day: str) -> str | None:
        """Return what is remembered of *day*."""
        return self._mirror.remembered(day)

    def remember(self, day: str, body: str) -> None:
        """Forget it."""
