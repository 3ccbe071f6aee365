"""A mirror of an older form becomes one of today's: nothing is lost, whoever kills it, and however many try at once."""

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

import forms
from delta_mirror import __version__
from delta_mirror.core.model import Stream
from delta_mirror.errors import MirrorFileError
from delta_mirror.mirror.file import SCHEMA_VERSION
from delta_mirror.mirror.migrations import MIGRATIONS, Migration, migrate
from delta_mirror.mirror.read import Reader
from delta_mirror.mirror.schema import OWN_TABLES
from delta_mirror.mirror.write import Mirror

NOON = 1_780_000_000.0
AT_NOON = "2026-05-28T20:26:40Z"
OLDER = [form for form in forms.FORMS if form < SCHEMA_VERSION]

Rows = list[dict[str, object]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mirror.db"


def contents(path: Path) -> dict[str, Rows]:
    """Return the rows of all tables and views."""
    with closing(sqlite3.connect(path)) as mirror:
        mirror.row_factory = sqlite3.Row
        names = [row[0] for row in mirror.execute("select name from sqlite_master where type in ('table', 'view')")]
        return {
            name: sorted(
                (dict(row) for row in mirror.execute(f'select * from "{name}"')), key=lambda row: repr(sorted(row.items()))
            )
            for name in names
        }


def columns(path: Path, table: str) -> list[str]:
    with closing(sqlite3.connect(path)) as mirror:
        return [row[1] for row in mirror.execute(f'pragma table_info("{table}")')]


def record_of(path: Path) -> list[tuple[int, str, str, str]]:
    with closing(sqlite3.connect(path)) as mirror:
        return mirror.execute("select version, at, program, what from _migrations order by rowid").fetchall()


def form_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as mirror:
        assert mirror.execute("pragma integrity_check").fetchall() == [("ok",)]
        return int(mirror.execute("pragma user_version").fetchone()[0])


def test_there_is_a_fixture_of_every_form_that_was_released() -> None:
    assert list(range(1, SCHEMA_VERSION)) == OLDER


def test_there_is_one_step_for_every_form_but_the_first() -> None:
    assert [migration.version for migration in MIGRATIONS] == list(range(2, SCHEMA_VERSION + 1))


@pytest.mark.parametrize("form", forms.FORMS)
def test_mirror_of_every_form_becomes_one_of_today_and_loses_nothing(path: Path, form: int) -> None:
    forms.restore(form, path)
    before = contents(path)

    Mirror.open(path, account=forms.ACCOUNT, now=lambda: NOON).close()

    after = contents(path)
    for name, rows in before.items():
        kept = [{column: row[column] for column in rows[0]} for row in after[name]]
        assert [row for row in rows if row not in kept] == [], name
        assert len(kept) == len(rows) or name == "_migrations"
    assert form_of(path) == SCHEMA_VERSION
    assert {name: set(columns(path, name)) for name in OWN_TABLES} == {name: set(own.columns) for name, own in OWN_TABLES.items()}
    steps = [(version, at, program) for version, at, program, _ in record_of(path) if version > form or form == SCHEMA_VERSION]
    assert len(steps) >= SCHEMA_VERSION - form
    assert all((at, program) == (AT_NOON, __version__) for _, at, program in steps if form < SCHEMA_VERSION)


@pytest.mark.parametrize("form", forms.FORMS)
def test_mirror_is_migrated_once(path: Path, form: int) -> None:
    forms.restore(form, path)
    Mirror.open(path, account=forms.ACCOUNT, now=lambda: NOON).close()
    migrated = contents(path)

    Mirror.open(path, account=forms.ACCOUNT, now=lambda: NOON + 60).close()

    assert contents(path) == migrated


def test_new_mirror_is_made_in_todays_form_and_says_by_which_program(path: Path) -> None:
    Mirror.open(path, now=lambda: NOON).close()

    assert record_of(path) == [(SCHEMA_VERSION, AT_NOON, __version__, "made")]


def test_table_and_column_that_a_mirror_lacks_are_added_and_recorded(path: Path) -> None:
    Mirror.open(path, now=lambda: NOON).close()
    with closing(sqlite3.connect(path)) as mirror:
        mirror.execute("drop table _erased_dates")
        mirror.execute("insert into _streams (tenant_id, location_id, entity) values (11, 9, 'Client')")
        mirror.execute("alter table _streams drop column late")
        mirror.commit()

    Mirror.open(path, now=lambda: NOON + 60).close()

    assert columns(path, "_erased_dates") == list(OWN_TABLES["_erased_dates"].columns)
    with Reader.open(path) as reader:
        assert [(state.stream, state.late) for state in reader.read_streams()] == [(Stream(11, 9, "Client"), 0)]
    assert record_of(path)[1:] == [(SCHEMA_VERSION, "2026-05-28T20:27:40Z", __version__, "added _streams.late, _erased_dates")]


@pytest.mark.parametrize("form", OLDER)
def test_mirror_of_another_account_is_refused_and_keeps_its_old_form(path: Path, form: int) -> None:
    forms.restore(form, path)
    before = contents(path)

    with pytest.raises(MirrorFileError, match="was filled from"):
        Mirror.open(path, account="elsewhere.example.com as somebody")
    with pytest.raises(MirrorFileError, match="was filled with deletes"):
        Mirror.open(path, account=forms.ACCOUNT, deletes="mark")

    assert form_of(path) == form
    assert contents(path) == before


@pytest.mark.parametrize("form", OLDER)
def test_older_form_can_be_read_and_stays_as_it_is(path: Path, form: int) -> None:
    forms.restore(form, path)
    before = contents(path)

    with Reader.open(path) as reader:
        lent = {name: reader.ask(f'select * from "{name}"')[0] for name in OWN_TABLES}

    assert {name: set(names) for name, names in lent.items()} == {name: set(own.columns) for name, own in OWN_TABLES.items()}
    assert contents(path) == before


def test_column_that_an_older_form_lacks_reads_as_its_default(path: Path) -> None:
    Mirror.open(path).close()
    with closing(sqlite3.connect(path)) as mirror:
        mirror.execute("insert into _streams (tenant_id, location_id, entity) values (11, 9, 'Client')")
        for column in ("late", "state", "debt"):
            mirror.execute(f"alter table _streams drop column {column}")
        mirror.execute("drop table _quarantine")
        mirror.commit()

    with Reader.open(path) as reader:
        [state] = reader.read_streams()
        assert (state.late, state.state, state.debt, reader.quarantine()) == (0, "new", None, [])


# Killed, and two at once. Processes of their own: what a transaction is worth shows when its process is gone.

KILLED = """
import sqlite3, sys, time
from delta_mirror.mirror.migrations import Migration, migrate

def half(connection):
    connection.execute("update _streams set state = 'half way'")
    connection.execute("create table _half (way)")
    print("half way", flush=True)
    time.sleep(60)

connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("pragma journal_mode = wal")
migrate(connection, 0.0, [Migration(2, "the first step", lambda connection: None), Migration(3, "the second", half)])
"""


def test_process_killed_in_the_middle_of_a_step_leaves_the_form_before_whole(path: Path) -> None:
    forms.restore(1, path)
    streams = contents(path)["_streams"]
    with subprocess.Popen([sys.executable, "-c", KILLED, path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "half way\n"
        process.send_signal(signal.SIGKILL)

    assert form_of(path) == 2
    assert contents(path)["_streams"] == streams
    assert "_half" not in contents(path)
    assert [row[0] for row in record_of(path)] == [2]

    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, NOON, [*MIGRATIONS, Migration(3, "anew", lambda connection: None)])
    assert form_of(path) == 3


def test_step_that_fails_leaves_the_form_before_whole(path: Path) -> None:
    forms.restore(1, path)
    before = contents(path)

    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("delete from _changes")
        raise ZeroDivisionError

    with closing(sqlite3.connect(path, isolation_level=None)) as connection, pytest.raises(ZeroDivisionError):
        migrate(connection, NOON, [Migration(2, "fails", fail)])

    assert (form_of(path), contents(path)) == (1, before)


OPENED = """
import sys
from pathlib import Path
from delta_mirror.mirror.write import Mirror

print("ready", flush=True)
sys.stdin.readline()
Mirror.open(Path(sys.argv[1])).close()
"""


def test_of_two_processes_at_once_one_migrates_and_neither_fails(path: Path) -> None:
    forms.restore(1, path)
    pipe = subprocess.PIPE
    processes = [subprocess.Popen([sys.executable, "-c", OPENED, path], stdin=pipe, stdout=pipe, text=True) for _ in range(2)]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate(timeout=60)[0] for process in processes] == ["", ""]
    assert [process.returncode for process in processes] == [0, 0]

    assert form_of(path) == SCHEMA_VERSION
    assert len({row[3] for row in record_of(path)}) == len(record_of(path))
