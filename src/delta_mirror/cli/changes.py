"""`sync changes`."""

import json
from typing import TYPE_CHECKING

import click

from delta_mirror.cli.common import MomentType, as_selection, open_config, print_json, selecting_streams
from delta_mirror.config import ENTITIES

if TYPE_CHECKING:
    from delta_mirror.cli.main import Globals
    from delta_mirror.mirror.read import Logged


@click.command("changes")
@click.argument("entity", required=False, type=click.Choice(ENTITIES))
@selecting_streams
@click.option("--since", type=MomentType(), metavar="DATETIME", help="Only what was carried out from then on (with a zone).")
@click.option("--id", "ids", multiple=True, metavar="ID", help="Only this record (repeatable).")
@click.option("--run", "run_id", type=int, metavar="N", help="Only what this run did.")
@click.option("--limit", type=click.IntRange(min=0), metavar="N", help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.pass_obj
def command(
    said: "Globals",
    *,
    entity: str | None,
    tenants: tuple[int, ...],
    locations: tuple[int, ...],
    entities: tuple[str, ...],
    since: int | None,
    ids: tuple[str, ...],
    run_id: int | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """Show what changed: one line a change, field by field, oldest first."""
    from delta_mirror.jobs.changes import read_changes

    selection = as_selection(tenants, locations, (*entities, entity) if entity else entities)
    for change in read_changes(open_config(said.config), selection, ids=ids, run_id=run_id, since=since, limit=limit):
        if as_json:
            print_json(_as_json(change))
        else:
            click.echo(as_line(change))


def as_line(change: "Logged") -> str:
    """Return one change as one line."""
    stream = change.stream
    line = f"{change.seq} {change.at} {stream.tenant_id}/{stream.location_id} {change.op:<7} {stream.entity} {change.id}"
    told = [f"{name}: {_shown(old)} -> {_shown(new)}" for name, (old, new) in (change.fields or {}).items()]
    return f"{line}  {'; '.join(told)}" if told else line


def _shown(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _as_json(change: "Logged") -> dict[str, object]:
    return {
        "seq": change.seq,
        "at": change.at,
        "run_id": change.run_id,
        **change.stream._asdict(),
        "id": change.id,
        "op": change.op,
        "fields": change.fields,
    }
