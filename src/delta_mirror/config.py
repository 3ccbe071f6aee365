"""The configuration: one TOML file in, frozen dataclasses out, every value checked.

Invariants:

- What comes back can be used as it stands: units are seconds, paths are absolute, URLs are safe, secrets have been fetched (a
  secret that few commands need is fetched when it is asked for: the others must not fail for the want of it).
- Anything unknown, of a wrong type or out of range is refused by name. Nothing is guessed, and no typing mistake falls back
  silently to a default.
- A refusal is a `ConfigError` of one line: file, `section.key`, what is wrong, what to do. Nothing has been written by then.
- The value of a secret stands in no message and in no `repr`; nor does a URL that is refused, as it may hold a password.
- The fields of a section's dataclass are its keys in the file. Defaults stand here once, in the function that reads the section.
- This is on the way of every command: nothing heavy is imported, and what only a refusal needs is imported there.
"""

import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, NoReturn, get_args
from urllib.parse import urlsplit

from delta_mirror.core.maintenance import Maintenance
from delta_mirror.errors import ConfigError

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

ENTITIES = ("Client", "Employee", "Appointment", "Sale", "EmployeeSchedule", "EmployeeActual")
MAPPED_ENTITIES = (*ENTITIES, "NexusClient")  # those of which a record can be tied to an Accela contact

SECOND = 1  # seconds, as all durations here
MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR
LONGEST = 36500 * DAY  # now less this is still a date
FEED_REACH = 7 * DAY - 10 * MINUTE  # the feed reaches back 7 days (docs/service.md, "Paging"); the margin is for the way there

_UNITS = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY}
_DURATION = re.compile(r"(\d+)([smhd])", re.ASCII)
_CLOCKS = re.compile(r"(\d\d):(\d\d)-(\d\d):(\d\d)", re.ASCII)
_MODE = re.compile(r"0?[0-7]{3}", re.ASCII)
_URL = re.compile(r"[!-~]+", re.ASCII)
_HOST_AND_PORT = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?)(?::\d+)?", re.ASCII)
_ENTITY_PATH = re.compile(r"[^\s?#%\\:\x00-\x1f\x7f]+")  # nothing that would end the path of an address
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.ASCII | re.IGNORECASE)
_LARGEST = 2**63 - 1  # what a column of SQLite holds

_WHERE = "DELTA_MIRROR_CONFIG"
_START = "copy config.example.toml and fill it in"
_GONE = "the folder in which this runs was removed"

Deletes = Literal["remove", "mark"]
ColumnType = Literal["text", "number", "guid", "datetime", "version"]

_COLUMN_TYPES: tuple[ColumnType, ...] = get_args(ColumnType)


class Secret:
    """A text that shows itself to nobody who does not ask with `reveal()`.

    Given a function, it is looked up each time that it is asked for. It is no dataclass, as `asdict` would take it apart.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str | Callable[[], str]) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text.

        Raises:
            ConfigError: it is looked up only now, and is not there.
        """
        return self._text if isinstance(self._text, str) else self._text()

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash((Secret, self._text))


class Location(NamedTuple):
    """One `[[dds.locations]]`: a location of a tenant."""

    tenant_id: int
    location_id: int


@dataclass(frozen=True, slots=True)
class MirrorSection:
    """`[mirror]`. `mode` is the number that `chmod` takes."""

    path: Path
    mode: int
    deletes: Deletes


@dataclass(frozen=True, slots=True)
class HttpSection:
    """`[http]`. `timeout` and `max_wait` are seconds; `ca_file` is None where the system's authorities do."""

    timeout: int
    attempts: int
    max_wait: int
    ca_file: Path | None


@dataclass(frozen=True, slots=True)
class DdsSection:
    """`[dds]`. `overlap` and `first_window` are seconds, `first_window` with its margin already taken off. `zone` is a name.

    URLs end in no slash; `public_api_url` is empty where `apps/tenant` is to be asked. No `locations` means all that it lists.
    """

    marketplace_url: str
    public_api_url: str
    client_id: str = field(repr=False)  # may point at the wrong variable, and then holds the secret
    client_secret: Secret
    entities: tuple[str, ...]
    items_per_page: int
    overlap: int
    first_window: int
    calls_per_minute: int
    calls_per_day: int
    parallel: int
    maintenance: Maintenance | None
    zone: str
    locations: tuple[Location, ...]


@dataclass(frozen=True, slots=True)
class OpsSection:
    """`[ops]`: who is told of each run. None: nobody."""

    metrics_file: Path | None
    ping_url: Secret | None


@dataclass(frozen=True, slots=True)
class NexusSection:
    """`[nexus]`: the subscription of a Service Bus topic, and the key that opens it. The URL ends in no slash."""

    service_bus_url: str
    topic: str
    subscription: str
    key_name: str = field(repr=False)  # mixed up with the key more easily than anything else
    key: Secret


class StarterColumn(NamedTuple):
    """A column of a file without a header; `type` is None where the file's values decide."""

    name: str
    type: ColumnType | None


@dataclass(frozen=True, slots=True)
class StarterSection:
    """`[starter]`. `source` is an absolute path, or an address as it was written; empty where there is none.

    `columns` has, under the name of a table as it was written, the columns in the order of the file.
    """

    source: str = field(repr=False)  # an address may hold a password, and is refused for it later
    key_file: Path | None
    key_passphrase: Secret | None
    known_hosts: Path | None
    columns: Mapping[str, tuple[StarterColumn, ...]]


@dataclass(frozen=True, slots=True)
class AccelaSection:
    """`[accela]`. URLs end in no slash. What is empty in the file is empty here: only a push needs it.

    `map` has the tables `[accela.map.ENTITY]` as written, each value a text or a table; what they mean is not looked at here.
    """

    auth_url: str
    api_url: str
    app_id: str = field(repr=False)  # may point at the wrong variable, and then holds a secret
    app_secret: Secret
    agency: str
    environment: str
    username: str = field(repr=False)
    password: Secret
    lang: str
    map: Mapping[str, Mapping[str, object]]


_SECTIONS = {
    "mirror": MirrorSection,
    "http": HttpSection,
    "dds": DdsSection,
    "ops": OpsSection,
    "starter": StarterSection,
    "nexus": NexusSection,
    "accela": AccelaSection,
}
_ALWAYS = ("mirror", "http", "ops", "starter")  # read with all their defaults where the file does not have them
_SECRETS = (
    ("dds", "client_secret"),
    ("ops", "ping_url"),
    ("starter", "key_passphrase"),
    ("nexus", "key"),
    ("accela", "app_secret"),
    ("accela", "password"),
)


@dataclass(frozen=True, slots=True)
class Config:
    """A whole configuration. `warnings` are for standard error: the file can be used, but should be mended.

    `secret_files` are the files that it takes secrets from, under the keys that name them.
    """

    path: Path
    mirror: MirrorSection
    http: HttpSection
    dds: DdsSection | None
    starter: StarterSection
    warnings: tuple[str, ...]
    nexus: NexusSection | None = None
    accela: AccelaSection | None = None
    ops: OpsSection = OpsSection(None, None)
    secret_files: Mapping[str, Path] = field(default_factory=dict)

    def require_dds(self) -> DdsSection:
        """Return `[dds]`.

        Raises:
            ConfigError: the file has no such section.
        """
        if self.dds is None:
            msg = f"{self.path}: the section [dds] is missing, and this command needs it; config.example.toml shows its keys"
            raise ConfigError(msg)
        return self.dds

    def require_nexus(self) -> NexusSection:
        """Return `[nexus]`, every key of it given.

        Raises:
            ConfigError: the file has no such section, or a key of it is missing or empty.
        """
        if self.nexus is None:
            msg = f"{self.path}: the section [nexus] is missing, and this command needs it; config.example.toml shows its keys"
            raise ConfigError(msg)
        missing = [each.name for each in fields(NexusSection) if getattr(self.nexus, each.name) in ("", Secret(""))]
        if missing:
            what = f"{', '.join(f'nexus.{name}' for name in missing)} {'is' if len(missing) == 1 else 'are'} missing or empty"
            msg = f"{self.path}: {what}, and this command needs every key of [nexus]; the vendor's connection string has them"
            raise ConfigError(msg)
        return self.nexus

    def require_accela(self) -> AccelaSection:
        """Return `[accela]`, with everything that a call of the service needs.

        Raises:
            ConfigError: the file has no such section, or something in it is empty.
        """
        if self.accela is None:
            msg = f"{self.path}: the section [accela] is missing, and this command needs it; config.example.toml shows its keys"
            raise ConfigError(msg)
        held = self.accela
        needed = {
            "app_id": held.app_id,
            "app_secret": held.app_secret.reveal(),
            "agency": held.agency,
            "environment": held.environment,
            "username": held.username,
            "password": held.password.reveal(),
        }
        empty = [key for key, value in needed.items() if not value]
        if empty:
            msg = f"{self.path}: accela.{empty[0]} is empty, and a push needs it; the agency's administrator knows it"
            raise ConfigError(msg)
        if not held.map:
            msg = f"{self.path}: there is no [accela.map.ENTITY], so nothing could be pushed; docs/accela.md shows two"
            raise ConfigError(msg)
        return held


def find_config(given: str | None, environ: Mapping[str, str], cwd: Path | None, home: Path | None) -> Path:
    """Return the configuration file to use: `--config`, `$DELTA_MIRROR_CONFIG`, `./config.toml`, the user's configuration folder.

    What `--config` names need not exist; `load_config` refuses it then. An empty variable counts as not set. A dangling link
    counts as found: to pass over it in silence could mean another account. *cwd* is None where the folder in which the program
    runs was removed, *home* where the user has none.

    Raises:
        ConfigError: there is none; the message says where was looked.
    """
    if given is not None:
        if not given:
            msg = "--config is empty; name the configuration file"
            raise ConfigError(msg)
        return _absolute(_expanded(given, "--config"), cwd)
    if named := environ.get(_WHERE):
        path = _absolute(_expanded(named, f"${_WHERE}"), cwd)
        if not os.path.lexists(path):
            msg = f"${_WHERE} names {path}, which does not exist; mend the variable, or give --config PATH"
            raise ConfigError(msg)
        return path
    base = environ.get("XDG_CONFIG_HOME", "")
    # The XDG specification: a relative path there is invalid, to be ignored.
    folder = Path(base) if base.startswith("/") else home and home / ".config"
    places = [cwd and cwd / "config.toml", folder and folder / "delta-mirror" / "config.toml"]
    for place in places:
        if place and os.path.lexists(place):
            return place
    shown = (places[0] or f"a config.toml here ({_GONE})", places[1] or "one of the user's own (there is no home folder)")
    looked = f"--config is not given, ${_WHERE} is not set, and neither {shown[0]} nor {shown[1]} exists"
    msg = f"no configuration: {looked}; {_START}, at one of these two places or with --config PATH"
    raise ConfigError(msg)


def load_config(path: Path, environ: Mapping[str, str] = os.environ) -> Config:
    """Return the configuration that *path* holds; secrets are looked up in *environ* and in the files that it names.

    Raises:
        ConfigError: the file, or something in it, is refused.
    """
    path = path.absolute()
    text, open_to_others = _read_file(path)
    tables = _read_toml(path, text)
    sections = {name: _section(path, name, tables.pop(name, {})) for name in _SECTIONS if name in _ALWAYS or name in tables}
    for unknown in tables:
        _refuse_section(path, unknown)
    dds, nexus, accela = sections.get("dds"), sections.get("nexus"), sections.get("accela")
    warnings = []
    for name, key in _SECRETS:
        if open_to_others and name in sections and sections[name].holds_literal(key):
            remedy = f'chmod 600 {path}, or give it as "env:NAME" or "file:PATH"'
            warnings.append(f"{path}: {name}.{key} stands there in plain text, and others may read the file; {remedy}")
    secret_files = {
        f"{name}.{key}": file for name, section in sections.items() for key, file in section.files_of_secrets().items()
    }
    return Config(
        path=path,
        mirror=_read_mirror(sections["mirror"]),
        http=_read_http(sections["http"]),
        dds=None if dds is None else _read_dds(dds, environ),
        starter=_read_starter(sections["starter"], environ),
        warnings=tuple(warnings),
        nexus=None if nexus is None else _read_nexus(nexus, environ),
        accela=None if accela is None else _read_accela(accela, environ),
        ops=_read_ops(sections["ops"], environ),
        secret_files=secret_files,
    )


def read_duration(text: str) -> int:
    """Return the seconds of a duration such as `90s`, `10m`, `2h` or `7d`.

    Raises:
        ValueError: *text* is none, or is longer than 36500d; the message can be shown to people.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        msg = f"{text!r} is no duration; write a whole number and s, m, h or d: 90s, 10m, 2h, 7d"
        raise ValueError(msg)
    number, unit = found.groups()
    # The length is looked at first, as int() has an error of its own for thousands of digits.
    digits = number.lstrip("0") or "0"
    if len(digits) > len(str(LONGEST)) or int(digits) * _UNITS[unit] > LONGEST:
        msg = f"a duration may not be longer than {_duration_text(LONGEST)}"
        raise ValueError(msg)
    return int(digits) * _UNITS[unit]


def _read_mirror(section: "_Section") -> MirrorSection:
    """Return `[mirror]`."""
    path = section.path("path", "mirror.db")
    if path is None:
        section.refuse("path", "is empty; name the file that holds the mirror")
    deletes = section.text("deletes", "remove")
    if deletes not in ("remove", "mark"):
        section.refuse("deletes", f'is {deletes!r}; give "remove" (deleted rows go) or "mark" (they stay, with _deleted_at)')
    return MirrorSection(path=path, mode=section.mode("mode", "0600"), deletes="mark" if deletes == "mark" else "remove")


def _read_http(section: "_Section") -> HttpSection:
    """Return `[http]`."""
    ca_file = section.path("ca_file", "")
    if ca_file is not None:
        try:
            ca_file.open("rb").close()
        except OSError as error:
            section.refuse("ca_file", f"names {ca_file}, which {_why(error)}; name a PEM file, or leave it empty")
    return HttpSection(
        # A socket cannot wait for years, and a timeout of an hour is none.
        timeout=section.duration("timeout", "30s", least=SECOND, most=HOUR),
        attempts=section.integer("attempts", 6, least=1),
        max_wait=section.duration("max_wait", "60s"),
        ca_file=ca_file,
    )


def _read_dds(section: "_Section", environ: Mapping[str, str]) -> DdsSection:
    """Return `[dds]`, its secrets looked up."""
    zone = section.text("zone", "")
    return DdsSection(
        marketplace_url=section.url("marketplace_url", "https://marketplace.meevo.com", may_be_empty=False),
        public_api_url=section.url("public_api_url", "", may_be_empty=True),
        client_id=section.secret("client_id", "env:DDS_CLIENT_ID", environ).reveal(),
        client_secret=section.secret("client_secret", "env:DDS_CLIENT_SECRET", environ),
        entities=section.entities("entities", ("Client", "Employee", "Appointment", "Sale")),
        items_per_page=section.integer("items_per_page", 200, least=1, most=200),
        overlap=section.duration("overlap", "10m", most=24 * HOUR),
        first_window=min(section.duration("first_window", "7d", least=SECOND, most=7 * DAY), FEED_REACH),
        calls_per_minute=section.integer("calls_per_minute", 60, least=0),
        calls_per_day=section.integer("calls_per_day", 1000, least=0),
        parallel=section.integer("parallel", 4, least=1),
        maintenance=section.maintenance("maintenance", "", section.zone("zone", zone)),
        zone=zone,
        locations=section.locations("locations"),
    )


def _read_ops(section: "_Section", environ: Mapping[str, str]) -> OpsSection:
    """Return `[ops]`, its secret looked up."""
    return OpsSection(metrics_file=section.path("metrics_file", ""), ping_url=section.secret_url("ping_url", environ))


def _read_starter(section: "_Section", environ: Mapping[str, str]) -> StarterSection:
    """Return `[starter]`; its secret is looked up when it is asked for."""
    return StarterSection(
        source=section.folder_or_address("source", ""),
        key_file=section.path("key_file", ""),
        key_passphrase=section.late_secret("key_passphrase", environ),
        known_hosts=section.path("known_hosts", ""),
        columns=section.columns("columns"),
    )


def _read_nexus(section: "_Section", environ: Mapping[str, str]) -> NexusSection:
    """Return `[nexus]`, its secret looked up. What is empty stays so: only `Config.require_nexus` asks for it."""
    return NexusSection(
        service_bus_url=section.url("service_bus_url", "", may_be_empty=True),
        topic=section.entity_path("topic"),
        subscription=section.entity_path("subscription"),
        key_name=section.text("key_name", ""),
        key=section.secret("key", "", environ, may_be_empty=True),
    )


def _read_accela(section: "_Section", environ: Mapping[str, str]) -> AccelaSection:
    """Return `[accela]`, its secrets looked up."""
    app_id = section.secret("app_id", "", environ, may_be_empty=True).reveal()
    if not _fits_a_header(app_id):
        section.refuse("app_id", "holds blanks at an end, control characters or letters outside ASCII, and goes into a header")
    return AccelaSection(
        auth_url=section.url("auth_url", "https://auth.accela.com", may_be_empty=False),
        api_url=section.url("api_url", "https://apis.accela.com", may_be_empty=False),
        app_id=app_id,
        app_secret=section.secret("app_secret", "", environ, may_be_empty=True),
        agency=section.header("agency", ""),
        environment=section.header("environment", "PROD"),
        username=section.secret("username", "", environ, may_be_empty=True).reveal(),
        password=section.secret("password", "", environ, may_be_empty=True),
        lang=section.header("lang", ""),
        map=section.maps("map"),
    )


def _keys(section: str) -> tuple[str, ...]:
    """Return the keys of *section*: the fields of its dataclass."""
    return tuple(known.name for known in fields(_SECTIONS[section]))


class _Section:
    """A table of the file and the way to its values: each method returns one key's value, checked, or refuses it."""

    def __init__(self, file: Path, name: str, table: Mapping[str, object], keys: tuple[str, ...], entry: str = "") -> None:
        """Take *table*, refusing keys that are not in *keys*; *entry* says which of several tables of that name this is."""
        self._file = file
        self._name = name
        self._table = table
        self._entry = entry
        for unknown in table:
            if unknown not in keys:
                self.refuse(unknown, _unknown_key(unknown, keys))

    def refuse(self, key: str, reason: str) -> NoReturn:
        """Raise the error that says what is wrong with *key*."""
        msg = f"{self._file}: {self._name}.{_shown(key)}{self._entry} {reason}"
        raise ConfigError(msg)

    def holds_literal(self, key: str) -> bool:
        """Return whether the secret *key* stands in the file itself."""
        value = self._table.get(key, "")
        return isinstance(value, str) and value != "" and not value.startswith(("env:", "file:"))

    def files_of_secrets(self) -> dict[str, Path]:
        """Return the files that `file:PATH` names, by key."""
        named = {key: value for key, value in self._table.items() if isinstance(value, str) and value.startswith("file:")}
        return {key: self._absolute(key, value.removeprefix("file:")) for key, value in named.items() if value != "file:"}

    def text(self, key: str, default: str) -> str:
        """Return a text."""
        value = self._table.get(key, default)
        if not isinstance(value, str):
            self.refuse(key, f"must be text in quotes, not {_kind(value)}")
        return value

    def integer(self, key: str, default: int | None, *, least: int, most: int = _LARGEST) -> int:
        """Return a whole number from *least* to *most*; without a *default* the key has to be there."""
        value = self._table.get(key, default)
        if value is None:
            self.refuse(key, "is missing; give a whole number")
        # A boolean is an int to Python, but not to people.
        if isinstance(value, bool) or not isinstance(value, int):
            self.refuse(key, f"must be a whole number without quotes, not {_kind(value)}")
        if not least <= value <= most:
            span = f"from {least} to {most}" if most != _LARGEST else f"of at least {least}"
            self.refuse(key, f"is too {'small' if value < least else 'large'}; give a whole number {span}")
        return value

    def duration(self, key: str, default: str, *, least: int = 0, most: int = LONGEST) -> int:
        """Return a duration from *least* to *most*, in seconds."""
        value = self._table.get(key, default)
        if not isinstance(value, str):
            self.refuse(key, f'must be a duration in quotes, such as "{default}", not {_kind(value)}')
        try:
            seconds = read_duration(value)
        except ValueError as error:
            self.refuse(key, f"cannot be used: {error}")
        if not least <= seconds <= most:
            bound = f"shorter than {_duration_text(least)}" if seconds < least else f"longer than {_duration_text(most)}"
            self.refuse(key, f"is {value}; it may not be {bound}")
        return seconds

    def mode(self, key: str, default: str) -> int:
        """Return a file mode: octal digits that let the owner read and write, and nobody execute."""
        value = self._table.get(key, default)
        advice = f'write octal digits in quotes, such as "{default}" or "0660"'
        if not isinstance(value, str):
            self.refuse(key, f"must be text, not {_kind(value)}; {advice}")
        if _MODE.fullmatch(value) is None:
            self.refuse(key, f"is {value!r}, which is no file mode; {advice}")
        mode = int(value, 8)
        if mode & 0o600 != 0o600:
            self.refuse(key, f"is {value!r}, but the owner must be able to read and write the mirror; {advice}")
        if mode & ~0o666:
            self.refuse(key, f"is {value!r}, but a mirror is nothing to execute; {advice}")
        return mode

    def path(self, key: str, default: str) -> Path | None:
        """Return a path, absolute; None where it is empty."""
        value = self.text(key, default)
        return self._absolute(key, value) if value else None

    def url(self, key: str, default: str, *, may_be_empty: bool) -> str:
        """Return a URL without a slash at its end, scheme and host in lower case. The message of a refusal does not show it."""
        value = self.text(key, default)
        if not value and may_be_empty:
            return ""
        try:
            return _plain_url(value)
        except ValueError as error:
            self.refuse(key, str(error))

    def secret_url(self, key: str, environ: Mapping[str, str]) -> Secret | None:
        """Return a URL that is a secret, and may have a query; None where there is none."""
        if not self.text(key, ""):
            return None
        base, mark, query = self.secret(key, "", environ).reveal().partition("?")
        if query and ("#" in query or _URL.fullmatch(query) is None):
            self.refuse(key, "has a query with blanks, #, control characters or letters outside ASCII; escape them (%20)")
        try:
            return Secret(_plain_url(base) + mark + query)
        except ValueError as error:
            self.refuse(key, str(error))

    def zone(self, key: str, name: str) -> "ZoneInfo | None":
        """Return the time zone *name*, None where it is empty."""
        if not name:
            return None
        from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

        try:
            return ZoneInfo(name)
        # What is no key at all (a path, a folder, a NUL) is refused in other ways than what is not there.
        except (ZoneInfoNotFoundError, ValueError, OSError):
            self.refuse(key, f'is {name!r}, which is no time zone; give it as in "America/New_York"')

    def maintenance(self, key: str, default: str, zone: "ZoneInfo | None") -> Maintenance | None:
        """Return the window that `HH:MM-HH:MM` means by the clocks of *zone*; None where it is empty."""
        value = self.text(key, default)
        if not value:
            return None
        found = _CLOCKS.fullmatch(value)
        if found is None:
            self.refuse(key, f'is {value!r}; write a time of day from and to, such as "00:00-06:00" or "22:30-04:00"')
        hours, minutes, end_hours, end_minutes = map(int, found.groups())
        start, end = hours * 60 + minutes, end_hours * 60 + end_minutes
        if max(minutes, end_minutes) > 59 or start >= DAY // MINUTE or end > DAY // MINUTE:
            self.refuse(key, f"is {value!r}; a day has times from 00:00 to 24:00")
        if start == end % (DAY // MINUTE):
            self.refuse(key, f"is {value!r}, the whole day or nothing of it; not every failure can be expected")
        if zone is None:
            self.refuse(key, 'needs dds.zone, the time zone of the cluster, such as "America/New_York"')
        return Maintenance(start, end, zone)

    def entity_path(self, key: str) -> str:
        """Return the name of a topic or a subscription as it stands in an address; it may hold slashes, and may be empty."""
        value = self.text(key, "")
        is_path = _ENTITY_PATH.fullmatch(value) and not {"", ".", ".."}.intersection(value.split("/"))
        if value and not is_path:
            self.refuse(key, "is no name of a topic or subscription; give the name alone, without blanks and without https://")
        return value

    def header(self, key: str, default: str) -> str:
        """Return a text that can stand in a header of HTTP: printable ASCII without a blank at either end."""
        value = self.text(key, default)
        if not _fits_a_header(value):
            self.refuse(
                key, "holds blanks at an end, control characters or letters outside ASCII; give it as the agency spells it"
            )
        return value

    def maps(self, key: str) -> Mapping[str, Mapping[str, object]]:
        """Return the tables `[accela.map.ENTITY]`; the values are texts and tables, whatever is in those."""
        value = self._table.get(key, {})
        if not isinstance(value, dict):
            self.refuse(key, f"must be tables, written [{self._name}.{key}.Client], not {_kind(value)}")
        for entity, fields_of in value.items():
            if entity not in MAPPED_ENTITIES:
                self.refuse(key, f"names {entity!r}, which is no entity; {_suggestion(entity, MAPPED_ENTITIES)}")
            if not isinstance(fields_of, dict):
                self.refuse(key, f"has {entity} as {_kind(fields_of)}; write a table [{self._name}.{key}.{entity}]")
        return value

    def secret(self, key: str, default: str, environ: Mapping[str, str], *, may_be_empty: bool = False) -> Secret:
        """Return a secret: the text itself, or what `env:NAME` or `file:PATH` leads to.

        It is never empty, unless nothing is written there and that is allowed.
        """
        value = self.text(key, default)
        if not value and may_be_empty:
            return Secret("")
        if value.startswith("env:"):
            name = value.removeprefix("env:")
            found = environ.get(name, "") if name else self.refuse(key, 'is "env:" without a name; write "env:NAME"')
            if not found:
                self.refuse(key, f"is taken from the environment variable {_shown(name)}, which is not set or empty; set it")
            if not _is_utf8(found):
                self.refuse(key, f"is taken from the environment variable {_shown(name)}, which is not UTF-8")
        elif value.startswith("file:"):
            name = value.removeprefix("file:")
            if not name:
                self.refuse(key, 'is "file:" without a path; write "file:PATH"')
            found = self._file_text(key, self._absolute(key, name))
        else:
            found = value
            if not found and not may_be_empty:
                self.refuse(key, 'is empty; give it as "env:NAME" or "file:PATH"')
        return Secret(found)

    def late_secret(self, key: str, environ: Mapping[str, str]) -> Secret | None:
        """Return a secret that is looked up when it is asked for; None where it is empty or not there."""
        value = self.text(key, "")
        if value in ("env:", "file:"):
            self.secret(key, value, environ)  # refuses it
        if value.startswith(("env:", "file:")):
            return Secret(lambda: self.secret(key, value, environ).reveal())
        return Secret(value) if value else None

    def folder_or_address(self, key: str, default: str) -> str:
        """Return the absolute path of a folder, or an `sftp://` address as it is; empty where it is empty."""
        value = self.text(key, default)
        scheme = _SCHEME.match(value)
        if scheme is None:
            return str(self._absolute(key, value)) if value else ""
        if scheme.group().lower() != "sftp://":
            self.refuse(key, "is neither a folder nor an SFTP address; give a path, or sftp://user@host/path")
        return value

    def columns(self, key: str) -> dict[str, tuple[StarterColumn, ...]]:
        """Return the columns of tables, in the order written."""
        value = self._table.get(key, {})
        name = f"{self._name}.{key}"
        if not isinstance(value, dict):
            self.refuse(key, f"must be a table [{name}], not {_kind(value)}")
        known: dict[str, str] = {}
        for table in value:
            if twin := known.get(table.lower()):
                self.refuse(key, f"names the table {_shown(table)} twice (as {_shown(twin)}, too); take one away")
            known[table.lower()] = table
        return {
            table: _read_columns(_Section(self._file, name, value, tuple(value)), table, listed)
            for table, listed in value.items()
        }

    def entities(self, key: str, default: tuple[str, ...]) -> tuple[str, ...]:
        """Return names of entities, in the order written, none of them twice."""
        value = self._table.get(key, list(default))
        if not isinstance(value, list):
            self.refuse(key, f'must be an array, such as ["Client", "Sale"], not {_kind(value)}')
        names: list[str] = []
        for name in value:
            if not isinstance(name, str):
                self.refuse(key, f"must hold names in quotes, not {_kind(name)}")
            if name not in ENTITIES:
                self.refuse(key, f"names {name!r}, which is no entity; {_suggestion(name, ENTITIES)}")
            if name in names:
                self.refuse(key, f"names {name} twice; take one away")
            names.append(name)
        if not names:
            self.refuse(key, "is empty; name at least one entity, or leave the key out for the usual four")
        return tuple(names)

    def locations(self, key: str) -> tuple[Location, ...]:
        """Return the tables `[[dds.locations]]`, in the order written, none of them twice."""
        value = self._table.get(key, [])
        if isinstance(value, dict):
            self.refuse(key, f"is one table; write [[{self._name}.{key}]] with two brackets on each side, once per location")
        if not isinstance(value, list):
            self.refuse(key, f"must be tables [[{self._name}.{key}]], not {_kind(value)}")
        found: list[Location] = []
        for number, table in enumerate(value, start=1):
            entry = f" (entry {number})"
            if not isinstance(table, dict):
                self.refuse(key, f"must be tables [[{self._name}.{key}]]; entry {number} is {_kind(table)}")
            part = _Section(self._file, f"{self._name}.{key}", table, Location._fields, entry)
            location = Location(part.integer("tenant_id", None, least=1), part.integer("location_id", None, least=1))
            if location in found:
                which = f"tenant_id {location.tenant_id}, location_id {location.location_id}"
                self.refuse(key, f"has {which} twice (entries {found.index(location) + 1} and {number}); take one away")
            found.append(location)
        return tuple(found)

    def _absolute(self, key: str, text: str) -> Path:
        """Return *text* as a path, relative to the configuration file."""
        if "\0" in text:
            self.refuse(key, "holds a NUL character, which no path can")
        return self._file.parent / _expanded(text, f"{self._file}: {self._name}.{key}")

    def _file_text(self, key: str, path: Path) -> str:
        """Return what the file of a secret holds, less the line ends after it."""
        try:
            body = path.read_bytes()
        except OSError as error:
            self.refuse(key, f"is taken from the file {path}, which {_why(error)}")
        # A byte order mark is what Windows editors leave behind.
        text = body.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n").decode(errors="surrogateescape")
        if not text:
            self.refuse(key, f"is taken from the file {path}, which is empty")
        if not _is_utf8(text):
            self.refuse(key, f"is taken from the file {path}, which is not UTF-8")
        return text


def _read_columns(section: _Section, table: str, listed: object) -> tuple[StarterColumn, ...]:
    """Return the columns of one table of `[starter.columns]`."""
    form = '["TenantId", "EntityId", { name = "Total", type = "number" }]'
    if not isinstance(listed, list):
        section.refuse(table, f"must be an array of all columns of the file, such as {form}, not {_kind(listed)}")
    columns: list[StarterColumn] = []
    for number, column in enumerate(listed, start=1):
        name, type_ = (column.get("name"), column.get("type")) if isinstance(column, dict) else (column, None)
        if isinstance(column, dict) and (strange := set(column) - {"name", "type"}):
            section.refuse(table, f"has an unknown key {_shown(min(strange))} in column {number}; known are name, type")
        if not isinstance(name, str) or not name.strip():
            section.refuse(table, f"has no name in column {number}; write each column as in {form}")
        found = next((known for known in _COLUMN_TYPES if known == type_), None)
        if type_ is not None and found is None:
            section.refuse(table, f"has an unknown type in column {number}; known are {', '.join(_COLUMN_TYPES)}")
        if name.strip().lower() in (known.name.lower() for known in columns):
            section.refuse(table, f"names the column {_shown(name)} twice; take one away")
        columns.append(StarterColumn(name.strip(), found))
    if not columns:
        section.refuse(table, f"is empty; name all columns of the file, such as {form}, or leave it out")
    return tuple(columns)


def _section(file: Path, name: str, value: object) -> _Section:
    """Return the section *name*, its keys known ones."""
    if not isinstance(value, dict):
        msg = f"{file}: {name} must be a section, written [{name}], not {_kind(value)}"
        raise ConfigError(msg)
    return _Section(file, name, value, _keys(name))


def _read_file(path: Path) -> tuple[str, bool]:
    """Return the text of the configuration file, and whether its group or others may read it."""
    try:
        with path.open("rb") as file:
            body = file.read()
            open_to_others = bool(os.fstat(file.fileno()).st_mode & 0o044)
    except OSError as error:
        msg = f"{path}: the configuration file {_why(error)}; name the right one with --config PATH, or {_START}"
        raise ConfigError(msg) from error
    try:
        return body.decode("utf-8-sig"), open_to_others
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        msg = f"{path}: line {line} is not UTF-8; save the file as UTF-8"
        # Not chained: the error carries the whole file, a literal secret included.
        raise ConfigError(msg) from None


def _read_toml(path: Path, text: str) -> dict[str, object]:
    """Return the tables of a TOML text."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        msg = f"{path}: not TOML: {error}; text values need quotes, and a section's name brackets"
    except (ValueError, RecursionError):
        # A number of thousands of digits, or arrays within arrays without end: tomllib lets Python's own errors through.
        msg = f"{path}: not TOML that can be read: a number is too long, or nested too deep"
    # Not chained: newer versions of the error carry the whole text, a literal secret included.
    raise ConfigError(msg)


def _refuse_section(file: Path, name: str) -> NoReturn:
    """Raise the error for a name at the top of the file that is no section."""
    home = [section for section in _SECTIONS if name in _keys(section)]
    advice = f"as a key it belongs under [{home[0]}]" if home else _suggestion(name, _SECTIONS)
    msg = f"{file}: {_shown(name)} is no section; {advice}"
    raise ConfigError(msg)


def _unknown_key(key: str, keys: tuple[str, ...]) -> str:
    """Return what to say of a key that is not among *keys*."""
    home = [other for other in _SECTIONS if key in _keys(other)]
    return "is no known key; " + (f"it belongs under [{home[0]}]" if home else _suggestion(key, keys))


def _suggestion(word: str, known: Iterable[str]) -> str:
    """Return which of the *known* words was meant, or all of them where none is near."""
    from difflib import get_close_matches

    by_lower = {name.lower(): name for name in known}
    near = get_close_matches(word.lower(), by_lower, n=1)
    return f"did you mean {by_lower[near[0]]}?" if near else f"known are {', '.join(by_lower.values())}"


def _plain_url(text: str) -> str:
    """Return *text* without a slash at its end, scheme and host in lower case.

    Raises:
        ValueError: it cannot be used; the message does not show it.
    """
    if not text:
        raise ValueError("is empty; give an https:// address")
    # Before anything else: urlsplit drops tabs and line feeds in silence.
    if _URL.fullmatch(text) is None:
        raise ValueError("holds blanks, control characters or letters outside ASCII; give a plain https:// address")
    if "?" in text or "#" in text:
        raise ValueError("has a query or a fragment (? or #); leave it away")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        # Not chained: the error may show the URL.
        raise ValueError("has a host or a port that cannot be read; give https://host or https://host:port") from None
    if parts.scheme not in ("https", "http"):
        raise ValueError("is no https:// address; give https://host or https://host:port")
    if "@" in parts.netloc:
        raise ValueError("holds credentials (before the @); leave them away")
    # Stricter than urlsplit, which takes `[::1]elsewhere` and `a\b` for hosts that other readers of URLs see differently.
    found = _HOST_AND_PORT.fullmatch(parts.netloc.lower())
    if found is None or port == 0:
        raise ValueError("has a host or a port that cannot be read; give https://host or https://host:port")
    if parts.scheme == "http" and not _is_loopback(found.group(1)):
        raise ValueError("must begin with https://; plain http:// is for this machine alone (localhost, 127.0.0.0/8, [::1])")
    return f"{parts.scheme}://{found.group()}{parts.path.rstrip('/')}"


def _is_loopback(host: str) -> bool:
    """Return whether *host* is this machine: by its spelling alone, as what a name resolves to can change."""
    if host == "localhost":
        return True
    try:
        return IPv6Address(host[1:-1]) == IPv6Address("::1") if host.startswith("[") else IPv4Address(host).is_loopback
    except AddressValueError:
        return False


def _absolute(path: Path, cwd: Path | None) -> Path:
    """Return *path*, absolute."""
    if cwd is None and not path.is_absolute():
        msg = f"the configuration {path} cannot be looked for: {_GONE}; go to another one, or give an absolute path"
        raise ConfigError(msg)
    return path if cwd is None else cwd / path


def _expanded(text: str, what: str) -> Path:
    """Return *text* as a path, with `~` and `~user` in front replaced by that home; *what* is named in a refusal."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        msg = f"{what} begins with {Path(text).parts[0]}, and there is no such home folder; write the whole path"
        raise ConfigError(msg) from None


def _why(error: OSError) -> str:
    """Return why a file could not be read, as the end of a sentence."""
    if isinstance(error, FileNotFoundError):
        return "does not exist"
    if isinstance(error, IsADirectoryError):
        return "is a folder"
    if isinstance(error, PermissionError):
        return "may not be read by this user"
    return f"cannot be read ({error.strerror})"


def _fits_a_header(text: str) -> bool:
    return text.isascii() and text.isprintable() and text == text.strip()


def _is_utf8(text: str) -> bool:
    """Return whether *text*, decoded by the system or with `surrogateescape`, came from UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _duration_text(seconds: int) -> str:
    """Return *seconds* in the largest unit that leaves no rest."""
    unit = next(unit for unit in ("d", "h", "m", "s") if seconds % _UNITS[unit] == 0)
    return f"{seconds // _UNITS[unit]}{unit}"


def _kind(value: object) -> str:
    """Return what a value of TOML is called, without the value."""
    names = {bool: "a boolean", int: "a number", float: "a decimal number", str: "text", list: "an array", dict: "a table"}
    return names.get(type(value), "a date or time")


def _shown(name: str) -> str:
    """Return a name from the file as it is, or escaped where it would upset a terminal."""
    return name if name.isprintable() and name else repr(name)
