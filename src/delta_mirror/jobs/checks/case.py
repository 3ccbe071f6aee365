"""What is examined, and what is found.

Invariants:

- A finding names no value of a record and no secret.
- What is not in order says what to type. What could not be looked at is not in order either: nobody knows.
"""

import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from delta_mirror.config import Config
from delta_mirror.errors import DeltaMirrorError
from delta_mirror.jobs.status import Status, read_status
from delta_mirror.mirror.write import Mirror

ATTEMPTS = 2  # whoever waits for a diagnosis does not want to wait for minutes
MOST_WAIT = 5  # seconds between them


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check has found. `remedy` says what to do, empty where all is in order."""

    check: str
    state: Literal["ok", "wrong", "unknown"]
    what: str
    remedy: str = ""


def ok(check: str, what: str) -> Finding:
    """Return that all is in order."""
    return Finding(check, "ok", what)


def wrong(check: str, what: str, remedy: str) -> Finding:
    """Return what is wrong, and what to do."""
    return Finding(check, "wrong", what, remedy)


def unknown(check: str, what: str, remedy: str) -> Finding:
    """Return that it could not be looked at, and what to do first."""
    return Finding(check, "unknown", what, remedy)


@dataclass
class Case:
    """The configuration that is examined, at *clock*, our own clock in seconds since the epoch."""

    config: Config
    clock: Callable[[], float]
    stop: threading.Event = field(default_factory=threading.Event)

    @cached_property
    def now(self) -> float:
        """The moment of the examination."""
        return self.clock()

    @property
    def has_mirror(self) -> bool:
        """Whether there is a mirror, or something in its place."""
        return self.config.mirror.path.exists()

    @cached_property
    def status(self) -> Status:
        """The state of the mirror as `sync status` has it.

        Raises:
            RefusedError: the mirror cannot be read.
        """
        return read_status(self.config, self.now)


def hasty(config: Config) -> Config:
    """Return *config* for somebody who waits for a diagnosis."""
    http = config.http
    return replace(config, http=replace(http, attempts=min(http.attempts, ATTEMPTS), max_wait=min(http.max_wait, MOST_WAIT)))


def open_for_notes(case: Case) -> Mirror | None:
    """Return the mirror, in which calls are counted and pauses are kept, None where there is none or where they cannot be."""
    if not case.has_mirror:
        return None
    with suppress(DeltaMirrorError), ExitStack() as stack:  # what is wrong with it was told by the checks of the mirror
        mirror = stack.enter_context(Mirror.as_it_is(case.config.mirror.path, now=case.clock))
        with mirror.transaction():
            stack.pop_all()  # what can be written stays open
        return mirror
    return None
