"""The answers of Accela, read: a token, a contact, an error, and for how long to wait.

Invariants:

- What is read is either what was asked for or a refusal. A contact with another id than the one asked for is neither.
- Of the service's own words only codes, trace ids and names of fields are taken over: its messages can hold values.
- Each thing is read in every form that was seen or can be meant: numbers as text, an array or an object, a time as seconds from
  now or since the epoch.

Source: docs/accela.md, "Tokens", "Answers and errors".
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from delta_mirror.accela.contact import Contact
from delta_mirror.accela.exact import Digits, Json, TwiceError, UnreadableError, read_json
from delta_mirror.accela.push_plan import EMSE, Accepted, Refusal
from delta_mirror.calls.attempts import LONGEST_STOP, read_http_date, read_seconds
from delta_mirror.calls.attempts import asked_pause as retry_after
from delta_mirror.errors import ProtocolError

TOKEN_LIFE = 900.0  # seconds, where the service does not say
TOKEN_MARGIN = 60.0  # seconds before its end at which a token is renewed
_EPOCH_FROM = 1e9  # from here on a number of seconds is a date, and from a thousand times that one in milliseconds

_TOKEN = re.compile(r"[\x21-\x7e]+", re.ASCII)
_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_RESERVED = {".": ".0", "-": ".1", "%": ".2", "/": ".3", " ": ".c", "&": ".d", "#": ".e"}


class Grant(NamedTuple):
    """A token of access, when to renew it (our own seconds since the epoch), and what to renew it with, empty where nothing."""

    access: str
    renew_at: float
    refresh: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, read whole. Names of headers are in lower case; `received` is our own clock, in seconds since the epoch."""

    status: int
    body: bytes = field(repr=False)
    headers: Mapping[str, str]
    received: float

    @property
    def trace_id(self) -> str | None:
        """What the vendor's support asks for, None where the answer bears none."""
        return _code(self.headers.get("x-accela-traceid"))


def escaped(id_: str) -> str:
    """Return an id as it stands in a path: reserved characters by the service's own escapes."""
    return "".join(_RESERVED.get(each, each) for each in id_)


def read_grant(answer: Answer, asked: float) -> Grant:
    """Return the tokens of an answer to a call that was made at *asked*. `expires_in` may be text, or missing.

    Raises:
        ProtocolError: there is none that a header can carry.
    """
    found = _object(answer)
    access, refresh = found.get("access_token"), found.get("refresh_token")
    if not isinstance(access, str) or not _TOKEN.fullmatch(access):
        raise ProtocolError("the answer to a call for a token holds none that can be sent; check accela.auth_url")
    life = _seconds(found.get("expires_in")) or TOKEN_LIFE
    return Grant(access, asked + life - min(TOKEN_MARGIN, life / 2), refresh if isinstance(refresh, str) else "")


def read_contact(answer: Answer, id_: str) -> Contact | Refusal:
    """Return the contact *id_*, or what the answer says instead; one without any contact says that it is gone.

    Raises:
        ProtocolError: it is no answer of the service, or holds another contact.
    """
    refusal = read_refusal(answer)
    if refusal is not None:
        return refusal
    result = _object(answer).get("result")
    listed = result if isinstance(result, list) else [] if result is None else [result]
    if not listed:
        return Refusal(404, "resource_not_found", answer.trace_id)
    contacts = [each for each in listed if isinstance(each, dict) and each]
    for contact in contacts:
        # One that comes alone and names no id is the one that was asked for.
        if contact.get("id") == id_ or (len(listed) == 1 and contact.get("id") is None):
            return contact
    trace = answer.trace_id or "it bears none"
    raise ProtocolError(f"the answer holds another contact than the one asked for, or none that can be read (traceId {trace})")


def read_told(answer: Answer, fields: Collection[str]) -> Accepted | Refusal:
    """Return what the answer to a PUT says; *fields* are those that a refusal may name.

    Raises:
        ProtocolError: it is no answer of the service, although its status is one of success.
    """
    if answer.status // 100 == 2 and _object(answer).get("code") == EMSE:
        return Accepted(answer.trace_id, EMSE)
    return read_refusal(answer, fields) or Accepted(answer.trace_id)


def read_refusal(answer: Answer, fields: Collection[str] = ()) -> Refusal | None:
    """Return the error that an answer is, None where it is none. An error may come with a status of success.

    Raises:
        ProtocolError: it is no answer of the service, although its status is one of success.
    """
    status = answer.status
    try:
        found = _object(answer)
    except ProtocolError:
        if status // 100 == 2:
            raise
        found = {}
    if status // 100 == 2:
        said = _seconds(found.get("status"))
        if said is not None and 400 <= said < 600:
            status = int(said)
        elif _code(found.get("error")) and not {"access_token", "result"} & found.keys():
            status = 400  # in the form of OAuth, which has no status of its own
        else:
            return None
    code = _code(found.get("code")) or _code(found.get("error")) or f"status_{status}"
    message = found.get("message")
    named = tuple(name for name in fields if isinstance(message, str) and re.search(rf"\b{re.escape(name)}\b", message))
    return Refusal(status, code, answer.trace_id or _code(found.get("traceId")), named)


def asked_pause(answer: Answer) -> float | None:
    """Return for how many seconds the service asks, None where it does not say.

    By `Retry-After`, else by `X-RateLimit-Reset`, of which nothing says whether it counts from now or from 1970.
    """
    then = read_http_date(answer.headers.get("date", ""))
    after = retry_after(answer.headers.get("retry-after", ""), answer.received if then is None else then)
    reset = _seconds(answer.headers.get("x-ratelimit-reset"))
    if after is not None or reset is None:
        return after
    if reset >= _EPOCH_FROM:
        reset = (reset / 1000 if reset >= _EPOCH_FROM * 1000 else reset) - answer.received
    return min(max(reset, 0.0), LONGEST_STOP)


def _object(answer: Answer) -> dict[str, Json]:
    try:
        found = read_json(answer.body)
    except TwiceError as error:
        raise ProtocolError(
            f"{error} (status {answer.status}); which of the two counts is not known. Ask who runs Accela"
        ) from error
    except UnreadableError:
        found = None
    if not isinstance(found, dict):
        raise ProtocolError(
            f"the answer is not the service's own JSON (status {answer.status}); a gateway or a login page answers in its place"
        )
    return found


def _code(value: object) -> str | None:
    """Return *value* where it can be a code or a trace id; anything else stays out of messages."""
    return value if isinstance(value, str) and not isinstance(value, Digits) and _CODE.fullmatch(value) else None


def _seconds(value: object) -> float | None:
    return read_seconds(value.strip()) if isinstance(value, str) else None
