"""How a push is shown: contact by contact as a result, in words as messages, and as one JSON object.

Invariants:

- Values of records stand in what a dry run prints, and nowhere else: not in a message, and not in the results of a run that
  has written, which cron mails.
- Whatever a value holds, none of it steers a terminal or begins a line of its own.
"""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from delta_mirror.cli.messages import complain, json_text, plain, warn

if TYPE_CHECKING:
    from delta_mirror.jobs.push_report import Pushed, PushReport

WORDS = {"sent": "sent, and not settled yet", "source_deleted": "the record is deleted; the contact is left alone"}


def print_report(report: "PushReport", *, quiet: bool, verbose: bool) -> None:
    """Print what became of each contact, and the sum; if quiet, only what is not done, and the values of a dry run."""
    for each in report.contacts:
        if report.id is None:
            _print_rehearsal(each)
        elif not each.is_done or (not quiet and (verbose or each.outcome != "unchanged" or each.warning or each.beside)):
            click.echo(_line(each))
    if quiet:
        return
    done = ", ".join(f"{number} {what.replace('_', ' ')}" for what, number in report.counts().items()) or "nothing to push"
    waits = f"; {report.waiting} more wait" if report.waiting else ""
    seconds = report.ended_at - report.started_at
    head = "dry run, nothing written" if report.id is None else f"run {report.id}"
    click.echo(f"{head}: {_contacts(len(report.contacts))}, {report.calls} calls in {seconds:.1f} s: {done}{waits}")


def _line(each: "Pushed") -> str:
    fields = f" {', '.join(each.changes)}" if each.changes and each.outcome == "pushed" else ""
    notes = [note for note in (each.error, each.warning) if note]
    if notes and each.trace_id:
        notes.append(f"traceId {each.trace_id}")
    if each.beside:
        notes.append(f"changed beside it, by somebody else or by a script: {', '.join(each.beside)}")
    return plain(f"contact {each.link.contact_id} ({each.link.who}): {_outcome(each)}{fields}{_joined(notes)}")


def _print_rehearsal(each: "Pushed") -> None:
    number = f": {len(each.changes)} field{'' if len(each.changes) == 1 else 's'}" if each.changes else ""
    click.echo(plain(f"contact {each.link.contact_id} ({each.link.who}): {_outcome(each)}{number}{_joined([each.error])}"))
    for name, (old, new) in each.changes.items():
        click.echo(f"  {plain(name)}: {_value(old)} -> {_value(new)}")
    for name, reason in each.left_alone.items():
        click.echo(f"  {plain(name)}: left alone, {plain(reason)}")


def _outcome(each: "Pushed") -> str:
    return WORDS.get(each.outcome, each.outcome)


def _joined(notes: Sequence[str | None]) -> str:
    said = "; ".join(note for note in notes if note)
    return f": {said}" if said else ""


def _value(text: str) -> str:
    """Return a value as JSON text, nothing as the word; everything that steers a terminal is an escape."""
    return json_text(text) if text else "nothing"


def complain_of(report: "PushReport") -> None:
    """Say what is not as it should be, without values, and how often."""
    left = Counter((each.link.who.entity, name, reason) for each in report.contacts for name, reason in each.left_alone.items())
    for (entity, name, reason), number in left.items():
        warn(f"accela.map.{entity}.{name}: {_records(number)}: {reason}; the field was left alone")
    for entity, number in report.unmapped.items():
        warn(f"{number} links are of {entity}, which has no [accela.map.{entity}]; nothing is pushed for them")
    if report.rivals:
        complain(
            f"{_records(len(report.rivals))} of {', '.join(sorted({who.entity for who in report.rivals}))} name a contact that "
            "another one names, too; a contact belongs to one record, so none of them is pushed. Mend the column contact_id"
        )
    warned = Counter(each.warning for each in report.contacts if each.warning)
    for warning, number in warned.items():
        warn(f"{_contacts(number)}: {warning}")
    beside = sum(bool(each.beside) for each in report.contacts)
    if beside:
        warn(f"{_contacts(beside)}: changed between reading and writing, by somebody else or by a script; the last writer wins")
    failed = Counter(each.error for each in report.contacts if not each.is_done and each.error)
    for error, number in failed.items():
        complain(f"{_contacts(number)}: {error}")
    for trouble in report.trouble:
        complain(trouble)
    if report.outcome == "stopped":
        warn("the push was stopped" if report.id is None else f"run {report.id} was stopped")


def _contacts(number: int) -> str:
    return f"{number} contact{'' if number == 1 else 's'}"


def _records(number: int) -> str:
    return f"{number} record{'' if number == 1 else 's'}"


def as_json_of(report: "PushReport") -> dict[str, object]:
    """Return the run as programs read it; only of a dry run with values."""
    from delta_mirror.mirror.file import own_time

    return {
        "id": report.id,
        "command": "accela push",
        "started_at": own_time(report.started_at),
        "ended_at": own_time(report.ended_at),
        "outcome": report.outcome,
        "calls": report.calls,
        "counts": report.counts(),
        "waiting": report.waiting,
        "absent": report.absent,
        "unmapped": report.unmapped,
        "rivals": [who._asdict() for who in report.rivals],
        "contacts": [_contact_as_json(each, with_values=report.id is None) for each in report.contacts],
        "trouble": report.trouble,
    }


def _contact_as_json(each: "Pushed", *, with_values: bool) -> dict[str, object]:
    return {
        **each.link.who._asdict(),
        "contact_id": each.link.contact_id,
        "outcome": each.outcome,
        "fields": {name: list(values) for name, values in each.changes.items()} if with_values else list(each.changes),
        "missed": list(each.missed),
        "beside": list(each.beside),
        "left_alone": each.left_alone,
        "error": each.error,
        "warning": each.warning,
        "trace_id": each.trace_id,
    }
