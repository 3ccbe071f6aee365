"""What was overwritten or removed, out of the file for good: free pages, and the WAL.

SQLite leaves what it removes where it was until something else needs the place, and keeps in the WAL what pages were before.

Invariants:

- The file is built anew from what it holds, so that nothing else is in it; what SQLite needs for that lies beside it.
- The WAL is empty afterwards, or it is said why not: a program that reads an older state of the mirror keeps it alive.
- Whatever happens, the mirror is sound, and the same can be done again.
"""

import sqlite3
from pathlib import Path

_PATIENCE = 2000  # milliseconds that others are waited for: whoever reads longer is not done soon


def wipe(connection: sqlite3.Connection, path: Path) -> str | None:
    """Rebuild the mirror at *path* and empty its WAL, outside of any transaction; return what kept that from being done."""
    patience = int(connection.execute("pragma busy_timeout").fetchone()[0])
    folder = str(path.resolve().parent).replace("'", "''")
    connection.execute(f"pragma temp_store_directory = '{folder}'")  # /tmp may be small, and belongs to others, too
    connection.execute(f"pragma busy_timeout = {_PATIENCE}")
    try:
        connection.execute("vacuum")
        busy = connection.execute("pragma wal_checkpoint(truncate)").fetchone()[0]
    except sqlite3.OperationalError as error:
        match error.sqlite_errorcode & 0xFF:
            case sqlite3.SQLITE_FULL:
                return "there is no room to build the file anew, which takes as much again as it is large"
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                return "another program keeps the mirror locked"
        raise
    finally:
        connection.execute(f"pragma busy_timeout = {patience}")
        connection.execute("pragma temp_store_directory = ''")
    return "another program reads an older state of the mirror" if busy else None
