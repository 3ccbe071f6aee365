"""`sync changes` on a real mirror."""

import json
import subprocess
from collections.abc import Iterator

import pytest
from installed import PATIENCE, Shop

from delta_mirror.simulator import DAY, MINUTE, Service, World


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A mirror with three runs: clients come, one of them changes and a sale is made, the client is deleted."""
    world = World(seed=7)
    world.create("Client", FirstName="Ada", EmailAddress="ada@example.com", MiddleName=None, ClientPhone_T=None)
    world.create("Client", FirstName="Bo")
    with Service(world) as service:
        shop = Shop(tmp_path_factory.mktemp("told"), service)
        for step in range(3):
            world.advance(20 * MINUTE)
            if step == 1:
                world.edit(ada(shop), EmailAddress="moved@example.com", MiddleName="Q.")
                world.create("Sale", locations=(10,))
            if step == 2:
                world.delete(ada(shop))
            world.advance(MINUTE)
            shop.fill()
        yield shop


def ada(shop: Shop) -> str:
    return shop.service.world.ids("Client")[0]


def listed(shop: Shop, *arguments: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in shop.sync("changes", "--json", *arguments).out.splitlines()]


def test_changes_as_json_are_the_rows_of_the_log_with_fields_as_objects(told: Shop) -> None:
    columns = ["seq", "at", "run_id", "tenant_id", "location_id", "entity", "id", "op", "fields"]
    found = listed(told)
    assert [list(change) for change in found] == [columns] * 5
    logged = told.rows(f"select {', '.join(columns)} from _changes order by seq")
    assert [tuple(change.values())[:-1] for change in found] == [row[:-1] for row in logged]
    assert [change["op"] for change in listed(told, "--id", ada(told))] == ["insert", "replace", "delete"]
    [replace] = [change for change in found if change["op"] == "replace"]
    fields = replace["fields"]
    assert isinstance(fields, dict)
    assert fields["EmailAddress"] == ["ada@example.com", "moved@example.com"]
    assert fields["MiddleName"] == [None, "Q."]
    assert set(fields) == {"EmailAddress", "MiddleName", "DateUpdated", "EntityVersion"}
    assert [change["fields"] for change in found if change["op"] in ("insert", "delete")] == [None] * 4


def test_changes_are_one_line_each_field_by_field(told: Shop) -> None:
    lines = told.sync("changes", "--id", ada(told)).out.splitlines()
    assert len(lines) == 3
    assert "11/9 replace Client" in lines[1]
    assert 'EmailAddress: "ada@example.com" -> "moved@example.com"' in lines[1]
    assert "MiddleName: null -> " in lines[1]


@pytest.mark.parametrize(
    ("arguments", "ops"),
    [
        (["Sale"], ["insert"]),
        (["--entity", "Sale", "--entity", "Client"], ["insert", "insert", "replace", "insert", "delete"]),
        (["--location", "10"], ["insert"]),
        (["--tenant", "12"], []),
        (["--run", "2", "Client"], ["replace"]),
        (["--limit", "2"], ["insert", "insert"]),
        (["--limit", "0"], []),
        (["--since", "2000-01-01T00:00:00+02:00"], ["insert", "insert", "replace", "insert", "delete"]),
        (["--since", "2999-01-01T00:00:00Z"], []),
    ],
    ids=" ".join,
)
def test_options_select_changes(told: Shop, arguments: list[str], ops: list[str]) -> None:
    assert sorted(str(change["op"]) for change in listed(told, *arguments)) == sorted(ops)


def test_changes_of_a_record_are_found_by_its_id_in_any_case(told: Shop) -> None:
    assert listed(told, "--id", ada(told).upper()) == listed(told, "--id", ada(told))


def test_changes_without_a_mirror_are_refused(shop: Shop) -> None:
    ended = shop.sync("changes", expect=2)
    assert "there is no mirror" in ended.err
    assert not shop.mirror.exists()


@pytest.mark.parametrize("arguments", [["changes"], ["changes", "--json"]], ids=" ".join)
def test_a_closed_pipe_ends_silently(shop: Shop, arguments: list[str]) -> None:
    shop.service.world.populate(clients=2000, phones=0, over=DAY)
    shop.fill()
    with shop.running(*arguments) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        assert without_output(process) == (0, "")


def test_a_pipe_that_was_closed_before_the_first_line_ends_silently_too(told: Shop) -> None:
    for arguments in (["changes"], ["status", "--json"], ["deltas", "--json"], ["deltas"]):
        with told.running("--quiet", *arguments) as process:
            assert without_output(process) == (0, ""), arguments


def without_output(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Return exit code and errors of *process*, whose standard output nobody reads any more."""
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(timeout=PATIENCE)
    return process.returncode, err
