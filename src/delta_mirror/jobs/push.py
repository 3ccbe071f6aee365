"""`sync accela push`: bring what has changed of linked records to their contacts.

Of each contact, in this order: read, settle what an earlier run has left behind, compare, write, read again, settle.

Invariants:

- One contact that fails does not stop the others. What would fail for all of them, such as refused credentials, ends the run.
- A push is in the mirror before it is sent. Whatever happens in between, the next run begins by reading the contact.
- A record is as the mirror has it when the run begins: the lock is held, and nothing else writes.
- A dry run reads contacts, and writes nothing at all.
"""

import random
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TypeVar

from delta_mirror.accela.api import Accela, Agency
from delta_mirror.accela.contact import Contact, Wanted, differing, marks, obstructed, shown, with_fields
from delta_mirror.accela.mapping import EntityMap, build, crowded, newest_first
from delta_mirror.accela.push_plan import (
    ENDED,
    GONE,
    Lost,
    Refusal,
    Told,
    Verdict,
    judge,
    judge_refusal,
    settle_left,
    shall_clear_again,
)
from delta_mirror.calls.attempts import Manners
from delta_mirror.config import Config
from delta_mirror.core.links import Left, Source, Who
from delta_mirror.errors import LimitedError, ProtocolError, UnfinishedError
from delta_mirror.jobs.due import Due, choose_due, read_maps, refuse_masked_maps
from delta_mirror.jobs.masking import mask_of
from delta_mirror.jobs.push_report import Pushed, PushReport, PushWishes
from delta_mirror.jobs.session import StoppedError, deadline, interruptible, open_mirror, unless_stopped
from delta_mirror.mirror.accela import Histories, Pushes, Settled
from delta_mirror.mirror.file import own_time
from delta_mirror.mirror.read import Reader

BATCH = 200  # records that are read from the mirror at a time
MANY_IN_A_ROW = 5  # contacts without a usable answer, one after the other, before the run gives up: each costs its time-out

Answered = TypeVar("Answered")


def run_push(
    config: Config,
    wishes: PushWishes | None = None,
    *,
    stop: threading.Event | None = None,
    watch: Callable[[PushReport], None] = lambda report: None,
    now: Callable[[], float] = time.time,
    sleep: Callable[[float], None] | None = None,
    jitter: Callable[[], float] = random.random,
) -> PushReport:
    """Push what has changed. *stop*, once set, ends the run; *watch* is told after every contact.

    Raises:
        RefusedError: configuration, map or mirror cannot be used, or there is no mirror; nothing was sent.
        BusyError: another run holds the mirror.
    """
    wishes = wishes or PushWishes()
    stop = stop or threading.Event()
    report = PushReport(started_at=now())
    section = config.require_accela()
    maps = read_maps(config, section)
    refuse_masked_maps(config, mask_of(config), maps)
    with Reader.open(config.mirror.path):
        pass  # a mirror is made by what fills it
    with ExitStack() as stack:
        stack.enter_context(deadline(wishes.time_limit, stop, report.trouble, "the next run goes on with the rest"))
        mirror = stack.enter_context(open_mirror(config, stop=stop, wait=wishes.wait, now=now))
        pushes = Pushes(mirror, now)
        chosen = choose_due(str(config.path), pushes, maps, retry_failed=wishes.retry_failed)
        report.rivals, report.absent, report.unmapped = chosen.rivals, chosen.absent, chosen.unmapped
        report.links = chosen.total
        if not wishes.dry_run:
            report.id = mirror.begin_run("accela push", at=report.started_at)
            pushes.carry_out(chosen.links)
            pushes.move_on(chosen.quiet, chosen.head)
        service = open_accela(config, now=now, sleep=sleep or interruptible(stop), jitter=jitter)
        stack.callback(service.close)
        run = _Run(service, pushes, report, chosen.maps, chosen.head, stop)
        run.push_all(chosen.due, chosen.orphans, wishes.limit, watch)
        report.calls = service.calls
        report.outcome = "stopped" if stop.is_set() else "done" if report.is_whole else "unfinished"
        report.ended_at = now()
        if report.id is not None:
            mirror.end_run(report.id, report.outcome, None, report.calls, 0, at=report.ended_at)
    return report


def open_accela(
    config: Config,
    *,
    now: Callable[[], float] = time.time,
    sleep: Callable[[float], None],
    jitter: Callable[[], float] = random.random,
) -> Accela:
    """Return the configured agency's service, which nothing has been asked of yet.

    Raises:
        ConfigError: a key of `[accela]` is empty.
    """
    section, http = config.require_accela(), config.http
    agency = Agency(
        *(section.auth_url, section.api_url, section.app_id, section.app_secret.reveal(), section.agency),
        *(section.environment, section.username, section.password.reveal(), section.lang),
    )
    manners = Manners(http.timeout, http.attempts, http.max_wait, str(http.ca_file or ""))
    return Accela(agency, manners, now=now, sleep=sleep, jitter=jitter)


class _NothingSentError(Exception):
    """A PUT certainly did not go out, which makes the push a *verdict*; *why* ends the run."""

    def __init__(self, verdict: Verdict, why: UnfinishedError) -> None:
        super().__init__(str(why))
        self.verdict = verdict
        self.why = why


class _Run:
    """One run over all links that are due."""

    def __init__(
        self,
        service: Accela,
        pushes: Pushes,
        report: PushReport,
        maps: dict[str, EntityMap],
        head: int,
        stop: threading.Event,
    ) -> None:
        self._service = service
        self._pushes = pushes
        self._report = report
        self._maps = maps
        self._head = head
        self._stop = stop
        self._silent_in_a_row = 0

    def push_all(
        self, due: Sequence[Due], orphans: Sequence[Left], limit: int | None, watch: Callable[[PushReport], None]
    ) -> None:
        """Push everything that is *due*, at most *limit* of it, after settling the *orphans*."""
        report = self._report
        report.due = len(due)
        taken = due if limit is None else due[:limit]
        report.waiting = len(due) - len(taken)
        try:
            if due or orphans:
                self._heed_pause()
            for orphan in orphans if report.id is not None else ():
                self._settle_orphan(orphan)
            for each, source in self._with_sources(taken):
                self._push(each, source)
                watch(report)
                if self._silent_in_a_row >= MANY_IN_A_ROW:
                    report.trouble.append(
                        f"Accela gave no usable answer for {MANY_IN_A_ROW} contacts one after the other; the others wait for a "
                        "later run"
                    )
                    return
        except StoppedError:
            return
        except LimitedError as error:
            report.trouble.append(str(error))
            if error.until is not None and report.id is not None:
                self._pushes.pause(error.until)
        except UnfinishedError as error:
            report.trouble.append(str(error))

    def _heed_pause(self) -> None:
        until = self._pushes.paused_until()
        if until > self._report.started_at:
            raise LimitedError(f"Accela has told us to stop calling until {own_time(until)}; a run after that goes on.", until)

    def _with_sources(self, due: Sequence[Due]) -> Iterator[tuple[Due, Source | None]]:
        """Yield *due* with their records as the mirror has them, child rows newest first where it matters, None of a dead one."""
        for begin in range(0, len(due), BATCH):
            batch = due[begin : begin + BATCH]
            sources = [self._pushes.read(each.link.who, self._maps[each.link.who.entity].tables()) for each in batch]
            wanted = {
                each.link.who: tables
                for each, source in zip(batch, sources, strict=True)
                if source is not None and (tables := crowded(self._maps[each.link.who.entity], source))
            }
            histories = self._pushes.histories(wanted)
            for each, source in zip(batch, sources, strict=True):
                who = each.link.who
                yield each, None if source is None else _sorted(source, who, wanted.get(who, ()), histories)

    # ---- one contact

    def _push(self, due: Due, source: Source | None) -> None:
        if source is None:
            self._note_deleted(due)
            return
        built = build(self._maps[due.link.who.entity], source)
        pushed = Pushed(due.link, "failed", left_alone=dict(built.left))
        contact = self._read(pushed)
        self._report.contacts.append(pushed)
        if contact is None or (due.left is not None and self._settle_left(due, due.left, contact, pushed)):
            return
        if names := obstructed(contact, built.wanted):
            self._take(
                pushed, Verdict("failed", error=f"no object, but something else stands in {', '.join(names)}; it is left alone")
            )
            return
        fields = differing(contact, built.wanted)
        pushed.changes = {name: (shown(contact, name), built.wanted[name] or "") for name in fields}
        if not fields:
            self._take(pushed, Verdict("unchanged"))
        elif self._report.id is None:
            pushed.outcome = "would push"
        else:
            self._write(pushed, contact, built.wanted, fields, self._report.id)

    def _note_deleted(self, due: Due) -> None:
        """Note, once, that the record is gone. Its contact is left alone; a push that was left behind is settled."""
        if due.left is not None and self._report.id is not None:
            self._settle_orphan(due.left)
        if due.last_outcome != "source_deleted":
            pushed = Pushed(due.link, "source_deleted")
            self._report.contacts.append(pushed)
            self._take(pushed, Verdict("source_deleted"))
        elif self._report.id is not None:
            self._pushes.pass_over(due.link, self._head)

    def _read(self, pushed: Pushed) -> Contact | None:
        """Return the contact; None where it cannot be read, which is then written down."""
        found = self._get(pushed.link.contact_id)
        if not isinstance(found, Verdict):
            return found
        self._take(pushed, found)
        return None

    def _get(self, contact_id: str) -> Contact | Verdict:
        """Return the contact, or what it means that this one cannot be read."""
        try:
            found = self._ask(partial(self._service.get, contact_id))
        except ProtocolError as error:
            self._silent_in_a_row += 1
            return Verdict("failed", error=str(error), is_open=True)
        if not isinstance(found, Refusal):
            return found
        self._silent_in_a_row += not found.is_final
        trouble = GONE if found.status == 404 else f"it cannot be read: {found}"
        return Verdict("failed", error=trouble, trace_id=found.trace_id, is_open=found.status != 404)

    def _settle_left(self, due: Due, left: Left, contact: Contact, pushed: Pushed) -> bool:
        """Settle what an earlier run has left behind; return whether nothing remains to be pushed."""
        verdict = settle_left(left, contact)
        if self._report.id is not None:
            self._settle(left, verdict)
        if verdict.outcome not in ENDED or due.changed_seq > left.seq or (verdict.missed and due.is_retry):
            return False
        self._tell(pushed, verdict)
        return True

    def _write(self, pushed: Pushed, contact: Contact, wanted: Wanted, fields: Sequence[str], run_id: int) -> None:
        """Write the *fields* that differ, read again, and settle what became of it."""
        link = pushed.link
        left_marks = marks(link.contact_id, wanted, fields)
        number = self._pushes.begin(run_id, link, self._head, fields, left_marks)
        left = Left(number, link.who, link.contact_id, self._head, left_marks)
        pushed.outcome = "sent"
        try:
            verdict = self._put(link.contact_id, contact, wanted, fields)
        except _NothingSentError as stopped:
            self._conclude(left, pushed, stopped.verdict)
            raise stopped.why from stopped
        self._conclude(left, pushed, verdict)

    def _put(self, contact_id: str, contact: Contact, wanted: Wanted, fields: Sequence[str]) -> Verdict:
        """Return what became of a PUT. A field that is to be cleared, and is not by null, is so once more by an empty text."""
        told = self._send(contact_id, with_fields(contact, wanted), fields)
        verdict, again = self._look(contact_id, contact, wanted, fields, told)
        if again is not None and verdict.outcome == "partly" and shall_clear_again(wanted, again):
            try:
                told = self._send(contact_id, with_fields(again, wanted, blank=""), fields)
            except _NothingSentError as stopped:
                raise _NothingSentError(verdict, stopped.why) from stopped  # the first PUT did go out
            verdict, _ = self._look(contact_id, contact, wanted, fields, told)
        return verdict

    def _send(self, contact_id: str, contact: Contact, fields: Sequence[str]) -> Told:
        try:
            told = self._ask(partial(self._service.put, contact_id, contact, fields))
        except UnfinishedError as error:
            raise _NothingSentError(Verdict("failed", tuple(fields), error=str(error)), error) from error
        self._silent_in_a_row += isinstance(told, Lost)
        return told

    def _look(
        self, contact_id: str, before: Contact, wanted: Wanted, fields: Sequence[str], told: Told
    ) -> tuple[Verdict, Contact | None]:
        """Return what became of a PUT that was answered as *told*, and the contact where that had to be read for it."""
        if isinstance(told, Refusal) and told.is_final:
            return judge_refusal(fields, told), None
        again = self._get(contact_id)
        if isinstance(again, Verdict):
            return replace(again, fields=tuple(fields), error=f"it was sent, and then: {again.error}"), None
        return judge(fields, wanted, told, before, again), again

    def _settle_orphan(self, left: Left) -> None:
        """Settle a push to a contact that its record is no longer linked to, or that nothing maps any more."""
        found = self._get(left.contact_id)
        if not isinstance(found, Verdict):
            self._settle(left, settle_left(left, found))
        elif not found.is_open:
            self._settle(left, replace(found, fields=tuple(left.marks)))

    def _conclude(self, left: Left, pushed: Pushed, verdict: Verdict) -> None:
        self._settle(left, verdict)
        self._tell(pushed, verdict)

    def _settle(self, left: Left, verdict: Verdict) -> None:
        self._pushes.settle(left, _settled(verdict, left.marks if verdict.is_open else None))

    def _take(self, pushed: Pushed, verdict: Verdict) -> None:
        """Write down what became of a push that has sent nothing."""
        self._tell(pushed, verdict)
        if self._report.id is not None:
            self._pushes.note(self._report.id, pushed.link, self._head, _settled(verdict, None))

    def _tell(self, pushed: Pushed, verdict: Verdict) -> None:
        if verdict.outcome in ENDED:
            self._silent_in_a_row = 0
        pushed.outcome, pushed.missed, pushed.beside = verdict.outcome, verdict.missed, verdict.beside
        pushed.error, pushed.warning, pushed.trace_id = verdict.error, verdict.warning, verdict.trace_id

    def _ask(self, ask: Callable[[], Answered]) -> Answered:
        if self._stop.is_set():
            raise StoppedError
        return unless_stopped(ask, self._stop)


def _sorted(source: Source, who: Who, tables: Collection[str], histories: Histories) -> Source:
    """Return *source* with the rows of *tables* by their last change, newest first."""
    newest = {name: newest_first(source.children[name], histories.get((who, name), ())) for name in tables}
    return replace(source, children={**source.children, **newest})


def _settled(verdict: Verdict, still: Mapping[str, str] | None) -> Settled:
    """Return *verdict* as it is written; *still* are the marks of a push that a later GET may find done."""
    beside = f"changed beside it: {', '.join(verdict.beside)}" if verdict.beside else None
    words = "; ".join(each for each in (verdict.error, verdict.warning, beside) if each)
    return Settled(verdict.outcome, verdict.fields, words or None, verdict.trace_id, still, verdict.outcome in ENDED)
