"""Messages that lie in files, or come on standard input: bytes in, one body after the other out.

A file is read in one of three ways (docs/nexus.md, "Files"): if its first line is a whole JSON object, one message a line; else
as one object or one array of messages, over as many lines as it likes; and where it is no JSON, line by line again, so that
what is broken ends in quarantine, and no good line with it.

Invariants:

- Memory does not grow with a file, whatever its layout: an array is read twice, once to see that it is one. What comes through
  a pipe is kept for that as it came, so that no disk grows beyond what was sent, whatever it unpacks to.
- A body is what stands in the file, to the letter, less the blanks around it. No message is passed over; blank lines are none.
- Compressed files are known by their first bytes: JSON never begins with them.
- A file that breaks off gives what came before, and then `DamagedError`.
"""

import errno
import gzip
import json
import os
import re
import sys
import zlib
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from io import BufferedReader, RawIOBase
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, NamedTuple, Protocol

from delta_mirror.core.exact_json import UnreadableError, read_json
from delta_mirror.errors import RefusedError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_BOM = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
_BLANKS = b" \t\r\n"
_STANDARD_INPUT = "-"
_SPACE = re.compile(r"[ \t\r\n]*")
_KEPT_IN_MEMORY = 1 << 20  # bytes, beyond which what comes through a pipe goes to a temporary file
_NEAR = 16  # characters: an error so close to the end of what was read may be gone when more is


class Limits(NamedTuple):
    """How much is held in memory: bytes of the longest message, and bytes read at a time where there are no lines."""

    longest: int = 256 << 20  # the broker's own limit is 100 MiB
    chunk: int = 1 << 18


class Readable(Protocol):
    """What is asked of an open file, compressed or not."""

    def read(self, size: int, /) -> bytes:
        """Return at most *size* bytes, b"" at the end."""
        ...

    def readline(self, size: int, /) -> bytes:
        """Return the next line, or as much of it as *size* allows."""
        ...

    def seek(self, offset: int, /) -> int:
        """Go to *offset*."""
        ...


class Peekable(Readable, Protocol):
    """What is asked of a file that is read for the first time."""

    def peek(self, size: int, /) -> bytes:
        """Return what comes next, b"" at the end, and leave it there."""
        ...


class DamagedError(Exception):
    """A file cannot be read to its end; the text says why. What came before was handed out."""


class _NoJsonError(Exception):
    """The text as a whole is neither one object nor one array."""


class Source(NamedTuple):
    """One file to be read, None for standard input."""

    path: Path | None
    limits: Limits = Limits()

    @property
    def name(self) -> str:
        """What messages call it."""
        return "standard input" if self.path is None else str(self.path)

    def bodies(self) -> Iterator[bytes]:
        """Yield the messages in it, in their order.

        Raises:
            DamagedError: it cannot be read, or breaks off.
        """
        try:
            if self.path is None:
                # A reader of our own: the one of `sys.stdin` must not be in use by another thread when the process ends.
                with open(sys.stdin.fileno(), "rb", closefd=False) as stream:
                    yield from _bodies(stream, self.limits, can_rewind=False)
            else:
                with self.path.open("rb") as stream:
                    yield from _bodies(stream, self.limits, can_rewind=stream.seekable())
        except EOFError:
            raise DamagedError("it breaks off: the compressed text has no end") from None
        except (zlib.error, gzip.BadGzipFile):
            raise DamagedError("it is damaged: what was compressed cannot be got back") from None
        except OSError as error:
            raise DamagedError(f"it cannot be read ({error.strerror or error})") from None


def find_sources(paths: Sequence[str]) -> list[Source]:
    """Return what *paths* name: files, all files in folders and the folders below them in order of names, `-` standard input.

    Hidden files and folders, whose names begin with a dot, are passed over within a folder.

    Raises:
        RefusedError: there is no such file or folder, or it may not be read.
    """
    if not paths and sys.stdin.isatty():
        raise RefusedError("no path was given, and standard input is a terminal; name files, folders, or - for standard input")
    found: list[Source] = []
    for given in paths or [_STANDARD_INPUT]:
        if given == _STANDARD_INPUT:
            found.append(Source(None))
            continue
        if not given:  # a variable without a value: it would be the whole folder that we stand in
            raise RefusedError("a path is empty; nothing was taken. Name files, folders, or - for standard input")
        try:
            found += map(Source, _files_at(Path(given)))
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "no path can be called that"
            raise RefusedError(
                f"{given!r} cannot be read ({why}); nothing was taken. Name files, folders, or - for standard input"
            ) from None
    return found


def _files_at(path: Path) -> list[Path]:
    if path.is_dir():
        return list(_files_in(path))
    path.stat()
    # Asked for, not tried: to open a named pipe and to close it again would send its writer away.
    if not os.access(path, os.R_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return [path]


def _files_in(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if path.name.startswith("."):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _files_in(path)
        elif path.is_file():
            yield path


def _bodies(stream: BufferedReader, limits: Limits, *, can_rewind: bool) -> Iterator[bytes]:
    is_packed = stream.peek(len(_GZIP))[:2] == _GZIP
    with ExitStack() as stack:
        kept = None if can_rewind else stack.enter_context(_Kept(stream))
        source: Peekable = stream if kept is None else BufferedReader(kept, limits.chunk)
        text: Peekable = gzip.GzipFile(fileobj=source, mode="rb") if is_packed else source
        # An array can be one line of any length: only of an object the first line is looked at.
        first = _line(text, limits) if _opening(text) == b"{" else b""
        if _is_object(first):
            if kept is not None:
                kept.forget()
            yield first.strip(_BLANKS)
            yield from _lines(text, limits)
            return
        whole: Readable = text
        if kept is not None:
            copy = kept.again(limits.chunk)
            whole = gzip.GzipFile(fileobj=copy, mode="rb") if is_packed else copy
        whole.seek(0)
        is_json = _is_json(whole, limits)
        whole.seek(0)
        yield from _elements(whole, limits) if is_json else _lines(whole, limits)


class _Kept(RawIOBase):
    """What comes through a pipe, kept until it is known whether it is needed again: as it came, for it may unpack to anything."""

    def __init__(self, stream: BufferedReader) -> None:
        super().__init__()
        self._stream = stream
        self._copy = SpooledTemporaryFile[bytes](_KEPT_IN_MEMORY)
        self._is_kept = True

    def readable(self) -> bool:
        """Return that it is."""
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Read what there is."""
        with memoryview(buffer) as view:
            count = self._stream.readinto1(view)
            if self._is_kept:
                self._copy.write(view[:count])
        return count

    def forget(self) -> None:
        """Keep nothing any more."""
        self._is_kept = False
        self._copy.close()

    def again(self, chunk: int) -> "SpooledTemporaryFile[bytes]":
        """Return all of it from its beginning, that which has not been read yet included."""
        while piece := self._stream.read(chunk):
            self._copy.write(piece)
        self._copy.seek(0)
        return self._copy

    def close(self) -> None:
        """Drop what was kept."""
        self._copy.close()
        super().close()


def _opening(text: Peekable) -> bytes:
    """Return the first byte that says something, b"" where there is none; what stands before it has been read."""
    while seen := text.peek(len(_BOM)):
        said = seen.lstrip(_BLANKS + _BOM)
        text.read(len(seen) - len(said))
        if said:
            return said[:1]
    return b""


# ---- lines


def _lines(text: Readable, limits: Limits) -> Iterator[bytes]:
    for line in iter(lambda: _line(text, limits), b""):
        # Also within a file: several may have been put into one.
        body = line.removeprefix(_BOM).strip(_BLANKS)
        if body:
            yield body


def _line(text: Readable, limits: Limits) -> bytes:
    line = text.readline(limits.longest)
    if len(line) == limits.longest and not line.endswith(b"\n"):
        raise DamagedError(f"it has a line of more than {limits.longest:,} bytes, which is no message")
    return line


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(read_json(line), dict)
    except UnreadableError:
        return False


# ---- one object or array over many lines


def _is_json(whole: Readable, limits: Limits) -> bool:
    """Return whether *whole* is one object or array; where it breaks off, whether it is one as far as it goes."""
    try:
        for _ in _elements(whole, limits):
            pass
    except _NoJsonError:
        return False
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return True
    return True


def _elements(whole: Readable, limits: Limits) -> Iterator[bytes]:
    """Yield the one object, or the elements of the one array, each as it stands there."""
    window = _Window(whole, limits)
    opening = window.symbol()
    if opening == "{":
        yield window.value()
    elif opening == "[":
        window.skip()
        if window.symbol() != "]":
            yield window.value()
            while window.symbol() == ",":
                window.skip()
                yield window.value()
        if window.symbol() != "]":
            raise _NoJsonError
        window.skip()
    if opening not in ("{", "[") or window.symbol():
        raise _NoJsonError


class _Window:
    """A part of a long text that moves on: the standard library's parser finds where a value in it ends."""

    # Numbers are not looked at: Python refuses those of thousands of digits, and they are none of our business here.
    _decode = json.JSONDecoder(parse_int=len, parse_float=len, strict=False).raw_decode

    def __init__(self, whole: Readable, limits: Limits) -> None:
        self._limits = limits
        self._read: Callable[[int], bytes] = whole.read
        # A byte that is no UTF-8 comes through as it is: its own message is broken, and no other.
        self._decoder = getincrementaldecoder("utf-8")("surrogateescape")
        self._text = ""
        self._at = 0
        self._is_all = False
        self._more()
        self._text = self._text.lstrip(" \t\r\n\ufeff")

    def symbol(self) -> str:
        """Return the next character that is no blank, "" at the end."""
        while True:
            found = _SPACE.match(self._text, self._at)
            self._at = found.end() if found else self._at
            if self._at < len(self._text) or self._is_all:
                return self._text[self._at : self._at + 1]
            self._more()

    def skip(self) -> None:
        """Pass over the character that `symbol` has returned."""
        self._at += 1

    def value(self) -> bytes:
        """Return the next value as it stands there."""
        self.symbol()
        while True:
            try:
                _, end = self._decode(self._text, self._at)
            except json.JSONDecodeError as error:
                is_cut = error.msg.startswith("Unterminated") or error.pos >= len(self._text) - _NEAR
                if self._is_all or not is_cut:
                    raise _NoJsonError from None
            except RecursionError:
                raise _NoJsonError from None
            else:
                if end < len(self._text) or self._is_all:
                    value = self._text[self._at : end]
                    self._at = end
                    return value.encode("utf-8", "surrogateescape")
            self._more()

    def _more(self) -> None:
        rest = self._text[self._at :]
        if len(rest) > self._limits.longest:
            raise DamagedError(f"it has a message of more than {self._limits.longest:,} bytes")
        # As much again as there is: a value that is many chunks long is not begun anew for each of them.
        chunk = self._read(max(self._limits.chunk, len(rest)))
        self._is_all = not chunk
        self._text = rest + self._decoder.decode(chunk, final=not chunk)
        self._at = 0
