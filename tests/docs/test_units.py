"""The units for systemd are such as systemd takes, and call the program as it wants to be called."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import documents
import pytest

UNITS = sorted((documents.ROOT / "docs" / "systemd").iterdir())
SYNC = Path(sys.executable).with_name("sync")


def call_of(unit: Path) -> list[str]:
    [call] = re.findall(r"^ExecStart=(.+)$", unit.read_text(encoding="utf-8"), re.MULTILINE)
    words: list[str] = call.split()
    return words


def test_there_is_a_service_and_a_timer_of_one_name() -> None:
    assert {unit.suffix for unit in UNITS} == {".service", ".timer"}
    assert len({unit.stem for unit in UNITS}) == 1


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    for unit in UNITS:
        text = unit.read_text(encoding="utf-8").replace("/home/you/.local/bin/sync", str(SYNC)).replace("User=you", "User=root")
        (tmp_path / unit.name).write_text(text, encoding="utf-8")
    files = [str(tmp_path / unit.name) for unit in UNITS]

    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *files], capture_output=True, text=True, timeout=60)

    about_ours = [line for line in done.stderr.splitlines() if "delta-mirror" in line]
    assert (about_ours, done.returncode) == ([], 0), done.stderr


def test_program_that_the_service_calls_takes_the_call() -> None:
    [service] = [unit for unit in UNITS if unit.suffix == ".service"]
    program, *arguments = call_of(service)

    done = subprocess.run([SYNC, *arguments, "--help"], capture_output=True, text=True, timeout=60)

    assert program.startswith("/")
    assert done.returncode == 0, done.stderr
    assert {argument for argument in arguments if argument.startswith("--")} == {"--config", "--if-running", "--deadline"}
