"""Where a file lies between its download and its reading."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from delta_mirror.dds.sftp_store import Store, open_store

CLEAR = b"zebra@example.org;" * 1000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path) as store:
        yield store


def on_disk(folder: Path) -> list[bytes]:
    """Return what lies in the files of *folder* that this process has open and that have no name."""
    found = []
    for number in os.listdir("/proc/self/fd"):  # noqa: PTH208 - what is there changes while it is looked at
        link = Path("/proc/self/fd", number)
        if link.is_symlink() and link.readlink().parent == folder and link.readlink().name.endswith("(deleted)"):
            found.append(link.read_bytes())
    return found


def test_what_is_downloaded_lies_on_the_disk_as_noise(store: Store, tmp_path: Path) -> None:
    store.write(CLEAR)
    [written] = on_disk(tmp_path)
    assert len(written) == len(CLEAR)
    assert b"zebra" not in written
    assert list(tmp_path.iterdir()) == []


def test_it_is_read_as_it_was_written_in_whatever_pieces(store: Store) -> None:
    for start in range(0, len(CLEAR), 777):
        store.write(CLEAR[start : start + 777])
    assert store.tell() == len(CLEAR)
    assert b"".join(store.read(4096)) == CLEAR


def test_two_files_are_never_the_same_noise(tmp_path: Path) -> None:
    noise = set()
    for _ in range(2):
        with open_store(tmp_path) as store:
            store.write(CLEAR)
            noise.update(on_disk(tmp_path))
    assert len(noise) == 2
