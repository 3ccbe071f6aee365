"""How many messages a second `sync nexus receive` takes in, from a simulated Service Bus in a process of its own.

    .venv/bin/python bench/receive.py --messages 20000

Both share this machine, so that the rate is that of the two together. Asserted is that every message was stored and completed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SYNC = Path(sys.executable).with_name("sync")


def main() -> None:
    """Measure some rounds, each with a new mirror, and print a line for each."""
    parser = argparse.ArgumentParser(description="Messages a second of sync nexus receive.")
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rates = [measure(options.messages) for _ in range(options.rounds)]
    print(f"median: {statistics.median(rates):,.0f} messages a second")


def measure(messages: int) -> float:
    """Return the messages a second of one run."""
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            [sys.executable, "-m", "delta_mirror.simulator.bus", "--messages", str(messages)], stdout=subprocess.PIPE, text=True
        ) as broker,
    ):
        assert broker.stdout is not None
        configuration = Path(folder) / "config.toml"
        configuration.write_text("[mirror]\n" + "".join(broker.stdout.readline() for _ in range(6)), encoding="utf-8")
        configuration.chmod(0o600)
        said, began = Path(folder) / "said.json", time.monotonic()
        with said.open("w") as output:
            command = [SYNC, "--quiet", "--config", configuration, "nexus", "receive", "--wait", "0s", "--json"]
            process = subprocess.Popen(command, stdout=output)
        # Of this process alone: the brokers of earlier rounds are children, too.
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        broker.terminate()
        assert process.returncode == 0
        report = json.loads(said.read_text(encoding="utf-8"))
    assert (report["messages"]["taken"], report["completed"]) == (messages, messages)
    cpu = used.ru_utime + used.ru_stime
    rate = messages / seconds
    print(
        f"{messages} messages in {seconds:.1f} s, {rate:,.0f} a second; {cpu / messages * 1000:.2f} ms of processor time each, "
        f"{report['pages']} batches, {used.ru_maxrss // 1024} MiB"
    )
    return rate


if __name__ == "__main__":
    main()
