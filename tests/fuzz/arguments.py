"""Target `arguments`: command lines, on a folder with a configuration and a mirror whose names are as hostile as names can be.

Every command line ends with one of the documented exit codes, and what it prints steers no terminal and shows no secret.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import NamedTuple

import click

from delta_mirror.cli import main
from delta_mirror.core.model import Stream
from delta_mirror.core.plan import Drained, decide
from delta_mirror.dds.tables import FEED_CHILDREN
from delta_mirror.dds.wire import read_page
from delta_mirror.errors import ProtocolError
from delta_mirror.jobs.intake import Intake
from delta_mirror.mirror.write import Mirror
from fuzz import feed, hostile, messages
from fuzz.calling import SECRET, call, check_ending
from fuzz.choices import Choices
from fuzz.engine import Target

# Nobody listens there, so that every call fails at once; see `docs/operating.md` for the exit codes.
_CONFIGURATION = f"""
[mirror]
path = "mirror.db"
[http]
attempts = 1
timeout = "2s"
[dds]
marketplace_url = "http://127.0.0.1:1"
client_id = "salon"
client_secret = "{SECRET}"
[[dds.locations]]
tenant_id = 11
location_id = 9
[nexus]
service_bus_url = "http://127.0.0.1:1"
topic = "changes"
subscription = "mirror"
key_name = "listen"
key = "{SECRET}"
[accela]
auth_url = "http://127.0.0.1:1"
api_url = "http://127.0.0.1:1"
app_id = "app"
app_secret = "{SECRET}"
agency = "SALON"
username = "sync"
password = "{SECRET}"
[accela.map.Client]
"firstName" = "FirstName"
"""
_VALUES = (
    "1", "0", "-1", "9223372036854775807", "9223372036854775808", "9" * 5000, "1e5", "٣", "²", "+1", " 1", "1_0", "0x1",
    "10m", "7d",
    "36500d", "36501d", "0s", "٣d", "2026-05-04T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00",
    "2026-05-04",
    "20260504", "00000101", "99991231", "Client", "client", "Sale", "NexusClient", "", "-", "--", ".", "..", "mirror.db",
    "out.db",
    "config.toml", "messages.jsonl", "links.csv", "export", "not-there", "sftp://u@127.0.0.1:1/x", "sftp://u:p@127.0.0.1/x",
    "sftp://[",
    "5a0c2d6e-0000-4000-8000-000000000000", "5A0C2D6E-0000-4000-8000-000000000000", "%00", "a" * 5000, "\udcff",
    "\udc80\udc81", "x=y",
    "text", "json", "skip", "fail", "*", "'; drop table Client; --", "\x1b[2J", "\u202e", "line\nfeed", "~", "~nobody-here",
    "env:HOME",
)  # fmt: skip
_ENDLESS = frozenset({"demo"})  # a world of its own, which has its own tests
_NOT_HERE = frozenset({"--follow", "--if-running"})  # wait for something that never comes here


class Called(NamedTuple):
    """The arguments of a call."""

    arguments: tuple[str, ...]


# ---- making


def make(choices: Choices) -> Called:
    """Return a command line: mostly one that the program knows, with values that it may not like."""
    arguments = _options(choices, main.sync, 8)
    command: click.Command = main.sync
    while isinstance(command, click.Group):
        name = choices.among(tuple(command.list_commands(click.Context(command)))) if not choices.one_in(24) else _value(choices)
        arguments.append(name)
        found = None if name in _ENDLESS else command.get_command(click.Context(command), name)
        if found is None:
            break
        command = found
    arguments += _options(choices, command, 2)
    arguments += choices.some(lambda: _value(choices), 3)
    return Called(tuple(each for each in arguments if _can_be_said(each)))


def _options(choices: Choices, command: click.Command, chance: int) -> list[str]:
    said: list[str] = []
    for option in (each for each in command.params if isinstance(each, click.Option)):
        name = choices.among(tuple(option.opts))
        if choices.one_in(chance) or _NOT_HERE.intersection(option.opts):
            continue
        if chance > 2 and not choices.one_in(3):
            continue
        takes_one = not option.is_flag
        said += [f"{name}={_value(choices)}"] if takes_one and choices.one_in(6) else [name, *([_value(choices)] * takes_one)]
    if choices.one_in(16):
        said.append(choices.among(("--help", "--version", "-h", "-x", "--not-there", "--quiet", "--verbose")))
    return said


def _value(choices: Choices) -> str:
    return choices.among(_VALUES) if not choices.one_in(8) else hostile.text(choices, _VALUES)


def _can_be_said(argument: str) -> bool:
    """Return whether a process can be given *argument*, and whether it would ever end."""
    try:
        return b"\0" not in os.fsencode(argument) and argument not in _ENDLESS
    except UnicodeEncodeError:
        return False


# ---- checking


@contextmanager
def open_site(folder: Path) -> Iterator[Callable[[Called], None]]:
    """Let the body check command lines, in a folder deep within *folder*, so that no `..` leads out of it."""
    deep = folder / "a" / "b" / "c"
    deep.mkdir(parents=True)
    filled = _filled(folder)
    before = Path.cwd()
    home = os.environ.get("HOME")
    os.environ["HOME"] = str(folder / "home")

    def check(sent: Called) -> None:
        shutil.rmtree(deep)
        deep.mkdir()
        os.chdir(deep)
        shutil.copyfile(filled, deep / "mirror.db")
        (deep / "config.toml").write_text(_CONFIGURATION, encoding="utf-8")
        (deep / "config.toml").chmod(0o600)
        (deep / "messages.jsonl").write_bytes(messages.make(Choices(b"")).deliveries[0].body)
        (deep / "links.csv").write_text("entity,id,contact_id,tenant_id,location_id\nClient,x,1,11,9\n", encoding="utf-8")
        (deep / "export" / "Tenant11" / "Location9").mkdir(parents=True)
        check_ending(call(sent.arguments))

    try:
        yield check
    finally:
        os.chdir(before)
        os.environ.pop("HOME")
        if home is not None:
            os.environ["HOME"] = home


def _filled(folder: Path) -> Path:
    """Return a mirror that hostile answers and messages have filled."""
    path = folder / "filled.db"
    random = Random(8)
    with Mirror.open(path, feed_tables=FEED_CHILDREN, account="127.0.0.1:1 as salon") as mirror:
        run = mirror.begin_run("deltas")
        for _ in range(60):
            sent = feed.make(Choices(random.randbytes(300)))
            stream = Stream(11, 9, sent.entity)
            for body in sent.bodies:
                try:
                    page = read_page(body, stream, feed.CLOCK)
                except ProtocolError:
                    continue
                with mirror.transaction() as tx:
                    entries = tx.fit(stream, page.entries)
                    held = tx.current(stream, [entry.id for entry in entries if entry.id is not None])
                    tx.carry_out(stream, decide(held, entries, Drained()), run)
                    tx.note(stream, last_error="line\nfeed \x1b[2J \u202e", state="failing")
            Intake(mirror, run, source="nexus ingest").take(messages.make(Choices(random.randbytes(200))).deliveries)
    return path


def size_of(sent: Called) -> int:
    """Return how many characters the arguments have."""
    return sum(map(len, sent.arguments))


TARGET = Target("arguments", make, open_site, size_of, longest=120)
