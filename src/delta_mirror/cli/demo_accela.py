"""The part of `sync demo` that brings a change to an Accela contact: link, dry run, push, and what is on record of it.

Invariants:

- The agency is invented and lives on this machine; its section is added to the demo's own configuration.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from delta_mirror.cli.demo_telling import call_sync, step

if TYPE_CHECKING:
    from delta_mirror.simulator import World

CONFIG = """
[accela]
auth_url = "{url}"
api_url = "{url}"
app_id = "{app_id}"
app_secret = "{app_secret}"
agency = "{agency}"
username = "{username}"
password = "{password}"

[accela.map.Client]
"firstName" = "FirstName"
"lastName" = "LastName"
"address.addressLine1" = "Address1"
"""
CONTACT_ID = "253"
CONTACT = {
    "id": CONTACT_ID,
    "firstName": "As the agency",
    "lastName": "has it",
    "comment": "A field that no map names",
    "address": {"addressLine1": "1 Old Road", "city": "Exampleville"},
}
RECORD = "select contact_id, outcome, fields, trace_id from _accela_pushes order by number"


def show_accela(config: Path, mirror: Path, world: "World") -> int:
    """Tie a client to a contact of an invented agency, let the client move, and push the change; return the exit code."""
    from delta_mirror.mirror.read import Reader
    from delta_mirror.simulator.accela import AGENCY, APP_ID, APP_SECRET, PASSWORD, USERNAME, AccelaService

    with Reader.open(mirror) as reader:
        _, [(location, client)] = reader.ask("select _location_id, _id from Client where Address1 is not null limit 1")
    with AccelaService({CONTACT_ID: CONTACT}) as accela:
        with config.open("a", encoding="utf-8") as file:
            file.write(
                CONFIG.format(
                    url=accela.url, app_id=APP_ID, app_secret=APP_SECRET, agency=AGENCY, username=USERNAME, password=PASSWORD
                )
            )
        links = config.with_name("people.csv")
        links.write_text(
            f"entity,id,contact_id,tenant_id,location_id\nClient,{client},{CONTACT_ID},11,{location}\n", encoding="utf-8"
        )
        step("An agency keeps people in another system, Accela. One client is tied to a contact there, and brought up to date:")
        code = call_sync(config, "accela", "link", str(links))
        code = call_sync(config, "accela", "push") or code
        world.edit(str(client), Address1="2 New Street")
        step("The client moves. What would be sent, field by field, and then the push itself:")
        code = call_sync(config, "--quiet", "deltas", "--entity", "Client") or code
        code = call_sync(config, "accela", "push", "--dry-run") or code
        code = call_sync(config, "accela", "push") or code
        step("The contact afterwards; what no map names is as it was. And every push is on record:")
        click.echo(f"  {json.dumps(accela.contacts[CONTACT_ID])}")
        with Reader.open(mirror) as reader:
            for row in reader.ask(RECORD)[1]:
                click.echo(f"  {' | '.join(map(str, row))}")
    return code
