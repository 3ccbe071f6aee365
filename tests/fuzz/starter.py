"""Target `starter`: files of a Starter Export, read, staged, and carried over into a mirror.

Every field of a file that is taken is read to the letter, however the file is cut into chunks; every row belongs to a record or
is counted as set aside; an entity is loaded whole or refused by name; and the same export a second time changes nothing.
"""

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import NamedTuple

from delta_mirror.core.model import Stream, Value
from delta_mirror.dds.export import Batch, read_table
from delta_mirror.dds.export_tables import facts_of
from delta_mirror.dds.tables import CHANGED, DELETE_MARKS, FEED_CHILDREN, KEY
from delta_mirror.errors import ExportError
from delta_mirror.mirror.baseline import Dates, Loaded, change_over
from delta_mirror.mirror.comparison import Comparison
from delta_mirror.mirror.staged import Mark, Rules
from delta_mirror.mirror.staging import Staging
from delta_mirror.mirror.workspace import work_folder
from delta_mirror.mirror.write import Mirror
from fuzz import hostile
from fuzz.choices import Choices
from fuzz.engine import Target
from fuzz.lossless import Digits, exact, is_stored_as
from fuzz.mirrors import assert_sound, template

NOON = 1_777_896_000.0  # 2026-05-04T12:00:00Z
DATES = Dates.of(date(2026, 5, 4))

_TABLES = {
    "Client": ("Client", "ClientPhone", "ClientGiftCard", "Client_Hats_T"),
    "Employee": ("Employee", "EmployeeBio"),
    "Appointment": ("Appointment", "AppointmentService", "AppointmentServiceStep"),
    "Sale": ("Sale", "SaleLine", "SaleLinePayment", "SaleLine_ClientUnlimitedService_L"),
    "EmployeeActual": ("EmployeeClock", "EmployeeBreak"),
}
_COLUMNS = (
    "TenantId", "EntityId", "LocationId", "Client_TId", "Employee_User_TId", "DateUpdated", "ObjectStateEnum", "SaleDate",
    "Sale_Seq", "AppointService_LId", "AppointFinalStateEnum", "FirstName", "Total", "EntityVersion", "ExternalId", "ZipCode",
)  # fmt: skip
_IDS = tuple(f"5A0C2D6E-0000-4000-8000-00000000000{number}" for number in range(4))
_FIELDS = ("", '""', '"Ada"', "Ada", ".500000", "-.500000", "12.000000", "0", "1", "2028", "2052", '"', '""""', "2026-05-04",
           "2026-05-04 10:00:00.0000000 -04:00", "2026-05-04 10:00:00 +14:00", "00000000000007D1", "0012", *_IDS)  # fmt: skip


class Export(NamedTuple):
    """The files of one entity, each under the name of its table, and whether their octets have been bent."""

    entity: str
    files: tuple[tuple[str, bytes], ...]
    is_bent: bool


# ---- making


def make(choices: Choices) -> Export:
    """Return an export."""
    entity = choices.among(tuple(_TABLES))
    is_quoted, is_bent = choices.below(2) == 0, choices.one_in(3)
    tables = [table for table in _TABLES[entity] if not choices.one_in(4)]
    files = []
    for table in tables:
        octets = _file(choices, is_quoted=is_quoted)
        files.append((table, hostile.bent(choices, octets) if is_bent else octets))
    return Export(entity, tuple(files), is_bent)


def _file(choices: Choices, *, is_quoted: bool) -> bytes:
    columns = ["TenantId", "EntityId", *choices.some(lambda: hostile.name(choices, _COLUMNS), 6)]
    if choices.one_in(20):
        columns += [f"Column{number}" for number in range(choices.among((1800, 1900, 1999, 2000, 3000, 40_000)))]
    head = [f'"{name}"' for name in columns] if is_quoted else columns
    rows = [] if choices.one_in(10) else [head]
    rows += [_row(choices, columns, is_quoted=is_quoted) for _ in range(choices.below(6))]
    text = "".join("|@|".join(row) + "|$|" for row in rows)
    return ("\ufeff" + text).encode("utf-16-le", "surrogatepass")


def _row(choices: Choices, columns: Sequence[str], *, is_quoted: bool) -> list[str]:
    fields = []
    for name in columns[:60]:
        if name == "TenantId":
            fields.append("11")
        elif name.endswith("Id") and not choices.one_in(4):
            fields.append(choices.among(_IDS))
        elif name == "DateUpdated" and choices.below(2):
            fields.append(choices.among(("2026-05-01 10:00:00.0000000 +00:00", "2026-05-04 10:00:00.0000000 +00:00")))
        elif name == "EntityVersion" and choices.below(2):
            fields.append(choices.among(("00000000000007D1", hostile.number(choices), f'"{hostile.number(choices)}"')))
        else:
            text = hostile.number(choices) if choices.one_in(4) else hostile.text(choices, _FIELDS)
            fields.append(f'"{text}"' if is_quoted and choices.below(2) else text)
    return fields + [""] * (len(columns) - len(fields)) + ([] if not choices.one_in(60) else ["more"])


# ---- checking


@contextmanager
def open_site(folder: Path) -> Iterator[Callable[[Export], None]]:
    """Let the body check exports in *folder*."""
    empty = template(folder)

    def check(sent: Export) -> None:
        for table, octets in sent.files:
            _check_file(table, octets, is_bent=sent.is_bent)
        path = folder / "mirror.db"
        shutil.copyfile(empty, path)
        with Mirror.open(path, feed_tables=FEED_CHILDREN, now=lambda: NOON) as mirror:
            try:
                _load(mirror, path, sent)
            except ExportError as error:
                _check_message(error, is_bent=sent.is_bent)
                return
            again = _load(mirror, path, sent)
        assert_sound(path)
        counts = again.counts
        changed = (counts.inserted, counts.replaced, counts.deleted, counts.revived)
        assert changed == (0, 0, 0, 0), f"the same export a second time has changed something: {changed}"

    yield check


def _check_message(error: ExportError, *, is_bent: bool) -> None:
    assert is_bent or hostile.CANARY not in str(error), "a message has a value in it"
    assert str(error).isprintable(), "a message cannot be printed"


def _read(table: str, octets: bytes, chunk: int) -> list[Batch] | str:
    chunks = (octets[at : at + chunk] for at in range(0, len(octets), chunk))
    try:
        return list(read_table(chunks, f"{table}_20260504.csv", facts_of(table)))
    except ExportError as error:
        return str(error)


def _check_file(table: str, octets: bytes, *, is_bent: bool) -> None:
    found = _read(table, octets, 1 << 20)
    for chunk in (7, 1000) if len(octets) < 20_000 else ():
        again = _read(table, octets, chunk)
        assert type(found) is type(again), "whether a file is refused depends on how it is cut into chunks"
        if isinstance(found, list) and isinstance(again, list):
            assert [row for batch in found for row in batch.rows] == [row for batch in again for row in batch.rows]
    if isinstance(found, str):
        _check_message(ExportError(found), is_bent=is_bent)
        return
    rows = [row for batch in found for row in batch.rows]
    sent = _rows_of(octets.decode("utf-16"))
    sent = sent[len(sent) - len(rows) :]  # less the header
    assert len(sent) == len(rows), "a file has lost a row"
    for fields, values in zip(sent, rows, strict=True):
        for name, field, value in zip(found[0].columns, fields, values, strict=True):
            assert _is_read_as(field, value, name), f"the column {name!r} was bent"


def _rows_of(text: str) -> list[list[str]]:
    rows: list[list[str]] = [[]]
    for part in re.split(r"(\|[@$]\|)", text):
        if part == "|$|":
            rows.append([])
        elif part != "|@|":
            rows[-1].append(part)
    # Where a field is empty the split gives an empty part all the same: each row has one part more than separators.
    assert rows.pop() == [""]
    return rows


def _is_read_as(field: str, value: Value | None, name: str) -> bool:
    if field == "":
        return value is None
    if value is None:
        return False
    bare = field[1:-1] if len(field) > 1 and field[0] == field[-1] == '"' else field
    if value in (field, bare) and isinstance(value, str):
        return True
    if is_stored_as(bare, value, name):
        return True
    if isinstance(value, str):
        return False
    return is_stored_as(Digits(field), value, name) and not isinstance(exact(field), str)


def _load(mirror: Mirror, path: Path, sent: Export) -> Loaded:
    stream = Stream(11, 9, sent.entity)
    marks = [Mark(*mark) for mark in DELETE_MARKS.get(stream.entity, ())]
    known = mirror.read_stream(stream)
    with work_folder(path) as folder, Staging(folder, stream, Rules(KEY, CHANGED, marks)) as staging:
        for table, octets in sent.files:
            facts = facts_of(table)
            assert facts.entity == sent.entity
            staging.load(facts, f"{table}_20260504.csv", read_table([octets], f"{table}_20260504.csv", facts))
        staging.settle()
        staging.close()
        for each in staging.tables.values():
            aside = sum(left.rows for left in staging.aside if left.table == each.shape.table)
            assert each.rows + aside == each.raw_rows, "a row is in no record and is not set aside"
        with mirror.attached(staging.path), mirror.transaction() as tx:
            comparison = Comparison(tx, staging, DATES.watermark)
            loaded = change_over(tx, staging, comparison, DATES, known, tx.begin_run("full-starter", at=NOON), NOON)
            if known.baseline is None:  # what is in quarantine already does not count again
                _check_counts(staging, loaded)
    return loaded


def _check_counts(staging: Staging, loaded: Loaded) -> None:
    counts = loaded.counts
    told = counts.inserted + counts.replaced + counts.revived + counts.unchanged + counts.superseded + counts.quarantined
    assert told + counts.deleted >= staging.records, "a record is in no count"


def size_of(sent: Export) -> int:
    """Return how many octets the files have."""
    return sum(len(octets) for _, octets in sent.files)


TARGET = Target("starter", make, open_site, size_of)
