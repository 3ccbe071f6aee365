"""The tools that are compared: how each is called, and what it keeps of clients and their phones.

Invariants:

- A tool is a program of its own, called anew for each run as cron would call it; between two runs it has what lies in its folder.
- What a tool keeps is read as its own documentation would have it read: a row that bears the service's mark of a deletion counts
  as deleted, and of a column that changed its type the value counts in whichever column the tool has put it.
"""

import os
import platform
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from delta_mirror import __version__
from delta_mirror.simulator import CLIENT_ID, CLIENT_SECRET

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))
from compare import Service, compile_program, environment, measured, serving  # noqa: E402 - what `make bench` measures with

PYTHON = HERE / ".venv" / "bin" / "python"  # has what the peers need
SYNC = Path(sys.executable).with_name("sync")
TENANT, LOCATION = 11, 9
DELETED = 2028
COLUMNS = ("EmailAddress", "LoyaltyPoints", "LastName")  # that are compared

__all__ = [
    "BARE_LOOP",
    "LOCATION",
    "OURS",
    "TENANT",
    "TOOLS",
    "Held",
    "Service",
    "Tool",
    "compile_program",
    "described",
    "environment",
    "measured",
    "serving",
]

CONFIGURATION = """
[mirror]
path = "file.db"
[dds]
marketplace_url = "{url}"
client_id = "{client_id}"
client_secret = "{client_secret}"
entities = ["Client"]
calls_per_minute = 0
calls_per_day = 0
"""


@dataclass(frozen=True)
class Held:
    """What a tool keeps: per row of a living client its id and the values of COLUMNS; per phone the client's id and the number.

    The client of a phone is None where the tool has no such client.
    """

    clients: list[tuple[str, tuple[object, ...]]]
    phones: list[tuple[str | None, str]]


@dataclass(frozen=True)
class Tool:
    """One tool, in one of the ways in which it can be used."""

    name: str
    call: Callable[[Path, str], list[str | Path]]
    clients: str
    phones: str

    def prepare(self, folder: Path, url: str) -> None:
        """Make the folder of the tool, and its configuration for the service at *url*."""
        folder.mkdir(parents=True, exist_ok=True)
        configuration = folder / "config.toml"
        configuration.write_text(CONFIGURATION.format(url=url, client_id=CLIENT_ID, client_secret=CLIENT_SECRET))
        configuration.chmod(0o600)

    def held(self, folder: Path) -> Held:
        """Return what the tool keeps in *folder*."""
        if not (folder / "file.db").exists():
            return Held([], [])
        with closing(sqlite3.connect(folder / "file.db")) as connection:
            columns = _columns(connection)
            rows = connection.execute(self.clients.format(points=columns)).fetchall()
            return Held([(row[0], row[1:]) for row in rows], connection.execute(self.phones).fetchall())

    def living(self, folder: Path) -> int:
        """Return how many clients it has, counted by SQLite: a process inherits the highest memory of the one that starts it."""
        with closing(sqlite3.connect(folder / "file.db")) as connection:
            counted = f"select count(*) from ({self.clients.format(points=_columns(connection))})"
            return int(connection.execute(counted).fetchone()[0])


def _columns(connection: sqlite3.Connection) -> str:
    """Return where dlt has put the points of a client: a value of another type stands in a column of its own."""
    names = [name for (name,) in connection.execute("select name from pragma_table_info('client')")]
    found = [name for name in names if name.startswith("loyalty_points")]
    return f"coalesce({', '.join(reversed(found))})" if len(found) > 1 else "".join(found)


def _script(name: str, *arguments: str) -> Callable[[Path, str], list[str | Path]]:
    def call(folder: Path, url: str) -> list[str | Path]:
        place = (str(TENANT), str(LOCATION), folder / "file.db")
        return [PYTHON, HERE / name, *arguments, url, CLIENT_ID, CLIENT_SECRET, *place]

    return call


_BY_HAND = (
    f"select EntityId, {', '.join(COLUMNS)} from Client where ObjectStateEnum <> {DELETED}",
    "select c.EntityId, p.FullPhoneNumber from ClientPhone p left join Client c on c.EntityId = p.Client_TId "
    f"where c.ObjectStateEnum is not {DELETED}",
)
_DLT = (
    f"select entity_id, email_address, {{points}}, last_name from client where object_state_enum <> {DELETED}",
    "select c.entity_id, p.full_phone_number from client__client_phone_t p left join client c on c._dlt_id = p._dlt_parent_id "
    f"where c.object_state_enum is not {DELETED}",
)
_OURS = (
    f"select _id, {', '.join(COLUMNS)} from Client",
    "select c._id, p.FullPhoneNumber from ClientPhone p left join Client c using (_tenant_id, _location_id, _id)",
)

BARE_LOOP = Tool("bare loop", _script("../bare_loop.py"), *_BY_HAND)
OURS = Tool("`sync deltas`", lambda folder, url: [SYNC, "--quiet", "deltas"], *_OURS)
TOOLS = (
    BARE_LOOP,
    Tool("sqlite-utils, begin", _script("by_hand.py", "begin"), *_BY_HAND),
    Tool("sqlite-utils, tuned", _script("by_hand.py", "tuned"), *_BY_HAND),
    Tool("dlt, begin", _script("with_dlt.py", "begin"), *_DLT),
    Tool("dlt, tuned", _script("with_dlt.py", "tuned"), *_DLT),
    OURS,
)


def described() -> str:
    """Return the versions of what is compared, the machine and the day, in one line."""
    asked = "import importlib.metadata as m, sqlite3; print(m.version('dlt'), m.version('sqlite-utils'), sqlite3.sqlite_version)"
    said = subprocess.run([PYTHON, "-c", asked], capture_output=True, text=True, check=True, env=environment())
    dlt, sqlite_utils, sqlite = said.stdout.split()
    return (
        f"dlt {dlt}, sqlite-utils {sqlite_utils}, delta-mirror {__version__}; Python {platform.python_version()}, "
        f"SQLite {sqlite}; {platform.system()} {platform.machine()}, {os.cpu_count()} cores; {datetime.now(UTC):%Y-%m-%d}"
    )
