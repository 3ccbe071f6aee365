"""The simulated service in a process of its own, which does what it is told on standard input, a line a command.

    change N    N clients change now, one in twenty of them is deleted; says how many were edited and how many deleted
    advance N   N seconds go by
    cpu         says how many seconds of processor time the service has used

The first line of standard output is the address. It ends with its standard input.

    python bench/server.py CLIENTS PHONES
"""

import json
import random
import sys
import time

from delta_mirror.simulator import Service
from delta_mirror.simulator.clock import DAY, HOUR, SECOND, Clock
from delta_mirror.simulator.world import World

TENANT, LOCATION = 11, 9


def change(world: World, wanted: int, dice: random.Random) -> dict[str, int]:
    """Edit or delete *wanted* living clients, each once; return how many of both."""
    edited = deleted = 0
    clients = world.ids("Client")
    for record_id in dice.sample(clients, min(len(clients), wanted * 2)):
        if edited + deleted == wanted:
            break
        if world.is_deleted(record_id):
            continue
        lot = dice.random()
        if lot < 0.05:
            world.delete(record_id)
            deleted += 1
            continue
        if lot < 0.2:
            world.add_phone(record_id)
        else:
            world.edit(record_id, EmailAddress=f"moved.{dice.randrange(10**9)}@example.com", LoyaltyPoints=dice.randrange(99))
        edited += 1
    return {"edited": edited, "deleted": deleted}


def main(clients: str, phones: str) -> None:
    """Serve until standard input ends."""
    now = Clock.running().now
    # At noon, so that no round crosses midnight: the first run of each day reads a whole day again.
    world = World(1, tenants={TENANT: (LOCATION,)}, clock=Clock(now - now % DAY + 12 * HOUR, runs=True))
    world.populate(over=5 * DAY, clients=int(clients), phones=int(phones))
    dice = random.Random(1)
    with Service(world) as service:
        print(service.url, flush=True)
        for line in sys.stdin:
            command, *numbers = line.split()
            match command:
                case "change":
                    said: object = change(world, int(numbers[0]), dice)
                case "advance":
                    world.advance(int(numbers[0]) * SECOND)
                    said = None
                case "cpu":
                    said = time.process_time()
                case _:
                    raise SystemExit(f"no such command: {command}")
            print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
