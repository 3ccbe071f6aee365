"""Target `broker`: a Service Bus at the other end of a line: messages under a lock, and what is said of settling them.

Whatever it answers, each question ends in what was asked for or in one of the errors; a message that is taken is the body of
the answer; it is settled at the host that was asked; the key goes nowhere; and whole commands end as documented.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from delta_mirror.calls.attempts import LONGEST_STOP, Manners
from delta_mirror.errors import LimitedError, UnfinishedError
from delta_mirror.jobs.intake import make_tables
from delta_mirror.mirror.file import own_time
from delta_mirror.mirror.write import Mirror
from delta_mirror.nexus.broker import LONGEST_LOCK, Locked
from delta_mirror.nexus.bus import Bus, Subscription
from fuzz import hostile, line, messages
from fuzz.calling import SECRET, call, check_ending
from fuzz.choices import Choices
from fuzz.engine import Target
from fuzz.line import Asked, Line
from fuzz.mirrors import assert_sound, template

NOON = 1_777_896_000.0  # 2026-05-04T12:00:00Z
PATH = "/changes/subscriptions/mirror"
LONGEST_MESSAGE = 2000  # characters
MOST_ASKED = 200  # requests of one run

_PROPERTIES = (
    '{"MessageId":"m1","SequenceNumber":1,"LockToken":"5a0c","LockedUntilUtc":"Mon, 04 May 2026 12:00:30 GMT"}',
    '{"LockToken":"../../x","SequenceNumber":"1"}', '{"LockToken":"a b\\r\\nX: y","MessageId":"%2e%2e/"}', "{}", "[]", "{", "",
    '{"SequenceNumber":9223372036854775808,"LockToken":"\\u0000"}',
    '{"LockedUntilUtc":"Fri, 31 Dec 9999 23:59:59 GMT","LockToken":"é"}',
    '{"LockedUntilUtc":"0001-01-01T00:00:00+14:00","DeliveryCount":-1,"LockToken":"?","SequenceNumber":7}', "[" * 5000,
)  # fmt: skip
_LOCATIONS = (
    "http://here" + PATH + "/messages/1/5a0c", PATH + "/messages/1/5a0c", "messages/1/5a0c", "http://here/../x?y#z",
    "http://here:1/messages/1/2",
    "https://elsewhere.example/messages/1/2", "//elsewhere.example/messages/a/b", "http://[", "\x1b[2J",
    "http://here/messages/é/2",
    "http://here" + PATH + "/$DeadLetterQueue/messages/1/2", "http://here/\x00 HTTP/1.1",
    "http://here" + PATH + "/messages/ 1/\t2",
    "",
)  # fmt: skip
_MORE = (
    ("BrokerProperties", _PROPERTIES), ("Location", _LOCATIONS),
    ("x-ms-request-id", ("5a0c", "", "\x1b[2J", "x" * 5000, "\u202e")),
    ("DeadLetterReason", ("x",)),
)  # fmt: skip


class Answers(NamedTuple):
    """What the broker answers, one after the other: to who asks for a message, and to who settles one."""

    taken: tuple[bytes, ...]
    settled: tuple[bytes, ...]


# ---- making


def make(choices: Choices) -> Answers:
    """Return what the broker answers."""
    taken = tuple(_taken(choices) for _ in range(1 + choices.below(3)))
    settled = choices.some(lambda: line.answer(choices, hostile.bent(choices, b"messaging entity")[:200], _MORE), 3)
    return Answers(taken, tuple(settled))


def _taken(choices: Choices) -> bytes:
    made = messages.make(choices)
    body = made.deliveries[0].body if made.deliveries else made.answers[0].body
    if choices.one_in(3):
        return line.answer(choices, body, _MORE)
    headers = [("BrokerProperties", choices.among(_PROPERTIES)), ("Location", choices.among(_LOCATIONS))]
    return line.plain(body, 201, [pair for pair in headers if not choices.one_in(6)])


# ---- the other end


class _Broker:
    """Answers as the script has it, and with nothing, or that it is done, once that is spent."""

    def __init__(self, sent: Answers, url: str) -> None:
        self._url = url.encode()
        self._taken, self._settled = list(sent.taken), list(sent.settled)

    def __call__(self, asked: Asked) -> bytes:
        left = self._taken if "/messages/head" in asked.target else self._settled
        if left:
            return left.pop(0).replace(b"http://here", self._url)
        return line.plain(b"", 204 if left is self._taken else 200)


# ---- checking


@contextmanager
def open_site(folder: Path) -> Iterator[Callable[[Answers], None]]:
    """Let the body check answers, in *folder*."""
    plain, empty = template(folder), folder / "empty-nexus.db"
    shutil.copyfile(plain, empty)
    with Mirror.open(empty) as mirror:
        make_tables(mirror)
    work = folder / "work"
    with Line() as host:
        configuration = folder / "config.toml"
        configuration.write_text(_CONFIGURATION.format(url=host.url), encoding="utf-8")
        configuration.chmod(0o600)

        def check(sent: Answers) -> None:
            host.script(_Broker(sent, host.url))
            _ask(host, sent)
            _check_asked(host)
            host.script(_Broker(sent, host.url))
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            shutil.copyfile(empty, work / "mirror.db")
            command = ("--config", str(configuration), "--verbose", "nexus", "receive", "--wait", "0s", "--max", "4")
            check_ending(call(command), silent_about=(SECRET, hostile.CANARY))
            _check_asked(host)
            assert_sound(work / "mirror.db")

        yield check


def _ask(host: Line, sent: Answers) -> None:
    """Take messages and settle them, and ask for everything else that there is to be asked for."""
    slept: list[float] = []
    stops: list[float | None] = []
    bus = Bus(
        Subscription(host.url, "changes", "mirror", "listen", SECRET),
        Manners(timeout=5.0, attempts=2, max_wait=60.0, ca_file=""),
        stops.append,
        now=lambda: NOON,
        sleep=slept.append,
        jitter=lambda: 0.0,
    )
    try:
        for settle in (bus.complete, bus.unlock, bus.renew):
            _answered(lambda settle=settle: _settle(bus.take(0), settle, sent))  # type: ignore[misc]
        _answered(bus.knock)
        assert bus.has_dead_letters() in (True, False)
        own_time(NOON + bus.clock_behind())
    finally:
        bus.close()
    assert all(0 <= pause <= 60.0 for pause in slept), "a pause is longer than it may be"
    assert all(until is None or NOON <= until <= NOON + LONGEST_STOP for until in stops), "a stop has no end"


def _settle(locked: Locked | None, settle: Callable[[Locked], object], sent: Answers) -> None:
    if locked is None:
        return
    assert locked.target.startswith("/"), "a message would be settled somewhere else"
    assert 0 < locked.seconds <= LONGEST_LOCK
    body = locked.delivery.body
    assert any(body in answer or b"Encoding" in answer for answer in sent.taken), "a message is not what was sent"
    settle(locked)


def _answered(ask: Callable[[], object]) -> None:
    try:
        ask()
    except UnfinishedError as error:
        said = str(error)
        assert SECRET not in said, "a message has a secret in it"
        assert hostile.CANARY not in said, "a message has a value in it"
        assert said.isprintable(), "a message cannot be printed"
        assert len(said) < LONGEST_MESSAGE, "a message is endless"
        if isinstance(error, LimitedError) and error.until is not None:
            own_time(error.until)


def _check_asked(host: Line) -> None:
    """Fail unless all was asked in good form, and the key is nowhere."""
    assert len(host.asked) < MOST_ASKED, "there is no end of asking"
    for asked in host.asked:
        assert asked.method in ("POST", "PUT", "DELETE")
        assert asked.target.startswith("/")
        assert SECRET not in asked.target + repr(asked.headers) + repr(asked.body), "the key is sent"
        assert asked.headers["authorization"].startswith("SharedAccessSignature ")
        assert set(asked.headers) <= _HEADERS, "there is a header that nobody has asked for"


_HEADERS = {"host", "user-agent", "accept-encoding", "authorization", "content-length"}
_CONFIGURATION = f"""
[mirror]
path = "work/mirror.db"
[http]
attempts = 1
timeout = "5s"
[nexus]
service_bus_url = "{{url}}"
topic = "changes"
subscription = "mirror"
key_name = "listen"
key = "{SECRET}"
"""


def size_of(sent: Answers) -> int:
    """Return how many octets the answers have, those that unpack to more apart."""
    return sum(len(each) for part in sent for each in part)


TARGET = Target("broker", make, open_site, size_of)
