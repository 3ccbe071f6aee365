"""The state of a mirror as people read it: a table, what holds for the whole, and then what is wrong and what to type.

Invariants:

- Colours are for terminals alone, and not there with NO_COLOR or TERM=dumb.
- Whoever reads through a pipe gets every column and every word; on a terminal what does not fit beside the rest is told below.
- Nothing is wrong that is not said below the table, with what to do about it.
"""

import os
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Literal, NamedTuple

import click

from delta_mirror.cli.common import write_whatever_comes
from delta_mirror.cli.main import COMMANDS
from delta_mirror.cli.messages import printable
from delta_mirror.config import FEED_REACH
from delta_mirror.core.model import Stream
from delta_mirror.core.spans import span
from delta_mirror.core.values import EPOCH, SECOND, read_ticks
from delta_mirror.jobs.status import Status, StreamStatus
from delta_mirror.mirror.accela_tally import AccelaTally
from delta_mirror.mirror.file import FIRST_RUNS, own_time
from delta_mirror.mirror.mask_state import MaskState
from delta_mirror.mirror.read import ACCOUNT, NexusTally

MOST_ROWS = 300  # for rich, which takes a millisecond and more for each
BETWEEN_COLUMNS = "   "  # as rich draws them
MOST_LINES = 10  # of one kind of trouble
MOST_PLACES = 8  # locations whose calls are told one by one
STALE = 86_400  # seconds
NEARLY_SPENT = 0.8  # of the day's calls
DAY = 86_400  # seconds


class _Column(NamedTuple):
    title: str
    cell: Callable[[StreamStatus], str]
    is_number: bool = False
    place: Literal["everywhere", "where it fits", "in a pipe"] = "everywhere"


def show(status: Status, now: float, *, verbose: bool) -> None:
    """Write *status* to standard output; *now* in seconds since the epoch."""
    write_whatever_comes()
    is_terminal = sys.stdout.isatty()
    width = _terminal_width() if is_terminal else None
    there = "" if status.exists else f" (not there yet; {FIRST_RUNS} makes it)"
    click.echo(f"mirror {printable(str(status.mirror))}{there}")
    are_all = True
    if status.streams:
        click.echo()
        columns, are_all = _fitting(_columns(status, now, verbose=verbose), status, width)
        if is_terminal and os.environ.get("TERM") not in (None, "", "dumb", "unknown") and len(status.streams) <= MOST_ROWS:
            _paint(status, columns)
        else:
            click.echo("\n".join(_plain_table(status, columns)))
    if status.exists:
        click.echo()
        for line in _facts(status, now, verbose=verbose, tells_late=not are_all):
            _say(line, width)
    troubles = list(_troubles(status, now, verbose=verbose))
    if troubles:
        click.echo()
        click.echo("To look at:")
        for trouble in troubles:
            _say(trouble, width, "- ")


def _terminal_width() -> int:
    from shutil import get_terminal_size

    return get_terminal_size().columns


def ago(seconds: float | None) -> str:
    """Return how long ago something was, as people say it."""
    return "never" if seconds is None else "just now" if seconds < 1 else f"{span(seconds)} ago"


def _columns(status: Status, now: float, *, verbose: bool) -> list[_Column]:
    def moment(text: str | None) -> str:
        if text is None:
            return "never"
        ticks = read_ticks(text)
        return text if verbose or ticks is None else ago(max(0.0, now - (ticks - EPOCH) / SECOND))

    columns = [
        _Column("entity", lambda each: each.known.stream.entity),
        _Column("state", lambda each: each.known.state if each.is_configured else f"({each.known.state})"),
        _Column("baseline", lambda each: each.known.baseline or "none", place="where it fits"),
        _Column("lag", lambda each: "-" if each.lag_seconds is None else span(each.lag_seconds)),
        _Column("watermark", lambda each: moment(each.known.watermark)),
        _Column("records", lambda each: f"{each.known.records:,}", is_number=True),
        _Column("last success", lambda each: moment(each.known.last_success_at)),
        _Column("late", lambda each: f"{each.known.late:,}", is_number=True, place="where it fits"),
        _Column("superseded", lambda each: f"{each.known.superseded:,}", is_number=True, place="where it fits"),
    ]
    if any(each.known.last_error for each in status.streams):
        # For pipes: no terminal is wide enough, and below the table each error is told in full.
        columns.append(_Column("last error", lambda each: _one_line(each.known.last_error or ""), place="in a pipe"))
    return columns


def _by_place(streams: Iterable[StreamStatus]) -> Iterator[tuple[str, list[StreamStatus]]]:
    """Yield the streams of each location under its short name, tenant/location."""
    for (tenant_id, location_id), streams_there in groupby(streams, lambda each: each.known.stream[:2]):
        yield f"{tenant_id}/{location_id}", list(streams_there)


def _fitting(columns: list[_Column], status: Status, width: int | None) -> tuple[list[_Column], bool]:
    """Return the columns that fit into *width*, and whether those are all of what a terminal shows; None takes everything."""
    if width is None:
        return columns, True
    shown = [column for column in columns if column.place != "in a pipe"]
    cells = [[column.title, *(column.cell(each) for each in status.streams)] for column in shown]
    needed = len("location") + sum(len(BETWEEN_COLUMNS) + max(map(len, column)) for column in cells)
    if needed <= width:
        return shown, True
    return [column for column in shown if column.place == "everywhere"], False


def _plain_table(status: Status, columns: Sequence[_Column]) -> list[str]:
    rows = [["location", *(column.title for column in columns)]]
    for place, streams in _by_place(status.streams):
        rows += [[place, *(column.cell(each) for column in columns)] for each in streams]
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    numbers = [False, *(column.is_number for column in columns)]
    return [
        "  ".join(
            cell.rjust(width) if is_number else cell.ljust(width)
            for cell, width, is_number in zip(row, widths, numbers, strict=True)
        ).rstrip()
        for row in rows
    ]


def _paint(status: Status, columns: Sequence[_Column]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    colours = {"following": "green", "failing": "bold red", "gap": "bold magenta", "new": "cyan"}
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    table.add_column("location", style="bold", no_wrap=True)
    for column in columns:
        table.add_column(column.title, justify="right" if column.is_number else "left", overflow="fold")
    for place, streams in _by_place(status.streams):
        for number, each in enumerate(streams):
            styles = {
                "state": colours.get(each.known.state, "") if each.is_configured else "",
                "lag": "yellow" if (each.lag_seconds or 0) > STALE else "",
            }
            cells = [Text(column.cell(each), style=styles.get(column.title, "")) for column in columns]
            table.add_row(
                Text("" if number else place),
                *cells,
                style=None if each.is_configured else "dim",
                end_section=number == len(streams) - 1,
            )
    Console(highlight=False).print(table)


def _facts(status: Status, now: float, *, verbose: bool, tells_late: bool) -> Iterator[str]:
    """Yield what holds for the whole mirror."""
    if tells_late:
        odd = [each for each in status.streams if each.known.late or each.known.superseded]
        told = [f"{_short(each)} {each.known.late} late, {each.known.superseded} superseded" for each in odd[:MOST_LINES]]
        if told:
            more = f", and {len(odd) - MOST_LINES} streams more" if len(odd) > MOST_LINES else ""
            yield f"late and superseded: {'; '.join(told)}{more}"
    if status.streams:
        yield _calls(status, now, verbose=verbose)
    if status.nexus is not None:
        yield _nexus(status.nexus, now, verbose=verbose)
    if status.accela is not None:
        yield _accela(status.accela, now, verbose=verbose)
    if status.erased is not None:
        yield f"erased: {status.erased.marked:,} marked, and kept out"
    for pause in status.pauses:
        place = (pause.tenant_id, pause.location_id)
        who = "every location" if place == ACCOUNT else "tenant {}, location {}".format(*place)
        yield f"paused: {who} until {own_time(pause.until)} (in {span(pause.until - now)}): {pause.reason}"
    yield f"quarantine: {status.quarantine}"
    yield from _verified(status)
    run = status.last_run
    if run is not None:
        ended = "has not ended" if run.ended_at is None else f"{run.outcome}, ended {ago(_since(run.ended_at, now))}"
        yield (
            f"last run: {run.id} ({run.command}), began {ago(_since(run.started_at, now))}, {ended}; {run.calls} calls, "
            f"{run.counts.inserted} inserted, {run.counts.replaced} replaced, {run.counts.deleted} deleted, "
            f"{run.counts.revived} revived"
        )


def _nexus(nexus: NexusTally, now: float, *, verbose: bool) -> str:
    def moment(text: str | None) -> str:
        return text if verbose and text else ago(_since(text, now))

    return (
        f"nexus: {_counted(nexus.clients, 'client')}; messages: {nexus.applied:,} applied, {nexus.superseded:,} superseded, "
        f"{nexus.quarantined:,} quarantined, {nexus.repeated:,} that came again; the last came {moment(nexus.last_received_at)}, "
        f"the newest is of {moment(nexus.last_occurred_at)}"
    )


def _accela(accela: AccelaTally, now: float, *, verbose: bool) -> str:
    last = accela.last_pushed_at
    return (
        f"accela: {_counted(accela.links, 'link')}, {accela.waiting:,} waiting for `sync accela push`, {accela.failed:,} failed, "
        f"{accela.partly:,} taken in part; last pushed {last if verbose and last else ago(_since(last, now))}"
    )


def _counted(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _verified(status: Status) -> Iterator[str]:
    """Yield what the last comparisons with Starter Exports have found, of all streams together where that is one."""
    compared = [each for each in status.streams if each.is_configured and each.known.verified_through]
    by_moment: dict[str, list[StreamStatus]] = {}
    for each in compared:
        by_moment.setdefault(each.known.verified_through or "", []).append(each)
    configured = [each for each in status.streams if each.is_configured]
    for moment, streams in sorted(by_moment.items(), reverse=True)[:MOST_LINES]:
        rows = sum(each.known.verified_rows or 0 for each in streams)
        differing = sum(each.known.verified_differing or 0 for each in streams)
        of = "" if len(streams) == len(configured) else f" ({_named(streams, MOST_PLACES)})"
        found = (
            f"{differing:,} record{' differs' if differing == 1 else 's differ'} in {rows:,} rows"
            if differing
            else f"0 of {rows:,} rows differ"
        )
        yield f"verified: {found} as of {moment}{of}"


def _calls(status: Status, now: float, *, verbose: bool) -> str:
    places = dict.fromkeys(each.known.stream[:2] for each in status.streams if each.is_configured)
    calls = sorted(((status.calls.get(place, 0), place) for place in places), key=lambda each: (-each[0], each[1]))
    told = [
        f"{tenant_id}/{location_id} {number:,}{_share(number, status.calls_per_day)}"
        for number, (tenant_id, location_id) in (calls if verbose else calls[:MOST_PLACES])
    ]
    if len(told) < len(calls):
        told.append(f"{len(calls) - len(told)} locations more with at most {calls[len(told)][0]:,}")
    budget = f"of {status.calls_per_day:,} a location" if status.calls_per_day else "without a limit"
    return f"calls today, {budget}, anew in {span(DAY - now % DAY)} at 00:00 UTC: {', '.join(told) or 'none'}"


def _share(calls: int, calls_per_day: int) -> str:
    return f" ({100 * calls // calls_per_day} %)" if calls_per_day else ""


def _troubles(status: Status, now: float, *, verbose: bool) -> Iterator[str]:
    """Yield what is wrong, the worst first, and what to do about it."""
    configured = [each for each in status.streams if each.is_configured]
    most = len(status.streams) if verbose else MOST_LINES
    yield from _capped(_gaps(configured), most, "gap")
    yield from _capped(_failures(configured), most, "last error")
    yield from _capped(_stale(configured), most, "lag")
    never = [each for each in configured if each.known.state == "new"]
    if status.exists and never:
        yield f"never drained to the end: {_named(never, most)}. `sync deltas` fills them"
    yield from _last_run(status, now)
    if status.quarantine:
        of = [f"{name_of(stream)}: {number}" for stream, number in sorted(status.set_aside.items())]
        more = [f"{len(of) - most} streams more"] if len(of) > most else []
        told = f" ({'; '.join([*of[:most], *more])})" if of else ""
        yield (
            f"{status.quarantine} in quarantine, which could not be applied{told}. "
            f"`sync quarantine list` says why{_if_planned('quarantine')}"
        )
    yield from _capped(_drift(configured), most, "drift")
    yield from _mask(status.mask, most)
    if status.accela is not None and (status.accela.failed or status.accela.partly):
        yield (
            f"accela: contacts that the last push failed at: {status.accela.failed:,} (the next one tries again); that took a "
            f"part only: {status.accela.partly:,} (`sync accela push --retry-failed`). `_accela_pushes` says why"
        )
    if status.erased is not None and status.erased.pending_since:
        yield (
            f"since {status.erased.pending_since} bytes of somebody who was erased may be in the files of the mirror: call "
            "`sync erase` again, with the same ENTITY and ID"
        )
    nearly = [
        f"tenant {tenant_id}, location {location_id} has spent {number:,} of {status.calls_per_day:,} calls of this day"
        for (tenant_id, location_id), number in sorted(status.calls.items())
        if status.calls_per_day and number > NEARLY_SPENT * status.calls_per_day
    ]
    for line in _capped(nearly, most, "budget"):
        yield f"{line}. Once they are spent, its streams wait for 00:00 UTC: call less often, or raise [dds] calls_per_day"
    bare = [each for each in configured if each.known.baseline is None and each.known.state != "new"]
    if bare:
        yield (
            f"{len(bare)} of {len(configured)} streams are without a baseline: they hold only what has changed since their first "
            f"drain. `sync full-starter` loads the rest{_if_planned('full-starter')}"
        )
    for (tenant_id, entity), names in status.starter_tables.items():
        yield f"tenant {tenant_id}, {entity}: {', '.join(names)} came by starter alone; deltas do not keep them up to date"
    left = [each for each in status.streams if not each.is_configured]
    if left:
        yield f"no longer configured, and counted for nothing: {_named(left, most)}. They stay as they were"


def _mask(mask: MaskState, most: int) -> Iterator[str]:
    if mask.is_due:
        yield "[mirror.mask] has changed and was not carried out on what the mirror holds. `sync deltas` does that first"
    elif mask.is_unswept:
        yield (
            "values that [mirror.mask] takes away may still lie in free pages of the mirror or in its WAL. Close what reads it, "
            "and `sync deltas` tries again"
        )
    lacking = [
        f"{place} lacks what [mirror.mask] took away before: {', '.join(columns)}" for place, columns in mask.lifted.items()
    ]
    for line in _capped(lacking, most, "mask"):
        yield f"{line}. `sync full-starter` and the deltas after it bring it back"


def _gaps(streams: Sequence[StreamStatus]) -> list[str]:
    return [
        f"{name_of(each.known.stream)}: gap from {each.known.gap_from} to {each.known.gap_to}: run `sync full-starter` with a "
        f"newer Starter Export to close it{_if_planned('full-starter')}. The stream is followed on meanwhile"
        for each in streams
        if each.known.gap_from
    ]


def _drift(streams: Sequence[StreamStatus]) -> list[str]:
    return [
        f"{name_of(each.known.stream)}: {each.known.verified_differing:,} of its records differed from the Starter Export when "
        "they were compared. `sync verify --repair` fetches them anew"
        for each in streams
        if each.known.verified_differing
    ]


def _failures(streams: Sequence[StreamStatus]) -> list[str]:
    return [
        f"{name_of(stream)}: last error: {_one_line(each.known.last_error)}. To try it alone: `sync deltas "
        f"--tenant {stream.tenant_id} --location {stream.location_id} --entity {stream.entity}`"
        for each in streams
        if each.known.last_error and (stream := each.known.stream)
    ]


def _stale(streams: Sequence[StreamStatus]) -> list[str]:
    """Return which streams were caught up so long ago that a gap is near; a gap that is there is told already."""
    told: dict[str, list[StreamStatus]] = {}
    for each in streams:
        lag = each.lag_seconds
        if lag is None or lag <= STALE or each.known.gap_from:
            continue
        if lag < FEED_REACH:
            what = f"the feed reaches back 7 days: run `sync deltas` within {span(FEED_REACH - lag)}, or a gap is left"
        else:
            what = "the feed reaches back 7 days only: the next `sync deltas` leaves a gap"
        told.setdefault(f"caught up {ago(lag)}; {what}", []).append(each)
    return [f"{_named(streams_there, MOST_LINES)}: {what}" for what, streams_there in told.items()]


def _last_run(status: Status, now: float) -> Iterator[str]:
    run = status.last_run
    if run is None:
        return
    on = "The next run goes on from there: `sync deltas`"
    if run.outcome == "stopped":
        yield f"run {run.id} ({run.command}) was stopped {ago(_since(run.ended_at, now))}. {on}"
    elif run.outcome == "killed":
        yield f"run {run.id} ({run.command}) was killed. {on}"
    elif run.outcome is None and status.holder is not None and not status.holder[1]:
        yield (
            f"run {run.id} ({run.command}) has not ended, and its process {status.holder[0]} is not on this machine: it was "
            f"killed, or goes on elsewhere. {on}"
        )


def _capped(lines: Sequence[str], most: int, kind: str) -> list[str]:
    more = [f"{len(lines) - most} more like that ({kind}); --verbose shows all"] if len(lines) > most else []
    return [*lines[:most], *more]


def _named(streams: Sequence[StreamStatus], most: int) -> str:
    """Return the names of streams, those of a location together."""
    places = [
        f"tenant {tenant_id}, location {location_id}, {', '.join(each.known.stream.entity for each in there)}"
        for (tenant_id, location_id), there in groupby(streams, lambda each: each.known.stream[:2])
    ]
    more = [f"{len(places) - most} locations more"] if len(places) > most else []
    return "; ".join([*places[:most], *more])


def name_of(stream: Stream) -> str:
    """Return the name of *stream* as messages have it."""
    return f"tenant {stream.tenant_id}, location {stream.location_id}, {stream.entity}"


def _short(each: StreamStatus) -> str:
    stream = each.known.stream
    return f"{stream.tenant_id}/{stream.location_id} {stream.entity}"


def _if_planned(name: str) -> str:
    return "" if name in COMMANDS else " (planned: this version does not have it yet)"


def _since(at: str | None, now: float) -> float | None:
    ticks = None if at is None else read_ticks(at)
    return None if ticks is None else max(0.0, now - (ticks - EPOCH) / SECOND)


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()).rstrip("."))


def _say(line: str, width: int | None, before: str = "") -> None:
    """Write one paragraph, broken between words where there is a width to keep to. Names of tables in it come from outside."""
    line = printable(line)
    if width is None:
        click.echo(before + line)
        return
    after = " " * max(2, len(before))
    click.echo(
        textwrap.fill(line, width, initial_indent=before, subsequent_indent=after, break_long_words=False, break_on_hyphens=False)
    )
