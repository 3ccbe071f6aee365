"""`sync full-starter`."""

from datetime import date
from typing import TYPE_CHECKING

import click

from delta_mirror.cli.common import (
    EXIT_UNFINISHED,
    examples,
    open_config,
    patience,
    reading_an_export,
    told_of_quarantine,
    told_to_stop,
    unless_busy,
    writing_to_the_mirror,
)
from delta_mirror.cli.messages import complain, tell, warn
from delta_mirror.cli.progress import FileWatch
from delta_mirror.cli.report import ended_as_json, hand_over

if TYPE_CHECKING:
    from delta_mirror.cli.main import Globals
    from delta_mirror.jobs.baseline import BaselineReport
    from delta_mirror.jobs.selection import Selection
    from delta_mirror.mirror.baseline import Loaded

EXIT_REFUSED = 2


@click.command(
    "full-starter",
    epilog=examples(
        "sync full-starter /exports --dry-run                  look before you leap",
        "sync full-starter /exports                            the folder above Tenant<id>/Location<id>",
        "sync full-starter sftp://us@files.example.com/export  from the vendor's host; [starter] key_file names the key",
        "sync full-starter --date 20260501 --entity Client     one run of several, one entity of it",
    ),
)
@reading_an_export
@click.option("--force", is_flag=True, help="Load an export although it is old, much smaller than the mirror, or lacks a table.")
@click.option("--dry-run", is_flag=True, help="Read and compare, say what would change, and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="The run as one JSON object.")
@writing_to_the_mirror
@click.pass_obj
def command(
    said: "Globals",
    *,
    source: str | None,
    selection: "Selection",
    wanted_date: date | None,
    force: bool,
    dry_run: bool,
    as_json: bool,
    if_running: str,
    deadline: int | None,
) -> int:
    """Load a Starter Export as the new baseline; the deltas go on from there.

    SOURCE is a folder, or sftp://user@host[:port]/path; else [starter] source. Each entity of each location changes over as a
    whole. Records that the export lacks are deleted, but what has changed since is left as it is.
    """
    config = open_config(said.config)  # first: a refusal need not wait for all that a run imports
    from delta_mirror.jobs.baseline import Wishes, run_baseline

    wishes = Wishes(source, selection, wanted_date, force, dry_run, patience(if_running), deadline)
    with (
        told_to_stop("what was not loaded is as it was") as stopped,
        FileWatch(quiet=said.quiet, as_lines=said.as_lines) as watch,
    ):
        report = unless_busy(lambda: run_baseline(config, wishes, stop=stopped.event, watch=watch), if_running, stopped)
    if report is None:
        return stopped.exit_code
    _tell_news(report)
    if not said.quiet:
        for warning in report.warnings:
            warn(warning)
    hand_over(
        as_json=as_json,
        quiet=said.quiet,
        value=lambda: _as_json(report),
        text=lambda: _print(report, dry_run=dry_run),
        complaints=lambda: _complain(report),
    )
    return stopped.exit_code or _exit_code(report)


def _exit_code(report: "BaselineReport") -> int:
    from delta_mirror.errors import UnfinishedError

    if report.is_whole:
        return 0
    is_unfinished = report.outcome == "stopped" or any(isinstance(each.error, UnfinishedError) for each in report.streams)
    return EXIT_UNFINISHED if report.has_loaded or is_unfinished else EXIT_REFUSED


def _print(report: "BaselineReport", *, dry_run: bool) -> None:
    for each in report.streams:
        told = "not loaded" if each.loaded is None else f"{each.loaded.rows:>11,} rows  {_told(each.loaded)}"
        click.echo(f"{each.stream!s:<42} {each.baseline}  {told}")
    if not report.has_loaded:
        click.echo("nothing was loaded")
        return
    head = "dry run, nothing written" if dry_run else f"run {report.id}"
    seconds = max(report.ended_at - report.started_at, 0.001)
    rows = sum(each.loaded.rows for each in report.streams if each.loaded)
    done = sum(each.loaded is not None for each in report.streams)
    click.echo(
        f"{head}: {done} of {len(report.streams)} streams, {rows:,} rows in {seconds:.1f} s ({rows / seconds:,.0f} a second)"
    )
    _print_missed(report, dry_run=dry_run)


def _print_missed(report: "BaselineReport", *, dry_run: bool) -> None:
    """Print what the deltas had missed, of the streams that stood on a starter before."""
    again = [each for each in report.streams if each.loaded and not each.loaded.is_first]
    if not again:
        return
    missed = [each for each in again if each.loaded and _differs(each.loaded)]
    if not missed:
        click.echo("the deltas had missed nothing: every record was as the export has it, or has changed since")
    else:
        where = "" if dry_run else f"; `sync changes --run {report.id}` lists them"
        click.echo(f"what the deltas had missed is in the lines above{where}")


def _differs(loaded: "Loaded") -> bool:
    counts = loaded.counts
    return bool(counts.inserted or counts.replaced or counts.deleted or counts.revived)


def _told(loaded: "Loaded") -> str:
    counts = loaded.counts
    numbers = (
        (counts.inserted, "loaded" if loaded.is_first else "inserted"),
        (counts.replaced, "replaced"),
        (counts.deleted, "deleted"),
        (counts.revived, "revived"),
        (counts.unchanged, "unchanged"),
        (loaded.newer, "changed since and left"),
        (counts.quarantined, "in quarantine"),
    )
    return ", ".join(f"{number:,} {what}" for number, what in numbers if number) or "no records"


def _tell_news(report: "BaselineReport") -> None:
    for note in report.notes:
        tell(note)
    for each in report.streams:
        if each.loaded is None:
            continue
        for message in each.loaded.said:
            tell(f"{each.stream}: {message}")
        for aside in each.loaded.aside:
            rows = f"{aside.rows:,} row{'' if aside.rows == 1 else 's'}"
            tell(f"{each.stream}: {rows} of {aside.table} set aside: {aside.reason}")


def _complain(report: "BaselineReport") -> None:
    for each in report.streams:
        if each.error:
            complain(str(each.error))
        if each.loaded and each.loaded.counts.quarantined:
            complain(told_of_quarantine(each.stream, each.loaded.counts.quarantined))
    for trouble in report.trouble:
        complain(trouble)
    if report.outcome == "stopped" and report.id is not None:
        warn(f"run {report.id} was stopped")


def _as_json(report: "BaselineReport") -> dict[str, object]:
    """Return the run's row of `_runs`, with its streams; `id` is null where the run has changed nothing."""
    from delta_mirror.core.plan import Counts

    return {
        **ended_as_json(report, "full-starter", calls=report.calls, pages=0, counts=report.counts),
        "streams": [
            {
                **each.stream._asdict(),
                "baseline": each.baseline,
                "rows": each.loaded.rows if each.loaded else 0,
                **(each.loaded.counts if each.loaded else Counts()).as_dict(),
                "set_aside": [aside._asdict() for aside in each.loaded.aside] if each.loaded else [],
                "error": str(each.error) if each.error else None,
            }
            for each in report.streams
        ],
        "trouble": report.trouble,
    }
