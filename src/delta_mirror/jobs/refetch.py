"""`sync refetch`: fetch single records anew, and carry out what they say as a drain would.

Invariants:

- What is fetched goes through the same rules as an entry of the feed: replaced whole, never backwards, in the same log.
- The state of the stream, its watermark above all, stays as it is: one record says nothing about the others.
- A record that the service does not know is told, and the mirror left as it is: absence is no deletion.
- One record that cannot be fetched does not stop the others.
- A record that was erased is not asked for.
- The mirror is asked first. A record that it knows is fetched for the locations where it knows it, any other one is looked for
  in every configured location; there one that has it is enough.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Literal

from delta_mirror.config import Config
from delta_mirror.core.model import Broken, Entry, Op, Stream
from delta_mirror.core.plan import Counts, Drained, Plan, decide
from delta_mirror.dds.api import Dds
from delta_mirror.errors import ProtocolError, StreamRefusedError, UnfinishedError
from delta_mirror.jobs.outcome import WENT_WELL, outcome_of_run
from delta_mirror.jobs.selection import Selection, checked_id
from delta_mirror.jobs.session import Session, StoppedError, deadline, open_session, unless_stopped, work_through
from delta_mirror.mirror.file import own_time
from delta_mirror.mirror.read import Reader, Run
from delta_mirror.mirror.write import Mirror

Outcome = Literal[
    "inserted",
    "replaced",
    "deleted",
    "revived",
    "unchanged",
    "superseded",  # the mirror holds something newer
    "erased",  # it was erased, and stays out; nothing was asked
    "quarantined",  # what came cannot be applied
    "not found",  # the service does not know the record
    "not here",  # it does not know it for this location, but for another one that was asked
    "failed",  # there was no usable answer
    "not asked",  # the run was stopped before
]
DONE: frozenset[Outcome] = frozenset(
    {"inserted", "replaced", "deleted", "revived", "unchanged", "superseded", "erased", "not here"}
)
OF_OP: dict[Op, Outcome] = {"insert": "inserted", "replace": "replaced", "delete": "deleted", "revive": "revived"}


class NotFoundError(Exception):
    """The service does not know a record; the text is what it said. Never leaves the jobs."""


@dataclass(slots=True)
class Refetched:
    """What became of one record at one location. `why` says what kept it from being fetched or applied.

    `is_expected` says that the service's maintenance window explains that.
    """

    stream: Stream
    id: str
    outcome: Outcome = "not asked"
    why: str | None = None
    is_expected: bool = False
    is_known: bool = False  # whether the mirror knew of it before
    counts: Counts = field(default_factory=Counts)
    said: list[str] = field(default_factory=list)

    @property
    def is_done(self) -> bool:
        """Whether the mirror now has it as the service has it."""
        return self.outcome in DONE


@dataclass(slots=True)
class RefetchReport:
    """What became of a run. `trouble` is what kept the whole of it from being done, `expected` what did so within the maintenance
    window of the service, `notes` what an operator may like to know.
    """

    run: Run
    records: list[Refetched]
    trouble: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def is_excused(self) -> bool:
        """Whether every record was fetched and applied, but for what the maintenance window explains."""
        return self.run.outcome in WENT_WELL


def run_refetch(
    config: Config,
    entity: str,
    ids: Sequence[str],
    selection: Selection | None = None,
    *,
    wait: float = 0.0,
    time_limit: float | None = None,
    stop: threading.Event | None = None,
    now: Callable[[], float] = time.time,
) -> RefetchReport:
    """Fetch the records *ids* of *entity* anew. *wait* and *time_limit* are seconds, *wait* below 0 is without end.

    Raises:
        RefusedError: an id cannot be one, there is no mirror, or configuration or mirror cannot be used; nothing was written.
        BusyError: another run holds the mirror.
    """
    wanted = list(dict.fromkeys(checked_id(id_) for id_ in ids))
    selection = selection or Selection()
    stop = stop or threading.Event()
    started_at = now()
    trouble: list[str] = []
    expected: list[str] = []
    notes: list[str] = []
    with Reader.open(config.mirror.path):
        pass  # a mirror is made by what fills it, and not by a path that is mistyped here
    with ExitStack() as stack:
        stack.enter_context(deadline(time_limit, stop, trouble, "call again for the records that were not asked for"))
        session = stack.enter_context(open_session(config, stop=stop, wait=wait, now=now))
        run_id = session.mirror.begin_run("refetch")
        records: list[Refetched] = []
        try:
            streams = [stream for stream in unless_stopped(session.streams, stop) if stream.entity == entity]
        except StoppedError:
            pass
        except UnfinishedError as error:
            (expected if session.expects(error) else trouble).append(str(error))
        else:
            records = _choose(session.mirror, streams, entity, selection, wanted, trouble, notes)
        pages = refetch_records(session, records, run_id, stop)
        _settle_not_found(records)
        counts = sum((record.counts for record in records), Counts())
        is_excused = not trouble and all(record.is_done or record.is_expected for record in records)
        outcome = outcome_of_run(
            is_stopped=stop.is_set(),
            is_whole=is_excused and not expected and all(record.is_done for record in records),
            is_excused=is_excused,
        )
        ended_at = now()
        # Each record has added its counts with what it wrote. Of a stopped run one may be about to be committed just now.
        session.mirror.end_run(run_id, outcome, None, session.tally.calls, pages)
        run = Run(run_id, "refetch", own_time(started_at), own_time(ended_at), outcome, session.tally.calls, pages, counts)
    return RefetchReport(run, records, trouble, expected, notes)


def refetch_records(session: Session, records: Sequence[Refetched], run_id: int, stop: threading.Event) -> int:
    """Fetch *records* anew, several at a time, and return how many answers came; each record then says what became of it."""
    answered: list[Stream] = []

    def refetch(record: Refetched) -> None:
        erased = session.mirror.erased
        if erased is not None and erased.find(record.stream.tenant_id, record.stream.entity, record.id):
            record.outcome = "erased"
            return
        try:
            session.service.greet(record.stream)
            entries = fetch_record(session.service, record.stream, record.id)
            answered.append(record.stream)
            _carry_out(session, record, entries, run_id)
        except NotFoundError as error:
            record.outcome, record.why = "not found", str(error)
        except UnfinishedError as error:
            record.outcome, record.why, record.is_expected = "failed", str(error), session.expects(error)
        if stop.is_set():
            raise StoppedError

    work_through(records, refetch, session.dds.parallel, stop)
    return len(answered)


def fetch_record(service: Dds, stream: Stream, id_: str) -> list[Entry]:
    """Return the one record *id_* as the service has it now: one entry, or the several that it lists of it.

    Raises:
        NotFoundError: the service does not know the record.
        UnfinishedError: there is no usable answer, or it holds another record.
    """
    try:
        page = service.fetch_latest(stream, id_)
    except StreamRefusedError as error:
        if error.status != 404:
            raise
        raise NotFoundError(str(error)) from error
    if not page.entries:
        raise NotFoundError(f"the service's answer holds no record (referenceId {page.reference_id or 'none'})")
    if any(entry.id != id_ and not (isinstance(entry, Broken) and entry.id is None) for entry in page.entries):
        raise ProtocolError(
            f"The answer for a single {stream.entity} of tenant {stream.tenant_id}, location {stream.location_id} holds another "
            "record than the one asked for. Nothing of it was taken. If it stays so, tell the vendor the referenceId "
            f"{page.reference_id or '(the answer bears none)'}."
        )
    return list(page.entries)


def outcome_of(plan: Plan) -> Outcome:
    """Return what a plan for one record does to it."""
    if plan.changes:
        return OF_OP[plan.changes[-1].op]
    if plan.quarantine:
        return "quarantined"
    if plan.erased:
        return "erased"
    return "unchanged" if plan.unchanged else "superseded"


def _choose(
    mirror: Mirror,
    streams: Sequence[Stream],
    entity: str,
    selection: Selection,
    ids: Sequence[str],
    trouble: list[str],
    notes: list[str],
) -> list[Refetched]:
    """Return what is to be asked for: each record where the mirror knows it, or wherever it may be."""
    known = mirror.whereabouts(entity, ids)
    elsewhere = {stream for stream, _ in known} - set(streams)
    for stream in sorted(elsewhere):
        notes.append(
            f"tenant {stream.tenant_id}, location {stream.location_id} holds some of these records, too, but is no longer "
            "configured; there they stay as they are"
        )
    chosen = [stream for stream in streams if selection.takes(stream)]
    if not chosen:
        trouble.append("no stream is selected; look at [dds] locations and entities, and at --tenant and --location")
    records = []
    for id_ in ids:
        holding = [stream for stream in chosen if (stream, id_) in known]
        everywhere = bool(selection.tenants or selection.locations) or not holding
        records += [Refetched(stream, id_, is_known=stream in holding) for stream in (chosen if everywhere else holding)]
    return records


def _carry_out(session: Session, record: Refetched, entries: Sequence[Entry], run_id: int) -> None:
    with session.mirror.transaction() as tx:
        fitted = tx.fit(record.stream, entries)
        plan = decide(tx.current(record.stream, [record.id]), fitted, Drained())
        counts = tx.carry_out(record.stream, plan, run_id, source="refetch")
    record.counts, record.said = counts, tx.said
    record.outcome = outcome_of(plan)
    if plan.quarantine:
        record.why = plan.quarantine[-1].reason


def _settle_not_found(records: Sequence[Refetched]) -> None:
    """Where a record was looked for in several locations, those that do not have it are no failure if one has."""
    found = {record.id for record in records if record.outcome not in ("not found", "failed", "not asked")}
    for record in records:
        if record.outcome == "not found" and record.id in found and not record.is_known:
            record.outcome, record.why = "not here", None
