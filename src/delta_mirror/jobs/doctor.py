"""`sync doctor`: look for trouble before it hurts. Nothing is mended here, and nothing changed but the count of calls.

Invariants:

- A check that fails stops no other: what it could not look at is said.
- No lock is taken: a run that is at work goes on, and one that begins meanwhile is not kept from it.
- The mirror is neither made nor migrated. The only thing that is ever written is what the promises of the ledger ask for:
  calls, before they are sent, and pauses that the service asks for (`checks/service.py` says when there are any).
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence

from delta_mirror.config import Config
from delta_mirror.errors import DeltaMirrorError
from delta_mirror.jobs.checks.case import Case, Finding, unknown, wrong
from delta_mirror.jobs.checks.mirror import check_file, check_lock, check_place, check_room
from delta_mirror.jobs.checks.others import check_accela, check_nexus, check_starter
from delta_mirror.jobs.checks.privacy import check_erased
from delta_mirror.jobs.checks.service import check_service
from delta_mirror.jobs.checks.setup import check_configuration, check_secrets, check_telling
from delta_mirror.jobs.checks.upkeep import check_budget, check_mask, check_quarantine, check_streams
from delta_mirror.mirror.examine import leaving_nothing_beside

Check = Callable[[Case], Iterator[Finding]]

# In the order in which they are told: what lies at the bottom of other trouble first.
CHECKS: Sequence[tuple[str, Check]] = (
    ("configuration", check_configuration),
    ("secrets", check_secrets),
    ("folder", check_place),
    ("mirror", check_file),
    ("mask", check_mask),
    ("disk", check_room),
    ("lock", check_lock),
    ("erased", check_erased),
    ("service", check_service),
    ("streams", check_streams),
    ("quarantine", check_quarantine),
    ("budget", check_budget),
    ("starter", check_starter),
    ("nexus", check_nexus),
    ("accela", check_accela),
    ("metrics file", check_telling),
)


def examine(
    load: Callable[[], Config], *, stop: threading.Event | None = None, clock: Callable[[], float] = time.time
) -> Iterator[Finding]:
    """Yield what is found, check by check, of the configuration that *load* brings."""
    try:
        config = load()
    except DeltaMirrorError as error:
        yield wrong("configuration", str(error), "mend the configuration; config.example.toml shows every key")
        return
    case = Case(config, clock, stop or threading.Event())
    with leaving_nothing_beside(config.mirror.path):
        for name, check in CHECKS:
            try:
                yield from check(case)
            except DeltaMirrorError as error:
                yield unknown(name, f"could not be looked at: {error}", "mend what is wrong above")
