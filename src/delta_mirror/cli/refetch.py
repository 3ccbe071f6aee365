"""`sync refetch`."""

from typing import TYPE_CHECKING

import click

from delta_mirror.cli.common import (
    EXIT_UNFINISHED,
    NUMBER,
    IdType,
    as_selection,
    examples,
    open_config,
    patience,
    told_to_stop,
    unless_busy,
    writing_to_the_mirror,
)
from delta_mirror.cli.messages import complain, printable, say_failure, tell
from delta_mirror.cli.report import print_json, run_as_json
from delta_mirror.config import ENTITIES

if TYPE_CHECKING:
    from delta_mirror.cli.main import Globals
    from delta_mirror.jobs.refetch import Refetched, RefetchReport


@click.command(
    "refetch",
    epilog=examples(
        "sync refetch Client 0f8e4c1a-...                one client, wherever the mirror has it",
        "sync refetch Sale 77aa...  88bb... --location 9  two sales of one location",
    ),
)
@click.argument("entity", type=click.Choice(ENTITIES))
@click.argument("ids", metavar="ID...", nargs=-1, required=True, type=IdType())
@click.option("--tenant", "tenants", multiple=True, type=NUMBER, metavar="ID", help="Ask for this tenant (repeatable).")
@click.option("--location", "locations", multiple=True, type=NUMBER, metavar="ID", help="Ask for this location (repeatable).")
@click.option("--json", "as_json", is_flag=True, help="The run as one JSON object.")
@writing_to_the_mirror
@click.pass_obj
def command(
    said: "Globals",
    *,
    entity: str,
    ids: tuple[str, ...],
    tenants: tuple[int, ...],
    locations: tuple[int, ...],
    as_json: bool,
    if_running: str,
    deadline: int | None,
) -> int:
    """Fetch single records anew, and carry out what they say.

    Without --tenant and --location they are asked for where the mirror knows them; one that it does not know is looked for in
    every configured location. Each is one call of the location's day.
    """
    from delta_mirror.jobs.refetch import run_refetch

    config = open_config(said.config)
    selection = as_selection(tenants, locations, ())
    wait = patience(if_running)
    with told_to_stop("call again for the records that were not asked for") as stopped:
        report = unless_busy(
            lambda: run_refetch(config, entity, ids, selection, wait=wait, time_limit=deadline, stop=stopped.event),
            if_running,
            stopped,
        )
    if report is None:
        return stopped.exit_code
    for note in report.notes:
        tell(note)
    for record in report.records:
        for news in record.said:
            tell(f"{_named(record)}: {news}")
    if as_json:
        print_json(_as_json(report))
    else:
        _print(report, quiet=said.quiet)
    _complain(report)
    return stopped.exit_code or (0 if report.is_excused else EXIT_UNFINISHED)


def _print(report: "RefetchReport", *, quiet: bool) -> None:
    """Print a line a record; if quiet, only of those that are not as the service has them."""
    for record in report.records:
        if not (quiet and (record.is_done or record.is_expected)):
            why = f"  {record.why}" if record.outcome == "quarantined" else ""
            click.echo(printable(f"{record.id}  {_named(record)}: {record.outcome}{why}"))
    if not quiet:
        done = sum(record.is_done for record in report.records)
        click.echo(f"run {report.run.id}: {done} of {len(report.records)} done, {report.run.calls} calls")


def _complain(report: "RefetchReport") -> None:
    failed = {f"{_named(each)}: {each.why}": each.is_expected for each in report.records if each.outcome == "failed"}
    for why, is_expected in failed.items():
        say_failure(why, is_expected=is_expected)
    for outcome, meaning in (
        ("not found", "the service does not know; the mirror is left as it is, for absence is no deletion"),
        ("quarantined", "came, but could not be applied and are in quarantine; `sync quarantine list` shows why"),
    ):
        for where in dict.fromkeys(_named(each) for each in report.records if each.outcome == outcome):
            number = sum(each.outcome == outcome and _named(each) == where for each in report.records)
            complain(f"{where}: {number} of the records {meaning}")
    for expected in report.expected:
        say_failure(expected, is_expected=True)
    for trouble in report.trouble:
        complain(trouble)


def _named(record: "Refetched") -> str:
    stream = record.stream
    return f"tenant {stream.tenant_id}, location {stream.location_id}, {stream.entity}"


def _as_json(report: "RefetchReport") -> dict[str, object]:
    """Return the run's row of `_runs`, with its records."""
    return {
        **run_as_json(report.run),
        "records": [
            {**each.stream._asdict(), "id": each.id, "outcome": each.outcome, "why": each.why} for each in report.records
        ],
        "trouble": report.trouble,
        "expected": report.expected,
    }
