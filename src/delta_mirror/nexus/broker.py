"""What the broker says with a message that it has locked for us: who it is, where it is settled, and for how long it is ours.

Invariants:

- A message is settled at the configured host, whatever address the broker names: the token must go nowhere else.
- What cannot be read of the broker's properties is missing, and no reason to refuse the message: its body is what counts.
- No message shows what the broker calls an id and is none: it may be anything.
- How long a lock lasts is measured on the broker's own clock, so that ours may be wrong.

Source: docs/nexus.md, "How messages travel".
"""

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import SplitResult, quote, urljoin, urlsplit

import orjson

from delta_mirror.calls.addresses import is_this_machine
from delta_mirror.calls.attempts import read_http_date
from delta_mirror.core.values import EPOCH, SECOND, read_ticks
from delta_mirror.errors import ProtocolError
from delta_mirror.nexus.delivery import Delivery

USUAL_LOCK = 30.0  # seconds, where the broker does not say: the shortest that is usual
LONGEST_LOCK = 300.0  # seconds; what says more is a slip of a clock
LARGEST_SEQUENCE = 2**63 - 1  # what a column of SQLite holds

_PORTS = {"https": 443, "http": 80}
_CODE = re.compile(r"[\w.:-]{1,64}", re.ASCII)  # what an id of a request can be; anything else stays out of messages


class Locked(NamedTuple):
    """A message that the broker keeps from others for `seconds`, from when it has answered.

    `target` is the path (and query) on the configured host at which it is settled, `times` how often it has been delivered.
    `is_dead` says that it lies where the broker puts what it has given up.
    """

    delivery: Delivery
    target: str
    seconds: float
    times: int
    is_dead: bool


class Answer(NamedTuple):
    """One answer of the broker, read whole. Names of headers are in lower case; `received` is our own clock."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    received: float

    @property
    def is_good(self) -> bool:
        """Whether the status is one of the 2xx."""
        return self.status // 100 == 2

    @property
    def date(self) -> float | None:
        """The broker's clock in seconds since the epoch, None where it does not say."""
        return read_http_date(self.headers.get("date", ""))

    def trace(self) -> str:
        """Return what tells this answer from others, for messages."""
        tracking = self.headers.get("x-ms-request-id") or self.headers.get("request-id") or ""
        return f"status {self.status}" + (f", request id {tracking}" if _CODE.fullmatch(tracking) else "")


def read_locked(answer: Answer, base: str) -> Locked:
    """Return the message of *answer*; *base* is the address of the subscription that was asked.

    Raises:
        ProtocolError: nothing says where it could be settled.
    """
    properties = _read_properties(answer.headers.get("brokerproperties", ""))
    message_id, sequence = properties.get("messageid"), _whole(properties.get("sequencenumber"))
    # SQLite's JSON, through which messages are looked up, ends a text at a NUL: such a one is known by its content.
    name = message_id if isinstance(message_id, str) and message_id and "\0" not in message_id else None
    location = answer.headers.get("location", "")
    target = _target(location, properties, base)
    if target is None:
        raise ProtocolError(
            f"a message came without a word on where it is to be completed ({answer.trace()}): neither Location nor "
            "BrokerProperties can be used. Check nexus.service_bus_url, and what stands between here and the broker."
        )
    return Locked(
        Delivery(answer.body, name, sequence),
        target,
        read_lock(answer, properties),
        max(_whole(properties.get("deliverycount")) or 1, 1),
        "/$deadletterqueue/" in location.lower() or "deadletterreason" in answer.headers,
    )


def read_lock(answer: Answer, properties: Mapping[str, object] | None = None) -> float:
    """Return for how many seconds from now the lock that *answer* gives or renews still holds.

    The broker writes the end of a lock by its own clock, and says in the same answer what that clock shows.
    """
    found = _read_properties(answer.headers.get("brokerproperties", "")) if properties is None else properties
    text = found.get("lockeduntilutc")
    ends = _read_time(text) if isinstance(text, str) else None
    if ends is None:
        return USUAL_LOCK
    seconds = ends - (answer.received if answer.date is None else answer.date)
    return seconds if 0 < seconds <= LONGEST_LOCK else USUAL_LOCK


def subscription_path(topic: str, subscription: str) -> str:
    """Return the path of a subscription, without a slash at its beginning; names may hold slashes."""
    return f"{quote(topic, safe='/$')}/subscriptions/{quote(subscription, safe='/$')}"


def _target(location: str, properties: Mapping[str, object], base: str) -> str | None:
    """Return the path at which a message is settled.

    Location counts as far as it leads to the host that was asked. Behind a gateway it names another one: then its last parts are
    put under the address that was asked, and where it has none, the broker's properties.
    """
    own = urlsplit(base)
    if location.startswith(f"{base}/"):  # as it nearly always is
        return own.path + location[len(base) :]
    if location.startswith("messages/"):  # relative to the subscription, as no standard says, and yet plain enough
        location = f"{base}/{location}"
    try:
        # What is relative counts from the address that was asked (RFC 9110, 10.2.2).
        named = urlsplit(urljoin(f"{base}/messages/head", location)) if location else own
        origin = _origin(named)
    except ValueError:
        return _built(properties, own.path)
    if location and origin == _origin(own) and named.path.startswith("/") and (named.path + named.query).isascii():
        return named.path + (f"?{named.query}" if named.query else "")
    _, found, last = named.path.rpartition("/messages/")
    parts = last.split("/")
    if found and len(parts) == 2 and all(parts):
        return f"{own.path}/messages/{'/'.join(quote(part, safe='%') for part in parts)}"
    return _built(properties, own.path)


def _built(properties: Mapping[str, object], own_path: str) -> str | None:
    """Return the path that the broker's properties make, None where they lack a part of it."""
    token, message = properties.get("locktoken"), properties.get("sequencenumber", properties.get("messageid"))
    if not isinstance(token, str) or not token or message in (None, ""):
        return None
    return f"{own_path}/messages/{quote(str(message), safe='')}/{quote(token, safe='')}"


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    """Return what tells hosts apart; all names of this machine are one."""
    host = parts.hostname or ""
    return parts.scheme, "localhost" if is_this_machine(host) else host, parts.port or _PORTS.get(parts.scheme)


def _read_properties(header: str) -> Mapping[str, object]:
    """Return the members of the header BrokerProperties, names in lower case."""
    try:
        # Headers reach us as Latin-1, whatever they were.
        found = orjson.loads(header.encode("latin-1", "replace"))
    except orjson.JSONDecodeError:
        return {}
    return {name.lower(): value for name, value in found.items()} if isinstance(found, dict) else {}


def _read_time(text: str) -> float | None:
    """Return a time as the broker writes it, as an HTTP date or in ISO 8601, in seconds since the epoch."""
    ticks = read_ticks(text)
    return read_http_date(text) if ticks is None else (ticks - EPOCH) / SECOND


def _whole(value: object) -> int | None:
    """Return a whole number that a column can hold, also where it came as text, None where *value* is none."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
        value = int(value)
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return value if isinstance(value, int) and is_number and 0 <= value <= LARGEST_SEQUENCE else None
