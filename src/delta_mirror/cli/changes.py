"""`sync changes`.

Invariants:

- A change is one line, whatever is in it: what would break a line or steer a terminal is written as an escape.
- Nothing is shortened but on a terminal, and in JSON nothing is left out.
- Where the log was pruned that is said, and it is exit 3 where some of what was asked for by time or run is gone.
"""

import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from delta_mirror.cli.common import (
    EXIT_UNFINISHED,
    NUMBER,
    IdType,
    MomentType,
    examples,
    open_config,
    selecting,
    write_whatever_comes,
)
from delta_mirror.cli.messages import complain, tell
from delta_mirror.cli.report import print_json
from delta_mirror.config import ENTITIES

if TYPE_CHECKING:
    from delta_mirror.cli.main import Globals
    from delta_mirror.config import Config
    from delta_mirror.jobs.changes import Wanted
    from delta_mirror.jobs.selection import Selection
    from delta_mirror.mirror.read import Logged

LOGGED = (*ENTITIES, "NexusClient")


def _selecting_what_is_logged(command: Callable[..., int]) -> Callable[..., int]:
    return selecting(command, LOGGED)


@click.command(
    "changes",
    epilog=examples(
        "sync changes Client --limit 20             the first twenty changes of clients",
        "sync changes --run 12                      what run 12 did",
        "sync changes --since 2026-05-04T00:00:00Z  what was carried out since then",
        "sync changes --id 0f8e... --verbose        the story of one record",
        "sync changes --json --follow --after 4711  for a program: all that comes after number 4711",
    ),
)
@click.argument("entity", required=False, type=click.Choice(LOGGED))
@_selecting_what_is_logged
@click.option("--since", type=MomentType(), metavar="DATETIME", help="Only what was carried out from then on (with a zone).")
@click.option("--id", "ids", multiple=True, type=IdType(), metavar="ID", help="Only this record, in any case (repeatable).")
@click.option("--run", "run_id", type=NUMBER, metavar="N", help="Only what this run did.")
@click.option("--after", type=NUMBER, metavar="SEQ", help="Only what came after this number of the log.")
@click.option("--limit", type=NUMBER, metavar="N", help="At most so many, the oldest ones.")
@click.option("--follow", is_flag=True, help="Go on as runs commit, until Ctrl-C.")
@click.option("-v", "--verbose", is_flag=True, help="Show also EntityVersion and DateUpdated.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.pass_obj
def command(
    said: "Globals",
    *,
    entity: str | None,
    selection: "Selection",
    since: int | None,
    ids: tuple[str, ...],
    run_id: int | None,
    after: int | None,
    limit: int | None,
    follow: bool,
    verbose: bool,
    as_json: bool,
) -> int:
    """Show what changed: one line a change, field by field, oldest first."""
    from delta_mirror.jobs.changes import Wanted, follow_changes, read_changes

    if entity:
        selection = replace(selection, entities=(*selection.entities, entity))
    wanted = Wanted(selection, ids, run_id, since, after)
    show = print_json_of if as_json else _text_printer(verbose=verbose or said.verbose)
    config = open_config(said.config)
    is_whole = _tell_of_pruning(config, wanted)
    if not follow:
        for change in read_changes(config, wanted, limit=limit):
            show(change)
        return 0 if is_whole else EXIT_UNFINISHED
    with _ended_by_signals():
        for batch in follow_changes(config, wanted, limit=limit, sleep=_sleep):
            for change in batch:
                show(change)
            sys.stdout.flush()
    return 0 if is_whole else EXIT_UNFINISHED  # with --limit it ends by itself


def _tell_of_pruning(config: "Config", wanted: "Wanted") -> bool:
    """Say what the log has forgotten, where that concerns *wanted*; return whether all that is asked for is there."""
    from delta_mirror.jobs.changes import what_is_forgotten

    found = what_is_forgotten(config, wanted)
    if found is None:
        return True
    what, is_asked_for = found
    (complain if is_asked_for else tell)(what)
    return not is_asked_for


def print_json_of(change: "Logged") -> None:
    """Write one change as a line of JSON."""
    print_json(
        {
            "seq": change.seq,
            "at": change.at,
            "run_id": change.run_id,
            **change.stream._asdict(),
            "id": change.id,
            "op": change.op,
            "fields": change.fields,
        }
    )


def _text_printer(*, verbose: bool) -> "Callable[[Logged], None]":
    from delta_mirror.cli.changes_text import WIDTH_ON_A_TERMINAL, as_line

    write_whatever_comes()
    width = WIDTH_ON_A_TERMINAL if sys.stdout.isatty() else None

    def show(change: "Logged") -> None:
        sys.stdout.write(as_line(change, width=width, verbose=verbose) + "\n")

    return show


def _sleep(seconds: float) -> None:
    """Sleep, unless nobody reads our output any more: only a write would tell, and there may be none for hours."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)  # no events asked for: what is told all the same is that the other end is closed
    if poll.poll(seconds * 1000):
        raise BrokenPipeError


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the body at once, with 130 and 143: it only reads, so there is nothing to bring to an end.

    An event that the body looks at would not do: it may wait for a reader that takes nothing more out of the pipe.
    """

    def end(number: int, *_: object) -> None:
        raise click.exceptions.Exit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
