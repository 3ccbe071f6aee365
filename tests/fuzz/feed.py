"""Target `feed`: answers of the change feed, read into a mirror.

Every entry of an answer that is a page is afterwards stored to the letter, in quarantine whole, or superseded by a newer
version of its record; the mirror has the tables and columns that the stored records need, and no others; the same answers a
second time change nothing; no message has a value in it; and a whole drain over the same answers ends.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from delta_mirror.cli.changes_text import as_line
from delta_mirror.core.model import Broken, Child, Entry, Page, PageRequest, Record, Row, Stream
from delta_mirror.core.plan import Drained, Plan, decide
from delta_mirror.core.values import HOUR, MINUTE, read_ticks
from delta_mirror.dds.tables import FEED_CHILDREN
from delta_mirror.dds.wire import open_page, read_entry, read_page
from delta_mirror.errors import ProtocolError, UnfinishedError
from delta_mirror.jobs.drain import Drain, Reading
from delta_mirror.mirror.read import Reader
from delta_mirror.mirror.schema import CHILD_COLUMNS, ROOT_COLUMNS
from delta_mirror.mirror.write import Mirror
from fuzz import hostile, lossless
from fuzz.choices import Choices
from fuzz.engine import Target
from fuzz.lossless import Members, NoJsonError, Sent, fold, is_stored_as
from fuzz.mirrors import assert_only_these, assert_printable, template

NOON = 1_777_896_000.0  # 2026-05-04T12:00:00Z
CLOCK = read_ticks("2026-05-04T12:00:00Z") or 0

_ENTITIES = ("Client", "Employee", "Appointment", "Sale", "EmployeeSchedule", "EmployeeActual")
_COLUMNS = (
    "EntityId", "FirstName", "DateUpdated", "ObjectStateEnum", "AppointFinalStateEnum", "EntityVersion", "TenantId", "LocationId",
    "Client_TId", "Employee_User_TId", "SaleDate", "Sale_Seq", "AppointService_LId", "ExternalId", "Total", "FileGuid", "IsMinor",
)  # fmt: skip
_CHILDREN = ("ClientPhone_T", "SaleLine_L", "SalePayment_L", "AppointmentService_L", "ClientEmail_T", "Clients", "Employee_T")
_IDS = tuple(f"5a0c2d6e-0000-4000-8000-00000000000{number}" for number in range(3))
_DATES = ("2026-05-04T10:00:00.0000000+00:00", "2026-05-04T11:00:00.0000000+00:00", "2026-05-01T00:00:00Z")
_ENVELOPE = ("data", "lastChangeDateIncludedInPage", "referenceId", "pageNumber", "error", "Data", "request")
LEFT_OUT = frozenset(
    fold(name)
    for name in (
        "TenantId", "LocationId", "EntityId", "Client_TId", "Employee_User_TId", "Appointment_LId", "Appoint_LId", "Sale_LId",
        "SaleDate", "Sale_Seq", "AppointService_LId",
    )
)  # fmt: skip


class Answers(NamedTuple):
    """What a stream of this entity answers, one body after the other."""

    entity: str
    bodies: tuple[bytes, ...]


# ---- making


def make(choices: Choices) -> Answers:
    """Return a few answers."""
    entity = choices.among(_ENTITIES)
    bodies = tuple(_body(choices, entity) for _ in range(1 + choices.below(3)))
    return Answers(entity, bodies)


def _body(choices: Choices, entity: str) -> bytes:
    pairs = [("data", "[" + ",".join(_entry(choices, entity) for _ in range(choices.below(5))) + "]")]
    for _ in range(choices.below(4)):
        name = hostile.name(choices, _ENVELOPE)
        value = hostile.scalar(choices, _DATES) if choices.below(2) else hostile.value(choices)
        pairs.insert(choices.below(2), (name, value))
    if choices.one_in(12):
        pairs[0] = (hostile.name(choices, ("Data", "DATA")), pairs[0][1])
    text = hostile.members(choices, pairs)
    octets = text.encode(choices.among(("utf-8",) * 14 + ("utf-8-sig", "utf-16")), "surrogatepass")
    return hostile.bent(choices, octets) if choices.one_in(3) else octets


def _entry(choices: Choices, entity: str) -> str:
    if choices.one_in(12):
        return hostile.value(choices)
    root = hostile.name(choices, (f"{entity}_T", f"{entity}_L", entity))
    pairs = [
        ("EntityId", hostile.quoted(choices, choices.among(_IDS)) if not choices.one_in(6) else hostile.scalar(choices, _IDS))
    ]
    if not choices.one_in(6):
        pairs.append(("DateUpdated", hostile.quoted(choices, choices.among(_DATES))))
    pairs += _columns(choices)
    pairs += [_child(choices, 3) for _ in range(choices.below(3))]
    if choices.one_in(20):
        pairs += [(f"Column{number}", str(number)) for number in range(choices.among((900, 1900, 1901, 2001, 3000)))]
    record = hostile.members(choices, [(root, hostile.members(choices, pairs))])
    if choices.one_in(10):
        return hostile.members(choices, [("SnapshotData", hostile.quoted(choices, record) if choices.below(2) else record)])
    return record


def _columns(choices: Choices) -> list[tuple[str, str]]:
    def column() -> tuple[str, str]:
        name = hostile.name(choices, _COLUMNS)
        if name.endswith("StateEnum") and choices.below(2):
            return name, choices.among(("2028", "2052", '"2028"', "2026"))
        if name.lower() == "entityversion" and choices.below(2):
            return name, choices.among(
                (
                    hostile.number(choices),
                    f'"{hostile.number(choices)}"',
                    f'"{"7" * 4301}"',
                    '"00000000000007d1"',
                    '"AAAAAAAAB9E="',
                )
            )
        return name, hostile.value(choices, 2)

    return choices.some(column, 5)


def _child(choices: Choices, levels: int) -> tuple[str, str]:
    def row() -> str:
        pairs = _columns(choices)
        if levels and choices.one_in(4):
            pairs.append(_child(choices, levels - 1))
        return hostile.members(choices, pairs)

    return hostile.name(choices, _CHILDREN), "[" + ",".join(choices.some(row, 3)) + "]"


# ---- checking


@contextmanager
def open_site(folder: Path) -> Iterator[Callable[[Answers], None]]:
    """Let the body check answers in *folder*."""
    empty = template(folder)

    def check(sent: Answers) -> None:
        path = folder / "mirror.db"
        shutil.copyfile(empty, path)
        stream = Stream(11, 9, sent.entity)
        with Mirror.open(path, feed_tables=FEED_CHILDREN, now=lambda: NOON) as mirror:
            pages = _read(sent, stream)
            fitted = [record for page in pages for record in _apply(mirror, stream, page)]
        _check_shape(path, sent.entity, fitted)
        _check_said(path)
        with Mirror.open(path, feed_tables=FEED_CHILDREN, now=lambda: NOON) as mirror, mirror.transaction(keep=False) as tx:
            assert tx.fit(stream, fitted) == fitted, "a mirror that is opened again has other names"
            assert tx.said == [], "a mirror that is opened again lacks tables or columns"
        shutil.copyfile(empty, path)
        with Mirror.open(path, feed_tables=FEED_CHILDREN, now=lambda: NOON) as mirror:
            _drain(mirror, stream, sent)

    yield check


def _read(sent: Answers, stream: Stream) -> list[Page]:
    """Return the pages that the bodies are, each entry held against what was sent."""
    pages = []
    for body in sent.bodies:
        try:
            page = read_page(body, stream, CLOCK)
        except ProtocolError as error:
            assert hostile.CANARY not in str(error), "a message has a value in it"
            assert str(error).isprintable(), "a message cannot be printed"
            continue
        elements = _elements(body)
        assert len(page.entries) == len(page.digests) == len(elements), "a page has lost an entry"
        for element, entry in zip(elements, page.entries, strict=True):
            _check_entry(element, entry, stream)
        pages.append(page)
    return pages


def _elements(body: bytes) -> list[Sent]:
    try:
        envelope = lossless.parse(body)
    except NoJsonError:
        raise AssertionError("what is no JSON was read as a page") from None
    assert isinstance(envelope, Members)
    [data] = [value for name, value in envelope if name.lower() == "data" and value is not None]
    assert isinstance(data, list)
    assert not isinstance(data, Members)
    return data


def _check_entry(element: Sent, entry: Record | Broken, stream: Stream) -> None:
    if isinstance(entry, Broken):
        assert hostile.CANARY not in entry.reason, "a reason has a value in it"
        assert lossless.content_of(lossless.parse(entry.body)) == lossless.content_of(element), "quarantine has lost something"
        again = read_entry(entry.body, stream)
        assert isinstance(again, Broken), "what is broken is whole when it is tried again"
        return
    assert not lossless.holds_a_name_twice(element), "a name that stands twice was passed over"
    members = _present(element)
    if len(members) == 1 and members[0][0].lower() == "snapshotdata":
        inner = members[0][1]
        element = lossless.parse(inner) if type(inner) is str else inner
        assert not lossless.holds_a_name_twice(element), "a name that stands twice was passed over"
        members = _present(element)
    [(_, root)] = members
    left: dict[str, list[Child]] = {name: list(rows) for name, rows in entry.children.items()}
    _check_row(root, entry.root, left, [], None)
    assert not any(left.values()), "there is a row that was not sent"


def _present(sent: Sent) -> list[tuple[str, Sent]]:
    assert isinstance(sent, Members)
    return [(name, value) for name, value in sent if value is not None]


def _check_row(sent: Sent, row: Row, left: dict[str, list[Child]], above: list[Sent], number: int | None) -> None:
    """Fail unless *row* is what was *sent*, and *left* begins with the rows that were sent within it, which are taken away."""
    stored = {fold(name): (name, value) for name, value in row.items()}
    assert len(stored) == len(row), "two columns of a row are one to SQLite"
    members = _present(sent)
    here = [*above, *(value for _, value in members)]
    for name, value in members:
        if isinstance(value, list) and not isinstance(value, Members) and all(isinstance(each, Members) for each in value):
            _check_table(name, value, left, here)
            continue
        held = stored.pop(fold(name), None)
        if held is None:
            assert fold(name) in LEFT_OUT, f"the column {name!r} is gone"
            assert value in here or value in ("11", "9"), f"the column {name!r} is gone, and nothing else says what it said"
        else:
            assert is_stored_as(value, held[1], name), f"the column {name!r} was bent"
    assert set(stored) <= {"entityid"}, "there is a column that was not sent"
    for _, key in stored.values():
        assert any(is_stored_as(each, key, "EntityId") for each in here), "there is a key that was not sent"


def _check_table(name: str, sent: Sequence[Sent], left: dict[str, list[Child]], above: list[Sent]) -> None:
    if not sent:
        return
    bare = fold(name[:-2] if name[-2:].upper() in ("_T", "_L") else name).replace("_", "")
    names = {bare.lower(), "salelinepayment" if bare == "salepayment" else bare.lower()}
    [rows] = [rows for table, rows in left.items() if table.lower() in names]
    for each in sent:
        child = rows.pop(0)
        _check_row(each, child.row, left, above, None)


def _apply(mirror: Mirror, stream: Stream, page: Page) -> list[Record]:
    """Take *page* as a drain does, twice; return the records that the tables were made to fit."""
    fitted, plan = _take(mirror, stream, page)
    count = len(plan.changes) + len(plan.unchanged) + len(plan.superseded) + len(plan.quarantine)
    ids = [entry.id for entry in page.entries if entry.id is not None]
    assert count == len(page.entries) or len(set(ids)) < len(ids), "an entry is in no part of the plan"
    with mirror.transaction(keep=False) as tx:
        held = tx.current(stream, list(plan.effects))
        for id_, effect in plan.effects.items():
            there = held[id_]
            assert there.deleted == effect.record.deleted
            rows = there.tombstone if effect.record.deleted else there.record
            assert rows is not None
            assert _typed(rows.root) == _typed(effect.record.root), "a root row is not what was read"
            children = {name: of for name, of in effect.record.children.items() if of}
            assert {name: [(_typed(row), parent) for row, parent in of] for name, of in rows.children.items()} == {
                name: [(_typed(row), parent) for row, parent in of] for name, of in children.items()
            }, "a child row is not what was read"
        broken = {body for (body,) in tx.execute("select body from _quarantine")}
        assert {entry.body for entry in plan.quarantine} <= broken, "an entry is in no quarantine"
    if len(set(ids)) == len(page.entries):
        _, again = _take(mirror, stream, page)
        assert again.changes == [], "what is sent again is logged again"
    return [entry for entry in fitted if isinstance(entry, Record)]


def _typed(row: Row) -> dict[str, tuple[type, object]]:
    return {name: (type(value), value) for name, value in row.items()}


def _take(mirror: Mirror, stream: Stream, page: Page) -> tuple[Sequence[Entry], Plan]:
    with mirror.transaction() as tx:
        entries = tx.fit(stream, page.entries)
        assert len(entries) == len(page.entries)
        plan = decide(tx.current(stream, [entry.id for entry in entries if entry.id is not None]), entries, Drained())
        tx.carry_out(stream, plan, 1)
        for said in tx.said:
            assert hostile.CANARY not in said, "a message has a value in it"
    return entries, plan


def _check_shape(path: Path, entity: str, stored: Sequence[Record]) -> None:
    """Fail unless the mirror has the tables and columns of *stored*, and no others."""
    wanted: dict[str, set[str]] = {}
    for record in stored:
        wanted.setdefault(fold(entity), set()).update(map(fold, record.root))
        for name, rows in record.children.items():
            if rows:
                wanted.setdefault(fold(name), set()).update(fold(column) for row, _ in rows for column in row)
    assert_only_these(path, wanted, root=fold(entity), own=(ROOT_COLUMNS, CHILD_COLUMNS))


def _check_said(path: Path) -> None:
    with Reader.open(path) as reader:
        for change in reader.changes():
            assert_printable(as_line(change, width=None, verbose=True))


class _Script:
    """A service that answers with the bodies, whatever it is asked for, and with empty pages after that."""

    def __init__(self, sent: Answers) -> None:
        self._bodies = list(sent.bodies)

    def greet(self, stream: Stream) -> None:
        """Answer."""

    def clock(self) -> int:
        """Return noon."""
        return CLOCK

    def fetch_unread(self, stream: Stream, request: PageRequest, counted: Callable[[], None]) -> Callable[[], Page]:
        """Return the next page."""
        counted()
        return partial(open_page(self._bodies.pop(0) if self._bodies else b'{"data": []}', stream).read, stream, CLOCK)


def _drain(mirror: Mirror, stream: Stream, sent: Answers) -> None:
    service = _Script(sent)
    for _ in range(2):
        report = Drain(stream, service, mirror, Reading(200, 10 * MINUTE, 24 * HOUR), mirror.begin_run("deltas")).run()
        assert report.error is None or isinstance(report.error, UnfinishedError)
        assert hostile.CANARY not in str(report.error), "a message has a value in it"


def size_of(sent: Answers) -> int:
    """Return how many octets the answers have."""
    return sum(map(len, sent.bodies))


TARGET = Target("feed", make, open_site, size_of)
