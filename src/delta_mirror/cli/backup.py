"""`sync backup`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from delta_mirror.cli.common import examples, open_config, told_to_stop
from delta_mirror.cli.messages import printable, tell
from delta_mirror.cli.progress import Share
from delta_mirror.cli.report import print_json

if TYPE_CHECKING:
    from delta_mirror.cli.main import Globals


@click.command(
    "backup",
    epilog=examples(
        "sync backup /backups/mirror.db              a whole copy, also while a run writes",
        'sync backup "/backups/$(date +%F).db"       one a day',
    ),
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="What was copied, as one JSON object.")
@click.pass_obj
def command(said: "Globals", *, file: Path, as_json: bool) -> int:
    """Copy the mirror to FILE, also while a run writes: one state of it, proved after writing, whole or not at all.

    A copy that stands there already is replaced once the new one is whole.
    """
    config = open_config(said.config)
    from delta_mirror.jobs.backup import run_backup
    from delta_mirror.jobs.session import StoppedError

    share = Share("copying the mirror", of="pages", quiet=said.quiet, as_lines=said.as_lines)
    with told_to_stop("nothing was kept of the copy") as stopped, share as watch:
        try:
            report = run_backup(config, file, stop=stopped.event, watch=watch)
        except StoppedError:
            return stopped.exit_code
    if as_json:
        # A name need not be UTF-8, which JSON must be.
        name = os.fsencode(report.file).decode(errors="backslashreplace")
        print_json({"file": name, "bytes": report.copied.size, "last_seq": report.copied.last_seq})
    elif not said.quiet:
        click.echo(f"{printable(str(report.file))}: {report.copied.size:,} bytes, sound, up to change {report.copied.last_seq}")
    if report.replaced:
        tell("the copy that stood there was replaced")
    return 0
