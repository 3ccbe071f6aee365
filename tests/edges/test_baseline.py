"""The change-over: what a mirror holds, logs and remembers after a Starter Export, whatever it held before."""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest

from delta_mirror.core.drift import Drift
from delta_mirror.core.model import Broken, Child, Entry, Instant, Record, Row, Stream, Value
from delta_mirror.core.plan import Counts, Drained, decide
from delta_mirror.core.values import HOUR, read_ticks, write_ticks
from delta_mirror.dds.export_tables import facts_of
from delta_mirror.dds.tables import CHANGED, DELETE_MARKS, FEED_CHILDREN, KEY
from delta_mirror.errors import ExportError
from delta_mirror.mirror.baseline import Dates, Loaded, change_over, find_lack, rehearse
from delta_mirror.mirror.comparison import CHUNK, Comparison
from delta_mirror.mirror.schema import quote
from delta_mirror.mirror.staged import Aside, Mark, Rules
from delta_mirror.mirror.staging import Staging
from delta_mirror.mirror.transaction import Deletes
from delta_mirror.mirror.workspace import work_folder
from delta_mirror.mirror.write import Mirror

CLIENTS = Stream(11, 9, "Client")
APPOINTMENTS = Stream(11, 9, "Appointment")
SALES = Stream(11, 9, "Sale")
SCHEDULES = Stream(11, 9, "EmployeeSchedule")
DAY = date(2026, 5, 3)
WATERMARK = read_ticks("2026-05-02T00:00:00Z") or 0  # that an export of that day sets
NOON = 1_777_809_600.0  # 2026-05-03T12:00:00Z
OLD, NEW = write_ticks(WATERMARK - HOUR), write_ticks(WATERMARK + HOUR)

Rows = Sequence[Mapping[str, Value | None]]


@dataclass(frozen=True)
class Batch:
    columns: tuple[str, ...]
    rows: list[tuple[Value | None, ...]]
    tells_empty: bool = True


Files = Mapping[str, Sequence[Mapping[str, Value | None] | Batch]]


def batches(rows: Rows, columns: Sequence[str] = ()) -> list[Batch]:
    """Return *rows* as one file would bring them; without rows and columns that is a file with nothing in it."""
    names = tuple(columns or dict.fromkeys(name for row in rows for name in row))
    return [Batch(names, [tuple(row.get(name) for name in names) for row in rows])] if names else []


class Site:
    """A mirror, and exports that are loaded into it."""

    def __init__(self, folder: Path, deletes: Deletes = "remove") -> None:
        self.path = folder / "mirror.db"
        self.mirror = Mirror.open(self.path, feed_tables=FEED_CHILDREN, deletes=deletes, now=lambda: NOON)

    def load(self, tables: Files, stream: Stream = CLIENTS, *, day: date = DAY, is_rehearsal: bool = False) -> Loaded:
        """Change *stream* over to an export of *tables*."""
        dates = Dates.of(day)
        known = self.mirror.read_stream(stream)
        with (
            self.staged(tables, stream) as staging,
            self.mirror.attached(staging.path),
            self.mirror.transaction(keep=not is_rehearsal) as tx,
        ):
            comparison = Comparison(tx, staging, dates.watermark)
            if is_rehearsal:
                return rehearse(tx, staging, comparison, known)
            return change_over(tx, staging, comparison, dates, known, tx.begin_run("full-starter", at=NOON), NOON)

    @contextmanager
    def staged(self, tables: Files, stream: Stream) -> Iterator[Staging]:
        """Let the body have a staging of *tables*, which are named as files are."""
        marks = [Mark(*mark) for mark in DELETE_MARKS.get(stream.entity, ())]
        with (
            work_folder(self.path) as folder,
            Staging(folder, stream, Rules(KEY, CHANGED, marks)) as staging,
        ):
            for name, rows in tables.items():
                whole = [each for each in rows if isinstance(each, Batch)]
                staging.load(
                    facts_of(name),
                    f"{name}_20260503.csv",
                    whole or batches([each for each in rows if not isinstance(each, Batch)]),
                )
            staging.settle()
            yield staging

    @contextmanager
    def compared(self, tables: Files, stream: Stream) -> Iterator[tuple[Staging, Comparison]]:
        """Let the body have an export of *tables* beside the mirror."""
        with (
            self.staged(tables, stream) as staging,
            self.mirror.attached(staging.path),
            self.mirror.transaction(keep=False) as tx,
        ):
            yield staging, Comparison(tx, staging, WATERMARK)

    def drifts(self, tables: Files, stream: Stream = CLIENTS) -> list[Drift]:
        """Return how the mirror differs from an export of *tables*."""
        with self.compared(tables, stream) as (_, comparison):
            return list(comparison.drifts())

    def lack(self, tables: Files, stream: Stream = CLIENTS) -> str | None:
        """Return what makes an export of *tables* look broken."""
        with self.compared(tables, stream) as (staging, comparison):
            return find_lack(comparison, staging)

    def deltas(self, *entries: Entry, stream: Stream = CLIENTS) -> Counts:
        """Take one page as a drain does."""
        with self.mirror.transaction() as tx:
            fitted = tx.fit(stream, entries)
            held = tx.current(stream, [entry.id for entry in fitted if entry.id is not None])
            return tx.carry_out(stream, decide(held, fitted, Drained()), 0)

    def select(self, sql: str) -> list[tuple[Value | None, ...]]:
        """Return what the file answers to bare sqlite3."""
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(sql).fetchall()

    def log(self) -> list[tuple[str, str, object]]:
        """Return id, kind and fields of all changes that no delta has made."""
        return [
            (str(id_), str(op), None if fields is None else json.loads(str(fields)))
            for id_, op, fields in self.select("select id, op, fields from _changes where run_id > 0 order by id, seq")
        ]

    def records(self) -> int:
        """Return the number of living records as the mirror keeps it."""
        return sum(int(number or 0) for (number,) in self.select("select records from _streams"))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def marking(tmp_path: Path) -> Site:
    return Site(tmp_path, "mark")


def row(id_: str | None, **columns: Value | None) -> dict[str, Value | None]:
    """Return a row of the file `Client`."""
    return {"TenantId": 11, "Client_TId": id_, "DateUpdated": OLD, **columns}


def phone(id_: str | None, number: str, **columns: Value | None) -> dict[str, Value | None]:
    """Return a row of the file `ClientPhone`."""
    return {"TenantId": 11, "Client_TId": id_, "PhoneNumber": number, **columns}


def sent(
    id_: str,
    at: str | None = OLD,
    *,
    deleted: bool = False,
    phones: Sequence[str] = (),
    children: Mapping[str, Rows] | None = None,
    **columns: Value,
) -> Record:
    """Return a client as a delta brings it: with *at* None without a change date."""
    dated: dict[str, Value] = {} if at is None else {"DateUpdated": at}
    rows = {"ClientPhone": [Child({"PhoneNumber": number}, None) for number in phones]} if phones else {}
    for name, of_table in (children or {}).items():
        rows[name] = [Child({key: value for key, value in each.items() if value is not None}, None) for each in of_table]
    changed = None if at is None else Instant(read_ticks(at) or 0, at)
    return Record(id_, changed, None, deleted, {"TenantId": 11, "EntityId": id_, **dated, **columns}, rows)


# What is loaded


def test_an_empty_mirror_holds_the_export_and_logs_no_inserts(site: Site) -> None:
    loaded = site.load(
        {
            "Client": [row("b", FirstName="Bob"), row("a", FirstName="Ann", Age=12.5)],
            "ClientPhone": [phone("b", "1"), phone("a", "2"), phone("b", "3")],
        }
    )
    assert loaded.counts == Counts(inserted=2)
    assert (loaded.rows, loaded.is_first) == (5, True)
    assert site.select("select _id, EntityId, FirstName, Age, typeof(Age), _synced_at, _deleted_at, _ticks from Client") == [
        ("a", "a", "Ann", 12.5, "real", "2026-05-03T12:00:00Z", None, WATERMARK - HOUR),
        ("b", "b", "Bob", None, "null", "2026-05-03T12:00:00Z", None, WATERMARK - HOUR),
    ]
    assert site.select("select _tenant_id, _location_id, _id, _n, _parent_n, PhoneNumber from ClientPhone order by _id, _n") == [
        (11, 9, "a", 0, None, "2"),
        (11, 9, "b", 0, None, "1"),
        (11, 9, "b", 1, None, "3"),
    ]
    assert site.log() == []
    assert site.select("select command, inserted from _runs") == [("full-starter", 2)]
    assert site.records() == 2


def test_the_stream_stands_on_the_export_and_its_gap_is_closed(site: Site) -> None:
    with site.mirror.transaction() as tx:
        tx.remember(
            CLIENTS, {"page": 3}, state="gap", gap_from="x", gap_to="y", watermark="2026-05-03T00:00:00Z", last_error="no",
            refused_since="z", debt={"runs": 1}, habits={"offset": 5},
        )  # fmt: skip
    site.load({"Client": [row("a")], "ClientPhone": []})
    known = site.mirror.read_stream(CLIENTS)
    assert (known.state, known.baseline) == ("following", "2026-05-03")
    assert known.watermark == "2026-05-02T00:00:00.0000000+00:00"
    assert known.caught_up_at == "2026-05-02T00:00:00Z"
    assert (known.gap_from, known.gap_to, known.place, known.debt, known.last_error, known.refused_since) == (None,) * 6
    assert known.habits == {"offset": 5}
    assert known.starter_tables == ("Client", "ClientPhone")


def test_columns_of_the_header_exist_though_no_row_has_a_value_there(site: Site) -> None:
    site.load({"Client": [row("a", Suffix=None)], "ClientPhone": batches([], ["Client_TId", "PhoneNumber"])})
    assert site.select("select Suffix from Client") == [(None,)]
    assert site.select("select PhoneNumber from ClientPhone") == []


def test_a_table_whose_rows_only_name_their_record_keeps_them(site: Site) -> None:
    files: Files = {"Client": [row("a"), row("b")], "ClientMembership_T": [{"Client_TId": "a"}, {"Client_TId": "a"}]}
    site.load(files)
    assert site.select("select _id, _n from ClientMembership order by 2") == [("a", 0), ("a", 1)]
    assert site.load(files).counts == Counts(unchanged=2)
    assert site.load({**files, "ClientMembership_T": [{"Client_TId": "a"}]}).counts == Counts(unchanged=1, replaced=1)


def test_a_name_that_differs_in_case_is_the_one_that_is_there(site: Site) -> None:
    site.deltas(sent("a", FirstName="Ann"))
    assert site.load({"Client": [row("a", FIRSTNAME="Ann"), row("b", FIRSTNAME="Bob")]}).counts == Counts(inserted=1, unchanged=1)
    assert site.select("select FirstName from Client order by _id") == [("Ann",), ("Bob",)]


def test_more_columns_than_one_comparison_takes_are_compared(site: Site) -> None:
    wide: dict[str, Value | None] = {f"Column{number}": number for number in range(130)}
    site.load({"Client": [row("a", **wide), row("b", **wide)]})
    loaded = site.load({"Client": [row("a", **wide), row("b", **wide | {"Column129": 0})]})
    assert loaded.counts == Counts(unchanged=1, replaced=1)
    assert site.log() == [("b", "replace", {"Column129": [129, 0]})]


# What belongs together


def test_a_row_without_a_key_and_one_without_its_root_are_set_aside_and_counted(site: Site) -> None:
    loaded = site.load(
        {"Client": [row("a"), row(None), row("")], "ClientPhone": [phone("a", "1"), phone("x", "2"), phone(None, "3")]}
    )
    assert loaded.aside == (
        Aside("Client", 2, "they bear no key"),
        Aside("ClientPhone", 2, "the Client that they belong to is not in the export"),
    )
    assert site.select("select _id, PhoneNumber from ClientPhone") == [("a", "1")]


def appointments(state: Sequence[int] = (2050, 2050)) -> dict[str, Rows]:
    """Return an export of two appointments; the first has two lines with steps, *state* is theirs."""
    return {
        "Appointment": [{"TenantId": 11, "LocationId": 9, "EntityId": id_, "DateUpdated": OLD} for id_ in ("p", "q")],
        "AppointmentService": [
            {"LocationId": 9, "AppointService_LId": key, "Booking": id_, "AppointFinalStateEnum": final}
            for key, id_, final in (("s2", "p", state[0]), ("s1", "p", state[1]), ("s3", "q", 2050), ("s4", "gone", 2050))
        ],
        "AppointmentServiceStep": [
            {"AppointService_LId": key, "Minutes": minutes}
            for key, minutes in (("s1", 10), ("s2", 20), ("s1", 30), ("s4", 40), ("none", 50))
        ],
    }


def test_steps_find_their_appointment_and_their_line_through_the_service(site: Site) -> None:
    loaded = site.load(appointments(), APPOINTMENTS)
    assert site.select("select _id, _n, AppointService_LId from AppointmentService order by 1, 2") == [
        ("p", 0, "s2"),
        ("p", 1, "s1"),
        ("q", 0, "s3"),
    ]
    assert site.select("select _id, _n, _parent_n, Minutes from AppointmentServiceStep order by 1, 2") == [
        ("p", 0, 1, 10),
        ("p", 1, 0, 20),
        ("p", 2, 1, 30),
    ]
    assert {(each.table, each.rows) for each in loaded.aside} == {("AppointmentService", 1), ("AppointmentServiceStep", 2)}


def test_a_foreign_key_of_an_unknown_name_is_the_one_column_of_root_keys(site: Site) -> None:
    site.load(appointments(), APPOINTMENTS)
    assert site.select("select Booking from AppointmentService where _id = 'q'") == [("q",)]
    both: dict[str, Rows] = appointments()
    both["AppointmentService"] = [{**line, "Rebooked": "p"} for line in both["AppointmentService"]]
    with pytest.raises(ExportError, match=r"AppointmentService_20260503\.csv: .*'Booking' or 'Rebooked'"):
        site.load(both, APPOINTMENTS)


def test_what_repeats_the_record_is_left_out_value_by_value(site: Site) -> None:
    sale: dict[str, Value | None] = {"TenantId": 11, "EntityId": "s", "LocationId": 9, "SaleDate": "2026-05-01", "Sale_Seq": 7}
    site.load(
        {
            "Sale": [{**sale, "DateUpdated": OLD}],
            "SaleLine": [{**sale, "SaleLine_Seq": 1}, {**sale, "SaleLine_Seq": 2, "SaleDate": "2026-04-30", "LocationId": 10}],
        },
        SALES,
    )
    assert [name for _, name, *_ in site.select("pragma table_info(SaleLine)")][5:] == ["LocationId", "SaleDate", "SaleLine_Seq"]
    assert site.select("select SaleLine_Seq, LocationId, SaleDate from SaleLine order by 1") == [
        (1, None, None),
        (2, 10, "2026-04-30"),
    ]


def test_a_schedule_is_its_key_alone_and_what_deltas_know_of_it_stays(site: Site) -> None:
    known = Record("k", Instant(WATERMARK - HOUR, OLD), None, False, {"EntityId": "k", "Employee_User_TId": "e"}, {})
    site.deltas(known, stream=SCHEDULES)
    files: dict[str, Rows] = {
        "EmployeeSchedule": [
            {"TenantId": 11, "LocationId": 9, "EntityId": id_, "StartDateTime": start}
            for id_, start in (("k", "2026-05-01T09:00:00"), ("m", "2026-05-01T10:00:00"), (None, "2026-05-01T11:00:00"))
        ]
    }
    loaded = site.load(files, SCHEDULES)
    assert loaded.counts == Counts(inserted=1, replaced=1)
    assert loaded.aside == (Aside("TimeCardEmployeeLSchedule", 1, "they bear no key"),)
    assert site.select("select _id, EntityId, Employee_User_TId, _ticks from EmployeeSchedule order by 1") == [
        ("k", "k", "e", WATERMARK - HOUR),
        ("m", "m", None, None),
    ]
    assert site.select("select _id, StartDateTime from TimeCardEmployeeLSchedule order by 1") == [
        ("k", "2026-05-01T09:00:00"),
        ("m", "2026-05-01T10:00:00"),
    ]
    assert site.load(files, SCHEDULES).counts == Counts(unchanged=2)


def test_the_first_delta_of_a_schedule_fills_in_its_root_and_is_no_change(site: Site) -> None:
    shifts: Rows = [{"TenantId": 11, "LocationId": 9, "EntityId": id_, "Shift": 1} for id_ in "km"]
    site.load({"EmployeeSchedule": shifts}, SCHEDULES)
    roots: dict[str, Row] = {id_: {"TenantId": 11, "EntityId": id_, "DateUpdated": NEW} for id_ in "km"}
    changed = Instant(read_ticks(NEW) or 0, NEW)
    same, other = (
        Record(id_, changed, None, False, roots[id_], {"TimeCardEmployeeLSchedule": [Child({"Shift": shift}, None)]})
        for id_, shift in (("k", 1), ("m", 2))
    )
    assert site.deltas(same, other, stream=SCHEDULES) == Counts(unchanged=1, replaced=1)
    assert site.select("select id from _changes") == [("m",)]
    assert site.select("select _id, TenantId, DateUpdated, _ticks from EmployeeSchedule order by 1") == [
        (id_, 11, NEW, changed.ticks) for id_ in "km"
    ]
    assert site.deltas(same, stream=SCHEDULES) == Counts(unchanged=1)
    without = Record("k", changed, None, False, {"EntityId": "k"}, same.children)
    assert site.deltas(without, stream=SCHEDULES) == Counts(replaced=1)


def test_of_two_files_of_one_table_one_is_taken_where_the_other_is_empty_or_says_the_same(site: Site) -> None:
    schedule = Stream(11, 9, "EmployeeSchedule")
    shifts = [{"TenantId": 11, "EntityId": "s", "Shift": number} for number in (1, 2, 2)]
    turned = [{"Shift": each["Shift"], "EntityId": "s", "TenantId": 11} for each in reversed(shifts)]
    for first, second in ((shifts, turned), (shifts, []), ([], shifts), ([Batch(("EntityId", "Shift"), [])], shifts)):
        files: Files = {"EmployeeSchedule": first, "TimeCard_Employee_LSchedule": second}
        site.load(files, schedule)
        assert sorted(site.select("select _id, Shift from TimeCardEmployeeLSchedule")) == [("s", 1), ("s", 2), ("s", 2)]
    assert site.log() == []


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"Client": [row("a"), row("b"), row("a")]}, r"Client_20260503\.csv: one key stands in more than one row"),
        ({"Client": [{"TenantId": 11, "Name": "x"}]}, r"Client_20260503\.csv: no column holds the key"),
        ({"Client": [row("a")], "Client_Phone_T": [phone("a", "1")], "ClientPhone": [phone("a", "2")]}, "with other rows"),
        ({"Client": [Batch(("Client_TId", "Name", "Name"), [("a", "x", "y")])]}, "two of its columns have one name"),
    ],
)
def test_an_export_that_contradicts_itself_is_refused_and_the_mirror_is_as_it_was(site: Site, files: Files, message: str) -> None:
    site.deltas(sent("a"))
    before = "\n".join(_dump(site.path))
    with pytest.raises(ExportError, match=message):
        site.load(files)
    assert "\n".join(_dump(site.path)) == before
    assert not site.path.with_name("mirror.db.starter").exists()


def _dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


# What the mirror held before


def test_what_the_deltas_had_missed_is_in_the_log(site: Site) -> None:
    site.load({"Client": [row(id_, FirstName="X") for id_ in "abcd"], "ClientPhone": [phone("b", "1"), phone("c", "5")]})
    site.deltas(sent("e", FirstName="Eve", deleted=True))
    loaded = site.load(
        {
            "Client": [row("a", FirstName="X"), row("b", FirstName="Y"), row("c", FirstName="X"), *(row(id_) for id_ in "ef")],
            "ClientPhone": [phone("b", "1"), phone("c", "6")],
        }
    )
    assert not loaded.is_first
    assert loaded.counts == Counts(inserted=1, replaced=2, deleted=1, revived=1, unchanged=1)
    assert site.log() == [
        ("b", "replace", {"FirstName": ["X", "Y"]}),
        ("c", "replace", {"ClientPhone": [[{"PhoneNumber": "5"}], [{"PhoneNumber": "6"}]]}),
        ("d", "delete", None),
        ("e", "revive", {"FirstName": ["Eve", None]}),
        ("f", "insert", None),
    ]
    assert site.select("select _id, FirstName from Client order by 1") == [
        ("a", "X"), ("b", "Y"), ("c", "X"), ("e", None), ("f", None),
    ]  # fmt: skip
    assert site.select("select id, json_extract(record, '$.Client[0].FirstName') from _tombstones") == [("d", "X")]
    assert site.records() == 5


def test_the_first_baseline_over_what_deltas_brought_logs_differences_and_no_inserts(site: Site) -> None:
    site.deltas(sent("a", FirstName="Ann"), sent("b"))
    assert site.load({"Client": [row("a", FirstName="Anne"), row("c")]}).counts == Counts(inserted=1, replaced=1, deleted=1)
    assert [(id_, op) for id_, op, _ in site.log()] == [("a", "replace"), ("b", "delete")]


def test_what_has_changed_since_stays_as_it_is(site: Site) -> None:
    at = write_ticks(WATERMARK)
    site.deltas(
        sent("row", at, FirstName="new"), sent("dead", NEW, deleted=True), sent("only", NEW), sent("older", OLD, FirstName="new"),
        sent("undated", None, FirstName="new"),
    )  # fmt: skip
    loaded = site.load({"Client": [row(id_, FirstName="file") for id_ in ("row", "dead", "older", "undated")]})
    assert loaded.counts == Counts(replaced=2, superseded=2)
    assert loaded.newer == 2
    assert site.select("select _id, FirstName from Client order by 1") == [
        ("older", "file"), ("only", None), ("row", "new"), ("undated", "file"),
    ]  # fmt: skip
    assert site.select("select id from _tombstones") == [("dead",)]


def test_a_version_that_is_older_than_what_is_held_is_taken_where_both_lie_before_the_watermark(site: Site) -> None:
    site.deltas(sent("a", write_ticks(WATERMARK - 1), FirstName="drifted"))
    assert site.load({"Client": [row("a", FirstName="file")]}).counts == Counts(replaced=1)
    assert site.select("select FirstName, _ticks from Client") == [("file", WATERMARK - HOUR)]


def test_the_same_writes_nothing_also_where_rows_stand_in_another_order(site: Site) -> None:
    site.deltas(sent("a", phones=["1", "2"], FirstName="Ann"), sent("b"))
    site.mirror.now = lambda: NOON + 60
    loaded = site.load({"Client": [row("a", FirstName="Ann"), row("b")], "ClientPhone": [phone("a", "2"), phone("a", "1")]})
    assert loaded.counts == Counts(unchanged=2)
    assert site.select("select _synced_at from Client") == [("2026-05-03T12:00:00Z",)] * 2
    assert site.select("select PhoneNumber from ClientPhone order by _n") == [("1",), ("2",)]
    assert site.log() == []


def blind(*rows: Mapping[str, Value | None]) -> list[Batch]:
    """Return *rows* as a file without quotes brings them, which has NULL for the empty string, too."""
    return [Batch(each.columns, each.rows, tells_empty=False) for each in batches(rows)]


def test_an_empty_string_that_is_held_equals_the_nothing_of_a_file_without_quotes_and_stays(site: Site) -> None:
    phones = {"ClientPhone": [{"PhoneNumber": "1", "Note": ""}, {"PhoneNumber": "2", "Note": "n"}]}
    site.deltas(
        sent("a", Name="", Nick="x", children=phones),
        sent("b", Name="", Nick="x", children=phones),
        sent("c", Name="", deleted=True),
    )
    export = {
        "Client": blind(row("a", Name=None, Nick="x"), row("b", Name=None, Nick="y"), row("c", ObjectStateEnum=2028)),
        "ClientPhone": blind(
            phone("a", "2", Note="n"), phone("a", "1", Note=None), phone("b", "1", Note=None), phone("b", "2", Note="m")
        ),
    }
    [drift] = site.drifts(export)
    assert drift.id == "b"
    assert drift.fields is not None
    assert drift.fields["Nick"] == ["x", "y"]
    assert set(drift.fields) == {"Nick", "ClientPhone"}
    site.load(export)
    assert [(id_, op) for id_, op, _ in site.log()] == [("b", "replace")]
    assert site.select("select _id, Name, Nick from Client order by _id") == [("a", "", "x"), ("b", "", "y")]
    assert site.select("select _id, PhoneNumber, Note from ClientPhone order by _id, PhoneNumber") == [
        ("a", "1", ""),
        ("a", "2", "n"),
        ("b", "1", ""),
        ("b", "2", "m"),
    ]
    assert site.drifts(export) == []


def test_an_empty_string_that_is_held_differs_from_the_null_of_a_file_with_quotes(site: Site) -> None:
    site.deltas(sent("a", Name=""))
    site.load({"Client": [row("a", Name=None)]})
    assert [fields for _, _, fields in site.log()] == [{"Name": ["", None]}]


def test_a_column_and_a_row_that_the_export_does_not_have_are_gone(site: Site) -> None:
    site.deltas(sent("a", phones=["1", "2"], NickName="A"), sent("b", phones=["3"]))
    site.load({"Client": [row("a"), row("b")], "ClientPhone": [phone("a", "1")]})
    assert site.select("select _id, NickName from Client order by 1") == [("a", None), ("b", None)]
    assert site.select("select _id, PhoneNumber from ClientPhone") == [("a", "1")]


def test_a_table_that_only_deltas_bring_stays_with_the_living_and_goes_with_the_deleted(site: Site) -> None:
    tags = {"ClientTag": [{"Tag": "vip"}]}
    site.deltas(sent("a", children=tags), sent("b", children=tags), sent("c", children=tags, FirstName="C"))
    assert site.load({"Client": [row("a"), row("c")]}).counts == Counts(unchanged=1, replaced=1, deleted=1)
    assert site.select("select _id, Tag from ClientTag order by 1") == [("a", "vip"), ("c", "vip")]
    assert site.select("select record from _tombstones") == [
        (json.dumps({"Client": [sent("b").root], "ClientTag": tags["ClientTag"]}, separators=(",", ":")),)
    ]


def test_deltas_leave_a_table_that_came_by_starter_alone(site: Site) -> None:
    files: dict[str, Rows] = {"Client": [row("a"), row("b")], "ClientPackage_T": [{"Client_TId": "a", "Units": 3}]}
    site.load(files)
    site.deltas(sent("a", NEW, FirstName="Ann"))
    assert site.select("select Units from ClientPackage") == [(3,)]
    assert site.load(files).counts == Counts(unchanged=1, superseded=1)


def test_a_table_that_came_by_starter_alone_is_kept_by_starters(site: Site) -> None:
    def files(units: int, *ids: str) -> Files:
        return {"Client": [row(id_) for id_ in ids], "ClientPackage_T": [{"Client_TId": id_, "Units": units} for id_ in ids]}

    site.load(files(3, "a", "b"))
    assert site.load(files(4, "a")).counts == Counts(replaced=1, deleted=1)
    assert site.log() == [
        ("a", "replace", {"ClientPackage": [[{"Units": 3}], [{"Units": 4}]]}),
        ("b", "delete", None),
    ]
    assert site.select("select _id, Units from ClientPackage") == [("a", 4)]
    assert site.select("select json_extract(record, '$.ClientPackage') from _tombstones") == [('[{"Units":3}]',)]


def test_a_step_that_has_moved_to_another_line_is_a_change(site: Site) -> None:
    files = appointments()
    site.load(files, APPOINTMENTS)
    moved = [{**step, "AppointService_LId": "s2"} if step["Minutes"] == 10 else step for step in files["AppointmentServiceStep"]]
    loaded = site.load({**files, "AppointmentServiceStep": moved}, APPOINTMENTS)
    assert loaded.counts == Counts(replaced=1, unchanged=1)
    assert site.select("select Minutes, _parent_n from AppointmentServiceStep order by 1") == [(10, 0), (20, 0), (30, 1)]


def test_child_rows_that_somebody_left_without_a_record_are_swept(site: Site) -> None:
    files: dict[str, Rows] = {"Client": [row("a"), row("b")], "ClientPhone": [phone("a", "1"), phone("b", "2")]}
    site.load(files)
    with closing(sqlite3.connect(site.path)) as connection, connection:
        connection.execute("delete from Client where _id = 'a'")
        connection.execute("insert into ClientPhone (_tenant_id, _location_id, _id, _n) values (11, 9, 'nobody', 0)")
        connection.execute("insert into ClientPhone (_tenant_id, _location_id, _id, _n) values (11, 10, 'elsewhere', 0)")
    site.load(files)
    assert site.select("select _id, PhoneNumber from ClientPhone order by 1") == [("a", "1"), ("b", "2"), ("elsewhere", None)]
    assert site.select("select count(*) from Client") == [(2,)]
    assert site.records() == 2


# Deleted records


def test_a_record_marked_as_deleted_is_not_held_and_leaves_a_tombstone(site: Site) -> None:
    site.deltas(sent("held"))
    files: dict[str, Rows] = {"Client": [row("held", ObjectStateEnum=2028), row("never", ObjectStateEnum="2028"), row("c")]}
    assert site.load(files).counts == Counts(inserted=1, deleted=1, unchanged=1)
    assert site.log() == [("held", "delete", None)]
    assert site.select("select _id from Client") == [("c",)]
    assert site.select("select id, ticks from _tombstones order by 1") == [
        ("held", WATERMARK - HOUR),
        ("never", WATERMARK - HOUR),
    ]
    assert site.load(files).counts == Counts(unchanged=3)
    assert site.records() == 1


def test_in_marking_mirrors_deleted_and_lacking_records_keep_their_rows(marking: Site) -> None:
    marking.deltas(sent("a", FirstName="Ann"), sent("b", FirstName="Bob", phones=["1"]), sent("c"))
    marking.load({"Client": [row("a", FirstName="Anne", ObjectStateEnum=2028), row("c")], "ClientPhone": []})
    assert marking.select("select _id, FirstName, _deleted_at is not null from Client order by 1") == [
        ("a", "Anne", 1), ("b", "Bob", 1), ("c", None, 0),
    ]  # fmt: skip
    assert marking.select("select PhoneNumber from ClientPhone") == [("1",)]
    assert marking.load({"Client": [row("a"), row("c")], "ClientPhone": []}).counts == Counts(revived=1, unchanged=1)
    assert marking.select("select _deleted_at is not null from Client order by _id") == [(0,), (1,), (0,)]
    assert marking.records() == 2


def test_an_appointment_is_deleted_when_all_its_lines_are_cancelled(site: Site) -> None:
    site.load(appointments((2052, 2050)), APPOINTMENTS)
    assert site.select("select _id from Appointment order by 1") == [("p",), ("q",)]
    site.load(appointments((2052, 2052)), APPOINTMENTS)
    assert site.select("select _id from Appointment") == [("q",)]
    assert site.select("select _id from AppointmentServiceStep") == []


# What cannot be stored


def test_a_record_with_names_that_cannot_be_stored_goes_to_quarantine_and_the_others_are_loaded(site: Site) -> None:
    loaded = site.load({"Client": [row("a", _odd=1), row("b", _odd=None), row("c", _odd=None)], "ClientPhone": [phone("b", "1")]})
    assert loaded.counts == Counts(inserted=2, quarantined=1)
    assert site.select("select record_id, source from _quarantine") == [("a", "full-starter")]
    assert site.select("select _id from Client order by 1") == [("b",), ("c",)]
    assert site.select("select _id, PhoneNumber from ClientPhone") == [("b", "1")]
    assert site.log() == []


def test_what_is_in_quarantine_leaves_when_its_id_is_loaded_and_nothing_newer_is_in_there(site: Site) -> None:
    def broken(id_: str, at: str | None) -> Broken:
        return Broken(id_, None if at is None else Instant(read_ticks(at) or 0, at), json.dumps([id_, at]), "no")

    site.deltas(sent("same"))
    site.deltas(broken("new", OLD), broken("newer", NEW), broken("undated", None), broken("same", OLD), broken("other", OLD))
    site.load({"Client": [row(id_) for id_ in ("new", "newer", "undated", "same")]})
    assert site.select("select record_id from _quarantine order by 1") == [("newer",), ("other",), ("same",)]


def test_an_id_that_another_entity_holds_with_rows_in_the_same_child_table_is_set_aside(site: Site) -> None:
    note = {"Note": [Child({"Text": "x"}, None)]}
    site.deltas(Record("k", None, None, False, {"EntityId": "k"}, note), stream=Stream(11, 9, "Employee"))
    site.deltas(Record("c", None, None, False, {"EntityId": "c"}, note))
    assert site.load({"Client": [row("k"), row("c"), row("d")]}).counts.quarantined == 1
    assert site.select("select _id, Text from Note order by 1") == [("c", "x"), ("k", "x")]


# What is not to be believed, and what is only looked at


def test_an_empty_or_much_smaller_export_looks_broken(site: Site) -> None:
    nothing: dict[str, Rows] = {"Client": []}
    assert site.lack(nothing) is None
    site.load({"Client": [row(f"{number:02}") for number in range(10)]})
    assert site.lack(nothing) == "it is empty, and the mirror holds 10 living records"
    assert site.lack({"Client": [row(f"{number:02}") for number in range(8)]}) is None
    seven = [row(f"{number:02}") for number in range(7)]
    assert site.lack({"Client": seven}) == "it lacks 3 of the 10 living records that the mirror holds"
    assert site.lack({"Client": [*seven, row("07", ObjectStateEnum=2028)]}) is None
    site.deltas(sent("00", NEW), *(sent(f"{number}", NEW) for number in range(20, 40)))
    assert site.lack({"Client": seven}) is None
    assert site.lack(nothing) is not None


def test_a_rehearsal_says_what_would_be_done_and_does_nothing(site: Site) -> None:
    site.load({"Client": [row("a"), row("b"), row("c")]})
    files: dict[str, Rows] = {"Client": [row("a", New=1), row("b"), row("d")], "ClientPhone": [phone("d", "1")]}
    before = "\n".join(_dump(site.path))
    rehearsed = site.load(files, is_rehearsal=True)
    assert "\n".join(_dump(site.path)) == before
    assert rehearsed == site.load(files)
    assert rehearsed.counts == Counts(inserted=1, replaced=1, deleted=1, unchanged=1)


def test_drift_is_what_a_load_would_change_and_passes_over_what_has_changed_since(site: Site) -> None:
    files: dict[str, Rows] = {"Client": [row(id_, Total=12) for id_ in "abcd"], "ClientPhone": [phone("a", "1"), phone("a", "2")]}
    site.load(files)
    assert site.drifts(files) == []
    site.deltas(sent("d", NEW))
    with closing(sqlite3.connect(site.path)) as connection, connection:
        connection.execute("update Client set Total = 12.0 where _id = 'a'")
        connection.execute("update Client set Total = '12' where _id = 'b'")
        connection.execute("delete from Client where _id = 'c'")
        connection.execute("insert into Client (_tenant_id, _location_id, _id, EntityId) values (11, 9, 'x', 'x')")
    both: list[Value | None] = ["12", 12]
    assert sorted(site.drifts(files)) == [
        Drift("b", "different", {"Total": both}),
        Drift("c", "missing"),
        Drift("x", "extra"),
    ]
    site.load(files)
    assert site.drifts(files) == []


def test_records_are_judged_in_many_chunks_and_none_is_left_out(site: Site) -> None:
    many = 2 * CHUNK + 7
    site.load({"Client": [row(f"{number:05}", Total=1) for number in range(many)]})
    loaded = site.load({"Client": [row(f"{number:05}", Total=2) for number in range(many // 2, many)]})
    assert loaded.counts == Counts(replaced=many - many // 2, deleted=many // 2)
    assert site.select("select count(*), min(Total) from Client") == [(many - many // 2, 2)]


def test_a_name_from_outside_means_itself_and_nothing_else(site: Site) -> None:
    odd = "x\" , (select 1) -- ' [y]"
    files: dict[str, Rows] = {"Client": [row("a", **{odd: 1})], f"Client{'Robert'}": [{"Client_TId": "a", odd: 2}]}
    site.load(files)
    assert site.select(f"select {quote(odd)} from Client") == [(1,)]
    assert site.select(f"select {quote(odd)} from ClientRobert") == [(2,)]
    assert site.load(files).counts == Counts(unchanged=1)


class _ToldToStopError(Exception):
    """What a test stops the work with."""


def test_told_to_stop_even_one_long_statement_ends_and_nothing_is_changed(site: Site, tmp_path: Path) -> None:
    many = [row(f"{number:06}", Total=1) for number in range(60_000)]
    looks = 0

    def check() -> None:
        nonlocal looks
        looks += 1
        if looks > 3:
            raise _ToldToStopError

    with Staging(tmp_path, CLIENTS, Rules(KEY, CHANGED, ()), check) as staging:
        staging.load(facts_of("Client"), "Client_20260503.csv", batches(many))
        with pytest.raises(_ToldToStopError):
            staging.settle()
    assert looks == 4
    assert not list(tmp_path.glob("staging*"))


def test_the_folder_for_work_is_private_and_what_a_killed_run_left_goes(tmp_path: Path) -> None:
    left = tmp_path / "mirror.db.starter"
    left.mkdir()
    (left / "staging.db").write_bytes(b"half")
    with work_folder(tmp_path / "mirror.db") as folder:
        assert folder == left
        assert list(folder.iterdir()) == []
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "staging.db").write_bytes(b"whole")
    assert not left.exists()


def test_what_somebody_put_in_the_place_of_the_folder_is_not_removed(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (tmp_path / "mirror.db.starter").symlink_to(mine)
    with pytest.raises(ExportError, match="in the way"), work_folder(tmp_path / "mirror.db"):
        pass
    assert mine.is_dir()
