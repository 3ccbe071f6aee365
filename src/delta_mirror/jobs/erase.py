"""`sync erase`: remove a person everywhere in the mirror, and keep him from coming back.

Invariants:

- What goes and the mark are one transaction. What follows only clears the bytes that it has left in the files, and may be done
  again: by calling again, with the same person or another one.
- Nothing is written where the key is missing or another one, there is no room to clear the files, or it is not clear whom of
  several tenants is meant.
- Somebody of whom nothing is held is marked all the same: he may be on his way.
- No file is made where there is no mirror.
- Done is what was looked at: that no table holds anything of the person, and that the WAL is empty.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from delta_mirror.config import Config
from delta_mirror.core.keyed import Keyed
from delta_mirror.core.links import NEXUS
from delta_mirror.core.plan import Counts
from delta_mirror.errors import BusyError, RefusedError, UnfinishedError
from delta_mirror.jobs.outcome import EndedRun
from delta_mirror.jobs.selection import stored_id
from delta_mirror.jobs.session import StoppedError, deadline, interruptible, open_mirror
from delta_mirror.mirror.clear import check_room, empty_wal, overwrite_what_goes, write_anew
from delta_mirror.mirror.erase import (
    Naming,
    Person,
    Removed,
    erase,
    find_naming,
    settle,
    tenants_holding,
    tenants_known,
    tenants_marked,
)
from delta_mirror.mirror.read import Reader
from delta_mirror.mirror.transaction import Transaction
from delta_mirror.mirror.workspace import clear_work_folder
from delta_mirror.mirror.write import Mirror
from delta_mirror.nexus.sections import LAYOUTS

COMMAND = "erase"
AGAIN = "call again: bytes of the person may still be in the files of the mirror"
_NEXUS_TABLES = [layout.table for layout in LAYOUTS]


@dataclass(frozen=True, slots=True)
class EraseWishes:
    """Whom an operator wants to have erased. No `tenants` are those that hold the id, if that is one.

    `wait` is how many seconds another run is waited for, below 0 without end; `time_limit` how many the run may take.
    """

    entity: str
    id: str
    tenants: Sequence[int] = ()
    dry_run: bool = False
    wait: float = 0.0
    time_limit: float | None = None


@dataclass(slots=True)
class EraseReport(EndedRun):
    """What became of a run.

    `persons` is what was held, by tenant. `naming` is where records of others name the person. `size` is of the file, in bytes.
    """

    persons: dict[Person, Removed] = field(default_factory=dict)
    naming: list[Naming] = field(default_factory=list)
    size: int = 0

    @property
    def was_held(self) -> bool:
        """Whether anything of the person was there."""
        return any(removed.tables for removed in self.persons.values())


def run_erase(
    config: Config,
    wishes: EraseWishes,
    *,
    stop: threading.Event | None = None,
    tell: Callable[[str], None] = lambda message: None,
    now: Callable[[], float] = time.time,
) -> EraseReport:
    """Erase a person. *stop*, once set, ends the run; *tell* is told of what takes long.

    Raises:
        RefusedError: there is no key, or no mirror, or it is not clear who is meant; nothing was written.
        DiskFullError: there is no room; nothing was written.
        BusyError: another run holds the mirror.
    """
    keyed = config.require_mask_key("`sync erase`")
    id_ = stored_id(wishes.id)
    if wishes.entity == NEXUS and wishes.tenants:
        raise RefusedError(f"a {NEXUS} stands under no tenant; leave --tenant away")
    stop = stop or threading.Event()
    with Reader.open(config.mirror.path):
        pass  # a mirror is made by what fills it, and not by a path that is mistyped here
    report = EraseReport(started_at=now())
    with ExitStack() as stack:
        stack.enter_context(deadline(wishes.time_limit, stop, report.trouble, AGAIN))
        mirror = stack.enter_context(open_mirror(config, stop=stop, wait=wishes.wait, dry_run=wishes.dry_run, now=now))
        work = _Work(config, mirror, keyed, wishes, id_, report, stop)
        if wishes.dry_run:
            work.rehearse()
        else:
            work.carry_out(tell)
        report.outcome = "stopped" if stop.is_set() else "unfinished" if report.trouble else "done"
        report.ended_at = now()
        if report.id is not None:
            mirror.end_run(report.id, report.outcome, None, 0, 0, at=report.ended_at)
        report.size = config.mirror.path.stat().st_size
    return report


@dataclass(slots=True)
class _Work:
    """What a run works with."""

    config: Config
    mirror: Mirror
    keyed: Keyed
    wishes: EraseWishes
    id: str
    report: EraseReport
    stop: threading.Event

    def rehearse(self) -> None:
        """Find out what would go, and write nothing."""
        try:
            with self.mirror.transaction(keep=False) as tx:
                self._erase(tx)
                self._find_naming(tx)
        except StoppedError:
            pass

    def carry_out(self, tell: Callable[[str], None]) -> None:
        """Erase, and clear the files of what that has left in them."""
        check_room(self.mirror)
        overwrite_what_goes(self.mirror)
        try:
            with self.mirror.transaction() as tx:
                persons = self._erase(tx)
                run_id = tx.begin_run(COMMAND, at=self.report.started_at)
                tx.count(run_id, Counts(deleted=sum(removed.living for removed in persons.values())))
        except StoppedError:
            return
        self.report.id = run_id
        try:
            with self.mirror.transaction(keep=False) as tx:
                self._find_naming(tx)
            self._clear_files(tell)
        except StoppedError:
            pass
        except (UnfinishedError, RefusedError, BusyError) as error:
            self.report.trouble.append(f"{error}. No table holds anything of the person any more, but {AGAIN}")

    def _erase(self, tx: Transaction) -> dict[Person, Removed]:
        """Erase the person within *tx*, for each of the tenants that are meant; return what was held."""
        with tx.watched(self._check):
            persons = [Person(self.wishes.entity, tenant_id, self.id) for tenant_id in self._tenants(tx)]
            found = {person: erase(tx, person, self.keyed, self.report.started_at, _NEXUS_TABLES) for person in persons}
        self.report.persons = found
        return found

    def _tenants(self, tx: Transaction) -> Sequence[int]:
        """Return for which tenants the person is to be erased.

        Raises:
            RefusedError: several hold the id, and none was named; or none is known.
        """
        if self.wishes.entity == NEXUS:
            return [0]
        if self.wishes.tenants:
            return sorted(set(self.wishes.tenants))
        holding = tenants_holding(tx, self.wishes.entity, self.id)
        if len(holding) > 1:
            named = " and ".join(map(str, holding))
            raise RefusedError(
                f"the tenants {named} each hold a {self.wishes.entity} of this id, which may be two people; nothing was written. "
                "Name the one that you mean with --tenant, or all of them"
            )
        configured = [] if self.config.dds is None else [each.tenant_id for each in self.config.dds.locations]
        known = sorted({*configured, *tenants_known(tx)})
        tenants = holding or tenants_marked(tx, self.keyed, self.wishes.entity, self.id) or known
        if not tenants:
            raise RefusedError("the mirror knows of no tenant yet, so that nobody can be marked; name one with --tenant")
        return tenants

    def _find_naming(self, tx: Transaction) -> None:
        for person in self.report.persons:
            if person.entity != NEXUS:
                self.report.naming += find_naming(tx, person, self._check)

    def _clear_files(self, tell: Callable[[str], None]) -> None:
        """Clear the files of everything that was deleted, and make sure of it."""
        clear_work_folder(self.mirror.path)
        name = self.mirror.path.name
        tell(f"no table holds anything of it any more; {name} is written anew, which takes a while with a large one")
        write_anew(self.mirror, self._check)

        def waiting() -> None:
            tell(f"another program is reading {name}; waiting for it, so that the WAL can be emptied")

        if not empty_wal(self.mirror, interruptible(self.stop), waiting):
            raise BusyError(f"another program has been reading {name} all the time, so that its WAL cannot be emptied; close it")
        self._make_sure()
        with self.mirror.transaction() as tx:
            settle(tx)

    def _make_sure(self) -> None:
        """Return if no table holds anything of the person."""
        with self.mirror.transaction(keep=False) as tx:
            for person in self.report.persons:
                left = erase(tx, person, self.keyed, self.report.started_at, _NEXUS_TABLES)
                if left.tables:
                    raise RuntimeError(f"something is left of a person who was erased, in {', '.join(left.tables)}")

    def _check(self) -> None:
        if self.stop.is_set():
            raise StoppedError
