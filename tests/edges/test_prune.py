"""Forgetting: what is old goes, what something needs stays, and what comes afterwards finds the mirror as exact as before."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import permutations
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from delta_mirror.core.model import Stream
from delta_mirror.errors import BusyError, MirrorFileError, RefusedError
from delta_mirror.jobs.prune import PruneReport, PruneWishes, run_prune
from delta_mirror.mirror import prune as module
from delta_mirror.mirror.file import own_time
from delta_mirror.mirror.lock import hold
from delta_mirror.mirror.write import Mirror
from delta_mirror.simulator.accela import AccelaDials, AccelaFault, AccelaService
from nexus_messages import HOME, message
from office import NOON, Office, contacts

DAY = 86_400.0  # seconds
CLIENTS = Stream(11, 9, "Client")
NAMES = '[accela.map.Client]\n"firstName" = "FirstName"\n'
LINK = "Client,c-1,253,11,9"
UNPUSHED = "not pushed yet: `sync accela push` does"
NEVER_PUSHED = "of a linked record that was never pushed to Accela"


@pytest.fixture
def service() -> Iterator[AccelaService]:
    with AccelaService(contacts("253", "254")) as service:
        yield service


@pytest.fixture
def office(tmp_path: Path, service: AccelaService) -> Office:
    office = Office(tmp_path, service)
    office.configure(NAMES)
    return office


def forget(office: Office, days: float = 30, **wishes: Any) -> PruneReport:
    """Forget what is older than so many days."""
    return run_prune(office.config(), PruneWishes(days * DAY, **wishes), now=office.clock)


def contents(office: Office) -> dict[str, list[tuple[Any, ...]]]:
    names = [name for (name,) in office.sql("select name from sqlite_master where type = 'table'")]
    return {name: sorted(office.sql(f'select * from "{name}"'), key=repr) for name in names}


def data(office: Office) -> dict[str, list[tuple[Any, ...]]]:
    """Return what the mirror holds of records and clients, and by which messages."""
    return {name: rows for name, rows in contents(office).items() if not name.startswith(("_", "sqlite_")) or name == "_sections"}


# The log of changes


def test_old_changes_go_young_ones_stay_and_it_is_noted_up_to_where(office: Office) -> None:
    office.client(FirstName="Ann")
    office.client(FirstName="Bea")
    office.clock.time += 40 * DAY
    office.client(FirstName="Cem")

    report = forget(office)

    assert office.sql("select seq, op from _changes") == [(3, "replace")]
    assert office.sql("select value from _meta where key = 'pruned_through'") == [("2",)]
    assert office.sql("select value from _meta where key = 'pruned_at'") == [(own_time(NOON),)]
    assert office.sql("select value from _meta where key = 'pruned_run'") == [("2",)]
    assert (report.pruned.forgotten["_changes"], report.pruned.through, report.pruned.kept.get(("_changes", UNPUSHED))) == (
        2,
        2,
        None,
    )
    assert office.sql("select FirstName from Client") == [("Cem",)]


def test_number_of_a_forgotten_change_is_never_given_again(office: Office) -> None:
    office.client(FirstName="Ann")
    office.clock.time += 40 * DAY
    forget(office)
    assert office.sql("select count(*) from _changes") == [(0,)]

    office.client(FirstName="Bea")

    assert office.sql("select seq from _changes") == [(2,)]


def test_change_that_is_dated_early_by_a_wrong_clock_stays_behind_a_young_one(office: Office) -> None:
    office.client(FirstName="Ann")
    office.clock.time -= 300 * DAY
    office.client(FirstName="Bea")
    office.clock.time = NOON + DAY

    forget(office)

    assert office.sql("select seq from _changes order by seq") == [(1,), (2,)]


def test_entry_that_is_dated_ahead_by_a_wrong_clock_keeps_nothing_for_ever(office: Office) -> None:
    office.clock.time += 3000 * DAY
    office.client(FirstName="Ann")
    office.sql("insert into _messages (message_id, received_at) values ('m-1', '2999-01-01T00:00:00Z')")
    office.clock.time = NOON
    office.client(FirstName="Bea")
    office.sql("insert into _messages (message_id, received_at) values ('m-2', '2020-01-01T00:00:00Z')")
    office.clock.time += 40 * DAY
    office.client(FirstName="Cem")
    office.sql("insert into _messages (message_id, received_at) values ('m-3', ?)", own_time(office.clock.time))

    forget(office)

    assert office.sql("select seq from _changes") == [(3,)]
    assert office.sql("select message_id from _messages") == [("m-3",)]


def test_what_is_young_is_not_read(office: Office) -> None:
    office.client(FirstName="Ann")
    office.sql(
        "insert into _messages (message_id, received_at) with recursive n(i) as (values(1) union all select i + 1 from n "
        "where i < 5000) select i, ? from n",
        own_time(office.clock.time),
    )
    steps: list[int] = []

    run_prune(office.config(), PruneWishes(30 * DAY), now=office.clock, watch=lambda done, total: steps.append(done))

    assert max(steps) < 1000


def test_nothing_to_forget_notes_nothing(office: Office) -> None:
    office.client(FirstName="Ann")

    report = forget(office)

    assert office.sql("select * from _meta where key = 'pruned_through'") == []
    assert (sum(report.pruned.forgotten.values()), report.pruned.through) == (0, 0)


# What Accela needs


def test_changes_above_the_lowest_pushed_one_are_kept_until_they_are_pushed(office: Office) -> None:
    office.client(FirstName="Ann")
    office.link(LINK)
    office.push()
    office.client(FirstName="Bea")
    office.client("c-2", FirstName="Dora")
    office.clock.time += 40 * DAY

    report = forget(office)

    assert (report.pruned.through, report.pruned.kept["_changes", UNPUSHED]) == (1, 2)
    assert [each.outcome for each in office.push().contacts] == ["pushed"]
    assert office.service.contacts["253"]["firstName"] == "Bea"
    assert forget(office).pruned.through == 3
    assert office.push().contacts == []


def test_link_that_was_never_pushed_keeps_the_changes_and_the_tombstone_of_its_record_alone(office: Office) -> None:
    office.client(FirstName="Ann")
    office.client("c-2", FirstName="Dora")
    office.client(FirstName="Ann", deleted=True)
    office.client("c-2", FirstName="Dora", deleted=True)
    office.link(LINK)
    office.clock.time += 40 * DAY

    report = forget(office)

    assert office.sql("select seq, id from _changes") == [(1, "c-1"), (3, "c-1")]
    assert office.sql("select id from _tombstones") == [("c-1",)]
    assert report.pruned.kept["_changes", NEVER_PUSHED] == 2
    assert report.pruned.kept["_tombstones", NEVER_PUSHED] == 1
    assert [each.outcome for each in office.push().contacts] == ["source_deleted"]


def test_deletion_that_was_not_pushed_yet_is_told_after_its_tombstone_is_gone(office: Office) -> None:
    office.client(FirstName="Ann")
    office.link(LINK)
    office.push()
    office.client(FirstName="Ann", deleted=True)
    office.clock.time += 40 * DAY

    forget(office)

    assert office.sql("select * from _tombstones") == []
    assert [each.outcome for each in office.push().contacts] == ["source_deleted"]


def test_which_of_several_rows_was_changed_last_is_still_told_from_the_log(office: Office) -> None:
    office.configure('[accela.map.Client]\n"phone1" = { table = "clientphone", column = "Number" }\n"firstName" = "FirstName"')
    first, second = {"Number": "555-0101"}, {"Number": "555-0102"}
    office.client(FirstName="Ann", phones=[first])
    office.client(FirstName="Ann", phones=[first, second])
    office.link(LINK)
    office.push()
    assert office.service.contacts["253"]["phone1"] == "555-0102"
    office.clock.time += 40 * DAY

    report = forget(office)
    office.client(FirstName="Bea", phones=[first, second])
    office.push()

    assert report.pruned.kept["_changes", "needed to tell Accela which of several rows was changed last"] == 1
    assert office.service.contacts["253"]["phone1"] == "555-0102"


def test_of_pushes_the_open_ones_and_the_last_one_of_each_link_stay(office: Office) -> None:
    office.client(FirstName="Bea")
    office.client("c-2", FirstName="Dora")
    office.link(LINK, "Client,c-2,254,11,9")
    office.push()
    office.client(FirstName="Cem")
    office.push()
    office.client("c-2", FirstName="Eve")
    office.service.faults.append(AccelaFault("lost", method="PUT", contact_id="254", times=None))
    office.push()
    before = office.sql("select number, outcome, marks is not null from _accela_pushes")
    office.clock.time += 40 * DAY

    report = forget(office)

    kept = office.sql("select number from _accela_pushes")
    assert len(before) > len(kept)
    assert {number for number, outcome, is_open in before if is_open or outcome == "sent"} <= {number for (number,) in kept}
    assert max(number for number, *_ in before) in {number for (number,) in kept}
    assert (1,) not in kept
    assert report.pruned.forgotten["_accela_pushes"] == len(before) - len(kept)
    office.service.faults.clear()
    office.push()
    assert office.service.contacts["254"]["firstName"] == "Eve"


@pytest.mark.parametrize(("outcome", "marks"), [("sent", None), ("failed", "{}")])
def test_open_push_stays_without_its_link_and_so_does_the_highest_number(office: Office, outcome: str, marks: str | None) -> None:
    office.client(FirstName="Bea")
    for number, its_outcome, its_marks in ((7, "pushed", None), (8, outcome, marks), (9, "pushed", None)):
        office.sql(
            "insert into _accela_pushes (number, at, entity, tenant_id, location_id, id, contact_id, seq, outcome, marks) "
            "values (?, '2020-01-01T00:00:00Z', 'Client', 11, 9, 'c-1', '253', 1, ?, ?)",
            *(number, its_outcome, its_marks),
        )

    forget(office)

    assert office.sql("select number from _accela_pushes") == [(8,), (9,)]


def test_what_did_not_take_is_still_tried_again_when_its_push_is_old(office: Office) -> None:
    office.configure('[accela.map.Client]\n"gender" = "Sex"')
    office.service.dials = AccelaDials(lists={"gender": {"F": "Female"}}, unknown="ignored")
    office.client(Sex="X")
    office.link(LINK)
    office.push()
    assert office.outcomes() == ["partly"]
    office.clock.time += 40 * DAY

    forget(office)
    office.service.dials = AccelaDials()

    assert [each.outcome for each in office.push(retry_failed=True).contacts] == ["pushed"]


# Tombstones


@pytest.mark.parametrize("deletes", ["remove", "mark"])
def test_old_tombstone_goes_and_the_record_sent_alive_again_is_an_insert(office: Office, deletes: str) -> None:
    office.configuration.write_text(office.configuration.read_text().replace("[mirror]", f'[mirror]\ndeletes = "{deletes}"'))
    office.client(FirstName="Ann", deletes=deletes)
    office.client(FirstName="Ann", deleted=True, deletes=deletes)
    held = data(office)
    office.clock.time += 40 * DAY

    report = forget(office)

    assert (report.pruned.forgotten["_tombstones"], data(office)) == (1, held)
    office.client(FirstName="Bea", deletes=deletes)
    assert office.sql("select op from _changes") == [("insert",)]
    assert office.sql("select FirstName, _deleted_at from Client") == [("Bea", None)]


def test_tombstone_that_the_feed_may_still_list_stays_whatever_is_asked_for(office: Office) -> None:
    office.client(FirstName="Ann", deleted=True)
    office.clock.time += 7.5 * DAY

    report = forget(office, days=1)

    assert (report.pruned.forgotten["_changes"], report.pruned.forgotten["_tombstones"]) == (0, 0)
    assert report.pruned.kept["_tombstones", "younger than 8 days: the feed may still list the record"] == 1
    office.clock.time += DAY
    assert forget(office, days=1).pruned.forgotten["_tombstones"] == 1


def test_tombstone_is_young_by_its_own_date_and_by_the_clock_of_the_service_too(office: Office) -> None:
    office.client(FirstName="Ann", deleted=True)  # dated 2026-05-04T00:01:00Z
    with Mirror.open(office.mirror) as mirror, mirror.transaction() as tx:
        tx.note(CLIENTS, caught_up_at="2026-05-11T12:00:00Z")
    office.clock.time += 40 * DAY  # or so it says

    forget(office)

    assert office.sql("select count(*) from _tombstones") == [(1,)]
    with Mirror.open(office.mirror) as mirror, mirror.transaction() as tx:
        tx.note(CLIENTS, caught_up_at="2026-05-12T12:00:00Z")
    forget(office)
    assert office.sql("select count(*) from _tombstones") == [(0,)]


# Messages

OLDER = "2026-03-01T10:00:00.0000000Z"
NEWER = "2026-03-02T10:00:00.0000000Z"
NEWEST = "2026-03-03T10:00:00.0000000Z"
MESSAGES = [
    message(details={"FirstName": "Ann", "LastName": "Old", "Gender": "F"}, at=OLDER),
    message(details={"FirstName": "Bea", "LastName": ""}, at=NEWER),
    message("Email Details", {"Email": "ann@example.com"}, at=OLDER),
    message("Email Details", {}, reason="Removed", at=NEWER),
    message("Address Details", {"AddressType": "Home", "Address": "1 Old Road"}, identifier=HOME, at=OLDER),
    message("Address Details", {"AddressType": "Home", "Address": "1 Old Road"}, identifier=HOME, reason="Removed", at=NEWER),
    message("Contact Details", {"ContactType": "HomePhone", "Contact": "555-0100"}, at=NEWER),
    message("Case Details", {"CaseNumber": "7", "Offenses": [{"Label": "One"}, {"Label": "Two"}]}, identifier=HOME, at=NEWER),
    message(None, {"Text": "seen"}, type_="Note", identifier=HOME, at=NEWER),
]


def test_forgotten_messages_that_come_again_change_nothing_and_are_superseded(office: Office) -> None:
    office.ingest(*MESSAGES)
    held = data(office)
    office.clock.time += 40 * DAY

    report = forget(office)

    assert report.pruned.forgotten["_messages"] == len(MESSAGES)
    assert data(office) == held
    for order in (MESSAGES, MESSAGES[::-1], *list(permutations(MESSAGES, 3))[::97]):
        office.ingest(*order)
        assert data(office) == held
    assert office.sql("select distinct outcome from _messages") == [("superseded",)]
    assert office.sql("select op from _changes") == []


@pytest.mark.parametrize("at", [OLDER, NEWER, NEWEST])
def test_late_message_finds_its_place_among_forgotten_ones(office: Office, tmp_path: Path, at: str) -> None:
    late = [
        message(details={"FirstName": "Cem", "NeedsClassification": "Low"}, at=at),
        message("Email Details", {"Email": "late@example.com"}, at=at),
        message("Address Details", {"AddressType": "Home", "Address": "2 Late Road"}, identifier=HOME, at=at),
        message("Case Details", {"CaseNumber": "7", "Status": "Open", "Offenses": []}, identifier=HOME, at=at),
    ]
    (tmp_path / "whole").mkdir()
    whole = Office(tmp_path / "whole", office.service)
    whole.ingest(*MESSAGES, *late)
    office.ingest(*MESSAGES)
    office.clock.time += 40 * DAY
    forget(office)

    office.ingest(*late)

    assert data(office) == data(whole)


def test_message_in_quarantine_stays_and_can_be_tried_again_and_one_that_was_dropped_goes(office: Office) -> None:
    path = office.folder / "broken.jsonl"
    path.write_bytes(b'{"Client": 1}\n{"Client": 2}\n')
    office.sync("nexus", "ingest", str(path), expect=3)
    [(kept,), (dropped,)] = office.sql("select id from _quarantine order by id")
    office.sync("quarantine", "drop", dropped)
    office.clock.time += 400 * DAY  # the program in a process of its own goes by the real clock

    report = forget(office)

    assert report.pruned.kept["_messages", "in quarantine"] == 1
    assert report.pruned.forgotten["_messages"] == 1
    assert office.sql("select id from _quarantine") == [(kept,)]
    office.sync("quarantine", "retry", expect=3)
    assert office.sql("select id from _quarantine") == [(kept,)]


# Runs and calls


def test_runs_go_but_for_the_last_of_each_command_and_those_of_what_is_kept(office: Office) -> None:
    office.client(FirstName="Ann")
    office.link(LINK)
    office.client(FirstName="Bea")
    office.client("c-2", FirstName="Dora")
    office.client(FirstName="Bea")  # changes nothing
    office.client(FirstName="Bea")
    commands = office.sql("select id, command from _runs")
    assert commands == [(1, "deltas"), (2, "accela link"), (3, "deltas"), (4, "deltas"), (5, "deltas"), (6, "deltas")]
    office.clock.time += 40 * DAY

    report = forget(office)

    assert office.sql("select id, command from _runs") == [
        (1, "deltas"),
        (2, "accela link"),
        (3, "deltas"),
        (6, "deltas"),
        (7, "prune"),
    ]
    assert report.pruned.kept["_runs", "of a kept change or push, or of something in quarantine"] == 2
    assert office.sql("select outcome, ended_at is not null from _runs where id = 7") == [("done", 1)]


def test_days_of_calls_go_but_for_the_newest_of_each_location(office: Office) -> None:
    office.client(FirstName="Ann")
    for place, day in ((9, "2026-01-01"), (9, "2026-01-02"), (10, "2026-01-01"), (9, "2026-05-28"), (11, "2026-01-03")):
        office.sql("insert into _calls (tenant_id, location_id, day, calls, by_entity) values (11, ?, ?, 1, '{}')", place, day)
    office.sql("insert into _call_times (at) values (?), (?)", NOON - 40 * DAY, NOON)

    forget(office)

    assert office.sql("select location_id, day from _calls order by 1, 2") == [
        (9, "2026-05-28"),
        (10, "2026-01-01"),
        (11, "2026-01-03"),
    ]
    assert office.sql("select at from _call_times") == [(NOON,)]


def test_every_own_table_that_grows_by_time_is_pruned(office: Office) -> None:
    dated = {"at", "received_at", "deleted_at", "started_at", "day"}
    office.client(FirstName="Ann")
    tables = [name for (name,) in office.sql("select name from sqlite_master where type = 'table' and name glob '_[a-z]*'")]
    growing = {name for name in tables if dated & {column[1] for column in office.sql(f"pragma table_info({name})")}}

    assert growing - {"_migrations", "sqlite_sequence"} == set(module.TABLES)


# How it goes about it


def test_dry_run_tells_what_a_run_does_and_changes_nothing(office: Office) -> None:
    office.client(FirstName="Ann")
    office.client(FirstName="Ann", deleted=True)
    office.ingest(*MESSAGES)
    office.clock.time += 40 * DAY
    before = contents(office)

    told = forget(office, dry_run=True)

    assert (told.id, contents(office)) == (None, before)
    done = forget(office)
    assert done.pruned.forgotten == told.pruned.forgotten
    assert done.pruned.forgotten["_changes"] > 0
    assert contents(office) != before


def test_work_is_done_in_batches_and_a_run_that_is_told_to_stop_keeps_what_it_has_done(office: Office) -> None:
    office.ingest(*[message(details={"FirstName": str(number)}, client=f"EX{number}") for number in range(6000)])
    office.clock.time += 40 * DAY
    stop = Event()
    steps: list[int] = []

    def watch(done: int, total: int) -> None:
        with closing(sqlite3.connect(office.mirror)) as beside:  # a reader sees each batch as soon as it is done
            [(left,)] = beside.execute("select count(*) from _changes")
            through = beside.execute("select value from _meta where key = 'pruned_through'").fetchone()
        assert left == 6000 - int(through[0] if through else 0)
        steps.append(left)
        if left == 1000:
            stop.set()

    report = run_prune(office.config(), PruneWishes(30 * DAY), stop=stop, watch=watch, now=office.clock)

    assert (steps, report.outcome, report.pruned.through) == ([6000, 1000], "stopped", 5000)
    assert office.sql("select outcome from _runs order by id desc limit 1") == [("stopped",)]
    assert (forget(office).pruned.through, office.sql("select count(*) from _changes")) == (6000, [(0,)])


def test_size_of_the_file_and_what_is_free_in_it_are_told(office: Office) -> None:
    office.ingest(*[message(details={"FirstName": "x" * 500}, client=f"EX{number}") for number in range(300)])
    office.clock.time += 40 * DAY

    pruned = forget(office).pruned

    [(size, free)] = office.sql(
        "select page_size * page_count, page_size * freelist_count "
        "from pragma_page_size, pragma_page_count, pragma_freelist_count"
    )
    assert (pruned.size, pruned.free) == (size, free)
    assert free > 300 * 500


# What is refused


def test_less_than_a_day_is_refused_and_nothing_is_written(office: Office) -> None:
    office.client(FirstName="Ann")
    before = contents(office)

    with pytest.raises(RefusedError, match="--older-than is shorter than 1d"):
        forget(office, days=0.99)

    assert contents(office) == before


def test_where_there_is_no_mirror_none_is_made(office: Office) -> None:
    for dry_run in (True, False):
        with pytest.raises(MirrorFileError, match="there is no mirror"):
            forget(office, dry_run=dry_run)
    assert not office.mirror.exists()


def test_while_another_run_holds_the_mirror_nothing_is_forgotten(office: Office) -> None:
    office.client(FirstName="Ann")
    office.clock.time += 40 * DAY
    with hold(office.mirror), pytest.raises(BusyError):
        forget(office)
    assert office.sql("select count(*) from _changes") == [(1,)]


def test_longest_duration_there_is_reaches_back_to_the_beginning_and_finds_nothing(office: Office) -> None:
    office.client(FirstName="Ann")

    report = forget(office, days=36_500)

    assert (report.before, json.dumps(sum(report.pruned.forgotten.values()))) == ("1970-01-01T00:00:00Z", "0")
