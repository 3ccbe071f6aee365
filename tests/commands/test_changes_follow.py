"""`sync changes` for programs that read on and on, and as lines for people."""

import fcntl
import json
import random
import select
import signal
import sqlite3
import sys
import termios
import time
from collections.abc import Callable
from contextlib import closing
from threading import Event

import pytest
from installed import Shop

from delta_mirror.cli.changes_text import as_line
from delta_mirror.core.model import Op, Row, Stream, Value
from delta_mirror.core.plan import Fields
from delta_mirror.core.values import read_ticks
from delta_mirror.errors import RefusedError, UnfinishedError
from delta_mirror.jobs.changes import Wanted, follow_changes, read_changes
from delta_mirror.jobs.selection import Selection
from delta_mirror.mirror.read import BATCH, Logged, Reader
from delta_mirror.mirror.write import Mirror
from delta_mirror.simulator import DAY, MINUTE

CLIENTS = Stream(11, 9, "Client")


class EnoughError(Exception):
    """Raised where a test has seen enough of something that does not end."""


def log(shop: Shop, *changes: tuple[int, str]) -> None:
    """Log one change for each run and id."""
    Mirror.open(shop.mirror).close()
    with closing(sqlite3.connect(shop.mirror)) as mirror, mirror:
        mirror.executemany(
            "insert into _changes (at, run_id, tenant_id, location_id, entity, id, op) "
            "values ('2026-05-04T12:00:00Z', ?, 11, 9, 'Client', ?, 'insert')",
            changes,
        )


def prune(shop: Shop, through: int) -> None:
    """Forget the log up to that number, as a mirror says it."""
    with closing(sqlite3.connect(shop.mirror)) as mirror, mirror:
        mirror.execute("delete from _changes where seq <= ?", (through,))
        mirror.execute("insert or replace into _meta (key, value) values ('pruned_through', ?)", (str(through),))


def seqs(out: str) -> list[int]:
    return [json.loads(line)["seq"] for line in out.splitlines()]


def watched(
    shop: Shop, wanted: Wanted, sleep: Callable[[float], None], ends_with: type[Exception], message: str | None = None
) -> list[list[int]]:
    """Return the numbers of each batch that a follower gets until it ends with that error."""
    batches: list[list[int]] = []

    def follow() -> None:
        for batch in follow_changes(shop.config(), wanted, sleep=sleep):
            batches.append([change.seq for change in batch])

    with pytest.raises(ends_with, match=message):
        follow()
    return batches


def wait_until_full(pipe: int) -> None:
    """Return once as much waits in the pipe as it holds, so that whoever writes into it is held up."""
    room = fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ) - select.PIPE_BUF
    ends_at = time.monotonic() + 20
    while int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder) <= room:
        assert time.monotonic() < ends_at
        Event().wait(0.01)


# Reading on


def test_follower_gets_everything_after_its_number_and_what_runs_commit_meanwhile(shop: Shop) -> None:
    world = shop.service.world
    world.populate(clients=8, over=DAY)
    shop.sync("deltas")
    before = shop.value("select max(seq) from _changes")
    process = shop.start("changes", "--json", "--follow", "--after", "3")
    assert process.stdout is not None
    seen = seqs("".join(process.stdout.readline() for _ in range(before - 3)))
    world.advance(20 * MINUTE)
    world.edit(world.ids("Client")[0], FirstName="New")
    world.advance(MINUTE)
    shop.sync("deltas")
    seen += seqs(process.stdout.readline())
    process.send_signal(signal.SIGTERM)
    rest = shop.end(process, expect=143)
    assert (rest.out, rest.err) == ("", "")
    logged = [seq for (seq,) in shop.rows("select seq from _changes where seq > 3 order by seq")]
    assert seen == logged[: len(seen)]
    # Who stops and comes again with the last number that he has seen gets the rest, once.
    again = shop.sync("changes", "--json", "--after", str(seen[-1])).out
    assert seen + seqs(again) == logged


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_follower_that_waits_is_ended_by_a_signal_and_says_nothing(shop: Shop, number: signal.Signals, code: int) -> None:
    log(shop, (1, "a"))
    process = shop.start("changes", "--follow")
    assert process.stdout is not None
    assert "insert" in process.stdout.readline()
    process.send_signal(number)
    assert shop.end(process, expect=code).err == ""


def test_follower_whose_pipe_nobody_empties_is_ended_by_a_signal_all_the_same(shop: Shop) -> None:
    log(shop, *((1, f"{number:0100}") for number in range(2000)))  # more than a pipe holds
    process = shop.start("changes", "--follow")
    assert process.stdout is not None
    wait_until_full(process.stdout.fileno())
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    process.communicate()


def test_follower_ends_when_its_reader_has_gone_although_nothing_happens(shop: Shop) -> None:
    log(shop, (1, "a"))
    process = shop.start("changes", "--follow")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")


def test_follower_with_a_limit_ends_when_it_has_that_many(shop: Shop) -> None:
    log(shop, (1, "a"), (1, "b"), (1, "c"))
    assert seqs(shop.sync("changes", "--json", "--follow", "--limit", "2").out) == [1, 2]


def test_following_looks_again_and_again_and_sleeps_in_between(shop: Shop) -> None:
    log(shop, (1, "a"))
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            log(shop, (2, "b"), (2, "c"))
        if len(slept) == 4:
            raise EnoughError

    assert watched(shop, Wanted(), sleep, EnoughError) == [[1], [2, 3]]
    assert slept == [1.0] * 4


def test_mirror_is_closed_while_a_follower_sleeps(shop: Shop) -> None:
    log(shop, (1, "a"))
    found: list[bool] = []

    def sleep(seconds: float) -> None:
        Mirror.open(shop.mirror).close()
        found.append(shop.mirror.with_name(shop.mirror.name + "-wal").exists())
        raise EnoughError

    with pytest.raises(EnoughError):
        list(follow_changes(shop.config(), sleep=sleep))
    assert found == [False]


# Pruning, and other mirrors


@pytest.mark.parametrize("wanted", [Wanted(after=0), Wanted(), Wanted(run_id=1)], ids=["after", "all", "run"])
def test_what_is_pruned_while_somebody_reads_is_not_passed_over_in_silence(shop: Shop, wanted: Wanted) -> None:
    log(shop, *[(1, "a")] * (2 * BATCH + 1))
    reading = read_changes(shop.config(), wanted)
    read = [next(reading).seq for _ in range(BATCH)]
    prune(shop, 2 * BATCH)

    with pytest.raises(UnfinishedError, match=f"what changed after seq {BATCH} can no longer be told whole"):
        read += [change.seq for change in reading]

    assert read == list(range(1, BATCH + 1))


def test_place_before_what_was_pruned_is_refused_and_nothing_is_shown(shop: Shop) -> None:
    log(shop, *((1, str(number)) for number in range(9)))
    prune(shop, 5)
    for follow in ([], ["--follow"]):
        ended = shop.sync("changes", "--json", "--after", "4", *follow, expect=3)
        assert ended.out == ""
        assert "pruned up to seq 5" in ended.err
        assert "--after 9" in ended.err
    assert seqs(shop.sync("changes", "--json", "--after", "5").out) == [6, 7, 8, 9]
    assert seqs(shop.sync("changes", "--json").out) == [6, 7, 8, 9]


def test_place_that_the_log_has_never_come_to_is_refused(shop: Shop) -> None:
    log(shop, (1, "a"), (1, "b"))
    assert shop.sync("changes", "--after", "2").out == ""
    ended = shop.sync("changes", "--after", "3", expect=2)
    assert "has only come to seq 2" in ended.err
    prune(shop, 2)
    assert shop.sync("changes", "--after", "2").out == ""


def test_pruning_of_what_a_follower_has_passed_over_harms_it_not_and_of_what_it_has_not_seen_ends_it(shop: Shop) -> None:
    log(shop, (1, "a"), (1, "b"), (1, "b"))
    looks = iter(range(9))

    def sleep(seconds: float) -> None:
        match next(looks):
            case 0:
                prune(shop, 3)  # the last two did not meet the filter, and were passed over
            case 1:
                log(shop, (2, "a"))
            case 2:
                log(shop, (3, "a"), (3, "a"))
                prune(shop, 5)

    assert watched(shop, Wanted(ids=("a",)), sleep, UnfinishedError, "after seq 4") == [[1], [4]]


def test_mirror_that_is_put_back_from_a_backup_ends_a_follower(shop: Shop) -> None:
    log(shop, (1, "a"), (1, "b"))

    def sleep(seconds: float) -> None:
        shop.mirror.unlink()
        log(shop, (1, "a"))

    with pytest.raises(RefusedError, match="only come to seq 1"):
        list(follow_changes(shop.config(), sleep=sleep))


# Long logs


@pytest.mark.parametrize("limit", [None, 1, BATCH - 1, BATCH, BATCH + 1, 3 * BATCH])
def test_log_of_many_batches_comes_whole_and_in_order(shop: Shop, limit: int | None) -> None:
    log(shop, *((1, f"id {number % 3}") for number in range(2 * BATCH + 7)))
    found = [change.seq for change in read_changes(shop.config(), limit=limit)]
    assert found == list(range(1, 2 * BATCH + 8))[:limit]
    of_two = [change.seq for change in read_changes(shop.config(), Wanted(ids=("id 1", "ID 2")), limit=limit)]
    assert of_two == [seq for seq in range(1, 2 * BATCH + 8) if seq % 3 != 1][:limit]


def test_id_that_is_no_guid_is_found_as_it_is_written(shop: Shop) -> None:
    log(shop, (1, "AbC"), (1, "abc"), (1, "ABC"))
    for id_, expected in (("AbC", [1, 2]), ("abc", [2]), ("ABC", [2, 3])):
        assert [change.seq for change in read_changes(shop.config(), Wanted(ids=(id_,)))] == expected


def test_since_takes_the_whole_second_in_which_it_lies(shop: Shop) -> None:
    log(shop, (1, "a"))
    noon = read_ticks("2026-05-04T12:00:00Z")
    assert noon is not None
    for since, expected in ((noon, 1), (noon + 9_000_000, 1), (noon + 10_000_000, 0)):
        assert len(list(read_changes(shop.config(), Wanted(since=since)))) == expected


def test_listing_ends_where_the_log_ended_when_it_began(shop: Shop) -> None:
    log(shop, *((1, "a") for _ in range(BATCH)))
    found = 0
    for _ in read_changes(shop.config()):
        found += 1
        if found == 1:
            log(shop, (2, "b"))
    assert found == BATCH


def test_changes_of_a_run_are_found_wherever_they_lie_and_whatever_is_missing(shop: Shop) -> None:
    dice = random.Random(5)
    runs = sorted(dice.choices([2, 3, 5, 8, 9], k=60))
    log(shop, *((run, "a") for run in runs))
    for gone in (0, 20):
        with closing(sqlite3.connect(shop.mirror)) as mirror, mirror:
            mirror.executemany("delete from _changes where seq = ?", [(seq,) for seq in dice.sample(range(1, 61), gone)])
        with Reader.open(shop.mirror) as reader:
            for run in range(11):
                expected = [seq for (seq,) in shop.rows("select seq from _changes where run_id = ? order by seq", run)]
                assert [change.seq for change in reader.changes(run_id=run)] == expected
                assert [change.seq for change in reader.changes(run_id=run, after=30)] == [seq for seq in expected if seq > 30]


def test_filters_hold_for_what_comes_later_too(shop: Shop) -> None:
    log(shop, (1, "a"))
    looks = iter(range(9))

    def sleep(seconds: float) -> None:
        if next(looks) == 1:
            raise EnoughError
        log(shop, (2, "b"), (2, "a"))

    assert watched(shop, Wanted(Selection(entities=("Client",)), ids=("A",)), sleep, EnoughError) == [[1], [3]]
    looks = iter(range(9))
    assert watched(shop, Wanted(Selection(entities=("Sale",))), sleep, EnoughError) == []


# Lines


def line(fields: Fields | None, *, op: Op = "replace", id_: str = "a", width: int | None = None, verbose: bool = False) -> str:
    change = Logged(7, "2026-05-04T12:00:00Z", 2, CLIENTS, id_, op, fields)
    return as_line(change, width=width, verbose=verbose)


HEAD = "7 2026-05-04T12:00:00Z 11/9 replace Client a"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"A": [1, "1"], "B": [None, ""]}, '  A: 1 -> "1"; B: null -> ""'),
        ({"A": [1, 2], "DateUpdated": ["x", "y"], "EntityVersion": ["p", "q"]}, "  A: 1 -> 2"),
        ({"EntityVersion": ["p", "q"], "DateUpdated": ["x", "y"]}, "  nothing but DateUpdated and EntityVersion"),
        ({"A": ["line\nbreak", "\x1b[31mred\x9b\u2028\u202e"]}, '  A: "line\\nbreak" -> "\\u001b[31mred\\u009b\\u2028\\u202e"'),
        ({"A": ["Zoë", "…"]}, '  A: "Zoë" -> "…"'),
        ({}, ""),
        (None, ""),
    ],
    ids=["values", "noise", "noise alone", "escapes", "letters", "nothing", "null"],
)
def test_change_is_one_line_field_by_field(fields: Fields | None, told: str) -> None:
    assert line(fields) == HEAD + told


def rows(*rows: Row) -> list[Row]:
    return list(rows)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (rows({"P": "1"}), rows({"P": "1"}, {"P": "2"}), '+{P "2"}'),
        (rows({"P": "1"}, {"P": "1"}), rows({"P": "1"}), '-{P "1"}'),
        (rows({"P": "1"}), rows(), '-{P "1"}'),
        (rows({"P": "1", "Q": 2}), rows({"P": "1", "Q": 3}), "~{Q: 2 -> 3}"),
        (rows({"P": "1", "Q": 2}), rows({"P": "9", "Q": 3}), '-{P "1", Q 2} +{P "9", Q 3}'),
        (rows({"L_Seq": 1}, {"L_Seq": 2, "Q": 2}), rows({"L_Seq": 2, "Q": 5}, {"L_Seq": 1}), "~{L_Seq 2, Q: 2 -> 5}"),
        (rows({"L_Seq": 1, "Q": 2}), rows({"L_Seq": 2, "Q": 2}), "-{L_Seq 1, Q 2} +{L_Seq 2, Q 2}"),
        (rows({"P": 1}, {"P": 2}), rows({"P": 2}, {"P": 1}), "the same rows under other parents"),
        (rows({"P": 1, "Q": 1}), rows({"P": 1, "Q": 2}, {"P": 1, "Q": 1, "S": 1}), "~{S: null -> 1} +{P 1, Q 2}"),
    ],
    ids=["new", "gone once", "gone", "changed", "another", "by number", "renumbered", "moved", "the most alike"],
)  # fmt: skip
def test_of_child_tables_only_the_rows_that_differ_are_shown(old: list[Row], new: list[Row], told: str) -> None:
    lists: list[list[Row]] = [old, new]
    assert line({"Table": lists}) == f"{HEAD}  Table: {told}"


def test_all_is_shown_where_all_is_asked_for() -> None:
    versions: list[Value | None] = ["p", "q"]
    assert line({"EntityVersion": versions}, verbose=True) == f'{HEAD}  EntityVersion: "p" -> "q"'


def test_long_value_is_shortened_on_a_terminal_and_nowhere_else() -> None:
    long = "x" * 500
    values: list[Value | None] = [None, long]
    assert f'"{long}"' in line({"A": values})
    shown = line({"A": values, "T": [rows(), rows({"P": long})]}, width=60)
    assert "…" in shown
    assert len(shown) < 250


def test_id_cannot_break_a_line() -> None:
    assert "\n" not in line(None, id_="a\nb")


def test_many_rows_are_not_compared_one_by_one() -> None:
    old: list[Row] = [{"P": number, "Q": 1} for number in range(2000)]
    new: list[Row] = [{"P": number, "Q": 2} for number in range(2000)]
    shown = line({"T": [old, new]})
    assert (shown.count("-{"), shown.count("+{"), shown.count("~{")) == (2000, 2000, 0)


def test_verbose_may_stand_before_and_behind_the_command(shop: Shop) -> None:
    log(shop, (1, "a"))
    with closing(sqlite3.connect(shop.mirror)) as mirror, mirror:
        mirror.execute('update _changes set op = \'replace\', fields = \'{"EntityVersion": ["p", "q"]}\'')
    assert "nothing but EntityVersion" in shop.sync("changes").out
    told = 'EntityVersion: "p" -> "q"'
    for arguments in (["changes", "-v"], ["changes", "--verbose"], ["--verbose", "changes"]):
        assert told in shop.sync(*arguments).out
