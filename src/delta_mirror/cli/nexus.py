"""`sync nexus`: its commands, and `ingest`."""

from typing import TYPE_CHECKING

import click

from delta_mirror.cli.common import (
    EXIT_UNFINISHED,
    examples,
    open_config,
    patience,
    told_to_stop,
    unless_busy,
    writing_to_the_mirror,
)
from delta_mirror.cli.messages import complain, tell
from delta_mirror.cli.nexus_receive import receive
from delta_mirror.cli.nexus_text import complain_of_quarantine, number_of, outcomes_of, told
from delta_mirror.cli.progress import Watch
from delta_mirror.cli.report import ended_as_json, hand_over

if TYPE_CHECKING:
    from delta_mirror.cli.main import Globals
    from delta_mirror.jobs.ingest import IngestReport


@click.group(
    "nexus",
    epilog=examples(
        "sync nexus ingest messages/     all files in a folder",
        "sync nexus ingest --dry-run -   what standard input would do",
        "sync nexus receive              all that waits at the Service Bus",
    ),
)
def command() -> None:
    """Take SCRAM Nexus messages into the mirror."""


command.add_command(receive)


@command.command(
    "ingest",
    epilog=examples(
        "sync nexus ingest messages.jsonl      one message a line",
        "sync nexus ingest 2026/ more.json.gz  folders, compressed files",
        "curl ... | sync nexus ingest -        standard input",
        "sync nexus ingest --dry-run 2026/     look before you leap",
    ),
)
@click.argument("paths", metavar="[PATH...]", nargs=-1)
@click.option("--dry-run", is_flag=True, help="Read and decide, and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="The run as one JSON object.")
@writing_to_the_mirror
@click.pass_obj
def ingest(
    said: "Globals", *, paths: tuple[str, ...], dry_run: bool, as_json: bool, if_running: str, deadline: int | None
) -> int:
    """Take messages from files, from all files in folders, or from standard input (-, or no PATH at all).

    A file has one message a line, or is one JSON object or one array of messages; it may be compressed with gzip. What was taken
    before changes nothing, so the same files can be read again at any time.
    """
    config = open_config(said.config)
    from delta_mirror.jobs.ingest import Wishes, run_ingest

    wishes = Wishes(paths, dry_run, patience(if_running), deadline)
    with (
        told_to_stop("the same files can be read again without harm") as stopped,
        Watch(quiet=said.quiet, as_lines=said.as_lines) as watch,
    ):

        def note(report: "IngestReport") -> None:
            watch.note("nexus", report.files, "files", report.tallied.messages, "messages")

        report = unless_busy(lambda: run_ingest(config, wishes, stop=stopped.event, watch=note), if_running, stopped)
    if report is None:
        return stopped.exit_code
    for news in report.said:
        tell(news)
    hand_over(
        as_json=as_json,
        quiet=said.quiet,
        value=lambda: _as_json(report),
        text=lambda: _print(report, dry_run=dry_run),
        complaints=lambda: _complain(report),
    )
    return stopped.exit_code or (0 if report.is_whole else EXIT_UNFINISHED)


def _complain(report: "IngestReport") -> None:
    for trouble in report.trouble:
        complain(trouble)
    complain_of_quarantine(report.tallied)


def _print(report: "IngestReport", *, dry_run: bool) -> None:
    head = "dry run, nothing written" if dry_run else f"run {report.id}"
    seconds = report.ended_at - report.started_at
    messages = number_of(report.tallied.messages, "message")
    click.echo(f"{head}: {number_of(report.files, 'file')}, {messages} in {seconds:.1f} s: {told(report.tallied)}")


def _as_json(report: "IngestReport") -> dict[str, object]:
    """Return the run's row of `_runs`, with its messages by outcome."""
    from delta_mirror.jobs.ingest import COMMAND

    tallied = report.tallied
    return {
        **ended_as_json(report, COMMAND, calls=0, pages=0, counts=tallied.counts()),
        "files": report.files,
        "messages": outcomes_of(tallied),
        "trouble": report.trouble,
    }
