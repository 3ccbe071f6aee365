"""`sync status`."""

import time
from typing import TYPE_CHECKING

import click

from delta_mirror.cli.common import open_config, print_json

if TYPE_CHECKING:
    from delta_mirror.cli.main import Globals
    from delta_mirror.jobs.status import Status, StreamStatus


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def command(said: "Globals", *, as_json: bool) -> None:
    """Show every stream: state, baseline, lag, watermark, records, last success, last error."""
    from delta_mirror.jobs.status import read_status

    status = read_status(open_config(said.config), time.time())
    if as_json:
        print_json(_as_json(status))
    else:
        _print(status)


def _print(status: "Status") -> None:
    there = "" if status.exists else " (not there yet; `sync deltas` makes it)"
    click.echo(f"mirror {status.mirror}{there}")
    for each in status.streams:
        known = each.known
        state = known.state if each.is_configured else f"{known.state}, no longer configured"
        click.echo(
            f"tenant {known.stream.tenant_id}, location {known.stream.location_id}, {known.stream.entity}: {state}, "
            f"{each.records} records, lag {_span(each.lag_seconds)}, watermark {known.watermark or 'none'}, "
            f"last success {known.last_success_at or 'never'}"
        )
        if known.gap_from:
            click.echo(f"  gap from {known.gap_from} to {known.gap_to}: run `sync full-starter` with a newer Starter Export")
        if known.late or known.superseded:
            click.echo(f"  {known.late} changes came late, {known.superseded} entries were superseded")
        if known.last_error:
            click.echo(f"  last error: {known.last_error}")
    if any(each.known.baseline is None and each.known.state != "new" for each in status.streams):
        click.echo("streams without a baseline hold only what has changed since their first drain")
    click.echo(f"quarantine: {status.quarantine}")


def _span(seconds: int | None) -> str:
    if seconds is None:
        return "unknown"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _as_json(status: "Status") -> dict[str, object]:
    run = status.last_run
    return {
        "mirror": status.mirror,
        "streams": [_stream_as_json(each) for each in status.streams],
        "quarantine": status.quarantine,
        "last_run": None
        if run is None
        else {
            "id": run.id,
            "command": run.command,
            "started_at": run.started_at,
            "ended_at": run.ended_at,
            "outcome": run.outcome,
            "calls": run.calls,
            "pages": run.pages,
            **run.counts.as_dict(),
        },
    }


def _stream_as_json(each: "StreamStatus") -> dict[str, object]:
    known = each.known
    return {
        **known.stream._asdict(),
        "state": known.state,
        "baseline": known.baseline,
        "watermark": known.watermark,
        "caught_up_at": known.caught_up_at,
        "lag_seconds": each.lag_seconds,
        "records": each.records,
        "verified_through": known.verified_through,
        "last_success_at": known.last_success_at,
        "last_error": known.last_error,
        "gap_from": known.gap_from,
        "gap_to": known.gap_to,
        "late": known.late,
        "superseded": known.superseded,
        "configured": each.is_configured,
    }
