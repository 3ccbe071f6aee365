"""A copy of the mirror as one file, taken while a run may be writing, and proved before anybody relies on it.

Invariants:

- The copy is one state of the mirror: everything that was committed when it began, and nothing of what came later.
- No writer is kept waiting, and none can make the copy begin anew: it is read within one transaction that only reads.
- The copy needs no file beside it: it has no WAL, and everything is in it.
- Told to stop, nothing waits for the end: neither of the copying nor of the proof.
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from delta_mirror.errors import MirrorFileError
from delta_mirror.mirror.file import check_has_lost_nothing, check_is_mirror, harden, open_for_reading, translated

STEP = 4096  # pages, mostly of 4 KiB, between two looks at whether to go on
_INSTRUCTIONS = 1_000_000  # of SQLite's machine, a fraction of a second, between two looks while the copy is proved
_FAULTS = 3  # of a damaged file are named


@dataclass(frozen=True, slots=True)
class Copied:
    """What was copied: bytes, and how far the log of changes went by then (0 where it was empty)."""

    size: int
    last_seq: int


def copy_mirror(path: Path, target: Path, watch: Callable[[int, int], None]) -> Copied:
    """Copy the mirror at *path* into the empty file *target*, and return when the copy has been proved.

    *watch* is told how many pages are copied of how many, now and then also while the copy is proved, and may raise to break off.
    *target* is the caller's to remove then.

    Raises:
        MirrorFileError: there is no mirror at *path*, or it is damaged or has lost tables of its own; such a one makes no copy
            that is worth having.
        DiskFullError: no room for the copy, or a disk that fails.
    """
    with closing(open_for_reading(path)) as source:
        with translated(path):
            check_has_lost_nothing(source, path)  # such a copy would be restored as a whole mirror
            source.execute("begin")
            last_seq = _last_seq(source)  # the first thing that is read fixes the state that all of the copy is of
        with translated(target), closing(sqlite3.connect(target, isolation_level=None)) as copy:
            harden(copy)
            source.backup(copy, pages=STEP, progress=lambda _, left, total: watch(total - left, total))
            # With a WAL it would need a folder that can be written to be read at all.
            copy.execute("pragma journal_mode = delete")
        with translated(path):
            source.execute("rollback")
    _prove(target, path, last_seq, watch)
    return Copied(target.stat().st_size, last_seq)


def _last_seq(connection: sqlite3.Connection) -> int:
    return int(connection.execute("select coalesce(max(seq), 0) from _changes").fetchone()[0])


def _prove(target: Path, path: Path, last_seq: int, watch: Callable[[int, int], None]) -> None:
    """Return if the file at *target*, read anew, is sound and is the state that was copied."""
    with translated(target), closing(sqlite3.connect(f"{target.as_uri()}?mode=ro", uri=True, isolation_level=None)) as copy:
        harden(copy)
        check_is_mirror(copy, target, or_empty=False)
        [pages] = copy.execute("pragma page_count").fetchone()
        copy.set_progress_handler(lambda: watch(pages, pages), _INSTRUCTIONS)
        try:
            faults = [str(fault) for (fault,) in copy.execute(f"pragma integrity_check({_FAULTS})")]
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
                watch(pages, pages)  # SQLite swallows what it raises, and says only that it was broken off
            raise
        copy.set_progress_handler(None, 0)
        if faults != ["ok"] or _last_seq(copy) != last_seq:
            raise MirrorFileError(
                f"the copy of {path} is not sound ({'; '.join(faults)}), so that the mirror is damaged or the disk fails. "
                "Nothing was kept of it, an older copy stays; look after the disk, and make the next copy on another one"
            )
