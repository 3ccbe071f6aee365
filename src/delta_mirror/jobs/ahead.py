"""One page ahead: while a page is being applied, the next one is fetched, in a thread of its own.

Invariants:

- At most one page is asked for ahead. It is the one that is taken next, or it is dropped whole.
- What fetching raises is raised where the page is taken: by then the page before it is committed.
- A page is read where it is taken, in the thread that applies it. Python computes in one thread at a time, and two that take
  turns in the middle of their work need a twentieth more for it.
- The thread is a daemon: one that waits for the network must not keep a stopped run from ending.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from types import TracebackType
from typing import NamedTuple, Self

from delta_mirror.core.model import Page, PageRequest

TURN = 0.1  # seconds; a call is counted in a few milliseconds, unless the ledger lets it wait for its minute

Unread = Callable[[], Page]
"""Reads a page that has come, and returns it."""

Fetch = Callable[[PageRequest, Callable[[], None]], Unread]
"""Returns the page that is requested, unread, and calls its second argument as soon as the call is counted."""


class _Asked(NamedTuple):
    request: PageRequest
    page: Future[Unread]
    is_counted: threading.Event


class Ahead:
    """Fetches the pages of one drain in a thread of its own; a context manager, which ends the thread.

    *turn* is for how many seconds a call that is asked ahead may take to be counted before it is no longer waited for.
    """

    def __init__(self, fetch: Fetch, turn: float = TURN) -> None:
        self._fetch = fetch
        self._turn = turn
        self._waiting: SimpleQueue[_Asked | None] = SimpleQueue()
        self._asked: _Asked | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._waiting.put(None)

    def ask(self, request: PageRequest | None) -> None:
        """Ask for the page that will be taken next, if it is known, and return as soon as the call is counted.

        Counting takes a transaction of its own. Were it not let in first, it would wait for the page that is applied next, and
        nothing would be gained. Where the ledger lets it wait, that page is not kept waiting with it.
        """
        if request is not None:
            self._ask(request).is_counted.wait(self._turn)

    def take(self, request: PageRequest) -> Page:
        """Return the page of *request*, which is fetched now where it was not asked for ahead."""
        asked = self._asked
        if asked is None or asked.request != request:
            asked = self._ask(request)
        self._asked = None
        return asked.page.result()()

    def _ask(self, request: PageRequest) -> _Asked:
        asked = self._asked = _Asked(request, Future(), threading.Event())
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True, name="fetch")
            self._thread.start()
        self._waiting.put(asked)
        return asked

    def _work(self) -> None:
        while (asked := self._waiting.get()) is not None:
            try:
                asked.page.set_result(self._fetch(asked.request, asked.is_counted.set))
            except BaseException as error:  # noqa: BLE001 - it is raised again where the page is taken
                asked.page.set_exception(error)
            asked.is_counted.set()
