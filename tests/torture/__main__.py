"""Many schedules, one after the other: `python -m torture --seed 1 --count 1000`, from the folder `tests`.

Invariants:

- A schedule that does not hold is told with its seed, which has it again, and what was called; the folder is kept where asked.
- The exit code is 1 where one did not hold.
- Where that is allowed, it calls itself again in a namespace of mounts of its own (`small.py`).
"""

import argparse
import os
import resource
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from torture.plan import EXCUSED, INGREDIENTS, draw
from torture.shim import compile_into
from torture.small import may_mount, namespace
from torture.story import carry_out


def main() -> int:
    """Carry out so many schedules from a seed on; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m torture", description="Everything at once, many times.")
    parser.add_argument("--seed", type=int, default=1, help="of the first schedule")
    parser.add_argument("--count", type=int, default=100, help="of schedules")
    parser.add_argument("--keep", type=Path, help="a folder to keep what was left of a schedule that does not hold")
    parser.add_argument("--verbose", action="store_true", help="tell what every schedule is")
    options = parser.parse_args()
    if not may_mount() and (before := namespace()) is not None:
        command = [*before, sys.executable, "-m", "torture", *sys.argv[1:]]
        os.execvp(command[0], command)
    happened: Counter[str] = Counter()
    broken: list[int] = []
    with TemporaryDirectory(prefix="torture-") as place:
        shim = compile_into(Path(place))
        if not may_mount():
            _tell("nobody may mount here: no file system is made full")
        if shim is None:
            _tell("no C compiler: what the shim does is left out")
        for seed in range(options.seed, options.seed + options.count):
            begun, used = time.monotonic(), _cpu()
            schedule = draw(seed, has_shim=shim is not None, has_mounts=may_mount())
            if options.verbose:
                _tell("\n".join(map(str, schedule.steps)))
            outcome = carry_out(schedule, Path(place) / str(seed), shim, keep=options.keep)
            happened += outcome.happened
            if outcome.trouble:
                broken.append(seed)
                _tell(outcome.trouble)
            said = "BROKEN" if outcome.trouble else "ok"
            met = "; ".join(sorted(outcome.happened))
            _tell(f"{seed} {said}, {time.monotonic() - begun:.1f} s, CPU {_cpu() - used:.1f} s: {met}")
    for name in (*INGREDIENTS, *EXCUSED):
        _tell(f"{happened[name]:6} {name}{', excused' if name in EXCUSED else ''}")
    _tell(f"{options.count} schedules from {options.seed} on, {len(broken)} broken: {broken}, CPU {_cpu():.0f} s")
    return 1 if broken else 0


def _cpu() -> float:
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def _tell(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
