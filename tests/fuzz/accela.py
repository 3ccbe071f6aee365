"""Target `accela`: Accela at the other end of a line: tokens, contacts, and what it says of a write.

Whatever it answers, each question ends in what was asked for, in a refusal or in one of the errors; a contact goes back to the
letter but for what was to be set; and whole pushes end as documented.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from delta_mirror.accela.api import Accela, Agency
from delta_mirror.accela.contact import FIELDS, Contact, differing, obstructed, shown, with_fields
from delta_mirror.accela.push_plan import Accepted, Lost, Refusal
from delta_mirror.calls.attempts import LONGEST_STOP, Manners
from delta_mirror.core.model import Stream
from delta_mirror.core.plan import Drained, decide
from delta_mirror.dds.tables import FEED_CHILDREN
from delta_mirror.dds.wire import read_page
from delta_mirror.errors import LimitedError, ProtocolError, UnfinishedError
from delta_mirror.mirror.file import own_time
from delta_mirror.mirror.write import Mirror
from fuzz import hostile, line, lossless
from fuzz.calling import SECRET, call, check_ending
from fuzz.choices import Choices
from fuzz.engine import Target
from fuzz.line import Asked, Line
from fuzz.lossless import Members, Sent
from fuzz.mirrors import assert_sound

NOON = 1_777_896_000.0  # 2026-05-04T12:00:00Z
TOKEN, REFRESH = "t0ken-of-the-agency", "r3fresh-of-the-agency"
LONGEST_MESSAGE = 2000  # characters
WANTED = {"firstName": "Ada", "gender": "F", "birthDate": "2001-02-03", "address.city": "Salem", "email": None}

_ID = "5a0c2d6e-0000-4000-8000-000000000001"
_CONTACT_ID = "7"
_TRACES = ("5a0c", "", "\x1b[2J", "x" * 5000, "a b", "\u202e")
_RESETS = ("0", "60", "1777896060", "1777896060000", "9" * 18, "-1", "NaN", "9" * 5000)
_MORE = (("x-accela-traceId", _TRACES), ("X-RateLimit-Reset", _RESETS))
_VALUES = ('{"value":"F","text":"Female"}', '{"value":null}', '{"text":"F"}', '"2001-02-03 00:00:00"', '"Ada"', '""', "null",
           "1.10", "[]", '{"value":{"value":"F"}}', "true", "-0", "1e400", "{}", '"\\ud800"')  # fmt: skip
_CODES = ("emse_error", "data_validation_error", "token_expired", "a b", "\x1b[2J", hostile.CANARY, "x" * 100, "7")
_STATUSES = ("200", "400", '"404"', "500", "200.0", "4e2", "9" * 5000, '"\\u0664\\u0660\\u0664"', "-1", "null", "true")
_LIVES = ("900", '"900"', "0", "-1", "1e400", '"' + "9" * 18 + '"', "9" * 5000, "null", "[" * 90 + "]" * 90, "[" * 2000)
_TOKENS = (f'"{TOKEN}"',) * 6 + ('""', '"a b"', '"a\\r\\nX: y"', '"é"', '"' + "x" * 70_000 + '"', "1", "null", '"\\ud800"')


class Answers(NamedTuple):
    """What Accela answers, by what it is asked for, one after the other."""

    tokens: tuple[bytes, ...]
    readings: tuple[bytes, ...]
    writings: tuple[bytes, ...]


# ---- making


def make(choices: Choices) -> Answers:
    """Return what Accela answers."""

    def some(body: Callable[[], bytes], most: int, odd: int) -> tuple[bytes, ...]:
        if not choices.one_in(odd):
            return ()
        bodies = (body() if not choices.one_in(5) else _error(choices) for _ in range(1 + choices.below(most)))
        return tuple(line.answer(choices, each, _MORE) for each in bodies)

    return Answers(
        some(lambda: _token(choices), 2, 3),
        some(lambda: _reading(choices), 4, 1),
        some(lambda: _error(choices), 2, 2),
    )


def _token(choices: Choices) -> bytes:
    token = choices.among(_TOKENS) if not choices.one_in(8) else hostile.value(choices)
    refresh = choices.among((f'"{REFRESH}"', "null", '"a\\r\\nb"', '"\\ud800"', "{}"))
    pairs = [("access_token", token), ("expires_in", choices.among(_LIVES)), ("refresh_token", refresh)]
    return _octets(choices, hostile.members(choices, pairs))


def _reading(choices: Choices) -> bytes:
    listed = [_contact(choices)] * choices.among((1, 1, 1, 1, 1, 1, 0, 2))
    result = "[" + ",".join(listed) + "]" if choices.below(3) or not listed else listed[0]
    pairs = [("result", result), ("status", choices.among(("200",) * 12 + _STATUSES))]
    if choices.one_in(6):
        pairs.append((hostile.name(choices, ("code", "error", "page", "result")), hostile.value(choices)))
    return _octets(choices, hostile.members(choices, pairs))


def _contact(choices: Choices) -> str:
    def value() -> str:
        return choices.among(_VALUES) if not choices.one_in(4) else hostile.value(choices)

    pairs = [("id", choices.among((f'"{_CONTACT_ID}"',) * 8 + (_CONTACT_ID, '"8"', "null", "7.0", '" 7"')))]
    pairs += choices.some(lambda: (hostile.name(choices, tuple(FIELDS)), value()), 6)
    if choices.below(2):
        parts = choices.some(lambda: (hostile.name(choices, ("city", "state", "addressLine1", "x")), value()), 4)
        pairs.append(("address", hostile.members(choices, parts) if not choices.one_in(6) else value()))
    return hostile.members(choices, pairs)


def _error(choices: Choices) -> bytes:
    if choices.one_in(4):
        return hostile.bent(choices, choices.among((b"", b"<html>", b"null", b"[]", b'"x"', b"[" * 2000, b"\xff\xfe{\0}\0")))

    def code() -> str:
        return hostile.quoted(choices, choices.among(_CODES)) if not choices.one_in(6) else hostile.value(choices)

    def message() -> str:
        return hostile.quoted(choices, choices.among(("firstName is wrong", hostile.CANARY, "", "." * 5000)))

    pairs = [("status", choices.among(_STATUSES)), ("code", code()), ("message", message()), ("traceId", code())]
    pairs += [("error", code())] if choices.one_in(4) else []
    return _octets(choices, hostile.members(choices, [pair for pair in pairs if not choices.one_in(5)]))


def _octets(choices: Choices, text: str) -> bytes:
    octets = text.encode(choices.among(("utf-8",) * 12 + ("utf-8-sig", "utf-16")), "surrogatepass")
    return hostile.bent(choices, octets) if choices.one_in(6) else octets


# ---- the other end


class _Service:
    """Answers as the script has it, and in good order once that is spent."""

    def __init__(self, sent: Answers) -> None:
        self._left = {"/oauth2/token": list(sent.tokens), "GET": list(sent.readings), "PUT": list(sent.writings)}

    def __call__(self, asked: Asked) -> bytes:
        kind = asked.target if asked.target in self._left else asked.method
        return self._left[kind].pop(0) if self._left[kind] else line.plain(_PLAIN[kind])


_PLAIN = {
    "/oauth2/token": f'{{"access_token":"{TOKEN}","expires_in":"900","refresh_token":"{REFRESH}"}}'.encode(),
    "GET": f'{{"result":[{{"id":"{_CONTACT_ID}","firstName":"Ada"}}],"status":200}}'.encode(),
    "PUT": b'{"result":{},"status":200}',
}


# ---- checking


@contextmanager
def open_site(folder: Path) -> Iterator[Callable[[Answers], None]]:
    """Let the body check answers, in *folder*."""
    work = folder / "work"
    with Line() as host:
        configuration = folder / "config.toml"
        configuration.write_text(_CONFIGURATION.format(url=host.url), encoding="utf-8")
        configuration.chmod(0o600)
        (folder / "links.csv").write_text(
            f"entity,id,contact_id,tenant_id,location_id\nClient,{_ID},{_CONTACT_ID},11,9\n", encoding="utf-8"
        )
        linked = _linked(folder, configuration)

        def check(sent: Answers) -> None:
            host.script(_Service(sent))
            _ask(host)
            _check_asked(host)
            host.script(_Service(sent))
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            shutil.copyfile(linked, work / "mirror.db")
            for command in (("push", "--dry-run"), ("push",), ("push", "--retry-failed", "--json")):
                ended = call(("--config", str(configuration), "--verbose", "accela", *command))
                # A dry run shows what it would change, which is what it is for.
                shows = (SECRET, TOKEN, REFRESH) if "--dry-run" in command else (SECRET, TOKEN, REFRESH, hostile.CANARY)
                check_ending(ended, silent_about=shows)
            _check_asked(host)
            assert_sound(work / "mirror.db")

        yield check


def _linked(folder: Path, configuration: Path) -> Path:
    """Return a mirror with one client that is linked to a contact, and has never been pushed."""
    work = folder / "work"
    work.mkdir()
    stream = Stream(11, 9, "Client")
    body = f'{{"data": [{{"Client_T": {{"EntityId": "{_ID}", "FirstName": "Ada", "City": "Salem", "Gender": "F"}}}}]}}'
    with Mirror.open(work / "mirror.db", feed_tables=FEED_CHILDREN, account="127.0.0.1:1 as salon") as mirror:
        run = mirror.begin_run("deltas")
        with mirror.transaction() as tx:
            entries = tx.fit(stream, read_page(body.encode(), stream, 0).entries)
            tx.carry_out(stream, decide(tx.current(stream, [_ID]), entries, Drained()), run)
    ended = call(("--config", str(configuration), "accela", "link", str(folder / "links.csv")))
    assert ended.code == 0, ended.err
    shutil.copyfile(work / "mirror.db", folder / "linked.db")
    assert not os.path.exists(work / "mirror.db-wal"), "the mirror is not in one file"  # noqa: PTH110 - a name beside another
    return folder / "linked.db"


def _ask(host: Line) -> None:
    """Read a contact, set what is wanted in it, and write it."""
    slept: list[float] = []
    agency = Agency(host.url, host.url, "app", SECRET, "SALON", "PROD", "sync", SECRET, "")
    manners = Manners(timeout=5.0, attempts=2, max_wait=60.0, ca_file="")
    accela = Accela(agency, manners, now=lambda: NOON, sleep=slept.append, jitter=lambda: 0.0)
    try:
        contact = accela.get(_CONTACT_ID)
        if isinstance(contact, Refusal):
            _check_said(str(contact))
            return
        _check_contact(contact)
        if obstructed(contact, WANTED):
            return
        before = len(host.asked)
        changed = with_fields(contact, WANTED)
        told = accela.put(_CONTACT_ID, changed, list(WANTED))
        assert isinstance(told, Accepted | Lost | Refusal)
        _check_said(told.trouble if isinstance(told, Lost) else f"{told}{told.trace_id}{told.code}")
        for asked in host.asked[before:]:
            if asked.method == "PUT":
                _check_written(contact, changed, asked.body)
    except UnfinishedError as error:
        _check_said(str(error))
        if isinstance(error, LimitedError) and error.until is not None:
            assert NOON <= error.until <= NOON + LONGEST_STOP, "a stop has no end"
            own_time(error.until)
        assert not isinstance(error, ProtocolError) or "answer" in str(error)
    finally:
        accela.close()
    assert all(0 <= pause <= 60.0 for pause in slept), "a pause is longer than it may be"


def _check_said(said: str) -> None:
    for secret in (SECRET, TOKEN, REFRESH, hostile.CANARY):
        assert secret not in said, "a message has a secret or a value in it"
    assert said.isprintable(), "a message cannot be printed"
    assert len(said) < LONGEST_MESSAGE, "a message is endless"


def _check_contact(contact: Contact) -> None:
    assert contact.get("id") in (_CONTACT_ID, None), "this is another contact"
    for field in FIELDS:
        assert isinstance(shown(contact, field), str)
    assert set(differing(contact, WANTED)) <= set(WANTED)


def _check_written(contact: Contact, changed: Contact, body: bytes) -> None:
    """Fail unless *body* is the *contact* as it was read, but for what was to be set."""
    assert body.isascii()
    written = lossless.parse(body)
    assert isinstance(written, Members)
    assert not lossless.holds_a_name_twice(written)
    untouched = {name for name in contact if name not in WANTED and name != "address"}
    for name, value in written:
        if name in untouched:
            assert lossless.content_of(value) == _content(contact[name]), f"the field {name!r} was bent"
    assert [name for name, _ in written][: len(contact)] == list(contact), "a field is gone"
    assert {name for name, _ in written} - set(contact) <= {field.partition(".")[0] for field in WANTED}, "a field came to it"


def _content(read: object) -> bytes:
    """Return the content of what the program has read, as `lossless` has it of what was sent."""
    if isinstance(read, dict):
        return lossless.content_of(Members((name, _sent(value)) for name, value in read.items()))
    return lossless.content_of(_sent(read))


def _sent(read: object) -> Sent:
    if isinstance(read, dict):
        return Members((name, _sent(value)) for name, value in read.items())
    if isinstance(read, list):
        return [_sent(value) for value in read]
    if isinstance(read, str) and type(read) is not str:
        return lossless.Digits(read)
    assert read is None or isinstance(read, bool | str)
    return read


def _check_asked(host: Line) -> None:
    """Fail unless secrets and tokens went where they belong, and a contact was written by its own address alone."""
    assert len(host.asked) < 100, "there is no end of asking"
    for asked in host.asked:
        is_token_call = asked.target == "/oauth2/token"
        assert (SECRET.encode() in asked.body) == is_token_call, "the secret stands where it does not belong"
        assert SECRET not in asked.target + repr(asked.headers), "the secret stands where it does not belong"
        assert ("authorization" in asked.headers) != is_token_call, "the token stands where it does not belong"
        assert is_token_call or asked.target == f"/v4/contacts/{_CONTACT_ID}", "another contact was asked for"
        assert set(asked.headers) <= _HEADERS, "there is a header that nobody has asked for"


_HEADERS = {"host", "user-agent", "accept", "accept-encoding", "connection", "authorization", "content-length", "content-type",
            "x-accela-appid", "x-accela-agency", "x-accela-environment"}  # fmt: skip
_CONFIGURATION = f"""
[mirror]
path = "work/mirror.db"
[http]
attempts = 1
timeout = "5s"
[dds]
marketplace_url = "http://127.0.0.1:1"
client_id = "salon"
client_secret = "{SECRET}"
[accela]
auth_url = "{{url}}"
api_url = "{{url}}"
app_id = "app"
app_secret = "{SECRET}"
agency = "SALON"
username = "sync"
password = "{SECRET}"
[accela.map.Client]
"firstName" = "FirstName"
"gender" = "Gender"
"address.city" = "City"
"email" = {{{{ column = "EmailAddress", clear = true }}}}
"""


def size_of(sent: Answers) -> int:
    """Return how many octets the answers have, those that unpack to more apart."""
    return sum(len(each) for part in sent for each in part)


TARGET = Target("accela", make, open_site, size_of)
