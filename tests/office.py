"""An office: a folder with a configuration, a mirror that a test fills, and the simulated Accela that it pushes to.

Invariants:

- What the mirror holds is written by the program itself: records of the DDS as a drain would, clients of Nexus by their messages.
- `push` runs in the test's own process; `sync` is the installed program.
"""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from delta_mirror.config import Config, load_config
from delta_mirror.core.model import Child, Record, Stream, Value
from delta_mirror.core.plan import Drained, decide
from delta_mirror.core.values import read_instant
from delta_mirror.dds.tables import FEED_CHILDREN
from delta_mirror.jobs.ingest import Wishes, run_ingest
from delta_mirror.jobs.link import LinkReport, run_link
from delta_mirror.jobs.push import run_push
from delta_mirror.jobs.push_report import PushReport, PushWishes
from delta_mirror.mirror.write import Mirror
from delta_mirror.simulator.accela import AGENCY, APP_ID, APP_SECRET, ENVIRONMENT, PASSWORD, USERNAME, AccelaService

SYNC = Path(sys.executable).with_name("sync")
NOON = 1_780_000_000.0  # 2026-05-28T20:26:40Z
PATIENCE = 60.0  # seconds

Columns = Mapping[str, Value | None]


class Clock:
    """A clock that a test sets, and a sleep that moves it instead of sleeping."""

    def __init__(self) -> None:
        self.time = NOON
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds


class Office:
    """See the module."""

    def __init__(self, folder: Path, service: AccelaService) -> None:
        self.folder = folder
        self.service = service
        self.mirror = folder / "mirror.db"
        self.configuration = folder / "config.toml"
        self.clock = Clock()
        self.minute = 0
        self.configure("")

    # ---- configuration and mirror

    def configure(self, maps: str, *, http: str = "", **accela: str) -> None:
        """Write a configuration with these maps, as TOML."""
        keys = {
            "auth_url": self.service.url,
            "api_url": self.service.url,
            "app_id": APP_ID,
            "app_secret": APP_SECRET,
            "agency": AGENCY,
            "environment": ENVIRONMENT,
            "username": USERNAME,
            "password": PASSWORD,
            **accela,
        }
        lines = ['[mirror]\npath = "mirror.db"\n[http]\ntimeout = "2s"\nattempts = 2', http, "[accela]"]
        lines += [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
        self.configuration.write_text("\n".join([*lines, maps]) + "\n", encoding="utf-8")
        self.configuration.chmod(0o600)

    def config(self) -> Config:
        """Return the configuration as the program reads it."""
        return load_config(self.configuration)

    def client(
        self,
        id_: str = "c-1",
        *,
        location: int = 9,
        entity: str = "Client",
        phones: Sequence[Columns] = (),
        deleted: bool = False,
        deletes: str = "remove",
        **columns: Value | None,
    ) -> None:
        """Let the mirror take a record of the DDS, as if a drain had brought it."""
        self.take(id_, columns, location=location, entity=entity, phones=phones, deleted=deleted, deletes=deletes)

    def take(
        self,
        id_: str,
        columns: Columns,
        *,
        location: int = 9,
        entity: str = "Client",
        phones: Sequence[Columns] = (),
        deleted: bool = False,
        deletes: str = "remove",
    ) -> None:
        """Do the same with columns that have no fixed names."""
        self.take_all({id_: columns}, location=location, entity=entity, phones=phones, deleted=deleted, deletes=deletes)

    def take_all(
        self,
        records: Mapping[str, Columns],
        *,
        location: int = 9,
        entity: str = "Client",
        phones: Sequence[Columns] = (),
        deleted: bool = False,
        deletes: str = "remove",
    ) -> None:
        """Do the same with several records at once, by their ids."""
        self.minute += 1
        changed = read_instant(f"2026-05-04T{self.minute // 60:02}:{self.minute % 60:02}:00Z")
        children = [Child({name: value for name, value in phone.items() if value is not None}, None) for phone in phones]
        taken = [
            Record(
                id_,
                changed,
                None,
                deleted,
                {name: value for name, value in {"EntityId": id_, **columns}.items() if value is not None},
                {"ClientPhone": children} if children else {},
            )
            for id_, columns in records.items()
        ]
        stream = Stream(11, location, entity)
        with Mirror.open(
            self.mirror, deletes="mark" if deletes == "mark" else "remove", feed_tables=FEED_CHILDREN, now=self.clock
        ) as mirror:
            run = mirror.begin_run("deltas")
            with mirror.transaction() as tx:
                plan = decide(tx.current(stream, list(records)), tx.fit(stream, taken), Drained())
                tx.carry_out(stream, plan, run)

    def sql(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Return what the mirror answers to *sql*, and let it stand what that does."""
        with closing(sqlite3.connect(self.mirror)) as mirror, mirror:
            return mirror.execute(sql, values).fetchall()

    def ingest(self, *messages: bytes) -> None:
        """Let the mirror take messages of Nexus, in this order."""
        path = self.folder / "messages.jsonl"
        path.write_bytes(b"\n".join(messages))
        report = run_ingest(self.config(), Wishes([str(path)]), now=self.clock)
        assert report.is_whole, report

    # ---- the commands

    def link(self, *rows: str) -> LinkReport:
        """Take links: each `entity,id,contact_id[,tenant_id,location_id]`."""
        return run_link(self.config(), ["entity,id,contact_id,tenant_id,location_id", *map(_padded, rows)], now=self.clock)

    def push(self, **wishes: Any) -> PushReport:
        """Push inside this process."""
        return run_push(self.config(), PushWishes(**wishes), now=self.clock, sleep=self.clock.sleep, jitter=lambda: 0.0)

    def start(self, *arguments: str, stdin: int = subprocess.DEVNULL) -> "subprocess.Popen[str]":
        """Return a process of the installed program that has just been started."""
        return subprocess.Popen(
            [SYNC, "--config", str(self.configuration), *arguments],
            cwd=self.folder,
            env={"PATH": os.defpath, "HOME": str(self.folder / "home"), "LC_ALL": "C.UTF-8"},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def sync(self, *arguments: str, expect: int = 0) -> tuple[str, str]:
        """Return standard output and standard error of the installed program, which ends with *expect*."""
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == expect, f"exit {process.returncode} instead of {expect}\n{out}\n{err}"
        assert "Traceback" not in err, err
        return out, err

    # ---- what a test asks

    def outcomes(self) -> list[str]:
        """Return the outcomes of all pushes, in their order."""
        return [outcome for (outcome,) in self.sql("select outcome from _accela_pushes order by number")]

    def last_push(self) -> dict[str, Any]:
        """Return the newest row of `_accela_pushes`."""
        with closing(sqlite3.connect(self.mirror)) as mirror:
            mirror.row_factory = sqlite3.Row
            return dict(mirror.execute("select * from _accela_pushes order by number desc limit 1").fetchone())

    def calls(self) -> tuple[int, int]:
        """Return how many contacts were read and written so far."""
        return self.service.counted("GET"), self.service.counted("PUT")


def _padded(row: str) -> str:
    cells = row.split(",")
    return ",".join([*cells, *[""] * (5 - len(cells))])


def contacts(*ids: str, **members: object) -> dict[str, dict[str, Any]]:
    """Return contacts as an agency has them, with *members* in each."""
    return {
        id_: {
            "id": id_,
            "serviceProviderCode": AGENCY,
            "firstName": "Ann",
            "lastName": "Example",
            "email": "ann@example.com",
            "type": {"value": "Individual", "text": "Individual"},
            "gender": {"value": "F", "text": "Female"},
            "birthDate": "1980-02-03",
            "address": {"addressLine1": "1 Old Road", "city": "Nowhere", "state": {"value": "CA", "text": "California"}},
            "unknownToUs": {"list": [1, 2.50, {"deep": None}], "text": "stays"},
            **members,
        }
        for id_ in ids
    }


def messages_of(report: PushReport) -> Iterable[str]:
    """Return everything that a report says in words."""
    for each in report.contacts:
        yield from (text for text in (each.error, each.warning) if text)
    yield from report.trouble
