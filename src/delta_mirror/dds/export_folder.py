"""A Starter Export in a folder on this machine.

Invariants:

- A file is read as it was when it was listed, or it is refused: its size and its time are looked at when it is opened and again
  after its last byte.
- Folders `Tenant<id>/Location<id>` are found at any depth, also where SOURCE itself is one or lies in one. Each folder is walked
  once, whatever links lead to it.
- Nothing is ever written here. What fails in the hands of the reader is not taken for a failure of the file.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import RawIOBase
from pathlib import Path

from delta_mirror.dds.export_runs import ExportFile, export_file, place_of
from delta_mirror.errors import ExportError

CHUNK = 1024 * 1024  # bytes
MOST_REMARKS = 5  # in one message
LAYOUT = "SOURCE is the folder above Tenant<id>/Location<id>, as the vendor's SFTP host shows it, or one of these itself"


class FolderSource:
    """A folder on this machine. `remarks` has, once it was listed, what could not be looked into."""

    def __init__(self, folder: str) -> None:
        self._folder = os.path.abspath(folder)  # noqa: PTH100 - Path.absolute() leaves `..` where it is
        self.remarks: list[str] = []

    def close(self) -> None:
        """Do nothing: no file is open between two calls."""

    @contextmanager
    def open(self, file: ExportFile) -> Iterator[Iterator[bytes]]:
        """Let the body read the bytes of *file*, in chunks.

        Raises:
            ExportError: also while it is read: it cannot be read, or is no longer what was listed.
        """
        with _readable(file):
            opened = Path(file.path).open("rb", buffering=0)  # noqa: SIM115 - only to open it is translated
        with opened:
            yield _read(file, opened)

    def list(self) -> Sequence[ExportFile]:
        """Return the files of every location's folder, in no order.

        Raises:
            ExportError: SOURCE cannot be read, or holds no location.
        """
        _refuse_unless_folder(self._folder)
        self.remarks.clear()
        found: list[ExportFile] = []
        places = 0
        for folder, entries in self._walk():
            place = place_of(folder)
            if place is None:
                continue
            places += 1
            for entry in entries:
                try:
                    now = entry.stat()
                except OSError as error:
                    self.remarks.append(f"{entry.path} cannot be looked at ({error.strerror})")
                    continue
                if stat.S_ISREG(now.st_mode):
                    found.append(export_file(place, folder, entry.name, path=entry.path, size=now.st_size, modified=now.st_mtime))
        if not places:
            raise no_location(self._folder, self.remarks)
        return found

    def _walk(self) -> Iterator[tuple[str, Sequence[os.DirEntry[str]]]]:
        """Yield each folder and what is in it; links are followed last, so that a folder goes by its own name."""
        folders, links, seen = [self._folder], list[str](), set[tuple[int, int]]()
        while folders or links:
            folder = folders.pop() if folders else links.pop()
            try:
                now = Path(folder).stat()
                if (now.st_dev, now.st_ino) in seen:
                    continue
                seen.add((now.st_dev, now.st_ino))
                with os.scandir(folder) as found:
                    entries = sorted(found, key=lambda entry: entry.name)
            except OSError as error:
                self.remarks.append(f"{folder} cannot be looked into ({error.strerror})")
                continue
            for entry in entries:
                if _is_folder(entry):
                    (links if entry.is_symlink() else folders).append(entry.path)
            yield folder, entries


def changed(file: ExportFile) -> ExportError:
    """Return the error for a file that is no longer what was listed."""
    return ExportError(
        f"{file.name} has changed since it was found: it is still being written, or was replaced; call again when it is whole"
    )


def no_location(source: str, remarks: Sequence[str]) -> ExportError:
    """Return the error for a *source* in which there is no location."""
    told = [*remarks[:MOST_REMARKS], *([f"and {len(remarks) - MOST_REMARKS:,} more"] if len(remarks) > MOST_REMARKS else [])]
    because = f" ({'; '.join(told)})" if told else ""
    return ExportError(f"{source} holds no folder Tenant<id>/Location<id>{because}; {LAYOUT}")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _read(file: ExportFile, opened: RawIOBase) -> Iterator[bytes]:
    """Yield the bytes of *file*, and refuse it before the first and after the last one where it is not as it was listed."""
    with _readable(file):
        _check(file, os.fstat(opened.fileno()))
        while chunk := opened.read(CHUNK):
            yield chunk
        _check(file, os.fstat(opened.fileno()))
        # By its name, too: another file may have taken its place meanwhile.
        _check(file, Path(file.path).stat())


def _check(file: ExportFile, now: os.stat_result) -> None:
    if not stat.S_ISREG(now.st_mode) or (now.st_size, now.st_mtime) != (file.size, file.modified):
        raise changed(file)


@contextmanager
def _readable(file: ExportFile) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise changed(file) from error
    except OSError as error:
        raise ExportError(f"{file.name} cannot be read ({error.strerror}); mend that and call again") from error


def _refuse_unless_folder(folder: str) -> None:
    try:
        mode = Path(folder).stat().st_mode
    except FileNotFoundError as error:
        raise ExportError(f"there is no folder {folder}; {LAYOUT}") from error
    except OSError as error:
        raise ExportError(f"{folder} cannot be looked at ({error.strerror}); {LAYOUT}") from error
    if not stat.S_ISDIR(mode):
        raise ExportError(f"{folder} is a file; where it is an archive, unpack it. {LAYOUT}")
