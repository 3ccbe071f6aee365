"""Mirrors of every form that was ever released, as `tests/fixtures/form_N.sql` keeps them: no program can change those any more.

Each was filled by the program of its time with the world of `world_of_the_fixtures`. A form is added with the release that
brings it: run this module (`python tests/forms.py`), which writes that of today, and commit what it has written.
"""

import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from delta_mirror.simulator import DAY, MINUTE, Service, World

FIXTURES = Path(__file__).with_name("fixtures")
FORMS = sorted(int(path.stem.removeprefix("form_")) for path in FIXTURES.glob("form_*.sql"))
ACCOUNT = "marketplace.example.com as invented-client"


def world_of_the_fixtures() -> World:
    """Return the world that the fixtures were filled from, as it was before the first run."""
    world = World(seed=41)
    world.populate(clients=6, employees=2, appointments=2, sales=3, over=DAY)
    return world


def first_clients(world: World) -> list[str]:
    """Return the four clients to whom something happened."""
    return [id_ for id_ in world.ids("Client") if not world.is_deleted(id_)][:4]


def edit_and_delete(world: World, clients: list[str]) -> None:
    """Let happen what happened before the second run."""
    world.edit(clients[0], EmailAddress="new.address@example.com")
    world.delete(clients[1])
    world.delete(clients[2])
    world.advance(5 * MINUTE)


def revive_and_upset(world: World, clients: list[str]) -> None:
    """Let happen what happened before the third run, the last: one client is set aside."""
    world.revive(clients[2])
    world.edit(clients[3], _Invented="a column that only the mirror could have")
    world.advance(5 * MINUTE)


def restore(form: int, path: Path) -> None:
    """Make a mirror of *form* at *path*."""
    with closing(sqlite3.connect(path)) as mirror:
        mirror.executescript((FIXTURES / f"form_{form}.sql").read_text(encoding="utf-8"))


def write_todays() -> Path:
    """Write the fixture of today's form, and return where."""
    from delta_mirror.config import load_config
    from delta_mirror.jobs.deltas import run_deltas
    from delta_mirror.simulator import CLIENT_ID, CLIENT_SECRET

    world = world_of_the_fixtures()
    with tempfile.TemporaryDirectory() as folder, Service(world) as service:
        file = Path(folder, "config.toml")
        account = {"marketplace_url": service.url, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        file.write_text("[dds]\n" + "".join(f'{key} = "{value}"\n' for key, value in account.items()), encoding="utf-8")
        config = load_config(file)
        run_deltas(config)
        clients = first_clients(world)
        edit_and_delete(world, clients)
        run_deltas(config)
        revive_and_upset(world, clients)
        run_deltas(config)
        with closing(sqlite3.connect(config.mirror.path)) as mirror:
            mirror.execute("update _meta set value = ? where key = 'account'", (ACCOUNT,))
            mirror.commit()
            [[application], [version]] = (
                mirror.execute(f"pragma {name}").fetchone() for name in ("application_id", "user_version")
            )
            head = f"pragma application_id = {application};\npragma user_version = {version};\n"
            target = FIXTURES / f"form_{version}.sql"
            target.write_text(head + "\n".join(mirror.iterdump()) + "\n", encoding="utf-8")
    return target


if __name__ == "__main__":
    sys.stdout.write(f"{write_todays()}\n")
