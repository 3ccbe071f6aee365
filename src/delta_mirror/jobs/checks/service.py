"""Checks of the service: credentials, clock, each location and each entity.

Invariants:

- The marketplace is asked anew: for a token of each location, and for the locations that there are. That is no call that counts.
- A stream that the mirror has drained within a day, and that did not fail since, is known to answer. Any other is asked for one
  page of one record: a call, which is counted before it is sent, in the mirror. Where there is no mirror yet there is nothing to
  count in, as with `sync deltas --dry-run`; where the mirror cannot be written no such call is made.
- However many streams there are, so few calls are made that nobody waits for the next minute.
- A pause that the service has asked for is kept. So is a new one, in the mirror.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from delta_mirror.config import DAY
from delta_mirror.core.model import PageRequest, Stream
from delta_mirror.core.spans import span
from delta_mirror.core.values import EPOCH, HOUR, MINUTE, SECOND, read_ticks, write_ticks
from delta_mirror.errors import BudgetError, CredentialsError, RefusedError, UnfinishedError
from delta_mirror.jobs.checks.case import Case, Finding, hasty, ok, open_for_notes, unknown, wrong
from delta_mirror.jobs.session import Session, open_service
from delta_mirror.jobs.status import StreamStatus
from delta_mirror.mirror.write import Mirror

LOOK = "do what the message says"
MOST_CALLS = 40  # where there are more streams to ask, those of the first locations stand for all
MOST_PLACES = 8  # locations that are named one by one

Place = tuple[int, int]


class _NoMemory:
    """What is not remembered of the tenants, so that the service is asked."""

    def remembered(self, day: str) -> str | None:
        """Return that nothing is."""

    def remember(self, day: str, body: str) -> None:
        """Forget it."""


def check_service(case: Case) -> Iterator[Finding]:
    """Everything that only the service can tell."""
    if case.config.dds is None:
        return
    try:
        with _asking(case) as (session, may_ask):
            yield from _examine(case, session, may_ask=may_ask)
    except RefusedError as error:
        yield wrong("configuration", str(error), LOOK)


@contextmanager
def _asking(case: Case) -> Iterator[tuple[Session, bool]]:
    """Open the service; say whether calls can be counted."""
    with ExitStack() as stack:
        mirror = open_for_notes(case)
        counting = stack.enter_context(mirror or Mirror.in_memory(now=case.clock))
        session = open_service(hasty(case.config), counting, _NoMemory(), stop=case.stop, now=case.clock)
        yield stack.enter_context(session), mirror is not None or not case.has_mirror


def _examine(case: Case, session: Session, *, may_ask: bool) -> Iterator[Finding]:
    configured = list(session.dds.locations)
    first = Stream(*configured[0], session.dds.entities[0]) if configured else None
    try:
        session.ledger.check(first)
        if first is not None:
            session.service.greet(first)
        listed = session.service.locations()
    except UnfinishedError as error:
        check = "credentials" if isinstance(error, CredentialsError) else "service"
        yield wrong(check, str(error), "mend [dds] client_id and client_secret" if check == "credentials" else LOOK)
        yield unknown("locations", "not looked at, as the service does not let us in", "mend that first")
        return
    yield ok("credentials", "the marketplace accepts them")
    yield _clock(session)
    yield from _locations(configured, listed)
    streams = [Stream(*place, entity) for place in configured or listed for entity in session.dds.entities]
    session.ledger.share(streams)
    yield from _entities(case, session, streams, may_ask=may_ask)


def _clock(session: Session) -> Finding:
    doubt = session.doubt_clock()
    if doubt is not None:
        return wrong("clock", doubt, "timedatectl set-ntp true")
    return ok("clock", f"differs from the service's by {span(abs(session.ahead()))}")


def _locations(configured: Sequence[Place], listed: Sequence[Place]) -> Iterator[Finding]:
    lacking = [place for place in configured if place not in listed]
    for tenant_id, location_id in lacking:
        what = f"tenant {tenant_id}, location {location_id} is configured, and apps/tenant does not list it"
        yield wrong("locations", what, "mend [[dds.locations]], or have the vendor activate it for this client_id")
    if not listed and not configured:
        yield wrong("locations", "apps/tenant lists none", "have the vendor activate a location for this client_id")
    elif not lacking:
        number = len(configured or listed)
        yield ok("locations", f"{number} {'is' if number == 1 else 'are'} listed by apps/tenant")


def _entities(case: Case, session: Session, streams: Sequence[Stream], *, may_ask: bool) -> Iterator[Finding]:
    known = {each.known.stream: each for each in case.status.streams} if case.has_mirror and may_ask else {}
    answering: dict[Place, list[str]] = {}
    passed_over = 0
    for stream in streams:
        if _is_known_to_answer(known.get(stream), case.now):
            answering.setdefault(stream[:2], []).append(stream.entity)
        elif not may_ask:
            yield unknown("entities", f"{stream} was not asked: the call could not be counted in the mirror", "mend that first")
        elif session.tally.calls >= MOST_CALLS:
            passed_over += 1
        else:
            trouble = _ask(session, stream)
            if trouble is None:
                answering.setdefault(stream[:2], []).append(stream.entity)
            else:
                yield trouble
    yield from _answering(answering)
    if passed_over:
        told = f"{passed_over} streams more were not asked, as {session.tally.calls} calls are enough for a look"
        yield ok("entities", f"{told}; `sync deltas --dry-run` asks every one")
    if session.tally.calls:
        number = session.tally.calls
        yield ok("calls", f"{number} {'was' if number == 1 else 'were'} made for this: for what was not drained within a day")


def _answering(answering: Mapping[Place, Sequence[str]]) -> Iterator[Finding]:
    """Yield which entities answer: location by location, or, of many, those with the same entities together."""
    if len(answering) <= MOST_PLACES:
        for (tenant_id, location_id), entities in answering.items():
            yield ok("entities", f"tenant {tenant_id}, location {location_id}: {', '.join(entities)} answer")
        return
    numbers = Counter(", ".join(entities) for entities in answering.values())
    for names, number in numbers.items():
        yield ok("entities", f"{number} {'location' if number == 1 else 'locations'}: {names} answer")


def _is_known_to_answer(each: StreamStatus | None, now: float) -> bool:
    succeeded = (
        read_ticks(each.known.last_success_at) if each and each.known.last_success_at and not each.known.last_error else None
    )
    return succeeded is not None and now - (succeeded - EPOCH) / SECOND < DAY


def _ask(session: Session, stream: Stream) -> Finding | None:
    """Ask for one page of one record; return what is wrong with the answer."""
    start = session.service.clock() - HOUR
    request = PageRequest(write_ticks(start - start % MINUTE), number=0, size=1, may_be_past_end=False)
    try:
        session.service.greet(stream)
        session.service.fetch(stream, request)
    except BudgetError as error:
        return unknown("entities", str(error), "look again when calls are given anew")
    except UnfinishedError as error:
        return wrong("entities", str(error), LOOK)
    return None
