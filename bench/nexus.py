"""`sync nexus ingest` beside a bare loop, each as a whole process on the same file: time and memory, medians of several rounds.

Checked is that the work was done: shuffled or in order, once or twice, the mirror holds the same.

    python bench/nexus.py [--messages 200000] [--rounds 3]
"""

import argparse
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from delta_mirror.simulator.profiles import profile_message

HERE = Path(__file__).parent
SYNC = Path(sys.executable).with_name("sync")
PER_CLIENT = 20  # messages


class Figures(NamedTuple):
    """What a process took: seconds, seconds of processor time, MiB."""

    wall: float
    cpu: float
    memory: float


def measure(*command: str | Path) -> Figures:
    """Return what *command* takes."""
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return Figures(time.perf_counter() - begun, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def ingest(folder: Path, name: str, messages: Path) -> Figures:
    """Take *messages* into the mirror *name*."""
    config = folder / f"{name}.toml"
    config.write_text(f'[mirror]\npath = "{name}.db"\n', encoding="utf-8")
    return measure(SYNC, "--quiet", "--config", config, "nexus", "ingest", messages)


def holds(folder: Path, name: str) -> dict[str, list[tuple[object, ...]]]:
    """Return what may not depend on the order of arrival."""
    with closing(sqlite3.connect(folder / f"{name}.db")) as mirror:
        tables = ("NexusClient", "NexusAddress", "NexusContact", "_sections")
        return {table: mirror.execute(f"select * from {table} order by 1, 2, 3").fetchall() for table in tables}


def one_round(folder: Path, number: int, messages: Path) -> tuple[Figures, Figures]:
    """Return what the bare loop and the program took for *messages*."""
    bare = measure(sys.executable, HERE / "nexus_bare_loop.py", messages, folder / f"bare-{number}.db")
    return bare, ingest(folder, f"mirror-{number}", messages)


def write(path: Path, order: list[int]) -> None:
    """Write messages, one a line. None is kept: what this process holds would count as the memory of those it starts."""
    clients = len(order) // PER_CLIENT or 1
    with path.open("wb") as file:
        for number in order:
            file.write(profile_message(number, clients) + b"\n")


def main() -> None:
    """Measure, check and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        order = list(range(asked.messages))
        write(folder / "ordered.jsonl", order)
        random.Random(1).shuffle(order)
        write(folder / "shuffled.jsonl", order)
        rounds = [one_round(folder, number, folder / "shuffled.jsonl") for number in range(asked.rounds)]
        bare, ours = (Figures(*map(statistics.median, zip(*side, strict=True))) for side in zip(*rounds, strict=True))
        again = ingest(folder, "mirror-0", folder / "shuffled.jsonl")
        ingest(folder, "in-order", folder / "ordered.jsonl")
        assert holds(folder, "mirror-0") == holds(folder, "in-order"), "the order of arrival has made a difference"
    print(f"{asked.messages:,} messages, shuffled")
    print("| who | wall s | CPU s | MiB | wall, as a multiple | CPU, as a multiple |")
    print("|---|---|---|---|---|---|")
    print(f"| bare loop | {bare.wall:.2f} | {bare.cpu:.2f} | {bare.memory:.0f} | | |")
    for who, figures in (("`sync nexus ingest`", ours), ("the same again", again)):
        print(
            f"| {who} | {figures.wall:.2f} | {figures.cpu:.2f} | {figures.memory:.0f} | {figures.wall / bare.wall:.2f} | "
            f"{figures.cpu / bare.cpu:.2f} |"
        )


if __name__ == "__main__":
    main()
