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
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from delta_mirror.config.sections import (
    ENTITIES,
    MAPPED_ENTITIES,
    SECTIONS,
    AccelaSection,
    Config,
    DdsSection,
    HttpSection,
    Location,
    MirrorSection,
    NexusSection,
    OpsSection,
    Secret,
    StarterColumn,
    StarterSection,
    keys_of,
)
from delta_mirror.config.table import Section
from delta_mirror.config.words import (
    DAY,
    HOUR,
    LARGEST_FILE,
    MINUTE,
    SECOND,
    expanded,
    fits_a_header,
    kind_of,
    quoted,
    read_duration,
    shown,
    suggestion,
    why,
)
from delta_mirror.errors import ConfigError

__all__ = [
    "DAY",
    "ENTITIES",
    "FEED_REACH",
    "MAPPED_ENTITIES",
    "AccelaSection",
    "Config",
    "DdsSection",
    "HttpSection",
    "Location",
    "MirrorSection",
    "NexusSection",
    "OpsSection",
    "Secret",
    "StarterColumn",
    "StarterSection",
    "find_config",
    "load_config",
    "read_duration",
]

FEED_REACH = 7 * DAY - 10 * MINUTE  # the feed reaches back 7 days (docs/service.md, "Paging"); the margin is for the way there
MOST_DOTS = 1000  # in a line of the file
_WHERE = "DELTA_MIRROR_CONFIG"
_START = "copy config.example.toml and fill it in"
_GONE = "the folder in which this runs was removed"
_ALWAYS = ("mirror", "http", "ops", "starter")  # read with all their defaults where the file does not have them
_SECRETS = (
    ("mirror", "mask_key"),
    ("dds", "client_secret"),
    ("ops", "ping_url"),
    ("starter", "key_passphrase"),
    ("nexus", "key"),
    ("accela", "app_secret"),
    ("accela", "password"),
)


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
        return _absolute(expanded(given, "--config"), cwd)
    if named := environ.get(_WHERE):
        path = _absolute(expanded(named, f"${_WHERE}"), cwd)
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
    sections = {name: _section(path, name, tables.pop(name, {})) for name in SECTIONS if name in _ALWAYS or name in tables}
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
        mirror=_read_mirror(sections["mirror"], environ),
        http=_read_http(sections["http"]),
        dds=None if dds is None else _read_dds(dds, environ),
        starter=_read_starter(sections["starter"], environ),
        warnings=tuple(warnings),
        nexus=None if nexus is None else _read_nexus(nexus, environ),
        accela=None if accela is None else _read_accela(accela, environ),
        ops=_read_ops(sections["ops"], environ),
        secret_files=secret_files,
    )


def _read_mirror(section: Section, environ: Mapping[str, str]) -> MirrorSection:
    """Return `[mirror]`; its secret is looked up when it is asked for."""
    path = section.path("path", "mirror.db")
    if path is None:
        section.refuse("path", "is empty; name the file that holds the mirror")
    deletes = section.text("deletes", "remove")
    if deletes not in ("remove", "mark"):
        section.refuse(
            "deletes", f'is {quoted(deletes)}; give "remove" (deleted rows go) or "mark" (they stay, with _deleted_at)'
        )
    mask_key, mask = section.late_secret("mask_key", environ), section.mask("mask")
    if mask_key is None and any("hash" in columns.values() for columns in mask.values()):
        section.refuse("mask_key", 'is empty, and [mirror.mask] says "hash"; docs/operating.md, "Privacy", says how to make one')
    return MirrorSection(
        path=path,
        mode=section.mode("mode", "0600"),
        deletes="mark" if deletes == "mark" else "remove",
        mask_key=mask_key,
        mask=mask,
    )


def _read_http(section: Section) -> HttpSection:
    """Return `[http]`."""
    ca_file = section.path("ca_file", "")
    if ca_file is not None:
        try:
            ca_file.open("rb").close()
        except OSError as error:
            section.refuse("ca_file", f"names {ca_file}, which {why(error)}; name a PEM file, or leave it empty")
    return HttpSection(
        # A socket cannot wait for years, and a timeout of an hour is none.
        timeout=section.duration("timeout", "30s", least=SECOND, most=HOUR),
        attempts=section.integer("attempts", 6, least=1),
        max_wait=section.duration("max_wait", "60s"),
        ca_file=ca_file,
    )


def _read_dds(section: Section, environ: Mapping[str, str]) -> DdsSection:
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


def _read_ops(section: Section, environ: Mapping[str, str]) -> OpsSection:
    """Return `[ops]`, its secret looked up."""
    return OpsSection(metrics_file=section.path("metrics_file", ""), ping_url=section.secret_url("ping_url", environ))


def _read_starter(section: Section, environ: Mapping[str, str]) -> StarterSection:
    """Return `[starter]`; its secret is looked up when it is asked for."""
    return StarterSection(
        source=section.folder_or_address("source", ""),
        key_file=section.path("key_file", ""),
        key_passphrase=section.late_secret("key_passphrase", environ),
        known_hosts=section.path("known_hosts", ""),
        columns=section.columns("columns"),
    )


def _read_nexus(section: Section, environ: Mapping[str, str]) -> NexusSection:
    """Return `[nexus]`, its secret looked up. What is empty stays so: only `Config.require_nexus` asks for it."""
    return NexusSection(
        service_bus_url=section.url("service_bus_url", "", may_be_empty=True),
        topic=section.entity_path("topic"),
        subscription=section.entity_path("subscription"),
        key_name=section.text("key_name", ""),
        key=section.secret("key", "", environ, may_be_empty=True),
    )


def _read_accela(section: Section, environ: Mapping[str, str]) -> AccelaSection:
    """Return `[accela]`, its secrets looked up."""
    app_id = section.secret("app_id", "", environ, may_be_empty=True).reveal()
    if not fits_a_header(app_id):
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


def _section(file: Path, name: str, value: object) -> Section:
    """Return the section *name*, its keys known ones."""
    if not isinstance(value, dict):
        msg = f"{file}: {name} must be a section, written [{name}], not {kind_of(value)}"
        raise ConfigError(msg)
    return Section(file, name, value, keys_of(name))


def _read_file(path: Path) -> tuple[str, bool]:
    """Return the text of the configuration file, and whether its group or others may read it."""
    try:
        with path.open("rb") as file:
            body = file.read(LARGEST_FILE + 1)
            open_to_others = bool(os.fstat(file.fileno()).st_mode & 0o044)
    except OSError as error:
        msg = f"{path}: the configuration file {why(error)}; name the right one with --config PATH, or {_START}"
        raise ConfigError(msg) from error
    if len(body) > LARGEST_FILE:
        size = f"larger than {LARGEST_FILE >> 20} MiB"
        msg = f"{path}: the file is {size}, and no configuration; name the right one with --config PATH"
        raise ConfigError(msg)
    try:
        return body.decode("utf-8-sig"), open_to_others
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        msg = f"{path}: line {line} is not UTF-8; save the file as UTF-8"
        # Not chained: the error carries the whole file, a literal secret included.
        raise ConfigError(msg) from None


def _read_toml(path: Path, text: str) -> dict[str, object]:
    """Return the tables of a TOML text."""
    # tomllib takes a minute for a key of ten thousand parts, and an hour for more.
    if max(line.count(".") for line in text.split("\n")) > MOST_DOTS:
        msg = f"{path}: not TOML that can be read: a line has more than {MOST_DOTS:,} dots"
        raise ConfigError(msg)
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
    home = [section for section in SECTIONS if name in keys_of(section)]
    advice = f"as a key it belongs under [{home[0]}]" if home else suggestion(name, SECTIONS)
    msg = f"{file}: {shown(name)} is no section; {advice}"
    raise ConfigError(msg)


def _absolute(path: Path, cwd: Path | None) -> Path:
    """Return *path*, absolute."""
    if cwd is None and not path.is_absolute():
        msg = f"the configuration {path} cannot be looked for: {_GONE}; go to another one, or give an absolute path"
        raise ConfigError(msg)
    return path if cwd is None else cwd / path
