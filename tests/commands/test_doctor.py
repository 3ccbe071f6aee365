"""`sync doctor`: what it finds in broken set-ups, and that it changes nothing."""

import os
import sqlite3
import stat
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from findings import assert_only, examined, found, told, wrong
from installed import PATIENCE, SYNC, Ended, Shop, call

import forms
from delta_mirror.mirror.lock import hold
from delta_mirror.simulator import CLIENT_SECRET, DAY, Clock, Service, World
from delta_mirror.simulator.faults import html, status


@pytest.fixture
def world() -> World:
    """A world whose clock goes with ours: the doctor compares the two."""
    world = World(seed=7, clock=Clock.running())
    world.populate(clients=4, employees=2, appointments=2, sales=3, over=DAY)
    return world


@pytest.fixture
def filled(shop: Shop) -> Shop:
    shop.fill()
    return shop


# In order


def test_set_up_that_is_in_order_is_told_line_by_line_before_there_is_a_mirror_and_afterwards(shop: Shop) -> None:
    before = told(shop, expect=0)
    assert not shop.mirror.exists()
    shop.fill()
    ended = shop.sync("doctor")

    assert "mirror.db is not there yet; `sync deltas`, `sync full-starter`, or" in found(before, "mirror")
    assert [finding["check"] for finding in before] == [
        *("configuration", "secrets", "folder", "file system", "mirror", "disk", "lock"),
        *("credentials", "clock", "locations", "entities", "entities", "calls", "budget"),
    ]
    assert all(line.startswith("ok ") for line in ended.out.splitlines())
    assert "of this account" in ended.out
    assert shop.sync("--quiet", "doctor").out == ""


def test_it_changes_nothing_and_calls_nothing_that_counts_where_all_is_in_order(filled: Shop) -> None:
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in filled.folder.iterdir()}
    calls = filled.public_calls()

    told(filled, expect=0)

    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in filled.folder.iterdir()} == before
    assert filled.public_calls() == calls


def test_stream_that_failed_is_asked_by_one_call_that_is_counted_and_nothing_else_is_written(filled: Shop) -> None:
    filled.service.faults.append(status(500, times=1, entity="Sale", location=9))
    filled.fill(expect="unfinished")
    before, counted = filled.contents(without=["_calls", "_call_times"]), filled.value("select sum(calls) from _calls")
    calls = filled.public_calls()

    findings = told(filled)

    assert_only(findings, "streams", "Sale: the last drain failed: page 0 of Sale")
    assert found(findings, "calls") == "ok: 1 was made for this: for what was not drained within a day"
    assert filled.public_calls() == calls + 1
    assert filled.value("select sum(calls) from _calls") == counted + 1
    assert filled.contents(without=["_calls", "_call_times"]) == before


def test_run_that_is_at_work_goes_on_and_is_named(filled: Shop) -> None:
    with hold(filled.mirror):
        with closing(sqlite3.connect(filled.mirror)) as mirror, mirror:
            mirror.execute("update _runs set ended_at = null, outcome = null")
        findings = examined(filled, expect=0)

    assert f"process {os.getpid()} has been at it for" in found(findings, "lock")


@pytest.mark.parametrize("form", [form for form in forms.FORMS if form == 1])
def test_mirror_of_an_older_form_is_told_and_not_migrated(shop: Shop, form: int) -> None:
    forms.restore(form, shop.mirror)
    before = shop.contents()

    findings = examined(shop)

    assert "of an older form (1); the next run brings it up to date" in found(findings, "schema")
    assert "was not asked: the call could not be counted" in found(findings, "entities")
    assert "was filled from marketplace.example.com" in found(findings, "mirror")
    assert shop.contents() == before


# Broken set-ups. Each breaks one thing; only that, and what hangs on it, is found.


def test_mirror_that_has_lost_what_says_whose_it_is_is_told_and_stops_no_check(filled: Shop) -> None:
    with closing(sqlite3.connect(filled.mirror)) as mirror, mirror:
        mirror.execute("drop table _meta")

    findings = told(filled, expect=5)

    assert "has lost its own tables _meta" in found(findings, "schema")
    assert "are followed" in found(findings, "streams")


@pytest.mark.parametrize("table", ["_streams", "_pauses", "_tables"])
def test_mirror_that_has_lost_what_calls_are_counted_by_is_not_counted_in_and_stops_no_check(filled: Shop, table: str) -> None:
    with closing(sqlite3.connect(filled.mirror)) as mirror, mirror:
        mirror.execute(f"drop table {table}")

    findings = told(filled, expect=5)

    assert "could not be counted" in found(findings, "entities")
    assert "empty" in found(findings, "quarantine")


def test_no_configuration_and_a_mistyped_key(shop: Shop) -> None:
    text = shop.configuration.read_text(encoding="utf-8")
    shop.configuration.write_text(text.replace("timeout", "timeuot"), encoding="utf-8")
    assert_only(examined(shop), "configuration", "http.timeuot is no known key; did you mean timeout?")
    shop.configuration.unlink()
    assert_only(told(shop), "configuration", "no configuration")


def test_configuration_that_names_nothing(shop: Shop) -> None:
    shop.configuration.write_text('[mirror]\npath = "mirror.db"\n', encoding="utf-8")
    assert_only(examined(shop), "configuration", "names nothing to mirror")


def test_secrets_that_others_can_read(shop: Shop) -> None:
    shop.configuration.chmod(0o644)
    findings = examined(shop)
    assert_only(findings, "secrets", "dds.client_secret stands there in plain text")
    assert [finding["remedy"] for finding in findings if finding["remedy"]] == [f"chmod 600 {shop.configuration}"]
    (shop.folder / "secret.txt").write_text(CLIENT_SECRET, encoding="utf-8")
    (shop.folder / "secret.txt").chmod(0o640)
    shop.configure(client_secret="file:secret.txt")
    assert_only(examined(shop), "secrets", "dds.client_secret is taken from", "secret.txt, which others may read (mode 0640)")


def test_wrong_secret(shop: Shop) -> None:
    shop.configure(client_secret="wrong")
    findings = examined(shop)
    assert "the service does not accept the credentials" in found(findings, "credentials")
    assert wrong(findings)[1:] == [("locations", "not looked at, as the service does not let us in")]
    assert sum(each.endpoint == "token" for each in shop.service.calls) == 1, "accounts are locked by less"


def test_service_that_is_away(shop: Shop) -> None:
    shop.service.faults.append(html(503, times=None))
    findings = examined(shop)
    assert "the service does not answer for now" in found(findings, "service")
    assert not shop.mirror.exists()


def test_location_that_is_not_listed_and_one_that_is_not_activated(shop: Shop) -> None:
    shop.configure(locations=[(11, 9), (11, 12)])
    findings = examined(shop)
    assert "tenant 11, location 12 is configured, and apps/tenant does not list it" in found(findings, "locations")
    assert "ok: tenant 11, location 9: Client, Employee, Appointment, Sale answer" in found(findings, "entities")


def test_entity_that_is_refused(shop: Shop) -> None:
    shop.configure(locations=[(11, 9)])
    shop.service.faults.append(status(403, times=None, entity="Sale"))
    findings = examined(shop)
    assert_only(findings, "entities", "Sale of tenant 11, location 9: the service refuses it (status 403")
    assert "ok: tenant 11, location 9: Client, Employee, Appointment answer" in found(findings, "entities")


def test_clock_that_is_wrong(tmp_path: Path) -> None:
    with Service(World(seed=7)) as service:  # whose clock stands still, far from ours
        findings = examined(Shop(tmp_path, service))
    assert_only(findings, "clock", "the clock of this machine is")


def test_folder_that_is_not_there_and_one_that_cannot_be_written(shop: Shop) -> None:
    shop.configure(mirror={"path": "nowhere/mirror.db"})
    findings = examined(shop)
    assert {check for check, _ in wrong(findings)} == {"folder", "disk"}
    (shop.folder / "nowhere").mkdir(mode=0o500)
    ended = call(shop, "doctor", expect=5)
    assert "nowhere cannot be written by this user" in ended.out


def foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("create table theirs (x)")


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as mirror:
        mirror.execute("pragma user_version = 99")


def damaged(path: Path) -> None:
    with path.open("r+b") as file:
        for page in range(4, path.stat().st_size // 4096):
            file.seek(page * 4096 + 3)
            file.write(b"\xff\xff\xff")


def trapped(path: Path) -> None:
    with closing(sqlite3.connect(path)) as mirror:
        mirror.execute("create trigger evil after insert on _runs begin delete from Client; end")


def piped(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


@pytest.mark.parametrize(
    ("spoil", "checks", "said"),
    [
        (lambda path: path.write_bytes(b"name,phone\n" * 1000), {"mirror"}, "is not a SQLite file"),
        (piped, {"mirror"}, "is a pipe"),
        (newer, {"mirror"}, "was written by a newer delta-mirror"),
        (damaged, {"mirror", "schema"}, "is damaged"),
        (cut, {"mirror", "schema"}, "is damaged"),
        (trapped, {"schema"}, "holds a trigger, 'evil'"),
        (lambda path: path.chmod(0o644), {"mode"}, "has mode 0644, and [mirror] mode is 0600"),
    ],
    ids=["text", "pipe", "newer", "damaged", "cut", "trapped", "mode"],
)
def test_mirror_that_is_not_as_it_should_be(filled: Shop, spoil: Callable[[Path], object], checks: set[str], said: str) -> None:
    spoil(filled.mirror)
    findings = examined(filled)
    assert {name for name, _ in wrong(findings)} & checks
    assert any(said in what for _, what in wrong(findings))
    assert "credentials" in {finding["check"] for finding in findings}, "one trouble hides no other"


def test_file_that_is_no_mirror_and_mirror_of_another_account_or_way_of_deleting(filled: Shop) -> None:
    filled.configure(mirror={"deletes": "mark"})
    assert_only(examined(filled), "mirror", 'was filled with deletes = "remove"')
    with closing(sqlite3.connect(filled.mirror)) as mirror, mirror:
        mirror.execute("update _meta set value = 'elsewhere as x' where key = 'account'")
    assert "was filled from elsewhere as x" in found(examined(filled), "mirror")
    foreign(filled.folder / "theirs.db")
    filled.configure(mirror={"path": "theirs.db"})
    assert "is a SQLite file, but not a mirror" in found(examined(filled), "mirror")


def in_a_namespace(shop: Shop, before: str, *arguments: str, expect: int) -> Ended:
    """Return how `sync` has ended, called behind the shell's *before* in a namespace of mounts of its own."""
    line = f'{before} && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "bash", "-c", line, "-", SYNC, *arguments],
        cwd=shop.folder,
        env={"PATH": f"{os.defpath}:/usr/sbin:/sbin", "HOME": str(shop.folder), "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == expect, done.stderr
    return Ended(done.returncode, done.stdout, done.stderr)


def can_mount() -> bool:
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0


mounting = pytest.mark.skipif(not can_mount(), reason="needs a namespace of mounts, so root")


@mounting
def test_disk_without_room_for_the_next_starter(shop: Shop) -> None:
    (shop.folder / "small").mkdir()
    shop.configure(mirror={"path": "small/mirror.db"})
    ended = in_a_namespace(shop, "mount -t tmpfs -o size=8m none small", "doctor", expect=5)
    assert "wrong    disk           8 MiB are free" in ended.out
    assert ended.out.count("wrong ") == 1


@mounting
def test_network_file_system_is_found_and_refused_by_what_writes(filled: Shop) -> None:
    before = filled.contents()
    mounts = f"1 0 0:1 / / rw - ext4 /dev/root rw\n2 1 0:2 / {filled.folder} rw shared:1 - nfs4 server:/export rw\n"
    (filled.folder / "mounts").write_text(mounts, encoding="utf-8")
    # What the system says of its mounts, in the form of proc(5): no real network file system is at hand.
    lie = "mount --bind mounts /proc/$$/mountinfo"

    ended = in_a_namespace(filled, lie, "doctor", expect=5)
    refused = [in_a_namespace(filled, lie, *command, expect=2) for command in (["deltas"], ["quarantine", "retry"])]

    assert "wrong    file system    " in ended.out
    assert all("lies on a network file system (nfs4)" in each.err for each in refused)
    assert filled.contents() == before
    in_a_namespace(filled, lie, "status", expect=0)


def test_run_that_hangs(filled: Shop) -> None:
    with hold(filled.mirror):
        with closing(sqlite3.connect(filled.mirror)) as mirror, mirror:
            mirror.execute("update _runs set ended_at = null, outcome = null, started_at = '2026-01-01T00:00:00Z'")
        findings = examined(filled)
    assert_only(findings, "lock", f"process {os.getpid()} has been at it for")
    assert f"kill {os.getpid()}" in next(finding["remedy"] for finding in findings if finding["check"] == "lock")


def caught_up(*ago: str) -> str:
    return f"caught_up_at = strftime('%Y-%m-%dT%H:%M:%SZ', 'now', {', '.join(map(repr, ago))})"


@pytest.mark.parametrize(
    ("column", "said", "remedy"),
    [
        (caught_up("-30 hours"), "was caught up 1 d ago", "look whether cron"),
        (caught_up("-5 days", "-1 hours"), "reaches back 7 days", "within 1 d, or a gap"),
        (caught_up("-9 days"), "was caught up 9 d ago", "at once; it leaves a gap"),
        ("state = 'gap', gap_from = 'A', gap_to = 'B'", "gap: what changed from A to B is missing", "sync full-starter"),
        ("caught_up_at = null, state = 'new'", "was never drained to its end", "sync deltas"),
    ],
    ids=["stale", "a gap ahead", "a gap at hand", "a gap", "new"],
)
def test_stream_that_is_not_up_to_date(filled: Shop, column: str, said: str, remedy: str) -> None:
    with closing(sqlite3.connect(filled.mirror)) as mirror, mirror:
        mirror.execute(f"update _streams set {column} where location_id = 9 and entity = 'Sale'")
    findings = examined(filled)
    assert_only(findings, "streams", "tenant 11, location 9, Sale: ", said)
    assert remedy in next(finding["remedy"] for finding in findings if finding["remedy"])


def test_quarantine_that_is_not_empty(filled: Shop, world: World) -> None:
    world.edit(world.ids("Client")[0], _Odd="a column that only the mirror could have")
    filled.fill(expect="unfinished")
    assert_only(examined(filled), "quarantine", "could not be applied")


def test_day_that_has_not_calls_enough_for_all_runs(filled: Shop) -> None:
    filled.configure(calls_per_day=1000)
    assert "1000 calls are enough for 125 runs a day, one every 12 min" in found(examined(filled, expect=0), "budget")
    with closing(sqlite3.connect(filled.mirror)) as mirror, mirror:
        mirror.execute(
            "insert into _runs (command, started_at, ended_at, outcome) with recursive n(i) as "
            "(values (1) union all select i + 1 from n where i < 150) "
            "select 'deltas', strftime('%Y-%m-%dT%H:%M:%SZ', 'now', '-' || (i * 10) || ' minutes'), '', 'done' from n"
        )
    findings = examined(filled)
    assert_only(findings, "budget", "4 entities x 2 calls x 144 runs a day are 1152 of 1000 calls of a location")
    assert "run every 12 min at most" in next(finding["remedy"] for finding in findings if finding["remedy"])


def test_account_of_many_locations_is_looked_at_in_a_few_calls_and_told_in_a_few_lines(tmp_path: Path) -> None:
    with Service(World(seed=7, tenants={11: tuple(range(1, 13))}, clock=Clock.running())) as service:
        shop = Shop(tmp_path, service)
        shop.configure(calls_per_minute=60)
        before = examined(shop, expect=0)
        calls = shop.public_calls()
        shop.configure()
        shop.fill()
        shop.configure(calls_per_minute=10)
        afterwards = examined(shop, expect=0)
        with closing(sqlite3.connect(shop.mirror)) as mirror, mirror:
            mirror.execute(
                "insert into _runs (command, started_at, ended_at, outcome) with recursive n(i) as "
                "(values (1) union all select i + 1 from n where i < 200) "
                "select 'deltas', strftime('%Y-%m-%dT%H:%M:%SZ', 'now', '-' || (i * 9) || ' minutes'), '', 'done' from n"
            )
        too_often = examined(shop)

    assert calls == 40
    assert "8 streams more were not asked, as 40 calls are enough for a look" in found(before, "entities")
    assert "ok: 10 locations: Client, Employee, Appointment, Sale answer" in found(before, "entities")
    assert "ok: 12 locations: Client, Employee, Appointment, Sale answer" in found(afterwards, "entities")
    assert "48 streams x 2 calls at 10 a minute: a run takes 10 min or longer" in found(afterwards, "budget")
    assert_only(too_often, "budget", "a run takes 10 min or longer, and 160 are made a day")


def test_metrics_that_could_not_be_written_or_would_not_be_read(shop: Shop) -> None:
    shop.configure(ops={"metrics_file": "nowhere/delta.prom"})
    assert_only(examined(shop), "metrics file", "there is no folder")
    shop.configure(ops={"metrics_file": "delta.txt"})
    assert_only(examined(shop), "metrics file", "does not end in .prom")
    shop.configure(ops={"metrics_file": "delta.prom"})
    assert "can be written" in found(examined(shop, expect=0), "metrics file")
    assert not (shop.folder / "delta.prom").exists()


def test_pause_that_the_service_asked_for_is_kept(filled: Shop) -> None:
    with closing(sqlite3.connect(filled.mirror)) as mirror, mirror:
        mirror.execute("insert into _pauses values (0, 0, ?, 'the service named this time', 0)", (4_000_000_000.0,))
    filled.service.calls.clear()
    assert "told us to stop calling until" in found(examined(filled), "service")
    assert filled.service.calls == []


def test_day_that_is_spent_is_not_overspent(filled: Shop) -> None:
    with closing(sqlite3.connect(filled.mirror)) as mirror, mirror:
        mirror.execute("update _streams set last_success_at = '2026-01-01T00:00:00Z'")
        mirror.execute("update _calls set calls = 1000")
    filled.configure(calls_per_day=1000)
    calls = filled.public_calls()
    assert "the 1000 calls of this day ([dds] calls_per_day) are spent" in found(examined(filled), "entities")
    assert filled.public_calls() == calls


def test_mirror_file_keeps_its_mode(filled: Shop) -> None:
    filled.mirror.chmod(0o640)
    examined(filled)
    assert stat.S_IMODE(filled.mirror.stat().st_mode) == 0o640
