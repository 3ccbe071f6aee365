"""What does not grow with the mirror: a quiet run, 1,000 changes, `status`, `changes`; and what a record costs, however many.

    curve       mirrors of growing size, drained over loopback from a feed that is computed page by page: what a record costs
    mirror      a mirror of so many rows, loaded from a Starter Export; then what the daily commands cost on it
    locations   one run over so many locations with four entities each

Every figure is of a whole process of the program: wall time, processor time, highest resident memory. Nothing is asserted about
time. What is asserted is that the work was done.

    python bench/scale.py curve [--sizes 10000,100000,1000000]
    python bench/scale.py mirror [--rows 10000,1000000,10000000]
    python bench/scale.py locations [--number 500]
"""

import argparse
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from server import change

from delta_mirror.simulator import CLIENT_ID, CLIENT_SECRET, Service
from delta_mirror.simulator.bulk import Bulk, adopt
from delta_mirror.simulator.clock import Clock
from delta_mirror.simulator.world import World

HERE = Path(__file__).parent
SYNC = Path(sys.executable).with_name("sync")
PORT = 18_765  # of the service on which a mirror was filled: it belongs to the account
CHANGES = 1000
ADOPTED = 2000  # clients of the export that may change

CONFIGURATION = """
[mirror]
path = "mirror.db"
[dds]
marketplace_url = "{url}"
client_id = "{client_id}"
client_secret = "{client_secret}"
entities = [{entities}]
calls_per_minute = 0
calls_per_day = 0
"""
PLACE = "[[dds.locations]]\ntenant_id = 11\nlocation_id = 9\n"

# In a process of its own: one inherits the highest memory of the process that starts it.
WRITE = """
import sys
from pathlib import Path
from delta_mirror.simulator.bulk import Bulk, write_bulk
day, clients, sales = sys.argv[1:]
write_bulk(Path("export"), Bulk(day=day, clients=int(clients), phones=1, sales=int(sales), lines=4))
"""


class Figures(NamedTuple):
    """What one process took: seconds, seconds of processor time, MiB."""

    wall: float
    cpu: float
    memory: float


class Place:
    """A folder with a configuration, in which the program is called."""

    def __init__(self, folder: Path, url: str, entities: Sequence[str], more: str = PLACE) -> None:
        self.folder = folder
        names = ", ".join(f'"{entity}"' for entity in entities)
        text = CONFIGURATION.format(url=url, client_id=CLIENT_ID, client_secret=CLIENT_SECRET, entities=names)
        (folder / "config.toml").write_text(text + more)
        (folder / "config.toml").chmod(0o600)

    def sync(self, *arguments: str) -> Figures:
        """Return what the command took; it has to end with 0."""
        begun = time.perf_counter()
        with (self.folder / "said.txt").open("w") as said:
            process = subprocess.Popen([SYNC, *arguments], cwd=self.folder, stdout=said, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, f"{arguments}: exit {process.returncode}\n{(self.folder / 'said.txt').read_text()}"
        return Figures(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)

    def ask(self, sql: str) -> int:
        """Return the one number that the mirror answers."""
        with closing(sqlite3.connect(self.folder / "mirror.db")) as connection:
            return int(connection.execute(sql).fetchone()[0])


@contextmanager
def folder() -> Iterator[Path]:
    """Let the body have a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="delta-mirror-scale-") as name:
        yield Path(name)


# The curve


def curve(sizes: Sequence[int]) -> None:
    """Drain feeds of these sizes into new mirrors, and then 1,000 changes more into each."""
    print(f"{'records':>10} {'CPU s':>8} {'us a record':>12} {'MiB':>6} {f'{CHANGES} changes: CPU s':>22} {'MiB':>6}")
    for size in sizes:
        with folder() as name, computed_feed(size) as (url, tell):
            place = Place(name, url, ["Client"])
            full = place.sync("--quiet", "deltas")
            assert place.ask("select count(*) from Client") == size
            tell(f"change {CHANGES}")
            time.sleep(1.5)  # what is dated in the second of a drain's first call belongs to the next drain
            changes = place.sync("--quiet", "deltas")
            assert place.ask("select count(*) from _changes where op = 'replace'") == CHANGES
        per_record = full.cpu / size * 1e6
        print(
            f"{size:10,} {full.cpu:8.2f} {per_record:12.1f} {full.memory:6.0f} {changes.cpu:22.2f} {changes.memory:6.0f}",
            flush=True,
        )


@contextmanager
def computed_feed(records: int) -> Iterator[tuple[str, "Teller"]]:
    """Run `bench/feed.py` while the body runs; hand over its address and how to tell it something."""
    command: list[str | Path] = [sys.executable, HERE / "feed.py", str(records)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        teller = Teller(process)
        try:
            yield process.stdout.readline().strip(), teller
        finally:
            process.stdin.close()


class Teller:
    """Tells a process a line, and waits for its answer."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def __call__(self, line: str) -> None:
        """Say *line*."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(line, file=self._process.stdin, flush=True)
        self._process.stdout.readline()


# The large mirror


def large(rows: Sequence[int]) -> None:
    """Load mirrors of so many rows, and print what the daily commands take on each."""
    head = ("full-starter", "quiet", f"{CHANGES} changes", "status", "changes --since", "prune", "doctor")
    print(f"{'rows':>12} {'MiB':>7}   " + "  ".join(f"{name:>22}" for name in head))
    for wanted in rows:
        with folder() as name:
            took = one_mirror(name, wanted)
            size = (name / "mirror.db").stat().st_size / 2**20
            cells = [f"{each.cpu:8.2f} s {each.memory:5.0f} MiB" for each in took]
            print(f"{wanted:12,} {size:7,.0f}   " + "  ".join(f"{cell:>22}" for cell in cells), flush=True)


def one_mirror(name: Path, rows: int) -> list[Figures]:
    """Return what loading, a quiet run, 1,000 changes and the rest take on a mirror of so many rows."""
    place = Place(name, f"http://127.0.0.1:{PORT}", ["Client", "Sale"])
    day = f"{datetime.now(UTC) - timedelta(days=1):%Y%m%d}"
    clients = rows // 10  # each with a phone; the rest are sales with four lines
    sales = (rows - 2 * clients) // 5
    subprocess.run([sys.executable, "-c", WRITE, day, str(clients), str(sales)], cwd=name, check=True)
    took = [place.sync("--quiet", "full-starter", "export")]
    shutil.rmtree(name / "export")
    world = World(1, tenants={11: (9,)}, clock=Clock.running())
    adopt(world, Bulk(day=day, clients=clients, phones=1, sales=sales, lines=4), clients=min(clients, ADOPTED))
    with Service(world, port=PORT):
        place.sync("--quiet", "deltas")  # the first one of a day reads a whole day again
        took.append(place.sync("--quiet", "deltas"))
        said = change(world, CHANGES, random.Random(1))
        time.sleep(1.5)  # what is dated in the second of a drain's first call belongs to the next drain
        took.append(place.sync("--quiet", "deltas"))
        assert place.ask("select count(*) from _changes") == said["edited"] + said["deleted"]
        took.append(place.sync("--quiet", "status"))
        took.append(place.sync("changes", "--since", f"{datetime.now(UTC) - timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"))
        took.append(place.sync("--quiet", "prune", "--older-than", "1d"))
        took.append(place.sync("--quiet", "doctor"))
    return took


# Many locations


def locations(number: int) -> None:
    """Print what one run over so many locations takes, without a limit of calls, and a second one."""
    world = World(1, tenants={11: tuple(range(1, number + 1))}, clock=Clock.running())
    for location in range(1, number + 1):
        world.create("Client", locations=(location,))
    with folder() as name, Service(world) as service:
        place = Place(name, service.url, ["Client", "Employee", "Appointment", "Sale"], more="")
        print(f"{'run':8} {'streams':>8} {'calls':>7} {'wall s':>8} {'CPU s':>8} {'ms a stream':>12} {'MiB':>6}")
        for run in ("first", "quiet"):
            service.calls.clear()
            took = place.sync("--quiet", "deltas")
            streams = place.ask("select count(*) from _streams where state = 'following'")
            assert streams == 4 * number
            calls = sum(call.endpoint == "changes" for call in service.calls)
            per_stream = took.cpu / streams * 1000
            print(
                f"{run:8} {streams:8,} {calls:7,} {took.wall:8.2f} {took.cpu:8.2f} {per_stream:12.2f} {took.memory:6.0f}",
                flush=True,
            )
        status = place.sync("status")
        print(f"status: {status.cpu:.2f} s, {status.memory:.0f} MiB")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python bench/scale.py", description=__doc__.splitlines()[0])
    kinds = parser.add_subparsers(dest="kind", required=True)
    kinds.add_parser("curve").add_argument("--sizes", default="10000,100000,1000000", help="records")
    kinds.add_parser("mirror").add_argument("--rows", default="10000,1000000,10000000")
    kinds.add_parser("locations").add_argument("--number", type=int, default=500)
    options = parser.parse_args()
    match options.kind:
        case "curve":
            curve([int(size) for size in options.sizes.split(",")])
        case "mirror":
            large([int(size) for size in options.rows.split(",")])
        case _:
            locations(options.number)


if __name__ == "__main__":
    main()
