"""The views `_once_...`: one row per tenant and id, the living before the deleted, then the newest."""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from delta_mirror.core.model import Instant, Record, Stream, Value
from delta_mirror.core.plan import Drained, decide
from delta_mirror.mirror.write import Mirror

LOCATIONS = (9, 10, 12)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mirror.db"


@pytest.fixture
def mirror(path: Path) -> Iterator[Mirror]:
    """A mirror that marks what is deleted, so that the view has something to choose from."""
    with Mirror.open(path, feed_tables={"Client": (), "Sale": ()}, deletes="mark") as opened:
        yield opened


def put(
    mirror: Mirror,
    location: int,
    at: int | None,
    *,
    tenant: int = 11,
    id_: str = "a",
    deleted: bool = False,
    entity: str = "Client",
    columns: Mapping[str, Value] | None = None,
) -> None:
    """Apply one version of a record at one location, with *columns*; a deleted one lives a moment before."""
    stream = Stream(tenant, location, entity)
    for dead in (False, True) if deleted else (False,):
        changed = None if at is None else Instant(at, str(at))
        record = Record(id_, changed, None, dead, {"EntityId": id_, "Place": location, "Dead": int(dead), **(columns or {})}, {})
        with mirror.transaction() as tx:
            [entry] = tx.fit(stream, [record])
            tx.carry_out(stream, decide(tx.current(stream, [id_]), [entry], Drained()), 1)


def once(path: Path, columns: str = "_tenant_id, _id, _location_id", entity: str = "Client") -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as mirror:
        return mirror.execute(f"select {columns} from _once_{entity} order by _tenant_id, _id").fetchall()


@pytest.mark.parametrize("order", list(permutations(LOCATIONS)), ids=str)
@pytest.mark.parametrize(
    ("versions", "chosen"),
    [
        ({9: (10, False), 10: (30, False), 12: (20, False)}, 10),  # the newest
        ({9: (10, False), 10: (30, True), 12: (20, False)}, 12),  # not the newest, as that one is dead
        ({9: (10, True), 10: (30, True), 12: (20, True)}, 10),  # all dead: the newest of them
        ({9: (10, False), 10: (30, True), 12: (20, True)}, 9),  # the only one that lives
        ({9: (10, False), 10: (None, False), 12: (None, False)}, 9),  # what bears no date is no newer than what does
    ],
)
def test_the_view_chooses_the_living_then_the_newest_in_whatever_order_they_came(
    mirror: Mirror, path: Path, order: tuple[int, ...], versions: dict[int, tuple[int | None, bool]], chosen: int
) -> None:
    for location in order:
        at, deleted = versions[location]
        put(mirror, location, at, deleted=deleted)
    assert once(path, "_location_id, Place, Dead") == [(chosen, chosen, int(versions[chosen][1]))]


def test_the_view_has_one_row_per_tenant_and_id(mirror: Mirror, path: Path) -> None:
    for tenant in (11, 12):
        for id_ in ("a", "b"):
            for at, location in enumerate(LOCATIONS):
                put(mirror, location, at + 1, tenant=tenant, id_=id_)
    assert once(path) == [(11, "a", 12), (11, "b", 12), (12, "a", 12), (12, "b", 12)]


def test_the_view_has_columns_that_were_added_later_and_keeps_its_choice(mirror: Mirror, path: Path) -> None:
    put(mirror, 9, 10)
    put(mirror, 10, 20)
    put(mirror, 9, 30, columns={"Later": "new"})
    assert once(path, "_location_id, Later") == [(9, "new")]
    put(mirror, 10, 40, columns={'Odd "name"': 1})
    assert once(path, '_location_id, Later, "Odd ""name"""') == [(10, None, 1)]
    with closing(sqlite3.connect(path)) as connection:
        in_table, in_view = (
            [row[1] for row in connection.execute(f"pragma table_info({name})")] for name in ("Client", "_once_Client")
        )
    assert in_view == in_table


def test_each_root_table_has_its_view_also_after_the_mirror_was_opened_anew(mirror: Mirror, path: Path) -> None:
    put(mirror, 9, 10)
    mirror.close()
    with Mirror.open(path, feed_tables={"Client": (), "Sale": ()}, deletes="mark") as again:
        put(again, 9, 10, entity="Sale", columns={"Total": 1})
        put(again, 10, 20, columns={"Later": "new"})
        put(again, 10, 20, entity="Sale", columns={"Total": 2})
    assert once(path, "Later") == [("new",)]
    assert once(path, "Total", "Sale") == [(2,)]
