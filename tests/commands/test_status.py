"""`sync status` on a real mirror."""

import re

from installed import Held, Shop

from delta_mirror.simulator import DAY, MINUTE
from delta_mirror.simulator.faults import slow, status

STREAM_KEYS = {
    "tenant_id",
    "location_id",
    "entity",
    "state",
    "baseline",
    "watermark",
    "caught_up_at",
    "lag_seconds",
    "records",
    "verified_through",
    "last_success_at",
    "last_error",
}
RUN_KEYS = {
    "id", "command", "started_at", "ended_at", "outcome", "calls", "pages",
    "inserted", "replaced", "deleted", "revived", "unchanged", "superseded", "quarantined",
}  # fmt: skip


def test_without_a_mirror_the_configured_streams_are_new_and_no_file_is_made(shop: Shop) -> None:
    shop.configure(locations=[(11, 9)], entities=["Client", "Sale"])
    before = sorted(shop.folder.iterdir())
    told = shop.sync("status", "--json").json()
    assert [(each["entity"], each["state"], each["records"], each["lag_seconds"]) for each in told["streams"]] == [
        ("Client", "new", 0, None),
        ("Sale", "new", 0, None),
    ]
    assert (told["quarantine"], told["last_run"]) == (0, None)
    assert "not there yet" in shop.sync("status").out
    assert sorted(shop.folder.iterdir()) == before
    assert not shop.service.calls


def test_status_as_json_has_the_keys_that_programs_rely_on(shop: Shop) -> None:
    shop.service.world.populate(clients=9, sales=4, over=DAY)
    shop.fill()
    told = shop.sync("status", "--json").json()
    assert set(told) >= {"mirror", "streams", "quarantine", "last_run"}
    assert told["mirror"] == str(shop.mirror)
    assert len(told["streams"]) == 8
    for each in told["streams"]:
        assert set(each) >= STREAM_KEYS
        assert each["state"] == "following"
        assert each["baseline"] is None
        for key in ("caught_up_at", "last_success_at"):
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", each[key])
    held = {(each["location_id"], each["entity"]): each["records"] for each in told["streams"]}
    assert held[9, "Client"] == shop.value("select count(*) from Client where _location_id = 9")
    assert sum(number for (_, entity), number in held.items() if entity == "Sale") == 4
    assert set(told["last_run"]) >= RUN_KEYS
    assert told["last_run"]["inserted"] == sum(held.values())
    assert told["last_run"]["outcome"] == "done"


def test_lag_counts_from_the_moment_at_which_the_last_whole_drain_began(shop: Shop) -> None:
    world = shop.service.world
    world.populate(clients=9, over=DAY)
    shop.fill()
    world.advance(30 * MINUTE)
    shop.service.faults.append(status(500, entity="Client", location=9, times=None))
    shop.sync("deltas", expect=3)
    lags = {
        (each["location_id"], each["entity"]): each["lag_seconds"] for each in shop.sync("status", "--json").json()["streams"]
    }
    # The failed stream is half an hour behind the others, all of which are as fresh as one that changes.
    assert 1795 <= lags[9, "Client"] - lags[10, "Client"] <= 1805
    assert len({lag // 60 for place, lag in lags.items() if place != (9, "Client")}) <= 2


def test_status_tells_errors_gaps_quarantine_and_the_missing_baseline_to_people(shop: Shop) -> None:
    world = shop.service.world
    world.populate(clients=9, sales=2, over=DAY)
    world.create("Client", _Odd="x")
    shop.service.faults.append(status(403, entity="Sale", location=9, times=None))
    shop.sync("deltas", expect=3)
    world.advance(8 * DAY)
    shop.sync("deltas", expect=3)
    told = shop.sync("status").out
    assert "without a baseline" in told
    assert "Sale: gap" in told
    assert "last error: page 0 of Sale" in told
    assert re.search(r"gap from 2026-\S+Z to 2026-\S+Z: run `sync full-starter`", told)
    assert re.search(r"quarantine: 1\b", told)


def test_a_stream_that_is_no_longer_configured_is_shown_as_such(shop: Shop) -> None:
    shop.service.world.populate(clients=9, sales=4, over=DAY)
    shop.fill()
    shop.configure(locations=[(11, 9)], entities=["Client"])
    told = {(each["location_id"], each["entity"]): each["configured"] for each in shop.sync("status", "--json").json()["streams"]}
    assert [place for place, configured in told.items() if configured] == [(9, "Client")]
    assert len(told) == 8
    assert "no longer configured" in shop.sync("status").out


def test_status_and_changes_answer_while_a_run_holds_the_mirror(shop: Shop) -> None:
    shop.service.world.populate(clients=60, over=DAY)
    shop.configure(items_per_page=10)
    held = Held()
    shop.service.faults.append(slow(held, entity="Client", location=9, after=2))
    with shop.held_run(held, "deltas") as process:
        told = shop.sync("status", "--json").json()
        assert told["last_run"]["outcome"] is None
        assert shop.sync("changes", "--json", "Client").out.count("\n") >= 20
        held.set()
        shop.end(process)
