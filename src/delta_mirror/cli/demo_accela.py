"""The part of `sync demo` that brings a change of Nexus to an Accela contact: link, dry run, push, and what is on record of it.

Invariants:

- The agency is invented and lives on this machine; its section is added to the demo's own configuration.
"""

import json
from pathlib import Path

import click

from delta_mirror.cli.demo_telling import call_sync, step

CONFIG = """
[accela]
auth_url = "{url}"
api_url = "{url}"
app_id = "{app_id}"
app_secret = "{app_secret}"
agency = "{agency}"
username = "{username}"
password = "{password}"

[accela.map.NexusClient]
"firstName" = "FirstName"
"lastName" = "LastName"
"address.addressLine1" = {{ table = "NexusAddress", where = {{ AddressType = "Home" }}, column = "Address" }}
"""
CLIENT = "EX000003"
CONTACT_ID = "253"
CONTACT = {
    "id": CONTACT_ID,
    "firstName": "As the agency",
    "lastName": "has it",
    "comment": "A field that no map names",
    "address": {"addressLine1": "1 Old Road", "city": "Exampleville"},
}
RECORD = "select contact_id, outcome, fields, trace_id from _accela_pushes order by number"


def show_accela(config: Path, mirror: Path) -> int:
    """Tie a client of Nexus to a contact of an invented agency, let the client move, and push that; return the exit code."""
    from delta_mirror.mirror.read import Reader
    from delta_mirror.simulator.accela import AGENCY, APP_ID, APP_SECRET, PASSWORD, USERNAME, AccelaService

    with AccelaService({CONTACT_ID: CONTACT}) as accela:
        with config.open("a", encoding="utf-8") as file:
            file.write(
                CONFIG.format(
                    url=accela.url, app_id=APP_ID, app_secret=APP_SECRET, agency=AGENCY, username=USERNAME, password=PASSWORD
                )
            )
        links = config.with_name("people.csv")
        links.write_text(f"entity,id,contact_id\nNexusClient,{CLIENT},{CONTACT_ID}\n", encoding="utf-8")
        step("An agency keeps people in another system, Accela. One client is tied to a contact there, and brought up to date:")
        code = call_sync(config, "accela", "link", str(links))
        code = call_sync(config, "accela", "push") or code
        moved = config.with_name("moved.json")
        moved.write_bytes(_moved())
        step("The client moves, and Nexus says so. What would be sent, field by field, and then the push itself:")
        code = call_sync(config, "nexus", "ingest", str(moved)) or code
        code = call_sync(config, "accela", "push", "--dry-run") or code
        code = call_sync(config, "accela", "push") or code
        step("The contact afterwards; what no map names is as it was. And every push is on record:")
        click.echo(f"  {json.dumps(accela.contacts[CONTACT_ID])}")
        with Reader.open(mirror) as reader:
            for row in reader.ask(RECORD)[1]:
                click.echo(f"  {' | '.join(map(str, row))}")
    return code


def _moved() -> bytes:
    """Return a message that says where the client lives now."""
    message = {
        "Client": {"IntegrationId": CLIENT},
        "Activity": {"Type": "ClientProfile", "Identifier": "5a0c2d6e-0000-4000-8000-000000000001"},
        "Action": {"Reason": "Address Details Updated", "OccurredOn": "2026-08-01T09:30:00.0000000Z"},
        "Details": {"SubType": "Address Details", "AddressType": "Home", "Address": "2 New Street"},
    }
    return json.dumps(message).encode()
