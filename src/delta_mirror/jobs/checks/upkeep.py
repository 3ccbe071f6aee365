"""Checks of how the mirror is kept: streams that fail or grow stale, gaps, quarantine, and whether the day's calls are enough."""

from collections.abc import Iterator, Sequence

from delta_mirror.config import DAY, FEED_REACH, DdsSection
from delta_mirror.core.spans import span
from delta_mirror.core.values import EPOCH, SECOND, read_ticks
from delta_mirror.jobs.checks.case import Case, Finding, ok, wrong
from delta_mirror.jobs.masking import mask_of
from delta_mirror.jobs.status import StreamStatus
from delta_mirror.mirror.file import own_time
from delta_mirror.mirror.mask_state import MaskState, read_mask_state
from delta_mirror.mirror.read import Reader

STALE = DAY  # seconds
NEAR_A_GAP = 5 * DAY  # seconds; the feed reaches back seven days
LONG_RUN = 5  # minutes; shorter ones fit between any two
CALLS_OF_A_QUIET_RUN = 2  # per stream (docs/promises.md, "4. Few calls")


def check_streams(case: Case) -> Iterator[Finding]:
    """Each configured stream is followed, and was caught up lately."""
    if not case.has_mirror or case.config.dds is None:
        return
    streams = [each for each in case.status.streams if each.is_configured]
    troubled = list(_troubles(streams))
    yield from troubled
    if not troubled:
        oldest = max((each.lag_seconds or 0 for each in streams), default=0)
        yield ok("streams", f"{len(streams)} are followed; the one that lags most was caught up {span(oldest)} ago")


def _troubles(streams: Sequence[StreamStatus]) -> Iterator[Finding]:
    if not streams:
        yield wrong("streams", "none was ever drained", "sync deltas")
    for each in streams:
        known, lag = each.known, each.lag_seconds
        if known.state == "gap":
            what = f"{known.stream}: gap: what changed from {known.gap_from} to {known.gap_to} is missing"
            yield wrong("streams", what, "sync full-starter, with a newer Starter Export")
        if known.last_error:
            yield wrong("streams", f"{known.stream}: the last drain failed: {known.last_error}", "sync --verbose deltas")
        elif lag is None:
            yield wrong("streams", f"{known.stream}: was never drained to its end", "sync deltas")
        if lag is not None and lag > NEAR_A_GAP:
            left = (
                f"within {span(FEED_REACH - lag)}, or a gap is left" if lag < FEED_REACH else "at once; it leaves a gap already"
            )
            what = f"{known.stream}: was caught up {span(lag)} ago, and the feed reaches back 7 days only"
            yield wrong("streams", what, f"sync deltas, {left}")
        elif lag is not None and lag > STALE:
            yield wrong("streams", f"{known.stream}: was caught up {span(lag)} ago", "sync deltas; look whether cron calls it")


def check_mask(case: Case) -> Iterator[Finding]:
    """The mask can be used, and the mirror holds what it allows and nothing else."""
    config = case.config
    rules = mask_of(config).rules
    state = MaskState()
    if case.has_mirror:
        with Reader.open(config.mirror.path) as reader:
            state = read_mask_state(reader, config.mirror.mask)
    if state.is_due:
        yield wrong("mask", "[mirror.mask] has changed and was not carried out on what the mirror holds", "sync deltas")
    elif state.is_unswept:
        what = "values that [mirror.mask] takes away may still lie in free pages of the mirror or in its WAL"
        yield wrong("mask", what, "close what reads the mirror, see that there is room, then sync deltas")
    for stream, columns in state.lifted.items():
        what = f"{stream} lacks what [mirror.mask] took away before: {', '.join(columns)}"
        yield wrong("mask", what, "sync full-starter, with a newer Starter Export, then sync deltas")
    if rules and state.is_done:
        unmet = f"; these have never come, are they spelled as the service does? {', '.join(state.unmet)}" if state.unmet else ""
        yield ok("mask", f"of {len(rules)} {'table' if len(rules) == 1 else 'tables'}, carried out{unmet}")


def check_quarantine(case: Case) -> Iterator[Finding]:
    """Nothing is set aside."""
    if not case.has_mirror:
        return
    with Reader.open(case.config.mirror.path) as reader:
        number = reader.quarantine_count()
    if number:
        what = f"{number} {'thing' if number == 1 else 'things'} could not be applied"
        yield wrong("quarantine", what, "sync quarantine list, then retry or drop")
    else:
        yield ok("quarantine", "empty")


def check_budget(case: Case) -> Iterator[Finding]:
    """The calls of a day, and those of a minute, are enough for as many runs as are made a day."""
    dds = case.config.dds
    if dds is None:
        return
    runs = _runs_a_day(case)
    yield from _check_minutes(case, dds, runs)
    if not dds.calls_per_day:
        yield ok("budget", "[dds] calls_per_day is 0: no limit")
        return
    a_run = len(dds.entities) * CALLS_OF_A_QUIET_RUN
    fitting = dds.calls_per_day // a_run
    if runs is None:
        sum_ = f"{len(dds.entities)} entities x {CALLS_OF_A_QUIET_RUN} calls a run: {dds.calls_per_day} calls are enough for"
        yield ok("budget", f"{sum_} {fitting} runs a day, one every {_every(fitting)}")
        return
    sum_ = f"{len(dds.entities)} entities x {CALLS_OF_A_QUIET_RUN} calls x {runs} runs a day are {a_run * runs} of "
    what = f"{sum_}{dds.calls_per_day} calls of a location"
    if a_run * runs > dds.calls_per_day:
        yield wrong("budget", what, f"run every {_every(fitting)} at most, follow fewer entities, or raise [dds] calls_per_day")
    else:
        yield ok("budget", what)


def _check_minutes(case: Case, dds: DdsSection, runs: int | None) -> Iterator[Finding]:
    """Say how long a run over many streams takes at the least, by the calls that are allowed a minute."""
    streams = sum(each.is_configured for each in case.status.streams)
    minutes = -(-streams * CALLS_OF_A_QUIET_RUN // dds.calls_per_minute) if dds.calls_per_minute else 0
    if minutes < LONG_RUN:
        return
    sum_ = f"{streams} streams x {CALLS_OF_A_QUIET_RUN} calls at {dds.calls_per_minute} a minute"
    what = f"{sum_}: a run takes {minutes} min or longer"
    if runs is not None and runs * minutes > 24 * 60:
        remedy = f"run every {minutes} min at most, with --if-running skip, or ask the vendor for more calls a minute"
        yield wrong("budget", f"{what}, and {runs} are made a day", remedy)
    else:
        yield ok("budget", what)


def _every(runs: int) -> str:
    return f"{-(-24 * 60 // runs)} min" if runs else "other day"


def _runs_a_day(case: Case) -> int | None:
    """Return how many runs there are a day, by those of the last one; None where there has not been a whole day of them."""
    if not case.has_mirror:
        return None
    with Reader.open(case.config.mirror.path) as reader:
        starts = reader.starts("deltas", own_time(case.now - 2 * DAY))
    a_day_ago = case.now - DAY
    epochs = [((read_ticks(text) or EPOCH) - EPOCH) / SECOND for text in starts]
    if not any(at <= a_day_ago for at in epochs):
        return None
    return sum(at > a_day_ago for at in epochs)
