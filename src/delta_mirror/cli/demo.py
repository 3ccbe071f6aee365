"""`sync demo`: the whole thing on a simulated salon, with the real commands, over real HTTP, on this machine.

Invariants:

- Nothing of the operator is touched: configuration and mirror lie in a new folder, which stays for a look around.
- What is shown is what the commands print.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from delta_mirror.cli.demo_telling import call_sync, say, show_query, step

if TYPE_CHECKING:
    from delta_mirror.simulator import World

SEED = 2021
CONFIG = """\
[mirror]
path = "mirror.db"

[http]
timeout = "5s"

[dds]
marketplace_url = "{url}"
client_id = "{client_id}"
client_secret = "{client_secret}"
calls_per_minute = 0

[[dds.locations]]
tenant_id = 11
location_id = 9

[[dds.locations]]
tenant_id = 11
location_id = 10
"""
QUERY = """\
select c.FirstName, c.LastName, count(distinct s._id) as sales, round(sum(l.FinalPrice), 2) as total
from _once_Client c
join SaleLine l on l.Client_TId = c._id
join Sale s on s._tenant_id = l._tenant_id and s._location_id = l._location_id and s._id = l._id
where c._deleted_at is null
group by c._id order by total desc limit 5"""


@click.command("demo")
def command() -> int:
    """Show the whole thing on a simulated salon, on this machine; no account needed, and nothing of yours is touched."""
    from delta_mirror.cli.demo_accela import show_accela
    from delta_mirror.cli.demo_nexus import show_nexus
    from delta_mirror.simulator import Clock, Service, World
    from delta_mirror.simulator.export import Quirks, write_export

    folder = Path(tempfile.mkdtemp(prefix="delta-mirror-demo-"))
    world = World(SEED, clock=Clock.running())
    world.populate(clients=600, employees=12, appointments=150, sales=300)
    with Service(world) as service:
        config = folder / "config.toml"
        config.touch(mode=0o600)
        config.write_text(
            CONFIG.format(url=service.url, client_id=service.client_id, client_secret=service.client_secret), encoding="utf-8"
        )
        say(
            "A chain of two invented salons runs on this machine, behind the same interface as the real service:",
            f"  {service.url}",
            "It has written a Starter Export, and offers a feed of what has changed since. Both are read into one SQLite file.",
            "Below is what the real commands print, called with",
            f"  --config {config}",
        )
        write_export(world, folder / "export", Quirks())
        step("The baseline: everything that there is, in one go.")
        code = call_sync(config, "full-starter", str(folder / "export"))
        step("A day at the salons ...", *_a_day(world))
        step("The deltas: whole records are replaced, deletions carried out, and only what differs is logged.")
        code = call_sync(config, "deltas") or code
        step("What changed, and how:")
        code = call_sync(config, "changes", "--run", "2") or code
        world.settle()
        write_export(world, folder / "newer", Quirks())
        step("Is it still what the service has? A newer export is compared with it, row by row.")
        code = call_sync(config, "verify", str(folder / "newer")) or code
        step("How fresh is the copy?")
        code = call_sync(config, "status") or code
        step("And it is a plain database: who buys most?")
        show_query(folder / "mirror.db", QUERY)
        asked = len(service.pages())
    code = show_nexus(config, folder / "mirror.db") or code
    code = show_accela(config, folder / "mirror.db") or code
    say(
        "",
        f"In all {asked} calls were made. The mirror lies in",
        f"  {folder / 'mirror.db'}",
        "Open it with any SQLite tool, or go on asking, with",
        f"  sync --config {config} changes Client",
        "The simulated service is gone with this command; remove the folder when you have seen enough.",
    )
    return code


def _a_day(world: "World") -> Sequence[str]:
    """Change a few things by hand, as people would, and return what was done."""
    clients = [id_ for id_ in world.ids("Client") if not world.is_deleted(id_)]
    world.add_phone(clients[0])
    world.edit(clients[1], EmailAddress="new.address@example.com", MiddleName=None)
    world.delete(clients[2])
    world.delete(clients[3])
    world.revive(clients[3])
    world.cancel_line(world.ids("Appointment")[0])
    world.delete(world.ids("Appointment")[1])
    world.delete(world.ids("Employee")[0])
    world.refund(world.ids("Sale")[0])
    return (
        "  - a client has one more phone number, another one a new e-mail address and no middle name any more",
        "  - a client is deleted; another one is deleted by mistake and restored at once",
        "  - one service of an appointment is cancelled, and another appointment as a whole",
        "  - an employee leaves, and a sale is refunded, which is a new sale",
    )
