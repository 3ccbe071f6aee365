"""The drain of one stream: read its feed from where the mirror stands until nothing more comes.

Invariants:

- A page is one transaction: rows, change log, tombstones, quarantine and the place reached are committed together.
- While a page is applied the next one is fetched. The place that is kept is the one behind the page applied, never further.
- Watermark and `caught_up_at` move when the drain is complete, and the watermark never back. `caught_up_at` follows the clock:
  where the service sends no Date that is ours, and one that is set back takes it along. That may show a gap that is none, and
  hides none; a clock that was ahead and has been set right must not leave its time behind.
- Whatever goes wrong with a stream stays with it: it is written to its row in `_streams` and told in the report.
- A drain that was broken off goes on from its last committed page; then the feed is read once more from there to now. So it is
  where its pages do not hold still, once: what the process that died has read counts as well.
- Reading from a time of the operator's choice (`--since`) moves the watermark only where it leaves nothing out.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, cast

from delta_mirror.core.model import Entry, Page, PageRequest, Stream
from delta_mirror.core.paging import Walk
from delta_mirror.core.place import NO_HABITS, Debt, Habits, Place
from delta_mirror.core.plan import Counts, Drained, Plan, decide
from delta_mirror.core.values import DAY, SECOND, read_ticks, write_ticks
from delta_mirror.core.window import Window, open_window
from delta_mirror.errors import DiskFullError, PagingError, StreamRefusedError, UnfinishedError
from delta_mirror.jobs.ahead import Ahead
from delta_mirror.mirror.file import own_time
from delta_mirror.mirror.read import Json, StreamState
from delta_mirror.mirror.transaction import StreamColumns, Transaction
from delta_mirror.mirror.write import Mirror


class Service(Protocol):
    """What a drain needs of a service: see `delta_mirror.dds.api.Dds`."""

    def greet(self, stream: Stream) -> None:
        """Make sure that the service answers for the location of *stream*, and that its clock is known."""

    def clock(self) -> int:
        """Return the service's clock, in ticks."""

    def fetch_unread(self, stream: Stream, request: PageRequest, counted: Callable[[], None]) -> Callable[[], Page]:
        """Return what gives one page; *counted* is called when the call is counted, before it is sent."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How streams are read: page size, and in ticks the overlap, the first window, and what the operator asked for."""

    size: int
    overlap: int
    first_window: int
    since: int | None = None


@dataclass(slots=True)
class Report:
    """What became of one stream in one run. `error` is what broke its drain off, and `is_expected` says that the service's
    maintenance window explains it. `said` is what an operator may like to know: tables and columns made, changes that only a
    deeper drain has met.
    """

    stream: Stream
    state: str = "new"
    counts: Counts = field(default_factory=Counts)
    pages: int = 0
    late: int = 0
    gap: tuple[str, str] | None = None
    error: UnfinishedError | None = None
    is_expected: bool = False
    said: list[str] = field(default_factory=list)


class Drain:
    """One drain of one stream.

    *watch* is called after each page with the report so far. It may raise to stop the drain: the page is committed by then.
    """

    def __init__(
        self,
        stream: Stream,
        service: Service,
        mirror: Mirror,
        reading: Reading,
        run_id: int,
        watch: Callable[[Report], None] = lambda report: None,
    ) -> None:
        self._stream = stream
        self._service = service
        self._mirror = mirror
        self._reading = reading
        self._run_id = run_id
        self._watch = watch
        self.report = Report(stream)
        self._late_before = self._superseded_before = 0

    def run(self) -> Report:
        """Bring the stream up to date and return what happened; a failure is in the report, and in the mirror."""
        known = self._mirror.read_stream(self._stream)
        self.report.state = known.state
        self._late_before, self._superseded_before = known.late, known.superseded
        try:
            self._service.greet(self._stream)
            was_broken_off = self._drain_once(known, may_begin_anew=True)
            if was_broken_off:
                self._drain_once(self._mirror.read_stream(self._stream))
        except UnfinishedError as error:
            self._fail(error)
        return self.report

    def _drain_once(self, known: StreamState, *, may_begin_anew: bool = False) -> bool:
        """Read to the end of the feed; return whether this went on from an earlier drain's place.

        Where it did, and the pages of the two together would not hold still, that place is given up: they may hold still now.
        """
        window = self._open_window(known)
        walk, resumes = self._begin(known, window)
        drained = Drained()
        with Ahead(partial(self._service.fetch_unread, self._stream)) as ahead:
            while (request := walk.request) is not None:
                page, looks_back = ahead.take(request), walk.looks_back
                trouble = _receive(self._stream, walk, page)
                ahead.ask(None if trouble else walk.request_ahead)
                with self._page_transaction() as tx:
                    self._apply(tx, page, drained, window, looks_back=looks_back)
                    self._keep_place(tx, None if trouble else walk.place())
                if trouble and resumes and may_begin_anew:
                    return True
                if trouble:
                    raise trouble
                if walk.entries_return_from is not None:
                    drained.forget_before(walk.entries_return_from)
                self.report.pages += 1
                self._watch(self.report)
        self._complete(known, walk, window, resumes=resumes)
        return resumes

    def _open_window(self, known: StreamState) -> Window:
        habits = _habits(known)
        return open_window(
            now=self._service.clock(),
            overlap=self._reading.overlap,
            first_window=self._reading.first_window,
            watermark=_ticks(known.watermark),
            caught_up=_ticks(known.caught_up_at),
            since=self._reading.since,
            offset_known=habits["offset"] is not None,
        )

    def _begin(self, known: StreamState, window: Window) -> tuple[Walk, bool]:
        debt = cast("Debt | None", known.debt)
        if debt:
            debt = Debt(starts=[max(start, window.limit) for start in debt["starts"]], full=debt["full"], runs=debt["runs"])
        watermark = _ticks(known.watermark)
        place = cast("Place | None", known.place)
        if place and self._reading.since is None and max(place["anchor"], place["start"]) >= window.limit:
            place["start"] = max(place["start"], window.limit)
            walk = Walk.resume(place, size=self._reading.size, count_known=self._count_known, watermark=watermark, debt=debt)
            return walk, True
        walk = Walk(
            window.start,
            size=self._reading.size,
            count_known=self._count_known,
            watermark=watermark,
            habits=_habits(known),
            debt=debt,
        )
        return walk, False

    def _count_known(self, after: int, upto: int) -> int:
        return self._mirror.count_known(self._stream, after, upto)

    @contextmanager
    def _page_transaction(self) -> Iterator[Transaction]:
        """Begin a transaction of the mirror. What is dropped with it, as on a full disk, is not in the report either."""
        counts, late, said = self.report.counts, self.report.late, len(self.report.said)
        try:
            with self._mirror.transaction() as tx:
                yield tx
        except BaseException:
            self.report.counts, self.report.late = counts, late
            del self.report.said[said:]
            raise

    def _apply(self, tx: Transaction, page: Page, drained: Drained, window: Window, *, looks_back: bool) -> None:
        entries = tx.fit(self._stream, page.entries)
        held = tx.current(self._stream, ids_of(entries))
        plan = decide(held, entries, drained, looks_back=looks_back)
        self.report.counts += tx.carry_out(self._stream, plan, self._run_id)
        self.report.late += _count_late(plan, window)
        self.report.said += tx.said

    def _keep_place(self, tx: Transaction, place: Place | None) -> None:
        columns = StreamColumns(
            late=self._late_before + self.report.late, superseded=self._superseded_before + self.report.counts.superseded
        )
        if self._reading.since is None:
            tx.remember(self._stream, cast("dict[str, Json] | None", place), **columns)
        else:
            tx.note(self._stream, **columns)

    def _complete(self, known: StreamState, walk: Walk, window: Window, *, resumes: bool) -> None:
        first_call = walk.first_call
        assert first_call is not None  # noqa: S101 - a walk without a request has had an answer
        gap = _widest(known, None if resumes else window.gap)
        columns = StreamColumns(
            state="gap" if gap else "following",
            last_success_at=own_time(self._mirror.now()),
            last_error=None,
            refused_since=None,
            habits=cast("dict[str, Json]", walk.habits),
        )
        if gap:
            columns["gap_from"], columns["gap_to"] = gap
        if self._reading.since is None or self._reading.since <= window.usual:
            before, reached = _ticks(known.watermark), walk.reached
            if reached is not None and (before is None or reached.ticks > before):
                columns["watermark"] = reached.text
            columns["caught_up_at"] = _at(first_call)
            columns["debt"] = cast("dict[str, Json] | None", walk.debt)
        self.report.state, self.report.gap = columns["state"], gap
        with self._mirror.transaction() as tx:
            tx.note(self._stream, **columns)
            tx.forget_erased(self._stream, window.limit - DAY)
            self._keep_place(tx, None)

    def _fail(self, error: UnfinishedError) -> None:
        """Note that the drain was broken off; where the stream has been refused for over a day, that leaves a gap."""
        known = self._mirror.read_stream(self._stream)
        now = self._service.clock()
        columns = StreamColumns(last_error=str(error))
        gap = _widest(known, None)
        if isinstance(error, StreamRefusedError):
            refused_since = known.refused_since or _at(now)
            columns["refused_since"] = refused_since
            since = read_ticks(refused_since)
            if since is not None and now - since > DAY:
                gap = _widest(known, (min(since, _ticks(known.caught_up_at) or since), now))
        columns["state"] = "gap" if gap else "failing"
        if gap:
            columns["gap_from"], columns["gap_to"] = gap
        self.report.state, self.report.gap, self.report.error = columns["state"], gap, error
        with suppress(DiskFullError), self._mirror.transaction() as tx:
            tx.note(self._stream, **columns)


def _receive(stream: Stream, walk: Walk, page: Page) -> PagingError | None:
    """Give *page* to *walk*; return what is wrong with the paging, for what came is kept all the same."""
    try:
        walk.receive(page)
    except PagingError as error:
        told = PagingError(
            f"{stream}: {error}. What came is kept, the watermark stays, and the next run begins anew. "
            "If it stays so, ask the vendor what has changed in the feed"
        )
        told.__cause__ = error
        return told
    return None


def ids_of(entries: Sequence[Entry]) -> list[str]:
    """Return the ids that *entries* name."""
    return [entry.id for entry in entries if entry.id is not None]


def _count_late(plan: Plan, window: Window) -> int:
    """Return how many changes became visible so late that only a drain that begins further back has met them."""
    dates = (change.record.changed for change in plan.changes)
    return sum(date is not None and window.start < date.ticks < window.usual for date in dates)


def _habits(known: StreamState) -> Habits:
    return cast("Habits", known.habits) if known.habits else NO_HABITS


def _widest(known: StreamState, gap: tuple[int, int] | None) -> tuple[str, str] | None:
    """Return the gap of a stream that has perhaps one already, widened by *gap*; None where there is none."""
    starts = [start for start in (_ticks(known.gap_from), gap and gap[0]) if start is not None]
    ends = [end for end in (_ticks(known.gap_to), gap and gap[1]) if end is not None]
    return (_at(min(starts)), _at(max(ends))) if starts and ends else None


def _ticks(text: str | None) -> int | None:
    return None if text is None else read_ticks(text)


def _at(ticks: int) -> str:
    """Return *ticks*, a time of the service, in the form of the mirror's own times: UTC, whole seconds, `Z`."""
    return write_ticks(ticks - ticks % SECOND, "Z").replace(".0000000", "")
