"""`sync quarantine`: what could not be applied, looked at, tried again, and given up.

Invariants:

- What leaves quarantine has been applied, is older than what the mirror holds, or was given up by its id.
- A thing is tried again from its own body, in order of change dates, by the rules of the feed: never backwards. Where the body is
  not what the service sent (a mask has taken something away, say), or bears no date by which to tell old from new, the record is
  fetched anew instead.
- What remains stays as it was set aside, body and dates: a second try is no second meeting.
- One thing that cannot be applied does not stop the others.
- A Nexus message is tried again from the log of messages, and asks no service.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Literal

import orjson

from delta_mirror.config import ENTITIES, Config
from delta_mirror.core.masked_body import was_changed
from delta_mirror.core.model import Broken, Entry, Stream
from delta_mirror.core.plan import Counts, Drained, decide
from delta_mirror.dds.wire import read_entry
from delta_mirror.errors import RefusedError, UnfinishedError
from delta_mirror.jobs.intake import take_again
from delta_mirror.jobs.outcome import WENT_WELL, outcome_of_run
from delta_mirror.jobs.refetch import NotFoundError, Outcome, fetch_record, outcome_of
from delta_mirror.jobs.session import Session, StoppedError, deadline, open_mirror, open_session, work_through
from delta_mirror.mirror.file import own_time
from delta_mirror.mirror.read import Reader, Run, SetAside
from delta_mirror.mirror.write import Mirror

_FITTED = {"record", "parents"}  # the members of a body that is no entry of a page, but rows that no table could hold


@dataclass(slots=True)
class Retried:
    """What became of one thing. `why` says why it remains, `is_expected` that the service's maintenance window explains it;
    `outcome` is None until it was tried.
    """

    thing: SetAside
    outcome: Outcome | Literal["gone", "remains"] | None = None
    why: str | None = None
    is_expected: bool = False
    counts: Counts = field(default_factory=Counts)
    said: list[str] = field(default_factory=list)

    @property
    def remains(self) -> bool:
        """Whether it is in quarantine still."""
        return self.outcome in (None, "remains")


@dataclass(slots=True)
class RetryReport:
    """What became of a run. `trouble` is what kept the whole of it from being done."""

    run: Run
    things: list[Retried]
    trouble: list[str] = field(default_factory=list)

    @property
    def is_excused(self) -> bool:
        """Whether nothing remains of what was tried, but for what the maintenance window explains."""
        return self.run.outcome in WENT_WELL


def list_quarantine(config: Config) -> list[SetAside]:
    """Return what is in quarantine, without the bodies.

    Raises:
        MirrorFileError: there is no mirror, or it cannot be read.
    """
    with Reader.open(config.mirror.path) as reader:
        return reader.quarantine()


def show_quarantined(config: Config, prefix: str) -> tuple[SetAside, str]:
    """Return the one thing in quarantine whose id begins with *prefix*, and its body.

    Raises:
        RefusedError: there is none, or more than one; or there is no mirror.
    """
    with Reader.open(config.mirror.path) as reader:
        [thing] = _find(reader.quarantine(), [prefix])
        return thing, reader.quarantined_body(thing.id) or ""


def drop_quarantined(
    config: Config,
    prefixes: Sequence[str],
    *,
    wait: float = 0.0,
    stop: threading.Event | None = None,
    now: Callable[[], float] = time.time,
) -> list[SetAside]:
    """Remove from quarantine the things whose ids begin with *prefixes*, all or none; return them.

    Raises:
        RefusedError: an id is unknown or ambiguous, or there is no mirror; nothing was written.
        BusyError: another run holds the mirror.
    """
    with Reader.open(config.mirror.path) as reader:
        _find(reader.quarantine(), prefixes)  # before anything is written: the row of the run, too
    with open_mirror(config, stop=stop or threading.Event(), wait=wait, now=now) as mirror:
        with Reader.open(config.mirror.path) as reader:
            things = _find(reader.quarantine(), prefixes)
        run_id = mirror.begin_run("quarantine drop")
        with mirror.transaction() as tx:
            tx.let_go([thing.id for thing in things])
        mirror.end_run(run_id, "done", None, 0, 0)
    return things


def retry_quarantined(
    config: Config,
    prefixes: Sequence[str] = (),
    *,
    wait: float = 0.0,
    time_limit: float | None = None,
    stop: threading.Event | None = None,
    now: Callable[[], float] = time.time,
) -> RetryReport:
    """Apply again what is in quarantine: the things whose ids begin with *prefixes*, or all.

    *wait* and *time_limit* are seconds, *wait* below 0 is without end.

    Raises:
        RefusedError: an id is unknown or ambiguous, there is no mirror, or it or the configuration cannot be used; nothing was
            written.
        BusyError: another run holds the mirror.
    """
    stop = stop or threading.Event()
    started_at = now()
    trouble: list[str] = []
    with Reader.open(config.mirror.path) as reader:
        listed = reader.quarantine()
        asks = not all(thing.is_message for thing in (_find(listed, prefixes) if prefixes else listed)) or not listed
    with ExitStack() as stack:
        stack.enter_context(deadline(time_limit, stop, trouble, "the rest is in quarantine still"))
        # Messages need no service: they lie in the mirror whole.
        session = stack.enter_context(open_session(config, stop=stop, wait=wait, now=now)) if asks else None
        mirror = session.mirror if session else stack.enter_context(open_mirror(config, stop=stop, wait=wait, now=now))
        reader = stack.enter_context(Reader.open(config.mirror.path))
        found = reader.quarantine()
        things = [Retried(thing) for thing in (_find(found, prefixes) if prefixes else found)]
        run_id = mirror.begin_run("quarantine retry")
        attempt = _Attempt(mirror, session, config, run_id)

        def retry(retried: Retried) -> None:
            attempt.retry(retried)
            if stop.is_set():
                raise StoppedError

        # One at a time: of two versions of one record the older comes first.
        work_through(things, retry, 1, stop)
        outcome = outcome_of_run(
            is_stopped=stop.is_set(),
            is_whole=not trouble and not any(each.remains for each in things),
            is_excused=not trouble and not any(each.remains and not each.is_expected for each in things),
        )
        # Each thing has added its counts with what it wrote. Of a stopped run one may be about to be committed just now.
        calls = 0 if session is None else session.tally.calls
        mirror.end_run(run_id, outcome, None, calls, attempt.pages)
        counts = sum((each.counts for each in things), Counts())
        run = Run(
            run_id,
            "quarantine retry",
            own_time(started_at),
            own_time(now()),
            outcome,
            calls,
            attempt.pages,
            counts,
        )
    return RetryReport(run, things, trouble)


class _Attempt:
    """One run over the quarantine."""

    def __init__(self, mirror: Mirror, session: Session | None, config: Config, run_id: int) -> None:
        self.pages = 0
        self._mirror = mirror
        self._given = session
        self._config = config
        self._run_id = run_id
        self._shares = False

    def retry(self, retried: Retried) -> None:
        """Apply one thing, and say what came of it."""
        thing = retried.thing
        if thing.is_message:
            self._retry_message(retried)
            return
        with Reader.open(self._config.mirror.path) as reader:
            body = reader.quarantined_body(thing.id)
        if body is None:
            retried.outcome = "gone"  # with another version of its record, which was applied just before
            return
        if thing.stream is None or thing.stream.entity not in ENTITIES:
            retried.outcome, retried.why = "remains", "it does not come from the feed, and its body cannot be read as an entry"
            return
        try:
            self._apply(retried, thing.stream, self._entries(thing, thing.stream, body))
        except NotFoundError as error:
            retried.outcome, retried.why = "remains", f"the service does not know the record; {error}"
        except UnfinishedError as error:
            retried.outcome, retried.why, retried.is_expected = "remains", str(error), self._session.expects(error)

    def _retry_message(self, retried: Retried) -> None:
        outcome, retried.why, intake = take_again(self._mirror, self._run_id, retried.thing)
        match outcome:
            case "applied":
                retried.outcome = (
                    "replaced" if intake.tallied.replaced else "inserted" if intake.tallied.inserted else "unchanged"
                )
            case "superseded" | "erased":
                retried.outcome = outcome
            case "quarantined":
                retried.outcome = "remains"
            case _:
                retried.outcome = "gone"
        retried.counts, retried.said = intake.tallied.counts(), intake.said

    @property
    def _session(self) -> Session:
        if self._given is None:
            raise RuntimeError("a thing of the feed is tried again without its service")
        return self._given

    def _entries(self, thing: SetAside, stream: Stream, body: str) -> list[Entry]:
        if not _is_fitted(body) and not was_changed(body):
            entry = read_entry(body, stream)
            if isinstance(entry, Broken) or entry.changed is not None:
                return [entry]
            return self._fetch(stream, entry.id)
        if thing.record_id is None:
            return [Broken(None, None, body, thing.reason)]
        return self._fetch(stream, thing.record_id)

    def _fetch(self, stream: Stream, id_: str) -> list[Entry]:
        if not self._shares:
            self._session.streams()  # so that the call takes nothing from the other entities' shares of the day
            self._shares = True
        self._session.service.greet(stream)
        entries = fetch_record(self._session.service, stream, id_)
        self.pages += 1
        return entries

    def _apply(self, retried: Retried, stream: Stream, entries: Sequence[Entry]) -> None:
        with self._session.mirror.transaction() as tx:
            fitted = tx.fit(stream, entries)
            broken = next((entry for entry in fitted if isinstance(entry, Broken)), None)
            if broken is not None:
                retried.outcome, retried.why = "remains", broken.reason
                return
            plan = decide(tx.current(stream, [entry.id for entry in fitted if entry.id is not None]), fitted, Drained())
            counts = tx.carry_out(stream, plan, self._run_id, source="quarantine retry")
            tx.let_go([retried.thing.id])
        retried.counts, retried.said, retried.outcome = counts, tx.said, outcome_of(plan)


def _is_fitted(body: str) -> bool:
    try:
        members = orjson.loads(body)
    except orjson.JSONDecodeError:  # what orjson refuses may still be an entry, or rows: their names can be the reason
        return body.startswith('{"record": ')
    return isinstance(members, dict) and set(members) == _FITTED


def _find(things: Sequence[SetAside], prefixes: Sequence[str]) -> list[SetAside]:
    """Return the things whose ids begin with *prefixes*, each once, in the order of *things*.

    Raises:
        RefusedError: one of *prefixes* is the beginning of no id, or of several.
    """
    wanted = set()
    for prefix in map(str.lower, prefixes):
        found = [thing.id for thing in things if prefix and thing.id.startswith(prefix)]
        if len(found) > 1 and prefix not in found:
            raise RefusedError(
                f"{len(found)} ids in quarantine begin with {prefix!r}; nothing was done. Give more of the one you mean"
            )
        if not found:
            raise RefusedError(
                f"nothing in quarantine has the id {prefix!r}; nothing was done. `sync quarantine list` shows the ids"
            )
        wanted.add(prefix if prefix in found else found[0])
    return [thing for thing in things if thing.id in wanted]
