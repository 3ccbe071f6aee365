"""What a new user meets when something around the program is not as it should be: one clear message, the right exit code, and
nothing is lost.
"""

import os
import shutil
import signal
import socket
import sqlite3
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from installed import Ended, Shop, assert_sound, call, wait_until_it_listens

from delta_mirror.mirror.lock import hold
from delta_mirror.simulator import CLIENT_ID, CLIENT_SECRET, DAY, MINUTE, Clock, Service, World
from delta_mirror.simulator.faults import status
from oracle import assert_exact
from tls import pem


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A shop whose mirror is up to date with a quiet world. Tests leave it as they found it."""
    world = World(seed=3)
    world.populate(clients=40, employees=3, appointments=9, sales=20, over=DAY)
    with Service(world) as service:
        shop = Shop(tmp_path_factory.mktemp("filled"), service)
        shop.fill()
        yield shop


@pytest.fixture
def copy(filled: Shop, tmp_path: Path) -> Shop:
    """A folder of its own with a copy of that mirror."""
    shop = Shop(tmp_path, filled.service)
    shutil.copy(filled.mirror, shop.mirror)
    return shop


def assert_said(ended: Ended, *parts: str, times: int = 1) -> None:
    """Pass if there are that many errors, and all *parts* are in the first one, or in what click says."""
    errors = [line for line in ended.err.splitlines() if line.lower().startswith("error: ")]
    assert len(errors) == times, ended.err
    for part in parts:
        assert part in errors[0], ended.err


# --- The configuration ---------------------------------------------------------------------------------------------------------


def put(text: str | bytes) -> Callable[[Path], object]:
    """Return what writes *text* in place of the configuration."""
    return lambda path: path.write_bytes(text if isinstance(text, bytes) else text.encode())


def change(old: str, new: str) -> Callable[[Path], object]:
    """Return what replaces *old* in the configuration."""

    def carry_out(path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")

    return carry_out


def instead_a_folder(path: Path) -> None:
    """Put a folder in place of the file."""
    path.unlink()
    path.mkdir()


def instead_a_dangling_link(path: Path) -> None:
    """Put a link to nothing in place of the file."""
    path.unlink()
    path.symlink_to("nowhere")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        pytest.param(Path.unlink, ("no configuration", "config.toml", "config.example.toml", "--config"), id="missing"),
        pytest.param(lambda path: path.chmod(0), ("may not be read by this user",), id="unreadable"),
        pytest.param(instead_a_folder, ("is a folder", "--config"), id="a folder"),
        pytest.param(instead_a_dangling_link, ("does not exist", "--config"), id="a dangling link"),
        pytest.param(put("marketplace_url: https://example.com\n"), ("not TOML", "line 1"), id="not TOML"),
        pytest.param(put("\ufeff[dds]\n".encode("utf-16")), ("line 1 is not UTF-8",), id="not UTF-8"),
        pytest.param(put(""), ("[dds] is missing", "config.example.toml"), id="empty"),
        pytest.param(change("timeout =", "timeuot ="), ("http.timeuot", "did you mean timeout?"), id="a mistyped key"),
        pytest.param(change("timeout =", "colour ="), ("http.colour", "known are timeout"), id="an unknown key"),
        pytest.param(change("timeout =", "path ="), ("http.path", "belongs under [mirror]"), id="a key in the wrong section"),
        pytest.param(change("[http]", "[htpp]"), ("htpp is no section", "did you mean http?"), id="a mistyped section"),
        pytest.param(change("attempts = 1", 'attempts = "one"'), ("http.attempts", "whole number", "text"), id="a wrong type"),
        pytest.param(change('"20s"', "20"), ("http.timeout", "duration in quotes"), id="a duration without a unit"),
        pytest.param(change('"20s"', '"20 sec"'), ("http.timeout", "90s, 10m"), id="a duration that is none"),
        pytest.param(change("[dds]", '[dds]\nentities = ["Clients"]'), ("'Clients'", "mean Client?"), id="a mistyped entity"),
        pytest.param(change("http://127.0.0.1", "http://example.com"), ("dds.marketplace_url", "https://"), id="plain http"),
        pytest.param(change(CLIENT_SECRET, "env:NOWHERE"), ("dds.client_secret", "NOWHERE", "not set"), id="a variable not set"),
        pytest.param(change(CLIENT_SECRET, "file:gone"), ("dds.client_secret", "gone", "does not exist"), id="a file not there"),
    ],
)
def test_configuration_that_cannot_be_used_is_refused(
    filled: Shop, tmp_path: Path, spoil: Callable[[Path], object], said: tuple[str, ...]
) -> None:
    shop = Shop(tmp_path, filled.service)
    before = len(shop.service.calls)
    spoil(shop.configuration)
    assert_said(call(shop, "deltas", expect=2), *said)
    assert not shop.mirror.exists()
    assert len(shop.service.calls) == before


# --- The mirror ----------------------------------------------------------------------------------------------------------------


def foreign(path: Path) -> None:
    """Make a SQLite file of somebody else's."""
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table theirs (a)")
        connection.commit()


def statement(sql: str) -> Callable[[Path], object]:
    """Return what changes a mirror behind the program's back."""

    def carry_out(path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(sql)
            connection.commit()

    return carry_out


def damage(path: Path) -> None:
    """Overwrite the middle of the file, and leave its first page and its last ones."""
    body = bytearray(path.read_bytes())
    body[4096 : len(body) - 8192] = b"\xa5" * (len(body) - 4096 - 8192)
    path.write_bytes(body)


@pytest.mark.parametrize(
    ("spoil", "said", "readable"),
    [
        pytest.param(instead_a_folder, ("is a folder",), False, id="a folder"),
        pytest.param(lambda path: path.chmod(0o400), ("cannot be written", "owner or mode"), True, id="a read-only file"),
        pytest.param(lambda path: path.parent.chmod(0o500), ("Permission denied", "owner or mode"), True, id="read-only folder"),
        pytest.param(put("no mirror, but a letter\n" * 400), ("is not a SQLite file",), False, id="text"),
        pytest.param(put("a letter"), ("is not a SQLite file",), False, id="a short text"),
        pytest.param(foreign, ("is a SQLite file, but not a mirror",), False, id="a SQLite file of others"),
        pytest.param(statement("pragma user_version = 99"), ("newer delta-mirror", "schema 99"), False, id="a newer schema"),
        pytest.param(statement("pragma user_version = -1"), ("schema -1", "backup"), False, id="a schema that never was"),
        pytest.param(statement("drop table _tombstones"), ("has lost", "_tombstones", "backup"), True, id="without tombstones"),
        pytest.param(statement("drop table _tables"), ("has lost", "_tables", "backup"), True, id="without a list of its tables"),
        pytest.param(
            statement("update _meta set value = 'example.com as somebody' where key = 'account'"),
            ("filled from example.com as somebody", f"as {CLIENT_ID}", "another name"),
            True,
            id="another account",
        ),
        pytest.param(damage, ("is damaged", "backup"), False, id="damaged in the middle"),
        pytest.param(lambda path: os.truncate(path, 40_000), ("is damaged", "backup"), False, id="cut off"),
    ],
)
def test_mirror_that_cannot_be_used_is_refused_and_left_as_it_is(
    copy: Shop, spoil: Callable[[Path], object], said: tuple[str, ...], *, readable: bool
) -> None:
    shop = copy
    spoil(shop.mirror)
    found = shop.mirror.read_bytes() if shop.mirror.is_file() else None
    before = len(shop.service.calls)
    try:
        assert_said(call(shop, "deltas", expect=2), str(shop.mirror), *said)
        call(shop, "status", expect=0 if readable else 2)
    finally:
        shop.folder.chmod(0o700)
    assert len(shop.service.calls) == before
    assert found is None or shop.mirror.read_bytes() == found


def test_mirror_in_a_folder_that_does_not_exist_is_refused(copy: Shop) -> None:
    copy.configure(mirror={"path": "no/such/mirror.db"})
    assert_said(call(copy, "deltas", expect=2), f"there is no folder {copy.folder}/no/such")


@pytest.mark.parametrize("kilobytes", [0, 40, 300])
def test_full_disk_leaves_a_sound_mirror_and_the_next_run_with_room_is_exact(shop: Shop, kilobytes: int) -> None:
    shop.service.world.populate(clients=60, sales=40, over=DAY)
    # No compiled modules are written: they would be cut by the limit, too, and stay so.
    limit = f'export PYTHONDONTWRITEBYTECODE=1; ulimit -f {kilobytes}; exec "$@"'
    ended = call(shop, "deltas", through=limit, expect=3)
    assert_said(ended, str(shop.mirror), "what was committed is sound", "room")
    if shop.mirror.stat().st_size:
        assert shop.value("pragma integrity_check") == "ok"
    if kilobytes < 100:
        assert_said(call(shop, "status", expect=2), "is empty, no run has filled it yet")
    else:
        # Which streams had begun when the room ran out is a matter of their threads; what is there is sound all the same.
        assert_sound(shop)
        call(shop, "status", expect=0)
    call(shop, "--quiet", "deltas", expect=0)
    assert_exact(shop.mirror, shop.service.world)


# --- The network ---------------------------------------------------------------------------------------------------------------


@contextmanager
def self_signed(folder: Path) -> Iterator[str]:
    """Serve TLS under a certificate that nobody vouches for; yield the address."""
    certificate = folder / "self_signed.pem"
    certificate.write_text(pem(), encoding="ascii")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def shake_hands(listening: socket.socket) -> None:
        with suppress(OSError):  # the other side hangs up, and at the end so do we
            while True:
                with listening.accept()[0] as connection, suppress(ssl.SSLError, ConnectionError):
                    context.wrap_socket(connection, server_side=True).close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=shake_hands, args=(listening,))
        thread.start()
        yield f"https://localhost:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_certificate_that_nobody_vouches_for_ends_the_run(copy: Shop) -> None:
    with self_signed(copy.folder) as url:
        copy.configure(marketplace_url=url, mirror={"path": "other.db"})
        assert_said(call(copy, "deltas", expect=3), "TLS fails: self", url, "http.ca_file")


def test_service_that_cannot_be_reached_ends_the_run_and_loses_nothing(copy: Shop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    copy.configure(marketplace_url=url, mirror={"path": "refused.db"})
    assert_said(call(copy, "deltas", expect=3), "the connection is refused", url, "dds.marketplace_url")
    url = "https://marketplace.invalid"
    copy.configure(marketplace_url=url, mirror={"path": "unknown.db"}, locations=[(11, 9), (11, 10)])
    assert_said(call(copy, "deltas", expect=3), "cannot be resolved (DNS)", url, "dds.marketplace_url")
    copy.configure()
    call(copy, "--quiet", "deltas", expect=0)
    assert_exact(copy.mirror, copy.service.world)


def test_what_the_service_refuses_is_said_with_what_to_check(copy: Shop) -> None:
    wrong = "not-the-secret-at-all"
    before = len(copy.service.calls)
    copy.configure(client_secret=wrong, locations=[(11, 9), (11, 10)])
    ended = call(copy, "deltas", expect=3)
    assert_said(ended, "does not accept the credentials", "dds.client_secret")
    assert wrong not in ended.out + ended.err
    assert len(copy.service.calls) == before + 1  # more would get the account locked
    copy.configure(locations=[(99, 9), (11, 9)], entities=["Client"])
    assert_said(call(copy, "deltas", expect=3), "does not list tenant 99", "tenant_id")
    copy.configure(locations=[(11, 77), (11, 9)], entities=["Client"])
    assert_said(call(copy, "deltas", expect=3), "does not list location 77", "location_id")
    copy.configure(locations=[(11, 9)], entities=["Client", "EmployeeActual"])
    ended = call(copy, "deltas", expect=3)
    assert_said(ended, "status 403", "EmployeeActual", "Ask the vendor")
    assert "Client              following" in ended.out
    assert copy.value("select count(*) from _pauses") == 0
    ended = call(copy, "deltas", "--location", "5", expect=3)
    assert_said(ended, "no stream is selected", "[dds] locations")


# --- The clock -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("off", "said"),
    [
        (-3 * DAY, "the clock of this machine is 3 d 0 h ahead of the service's"),
        (9 * DAY, "the clock of this machine is 9 d 0 h behind the service's"),
        (-4 * MINUTE, None),
        (4 * MINUTE, None),
    ],
)
def test_wrong_clock_is_told_and_the_run_is_right_all_the_same(tmp_path: Path, off: int, said: str | None) -> None:
    world = World(seed=5, clock=Clock(Clock.running().now + off, runs=True))
    world.populate(clients=12, sales=4, over=6 * DAY)
    with Service(world) as service:
        shop = Shop(tmp_path, service)
        ended = call(shop, "deltas", expect=0)
        told = [line for line in ended.err.splitlines() if line.startswith("warning: the clock")]
        rest = "the run is right all the same, but lag, ages and the times of the logs are not. Set the clock (NTP)"
        assert told == ([f"warning: {said}; {rest}"] if said else [])
        world.edit(world.ids("Client")[0], FirstName="Later")
        assert call(shop, "--quiet", "deltas", expect=0).err == ""
        assert_exact(shop.mirror, world)
        assert not shop.rows("select * from _streams where gap_from is not null")


# --- The command line ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), ("no command was given", "/bin/sync", "--help")),
        (("delta",), ("No such command 'delta'", "Did you mean 'deltas'?")),
        (("statsu",), ("Did you mean 'status'?",)),
        (("frobnicate",), ("No such command 'frobnicate'.",)),
        (("deltas", "--dryrun"), ("--dryrun", "--dry-run")),
        (("--qiet", "deltas"), ("--qiet", "--quiet")),
        (("deltas", "--quiet"), ("--quiet", "before the command: sync --quiet")),
        (("deltas", "--config", "x"), ("before the command: sync --config",)),
        (("deltas", "Client"), ("unexpected extra argument (Client)",)),
        (("deltas", "--entity", "Clients"), ("'Clients'", "'Client'")),
        (("deltas", "--deadline", "10"), ("--deadline", "90s, 10m")),
        (("deltas", "--since", "2026-05-04T12:00:00"), ("--since", "zone")),
    ],
)
def test_command_line_that_makes_no_sense_is_refused(filled: Shop, arguments: tuple[str, ...], said: tuple[str, ...]) -> None:
    assert_said(call(filled, *arguments, expect=2), *said)


# --- Where it runs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_take_nothing_from_the_mirror(copy: Shop, closed: str) -> None:
    copy.service.world.advance(MINUTE)
    for arguments in (("deltas",), ("status", "--json")):
        ended = call(copy, *arguments, through=f'exec "$@" {closed}', expect=0)
        assert bool(ended.out) == (">&-" not in closed.replace("2>&-", ""))
    assert_exact(copy.mirror, copy.service.world)
    assert copy.value("select count(*) from _runs") == 2
    # An error, too, has to go somewhere, and that is not a file that has got its number.
    call(copy, "deltas", "--location", "5", through=f'exec "$@" {closed}', expect=3)
    assert copy.value("pragma integrity_check") == "ok"


def test_closed_pipe_takes_away_neither_messages_nor_exit_code(copy: Shop) -> None:
    through = 'set -o pipefail; "$@" | true'
    for arguments in (("--help",), ("changes",), ("deltas", "--help")):
        assert call(copy, *arguments, through=through, expect=0).err == ""
    copy.service.faults.append(status(500, entity="Client", location=9))
    assert_said(call(copy, "deltas", through=through, expect=3), "the service failed")


def test_output_into_a_full_disk_is_told_and_the_run_is_done(copy: Shop) -> None:
    ended = call(copy, "deltas", "--json", through='exec "$@" > /dev/full', expect=3)
    assert_said(ended, "standard output cannot be written (No space left on device)")
    assert copy.value("select outcome from _runs order by id desc limit 1") == "done"
    assert_said(call(copy, "--help", through='exec "$@" > /dev/full', expect=3), "standard output cannot be written")
    call(copy, "deltas", "--location", "5", through='exec "$@" 2> /dev/full', expect=3)


def test_no_home_no_temporary_folder_and_no_working_folder_are_needed(copy: Shop) -> None:
    call(copy, "--quiet", "deltas", through='unset HOME; exec "$@"', TMPDIR="/nowhere/at/all", expect=0)
    gone = 'mkdir gone && cd gone && rmdir ../gone && exec "$@"'
    call(copy, "--config", str(copy.configuration), "--quiet", "deltas", through=gone, expect=0)
    assert copy.value("select count(*) from _runs where outcome = 'done'") == 3
    assert_said(call(copy, "--config", "config.toml", "deltas", through=gone, expect=2), "was removed", "absolute path")
    assert_said(call(copy, "deltas", through=gone, expect=2), "no configuration", "was removed", "--config")


# --- Being interrupted ---------------------------------------------------------------------------------------------------------


def test_interrupt_while_the_program_is_still_being_loaded_is_silent(filled: Shop, tmp_path: Path) -> None:
    pipe = tmp_path / "reached"
    os.mkfifo(pipe)
    # Stands in the way of the first thing that takes time to load.
    (tmp_path / "click.py").write_text(f"import signal\nopen({str(pipe)!r}, 'w').close()\nsignal.pause()\n", encoding="utf-8")
    with filled.running("status", PYTHONPATH=str(tmp_path)) as process:
        pipe.read_bytes()
        process.send_signal(signal.SIGINT)
        ended = filled.end(process, expect=130)
    assert (ended.out, ended.err) == ("", "")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupt_while_waiting_for_another_run_is_silent(copy: Shop, number: signal.Signals, code: int) -> None:
    with hold(copy.mirror), copy.running("deltas", "--if-running", "wait") as process:
        wait_until_it_listens(process)
        process.send_signal(number)
        ended = copy.end(process, expect=code)
    assert (ended.out, ended.err) == ("", "")


def test_deadline_counts_the_time_spent_waiting_for_another_run(copy: Shop) -> None:
    with hold(copy.mirror):
        ended = call(copy, "deltas", "--if-running", "wait", "--deadline", "0s", expect=4)
    assert_said(ended, "another run", f"(process {os.getpid()})")
