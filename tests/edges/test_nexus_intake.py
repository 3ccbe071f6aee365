"""Messages in a mirror: whatever the order, the batches and the repetitions, it holds what they give in their own order."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from datetime import datetime
from hashlib import sha256
from itertools import permutations
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from delta_mirror.jobs.intake import Intake
from delta_mirror.mirror.write import Mirror
from delta_mirror.nexus.delivery import Delivery
from nexus_messages import HOME, SAMPLE, ZERO, message

OTHER = "5a0c2d6e-0000-4000-8000-000000000002"
Rows = list[tuple[Any, ...]]


class Taker:
    """A mirror that takes messages, and is looked at beside the program."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.mirror = Mirror.open(path, now=lambda: 1_767_225_600.0)
        self.run_id = self.mirror.begin_run("nexus ingest")
        self.intake = Intake(self.mirror, self.run_id, source="nexus ingest")

    def take(self, *bodies: bytes | Delivery) -> list[str]:
        """Take these in one batch."""
        deliveries = [each if isinstance(each, Delivery) else Delivery(each) for each in bodies]
        return [str(outcome) for outcome in self.intake.take(deliveries)]

    def rows(self, sql: str, *parameters: object) -> Rows:
        """Return what the file answers."""
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(sql, parameters).fetchall()

    def row(self, sql: str, *parameters: object) -> dict[str, Any]:
        """Return the one row that the file answers, by column."""
        with closing(sqlite3.connect(self.path)) as connection:
            connection.row_factory = sqlite3.Row
            [row] = connection.execute(sql, parameters).fetchall()
            return dict(row)

    def changes(self) -> list[tuple[str, str, Any]]:
        """Return id, op and fields of the log."""
        found = self.rows("select id, op, fields from _changes order by seq")
        return [(id_, op, None if fields is None else json.loads(fields)) for id_, op, fields in found]


@pytest.fixture
def taker(tmp_path: Path) -> Iterator[Taker]:
    taker = Taker(tmp_path / "mirror.db")
    yield taker
    taker.mirror.close()


# The property, against a fold that shares no code with the program

COLUMNS = {
    "Personal Details": ("NexusClient", ["FirstName", "LastName", "DateOfBirth"]),
    "Email Details": ("NexusClient", ["Email"]),
    "Address Details": ("NexusAddress", ["AddressType", "Address"]),
    "Case Details": ("NexusCase", ["CaseNumber", "CaseDate"]),
    "Profile Picture": ("NexusPicture", ["Image"]),
}


def reference(deliveries: Iterable[Delivery]) -> dict[str, Rows]:
    """Return what the tables must hold: every message once, sorted, applied one after the other."""
    by_id: dict[str, Delivery] = {}
    for delivery in deliveries:
        by_id.setdefault(delivery.message_id or delivery.body.decode(), delivery)

    def moment(delivery: Delivery) -> tuple[Any, ...]:
        action = json.loads(delivery.body)["Action"]
        whole, fraction = action["OccurredOn"].rstrip("Z").split(".")
        verb = action["Reason"].split()[-1]
        kind = {"Created": 0, "Removed": 2, "Deleted": 2}.get(verb, 1)
        number = (0, 0) if delivery.sequence is None else (1, delivery.sequence)
        return datetime.fromisoformat(whole), int(fraction), kind, number, sha256(delivery.body).hexdigest()

    clients: dict[str, dict[str, Any]] = {}
    items: dict[tuple[str, str, str], dict[str, Any]] = {}
    for delivery in sorted(by_id.values(), key=moment):
        sent = json.loads(delivery.body)
        client = sent["Client"]["IntegrationId"]
        removed = sent["Action"]["Reason"].endswith(("Removed", "Deleted"))
        details = {key: None if value == "" else value for key, value in sent["Details"].items() if key != "SubType"}
        section = sent["Details"]["SubType"]
        table, columns = COLUMNS[section]
        row = clients.setdefault(client, {})
        if table == "NexusClient":
            row.update(dict.fromkeys(columns) if removed else details)
            continue
        item = sent["Activity"]["Identifier"] if table in ("NexusAddress", "NexusCase") else ""
        if item == ZERO:
            item = str(details[columns[0]])
        if removed:
            items.pop((table, client, item), None)
        else:
            items.setdefault((table, client, item), {}).update(details)
    found: dict[str, Rows] = {
        "NexusClient": [
            (client, *(row.get(c) for c in ("FirstName", "LastName", "DateOfBirth", "Email"))) for client, row in clients.items()
        ],
        "NexusOffense": [
            (client, item, n, offense.get("Label"))
            for (table, client, item), row in items.items()
            if table == "NexusCase"
            for n, offense in enumerate(row.get("Offenses") or [])
        ],
    }
    for table, columns in (COLUMNS[name] for name in ("Address Details", "Case Details", "Profile Picture")):
        found[table] = [
            (client, *([item] if item else []), *map(row.get, columns))
            for (its_table, client, item), row in items.items()
            if its_table == table
        ]
    return {table: sorted(rows, key=repr) for table, rows in found.items()}


HELD = {
    "NexusClient": "select _client_id, FirstName, LastName, DateOfBirth, Email from NexusClient",
    "NexusAddress": "select _client_id, _item_id, AddressType, Address from NexusAddress",
    "NexusCase": "select _client_id, _item_id, CaseNumber, CaseDate from NexusCase",
    "NexusOffense": "select _client_id, _item_id, _n, Label from NexusOffense",
    "NexusPicture": "select _client_id, Image from NexusPicture",
}


@st.composite
def deliveries(draw: st.DrawFn) -> Delivery:
    """A message about few things at few moments, so that many of them meet."""
    section = draw(st.sampled_from(sorted(COLUMNS)))
    table, columns = COLUMNS[section]
    words = st.sampled_from([None, "", "a", "b"])
    details = draw(st.dictionaries(st.sampled_from(columns), words, max_size=len(columns)))
    identifier = draw(st.sampled_from([HOME, OTHER, ZERO]))
    if table in ("NexusAddress", "NexusCase"):
        if identifier == ZERO:
            details[columns[0]] = draw(st.sampled_from(["a", "b"]))
        if table == "NexusCase" and draw(st.booleans()):
            offenses: Any = [{"Label": label} for label in draw(st.lists(st.sampled_from("xy"), max_size=3))]
            details["Offenses"] = offenses
    sequence = draw(st.none() | st.integers(0, 12))
    body = message(
        section,
        details,
        client=draw(st.sampled_from(["EX1", "EX2"])),
        identifier=identifier,
        reason=draw(st.sampled_from(["Created", "Updated", "Updated", "Removed", f"{section} Deleted"])),
        at=f"2026-03-01T10:00:00.{draw(st.integers(0, 4)):07}Z",
    )
    # The broker gives each message an id, and a number that stays with it.
    named = None if sequence is None else f"{sequence}-{sha256(body).hexdigest()[:8]}"
    return Delivery(body, named, sequence)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(sent=st.lists(deliveries(), max_size=14), order=st.randoms(use_true_random=False))
def test_any_order_repetition_and_batching_gives_the_same_mirror(
    sent: list[Delivery], order: Random, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("orders")
    arriving = sent + order.choices(sent, k=len(sent) // 2) if sent else []
    order.shuffle(arriving)
    straight, shuffled = Taker(folder / "straight.db"), Taker(folder / "shuffled.db")
    try:
        straight.take(*sent)
        while arriving:
            size = order.randint(1, 5)
            shuffled.take(*arriving[:size])
            del arriving[:size]
        if not sent:
            shuffled.take()
        wanted = reference(sent)
        assert {table: sorted(straight.rows(sql), key=repr) for table, sql in HELD.items()} == wanted
        assert everything(shuffled) == everything(straight)
    finally:
        straight.mirror.close()
        shuffled.mirror.close()


def everything(taker: Taker) -> dict[str, Rows]:
    """Return all that may not depend on the order of arrival."""
    names = [name for (name,) in taker.rows("select name from sqlite_master where type = 'table' and name like 'Nexus%'")]
    held = {name: sorted(taker.rows(f"select * from {name}"), key=repr) for name in [*names, "_sections", "_quarantine"]}
    columns = "message_id, occurred_at, client_id, type, section, sequence, body"
    return held | {"_messages": taker.rows(f"select {columns} from _messages order by message_id")}


# One thing at a time


def test_the_sample_of_the_vendor_makes_a_client(taker: Taker) -> None:
    assert taker.take(SAMPLE) == ["applied"]
    row = taker.row("select * from NexusClient")
    assert row["_client_id"] == "EX123456"
    assert row["Ethnicity"] == "Caucasian"
    assert row["MiddleName"] is row["Email"] is None
    assert taker.changes() == [("EX123456", "insert", None)]
    assert taker.rows("select tenant_id, location_id, entity from _changes") == [(0, 0, "NexusClient")]
    logged = taker.row("select * from _messages")
    assert logged | {"message_id": "", "body": ""} == {
        "message_id": "",
        "received_at": "2026-01-01T00:00:00Z",
        "occurred_at": "2019-02-15T14:52:23.0272547Z",
        "client_id": "EX123456",
        "type": "ClientProfile",
        "section": "Personal Details",
        "outcome": "applied",
        "times": 1,
        "sequence": None,
        "body": "",
    }
    assert logged["body"] == SAMPLE.decode()


def test_all_tables_and_known_columns_exist_from_the_first_run_on(taker: Taker) -> None:
    taker.take()
    columns = {
        name: [row[1] for row in taker.rows(f"pragma table_info({name})")]
        for (name,) in taker.rows("select name from sqlite_master where type = 'table' and name like 'Nexus%'")
    }
    assert set(columns) == {
        "NexusClient",
        "NexusAddress",
        "NexusContact",
        "NexusVehicle",
        "NexusEmployment",
        "NexusCase",
        "NexusProtectiveOrder",
        "NexusPicture",
        "NexusOffense",
        "NexusActivity",
    }
    assert {"Ethnicity", "DateOfBirth", "StaticRiskRating", "ClientType", "Email"} <= set(columns["NexusClient"])
    assert {"_client_id", "_item_id", "StayAwayLocation"} <= set(columns["NexusProtectiveOrder"])
    assert columns["NexusOffense"] == ["_client_id", "_item_id", "_n", "Label", "Date", "Statute", "Category", "IsPrimary"]
    assert {"_client_id", "_type", "_item_id", "Type", "OccurredOn", "Details"} == set(columns["NexusActivity"]) - {"_ticks"}


def test_a_message_replaces_its_section_and_no_other_and_the_log_says_what_differs(taker: Taker) -> None:
    taker.take(
        message(details={"FirstName": "Ada", "LastName": "Moor"}),
        message("Email Details", {"Email": "ada@example.com"}, at="2026-03-01T10:00:01.0Z"),
        message(details={"FirstName": "Ada", "LastName": ""}, at="2026-03-01T10:00:02.0Z"),
        message(details={"FirstName": "Ada"}, at="2026-03-01T10:00:03.0Z"),
    )
    row = taker.row("select * from NexusClient")
    assert (row["FirstName"], row["LastName"], row["Email"]) == ("Ada", None, "ada@example.com")
    assert taker.changes() == [
        ("EX1", "insert", None),
        ("EX1", "replace", {"Email": [None, "ada@example.com"]}),
        ("EX1", "replace", {"LastName": ["Moor", None]}),
    ]
    assert (taker.intake.tallied.unchanged, taker.intake.tallied.applied) == (1, 4)


def test_items_come_change_and_go_and_the_log_has_their_rows(taker: Taker) -> None:
    home = {"AddressType": "Home", "Address": "1 Mill Road"}
    taker.take(message("Address Details", home, identifier=HOME, reason="Created"))
    assert taker.changes() == [("EX1", "insert", None)]
    moved = home | {"Address": "2 Mill Road"}
    taker.take(message("Address Details", moved, identifier=HOME, at="2026-03-01T10:00:01.0Z"))
    taker.take(message("Address Details", moved, identifier=OTHER, at="2026-03-01T10:00:02.0Z"))
    taker.take(message("Address Details", moved, identifier=HOME, reason="Removed", at="2026-03-01T10:00:03.0Z"))
    assert taker.rows("select _item_id, Address from NexusAddress") == [(OTHER, "2 Mill Road")]
    assert [fields for _, _, fields in taker.changes()[1:]] == [
        {"NexusAddress": [[home], [moved]]},
        {"NexusAddress": [[], [moved]]},
        {"NexusAddress": [[moved], []]},
    ]


def test_offenses_are_replaced_with_their_case_and_their_order_is_no_change(taker: Taker) -> None:
    theft, fraud = {"Label": "Theft", "statute": "1", "IsPrimary": True}, {"Label": "Fraud"}
    kept = {"Label": "Theft", "Statute": "1", "IsPrimary": 1}
    for second, offenses in enumerate(([theft, fraud], [fraud, theft], [theft], None)):
        details = {"CaseNumber": "C1", "Offenses": offenses}
        taker.take(message("Case Details", details, identifier=HOME, at=f"2026-03-01T10:00:0{second}.0Z"))
    assert taker.rows("select * from NexusOffense") == []
    assert [fields for _, _, fields in taker.changes()] == [
        None,
        {"NexusOffense": [[fraud, kept], [kept]]},
        {"NexusOffense": [[kept], []]},
    ]
    taker.take(message("Case Details", {"Offenses": [theft, theft]}, identifier=HOME, at="2026-03-01T11:00:00.0Z"))
    assert taker.rows("select _n, Label, Statute, IsPrimary from NexusOffense order by _n") == [
        (0, "Theft", "1", 1),
        (1, "Theft", "1", 1),
    ]
    taker.take(message("Case Details", {}, identifier=HOME, reason="Removed", at="2026-03-01T12:00:00.0Z"))
    assert taker.rows("select * from NexusOffense") == taker.rows("select * from NexusCase") == []


def test_a_picture_is_logged_by_its_hash(taker: Taker) -> None:
    taker.take(message("Profile Picture", {"Image": "iVBOR"}))
    taker.take(message("Profile Picture", {"Image": "R0lGO"}, at="2026-03-01T10:00:01.0Z"))
    assert taker.rows("select _client_id, Image from NexusPicture") == [("EX1", "R0lGO")]
    hashes = [[{"Image": sha256(image).hexdigest()}] for image in (b"iVBOR", b"R0lGO")]
    assert taker.changes()[1] == ("EX1", "replace", {"NexusPicture": hashes})


def test_an_activity_is_kept_by_type_and_identifier_as_its_latest_message_says(taker: Taker) -> None:
    def visit(type_: str, result: str, second: int, reason: str = "Updated") -> bytes:
        at = f"2026-03-01T10:00:0{second}.0Z"
        return message(None, {"Result": result}, type_=type_, identifier=HOME, at=at, reason=reason)

    assert taker.take(visit("Office Visit", "Kept", 2), visit("OfficeVisit", "Booked", 1), visit("Note", "x", 1)) == [
        "applied",
        "superseded",
        "applied",
    ]
    assert taker.rows("select _type, Type, OccurredOn, Details from NexusActivity order by _type") == [
        ("note", "Note", "2026-03-01T10:00:01.0000000+00:00", '{"Result":"x"}'),
        ("officevisit", "Office Visit", "2026-03-01T10:00:02.0000000+00:00", '{"Result":"Kept"}'),
    ]
    assert taker.take(visit("Note", "x", 3, "Note Deleted")) == ["applied"]
    assert taker.rows("select _type from NexusActivity") == [("officevisit",)]


def test_a_late_message_is_superseded_and_still_takes_its_place(taker: Taker) -> None:
    taker.take(message(details={"FirstName": "Ada"}, at="2026-03-01T10:00:05.0Z"))
    late = message(details={"FirstName": "Old", "LastName": "Moor"}, at="2026-03-01T10:00:01.0Z")
    assert taker.take(late) == ["superseded"]
    row = taker.row("select * from NexusClient")
    assert (row["FirstName"], row["LastName"]) == ("Ada", "Moor")
    assert taker.changes()[1] == ("EX1", "replace", {"LastName": [None, "Moor"]})
    assert taker.rows("select outcome from _messages order by occurred_at") == [("superseded",), ("applied",)]


def test_what_comes_again_changes_nothing_and_is_counted(taker: Taker) -> None:
    body = message(details={"FirstName": "Ada"})
    assert taker.take(body, body) == ["applied", "repeated"]
    before = everything(taker)
    assert taker.take(json.dumps(json.loads(body), indent=2).encode()) == ["repeated"]
    assert everything(taker) == before
    assert taker.rows("select times from _messages") == [(3,)]
    assert len(taker.changes()) == 1


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_which_bytes_of_a_message_came_first_makes_no_difference(taker: Taker, order: Sequence[int]) -> None:
    def digest(body: bytes) -> str:
        return sha256(body).hexdigest()

    # The same words in two layouts, and between the two, by their hashes, another message of that moment.
    layouts = [
        json.dumps(json.loads(message(details={"FirstName": "Ada"})), indent=width, separators=(",", ":")).encode()
        for width in range(8)
    ]
    low, high = min(layouts, key=digest), max(layouts, key=digest)
    others = (message(details={"FirstName": f"Grace {number}"}) for number in range(1000))
    between = next(body for body in others if digest(low) < digest(body) < digest(high))
    for place in order:
        taker.take([low, between, high][place])
    assert taker.rows("select FirstName from NexusClient") == [("Ada",)]
    assert taker.rows("select count(*), sum(times) from _messages") == [(2, 3)]
    assert taker.changes()[0][1] == "insert"


def test_the_broker_id_names_a_message_and_two_contents_under_one_id_are_two_messages(taker: Taker) -> None:
    first, second = message(details={"FirstName": "Ada"}), message("Email Details", {"Email": "ada@example.com"})
    assert taker.take(Delivery(first, "m1", 5), Delivery(first, "m1", 5), Delivery(second, "m1", 6)) == [
        "applied",
        "repeated",
        "applied",
    ]
    assert taker.take(Delivery(second, "m1", 7), Delivery(first, "m1", 5), Delivery(first)) == [
        "repeated",
        "repeated",
        "superseded",
    ]
    assert taker.row("select * from NexusClient")["Email"] == "ada@example.com"
    assert taker.rows("select message_id, sequence, times from _messages where message_id = 'm1'") == [("m1", 5, 3)]
    assert len(taker.rows("select * from _messages")) == 3


@pytest.mark.parametrize(
    "body", [b"{", b"\xff\x00", message("Tattoo Details", {"Where": "arm"})], ids=["broken", "bytes", "unknown"]
)
def test_what_cannot_be_applied_is_in_quarantine_once_and_in_the_log_of_messages_whole(taker: Taker, body: bytes) -> None:
    assert taker.take(body, message(details={"FirstName": "Ada"})) == ["quarantined", "applied"]
    assert taker.take(body) == ["quarantined"]
    aside = taker.row("select * from _quarantine")
    assert (aside["source"], aside["entity"], aside["run_id"]) == ("nexus ingest", None, taker.run_id)
    logged = taker.row("select * from _messages where outcome = 'quarantined'")
    assert logged["message_id"] == aside["message_id"]
    assert logged["times"] == 2
    stored = logged["body"]
    assert (stored if isinstance(stored, bytes) else stored.encode()) == body
    assert taker.intake.tallied.new_in_quarantine == 1
    assert taker.rows("select _client_id from NexusClient") == [("EX1",)]


def test_new_keys_become_columns_and_are_said_and_a_name_that_no_table_can_have_sets_the_message_aside(taker: Taker) -> None:
    taker.take(message(details={"FirstName": "Ada", "Nick": "A"}))
    taker.take(message(details={"NICK": "B", "Marks": [1]}, at="2026-03-01T10:00:01.0Z"))
    row = taker.row("select * from NexusClient")
    assert (row["FirstName"], row["Nick"], row["Marks"]) == ("Ada", "B", "[1]")
    assert taker.intake.said == ["column Nick added to table NexusClient", "column Marks added to table NexusClient"]
    offense = {"Offenses": [{"Label": "x", "Judge": "y"}], "Court": "z"}
    taker.take(message("Case Details", offense, identifier=HOME))
    assert taker.rows("select Judge from NexusOffense") == [("y",)]
    assert taker.rows("select Court from NexusCase") == [("z",)]
    for odd in ("_id", "n" * 300, "a\0b"):
        assert taker.take(message(details={odd: "x"}, at="2026-03-01T10:00:02.0Z")) == ["quarantined"]


def test_a_new_key_of_another_section_of_the_client_has_a_column_of_its_own(taker: Taker) -> None:
    taker.take(message(details={"Status": "single", "Nick": "A"}), message("Account Details", {"Status": "Active", "Nick": "B"}))
    row = taker.row("select * from NexusClient")
    assert (row["Status"], row["PersonalStatus"], row["Nick"], row["AccountNick"]) == ("Active", "single", "A", "B")
    again = Intake(taker.mirror, taker.run_id, source="nexus ingest")
    again.take([Delivery(message("Account Details", {"nick": "C"}, at="2026-03-01T10:00:01.0Z"))])
    row = taker.row("select * from NexusClient")
    assert (row["Nick"], row["AccountNick"]) == ("A", "C")
    again.take([Delivery(message(reason="Removed", at="2026-03-01T10:00:02.0Z"))])
    row = taker.row("select * from NexusClient")
    assert (row["Status"], row["PersonalStatus"], row["Nick"], row["AccountNick"]) == ("Active", None, None, "C")


def test_a_batch_that_fails_leaves_nothing_behind_and_can_be_taken_again(taker: Taker) -> None:
    taker.take(message(details={"FirstName": "Ada"}))
    before = everything(taker)
    # A foreign trigger, as somebody might put into the file, makes the last statement of the batch fail.
    with closing(sqlite3.connect(taker.path, isolation_level=None)) as connection:
        connection.execute("create trigger stop before insert on _changes begin select raise(abort, 'no'); end")
    body = message(details={"FirstName": "Bo", "Nick": "B"}, at="2026-03-01T10:00:01.0Z")
    with pytest.raises(sqlite3.IntegrityError):
        taker.take(body)
    with closing(sqlite3.connect(taker.path, isolation_level=None)) as connection:
        connection.execute("drop trigger stop")
    assert everything(taker) == before
    assert taker.take(body) == ["applied"]
    assert taker.row("select * from NexusClient")["Nick"] == "B"


def test_counts_of_run_and_status_are_those_of_the_log(taker: Taker) -> None:
    bodies: Sequence[bytes] = [
        message(details={"FirstName": "Ada"}),
        message(details={"FirstName": "Bo"}, at="2026-03-01T10:00:01.0Z"),
        message(details={"FirstName": "Cy"}, at="2026-03-01T10:00:00.5Z"),
        message(details={"FirstName": "Di"}, client="EX2"),
        b"{",
    ]
    taker.take(*bodies)
    taker.take(*bodies)
    [counts] = taker.rows("select inserted, replaced, unchanged, superseded, quarantined from _runs")
    assert counts == (2, 1, 0, 1, 1)
    by_outcome: dict[str, int] = dict(taker.rows("select outcome, count(*) from _messages group by 1"))
    tally = json.loads(taker.rows("select value from _meta where key = 'nexus'")[0][0])
    assert {name: tally[name] for name in by_outcome} == by_outcome == {"applied": 3, "superseded": 1, "quarantined": 1}
    assert (tally["repeated"], tally["clients"]) == (4, 2)
    assert tally["last_occurred_at"] == "2026-03-01T10:00:01.0000000Z"
