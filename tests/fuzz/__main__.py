"""The long search: `python -m fuzz TARGET --minutes 10`. What it finds is printed, and lies under `--folder` afterwards."""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fuzz.engine import Failure, Target, attempt, bound_memory, fast_folder, inputs, smaller
from fuzz.targets import TARGETS


class Search:
    """One search for failures of one target."""

    def __init__(self, target: Target[Any], check: Callable[[Any], None], folder: Path, minutes: float) -> None:
        self.tries = 0
        self.failures: dict[str, Failure] = {}
        self._target = target
        self._check = check
        self._folder = folder
        self._begun = time.process_time()
        self._until = self._begun + 60 * minutes
        self._told = self._begun

    @property
    def is_over(self) -> bool:
        """Whether the time, of the processor and not of the clock, is spent."""
        return time.process_time() >= self._until

    def try_one(self, octets: bytes) -> None:
        """Try one input, and tell of a failure that is new."""
        self.tries += 1
        failure = attempt(self._target, self._check, octets)
        if failure is not None and failure.signature not in self.failures:
            self.failures[failure.signature] = failure
            self._tell(smaller(self._target, self._check, failure))
        now = time.process_time()
        if now - self._told >= 60:
            self._told = now
            print(f"{self.told()}", flush=True)

    def _tell(self, failure: Failure) -> None:
        place = self._folder / f"{self._target.name}-{len(self.failures)}"
        place.with_suffix(".octets").write_bytes(failure.octets)
        made = f"octets = bytes.fromhex({failure.octets.hex()!r})\nsent = {failure.sent[:4000]}"
        told = f"{failure.signature}\n\n{made}\n\n{failure.told}"
        place.with_suffix(".txt").write_text(told, encoding="utf-8", errors="backslashreplace")
        print(f"FOUND {failure.signature} (see {place}.txt)", flush=True)

    def told(self) -> str:
        """Return how far it has come."""
        minutes = (time.process_time() - self._begun) / 60
        return f"{self._target.name}: {minutes:.1f} minutes, {self.tries:,} tries, {len(self.failures)} failures"


def main() -> int:
    """Search, and return 1 where something was found."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--minutes", type=float, default=10.0, help="of processor time")
    parser.add_argument("--seed", type=int, default=None, help="else the time of day, which is printed")
    parser.add_argument(
        "--folder", type=Path, default=None, help="where failures are kept; else a new one under the usual place for such"
    )
    said = parser.parse_args()
    seed = time.time_ns() if said.seed is None else said.seed
    folder = said.folder or Path(tempfile.mkdtemp(prefix="fuzz-"))
    folder.mkdir(parents=True, exist_ok=True)
    bound_memory()
    target = TARGETS[said.target]
    print(f"{target.name}: seed {seed}, failures go to {folder}", flush=True)
    with tempfile.TemporaryDirectory(dir=fast_folder()) as work, target.open(Path(work)) as check:
        search = Search(target, check, folder, said.minutes)
        for octets in inputs(seed, target.longest):
            if search.is_over:
                break
            search.try_one(octets)
    print(search.told(), flush=True)
    return 1 if search.failures else 0


if __name__ == "__main__":
    sys.exit(main())
