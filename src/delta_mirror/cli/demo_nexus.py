"""The part of `sync demo` that takes messages of SCRAM Nexus into the same mirror."""

from pathlib import Path
from random import Random

from delta_mirror.cli.demo_telling import call_sync, show_query, step

SEED = 2021
QUERY = """\
select c._client_id, c.FirstName, c.LastName, n.Contact, group_concat(a.AddressType || ': ' || a.Address, '; ') as addresses
from NexusClient c
left join NexusContact n on n._client_id = c._client_id
left join NexusAddress a on a._client_id = c._client_id
group by c._client_id order by c._client_id limit 5"""


def show_nexus(config: Path, mirror: Path) -> int:
    """Take shuffled messages, one of them broken, into *mirror*, and show what came of it; return the exit code."""
    messages = config.with_name("messages.jsonl")
    step(
        "The same file takes the messages of another service, SCRAM Nexus, which broadcasts what changes in it. Here are 240",
        "of them, shuffled, and one line that is broken:",
    )
    _write_messages(messages)
    call_sync(config, "nexus", "ingest", str(messages))  # 3, because of the broken line
    step("The broken line is set aside, whole; the others are in, each in its place, whatever the order in which they came:")
    code = call_sync(config, "quarantine", "list")
    code = call_sync(config, "changes", "NexusClient", "--limit", "5") or code
    show_query(mirror, QUERY)
    return code


def _write_messages(path: Path) -> None:
    from delta_mirror.simulator.profiles import profile_message

    messages = [profile_message(number, clients=20) for number in range(240)]
    Random(SEED).shuffle(messages)  # noqa: S311 - a demo, the same each time
    path.write_bytes(b"\n".join([*messages[:100], messages[0][:70], *messages[100:]]) + b"\n")
