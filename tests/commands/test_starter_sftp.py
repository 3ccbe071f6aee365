"""`sync full-starter` and `sync verify` over SFTP: the whole way, from the address to the mirror."""

import threading
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest
from installed import PATIENCE, Shop

from delta_mirror.config import load_config
from delta_mirror.jobs.baseline import run_baseline
from delta_mirror.simulator import DAY, Clock, Service, World
from delta_mirror.simulator.export import write_export
from oracle import assert_exact
from ssh_server import Server

PASSPHRASE = "Tr0ub4dor"


@pytest.fixture
def world() -> World:
    world = World(seed=3, clock=Clock.running())
    world.populate(clients=30, employees=6, appointments=12, sales=20, over=3 * DAY)
    return world


@pytest.fixture
def shop(tmp_path: Path, service: Service) -> Shop:
    shop = Shop(tmp_path, service)
    shop.configure(locations=[(11, 9), (11, 10)])
    write_export(service.world, tmp_path / "served" / "exports")
    return shop


@pytest.fixture
def server(shop: Shop) -> Iterator[Server]:
    key = asyncssh.generate_private_key("ssh-ed25519")
    text = key.export_private_key(passphrase=PASSPHRASE, rounds=1, ignore_few_rounds=True)
    (shop.folder / "key").write_bytes(text)
    with Server(shop.folder / "served", key) as server:
        (shop.folder / "known_hosts").write_text(server.known_host())
        lines = [
            "[starter]",
            f'source = "{server.url("/exports")}"',
            'key_file = "key"',
            f'key_passphrase = "{PASSPHRASE}"',
            'known_hosts = "known_hosts"',
        ]
        with shop.configuration.open("a") as file:
            file.write("\n".join([*lines, ""]))
        yield server


def test_export_is_loaded_from_the_host_and_the_mirror_verified_against_it(shop: Shop, server: Server) -> None:
    assert "8 of 8 streams" in shop.sync("full-starter").out
    assert_exact(shop.mirror, shop.service.world)
    ended = shop.sync("verify")
    assert "nothing differs" in ended.out
    assert PASSPHRASE not in ended.out + ended.err
    assert server.faults.connections == 2
    assert not shop.mirror.with_name("mirror.db.starter").exists()


def test_progress_is_told_while_a_file_is_downloaded_as_well_as_while_it_is_read(shop: Shop, server: Server) -> None:
    told: list[tuple[str, int, int]] = []
    run_baseline(load_config(shop.configuration), watch=lambda now: told.append((now.stage, now.done, now.total)))
    size = sum(path.stat().st_size for path in (shop.folder / "served").rglob("*.csv"))
    assert {stage for stage, _, _ in told} == {"downloading", "reading", "sorting", "comparing"}
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    assert told[-1][1:] == (2 * size, 2 * size)
    done = [0, *(done for _, done, _ in told)]
    brought = sum(after - before for (stage, after, _), before in zip(told, done, strict=False) if stage == "downloading")
    assert brought == size


def test_host_that_is_not_known_is_refused_and_nothing_is_written(shop: Shop, server: Server) -> None:
    (shop.folder / "known_hosts").write_text("")
    ended = shop.sync("full-starter", expect=2)
    assert "ssh-keyscan" in ended.err
    assert server.host_key.get_fingerprint() in ended.err
    assert shop.rows("select * from _runs") == []


def test_host_that_refuses_the_key_or_is_down_leaves_all_undone(shop: Shop, server: Server) -> None:
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(shop.folder / "key")
    assert "does not let the user salon in" in shop.sync("full-starter", expect=3).err
    server.stop()
    assert "cannot be read over SFTP, after one attempt" in shop.sync("full-starter", expect=3).err


def test_passphrase_is_asked_for_only_where_a_host_is(shop: Shop, server: Server) -> None:
    text = shop.configuration.read_text().replace(f'"{PASSPHRASE}"', '"env:NOWHERE"')
    shop.configuration.write_text(text)
    assert "NOWHERE, which is not set or empty" in shop.sync("full-starter", expect=2).err
    assert "8 of 8 streams" in shop.sync("full-starter", "served").out


def test_run_that_is_killed_while_it_downloads_leaves_nothing_that_the_next_one_does_not_clear(
    shop: Shop, server: Server
) -> None:
    reading = threading.Event()
    server.faults.at_read = lambda path: reading.set()
    server.faults.silent = True
    with shop.running("full-starter") as process:
        assert reading.wait(PATIENCE)
        process.kill()
        process.communicate()
    left = shop.mirror.with_name("mirror.db.starter")
    assert all(path.stat().st_size < 100_000 and path.name.startswith("staging.db") for path in left.iterdir())
    server.faults.silent = False
    assert "8 of 8 streams" in shop.sync("full-starter").out
    assert not left.exists()


def test_run_that_is_told_to_stop_while_it_waits_for_the_host_ends_at_once(shop: Shop, server: Server) -> None:
    reading = threading.Event()
    server.faults.at_read = lambda path: reading.set()
    server.faults.silent = True
    with shop.running("full-starter") as process:
        assert reading.wait(PATIENCE)
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "stopped" in err
    assert not shop.mirror.with_name("mirror.db.starter").exists()
