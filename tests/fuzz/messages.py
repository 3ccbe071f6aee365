"""Target `messages`: Nexus messages, with what the broker says of them and in the files that they come in, taken into a mirror.

Every message that is handed over stands afterwards in the log of messages to the letter; what it says is stored, or it is in
quarantine with a reason; taken a second time it changes nothing; taken in the opposite order it gives the same tables. A file
gives every message that is in it, or says where it breaks off.
"""

import gzip
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from delta_mirror.cli.changes_text import as_line
from delta_mirror.errors import ProtocolError
from delta_mirror.jobs.intake import Intake, make_tables
from delta_mirror.mirror.read import Reader
from delta_mirror.mirror.schema import OWN_TABLES, quote
from delta_mirror.mirror.write import Mirror
from delta_mirror.nexus.broker import LONGEST_LOCK, Answer, read_locked
from delta_mirror.nexus.delivery import Delivery
from delta_mirror.nexus.files import DamagedError, Limits, Source
from delta_mirror.nexus.sections import ALIASES, LAYOUTS, SECTIONS
from fuzz import hostile, lossless
from fuzz.choices import Choices
from fuzz.engine import Target
from fuzz.lossless import Members, Sent, fold, is_stored_as
from fuzz.mirrors import assert_printable, assert_sound, template

NOON = 1_777_896_000.0  # 2026-05-04T12:00:00Z
BASE = "https://salon.servicebus.windows.net/changes/subscriptions/mirror"
LIMITS = Limits(longest=60_000, chunk=64)

_KEYS = (*(key for section in SECTIONS for key in section.columns), "Offenses", "SubType", "Ethinicity", "FavouriteColour")
_SUB_TYPES = (*(section.name for section in SECTIONS), "Client Type", "Profile", "Shoe Details")
_TYPES = ("ClientProfile", "Client Profile", "Note", "Office Visit", "Drug Test Result")
_REASONS = ("Updated", "Created", "Removed", "Personal Details Updated", "Address Details Deleted", "Email Details Updated")
_MOMENTS = (
    "2026-03-01T10:00:00.0000000Z", "2026-03-01T10:00:00.0000001Z", "2026-03-01T10:00Z", "4/5/2019 10:38 AM", "2026-03-01",
)  # fmt: skip
_IDENTIFIERS = ("5a0c2d6e-0000-4000-8000-000000000001", "00000000-0000-0000-0000-000000000000", "A1")
_CLIENTS = ("EX1", "EX2")
_PROPERTIES = ("MessageId", "SequenceNumber", "LockToken", "DeliveryCount", "LockedUntilUtc", "EnqueuedTimeUtc")
_LOCATIONS = (
    f"{BASE}/messages/1/5a0c2d6e-0000-4000-8000-000000000001", "/messages/1/2", "messages/1/2", "http://[",
    "//elsewhere.example/x",
    "https://elsewhere.example/messages/1/2", "javascript:x", "https://salon.servicebus.windows.net:99999/messages/1/2", "..", "",
)  # fmt: skip
_BLANK = b" \t\r\n[],\xef\xbb\xbf"  # what may stand between the messages of a file


class Delivered(NamedTuple):
    """Messages as they are handed over, the answers of the broker that some came in, and a file."""

    deliveries: tuple[Delivery, ...]
    answers: tuple[Answer, ...]
    file: bytes
    can_be_listed: bool


# ---- making


def make(choices: Choices) -> Delivered:
    """Return what is delivered."""
    deliveries, answers = [], []
    for _ in range(1 + choices.below(4)):
        body = _body(choices)
        if choices.one_in(4):
            answers.append(Answer(201, body, _headers(choices), NOON))
        else:
            id_ = choices.among(("m1", "m2", "'", '"', "\u202e", "😀", "x" * 3000)) if choices.one_in(4) else None
            deliveries.append(Delivery(body, id_, choices.among((None, 0, 1, 2**63 - 1))))
    bodies = [each.body for each in deliveries]
    is_array = choices.below(2) == 1
    file = b"[" + b", ".join(bodies) + b"]" if is_array else b"\r\n".join(bodies)
    if choices.one_in(3):
        file = hostile.bent(choices, file)
    if choices.one_in(4):
        file = gzip.compress(file, mtime=0)
        file = hostile.bent(choices, file) if choices.one_in(2) else file
    return Delivered(tuple(deliveries), tuple(answers), file, is_array)


def _body(choices: Choices) -> bytes:
    def plain(usual: Sequence[str], odd: int = 12) -> str:
        return hostile.quoted(choices, choices.among(usual)) if not choices.one_in(odd) else hostile.value(choices, 2)

    details = [("SubType", plain(_SUB_TYPES))] if not choices.one_in(3) else []
    details += choices.some(lambda: _detail(choices), 6)
    if choices.one_in(128):
        details += [(f"Column{number}", str(number)) for number in range(choices.among((100, 200, 300, 1880, 1901)))]
    parts = [
        ("Client", hostile.members(choices, [("IntegrationId", plain(_CLIENTS))])),
        ("Activity", hostile.members(choices, [("Identifier", plain(_IDENTIFIERS)), ("Type", plain(_TYPES[:1] * 4 + _TYPES))])),
        ("Details", hostile.members(choices, details) if not choices.one_in(16) else hostile.value(choices)),
        ("Action", hostile.members(choices, [("Reason", plain(_REASONS)), ("OccurredOn", plain(_MOMENTS))])),
    ]
    if choices.one_in(10):
        parts.append((hostile.name(choices, ("Client", "client", "Action")), hostile.value(choices)))
    octets = hostile.members(choices, parts).encode("utf-8", "surrogatepass")
    return hostile.bent(choices, octets) if choices.one_in(4) else octets


def _detail(choices: Choices) -> tuple[str, str]:
    name = hostile.name(choices, _KEYS)
    if name == "Offenses" and not choices.one_in(4):
        rows = choices.some(lambda: hostile.members(choices, choices.some(lambda: _offense(choices), 4)), 3)
        return name, "[" + ",".join(rows) + "]"
    return name, hostile.value(choices, 2)


def _offense(choices: Choices) -> tuple[str, str]:
    return hostile.name(choices, ("Label", "Date", "statute", "Category", "IsPrimary")), hostile.value(choices, 1)


def _headers(choices: Choices) -> dict[str, str]:
    def value(name: str) -> str:
        usual = {"LockToken": '"5a0c"', "LockedUntilUtc": '"Mon, 04 May 2026 12:00:30 GMT"'}.get(name, "1")
        return usual if not choices.one_in(3) else hostile.value(choices)

    properties = hostile.members(choices, [(name, value(name)) for name in _PROPERTIES if not choices.one_in(5)])
    headers = {
        "brokerproperties": properties if not choices.one_in(8) else hostile.text(choices, ("{}", "")),
        "location": choices.among(_LOCATIONS) if not choices.one_in(4) else hostile.text(choices, _LOCATIONS),
        "date": choices.among(("Mon, 04 May 2026 12:00:00 GMT", "Mon, 99 May 2026 12:00:00 GMT", "x", "")),
        "x-ms-request-id": choices.among(("5a0c", "", "\x1b[2J", "x" * 5000, "\u202e")),
    }
    # As http.client hands them over.
    return {name: text.encode("utf-8", "surrogatepass").decode("latin-1") for name, text in headers.items()}


# ---- checking


@contextmanager
def open_site(folder: Path) -> Iterator[Callable[[Delivered], None]]:
    """Let the body check what is delivered, in *folder*."""
    plain, empty = template(folder), folder / "empty-nexus.db"
    shutil.copyfile(plain, empty)
    with Mirror.open(empty) as mirror:
        make_tables(mirror)

    def check(sent: Delivered) -> None:
        deliveries = [*sent.deliveries, *_settled(sent.answers)]
        path = folder / "mirror.db"
        tables = _take_twice(empty, path, deliveries)
        backward = _take_twice(empty, path, deliveries[::-1])
        # Under which name a new key of a shared table goes, is decided by who comes first.
        if _columns(tables) == _columns(backward) and not any(each.message_id for each in deliveries):
            assert tables == backward, "the order of arrival makes a difference"
        (folder / "file").write_bytes(sent.file)
        _check_file(folder / "file", sent)

    yield check


def _settled(answers: Sequence[Answer]) -> Iterator[Delivery]:
    """Yield the messages of those answers that can be settled."""
    for answer in answers:
        try:
            locked = read_locked(answer, BASE)
        except ProtocolError as error:
            assert hostile.CANARY not in str(error), "a message has a value in it"
            assert str(error).isprintable(), "a message cannot be printed"
            continue
        assert locked.target.startswith("/"), "a message would be settled somewhere else"
        assert locked.target.isascii(), "a message would be settled at no address"
        assert 0 < locked.seconds <= LONGEST_LOCK
        assert locked.times >= 1
        assert locked.delivery.body == answer.body
        yield locked.delivery


def _take_twice(empty: Path, path: Path, deliveries: Sequence[Delivery]) -> dict[str, list[tuple[object, ...]]]:
    """Return what the tables of Nexus hold once *deliveries* are taken, all in one batch and then one by one."""
    shutil.copyfile(empty, path)
    with Mirror.open(path, now=lambda: NOON) as mirror:
        intake = Intake(mirror, mirror.begin_run("nexus ingest"), source="nexus ingest")
        outcomes = intake.take(deliveries)
        assert len(outcomes) == len(deliveries)
        with closing(sqlite3.connect(path)) as reader:
            _check_log(reader, deliveries, outcomes)
            if len(deliveries) == 1 and outcomes == ["applied"]:
                _check_values(reader, deliveries[0])
            before = _contents(reader)
            logged = reader.execute("select count(*) from _changes").fetchone()
        for delivery in deliveries:
            [again] = intake.take([delivery])
            assert again in ("repeated", "quarantined"), "a message that comes again is taken for another one"
        with closing(sqlite3.connect(path)) as reader:
            assert _contents(reader) == before, "a message that comes again changes something"
            assert reader.execute("select count(*) from _changes").fetchone() == logged, "a message that comes again is logged"
    assert_sound(path)
    with Reader.open(path) as told:
        for change in told.changes():
            assert_printable(as_line(change, width=None, verbose=True))
    return before


def _check_log(reader: sqlite3.Connection, deliveries: Sequence[Delivery], outcomes: Sequence[str]) -> None:
    logged = {
        (body if isinstance(body, bytes) else body.encode()): outcome
        for body, outcome in reader.execute("select body, outcome from _messages")
    }
    aside = dict(reader.execute("select m.body, q.reason from _quarantine q join _messages m using (message_id)").fetchall())
    for reason in aside.values():
        assert hostile.CANARY not in reason, "a reason has a value in it"
    reasons = {(body if isinstance(body, bytes) else body.encode()): reason for body, reason in aside.items()}
    for delivery, outcome in zip(deliveries, outcomes, strict=True):
        if outcome != "repeated":
            assert delivery.body in logged, "a message is not in the log"
        if outcome == "quarantined":
            assert delivery.body in reasons, "a message is in no quarantine"
    found = {name for (name,) in reader.execute("select name from sqlite_master where type = 'table'")}
    assert {name for name in found if not name.startswith("sqlite_")} == {*OWN_TABLES, *(layout.table for layout in LAYOUTS)}


def _check_values(reader: sqlite3.Connection, delivery: Delivery) -> None:
    """Fail unless every value that a message brought as the only one stands in its row, or in a row below that."""
    sent = lossless.parse(delivery.body)
    details = _member(sent, "Details")
    [reason] = [_member(_member(sent, "Action"), "Reason")] if not isinstance(_member(sent, "Action"), str) else [None]
    removes = isinstance(reason, str) and "".join(reason.split()).lower().endswith(("removed", "deleted"))
    kind = _member(_member(sent, "Activity"), "Type")
    if not isinstance(details, Members) or removes:
        return
    rows = [
        dict(zip([column[0] for column in found.description], row, strict=True))
        for layout in LAYOUTS
        for found in [reader.execute(f"select * from {quote(layout.table)}")]
        for row in found.fetchall()
    ]
    if "".join(str(kind).split()).lower() != "clientprofile":
        [row] = [row for row in rows if "Details" in row]
        assert lossless.content_of(lossless.parse(row["Details"])) == lossless.content_of(details), "an activity was bent"
        return
    spelt = [ALIASES.get(name.lower(), name).lower() for name, _ in details]
    stored = [(fold(name), value) for row in rows for name, value in row.items() if value is not None]
    for name, value in details:
        is_rows = name.lower() == "offenses" and isinstance(value, list)
        # Of several spellings of one key the right one wins.
        if (
            value in (None, "")
            or name.lower() == "subtype"
            or is_rows
            or spelt.count(ALIASES.get(name.lower(), name).lower()) > 1
        ):
            continue
        names = tuple({name.lower(), fold(name), ALIASES.get(name.lower(), name).lower()})
        held = [held for column, held in stored if column.endswith(names)]
        assert any(_is_stored(value, each, name) for each in held), f"the key {name!r} is gone, or was bent"


def _is_stored(value: Sent, held: object, name: str) -> bool:
    if isinstance(value, str) and isinstance(held, str) and "/" in value and held[:4].isdecimal():
        return True  # a date that is written month first
    return isinstance(held, int | float | str) and is_stored_as(value, held, name)


def _member(sent: Sent, name: str) -> Sent:
    assert isinstance(sent, Members)
    return next((value for key, value in sent if key == name), next((v for key, v in sent if key.lower() == name.lower()), None))


def _contents(reader: sqlite3.Connection) -> dict[str, list[tuple[object, ...]]]:
    contents: dict[str, list[tuple[object, ...]]] = {}
    for layout in LAYOUTS:
        names = sorted(row[1] for row in reader.execute(f"pragma table_info({quote(layout.table)})"))
        found = reader.execute(f"select {', '.join(map(quote, names))} from {quote(layout.table)}").fetchall()
        contents[layout.table] = [tuple(names), *sorted(found, key=repr)]
    return contents


def _columns(contents: dict[str, list[tuple[object, ...]]]) -> list[object]:
    return [rows[0] for rows in contents.values()]


def _check_file(path: Path, sent: Delivered) -> None:
    bodies = []
    damage: DamagedError | None = None
    try:
        for body in Source(path, LIMITS).bodies():
            bodies.append(body)
    except DamagedError as error:
        damage = error
        assert str(error).isprintable()
    try:
        text = gzip.decompress(sent.file) if sent.file[:2] == b"\x1f\x8b" else sent.file
    except (OSError, EOFError, ValueError, gzip.zlib.error):  # type: ignore[attr-defined]
        assert damage is not None, "a file that cannot be decompressed was read to its end"
        return
    given, there = (octets.translate(None, _BLANK) for octets in (b"".join(bodies), text))
    assert there.startswith(given) if damage else there == given, "a file has lost something"


def size_of(sent: Delivered) -> int:
    """Return how many octets are delivered."""
    return len(sent.file) + sum(len(each.body) for each in sent.deliveries) + sum(len(each.body) for each in sent.answers)


TARGET = Target("messages", make, open_site, size_of)
