"""The command line: what is refused, what is said and what never is, and the exit codes."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest
from installed import SYNC, Ended, Shop

from delta_mirror import __version__
from delta_mirror.mirror.file import SCHEMA_VERSION
from delta_mirror.simulator import CLIENT_ID, CLIENT_SECRET, DAY, MINUTE, World
from delta_mirror.simulator.faults import error_in_200, html, status
from oracle import assert_exact

# --- what is refused -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "sync(1)"),
        (["nonsense"], "nonsense"),
        (["deltas", "--entity", "Nonsense"], "--entity"),
        (["deltas", "--tenant", "eleven"], "--tenant"),
        (["deltas", "--nonsense"], "--nonsense"),
        (["deltas", "Client"], "Client"),
        (["changes", "Nonsense"], "Nonsense"),
        (["changes", "--limit", "-1"], "--limit"),
        (["--config", "elsewhere.toml", "deltas"], "elsewhere.toml"),
        (["--log-format", "xml", "status"], "--log-format"),
    ],
    ids=" ".join,
)
def test_a_command_line_that_makes_no_sense_is_exit_2_and_says_what(shop: Shop, arguments: list[str], said: str) -> None:
    ended = shop.sync(*arguments, expect=2)
    assert said in ended.err
    assert ended.out == ""
    assert not shop.mirror.exists()
    assert not shop.service.calls


@pytest.mark.parametrize("command", ["deltas", "status", "changes"])
def test_without_a_configuration_every_command_is_exit_2_and_says_where_was_looked(shop: Shop, command: str) -> None:
    shop.configuration.unlink()
    ended = shop.sync(command, expect=2)
    assert "DELTA_MIRROR_CONFIG" in ended.err
    assert str(shop.configuration) in ended.err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("nonsense = 1", "nonsense"),
        ("items_per_page = 201", "items_per_page"),
        ('overlap = "25h"', "overlap"),
        ('entities = ["Nonsense"]', "entities"),
        ('marketplace_url = "http://example.com"', "marketplace_url"),
        ("= 1", "line"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_exit_2_and_named(shop: Shop, line: str, said: str) -> None:
    kept = [old for old in shop.configuration.read_text().splitlines() if old.split(" ")[0] != line.split(" ")[0]]
    shop.configuration.write_text("\n".join([*kept, line]))
    ended = shop.sync("deltas", expect=2)
    assert said in ended.err
    assert len(ended.err.splitlines()) == 1
    assert not shop.mirror.exists()


def test_the_configuration_is_found_by_option_by_variable_and_in_the_folder(shop: Shop, world: World) -> None:
    other = shop.folder / "other.toml"
    other.write_text(shop.configuration.read_text().replace("mirror.db", "other.db"))
    other.chmod(0o600)
    named = {"DELTA_MIRROR_CONFIG": str(other)}
    environments: list[tuple[tuple[str, ...], dict[str, str], str]] = [
        ((), {}, "mirror.db"),
        ((), named, "other.db"),
        (("--config", str(other)), {}, "other.db"),
        (("--config", str(shop.configuration)), named, "mirror.db"),
    ]
    for arguments, environment, mirror in environments:
        with shop.running(*arguments, "status", "--json", **environment) as process:
            assert shop.end(process).json()["mirror"] == str(shop.folder / mirror)


def test_no_stream_selected_is_exit_3(shop: Shop, world: World) -> None:
    world.populate(clients=3, over=DAY)
    ended = shop.sync("deltas", "--tenant", "99", expect=3)
    assert "no stream is selected" in ended.err
    assert not shop.service.pages()


@pytest.mark.parametrize(
    ("arguments", "streams"),
    [
        (["--entity", "Client", "--entity", "Sale", "--location", "9"], {("Client", 9), ("Sale", 9)}),
        (["--location", "9", "--location", "10", "--entity", "Client", "--tenant", "11"], {("Client", 9), ("Client", 10)}),
    ],
)
def test_options_select_streams_and_the_others_are_not_asked(
    shop: Shop, world: World, arguments: list[str], streams: set[tuple[str, int]]
) -> None:
    world.populate(clients=3, sales=3, over=DAY)
    shop.sync("deltas", *arguments)
    assert {(call.entity, call.location) for call in shop.service.pages()} == streams


# --- whose mirror it is --------------------------------------------------------------------------------------------------------


@pytest.fixture
def filled(shop: Shop, world: World) -> Shop:
    """A mirror that something is in."""
    world.populate(clients=5, over=DAY)
    shop.fill()
    return shop


def assert_refused(shop: Shop, said: str) -> None:
    before, calls = shop.mirror.read_bytes(), len(shop.service.calls)
    ended = shop.sync("deltas", expect=2)
    assert said in ended.err
    shop.sync("deltas", "--dry-run", expect=2)
    assert shop.mirror.read_bytes() == before
    assert len(shop.service.calls) == calls


def test_a_mirror_filled_from_another_account_is_refused_and_untouched(filled: Shop) -> None:
    filled.configure(client_id="somebody-else")
    assert_refused(filled, f"was filled from {filled.service.url.removeprefix('http://')} as {CLIENT_ID}")


def test_a_filled_mirror_does_not_change_its_mind_about_deletes(filled: Shop) -> None:
    filled.configure(mirror={"deletes": "mark"})
    assert_refused(filled, 'was filled with deletes = "remove"')


def test_a_mirror_of_a_newer_version_is_refused_and_untouched(filled: Shop) -> None:
    with closing(sqlite3.connect(filled.mirror)) as mirror:
        mirror.execute("pragma user_version = 99")
    assert_refused(filled, f"newer delta-mirror ({__version__}, schema 99; this is {__version__}, schema {SCHEMA_VERSION})")
    for command in ("status", "changes"):
        assert "newer delta-mirror" in filled.sync(command, expect=2).err


@pytest.mark.parametrize("what", ["text", "another program's database", "a folder"])
def test_a_file_that_is_no_mirror_is_refused_and_untouched(shop: Shop, what: str) -> None:
    if what == "text":
        shop.mirror.write_text("not a database\n" * 100)
    elif what == "a folder":
        shop.mirror.mkdir()
    else:
        with closing(sqlite3.connect(shop.mirror)) as other:
            other.execute("create table Client (id)")
    before = shop.mirror.read_bytes() if shop.mirror.is_file() else None
    shop.sync("deltas", expect=2)
    assert (shop.mirror.read_bytes() if shop.mirror.is_file() else None) == before
    assert not shop.service.calls


# --- what is said --------------------------------------------------------------------------------------------------------------


def test_quiet_says_nothing_at_all_on_success_and_only_trouble_otherwise(shop: Shop, world: World) -> None:
    world.populate(clients=5, over=DAY)
    assert shop.sync("--quiet", "deltas") == (0, "", "")
    assert shop.sync("--quiet", "deltas") == (0, "", "")
    shop.service.faults.append(status(500, entity="Client", location=9))
    ended = shop.sync("--quiet", "deltas", expect=3)
    assert ended.out == ""
    [line] = ended.err.splitlines()
    assert line.startswith("error: page 0 of Client of tenant 11, location 9: ")


def test_results_go_to_standard_output_and_everything_else_to_standard_error(shop: Shop, world: World) -> None:
    world.populate(clients=5, over=DAY)
    ended = shop.sync("deltas")
    assert "table Client added" in ended.err
    assert "table Client added" not in ended.out
    assert "run 1: 8 streams" in ended.out


def test_the_json_of_a_run_is_its_row_with_its_streams(shop: Shop, world: World) -> None:
    world.populate(clients=20, employees=4, appointments=9, sales=9, over=DAY)
    for _ in range(2):
        told = shop.sync("deltas", "--json").json()
        columns = [row[1] for row in shop.rows("pragma table_info(_runs)")]
        [row] = shop.rows("select * from _runs where id = ?", told["id"])
        assert {key: told[key] for key in columns} == dict(zip(columns, row, strict=True))
        assert told["calls"] == shop.rows("select calls from _runs order by id desc")[0][0]
        assert len(told["streams"]) == 8
        for key in ("inserted", "replaced", "deleted", "revived", "unchanged", "superseded", "quarantined", "pages"):
            assert told[key] == sum(each[key] for each in told["streams"])
        assert all(each["state"] == "following" and each["error"] is None for each in told["streams"])
        for record in world.ids("Client"):
            world.edit(record, FirstName="x")
        world.advance(MINUTE)
    assert sum(call.rows is not None for call in shop.service.pages()) == sum(
        pages for (pages,) in shop.rows("select pages from _runs")
    )


def test_json_goes_out_even_where_a_stream_fails(shop: Shop, world: World) -> None:
    world.populate(clients=5, sales=5, over=DAY)
    shop.service.faults.append(status(403, entity="Sale", location=9))
    told = shop.sync("deltas", "--json", expect=3).json()
    assert told["outcome"] == "unfinished"
    [failed] = [each for each in told["streams"] if each["error"]]
    assert (failed["entity"], failed["location_id"], failed["state"]) == ("Sale", 9, "failing")


def test_messages_as_json_are_one_object_a_line(shop: Shop, world: World) -> None:
    world.populate(clients=5, over=DAY)
    shop.service.faults.append(status(403, entity="Sale", location=9))
    ended = shop.sync("--log-format", "json", "--verbose", "deltas", expect=3)
    messages = [json.loads(line) for line in ended.err.splitlines()]
    assert all(set(message) == {"at", "level", "message"} for message in messages)
    assert [message["level"] for message in messages].count("error") == 1


def test_verbose_tells_of_every_call(shop: Shop, world: World) -> None:
    world.populate(clients=5, over=DAY)
    ended = shop.sync("--verbose", "deltas")
    for call in shop.service.pages():
        assert str(call.request_id) in ended.err
    assert ended.err.count("/changes -> ") == len(shop.service.pages())


def test_the_same_program_is_installed_under_both_names(shop: Shop) -> None:
    assert SYNC.with_name("delta-mirror").exists()
    assert shop.sync("--version").out.startswith("delta-mirror ")
    assert "deltas" in shop.sync("--help").out


def test_nothing_looks_for_cycles_on_the_way_out() -> None:
    watch = "import atexit, gc, sys; from delta_mirror.cli.start import main; sys.argv = ['sync', *sys.argv[1:]]"
    told = "atexit.register(lambda: print(len(gc.get_objects()), gc.get_freeze_count())); main()"
    for arguments, code in ((["--version"], 0), (["nonsense"], 2)):
        ended = subprocess.run([sys.executable, "-c", f"{watch}; {told}", *arguments], capture_output=True, text=True)
        assert ended.returncode == code
        left, frozen = map(int, ended.stdout.split()[-2:])
        assert left < 1000 < frozen


# --- what is never said --------------------------------------------------------------------------------------------------------

MARKS = ("Zebulonia", "zebulonia@example.com", "5550177", "zebu-external")


def outputs(shop: Shop) -> Iterator[Ended]:
    """Run everything that can go wrong, as talkative as it gets."""
    world = shop.service.world
    yield shop.sync("--verbose", "deltas")
    bad = world.create("Client", FirstName="Zebulonia", EmailAddress="zebulonia@example.com", _Odd="zebu-external")
    world.add_phone(bad, "5550177")
    world.advance(MINUTE)
    echo = json.dumps(
        {"ReferenceId": "0f0f", "Error": {"ErrorCode": "ValidationFailed", "Message": f"Zebulonia {CLIENT_SECRET}"}}
    )
    for fault in (
        None,
        status(500, body=echo.encode(), endpoint="changes", times=None),
        status(400, body=echo.encode(), endpoint="changes", times=None),
        status(200, body=echo.encode(), endpoint="changes", times=None),
        status(200, body=b'{"data": [{"Client_T": {"EntityId": "Zebulonia", "FirstName": "Zebulonia"', endpoint="changes"),
        status(403, body=echo.encode(), endpoint="tenants", times=None),
        status(401, body=echo.encode(), endpoint="token", times=None),
        html(200, endpoint="token"),
        error_in_200(endpoint="changes", entity="Client"),
    ):
        shop.service.faults[:] = [] if fault is None else [fault]
        shop.configure(entities=["Client"], public_api_url=shop.service.url if len(shop.service.calls) % 2 else "")
        yield shop.sync("--verbose", "deltas", expect=None)
    shop.service.faults.clear()
    yield shop.sync("status")
    yield shop.sync("status", "--json")


def test_no_secret_no_token_and_no_value_of_a_record_is_ever_said(shop: Shop, world: World) -> None:
    known = world.create("Client", FirstName="Zebulonia", EmailAddress="zebulonia@example.com", ExternalId="zebu-external")
    world.add_phone(known, "5550177")
    said = [ended.out + ended.err for ended in outputs(shop)]
    assert any("quarantine" in each for each in said)
    said += [json.dumps(shop.rows(f"select * from {table}")) for table in ("_runs", "_streams", "_meta", "_calls", "_pauses")]
    said.append(json.dumps(shop.rows("select source, reason from _quarantine")))
    tokens = {call.headers["authorization"].split(" ")[1] for call in shop.service.calls if "authorization" in call.headers}
    assert len(tokens) > 5
    for each in said:
        for never in (CLIENT_SECRET, *tokens, *MARKS):
            assert never not in each
    # The secret is on no line of the mirror at all.
    assert CLIENT_SECRET.encode() not in shop.mirror.read_bytes()


def test_a_configuration_with_a_literal_secret_that_others_can_read_is_warned_of(shop: Shop, world: World) -> None:
    world.populate(clients=3, over=DAY)
    shop.configuration.chmod(0o644)
    ended = shop.sync("deltas")
    assert "warning: " in ended.err
    assert "chmod 600" in ended.err
    assert CLIENT_SECRET not in ended.err
    assert_exact(shop.mirror, world)


@pytest.mark.parametrize(
    ("since", "word"),
    [
        ("2024-01-01T00:00:00Z", "warning: --since lies further back than the feed's seven days"),
        ("2099-01-01T00:00:00Z", "warning: --since lies ahead of the service's clock"),
    ],
)
def test_since_that_the_feed_cannot_follow_is_doubted(shop: Shop, since: str, word: str) -> None:
    ended = shop.sync("deltas", "--since", since)
    assert [line for line in ended.err.splitlines() if line.startswith(word)]


def test_name_from_outside_steers_no_terminal_and_forges_no_line(shop: Shop) -> None:
    world = shop.service.world
    one = world.create("Client")
    shop.sync("deltas")
    world.advance(MINUTE)
    world.alter(one, lambda body: body.update({"evil\x1b[2J\nerror: fake": "x"}))
    ended = shop.sync("deltas")
    assert r"column evil\x1b[2J\nerror: fake added" in ended.err
    assert "\x1b" not in ended.err
    assert not [line for line in ended.err.splitlines() if line.startswith("error: fake")]
