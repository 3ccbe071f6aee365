"""Checks of the mirror as a file: where it lies, whether it is sound and ours, whether there is room, who is at it."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from delta_mirror.core.spans import span
from delta_mirror.core.values import EPOCH, SECOND, read_ticks
from delta_mirror.errors import RefusedError
from delta_mirror.jobs.checks.case import Case, Finding, ok, unknown, wrong
from delta_mirror.jobs.session import account_name
from delta_mirror.mirror.examine import Examined, examine_mirror
from delta_mirror.mirror.file import FIRST_RUNS, SCHEMA_VERSION
from delta_mirror.mirror.lock import last_holder
from delta_mirror.mirror.place import file_system_of, free_bytes, refuse_network, resolved

LEAST_ROOM = 64 * 1024 * 1024  # bytes, where the mirror is small
LONG = 6 * 3600.0  # seconds; a run that takes longer hangs more probably than it works


def check_place(case: Case) -> Iterator[Finding]:
    """The folder is there, can be written, and lies on a disk of this machine."""
    path = case.config.mirror.path
    folder = resolved(path).parent
    if not folder.is_dir():
        yield wrong("folder", f"there is no folder {folder}", f"mkdir -p {folder}, or mend [mirror] path")
        return
    if not os.access(folder, os.W_OK | os.X_OK):
        yield wrong("folder", f"{folder} cannot be written by this user", f"mend owner or mode of {folder}")
    elif _is_open_to_all(folder):
        what = f"everybody on this machine may put files into {folder}, and so replace the mirror"
        yield wrong("folder", what, f"chmod o-w {folder}")
    else:
        yield ok("folder", f"{folder} can be written")
    kind = file_system_of(path)
    try:
        refuse_network(path)
    except RefusedError as error:
        yield wrong("file system", str(error), "mend [mirror] path")
    else:
        yield ok("file system", f"{kind or 'not known'}, on this machine" if kind else "not known to be a network's")


def _is_open_to_all(folder: Path) -> bool:
    mode = folder.stat().st_mode
    return bool(mode & stat.S_IWOTH) and not mode & stat.S_ISVTX  # as /tmp is, where nobody can replace another's file


def check_file(case: Case) -> Iterator[Finding]:
    """The mirror is one, of this account, sound, and as open as the configuration says."""
    path = case.config.mirror.path
    if not case.has_mirror:
        yield ok("mirror", f"{path} is not there yet; {FIRST_RUNS} makes it")
        return
    try:
        examined = examine_mirror(path)
    except RefusedError as error:
        yield wrong("mirror", str(error), "do what the message says; `sync doctor` looks again")
        return
    yield from _check_owner(case, examined)
    yield from _check_schema(path, examined)
    mode, wanted = stat.S_IMODE(path.stat().st_mode), case.config.mirror.mode
    if mode & ~wanted:
        yield wrong("mode", f"{path} has mode {mode:04o}, and [mirror] mode is {wanted:04o}", f"chmod {wanted:o} {path}")
    elif not os.access(path, os.W_OK):
        yield wrong("mode", f"{path} cannot be written by this user", f"mend its owner, or chmod {wanted:o} {path}")
    else:
        yield ok("mode", f"{mode:04o}")


def _check_owner(case: Case, examined: Examined) -> Iterator[Finding]:
    config = case.config
    account = None if config.dds is None else account_name(config.dds)
    if account is not None and examined.account not in (None, account):
        what = f"{config.mirror.path} was filled from {examined.account}, and the configuration names {account}"
        yield wrong("mirror", what, "mend [dds] marketplace_url or client_id, or give [mirror] path another name")
    elif examined.deletes not in (None, config.mirror.deletes):
        what = f'was filled with deletes = "{examined.deletes}", and the configuration says "{config.mirror.deletes}"'
        yield wrong("mirror", f"{config.mirror.path} {what}", f'set [mirror] deletes = "{examined.deletes}"')
    else:
        size = config.mirror.path.stat().st_size
        yield ok("mirror", f"{config.mirror.path}, {size:,} bytes, is of this account")


def _check_schema(path: Path, examined: Examined) -> Iterator[Finding]:
    if examined.faults:
        what = f"{path} is damaged: {'; '.join(examined.faults)}"
        yield wrong("schema", what, "put a backup in its place, or move it away, with its -wal, and fill a new one")
    elif examined.trap is not None:
        yield wrong("schema", examined.trap, "do what the message says")
    elif examined.form < SCHEMA_VERSION or not examined.is_complete:
        yield ok("schema", f"sound, of an older form ({examined.form}); the next run brings it up to date")
    else:
        yield ok("schema", f"sound, form {examined.form}")


def check_room(case: Case) -> Iterator[Finding]:
    """There is room for the next starter: it changes over in one transaction, so that for a while old and new are on the disk."""
    path = case.config.mirror.path
    size = path.stat().st_size if case.has_mirror else 0
    needed = max(2 * size, LEAST_ROOM)
    try:
        free = free_bytes(path)
    except OSError:
        yield unknown("disk", "its folder is not there", "mend that first")
        return
    told = f"{free // 2**20:,} MiB are free under {resolved(path).parent}"
    if free < needed:
        what = f"{told}; the next Starter Export may need {needed // 2**20:,} MiB, twice the mirror"
        yield wrong("disk", what, "make room, or move the mirror to a larger disk")
    else:
        yield ok("disk", f"{told}, {needed // 2**20:,} MiB are enough")


def check_lock(case: Case) -> Iterator[Finding]:
    """Who holds the lock, and whether that hangs."""
    holder = last_holder(case.config.mirror.path)
    run = case.status.last_run if case.has_mirror and case.config.dds is not None else None
    if holder is None or not holder[1] or run is None or run.ended_at is not None:
        yield ok("lock", "no run is at work")
        return
    since = case.now - ((read_ticks(run.started_at) or EPOCH) - EPOCH) / SECOND
    told = f"process {holder[0]} has been at it for {span(since)} (run {run.id}, {run.command})"
    if since > LONG:
        yield wrong("lock", told, f"look what it does (ps {holder[0]}); `kill {holder[0]}` ends it in good order")
    else:
        yield ok("lock", told)
