"""`[mirror.mask]` for any columns and ways of coming: what is taken away is in no byte, and every way gives the same mirror."""

import json
import logging
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from installed import Shop, rows_of

from delta_mirror.dds.tables import table_name
from delta_mirror.jobs.baseline import Wishes, run_baseline
from delta_mirror.jobs.session import open_mirror
from delta_mirror.jobs.starter import Progress
from delta_mirror.simulator import DAY, Clock, Service, World
from delta_mirror.simulator.export import write_export

OTHERS = ("ClientPhone", "SaleLine", "Appointment", "AppointmentService")
TAGS = ("TagOne", "TagTwo")
Masks = dict[str, dict[str, str]]

actions = st.sampled_from(["drop", "hash", "drop", "hash", "keep"])
columns = st.dictionaries(st.sampled_from([*TAGS, "*"]), actions, min_size=1)
masks = st.fixed_dictionaries({"Client": columns, "Sale": columns}, optional=dict.fromkeys(OTHERS, columns))


def tag_of(table: str, column: str, number: int) -> str:
    return f'zebra-{table.lower()}-{column.lower()}-{number:03}-"ü'


def tagged_world() -> World:
    """Return a salon in which every row of every table has values that are found nowhere else."""
    world = World(seed=5, clock=Clock.running())
    world.populate(clients=4, employees=1, appointments=3, sales=3, over=DAY)
    numbers = iter(range(1_000))

    def tag(table: str, row: dict[str, Any]) -> None:
        row.update({column: tag_of(table, column, next(numbers)) for column in TAGS})
        for name, value in list(row.items()):
            for below in value if isinstance(value, list) else ():
                if isinstance(below, dict):
                    tag(table_name(name), below)

    for entity in ("Client", "Sale", "Appointment"):
        for id_ in world.ids(entity):
            world.alter(id_, lambda body, entity=entity: tag(entity, body))  # type: ignore[misc]
    world.settle()
    return world


def shop_in(folder: Path, service: Service, mask: Masks) -> Shop:
    folder.mkdir(exist_ok=True)
    shop = Shop(folder, service)
    lines = []
    for table, columns in mask.items():
        lines += [f"[mirror.mask.{table}]", *(f"{json.dumps(name)} = {json.dumps(action)}" for name, action in columns.items())]
    shop.configure(
        mirror={"mask_key": "ab" * 32},
        locations=[(11, 9), (11, 10)],
        more="\n".join(lines),
        entities=["Client", "Sale", "Appointment"],
    )
    return shop


def taken_away(mask: Masks) -> list[bytes]:
    """Return what the values begin with that the mask takes away."""
    return [
        f"zebra-{table.lower()}-{column.lower()}-".encode()
        for table, columns in mask.items()
        for column in TAGS
        if columns.get(column, columns.get("*", "keep")) != "keep"
    ]


def left_in(folder: Path, words: Iterable[bytes]) -> list[bytes]:
    found = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "config.toml")
    return [word for word in words if word in found]


def held_in(shop: Shop) -> Mapping[str, list[dict[str, object]]]:
    held = {}
    for (table,) in shop.rows("select name from sqlite_master where type = 'table' and name not glob '[_s]*'"):
        names = [row[1] for row in shop.rows(f'pragma table_info("{table}")')]
        rows = [dict(zip(names, row, strict=True)) for row in rows_of(shop.mirror, f'select * from "{table}"')]
        plain = [{name: value for name, value in row.items() if value is not None and name != "_synced_at"} for row in rows]
        if plain:
            held[table] = sorted(plain, key=repr)
    return held


@given(mask=masks)
@settings(
    max_examples=3,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],  # an example takes a second, and its mask says what is the matter
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_what_is_taken_away_is_in_no_byte_and_each_way_gives_the_same_mirror(
    caplog: pytest.LogCaptureFixture, mask: Masks
) -> None:
    world, words = tagged_world(), taken_away(mask)
    caplog.set_level(logging.DEBUG)
    caplog.clear()
    with Service(world) as service, tempfile.TemporaryDirectory() as folder:
        shops = {way: shop_in(Path(folder, way), service, mask) for way in ("delta", "starter")}
        late = shop_in(Path(folder, "late"), service, {})
        for shop in (shops["delta"], late):
            shop.fill()
        first = world.ids("Client")[0]
        world.edit(first, TagOne=tag_of("Client", "TagOne", 999), TagTwo=None)
        world.edit(world.ids("Sale")[0], _odd=1)
        world.delete(world.ids("Client")[1])
        world.settle()
        for shop in (shops["delta"], late):
            shop.fill(expect="unfinished")
        assert not left_in(shops["delta"].folder, words)
        world.edit(world.ids("Sale")[0], _odd=None)
        world.settle()
        for shop in (shops["delta"], late):
            shop.fill()
        late = shop_in(late.folder, service, mask)
        with open_mirror(late.config(), stop=Event()):
            pass  # whoever opens it to write carries the mask out, and deltas would read some of it anew
        assert not left_in(late.folder, words)
        late.fill()

        export = Path(folder, "export")
        write_export(world, export, entities=("Client", "Sale", "Appointment"))
        staged: list[bytes] = []
        seen: list[str] = []

        def look(progress: Progress) -> None:
            seen.append(progress.stage)
            staged.extend(left_in(shops["starter"].folder, words))

        report = run_baseline(shops["starter"].config(), Wishes(source=str(export)), watch=look)
        assert report.outcome == "done"
        assert {"sorting", "comparing"} <= set(seen)
        assert not staged

        for way, shop in {**shops, "late": late}.items():
            assert not left_in(shop.folder, words), way
        assert not [word for word in words if word.decode() in caplog.text]
        assert held_in(shops["delta"]) == held_in(shops["starter"]) == held_in(late)
