"""A shop with everything that there is to call: an export, Nexus with messages, Accela with a linked client.

Invariants:

- Every secret lies in a file of its own, so that it is found nowhere else unless the program has put it there.
- `WRITING` has every command that writes a run, and a mirror of `shop` lets each of them do something.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from installed import Shop

from delta_mirror.simulator import CLIENT_SECRET
from delta_mirror.simulator.accela import AGENCY, APP_ID, APP_SECRET, PASSWORD, USERNAME, AccelaService
from delta_mirror.simulator.bus import KEY, KEY_NAME, SUBSCRIPTION, TOPIC, Bus
from delta_mirror.simulator.export import write_export
from delta_mirror.simulator.profiles import profile_message
from health import Check
from office import contacts

PASSPHRASE = "not-a-real-passphrase"
PING = "ping-secret"
MASK_KEY = "not-a-real-key-of-hashes"
SECRETS = {
    "secret.txt": CLIENT_SECRET,
    "passphrase.txt": PASSPHRASE,
    "key.txt": KEY,
    "app.txt": APP_SECRET,
    "password.txt": PASSWORD,
    "mask.txt": MASK_KEY,
}
WRITING = (
    ("deltas",),
    ("full-starter", "export"),
    ("verify", "export", "--repair"),
    ("nexus", "ingest", "messages.jsonl"),
    ("nexus", "receive", "--wait", "0s"),
    ("accela", "link", "links.csv"),
    ("accela", "push"),
    ("refetch", "Client", "not-there"),
    ("quarantine", "retry"),
    ("prune", "--older-than", "1d"),
    ("erase", "Client", "not-there", "--yes"),
)


def name_of(command: tuple[str, ...]) -> str:
    """Return how `_runs` calls *command*."""
    return " ".join(command[:2]) if command[0] in ("nexus", "accela", "quarantine") else command[0]


@contextmanager
def furnished(shop: Shop, check: Check) -> Iterator[AccelaService]:
    """Let *shop* have all of that while the body runs; hand over the simulated Accela."""
    for name, secret in {**SECRETS, "ping.txt": f"{check.url}/{PING}"}.items():
        (shop.folder / name).write_text(secret, encoding="utf-8")
        (shop.folder / name).chmod(0o600)
    with Bus() as bus, AccelaService(contacts("253")) as accela:
        shop.configure(
            client_secret="file:secret.txt",
            mirror={"mask_key": "file:mask.txt"},
            ops={"metrics_file": "delta.prom", "ping_url": "file:ping.txt"},
            locations=[(11, 9), (11, 10)],
            more=f"""
[starter]
key_passphrase = "file:passphrase.txt"
[nexus]
service_bus_url = "{bus.url}"
topic = "{TOPIC}"
subscription = "{SUBSCRIPTION}"
key_name = "{KEY_NAME}"
key = "file:key.txt"
[accela]
auth_url = "{accela.url}"
api_url = "{accela.url}"
app_id = "{APP_ID}"
app_secret = "file:app.txt"
agency = "{AGENCY}"
username = "{USERNAME}"
password = "file:password.txt"
[accela.map.Client]
"firstName" = "FirstName"
""",
        )
        write_export(shop.service.world, shop.folder / "export")
        client = shop.service.world.ids("Client")[0]
        links = f"entity,id,contact_id,tenant_id,location_id\nClient,{client},253,11,9\n"
        (shop.folder / "links.csv").write_text(links, encoding="utf-8")
        (shop.folder / "messages.jsonl").write_bytes(profile_message(1) + b"\n")
        bus.publish(profile_message(2))
        yield accela
