"""What does not grow with the mirror: a quiet run, 1,000 changes, `status`, `changes`; and what a record costs, however many.

    curve       mirrors of growing size, drained over loopback from a feed that is computed page by page: what a record costs,
                as a table, and drawn, where that is asked for
    mirror      a mirror of so many rows, loaded from a Starter Export; then what the daily commands cost on it
    locations   one run over so many locations with four entities each

Every figure is of a whole process of the program: wall time, processor time, highest resident memory, and, from Linux
(/proc/PID/io), what it has read and written. Nothing is asserted about time. What is asserted is that the work was done.

    python bench/scale.py curve [--sizes 10000,30000,100000,300000,1000000] [--svg docs/scale.svg]
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
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from drawing import Panel, draw
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
SHORT = 100_000  # records: so many are drained of each size at least, where one drain is less, in up to five

CONFIGURATION = """
[mirror]
path = "mirror.db"
mask_key = "of-no-use-anywhere-but-in-this-folder"
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
    """What one process took: seconds, seconds of processor time, MiB; bytes that it has read and written."""

    wall: float
    cpu: float
    memory: float
    read: int
    written: int


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
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and can be asked until it is waited for
        wall = time.perf_counter() - begun
        moved = dict(line.split(": ") for line in Path(f"/proc/{process.pid}/io").read_text().splitlines())
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, f"{arguments}: exit {process.returncode}\n{(self.folder / 'said.txt').read_text()}"
        cpu = used.ru_utime + used.ru_stime
        return Figures(wall, cpu, used.ru_maxrss / 1024, int(moved["rchar"]), int(moved["wchar"]))

    def ask(self, sql: str) -> int:
        """Return the one number that the mirror answers."""
        return int(self.read(sql)[0])

    def read(self, sql: str) -> tuple[str | int, ...]:
        """Return the one row that the mirror answers."""
        with closing(sqlite3.connect(self.folder / "mirror.db")) as connection:
            found: tuple[str | int, ...] = connection.execute(sql).fetchone()
        return found


@contextmanager
def folder() -> Iterator[Path]:
    """Let the body have a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="delta-mirror-scale-") as name:
        yield Path(name)


# The curve


class Drained(NamedTuple):
    """What draining a feed of so many records took, what 1,000 changes more, and a run with nothing to do."""

    records: int
    full: Figures
    changes: Figures
    quiet: Figures

    @property
    def microseconds(self) -> float:
        """Processor time a record, without what any run costs."""
        return (self.full.cpu - self.quiet.cpu) / self.records * 1e6

    def a_record(self, moved: Callable[[Figures], int]) -> float:
        """Return KiB a record."""
        return (moved(self.full) - moved(self.quiet)) / self.records / 1024


def curve(sizes: Sequence[int], drawing: Path | None) -> None:
    """Drain feeds of these sizes into new mirrors, and then 1,000 changes more into each; print it, and draw it to *drawing*."""
    heads = ("records", "CPU s", "µs a record", "KiB written a record", "KiB read a record", "MiB", f"{CHANGES:,} changes")
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}", flush=True)
    points: list[Drained] = []
    for size in sizes:
        # What else the machine has to do can only add to it, and to a short run soonest: the least of several counts.
        point = min((drain(size) for _ in range(max(1, min(5, SHORT // size)))), key=lambda each: each.microseconds)
        points.append(point)
        written, read = point.a_record(lambda took: took.written), point.a_record(lambda took: took.read)
        cells = (
            f"{point.full.cpu:.1f}",
            f"{point.microseconds:.0f}",
            f"{written:.1f}",
            f"{read:.1f}",
            f"{point.full.memory:.0f}",
        )
        print(f"| {size:,} | {' | '.join(cells)} | {point.changes.cpu:.2f}, {point.changes.memory:.0f} |", flush=True)
    if drawing is not None:
        cost = Panel("µs of processor time a record", [(each.records, each.microseconds) for each in points], "{:.0f}")
        written_panel = Panel(
            "KiB written a record", [(each.records, each.a_record(lambda took: took.written)) for each in points], "{:.1f}"
        )
        title = "What a record costs, by the number of records drained"
        drawing.write_text(draw(title, [cost, written_panel]), encoding="utf-8")


def drain(size: int) -> Drained:
    """Drain a feed of *size* records into a new mirror."""
    with folder() as name, computed_feed(size) as (url, tell):
        place = Place(name, url, ["Client"])
        full = place.sync("--quiet", "deltas")
        assert place.ask("select count(*) from Client") == size
        quiet = place.sync("--quiet", "deltas")
        tell(f"change {CHANGES}")
        time.sleep(1.5)  # what is dated in the second of a drain's first call belongs to the next drain
        changes = place.sync("--quiet", "deltas")
        assert place.ask("select count(*) from _changes where op = 'replace'") == CHANGES
        return Drained(size, full, changes, quiet)


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
    """Load mirrors of so many rows, print what each command takes on each, and at the end one table of all."""
    took: list[dict[str, str]] = []
    for wanted in rows:
        with folder() as name:
            print(f"{wanted:,} rows", flush=True)
            took.append(one_mirror(name, wanted))
    print(f"\n| rows | {' | '.join(f'{wanted:,}' for wanted in rows)} |\n|{'---|' * (1 + len(rows))}")
    for what in took[0]:
        print(f"| {what} | {' | '.join(each[what] for each in took)} |")


def one_mirror(name: Path, rows: int) -> dict[str, str]:
    """Return what each command takes on a mirror of so many rows, in the order in which they are called."""
    place = Place(name, f"http://127.0.0.1:{PORT}", ["Client", "Sale"])
    day = f"{datetime.now(UTC) - timedelta(days=1):%Y%m%d}"
    clients = rows // 10  # each with a phone; the rest are sales with four lines
    sales = (rows - 2 * clients) // 5
    took: dict[str, str] = {}

    def measure(what: str, *arguments: str) -> None:
        figures = place.sync(*arguments)
        took[what] = f"{figures.cpu:.2f} s, {figures.memory:.0f}"
        print(f"{what:>20} {figures.wall:8.2f} s wall {took[what]:>16} MiB", flush=True)

    subprocess.run([sys.executable, "-c", WRITE, day, str(clients), str(sales)], cwd=name, check=True)
    measure("`full-starter`", "--quiet", "full-starter", "export")
    measure("`verify`", "--quiet", "verify", "export")
    shutil.rmtree(name / "export")
    took["file"] = f"{(name / 'mirror.db').stat().st_size / 2**20:,.0f} MiB"
    world = World(1, tenants={11: (9,)}, clock=Clock.running())
    adopt(world, Bulk(day=day, clients=clients, phones=1, sales=sales, lines=4), clients=min(clients, ADOPTED))
    with Service(world, port=PORT):
        place.sync("--quiet", "deltas")  # the first one of a day reads a whole day again
        measure("quiet `deltas`", "--quiet", "deltas")
        said = change(world, CHANGES, random.Random(1))
        time.sleep(1.5)  # what is dated in the second of a drain's first call belongs to the next drain
        measure(f"{CHANGES:,} changes", "--quiet", "deltas")
        assert place.ask("select count(*) from _changes") == said["edited"] + said["deleted"]
        measure("`status`", "--quiet", "status")
        measure("`changes --since`", "changes", "--since", f"{datetime.now(UTC) - timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}")
        measure("`prune`", "--quiet", "prune", "--older-than", "1d")
        measure("`doctor`", "--quiet", "doctor")
    measure("`backup`", "--quiet", "backup", "copy.db")
    (name / "copy.db").unlink()
    [client] = place.read("select _id from Client where _deleted_at is null limit 1")
    measure("`erase`", "--quiet", "erase", "Client", str(client), "--yes")
    assert place.ask("select count(*) from _erased") == 1
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
    drains = kinds.add_parser("curve")
    drains.add_argument("--sizes", default="10000,30000,100000,300000,1000000", help="records")
    drains.add_argument("--svg", type=Path, help="where the curve is to be drawn")
    kinds.add_parser("mirror").add_argument("--rows", default="10000,1000000,10000000")
    kinds.add_parser("locations").add_argument("--number", type=int, default=500)
    options = parser.parse_args()
    match options.kind:
        case "curve":
            curve([int(size) for size in options.sizes.split(",")], options.svg)
        case "mirror":
            large([int(size) for size in options.rows.split(",")])
        case _:
            locations(options.number)


if __name__ == "__main__":
    main()
