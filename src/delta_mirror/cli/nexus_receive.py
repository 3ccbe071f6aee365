"""`sync nexus receive`."""

from typing import TYPE_CHECKING

import click

from delta_mirror.cli.common import (
    EXIT_UNFINISHED,
    DurationType,
    examples,
    open_config,
    patience,
    told_to_stop,
    unless_busy,
    writing_to_the_mirror,
)
from delta_mirror.cli.messages import complain, tell, warn
from delta_mirror.cli.nexus_text import complain_of_quarantine, number_of, outcomes_of, told
from delta_mirror.cli.progress import Watch
from delta_mirror.cli.report import ended_as_json, hand_over

if TYPE_CHECKING:
    from delta_mirror.cli.main import Globals
    from delta_mirror.jobs.receive import ReceiveReport


@click.command(
    "receive",
    epilog=examples(
        "sync nexus receive             all that waits, until nothing has come for 30 seconds",
        "sync nexus receive --wait 0s   only what is there now",
        "sync nexus receive --max 10    a look before the rest",
        "from cron, every 5 minutes, with absolute paths:",
        "*/5 * * * * /path/to/bin/sync --quiet --config /path/to/config.toml nexus receive --if-running skip",
    ),
)
@click.option("--max", "most", type=click.IntRange(1, 2**63 - 1), metavar="N", help="Take at most so many messages.")
@click.option(
    "--wait",
    "quiet",
    type=DurationType(),
    default="30s",
    show_default=True,
    metavar="DURATION",
    help="End when nothing came for so long.",
)
@click.option("--json", "as_json", is_flag=True, help="The run as one JSON object.")
@writing_to_the_mirror
@click.pass_obj
def receive(said: "Globals", *, most: int | None, quiet: int, as_json: bool, if_running: str, deadline: int | None) -> int:
    """Take messages from the Service Bus subscription of [nexus], until no more come.

    Each is stored, on the disk, before the broker is told that it may forget it. What cannot be stored is given back.
    """
    config = open_config(said.config)
    from delta_mirror.jobs.receive import Wishes, run_receive

    wishes = Wishes(most, quiet, patience(if_running), deadline)
    with told_to_stop("what is left comes in the next run") as stopped, Watch(quiet=said.quiet, as_lines=said.as_lines) as watch:

        def note(report: "ReceiveReport") -> None:
            watch.note("nexus", report.batches, "batches", report.stored.messages, "messages")

        report = unless_busy(lambda: run_receive(config, wishes, stop=stopped.event, watch=note), if_running, stopped)
    if report is None:
        return stopped.exit_code
    for news in report.said:
        tell(news)
    if not said.quiet:  # nothing that was asked for is missing: nobody is to get mail for it
        for warning in report.warnings:
            warn(warning)
    hand_over(
        as_json=as_json,
        quiet=said.quiet,
        value=lambda: _as_json(report),
        text=lambda: _print(report),
        complaints=lambda: _complain(report),
    )
    return stopped.exit_code or (0 if report.is_whole else EXIT_UNFINISHED)


def _complain(report: "ReceiveReport") -> None:
    for trouble in report.trouble:
        complain(trouble)
    complain_of_quarantine(report.stored)
    if report.has_dead_letters:
        complain(
            "the broker has given messages up (its dead letters), after too many deliveries or because they grew too old. They "
            'may be missing here. Call again with [nexus] subscription = "NAME/$DeadLetterQueue", which takes them in'
        )


def _print(report: "ReceiveReport") -> None:
    seconds = report.ended_at - report.started_at
    messages = number_of(report.stored.messages, "message")
    click.echo(f"run {report.id}: {messages} in {seconds:.1f} s: {told(report.stored)}")
    settled = (
        (report.lost, "had lost their locks before they were completed; those that the broker still has will come again"),
        (report.unlocked, "could not be stored, and were given back"),
    )
    for number, what in settled:
        if number:
            click.echo(f"{number_of(number, 'message')} {what}")


def _as_json(report: "ReceiveReport") -> dict[str, object]:
    """Return the run's row of `_runs`, with its messages by outcome and by what the broker was told."""
    from delta_mirror.jobs.receive import COMMAND

    return {
        **ended_as_json(report, COMMAND, calls=report.calls, pages=report.batches, counts=report.stored.counts()),
        "messages": outcomes_of(report.stored),
        "completed": report.completed,
        "unlocked": report.unlocked,
        "lost": report.lost,
        "most_deliveries": report.most_often,
        "dead_letters": report.has_dead_letters,
        "trouble": report.trouble,
    }
