"""Where a Starter Export lies: a folder on this machine, or one on an SFTP host. To its reader both are the same.

Invariants:

- An address is never taken for a folder, nor a folder for an address: what has a scheme (`sftp://`) is an address.
- What SFTP alone needs is imported for SFTP alone: the package for it is an extra.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import sleep as sleep_for
from typing import TYPE_CHECKING, TypeAlias

from delta_mirror.dds.export_folder import FolderSource
from delta_mirror.dds.sftp_address import is_address, read_address
from delta_mirror.errors import RefusedError

if TYPE_CHECKING:
    from delta_mirror.dds.sftp import SftpSource

Source: TypeAlias = "FolderSource | SftpSource"


@contextmanager
def open_source(
    source: str,
    *,
    key_file: Path | None,
    key_passphrase: str | None,
    known_hosts: Path | None,
    work_folder: Path,
    timeout: float,
    attempts: int = 6,
    check: Callable[[], None] = lambda: None,
    sleep: Callable[[float], None] = sleep_for,
    fetched: Callable[[int], None] = lambda size: None,
) -> Iterator[Source]:
    """Let the body list and read *source*, a folder or `sftp://user@host[:port]/path`.

    What an SFTP host sends passes through *work_folder*, one file at a time. *timeout* is seconds. So many *attempts* in a row
    may come to nothing; *sleep* waits between two. *check* is called while the network is waited for, and may raise to break
    that off, *fetched* whenever so many bytes of a file have come over it. *known_hosts* is None for the user's own.

    Raises:
        RefusedError: the address or the key cannot be used, or the extra `sftp` is not installed.
    """
    if not is_address(source):
        yield FolderSource(source)
        return
    address = read_address(source)
    try:
        from delta_mirror.dds.sftp import SftpSource
        from delta_mirror.dds.sftp_login import Login
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "asyncssh":
            raise
        raise RefusedError("SFTP needs a package that is not installed: pip install 'delta-mirror[sftp]'") from error
    login = Login.read(address, key_file, key_passphrase, known_hosts, timeout)
    opened = SftpSource(login, work_folder, timeout, attempts, check, sleep, fetched)
    try:
        yield opened
    finally:
        opened.close()
