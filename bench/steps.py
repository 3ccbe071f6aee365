"""Where the time of a drain goes: milliseconds of processor time per page, step by step.

The pages are fetched from the simulated service first and then taken through the steps of `jobs/drain.py`, without network or
threads. Of each step the best of several drains into new files is shown: what is slower was disturbed.

    python bench/steps.py [--records 10000] [--phones 3] [--rounds 5]
"""

import argparse
import gc
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import requests

from delta_mirror.core.model import Stream
from delta_mirror.core.paging import Walk
from delta_mirror.core.plan import Drained, decide
from delta_mirror.core.values import write_ticks
from delta_mirror.dds.tables import FEED_CHILDREN
from delta_mirror.dds.wire import read_page
from delta_mirror.jobs.drain import ids_of
from delta_mirror.mirror.read import Json
from delta_mirror.mirror.write import Mirror
from delta_mirror.simulator import CLIENT_ID, CLIENT_SECRET, Service
from delta_mirror.simulator.clock import DAY, Clock
from delta_mirror.simulator.world import World

CLIENTS = Stream(11, 9, "Client")
PAGE = 200  # records


def pages_of(world: World) -> Iterator[bytes]:
    """Yield the bodies of all pages that hold something."""
    with Service(world) as service, requests.Session() as session:
        form = {"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        token = session.post(f"{service.url}/oauth2/token", data=form, timeout=30).json()["access_token"]
        session.headers["Authorization"] = f"Bearer {token}"
        start = write_ticks(world.now - 6 * DAY)
        query = {"TenantId": "11", "LocationId": "9", "StartDate": start, "ItemsPerPage": str(PAGE)}
        address = f"{service.url}/publicapi/v1/cdc/entity/Client/changes"
        for number in range(1 + len(world.ids("Client")) // PAGE):
            answer = session.get(address, params={**query, "PageNumber": str(number)}, timeout=30)
            answer.raise_for_status()
            yield answer.content


def drain(bodies: list[bytes], start: int, clock: int, folder: Path) -> dict[str, float]:
    """Return how many seconds of processor time each step took, over all pages."""
    took: dict[str, float] = defaultdict(float)

    @contextmanager
    def step(name: str) -> Iterator[None]:
        begun = time.thread_time()
        yield
        took[name] += time.thread_time() - begun

    walk, drained = Walk(start, size=PAGE, count_known=lambda after, upto: 0), Drained()
    with Mirror.open(folder / "mirror.db", feed_tables=FEED_CHILDREN) as mirror:
        run_id = mirror.begin_run("deltas")
        for body in bodies:
            with step("read"):
                page = read_page(body, CLIENTS, clock)
            with step("walk"):
                walk.receive(page)
            transaction = mirror.transaction()
            tx = transaction.__enter__()
            with step("fit"):
                entries = tx.fit(CLIENTS, page.entries)
            with step("look up"):
                held = tx.current(CLIENTS, ids_of(entries))
            with step("decide"):
                plan = decide(held, entries, drained)
            with step("carry out"):
                tx.carry_out(CLIENTS, plan, run_id)
            with step("remember"):
                tx.remember(CLIENTS, cast("dict[str, Json]", walk.place()))
            with step("commit"):
                transaction.__exit__(None, None, None)
    return took


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python bench/steps.py", description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--phones", type=int, default=3, help="of each client")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    gc.set_threshold(100_000, 20, 20)  # as the program has it
    world = World(1, tenants={11: (9,)}, clock=Clock.running())
    world.populate(over=5 * DAY, clients=options.records, phones=options.phones)
    bodies = list(pages_of(world))
    rounds = []
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory(prefix="delta-mirror-bench-") as name:
            rounds.append(drain(bodies, world.now - 6 * DAY, world.now, Path(name)))
    best = {name: min(took[name] for took in rounds) / len(bodies) for name in rounds[0]}
    for name, seconds in best.items():
        print(f"{name:12} {seconds * 1000:6.2f} ms")
    print(f"{'a page':12} {sum(best.values()) * 1000:6.2f} ms, of {PAGE} clients with {options.phones} phones each")


if __name__ == "__main__":
    main()
