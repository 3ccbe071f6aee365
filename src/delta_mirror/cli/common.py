"""What several commands share: the configuration, the options that select streams, durations and dates, being told to stop."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from functools import wraps
from io import TextIOWrapper
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, TypeVar

import click

from delta_mirror.cli.messages import tell, warn
from delta_mirror.config import ENTITIES, Config, find_config, load_config, read_duration
from delta_mirror.core.values import offset_of, read_ticks
from delta_mirror.errors import BusyError

if TYPE_CHECKING:
    from delta_mirror.core.model import Stream
    from delta_mirror.jobs.selection import Selection

    _Number = click.ParamType[int]
    _Day = click.ParamType[date]
    _Text = click.ParamType[str]
else:
    _Number = _Day = _Text = click.ParamType  # generic only in newer versions of click than the oldest that will do

Command = TypeVar("Command", bound=Callable[..., object])
Done = TypeVar("Done")

NUMBER = click.IntRange(min=0, max=2**63 - 1)  # what a column of SQLite holds
EXIT_UNFINISHED = 3
EXIT_CHECK_FAILED = 5


def open_config(given: str | None) -> Config:
    """Return the configuration that *given* names, or that is found where one may lie; warn of what should not be so."""
    config = read_config(given)
    for warning in config.warnings:
        warn(warning)
    return config


def read_config(given: str | None) -> Config:
    """Return the configuration as `open_config`, and warn of nothing."""
    return load_config(find_config(given, os.environ, _folder(Path.cwd), _folder(Path.home)))


def _folder(find: Callable[[], Path]) -> Path | None:
    """Return what *find* finds, None where there is no such folder: the one we run in was removed, the user has no home."""
    try:
        return find()
    except (FileNotFoundError, RuntimeError):
        return None


class DurationType(_Number):
    """A duration such as 90s, 10m, 2h or 7d, as seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the seconds of *value*."""
        if isinstance(value, int):
            return value
        try:
            return read_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class MomentType(_Number):
    """A date-time with a zone, as ticks."""

    name = "datetime"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the ticks of *value*."""
        text = str(value)
        ticks = read_ticks(text)
        if ticks is None:
            self.fail(f"{text!r} is no date-time; write it like 2026-05-04T12:00:00Z or 2026-05-04T08:00:00-04:00", param, ctx)
        if not offset_of(text):
            self.fail(f"{text!r} says no zone; add Z for UTC, or an offset such as -04:00", param, ctx)
        return ticks


class DayType(_Day):
    """A day as names of files have it, such as 20260501."""

    name = "day"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> date:
        """Return the day that *value* names."""
        if isinstance(value, date):
            return value
        from delta_mirror.dds.export_runs import read_date

        day = read_date(str(value))
        if day is None:
            self.fail(f"{str(value)!r} is no day; write it as in the names of the files, like 20260501", param, ctx)
        return day


class IdType(_Text):
    """The id of a record."""

    name = "id"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return *value*, which is text: an argument need not be."""
        try:
            str(value).encode()
        except UnicodeEncodeError:
            self.fail(f"{str(value)!a} is not UTF-8, and no record is called so", param, ctx)
        return str(value)


def examples(*lines: str) -> str:
    """Return the end of a help text that teaches by *lines*, each a call and what it is for."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def selecting_streams(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options that select streams; *command* is given the `selection`."""
    return selecting(command, ENTITIES)


def selecting(command: Callable[..., int], entities: Sequence[str]) -> Callable[..., int]:
    """Add the options that select by tenant, location and one of *entities*; *command* is given the `selection`."""

    @wraps(command)
    def selected(
        *args: object, tenants: tuple[int, ...], locations: tuple[int, ...], entities: tuple[str, ...], **said: object
    ) -> int:
        return command(*args, selection=as_selection(tenants, locations, entities), **said)

    for option in (
        click.option("--entity", "entities", multiple=True, type=click.Choice(entities), help="Only this entity (repeatable)."),
        click.option(
            "--location", "locations", multiple=True, type=NUMBER, metavar="ID", help="Only this location (repeatable)."
        ),
        click.option("--tenant", "tenants", multiple=True, type=NUMBER, metavar="ID", help="Only this tenant (repeatable)."),
    ):
        selected = option(selected)
    return selected


def reading_an_export(command: Callable[..., int]) -> Callable[..., int]:
    """Add what says which files of which Starter Export are read: `source`, `selection` and `wanted_date`."""
    by_date = click.option(
        "--date", "wanted_date", type=DayType(), metavar="YYYYMMDD", help="This run, instead of the newest complete one."
    )
    return click.argument("source", required=False)(selecting_streams(by_date(command)))


def if_running_option(command: Command) -> Command:
    """Add the option that says what to do where another run holds the mirror."""
    return click.option(
        "--if-running",
        type=click.Choice(["skip", "wait", "fail"]),
        default="fail",
        show_default=True,
        help="What to do where another run holds the mirror.",
    )(command)


def writing_to_the_mirror(command: Command) -> Command:
    """Add the options of commands that write."""
    deadline = click.option("--deadline", type=DurationType(), metavar="DURATION", help="Stop after so long, such as 10m.")
    return if_running_option(deadline(command))


def patience(if_running: str) -> float:
    """Return how many seconds a run waits for another one that holds the mirror; below 0 it waits without end."""
    return -1.0 if if_running == "wait" else 0.0


def as_selection(tenants: tuple[int, ...], locations: tuple[int, ...], entities: tuple[str, ...]) -> "Selection":
    """Return what the options of `selecting` select."""
    from delta_mirror.jobs.selection import Selection

    return Selection(tenants, locations, entities)


def write_whatever_comes() -> None:
    """Let standard output show a character that its encoding lacks as an escape, instead of ending the program."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


class Stopped:
    """Whether the process was told to stop, with which exit code it then ends, and whether anything had begun by then."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.exit_code = 0
        self.has_begun = True

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.exit_code = 128 + number
        self.event.set()


@contextmanager
def told_to_stop(rest: str = "the next run goes on from there") -> Iterator[Stopped]:
    """Catch Ctrl-C and SIGTERM while the body runs: the body looks at the event and ends in good order.

    *rest* says what becomes of what is not done.
    """
    stopped = Stopped()
    before = {number: signal.signal(number, stopped._hear) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if stopped.exit_code and stopped.has_begun:
        tell(f"stopped; what was committed stays, and {rest}")


def unless_busy(run: Callable[[], Done], if_running: str, stopped: Stopped) -> Done | None:
    """Return what *run* brings; None where another run holds the mirror, and that is to be passed over.

    Raises:
        BusyError: another run holds the mirror, and that is a failure.
    """
    try:
        return run()
    except BusyError as error:
        if not stopped.exit_code:
            if if_running != "skip":
                raise
            tell(f"skipped: {error}")
        stopped.has_begun = False
        return None


def told_of_quarantine(stream: "Stream", number: int) -> str:
    """Return what is said of so many records of *stream* that have newly come into quarantine."""
    records = "1 record could not be applied and is" if number == 1 else f"{number:,} records could not be applied and are"
    return f"{stream}: {records} in quarantine; `sync quarantine list` shows why"
