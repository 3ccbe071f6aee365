"""The installed program, called as cron calls it: a folder with a configuration and a mirror, and the simulated service.

Invariants:

- The program is the console script of the environment that runs the tests, in a process of its own, over real sockets. Only
  what leads up to what a test is about may run in the test's own process, by `fill`.
- The mirror is read by bare sqlite3, beside the program and not through it.
- A process finds no configuration, no home and no secrets but those of its own folder.
"""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

from delta_mirror.config import Config, load_config
from delta_mirror.core.values import read_ticks
from delta_mirror.jobs.deltas import RunReport, run_deltas
from delta_mirror.simulator import CLIENT_ID, CLIENT_SECRET, Service, Stream

SYNC = Path(sys.executable).with_name("sync")
PATIENCE = 60.0  # seconds after which a process that does not end fails the test

Setting = str | int | Sequence[str]


class Ended(NamedTuple):
    """A process that has ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Return standard output as the one JSON value that it is."""
        return json.loads(self.out)


class Held(Event):
    """The `release` of a slow answer; `reached` is set as soon as the service holds the answer back."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = Event()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait as an event does."""
        self.reached.set()
        return super().wait(timeout)


class Shop:
    """A folder with a configuration, the mirror that it names, and the service that it is filled from."""

    def __init__(self, folder: Path, service: Service) -> None:
        self.folder = folder
        self.service = service
        self.mirror = folder / "mirror.db"
        self.configuration = folder / "config.toml"
        self.configure()

    def configure(
        self,
        *,
        mirror: Mapping[str, Setting] | None = None,
        http: Mapping[str, Setting] | None = None,
        ops: Mapping[str, Setting] | None = None,
        locations: Sequence[tuple[int, int]] = (),
        more: str = "",
        **dds: Setting,
    ) -> None:
        """Write a configuration: no limits and no second attempts where nothing else is said; *more* is TOML behind it."""
        account: dict[str, Setting] = {
            "marketplace_url": self.service.url,
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "calls_per_minute": 0,
            "calls_per_day": 0,
        }
        sections: dict[str, Mapping[str, Setting]] = {
            "mirror": {"path": self.mirror.name, **(mirror or {})},
            "http": {"timeout": "20s", "attempts": 1, **(http or {})},
            "ops": ops or {},
            "dds": {**account, **dds},
        }
        # A list of texts is written alike in JSON and in TOML.
        lines = [
            line
            for name, keys in sections.items()
            for line in (f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in keys.items()))
        ]
        for tenant, location in locations:
            lines += ["[[dds.locations]]", f"tenant_id = {tenant}", f"location_id = {location}"]
        self.configuration.write_text("\n".join([*lines, more]) + "\n", encoding="utf-8")
        self.configuration.chmod(0o600)

    def config(self) -> Config:
        """Return the configuration as the program reads it."""
        return load_config(self.configuration)

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Return a process that has just been started."""
        return subprocess.Popen(
            [SYNC, *arguments],
            cwd=self.folder,
            env={"PATH": os.defpath, "HOME": str(self.folder / "home"), "LC_ALL": "C.UTF-8", **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def sync(self, *arguments: str, expect: int | None = 0) -> Ended:
        """Return how `sync` with these arguments has ended; *expect* is its exit code, None any."""
        return self.end(self.start(*arguments), expect=expect)

    def end(self, process: subprocess.Popen[str], *, expect: int | None = 0) -> Ended:
        """Return how *process* has ended."""
        with process:
            try:
                out, err = process.communicate(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()  # or leaving this block would wait for it without an end
                raise
        ended = Ended(process.returncode, out, err)
        assert expect in (None, ended.code), f"exit {ended.code} instead of {expect}\n{out}\n{err}"
        assert ended.code == 1 or "Traceback" not in err, err
        return ended

    @contextmanager
    def running(self, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
        """Start a process that is gone at the end of the body, however that ends."""
        process = self.start(*arguments, **environment)
        with process:  # which closes its pipes, also where it has ended by itself and nobody has read them
            try:
                yield process
            finally:
                process.kill()

    @contextmanager
    def held_run(self, held: Held, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Start a run and hand it over once the service holds an answer back."""
        with self.running(*arguments) as process:
            try:
                assert held.reached.wait(PATIENCE)
                yield process
            finally:
                held.set()

    def fill(self, *, expect: str = "done") -> RunReport:
        """Run `deltas` inside this process, which is quicker: for what only leads up to what a test is about."""
        report = run_deltas(self.config())
        assert report.outcome == expect, [report.trouble, *(each.error for each in report.streams)]
        return report

    def public_calls(self) -> int:
        """Return how many calls of the public API, which are those that count, the service has had."""
        return sum(call.endpoint in ("changes", "latest", "enums") for call in self.service.calls)

    def rows(self, sql: str, *values: str | int) -> list[tuple[Any, ...]]:
        """Return what the mirror answers to *sql*."""
        return rows_of(self.mirror, sql, *values)

    def value(self, sql: str, *values: str | int) -> Any:
        """Return the one value that the mirror answers to *sql*."""
        [[value]] = self.rows(sql, *values)
        return value

    def stream(self, entity: str = "Client", location: int = 9) -> dict[str, Any]:
        """Return the row of `_streams` of one stream."""
        with closing(sqlite3.connect(self.mirror)) as mirror:
            mirror.row_factory = sqlite3.Row
            [row] = mirror.execute("select * from _streams where location_id = ? and entity = ?", (location, entity)).fetchall()
        return dict(row)

    def contents(self, *, without: Sequence[str] = ()) -> dict[str, list[tuple[Any, ...]]]:
        """Return everything that the mirror holds, table by table."""
        names = [name for (name,) in self.rows("select name from sqlite_master where type = 'table'") if name not in without]
        contents = {name: sorted(self.rows(f'select * from "{name}"'), key=repr) for name in names}
        return contents | {"sqlite_master": self.rows("select * from sqlite_master order by name")}

    def pages_since(self, before: int) -> int:
        """Return how many calls for pages have come behind the first *before*."""
        return len(self.service.pages()) - before


def call(shop: Shop, *arguments: str, expect: int, through: str = 'exec "$@"', **environment: str) -> Ended:
    """Return how `sync` has ended, called by a shell *through* a line in which `"$@"` is the call.

    Nothing may show a traceback or the secret. Not even root may pass over what file modes forbid: most people are not.
    """
    barred = "-dac_override,-dac_read_search"
    bar = [] if os.geteuid() else ["setpriv", f"--inh-caps={barred}", f"--bounding-set={barred}"]
    fixed = {"PATH": os.defpath, "HOME": str(shop.folder / "home"), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        [*bar, "bash", "-c", through, "-", SYNC, *arguments],
        cwd=shop.folder,
        env={**fixed, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    ended = Ended(done.returncode, done.stdout, done.stderr)
    assert ended.code == expect, f"exit {ended.code} instead of {expect}\n{ended.out}\n{ended.err}"
    assert "Traceback" not in ended.err
    assert CLIENT_SECRET not in ended.out + ended.err
    return ended


def wait_until_it_listens(process: subprocess.Popen[str]) -> None:
    """Return when *process* has taken SIGTERM into its own hands, which it does before it waits for anything."""
    ears = re.compile(r"^SigCgt:\s*([0-9a-f]+)$", re.MULTILINE)
    while True:
        found = ears.search(Path(f"/proc/{process.pid}/status").read_text(encoding="ascii"))
        if found and int(found[1], 16) >> (signal.SIGTERM - 1) & 1:
            return
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
            raise AssertionError("it ended before it listened")


def rows_of(path: Path, sql: str, *values: str | int) -> list[tuple[Any, ...]]:
    """Return what the SQLite file at *path* answers to *sql*."""
    with closing(sqlite3.connect(path)) as mirror:
        return mirror.execute(sql, values).fetchall()


def assert_sound(shop: Shop) -> None:
    """Pass if the mirror is sound: whole as a file, no child without its root, no watermark ahead of what is held.

    The last as the world says it: of every record that has not changed since the watermark of its stream, the mirror holds
    just that version, or remembers it as deleted.

    Raises:
        AssertionError: it is not.
    """
    assert shop.value("pragma integrity_check") == "ok"
    tables = [name for (name,) in shop.rows("select name from sqlite_master where type = 'table'") if not name.startswith("_")]
    columns = {name: {row[1] for row in shop.rows(f'pragma table_info("{name}")')} for name in tables}
    roots = [name for name in tables if "_synced_at" in columns[name]]
    for child in (name for name in tables if "_n" in columns[name]):
        of_roots = " union ".join(f'select _tenant_id, _location_id, _id from "{root}"' for root in roots)
        orphans = shop.rows(f'select distinct _tenant_id, _location_id, _id from "{child}" except select * from ({of_roots})')
        assert not orphans, f"{child} has rows without a root"
    for tenant, location, entity, text in shop.rows(
        "select tenant_id, location_id, entity, watermark from _streams where watermark is not null"
    ):
        watermark = read_ticks(text)
        assert watermark is not None
        if shop.service.dials.late_share:
            continue  # what the service has hidden until now is nobody's fault
        held = dict(shop.rows(f'select _id, _ticks from "{entity}" where _location_id = ?', location)) if entity in roots else {}
        dead = dict(shop.rows("select id, ticks from _tombstones where location_id = ? and entity = ?", location, entity))
        with shop.service.world.lock:
            newest = list(shop.service.world.history(Stream(tenant, location, entity)).newest.values())
        for change in newest:
            if change.date <= watermark:
                assert change.date in (held.get(change.id), dead.get(change.id)), (
                    f"{entity} {change.id} lies behind the watermark"
                )


def assert_log_tells_one_story(shop: Shop) -> None:
    """Pass if `_changes` has every change once, in an order that can be, and agrees with what `_runs` has counted.

    Raises:
        AssertionError: it does not.
    """
    lives: dict[tuple[Any, ...], bool] = {}
    dates: dict[tuple[Any, ...], str] = {}
    for tenant, location, entity, record_id, op, fields in shop.rows(
        "select tenant_id, location_id, entity, id, op, fields from _changes order by seq"
    ):
        key = (tenant, location, entity, record_id)
        alive = lives.get(key)
        assert alive in {"insert": (None,), "replace": (True,), "delete": (True,), "revive": (None, False)}[op], (key, op, alive)
        lives[key] = op != "delete"
        if op == "replace":
            old, new = json.loads(fields)["DateUpdated"]
            assert dates.get(key, old) == old, f"{key}: the log has a change twice, or lacks one"
            assert old != new
            dates[key] = new
        else:
            dates.pop(key, None)
    logged: dict[tuple[int, str], int] = {
        (run, op): number for run, op, number in shop.rows("select run_id, op, count(*) from _changes group by run_id, op")
    }
    for run, *numbers in shop.rows("select id, inserted, replaced, deleted, revived from _runs"):
        for op, number in zip(("insert", "replace", "delete", "revive"), numbers, strict=True):
            assert logged.get((run, op), 0) == number, f"run {run}: {number} of {op} counted, {logged.get((run, op), 0)} logged"
