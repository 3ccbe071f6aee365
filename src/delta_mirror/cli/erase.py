"""`sync erase`."""

import sys
from typing import TYPE_CHECKING

import click

from delta_mirror.cli.common import (
    EXIT_UNFINISHED,
    Stopped,
    examples,
    open_config,
    patience,
    told_to_stop,
    unless_busy,
    write_whatever_comes,
    writing_to_the_mirror,
)
from delta_mirror.cli.messages import complain, tell, warn
from delta_mirror.cli.report import print_json
from delta_mirror.config import MAPPED_ENTITIES
from delta_mirror.errors import RefusedError

if TYPE_CHECKING:
    from delta_mirror.cli.main import Globals
    from delta_mirror.config import Config
    from delta_mirror.jobs.erase import EraseReport, EraseWishes

OUTSIDE = (
    "not in the mirror, and so not erased: copies (`sync backup`), Starter Exports and files of messages; output and logs that "
    "were kept; what other programs have taken over; the services themselves"
)


@click.command(
    "erase",
    epilog=examples(
        "sync erase Client 0f8e4c1a-... --dry-run   what is held, table by table",
        "sync erase Client 0f8e4c1a-...             remove it; asks first",
        "sync erase NexusClient EX123456 --yes      without asking",
    ),
)
@click.argument("entity", type=click.Choice(MAPPED_ENTITIES))
@click.argument("id_", metavar="ID")
@click.option("--tenant", "tenants", multiple=True, type=int, metavar="ID", help="Of this tenant (repeatable).")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Show what would go, and remove nothing.")
@click.option("--json", "as_json", is_flag=True, help="What was done, as one JSON object.")
@writing_to_the_mirror
@click.pass_obj
def command(
    said: "Globals",
    *,
    entity: str,
    id_: str,
    tenants: tuple[int, ...],
    yes: bool,
    dry_run: bool,
    as_json: bool,
    if_running: str,
    deadline: int | None,
) -> int:
    """Remove a person everywhere in the mirror: rows, history, tombstones, messages, quarantine, links, pushes, free pages.

    A mark, from which nobody can tell who it was, keeps the person from coming back by deltas, Starter Exports or messages.
    Needs [mirror] mask_key. There is no way back.
    """
    config = open_config(said.config)
    from delta_mirror.jobs.erase import AGAIN, EraseWishes, run_erase

    write_whatever_comes()
    wait = patience(if_running)
    wishes = EraseWishes(entity, id_, tenants, dry_run, wait, deadline)
    # Before signals are caught: Ctrl-C at the question is an answer.
    if not yes and not dry_run and unless_busy(lambda: _is_meant(config, wishes), if_running, Stopped()) is None:
        return 0
    with told_to_stop(AGAIN) as stopped:
        report = unless_busy(lambda: run_erase(config, wishes, stop=stopped.event, tell=tell), if_running, stopped)
    if report is None:
        return stopped.exit_code
    if not report.was_held and report.persons and not dry_run:
        warn("nothing of this id was held. Look whether it is right, unless the person was erased before")
    if as_json:
        print_json(_as_json(report, wishes))
    elif not said.quiet:
        _print(report, dry_run=dry_run)
    for trouble in report.trouble:
        complain(trouble)
    return stopped.exit_code or (EXIT_UNFINISHED if report.trouble else 0)


def _is_meant(config: "Config", wishes: "EraseWishes") -> bool:
    """Return once somebody at a terminal has seen what would go, and has typed the id once more.

    Raises:
        RefusedError: there is no terminal, or another id was typed.
    """
    from dataclasses import replace

    from delta_mirror.jobs.erase import run_erase

    if not sys.stdin.isatty():
        raise RefusedError("nothing was written: what is erased cannot be brought back, and nobody can be asked here. Give --yes")
    report = run_erase(config, replace(wishes, dry_run=True))
    for line in _lines(report):
        click.echo(line, err=True)
    typed = click.prompt("This cannot be undone. Type the ID once more to erase it", err=True, default="", show_default=False)
    if typed.strip().lower() != wishes.id.lower():
        raise RefusedError("that is another ID; nothing was written")
    return True


def _print(report: "EraseReport", *, dry_run: bool) -> None:
    if not report.persons:
        return
    click.echo("dry run, nothing is written; would be erased:" if dry_run else f"run {report.id}: erased and marked:")
    for line in _lines(report):
        click.echo(line)
    if not dry_run and not report.trouble:
        click.echo(f"the file was written anew, and its WAL is empty; it has {report.size:,} bytes")
    click.echo(OUTSIDE)


def _lines(report: "EraseReport") -> list[str]:
    """Return what is said of what was held, and of what stays."""
    lines = []
    for person, removed in report.persons.items():
        where = f" of tenant {person.tenant_id}" if person.tenant_id else ""
        places = [str(place) for place in sorted(removed.locations) if place]
        at = f", at location {', '.join(places)}" if places else ""
        rows = ", ".join(f"{table} {number:,}" for table, number in removed.tables.items())
        before = "; was erased before" if removed.was_marked else ""
        lines.append(
            f"{person.entity} {person.id}{where}{at}: rows of {rows}" if rows else f"{person.entity} {person.id}{where}: not held"
        )
        lines[-1] += before
        if removed.contacts:
            lines.append(f"the Accela contact that it was tied to stays as it is: {', '.join(removed.contacts)}")
    if report.naming:
        rows = ", ".join(f"{each.table}.{each.column} in {each.rows:,} rows" for each in report.naming)
        lines.append(f"records of others name it, and stay: {rows}. They can be erased by ids of their own")
    return lines


def _as_json(report: "EraseReport", wishes: "EraseWishes") -> dict[str, object]:
    return {
        "run_id": report.id,
        "outcome": report.outcome,
        "entity": wishes.entity,
        "id": wishes.id,
        "erased": [
            {
                "tenant_id": person.tenant_id,
                "locations": sorted(removed.locations),
                "was_marked": removed.was_marked,
                "rows": removed.tables,
                "contacts": removed.contacts,
            }
            for person, removed in report.persons.items()
        ],
        "named_in": [each._asdict() for each in report.naming],
        "bytes": report.size,
        "trouble": report.trouble,
    }
