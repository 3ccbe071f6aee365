"""One writer at a time: the lock that a run holds from its beginning to its end.

Invariants:

- The lock is the operating system's, on a file beside the mirror. It goes with the process that holds it, however that
  ends; the file that stays behind blocks nobody and is never removed (two runs could otherwise lock two files of one name).
- All names of one mirror, relative ones and symbolic links too, lead to the same lock.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from delta_mirror.errors import BusyError, MirrorFileError
from delta_mirror.mirror.place import refuse_network, resolved


@contextmanager
def hold(path: Path, *, mode: int = 0o600, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock of the mirror at *path* while the body runs; the mirror itself need not exist.

    *mode* is the lock file's, whatever the umask. *wait* is how many seconds another run is waited for, below 0 without end.

    Raises:
        BusyError: another run holds it; the message has its process id where it is known.
        MirrorFileError: the lock file cannot be made, or lies on a network file system.
    """
    # Imported here, because commands that only read do not need it.
    from filelock import FileLock, Timeout

    path = resolved(path)
    beside = path.with_name(path.name + ".lock")
    if not path.parent.is_dir():
        raise MirrorFileError(f"there is no folder {path.parent}; make it, or mend [mirror] path")
    refuse_network(path)
    holder = _read_holder(beside)  # before we try: older versions of filelock empty the file when they open it
    lock = FileLock(beside, timeout=wait, mode=mode, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        if not beside.exists():  # filelock takes a folder that denies to have the file for a race, and gives up
            raise MirrorFileError(f"{beside} cannot be made or locked; mend owner or mode of its folder") from error
        holder = _read_holder(beside) or holder
        process = f" (process {holder})" if holder else ""
        raise BusyError(f"another run{process} holds {path}; let it end, or call with --if-running wait") from error
    except OSError as error:
        raise MirrorFileError(f"{beside} cannot be made or locked ({error.strerror}); mend owner or mode there") from error
    try:
        with suppress(OSError):  # a full disk: the number is only for the message
            beside.write_text(f"{os.getpid()}\n", encoding="ascii")
        yield
    finally:
        lock.release()


def _read_holder(beside: Path) -> str:
    if not beside.is_file():
        return ""
    try:
        holder = beside.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return holder if holder.isdecimal() else ""


def last_holder(path: Path) -> tuple[int, bool] | None:
    """Return the process that last held the lock of the mirror at *path*, and whether it lives on this machine; None if unknown.

    Without touching the lock: to try it could keep a run that begins just now from having it.
    """
    path = resolved(path)
    holder = _read_holder(path.with_name(path.name + ".lock"))
    if not holder:
        return None
    try:
        os.kill(int(holder), 0)
    except (ProcessLookupError, OverflowError):
        return int(holder), False
    except PermissionError:
        pass  # it is there, and somebody else's
    return int(holder), True
