"""`sync status` as people read it, and as a check: what is shown, in what form, and what is said to do."""

import fcntl
import os
import pty
import re
import signal
import sqlite3
import struct
import subprocess
import termios
import time
from contextlib import closing
from unicodedata import east_asian_width

import pytest
from installed import PATIENCE, SYNC, Held, Shop

from delta_mirror.config import FEED_REACH
from delta_mirror.core.model import Stream
from delta_mirror.mirror.file import own_time
from delta_mirror.mirror.write import Mirror
from delta_mirror.simulator import DAY
from delta_mirror.simulator.faults import slow, status

ESCAPE = re.compile(r"\x1b\[([0-9;]*)m")


@pytest.fixture
def fresh(shop: Shop) -> Shop:
    """A mirror of two locations with two streams each, caught up a minute ago."""
    shop.configure(locations=[(11, 9), (11, 10)], entities=["Client", "Sale"], calls_per_day=100)
    with Mirror.open(shop.mirror) as mirror:
        mirror.end_run(mirror.begin_run("deltas"), "done", None, 8, 8)
        with mirror.transaction() as tx:
            for location in (9, 10):
                for entity in ("Client", "Sale"):
                    tx.note(
                        Stream(11, location, entity),
                        state="following",
                        baseline="2026-05-01",
                        watermark="2026-05-04T12:00:00.1234567-04:00",
                        caught_up_at=own_time(time.time() - 70),
                        last_success_at=own_time(time.time() - 65),
                    )
    return shop


def alter(shop: Shop, sql: str, *values: str | float) -> None:
    with closing(sqlite3.connect(shop.mirror)) as mirror, mirror:
        mirror.execute(sql, values)


def caught_up(shop: Shop, seconds_ago: float, where: str = "true") -> None:
    alter(shop, f"update _streams set caught_up_at = ? where {where}", own_time(time.time() - seconds_ago))


def to_look_at(shop: Shop, *arguments: str) -> list[str]:
    """Return what is wrong, as it is told through a pipe."""
    _, _, told = shop.sync("status", *arguments).out.partition("To look at:\n")
    return [line.removeprefix("- ") for line in told.splitlines()]


def environment_of(shop: Shop) -> dict[str, str]:
    return {"PATH": os.defpath, "HOME": str(shop.folder / "home"), "LC_ALL": "C.UTF-8", "TERM": "xterm-256color"}


def on_a_terminal(shop: Shop, width: int, *arguments: str, **environment: str) -> str:
    """Return what a terminal of that width gets to show."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    environment = {**environment_of(shop), **environment}
    process = subprocess.Popen([SYNC, *arguments], cwd=shop.folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = bytearray()
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:
        pass  # what Linux answers where the other side of a terminal is closed
    finally:
        os.close(ours)
    assert process.wait(PATIENCE) == 0
    return shown.decode().replace("\r\n", "\n")


# The table


def test_through_a_pipe_every_column_is_there_in_full_and_in_no_colour(fresh: Shop) -> None:
    error = f"page 0 of Sale: {'a long story ' * 30}"
    alter(fresh, "update _streams set last_error = ?, state = 'failing' where entity = 'Sale' and location_id = 9", error)
    alter(fresh, "update _streams set records = 1234567, late = 3, superseded = 12 where entity = 'Client' and location_id = 10")
    environment = {**environment_of(fresh), "FORCE_COLOR": "1", "COLUMNS": "40"}
    lines = subprocess.check_output([SYNC, "status"], cwd=fresh.folder, env=environment, text=True).splitlines()
    assert lines[0] == f"mirror {fresh.mirror}"
    head, *rows = lines[2:7]
    assert re.split(r"  +", head) == [
        "location", "entity", "state", "baseline", "lag", "watermark", "records", "last success",
        "late", "superseded", "last error",
    ]  # fmt: skip
    assert [row.split()[:4] for row in rows] == [
        ["11/9", "Client", "following", "2026-05-01"],
        ["11/9", "Sale", "failing", "2026-05-01"],
        ["11/10", "Client", "following", "2026-05-01"],
        ["11/10", "Sale", "following", "2026-05-01"],
    ]
    assert error.strip() in rows[1]
    assert re.search(r"1 min +\d+ d ago +1,234,567 +1 min ago +3 +12$", rows[2])
    assert not ESCAPE.search("\n".join(lines))


def test_times_are_short_and_in_full_where_that_is_asked_for(fresh: Shop) -> None:
    assert "-04:00" not in fresh.sync("status").out
    for arguments in (["status", "-v"], ["--verbose", "status"]):
        assert "2026-05-04T12:00:00.1234567-04:00" in fresh.sync(*arguments).out
    assert fresh.sync("status", "--json").json()["streams"][0]["watermark"] == "2026-05-04T12:00:00.1234567-04:00"


@pytest.mark.parametrize("width", [72, 80, 160])
def test_on_a_terminal_no_line_is_wider_than_it_and_nothing_is_cut(fresh: Shop, width: int) -> None:
    alter(fresh, "update _streams set last_error = 'page 0 of Sale: ' || ?, state = 'failing'", "some more of it " * 12)
    alter(
        fresh, "update _streams set gap_from = '2026-05-01T00:00:00Z', gap_to = '2026-05-02T00:00:00Z', state = 'gap', late = 1"
    )
    shown = ESCAPE.sub("", on_a_terminal(fresh, width, "status"))
    table = shown.split("\n\n")[1]
    lines = shown.splitlines()[1:]  # but for the mirror's own path
    assert max(sum(2 if east_asian_width(sign) in "WF" else 1 for sign in line) for line in lines) <= width
    assert "…" not in shown
    assert ("baseline" in table) == (width == 160)
    for told in ("Client", "Sale", "gap", "1 min ago", "11/10"):
        assert told in table
    assert ("1 late, 0 superseded" in " ".join(shown.split())) == (width < 160)


@pytest.mark.parametrize(
    ("environment", "has_colours", "has_lines"),
    [({}, True, True), ({"NO_COLOR": "1"}, False, True), ({"TERM": "dumb"}, False, False)],
    ids=["colours", "NO_COLOR", "TERM=dumb"],
)
def test_colours_are_for_terminals_that_want_them(
    fresh: Shop, environment: dict[str, str], has_colours: bool, has_lines: bool
) -> None:
    shown = on_a_terminal(fresh, 100, "status", **environment)
    assert "following" in shown
    colours = {code for found in ESCAPE.findall(shown) for code in found.split(";") if re.fullmatch(r"3[0-7]", code)}
    assert bool(colours) == has_colours
    assert ("───" in shown) == has_lines


def test_options_select_what_is_shown_and_counted(fresh: Shop) -> None:
    told = fresh.sync("status", "--location", "10", "--entity", "Sale", "--json").json()
    assert [(each["location_id"], each["entity"]) for each in told["streams"]] == [(10, "Sale")]
    assert "11/9" not in fresh.sync("status", "--location", "10").out
    assert "no stream is selected" in fresh.sync("status", "--location", "99", expect=3).err


def test_quiet_status_says_nothing(fresh: Shop) -> None:
    ended = fresh.sync("--quiet", "status")
    assert (ended.out, ended.err) == ("", "")


def test_records_of_a_busy_world_are_those_that_are_there(shop: Shop) -> None:
    world = shop.service.world
    world.populate(clients=40, employees=5, appointments=9, sales=9, over=DAY)
    shop.sync("deltas")
    world.busy_hour(1, 60)
    world.delete(world.ids("Client")[0])
    shop.sync("deltas")
    for each in shop.sync("status", "--json").json()["streams"]:
        entity, location = each["entity"], each["location_id"]
        assert each["records"] == shop.value(f"select count(*) from {entity} where _location_id = ?", location), (
            entity,
            location,
        )


# What holds for the whole


def test_calls_of_the_day_are_told_by_location_and_when_they_come_anew(fresh: Shop) -> None:
    day = own_time(time.time())[:10]
    alter(
        fresh, "insert into _calls values (11, 9, ?, 55, '{}'), (11, 10, ?, 81, '{}'), (11, 10, '2026-01-01', 99, '{}')", day, day
    )
    ended = fresh.sync("status")
    assert re.search(
        r"^calls today, of 100 a location, anew in \d+ (h|min|s) at 00:00 UTC: 11/10 81 \(81 %\), 11/9 55 \(55 %\)$",
        ended.out,
        re.M,
    )
    assert [line for line in to_look_at(fresh) if "calls of this day" in line] == [
        "tenant 11, location 10 has spent 81 of 100 calls of this day. Once they are spent, its streams wait for 00:00 UTC: call "
        "less often, or raise [dds] calls_per_day"
    ]


def test_pauses_in_force_are_told_and_others_not(fresh: Shop) -> None:
    now = time.time()
    alter(fresh, "insert into _pauses values (11, 9, ?, 'the service named this time', ?)", now + 650, now - 5)
    alter(fresh, "insert into _pauses values (11, 10, ?, 'over', ?)", now - 1, now - 50)
    paused = [line for line in fresh.sync("status").out.splitlines() if line.startswith("paused")]
    assert paused == [f"paused: tenant 11, location 9 until {own_time(now + 650)} (in 10 min): the service named this time"]


# What is wrong, and what to do


def test_nothing_is_to_be_looked_at_where_all_is_well(fresh: Shop) -> None:
    assert to_look_at(fresh) == []


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        (
            "update _streams set state = 'failing', last_error = 'It broke. Mend it.' where entity = 'Sale' and location_id = 9",
            r"tenant 11, location 9, Sale: last error: It broke\. Mend it\. To try it alone: "
            r"`sync deltas --tenant 11 --location 9 --entity Sale`",
        ),
        (
            "update _streams set state = 'gap', gap_from = 'A', gap_to = 'B' where entity = 'Sale' and location_id = 9",
            r"tenant 11, location 9, Sale: gap from A to B: run `sync full-starter` with a newer Starter Export to close it.*",
        ),
        (
            "delete from _streams where entity = 'Sale'",
            r"never drained to the end: tenant 11, location 9, Sale; tenant 11, location 10, Sale\. `sync deltas` fills them",
        ),
        (
            "update _streams set baseline = null where entity = 'Sale'",
            r"2 of 4 streams are without a baseline: they hold only what .* `sync full-starter` loads the rest.*",
        ),
        (
            "insert into _quarantine (id, tenant_id, location_id, entity) values ('x', 11, 9, 'Sale'), ('y', 11, 9, 'Sale')",
            r"2 in quarantine, which could not be applied \(tenant 11, location 9, Sale: 2\)\. `sync quarantine list` says why.*",
        ),
        (
            "update _runs set outcome = 'stopped'",
            r"run 1 \(deltas\) was stopped (just now|.* ago)\. The next run goes on from there: `sync deltas`",
        ),
        (
            "insert into _tables values ('Client', 'ClientPhone', null), ('Client', 'ClientGiftCard', null), "
            "('Client', 'Pets', null), ('Client', 'Pets', 11), ('Employee', 'EmployeeCat', null)",
            r"tenant 11, Client: ClientGiftCard came by starter alone; deltas do not keep them up to date",
        ),
    ],
    ids=["failing", "gap", "never drained", "no baseline", "quarantine", "stopped", "starter alone"],
)
def test_what_is_wrong_is_said_with_what_to_do(fresh: Shop, sql: str, told: str) -> None:
    alter(fresh, sql)
    [line] = to_look_at(fresh)
    assert re.fullmatch(told, line), line


def test_stream_that_was_caught_up_long_ago_is_told_before_there_is_a_gap(fresh: Shop) -> None:
    caught_up(fresh, 23 * 3600)
    assert to_look_at(fresh) == []
    caught_up(fresh, 2 * 86_400 + 60, "location_id = 9")
    assert to_look_at(fresh) == [
        "tenant 11, location 9, Client, Sale: caught up 2 d ago; the feed reaches back 7 days: run `sync deltas` within 4 d, "
        "or a gap is left"
    ]
    caught_up(fresh, FEED_REACH + 60)
    [line] = to_look_at(fresh)
    assert line.endswith("the feed reaches back 7 days only: the next `sync deltas` leaves a gap")


def test_streams_that_are_no_longer_configured_count_for_nothing(fresh: Shop) -> None:
    fresh.configure(locations=[(11, 9)], entities=["Client"])
    caught_up(fresh, 5 * 86_400, "location_id = 10 or entity = 'Sale'")
    assert to_look_at(fresh) == [
        "no longer configured, and counted for nothing: tenant 11, location 9, Sale; tenant 11, location 10, Client, Sale. "
        "They stay as they were"
    ]
    fresh.sync("status", "--max-age", "1h")


def test_run_that_was_killed_is_told_and_one_that_goes_on_is_not(shop: Shop) -> None:
    shop.configure(entities=["Client"])
    shop.service.world.populate(clients=5, over=DAY)
    held = Held()
    shop.service.faults.append(slow(held, entity="Client", location=9))
    with shop.held_run(held, "deltas") as process:
        assert "has not ended" in shop.sync("status").out
        assert not any("killed" in line for line in to_look_at(shop))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert any(re.match(r"run 1 \(deltas\) has not ended, and its process \d+ is", line) for line in to_look_at(shop))


def test_of_very_many_troubles_of_a_kind_only_some_are_told_unless_all_are_asked_for(shop: Shop) -> None:
    shop.configure(locations=[(11, location) for location in range(1, 31)], entities=["Client"])
    with Mirror.open(shop.mirror) as mirror, mirror.transaction() as tx:
        for location in range(1, 31):
            tx.note(Stream(11, location, "Client"), state="failing", baseline="2026-05-01", last_error=f"error {location}")
    assert sum("last error: error" in line for line in to_look_at(shop)) == 10
    assert any(line.startswith("20 more like that") for line in to_look_at(shop))
    assert sum("last error: error" in line for line in to_look_at(shop, "-v")) == 30


def test_value_of_a_failing_service_is_told_as_the_drain_has_told_it(shop: Shop) -> None:
    shop.configure(locations=[(11, 9)], entities=["Client"])
    shop.service.faults.append(status(500, entity="Client", location=9, times=None))
    error = shop.sync("deltas", expect=3).err.splitlines()[-1].removeprefix("error: ").rstrip(".")
    assert any(error in line for line in to_look_at(shop))


# The check


def test_max_age_names_what_exceeds_it_and_ends_with_5(fresh: Shop) -> None:
    fresh.sync("status", "--max-age", "2m")
    caught_up(fresh, 7300, "location_id = 10 and entity = 'Sale'")
    ended = fresh.sync("--quiet", "status", "--max-age", "2h", expect=5)
    told = "caught up longer ago than 2 h (--max-age): tenant 11, location 10: Sale (2 h ago); run `sync deltas`"
    assert (ended.out, ended.err) == ("", f"error: {told}\n")
    fresh.sync("status", "--max-age", "3h")
    fresh.sync("status", "--max-age", "2h", "--location", "9")
    assert fresh.sync("status", "--max-age", "2h", "--json", expect=5).json()["streams"]


def test_max_age_is_exceeded_by_what_was_never_drained(fresh: Shop, shop: Shop) -> None:
    alter(fresh, "delete from _streams where location_id = 9 and entity = 'Client'")
    assert "tenant 11, location 9: Client (never)" in fresh.sync("status", "--max-age", "7d", expect=5).err


@pytest.mark.parametrize("locations", [[(11, 9)], []], ids=["named", "all of the account"])
def test_max_age_is_exceeded_without_a_mirror_and_none_is_made(shop: Shop, locations: list[tuple[int, int]]) -> None:
    shop.configure(locations=locations)
    assert shop.sync("status", "--max-age", "7d", expect=5).err
    assert not shop.mirror.exists()


def test_max_age_is_no_number_without_a_unit(fresh: Shop) -> None:
    assert "no duration" in fresh.sync("status", "--max-age", "60", expect=2).err
