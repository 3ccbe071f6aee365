"""`sync prune`."""

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
from delta_mirror.cli.messages import complain
from delta_mirror.cli.progress import Share
from delta_mirror.cli.report import print_json

if TYPE_CHECKING:
    from delta_mirror.cli.main import Globals
    from delta_mirror.jobs.prune import PruneReport

NAMES = {  # of one, of several
    "_changes": ("change", "changes"),
    "_messages": ("message", "messages"),
    "_accela_pushes": ("push", "pushes"),
    "_tombstones": ("tombstone", "tombstones"),
    "_runs": ("run", "runs"),
    "_calls": ("day of calls", "days of calls"),
    "_call_times": ("time of a call", "times of calls"),
}


@click.command(
    "prune",
    epilog=examples(
        "sync prune --older-than 365d --dry-run    what would go, and what would stay and why",
        "sync prune --older-than 365d              forget it",
    ),
)
@click.option(
    "--older-than",
    type=DurationType(),
    metavar="DURATION",
    required=True,
    help="Forget what is older than this, such as 90d; at least 1d.",
)
@click.option("--dry-run", is_flag=True, help="Show what would go, and forget nothing.")
@click.option("--json", "as_json", is_flag=True, help="What was done, as one JSON object.")
@writing_to_the_mirror
@click.pass_obj
def command(said: "Globals", *, older_than: int, dry_run: bool, as_json: bool, if_running: str, deadline: int | None) -> int:
    """Forget old entries of the logs: changes, messages, pushes, tombstones, runs, counts of calls.

    Records stay. What something still needs is kept, and it is said what and why.
    """
    config = open_config(said.config)
    from delta_mirror.jobs.prune import PruneWishes, run_prune

    wait = patience(if_running)
    wishes = PruneWishes(float(older_than), dry_run, wait, None if deadline is None else float(deadline))
    share = Share("pruning", of="entries", quiet=said.quiet, as_lines=said.as_lines)
    with told_to_stop("the next run goes on with the rest") as stopped, share as watch:
        report = unless_busy(lambda: run_prune(config, wishes, stop=stopped.event, watch=watch), if_running, stopped)
    if report is None:
        return stopped.exit_code
    if as_json:
        print_json(_as_json(report))
    elif not said.quiet:
        _print(report, dry_run=dry_run)
    for trouble in report.trouble:
        complain(trouble)
    return stopped.exit_code or (EXIT_UNFINISHED if report.trouble else 0)


def _as_json(report: "PruneReport") -> dict[str, object]:
    return {
        "run_id": report.id,
        "outcome": report.outcome,
        "before": report.before,
        "forgotten": report.pruned.forgotten,
        "kept": [{"table": table, "why": why, "number": number} for (table, why), number in report.pruned.kept.items()],
        "pruned_through": report.pruned.through,
        "bytes": report.pruned.size,
        "free_bytes": report.pruned.free,
    }


def _print(report: "PruneReport", *, dry_run: bool) -> None:
    pruned = report.pruned
    head = "dry run, nothing is written: would forget" if dry_run else f"run {report.id}: forgotten"
    gone = ", ".join(_counted(number, table) for table, number in pruned.forgotten.items() if number)
    click.echo(f"{head} of what is older than {report.before}: {gone or 'nothing'}")
    for (table, why), number in pruned.kept.items():
        click.echo(f"kept: {_counted(number, table)}: {why}")
    if pruned.through and not dry_run:
        click.echo(f"the log of changes goes back to seq {pruned.through + 1}")
    click.echo(
        f"the file has {pruned.size:,} bytes, of which {pruned.free:,} {'would be' if dry_run else 'are'} free for what comes"
    )


def _counted(number: int, table: str) -> str:
    return f"{number:,} {NAMES[table][number != 1]}"
