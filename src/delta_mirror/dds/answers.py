"""The answers of the DDS that are no pages: a token, the tenants of an account, the enums.

Invariants:

- An answer is read, or refused by a ProtocolError that names what was asked and no value.
- An id is one that the configuration could name: a whole number from 1 to what a column of the mirror holds.
- These answers are hardly documented, so they are read tolerantly: keys in upper and lower case alike, numbers also as text,
  what cannot be read in a list left out. That *nothing* of an answer can be read is not tolerated.

Source: docs/service.md, "Authentication" and "Hosts and endpoints".
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from delta_mirror.calls.attempts import read_seconds
from delta_mirror.dds.wire import is_own_json
from delta_mirror.errors import ProtocolError

TOKEN_LIFE = 3600.0  # seconds, where the service does not say
TOKEN_MARGIN = 300.0  # seconds before its end at which a token is renewed
LARGEST_ID = 2**63 - 1  # what a column of SQLite holds

_TOKEN = re.compile(r"[\x21-\x7e]+", re.ASCII)
# The codes that OAuth 2 (RFC 6749, 5.2) defines; any other text of a refusal stays out of messages.
_OAUTH_ERRORS = frozenset(
    {"invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type", "invalid_scope"}
)


@dataclass(frozen=True, slots=True, eq=False)
class Token:
    """What a call bears. Each token is itself alone: equal text does not make two of them one."""

    text: str = field(repr=False)
    renew_at: float  # our own seconds since the epoch


@dataclass(frozen=True, slots=True)
class Tenant:
    """One tenant: its location ids in the order sent, and the address of its public API, None where none is named."""

    locations: tuple[int, ...]
    public_api_url: str | None


def is_own_answer(body: bytes) -> bool:
    """Return whether the service itself may have written *body*: JSON, an object or (as of apps/tenant) an array."""
    if is_own_json(body):
        return True
    try:
        return isinstance(orjson.loads(body), list)
    except orjson.JSONDecodeError:
        return False


# ---- the token call


def read_token(body: bytes, asked: float) -> Token:
    """Return the token of an answer to a call made at *asked*, our own seconds since the epoch.

    `expires_in` may be missing or text. The margin is at most half the life, so that a short-lived token still serves.

    Raises:
        ProtocolError: there is none, or none that a header can carry.
    """
    found = _parse(body, "an access token")
    text = found.get("access_token") if isinstance(found, dict) else None
    if not isinstance(found, dict) or not isinstance(text, str) or not _TOKEN.fullmatch(text):
        raise ProtocolError("an access token: the answer holds none that can be sent")
    named = found.get("expires_in")
    life = read_seconds(str(named).strip()) if isinstance(named, str | int | float) else None
    life = life or TOKEN_LIFE
    return Token(text, asked + life - min(TOKEN_MARGIN, life / 2))


def read_oauth_error(body: bytes) -> str | None:
    """Return the code of a refused token call, None where it is none that OAuth 2 defines."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    code = found.get("error") if isinstance(found, dict) else None
    return code if isinstance(code, str) and code in _OAUTH_ERRORS else None


# ---- apps/tenant


def read_tenants(body: bytes) -> Mapping[int, Tenant]:
    """Return the tenants of an answer of apps/tenant by their ids, in the order sent.

    Its shape is not documented beyond "activated tenants, their locations, each tenant's publicApiUrl". So it may be a list,
    or an object that holds one; a tenant may come in several entries.

    Raises:
        ProtocolError: there is no list, or not one tenant in it can be read.
    """
    entries = _find_entries(_parse(body, "apps/tenant"))
    if entries is None:
        raise ProtocolError("apps/tenant: the answer holds no list of tenants")
    tenants: dict[int, Tenant] = {}
    for entry in entries:
        named = _lowered(entry)
        tenant_id = _number(named, "tenantid", "id")
        if tenant_id is None:
            continue
        before = tenants.get(tenant_id, Tenant((), None))
        url = named.get("publicapiurl")
        tenants[tenant_id] = Tenant(
            tuple(dict.fromkeys((*before.locations, *_locations(named)))),
            url if isinstance(url, str) and url.strip() else before.public_api_url,
        )
    if entries and not tenants:
        raise ProtocolError("apps/tenant: not one tenant of the answer can be read")
    return tenants


def _find_entries(found: object, depth: int = 0) -> Sequence[object] | None:
    if isinstance(found, list):
        return found
    if not isinstance(found, dict) or depth > 2:
        return None
    named = _lowered(found)
    if "tenantid" in named or "locations" in named:
        return [found]  # a single tenant, not wrapped in a list
    for member in named.values():
        entries = _find_entries(member, depth + 1)
        if entries is not None:
            return entries
    return None


def _locations(tenant: Mapping[str, object]) -> Iterator[int]:
    own = _number(tenant, "locationid")
    if own is not None:
        yield own
    listed = tenant.get("locations", tenant.get("locationids"))
    for location in listed if isinstance(listed, list) else ():
        named = _lowered(location) if isinstance(location, dict) else {"id": location}
        location_id = _number(named, "locationid", "id")
        if location_id is not None:
            yield location_id


# ---- the enums


def read_enums(body: bytes) -> Mapping[str, Mapping[str, str]]:
    """Return the enums of an answer, name -> key -> label: every object of plain values, at the top or one wrapping below it.

    Raises:
        ProtocolError: there is none.
    """
    found = _parse(body, "the enums")
    enums: dict[str, dict[str, str]] = {}
    for name, member in found.items() if isinstance(found, dict) else ():
        if not isinstance(member, dict):
            continue
        wrapped = {inner: values for inner, values in member.items() if isinstance(values, dict)}
        for each, values in (wrapped or {name: member}).items():
            enums[each] = {key: str(label) for key, label in values.items() if isinstance(label, str | int | float)}
    if not enums:
        raise ProtocolError("the enums: the answer holds none that can be read")
    return enums


# ---- all of them


def _parse(body: bytes, wanted: str) -> object:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ProtocolError(f"{wanted}: the answer is not JSON") from error


def _lowered(entry: object) -> dict[str, object]:
    return {str(key).lower(): value for key, value in entry.items()} if isinstance(entry, dict) else {}


def _number(named: Mapping[str, object], *keys: str) -> int | None:
    """Return the first of *keys* that is a whole number that an id can be, or the digits of one."""
    for key in keys:
        value = named.get(key)
        if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 19:
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LARGEST_ID:
            return value
    return None
