"""The place of a schedule: a salon with its service, a broker, an agency, a folder, and the installed program in it.

Invariants:

- One clock for all: the world's, which the program is shown by the shim. It moves only between two steps.
- The program is the console script, in a process of its own, over real sockets, with no configuration, home or secrets but those
  of the folder.
- The mirror is looked at by bare sqlite3 in a copy, so that what a dead process has left behind stays as it is.
- What the services were told, and what they saw, is kept here: it is what the mirror is measured by.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Self

from delta_mirror.simulator import CLIENT_ID, CLIENT_SECRET, DAY, HOUR, MINUTE, Service, World
from delta_mirror.simulator.accela import AGENCY, APP_ID, APP_SECRET, PASSWORD, USERNAME, AccelaDials, AccelaService
from delta_mirror.simulator.bus import KEY, Bus
from delta_mirror.simulator.clock import epoch_seconds
from delta_mirror.simulator.export import Quirks, write_export
from delta_mirror.simulator.profiles import profile_message
from delta_mirror.simulator.subscription import BusDials
from torture.people import People
from torture.plan import Schedule, Trouble
from torture.shim import Orders
from torture.small import Small
from torture.veil import FAMILY, MASK_KEY, configuration

SYNC = Path(sys.executable).with_name("sync")
TENANT = 11
LINKED = 4  # clients that are tied to contacts
SECRETS = (CLIENT_SECRET, APP_SECRET, PASSWORD, KEY, MASK_KEY)
MAP = """
[accela.map.Client]
"firstName" = "FirstName"
"email" = { column = "EmailAddress", clear = true }
"""


@dataclass(slots=True)
class Process:
    """A call of the program: what it was, and how it has ended; `code` is None while it has not."""

    arguments: tuple[str, ...]
    popen: "subprocess.Popen[bytes]"
    folder: Path
    code: int | None = None

    @property
    def out(self) -> str:
        """What it has written to standard output."""
        return (self.folder / "out").read_text(encoding="utf-8", errors="replace")

    @property
    def err(self) -> str:
        """What it has written to standard error."""
        return (self.folder / "err").read_text(encoding="utf-8", errors="replace")

    def told_where_it_is(self) -> "Process":
        """Return it, ended, with what its threads were at on its standard error."""
        self.popen.send_signal(signal.SIGABRT)
        self.code = self.popen.wait()
        return self

    def __str__(self) -> str:
        return f"$ sync {' '.join(self.arguments)}  -> {self.code}\n{self.out[-1500:]}{self.err[-5000:]}"


class Scene:
    """See the module. A context manager."""

    def __init__(self, schedule: Schedule, folder: Path, shim: Path | None) -> None:
        self.schedule, self.folder, self.shim = schedule, folder, shim
        self.place = folder / "small" if schedule.is_small else folder
        self.mirror = self.place / "mirror.db"
        self.small = Small(self.place) if schedule.is_small else None
        self.is_masked = schedule.masked_from == 0
        self.calls: list[Process] = []
        self.told: list[bytes] = []  # every message of Nexus, published or in a file, in the order of their numbers
        self.wasted: list[str] = []  # contacts that were written and did not change by it
        self.to_be_counted = 0  # calls of the public API, without those of a dry run that had no mirror to count them in
        self.is_pruned = False
        self.is_new = False  # the mirror is not the one that the messages were first stored in
        self._dice = Random(f"scene/{schedule.seed}")
        self._before: dict[str, dict[str, Any]] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        schedule = self.schedule
        self.world = World(seed=schedule.seed, tenants={TENANT: schedule.locations})
        number = schedule.records
        self.world.populate(over=3 * DAY, clients=number[0], employees=number[1], appointments=number[2], sales=number[3])
        self.linked = self.world.ids("Client")[:LINKED]
        self.people = People(schedule.seed, self.world, somebody=schedule.erases)
        if self.people.all:
            self.linked[-1] = self.people.of("Client").id
        self._rename()
        self.service = self._stack.enter_context(Service(self.world, schedule.dials))
        dials = BusDials(lock_seconds=60, max_delivery_count=1000, duplicates=0.1, patience=0.2)
        self.bus = self._stack.enter_context(Bus(dials, clock=self.world.clock, seed=schedule.seed))
        contacts = {f"c-{place}": _contact(f"c-{place}") for place in range(LINKED)}
        put = AccelaDials(put="replace" if schedule.replaces else "merge")
        self.accela = self._stack.enter_context(AccelaService(contacts, put, clock=self.world.clock))
        self.accela.before_write, self.accela.after_write = self._before_write, self._after_write
        self._write_links()
        self.export()
        self.message(10)
        self.configure()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for each in self.calls:
            if each.popen.returncode is None:
                each.popen.kill()
                each.popen.wait()
        self._stack.close()

    def clear_away(self) -> None:
        """Remove everything that lies in the folder."""
        if self.small is not None:
            self.small.close()
        shutil.rmtree(self.folder)

    # --- what is told ------------------------------------------------------------------------------------------------------

    def configure(self, *, timeout: int = 30, attempts: int = 2) -> None:
        """Write the configuration; no pause between two attempts."""
        schedule = self.schedule
        keys: dict[str, dict[str, str | int | list[str]]] = {
            "mirror": {"path": str(self.mirror.relative_to(self.folder)), "deletes": schedule.deletes},
            "http": {"timeout": f"{timeout}s", "attempts": attempts, "max_wait": "0s"},
            "ops": {"metrics_file": "sync.prom"},
            "dds": {
                "marketplace_url": self.service.url,
                "client_id": CLIENT_ID,
                "client_secret": CLIENT_SECRET,
                "calls_per_minute": 0,
                "calls_per_day": 0,
                "entities": list(schedule.entities),
                "items_per_page": schedule.size,
                "parallel": schedule.parallel,
            },
            "accela": {
                "auth_url": self.accela.url,
                "api_url": self.accela.url,
                "app_id": APP_ID,
                "app_secret": APP_SECRET,
                "agency": AGENCY,
                "username": USERNAME,
                "password": PASSWORD,
            },
        }
        if schedule.erases or schedule.masked_from is not None:
            keys["mirror"]["mask_key"] = MASK_KEY
        lines = [
            line
            for section, pairs in keys.items()
            for line in (f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in pairs.items()))
        ]
        mask = configuration() if self.is_masked else ""
        path = self.folder / "config.toml"
        path.write_text("\n".join(lines) + MAP + self.bus.configuration() + mask, encoding="utf-8")
        path.chmod(0o600)

    def export(self) -> None:
        """Write a Starter Export of the salon as it is now, in place of an earlier one."""
        folder = self.folder / "export"
        shutil.rmtree(folder, ignore_errors=True)
        quirks = Quirks(written_offset=self.schedule.dials.written_offset)
        write_export(self.world, folder, quirks, entities=self.schedule.entities)

    def change(self, number: int) -> None:
        """Let so many records change, while a quarter of an hour goes by; among them one that is tied to a contact."""
        if number:
            self.world.busy_hour(len(self.calls), number, over=15 * MINUTE, entities=self.schedule.entities)
            self.people.change()
            self._rename()
            known = self._dice.choice(self.linked)
            if not self.world.is_deleted(known) and known not in {person.id for person in self.people.all}:
                self.world.edit(known, FirstName=f"Name{self._dice.randrange(1000)}")

    def enlarge(self, size: int) -> None:
        """Give a client a text of that many characters."""
        self.world.edit(self._dice.choice(self.world.ids("Client")), Notes="x" * size)

    def _rename(self) -> None:
        """Give two clients family names that a mask must not let through."""
        if self.schedule.masked_from is not None:
            for place in range(2):
                self.world.edit(self.linked[place], LastName=f"{FAMILY}{self.world.count}")

    def message(self, number: int) -> None:
        """Publish so many messages, and let a file hold all that there ever were."""
        for _ in range(number):
            body, name = self.people.message(len(self.told)) or (self._message(len(self.told)), None)
            self.told.append(body)
            self.bus.publish(body, message_id=name)
        (self.folder / "messages.jsonl").write_bytes(b"".join(body + b"\n" for body in self.told))

    def _message(self, number: int) -> bytes:
        if self._dice.random() < 0.03:
            return b'{"Client": ' + str(number).encode()  # cut off
        body = profile_message(number, clients=3)
        if b"Address Details" in body and self._dice.random() < 0.3:
            return body.replace(b'"Updated"', b'"Address Removed"')
        return body

    def rest(self) -> None:
        """Let the clock go on until every pause and every lock is over and everything is visible."""
        self.world.advance(3 * HOUR)
        self.world.settle(self.schedule.dials.lag + self.schedule.dials.late_by)
        for faults in (self.service.faults, self.bus.faults, self.accela.faults):
            faults.clear()

    def _write_links(self) -> None:
        rows = ["entity,id,contact_id,tenant_id,location_id"]
        for place, client in enumerate(self.linked):
            rows.append(f"Client,{client},c-{place},{TENANT},{self.world.newest(client).locations[0]}")
        (self.folder / "links.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")

    def _before_write(self, contact: str) -> None:
        self._before[contact] = deepcopy(self.accela.contacts[contact])

    def _after_write(self, contact: str) -> None:
        if self.accela.contacts[contact] == self._before[contact]:
            self.wasted.append(contact)

    # --- the program -------------------------------------------------------------------------------------------------------

    def orders(self, troubles: Sequence[Trouble] = (), *, part: str = "mirror.db", wrong_by: float = 0.0) -> Orders:
        """Return orders for the next call: the clock of the world, wrong by so many seconds."""
        ahead = epoch_seconds(self.world.now) - time.time() + wrong_by
        return Orders(troubles, part, ahead, self.folder / f"report-{len(self.calls)}")

    def start(self, *arguments: str, orders: Orders | None = None, limit: int | None = None) -> Process:
        """Return a call of the program that has just begun; *limit* is the largest size of a file, in KiB."""
        folder = self.folder / "calls" / f"{len(self.calls)}"
        folder.mkdir(parents=True)
        # No compiled modules: a full disk would cut them. The fault handler tells where a process was that does not end.
        python = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONFAULTHANDLER": "1"}
        environment = {"PATH": os.defpath, "HOME": str(self.folder / "home"), "LC_ALL": "C.UTF-8", **python}
        bound = [] if limit is None else ["bash", "-c", f'ulimit -f {limit}; exec "$@"', "-"]
        with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
            popen = subprocess.Popen(
                [*bound, SYNC, *self.schedule.manner, *arguments],
                cwd=self.folder,
                env={**environment, **(orders or self.orders()).environment(self.shim)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )
        process = Process(arguments, popen, folder)
        self.calls.append(process)
        return process

    @contextmanager
    def copy(self) -> Iterator[Path | None]:
        """Hand over a copy of the mirror as it lies there, WAL included; None where there is none yet."""
        folder = self.folder / "copy"
        folder.mkdir()
        try:
            for name in ("mirror.db", "mirror.db-wal"):
                with suppress(FileNotFoundError):
                    shutil.copyfile(self.place / name, folder / name)
            yield folder / "mirror.db" if (folder / "mirror.db").exists() else None
        finally:
            shutil.rmtree(folder)


def _contact(name: str) -> dict[str, Any]:
    return {
        "id": name,
        "serviceProviderCode": AGENCY,
        "firstName": "Before",
        "email": "before@example.org",
        "unknownToUs": {"list": [1, 2.5, {"deep": None}], "text": "stays"},
    }
