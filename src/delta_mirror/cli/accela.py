"""`sync accela`: link and push."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from delta_mirror.cli.common import (
    EXIT_UNFINISHED,
    examples,
    if_running_option,
    open_config,
    patience,
    told_to_stop,
    unless_busy,
    write_whatever_comes,
    writing_to_the_mirror,
)
from delta_mirror.cli.messages import tell, warn
from delta_mirror.cli.progress import Share
from delta_mirror.cli.report import hand_over, print_json
from delta_mirror.errors import RefusedError

if TYPE_CHECKING:
    from delta_mirror.cli.main import Globals
    from delta_mirror.jobs.push_report import PushReport

STANDARD_INPUT = "-"
LONGEST_LINE = 1 << 16  # characters


@click.group(
    "accela",
    epilog=examples(
        "sync accela link people.csv       tie mirrored people to Accela contacts",
        "sync accela push --dry-run        what would be sent, contact by contact, field by field",
        "sync accela push                  push what has changed since the last push",
    ),
)
def command() -> None:
    """Tie mirrored people to Accela contacts, and push what changed."""


@command.command("link")
@click.argument("file", metavar="FILE")
@click.option("--json", "as_json", is_flag=True, help="What was done as one JSON object.")
@if_running_option
@click.pass_obj
def link_command(said: "Globals", *, file: str, as_json: bool, if_running: str) -> int:
    """Take links from a CSV: entity,id,contact_id, and tenant_id,location_id for records of the DDS.

    FILE may be - for standard input. An empty contact_id removes a link; records that are not named keep theirs. The file is
    taken whole or not at all.
    """
    from delta_mirror.jobs.link import run_link

    config = open_config(said.config)
    wait = patience(if_running)
    with told_to_stop("call again") as stopped, _lines_of(file) as lines:
        report = unless_busy(lambda: run_link(config, lines, wait=wait, stop=stopped.event), if_running, stopped)
    if report is None:
        return stopped.exit_code
    counts = {
        "added": len(report.plan.added),
        "changed": len(report.plan.changed),
        "removed": len(report.plan.removed),
        "unchanged": len(report.plan.unchanged),
    }
    if report.unknown:
        warn(
            f"{report.unknown} of the new links are of records that the mirror does not hold (yet); "
            "they are pushed once it does. Look whether the ids are right"
        )
    if report.erased:
        warn(f"{report.erased} rows of the file name people who were erased; they were passed over. Take them out of the file")
    if as_json:
        told = {"unknown": report.unknown, "erased": report.erased, "total": report.total}
        print_json({"run_id": report.run_id, **counts, **told})
    elif not said.quiet:
        done = ", ".join(f"{number} {what}" for what, number in counts.items() if number) or "nothing to do"
        click.echo(f"run {report.run_id}: links: {done}; {report.total} in all")
    return stopped.exit_code


@contextmanager
def _lines_of(file: str) -> Iterator[Iterator[str]]:
    """Open the lines of *file* as a CSV reader wants them.

    Raises:
        RefusedError: it cannot be read, or is not UTF-8.
    """
    with ExitStack() as stack:
        if file == STANDARD_INPUT:
            if isinstance(sys.stdin, TextIOWrapper):
                sys.stdin.reconfigure(encoding="utf-8-sig", newline="")
            lines: TextIO = sys.stdin
        else:
            try:
                lines = stack.enter_context(Path(file).open(encoding="utf-8-sig", newline=""))
            except OSError as error:
                raise RefusedError(f"{file!r} cannot be read ({error.strerror}); name the CSV with the links") from error
        try:
            yield _bounded(lines, file)
        except UnicodeDecodeError as error:
            raise RefusedError(f"{file!r} is not UTF-8; save it as UTF-8, and call again") from error


def _bounded(lines: TextIO, file: str) -> Iterator[str]:
    """Yield *lines*, and refuse one without an end: a path may lead to a device, and no line of links is long."""
    while line := lines.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE:
            raise RefusedError(f"{file!r} has a line of more than {LONGEST_LINE:,} characters, and is no CSV with links")
        yield line


@command.command("push")
@click.option("--limit", type=click.IntRange(1, 2**63 - 1), metavar="N", help="At most so many contacts; the others wait.")
@click.option("--retry-failed", is_flag=True, help="Try also those again of which fields did not take.")
@click.option("--dry-run", is_flag=True, help="Read and compare, show field by field what would be sent, and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="The run as one JSON object.")
@writing_to_the_mirror
@click.pass_obj
def push_command(
    said: "Globals",
    *,
    limit: int | None,
    retry_failed: bool,
    dry_run: bool,
    as_json: bool,
    if_running: str,
    deadline: int | None,
) -> int:
    """Push what has changed of linked records to their contacts.

    Each contact is read, and written only if a mapped field differs; fields that no map names stay as they are.
    """
    config = open_config(said.config)
    from delta_mirror.cli.accela_text import as_json_of, complain_of, print_report
    from delta_mirror.jobs.push import run_push
    from delta_mirror.jobs.push_report import PushWishes

    wait = patience(if_running)
    wishes = PushWishes(limit, dry_run, retry_failed, wait, None if deadline is None else float(deadline))
    share = Share("pushing", of="contacts", quiet=said.quiet, as_lines=said.as_lines)
    with told_to_stop("the next run goes on with the rest") as stopped, share:

        def watch(report: "PushReport") -> None:
            share(len(report.contacts), report.due - report.waiting)

        report = unless_busy(lambda: run_push(config, wishes, stop=stopped.event, watch=watch), if_running, stopped)
    if report is None:
        return stopped.exit_code
    if report.absent and not said.quiet:
        tell(f"{report.absent} links are of records that the mirror does not hold; they wait until it does")
    if not report.links and not said.quiet:
        tell("no record is tied to a contact; `sync accela link FILE` does that, or the key contact_id of a map")
    write_whatever_comes()
    hand_over(
        as_json=as_json,
        quiet=False,  # what failed is shown in any case
        value=lambda: as_json_of(report),
        text=lambda: print_report(report, quiet=said.quiet, verbose=said.verbose),
        complaints=lambda: complain_of(report),
    )
    return stopped.exit_code or (0 if report.is_whole else EXIT_UNFINISHED)
