"""Target `settings`: configuration files, read up to what a command needs of them.

A file is taken, and can then be used as it stands, or is refused by one line that names it; no line and no `repr` shows a secret.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path

from delta_mirror.accela.mapping import read_map
from delta_mirror.config import Config, load_config
from delta_mirror.config.sections import SECTIONS, keys_of
from delta_mirror.dds.sftp_address import is_address, read_address
from delta_mirror.errors import ConfigError, RefusedError
from fuzz import hostile
from fuzz.choices import Choices
from fuzz.engine import Target

SECRET = "s3cret-of-the-shop"

_SECRETS = ("client_secret", "ping_url", "key_passphrase", "key", "app_secret", "password", "mask_key")
_VALUES = (
    '"10m"', "200", "true", '""', '"https://salon.example"', '"http://127.0.0.1:8080/x/"', '"mirror.db"', '"0600"', '"remove"',
    '"mark"', '"00:00-06:00"', '"America/New_York"', '["Client", "Sale"]', '"env:SALON"', '"env:NOT_THERE"', '"file:secret.txt"',
    '"file:not-there"', '"file:"', '"env:"', '"file:."', "0", "-1", "1e400", "nan", "inf", "1979-05-27", "07:32:00", "{}", "[]",
    "[[]]", '"~"', '"~nobody-here/x"', '"../../x"', '"/dev/null"', '"a\\u0000b"', '"\\u202e"', '"\\U0001F600"', "'''x'''",
    "9223372036854775808", "0x7fffffffffffffff", "9" * 5000, '"' + "9" * 5000 + 'd"', '"36500d"', '"36501d"', '"٣d"',
    '"https://["',
    '"https://salon.example:99999"', '"https://u:p@salon.example"', '"https://salon.example?x"', '"sftp://u@host:22/x"',
    '"sftp://u:p@host"', '"sftp://["', '"ſftp://x"', "2026-05-04T10:00:00Z", '"777"', '"../etc/localtime"', '"UTC"', '"posix"',
    '{ name = "Total", type = "number" }', '[{ name = "Total" }, "x"]', '[{ tenant_id = 11, location_id = 9 }]',
    '{ Client = { EmailAddress = "hash" } }', '{ Client = { "firstName" = "FirstName" } }',
    '{ NexusClient = { "email" = "{Email}" } }',
    '{ Client = { "gender" = { column = "Gender", values = { a = "b" } } } }', '{ Client = { "email" = "{" } }',
)  # fmt: skip


def make(choices: Choices) -> bytes:
    """Return the octets of a configuration file."""
    if choices.one_in(40):
        return hostile.bent(choices, choices.octets(200))
    lines = []
    for section in [name for name in SECTIONS if not choices.one_in(3)]:
        lines.append(f"[{section if not choices.one_in(40) else _name(choices, tuple(SECTIONS))}]")
        for _ in range(choices.below(6)):
            lines.append(f"{_name(choices, keys_of(section))} = {_value(choices)}")
        secrets = [key for key in _SECRETS if key in keys_of(section)]
        if secrets and choices.below(2):
            lines.append(f'{choices.among(secrets)} = "{SECRET}"')
    if choices.one_in(4):
        lines.append(f"[[dds.locations]]\ntenant_id = {_value(choices)}\nlocation_id = 9")
    if choices.one_in(4):
        lines.append(f"[starter.columns]\n{_name(choices, ('Sale', 'Client'))} = [{_value(choices)}, {_value(choices)}]")
    if choices.one_in(4):
        entity = _name(choices, ("Client", "NexusClient"))
        lines.append(f"[accela.map.{entity}]\n" + "\n".join(_mapped(choices) for _ in range(choices.below(4))))
    octets = "\n".join(lines).encode("utf-8", "surrogatepass")
    return hostile.bent(choices, octets) if choices.one_in(3) else octets


def _name(choices: Choices, usual: Sequence[str]) -> str:
    name = hostile.name(choices, usual) if choices.one_in(6) else choices.among(usual)
    is_bare = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    return name if is_bare else _toml_text(name)


def _toml_text(text: str) -> str:
    shown = "".join(each if each.isalnum() or each in " .-" else f"\\U{ord(each):08x}" for each in text)
    return f'"{shown}"'


def _value(choices: Choices) -> str:
    return choices.among(_VALUES) if not choices.one_in(6) else _toml_text(hostile.text(choices, ("x",)))


def _mapped(choices: Choices) -> str:
    field = choices.among(("firstName", "address.city", "birthDate", "gender", "id", "address", "gender.value", "x"))
    forms = (
        '"FirstName"', '"{FirstName} {LastName}"', '"{"', '"}"', '"{{}}"', '"{}"', '{ const = "x" }', "{}",
        '{ column = "A", x = 1 }',
        '{ column = "Gender", values = { Male = "M" } }', '{ column = "B", type = "date" }', '{ column = "B", type = "x" }',
        '{ table = "NexusAddress", where = { AddressType = "Home" }, column = "Address" }',
        '{ table = "ClientPhone", column = "x" }',
        '{ column = "B", clear = true }', '{ column = "B", clear = "x" }',
        '{ table = "x\\"y", where = { "a\\"b" = 1 }, column = "" }',
    )  # fmt: skip
    return f'"{field}" = {choices.among(forms) if not choices.one_in(6) else _value(choices)}'


@contextmanager
def open_site(folder: Path) -> Iterator[Callable[[bytes], None]]:
    """Let the body check configuration files in *folder*."""
    secret, path = folder / "secret.txt", folder / "config.toml"
    secret.write_text(SECRET, encoding="utf-8")
    environ = {"SALON": SECRET, "DDS_CLIENT_ID": "salon", "DDS_CLIENT_SECRET": SECRET}

    def check(sent: bytes) -> None:
        path.write_bytes(sent)
        before = sorted(folder.iterdir())
        try:
            _use(load_config(path, environ))
        except RefusedError as error:
            _check_line(str(error))
            assert str(path) in str(error), "a refusal does not name the file"
        assert sorted(folder.iterdir()) == before, "something was written"

    yield check


def _check_line(line: str) -> None:
    assert SECRET not in line, "a message shows a secret"
    assert len(line) < 20_000, "a message is endless"


def _use(config: Config) -> None:
    """Ask for everything that commands ask for, and see that no secret shows itself."""
    assert SECRET not in repr(config).replace(repr(config.accela and config.accela.map), ""), "a configuration shows a secret"
    for warning in config.warnings:
        _check_line(warning)
    for name in ("dds", "nexus", "accela"):
        with suppress(ConfigError):
            section = getattr(config, f"require_{name}")()
            assert all(
                getattr(section, field.name) is not None or field.default is None
                for field in fields(section)
                if field.name == "locations"
            )
    if config.starter.key_passphrase is not None:
        with suppress(ConfigError):
            config.starter.key_passphrase.reveal()
    if config.accela is not None:
        for entity, table in config.accela.map.items():
            read_map(str(config.path), entity, table)
    if is_address(config.starter.source):
        try:
            read_address(config.starter.source)
        except RefusedError as error:
            raise RefusedError(f"{config.path}: {error}") from error


TARGET = Target("settings", make, open_site, len)
