"""How far a long run has come: a moving display on a terminal, a plain line now and then otherwise.

Invariants:

- It goes to standard error, and says nothing with `--quiet`.
- A feed does not say how much is still to come: what is shown is what has come, and how fast. Where the whole is known
  (`Share`), its part and the time left are shown.
"""

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from delta_mirror.cli.messages import tell

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from delta_mirror.jobs.drain import Report

BETWEEN_LINES = 10.0  # seconds between two plain lines
SHOWN_AFTER = 0.5  # seconds; a run that is over sooner shows no display at all


class Watch:
    """Is told of every page that any stream has read; a context manager."""

    def __init__(self, *, quiet: bool, as_lines: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._quiet = quiet
        self._as_lines = as_lines or not sys.stderr.isatty()
        self._clock = clock
        self._turn = threading.Lock()
        self._began = self._said_at = clock()
        self._display: Progress | None = None
        self._tasks: dict[object, TaskID] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._display:
            self._display.stop()

    def __call__(self, report: "Report") -> None:
        """Take note of what *report* says now."""
        if self._quiet:
            return
        with self._turn:
            if self._as_lines:
                self._say(report)
            elif self._clock() - self._began >= SHOWN_AFTER:
                self._show(report)

    def _say(self, report: "Report") -> None:
        if self._clock() - self._said_at < BETWEEN_LINES:
            return
        self._said_at = self._clock()
        records = _records(report)
        rate = records / max(self._clock() - self._began, 0.001)
        tell(f"{_named(report)}: {report.pages} pages, {records} records so far, {rate:.0f} a second")

    def _show(self, report: "Report") -> None:
        if self._display is None:
            from rich.console import Console
            from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

            self._display = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                TextColumn("{task.completed:>9,.0f} records"),
                TextColumn("{task.fields[pages]:>6,} pages"),
                TextColumn("{task.fields[rate]:>7,.0f}/s"),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._display.start()
        records = _records(report)
        rate = records / max(self._clock() - self._began, 0.001)
        if report.stream not in self._tasks:
            self._tasks[report.stream] = self._display.add_task(_named(report), total=None, pages=0, rate=0.0)
        self._display.update(self._tasks[report.stream], completed=records, pages=report.pages, rate=rate)


def _records(report: "Report") -> int:
    return sum(report.counts.as_dict().values())


def _named(report: "Report") -> str:
    stream = report.stream
    return f"{stream.tenant_id}/{stream.location_id} {stream.entity}"


class Share:
    """Is told how much of a whole is done; a context manager. *what* is being done, as a person reads it."""

    def __init__(self, what: str, *, quiet: bool, as_lines: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._what = what
        self._quiet = quiet
        self._as_lines = as_lines or not sys.stderr.isatty()
        self._clock = clock
        self._began = self._said_at = clock()
        self._display: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._display:
            self._display.stop()

    def __call__(self, done: int, total: int) -> None:
        """Take note that *done* of *total* are done."""
        if self._quiet:
            return
        if not self._as_lines:
            if self._clock() - self._began >= SHOWN_AFTER:
                self._show(done, total)
        elif self._clock() - self._said_at >= BETWEEN_LINES:
            self._said_at = self._clock()
            tell(f"{self._what}: {100 * done // max(total, 1)} %")

    def _show(self, done: int, total: int) -> None:
        if self._display is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
            self._display = Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._display.add_task(self._what, total=total)
            self._display.start()
        if self._task is not None:
            self._display.update(self._task, completed=done, total=total)
