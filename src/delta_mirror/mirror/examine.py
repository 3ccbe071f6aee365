"""A look at a mirror from outside, for whoever wants to know whether it is in order. Nothing is changed."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from delta_mirror.errors import MirrorFileError
from delta_mirror.mirror.file import check_has_lost_nothing, check_holds_no_traps, open_for_reading, translated
from delta_mirror.mirror.place import resolved
from delta_mirror.mirror.schema import missing

_FAULTS = 3  # are named


@dataclass(frozen=True, slots=True)
class Examined:
    """What a mirror is: its form, whether it lacks own tables or columns, whose it is, how it deletes, what is wrong inside.

    `account` and `deletes` are None where nothing has been noted yet. `trap` says what in it keeps it from being written to.
    """

    form: int
    is_complete: bool
    account: str | None
    deletes: str | None
    faults: Sequence[str]
    trap: str | None


def examine_mirror(path: Path) -> Examined:
    """Return what the mirror at *path* is; the whole file is read.

    Raises:
        MirrorFileError: there is no mirror, or it cannot be read.
    """
    with closing(open_for_reading(path)) as connection, translated(path):
        [form] = connection.execute("pragma user_version").fetchone()
        lacking = missing(connection)
        found = [] if "_meta" in lacking else connection.execute("select key, value from _meta").fetchall()
        meta: dict[str, str] = dict(found)
        faults, trap = _faults(connection), _trap(connection, path)
        return Examined(form, not lacking, meta.get("account"), meta.get("deletes"), faults, trap)


def _trap(connection: sqlite3.Connection, path: Path) -> str | None:
    try:
        check_holds_no_traps(connection, path)
        check_has_lost_nothing(connection, path)
    except MirrorFileError as error:
        return str(error)
    return None


def _faults(connection: sqlite3.Connection) -> list[str]:
    # Not `integrity_check`, which looks each row up in each index, all over the file: six times the work with a million records,
    # and more with each. That indexes agree with their tables is what a backup proves, on its copy (`mirror/copy.py`).
    try:
        found = [str(fault) for (fault,) in connection.execute(f"pragma quick_check({_FAULTS})")]
    except sqlite3.DatabaseError as error:
        return [str(error)]
    return [] if found == ["ok"] else found


@contextmanager
def leaving_nothing_beside(path: Path) -> Iterator[None]:
    """Take away, after the body, the empty WAL that reading the mirror at *path* has made; only who may write to it could.

    Where a run has begun meanwhile, the WAL is its own, and stays.
    """
    path = resolved(path)
    wal = path.with_name(f"{path.name}-wal")
    was_there = wal.exists()
    yield
    if wal.exists() and not was_there:
        with suppress(sqlite3.Error), closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True)) as connection:
            connection.execute("select count(*) from sqlite_master").fetchone()  # the last one to close it takes it away
