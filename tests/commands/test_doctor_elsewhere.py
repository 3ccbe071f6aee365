"""`sync doctor` and the other sides: the source of Starter Exports, the broker, Accela. It changes nothing there."""

from collections.abc import Iterator

import asyncssh
import pytest
from findings import assert_only, examined, found, wrong
from installed import Shop

from delta_mirror.simulator import DAY, Clock, World
from delta_mirror.simulator.accela import AGENCY, APP_ID, APP_SECRET, PASSWORD, USERNAME, AccelaFault, AccelaService
from delta_mirror.simulator.bus import KEY, KEY_NAME, SUBSCRIPTION, TOPIC, Bus, BusFault
from delta_mirror.simulator.export import write_export
from office import contacts
from ssh_server import Server


@pytest.fixture
def world() -> World:
    """A world whose clock goes with ours: the doctor compares the two."""
    world = World(seed=7, clock=Clock.running())
    world.populate(clients=4, employees=2, appointments=2, sales=3, over=DAY)
    return world


@pytest.fixture
def filled(shop: Shop) -> Shop:
    shop.fill()
    return shop


# Without a call

NEXUS = """
[nexus]
service_bus_url = "https://invented.servicebus.windows.net"
topic = "profiles"
subscription = "county"
key_name = "listen-only"
"""
ACCELA = """
[accela]
app_id = "1"
app_secret = "s"
agency = "ISLANDTON"
username = "somebody"
password = "p"
[accela.map.Client]
"""


@pytest.mark.parametrize(
    ("more", "check", "said"),
    [
        ('[starter]\nsource = "nowhere"', "starter", "nowhere"),
        ('[starter]\nsource = "ftp@host:"', "starter", "ftp@host:"),
        ('[starter]\nsource = "sftp://user@host/path"\nkey_file = "gone"', "starter", "there is no key"),
        (NEXUS, "nexus", "nexus.key is missing or empty"),
        (ACCELA.replace('agency = "ISLANDTON"', ""), "accela", "accela.agency is empty"),
        (ACCELA + '"noSuchField" = "FirstName"', "accela", "noSuchField"),
    ],
)
def test_what_only_some_commands_need_is_looked_at_where_it_is_configured(filled: Shop, more: str, check: str, said: str) -> None:
    filled.configure(more=more)

    assert_only(examined(filled), check, said)


def test_starter_nexus_and_accela_in_order_are_told_so_and_empty_sections_are_not(filled: Shop) -> None:
    filled.configure(more="[starter]\n[nexus]\n[accela]")
    nothing = examined(filled, expect=0)
    write_export(filled.service.world, filled.folder / "export")
    with Bus() as bus, AccelaService(contacts("253")) as accela:
        filled.configure(more=f'[starter]\nsource = "export"\n{section(bus)}\n{agency(accela)}')

        findings = examined(filled, expect=0)

    names = ["starter", "nexus", "accela"]
    assert [each["check"] for each in nothing if each["check"] in names] == []
    assert [each["check"] for each in findings if each["check"] in names] == names


@pytest.mark.parametrize(
    ("key", "more"),
    [
        ("nexus.key", '[nexus]\nkey = "file:open.txt"'),
        ("accela.app_secret", '[accela]\napp_secret = "file:open.txt"'),
        ("accela.password", '[accela]\npassword = "file:open.txt"'),
        ("starter.key_passphrase", '[starter]\nkey_passphrase = "file:open.txt"'),
        ("starter.key_file", '[starter]\nkey_file = "open.txt"'),
    ],
)
def test_secrets_of_every_section_that_others_can_read_are_found(filled: Shop, key: str, more: str) -> None:
    (filled.folder / "open.txt").write_text("invented", encoding="utf-8")
    (filled.folder / "open.txt").chmod(0o644)
    filled.configure(more=more)

    assert (
        "secrets",
        f"{key} is taken from {filled.folder / 'open.txt'}, which others may read (mode 0644)",
    ) in wrong(examined(filled))


# The SFTP host


@pytest.fixture
def server(filled: Shop) -> Iterator[Server]:
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(filled.folder / "key")
    (filled.folder / "key").chmod(0o600)
    write_export(filled.service.world, filled.folder / "served" / "exports")
    with Server(filled.folder / "served", key) as server:
        (filled.folder / "known_hosts").write_text(server.known_host(), encoding="utf-8")
        source = f'source = "{server.url("/exports")}"'
        filled.configure(more=f'[starter]\n{source}\nkey_file = "key"\nknown_hosts = "known_hosts"')
        yield server


def test_sftp_host_is_logged_in_to_and_its_files_are_listed(filled: Shop, server: Server) -> None:
    before = sorted(filled.folder.rglob("*"))

    findings = examined(filled, expect=0)

    assert "files of 2 locations can be listed there, the newest of 2" in found(findings, "starter")
    assert server.faults.connections == 1
    assert sorted(filled.folder.rglob("*")) == before


def test_sftp_host_that_is_not_known_refuses_the_key_or_is_down(filled: Shop, server: Server) -> None:
    (filled.folder / "known_hosts").write_text("", encoding="utf-8")
    assert_only(examined(filled), "starter", "ssh-keyscan")
    (filled.folder / "known_hosts").write_text(server.known_host(), encoding="utf-8")
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(filled.folder / "key")
    assert_only(examined(filled), "starter", "does not let the user salon in")
    server.stop()
    assert_only(examined(filled), "starter", "cannot be read over SFTP")


# The broker


@pytest.fixture
def bus(filled: Shop) -> Iterator[Bus]:
    with Bus() as bus:
        bus.publish(b"a message that waits")
        filled.configure(more=section(bus))
        yield bus


def section(bus: Bus, key: str = KEY) -> str:
    account = f'service_bus_url = "{bus.url}"\ntopic = "{TOPIC}"\nsubscription = "{SUBSCRIPTION}"'
    return f'[nexus]\n{account}\nkey_name = "{KEY_NAME}"\nkey = "{key}"'


def test_broker_is_knocked_at_and_nothing_is_taken_locked_or_counted_as_delivered(filled: Shop, bus: Bus) -> None:
    findings = examined(filled, expect=0)

    assert "the broker accepts the key" in found(findings, "nexus")
    assert [call.operation for call in bus.calls] == ["renew"]
    with bus.lock:
        taken = bus.subscription.take()
    assert taken is not None
    assert taken.count == 1


def test_broker_that_answers_a_lock_that_nobody_has_with_410_lets_us_in_as_well(filled: Shop, bus: Bus) -> None:
    bus.faults.append(BusFault("answer", status=410, body=b"<Error>The lock supplied is invalid.</Error>"))
    examined(filled, expect=0)


def test_key_that_the_broker_refuses_and_subscription_that_it_says_is_not_there(filled: Shop, bus: Bus) -> None:
    filled.configure(more=section(bus, key="d3Jvbmc="))
    assert_only(examined(filled), "nexus", "the broker does not accept the key")
    assert [call.operation for call in bus.calls] == ["renew"] * len(bus.calls)
    filled.configure(more=section(bus))
    for code in (404, 410):
        bus.faults.append(BusFault("answer", status=code, body=b"<Error>The messaging entity 'x' could not be found.</Error>"))
        assert_only(examined(filled), "nexus", "the broker knows no such topic or subscription")


def test_pause_that_the_broker_asks_for_is_kept_and_it_is_not_asked_again(filled: Shop, bus: Bus) -> None:
    bus.faults.append(BusFault("answer", status=503, headers=(("Retry-After", "600"),), times=1))
    assert_only(examined(filled), "nexus", "the broker is busy")
    assert_only(examined(filled), "nexus", "the broker told us to stop until")
    assert len(bus.calls) == 1


# Accela


@pytest.fixture
def accela(filled: Shop) -> Iterator[AccelaService]:
    with AccelaService(contacts("253")) as accela:
        filled.configure(more=agency(accela))
        yield accela


def agency(accela: AccelaService, password: str = PASSWORD) -> str:
    return f"""
[accela]
auth_url = "{accela.url}"
api_url = "{accela.url}"
app_id = "{APP_ID}"
app_secret = "{APP_SECRET}"
agency = "{AGENCY}"
username = "{USERNAME}"
password = "{password}"
[accela.map.Client]
"firstName" = "FirstName"
"""


def link(shop: Shop, contact_id: str) -> None:
    client = shop.value("select _id from Client where _location_id = 9 limit 1")
    lines = f"entity,id,contact_id,tenant_id,location_id\nClient,{client},{contact_id},11,9\n"
    (shop.folder / "links.csv").write_text(lines, encoding="utf-8")
    shop.sync("accela", "link", "links.csv")


def test_accela_is_asked_for_a_token_and_for_one_linked_contact(filled: Shop, accela: AccelaService) -> None:
    unlinked = examined(filled, expect=0)
    assert accela.counted("GET") == 0
    link(filled, "253")

    linked = examined(filled, expect=0)

    assert "No contact was read, as none is linked yet" in found(unlinked, "accela")
    assert "shows a linked contact" in found(linked, "accela")
    assert accela.grants() == ["password", "password"]
    assert [call.method for call in accela.calls if call.contact_id is not None] == ["GET"]


def test_contact_that_accela_does_not_show(filled: Shop, accela: AccelaService) -> None:
    link(filled, "999")
    assert_only(examined(filled), "accela", "does not show the contact 999 (resource_not_found (status 404))")


def test_credentials_that_accela_refuses_are_offered_once(filled: Shop, accela: AccelaService) -> None:
    filled.configure(more=agency(accela, password="another-one"))
    findings = examined(filled)
    assert_only(findings, "accela", "Accela refuses the credentials")
    assert "another-one" not in str(findings)
    assert accela.grants() == ["password"]


def test_agency_that_is_away(filled: Shop, accela: AccelaService) -> None:
    accela.faults.append(AccelaFault("answer", status=503, times=None))
    assert {check for check, _ in wrong(examined(filled))} == {"accela"}
