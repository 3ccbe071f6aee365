"""A line to an SFTP host: made when it is needed, made anew when it is lost.

Invariants:

- Nothing but `persist` tries again, and nothing but a lost line is tried again: so many attempts in a row may bring nothing.
- Every wait is bounded, and can be broken off at once.
- No exception of asyncssh leaves `persist`, but those that its work lets through on purpose.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncssh

from delta_mirror.dds.sftp_login import Login
from delta_mirror.errors import UnreachableError

FIRST_WAIT = 1.0  # seconds, doubled with every further attempt
LONGEST_WAIT = 60.0  # seconds
LONGEST_REASON = 200  # characters of what a host says, in a message
LOOK_AROUND = 0.2  # seconds between two looks at whether the wait is to be broken off

Brought = TypeVar("Brought")

# Its lines would go to standard error, where nobody has asked for them.
logging.getLogger("asyncssh").addHandler(logging.NullHandler())


class _LostError(Exception):
    """The line was lost or could not be made; worth another attempt."""


class Line:
    """A line to the host of *login*. `timeout` is seconds; *check* may raise to break a wait off."""

    def __init__(
        self, login: Login, timeout: float, attempts: int, check: Callable[[], None], sleep: Callable[[float], None]
    ) -> None:
        self.login = login
        self.timeout = timeout
        self._attempts = attempts
        self._check = check
        self._sleep = sleep
        self._runner = asyncio.Runner()
        # Requests that were under way on a lost line fail one by one, and asyncio would tell of each.
        self._runner.get_loop().set_exception_handler(lambda loop, context: None)
        self._connection: asyncssh.SSHClientConnection | None = None
        self._sftp: asyncssh.SFTPClient | None = None

    def close(self) -> None:
        """Hang up."""
        try:
            self._runner.run(self._hang_up())
        finally:
            self._runner.close()

    def persist(
        self, work: Callable[[asyncssh.SFTPClient], Awaitable[Brought]], progress: Callable[[], int] = lambda: 0
    ) -> Brought:
        """Return what *work* brings, over a new line wherever one was lost.

        Where *progress* has grown, the lost line has brought something and does not count: on a bad one each brings a piece.

        Raises:
            UnreachableError: no line could be made, or none of several brought anything.
        """
        failures, before = 0, progress()
        while True:
            try:
                return self._runner.run(self._attempt(work))
            except _LostError as lost:
                if progress() > before:
                    failures, before = 0, progress()
                failures += 1
                if failures >= self._attempts:
                    times = f"{failures} attempts" if failures > 1 else "one attempt"
                    raise UnreachableError(
                        f"{self.login.address} cannot be read over SFTP, after {times} ({lost}); see that host and port are "
                        "right, and that firewalls let this machine through"
                    ) from lost
            self._sleep(min(FIRST_WAIT * 2 ** (failures - 1), LONGEST_WAIT))

    async def within(self, work: Awaitable[Brought], timeouts: int = 1) -> Brought:
        """Return what *work* brings within so many timeouts, looking around meanwhile.

        Raises:
            TimeoutError: it took longer.
        """
        task = asyncio.ensure_future(work)
        clock = asyncio.get_running_loop().time
        ends = clock() + self.timeout * timeouts
        try:
            while not (await asyncio.wait({task}, timeout=LOOK_AROUND))[0]:
                self._check()
                if clock() > ends:
                    raise TimeoutError
            return task.result()
        finally:
            task.cancel()

    async def _attempt(self, work: Callable[[asyncssh.SFTPClient], Awaitable[Brought]]) -> Brought:
        try:
            if self._sftp is None:
                self._connection = await self.within(self.login.connect(), timeouts=2)
                # Names that are no UTF-8 are shown with escapes, and found again.
                self._sftp = await self.within(self._connection.start_sftp_client(path_errors="surrogateescape"))
            return await work(self._sftp)
        except (asyncssh.Error, OSError, TimeoutError) as error:
            await self._hang_up()
            raise _LostError(_reason(error)) from error

    async def _hang_up(self) -> None:
        connection, self._connection, self._sftp = self._connection, None, None
        if connection is not None:
            connection.abort()
            await connection.wait_closed()


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return in_short(str(error)) or "no answer in time"


def in_short(reason: str) -> str:
    """Return what a host says, which may be of any length, as messages have it."""
    return reason if len(reason) <= LONGEST_REASON else f"{reason[:LONGEST_REASON]}…"
