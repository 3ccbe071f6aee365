"""The mirror as a file: making it, opening it, refusing what is no mirror, and what SQLite's errors mean to an operator.

Invariants:

- A file that is not a mirror is refused before a byte of it is changed.
- The file has its mode before SQLite writes to it, whatever the umask; SQLite gives its WAL and shared memory the same mode.
- An exception of sqlite3 that an operator can do something about leaves `mirror/` as one of ours. Any other is a defect.
- A file that somebody else has written cannot run anything: its views, triggers and expressions may call only what is harmless,
  no library is ever loaded, and a mirror in which something is not what it should be is refused by what writes.
- Own times are UTC, ISO 8601 with `Z`, to the second, so that they compare as text.
"""

import os
import re
import sqlite3
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from delta_mirror import __version__
from delta_mirror.errors import BusyError, DeltaMirrorError, DiskFullError, MirrorFileError
from delta_mirror.mirror.place import refuse_unless_file, resolved
from delta_mirror.mirror.schema import OWN_TABLES, fold, holds_records

APPLICATION_ID = 0x644D6972  # "dMir", as file(1) and other tools show it
SCHEMA_VERSION = 2  # today's form, to which `mirror/migrations.py` brings older ones
FIRST_RUNS = "`sync deltas`, `sync full-starter`, or, for messages, `sync nexus ingest` or `receive`"
PATIENCE = 30.0  # seconds to wait for a foreign program that locks the file
_LOOK = 0.02  # seconds between two looks at whether it still does, where SQLite does not wait by itself
# Own tables that mirrors of every form have.
_EVER = (
    *("_call_times", "_calls", "_changes", "_enums", "_meta", "_pauses", "_quarantine", "_runs", "_streams", "_tables"),
    "_tombstones",
)


def own_time(epoch: float) -> str:
    """Return seconds since the epoch as one of the mirror's own times."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn an exception of sqlite3 that comes out of the body into one of ours, which names *path*."""
    try:
        yield
    except sqlite3.Error as error:
        meaning = _meaning(error, path)
        if meaning is None:
            raise
        raise meaning from error


def _meaning(error: sqlite3.Error, path: Path) -> DeltaMirrorError | None:
    code = getattr(error, "sqlite_errorcode", None)  # not there where the module itself, and not SQLite, complains
    if "unsafe use of" in str(error):  # what SQLite says, without a code of its own, where `trusted_schema` forbids a function
        return MirrorFileError(f"{path} holds something that delta-mirror has not put there, and SQLite refuses to run ({error})")
    if code in (sqlite3.SQLITE_CONSTRAINT_NOTNULL, sqlite3.SQLITE_CONSTRAINT_CHECK):  # no table of ours has such a condition
        return MirrorFileError(
            f"{path} has a table with a condition that delta-mirror has not made, and a row that was sent does not meet it "
            f"({error}); what was committed is sound. Make that table anew without it, or put a backup in its place"
        )
    match None if code is None else code & 0xFF:
        case sqlite3.SQLITE_FULL:
            return DiskFullError(f"the disk under {path} is full; what was committed is sound. Make room and call again")
        case sqlite3.SQLITE_IOERR:
            return DiskFullError(
                f"the disk under {path} fails to read or write ({error}); what was committed is sound. "
                "Look after the disk, its quota and its room, and call again"
            )
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return BusyError(f"another program keeps {path} locked; close it and call again")
        case sqlite3.SQLITE_NOTADB:
            return MirrorFileError(f"{path} is not a SQLite file; give [mirror] path another name")
        case sqlite3.SQLITE_CORRUPT:
            return MirrorFileError(f"{path} is damaged ({error}); put a backup in its place, or move it away and fill a new one")
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return MirrorFileError(f"{path} or its folder cannot be written by this user; mend owner or mode")
        case sqlite3.SQLITE_CANTOPEN:
            return MirrorFileError(f"{path} cannot be opened; mend owner or mode of the file and of its folder")
    return None


def open_for_writing(path: Path, mode: int, patience: float) -> sqlite3.Connection:
    """Return a connection to the mirror at *path*, which is made, empty, where it does not exist.

    The own tables may be missing still. *patience*, in seconds, is how long a foreign program's lock is waited for.

    Raises:
        MirrorFileError: it is not a mirror, or of a newer version, or cannot be made or opened; nothing was changed.
    """
    path = resolved(path)
    _give_mode(path, mode)
    with translated(path):
        # Transactions are begun and ended by us alone; the threads take turns through the mirror's own lock.
        connection = sqlite3.connect(path, timeout=patience, isolation_level=None, check_same_thread=False)
        try:
            harden(connection)
            check_is_mirror(connection, path, or_empty=True)
            check_holds_no_traps(connection, path)
            check_has_lost_nothing(connection, path)
            _turn_to_wal(connection, patience)
            # Commits survive the death of the process; after a power failure the newest may be missing, whole.
            connection.execute("pragma synchronous = normal")
            connection.execute("pragma foreign_keys = off")
            # The keys are random, so that a page of a feed touches pages all over the file: with SQLite's 2 MB of cache most of
            # a large mirror would be read back from the file for every page, and with a checkpoint at every 4 MB of WAL be
            # written several times over. A larger cache than this takes memory and saves little (docs/performance.md).
            connection.execute("pragma cache_size = -24576")  # KiB
            connection.execute("pragma wal_autocheckpoint = 8000")  # pages of 4 KiB
        except BaseException:
            connection.close()
            raise
    return connection


def _turn_to_wal(connection: sqlite3.Connection, patience: float) -> None:
    """Give the file a WAL. For that alone SQLite does not wait by itself while another program has it open."""
    ends = time.monotonic() + patience
    while True:
        try:
            connection.execute("pragma journal_mode = wal")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= ends:
                raise
            time.sleep(_LOOK)
        else:
            return


def open_as_it_is(path: Path, patience: float) -> sqlite3.Connection:
    """Return a connection that can write to the mirror at *path*, of which nothing is changed by opening it.

    Raises:
        MirrorFileError: there is none of today's form, or it cannot be written.
    """
    with translated(path):
        connection = sqlite3.connect(
            f"{path.as_uri()}?mode=rw", uri=True, timeout=patience, isolation_level=None, check_same_thread=False
        )
        try:
            harden(connection)
            check_is_mirror(connection, path, or_empty=False)
            check_holds_no_traps(connection, path)
            check_has_lost_nothing(connection, path)
            _check_is_of_today(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def open_for_reading(path: Path, patience: float = PATIENCE) -> sqlite3.Connection:
    """Return a connection that can only read, also while a run writes.

    Raises:
        MirrorFileError: there is no mirror at *path*, or it cannot be read.
    """
    path = resolved(path)
    refuse_unless_file(path)
    if not path.exists():
        raise MirrorFileError(f"there is no mirror at {path}; {FIRST_RUNS} makes one")
    with translated(path):
        try:
            return _connect_for_reading(path, "mode=ro", patience)
        except sqlite3.OperationalError as error:
            # In a folder that this user cannot write, SQLite cannot make the shared memory that a WAL needs. Without a WAL
            # nobody is writing, and the file can be read as it lies there.
            cannot = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
            if not cannot or path.with_name(path.name + "-wal").exists():
                raise
            return _connect_for_reading(path, "mode=ro&immutable=1", patience)


def _connect_for_reading(path: Path, query: str, patience: float) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.as_uri()}?{query}", uri=True, timeout=patience, isolation_level=None)
    try:
        harden(connection)
        check_is_mirror(connection, path, or_empty=False)
    except BaseException:
        connection.close()
        raise
    return connection


def harden(connection: sqlite3.Connection) -> None:
    """Let *connection* trust nothing that stands in its file (sqlite.org/security.html, "Untrusted SQLite Database Files")."""
    connection.execute("pragma trusted_schema = off")
    connection.execute("pragma cell_size_check = on")
    connection.execute("pragma mmap_size = 0")
    if sys.version_info >= (3, 12):
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE, True)
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_TRUSTED_SCHEMA, False)
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_ENABLE_TRIGGER, False)


def check_holds_no_traps(connection: sqlite3.Connection, path: Path) -> None:
    """Return if there is nothing in the mirror that would act, stand in the way or in for something else, when it is written to.

    A trigger would change what is written, a unique index keep out what is, and the mirror would no longer be what the service
    has sent. Views, other indexes and tables of an analyst's own do neither, nor do unique indexes of those tables.

    Raises:
        MirrorFileError: there is a trigger, a unique index, or something that bears the name of an own table and is none.
    """
    unique = (
        "select i.name, t.name from sqlite_master t join pragma_index_list(t.name) i "
        "where t.type = 'table' and i.\"unique\" and i.origin <> 'pk'"
    )
    for name, table in connection.execute(unique).fetchall():
        columns = [column for (column,) in connection.execute("select name from pragma_table_info(?)", (table,))]
        if fold(table) in OWN_TABLES or holds_records(table, columns):
            raise MirrorFileError(
                f"{path} holds a unique index, {name!a}, which would keep rows out of {table!a} that the service has sent; "
                "nothing was written. Drop it with any SQLite tool (drop index), or make it anew without 'unique'"
            )
    for name, kind, sql in connection.execute("select name, type, sql from sqlite_master where type <> 'index'").fetchall():
        if kind == "trigger":
            raise MirrorFileError(
                f"{path} holds a trigger, {name!a}, which would change what is written; nothing was written. Drop it "
                "with any SQLite tool (drop trigger)"
            )
        if fold(name) in OWN_TABLES and not (kind == "table" and sql.upper().startswith("CREATE TABLE")):
            raise MirrorFileError(
                f"{path} holds something else where the mirror's own table {fold(name)} should be; nothing was written. Put a "
                "backup in its place"
            )


def check_has_lost_nothing(connection: sqlite3.Connection, path: Path) -> None:
    """Return if the file is empty or has the own tables that mirrors of every form have.

    A later table is merely missing in an older mirror, and is added. These are missing only where somebody has dropped them, and
    with them what was deleted, read or logged: made anew, empty, they would say that nothing was.

    Raises:
        MirrorFileError: some are not there.
    """
    there = {fold(name) for (name,) in connection.execute("select name from sqlite_master where type = 'table'")}
    lost = [name for name in _EVER if name not in there]
    if lost and _number(connection, "pragma application_id"):
        raise MirrorFileError(f"{path} has lost its own tables {', '.join(lost)}; put a backup in its place")


def check_is_mirror(connection: sqlite3.Connection, path: Path, *, or_empty: bool) -> None:
    """Return if the file is a mirror of a version that this program knows, or, where allowed, has nothing in it."""
    application = _number(connection, "pragma application_id")
    version = _number(connection, "pragma user_version")
    if application == APPLICATION_ID:
        if version < 1:
            raise MirrorFileError(f"{path} says that it is of schema {version}, which there never was; put a backup in its place")
        if version > SCHEMA_VERSION:
            raise MirrorFileError(
                f"{path} was written by a newer delta-mirror ({_program_of(connection)}schema {version}; this is {__version__}, "
                f"schema {SCHEMA_VERSION}); install that version or a later one"
            )
        return
    if application or version or _number(connection, "select count(*) from sqlite_master"):
        raise MirrorFileError(f"{path} is a SQLite file, but not a mirror; give [mirror] path another name")
    if not or_empty:  # what a first run leaves behind that could not write
        raise MirrorFileError(f"{path} is empty, no run has filled it yet; {FIRST_RUNS} does")


def _check_is_of_today(connection: sqlite3.Connection, path: Path) -> None:
    if _number(connection, "pragma user_version") < SCHEMA_VERSION:
        raise MirrorFileError(f"{path} was written by an older delta-mirror; the next run brings it up to date")


def _program_of(connection: sqlite3.Connection) -> str:
    """Return which version has given the mirror its form, as far as a newer one still says so where we look for it."""
    with suppress(sqlite3.Error):
        found = connection.execute("select program from _migrations order by version desc, rowid desc limit 1").fetchone()
        if found and isinstance(found[0], str) and re.fullmatch(r"[\w.+-]{1,40}", found[0]):
            return f"{found[0]}, "
    return ""


def is_copy(path: Path) -> bool:
    """Return whether the file at *path* is a copy of a mirror, and no mirror that runs write to: those have a WAL.

    Told by its header alone (sqlite.org/fileformat2.html, 1.3), so that nothing is opened that is somebody else's.
    """
    if not path.is_file():  # to open a pipe would wait for whoever writes to it
        return False
    try:
        with path.open("rb") as file:
            header = file.read(72)
    except OSError:
        return False
    is_ours = header.startswith(b"SQLite format 3\0") and int.from_bytes(header[68:72], "big") == APPLICATION_ID
    return is_ours and header[18:20] == b"\1\1"


def _number(connection: sqlite3.Connection, sql: str) -> int:
    with closing(connection.execute(sql)) as cursor:
        return int(cursor.fetchone()[0])


def _give_mode(path: Path, mode: int) -> None:
    """Make the file if it is not there, and give it and what SQLite keeps beside it *mode*."""
    refuse_unless_file(path)
    if not path.parent.is_dir():
        raise MirrorFileError(f"there is no folder {path.parent}; make it, or mend [mirror] path")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        # A mirror that its owner has closed to himself is so on purpose: it is not opened again in silence.
        if not os.access(path, os.W_OK):
            raise MirrorFileError(f"{path} cannot be written by this user; mend owner or mode") from None
        # By name: to open and close the file would take away the locks that another connection of this process has on it.
        for name in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
            # WAL and shared memory are mostly not there; what belongs to another member of a group has its mode from him.
            with suppress(FileNotFoundError, PermissionError):
                if stat.S_IMODE(name.stat().st_mode) != mode:
                    name.chmod(mode)
    except OSError as error:
        raise MirrorFileError(f"{path} cannot be made ({error.strerror}); mend owner or mode of its folder") from error
    else:
        try:
            os.fchmod(descriptor, mode)  # what the umask has taken away
        finally:
            os.close(descriptor)
