"""`sync accela link`: tie mirrored records to Accela contacts, by a file.

Invariants:

- A file is taken whole or not at all.
- No file is made where there is no mirror: a link is about what a mirror holds.
- Nobody who was erased is linked: a link names him.
"""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from delta_mirror.accela.links import plan_file, read_file
from delta_mirror.config import MAPPED_ENTITIES, Config
from delta_mirror.core.links import LinkPlan, Who
from delta_mirror.errors import RefusedError
from delta_mirror.jobs.session import open_mirror
from delta_mirror.mirror.accela import Pushes
from delta_mirror.mirror.read import Reader
from delta_mirror.mirror.write import Mirror


@dataclass(frozen=True, slots=True)
class LinkReport:
    """What became of the links; `unknown` is how many of those written belong to a record that the mirror does not hold.

    `erased` is how many rows of the file were passed over because they name somebody who was erased.
    """

    run_id: int
    plan: LinkPlan
    unknown: int
    total: int
    erased: int


def run_link(
    config: Config,
    lines: Iterable[str],
    *,
    wait: float = 0.0,
    stop: threading.Event | None = None,
    now: Callable[[], float] = time.time,
) -> LinkReport:
    """Carry out what the CSV *lines* say. *wait* is how many seconds another run is waited for, below 0 without end.

    Raises:
        RefusedError: the file cannot be taken, or there is no mirror; nothing was written.
        BusyError: another run holds the mirror.
    """
    rows = read_file(lines, MAPPED_ENTITIES)
    _refuse_columns(config, {row.who.entity for row in rows})
    with Reader.open(config.mirror.path):
        pass  # a mirror is made by what fills it
    with open_mirror(config, stop=stop or threading.Event(), wait=wait, now=now) as mirror:
        pushes = Pushes(mirror, now)
        taken = [row for row in rows if not _is_erased(mirror, row.who)]
        plan = plan_file(pushes.links(), taken)
        run_id = mirror.begin_run("accela link")
        pushes.carry_out(plan)
        written = {link.who for link in [*plan.added, *plan.changed]}
        unknown = len(written - pushes.known(written))
        mirror.end_run(run_id, "done", None, 0, 0)
        return LinkReport(run_id, plan, unknown, len(pushes.links()), len(rows) - len(taken))


def _is_erased(mirror: Mirror, who: Who) -> bool:
    return mirror.erased is not None and mirror.erased.find(who.tenant_id, who.entity, who.id) is not None


def _refuse_columns(config: Config, entities: Iterable[str]) -> None:
    """Refuse links of an entity whose map names the column that links it: the next push would take them away."""
    maps = {} if config.accela is None else config.accela.map
    for entity in sorted(entities):
        if "contact_id" in maps.get(entity, {}):
            raise RefusedError(
                f"{config.path}: accela.map.{entity}.contact_id names the column that links a {entity}; take its rows out of the "
                "file, or that key out of the map"
            )
