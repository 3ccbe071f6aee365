"""What nobody else is to see or to touch: secrets wherever they might get to, and files in every umask."""

import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from furnished import PING, SECRETS, furnished
from installed import Ended, Held, Shop, call

from delta_mirror.cli.main import COMMANDS
from delta_mirror.simulator import Clock, World
from delta_mirror.simulator.accela import AccelaService
from delta_mirror.simulator.faults import Fault, error_in_200, html, redirect, slow, status
from health import Check, listening

# Calls of every command, as they go well and as they go wrong.
CALLS = {
    "full-starter": [["full-starter", "export"], ["full-starter", "sftp://somebody@127.0.0.1:1/exports"]],
    "deltas": [["deltas"], ["deltas", "--dry-run"]],
    "verify": [["verify", "export", "--repair"]],
    "nexus": [["nexus", "ingest", "messages.jsonl"], ["nexus", "receive", "--wait", "0s"]],
    "accela": [["accela", "link", "links.csv"], ["accela", "push", "--dry-run"], ["accela", "push"]],
    "status": [["status", "-v"]],
    "changes": [["changes", "--limit", "1"]],
    "quarantine": [["quarantine", "retry"]],
    "refetch": [["refetch", "Client", "not-there"]],
    "doctor": [["doctor"]],
    "backup": [["backup", "copy.db"]],
    "prune": [["prune", "--older-than", "1d"]],
    "erase": [["erase", "Client", "not-there", "--yes"]],
    "demo": [],  # it has an account and a folder of its own
}
FAULTS: list[Callable[[], Fault]] = [
    lambda: status(401, endpoint="changes", times=None),
    lambda: status(401, endpoint="token", times=None),
    lambda: html(times=None),
    lambda: error_in_200(endpoint="changes", times=None),
    lambda: redirect("https://elsewhere.example/login", endpoint="changes", times=None),
]


@pytest.fixture
def world() -> World:
    world = World(seed=7, clock=Clock.running())
    world.populate(clients=3, sales=2)
    return world


@pytest.fixture
def check() -> Iterator[Check]:
    with listening() as check:
        yield check


@pytest.fixture
def accela(shop: Shop, check: Check) -> Iterator[AccelaService]:
    """The simulated Accela of a shop that has everything, its secrets in files of their own."""
    with furnished(shop, check) as accela:
        yield accela


@pytest.fixture
def guarded(shop: Shop, accela: AccelaService) -> Shop:
    return shop


def secrets_of(shop: Shop, accela: AccelaService | None = None) -> set[str]:
    asked = [call.headers for call in shop.service.calls] + [call.headers for call in (accela.calls if accela else [])]
    tokens = {headers["authorization"].split(" ")[-1] for headers in asked if "authorization" in headers}
    return {*SECRETS.values(), PING, *tokens}


def files_of(shop: Shop) -> dict[str, bytes]:
    """Return all that lies in the folder, but for what the secrets are kept in."""
    return {
        str(path.relative_to(shop.folder)): path.read_bytes()
        for path in shop.folder.rglob("*")
        if path.is_file() and path.name not in (*SECRETS, "ping.txt")
    }


def assert_nowhere(shop: Shop, texts: dict[str, bytes], accela: AccelaService | None = None) -> None:
    secrets = secrets_of(shop, accela)
    assert len(secrets) > len(SECRETS) + 1, "no token was seen"
    leaks = [(where, secret) for where, text in texts.items() for secret in secrets if secret.encode() in text]
    assert leaks == []


def test_secrets_and_tokens_are_in_no_output_and_no_file_whatever_is_called_and_whatever_goes_wrong(
    guarded: Shop, accela: AccelaService
) -> None:
    assert set(CALLS) == set(COMMANDS), "a command that is not driven here is not looked at"
    said: dict[str, bytes] = {}

    def note(ended: Ended) -> None:
        said[str(len(said))] = (ended.out + ended.err).encode()

    for calls in CALLS.values():
        for arguments in calls:
            note(guarded.sync("--verbose", *arguments, expect=None))
    for fault in FAULTS:
        guarded.service.faults[:] = [fault()]
        note(guarded.sync("--verbose", "--log-format", "json", "deltas", "--json", expect=None))
    guarded.service.faults.clear()
    accela.password = "changed"
    accela.forget_tokens(refresh=True)
    note(guarded.sync("--verbose", "accela", "push", expect=None))
    note(guarded.sync("doctor", "--json", expect=None))
    assert_nowhere(guarded, said | files_of(guarded), accela)
    assert any("password" in call.body for call in accela.calls), "Accela was never asked for a token"


def test_secrets_and_tokens_are_in_no_traceback(guarded: Shop) -> None:
    guarded.fill()
    with closing(sqlite3.connect(guarded.mirror)) as mirror:  # what no run can be noted in: a defect, as far as it can be had
        [last] = mirror.execute("select max(id) from _runs").fetchone()
        mirror.execute(f"create index poison on _runs (abs(iif(id > {last}, -9223372036854775808, 0)))")

    ended = guarded.sync("--verbose", "deltas", expect=1)

    assert "Traceback" in ended.err
    assert_nowhere(guarded, {"traceback": ended.err.encode()})


def test_secrets_and_tokens_are_in_no_line_of_the_process_list(guarded: Shop) -> None:
    held = Held()
    guarded.service.faults.append(slow(held, endpoint="changes"))
    with guarded.held_run(held, "deltas") as process:
        shown = {name: Path(f"/proc/{process.pid}/{name}").read_bytes() for name in ("cmdline", "environ", "comm")}
        tasks = Path(f"/proc/{process.pid}/task").iterdir()
        shown |= {f"thread {task.name}": (task / "comm").read_bytes() for task in tasks}
        shown |= files_of(guarded)
        held.set()
        guarded.end(process)
    assert_nowhere(guarded, shown)


@pytest.mark.parametrize("umask", ["000", "777"])
@pytest.mark.parametrize("mode", ["0600", "0660"])
def test_files_have_their_mode_in_every_umask(shop: Shop, umask: str, mode: str) -> None:
    shop.configure(mirror={"mode": mode}, ops={"metrics_file": "delta.prom"})

    call(shop, "deltas", expect=0, through=f'umask {umask}; exec "$@"')
    call(shop, "backup", "copy.db", expect=0, through=f'umask {umask}; exec "$@"')

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in shop.folder.iterdir() if path.name != "config.toml"}
    own = dict.fromkeys(("mirror.db", "mirror.db.lock", "copy.db"), int(mode, 8))
    assert {name: mode for name, mode in modes.items() if not name.endswith(("-wal", "-shm"))} == own | {"delta.prom": 0o644}


def test_wal_of_a_run_has_the_mode_of_the_mirror_in_every_umask(shop: Shop) -> None:
    held = Held()
    shop.service.faults.append(slow(held, endpoint="changes"))
    with shop.held_run(held, "deltas") as process:
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in shop.folder.glob("mirror.db*")}
        held.set()
        shop.end(process)
    assert modes == dict.fromkeys(("mirror.db", "mirror.db-wal", "mirror.db-shm", "mirror.db.lock"), 0o600)


def test_mirror_is_read_from_a_folder_that_everybody_may_write_and_the_doctor_says_so(shop: Shop) -> None:
    shop.folder.chmod(0o777)

    findings = shop.sync("doctor", "--json", expect=5).json()["findings"]

    told = [(finding["what"], finding["remedy"]) for finding in findings if finding["check"] == "folder"]
    what = f"everybody on this machine may put files into {shop.folder}, and so replace the mirror"
    assert told == [(what, f"chmod o-w {shop.folder}")]
    shop.folder.chmod(0o1777)
    assert "folder" not in {each["check"] for each in shop.sync("doctor", "--json").json()["findings"] if each["state"] != "ok"}
