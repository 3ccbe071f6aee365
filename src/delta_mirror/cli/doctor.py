"""`sync doctor`."""

from typing import TYPE_CHECKING

import click

from delta_mirror.cli.common import EXIT_CHECK_FAILED, examples, read_config, write_whatever_comes
from delta_mirror.cli.messages import printable
from delta_mirror.cli.output import as_far_as_read
from delta_mirror.cli.report import print_json

if TYPE_CHECKING:
    from delta_mirror.cli.main import Globals
    from delta_mirror.jobs.checks.case import Finding


@click.command(
    "doctor",
    epilog=examples(
        "sync doctor            before the first run, and whenever something is odd",
        "sync --quiet doctor    from cron: only what is wrong is said, with exit 5",
        "sync doctor --json     for a program",
    ),
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def command(said: "Globals", *, as_json: bool) -> int:
    """Check configuration, secrets, service, clock, each location and entity, mirror, disk, streams; say how to mend each.

    It changes nothing. A stream that has not been drained within a day is asked for one page, which is a call of its location's
    day and is counted.
    """
    from delta_mirror.jobs.doctor import examine

    write_whatever_comes()
    findings: list[Finding] = []
    with as_far_as_read():
        for finding in examine(lambda: read_config(said.config)):
            findings.append(finding)
            if not as_json and not (said.quiet and finding.state == "ok"):
                _print(finding)
        is_well = all(finding.state == "ok" for finding in findings)
        if as_json:
            print_json({"ok": is_well, "findings": [_as_json(finding) for finding in findings]})
    return 0 if is_well else EXIT_CHECK_FAILED


def _print(finding: "Finding") -> None:
    click.echo(f"{finding.state:<8} {finding.check:<14} {printable(finding.what)}")
    if finding.remedy:
        click.echo(f"{'':<8} {'':<14} do: {printable(finding.remedy)}")


def _as_json(finding: "Finding") -> dict[str, str | None]:
    return {"check": finding.check, "state": finding.state, "what": finding.what, "remedy": finding.remedy or None}
