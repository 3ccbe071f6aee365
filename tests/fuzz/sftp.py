"""Target `sftp`: what an SFTP host lists and sends, and which of the files are taken for an export.

However odd names, sizes, kinds and answers are, listing ends, in bounded time, with files that were listed or with one of the
errors; a file is read to the letter or refused; the runs that are chosen hold listed files of wanted tables, each once; and
where the same names lie in a folder of this machine, the same files are found there.
"""

import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from random import Random
from typing import NamedTuple, cast

import asyncssh

from delta_mirror.cli.messages import printable
from delta_mirror.dds.export_folder import FolderSource
from delta_mirror.dds.export_runs import ExportFile, choose_runs, place_of
from delta_mirror.dds.sftp import SftpSource
from delta_mirror.dds.sftp_address import SftpAddress
from delta_mirror.dds.sftp_login import Login
from delta_mirror.errors import ExportError, UnfinishedError
from fuzz import hostile
from fuzz.choices import Choices
from fuzz.engine import Target
from fuzz.mirrors import assert_printable

LONGEST_MESSAGE = 30_000  # characters: a few paths, each of which may be as long as a path can be
MOST_CALLS = 200_000  # of the host, for one listing
ENTITIES = ("Client", "Sale", "EmployeeActual")

_FOLDERS = ("Tenant11", "Location9", "tenant11", "LOCATION9", "Tenant012", "Tenant" + "9" * 19, "Location٩", "Tenant11 ", "a")
_FILES = (
    "Client_20260504.csv", "Client_20260503.csv", "CLIENT_20260504.CSV", "Sale_20260504.csv", "Sale_20260505.csv",
    "SaleLine_20260504.csv", "EmployeeClock_20260504.csv", "BookingRestrictions_20260.csv",
    "Client_20260230.csv", "Client_00000000.csv", "Client_٢٠٢٦٠٥٠٤.csv",
    "_20260504.csv", "x_20260504.csv", "Client_20260504.csv.part", "Client.csv", "Client_2026050.csv", "Client_99991231.csv",
    "Client_00010101.csv",
)  # fmt: skip
_NAMES = ("", ".", "..", "/", "/etc", "../..", "a/b", "a\\b", "\0", "a\0b", "\udcff", "\x1b[2J", "line\nfeed", "\u202e",
          "x" * 255, "x" * 256, "é" * 10_000, "-rf", "~", "CON", " ", "Client_" + "9" * 5000 + ".csv")  # fmt: skip
_REASONS = ("Failure", "", "\x1b[2J", "line\nfeed", "x" * 100_000, "\u202e")
_ERRORS = (
    asyncssh.SFTPFailure, asyncssh.SFTPPermissionDenied, asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath,
    asyncssh.SFTPBadMessage,
    asyncssh.SFTPOpUnsupported, asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection, asyncssh.SFTPEOFError,
)  # fmt: skip
_SIZES = (0, 1, 2, 7, 7, 7, 7, None, 2**31, 2**63, 2**64 - 1)
_TIMES = (0, 1, 1_777_896_000, None, 2**32 - 1, 2**63, -1)
_KINDS = (*("file", "folder", "link", "failing", "unknown", "special") * 9, "endless")
_CONTENT = b"content"


class Entry(NamedTuple):
    """What lies in a folder of the host: its name, its kind, what its size and time are said to be, what is in it."""

    name: str
    kind: str
    size: int | None
    modified: int | None
    inner: tuple["Entry", ...] = ()
    reason: str = ""


class Host(NamedTuple):
    """What the host has, and out of which choices it answers where it fails at random."""

    entries: tuple[Entry, ...]
    seed: int
    fails: int


# ---- making


def make(choices: Choices) -> Host:
    """Return a host."""
    entries = tuple(_entry(choices, 3) for _ in range(1 + choices.below(4)))
    return Host(entries, choices.below(256), choices.among((0, 0, 0, 2, 20)))


def _entry(choices: Choices, levels: int) -> Entry:
    is_folder = levels > 0 and not choices.one_in(3)
    kind = ("folder" if is_folder else "file") if not choices.one_in(8) else choices.among(_KINDS)
    usual: Sequence[str] = _FOLDERS if kind != "file" else _FILES
    if levels == 3 and not choices.one_in(3):
        usual = usual[:1]
    if levels == 2 and not choices.one_in(3):
        usual = usual[1:2]
    name = (
        choices.among(usual)
        if not choices.one_in(8)
        else choices.among(_NAMES)
        if choices.below(2)
        else hostile.name(choices, usual)
    )
    size = len(_CONTENT) if not choices.one_in(6) else choices.among(_SIZES)
    inner = (
        tuple(choices.some(lambda: _entry(choices, levels - 1), 5)) if kind in ("folder", "link", "unknown") and levels else ()
    )
    return Entry(name, kind, size, choices.among(_TIMES), inner, choices.among(_REASONS))


# ---- the host


class _Files:
    """Stands for the client of a connection: answers as a host would that has these entries."""

    def __init__(self, host: Host) -> None:
        self.calls = 0
        self._host = host
        self._random = Random(host.seed)

    async def realpath(self, path: str) -> str:
        """Return *path* without its links."""
        self._answer()
        found = self._at(path)
        if path == ".":
            return "/"
        return str(PurePosixPath("/by-its-own-name") / found.name) if found is not None and found.kind == "link" else path

    async def stat(self, path: str) -> asyncssh.SFTPAttrs:
        """Return what lies at *path*, links followed."""
        self._answer()
        found = self._at(path)
        if path in ("/", ".", ""):
            return asyncssh.SFTPAttrs(type=asyncssh.FILEXFER_TYPE_DIRECTORY)
        if found is None:
            raise asyncssh.SFTPNoSuchFile("no such file")
        if found.kind == "failing":
            raise asyncssh.SFTPFailure(found.reason)
        return _attrs(found, is_followed=True)

    async def scandir(self, path: str) -> AsyncIterator[asyncssh.SFTPName]:
        """Yield what is in *path*."""
        self._answer()
        found = self._at(path)
        if found is not None and found.kind == "failing":
            raise asyncssh.SFTPFailure(found.reason)
        yield asyncssh.SFTPName(".", "", asyncssh.SFTPAttrs(type=asyncssh.FILEXFER_TYPE_DIRECTORY))
        if found is not None and found.kind == "endless":
            for name in ("a", "b"):
                yield asyncssh.SFTPName(name, "", asyncssh.SFTPAttrs(type=asyncssh.FILEXFER_TYPE_DIRECTORY))
            return
        for entry in self._host.entries if found is None else found.inner:
            yield asyncssh.SFTPName(entry.name, "", _attrs(entry, is_followed=False))

    async def open(self, path: str, mode: str, encoding: str | None) -> "_Open":
        """Return an open file."""
        await self.stat(path)
        return _Open(self)

    def _at(self, path: str) -> Entry | None:
        here: Entry | None = None
        for name in path.split("/"):
            if name in ("", "."):
                continue
            if here is not None and here.kind == "endless":
                return here
            there = self._host.entries if here is None else here.inner
            here = next((entry for entry in reversed(there) if entry.name == name), None)
            if here is None:
                return None
        return here

    def _answer(self) -> None:
        self.calls += 1
        assert self.calls < MOST_CALLS, "there is no end of asking"
        if self._random.randrange(100) < self._host.fails:
            raise self._random.choice(_ERRORS)(self._random.choice(_REASONS))


class _Open:
    """An open file, which may give more or less than it is asked for."""

    def __init__(self, files: _Files) -> None:
        self._files = files

    async def read(self, size: int, offset: int) -> bytes:
        """Return a piece."""
        self._files._answer()
        return _CONTENT[offset:] if self._files._random.randrange(4) else _CONTENT[offset : offset + 2]

    async def close(self) -> None:
        """Close it."""


def _attrs(entry: Entry, *, is_followed: bool) -> asyncssh.SFTPAttrs:
    kinds = {
        "file": asyncssh.FILEXFER_TYPE_REGULAR,
        "failing": asyncssh.FILEXFER_TYPE_DIRECTORY,
        "link": asyncssh.FILEXFER_TYPE_DIRECTORY if is_followed else asyncssh.FILEXFER_TYPE_SYMLINK,
        "unknown": asyncssh.FILEXFER_TYPE_DIRECTORY if is_followed else asyncssh.FILEXFER_TYPE_UNKNOWN,
        "special": asyncssh.FILEXFER_TYPE_SPECIAL,
    }
    kind = kinds.get(entry.kind, asyncssh.FILEXFER_TYPE_DIRECTORY)
    return asyncssh.SFTPAttrs(type=kind, size=entry.size, mtime=entry.modified)


class _Connection:
    """Stands for a connection to the host."""

    def __init__(self, files: _Files) -> None:
        self._files = files

    async def start_sftp_client(self, path_errors: str) -> _Files:
        """Return its client."""
        return self._files

    def abort(self) -> None:
        """Hang up."""

    async def wait_closed(self) -> None:
        """Wait for nothing."""


@dataclass(frozen=True)
class _OpenDoor(Login):
    """A login that leads to the host without any network."""

    files: _Files

    async def connect(self) -> asyncssh.SSHClientConnection:
        """Return a connection."""
        return cast("asyncssh.SSHClientConnection", _Connection(self.files))


# ---- checking


@contextmanager
def open_site(folder: Path) -> Iterator[Callable[[Host], None]]:
    """Let the body check hosts, in *folder*."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    known = asyncssh.import_known_hosts("")
    address = SftpAddress("salon", "host.example", 22, "")

    def check(sent: Host) -> None:
        login = _OpenDoor(address, folder / "id", key, folder / "known_hosts", known, 5.0, _Files(sent))
        slept: list[float] = []
        source = SftpSource(login, folder, 5.0, 2, lambda: None, slept.append, lambda size: None)
        try:
            listed = _list(source)
            _check_files(listed)
            _check_runs(listed)
            for file in listed[:20]:
                _read(source, file)
        finally:
            source.close()
        assert len(slept) < 200, "there is no end of trying"
        if not sent.fails:
            _check_alike(folder / "here", sent, listed)

    yield check


def _list(source: SftpSource | FolderSource) -> list[ExportFile]:
    try:
        found = list(source.list())
    except (ExportError, UnfinishedError) as error:
        _check_said(str(error))
        found = []
    for remark in source.remarks[:100]:
        _check_said(remark)
    return found


def _check_said(said: str) -> None:
    assert len(said) < LONGEST_MESSAGE, "a message is endless"
    assert_printable(printable(said))


def _check_files(files: list[ExportFile]) -> None:
    assert len({file.path for file in files}) == len(files), "a file is listed twice"
    for file in files:
        parts = file.path.split("/")
        assert not {"", ".", ".."} & set(parts[1:]), "a path leads out of its folder"
        assert "\0" not in file.path, "a path has a NUL in it"
        assert place_of(file.path.rpartition("/")[0]) == (file.tenant_id, file.location_id), "a file is of another location"
        assert 0 <= file.tenant_id < 2**63, "there is an id that no column holds"
        assert 0 <= file.location_id < 2**63, "there is an id that no column holds"


def _check_runs(files: list[ExportFile]) -> None:
    try:
        choice = choose_runs(files, (), ENTITIES)
    except ExportError as error:
        _check_said(str(error))
        return
    for said in choice.passed_over:
        _check_said(said)
    places = [(run.tenant_id, run.location_id) for run in choice.runs]
    assert len(set(places)) == len(places), "a location has two runs"
    for run in choice.runs:
        assert 1 <= len(run.dates) <= 2
        assert set(run.files.values()) <= set(files), "a run has a file that was not listed"
        assert len({file.path.rpartition("/")[0] for file in run.files.values()}) == 1, "a run is of two folders"
        tables = [table.lower() for table in run.files]
        assert len(set(tables)) == len(tables), "a run has a table twice"


def _read(source: SftpSource, file: ExportFile) -> None:
    try:
        with source.open(file) as chunks:
            assert b"".join(chunks) == _CONTENT[: file.size], "a file was not read to the letter"
        assert file.size <= len(_CONTENT), "a file of another size was read"
    except (ExportError, UnfinishedError) as error:
        _check_said(str(error))


def _check_alike(folder: Path, sent: Host, listed: list[ExportFile]) -> None:
    """Fail unless the same names in a folder of this machine give the same files; kinds that no folder has are left out."""
    if any(entry.kind not in ("file", "folder") or entry.name in ("", ".", "..") for entry in _all(sent.entries)):
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with suppress(OSError, ValueError):  # a name that no file here can have, or two of one name
        _lay_out(folder, sent.entries)
        found = _list(FolderSource(str(folder)))
        here = sorted((file.path.removeprefix(str(folder)), file.table, file.date) for file in found)
        assert here == sorted((file.path, file.table, file.date) for file in listed), "a host and a folder are read otherwise"


def _all(entries: tuple[Entry, ...]) -> Iterator[Entry]:
    for entry in entries:
        yield entry
        yield from _all(entry.inner)


def _lay_out(folder: Path, entries: tuple[Entry, ...]) -> None:
    for entry in entries:
        if "/" in entry.name:
            raise ValueError(entry.name)
        if entry.kind == "folder":
            (folder / entry.name).mkdir()
            _lay_out(folder / entry.name, entry.inner)
        else:
            with (folder / entry.name).open("xb") as file:
                file.write(_CONTENT)


def size_of(sent: Host) -> int:
    """Return how many characters the names have."""
    return sum(len(entry.name) for entry in _all(sent.entries))


TARGET = Target("sftp", make, open_site, size_of)
