"""A file system of its own for the mirror, which can be made full to the last page: a tmpfs.

Invariants:

- It is mounted within a namespace of mounts that ends with the process, so that nothing is left of it whatever happens.
- Where nobody may mount (no root, and no namespaces of users), it is left out; full disks are there all the same, by the shim
  and by limits of the size of files.
"""

import os
import subprocess
from pathlib import Path

ROOM = 256 * 1024  # KiB
_WITHIN = "TORTURE_MOUNTS"
_PATH = f"{os.defpath}:/usr/sbin:/sbin"


def namespace() -> list[str] | None:
    """Return what to put before a command so that it may mount, None where nothing helps."""
    for options in ([], ["--map-root-user"]):
        unshare = ["unshare", "--mount", *options]
        try:
            tried = subprocess.run([*unshare, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False)
        except OSError:
            return None
        if tried.returncode == 0:
            return ["env", f"{_WITHIN}=1", *unshare]
    return None


def may_mount() -> bool:
    """Return whether this process runs in such a namespace."""
    return _WITHIN in os.environ


class Small:
    """The file system at *place*, mounted with much room."""

    def __init__(self, place: Path) -> None:
        self._place = place
        place.mkdir()
        _mount("-t", "tmpfs", "-o", f"size={ROOM}k,mode=0700", "none", str(place))

    def leave(self, room: int) -> None:
        """Leave *room* KiB free, and no more."""
        there = os.statvfs(self._place)
        used = (there.f_blocks - there.f_bfree) * there.f_frsize // 1024
        _mount("-o", f"remount,size={max(used + room, 4)}k", str(self._place))  # 0 would be no bound at all

    def make_room(self) -> None:
        """Make much room again."""
        _mount("-o", f"remount,size={ROOM}k", str(self._place))

    def close(self) -> None:
        """Take it away, with all that is in it."""
        subprocess.run(["umount", "--lazy", str(self._place)], check=True, env={"PATH": _PATH})


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, env={"PATH": _PATH})
