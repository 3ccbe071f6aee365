"""A schedule of everything that may befall a mirror, drawn from a seed.

Invariants:

- The same seed gives the same schedule, whatever the machine.
- Nothing happens here. What a trouble is, `run.py` knows; how often it really happened, is told after a run.
- Instants are told by what can be counted: the n-th call that a service sees, the n-th time that the program writes to its
  mirror or opens a file. Those come again; milliseconds do not.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Literal, TypeAlias

from delta_mirror.simulator import LAG, MINUTE, Dials
from delta_mirror.simulator.dials import STANDARD_ENTITIES

Service: TypeAlias = Literal["dds", "bus", "accela"]
Deletes: TypeAlias = Literal["remove", "mark"]

SIGNALS = ("SIGKILL", "SIGTERM", "Ctrl-C")
DISK = ("disk full", "file-size limit", "EIO", "torn write")
ANSWERS = (
    "connection reset",
    "slow answer",
    "byte by byte",
    "truncated body",
    "broken gzip",
    "401 in the middle",
    "429",
    "429 with Retry-After",
    "503",
    "503 with Retry-After",
    "HTML for JSON",
    "redirect",
    "wrong length",
    "error in a 200",
    "answer lost",
)
CLOCK = ("clock wrong", "clock jumps")
AROUND = ("two runs at once", "file moved away", "new file grown", "reader in a long transaction", "changes in the middle")
FULL = "tmpfs full"
MEANWHILE = "erase meanwhile"
FOUND = ("WAL left behind", "huge page")
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "deltas": ("deltas",),
    "full-starter": ("full-starter", "export"),
    "verify": ("verify", "export", "--repair"),
    "nexus ingest": ("nexus", "ingest", "messages.jsonl"),
    "nexus receive": ("nexus", "receive", "--wait", "0s"),
    "accela link": ("accela", "link", "links.csv"),
    "accela push": ("accela", "push"),
    "backup": ("backup", "backup.db"),
    "prune": ("prune", "--older-than", "1d"),
    "status": ("status",),
    "changes": ("changes",),
    "erase": ("erase",),
}
OPTIONS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "deltas": (("--entity", "Client"), ("--since", "2026-05-02T00:00:00Z"), ("--dry-run",), ("--json",), ("--deadline", "1s")),
    "full-starter": (("--dry-run",), ("--location", "9"), ("--entity", "Client")),
    "nexus ingest": (("--dry-run",),),
    "nexus receive": (("--max", "2"),),
    "accela push": (("--limit", "1"), ("--dry-run",)),
}
EXCUSED = ("gap by a wrong clock", "Ctrl-C before Python was there")
"""What is counted where it happens, and is no finding: a gap too many (docs/promises.md, 10), an end before our first line."""
INGREDIENTS = (*SIGNALS, *DISK, *ANSWERS, *CLOCK, *AROUND, *FOUND, FULL, MEANWHILE, "mask", *COMMANDS)
NEEDS_SHIM = frozenset({"disk full", "EIO", "torn write", *CLOCK, "429", "429 with Retry-After", "503 with Retry-After"})
"""What is left out on a machine without a C compiler: what the shim does, and pauses that only its clock can end."""

_CALLED: Mapping[str, Service] = {
    "deltas": "dds",
    "verify": "dds",
    "nexus receive": "bus",
    "accela push": "accela",
}
_OF_SERVICE: Mapping[Service, tuple[str, ...]] = {
    "dds": tuple(name for name in ANSWERS if name != "answer lost"),
    "bus": (
        "connection reset",
        "slow answer",
        "truncated body",
        "401 in the middle",
        "429",
        "503",
        "HTML for JSON",
        "answer lost",
    ),
    "accela": (
        "connection reset",
        "slow answer",
        "401 in the middle",
        "429",
        "429 with Retry-After",
        "503",
        "503 with Retry-After",
        "HTML for JSON",
        "answer lost",
    ),
}
_WEIGHTS = {
    "deltas": 40,
    "full-starter": 10,
    "verify": 6,
    "nexus ingest": 7,
    "nexus receive": 12,
    "accela link": 3,
    "accela push": 12,
    "backup": 3,
    "prune": 4,
    "status": 1,
    "changes": 1,
}
# How often each of them writes and reads, about, when a day's work waits: where instants are drawn from.
_WRITES = {
    "deltas": 250,
    "full-starter": 130,
    "verify": 70,
    "nexus ingest": 100,
    "nexus receive": 200,
    "accela link": 35,
    "accela push": 65,
    "backup": 100,
    "prune": 30,
    "status": 2,
    "changes": 2,
    "erase": 200,
}
_READS, _SYNCS, _OPENS, _CALLS = 80, 7, 700, 30


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that happens during a step.

    Attributes:
        name: one of the ingredients.
        where: the service whose calls count, or what the program does that counts: write, sync, read, open.
        after: how many of them are let through first.
        times: how often it happens, where it can happen more than once; 0 is always.
        value: what the trouble makes of it: seconds, bytes, a lot from 0 to 1.
    """

    name: str
    where: str = ""
    after: int = 0
    times: int = 1
    value: float = 0.0

    @property
    def needs_shim(self) -> bool:
        """Whether it takes the shim."""
        return self.name in NEEDS_SHIM or self.where in ("write", "sync", "read", "open")


@dataclass(frozen=True, slots=True)
class Step:
    """A call of the program, and what happens before and meanwhile."""

    name: str
    changes: int
    messages: int
    troubles: tuple[Trouble, ...] = ()
    options: tuple[str, ...] = ()

    def __str__(self) -> str:
        told = [
            f"{each.name} ({each.where} {each.after}+{each.times}, {each.value:g})" if each.where else each.name
            for each in self.troubles
        ]
        called = " ".join((self.name, *self.options))
        return f"{called}, {self.changes} changes, {self.messages} messages: {'; '.join(told) or 'nothing'}"


@dataclass(frozen=True, slots=True)
class Schedule:
    """Everything of one schedule: the salon, its service, the configuration, and the steps.

    `records` are how many clients, employees, appointments and sales there are to begin with; `replaces` is what a PUT does to a
    contact; `manner` are the options before every command. `masked_from` is the number of the step from which on a mask is
    configured, None where there is none. `is_small`: the mirror lies in a file system of its own.
    """

    seed: int
    locations: tuple[int, ...]
    records: tuple[int, int, int, int]
    entities: tuple[str, ...]
    dials: Dials
    deletes: Deletes
    parallel: int
    size: int
    replaces: bool
    steps: tuple[Step, ...] = ()
    manner: tuple[str, ...] = ()
    masked_from: int | None = None
    is_small: bool = False

    @property
    def erases(self) -> bool:
        """Whether anybody is erased."""
        return any(step.name == "erase" or any(each.name == MEANWHILE for each in step.troubles) for step in self.steps)


def draw(seed: int, *, has_shim: bool = True, has_mounts: bool = False) -> Schedule:
    """Return the schedule of *seed*; without the shim, or where nobody may mount, what needs it is left out of it."""
    dice = Random(f"torture/{seed}")
    records = (dice.randrange(10, 36), dice.randrange(5), dice.randrange(9), dice.randrange(12))
    schedule = Schedule(
        seed,
        dice.choice(((9,), (9, 10))),
        records,
        dice.choice((("Client",), ("Client", "Sale"), ("Client", "Employee", "Appointment"), STANDARD_ENTITIES)),
        _dials(dice),
        dice.choice(("remove", "mark")),
        dice.choice((1, 1, 4)),
        dice.choice((7, 20, 200)),
        dice.random() < 0.3,
    )
    names = [dice.choice(("deltas", "deltas", "full-starter"))]
    names += dice.choices(list(_WEIGHTS), list(_WEIGHTS.values()), k=dice.randrange(1, 4))
    if "accela push" in names and dice.random() < 0.8:
        names.insert(1, "accela link")
    if "full-starter" in names:
        # A child table that no delta has ever brought is left as the starter had it (docs/promises.md, 1): let deltas name all.
        schedule = replace(schedule, dials=replace(schedule.dials, empty_children="array"))
    steps = tuple(_step(dice, name) for name in names)
    steps = tuple(replace(step, options=_options(dice, step.name)) for step in steps)
    manner = dice.choice(((), ("--verbose",), ("--log-format", "json"), ("--quiet",)))
    schedule = _besides(Random(f"torture/besides/{seed}"), replace(schedule, steps=steps, manner=manner))
    if not has_mounts:
        schedule = replace(_without(schedule, lambda trouble: trouble.name == FULL), is_small=False)
    return schedule if has_shim else _without_shim(schedule)


def _besides(dice: Random, schedule: Schedule) -> Schedule:
    """Return *schedule* with what is drawn by dice of its own, so that it may be left out of a schedule that stays as it is."""
    steps = list(schedule.steps)
    if dice.random() < 0.3:
        for _ in range(dice.choice((1, 1, 2))):
            whom = dice.choice(("Client", "Client", "NexusClient"))
            steps.insert(dice.randrange(1, len(steps) + 1), replace(_step(dice, "erase"), options=(whom,)))
        _add(dice, steps, _CALLED, lambda name: _erase_meanwhile(dice, name))
    if dice.random() < 0.15:
        schedule = replace(schedule, is_small=True)
        for _ in range(2):
            _add(dice, steps, COMMANDS, lambda name: Trouble(FULL, value=dice.choice((0, 8, 40, 120, 300))))
    masked_from = dice.choice((0, 0, 1, len(steps) - 1)) if dice.random() < 0.25 else None
    if dice.random() < 0.5:
        _add(dice, steps, ("accela push",), lambda name: _limit(dice))
    return replace(schedule, steps=tuple(steps), masked_from=masked_from)


def _erase_meanwhile(dice: Random, name: str) -> Trouble:
    return Trouble(MEANWHILE, _CALLED[name], _instant(dice, name, _CALLED[name]), value=dice.random())


def _limit(dice: Random) -> Trouble:
    """Return an agency that has too many calls, or is down for a while, and says for how long, or does not."""
    kind = dice.choice(("429", "503", "429 with Retry-After", "503 with Retry-After"))
    return Trouble(kind, "accela", int(8 * dice.random() ** 1.5), dice.choice((1, 1, 2)), dice.choice((0.0, 1.0, 120.0, 4000.0)))


def _add(dice: Random, steps: list[Step], among: Collection[str], trouble: Callable[[str], Trouble]) -> None:
    """Add *trouble* to one of *steps* whose name is *among* these, if there is one."""
    places = [place for place, step in enumerate(steps) if step.name in among]
    if places:
        place = dice.choice(places)
        added = trouble(steps[place].name)
        others = (each for each in steps[place].troubles if each.name != added.name)
        steps[place] = replace(steps[place], troubles=(*others, added))


def _without(schedule: Schedule, is_left_out: Callable[[Trouble], bool]) -> Schedule:
    steps = (replace(step, troubles=tuple(each for each in step.troubles if not is_left_out(each))) for step in schedule.steps)
    return replace(schedule, steps=tuple(steps))


def _without_shim(schedule: Schedule) -> Schedule:
    schedule = _without(schedule, lambda trouble: trouble.needs_shim)
    # Without a Date in its answers the service's clock is this machine's, which then is not the world's.
    return replace(schedule, dials=replace(schedule.dials, date_header=True))


def _dials(dice: Random) -> Dials:
    late = dice.random() < 0.1
    return Dials(
        start_inclusive=dice.random() < 0.5,
        start_precision=dice.choice(("100ns", "100ns", "ms", "1/300s", "1s")),
        start_rounding=dice.choice(("down", "nearest")),
        written_offset=dice.choice(("+00:00", "+00:00", "-04:00", "Z")),
        order=dice.choices(
            ("ascending", "ascending_ties_random", "ascending_but_one", "descending", "by_id", "random_stable", "random"),
            (10, 2, 2, 2, 2, 2, 1),
        )[0],
        page_base=dice.choice((0, 0, 1)),
        past_end=dice.choice(("empty", "404")),
        max_page_size=dice.choice((200, 200, 25, 10)),
        short_pages=dice.random() < 0.2,
        per_change=dice.random() < 0.2,
        lag=dice.choice((0, 0, LAG)),
        late_share=0.1 if late else 0.0,
        late_by=4 * MINUTE if late else 0,
        envelope=dice.choice(("camel", "pascal")),
        snapshot_data=dice.choice((None, None, "string", "object")),
        last_change=dice.random() < 0.8,
        row_version=dice.choice(("hex", "base64", "number")),
        empty_children=dice.choice(("left_out", "array")),
        date_header=dice.random() < 0.9,
        too_old=dice.choice(("clamp", "400")),
        gzip=dice.random() < 0.7,
        suffixed_url=dice.random() < 0.2,
        seed=dice.randrange(1 << 30),
    )


# --- troubles ------------------------------------------------------------------------------------------------------------------


def _step(dice: Random, name: str) -> Step:
    troubles: list[Trouble] = []
    if dice.random() < 0.9:
        kinds: Sequence[Callable[[Random, str], Trouble | None]] = (_signal, _signal, _disk, _answer, _answer, _clock, _around)
        chosen = dice.sample(kinds, k=dice.choice((1, 1, 2, 3)))
        troubles = [each for draw_one in chosen if (each := draw_one(dice, name)) is not None]
    if dice.random() < 0.04:
        troubles.append(Trouble("huge page", value=dice.randrange(100_000, 400_000)))
    # Of two things that hold the same call back, or set the same clock, one is enough.
    single: dict[str, Trouble] = {}
    for trouble in troubles:
        single.setdefault("clock" if trouble.name in CLOCK else trouble.name, trouble)
    return Step(name, dice.choice((0, 3, 8, 15)), dice.choice((0, 4, 12)), tuple(single.values()))


def _options(dice: Random, name: str) -> tuple[str, ...]:
    return dice.choice(OPTIONS[name]) if name in OPTIONS and dice.random() < 0.25 else ()


def _instant(dice: Random, name: str, where: str) -> int:
    """Return how many times *name* does what counts before the instant comes: early ones more often than late ones."""
    most = {"write": _WRITES[name], "sync": _SYNCS, "read": _READS, "open": _OPENS}.get(where, _CALLS)
    return int(most * dice.random() ** (1.0 if where == "open" else 1.5 if where in ("write", "sync", "read") else 2.5))


def _signal(dice: Random, name: str) -> Trouble:
    kind = dice.choice(SIGNALS)
    where = dice.choice(("write", "write", "write", "sync", "open"))
    if name in _CALLED and dice.random() < 0.4:
        where = _CALLED[name]
    return Trouble(kind, where, _instant(dice, name, where), value=dice.random())


def _disk(dice: Random, name: str) -> Trouble:
    kind = dice.choice(DISK)
    if kind == "file-size limit":
        return Trouble(kind, value=dice.choice((0, 16, 40, 120, 200, 300)))
    where = dice.choice(("write", "write", "sync", "read")) if kind == "EIO" else "write"
    times = 1 if kind == "torn write" else dice.choice((1, 1, 3, 0))
    return Trouble(kind, where, _instant(dice, name, where), times)


def _answer(dice: Random, name: str) -> Trouble | None:
    service = _CALLED.get(name)
    if service is None:
        return None
    kind = dice.choice(_OF_SERVICE[service])
    value = dice.choice((0.0, 1.0, 120.0, 4000.0)) if kind.endswith("Retry-After") else dice.random()
    return Trouble(kind, service, _instant(dice, name, service), dice.choice((1, 1, 2, 4)), value)


def _clock(dice: Random, name: str) -> Trouble:
    if dice.random() < 0.5:
        return Trouble("clock wrong", value=dice.choice((-1, 1)) * dice.choice((2400.0, 3 * 86400.0, 400 * 86400.0)))
    return Trouble(
        "clock jumps", "write", _instant(dice, name, "write"), value=dice.choice((-1, 1)) * dice.choice((7200.0, 3 * 86400.0))
    )


def _around(dice: Random, name: str) -> Trouble:
    if name not in _CALLED or dice.random() < 0.3:
        return Trouble("reader in a long transaction")
    kind = dice.choice(("two runs at once", "file moved away", "new file grown", "changes in the middle"))
    return Trouble(kind, _CALLED[name], _instant(dice, name, _CALLED[name]), value=dice.random())
