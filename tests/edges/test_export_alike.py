"""A record is stored alike whether it comes by file or by delta: both read what one simulated salon writes."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from delta_mirror.core.model import Record, Value
from delta_mirror.core.model import Stream as Followed
from delta_mirror.dds.export import read_table
from delta_mirror.dds.export_tables import facts_of, split_file_name
from delta_mirror.dds.tables import ENTITIES, KEY
from delta_mirror.dds.wire import read_page
from delta_mirror.simulator import Dials, Stream, World
from delta_mirror.simulator.envelope import json_of, record_of
from delta_mirror.simulator.export import Columns, Quirks, write_export

Rows = Counter[frozenset[tuple[str, Value]]]

TENANT, LOCATION = 11, 9
WITH_ROOTS = ("Client", "Employee", "Appointment", "Sale")


@pytest.fixture(scope="module")
def world() -> World:
    world = World(seed=7, tenants={TENANT: (LOCATION,)})
    world.populate(clients=150, employees=40, appointments=60, sales=60, schedules=15, actuals=15)
    world.busy_hour(1, 200)
    return world


def frozen(row: Mapping[str, Value]) -> frozenset[tuple[str, Value]]:
    return frozenset(row.items())


def by_delta(world: World, offset: str) -> dict[str, Rows]:
    """Return the rows of all tables as the feed gives them."""
    tables: dict[str, Rows] = {}
    dials = Dials(written_offset=offset)
    for entity in ENTITIES:
        stream = Stream(TENANT, LOCATION, entity)
        for change in world.history(stream).current:
            body = b'{"referenceId":"x","data":[' + json_of(record_of(change, dials), dials) + b"]}"
            [record] = read_page(body, Followed(*stream), 0).entries
            assert isinstance(record, Record)
            if entity in WITH_ROOTS:
                tables.setdefault(entity, Counter())[frozen(record.root)] += 1
            for table, children in record.children.items():
                tables.setdefault(table, Counter()).update(frozen(child.row) for child in children)
    return tables


def by_file(paths: Iterable[Path], columns: Mapping[str, Columns]) -> dict[str, Rows]:
    """Return the rows of all tables as the export gives them, without what they repeat."""
    tables: dict[str, Rows] = {}
    for path in paths:
        name = split_file_name(path.name)
        assert name is not None
        facts = facts_of(name[0])
        rows = tables.setdefault(facts.table, Counter())
        for batch in read_table([path.read_bytes()], path.name, facts, list(columns[name[0]].items())):
            for values in batch.rows:
                row = {column: value for column, value in zip(batch.columns, values, strict=True) if value is not None}
                if facts.is_root:
                    [key] = [row.pop(name) for name in facts.key if name in row]
                    row[KEY] = key
                rows[frozen({column: value for column, value in row.items() if column not in facts.repeated})] += 1
    return tables


@pytest.mark.parametrize("offset", ["+00:00", "-04:00", "Z"])
def test_record_by_file_with_quotes_is_stored_as_by_delta(tmp_path: Path, world: World, offset: str) -> None:
    columns = write_export(world, tmp_path, Quirks(written_offset=offset), entities=ENTITIES)
    assert by_file(tmp_path.glob("*/*/*.csv"), columns) == by_delta(world, offset)


def test_record_by_file_without_quotes_is_stored_as_by_delta_but_for_empty_strings(tmp_path: Path, world: World) -> None:
    columns = write_export(world, tmp_path, Quirks(kind=2021), entities=ENTITIES)
    fed = {
        table: Counter({frozenset((column, value) for column, value in row if value != ""): times for row, times in rows.items()})
        for table, rows in by_delta(world, "+00:00").items()
    }
    assert by_file(tmp_path.glob("*/*/*.csv"), columns) == fed


def test_headerless_files_whose_columns_are_known_are_stored_alike_without_a_configuration(tmp_path: Path, world: World) -> None:
    write_export(world, tmp_path, Quirks(kind=2021), entities=ENTITIES)
    tables = ("EmployeeBio", "EmployeeCat", "EmployeeClock", "EmployeeBreak")
    paths = [path for table in tables for path in tmp_path.glob(f"*/*/{table}_*.csv")]
    fed = by_delta(world, "+00:00")
    assert by_file(paths, {table: {} for table in tables}) == {table: fed[table] for table in tables}
