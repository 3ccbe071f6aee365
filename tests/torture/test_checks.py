"""The checks notice what they are there for: a mirror that is exact is spoilt by hand, one way at a time."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from delta_mirror.simulator import CLIENT_SECRET, SECOND, START, Call, Dials
from delta_mirror.simulator.accela import AccelaCall
from torture import checks, people, veil
from torture.pauses import Pauses
from torture.plan import COMMANDS, Schedule, Step, Trouble
from torture.run import Run
from torture.scene import Scene
from torture.shim import compile_into

Check = Callable[[Path, Scene], object]


QUIET = Schedule(
    1,
    (9,),
    (12, 0, 0, 4),
    ("Client", "Sale"),
    Dials(),
    "remove",
    parallel=1,
    size=20,
    replaces=False,
    steps=(Step("erase", 0, 0, options=("Client",)),),
    masked_from=0,
)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A scene in which everything was done once, and everything is as it should be. Tests leave it so."""
    folder = tmp_path_factory.mktemp("scene")
    with Scene(QUIET, folder, compile_into(folder)) as scene:
        scene.world.edit(scene.linked[0], FirstName="Before")
        for name in ("deltas", "nexus receive", "accela link", "accela push"):
            process = scene.start(*COMMANDS[name])
            process.code = process.popen.wait(60)
            assert process.code in (0, 3), process
        erase(scene)
        scene.world.edit(scene.linked[0], FirstName="Once")
        scene.world.edit(scene.linked[1], FirstName="Once")
        for name in ("deltas", "accela push"):
            process = scene.start(*COMMANDS[name])
            process.code = process.popen.wait(60)
            assert process.code == 0, process
        yield scene


def erase(scene: Scene) -> None:
    """Erase the client who is there to be erased, who goes on changing."""
    person = scene.people.of("Client")
    process = scene.start("erase", *person.arguments)
    process.code = process.popen.wait(60)
    assert process.code == 0, process
    person.is_asked_for = person.is_erased = True
    scene.world.edit(person.id, FirstName=scene.people.word(person))


@pytest.fixture
def mirror(scene: Scene) -> Iterator[Path]:
    """A copy of the mirror of that scene."""
    with scene.copy() as path:
        assert path is not None
        yield path


def check_whole_log(path: Path, scene: Scene) -> None:
    checks.check_log(path, from_the_beginning=True)


def check_nobody_is_back(path: Path, scene: Scene) -> None:
    people.check_nobody_is_back(path, scene.people.all)


def check_nothing_is_left(path: Path, scene: Scene) -> None:
    people.check_nothing_is_left(path.parent, scene.people.all)


def check_nothing_is_clear(path: Path, scene: Scene) -> None:
    veil.check_nothing_is_clear(path.parent)


ALL: tuple[Check, ...] = (
    checks.check_is_sound,
    checks.check_is_exact,
    checks.check_messages,
    checks.check_nothing_completed_is_missing,
    check_whole_log,
    check_nobody_is_back,
    check_nothing_is_left,
    check_nothing_is_clear,
)


def test_mirror_that_is_as_it_should_be_passes(scene: Scene, mirror: Path) -> None:
    for check in ALL:
        check(mirror, scene)
    checks.check_contacts(scene)
    checks.check_no_secret(scene)
    people.check_nothing_is_left(scene.folder, scene.people.all)
    veil.check_nothing_is_clear(scene.folder)


_WORD = "zebra1n0000z"  # of the client who was erased
_AGAIN = (
    "insert into _changes (seq, at, run_id, tenant_id, location_id, entity, id, op, fields) select seq + 1000, at, run_id, "
    "tenant_id, location_id, entity, id, op, fields from _changes where op = '{}' and entity = 'Client' limit 1"
)


@pytest.mark.parametrize(
    ("sql", "check", "said"),
    [
        ("delete from Sale", checks.check_is_sound, "without a root"),
        ("delete from Client where _id in (select _id from ClientPhone)", checks.check_is_sound, "without a root"),
        ("update Client set _ticks = _ticks - 1", checks.check_is_sound, "is ahead of"),
        ("update _runs set inserted = inserted + 1", checks.check_is_sound, "counted"),
        ("update Client set City = 'Elsewhere'", checks.check_is_exact, "City"),
        ("update _streams set state = 'gap' where entity = 'Sale'", checks.check_is_exact, "not as they should be"),
        ("delete from SaleLine", checks.check_is_exact, "SaleLine lacks"),
        ("update NexusClient set LastName = 'Else'", checks.check_messages, "NexusClient"),
        ("delete from NexusAddress", checks.check_messages, "NexusAddress"),
        ("delete from _messages", checks.check_nothing_completed_is_missing, "not stored"),
        (_AGAIN.format("insert"), check_whole_log, "insert of"),
        (_AGAIN.format("replace"), check_whole_log, "is logged as"),
        ("delete from _changes where op = 'insert'", check_whole_log, "replace of"),
        ("update Client set FirstName = 'Else' where FirstName = 'Once'", check_whole_log, "not what the log ends with"),
        ("delete from Client where FirstName = 'Once'", check_whole_log, "is gone"),
        ("update Client set LastName = 'Veiled1'", checks.check_is_exact, "LastName"),
        ("update Sale set Total = 1", checks.check_is_exact, "Total"),
        ("update ClientPhone set PhoneNumber = '5550101'", checks.check_is_exact, "ClientPhone"),
        ("update NexusContact set Contact = '555-0000001'", checks.check_messages, "NexusContact"),
        ("update Client set City = 'Veiled1'", check_nothing_is_clear, "is masked"),
        ("update _changes set fields = '+1 (201) 555-01'", check_nothing_is_clear, "is masked"),
        ("delete from _erased", check_nobody_is_back, "is gone"),
        (f"update _changes set id = '{_WORD}'", check_nobody_is_back, "_changes holds"),
        (f"update Client set City = '{_WORD}'", check_nothing_is_left, "mirror.db has"),
    ],
)
def test_mirror_that_was_spoilt_is_noticed(scene: Scene, mirror: Path, sql: str, check: Check, said: str) -> None:
    with closing(sqlite3.connect(mirror)) as connection, connection:
        assert connection.execute(sql).rowcount > 0
    with pytest.raises(AssertionError, match=said):
        check(mirror, scene)


def test_damaged_file_is_noticed(scene: Scene, mirror: Path) -> None:
    with closing(sqlite3.connect(mirror)) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
        pages = connection.execute("pragma page_count").fetchone()[0]
    body = bytearray(mirror.read_bytes())
    place = len(body) // pages * (pages - 3)
    body[place : place + 4096] = b"\xa5" * 4096
    mirror.write_bytes(body)
    with pytest.raises((AssertionError, sqlite3.DatabaseError)):
        checks.check_is_sound(mirror, scene)


def test_contact_that_is_not_as_it_should_be_is_noticed(scene: Scene) -> None:
    contact = scene.accela.contacts["c-0"]
    for name, value in (("firstName", "Else"), ("unknownToUs", {})):
        before = contact[name]
        contact[name] = value
        with pytest.raises(AssertionError):
            checks.check_contacts(scene)
        contact[name] = before
    checks.check_contacts(scene)
    scene.wasted.append("c-0")
    with pytest.raises(AssertionError, match="without a change"):
        checks.check_contacts(scene)
    scene.wasted.clear()


@pytest.mark.parametrize("text", [CLIENT_SECRET, "client.1@example.com"])
def test_secret_or_value_in_a_message_is_noticed(scene: Scene, text: str) -> None:
    path = scene.calls[0].folder / "err"
    before = path.read_text(encoding="utf-8")
    path.write_text(f"{before}error: {text}\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="stands in"):
        checks.check_no_secret(scene)
    path.write_text(before, encoding="utf-8")


def test_call_that_ends_with_a_defect_is_noticed(scene: Scene) -> None:
    run = Run(scene.schedule, scene)
    process = scene.calls[0]
    run.judge(process)
    process.code = 1
    with pytest.raises(AssertionError, match="a defect"):
        run.judge(process)
    process.code = 0


def test_call_that_was_not_counted_is_noticed(scene: Scene, mirror: Path) -> None:
    [(counted,)] = checks.rows_of(mirror, "select sum(calls) from _calls")
    scene.to_be_counted = counted
    checks.check_calls_are_counted(mirror, scene)
    scene.to_be_counted = counted + 1
    with pytest.raises(AssertionError, match="are counted"):
        checks.check_calls_are_counted(mirror, scene)


def test_call_within_a_pause_is_noticed() -> None:
    asked = Trouble("429 with Retry-After", "dds", value=100.0)
    refused = Call("GET", "/", {}, {}, at=START, endpoint="changes", location=9, status=429)
    early = replace(refused, at=START + 99 * SECOND, status=200)
    pauses = Pauses()
    pauses.learn(Step("deltas", 0, 0, (asked,)), [refused], 3)
    for harmless in (replace(early, at=START + 100 * SECOND), replace(early, location=10)):
        pauses.check(Step("deltas", 0, 0), [harmless])
    pauses.check(Step("deltas", 0, 0, (Trouble("clock wrong", value=3000.0),)), [early])
    with pytest.raises(AssertionError, match="within a pause"):
        pauses.check(Step("deltas", 0, 0), [early])
    pauses.forget()
    pauses.check(Step("deltas", 0, 0), [early])


def test_call_of_accela_within_a_pause_is_noticed() -> None:
    asked = Step("accela push", 0, 0, (Trouble("429 with Retry-After", "accela", value=100.0),))
    refused = AccelaCall("GET", "/", {}, {}, "", status=429)
    pauses = Pauses()
    pauses.learn_of_agency(asked, START, [replace(refused, status=200), refused], 3)
    pauses.check_agency(asked, START + 99 * SECOND, [])
    pauses.check_agency(asked, START + 100 * SECOND, [refused])
    with pytest.raises(AssertionError, match="within a pause"):
        pauses.check_agency(asked, START + 99 * SECOND, [refused])
    with pytest.raises(AssertionError, match="called again after"):
        pauses.learn_of_agency(asked, START, [refused, replace(refused, status=200)], 3)
    pauses.forget()
    pauses.check_agency(asked, START, [refused])
