"""On which file system a mirror lies, by what the system says of its mounts."""

from pathlib import Path

import pytest

from delta_mirror.errors import MirrorFileError
from delta_mirror.mirror.place import file_system_of, refuse_network

MOUNTS = """\
22 1 254:1 / / rw,relatime - ext4 /dev/root rw
30 22 0:40 / /srv/share rw shared:1 master:2 - nfs4 server:/export rw,vers=4.2
31 30 0:41 / /srv/share/local rw - xfs /dev/vdb rw
32 22 0:42 / /srv/with\\040blank rw - cifs //server/share rw
33 22 0:43 / /srv/twice rw - ext4 /dev/vdc rw
34 22 0:44 / /srv/twice rw - fuse.sshfs ada@server: rw
a line that is none
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/ada/mirror.db", "ext4"),
        ("/mirror.db", "ext4"),
        ("/srv/share/mirror.db", "nfs4"),
        ("/srv/share/local/deeper/mirror.db", "xfs"),
        ("/srv/shared/mirror.db", "ext4"),
        ("/srv/with blank/mirror.db", "cifs"),
        ("/srv/twice/mirror.db", "fuse.sshfs"),
    ],
)
def test_file_system_is_that_of_the_nearest_mount_and_of_two_on_one_point_the_later(tmp_path: Path, path: str, kind: str) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS, encoding="ascii")

    assert file_system_of(Path(path), mounts) == kind


def test_link_leads_to_where_the_mirror_really_lies(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "near.db").symlink_to(tmp_path / "far" / "mirror.db")
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"1 0 0:1 / / rw - ext4 / rw\n2 1 0:2 / {tmp_path.resolve()}/far rw - nfs x rw\n", encoding="utf-8")

    assert file_system_of(tmp_path / "near.db", mounts) == "nfs"


def test_where_the_system_does_not_say_nothing_is_refused(tmp_path: Path) -> None:
    assert file_system_of(tmp_path / "mirror.db", tmp_path / "nowhere") is None


def test_disk_of_this_machine_is_not_refused(tmp_path: Path) -> None:
    refuse_network(tmp_path / "mirror.db")
    with pytest.raises(MirrorFileError, match="network file system"):
        refuse_network_at(tmp_path)


def refuse_network_at(folder: Path) -> None:
    """Ask of a folder that lies on a network file system, as the table above has it."""
    mounts = folder / "mountinfo"
    mounts.write_text(f"1 0 0:1 / {folder.resolve()} rw - nfs4 x rw\n", encoding="utf-8")
    refuse_network(folder / "mirror.db", mounts)
