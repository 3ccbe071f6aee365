"""`sync backup`: a copy of the mirror, through the installed program."""

import errno
import os
import signal
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from installed import PATIENCE, Shop, call

from delta_mirror.mirror.file import APPLICATION_ID
from delta_mirror.simulator import World
from oracle import assert_exact


@pytest.fixture
def filled(shop: Shop, world: World) -> Shop:
    for number in range(30):
        world.create("Client", FirstName=f"Ada {number}")
    shop.fill()
    return shop


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as mirror:
        return list(mirror.iterdump())


def fatten(shop: Shop, megabytes: int) -> None:
    """Make the mirror large, so that a copy takes a while."""
    with closing(sqlite3.connect(shop.mirror)) as mirror, mirror:
        mirror.execute("create table notes_of_an_analyst (body)")
        mirror.executemany("insert into notes_of_an_analyst values (zeroblob(1000000))", [()] * megabytes)


def test_a_copy_has_everything_the_mode_of_the_mirror_and_no_file_beside_it(filled: Shop, world: World) -> None:
    target = filled.folder / "copies" / "mirror.db"
    target.parent.mkdir()

    report = filled.sync("backup", str(target), "--json").json()

    assert_exact(target, world)
    assert dump(target) == dump(filled.mirror)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [path.name for path in target.parent.iterdir()] == ["mirror.db"]
    assert report == {
        "file": str(target),
        "bytes": target.stat().st_size,
        "last_seq": filled.value("select max(seq) from _changes"),
    }


def test_a_copy_can_be_used_as_a_mirror(filled: Shop, world: World) -> None:
    filled.sync("backup", str(filled.folder / "copy.db"))
    filled.configure(mirror={"path": "copy.db"})
    filled.mirror = filled.folder / "copy.db"
    world.create("Client", FirstName="Bo")

    filled.sync("deltas")

    assert_exact(filled.mirror, world)


def test_what_is_written_while_the_copy_is_taken_is_not_in_it_and_is_not_kept_waiting(filled: Shop) -> None:
    fatten(filled, 40)
    before = dump(filled.mirror)
    target = filled.folder / "copy.db"
    with closing(sqlite3.connect(filled.mirror, timeout=0)) as writer:
        writer.execute("pragma journal_mode = wal")
        with filled.running("backup", str(target)) as copying:
            written = 0
            while copying.poll() is None:
                with writer:
                    writer.execute("insert into notes_of_an_analyst values ('while it is copied')")
                written += 1
            filled.end(copying)
    assert written > 1
    with closing(sqlite3.connect(target)) as copy:
        assert copy.execute("pragma integrity_check").fetchall() == [("ok",)]
        inside = copy.execute("select count(*) from notes_of_an_analyst where typeof(body) = 'text'").fetchone()[0]
    assert inside < written
    assert len(dump(target)) == len(before) + inside


def test_a_killed_backup_leaves_the_old_copy_and_the_next_one_removes_what_it_left(filled: Shop) -> None:
    target = filled.folder / "copy.db"
    filled.sync("backup", str(target))
    old = target.read_bytes()
    fatten(filled, 60)
    with filled.running("backup", str(target)) as copying:
        while copying.poll() is None and not list(filled.folder.glob(".copy.db.*")):
            pass
        copying.send_signal(signal.SIGKILL)
        filled.end(copying, expect=-signal.SIGKILL)
    assert copying.returncode == -signal.SIGKILL, "it was over before it could be killed"
    assert target.read_bytes() == old
    assert list(filled.folder.glob(".copy.db.*"))

    filled.sync("backup", str(target))

    assert not list(filled.folder.glob(".copy.db.*"))
    assert dump(target) == dump(filled.mirror)


def test_a_backup_that_is_told_to_stop_keeps_nothing(filled: Shop) -> None:
    target = filled.folder / "copy.db"
    fatten(filled, 60)
    with filled.running("backup", str(target)) as copying:
        while copying.poll() is None and not list(filled.folder.glob(".copy.db.*")):
            pass
        copying.send_signal(signal.SIGTERM)
        filled.end(copying, expect=128 + signal.SIGTERM)
    assert [path.name for path in filled.folder.iterdir() if "copy" in path.name] == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("mirror.db", "is the mirror itself"),
        ("mirror.db-wal", "belongs to it"),
        ("link.db", "is the mirror itself"),
        ("notes.txt", "is no copy"),
        ("live.db", "is no copy"),
        ("missing/copy.db", "there is no folder"),
        (".", "is a folder"),
    ],
)
def test_a_place_that_is_none_for_a_copy_is_refused_and_stays_as_it_is(filled: Shop, name: str, reason: str) -> None:
    (filled.folder / "notes.txt").write_text("mine", encoding="utf-8")
    (filled.folder / "link.db").symlink_to(filled.mirror)
    with closing(sqlite3.connect(filled.folder / "live.db")) as live:
        live.execute("pragma journal_mode = wal")
        live.execute(f"pragma application_id = {APPLICATION_ID}")
        live.execute("create table t (c)")
    before = {path.name: path.read_bytes() for path in filled.folder.iterdir() if path.is_file()}

    ended = filled.sync("backup", str(filled.folder / name), expect=2)

    assert reason in ended.err
    after = {path.name: path.read_bytes() for path in filled.folder.iterdir() if path.is_file()}
    assert {name: body for name, body in after.items() if not name.endswith(("-wal", "-shm"))} == {
        name: body for name, body in before.items() if not name.endswith(("-wal", "-shm"))
    }


def test_without_a_mirror_there_is_nothing_to_copy_and_nothing_is_made(shop: Shop) -> None:
    ended = shop.sync("backup", str(shop.folder / "copy.db"), expect=2)

    assert "there is no mirror" in ended.err
    assert not (shop.folder / "copy.db").exists()


def test_a_damaged_mirror_makes_no_copy(filled: Shop) -> None:
    filled.sync("backup", str(filled.folder / "copy.db"))
    old = (filled.folder / "copy.db").read_bytes()
    with closing(sqlite3.connect(filled.mirror)) as mirror, mirror:
        mirror.execute("pragma wal_checkpoint(truncate)")
    with filled.mirror.open("r+b") as file:
        file.seek(0, os.SEEK_END)
        size = file.tell()
        for page in range(4, size // 4096):
            file.seek(page * 4096 + 3)
            file.write(b"\xff\xff\xff")

    ended = filled.sync("backup", str(filled.folder / "copy.db"), expect=2)

    assert "not sound" in ended.err or "is damaged" in ended.err
    assert (filled.folder / "copy.db").read_bytes() == old


def test_a_mirror_that_has_lost_its_log_of_changes_makes_no_copy(filled: Shop) -> None:
    with closing(sqlite3.connect(filled.mirror)) as mirror, mirror:
        mirror.execute("drop table _changes")

    ended = filled.sync("backup", str(filled.folder / "copy.db"), expect=2)

    assert "has lost its own tables _changes" in ended.err
    assert not (filled.folder / "copy.db").exists()


def test_quiet_says_nothing_on_success(filled: Shop) -> None:
    ended = filled.sync("--quiet", "backup", str(filled.folder / "copy.db"))

    assert (ended.out, ended.err) == ("", "")


def test_a_disk_that_is_full_keeps_the_old_copy_and_nothing_else(filled: Shop) -> None:
    target = filled.folder / "copy.db"
    filled.sync("backup", str(target))
    old = target.read_bytes()
    fatten(filled, 8)
    limit = 'export PYTHONDONTWRITEBYTECODE=1; ulimit -f 4000; exec "$@"'

    ended = call(filled, "backup", str(target), expect=3, through=limit)

    assert "copy.db" in ended.err
    assert "fails to read or write" in ended.err
    assert target.read_bytes() == old
    assert not list(filled.folder.glob(".copy.db.*"))


def test_a_folder_that_cannot_be_written_is_refused(filled: Shop) -> None:
    closed = filled.folder / "closed"
    closed.mkdir(mode=0o500)

    ended = call(filled, "backup", str(closed / "copy.db"), expect=2)

    assert "closed cannot be written by this user" in ended.err


def test_a_mirror_in_a_folder_that_cannot_be_written_is_copied(filled: Shop, world: World) -> None:
    closed = filled.folder / "closed"
    closed.mkdir()
    filled.mirror.rename(closed / "mirror.db")
    filled.configure(mirror={"path": "closed/mirror.db"})
    closed.chmod(0o500)

    call(filled, "backup", str(filled.folder / "copy.db"), expect=0)

    assert_exact(filled.folder / "copy.db", world)


ODD_NAMES = {
    "marks of addresses": "what? 100%#1.db",
    "a dash": "-dash.db",
    "two lines": "zwei\nzeilen.db",
    "letters": "día ☃.db",
    "SQL": "'; drop table _runs; --",
    "as long as can be": "n" * 255,
    "no UTF-8": os.fsdecode(b"no \xff utf-8.db"),
}


@pytest.mark.parametrize("name", ODD_NAMES.values(), ids=ODD_NAMES)
def test_a_copy_may_have_any_name_that_a_file_can(filled: Shop, world: World, name: str) -> None:
    filled.sync("backup", "--", name)
    filled.sync("backup", "--json", "--", name)

    assert_exact(filled.folder / name, world)
    assert not list(filled.folder.glob(".*.partial*"))


def test_a_name_that_no_file_can_have_and_a_folder_that_is_gone_are_refused(filled: Shop) -> None:
    too_long = call(filled, "backup", "n" * 256, expect=2)
    gone = call(
        filled, "--config", str(filled.configuration), "backup", "copy.db", expect=2, through='mkdir g; cd g; rmdir ../g; "$@"'
    )

    assert os.strerror(errno.ENAMETOOLONG) in too_long.err
    assert os.strerror(errno.ENOENT) in gone.err


def test_a_pipe_of_that_name_is_left_alone_and_not_waited_for(filled: Shop) -> None:
    os.mkfifo(filled.folder / "pipe")

    ended = filled.sync("backup", "pipe", expect=2)

    assert "is no copy" in ended.err


def test_two_backups_at_once_leave_one_whole_copy(filled: Shop, world: World) -> None:
    with filled.running("backup", "copy.db") as one, filled.running("backup", "copy.db") as other:
        filled.end(one)
        filled.end(other)

    assert_exact(filled.folder / "copy.db", world)
    assert not list(filled.folder.glob(".copy.db.*"))


def test_a_backup_that_proves_its_copy_is_told_to_stop_and_stops(filled: Shop) -> None:
    fatten(filled, 1)
    with closing(sqlite3.connect(filled.mirror)) as mirror, mirror:  # small rows, of which the proof looks at each
        mirror.execute(
            "insert into notes_of_an_analyst with recursive n(i) as (values (1) union all select i + 1 from n where i < 1500000) "
            "select i from n"
        )
    with filled.running("backup", "copy.db") as copying:
        while copying.poll() is None and not list(filled.folder.glob(".copy.db.*")):
            pass
        [partial] = filled.folder.glob(".copy.db.*.partial")
        while copying.poll() is None and partial.stat().st_size < filled.mirror.stat().st_size:
            pass
        copying.send_signal(signal.SIGTERM)
        copying.wait(PATIENCE)
        filled.end(copying, expect=128 + signal.SIGTERM)
    assert [path.name for path in filled.folder.iterdir() if "copy" in path.name] == []
