"""Getting what was deleted out of the bytes of the mirror's files, too.

SQLite deletes a row by forgetting where it was: its bytes stay, in pages that are free, in what is left of old versions, and in
the WAL. `secure_delete` overwrites what is deleted from then on; a vacuum writes the whole file anew, without what was deleted
before; a checkpoint that truncates leaves a WAL of no bytes.

Invariants:

- Anybody may do all of it again at any time, and killed in the middle the mirror is sound.
- Whether the WAL was emptied is said: another program that reads can keep its old pages in use.
- Nothing of the mirror is written elsewhere: what the vacuum needs for a while lies in the folder of the mirror, without a name.
- Memory is flat.
"""

import sqlite3
from collections.abc import Callable

from delta_mirror.errors import DiskFullError
from delta_mirror.mirror.file import PATIENCE
from delta_mirror.mirror.place import free_bytes
from delta_mirror.mirror.workspace import watched
from delta_mirror.mirror.write import Mirror

MARGIN = 16 * 1024 * 1024  # bytes that stay free
LOOK = 0.2  # seconds between two attempts to empty the WAL
_SAMPLES = ("sqlite_stat3", "sqlite_stat4")  # where SQLite keeps values of rows, if somebody has called `analyze`


def overwrite_what_goes(mirror: Mirror) -> None:
    """Let whatever is deleted from now on be overwritten with zeros, and every commit survive a power failure."""
    mirror.be_durable()
    with mirror.bare() as connection:
        connection.execute("pragma secure_delete = on")


def check_room(mirror: Mirror) -> None:
    """Return if there is room to write the file anew: once beside it, and once in the WAL.

    Raises:
        DiskFullError: there is not; nothing was written.
    """
    with mirror.bare() as connection:
        page, pages, free = (_number(connection, f"pragma {name}") for name in ("page_size", "page_count", "freelist_count"))
    needed = 2 * page * (pages - free) + MARGIN
    there = free_bytes(mirror.path)
    if there < needed:
        raise DiskFullError(
            f"{mirror.path} has to be written anew, which needs {needed:,} bytes in its folder for a while, and {there:,} are "
            "free; nothing was written. Make room and call again"
        )


def write_anew(mirror: Mirror, check: Callable[[], None]) -> None:
    """Write the whole file anew, without what was deleted. *check*, by raising, breaks it off, and nothing has changed."""
    folder = str(mirror.path.resolve().parent)
    with mirror.bare() as connection:
        for table in _SAMPLES:
            if connection.execute("select 1 from sqlite_master where name = ?", (table,)).fetchone():
                connection.execute(f"delete from {table}")
        # Not where the system puts such things: /tmp may be small, and a disk of its own.
        connection.execute(f"pragma temp_store_directory = '{folder.replace(chr(39), chr(39) * 2)}'")
        try:
            with watched(connection, check):
                connection.execute("vacuum")
        finally:
            connection.execute("pragma temp_store_directory = ''")


def empty_wal(mirror: Mirror, sleep: Callable[[float], None], is_waiting: Callable[[], None]) -> bool:
    """Bring all of the WAL into the file and truncate it; return whether that could be done.

    Other programs that read are waited for, up to `PATIENCE` seconds; *is_waiting* is told once of it, and *sleep* may raise.
    """
    waited = 0.0
    with mirror.bare() as connection:
        [before] = connection.execute("pragma busy_timeout").fetchone()
        connection.execute("pragma busy_timeout = 0")
        try:
            while _number(connection, "pragma wal_checkpoint(truncate)"):
                if waited >= PATIENCE:
                    return False
                if not waited:
                    is_waiting()
                sleep(LOOK)
                waited += LOOK
        finally:
            connection.execute(f"pragma busy_timeout = {before}")
    return True


def _number(connection: sqlite3.Connection, sql: str) -> int:
    return int(connection.execute(sql).fetchone()[0])
