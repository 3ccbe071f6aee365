"""Run the simulated service until it is told to end: `python -m delta_mirror.simulator`.

Invariants:

- The first line of standard output is the address, the second what a configuration needs besides; both are written when
  calls are already answered.
- SIGTERM and Ctrl-C end it with exit code 0.
"""

import argparse
import ast
import signal
import sys
from dataclasses import fields, replace
from threading import Event

from delta_mirror.simulator.clock import DAY, Clock
from delta_mirror.simulator.dials import Dials
from delta_mirror.simulator.service import Service
from delta_mirror.simulator.world import World


def main(arguments: list[str] | None = None) -> int:
    """Serve an invented salon chain until a signal comes; return the exit code."""
    told = Event()
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, lambda *_: told.set())
    options = _options(arguments)
    world = World(options.seed, tenants={options.tenant: options.location or (9, 10)}, clock=Clock.running())
    world.populate(
        over=round(options.days * DAY),
        clients=options.clients,
        phones=options.phones,
        employees=options.employees,
        appointments=options.appointments,
        sales=options.sales,
    )
    with Service(world, options.dials, port=options.port) as service:
        sys.stdout.write(f"{service.url}\nclient_id {service.client_id} client_secret {service.client_secret}\n")
        sys.stdout.flush()
        while not told.wait(60 / options.changes_per_minute if options.changes_per_minute else None):
            world.busy_hour(options.seed, 1, over=0)
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m delta_mirror.simulator", description="The DDS on this machine.")
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tenant", type=int, default=11)
    parser.add_argument("--location", type=int, action="append", help="may be repeated; 9 and 10 if not given")
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--phones", type=int, default=None, help="of each client; none to three if not given")
    parser.add_argument("--employees", type=int, default=20)
    parser.add_argument("--appointments", type=int, default=200)
    parser.add_argument("--sales", type=int, default=200)
    parser.add_argument("--days", type=float, default=5.0, help="that the records' dates are spread over")
    parser.add_argument("--changes-per-minute", type=float, default=0.0, help="that go on while it runs")
    parser.add_argument("--dial", action="append", default=[], metavar="NAME=VALUE", help="one of the dials, may be repeated")
    options = parser.parse_args(arguments)
    try:
        options.dials = _dials(options.dial)
    except ValueError as error:
        parser.error(str(error))
    return options


def _dials(settings: list[str]) -> Dials:
    known = {field.name for field in fields(Dials)}
    chosen: dict[str, object] = {}
    for setting in settings:
        name, _, text = setting.partition("=")
        if name not in known:
            raise ValueError(f"no such dial: {name}; there are {', '.join(sorted(known))}")
        try:
            chosen[name] = ast.literal_eval(text)
        except (SyntaxError, ValueError):
            chosen[name] = text  # a plain word is itself
    return replace(Dials(), **chosen)  # type: ignore[arg-type]  # the values are the reader's own business


if __name__ == "__main__":
    sys.exit(main())
