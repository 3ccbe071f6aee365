"""`sync demo`: the whole thing on a simulated salon, with the real commands, over real HTTP, on this machine.

Invariants:

- Nothing of the operator is touched: configuration and mirror lie in a new folder, which stays for a look around.
- What is shown is what the commands print.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import click

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

NEXUS_QUERY = """\
select c._client_id, c.FirstName, c.LastName, n.Contact, group_concat(a.AddressType || ': ' || a.Address, '; ') as addresses
from NexusClient c
left join NexusContact n on n._client_id = c._client_id
left join NexusAddress a on a._client_id = c._client_id
group by c._client_id order by c._client_id limit 5"""


@click.command("demo")
def command() -> int:
    """Show the whole thing on a simulated salon, on this machine; no account needed, and nothing of yours is touched."""
    from delta_mirror.simulator import Clock, Service, World

    folder = Path(tempfile.mkdtemp(prefix="delta-mirror-demo-"))
    world = World(SEED, clock=Clock.running())
    world.populate(clients=600, employees=12, appointments=150, sales=300)
    with Service(world) as service:
        config = folder / "config.toml"
        config.touch(mode=0o600)
        config.write_text(
            CONFIG.format(url=service.url, client_id=service.client_id, client_secret=service.client_secret), encoding="utf-8"
        )
        _say(
            "A chain of two invented salons runs on this machine, behind the same interface as the real service:",
            f"  {service.url}",
            "Its records are read into one SQLite file. Below is what the real commands print, called with",
            f"  --config {config}",
        )
        _step("The first drain: all that the feed can tell of.")
        code = _sync(config, "deltas")
        _step("A day at the salons ...", *_a_day(world))
        _step("The second drain: whole records are replaced, deletions carried out, and only what differs is logged.")
        code = _sync(config, "deltas") or code
        _step("What changed, and how:")
        code = _sync(config, "changes", "--run", "2") or code
        _step("How fresh is the copy?")
        code = _sync(config, "status") or code
        _step("And it is a plain database: who buys most?")
        _query(folder / "mirror.db", QUERY)
        asked = len(service.pages())
    _step(
        "The same file takes the messages of another service, SCRAM Nexus, which broadcasts what changes in it. Here are 240",
        "of them, shuffled, and one line that is broken:",
    )
    _write_messages(folder / "messages.jsonl")
    _sync(config, "nexus", "ingest", str(folder / "messages.jsonl"))  # 3, because of the broken line
    _step("The broken line is set aside, whole; the others are in, each in its place, whatever the order in which they came:")
    code = _sync(config, "quarantine", "list") or code
    code = _sync(config, "changes", "NexusClient", "--limit", "5") or code
    _query(folder / "mirror.db", NEXUS_QUERY)
    _say(
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


def _sync(config: Path, *arguments: str) -> int:
    from delta_mirror.cli.main import run

    click.echo(f"$ sync {' '.join(arguments)}")
    return run(["--config", str(config), *arguments])


def _write_messages(path: Path) -> None:
    from delta_mirror.simulator.profiles import profile_message

    messages = [profile_message(number, clients=20) for number in range(240)]
    Random(SEED).shuffle(messages)  # noqa: S311 - a demo, the same each time
    path.write_bytes(b"\n".join([*messages[:100], messages[0][:70], *messages[100:]]) + b"\n")


def _query(mirror: Path, query: str) -> None:
    from delta_mirror.mirror.read import Reader

    with Reader.open(mirror) as reader:
        names, rows = reader.ask(query)
    click.echo("\n".join(f"  {line}" for line in query.splitlines()))
    table = [names, *([("" if value is None else str(value)) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(names))]
    for row in table:
        click.echo("  | " + " | ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)) + " |")


def _step(*lines: str) -> None:
    click.echo("")
    _say(*lines)


def _say(*lines: str) -> None:
    for line in lines:
        click.echo(line)
