"""The second half of `make bench`: loading a Starter Export beside a bare split-and-insert loop over the same files.

A round is: the bare loop into a new file, then `sync full-starter` into a new mirror, the same export once more, `sync verify`
against it, and last an export in which up to one sale in twenty is another. Shown are medians: wall time, processor time, the
highest resident memory of the process, and the processor time as a multiple of the bare loop's, which does each time what it did
the first time. With `--sizes`, loads of growing exports into new mirrors follow, and what a row costs in each.

Nothing is asserted about time. What is asserted is that the work was done: all rows are there with their keys, the same export
logs nothing, the other one logs exactly what differs, and `verify` finds nothing.

    python bench/starter.py [--sales 100000] [--lines 4] [--rounds 3] [--sizes 20000,100000,400000]
"""

import argparse
import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
SYNC = Path(sys.executable).with_name("sync")
CHANGED, MISSING, NEW = 0.03, 0.01, 0.01  # shares of the sales

CONFIGURATION = """
[mirror]
path = "mirror.db"
[dds]
client_id = "nobody"
client_secret = "nothing"
entities = ["Sale"]
[[dds.locations]]
tenant_id = 11
location_id = 9
"""

# In a process of its own: one inherits the highest memory of the process that starts it.
WRITE = """
import sys
from pathlib import Path
from delta_mirror.simulator.bulk import Bulk, write_bulk
folder, day, sales, lines, changed, missing = sys.argv[1:]
bulk = Bulk(day=day, sales=int(sales), lines=int(lines), changed=float(changed), missing=float(missing))
write_bulk(Path(folder), bulk)
"""


class Figures(NamedTuple):
    """What one process took: seconds, seconds of processor time, MiB."""

    wall: float
    cpu: float
    memory: float


def measured(command: list[str | Path], folder: Path) -> Figures:
    """Return what *command* took; it has to end with 0."""
    begun = time.perf_counter()
    with (folder / "said.txt").open("w") as said:
        process = subprocess.Popen(command, cwd=folder, stdout=said, stderr=said)
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{command}: exit {process.returncode}\n{(folder / 'said.txt').read_text()}"
    return Figures(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


class Bench:
    """A folder with exports, a file that the bare loop fills, and a mirror."""

    def __init__(self, folder: Path, lines: int) -> None:
        self.folder = folder
        self.lines = lines
        self.day = f"{datetime.now(UTC) - timedelta(days=1):%Y%m%d}"
        configuration = folder / "config.toml"
        configuration.write_text(CONFIGURATION)
        configuration.chmod(0o600)

    def write(self, name: str, sales: int, changed: float = 0.0, missing: float = 0.0) -> None:
        """Write an export."""
        command = [sys.executable, "-c", WRITE, name, self.day, str(sales), str(self.lines), str(changed), str(missing)]
        subprocess.run(command, cwd=self.folder, check=True)

    def bare_loop(self, name: str) -> Figures:
        """Let the bare loop load an export into a new file."""
        self._remove("bare.db")
        return measured([sys.executable, HERE / "bare_starter.py", name, "bare.db"], self.folder)

    def load(self, name: str, *, new: bool = False) -> Figures:
        """Let the program load an export, where *new* into a new mirror."""
        if new:
            self._remove("mirror.db")
        return measured([SYNC, "--quiet", "full-starter", name], self.folder)

    def verify(self, name: str) -> Figures:
        """Let the program compare its mirror with an export; any drift would end it with another code than 0."""
        return measured([SYNC, "--quiet", "verify", name], self.folder)

    def ask(self, sql: str) -> Any:
        """Return the one value that the mirror answers."""
        with closing(sqlite3.connect(self.folder / "mirror.db")) as connection:
            return connection.execute(sql).fetchone()[0]

    def logged(self) -> dict[str, int]:
        """Return how many changes of each kind the mirror has logged so far."""
        found = self.ask("select json_group_object(op, times) from (select op, count(*) times from _changes group by op)")
        return dict(json.loads(found))

    def check_rows(self) -> None:
        """Pass if the mirror has the rows that the bare loop has, and no others."""
        for ours, theirs in (("Sale", "Sale"), ("SaleLine", "SaleLine")):
            [(held, wanted)] = self._both(f"select (select count(*) from main.{ours}), (select count(*) from bare.{theirs})")
            assert held == wanted, f"{ours} has {held} rows instead of {wanted}"
        [(missing,)] = self._both(
            "select count(*) from bare.SaleLine b where not exists (select 1 from main.SaleLine m "
            "where m._tenant_id = 11 and m._location_id = 9 and m._id = lower(b.EntityId) "
            "and m.SaleLine_Seq = cast(b.SaleLine_Seq as int) and abs(m.FinalPrice - b.FinalPrice) < 0.001)"
        )
        assert missing == 0, f"{missing} lines are not in the mirror"

    def _both(self, sql: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.folder / "mirror.db")) as connection:
            connection.execute("attach ? as bare", (str(self.folder / "bare.db"),))
            return connection.execute(sql).fetchall()

    def _remove(self, name: str) -> None:
        for path in self.folder.glob(name + "*"):
            path.unlink()


def run_round(bench: Bench) -> dict[str, Figures]:
    """Return the figures of one round."""
    figures = {"bare loop": bench.bare_loop("first")}
    figures["full-starter, new mirror"] = bench.load("first", new=True)
    bench.check_rows()
    assert bench.logged() == {}, "the first baseline of a stream logs nothing"
    figures["full-starter, the same again"] = bench.load("first")
    assert bench.logged() == {}, "the same export has logged changes"
    figures["verify"] = bench.verify("first")
    before = bench.ask("select count(*) from Sale")
    figures["full-starter, 5 % differ"] = bench.load("other")
    logged = bench.logged()
    assert set(logged) == {"replace", "delete", "insert"}, f"logged is {logged}"
    assert bench.ask("select count(*) from Sale") == before + logged["insert"] - logged["delete"]
    assert 0.04 < sum(logged.values()) / before < 0.06, f"logged is {logged} of {before} sales"
    return figures


def show(rounds: list[dict[str, Figures]]) -> None:
    """Print the medians, and the processor time as multiples of the loop's."""
    print(f"{'what':30} {'wall s':>8} {'CPU s':>8} {'MiB':>6} {'CPU, as a multiple':>19}")
    yardstick = statistics.median(figures["bare loop"].cpu for figures in rounds)
    for name in rounds[0]:
        wall, cpu, memory = (statistics.median(column) for column in zip(*(figures[name] for figures in rounds), strict=True))
        multiple = "" if name == "bare loop" else f"{cpu / yardstick:.2f}"
        print(f"{name:30} {wall:8.2f} {cpu:8.2f} {memory:6.0f} {multiple:>19}")


def grow(bench: Bench, sizes: list[int]) -> None:
    """Load exports of so many sales, each into a new mirror, and print what a row costs."""
    print(f"\n{'rows':>10} {'CPU s':>8} {'us a row':>9} {'MiB':>6} {'verify, CPU s':>14} {'MiB':>6}")
    for sales in sizes:
        bench.write("large", sales)
        loaded, verified = bench.load("large", new=True), bench.verify("large")
        rows = bench.ask("select (select count(*) from Sale) + (select count(*) from SaleLine)")
        assert rows == sales * (1 + bench.lines), f"there are {rows} rows"
        print(
            f"{rows:10,} {loaded.cpu:8.2f} {loaded.cpu / rows * 1e6:9.1f} {loaded.memory:6.0f} "
            f"{verified.cpu:14.2f} {verified.memory:6.0f}",
            flush=True,
        )
        shutil.rmtree(bench.folder / "large")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python bench/starter.py", description=__doc__.splitlines()[0])
    parser.add_argument("--sales", type=int, default=100_000)
    parser.add_argument("--lines", type=int, default=4, help="of each sale")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", default="", help="sales of further exports, such as 20000,100000,400000")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="delta-mirror-bench-") as name:
        bench = Bench(Path(name), options.lines)
        bench.write("first", options.sales)
        bench.write("other", options.sales + round(options.sales * NEW), CHANGED, MISSING)
        print(f"{options.sales:,} sales with {options.lines} lines each, random keys; medians of {options.rounds} rounds")
        show([run_round(bench) for _ in range(options.rounds)])
        for other in ("first", "other"):
            shutil.rmtree(bench.folder / other)
        if options.sizes:
            grow(bench, [int(size) for size in options.sizes.split(",")])


if __name__ == "__main__":
    main()
