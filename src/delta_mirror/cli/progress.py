"""How far a long run has come: a moving display on a terminal, a plain line now and then otherwise.

Invariants:

- It goes to standard error, and says nothing with `--quiet`.
- A feed does not say how much is still to come: what is shown is what has come, and how fast. Where the whole is known, as of
  files, the time left is shown, too.
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
    from delta_mirror.jobs.starter import Progress as Reading

BETWEEN_LINES = 10.0  # seconds between two plain lines
SHOWN_AFTER = 0.5  # seconds; a run that is over sooner shows no display at all


class Telling:
    """What all that tell of a long run have in common: whether, how and when. A context manager."""

    def __init__(self, *, quiet: bool, as_lines: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._quiet = quiet
        self._as_lines = as_lines or not sys.stderr.isatty()
        self._clock = clock
        self._began = self._said_at = clock()
        self._display: Progress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._display:
            self._display.stop()

    def _elapsed(self) -> float:
        return max(self._clock() - self._began, 0.001)

    def _is_line_due(self) -> bool:
        """Return whether it is time for a plain line, which then counts as said."""
        if self._quiet or not self._as_lines or self._clock() - self._said_at < BETWEEN_LINES:
            return False
        self._said_at = self._clock()
        return True

    def _is_display_due(self) -> bool:
        return not self._quiet and not self._as_lines and self._clock() - self._began >= SHOWN_AFTER


class Watch(Telling):
    """Is told of every page that any stream has read."""

    def __init__(self, *, quiet: bool, as_lines: bool, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(quiet=quiet, as_lines=as_lines, clock=clock)
        self._turn = threading.Lock()
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, report: "Report") -> None:
        """Take note of what *report* says now."""
        self.note(_named(report), report.pages, "pages", _records(report), "records")

    def note(self, name: str, parts: int, of_parts: str, things: int, of_things: str) -> None:
        """Take note of how far *name* has come: so many parts, such as pages, and so many things, such as records."""
        with self._turn:
            rate = things / self._elapsed()
            if self._is_line_due():
                tell(f"{name}: {parts} {of_parts}, {things} {of_things} so far, {rate:.0f} a second")
            elif self._is_display_due():
                self._show(name, parts, of_parts, things, of_things, rate)

    def _show(self, name: str, parts: int, of_parts: str, things: int, of_things: str, rate: float) -> None:
        if self._display is None:
            from rich.console import Console
            from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

            self._display = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                TextColumn("{task.completed:>9,.0f} {task.fields[of_things]}"),
                TextColumn("{task.fields[parts]:>6,} {task.fields[of_parts]}"),
                TextColumn("{task.fields[rate]:>7,.0f}/s"),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._display.start()
        if name not in self._tasks:
            self._tasks[name] = self._display.add_task(
                name, total=None, parts=0, rate=0.0, of_parts=of_parts, of_things=of_things
            )
        self._display.update(self._tasks[name], completed=things, parts=parts, rate=rate)


class FileWatch(Telling):
    """Is told of every chunk that is read of the files of an export."""

    _task: "TaskID | None" = None

    def __call__(self, reading: "Reading") -> None:
        """Take note of how far *reading* has come."""
        if self._is_line_due():
            self._say(reading)
        elif self._is_display_due():
            self._show(reading)

    def _rate(self, reading: "Reading") -> float:
        return reading.rows / self._elapsed()

    def _say(self, reading: "Reading") -> None:
        left = ""
        if 0 < reading.done < reading.total:
            seconds = self._elapsed() * (reading.total - reading.done) / reading.done
            left = f", about {seconds:.0f} s left"
        share = 100 * reading.done // max(reading.total, 1)
        tell(
            f"{reading.stream}: {reading.stage}, {share} % done, {reading.rows:,} rows, {self._rate(reading):,.0f} a second{left}"
        )

    def _show(self, reading: "Reading") -> None:
        if self._display is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._display = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f} %"),
                TextColumn("{task.fields[rows]:>11,} rows"),
                TextColumn("{task.fields[rate]:>9,.0f}/s"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._display.start()
            self._task = self._display.add_task("", total=reading.total, rows=0, rate=0.0)
        if self._task is not None:
            stream = reading.stream
            named = f"{stream.tenant_id}/{stream.location_id} {stream.entity}" if stream else ""
            self._display.update(
                self._task,
                completed=reading.done,
                rows=reading.rows,
                rate=self._rate(reading),
                description=f"{named} {reading.stage}",
            )


class Share(Telling):
    """Is told how much of a whole is done: *what* is being done, and what the whole is made *of*, as a person reads it."""

    _task: "TaskID | None" = None

    def __init__(
        self, what: str, *, of: str, quiet: bool, as_lines: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:  # fmt: skip
        super().__init__(quiet=quiet, as_lines=as_lines, clock=clock)
        self._what = what
        self._of = of

    def __call__(self, done: int, total: int) -> None:
        """Take note that *done* of *total* are done."""
        if self._is_line_due():
            tell(f"{self._what}: {done:,} of {total:,} {self._of}, {100 * done // max(total, 1)} %")
        elif self._is_display_due():
            self._show(done, total)

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


def _records(report: "Report") -> int:
    return sum(report.counts.as_dict().values())


def _named(report: "Report") -> str:
    stream = report.stream
    return f"{stream.tenant_id}/{stream.location_id} {stream.entity}"
