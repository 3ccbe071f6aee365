"""The services on this machine, for tests and the demo: an invented salon over real sockets.

Invariants:

- Deterministic from a seed, with a clock of its own.
- Nothing of the program under test is imported here: what both got wrong alike would stay unseen.

    world = World(seed=1)
    world.populate(clients=100, sales=50)
    with Service(world, Dials(order="descending")) as service:
        ...  # service.url, service.calls, service.faults
"""

from delta_mirror.simulator.clock import DAY, HOUR, MINUTE, SECOND, START, Clock, Moment
from delta_mirror.simulator.dials import LAG, Dials
from delta_mirror.simulator.service import CLIENT_ID, CLIENT_SECRET, Call, Service
from delta_mirror.simulator.world import Change, Stream, World

__all__ = [
    "CLIENT_ID",
    "CLIENT_SECRET",
    "DAY",
    "HOUR",
    "LAG",
    "MINUTE",
    "SECOND",
    "START",
    "Call",
    "Change",
    "Clock",
    "Dials",
    "Moment",
    "Service",
    "Stream",
    "World",
]
