"""Where an export is worked on: a private folder beside the mirror, and in it a SQLite file that is attached to connections.

Invariants:

- The folder is nobody else's, empty at the beginning and gone at the end; what a killed run has left goes first.
- The file has no journal: it is thrown away, whatever happens.
- Even a single long statement can be ended.
"""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from delta_mirror.errors import ExportError

AS = "starter"  # the staging's name on a connection
CACHE = -16384  # KiB; SQLite sorts in as much, too
READ_CACHE = -6144  # KiB, beside a mirror, which has a cache of its own: the staging is then read from front to back
_PROGRESS = 20_000  # steps of SQLite's machine between two looks at whether the run was told to stop

Check = Callable[[], None]
"""Returns if the work may go on; raises what is to end it."""


@contextmanager
def work_folder(mirror: Path) -> Iterator[Path]:
    """Make the private folder beside *mirror*, empty, and remove it afterwards. Only under the mirror's lock.

    A killed run has left its own; it goes first.
    """
    folder = clear_work_folder(mirror)
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        _remove(folder)


def clear_work_folder(mirror: Path) -> Path:
    """Return where the folder for work beside *mirror* is made; what a killed run has left of it is gone."""
    folder = mirror.resolve().with_name(mirror.name + ".starter")
    _remove(folder)
    return folder


def _remove(folder: Path) -> None:
    if folder.is_symlink() or folder.is_file():
        raise ExportError(f"{folder} is in the way: the folder for work on a Starter Export has this name; move it away")
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)


def attach(connection: sqlite3.Connection, path: Path, cache: int = CACHE) -> None:
    """Attach the staging at *path* to *connection*, where it is called `AS`, with a *cache* as SQLite's pragma takes it."""
    connection.execute(f"attach ? as {AS}", (str(path),))
    connection.execute(f"pragma {AS}.journal_mode = off")
    connection.execute(f"pragma {AS}.synchronous = off")
    connection.execute(f"pragma {AS}.cache_size = {cache}")
    connection.execute(f"pragma {AS}.secure_delete = off")


@contextmanager
def watched(connection: sqlite3.Connection, check: Check) -> Iterator[None]:
    """Let *check* end even a single long statement of *connection*: what it raises comes out of the body."""
    raised: list[BaseException] = []

    def look() -> int:
        try:
            check()
        except BaseException as error:  # noqa: BLE001 - it is raised again as soon as SQLite has let go
            raised.append(error)
            return 1
        return 0

    connection.set_progress_handler(look, _PROGRESS)
    try:
        yield
    except sqlite3.OperationalError as error:
        if raised and error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            raise raised[0] from None
        raise
    finally:
        connection.set_progress_handler(None, 0)
