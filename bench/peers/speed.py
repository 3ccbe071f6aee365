"""`make peers`, first half: the program beside the tools that people would use instead, all as whole processes on one service.

A round is a full drain into a new file, and then, so many times, a quiet run and a run after so many changed records; at each
step the tools take turns. Shown, as a Markdown table, are medians: wall time, processor time, and the highest resident memory of
a process. The multiples are medians of the ratios step by step, so that they hold where the machine's speed drifts.

Nothing is asserted about time. What is asserted is that each tool has done its work: after a drain and after changes all of them
have as many living clients as the service.

    python bench/peers/speed.py [--records 50000] [--phones 3] [--changes 1000] [--rounds 1] [--repeats 3]
"""

import argparse
import statistics
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from tools import BARE_LOOP, OURS, TOOLS, Service, compile_program, described, measured, serving

BEYOND_OVERLAP = 900  # seconds; the overlap is 600

Steps = dict[str, list[dict[str, tuple[float, float, float]]]]
"""Per kind of step what each tool took, step by step: seconds, seconds of processor time, MiB."""


class Round:
    """All tools on one service, each with a folder of its own."""

    def __init__(self, folder: Path, service: Service, steps: Steps) -> None:
        self._service = service
        self._steps = steps
        self._folders = {tool: folder / f"{number}" for number, tool in enumerate(TOOLS)}
        for tool, own in self._folders.items():
            tool.prepare(own, service.url)

    def step(self, kind: str) -> None:
        """Let each tool run once, in turn, and keep what it took as one of the steps of this *kind*."""
        self._steps[kind].append(self.run())
        print(f"{kind}: {', '.join(f'{name} {took[0]:.1f} s' for name, took in self._steps[kind][-1].items())}", file=sys.stderr)

    def run(self) -> dict[str, tuple[float, float, float]]:
        """Let each tool run once, in turn; return what it took."""
        took = {}
        for tool, folder in self._folders.items():
            figures = measured(self._service, tool.call(folder, self._service.url), folder)
            took[tool.name] = (figures.wall, figures.cpu, figures.memory)
        return took

    def check(self, living: int) -> None:
        """Pass if every tool has so many living clients."""
        for tool, folder in self._folders.items():
            assert tool.living(folder) == living, f"{tool.name} has {tool.living(folder)} living clients, not {living}"


def run_round(service: Service, changes: int, repeats: int, living: int, steps: Steps) -> int:
    """Add the figures of one round to *steps*; return how many clients are left living."""
    with tempfile.TemporaryDirectory(prefix="delta-mirror-bench-") as name:
        tools = Round(Path(name), service, steps)
        tools.step("full drain")
        tools.check(living)
        for _ in range(repeats):
            service.tell(f"advance {BEYOND_OVERLAP}")
            tools.step("quiet run")
            living -= _change(service, changes)
            tools.step(f"{changes:,} changes")
            tools.check(living)
            service.tell(f"advance {BEYOND_OVERLAP}")
            living -= _change(service, 1)
            tools.run()  # else the changes would lie in the overlap of the next repeat, and some would read them once more
        service.tell(f"advance {BEYOND_OVERLAP}")
    return living


def _change(service: Service, number: int) -> int:
    """Let so many records change; return how many of them were deleted."""
    said = service.tell(f"change {number}")
    assert isinstance(said, dict)
    service.tell("advance 2")  # what is dated in the second of a drain's first call belongs to the next drain
    return int(said["deleted"])


def table(steps: Steps) -> str:
    """Return the medians, and every tool's time as a multiple of the bare loop's and of ours."""
    lines = [
        "| what | who | wall s | CPU s | MiB | wall, x bare loop | CPU, x bare loop | wall, x ours | CPU, x ours |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for kind, taken in steps.items():
        for tool in TOOLS:
            wall, cpu, memory = (statistics.median(took[tool.name][figure] for took in taken) for figure in range(3))
            ratios = [
                statistics.median(took[tool.name][figure] / took[other.name][figure] for took in taken)
                for other in (BARE_LOOP, OURS)
                for figure in (0, 1)
            ]
            lines.append(
                f"| {kind} | {tool.name} | {wall:.2f} | {cpu:.2f} | {memory:.0f} | "
                + " | ".join(f"{ratio:.2f}" for ratio in ratios)
                + " |"
            )
            kind = ""
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python bench/peers/speed.py", description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=50_000)
    parser.add_argument("--phones", type=int, default=3, help="of each client")
    parser.add_argument("--changes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=1, help="full drains")
    parser.add_argument("--repeats", type=int, default=3, help="quiet runs, and runs after changes, of each round")
    options = parser.parse_args()
    compile_program()
    print(f"{described()}; {options.records:,} clients with {options.phones} phones each\n", flush=True)
    steps: Steps = defaultdict(list)
    with serving(options.records, options.phones) as service:
        living = options.records
        for _ in range(options.rounds):
            living = run_round(service, options.changes, options.repeats, living, steps)
    print(table(steps))


if __name__ == "__main__":
    main()
