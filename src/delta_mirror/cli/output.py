"""Standard input, output and error as they may really be: closed, a pipe that nobody reads any more, a file on a full disk.

Invariants:

- The numbers 0, 1 and 2 belong to them alone. Otherwise the next file to be opened would get the number of one that the caller
  has closed: the mirror could become standard error, and a message land in the middle of it.
- What cannot be written leaves as an error of its own, so that it is taken neither for a failure of the network or the mirror
  nor for a defect.
"""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from delta_mirror.errors import DiskFullError

_CANNOT_WRITE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})


class ClosedPipeError(Exception):
    """Whoever read our standard output has enough. No OSError, because click would make exit code 1 of that."""


def open_closed_streams() -> None:
    """Open on the null device what the caller has closed of standard input, output and error."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8", closefd=False))


@contextmanager
def writing_results() -> Iterator[None]:
    """Write out what the body has written to standard output.

    Raises:
        ClosedPipeError: nobody reads it any more.
        DiskFullError: it is a file that cannot be written.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError as error:
        raise ClosedPipeError from error
    except OSError as error:
        # A file that was opened by its name is named in the error; what is written to an open one, is not.
        if error.filename is not None or error.errno not in _CANNOT_WRITE:
            raise
        raise DiskFullError(
            f"standard output cannot be written ({error.strerror}); what the command did stays done. Make room, or send the "
            "output elsewhere"
        ) from error


@contextmanager
def as_far_as_read() -> Iterator[None]:
    """Write out what the body has written as far as it is read, and let the command go on: to its messages, to its exit code.

    Raises:
        DiskFullError: standard output is a file that cannot be written.
    """
    try:
        with writing_results():
            yield
    except ClosedPipeError:
        let_go()


def let_go() -> None:
    """Write out what is left to write; where that cannot be, drop it, or Python would complain once more at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
