"""Where a mirror lies: where its name leads, on which file system, and with how much room.

Invariants:

- A mirror on a network file system is refused before anything is made there: neither the lock nor a WAL, which is memory that
  processes share, works over a network, and both fail by damaging the file.
- What is no file is never opened: a pipe would keep whoever opens it waiting, without an ear for signals.
- What kind of file system it is, is what the system says; where it does not say, nothing is refused.
"""

import errno
import os
import re
import stat
from pathlib import Path

from delta_mirror.errors import MirrorFileError

MOUNTS = Path("/proc/self/mountinfo")  # proc(5); only Linux has it
_PLAIN = "9p afs beegfs ceph cifs coda glusterfs lustre ncpfs nfs nfs4 smb2 smb3 smbfs vboxsf"
_FUSE = "ceph davfs gcsfuse glusterfs juicefs rclone s3fs sshfs vmhgfs-fuse"
NETWORK = frozenset(_PLAIN.split()) | {f"fuse.{kind}" for kind in _FUSE.split()}
_ESCAPE = re.compile(r"\\([0-7]{3})")


def resolved(path: Path) -> Path:
    """Return where *path* leads, by whatever links; one that leads to itself is left as it is."""
    return Path(os.path.realpath(path))  # Path.resolve() raises at such a one, and what, hangs on the version of Python


def refuse_unless_file(path: Path) -> None:
    """Return if there is a file at *path*, or nothing; to open a pipe would wait for ever, and a device has no end.

    Raises:
        MirrorFileError: there is something else.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise MirrorFileError(f"{path} is a link that leads to itself; [mirror] path must name a file") from error
        return  # nothing is there, or whoever opens it will say why
    if stat.S_ISDIR(mode):
        raise MirrorFileError(f"{path} is a folder; [mirror] path must name a file")
    if not stat.S_ISREG(mode):
        raise MirrorFileError(f"{path} is a pipe, a socket or a device; [mirror] path must name a file")


def refuse_network(path: Path, mounts: Path = MOUNTS) -> None:
    """Return if the mirror at *path* would lie on a disk of this machine, as far as that is known.

    Raises:
        MirrorFileError: it lies on a network file system.
    """
    kind = file_system_of(path, mounts)
    if kind in NETWORK:
        raise MirrorFileError(
            f"{path} lies on a network file system ({kind}), on which SQLite's locks and its WAL do not work; "
            "let [mirror] path name a file on a disk of this machine"
        )


def file_system_of(path: Path, mounts: Path = MOUNTS) -> str | None:
    """Return the kind of file system that the folder of *path* lies on, such as `ext4`; None where the system does not say."""
    folder = resolved(path).parent
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    found: tuple[int, str] | None = None
    for line in lines:
        mounted, _, mount = line.partition(" - ")
        fields = mounted.split(" ")
        if len(fields) < 5 or not mount:
            continue
        point = Path(_ESCAPE.sub(lambda octal: chr(int(octal[1], 8)), fields[4]))
        # Of two mounts on one point the later one hides the earlier.
        if folder.is_relative_to(point) and (found is None or len(point.parts) >= found[0]):
            found = len(point.parts), mount.split(" ")[0]
    return None if found is None else found[1]


def free_bytes(path: Path) -> int:
    """Return how many bytes this user can still write to the disk under the folder of *path*.

    Raises:
        OSError: there is no such folder.
    """
    disk = os.statvfs(resolved(path).parent)
    return disk.f_bavail * disk.f_frsize
