"""A Starter Export on an SFTP host.

Invariants:

- A file is downloaded whole, one at a time, into a store that nobody else can read (`sftp_store.py`), and only then read: a run
  that is killed leaves nothing of it behind.
- Two looks at a file, when it is listed and after its last byte was downloaded, agree in size and time, or it is refused.
- A download that was broken off goes on where it was.
- What a host lists has bounds: so many folders, so many names in each, no name that a file cannot have.
- What this machine cannot store is not taken for a failure of the network.
"""

import errno
import posixpath
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import asyncssh

from delta_mirror.dds.export_folder import CHUNK, LAYOUT, changed, no_location
from delta_mirror.dds.export_runs import ExportFile, export_file, place_of
from delta_mirror.dds.sftp_line import Line, in_short
from delta_mirror.dds.sftp_login import Login
from delta_mirror.dds.sftp_store import Store, open_store
from delta_mirror.errors import DiskFullError, ExportError

WINDOW = 2 * 1024 * 1024  # bytes asked for at once; asyncssh splits them into requests that are under way together
MOST_FOLDERS = 5_000  # that are looked into; a host that invents them as it is asked for them has no end of them
MOST_NAMES = 200_000  # in one folder; forty tables a day for thirteen years
LONGEST_NAME = 1000  # characters; the systems that hosts run on stop at 255
LONGEST_PATH = 4096  # characters
PATIENCE = 4  # timeouts that a window may take: a slow line is no dead one, which is found by asking for a sign of life

_FOLDER, _FILE, _LINK = asyncssh.FILEXFER_TYPE_DIRECTORY, asyncssh.FILEXFER_TYPE_REGULAR, asyncssh.FILEXFER_TYPE_SYMLINK
_UNKNOWN = asyncssh.FILEXFER_TYPE_UNKNOWN
_CANNOT_GO_ON = (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection)
_GONE = (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath)


class SftpSource:
    """A folder on an SFTP host. `remarks` has, once it was listed, what could not be looked into."""

    def __init__(
        self,
        login: Login,
        work_folder: Path,
        timeout: float,
        attempts: int,
        check: Callable[[], None],
        sleep: Callable[[float], None],
        fetched: Callable[[int], None],
    ) -> None:
        self.remarks: list[str] = []
        self._line = Line(login, timeout, attempts, check, sleep)
        self._work_folder = work_folder
        self._fetched = fetched

    def close(self) -> None:
        """Hang up."""
        self._line.close()

    @contextmanager
    def open(self, file: ExportFile) -> Iterator[Iterator[bytes]]:
        """Let the body read the bytes of *file*, in chunks, once they are all here.

        Raises:
            ExportError: it cannot be read, or is no longer what was listed.
            UnfinishedError: the host does not answer or refuses the key, or the disk is full.
        """
        with _make_store(self._work_folder) as store:
            self._line.persist(lambda sftp: _download(self._line, sftp, file, store, self._fetched), progress=store.tell)
            yield store.read(CHUNK)

    def list(self) -> Sequence[ExportFile]:
        """Return the files of every location's folder, in no order.

        Raises:
            ExportError: SOURCE cannot be read, or holds no location.
            UnfinishedError: the host does not answer, or refuses the key.
        """
        found, self.remarks = self._line.persist(lambda sftp: _find(self._line, sftp))
        return found


class _Seen(NamedTuple):
    """What lies at a path: the path, what it is, and whether a link led to it."""

    path: str
    attrs: asyncssh.SFTPAttrs
    is_link: bool


async def _find(line: Line, sftp: asyncssh.SFTPClient) -> tuple[list[ExportFile], list[str]]:
    """Return the files of every location's folder, and what could not be looked into."""
    root = await _find_root(line, sftp)
    found: list[ExportFile] = []
    remarks: list[str] = []
    places = 0
    async for folder, entries in _walk(line, sftp, root, remarks):
        place = place_of(folder)
        if place is None:
            continue
        places += 1
        for path, attrs, _ in entries:
            if attrs.type == _FILE:
                size, modified = _look(attrs)
                found.append(export_file(place, folder, posixpath.basename(path), path=path, size=size, modified=modified))
    if not places:
        raise no_location(f"{root} on {line.login.address}", remarks)
    return found, remarks


async def _find_root(line: Line, sftp: asyncssh.SFTPClient) -> str:
    """Return the path of SOURCE from the host's root."""
    begin = str(await line.within(sftp.realpath(".")))
    root = posixpath.normpath(posixpath.join(begin, line.login.address.path))
    shown = f"{root} on {line.login.address}"
    try:
        attrs = await line.within(sftp.stat(root))
    except _GONE as error:
        raise ExportError(
            f"there is no folder {shown}; a login begins in {begin}, and what lies below that is written /~/... {LAYOUT}"
        ) from error
    except asyncssh.SFTPPermissionDenied as error:
        raise ExportError(f"{shown} may not be looked at by the user {line.login.address.user}; ask the vendor") from error
    if attrs.type not in (_FOLDER, _UNKNOWN):
        raise ExportError(f"{shown} is a file. {LAYOUT}")
    return root


async def _walk(
    line: Line, sftp: asyncssh.SFTPClient, root: str, remarks: list[str]
) -> AsyncIterator[tuple[str, Sequence[_Seen]]]:
    """Yield each folder and what is in it; links are followed last, so that a folder goes by its own name."""
    folders, links, walked = [root], list[str](), set[str]()
    while folders or links:
        folder = folders.pop() if folders else links.pop()
        if len(walked) >= MOST_FOLDERS:
            raise ExportError(f"{root} on {line.login.address} has more than {MOST_FOLDERS:,} folders below it; {LAYOUT}")
        try:
            real = str(await line.within(sftp.realpath(folder)))
            if real in walked:
                continue
            walked.add(real)
            entries = [seen async for seen in _look_into(line, sftp, folder, remarks)]
        except _CANNOT_GO_ON:
            raise
        except asyncssh.SFTPError as error:
            remarks.append(f"{folder} cannot be looked into ({in_short(error.reason)})")
            continue
        for seen in entries:
            if seen.attrs.type == _FOLDER:
                (links if seen.is_link else folders).append(seen.path)
        yield folder, entries


async def _look_into(line: Line, sftp: asyncssh.SFTPClient, folder: str, remarks: list[str]) -> AsyncIterator[_Seen]:
    """Yield what is in *folder*, in the order of names, links as what they lead to."""
    entries = await line.within(_names_in(sftp, folder), PATIENCE)
    strange = {name for name in entries if not _can_be_a_name(name) or len(folder) + len(name) >= LONGEST_PATH}
    if strange:
        remarks.append(f"{folder} lists names that no file can have; they are left out ({len(strange):,})")
    for name in sorted(entries.keys() - {".", ".."} - strange):
        path, attrs = posixpath.join(folder, name), entries[name]
        is_link = attrs.type == _LINK
        if is_link or attrs.type == _UNKNOWN:
            try:
                attrs = await line.within(sftp.stat(path))
            except _CANNOT_GO_ON:
                raise
            except asyncssh.SFTPError as error:
                remarks.append(f"{path} cannot be looked at ({in_short(error.reason)})")
                continue
        yield _Seen(path, attrs, is_link)


async def _names_in(sftp: asyncssh.SFTPClient, folder: str) -> dict[str, asyncssh.SFTPAttrs]:
    """Return what is in *folder*, by names, however odd those may be."""
    entries: dict[str, asyncssh.SFTPAttrs] = {}
    async for entry in sftp.scandir(folder):
        entries[str(entry.filename)] = entry.attrs
        if len(entries) > MOST_NAMES:
            raise ExportError(f"{folder} lists more than {MOST_NAMES:,} files, which is no folder of an export; {LAYOUT}")
    return entries


def _can_be_a_name(name: str) -> bool:
    return bool(name) and "/" not in name and "\0" not in name and len(name) <= LONGEST_NAME


async def _download(
    line: Line, sftp: asyncssh.SFTPClient, file: ExportFile, store: Store, fetched: Callable[[int], None]
) -> None:  # fmt: skip
    """Bring the rest of *file* into *store*."""
    try:
        await _look_again(line, sftp, file)
        remote = await line.within(sftp.open(file.path, "rb", encoding=None))
        while (offset := store.tell()) < file.size:
            piece: bytes = await line.within(remote.read(min(WINDOW, file.size - offset), offset), PATIENCE)
            if not piece:
                break
            _keep(store, piece)
            fetched(len(piece))
        await line.within(remote.close())  # no `async with`: over a line that is lost it would wait for an answer, too
        await _look_again(line, sftp, file)
        if store.tell() != file.size:
            raise changed(file)
    except _GONE as error:
        raise changed(file) from error
    except asyncssh.SFTPPermissionDenied as error:
        address = line.login.address
        raise ExportError(f"{file.name} on {address} may not be read by the user {address.user}; ask the vendor") from error


async def _look_again(line: Line, sftp: asyncssh.SFTPClient, file: ExportFile) -> None:
    if _look(await line.within(sftp.stat(file.path))) != (file.size, file.modified):
        raise changed(file)


def _look(attrs: asyncssh.SFTPAttrs) -> tuple[int, float]:
    """Return size and time of a file; a host that does not tell one of them gives the same at each look."""
    return attrs.size or 0, float(attrs.mtime or 0)


@contextmanager
def _make_store(folder: Path) -> Iterator[Store]:
    """Let the body use a new store in *folder*."""
    with ExitStack() as stack:
        try:
            store = stack.enter_context(open_store(folder))
        except OSError as error:
            raise _cannot_store(str(folder), error) from error
        yield store


def _keep(store: Store, piece: bytes) -> None:
    try:
        store.write(piece)
    except OSError as error:
        raise _cannot_store("the work folder beside the mirror", error) from error


def _cannot_store(where: str, error: OSError) -> DiskFullError | ExportError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DiskFullError(f"the disk of {where} is full; make room for the largest file of the export, and call again")
    return ExportError(f"{where} cannot hold what is downloaded ({error.strerror}); mend that, and call again")
