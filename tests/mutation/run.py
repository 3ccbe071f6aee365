"""How many small faults in the rules their tests notice: `make mutation`, over the modules that do no input or output.

mutmut makes the faults: an operator turned round, a number raised by one, an argument left out. Each is tried against the tests
that hold the module, in a process of its own that is cut off when it takes too long. Of a module with more faults than `--sample`
that many are taken at random, the same ones for the same `--seed`.

Invariants:

- It works on a copy, in `.mutation/`; the clone stays as it is.
- A fault that no test notices is shown as a difference, unless `explained.toml` says why none need notice it.
- A fault is known by the line that it changes and what that becomes, not by a number: lines may move.
- The exit code is 1 where a fault has survived without an explanation, or a module of rules has no tests named here.

What is not tried: functions with a decorator, which mutmut leaves alone, and what has run before a fault can be switched on, that
is the top of a module and the functions that it calls (`AT_IMPORT`).

    python tests/mutation/run.py [--sample 100] [--seed 1] [core/plan.py ...]
"""

import argparse
import json
import random
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import chdir
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = Path("src/delta_mirror")
FOLDER = ROOT / ".mutation"
EXPLAINED = Path(__file__).with_name("explained.toml")

# The tests that a fault in a module has to get past: those that say what the module is for, and that are quick.
HELD_BY: dict[str, tuple[str, ...]] = {
    "accela/answers.py": ("rules/test_accela_answers.py",),
    "accela/contact.py": ("rules/test_contact.py",),
    "accela/exact.py": ("rules/test_contact.py",),
    "accela/links.py": ("rules/test_links.py",),
    "accela/mapping.py": ("rules/test_mapping.py",),
    "accela/push_plan.py": ("rules/test_push_plan.py",),
    "calls/addresses.py": ("rules/test_addresses.py",),
    "config/words.py": ("rules/test_words.py",),
    "core/answer.py": ("rules/test_walk_parts.py",),
    "core/blanks.py": ("rules/test_blanks.py",),
    "core/bounds.py": ("rules/test_bounds.py",),
    "core/chance.py": ("rules/test_walk_parts.py",),
    "core/counting.py": ("rules/test_counting.py",),
    "core/debt.py": ("rules/test_walk_parts.py",),
    "core/drift.py": ("rules/test_model.py",),
    "core/erased.py": ("rules/test_erased.py",),
    "core/exact_json.py": ("rules/test_exact_json.py", "rules/test_wire.py"),
    "core/firstpage.py": ("rules/test_walk_parts.py",),
    "core/fold.py": ("rules/test_fold.py",),
    "core/following.py": ("rules/test_following.py", "rules/test_paging.py"),
    "core/horizon.py": ("rules/test_walk_parts.py",),
    "core/keyed.py": ("rules/test_keyed.py",),
    "core/links.py": ("rules/test_model.py",),
    "core/maintenance.py": ("rules/test_maintenance.py",),
    "core/mask.py": ("rules/test_mask.py",),
    "core/masked_body.py": ("rules/test_mask.py", "rules/test_masked_body.py", "rules/test_masked_messages.py"),
    "core/model.py": ("rules/test_model.py",),
    "core/names.py": ("rules/test_names.py",),
    "core/paging.py": ("rules/test_paging.py",),
    "core/plan.py": ("rules/test_plan.py",),
    "core/spans.py": ("rules/test_spans.py",),
    "core/stepping.py": ("rules/test_walk_parts.py",),
    "core/sweep.py": ("rules/test_sweep.py",),
    "core/values.py": ("rules/test_values.py",),
    "core/window.py": ("rules/test_window.py",),
    "dds/addresses.py": ("rules/test_addresses.py",),
    "dds/answers.py": ("rules/test_answers.py",),
    "dds/export.py": ("rules/test_export.py",),
    "dds/export_runs.py": ("rules/test_export_runs.py",),
    "dds/export_tables.py": ("rules/test_export_tables.py",),
    "dds/export_values.py": ("rules/test_export.py",),
    "dds/maskable.py": ("rules/test_mask.py",),
    "dds/sftp_address.py": ("rules/test_addresses.py",),
    "dds/tables.py": ("rules/test_tables.py",),
    "dds/wire.py": ("rules/test_wire.py",),
    "nexus/broker.py": ("rules/test_broker.py",),
    "nexus/differences.py": ("rules/test_differences.py",),
    "nexus/maskable.py": ("rules/test_mask.py",),
    "nexus/masking.py": ("rules/test_mask.py", "rules/test_masked_messages.py"),
    "nexus/message.py": ("rules/test_nexus_message.py", "rules/test_masked_messages.py"),
    "nexus/sas.py": ("rules/test_sas.py",),
    "nexus/sections.py": ("rules/test_nexus_message.py", "rules/test_differences.py"),
    "ops/prometheus.py": ("edges/test_ops.py",),
}

# As mutmut names them: `x_` and the name of a function, `xǁ` and the names of a class and its method.
AT_IMPORT = {
    "core/exact_json.py": ("x__classes__",),
    "nexus/message.py": ("xǁ_Namesǁ__init____",),
    "nexus/sections.py": ("x__layouts__", "x__spellings__"),
}

# Tests of those files that would take seconds for each of a hundred faults.
TOO_SLOW = (
    "tests/rules/test_paging.py::test_drain_killed_after_any_call_goes_on_and_passes_nothing_by",
    "tests/rules/test_paging.py::test_record_out_of_order_is_found_where_every_second_page_is_short",
)

CONFIGURATION = """
[tool.mutmut]
source_paths = ["src"]
only_mutate = ["{module}"]
also_copy = ["conftest.py"]
pytest_add_cli_args = ["-p", "tests.mutation.quick", "-p", "no:cacheprovider", "-p", "no:xdist"{deselected}]
pytest_add_cli_args_test_selection = {tests}
process_isolation = "forkserver"  # no test has run before in the process that tries a fault
track_dependencies = false
use_git_change_detection = false
timeout_constant = 4.0  # seconds
timeout_multiplier = 4.0
"""

# What mutmut notes of a fault: the exit code of pytest, a code of its own, or the signal that ended the process.
NOTICED = {1, 3}
SURVIVED = {0, 5, 33}  # the last two: no test of those comes by
CUT_OFF = {36, -24, 24, 152, -9}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: the lines that it changes, without their indentation, and what it makes of them."""

    module: str
    was: str
    becomes: str


@dataclass(slots=True)
class Score:
    """What became of the faults of one module. `survived` are mutmut's names of those that no test noticed."""

    module: str
    faults: int
    tried: int
    noticed: int = 0
    cut_off: int = 0
    survived: list[str] = field(default_factory=list)


def pure_modules() -> set[str]:
    """Return the modules with functions that do no input or output, by the import contract that says so."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    [named] = [each["source_modules"] for each in contracts if each["name"] == "the rules do no input or output"]
    paths = [ROOT / "src" / name.replace(".", "/") for name in named]
    files = [file for path in paths for file in (path.glob("*.py") if path.is_dir() else [path.with_suffix(".py")])]
    having = [file for file in files if re.search(r"^ *def ", file.read_text(encoding="utf-8"), re.MULTILINE)]
    return {file.relative_to(ROOT / SOURCE).as_posix() for file in having}


def explained() -> frozenset[Fault]:
    """Return the faults that are known to survive, and may."""
    listed = tomllib.loads(EXPLAINED.read_text(encoding="utf-8"))["explained"]
    return frozenset(Fault(each["module"], each["was"], becomes) for each in listed for becomes in each["becomes"])


def try_faults(module: str, sample: int, seed: int) -> Score:
    """Return what became of the faults of *module*, of *sample* of them where there are more."""
    lay_out(module)
    names = faults_of(module)
    chosen = sorted(random.Random(f"{seed} {module}").sample(names, min(sample, len(names))))
    score = Score(module, len(names), len(chosen))
    noted = run_mutmut(module, chosen) if chosen else {}
    for name in chosen:
        code = noted[name]
        if code in NOTICED:
            score.noticed += 1
        elif code in CUT_OFF:
            score.cut_off += 1
        elif code in SURVIVED:
            score.survived.append(name)
        else:
            raise SystemExit(f"error: {name} ended with {code}, which does not say what became of it")
    return score


def lay_out(module: str) -> None:
    """Make `.mutation/` a copy of what it takes to try faults in *module*, with nothing left of an earlier one."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    for name in ("src", "tests"):
        shutil.copytree(ROOT / name, FOLDER / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copy(ROOT / "conftest.py", FOLDER)
    tests = json.dumps([f"tests/{name}" for name in HELD_BY[module]])
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    deselected = "".join(f', "--deselect", "{name}"' for name in TOO_SLOW)
    configuration = CONFIGURATION.format(module=(SOURCE / module).as_posix(), tests=tests, deselected=deselected)
    (FOLDER / "pyproject.toml").write_text(project + configuration, encoding="utf-8")


def faults_of(module: str) -> list[str]:
    """Return mutmut's names of all faults that can be tried in *module*."""
    from mutmut.mutation.file_mutation import mutate_file_contents
    from mutmut.utils.format_utils import get_mutant_name

    path = SOURCE / module
    with chdir(FOLDER):
        made = mutate_file_contents(str(path), path.read_text(encoding="utf-8"))
    early = tuple(f"{name}mutmut_" for name in AT_IMPORT.get(module, ()))
    return [get_mutant_name(path, name) for name in made.mutant_names if not name.startswith(early)]


def run_mutmut(module: str, names: Sequence[str]) -> dict[str, int]:
    """Return of each fault what mutmut has noted."""
    mutmut = Path(sys.executable).with_name("mutmut")
    call = [str(mutmut), "run", "--max-children", "1", *names]
    ended = subprocess.run(call, cwd=FOLDER, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"error: mutmut did not come through {module}:\n{ended.stdout[-3000:]}{ended.stderr[-3000:]}")
    notes = json.loads((FOLDER / "mutants" / SOURCE / f"{module}.meta").read_text(encoding="utf-8"))
    found: dict[str, int] = notes["exit_code_by_key"]
    return found


def difference(module: str, name: str) -> str:
    """Return a fault as a unified difference."""
    from mutmut.mutation.diff_apply import get_diff_for_mutant

    with chdir(FOLDER):
        return str(get_diff_for_mutant(name, path=SOURCE / module))


def fault_of(module: str, shown: str) -> Fault:
    """Return the fault that a unified difference shows."""
    lines = shown.splitlines()[2:]
    was, becomes = (" ".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+")
    return Fault(module, was, becomes)


_CAST = re.compile(r"\bcast\([^,()]*,")


def is_nothing(fault: Fault) -> bool:
    """Return whether the fault changes only what a value is cast to, which is nothing when a program runs."""
    return _CAST.sub("cast(", fault.was) == _CAST.sub("cast(", fault.becomes)


def tell(score: Score, open_ones: Sequence[str]) -> Iterator[str]:
    """Yield the line of the table that a score is, and the differences that nothing explains."""
    left = len(open_ones)
    counts = (score.faults, score.tried, score.noticed, score.cut_off, len(score.survived) - left, left)
    yield f"| `{score.module}` | {' | '.join(map(str, counts))} |\n"
    for shown in open_ones:
        yield f"\n{shown}\n\n"


def main() -> int:
    """Try the faults of the modules that the command line names, and return the exit code."""
    parser = argparse.ArgumentParser(description="Try small faults in the rules against the tests that hold them.")
    parser.add_argument("modules", nargs="*", default=list(HELD_BY), help="such as core/plan.py; all where none is named")
    parser.add_argument("--sample", type=int, default=100, help="faults of a module, at most")
    parser.add_argument("--seed", type=int, default=1, help="another one takes other faults")
    asked = parser.parse_args()
    known = explained()
    forgotten = sorted(pure_modules() - set(HELD_BY))
    for module in forgotten:
        sys.stderr.write(f"error: HELD_BY in tests/mutation/run.py does not say which tests hold {module}\n")
    left = 0
    sys.stdout.write("| module | faults | tried | noticed | cut off | explained | open |\n|---|---|---|---|---|---|---|\n")
    for module in asked.modules:
        score = try_faults(module, asked.sample, asked.seed)
        shown = [difference(module, name) for name in score.survived]
        open_ones = [text for text in shown if not is_nothing(fault := fault_of(module, text)) and fault not in known]
        left += len(open_ones)
        for part in tell(score, open_ones):
            sys.stdout.write(part)
        sys.stdout.flush()
    return 1 if left or forgotten else 0


if __name__ == "__main__":
    sys.exit(main())
