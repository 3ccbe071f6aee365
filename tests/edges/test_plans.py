"""How SQLite goes about what the daily commands ask it: through an index, however many rows there are.

Without statistics (`analyze`) SQLite chooses its ways by tables and indexes alone, so that those of a small mirror are those of a
large one.
"""

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from delta_mirror.config import Config, load_config
from delta_mirror.config.sections import Secret
from delta_mirror.core.values import EPOCH, MINUTE, SECOND
from delta_mirror.jobs.changes import Wanted, read_changes
from delta_mirror.jobs.deltas import run_deltas
from delta_mirror.jobs.erase import EraseWishes, run_erase
from delta_mirror.jobs.ingest import Wishes, run_ingest
from delta_mirror.jobs.metrics import collect_metrics
from delta_mirror.jobs.status import read_status
from delta_mirror.simulator import CLIENT_ID, CLIENT_SECRET, DAY, Service, World
from nexus_messages import message

SMALL = {
    *("_meta", "_streams", "_runs", "_quarantine", "_calls", "_call_times", "_pauses", "_enums", "_tables", "_migrations"),
    *("_accela_links", "_erased", "sqlite_master", "sqlite_sequence"),
}
CONFIG = """\
[dds]
marketplace_url = "{url}"
client_id = "{id}"
client_secret = "{secret}"
[ops]
metrics_file = "delta.prom"
"""
IS_ANY_THERE = re.compile(r'select exists \(select 1 from "\w+"\)')  # which ends with the first row
SCAN = re.compile(r"SCAN (\w+)|SEARCH (\w+)$")  # the second is a search for a lowest number without an index: it reads all before


class Questions:
    """Everything that was asked of the mirror at *path* since `begin`, with its values in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.asked: list[str] = []

    def ways(self, sql: str) -> list[str]:
        """Return how SQLite goes about *sql*, step by step, in its own words."""
        with closing(sqlite3.connect(f"{self.path.as_uri()}?mode=ro", uri=True)) as mirror:
            return [detail for *_, detail in mirror.execute(f"explain query plan {sql}")]

    def scanned(self) -> set[str]:
        """Return the tables that something read through from end to end, but for those that stay small."""
        found: set[str] = set()
        with closing(sqlite3.connect(f"{self.path.as_uri()}?mode=ro", uri=True)) as mirror:
            tables = {name for (name,) in mirror.execute("select name from sqlite_master where type = 'table'")} - SMALL
            for sql in dict.fromkeys(self.asked):
                if not sql.lower().startswith(("select", "insert", "update", "delete", "with")) or IS_ANY_THERE.fullmatch(sql):
                    continue
                for *_, detail in mirror.execute(f"explain query plan {sql}"):
                    scan = SCAN.match(detail)
                    if scan and (scan[1] or scan[2]) in tables:
                        found.add(f"{detail}: {sql}")
        return found


@pytest.fixture
def world() -> World:
    world = World(seed=7)
    world.populate(clients=30, employees=4, appointments=6, sales=8, over=DAY)
    return world


@pytest.fixture
def config(tmp_path: Path, world: World) -> Iterator[Config]:
    """A configuration; the mirror that it names was filled, and holds messages of Nexus too."""
    with Service(world) as service:
        file = tmp_path / "config.toml"
        file.write_text(CONFIG.format(url=service.url, id=CLIENT_ID, secret=CLIENT_SECRET), encoding="utf-8")
        config = load_config(file)
        drain(config, world)
        ingest(config, tmp_path, "2026-03-01T10:00:00.0000000Z")
        yield config


@pytest.fixture
def questions(config: Config, monkeypatch: pytest.MonkeyPatch) -> Questions:
    """Note from now on what every connection of SQLite is asked."""
    questions = Questions(config.mirror.path)
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect

    def noting(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **options)
        connection.set_trace_callback(questions.asked.append)
        return connection

    monkeypatch.setattr(sqlite3, "connect", noting)
    return questions


def now_of(world: World) -> float:
    return (world.now - EPOCH) / SECOND


def drain(config: Config, world: World) -> None:
    assert run_deltas(config, now=lambda: now_of(world)).outcome == "done"


def ingest(config: Config, folder: Path, at: str) -> None:
    (folder / "messages.jsonl").write_bytes(message(details={"FirstName": at}, at=at))
    assert run_ingest(config, Wishes([str(folder / "messages.jsonl")])).is_whole


def test_drain_reads_no_table_through(config: Config, world: World, questions: Questions) -> None:
    for step in range(3):
        world.advance(20 * MINUTE)
        for number, client in enumerate(world.ids("Client")[:10]):
            if step == 1 and number < 3:
                world.delete(client)
            elif step == 2 and number < 2:
                world.revive(client)
            else:
                world.edit(client, FirstName=f"New {step}")
        world.advance(MINUTE)
        drain(config, world)
        drain(config, world)

    assert any("_tombstones" in sql for sql in questions.asked), "something was looked at"
    assert questions.scanned() == set()


def test_status_and_metrics_read_no_table_through(config: Config, world: World, questions: Questions) -> None:
    read_status(config, now_of(world))
    collect_metrics(config, now_of(world))

    assert len(questions.asked) > 10
    assert questions.scanned() == set()


@pytest.mark.parametrize("wanted", [Wanted(since=EPOCH), Wanted(run_id=1), Wanted(after=3)], ids=["since", "run", "after"])
def test_log_is_entered_where_what_is_wanted_begins(config: Config, wanted: Wanted, questions: Questions) -> None:
    assert list(read_changes(config, wanted))

    assert questions.scanned() == set()


def test_messages_find_their_sections_and_each_other_by_their_keys(config: Config, questions: Questions, tmp_path: Path) -> None:
    ingest(config, tmp_path, "2026-03-02T10:00:00.0000000Z")
    ingest(config, tmp_path, "2026-02-01T10:00:00.0000000Z")

    assert any("_sections" in sql for sql in questions.asked), "something was looked at"
    assert questions.scanned() == set()


def test_whoever_names_a_person_is_looked_for_in_the_rows_as_they_lie(config: Config, world: World, questions: Questions) -> None:
    keyed = replace(config, mirror=replace(config.mirror, mask_key=Secret("a key of the tests' own")))

    run_erase(keyed, EraseWishes("Client", world.ids("Client")[0], dry_run=True))

    sums = [sql for sql in questions.asked if sql.startswith("select total(")]
    assert len(sums) > 3, "each table has columns that are called as keys are"
    assert [way for sql in sums for way in questions.ways(sql) if "INDEX" in way] == []
