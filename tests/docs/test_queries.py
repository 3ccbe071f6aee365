"""Every query of the documentation runs, and finds something, in a mirror that the program itself has filled."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import documents
import pytest

from delta_mirror.simulator import CLIENT_ID, CLIENT_SECRET, Clock, Service, World
from nexus_messages import HOME, SAMPLE, message

CONFIG = """\
[mirror]
path = "mirror.db"
[dds]
marketplace_url = "{url}"
client_id = "{client_id}"
client_secret = "{client_secret}"
calls_per_minute = 0
"""

MESSAGES = [
    SAMPLE.replace(b"\n", b" "),
    message("Account Details", {"Status": "Active", "AssignedOfficer": "officer@example.org"}, client="EX123456"),
    message("Address Details", {"AddressType": "Home", "Address": "1 Mill Road, Boulder"}, client="EX123456"),
    message("Contact Details", {"ContactType": "HomePhone", "Contact": "555-0100"}, client="EX123456"),
    message("Case Details", {"CaseNumber": "C-1", "Offenses": [{"Label": "Theft", "IsPrimary": True}]}, client="EX123456"),
    message(None, {"Result": "Kept"}, type_="Office Visit", identifier=HOME, client="EX123456"),
]


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """A mirror of two salons after two drains, with one change of every kind between them."""
    folder = tmp_path_factory.mktemp("queries")
    world = World(7, clock=Clock.running())  # the queries speak of now
    world.populate(clients=60, employees=6, appointments=60, sales=60)
    with Service(world) as service:
        config = folder / "config.toml"
        config.write_text(CONFIG.format(url=service.url, client_id=CLIENT_ID, client_secret=CLIENT_SECRET), encoding="utf-8")
        config.chmod(0o600)
        sync(config, exit_code=0)
        changed, gone, back, odd = [id_ for id_ in world.ids("Client") if not world.is_deleted(id_)][:4]
        world.edit(changed, EmailAddress="new.address@example.com")
        world.delete(gone)
        world.delete(back)
        sync(config, exit_code=0)
        world.revive(back)
        world.edit(odd, _Invented="a column that only the mirror could have")
        sync(config, exit_code=3)  # the odd one is in quarantine
        (folder / "messages.jsonl").write_bytes(b"\n".join(MESSAGES))
        sync(config, "nexus", "ingest", str(folder / "messages.jsonl"), exit_code=0)
    with closing(sqlite3.connect(f"{(folder / 'mirror.db').as_uri()}?mode=ro", uri=True)) as connection:
        yield connection


def sync(config: Path, *arguments: str, exit_code: int) -> None:
    program = Path(sys.executable).with_name("sync")
    ran = subprocess.run(
        [program, "--config", config, *(arguments or ("deltas",))],
        capture_output=True,
        text=True,
        env={**os.environ, "NO_PROXY": "*"},
        check=False,
    )
    assert ran.returncode == exit_code, ran.stderr


QUERIES = documents.blocks("sql")


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: f"{query.document.stem}: {query.text.split(chr(10))[0][:60]}")
def test_query_runs_and_finds_something(query: documents.Block, mirror: sqlite3.Connection) -> None:
    found = mirror.execute(query.text).fetchall()

    assert found or query.text.startswith("-- may be empty\n")
    assert not found or any(value is not None for value in found[0])


def test_there_are_queries_for_analysts() -> None:
    assert len([query for query in QUERIES if query.document.name == "mirror.md"]) >= 5
