"""Target `service`: the DDS at the other end of a line: tokens, tenants, enums, single records, pages, errors, and headers.

Whatever it answers, each question ends in what was asked for or in one of the errors; what is taken from an answer stands in
it; the token goes where it belongs and the secret nowhere else; and whole commands end as documented.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, cast

from delta_mirror.calls.attempts import LONGEST_STOP
from delta_mirror.core.model import PageRequest, Stream
from delta_mirror.dds.answers import read_tenants
from delta_mirror.dds.api import Account, Dds, Manners
from delta_mirror.errors import LimitedError, UnfinishedError
from delta_mirror.mirror.file import own_time
from fuzz import feed, hostile, line, lossless
from fuzz.calling import SECRET, call, check_ending
from fuzz.choices import Choices
from fuzz.engine import Target
from fuzz.line import Asked, Line
from fuzz.lossless import Digits, Members, NoJsonError, Sent
from fuzz.mirrors import assert_sound, template

NOON = 1_777_896_000.0  # 2026-05-04T12:00:00Z
STREAM = Stream(11, 9, "Client")
TOKEN = "t0ken-of-the-shop"
LARGEST_ID = 2**63 - 1
LARGEST_BODY = 4 << 20
LONGEST_MESSAGE = 2000  # characters

_ID = "5a0c2d6e-0000-4000-8000-000000000000"
_HERE = "http://here"  # stands for the line's own address
_ADDRESSES = (
    _HERE, f"{_HERE}/publicapi/", f"{_HERE}/a/../b", f" {_HERE}\t", "http://localhost:1", "https://127.0.0.1:1", "http://elsewhere.example",
    "ftp://127.0.0.1", "https://u:p@127.0.0.1:1", "https://127.0.0.1:1?x", "https://[", "https://127.0.0.1:99999", "//x", "x", "",
    "https://127.0.0.1:1/\x1b[2J", "https://127.0.0.1:1/" + "x" * 5000, "http://127.0.0.1:1/é\udcff", "https://127.0.0.1:1\\@elsewhere.example",
    "https://" + "x" * 300, "https://127.0.0.1:1/\r\nX: y", "https://xn--a.xn--\x00",
)  # fmt: skip
_IDS = ("11", "9", '"11"', "0", "-1", "9223372036854775807", "9223372036854775808", "18446744073709551616", "11.0", "1e1", "true",
        '"٣"', '"011"', '"9223372036854775808"', '" 11"', "null", "[11]")  # fmt: skip
_LIVES = ("3600", '"3600"', "0", "-1", "1e400", "1e-9", '"1e9"', "9" * 18, "9" * 19, '"' + "9" * 18 + '"', "true", "null",
          "[" * 1000 + "]" * 1000, '{"a":' * 300 + "1" + "}" * 300)  # fmt: skip
_TOKENS = (f'"{TOKEN}"',) * 6 + ('""', '"a b"', '"a\\r\\nX: y"', '"é"', '"' + "x" * 70_000 + '"', "1", "null", '"\\u0000"')
_ERRORS = (
    '{"error":"invalid_client"}', '{"error":"\\u001b[2J"}', '{"Error":{"ErrorCode":7,"ReferenceId":"a b"},"ReferenceId":"5a0c"}',
    '{"referenceId":' + "7" * 5000 + "}", '{"statusCode":404,"message":"Resource not found"}', "<html>", "", "null", "[]",
    "\ufeff{}", '{"message":"' + hostile.CANARY + '"}', "[" * 2000,
)  # fmt: skip


class Answers(NamedTuple):
    """What the service answers, by what it is asked for, one after the other, and which public address it has."""

    tokens: tuple[bytes, ...]
    tenants: tuple[bytes, ...]
    pages: tuple[bytes, ...]
    enums: tuple[bytes, ...]
    is_listed: bool


# ---- making


def make(choices: Choices) -> Answers:
    """Return what the service answers."""

    def some(body: Callable[[], bytes], odd: int) -> tuple[bytes, ...]:
        if not choices.one_in(odd):
            return ()
        return tuple(
            line.answer(choices, body() if not choices.one_in(6) else _error(choices)) for _ in range(1 + choices.below(2))
        )

    is_listed = choices.below(2) == 1
    return Answers(
        some(lambda: _token(choices), 3),
        some(lambda: _tenants(choices), 1 if is_listed else 8),
        some(lambda: feed.make(choices).bodies[0], 2),
        some(lambda: _enums(choices), 2),
        is_listed,
    )


def _error(choices: Choices) -> bytes:
    text = choices.among(_ERRORS) if not choices.one_in(4) else hostile.value(choices)
    return hostile.bent(choices, text.encode("utf-8", "surrogatepass"))


def _token(choices: Choices) -> bytes:
    token = choices.among(_TOKENS) if not choices.one_in(8) else hostile.value(choices)
    pairs = [("access_token", token), ("expires_in", choices.among(_LIVES)), ("token_type", '"Bearer"')]
    pairs += choices.some(lambda: (hostile.name(choices, ("access_token", "expires_in", "scope")), hostile.value(choices)), 2)
    return _octets(choices, hostile.members(choices, pairs))


def _tenants(choices: Choices) -> bytes:
    def location() -> str:
        id_ = choices.among(_IDS)
        return id_ if choices.below(2) else hostile.members(choices, [(hostile.name(choices, ("locationId", "id")), id_)])

    def tenant() -> str:
        if choices.one_in(10):
            return hostile.value(choices)
        pairs = [
            (hostile.name(choices, ("tenantId", "TenantId", "id")), choices.among(_IDS)),
            (hostile.name(choices, ("locations", "locationIds", "Locations")), "[" + ",".join(choices.some(location, 4)) + "]"),
            ("publicApiUrl", hostile.quoted(choices, choices.among(_ADDRESSES))),
        ]
        pairs += choices.some(lambda: (hostile.name(choices, ("locationId", "tenantId")), hostile.value(choices)), 2)
        return hostile.members(choices, pairs)

    found = "[" + ",".join([tenant(), *choices.some(tenant, 3)]) + "]"
    for _ in range(choices.below(4)):
        found = hostile.members(choices, [(hostile.name(choices, ("tenants", "data", "id")), found)])
    return _octets(choices, found)


def _enums(choices: Choices) -> bytes:
    def values() -> str:
        names = ("2026", "2028", "-1", "01", "1", "1.0", "9" * 30, "1e5", "Active")
        pairs = choices.some(lambda: (hostile.name(choices, names), hostile.scalar(choices, ("Active", "Deleted"))), 5)
        return hostile.members(choices, pairs)

    def pair() -> tuple[str, str]:
        name = hostile.name(choices, ("ObjectStateEnum", "GenderEnum", "objectstateenum"))
        if choices.one_in(3):
            return name, hostile.members(
                choices, choices.some(lambda: (hostile.name(choices, ("ObjectState", "A")), values()), 3)
            )
        return name, values() if not choices.one_in(8) else hostile.value(choices)

    return _octets(choices, hostile.members(choices, [pair(), *choices.some(pair, 3)]))


def _octets(choices: Choices, text: str) -> bytes:
    octets = text.encode("utf-8", "surrogatepass")
    return hostile.bent(choices, octets) if choices.one_in(5) else octets


# ---- the other end


class _Service:
    """Answers as the script has it, and in good order once that is spent. `bodies` are those of what was answered."""

    def __init__(self, sent: Answers, url: str) -> None:
        self._url = url
        self._left = {
            "tokens": list(sent.tokens),
            "tenants": list(sent.tenants),
            "pages": list(sent.pages),
            "enums": list(sent.enums),
        }

    def __call__(self, asked: Asked) -> bytes:
        kind = next(kind for part, kind in _KINDS if part in asked.target)
        left = self._left[kind]
        if left:
            return left.pop(0).replace(_HERE.encode(), self._url.encode())
        return line.plain(_PLAIN[kind].replace(_HERE, self._url).encode())


_KINDS = (("/oauth2/token", "tokens"), ("/apps/tenant", "tenants"), ("/system/enums", "enums"), ("/", "pages"))
_PLAIN = {
    "tokens": f'{{"access_token":"{TOKEN}","expires_in":3600}}',
    "tenants": f'[{{"tenantId":11,"locations":[9],"publicApiUrl":"{_HERE}"}}]',
    "pages": '{"data":[]}',
    "enums": '{"ObjectStateEnum":{"2026":"Active"}}',
}


class _Memory:
    """Remembers the last answer of apps/tenant."""

    def __init__(self) -> None:
        self.body: str | None = None

    def remembered(self, day: str) -> str | None:
        """Return what was kept."""
        return self.body

    def remember(self, day: str, body: str) -> None:
        """Keep *body*."""
        self.body = body


class _Ledger:
    """Admits everything; notes until when it was told to stop."""

    def __init__(self) -> None:
        self.until: list[float | None] = []

    def admit(self, stream: Stream) -> None:
        """Admit it."""

    def check(self, stream: Stream) -> None:
        """Find nothing."""

    def limited(self, stream: Stream | None, until: float | None) -> None:
        """Note it."""
        self.until.append(until)


# ---- checking


@contextmanager
def open_site(folder: Path) -> Iterator[Callable[[Answers], None]]:
    """Let the body check answers, in *folder*."""
    empty = template(folder)
    work = folder / "work"
    with Line() as host:

        def check(sent: Answers) -> None:
            host.script(_Service(sent, host.url))
            _ask(host, sent)
            _check_asked(host)
            host.script(_Service(sent, host.url))
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            shutil.copyfile(empty, work / "mirror.db")
            _run(work, host, sent)
            _check_asked(host)

        yield check


def _ask(host: Line, sent: Answers) -> None:
    """Ask for everything that there is to be asked for, and look at what is taken from the answers."""
    ledger, memory = _Ledger(), _Memory()
    slept: list[float] = []
    account = Account(host.url, "" if sent.is_listed else host.url, "salon", SECRET)
    dds = Dds(
        account,
        Manners(timeout=5.0, attempts=2, max_wait=60.0, ca_file=""),
        ledger,
        memory,
        now=lambda: NOON,
        sleep=slept.append,
        jitter=lambda: 0.0,
        largest_body=LARGEST_BODY,
    )
    request = PageRequest("2026-05-04T10:00:00Z", 0, 200, may_be_past_end=False)
    try:
        for question in (
            lambda: _check_places(dds.locations(), memory.body),
            lambda: dds.greet(STREAM),
            lambda: _check_enums(dds.fetch_enums(STREAM), sent),
            lambda: dds.fetch(STREAM, request),
            lambda: dds.fetch_latest(STREAM, _ID),
        ):
            try:
                question()
            except UnfinishedError as error:
                _check_error(error)
        own_time(dds.clock() // 10_000_000 - 62_135_596_800)
    finally:
        dds.close()
    assert all(0 <= pause <= 60.0 for pause in slept), "a pause is longer than it may be"
    assert all(until is None or NOON <= until <= NOON + LONGEST_STOP for until in ledger.until), "a stop has no end"


def _check_error(error: UnfinishedError) -> None:
    said = str(error)
    for secret in (SECRET, TOKEN, hostile.CANARY):
        assert secret not in said, "a message has a secret or a value in it"
    assert said.isprintable(), "a message cannot be printed"
    assert len(said) < LONGEST_MESSAGE, "a message is endless"
    if isinstance(error, LimitedError) and error.until is not None:
        own_time(error.until)


def _check_places(places: Sequence[tuple[int, int]], remembered: str | None) -> None:
    """Fail unless the ids of *places* were sent, and can be stored and configured."""
    assert remembered is not None, "the answer is not remembered"
    again = [(id_, location) for id_, tenant in read_tenants(remembered.encode()).items() for location in tenant.locations]
    assert again == places, "what is remembered reads otherwise"
    numbers = {int(each) for each in _numbers(lossless.parse(remembered))}
    for id_ in (id_ for place in places for id_ in place):
        assert id_ in numbers, "there is an id that was not sent"
        assert 1 <= id_ <= LARGEST_ID, "there is an id that no column holds"


def _numbers(sent: Sent) -> Iterator[str]:
    waiting = [sent]
    while waiting:
        now = waiting.pop()
        if isinstance(now, Members):
            waiting += [value for _, value in now]
        elif isinstance(now, list):
            waiting.extend(cast("list[Sent]", now))
        elif isinstance(now, str) and now.isascii() and now.removeprefix("-").isdecimal() and len(now) < 4000:
            yield now


def _check_enums(enums: object, sent: Answers) -> None:
    """Fail unless every name, key and label of *enums* was sent."""
    assert isinstance(enums, dict)
    if any(b"Content-Encoding" in each or b"chunked" in each for each in sent.enums):
        return
    bodies = [*(each.partition(b"\r\n\r\n")[2] for each in sent.enums), _PLAIN["enums"].encode()]
    sent_texts: set[str] = set()
    for body in bodies:
        try:
            sent_texts |= set(_texts(lossless.parse(body)))
        except NoJsonError:
            continue
    for name, values in enums.items():
        assert {name, *values} <= sent_texts, "there is an enum that was not sent"


def _texts(sent: Sent) -> Iterator[str]:
    waiting = [sent]
    while waiting:
        now = waiting.pop()
        if isinstance(now, Members):
            yield from (name for name, _ in now)
            waiting += [value for _, value in now]
        elif isinstance(now, list):
            waiting.extend(cast("list[Sent]", now))
        elif isinstance(now, str) and not isinstance(now, Digits):
            yield now


def _check_asked(host: Line) -> None:
    """Fail unless secret and token went where they belong."""
    assert len(host.asked) < 200, "there is no end of asking"
    for asked in host.asked:
        is_token_call = asked.target.endswith("/oauth2/token")
        assert (SECRET.encode() in asked.body) == is_token_call, "the secret stands where it does not belong"
        assert SECRET not in asked.target + repr(asked.headers), "the secret stands where it does not belong"
        assert ("authorization" in asked.headers) != is_token_call, "the token stands where it does not belong"
        assert set(asked.headers) <= _HEADERS, "there is a header that nobody has asked for"


_HEADERS = {"host", "user-agent", "accept", "accept-encoding", "connection", "authorization", "content-length", "content-type"}


def _run(work: Path, host: Line, sent: Answers) -> None:
    """Let whole commands meet the same answers."""
    configuration = work / "config.toml"
    configuration.write_text(_CONFIGURATION.format(url=host.url, public="" if sent.is_listed else host.url), encoding="utf-8")
    configuration.chmod(0o600)
    for command in (("--verbose", "deltas"), ("refetch", "Client", _ID), ("status",)):
        if command[0] == "refetch" and sent.is_listed:
            continue
        check_ending(call(("--config", str(configuration), *command)), silent_about=(SECRET, TOKEN, hostile.CANARY))
    assert_sound(work / "mirror.db")


_CONFIGURATION = f"""
[mirror]
path = "mirror.db"
[http]
attempts = 1
timeout = "5s"
[dds]
marketplace_url = "{{url}}"
public_api_url = "{{public}}"
client_id = "salon"
client_secret = "{SECRET}"
entities = ["Client"]
calls_per_minute = 0
calls_per_day = 30
"""


def size_of(sent: Answers) -> int:
    """Return how many octets the answers have, those that unpack to more apart."""
    return sum(len(each) for part in (sent.tokens, sent.tenants, sent.pages, sent.enums) for each in part)


TARGET = Target("service", make, open_site, size_of)
