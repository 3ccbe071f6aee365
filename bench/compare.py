"""`make bench`: the program beside a bare loop, both as whole processes on one simulated service over loopback.

A round is: a full drain into a new file, a quiet run, a run after so many changed records; of each first the bare loop, then the
program. Shown are the medians over the rounds: wall time, processor time and the highest resident memory of the process, and the
program's time as a multiple of the loop's. The service has a process of its own; where a client waits for it, wall time says less
than processor time. So both are shown, and what the service itself used.

Nothing is asserted about time. What is asserted is that both have done their work: both files hold the same records, the log has
every change once, the deleted records are gone and have their tombstones, a quiet run has written nothing, and a second run is
kept out by the first, and only while that lives.

    python bench/compare.py [--records 50000] [--phones 3] [--changes 1000] [--rounds 3]
"""

import argparse
import compileall
import json
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import delta_mirror
from delta_mirror.simulator import CLIENT_ID, CLIENT_SECRET

HERE = Path(__file__).parent
SYNC = Path(sys.executable).with_name("sync")
TENANT, LOCATION = 11, 9
BUSY, UNFINISHED = 4, 3
BEYOND_OVERLAP = 900  # seconds; the overlap is 600
PATIENCE = 60.0  # seconds for a process to do what it does in a fraction of one

CONFIGURATION = """
[mirror]
path = "mirror.db"
[dds]
marketplace_url = "{url}"
client_id = "{client_id}"
client_secret = "{client_secret}"
entities = ["Client"]
calls_per_minute = 0
calls_per_day = 0
"""


class Figures(NamedTuple):
    """What one process took: seconds, seconds of processor time, MiB, and the service's own processor time meanwhile."""

    wall: float
    cpu: float
    memory: float
    served: float


class Service:
    """The service's process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.url = self._line()

    def tell(self, command: str) -> object:
        """Return what the service says to *command*."""
        assert self._process.stdin is not None
        print(command, file=self._process.stdin, flush=True)
        return json.loads(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@contextmanager
def serving(records: int, phones: int) -> Iterator[Service]:
    """Run the service while the body runs."""
    command: list[str | Path] = [sys.executable, HERE / "server.py", str(records), str(phones)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Service(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()


def compile_program() -> None:
    """Compile the program, as pip does of what it installs: from a clone it would else be compiled anew by each run."""
    compileall.compile_dir(Path(delta_mirror.__file__).parent, quiet=1)


def environment() -> dict[str, str]:
    """Return the environment of what is measured: this one, without what developers set for Python."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def measured(service: Service, command: list[str | Path], folder: Path) -> Figures:
    """Return what *command* took; it has to end with 0."""
    served = float(str(service.tell("cpu")))
    begun = time.perf_counter()
    with (folder / "said.txt").open("w") as said:
        process = subprocess.Popen(command, cwd=folder, env=environment(), stdout=subprocess.DEVNULL, stderr=said)
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{command[0]}: exit {process.returncode}\n{(folder / 'said.txt').read_text()}"
    served = float(str(service.tell("cpu"))) - served
    return Figures(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, served)


class Pair:
    """A folder with a file of each: what the bare loop fills, and the mirror."""

    def __init__(self, folder: Path, service: Service) -> None:
        self.folder = folder
        self.service = service
        self.bare_file, self.mirror = folder / "bare.db", folder / "mirror.db"
        configuration = folder / "config.toml"
        configuration.write_text(CONFIGURATION.format(url=service.url, client_id=CLIENT_ID, client_secret=CLIENT_SECRET))
        configuration.chmod(0o600)

    def measure(self) -> dict[str, Figures]:
        """Let both follow the feed to its end; return what each took."""
        place = (str(TENANT), str(LOCATION))
        bare: list[str | Path] = [
            sys.executable,
            HERE / "bare_loop.py",
            self.service.url,
            CLIENT_ID,
            CLIENT_SECRET,
            *place,
            self.bare_file,
        ]
        return {
            "bare loop": measured(self.service, bare, self.folder),
            "sync deltas": measured(self.service, [SYNC, "--quiet", "deltas"], self.folder),
        }

    def logged(self) -> dict[str, int]:
        """Return how many changes of each kind the mirror has logged so far."""
        return dict(rows_of(self.mirror, "select op, count(*) from _changes group by op"))


def rows_of(path: Path, sql: str, bare: Path | None = None) -> list[tuple[Any, ...]]:
    """Return what the file answers to *sql*, in which *bare* is a second one."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma temp_store = file")
        if bare is not None:
            connection.execute("attach ? as bare", (str(bare),))
        return connection.execute(sql).fetchall()


def check_contents(pair: Pair) -> None:
    """Pass if both files hold the same clients with the same phones, and the mirror nothing of a deleted one."""
    root = "EntityVersion, DateUpdated, LastName, EmailAddress, LoyaltyPoints, AccountBalance, ObjectStateEnum"
    child = "PhoneTypeEnum, CountryCode, PhoneNumber, FullPhoneNumber, UseForTextMarketing"
    for ours, theirs in (
        (f"select _id, {root} from main.Client", f"select EntityId, {root} from bare.Client"),
        (f"select _id, _n, {child} from main.ClientPhone", f"select Client_TId, n, {child} from bare.ClientPhone"),
    ):
        # Compared by SQLite: a process inherits the highest memory of the one that starts it.
        for one, other in ((ours, theirs), (theirs, ours)):
            [(differing,)] = rows_of(pair.mirror, f"select count(*) from ({one} except {other})", bare=pair.bare_file)
            assert differing == 0, f"{differing} rows of '{one}' are not in the other file"
    orphans = rows_of(pair.mirror, "select count(*) from ClientPhone where _id not in (select _id from Client)")
    assert orphans == [(0,)], "phones without a client"


def check_lock(pair: Pair) -> None:
    """Pass if a second run is kept out while the first lives, and let in once that was killed."""
    for path in pair.folder.glob("mirror.db*"):
        path.unlink()
    command: list[str | Path] = [SYNC, "--quiet", "deltas", "--deadline", "1s"]
    begun = time.monotonic()
    with subprocess.Popen([SYNC, "--quiet", "deltas"], cwd=pair.folder) as first:
        while not pair.mirror.exists() and time.monotonic() < begun + PATIENCE:
            time.sleep(0.01)
        second = subprocess.run(command, cwd=pair.folder, stderr=subprocess.DEVNULL, check=False)
        assert first.poll() is None, "the first run was over too soon; take more records"
        assert second.returncode == BUSY, f"a second run was not kept out: exit {second.returncode}"
        first.send_signal(signal.SIGKILL)
    third = subprocess.run(command, cwd=pair.folder, stderr=subprocess.DEVNULL, check=False)
    assert third.returncode in (0, UNFINISHED), f"the lock of a dead run holds: exit {third.returncode}"


def run_round(service: Service, changes: int) -> dict[str, dict[str, Figures]]:
    """Return the figures of one round, by what was done and by whom."""
    with tempfile.TemporaryDirectory(prefix="delta-mirror-bench-") as name:
        pair = Pair(Path(name), service)
        full = pair.measure()
        check_contents(pair)
        filled = pair.logged()
        [(living,)] = rows_of(pair.mirror, "select count(*) from Client")
        assert filled == {"insert": living}, f"the log of a new mirror of {living} records is {filled}"

        service.tell(f"advance {BEYOND_OVERLAP}")  # a quiet run is one that has nothing to read again
        quiet = pair.measure()
        assert pair.logged() == filled, "a quiet run has logged changes"

        said = service.tell(f"change {changes}")
        assert isinstance(said, dict)
        service.tell("advance 2")  # what is dated in the second of a drain's first call belongs to the next drain
        [(buried_before,)] = rows_of(pair.mirror, "select count(*) from _tombstones")
        after_changes = pair.measure()
        check_contents(pair)
        expected = {"insert": living, "replace": said["edited"], "delete": said["deleted"]}
        assert pair.logged() == expected, f"logged is {pair.logged()}, not {expected}"
        [(buried,)] = rows_of(pair.mirror, "select count(*) from _tombstones where record is not null")
        assert buried == buried_before + said["deleted"], f"there are {buried} tombstones"
        service.tell(f"advance {BEYOND_OVERLAP}")
    return {"full drain": full, "quiet run": quiet, f"{changes} changes": after_changes}


def show(rounds: list[dict[str, dict[str, Figures]]]) -> None:
    """Print the medians, and the program's as multiples of the loop's."""
    print(f"{'':14} {'':12} {'wall s':>8} {'CPU s':>8} {'MiB':>6} {'service CPU s':>14}   {'x wall':>6} {'x CPU':>6}")
    for what in rounds[0]:
        medians = {
            who: Figures(*map(statistics.median, zip(*(each[what][who] for each in rounds), strict=True)))
            for who in rounds[0][what]
        }
        bare = medians["bare loop"]
        for who, took in medians.items():
            line = f"{what:14} {who:12} {took.wall:8.2f} {took.cpu:8.2f} {took.memory:6.0f} {took.served:14.2f}"
            print(line if took is bare else f"{line}   {took.wall / bare.wall:6.2f} {took.cpu / bare.cpu:6.2f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=50_000)
    parser.add_argument("--phones", type=int, default=3, help="of each client")
    parser.add_argument("--changes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    compile_program()
    print(f"{options.records} clients with {options.phones} phones each, {options.rounds} rounds, medians", flush=True)
    with serving(options.records, options.phones) as service:
        show([run_round(service, options.changes) for _ in range(options.rounds)])
        with tempfile.TemporaryDirectory(prefix="delta-mirror-bench-") as name:
            check_lock(Pair(Path(name), service))
    print("checked: same records in both, change log, tombstones, lock")


if __name__ == "__main__":
    main()
