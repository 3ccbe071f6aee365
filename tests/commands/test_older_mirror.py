"""A mirror of an older release in the hands of today's program: read, copied, brought up to date, refused."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from installed import Shop, assert_sound, rows_of

import forms
from delta_mirror.mirror.file import SCHEMA_VERSION
from delta_mirror.simulator import MINUTE, World
from oracle import assert_exact

OLDER = [form for form in forms.FORMS if form < SCHEMA_VERSION]


@pytest.fixture
def world() -> World:
    return forms.world_of_the_fixtures()


@pytest.fixture(params=OLDER)
def older(shop: Shop, world: World, request: pytest.FixtureRequest) -> Shop:
    """A shop with a mirror of an older release, filled from the same world."""
    forms.restore(request.param, shop.mirror)
    account = shop.config().require_dds()
    with closing(sqlite3.connect(shop.mirror)) as mirror, mirror:
        named = f"{account.marketplace_url.split('://')[1]} as {account.client_id}"
        mirror.execute("update _meta set value = ? where key = 'account'", (named,))
        mirror.execute("delete from _meta where key in ('tenants', 'tenants_day')")
    clients = forms.first_clients(world)
    forms.edit_and_delete(world, clients)
    forms.revive_and_upset(world, clients)
    return shop


def form_of(path: Path) -> int:
    [[form]] = rows_of(path, "pragma user_version")
    assert isinstance(form, int)
    return form


def test_status_changes_quarantine_and_backup_work_on_it_and_leave_it_as_it_is(older: Shop) -> None:
    before, form = older.contents(), form_of(older.mirror)

    status = older.sync("status", "--json").json()
    changes = older.sync("changes", "--json").out.splitlines()
    aside = older.sync("quarantine", "list", "--json").out.splitlines()
    older.sync("backup", "copy.db")

    assert sum(stream["records"] for stream in status["streams"]) == 13
    assert (len(changes), len(aside)) == (older.value("select count(*) from _changes"), 1)
    assert form_of(older.folder / "copy.db") == form_of(older.mirror) == form
    assert older.contents() == before


def test_the_next_run_migrates_it_and_goes_on_where_the_last_one_ended(older: Shop, world: World) -> None:
    before = older.value("select max(seq) from _changes")
    upset = forms.first_clients(forms.world_of_the_fixtures())[3]
    world.edit(upset, _Invented=None, FirstName="Bo")
    world.advance(5 * MINUTE)

    ended = older.sync("deltas")

    assert f"the mirror was brought to form {SCHEMA_VERSION} of its own tables" in ended.err
    assert form_of(older.mirror) == SCHEMA_VERSION
    assert_exact(older.mirror, world)
    assert_sound(older)
    assert older.rows("select op, id from _changes where seq > ?", before) == [("replace", upset)]
