"""`sync backup`: a copy of the mirror under another name, whole or not at all.

Invariants:

- Under the name that was asked for there is, at any instant, what was there before or the whole new copy, proved and on disk.
- Only a copy of a mirror is ever replaced: any other file of that name is somebody's, and is refused.
- The mirror is only read; runs go on meanwhile.
- The copy has the mode of the mirror before a byte is written to it. What a killed backup left is removed by the next one.
"""

import errno
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from delta_mirror.config import Config
from delta_mirror.errors import DiskFullError, RefusedError
from delta_mirror.jobs.session import StoppedError
from delta_mirror.mirror.copy import Copied, copy_mirror
from delta_mirror.mirror.file import is_copy
from delta_mirror.ops.whole_file import written_whole


@dataclass(frozen=True, slots=True)
class BackupReport:
    """What was copied, and whether an older copy was replaced."""

    file: Path
    copied: Copied
    replaced: bool


def run_backup(
    config: Config, file: Path, *, stop: threading.Event, watch: Callable[[int, int], None] = lambda done, total: None
) -> BackupReport:
    """Copy the mirror to *file*. *stop*, once set, breaks it off; *watch* is told of pages done and pages in all.

    Raises:
        RefusedError: there is no mirror, or *file* is no place for a copy; nothing was written.
        DiskFullError: no room; nothing was kept.
        StoppedError: told to stop; nothing was kept.
    """
    source = config.mirror.path
    file, replaces = _check_place(source, file)

    def go_on(done: int, total: int) -> None:
        if stop.is_set():
            raise StoppedError
        watch(done, total)

    try:
        with written_whole(file, config.mirror.mode) as beside:
            copied = copy_mirror(source, beside, go_on)
            if stop.is_set():
                raise StoppedError
    except OSError as error:
        raise _meaning(error, file) from error
    return BackupReport(file, copied, replaces)


def _check_place(source: Path, file: Path) -> tuple[Path, bool]:
    """Return *file*, absolute, and whether a copy stands there already; refuse what is no place for one."""
    try:
        file = file.absolute()
        return file, _holds_copy(source, file)
    except OSError as error:  # the folder in which we run was removed, a name is too long, a link leads to itself
        raise RefusedError(f"{file} is no place for a copy ({error.strerror}); name another file") from error


def _holds_copy(source: Path, file: Path) -> bool:
    if not file.parent.is_dir():
        raise RefusedError(f"there is no folder {file.parent}; make it, or name a file in another one")
    if file.is_dir():
        raise RefusedError(f"{file} is a folder; name the file that the copy is to be, such as {file / source.name}")
    own = {source.resolve().with_name(source.resolve().name + ending) for ending in ("", "-wal", "-shm", "-journal", ".lock")}
    if file.resolve() in own or (file.exists() and source.exists() and file.samefile(source)):
        raise RefusedError(f"{file} is the mirror itself, or belongs to it; name another file for the copy")
    if not os.path.lexists(file):
        return False
    if not is_copy(file):
        raise RefusedError(f"{file} exists and is no copy that `sync backup` has made; it stays as it is. Name another file")
    return True


def _meaning(error: OSError, file: Path) -> RefusedError | DiskFullError:
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return RefusedError(
            f"{file.parent} cannot be written by this user ({error.strerror}); mend its mode, or name another folder"
        )
    return DiskFullError(
        f"the copy could not be put to {file} ({error.strerror}); make room, look after the disk, or name another folder"
    )
