"""Messages that were kept before a mask came, and those after it: one history, wherever between them the mask has come."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from hashlib import sha256
from itertools import permutations
from pathlib import Path
from typing import Any

from delta_mirror.core.keyed import Keyed
from delta_mirror.core.mask import Mask, Rules
from delta_mirror.jobs.intake import Intake
from delta_mirror.jobs.masking import TERMS, put_on
from delta_mirror.mirror.write import Mirror
from delta_mirror.nexus.delivery import Delivery
from nexus_messages import HOME, message

KEY = Keyed("a key of tests")
MASK: Rules = {"NexusClient": {"Email": "hash", "LastName": "drop"}, "NexusAddress": {"Address": "drop"}}
SENT = (
    Delivery(message(details={"FirstName": "Jo", "LastName": "zebra-one"}, at="2026-03-01T10:00:00.0000000Z"), "broker-1", 7),
    Delivery(message(details={"LastName": "zebra-two", "Gender": "Male"}, at="2026-03-02T10:00:00.0000000Z")),
    Delivery(message("Email Details", {"Email": "zebra@example.org"}, at="2026-03-01T10:00:00.0000000Z"), "broker-2", 9),
    Delivery(
        message("Address Details", {"AddressType": "Home", "Address": "1 Zebra Lane"}, identifier=HOME, at="2026-03-03T10:00:00Z")
    ),
)
DATA = (
    "select * from NexusClient",
    "select * from NexusAddress",
    "select message_id, body, times, section from _messages order by message_id",
)


def taken(path: Path, before: Sequence[Delivery], after: Sequence[Delivery]) -> tuple[list[Any], list[str], str]:
    """Return what a mirror holds that took *before* clear and *after* masked, and what became of all, sent once more.

    The last is all that it knew of sections before that.
    """
    with Mirror.open(path, now=lambda: 1_767_225_600.0) as mirror:
        for deliveries, rules in ((before, {}), (after, MASK)):
            put_on(mirror, Mask(rules, TERMS, KEY))
            intake = Intake(mirror, mirror.begin_run("nexus ingest"), source="nexus ingest")
            for delivery in deliveries:
                intake.take([delivery])
        with closing(sqlite3.connect(path)) as connection:
            sections = repr(connection.execute("select * from _sections").fetchall())
        again = [str(outcome) for outcome in intake.take(SENT)]
    with closing(sqlite3.connect(path)) as connection:
        return [connection.execute(sql).fetchall() for sql in DATA], again, sections


def test_wherever_between_messages_a_mask_comes_the_mirror_is_the_same(tmp_path: Path) -> None:
    expected, *_ = taken(tmp_path / "all.db", (), SENT)
    [[client_id, *_]] = expected[0]
    assert client_id == "EX1"
    assert KEY.digest("mask", "zebra@example.org") in expected[0][0]
    for number, order in enumerate(permutations(SENT)):
        path = tmp_path / f"{number}.db"
        cut = number % (len(SENT) + 1)
        held, again, sections = taken(path, order[:cut], order[cut:])
        assert held == expected, (number, cut)
        assert again == ["repeated"] * len(SENT)
        assert b"zebra" not in path.read_bytes().lower()
        # Candidates could be tried against a hash of what was sent.
        assert not [each for each in SENT if sha256(each.body).hexdigest()[:16] in sections]
