"""Checks of what only some commands need: the source of Starter Exports, `[nexus]`, `[accela]`.

Invariants:

- What is not configured is not told of. A section that stands in the file with nothing in it is not configured.
- Each other side is asked for what changes nothing there: an SFTP host to list its files, the broker to renew a lock that nobody
  has, Accela for a token and one linked contact. No message is taken, and no contact written.
- Credentials are offered once, so that no account is locked.
- A pause that the broker has asked for is kept, and so is a new one, in the mirror. Who cannot keep one does not ask.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing

from delta_mirror.accela.push_plan import Refusal
from delta_mirror.config import Config
from delta_mirror.errors import CredentialsError, DeltaMirrorError, RefusedError
from delta_mirror.jobs.checks.case import Case, Finding, hasty, ok, open_for_notes, unknown, wrong
from delta_mirror.jobs.due import read_maps
from delta_mirror.jobs.push import open_accela
from delta_mirror.jobs.receive import heed_pause, keep_pause, open_bus
from delta_mirror.jobs.session import interruptible
from delta_mirror.jobs.starter import list_source
from delta_mirror.mirror.read import Reader
from delta_mirror.mirror.write import Mirror

LOOK = "do what the message says"


def check_starter(case: Case) -> Iterator[Finding]:
    """There are exports in the configured folder, or on the host, which lets us in with the key."""
    starter = case.config.starter
    if not starter.source:
        return
    if starter.key_file is not None and not starter.key_file.is_file():
        yield wrong("starter", f"there is no key {starter.key_file}", "mend [starter] key_file")
        return
    try:
        files = list_source(hasty(case.config), None)
    except DeltaMirrorError as error:
        yield wrong("starter", str(error), "do what the message says, or mend [starter] source")
        return
    places = {(file.tenant_id, file.location_id) for file in files}
    newest = max((file.date for file in files if len(file.date) == len("YYYYMMDD")), default="")
    told = f"{_counted(len(files), 'file')} of {_counted(len(places), 'location')}"
    yield ok("starter", f"{told} can be listed there" + (f", the newest of {newest}" if newest else ""))


def check_nexus(case: Case) -> Iterator[Finding]:
    """`sync nexus receive` has all that it needs, and the broker lets us in."""
    nexus = case.config.nexus
    if nexus is None or not (nexus.service_bus_url or nexus.topic or nexus.subscription or nexus.key_name or nexus.key.reveal()):
        return
    try:
        yield _knock(case)
    except RefusedError as error:
        yield wrong("nexus", str(error), "mend [nexus]; docs/nexus.md shows where its keys are found")
    except DeltaMirrorError as error:
        yield wrong("nexus", str(error), LOOK)


def _knock(case: Case) -> Finding:
    limits: list[float | None] = []
    with ExitStack() as stack:
        bus = open_bus(hasty(case.config), limits.append, now=case.clock, sleep=interruptible(case.stop))
        stack.callback(bus.close)
        noting = open_for_notes(case)
        if noting is None and case.has_mirror:
            return unknown("nexus", "the broker was not asked: a pause could not be kept in the mirror", "mend that first")
        mirror = stack.enter_context(noting or Mirror.in_memory(now=case.clock))
        heed_pause(mirror)
        try:
            bus.knock()
        finally:
            for until in limits:
                keep_pause(mirror, until)
    what = "the broker accepts the key, and speaks of no wrong topic or subscription"
    return ok("nexus", f"{what}; `sync nexus receive --max 1` shows for certain")


def check_accela(case: Case) -> Iterator[Finding]:
    """`sync accela push` has all that it needs, its maps can be read, and the agency lets us in."""
    accela = case.config.accela
    if accela is None or not (accela.app_id or accela.app_secret.reveal() or accela.map):
        return
    try:
        read_maps(case.config, case.config.require_accela())
    except RefusedError as error:
        yield wrong("accela", str(error), "mend [accela]; docs/accela.md shows its keys and maps")
        return
    try:
        yield _log_in(hasty(case.config), case, list(accela.map))
    except CredentialsError as error:
        yield wrong("accela", str(error), "mend [accela]")
    except DeltaMirrorError as error:
        yield wrong("accela", str(error), LOOK)


def _log_in(config: Config, case: Case, entities: Sequence[str]) -> Finding:
    contact_id = _linked_contact(case)
    with closing(open_accela(config, now=case.clock, sleep=interruptible(case.stop))) as service:
        service.log_in()
        found = None if contact_id is None else service.get(contact_id)
    maps = f"and there are maps of {', '.join(entities)}; `sync accela push --dry-run` shows what they would do"
    if contact_id is None:
        return ok("accela", f"Accela accepts the credentials, {maps}. No contact was read, as none is linked yet")
    if isinstance(found, Refusal):
        what = f"Accela accepts the credentials, and does not show the contact {contact_id} ({found})"
        return wrong("accela", what, "mend its link with `sync accela link`, or ask whether the user may read contacts")
    return ok("accela", f"Accela accepts the credentials and shows a linked contact, {maps}")


def _linked_contact(case: Case) -> str | None:
    """Return the id of the contact that was linked first, None where none is."""
    if not case.has_mirror:
        return None
    with Reader.open(case.config.mirror.path) as reader:
        rows = reader.ask("select contact_id from _accela_links order by rowid limit 1")[1]
    return str(rows[0][0]) if rows else None


def _counted(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
