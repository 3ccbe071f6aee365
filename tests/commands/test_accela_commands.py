"""`sync accela link` and `sync accela push`, called as people and cron call them; and killed at every instant."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from delta_mirror.cli.messages import LOGGER
from delta_mirror.cli.progress import Share
from delta_mirror.errors import RefusedError
from delta_mirror.mirror.lock import hold
from delta_mirror.simulator.accela import AccelaCall, AccelaDials, AccelaFault, AccelaService
from nexus_messages import HOME, message
from office import PATIENCE, Office, contacts

MAP = '[accela.map.Client]\n"firstName" = "FirstName"\n"gender" = { column = "Sex", values = { Female = "F", Male = "M" } }\n'


@pytest.fixture
def service() -> Iterator[AccelaService]:
    with AccelaService(contacts("253", "254", "255")) as service:
        yield service


@pytest.fixture
def office(tmp_path: Path, service: AccelaService) -> Office:
    office = Office(tmp_path, service)
    office.configure(MAP)
    office.take_all({f"c-{number}": {"FirstName": "Bea", "Sex": "Female"} for number in range(3)})
    office.link(*(f"Client,c-{number},{contact},11,9" for number, contact in enumerate(("253", "254", "255"))))
    return office


# link


def test_link_takes_a_file_and_says_what_it_did(office: Office) -> None:
    links = office.folder / "links.csv"
    links.write_text(
        "\ufeffentity,id,contact_id,tenant_id,location_id\r\nClient,c-0,,11,9\r\nClient,c-1,999,11,9\r\nClient,new,7,11,9\r\n",
        encoding="utf-8",
    )

    out, err = office.sync("accela", "link", "links.csv")

    assert "1 added, 1 changed, 1 removed; 3 in all" in out
    assert "1 of the new links are of records that the mirror does not hold" in err
    assert office.sql("select id, contact_id from _accela_links order by id") == [("c-1", "999"), ("c-2", "255"), ("new", "7")]
    out, _ = office.sync("accela", "link", "links.csv", "--json")
    assert {name: json.loads(out)[name] for name in ("added", "changed", "removed", "unchanged", "total")} == {
        "added": 0,
        "changed": 0,
        "removed": 0,
        "unchanged": 2,
        "total": 3,
    }
    assert office.sql("select command, outcome from _runs order by id desc limit 1") == [("accela link", "done")]


def test_link_reads_standard_input(office: Office) -> None:
    with office.start("accela", "link", "-", stdin=subprocess.PIPE) as process:
        out, _ = process.communicate("entity,id,contact_id,tenant_id,location_id\nClient,c-0,,11,9\n", timeout=PATIENCE)

    assert (process.returncode, "1 removed" in out) == (0, True)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"entity,id,contact_id,tenant_id,location_id\nClient,c-0,1,11,9\nClient,c-9,254,11,9\n", "two records to one contact"),
        (b"entity,id,contact_id\n\xff\n", "is not UTF-8"),
        (b"entity;id;contact_id\n", "it lacks entity; its fields are parted by semicolons: save it with commas"),
    ],
)
def test_a_file_that_is_refused_changes_nothing(office: Office, body: bytes, said: str) -> None:
    before = office.sql("select * from _accela_links")
    (office.folder / "links.csv").write_bytes(body)

    _, err = office.sync("accela", "link", "links.csv", expect=2)

    assert said in err
    assert office.sql("select * from _accela_links") == before
    assert office.sql("select count(*) from _runs where command = 'accela link'") == [(1,)]


@pytest.mark.parametrize("name", ["./nowhere.csv", ""])
def test_a_file_that_is_not_there_is_refused_however_it_is_named(tmp_path: Path, service: AccelaService, name: str) -> None:
    assert f"{name!r} cannot be read" in Office(tmp_path, service).sync("accela", "link", name, expect=2)[1]


def test_links_of_an_entity_that_a_column_links_are_refused(office: Office) -> None:
    office.configure('[accela.map.Client]\ncontact_id = "ExternalId"\n"firstName" = "FirstName"')

    with pytest.raises(RefusedError, match=r"accela\.map\.Client\.contact_id names the column"):
        office.link("Client,c-0,1,11,9")


def test_without_a_mirror_links_are_refused_and_no_file_is_made(tmp_path: Path, service: AccelaService) -> None:
    office = Office(tmp_path, service)
    (tmp_path / "links.csv").write_text("entity,id,contact_id\nNexusClient,EX1,1\n", encoding="utf-8")

    office.sync("accela", "link", "links.csv", expect=2)

    assert not office.mirror.exists()


# push


def test_push_says_what_became_of_each_contact_and_ends_with_3_where_one_failed(office: Office) -> None:
    office.service.dials = AccelaDials(lists={"gender": {"M": "Male"}}, unknown="ignored")
    office.client("c-0", FirstName="Tr0ub4dor", Sex="Zebra")
    office.client("c-1", FirstName="Tr0ub4dor", Sex="Male")
    del office.service.contacts["255"]

    out, err = office.sync("accela", "push", expect=3)

    assert "contact 253 (tenant 11, location 9, Client c-0): pushed firstName" in out
    assert "contact 254 (tenant 11, location 9, Client c-1): pushed firstName, gender" in out
    assert "contact 255 (tenant 11, location 9, Client c-2): failed: the contact is gone (404)" in out
    assert "3 contacts, 8 calls" in out
    assert "accela.map.Client.gender: 1 record: its value is not in the table of values; the field was left alone" in err
    assert "error: 1 contact: the contact is gone (404); mend the link, or remove it" in err
    assert "Tr0ub4dor" not in out + err
    assert "Zebra" not in out + err
    assert "Tr0ub4dor" not in str(office.sql("select * from _accela_pushes"))
    assert office.sql("select command, outcome, calls from _runs order by id desc limit 1") == [("accela push", "unfinished", 8)]


def test_a_quiet_push_says_nothing_on_success_and_names_the_contact_that_failed(office: Office) -> None:
    assert office.sync("--quiet", "accela", "push") == ("", "")
    del office.service.contacts["254"]
    for number in range(3):
        office.client(f"c-{number}", FirstName="Cleo")

    out, err = office.sync("--quiet", "accela", "push", expect=3)

    assert out.startswith("contact 254 ")
    assert out.count("\n") == 1
    assert err.startswith("error: 1 contact: ")


def test_a_dry_run_prints_field_by_field_what_would_be_sent(office: Office) -> None:
    office.service.contacts["253"]["firstName"] = "\x1b[31mAnn\n"
    office.client("c-1", FirstName="Ann", Sex="Female")
    office.client("c-2", FirstName="Ann", Sex="?")

    out, err = office.sync("accela", "push", "--dry-run")

    assert out.splitlines()[:4] == [
        "contact 253 (tenant 11, location 9, Client c-0): would push: 1 field",
        '  firstName: "\\u001b[31mAnn\\n" -> "Bea"',
        "contact 254 (tenant 11, location 9, Client c-1): unchanged",
        "contact 255 (tenant 11, location 9, Client c-2): unchanged",
    ]
    assert "  gender: left alone, its value is not in the table of values" in out
    assert "dry run, nothing written: 3 contacts, 4 calls" in out
    assert office.outcomes() == []
    assert "error" not in err


def test_push_as_json_has_values_in_a_dry_run_alone(office: Office) -> None:
    dry = json.loads(office.sync("accela", "push", "--dry-run", "--json", "--limit", "1")[0])
    assert (dry["id"], dry["waiting"], dry["contacts"][0]["fields"]) == (None, 2, {"firstName": ["Ann", "Bea"]})
    assert dry["contacts"][0]["outcome"] == "would push"

    done = json.loads(office.sync("accela", "push", "--json")[0])
    assert done["counts"] == {"pushed": 3}
    assert done["contacts"][0] == {
        "entity": "Client",
        "tenant_id": 11,
        "location_id": 9,
        "id": "c-0",
        "contact_id": "253",
        "outcome": "pushed",
        "fields": ["firstName"],
        "missed": [],
        "beside": [],
        "left_alone": {},
        "error": None,
        "warning": None,
        "trace_id": done["contacts"][0]["trace_id"],
    }


def test_nothing_secret_and_no_value_is_said_even_when_every_call_is(office: Office) -> None:
    office.service.faults.append(AccelaFault("answer", "PUT", status=500, body={"message": "Bea is wrong", "code": "Bea is"}))

    out, err = office.sync("--verbose", "accela", "push", expect=3)

    assert "PUT /v4/contacts/... -> 500" in err
    for secret in ("not-a-real", "access-", "refresh-", "Bea", "Ann", "253"):
        assert secret not in err
    assert "Bea" not in out


def test_a_push_while_another_run_holds_the_mirror_ends_with_4_or_0(office: Office) -> None:
    with hold(office.mirror):
        office.sync("accela", "push", expect=4)
        assert "skipped" in office.sync("accela", "push", "--if-running", "skip")[1]
    assert office.service.calls == []


def test_a_map_that_names_something_unknown_ends_with_2_and_its_name(office: Office) -> None:
    office.configure('[accela.map.Client]\n"firstNam" = "FirstName"')

    assert "firstNam is no field of a contact; did you mean firstName?" in office.sync("accela", "push", expect=2)[1]


def test_a_deadline_ends_the_push_and_the_next_one_goes_on(office: Office) -> None:
    release = Event()
    office.service.faults.append(AccelaFault("slow", "GET", contact_id="254", release=release))

    _, err = office.sync("accela", "push", "--deadline", "1s", expect=3)

    release.set()
    assert "the deadline was reached" in err
    assert office.outcomes() == ["pushed"]
    office.sync("accela", "push")
    assert office.outcomes() == ["pushed"] * 3


@pytest.mark.parametrize(("sign", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_push_that_is_told_to_stop_stops_at_once_and_what_it_has_sent_is_settled_later(
    office: Office, sign: signal.Signals, code: int
) -> None:
    release, reached = Event(), Event()
    office.service.faults.append(AccelaFault("slow", "PUT", written="at once", release=release))
    office.service.after_write = lambda contact_id: reached.set()
    with office.start("accela", "push") as process:
        assert reached.wait(PATIENCE)
        process.send_signal(sign)
        _, err = process.communicate(timeout=PATIENCE)

    release.set()
    assert process.returncode == code, err
    assert office.outcomes() == ["sent"]
    office.sync("accela", "push")
    assert office.outcomes() == ["pushed"] * 3
    assert len(office.service.written) == 3


def test_a_push_without_any_link_says_how_to_make_one(tmp_path: Path, service: AccelaService) -> None:
    office = Office(tmp_path, service)
    office.configure(MAP)
    office.client(FirstName="Bea", Sex="Female")

    out, err = office.sync("accela", "push")

    assert "nothing to push" in out
    assert "no record is tied to a contact; `sync accela link FILE` does that" in err


def test_a_long_push_says_now_and_then_how_far_it_has_come(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(LOGGER, "handlers", [])  # whoever has set messages up before has sent them elsewhere
    monkeypatch.setattr(LOGGER, "propagate", True)

    with (
        caplog.at_level("INFO", LOGGER.name),
        Share("pushing", of="contacts", quiet=False, as_lines=True, clock=lambda: now[0]) as share,
    ):
        for done, now[0] in enumerate((1.0, 11.0, 12.0, 22.0), start=1):
            share(done, 7)

    assert caplog.messages == ["pushing: 2 of 7 contacts, 28 %", "pushing: 4 of 7 contacts, 57 %"]


# From a message to a contact


NEXUS = """[accela.map.NexusClient]
"firstName" = "FirstName"
"address.addressLine1" = { table = "NexusAddress", where = { AddressType = "Home" }, column = "Address" }
"""


def test_an_address_that_changes_in_nexus_ends_in_the_contact_and_on_record(tmp_path: Path, service: AccelaService) -> None:
    office = Office(tmp_path, service)
    office.configure(NEXUS)
    moved = message("Address Details", {"AddressType": "Home", "Address": "2 New Street"}, client="EX1", identifier=HOME)
    (tmp_path / "profile.json").write_bytes(message("Personal Details", {"FirstName": "Ann"}, client="EX1"))
    (tmp_path / "moved.json").write_bytes(moved)
    (tmp_path / "links.csv").write_text("entity,id,contact_id\nNexusClient,EX1,253\n", encoding="utf-8")
    office.sync("nexus", "ingest", "profile.json")
    office.sync("accela", "link", "links.csv")
    office.sync("accela", "push")
    before = dict(service.contacts["253"])
    office.sync("nexus", "ingest", "moved.json")

    shown, _ = office.sync("accela", "push", "--dry-run")
    done, _ = office.sync("accela", "push")

    assert shown.splitlines()[:2] == [
        "contact 253 (NexusClient EX1): would push: 1 field",
        '  address.addressLine1: "1 Old Road" -> "2 New Street"',
    ]
    assert "contact 253 (NexusClient EX1): pushed address.addressLine1" in done
    assert service.contacts["253"] == {**before, "address": {**before["address"], "addressLine1": "2 New Street"}}
    assert office.outcomes() == ["unchanged", "pushed"]
    last = office.last_push()
    assert {name: last[name] for name in ("entity", "tenant_id", "location_id", "id", "contact_id", "seq", "fields")} == {
        "entity": "NexusClient",
        "tenant_id": 0,
        "location_id": 0,
        "id": "EX1",
        "contact_id": "253",
        "seq": office.sql("select max(seq) from _changes")[0][0],
        "fields": '["address.addressLine1"]',
    }
    assert "nothing to push" in office.sync("accela", "push")[0]


# status


def accela_of(office: Office) -> dict[str, object]:
    told = json.loads(office.sync("status", "--json")[0])
    return {name: count for name, count in told["accela"].items() if name != "last_pushed_at"}


def test_status_counts_links_and_how_they_stand(office: Office) -> None:
    counts = dict.fromkeys(("links", "waiting", "failed", "partly"), 0)
    assert accela_of(office) == {**counts, "links": 3, "waiting": 3}
    office.service.dials = AccelaDials(lists={"gender": {"F": "Female"}}, unknown="ignored")
    office.client("c-1", FirstName="Bea", Sex="Male")
    del office.service.contacts["255"]

    office.sync("accela", "push", expect=3)

    assert accela_of(office) == {**counts, "links": 3, "failed": 1, "partly": 1}
    told, _ = office.sync("status")
    assert "accela: 3 links, 0 waiting for `sync accela push`, 1 failed, 1 taken in part; last pushed" in told
    assert "accela: contacts that the last push failed at: 1 (the next one tries again); that took a part only: 1" in told
    for id_ in ("c-0", "c-1"):
        office.client(id_, FirstName="Cleo", Sex="Female")
    assert accela_of(office) == {**counts, "links": 3, "waiting": 2, "failed": 1}


def test_status_says_nothing_of_accela_where_nothing_is_linked(tmp_path: Path, service: AccelaService) -> None:
    office = Office(tmp_path, service)
    office.client(FirstName="Bea")

    assert "accela" not in office.sync("status")[0] + office.sync("status", "--json")[0]


# SIGKILL


# Of a run over two contacts, the calls for the first and one for the second. It is killed when a call comes in, which the service
# answers all the same or drops (as if it had never been sent), or, for the writes, once the answer is out.
KILLS = [(number, when) for number in range(5) for when in ("answered", "dropped")] + [(2, "behind"), (3, "behind")]


def test_each_change_reaches_its_contact_once_whenever_the_run_is_killed(tmp_path: Path, service: AccelaService) -> None:
    office = Office(tmp_path, service)
    office.configure('[accela.map.Client]\n"firstName" = "FirstName"\n')
    office.take_all({id_: {"FirstName": "Name 0"} for id_ in ("c-0", "c-1")})
    office.link("Client,c-0,253,11,9", "Client,c-1,254,11,9")
    office.push()
    killed = 0
    for round_, (number, when) in enumerate(KILLS, start=1):
        office.take_all({id_: {"FirstName": f"Name {round_}"} for id_ in ("c-0", "c-1")})
        killed += run_killed(office, number, when)
        if when != "behind":  # else the next change comes before the next run
            assert office.push().outcome == "done"
            assert {service.contacts[contact]["firstName"] for contact in ("253", "254")} == {f"Name {round_}"}
    office.sync("accela", "push")

    assert killed >= len(KILLS) - 1  # behind the last answer a run may be over before the kill
    for contact in ("253", "254"):
        names = [body["firstName"] for whose, body in service.written if whose == contact]
        assert len(set(names)) == len(names), "a change was sent twice"
        assert service.contacts[contact]["firstName"] == f"Name {len(KILLS)}"
    assert set(office.outcomes()) <= {"pushed", "failed"}  # those that were never carried out are failed
    assert office.outcomes().count("pushed") == len(service.written)
    assert office.sql("select count(*) from _accela_pushes where marks is not null") == [(0,)]
    assert office.sql("pragma integrity_check") == [("ok",)]


def run_killed(office: Office, number: int, when: str) -> bool:
    """Start a push and kill it around its call *number*; return whether it was."""
    process: list[subprocess.Popen[str]] = []
    started = Event()
    first = len(office.service.calls)

    def strike(call: AccelaCall) -> None:
        if len(office.service.calls) == first + number + 1:
            started.wait(PATIENCE)
            process[0].kill()
            process[0].wait(PATIENCE)
            if when == "dropped":
                raise ConnectionError

    if when == "behind":
        office.service.after_answer = strike
    else:
        office.service.before_answer = strike
    with office.start("accela", "push") as running:
        process.append(running)
        started.set()
        running.communicate(timeout=PATIENCE)
    office.service.before_answer = office.service.after_answer = None
    return running.returncode == -signal.SIGKILL
