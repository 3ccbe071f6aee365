"""`sync verify`.

What differs is written to a file without a name first, and printed when the mirror has been let go: a pager that nobody scrolls
must not hold it.
"""

import json
import sys
import tempfile
from collections.abc import Iterable
from datetime import date
from typing import TYPE_CHECKING

import click

from delta_mirror.cli.changes_text import WIDTH_ON_A_TERMINAL, fields_as_text
from delta_mirror.cli.common import (
    EXIT_CHECK_FAILED,
    EXIT_UNFINISHED,
    examples,
    open_config,
    patience,
    reading_an_export,
    told_to_stop,
    unless_busy,
    write_whatever_comes,
    writing_to_the_mirror,
)
from delta_mirror.cli.messages import complain, json_text, plain, say_failure, tell
from delta_mirror.cli.output import as_far_as_read
from delta_mirror.cli.progress import FileWatch

if TYPE_CHECKING:
    from delta_mirror.cli.main import Globals
    from delta_mirror.core.drift import Drift
    from delta_mirror.core.model import Stream
    from delta_mirror.jobs.selection import Selection
    from delta_mirror.jobs.verify import Verified, VerifyReport

EXIT_REFUSED = 2
IN_MEMORY = 1024 * 1024  # bytes of what differs; more goes to a file


@click.command(
    "verify",
    epilog=examples(
        "sync verify /exports                       does the mirror equal this Starter Export?",
        "sync verify --repair                       fetch anew what differs from the configured one",
        "sync verify /exports --json --show-values  for a program, with both values of each field",
    ),
)
@reading_an_export
@click.option("--repair", is_flag=True, help="Fetch the records that differ anew; each is one call of the location's day.")
@click.option("--show-values", is_flag=True, help="Show values: those of the mirror, then those of the export.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@writing_to_the_mirror
@click.pass_obj
def command(
    said: "Globals",
    *,
    source: str | None,
    selection: "Selection",
    wanted_date: date | None,
    repair: bool,
    show_values: bool,
    as_json: bool,
    if_running: str,
    deadline: int | None,
) -> int:
    """Compare the mirror with a Starter Export, row by row, and list the records that differ; exit 5 if there are any.

    SOURCE is a folder, or sftp://user@host[:port]/path; else [starter] source. What has changed since the export is left out.
    Nothing of the records is changed, unless --repair asks the service for them.
    """
    config = open_config(said.config)  # first: a refusal need not wait for all that a run imports
    from delta_mirror.jobs.verify import Wishes, run_verify

    wishes = Wishes(source, selection, wanted_date, repair, patience(if_running), deadline)
    with tempfile.SpooledTemporaryFile(IN_MEMORY, "w+", encoding="utf-8", errors="surrogateescape") as listed:

        def note(stream: "Stream", drift: "Drift") -> None:
            listed.write(json_text(_as_json(stream, drift, show_values=show_values)) + "\n")

        with (
            told_to_stop("what was not compared is not known") as stopped,
            FileWatch(quiet=said.quiet, as_lines=said.as_lines) as watch,
        ):
            report = unless_busy(
                lambda: run_verify(config, wishes, found=note, stop=stopped.event, watch=watch), if_running, stopped
            )
        if report is None:
            return stopped.exit_code
        _tell_news(report)
        listed.seek(0)
        try:
            with as_far_as_read():
                write_whatever_comes()
                if as_json:
                    _print_json(report, listed)
                elif not said.quiet or report.has_drift:
                    _print(report, listed)
        finally:
            _complain(report, asked_for_repair=repair)
    return stopped.exit_code or _exit_code(report)


def _exit_code(report: "VerifyReport") -> int:
    from delta_mirror.errors import UnfinishedError

    if not report.is_excused or report.outcome == "stopped":
        is_unfinished = report.outcome == "stopped" or any(isinstance(each.error, UnfinishedError) for each in report.streams)
        return EXIT_UNFINISHED if report.id is not None or is_unfinished else EXIT_REFUSED
    return EXIT_CHECK_FAILED if report.has_drift else 0


def _as_json(stream: "Stream", drift: "Drift", *, show_values: bool) -> dict[str, object]:
    """Return one record that differs; without values the names of its fields are kept, and nothing else of them."""
    return {
        "entity": stream.entity,
        "tenant_id": stream.tenant_id,
        "location_id": stream.location_id,
        "id": drift.id,
        "kind": drift.kind,
        "fields": drift.fields if show_values or drift.fields is None else list(drift.fields),
    }


def _print(report: "VerifyReport", listed: Iterable[str]) -> None:
    """Print a line a record, then a line a stream, and what they come to."""
    width = WIDTH_ON_A_TERMINAL if sys.stdout.isatty() else None
    for line in listed:
        record: dict[str, object] = json.loads(line)
        fields, told = record["fields"], ""
        if isinstance(fields, dict):
            told = f"  {fields_as_text(fields, width=width, verbose=True)}"
        elif isinstance(fields, list):
            told = f"  {', '.join(map(plain, fields))}"
        where = f"{record['tenant_id']}/{record['location_id']} {record['entity']}"
        click.echo(f"{where} {plain(str(record['id']))} {record['kind']}{told}")
    for each in report.streams:
        click.echo(f"{each.stream!s:<42} {each.baseline}  {_told(each)}")
    compared = [each for each in report.streams if each.through is not None]
    if compared:
        rows = sum(each.rows for each in compared)
        seconds = max(report.ended_at - report.started_at, 0.001)
        differing = sum(each.differing for each in compared)
        head = f"run {report.id}: {rows:,} rows compared in {seconds:.1f} s ({rows / seconds:,.0f} a second)"
        click.echo(f"{head}; {f'{differing:,} record{_s(differing)}' if differing else 'nothing differs'}")


def _s(number: int) -> str:
    return " differs" if number == 1 else "s differ"


def _told(each: "Verified") -> str:
    if each.through is None:
        return "not compared"
    told = [f"{number:,} {kind}" for kind, number in each.kinds.items() if number]
    told += [f"{each.repaired:,} repaired"] if each.repaired else []
    told += [f"{each.newer:,} changed since and left out"] if each.newer else []
    return f"{each.rows:>11,} rows  {', '.join(told) or 'nothing differs'}"


def _print_json(report: "VerifyReport", listed: Iterable[str]) -> None:
    """Write one JSON object, its records one by one: there may be more of them than memory holds."""
    head: dict[str, object] = {
        **{kind: report.total(kind) for kind in ("missing", "extra", "different")},
        "run": report.id,
        "outcome": report.outcome,
        "calls": report.calls,
        "streams": [_stream_as_json(each) for each in report.streams],
        "trouble": report.trouble,
    }
    sys.stdout.write(json_text(head).removesuffix("}") + ', "records": [')
    for number, line in enumerate(listed):
        sys.stdout.write((", " if number else "") + line.removesuffix("\n"))
    sys.stdout.write("]}\n")


def _stream_as_json(each: "Verified") -> dict[str, object]:
    return {
        **each.stream._asdict(),
        "baseline": each.baseline,
        "verified_through": each.through,
        "rows": each.rows,
        "missing": each.kinds["missing"],
        "extra": each.kinds["extra"],
        "different": each.kinds["different"],
        "repaired": each.repaired,
        "newer": each.newer,
        "set_aside": [aside._asdict() for aside in each.aside],
        "not_compared": list(each.not_compared),
        "error": str(each.error) if each.error else None,
    }


def _tell_news(report: "VerifyReport") -> None:
    for note in report.notes:
        tell(note)
    for each in report.streams:
        if each.not_compared:
            tell(f"{each.stream}: {', '.join(each.not_compared)} of an earlier export not compared, as this one lacks them")
        for aside in each.aside:
            tell(f"{each.stream}: {aside.rows:,} row{'' if aside.rows == 1 else 's'} of {aside.table} set aside: {aside.reason}")
    for record in report.repairs:
        for news in record.said:
            tell(f"{record.stream}: {news}")


def _complain(report: "VerifyReport", *, asked_for_repair: bool) -> None:
    for each in report.streams:
        if each.error:
            complain(str(each.error))
        if left := each.differing - each.repaired:
            advice = (
                "`sync full-starter` loads the export, or call again when the service can be reached"
                if asked_for_repair
                else "--repair fetches them anew; of very many, `sync full-starter` is cheaper"
            )
            complain(f"{each.stream}: {left:,} record{_s(left)} from the export; {advice}")
    for why, is_expected in {f"{each.stream}: {each.why}": each.is_expected for each in report.repairs if each.why}.items():
        say_failure(why, is_expected=is_expected)
    for trouble in report.trouble:
        complain(trouble)
