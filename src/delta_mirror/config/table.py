"""One table of the configuration file, and the way to its values: each is checked, or refused by name.

Invariants:

- A refusal is a `ConfigError` of one line: file, `section.key`, what is wrong, what to do.
- The value of a secret stands in no message; nor does a URL that is refused, as it may hold a password.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, get_args

from delta_mirror.config.sections import ENTITIES, MAPPED_ENTITIES, SECTIONS, ColumnType, Location, Secret, StarterColumn, keys_of
from delta_mirror.config.words import (
    DAY,
    LARGEST_FILE,
    LONGEST,
    MINUTE,
    PRINTABLE,
    duration_text,
    expanded,
    fits_a_header,
    is_utf8,
    kind_of,
    plain_url,
    quoted,
    read_duration,
    shown,
    suggestion,
    why,
)
from delta_mirror.core.maintenance import Maintenance
from delta_mirror.core.mask import ACTIONS, Action
from delta_mirror.core.names import fold
from delta_mirror.errors import ConfigError

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

_CLOCKS = re.compile(r"(\d\d):(\d\d)-(\d\d):(\d\d)", re.ASCII)
_MODE = re.compile(r"0?[0-7]{3}", re.ASCII)
_ENTITY_PATH = re.compile(r"[^\s?#%\\:\x00-\x1f\x7f]+")  # nothing that would end the path of an address
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.ASCII | re.IGNORECASE)
_LARGEST = 2**63 - 1  # what a column of SQLite holds
_LONGEST_PATH = 4096  # bytes, a NUL at the end included: what Linux takes
_COLUMN_TYPES: tuple[ColumnType, ...] = get_args(ColumnType)


class Section:
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
        msg = f"{self._file}: {self._name}.{shown(key)}{self._entry} {reason}"
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
            self.refuse(key, f"must be text in quotes, not {kind_of(value)}")
        return value

    def integer(self, key: str, default: int | None, *, least: int, most: int = _LARGEST) -> int:
        """Return a whole number from *least* to *most*; without a *default* the key has to be there."""
        value = self._table.get(key, default)
        if value is None:
            self.refuse(key, "is missing; give a whole number")
        # A boolean is an int to Python, but not to people.
        if isinstance(value, bool) or not isinstance(value, int):
            self.refuse(key, f"must be a whole number without quotes, not {kind_of(value)}")
        if not least <= value <= most:
            span = f"from {least} to {most}" if most != _LARGEST else f"of at least {least}"
            self.refuse(key, f"is too {'small' if value < least else 'large'}; give a whole number {span}")
        return value

    def duration(self, key: str, default: str, *, least: int = 0, most: int = LONGEST) -> int:
        """Return a duration from *least* to *most*, in seconds."""
        value = self._table.get(key, default)
        if not isinstance(value, str):
            self.refuse(key, f'must be a duration in quotes, such as "{default}", not {kind_of(value)}')
        try:
            seconds = read_duration(value)
        except ValueError as error:
            self.refuse(key, f"cannot be used: {error}")
        if not least <= seconds <= most:
            bound = f"shorter than {duration_text(least)}" if seconds < least else f"longer than {duration_text(most)}"
            self.refuse(key, f"is {value}; it may not be {bound}")
        return seconds

    def mode(self, key: str, default: str) -> int:
        """Return a file mode: octal digits that let the owner read and write, and nobody execute."""
        value = self._table.get(key, default)
        advice = f'write octal digits in quotes, such as "{default}" or "0660"'
        if not isinstance(value, str):
            self.refuse(key, f"must be text, not {kind_of(value)}; {advice}")
        if _MODE.fullmatch(value) is None:
            self.refuse(key, f"is {quoted(value)}, which is no file mode; {advice}")
        mode = int(value, 8)
        if mode & 0o600 != 0o600:
            self.refuse(key, f"is {quoted(value)}, but the owner must be able to read and write the mirror; {advice}")
        if mode & ~0o666:
            self.refuse(key, f"is {quoted(value)}, but a mirror is nothing to execute; {advice}")
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
            return plain_url(value)
        except ValueError as error:
            self.refuse(key, str(error))

    def secret_url(self, key: str, environ: Mapping[str, str]) -> Secret | None:
        """Return a URL that is a secret, and may have a query; None where there is none."""
        if not self.text(key, ""):
            return None
        base, mark, query = self.secret(key, "", environ).reveal().partition("?")
        if query and ("#" in query or PRINTABLE.fullmatch(query) is None):
            self.refuse(key, "has a query with blanks, #, control characters or letters outside ASCII; escape them (%20)")
        try:
            return Secret(plain_url(base) + mark + query)
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
            self.refuse(key, f'is {quoted(name)}, which is no time zone; give it as in "America/New_York"')

    def maintenance(self, key: str, default: str, zone: "ZoneInfo | None") -> Maintenance | None:
        """Return the window that `HH:MM-HH:MM` means by the clocks of *zone*; None where it is empty."""
        value = self.text(key, default)
        if not value:
            return None
        found = _CLOCKS.fullmatch(value)
        if found is None:
            self.refuse(key, f'is {quoted(value)}; write a time of day from and to, such as "00:00-06:00" or "22:30-04:00"')
        hours, minutes, end_hours, end_minutes = map(int, found.groups())
        start, end = hours * 60 + minutes, end_hours * 60 + end_minutes
        if max(minutes, end_minutes) > 59 or start >= DAY // MINUTE or end > DAY // MINUTE:
            self.refuse(key, f"is {quoted(value)}; a day has times from 00:00 to 24:00")
        if start == end % (DAY // MINUTE):
            self.refuse(key, f"is {quoted(value)}, the whole day or nothing of it; not every failure can be expected")
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
        if not fits_a_header(value):
            self.refuse(
                key, "holds blanks at an end, control characters or letters outside ASCII; give it as the agency spells it"
            )
        return value

    def maps(self, key: str) -> Mapping[str, Mapping[str, object]]:
        """Return the tables `[accela.map.ENTITY]`; the values are texts and tables, whatever is in those."""
        value = self._table.get(key, {})
        if not isinstance(value, dict):
            self.refuse(key, f"must be tables, written [{self._name}.{key}.Client], not {kind_of(value)}")
        for entity, fields_of in value.items():
            if entity not in MAPPED_ENTITIES:
                self.refuse(key, f"names {quoted(entity)}, which is no entity; {suggestion(entity, MAPPED_ENTITIES)}")
            if not isinstance(fields_of, dict):
                self.refuse(key, f"has {entity} as {kind_of(fields_of)}; write a table [{self._name}.{key}.{entity}]")
        return value

    def mask(self, key: str) -> dict[str, dict[str, Action]]:
        """Return what becomes of which column of which table, in the order written."""
        value = self._table.get(key, {})
        name = f"{self._name}.{key}"
        if not isinstance(value, dict):
            self.refuse(key, f"must be a table [{name}], not {kind_of(value)}")
        tables = Section(self._file, name, value, tuple(value))
        if twice := _twin(value):
            tables.refuse(twice, "stands there twice, in different spellings; take one away")
        return {table: _read_actions(tables, table, columns) for table, columns in value.items()}

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
                self.refuse(key, f"is taken from the environment variable {shown(name)}, which is not set or empty; set it")
            if not is_utf8(found):
                self.refuse(key, f"is taken from the environment variable {shown(name)}, which is not UTF-8")
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
            self.refuse(key, f"must be a table [{name}], not {kind_of(value)}")
        known: dict[str, str] = {}
        for table in value:
            if twin := known.get(table.lower()):
                self.refuse(key, f"names the table {shown(table)} twice (as {shown(twin)}, too); take one away")
            known[table.lower()] = table
        return {
            table: _read_columns(Section(self._file, name, value, tuple(value)), table, listed) for table, listed in value.items()
        }

    def entities(self, key: str, default: tuple[str, ...]) -> tuple[str, ...]:
        """Return names of entities, in the order written, none of them twice."""
        value = self._table.get(key, list(default))
        if not isinstance(value, list):
            self.refuse(key, f'must be an array, such as ["Client", "Sale"], not {kind_of(value)}')
        names: list[str] = []
        for name in value:
            if not isinstance(name, str):
                self.refuse(key, f"must hold names in quotes, not {kind_of(name)}")
            if name not in ENTITIES:
                self.refuse(key, f"names {quoted(name)}, which is no entity; {suggestion(name, ENTITIES)}")
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
            self.refuse(key, f"must be tables [[{self._name}.{key}]], not {kind_of(value)}")
        found: list[Location] = []
        for number, table in enumerate(value, start=1):
            entry = f" (entry {number})"
            if not isinstance(table, dict):
                self.refuse(key, f"must be tables [[{self._name}.{key}]]; entry {number} is {kind_of(table)}")
            part = Section(self._file, f"{self._name}.{key}", table, Location._fields, entry)
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
        if len(text) >= _LONGEST_PATH:
            self.refuse(key, f"is of {len(text):,} characters, and no path is; see whether a quote is missing")
        return self._file.parent / expanded(text, f"{self._file}: {self._name}.{key}")

    def _file_text(self, key: str, path: Path) -> str:
        """Return what the file of a secret holds, less the line ends after it."""
        try:
            with path.open("rb") as file:
                body = file.read(LARGEST_FILE + 1)
        except OSError as error:
            self.refuse(key, f"is taken from the file {path}, which {why(error)}")
        if len(body) > LARGEST_FILE:
            self.refuse(key, f"is taken from the file {path}, which is larger than {LARGEST_FILE >> 20} MiB, and no secret")
        # A byte order mark is what Windows editors leave behind.
        text = body.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n").decode(errors="surrogateescape")
        if not text:
            self.refuse(key, f"is taken from the file {path}, which is empty")
        if not is_utf8(text):
            self.refuse(key, f"is taken from the file {path}, which is not UTF-8")
        return text


def _read_columns(section: Section, table: str, listed: object) -> tuple[StarterColumn, ...]:
    """Return the columns of one table of `[starter.columns]`."""
    form = '["TenantId", "EntityId", { name = "Total", type = "number" }]'
    if not isinstance(listed, list):
        section.refuse(table, f"must be an array of all columns of the file, such as {form}, not {kind_of(listed)}")
    columns: list[StarterColumn] = []
    for number, column in enumerate(listed, start=1):
        name, type_ = (column.get("name"), column.get("type")) if isinstance(column, dict) else (column, None)
        if isinstance(column, dict) and (strange := set(column) - {"name", "type"}):
            section.refuse(table, f"has an unknown key {shown(min(strange))} in column {number}; known are name, type")
        if not isinstance(name, str) or not name.strip():
            section.refuse(table, f"has no name in column {number}; write each column as in {form}")
        found = next((known for known in _COLUMN_TYPES if known == type_), None)
        if type_ is not None and found is None:
            section.refuse(table, f"has an unknown type in column {number}; known are {', '.join(_COLUMN_TYPES)}")
        if fold(name.strip()) in (fold(known.name) for known in columns):
            section.refuse(table, f"names the column {shown(name)} twice; take one away")
        columns.append(StarterColumn(name.strip(), found))
    if not columns:
        section.refuse(table, f"is empty; name all columns of the file, such as {form}, or leave it out")
    return tuple(columns)


def _read_actions(section: Section, table: str, columns: object) -> dict[str, Action]:
    """Return what becomes of the columns of one table of `[mirror.mask]`."""
    form = '{ EmailAddress = "hash", Notes = "drop" }'
    if not table.strip() or table.startswith("_"):
        section.refuse(table, "is no table of a service; name an entity or a table as the mirror does")
    if not isinstance(columns, dict) or not columns:
        section.refuse(table, f"must say what becomes of its columns, such as {form}")
    if twice := _twin(columns):
        section.refuse(table, f"names the column {shown(twice)} twice, in different spellings; take one away")
    found: dict[str, Action] = {}
    for column, given in columns.items():
        action = next((known for known in ACTIONS if known == given), None)
        if action is None:
            section.refuse(table, f'has something else than "drop", "hash" or "keep" for {shown(column)}; write it as in {form}')
        if not column.strip() or column.startswith("_"):
            section.refuse(table, f"names {shown(column)}, which is no column of a service; the mirror's own cannot be masked")
        found[column] = action
    return found


def _twin(names: Iterable[str]) -> str | None:
    """Return the first of *names* that differs only in case from one before it, None where there is none."""
    seen: set[str] = set()
    for name in names:
        if fold(name) in seen:
            return name
        seen.add(fold(name))
    return None


def _unknown_key(key: str, keys: tuple[str, ...]) -> str:
    """Return what to say of a key that is not among *keys*."""
    home = [other for other in SECTIONS if key in keys_of(other)]
    return "is no known key; " + (f"it belongs under [{home[0]}]" if home else suggestion(key, keys))
