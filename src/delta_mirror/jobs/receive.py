"""`sync nexus receive`: empty a Service Bus subscription into the mirror. First stored, to the disk, then completed.

Several receivers take messages under a lock, one thread stores them in batches, several settlers complete what was stored.

Invariants:

- Nothing is completed before the batch that holds it is committed, and the commit is on the disk.
- What could not be stored is unlocked, and nothing more is taken.
- A lock that is lost, a completion whose answer is lost, a process that is killed: the message comes again, and changes nothing.
- Locks are renewed as long as the mirror takes to store.
- Where the broker has told us to stop, it is left alone until the time that it named, in later runs too.
- No mirror is made where the configuration is refused.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from queue import PriorityQueue
from typing import Literal, NamedTuple

from delta_mirror.calls.attempts import Manners
from delta_mirror.config import Config
from delta_mirror.errors import LimitedError, UnfinishedError
from delta_mirror.jobs.inhand import InHand
from delta_mirror.jobs.intake import Intake, Tallied, make_tables
from delta_mirror.jobs.outcome import EndedRun
from delta_mirror.jobs.session import StoppedError, deadline, doubt_clock, interruptible, open_mirror
from delta_mirror.mirror.file import own_time
from delta_mirror.mirror.read import DEAD_LETTERS
from delta_mirror.mirror.write import Mirror
from delta_mirror.nexus.broker import Locked
from delta_mirror.nexus.bus import Bus, Subscription

COMMAND = "nexus receive"  # as `_runs` and quarantine name it
RECEIVERS = 32  # connections that ask: a broker that is 30 ms away gives some thirty messages a second to each
SETTLERS = 32
GRACE = 2.0  # seconds that a stopped run takes to settle what it has stored
SHORTLY = 1.0  # seconds in which receivers end that were broken off
EARLY = 1.0  # seconds to wait where the broker says sooner than it was asked to that there is nothing
NEARLY = 0.1  # seconds by which a clock may differ from the broker's on the way
OFTEN = 5  # deliveries: half of those after which a broker usually gives a message up
LOOK_AROUND = 0.2  # seconds between two looks at which locks are to be renewed
PAUSE = "nexus_pause"  # in _meta: until when the broker is to be left alone, and when it said so


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the operator asks of a run.

    `most` is how many messages are taken at most, None all. `quiet` is for how many seconds nothing may come before the run
    ends. `wait` is how many seconds another run is waited for, below 0 without end; `deadline` how many the run may take.
    """

    most: int | None = None
    quiet: float = 30.0
    wait: float = 0.0
    deadline: float | None = None


@dataclass(slots=True)
class ReceiveReport(EndedRun):
    """What became of a run.

    `stored` counts messages by what storing them gave, `completed`, `unlocked` and `lost` (the lock was lost, and the message
    comes again) by what the broker was told. `often` counts those that had been delivered OFTEN times and more, `most_often` is
    how often the most delivered one was. `said` has which columns were made, `warnings` what went wrong and kept nothing from
    being done.
    """

    calls: int = 0
    batches: int = 0
    stored: Tallied = field(default_factory=Tallied)
    completed: int = 0
    unlocked: int = 0
    lost: int = 0
    often: int = 0
    most_often: int = 0
    has_dead_letters: bool = False
    said: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Whether all was done, nothing new is in quarantine, and the broker has given nothing up."""
        return not self.trouble and not self.stored.new_in_quarantine and not self.has_dead_letters


def run_receive(
    config: Config,
    wishes: Wishes | None = None,
    *,
    stop: threading.Event | None = None,
    watch: Callable[[ReceiveReport], None] = lambda report: None,
    now: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
) -> ReceiveReport:
    """Empty the subscription. *stop*, once set, ends the run; *watch* is told of every batch.

    Raises:
        RefusedError: configuration or mirror cannot be used; nothing was written.
        BusyError: another run holds the mirror.
        LimitedError: the broker has told an earlier run to stop, and the time is not over.
    """
    config.require_nexus()
    wishes = wishes or Wishes()
    stop = stop or threading.Event()
    report = ReceiveReport(started_at=now())
    limits: list[float | None] = []
    with ExitStack() as stack:
        # First, so that the time spent waiting for another run counts.
        stack.enter_context(deadline(wishes.deadline, stop, report.trouble, "what is left comes in the next run"))
        bus = open_bus(config, limits.append, now=now, monotonic=monotonic, sleep=interruptible(stop))
        stack.callback(bus.close)
        mirror = stack.enter_context(open_mirror(config, stop=stop, wait=wishes.wait, now=now))
        heed_pause(mirror)
        # Also the test that the mirror can be written, before anything is taken.
        report.id = mirror.begin_run(COMMAND, at=report.started_at)
        make_tables(mirror)
        intake = Intake(mirror, report.id, source=COMMAND, durable=True)
        report.stored, report.said = intake.tallied, intake.said
        Reception(bus, intake, wishes, report, stop, watch, monotonic).run()
        for until in limits:
            keep_pause(mirror, until)
        if not stop.is_set() and not report.trouble:
            report.has_dead_letters = bus.has_dead_letters()
            with mirror.transaction() as tx:
                tx.keep(DEAD_LETTERS, str(int(report.has_dead_letters)))
        report.warnings += _warnings(report, bus)
        report.calls = bus.calls()
        report.outcome = "stopped" if stop.is_set() else "done" if report.is_whole else "unfinished"
        report.ended_at = now()
        mirror.end_run(report.id, report.outcome, report.stored.counts(), report.calls, report.batches, at=report.ended_at)
    return report


def open_bus(
    config: Config,
    limited: Callable[[float | None], None],
    *,
    now: Callable[[], float],
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None],
) -> Bus:
    """Return the configured subscription; *limited* is told until when the broker wants to be left alone.

    Raises:
        ConfigError: a key of `[nexus]` is missing, or a certificate or proxy cannot be used.
    """
    nexus, http = config.require_nexus(), config.http
    return Bus(
        Subscription(nexus.service_bus_url, nexus.topic, nexus.subscription, nexus.key_name, nexus.key.reveal()),
        Manners(http.timeout, http.attempts, http.max_wait, str(http.ca_file or "")),
        limited,
        now=now,
        monotonic=monotonic,
        sleep=sleep,
    )


def _warnings(report: ReceiveReport, bus: Bus) -> list[str]:
    """Return what an operator should know, although it keeps nothing from being done."""
    found = []
    if report.often:
        found.append(
            f"{report.often} messages had been delivered {OFTEN} times or more, one of them {report.most_often} times; they "
            "are in now. The broker gives a message up after its MaxDeliveryCount (10 where nobody has set it). Look for what "
            "kept earlier runs from completing them: killed, no room on the disk, locks too short"
        )
    doubt = doubt_clock(-bus.clock_behind(), "the broker's")
    return [*found, doubt] if doubt else found


def heed_pause(mirror: Mirror) -> None:
    """Return if the broker may be asked now.

    Raises:
        LimitedError: it has told an earlier run to stop, and the time is not over.
    """
    with mirror.transaction() as tx:
        kept = tx.kept(PAUSE)
    until, said_at = map(float, kept.split()) if kept else (0.0, 0.0)
    # A clock that was set back blocks nothing: a pause that was said in its future does not count.
    if said_at <= mirror.now() < until:
        raise LimitedError(
            f"the broker told us to stop until {own_time(until)}; nothing was asked. A run after that time goes on", until
        )


def keep_pause(mirror: Mirror, until: float | None) -> None:
    """Remember until when the broker is to be left alone; of a pause for which it has named no time nothing is kept."""
    if until is not None:
        with mirror.transaction() as tx:
            tx.keep(PAUSE, f"{until} {mirror.now()}")


class _Task(NamedTuple):
    """Something to be settled with the broker. In order of `urgency`, then as they come: a lock does not wait."""

    urgency: int
    number: int
    do: Literal["renew", "complete", "unlock", "end"]
    locked: Locked | None = None


class Reception:
    """One run's receivers, settlers, and the storing between them."""

    def __init__(
        self,
        bus: Bus,
        intake: Intake,
        wishes: Wishes,
        report: ReceiveReport,
        stop: threading.Event,
        watch: Callable[[ReceiveReport], None],
        monotonic: Callable[[], float],
    ) -> None:
        self._bus = bus
        self._intake = intake
        self._report = report
        self._stop = stop
        self._watch = watch
        self._monotonic = monotonic
        self._hand = InHand(wishes.quiet, wishes.most, monotonic)
        self._tasks: PriorityQueue[_Task] = PriorityQueue()
        self._number = 0
        self._turn = threading.Lock()
        self._ended = threading.Event()
        self._has_failed = False
        self._cannot_settle = False
        self._failure: BaseException | None = None

    def run(self) -> None:
        """Receive, store and complete until nothing comes any more.

        Raises:
            BusyError, RefusedError: the mirror cannot be used any more. What was not stored is unlocked.
        """
        receivers = self._start(self._receive, RECEIVERS)
        settlers = self._start(self._settle, SETTLERS)
        self._start(self._renew, 1)
        try:
            self._store()
        except UnfinishedError as error:
            self._note(error)
        finally:
            self._hand.shut()
            self._bus.stop_taking()
            self._wait_for(receivers, SHORTLY)
            self._put("unlock", self._hand.rest())
            for _ in settlers:
                self._add(_Task(9, 0, "end"))
            self._wait_for(settlers)
            self._ended.set()
        if self._failure is not None:
            raise self._failure

    def _store(self) -> None:
        """Store batch after batch, and have completed what was stored."""
        while batch := self._hand.batch(self._is_patient):
            try:
                self._intake.take([locked.delivery for locked in batch])
            except BaseException:
                self._put("unlock", batch)
                raise
            self._put("complete", batch)
            self._hand.stored()
            self._count(batch)
            self._watch(self._report)

    def _is_patient(self) -> bool:
        """Return whether there is time for more messages to come: nobody has told us to stop, and nothing has failed."""
        if self._stop.is_set():
            self._hand.shut()
            self._bus.stop_taking()
        return not self._stop.is_set() and not self._has_failed

    def _count(self, batch: Sequence[Locked]) -> None:
        report = self._report
        report.batches += 1
        report.often += sum(locked.times >= OFTEN for locked in batch)
        report.most_often = max(report.most_often, *(locked.times for locked in batch))

    # Receivers

    def _receive(self) -> None:
        while (seconds := self._hand.ask()) is not None:
            asked_at = self._monotonic()
            locked = self._bus.take(seconds)
            if locked is not None:
                self._hand.came(locked)
                continue
            left = asked_at + seconds - self._monotonic()
            if left > NEARLY and not self._has_failed:
                self._rest(min(left, EARLY))
            self._hand.came_up_empty()

    def _rest(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise StoppedError

    # Settlers

    def _settle(self) -> None:
        while (task := self._tasks.get()).locked is not None:
            if self._cannot_settle:
                self._hand.settled(task.locked)
            elif task.do == "renew":
                seconds = self._bus.renew(task.locked)
                if seconds is not None:  # else it is lost, and will come again
                    self._hand.renewed(task.locked, seconds)
            else:
                self._finish(task.do == "complete", task.locked)

    def _finish(self, is_stored: bool, locked: Locked) -> None:
        try:
            held = self._bus.complete(locked) if is_stored else self._bus.unlock(locked)
        except BaseException:
            self._cannot_settle = True  # nor can the others, who need not find out one by one
            raise
        finally:
            self._hand.settled(locked)
        with self._turn:
            if not held:
                self._report.lost += 1
            elif is_stored:
                self._report.completed += 1
            else:
                self._report.unlocked += 1

    def _renew(self) -> None:
        while not self._ended.wait(LOOK_AROUND):
            self._put("renew", self._hand.due())

    def _put(self, do: Literal["renew", "complete", "unlock"], among: Sequence[Locked]) -> None:
        for locked in among:
            self._add(_Task(0 if do == "renew" else 1, 0, do, locked))

    def _add(self, task: _Task) -> None:
        with self._turn:
            self._number += 1
            self._tasks.put(task._replace(number=self._number))

    # Threads

    def _start(self, work: Callable[[], None], number: int) -> list[threading.Thread]:
        """Start daemons: one that waits for the network must not keep a stopped run from ending."""

        def do() -> None:
            try:
                work()
            except StoppedError:
                return
            except BaseException as error:  # noqa: BLE001 - it is raised again where the run ends
                self._note(error)

        threads = [threading.Thread(target=do, daemon=True, name=work.__name__.strip("_")) for _ in range(number)]
        for thread in threads:
            thread.start()
        return threads

    def _note(self, error: BaseException) -> None:
        """Take in that a thread has failed: what is in hand is stored and settled, as far as that goes, and no more is taken."""
        with self._turn:
            if not self._stop.is_set():  # else it is only that everything was broken off
                if not isinstance(error, UnfinishedError):
                    self._failure = self._failure or error
                elif str(error) not in self._report.trouble:
                    self._report.trouble.append(str(error))
        self._has_failed = True
        self._hand.shut()
        self._bus.stop_taking()

    def _wait_for(self, threads: Sequence[threading.Thread], patience: float | None = None) -> None:
        """Return when *threads* have ended, or *patience* or, of a run that is told to stop, GRACE is over."""
        ends = None if patience is None else self._monotonic() + patience
        for thread in threads:
            while thread.is_alive() and (ends is None or self._monotonic() < ends):
                thread.join(LOOK_AROUND)
                if ends is None and self._stop.is_set():
                    ends = self._monotonic() + GRACE
