"""What a configuration holds: a frozen dataclass per section, ready to be used as it stands.

Invariants:

- The fields of a section's dataclass are its keys in the file.
- Numbers have their units: durations are seconds, modes what `chmod` takes. Paths are absolute, URLs end in no slash.
- A secret shows itself to nobody who does not ask, and neither does what may hold one by mistake.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal, NamedTuple

from delta_mirror.core.keyed import Keyed
from delta_mirror.core.maintenance import Maintenance
from delta_mirror.core.mask import Rules
from delta_mirror.errors import ConfigError

ENTITIES = ("Client", "Employee", "Appointment", "Sale", "EmployeeSchedule", "EmployeeActual")
MAPPED_ENTITIES = (*ENTITIES, "NexusClient")  # those of which a record can be tied to an Accela contact
Deletes = Literal["remove", "mark"]
ColumnType = Literal["text", "number", "guid", "datetime", "version"]


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
    """`[mirror]`. `mode` is the number that `chmod` takes; `mask_key` is None where there is none.

    `mask` has the rules by table and column, under the names as they were written; whether a column may be masked is not looked
    at here.
    """

    path: Path
    mode: int
    deletes: Deletes
    mask_key: Secret | None = None
    mask: Rules = field(default_factory=dict)


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


SECTIONS = {
    "mirror": MirrorSection,
    "http": HttpSection,
    "dds": DdsSection,
    "ops": OpsSection,
    "starter": StarterSection,
    "nexus": NexusSection,
    "accela": AccelaSection,
}


def keys_of(section: str) -> tuple[str, ...]:
    """Return the keys of *section*: the fields of its dataclass."""
    return tuple(known.name for known in fields(SECTIONS[section]))


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

    def mask_key(self) -> Keyed | None:
        """Return what hashes with `[mirror] mask_key`, None where that is empty.

        Raises:
            ConfigError: it cannot be fetched.
        """
        key = "" if self.mirror.mask_key is None else self.mirror.mask_key.reveal()
        return Keyed(key) if key else None

    def require_mask_key(self, needed_by: str) -> Keyed:
        """Return what hashes with `[mirror] mask_key`; *needed_by* is what needs it, as a message names it.

        Raises:
            ConfigError: there is none, or it cannot be fetched.
        """
        keyed = self.mask_key()
        if keyed is None:
            msg = (
                f"{self.path}: mirror.mask_key is empty, and {needed_by} needs it; make one with "
                '`python3 -c "import secrets; print(secrets.token_hex(32))"`, give it as "file:PATH" or "env:NAME", and keep '
                "a copy: the mirror is held to it"
            )
            raise ConfigError(msg)
        return keyed

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
