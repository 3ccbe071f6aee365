"""A file that has its name only when it is whole.

Invariants:

- Under the name there is, at any instant, what was there before or all of the new file, on the disk.
- The new file has its mode before a byte is written to it, whatever the umask.
- What a killed process has left is removed by the next one that writes a file of that name; what a living one is at, stays.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def written_whole(file: Path, mode: int) -> Iterator[Path]:
    """Give the body an empty file beside *file*, which gets the name of *file* after the body, and is removed if that raises.

    Raises:
        OSError: it cannot be made or put in place; *file* is as it was.
    """
    _remove_leftovers(file)
    partial = file.with_name(f".{_stem(file)}.{os.getpid()}.partial")
    try:
        _make(partial, mode)
        yield partial
        _bring_to_disk(partial)
        partial.replace(file)
        _bring_to_disk(file.parent)
    finally:
        for name in (partial, partial.with_name(f"{partial.name}-journal")):  # which SQLite leaves where writing fails
            with suppress(OSError):  # what went wrong before is what there is to tell
                name.unlink()


def _stem(file: Path) -> str:
    """Return as much of the name as leaves room for more: a name has 255 bytes, and a character takes up to 4 of them."""
    return file.name[:50]


def _remove_leftovers(file: Path) -> None:
    pattern = re.compile(re.escape(f".{_stem(file)}.") + r"(\d+)\.partial(-journal)?", re.ASCII)
    with suppress(OSError):  # a folder that can be written but not listed; who has no right to remove one leaves it
        for name in list(file.parent.iterdir()):
            found = pattern.fullmatch(name.name)
            if found and not _lives(int(found[1])):
                name.unlink()


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return process != os.getpid()  # a file with our own number was left by another one that had it before us


def _make(partial: Path, mode: int) -> None:
    descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
    try:
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)


def _bring_to_disk(path: Path) -> None:
    """Return when *path* is on the disk: a power failure then leaves the old file or the new one, and never an empty one."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
