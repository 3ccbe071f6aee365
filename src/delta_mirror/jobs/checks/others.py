"""Checks of what only some commands need: the source of Starter Exports, `[nexus]`, `[accela]`.

Invariants:

- What is not configured is not told of. A section that stands in the file with nothing in it is not configured.
- Neither broker nor agency is called: to look at a message locks it, and every login counts against its account.
"""

from collections.abc import Iterator

from delta_mirror.errors import RefusedError
from delta_mirror.jobs.checks.case import Case, Finding, ok, wrong
from delta_mirror.jobs.due import read_maps
from delta_mirror.jobs.starter import check_source


def check_starter(case: Case) -> Iterator[Finding]:
    """There are exports in the configured folder, or the address is one, and the key to log in with is there."""
    starter = case.config.starter
    if not starter.source:
        return
    try:
        check_source(case.config, None)
    except RefusedError as error:
        yield wrong("starter", str(error), "mend [starter] source")
        return
    if starter.key_file is not None and not starter.key_file.is_file():
        yield wrong("starter", f"there is no key {starter.key_file}", "mend [starter] key_file")
    else:
        yield ok("starter", "the source of Starter Exports can be used")


def check_nexus(case: Case) -> Iterator[Finding]:
    """`sync nexus receive` has all that it needs."""
    nexus = case.config.nexus
    if nexus is None or not (nexus.service_bus_url or nexus.topic or nexus.subscription or nexus.key_name or nexus.key.reveal()):
        return
    try:
        case.config.require_nexus()
    except RefusedError as error:
        yield wrong("nexus", str(error), "mend [nexus]; docs/nexus.md shows where its keys are found")
    else:
        yield ok("nexus", "[nexus] has every key; `sync nexus receive --max 1` shows whether they open the subscription")


def check_accela(case: Case) -> Iterator[Finding]:
    """`sync accela push` has all that it needs, and its maps can be read."""
    accela = case.config.accela
    if accela is None or not (accela.app_id or accela.app_secret.reveal() or accela.map):
        return
    try:
        read_maps(case.config, case.config.require_accela())
    except RefusedError as error:
        yield wrong("accela", str(error), "mend [accela]; docs/accela.md shows its keys and maps")
    else:
        entities = ", ".join(accela.map)
        yield ok(
            "accela", f"[accela] has every key, and maps {entities}; `sync accela push --dry-run` shows whether they are right"
        )
