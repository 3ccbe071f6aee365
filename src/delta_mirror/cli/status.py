"""`sync status`."""

import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from delta_mirror.cli.common import EXIT_CHECK_FAILED, EXIT_UNFINISHED, DurationType, examples, open_config, selecting_streams
from delta_mirror.cli.messages import complain
from delta_mirror.cli.report import print_json, run_as_json

if TYPE_CHECKING:
    from delta_mirror.cli.main import Globals
    from delta_mirror.jobs.selection import Selection
    from delta_mirror.jobs.status import Status, StreamStatus
    from delta_mirror.mirror.mask_state import MaskState
    from delta_mirror.mirror.read import NexusTally


@click.command(
    "status",
    epilog=examples(
        "sync status                  the truth at a glance, and what to type",
        "sync status --max-age 2h     for a monitor: exit 5 if a stream lags more",
        "sync status --json           for a program",
    ),
)
@selecting_streams
@click.option("--max-age", type=DurationType(), metavar="DURATION", help="Exit 5 if a stream was caught up longer ago than that.")
@click.option("-v", "--verbose", is_flag=True, help="Show times in full, and every stream that something is wrong with.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def command(
    said: "Globals",
    *,
    selection: "Selection",
    max_age: int | None,
    verbose: bool,
    as_json: bool,
) -> int:
    """Show every stream: state, baseline, lag, watermark, records, last success, last error; and what to do."""
    from delta_mirror.jobs.status import read_status

    now = time.time()
    status = read_status(open_config(said.config), now, selection)
    if as_json:
        print_json(_as_json(status))
    elif not said.quiet:
        from delta_mirror.cli.status_text import show

        show(status, now, verbose=verbose or said.verbose)
    return _check(status, max_age, is_selected=not selection.is_everything)


def _check(status: "Status", max_age: int | None, *, is_selected: bool) -> int:
    """Return the exit code, and complain of what makes it one."""
    if is_selected and not status.streams:
        complain("no stream is selected; look at the options that select, and at [dds] locations and entities")
        return EXIT_UNFINISHED
    if max_age is None:
        return 0
    from delta_mirror.cli.status_text import ago
    from delta_mirror.core.spans import span

    exceeding = status.exceeding(max_age)
    by_place: dict[tuple[int, int], list[str]] = {}
    for each in exceeding:
        stream = each.known.stream
        by_place.setdefault(stream[:2], []).append(f"{stream.entity} ({ago(each.lag_seconds)})")
    for (tenant_id, location_id), told in by_place.items():
        which = f"tenant {tenant_id}, location {location_id}: {', '.join(told)}"
        complain(f"caught up longer ago than {span(max_age)} (--max-age): {which}; run `sync deltas`")
    if not any(each.is_configured for each in status.streams):
        complain("no stream was ever drained; run `sync deltas`")
        return EXIT_CHECK_FAILED
    return EXIT_CHECK_FAILED if exceeding else 0


def _as_json(status: "Status") -> dict[str, object]:
    run = status.last_run
    return {
        "mirror": status.mirror,
        "streams": [_stream_as_json(each) for each in status.streams],
        "quarantine": status.quarantine,
        "last_run": None if run is None else run_as_json(run),
        **({} if status.nexus is None else {"nexus": _nexus_as_json(status.nexus)}),
        **({} if status.accela is None else {"accela": asdict(status.accela)}),
        **({} if status.erased is None else {"erased": asdict(status.erased)}),
        **({} if status.mask.is_done else {"mask": _mask_as_json(status.mask)}),
    }


def _mask_as_json(mask: "MaskState") -> dict[str, object]:
    return {"due": mask.is_due, "unswept": mask.is_unswept, "lifted": mask.lifted}


def _nexus_as_json(nexus: "NexusTally") -> dict[str, object]:
    return {
        "clients": nexus.clients,
        "messages": {"applied": nexus.applied, "superseded": nexus.superseded, "quarantined": nexus.quarantined},
        "repeated": nexus.repeated,
        "last_received_at": nexus.last_received_at,
        "last_occurred_at": nexus.last_occurred_at,
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
        "records": known.records,
        "verified_through": known.verified_through,
        "verified_rows": known.verified_rows,
        "verified_differing": known.verified_differing,
        "last_success_at": known.last_success_at,
        "last_error": known.last_error,
        "gap_from": known.gap_from,
        "gap_to": known.gap_to,
        "late": known.late,
        "superseded": known.superseded,
        "configured": each.is_configured,
    }
