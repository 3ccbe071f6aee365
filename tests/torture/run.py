"""Carrying out a schedule: the steps one after the other, what happens meanwhile, and the checks between and at the end.

Invariants:

- What an instant is told by (a call that a service has seen, a write that the shim has counted) is what is waited for; a process
  that does not end is a finding, after a bound that no loaded machine reaches.
- A trouble counts as having happened only where that was seen.
- After the last step the world goes quiet, and two runs have to do.
"""

import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event

from delta_mirror.simulator import MINUTE, faults
from delta_mirror.simulator.accela import AccelaFault
from delta_mirror.simulator.bus import BusFault
from torture import checks
from torture.pauses import PUBLIC, Pauses
from torture.people import Person, check_nobody_is_back, check_nothing_is_left
from torture.plan import CLOCK, COMMANDS, FULL, MEANWHILE, SIGNALS, Schedule, Step, Trouble
from torture.scene import Process, Scene
from torture.shim import SIGNALS as NUMBERS
from torture.spoil import fault_of_accela, fault_of_bus, fault_of_dds
from torture.veil import check_nothing_is_clear

PATIENCE = 600.0  # seconds; a machine may have much else to do, and its disk too
LOOK = 0.003  # seconds between two looks at whether something has happened
# What a call may end with that is struck by anything: all but a defect. A signal may strike before anybody listens for it.
ENDS = {0, 2, 3, 4, 5, 130, 143, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT}
QUIET = {"deltas", "nexus receive", "accela push"}


class Gate(Event):
    """The `release` of an answer that a service holds back; `reached` is set as soon as it does."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = Event()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait as an event does."""
        self.reached.set()
        return super().wait(timeout)

    def is_set(self) -> bool:
        """Say whether it is set, as an event does."""
        self.reached.set()
        return super().is_set()


class Run:
    """One schedule on its way. `happened` counts the ingredients that were seen to happen."""

    def __init__(self, schedule: Schedule, scene: Scene) -> None:
        self.schedule, self.scene = schedule, scene
        self.happened: Counter[str] = Counter()
        self._gates: list[tuple[Gate, Callable[[Process], object]]] = []
        self._struck: list[tuple[str, Callable[[], bool]]] = []
        self._reader: sqlite3.Connection | None = None
        self._is_new_mirror = False
        self._is_from_the_beginning = True
        self._pauses = Pauses()
        self._others: list[tuple[Person, Process]] = []

    def carry_out(self) -> None:
        """Do it all.

        Raises:
            AssertionError: something does not hold.
        """
        try:
            for number, step in enumerate(self.schedule.steps):
                self.scene.is_masked |= number == self.schedule.masked_from
                self._do(step)
                self._check()
            self._let_go()
            self._end()
        finally:
            self._let_go()

    # --- a step ------------------------------------------------------------------------------------------------------------

    def _do(self, step: Step) -> None:
        scene = self.scene
        self._prepare(step)
        for trouble in step.troubles:
            self._arm(trouble, step)
        wrong = sum(each.value for each in step.troubles if each.name == "clock wrong")
        counted = [each for each in step.troubles if each.where in ("write", "sync", "read", "open")]
        orders = scene.orders(counted, part="backup" if step.name == "backup" else "mirror.db", wrong_by=wrong)
        limit = next((int(each.value) for each in step.troubles if each.name == "file-size limit"), None)
        before, pushed = len(scene.service.calls), len(scene.accela.calls)
        begun = scene.world.now
        counts = scene.mirror.exists() or "--dry-run" not in step.options
        process = scene.start(*COMMANDS[step.name], *self._options(step), orders=orders, limit=limit)
        self._watch(process)
        self._end_others()
        self._note(step, process, orders.struck())
        self._disarm()
        self.judge(process)
        calls = [call for call in scene.service.calls[before:] if call.endpoint in PUBLIC]
        self._pauses.check(step, calls)
        self._pauses.learn(step, calls, process.code)
        self._pauses.check_agency(step, begun, scene.accela.calls[pushed:])
        self._pauses.learn_of_agency(step, begun, scene.accela.calls[pushed:], process.code)
        scene.to_be_counted += len(calls) if counts else 0

    def _options(self, step: Step) -> tuple[str, ...]:
        if step.name != "erase":
            return step.options
        person = self.scene.people.of(step.options[0])
        person.is_asked_for = True
        return (*person.arguments, *self._bound())

    def _bound(self) -> tuple[str, ...]:
        """Return what keeps an erasure from waiting for our own reader."""
        return () if self._reader is None else ("--deadline", "1s")

    def _prepare(self, step: Step) -> None:
        """Let happen what happens before *step*, and give it what it reads."""
        scene = self.scene
        scene.change(step.changes)
        scene.message(step.messages)
        if step.name in ("full-starter", "verify"):
            scene.export()
        if step.name in ("full-starter", "prune"):
            self._is_from_the_beginning = False
        scene.is_pruned |= step.name == "prune"
        wal = scene.place / "mirror.db-wal"
        if wal.exists() and wal.stat().st_size and self._reader is None:
            self.happened["WAL left behind"] += 1
        waits = any(each.name in ("slow answer", "wrong length") for each in step.troubles)
        scene.configure(timeout=1 if waits else 30)

    def _watch(self, process: Process) -> None:
        """Return when *process* has ended; carry out meanwhile what was to happen at calls that are reached."""
        waiting = list(self._gates)
        ends = time.monotonic() + PATIENCE
        while process.code is None:
            for gate, act in [each for each in waiting if each[0].reached.is_set()]:
                waiting.remove((gate, act))
                act(process)
                gate.set()
            with suppress(subprocess.TimeoutExpired):
                process.code = process.popen.wait(LOOK)
            assert time.monotonic() < ends, f"it does not end:\n{process.told_where_it_is()}"

    def _wait_for(self, process: Process) -> None:
        try:
            process.code = process.popen.wait(PATIENCE)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"it does not end:\n{process.told_where_it_is()}") from error

    def _note(self, step: Step, process: Process, struck: set[str]) -> None:
        self.happened[step.name] += 1
        self.happened.update(struck)
        for name, has_struck in self._struck:
            self.happened[name] += has_struck()
        for trouble in step.troubles:
            if trouble.name == "clock wrong" and self.scene.shim is not None:
                self.happened["clock wrong"] += 1
            if trouble.name in ("file-size limit", FULL):
                self.happened[trouble.name] += process.code == 3
        self.happened["mask"] += self.scene.is_masked
        if step.name == "erase" and process.code == 0:
            self.scene.people.of(step.options[0]).is_erased = True

    def judge(self, process: Process) -> None:
        """Pass if a call has ended as it may."""
        if process.code == 1 and "Fatal Python error: init_import_site" in process.err and "KeyboardInterrupt" in process.err:
            self.happened["Ctrl-C before Python was there"] += 1
            return
        assert process.code in ENDS, f"a defect:\n{process}"
        assert "Traceback" not in process.err, f"a defect:\n{process}"

    def _disarm(self) -> None:
        scene = self.scene
        for release, _ in self._gates:
            release.set()
        for queue in (scene.service.faults, scene.bus.faults, scene.accela.faults):
            for fault in queue:
                if fault.release is not None:
                    fault.release.set()
            queue.clear()
        self._gates.clear()
        self._struck.clear()
        if scene.small is not None:
            scene.small.make_room()
        away = scene.place / "away.db"
        if away.exists():
            if not self._is_new_mirror and not scene.mirror.exists():
                away.rename(scene.mirror)
            else:
                self._lose_mirror()
                away.unlink()

    def _lose_mirror(self) -> None:
        """From now on another mirror grows: what was done to the old one is known to nobody."""
        self._is_new_mirror = False
        self.scene.is_new = True
        self.scene.people.forget()
        self._pauses.forget()
        self._is_from_the_beginning = True

    def _check(self) -> None:
        with self.scene.copy() as path:
            if path is None or not checks.is_filled(path):
                return
            checks.check_is_sound(path, self.scene)
            self._check_log(path)
            self._check_privacy(path)
            checks.check_backup(self.scene)
            if not self.scene.is_pruned and not self.scene.is_new:
                checks.check_nothing_completed_is_missing(path, self.scene)
                checks.check_calls_are_counted(path, self.scene)

    def _check_log(self, path: Path) -> None:
        checks.check_log(path, from_the_beginning=self._is_from_the_beginning, is_rewritten=bool(self.schedule.masked_from))

    def _check_privacy(self, copy: Path) -> None:
        """Pass if nothing is left of whom was erased, and nothing is clear that was masked from the beginning."""
        scene = self.scene
        check_nobody_is_back(copy, scene.people.all)
        check_nothing_is_left(scene.folder, scene.people.all)
        if self.schedule.masked_from == 0:
            check_nothing_is_clear(scene.folder, sorted(scene.folder.glob("*backup.db*")))

    # --- troubles ----------------------------------------------------------------------------------------------------------

    def _arm(self, trouble: Trouble, step: Step) -> None:
        """Let *trouble* happen during the step that begins now; what the shim does is told to it elsewhere."""
        name, scene = trouble.name, self.scene
        if name == "huge page":
            scene.enlarge(int(trouble.value))
            self.happened[name] += step.name == "deltas"
        elif name == "reader in a long transaction":
            self._read()
        elif name == FULL and scene.small is not None:
            scene.small.leave(int(trouble.value))
        elif trouble.where in ("dds", "bus", "accela"):
            act = self._action(trouble, step)
            if act is None:
                self._spoil(trouble)
            else:
                gate = Gate()
                self._hold_back(trouble, gate)
                self._gates.append((gate, act))

    def _action(self, trouble: Trouble, step: Step) -> Callable[[Process], object] | None:
        """Return what is to happen when the call is reached that *trouble* names, None where the answer itself is spoilt."""
        name = trouble.name
        if name in SIGNALS:
            return lambda process: self._signal(process, trouble)
        if name == "two runs at once":
            return lambda process: self._second(process, trouble)
        if name in ("file moved away", "new file grown"):
            return lambda process: self._move(name)
        if name == "changes in the middle":
            return lambda process: self._change()
        if name == "byte by byte":
            return lambda process: self._end_dripping(process, trouble)
        if name == MEANWHILE:
            return lambda process: self._erase_meanwhile(trouble)
        return None

    def _signal(self, process: Process, trouble: Trouble) -> None:
        process.popen.send_signal(NUMBERS[trouble.name])
        self.happened[trouble.name] += 1
        if trouble.value < 0.5:
            self._wait_for(process)  # the answer is held back still
        elif trouble.value > 0.9:
            process.popen.send_signal(NUMBERS[trouble.name])  # somebody is impatient

    def _end_dripping(self, process: Process, trouble: Trouble) -> None:
        """Let nobody wait for the end of an answer that comes byte by byte: end the program, or let the rest come."""
        self.happened[trouble.name] += 1
        if trouble.value < 0.5:
            process.popen.send_signal(signal.SIGTERM)
            self._wait_for(process)

    def _second(self, process: Process, trouble: Trouble) -> None:
        """Call the program while another run holds the mirror, and wait for what has to end at once."""
        scene = self.scene
        kind = ("fail", "skip", "wait", "read")[int(trouble.value * 4)]
        if kind == "read":
            other = scene.start("status", "--json")
            self._wait_for(other)
            allowed = {0, 2} if scene.shim is None else {0, 2, 3}
            assert other.code in allowed, f"it may read meanwhile:\n{other}"
        else:
            other = scene.start("deltas", "--if-running", kind, *(["--deadline", "1s"] if kind == "wait" else []))
            self._wait_for(other)
            if process.popen.poll() is None:
                assert other.code == {"fail": 4, "skip": 0, "wait": 4}[kind], f"another run holds the mirror:\n{other}"
        self.happened["two runs at once"] += 1

    def _erase_meanwhile(self, trouble: Trouble) -> None:
        """Let somebody be erased as soon as the run ends that holds the mirror now."""
        person = self.scene.people.all[trouble.value > 0.7]
        person.is_asked_for = True
        process = self.scene.start("erase", *person.arguments, "--if-running", "wait", *self._bound())
        self._others.append((person, process))
        self.happened[MEANWHILE] += 1

    def _end_others(self) -> None:
        is_moved = (self.scene.place / "away.db").exists()
        for person, process in self._others:
            self._wait_for(process)
            self.judge(process)
            person.is_erased |= process.code == 0 and not is_moved
        self._others.clear()

    def _move(self, name: str) -> None:
        if self.scene.mirror.exists():
            self.scene.mirror.rename(self.scene.place / "away.db")
            self._is_new_mirror = name == "new file grown"
            self.happened[name] += 1

    def _change(self) -> None:
        self.scene.world.busy_hour(len(self.scene.calls), 5, over=MINUTE, entities=self.schedule.entities)
        self.happened["changes in the middle"] += 1

    def _read(self) -> None:
        if self._reader is not None or not self.scene.mirror.exists():
            return
        reader = sqlite3.connect(f"{self.scene.mirror.as_uri()}?mode=ro", uri=True, isolation_level=None)
        try:
            reader.execute("begin")
            reader.execute("select count(*) from sqlite_master").fetchone()
        except sqlite3.Error:
            reader.close()
            return
        self._reader = reader
        self.happened["reader in a long transaction"] += 1

    def _let_go(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    # --- spoilt answers ----------------------------------------------------------------------------------------------------

    def _hold_back(self, trouble: Trouble, gate: Gate) -> None:
        scene = self.scene
        match trouble.where:
            case "dds" if trouble.name == "byte by byte":
                scene.service.faults.append(faults.drip(gate, 0.2, after=trouble.after))
            case "dds":
                scene.service.faults.append(faults.slow(gate, after=trouble.after))
            case "bus":
                scene.bus.faults.append(BusFault("slow", after=trouble.after, release=gate))
            case _:
                scene.accela.faults.append(AccelaFault("slow", after=trouble.after, release=gate, written="at once"))

    def _spoil(self, trouble: Trouble) -> None:
        if trouble.where == "dds":
            fault = fault_of_dds(trouble)
            self.scene.service.faults.append(fault)
            self._struck.append((trouble.name, lambda: fault.struck > 0))
        elif trouble.where == "bus":
            broken = fault_of_bus(trouble)
            self.scene.bus.faults.append(broken)
            self._struck.append((trouble.name, lambda: broken.struck > 0))
        else:
            refusal = fault_of_accela(trouble)
            self.scene.accela.faults.append(refusal)
            self._struck.append((trouble.name, lambda: refusal.times < trouble.times if refusal.times is not None else False))

    # --- the end -----------------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        """Let the world go quiet, and pass if two runs of each command then make everything exact."""
        scene = self.scene
        scene.is_masked |= self.schedule.masked_from is not None
        scene.configure()
        self._erase_again()
        scene.rest()
        if self._may_see_a_false_gap():
            self._close_false_gap()
        self._clean("deltas", is_last=self._is_exact)
        used = {step.name.split()[0] for step in self.schedule.steps}
        if "nexus" in used:
            self._end_messages()
        if "accela" in used:
            self._end_pushes()
        with scene.copy() as path:
            assert path is not None
            checks.check_is_exact(path, scene)
            checks.check_is_sound(path, scene)
            self._check_log(path)
            if "nexus" in used:
                checks.check_messages(path, scene)
            self._check_privacy(path)
        if scene.is_masked:
            check_nothing_is_clear(scene.place, ())
        checks.check_no_secret(scene)

    def _erase_again(self) -> None:
        """Erase whom somebody has tried to erase, and let them change once more."""
        scene = self.scene
        people = scene.people.asked_for()
        if people and not self._is_filled():
            self._clean("deltas", allowed={0, 3})
        for person in people:
            self._clean("erase", options=person.arguments)
            person.is_erased = True
        if people:
            scene.change(3)
            scene.message(3)

    def _is_filled(self) -> bool:
        with self.scene.copy() as path:
            return path is not None and checks.is_filled(path)

    def _end_messages(self) -> None:
        scene = self.scene
        if scene.is_new:  # what the lost mirror had taken is nowhere but in the operator's own files
            self._clean("nexus ingest", allowed={0, 3})
        self._clean("nexus receive", allowed={0, 3}, is_last=lambda: scene.bus.subscription.left == 0)
        assert scene.bus.subscription.left == 0, "messages were left at the broker"
        assert scene.bus.dead.left == 0, "messages were given up"

    def _end_pushes(self) -> None:
        with self.scene.copy() as path:
            assert path is not None
            links = checks.rows_of(path, "select count(*) from _accela_links")
        erased = {person.id for person in self.scene.people.asked_for()}
        if links != [(len(set(self.scene.linked) - erased),)]:
            self._clean("accela link")
        self._clean("accela push")
        checks.check_contacts(self.scene)

    def _may_see_a_false_gap(self) -> bool:
        """Whether a clock that nothing could set right may have made the program take a time for a gap.

        A gap too many is loud, and loses nothing. It cannot be told from a true one: what the mirror knows of the time it knows
        by that clock, and a date of a record may lie ahead.
        """
        steps = {each.name for step in self.schedule.steps for each in step.troubles}
        return not self.schedule.dials.date_header and bool(steps & set(CLOCK))

    def _close_false_gap(self) -> None:
        """Let a run with a clock that is right see a gap that is none, lose nothing by it, and load a starter, as it advises."""
        for _ in range(2):
            self._clean("deltas", allowed={0, 3})
            if self._is_exact(gaps=True):
                break
        with self.scene.copy() as path:
            assert path is not None, "two runs of a quiet world have made no mirror"
            checks.check_rows_are_exact(path, self.scene)
            if not checks.gaps(path):
                return
        self.happened["gap by a wrong clock"] += 1
        self._is_from_the_beginning = False
        self.scene.export()
        self._clean("full-starter")

    def _clean(
        self,
        name: str,
        *,
        options: Sequence[str] = (),
        allowed: Collection[int] = frozenset({0}),
        is_last: Callable[[], bool] | None = None,
    ) -> None:
        """Call a command undisturbed; a second time where the first has not sufficed."""
        for _ in range(2):
            process = self.scene.start(*COMMANDS[name], *options)
            self._wait_for(process)
            self.judge(process)
            if process.code in allowed and (is_last is None or is_last()):
                return
        assert process.code in allowed, f"the second run of a quiet world:\n{process}"

    def _is_exact(self, *, gaps: bool = False) -> bool:
        """Whether everything is exact, *gaps* of the streams apart."""
        with self.scene.copy() as path:
            if path is None:
                return False
            try:
                (checks.check_rows_are_exact if gaps else checks.check_is_exact)(path, self.scene)
            except (AssertionError, sqlite3.Error):
                return False
        return True
