"""What every job that calls the service needs: the mirror under its lock, the ledger, the service, and a way to stop at once.

Invariants:

- The lock is held as long as the mirror is open.
- Calls are counted in the mirror before they are sent, also by a dry run where there is a mirror.
- What `[mirror.mask]` takes away is gone before anybody has what comes, and from what the mirror holds before anything comes.
- Told to stop, nothing waits any longer: neither for the lock, nor for the network, nor for a minute to pass.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue, SimpleQueue
from typing import TypeVar

from delta_mirror.config import Config, DdsSection
from delta_mirror.core.mask import Mask
from delta_mirror.core.model import Stream
from delta_mirror.core.values import EPOCH, SECOND
from delta_mirror.dds.api import Account, Dds, Manners, TenantMemory
from delta_mirror.dds.tables import FEED_CHILDREN
from delta_mirror.errors import BusyError, UnfinishedError
from delta_mirror.jobs.aftermath import Aftermath
from delta_mirror.jobs.masking import mask_of, note_met, put_on
from delta_mirror.mirror.ledger import Ledger
from delta_mirror.mirror.lock import hold
from delta_mirror.mirror.write import Mirror

Answered = TypeVar("Answered")
Task = TypeVar("Task")

WRONG_CLOCK = 300.0  # seconds by which clocks may differ before that is worth a word
LOOK_AROUND = 0.2  # seconds between two looks at whether the run was told to stop


class StoppedError(Exception):
    """The run was told to stop. Raised where a thread would wait or go on, never shown."""


class Tally:
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

    def limited(self, stream: Stream | None, until: float | None) -> None:
        """Remember that the service told us to stop."""
        self._ledger.limited(stream, until)

    def check(self, stream: Stream) -> None:
        """Raise what forbids it where nothing of the location of *stream* may be called now."""
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


@dataclass(frozen=True, slots=True)
class Session:
    """The mirror, open and locked, and the service that it is filled from."""

    dds: DdsSection
    mirror: Mirror
    ledger: Ledger
    tally: Tally
    service: Dds

    def ahead(self) -> float:
        """Return by how many seconds the clock of this machine is ahead of the service's."""
        return self.mirror.now() - seconds_of(self.service.clock())

    def expects(self, error: UnfinishedError) -> bool:
        """Return whether the maintenance window explains *error*, met just now by the service's clock."""
        window = self.dds.maintenance
        return window is not None and window.explains(error, seconds_of(self.service.clock()))

    def doubt_clock(self) -> str | None:
        """Return what an operator should know of this machine's clock where it differs from the service's, else None.

        No run depends on it: dates of the service are compared with its own clock.
        """
        return doubt_clock(self.ahead(), "the service's")

    def streams(self) -> list[Stream]:
        """Return the configured streams: of the configured locations, or of all that the account has; they share the budget.

        Raises:
            UnfinishedError: apps/tenant had to be asked, and did not answer, or nothing may be called now.
        """
        if not self.dds.locations:
            self.ledger.check(None)
        places: Sequence[tuple[int, int]] = self.dds.locations or self.service.locations()
        streams = [Stream(tenant_id, location_id, entity) for tenant_id, location_id in places for entity in self.dds.entities]
        self.ledger.share(streams)
        return streams


@contextmanager
def open_session(
    config: Config,
    *,
    stop: threading.Event,
    wait: float = 0.0,
    dry_run: bool = False,
    now: Callable[[], float] = time.time,
) -> Iterator[Session]:
    """Open the mirror under its lock, and the service.

    *wait* is how many seconds another run is waited for, below 0 without end. A *dry_run* makes no file where there is none.

    Raises:
        RefusedError: configuration or mirror cannot be used; nothing was written.
        BusyError: another run holds the mirror.
    """
    config.require_dds()
    with (
        open_mirror(config, stop=stop, wait=wait, dry_run=dry_run, now=now) as mirror,
        open_service(config, mirror, _Forgetful(mirror) if dry_run else mirror, stop=stop, now=now) as session,
    ):
        yield session


@contextmanager
def open_service(
    config: Config, mirror: Mirror, memory: TenantMemory, *, stop: threading.Event, now: Callable[[], float] = time.time
) -> Iterator[Session]:
    """Open the service, whose calls are counted in *mirror*. What apps/tenant answers is kept in *memory*.

    Raises:
        ConfigError: an address or a certificate in the configuration cannot be used.
    """
    dds = config.require_dds()
    sleep = interruptible(stop)
    ledger = Ledger(mirror, dds.calls_per_minute, dds.calls_per_day, (), now, sleep, clock=lambda: seconds_of(service.clock()))
    tally = Tally(ledger)
    service = _connect(config, dds, tally, memory, mirror.mask, sleep, now)
    try:
        yield Session(dds, mirror, ledger, tally, service)
    finally:
        service.close()


@contextmanager
def open_mirror(
    config: Config,
    *,
    stop: threading.Event,
    wait: float = 0.0,
    dry_run: bool = False,
    now: Callable[[], float] = time.time,
) -> Iterator[Mirror]:
    """Open the mirror under its lock. Arguments and errors as of `open_session`.

    Without `[dds]` in the configuration it is not asked whose mirror it is. The mask of the configuration has been carried out on
    what it holds, unless this is a *dry_run*.
    """
    path: Path = config.mirror.path
    mask = mask_of(config)
    if dry_run and not path.exists():
        with Mirror.in_memory(deletes=config.mirror.deletes, now=now) as mirror:
            mirror.mask = mask
            yield mirror
        return
    with ExitStack() as stack:
        # From below: the file is told while the mirror is open, the health check when others may have the lock.
        told = stack.enter_context(ExitStack())
        stack.enter_context(_held(path, config.mirror.mode, wait, stop))
        mirror = stack.enter_context(
            Mirror.open(
                path,
                mode=config.mirror.mode,
                deletes=config.mirror.deletes,
                account=None if config.dds is None else account_name(config.dds),
                key=config.mask_key,
                feed_tables=FEED_CHILDREN,
                now=now,
            )
        )
        put_on(mirror, mask, dry_run=dry_run)
        if not dry_run:
            stack.callback(note_met, mirror, mask)
        aftermath = Aftermath(config, mirror, now)
        told.callback(aftermath.tell_health_check)
        stack.callback(aftermath.tell_file)
        yield mirror


def account_name(dds: DdsSection) -> str:
    """Return what a mirror is filled from, as the mirror keeps it: the marketplace's host and the client_id."""
    return f"{dds.marketplace_url.split('://', 1)[1]} as {dds.client_id}"


@contextmanager
def _held(path: Path, mode: int, wait: float, stop: threading.Event) -> Iterator[None]:
    """Hold the lock of the mirror; another run is waited for in small steps, between which this one can be told to stop."""
    ends = time.monotonic() + wait
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(hold(path, mode=mode, wait=LOOK_AROUND if wait else 0.0))
            except BusyError:
                if stop.is_set() or not wait or (wait > 0 and ends <= time.monotonic()):
                    raise
            else:
                break
        yield


def _connect(
    config: Config,
    dds: DdsSection,
    tally: Tally,
    memory: TenantMemory,
    mask: Mask | None,
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
        mask=mask,
        now=now,
        sleep=wait,
    )


@contextmanager
def deadline(seconds: float | None, stop: threading.Event, trouble: list[str], rest: str) -> Iterator[None]:
    """Stop the run when *seconds* are over; *trouble* then says so, and with *rest* what becomes of what is not done."""
    if seconds is None:
        yield
        return

    def expire() -> None:
        trouble.append(f"the deadline was reached; what was committed stays, and {rest}")
        stop.set()

    timer = threading.Timer(seconds, expire)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def unless_stopped(ask: Callable[[], Answered], stop: threading.Event) -> Answered:
    """Return what *ask* brings, or raise StoppedError as soon as the run is told to stop.

    In a thread of its own, and a daemon: a wait for the network cannot be broken off, only left behind.
    """
    answer: Future[Answered] = Future()

    def work() -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:  # noqa: BLE001 - it is raised again where the run waits for it
            answer.set_exception(error)

    threading.Thread(target=work, daemon=True, name="question").start()
    while not wait_for([answer], LOOK_AROUND).done:
        if stop.is_set():
            raise StoppedError
    return answer.result()


def work_through(tasks: Sequence[Task], do: Callable[[Task], object], parallel: int, stop: threading.Event) -> None:
    """Do *tasks*, so many at a time; told to stop, leave those that are not finished where they are.

    The threads are daemons: one that waits for the network must not keep a stopped run from ending.
    """
    waiting: SimpleQueue[Task] = SimpleQueue()
    # No SimpleQueue: in Python 3.11 a signal that comes when the time of its `get` is all but up makes it wait for ever.
    done: Queue[BaseException | None] = Queue()
    for task in tasks:
        waiting.put(task)

    def work() -> None:
        while not stop.is_set():
            try:
                task = waiting.get_nowait()
            except Empty:
                return
            try:
                do(task)
                done.put(None)
            except StoppedError:
                return
            except BaseException as error:  # noqa: BLE001 - it is raised again where the run waits for it
                done.put(error)
                return

    for _ in range(min(parallel, len(tasks))):
        threading.Thread(target=work, daemon=True, name="work").start()
    finished = 0
    while finished < len(tasks) and not stop.is_set():
        try:
            error = done.get(timeout=LOOK_AROUND)
        except Empty:
            continue
        if error is not None:
            stop.set()
            raise error
        finished += 1


def doubt_clock(ahead: float, whose: str) -> str | None:
    """Return what an operator should know of this machine's clock where it is so many seconds ahead of *whose*, else None."""
    if abs(ahead) <= WRONG_CLOCK:
        return None
    return (
        f"the clock of this machine is {_span(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'} {whose}; the run is "
        "right all the same, but lag, ages and the times of the logs are not. Set the clock (NTP)"
    )


def interruptible(stop: threading.Event) -> Callable[[float], None]:
    """Return a way to wait so many seconds, which raises StoppedError as soon as the run is told to stop."""

    def wait(seconds: float) -> None:
        if stop.wait(seconds):
            raise StoppedError

    return wait


def seconds_of(ticks: int) -> float:
    """Return *ticks* as seconds since the epoch."""
    return (ticks - EPOCH) / SECOND


def _span(seconds: float) -> str:
    minutes = round(seconds / 60)
    days, hours = divmod(minutes // 60, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"
