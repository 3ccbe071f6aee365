"""`make peers`, second half: what each tool makes of thirteen small worlds, from running code.

Each tool meets each world on a service of its own, with a hundred clients and pages of twenty: it drains the feed, then something
happens that can happen to a feed, then it runs as cron would call it, every fifteen minutes. When the world has gone quiet and
everything in it is visible, it runs twice more. Then what it keeps is compared with what there is.

The verdict is the worst that was found, of all clients and phones:

- **right**: what it keeps is what there is;
- **lost**: a client or phone is missing;
- **doubled**: one is there more often than it should be;
- **orphans**: there are phones that their client has no longer, or whose client is gone;
- **stale**: a client that is gone is still there, or has values that it once had;
- **bent**: a value is there that was never sent;
- **error**: the last run failed. A run that failed before, and was made good by a later one, is named beside the verdict, and so
  is one that was still asking after so many calls and had to be killed ("no end").

    python bench/peers/small_worlds.py [--only TEXT] [--at-once 2]
"""

import argparse
import os
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import requests
from tools import COLUMNS, LOCATION, TENANT, TOOLS, Held, Tool, compile_program, described, environment

from delta_mirror.simulator import CLIENT_ID, CLIENT_SECRET, DAY, HOUR, MINUTE, SECOND, Clock, Dials, Service, Stream, World
from delta_mirror.simulator.clock import written
from delta_mirror.simulator.faults import Fault
from delta_mirror.simulator.salon import Body, rows

CLIENTS = 100
PAGE = 20  # records
BETWEEN_RUNS = 15 * MINUTE
CALLS = 400  # of one run, after which there is no hope that it ends
PATIENCE = 120.0  # seconds for a run that takes two or three
STREAM = Stream(TENANT, LOCATION, "Client")
ORDER = ("error", "lost", "doubled", "orphans", "stale", "bent")

Happening = Callable[["Scene"], Iterator[None]]
"""Changes the scene; each `yield` is a run of the tool."""


class Scene:
    """A world with its service: what happens, and what is to be found afterwards."""

    def __init__(self, dials: Dials) -> None:
        now = Clock.running().now
        # At noon, so that no world crosses midnight; standing still, so that a world is the same again whatever it runs on.
        self.world = World(1, tenants={TENANT: (LOCATION,)}, clock=Clock(now - now % DAY + 12 * HOUR))
        self.world.populate(over=5 * DAY, clients=CLIENTS, phones=2)
        self.service = Service(self.world, replace(dials, max_page_size=PAGE))
        self.ids = self.world.ids("Client")

    def during_call(self, number: int, happens: Callable[[], object]) -> None:
        """Let *happens* happen once, before the page of so many calls from now is made up."""
        left = number

        def before_page(_: object) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                happens()

        self.service.before_page = before_page

    def calm_down(self) -> None:
        """End whatever happens, and let everything become visible."""
        self.service.before_page = None
        self.service.faults.clear()
        self.world.settle()
        self.world.advance(BETWEEN_RUNS)

    def page(self, number: int, start: int) -> bytes:
        """Return a page of what has changed after *start*, as the service gives it."""
        form = {"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        token = requests.post(f"{self.service.url}/oauth2/token", data=form, timeout=10).json()["access_token"]
        query = {"TenantId": TENANT, "LocationId": LOCATION, "ItemsPerPage": PAGE, "PageNumber": number}
        query["StartDate"] = written(start)
        address = f"{self.service.url}/publicapi/v1/cdc/entity/Client/changes"
        return requests.get(address, params=query, headers={"Authorization": f"Bearer {token}"}, timeout=10).content


# The worlds


def moves_between_pages(scene: Scene) -> Iterator[None]:
    """Let a client of the first page change while the third is asked for: all behind it move up by one."""
    scene.during_call(3, lambda: scene.world.edit(scene.ids[3], EmailAddress="moved@example.com"))
    yield


def tie_at_the_page_end(scene: Scene) -> Iterator[None]:
    """Make fifty clients at one date, which lie on three pages in an order that differs from call to call."""
    scene.service.dials = replace(scene.service.dials, order="ascending_ties_random")
    yield
    with scene.world.tied():
        for _ in range(50):
            scene.world.create("Client")
    yield


def one_id_twice(scene: Scene) -> Iterator[None]:
    """List both versions of a client that has changed twice, the older one last."""
    yield
    scene.service.dials = replace(scene.service.dials, per_change=True, order="descending")
    scene.world.edit(scene.ids[5], EmailAddress="first@example.com")
    scene.world.advance(SECOND)
    scene.world.alter(scene.ids[5], lambda body: (_without_phones(body), body.update(EmailAddress="second@example.com")))
    yield


def late_row(scene: Scene) -> Iterator[None]:
    """Make a client that becomes visible six minutes after its date, while another one has changed since."""
    yield
    scene.world.create("Client", late=6 * MINUTE)
    scene.world.advance(MINUTE)
    scene.world.edit(scene.ids[5], EmailAddress="later@example.com")
    scene.world.advance(MINUTE)
    yield


def deleted_and_made_again(scene: Scene) -> Iterator[None]:
    """Delete a client, and make it again under the same id, with fewer columns and no phones."""
    yield
    scene.world.delete(scene.ids[5])
    yield

    def born_again(body: Body) -> None:
        body["ObjectStateEnum"] = 2026
        body.pop("EmailAddress", None)
        _without_phones(body)

    scene.world.alter(scene.ids[5], born_again)
    yield


def children_emptied(scene: Scene) -> Iterator[None]:
    """Take all its phones from a client."""
    yield
    scene.world.alter(scene.ids[5], _without_phones)
    yield


def field_nulled(scene: Scene) -> Iterator[None]:
    """Take its e-mail address from a client: the feed leaves out what is NULL."""
    yield
    scene.world.edit(scene.ids[5], EmailAddress=None)
    yield


def short_page(scene: Scene) -> Iterator[None]:
    """Let pages that are not the last lack rows at their end."""
    scene.service.dials = replace(scene.service.dials, short_pages=True)
    yield


def type_changes(scene: Scene) -> Iterator[None]:
    """Send text in a column that held numbers, once one that looks like a number."""
    yield
    scene.world.edit(scene.ids[5], LoyaltyPoints="many")
    scene.world.edit(scene.ids[6], LoyaltyPoints="0012")
    yield


def page_for_ever(scene: Scene) -> Iterator[None]:
    """Let the last page be the answer to every higher page number."""
    yield
    start = scene.world.now
    for client in scene.ids[: 2 * PAGE]:
        scene.world.edit(client, EmailAddress="again@example.com")
    last = scene.page(1, start - 1)
    for number in range(1, CALLS):
        scene.service.faults.append(Fault("answer", {"page": number, "times": None}, status=200, body=last))
    yield


def same_stamp(scene: Scene) -> Iterator[None]:
    """Change the newest client once more without a new date, on a service that lists what is dated exactly StartDate."""
    scene.service.dials = replace(scene.service.dials, start_inclusive=True)
    stamp = scene.world.edit(scene.ids[5], EmailAddress="first@example.com").date
    yield
    scene.world.edit(scene.ids[5], date=stamp, EmailAddress="second@example.com")
    yield


def stamps_of_varying_width(scene: Scene) -> Iterator[None]:
    """Leave out the zeros at the end of a stamp: 10.52Z is later than 10.5Z, but not as text."""
    scene.service.dials = replace(scene.service.dials, written_offset="Z")
    for ticks in (scene.world.now + 5 * SECOND // 10, scene.world.now + 52 * SECOND // 100):
        scene.world.advance(max(0, ticks - scene.world.now))
        stamp = written(ticks, "Z").rstrip("Z").rstrip("0") + "Z"
        scene.world.create("Client", date=ticks, DateUpdated=stamp)
        yield


def stamps_of_other_offsets(scene: Scene) -> Iterator[None]:
    """Write stamps by the clock of the salon, which goes back an hour one night: later, but not as text."""
    for offset in ("+02:00", "+01:00"):
        scene.world.create("Client", DateUpdated=written(scene.world.now, offset))
        yield


def _without_phones(body: Body) -> None:
    body.pop("ClientPhone_T", None)


WORLDS: dict[str, Happening] = {
    "a record moves between pages": moves_between_pages,
    "a tie at the page end": tie_at_the_page_end,
    "one id twice": one_id_twice,
    "a late row": late_row,
    "deleted and made again": deleted_and_made_again,
    "children emptied": children_emptied,
    "a field nulled": field_nulled,
    "a short page": short_page,
    "a column changes its type": type_changes,
    "a page for ever": page_for_ever,
    "content changes, the stamp does not": same_stamp,
    "stamps of varying width": stamps_of_varying_width,
    "stamps at varying offsets": stamps_of_other_offsets,
}


# The verdict


@dataclass
class Case:
    """One tool in one world: how its runs ended, and what is wrong with what it keeps."""

    ends: list[str] = field(default_factory=list)
    found: Counter[str] = field(default_factory=Counter)

    @property
    def verdict(self) -> str:
        """The verdict in a few words."""
        worst = next((word for word in ORDER if self.found[word]), "right")
        told = worst if worst in ("right", "error") else f"{worst} {self.found[worst]}"
        trouble = [end for end in dict.fromkeys(self.ends[:-1]) if end]
        return f"{', '.join(trouble)}, then {told}" if trouble and not self.ends[-1] else told


def judge(scene: Scene, held: Held) -> Counter[str]:
    """Return what is wrong with *held*, each kind with how often it was found."""
    wanted = {id_: scene.world.newest(id_).body for id_ in scene.world.ids("Client") if not scene.world.is_deleted(id_)}
    found: Counter[str] = Counter()
    there = Counter(id_ for id_, _ in held.clients)
    found["lost"] += sum(id_ not in there for id_ in wanted)
    found["stale"] += sum(id_ not in wanted for id_ in there)
    found["doubled"] += sum(times > 1 for times in there.values())
    for id_, values in held.clients:
        if id_ in wanted:
            found.update(_judge_values(scene, id_, wanted[id_], values))
    phones: dict[str | None, Counter[str]] = {id_: Counter() for id_ in wanted}
    for id_, number in held.phones:
        phones.setdefault(id_, Counter())[number] += 1
    found["orphans"] += phones.pop(None, Counter()).total()
    for id_, body in wanted.items():
        if id_ in there:
            sent = Counter(str(phone["FullPhoneNumber"]) for phone in rows(body, "ClientPhone_T"))
            found["lost"] += (sent - phones[id_]).total()
            for number, times in (phones[id_] - sent).items():
                found["doubled" if number in sent else "orphans"] += times
    return found


def _judge_values(scene: Scene, id_: str, body: Body, values: tuple[object, ...]) -> Iterator[str]:
    versions = [change.body for change in scene.world.history(STREAM).changes if change.id == id_]
    for column, value in zip(COLUMNS, values, strict=True):
        if value != body.get(column):
            yield "stale" if value in [version.get(column) for version in versions] else "bent"


def run(tool: Tool, scene: Scene, folder: Path) -> str:
    """Let *tool* run once; return what was wrong with how it ended, "" for nothing."""
    calls, begun = len(scene.service.calls), time.monotonic()
    with (folder / "said.txt").open("ab") as said:
        process = subprocess.Popen(
            tool.call(folder, scene.service.url),
            cwd=folder,
            env=environment(),
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    while process.poll() is None:
        if len(scene.service.calls) - calls > CALLS or time.monotonic() - begun > PATIENCE:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return "no end"
        time.sleep(0.02)
    return "error" if process.returncode else ""


def meet(tool: Tool, happening: Happening) -> str:
    """Let *tool* meet a world; return the verdict."""
    case = Case()
    scene = Scene(Dials())
    with tempfile.TemporaryDirectory(prefix="delta-mirror-bench-") as name, scene.service:
        folder = Path(name)
        tool.prepare(folder, scene.service.url)
        for _ in happening(scene):
            case.ends.append(run(tool, scene, folder))
            scene.world.advance(BETWEEN_RUNS)
        scene.calm_down()
        for _ in range(2):
            case.ends.append(run(tool, scene, folder))
            scene.world.advance(BETWEEN_RUNS)
        case.found = judge(scene, tool.held(folder))
        case.found["error"] += case.ends[-1] != ""
    return case.verdict


def main() -> None:
    """Let every tool meet every world, and print what came of it."""
    parser = argparse.ArgumentParser(prog="python bench/peers/small_worlds.py", description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="worlds and tools whose names hold this")
    parser.add_argument("--at-once", type=int, default=2, help="cases at a time")
    options = parser.parse_args()
    compile_program()
    tools = [tool for tool in TOOLS if options.only in tool.name] or list(TOOLS)
    worlds = {name: happening for name, happening in WORLDS.items() if options.only in name} or WORLDS
    print(f"{described()}\n", flush=True)
    with ThreadPoolExecutor(options.at_once) as pool:
        verdicts = {name: [pool.submit(meet, tool, happening) for tool in tools] for name, happening in worlds.items()}
        print("| world | " + " | ".join(tool.name for tool in tools) + " |")
        print("|---|" + "---|" * len(tools))
        for name, row in verdicts.items():
            print(f"| {name} | " + " | ".join(verdict.result() for verdict in row) + " |", flush=True)


if __name__ == "__main__":
    main()
