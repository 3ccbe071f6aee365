"""`sync quarantine`: list, show, retry, drop."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from delta_mirror.cli.common import (
    EXIT_UNFINISHED,
    examples,
    if_running_option,
    open_config,
    patience,
    told_to_stop,
    unless_busy,
    writing_to_the_mirror,
)
from delta_mirror.cli.messages import complain, plain, printable, say_failure, tell
from delta_mirror.cli.report import print_json, run_as_json

if TYPE_CHECKING:
    from delta_mirror.cli.main import Globals
    from delta_mirror.jobs.quarantine import Retried, RetryReport
    from delta_mirror.mirror.read import SetAside

SHORT = 8  # characters of an id, where they tell it from all others


@click.group(
    "quarantine",
    epilog=examples(
        "sync quarantine list         what it is, one line each",
        "sync quarantine show 3fa9    one thing whole",
        "sync quarantine retry        apply all of it again",
        "sync quarantine drop 3fa9    give one thing up",
    ),
)
def command() -> None:
    """Look at what could not be applied, try it again, or give it up.

    An ID is one that `list` shows, or as much of its beginning as tells it from the others.
    """


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.pass_obj
def list_command(said: "Globals", *, as_json: bool) -> None:
    """Show what is in quarantine: one line a thing, without values of records."""
    from delta_mirror.jobs.quarantine import list_quarantine

    things = list_quarantine(open_config(said.config))
    length = _length(things)
    for thing in things:
        if as_json:
            print_json(_as_json(thing))
        else:
            seen = f"{thing.first_seen_at}  {thing.last_seen_at}"
            click.echo(f"{thing.id[:length]}  {seen}  {_place(thing)}  {_id_and(thing, thing.reason)}")


@command.command("show")
@click.argument("id_", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def show_command(said: "Globals", *, id_: str, as_json: bool) -> None:
    """Show one thing whole, with the values of its record."""
    from delta_mirror.jobs.quarantine import show_quarantined

    thing, body = show_quarantined(open_config(said.config), id_)
    whole = {**_as_json(thing), "body": body}
    if as_json:
        print_json(whole)
    else:
        for name, value in whole.items():
            click.echo(f"{name}: {'' if value is None else plain(str(value))}")


@command.command("retry")
@click.argument("ids", metavar="[ID...]", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="The run as one JSON object.")
@writing_to_the_mirror
@click.pass_obj
def retry_command(said: "Globals", *, ids: tuple[str, ...], as_json: bool, if_running: str, deadline: int | None) -> int:
    """Apply again what is in quarantine, all of it where no ID is given; what can be applied now leaves.

    Rows that no table could hold are fetched anew, one call each.
    """
    from delta_mirror.jobs.quarantine import retry_quarantined

    config = open_config(said.config)
    wait = patience(if_running)
    with told_to_stop("the rest is in quarantine still") as stopped:
        report = unless_busy(
            lambda: retry_quarantined(config, ids, wait=wait, time_limit=deadline, stop=stopped.event), if_running, stopped
        )
    if report is None:
        return stopped.exit_code
    for each in report.things:
        for news in each.said:
            tell(f"{_place(each.thing)}: {news}")
    if as_json:
        print_json(_report_as_json(report))
    else:
        _print(report, quiet=said.quiet)
    remaining = [each for each in report.things if each.remains]
    if remaining:
        told = f"{len(remaining)} of {len(report.things)} things remain in quarantine"
        say_failure(told, is_expected=all(each.is_expected for each in remaining))
    for trouble in report.trouble:
        complain(trouble)
    return stopped.exit_code or (0 if report.is_excused else EXIT_UNFINISHED)


@command.command("drop")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@if_running_option
@click.pass_obj
def drop_command(said: "Globals", *, ids: tuple[str, ...], if_running: str) -> int:
    """Give things up: remove them from quarantine without applying them. Should the feed list one again, it comes back."""
    from delta_mirror.jobs.quarantine import drop_quarantined

    config = open_config(said.config)
    wait = patience(if_running)
    with told_to_stop("nothing is left half done") as stopped:
        dropped = unless_busy(lambda: drop_quarantined(config, ids, wait=wait, stop=stopped.event), if_running, stopped)
    if not said.quiet:
        for thing in dropped or ():
            click.echo(f"dropped {thing.id}  {_place(thing)}  {_id_and(thing, thing.reason)}")
    return stopped.exit_code


def _print(report: "RetryReport", *, quiet: bool) -> None:
    """Print a line a thing; if quiet, only of those that remain."""
    length = _length([each.thing for each in report.things])
    for each in report.things:
        if not quiet or (each.remains and not each.is_expected):
            told = f"{_outcome(each)}{f': {each.why}' if each.why else ''}"
            click.echo(f"{each.thing.id[:length]}  {_place(each.thing)}  {_id_and(each.thing, told)}")
    if not quiet:
        gone = sum(not each.remains for each in report.things)
        click.echo(f"run {report.run.id}: {gone} of {len(report.things)} left quarantine, {report.run.calls} calls")


def _id_and(thing: "SetAside", told: str) -> str:
    """Return the id of the record that *thing* is of, and what is told of it; both may hold what was sent."""
    return printable(f"{thing.record_id or '(no id)'}  {told}")


def _outcome(each: "Retried") -> str:
    return each.outcome or "not tried"


def _length(things: "Sequence[SetAside]") -> int:
    """Return how many characters tell all ids apart, eight at least."""
    length, longest = SHORT, max((len(thing.id) for thing in things), default=SHORT)
    while length < longest and len({thing.id[:length] for thing in things}) < len(things):
        length += 1
    return length


def _place(thing: "SetAside") -> str:
    stream = thing.stream
    return thing.source if stream is None else f"{stream.tenant_id}/{stream.location_id} {stream.entity}"


def _as_json(thing: "SetAside") -> dict[str, object]:
    """Return the row of `_quarantine` without its body."""
    stream = thing.stream
    return {
        "id": thing.id,
        "first_seen_at": thing.first_seen_at,
        "last_seen_at": thing.last_seen_at,
        "run_id": thing.run_id,
        "source": thing.source,
        "tenant_id": stream.tenant_id if stream else None,
        "location_id": stream.location_id if stream else None,
        "entity": stream.entity if stream else None,
        "record_id": thing.record_id,
        "ticks": thing.ticks,
        "reason": thing.reason,
    }


def _report_as_json(report: "RetryReport") -> dict[str, object]:
    """Return the run's row of `_runs`, with what was tried."""
    return {
        **run_as_json(report.run),
        "things": [{**_as_json(each.thing), "outcome": _outcome(each), "why": each.why} for each in report.things],
        "trouble": report.trouble,
    }
