"""The hand-over from an export to the deltas, in worlds drawn by lot: whatever happens in which order, the mirror ends exact."""

import os
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from installed import Shop

from delta_mirror.core.plan import Counts
from delta_mirror.jobs.baseline import BaselineReport, Wishes, run_baseline
from delta_mirror.jobs.session import seconds_of
from delta_mirror.simulator import DAY, HOUR, LAG, Dials, Service, World
from delta_mirror.simulator.export import Quirks, write_export
from oracle import assert_exact

LONG = bool(os.environ.get("DELTA_MIRROR_LONG"))
WORLDS = settings(
    max_examples=300 if LONG else 10,
    deadline=None,
    derandomize=not LONG,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
ENTITIES = ("Client", "Employee", "Appointment", "Sale", "EmployeeSchedule", "EmployeeActual")
Step = Literal["change", "deltas", "export", "load", "wait"]


class Chain:
    """A salon, its service, a mirror, and the exports that were written so far."""

    def __init__(self, folder: Path, service: Service, deletes: str, quirks: Quirks) -> None:
        self.shop = Shop(folder, service)
        self.shop.configure(mirror={"deletes": deletes}, locations=[(11, 9), (11, 10)], entities=ENTITIES)
        self.world = service.world
        self.exports = 0
        self._quirks = quirks

    def export(self) -> None:
        """Write an export of how things are now."""
        self.exports += 1
        write_export(self.world, self.shop.folder / f"export{self.exports}", self._quirks, entities=ENTITIES)

    def load(self, *, force: bool = True) -> BaselineReport:
        """Load the newest export."""
        source = str(self.shop.folder / f"export{self.exports}")
        report = run_baseline(self.shop.config(), Wishes(source, force=force), now=lambda: seconds_of(self.world.now))
        assert report.outcome == "done", (report.trouble, [each.error for each in report.streams])
        return report

    def take(self, step: Step, seed: int) -> None:
        """Do one step."""
        match step:
            case "change":
                self.world.busy_hour(seed, 12)
            case "deltas":
                self.shop.fill()
            case "export":
                self.export()
            case "load":
                if self.exports:
                    self.load()
            case "wait":
                self.world.advance(7 * HOUR)


@WORLDS
@given(
    seed=st.integers(0, 1000),
    deletes=st.sampled_from(["remove", "mark"]),
    steps=st.lists(st.sampled_from(["change", "change", "deltas", "export", "load", "wait"]), min_size=2, max_size=9),
    quirks=st.builds(
        Quirks,
        reversed_columns=st.booleans(),
        orphans=st.integers(0, 2),
        keyless_employees=st.integers(0, 2),
        written_offset=st.sampled_from(["+00:00", "-04:00"]),
    ),
)
def test_an_export_then_deltas_of_any_kind_end_as_the_service_is(
    seed: int, deletes: Literal["remove", "mark"], steps: list[Step], quirks: Quirks
) -> None:
    world = World(seed)
    world.populate(clients=14, employees=4, appointments=6, sales=8)
    dials = Dials(written_offset=quirks.written_offset, enabled=ENTITIES)
    with tempfile.TemporaryDirectory() as folder, Service(world, dials) as service:
        chain = Chain(Path(folder), service, deletes, quirks)
        for number, step in enumerate([*steps, "export", "change", "load"]):
            chain.take(step, 100 * seed + number)
        for _ in range(2):
            world.settle(LAG)
            chain.shop.fill()
        assert_exact(chain.shop.mirror, world, deletes, dials=dials)


@pytest.mark.parametrize("deletes", ["remove", "mark"])
def test_an_export_over_a_drifted_mirror_equals_a_fresh_one(tmp_path: Path, deletes: Literal["remove", "mark"]) -> None:
    world = World(5)
    world.populate(clients=30, employees=6, appointments=20, sales=30)
    world.advance(3 * DAY)
    with Service(world, Dials(enabled=ENTITIES)) as service:
        chain = Chain(tmp_path, service, deletes, Quirks())
        chain.export()
        chain.load()
        with closing(sqlite3.connect(chain.shop.mirror)) as mirror, mirror:
            mirror.executescript(
                """
                delete from ClientPhone where _id in (select _id from ClientPhone limit 5);
                update Client set FirstName = 'spoilt' where _id in (select _id from Client limit 3);
                update SaleLine set FinalPrice = FinalPrice || '' where _id in (select _id from SaleLine limit 6);
                delete from Sale where _id in (select _id from Sale order by _id desc limit 4);
                delete from AppointmentServiceStep where _n = 0;
                update AppointmentServiceStep set _parent_n = 0;
                insert into Client (_tenant_id, _location_id, _id, EntityId) values (11, 9, 'nobody', 'nobody');
                insert into SaleLine (_tenant_id, _location_id, _id, _n) values (11, 9, 'nobody', 3);
                """
            )
        mended = chain.load().counts
        assert (mended.deleted, mended.inserted) == (1, 4)
        assert mended.replaced > 0
        again = chain.load().counts
        assert again == Counts(unchanged=again.unchanged)
        with closing(sqlite3.connect(chain.shop.mirror)) as mirror, mirror:  # what nobody but this test knows of
            mirror.execute("delete from _tombstones where id = 'nobody'")
            mirror.execute("delete from Client where _id = 'nobody'")
        assert_exact(chain.shop.mirror, world, deletes, dials=Dials(enabled=ENTITIES))


@pytest.mark.parametrize("offset", ["+00:00", "-04:00"])
def test_the_first_delta_of_an_unchanged_record_logs_no_change(tmp_path: Path, offset: str) -> None:
    world = World(8)
    world.populate(clients=30, employees=6, appointments=20, sales=30, schedules=6, actuals=6, over=HOUR)
    dials = Dials(written_offset=offset, enabled=ENTITIES)
    with Service(world, dials) as service:
        chain = Chain(tmp_path, service, "remove", Quirks(written_offset=offset))
        chain.export()
        loaded = chain.load(force=False).counts
        world.settle(LAG)
        report = chain.shop.fill()
        assert report.counts.unchanged >= loaded.inserted > 80
        assert chain.shop.rows("select * from _changes") == []
        assert_exact(chain.shop.mirror, world, dials=dials)
