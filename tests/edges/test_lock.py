"""One run at a time on one mirror, and no lock that outlives its run."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from delta_mirror.errors import BusyError, MirrorFileError
from delta_mirror.mirror.lock import hold

HOLDER = """
import sys
from pathlib import Path
from delta_mirror.mirror.lock import hold

with hold(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mirror.db"


@contextmanager
def another_run(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a process that holds the lock until its standard input is closed."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_second_run_is_refused_at_once_and_told_who_holds_the_mirror(path: Path) -> None:
    with another_run(path) as process:
        for _ in range(3):
            with pytest.raises(BusyError, match=rf"\(process {process.pid}\) holds {path}"), hold(path):
                pass


def test_other_names_of_the_mirror_lead_to_the_same_lock(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.touch()
    elsewhere = path.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "link.db").symlink_to(path)
    monkeypatch.chdir(path.parent)
    with another_run(path):
        for name in (Path("mirror.db"), Path("elsewhere/../mirror.db"), elsewhere / "link.db"):
            with pytest.raises(BusyError), hold(name):
                pass


def test_lock_of_a_killed_run_blocks_nobody(path: Path) -> None:
    with another_run(path) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with hold(path):
        pass


def test_lock_is_free_after_its_run(path: Path) -> None:
    with hold(path), pytest.raises(BusyError, match=f"process {os.getpid()}"), hold(path):
        pass

    def fail() -> None:
        with hold(path):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with hold(path):
        pass


def test_run_that_waits_gets_the_lock_when_the_other_ends(path: Path) -> None:
    with another_run(path) as process:
        assert process.stdin is not None
        process.stdin.close()
        with hold(path, wait=20):
            pass


@pytest.mark.parametrize("mode", [0o600, 0o660])
@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_lock_file_has_the_mode_of_the_mirror(path: Path, mode: int, umask: int) -> None:
    before = os.umask(umask)
    try:
        with hold(path, mode=mode):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((path.parent / "mirror.db.lock").stat().st_mode) == mode


def test_lock_needs_no_mirror_and_makes_none(path: Path) -> None:
    with hold(path):
        pass
    assert [found.name for found in path.parent.iterdir()] == ["mirror.db.lock"]


def test_lock_file_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    with pytest.raises(MirrorFileError, match="there is no folder"), hold(tmp_path / "nowhere" / "mirror.db"):
        pass
    with pytest.raises(MirrorFileError, match="cannot be made or locked"), hold(Path("/proc/mirror.db")):
        pass
    (tmp_path / "mirror.db.lock").mkdir()
    with pytest.raises(MirrorFileError, match="cannot be made or locked"), hold(tmp_path / "mirror.db"):
        pass


def test_something_else_in_the_lock_file_is_not_shown(path: Path) -> None:
    beside = path.parent / "mirror.db.lock"
    with another_run(path):
        for content in (b"\xff", b"no number", b""):
            beside.write_bytes(content)
            with pytest.raises(BusyError, match="another run holds"), hold(path):
                pass
