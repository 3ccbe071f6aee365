"""The shim between the program and the C library (`shim.c`): compiling it, and telling it what to do.

Invariants:

- It is compiled where it is needed, into a folder of the caller's. It is made for the GNU C library; where there is another
  one, or no C compiler, there is no shim, and everything that takes it is left out.
- What it has done is read from its own report, not guessed from how the program has ended.
"""

import errno
import platform
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torture.plan import Trouble

SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "Ctrl-C": signal.SIGINT}


def compiler() -> str | None:
    """Return the C compiler of this machine, None where there is none that could make the shim."""
    if platform.libc_ver()[0] != "glibc":
        return None
    return next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)


def compile_into(folder: Path) -> Path | None:
    """Return the shim, compiled into *folder*; None where there is no compiler.

    Raises:
        subprocess.CalledProcessError: there is one, and it does not take the source.
    """
    cc = compiler()
    if cc is None:
        return None
    made = folder / "shim.so"
    source = Path(__file__).with_name("shim.c")
    # What a distribution hardens by default would put its own functions in front of ours.
    options = ["-Wall", "-Wextra", "-O1", "-U_FORTIFY_SOURCE", "-shared", "-fPIC"]
    subprocess.run([cc, *options, "-o", str(made), str(source), "-ldl"], check=True, capture_output=True, text=True)
    return made


@dataclass(frozen=True, slots=True)
class Orders:
    """What the shim is to do to one process: a rule for each of *troubles*, and the clock.

    Attributes:
        part: of the paths of the files that a failing disk is under; a signal comes at any file.
        ahead: seconds that the program's clock is ahead of the machine's.
        report: the file that the shim writes the numbers of the troubles to that have struck.
    """

    troubles: Sequence[Trouble]
    part: str
    ahead: float
    report: Path

    def environment(self, shim: Path | None) -> dict[str, str]:
        """Return the variables that bring *shim* and its orders to a process."""
        if shim is None:
            return {}
        return {
            "LD_PRELOAD": str(shim),
            "TORTURE_RULES": "\n".join(_rule(trouble, self.part) for trouble in self.troubles),
            "TORTURE_CLOCK": repr(self.ahead),
            "TORTURE_REPORT": str(self.report),
        }

    def struck(self) -> set[str]:
        """Return the names of the troubles that have struck so far."""
        if not self.report.exists():
            return set()
        return {self.troubles[int(line)].name for line in self.report.read_text(encoding="ascii").split()}


def _rule(trouble: Trouble, part: str) -> str:
    part = "-" if trouble.where == "open" or trouble.name in SIGNALS else part
    match trouble.name:
        case "disk full":
            action = f"errno:{errno.ENOSPC}"
        case "EIO":
            action = f"errno:{errno.EIO}"
        case "torn write":
            action = f"torn:{int(signal.SIGKILL)}"
        case "clock jumps":
            action = f"clock:{trouble.value}"
        case name:
            action = f"signal:{int(SIGNALS[name])}"
    return f"{trouble.where} {part} {trouble.after} {trouble.times} {action}"
