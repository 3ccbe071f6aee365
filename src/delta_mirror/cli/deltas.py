"""`sync deltas`."""

from typing import TYPE_CHECKING

import click

from delta_mirror.cli.common import (
    EXIT_UNFINISHED,
    MomentType,
    examples,
    open_config,
    patience,
    selecting_streams,
    told_of_quarantine,
    told_to_stop,
    unless_busy,
    writing_to_the_mirror,
)
from delta_mirror.cli.messages import complain, say_failure, tell, warn
from delta_mirror.cli.progress import Watch
from delta_mirror.cli.report import ended_as_json, hand_over

if TYPE_CHECKING:
    from delta_mirror.cli.main import Globals
    from delta_mirror.core.plan import Counts
    from delta_mirror.jobs.deltas import RunReport
    from delta_mirror.jobs.selection import Selection


@click.command(
    "deltas",
    epilog=examples(
        "sync deltas --dry-run                      look before you leap",
        "sync deltas --entity Client --location 9   one stream only",
        "sync deltas --since 2026-05-04T00:00:00Z   read again from there",
        "from cron, every 15 minutes, with absolute paths:",
        "*/15 * * * * /path/to/bin/sync --quiet --config /path/to/config.toml deltas",
    ),
)
@selecting_streams
@click.option(
    "--since", type=MomentType(), metavar="DATETIME", help="Read from here (with a zone); the watermark never goes back."
)
@click.option("--dry-run", is_flag=True, help="Ask and decide, and write nothing but the count of calls.")
@click.option("--json", "as_json", is_flag=True, help="The run as one JSON object.")
@writing_to_the_mirror
@click.pass_obj
def command(
    said: "Globals",
    *,
    selection: "Selection",
    since: int | None,
    dry_run: bool,
    as_json: bool,
    if_running: str,
    deadline: int | None,
) -> int:
    """Bring every configured stream up to date: read what has changed, replace whole records, carry out deletions."""
    config = open_config(said.config)  # first: a refusal need not wait for all that a run imports
    # By itself, before the jobs that need it: loaded through them, urllib3 would compile its regular expressions so deep in the
    # stack that Python asks the system for memory at thousands of calls, which takes a tenth of a quiet run.
    import delta_mirror.dds.transport  # noqa: F401
    from delta_mirror.jobs.deltas import Wishes, run_deltas

    wishes = Wishes(selection, since, dry_run, patience(if_running), deadline)
    with told_to_stop() as stopped, Watch(quiet=said.quiet, as_lines=said.as_lines) as watch:
        report = unless_busy(lambda: run_deltas(config, wishes, stop=stopped.event, watch=watch), if_running, stopped)
    if report is None:
        return stopped.exit_code
    _tell_news(report)
    if not said.quiet:  # nothing that was asked for is missing: nobody is to get mail for it
        for warning in report.warnings:
            warn(warning)
    hand_over(
        as_json=as_json,
        quiet=said.quiet,
        value=lambda: _as_json(report),
        text=lambda: _print(report, dry_run=dry_run),
        complaints=lambda: _complain(report),
    )
    return stopped.exit_code or (0 if report.is_excused else EXIT_UNFINISHED)


def _print(report: "RunReport", *, dry_run: bool) -> None:
    for each in report.streams:
        click.echo(f"{each.stream!s:<42} {each.state:<10} {each.pages:>5} pages  {_told(each.counts)}")
    head = "dry run, nothing written" if dry_run else f"run {report.id}"
    streams = f"{len(report.streams)} stream{'' if len(report.streams) == 1 else 's'}"
    seconds = report.ended_at - report.started_at
    click.echo(f"{head}: {streams}, {report.calls} calls, {report.pages} pages in {seconds:.1f} s: {_told(report.counts)}")


def _tell_news(report: "RunReport") -> None:
    for each in report.streams:
        for message in each.said:
            tell(f"{each.stream}: {message}")
        if each.late:
            tell(f"{each.stream}: {each.late} changes had become visible later than [dds] overlap allows for; they are in now")


def _complain(report: "RunReport") -> None:
    told: set[str] = set()
    for each in report.streams:
        # What keeps all streams from being drained, such as refused credentials, is said once.
        if each.error and str(each.error) not in told:
            told.add(str(each.error))
            say_failure(str(each.error), is_expected=each.is_expected)
        if each.gap:
            complain(
                f"{each.stream}: gap: the feed can no longer tell what changed from {each.gap[0]} to {each.gap[1]}; "
                "run `sync full-starter` with a newer Starter Export to close it"
            )
        if each.counts.quarantined:
            complain(told_of_quarantine(each.stream, each.counts.quarantined))
    for expected in report.expected:
        say_failure(expected, is_expected=True)
    for trouble in report.trouble:
        complain(trouble)
    if report.outcome == "stopped":
        warn(f"run {report.id} was stopped")


def _told(counts: "Counts") -> str:
    told = [f"{number} {what}" for what, number in counts.as_dict().items() if number and what != "unchanged"]
    return ", ".join(told) or "nothing new"


def _as_json(report: "RunReport") -> dict[str, object]:
    """Return the run's row of `_runs`, with its streams."""
    return {
        **ended_as_json(report, "deltas", calls=report.calls, pages=report.pages, counts=report.counts),
        "streams": [
            {
                **each.stream._asdict(),
                "state": each.state,
                "pages": each.pages,
                **each.counts.as_dict(),
                "late": each.late,
                "gap_from": each.gap[0] if each.gap else None,
                "gap_to": each.gap[1] if each.gap else None,
                "error": str(each.error) if each.error else None,
                "expected": each.is_expected,
            }
            for each in report.streams
        ],
        "trouble": report.trouble,
        "expected": report.expected,
    }
