import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import FrozenInstanceError, asdict, fields
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delta_mirror.accela.mapping import read_map
from delta_mirror.config import (
    ENTITIES,
    FEED_REACH,
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
    find_config,
    load_config,
    read_duration,
)
from delta_mirror.core.keyed import Keyed
from delta_mirror.core.maintenance import Maintenance
from delta_mirror.dds import tables
from delta_mirror.errors import ConfigError

EXAMPLE = Path(__file__).parents[2] / "config.example.toml"
ENVIRON = {"DDS_CLIENT_ID": "invented-id", "DDS_CLIENT_SECRET": "invented-secret"}
HIDDEN = "Tr0ub4dor"  # stands for a secret wherever a test says that none may show


def load(folder: Path, text: str, environ: Mapping[str, str] = ENVIRON) -> Config:
    path = folder / "config.toml"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return load_config(path, environ)


def refusal(folder: Path, text: str, environ: Mapping[str, str] = ENVIRON) -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder, text, environ)
    return message_of(caught.value)


def message_of(error: ConfigError) -> str:
    """Return the message, after a look at what holds for all of them: one line, and no trace of the secret in what led to it."""
    step: BaseException | None = error
    while step is not None:
        assert HIDDEN not in str(step)
        assert HIDDEN not in repr(vars(step))
        step = step.__cause__
    assert "\n" not in str(error)
    return str(error)


def dds(folder: Path, text: str, environ: Mapping[str, str] = ENVIRON) -> DdsSection:
    return load(folder, "[dds]\n" + text, environ).require_dds()


# The maintenance window, and who is told


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('maintenance = "00:00-06:00"', "dds.maintenance needs dds.zone"),
        ('maintenance = "0-6"\nzone = "UTC"', 'write a time of day from and to, such as "00:00-06:00"'),
        ('maintenance = "00:00-06:60"\nzone = "UTC"', "a day has times from 00:00 to 24:00"),
        ('maintenance = "24:00-06:00"\nzone = "UTC"', "a day has times from 00:00 to 24:00"),
        ('maintenance = "06:00-06:00"\nzone = "UTC"', "the whole day or nothing of it"),
        ('maintenance = "00:00-24:00"\nzone = "UTC"', "the whole day or nothing of it"),
        ('zone = "New York"', "dds.zone is 'New York', which is no time zone"),
        ('zone = "../../etc/passwd"', "which is no time zone"),
        ('zone = "America"', "which is no time zone"),
        ("maintenance = 6", "dds.maintenance must be text in quotes, not a number"),
    ],
)
def test_maintenance_window_that_is_none_is_refused(tmp_path: Path, text: str, said: str) -> None:
    assert said in refusal(tmp_path, f"[dds]\n{text}\n")


@pytest.mark.parametrize("text", ["00:00-06:00", "22:30-04:00", "18:00-24:00", "23:59-00:00"])
def test_maintenance_window_may_pass_midnight_or_end_at_it(tmp_path: Path, text: str) -> None:
    window = dds(tmp_path, f'maintenance = "{text}"\nzone = "Europe/Berlin"\n').maintenance
    assert window is not None
    assert f"{window.start // 60:02}:{window.start % 60:02}-{window.end // 60:02}:{window.end % 60:02}" == text


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"http://health.example/{HIDDEN}", "must begin with https://"),
        (f"https://user:{HIDDEN}@health.example", "holds credentials"),
        (f"https://health.example/{HIDDEN}?a b", "has a query with blanks"),
        (f"https://health.example/{HIDDEN}?a#b", "has a query with blanks"),
        (f"https://health.example/{HIDDEN}#b", "has a query or a fragment"),
        (f"https://health example/{HIDDEN}", "holds blanks"),
        ("env:NOWHERE", "NOWHERE, which is not set"),
    ],
)
def test_address_of_a_health_check_that_cannot_be_called_is_refused_and_not_shown(tmp_path: Path, url: str, said: str) -> None:
    message = refusal(tmp_path, f'[ops]\nping_url = "{url}"\n')
    assert "ops.ping_url" in message
    assert said in message
    assert "health.example" not in message


def test_configuration_knows_the_files_that_it_takes_secrets_from(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("invented", encoding="utf-8")
    config = load(tmp_path, '[dds]\nclient_secret = "file:a.txt"\n')
    assert config.secret_files == {"dds.client_secret": tmp_path / "a.txt"}


# What comes back


def test_empty_file_is_all_defaults_and_no_dds(tmp_path: Path) -> None:
    config = load(tmp_path, "")
    assert config == Config(
        path=tmp_path / "config.toml",
        mirror=MirrorSection(path=tmp_path / "mirror.db", mode=0o600, deletes="remove"),
        http=HttpSection(timeout=30, attempts=6, max_wait=60, ca_file=None),
        dds=None,
        starter=StarterSection(source="", key_file=None, key_passphrase=None, known_hosts=None, columns={}),
        warnings=(),
    )


def test_defaults_of_dds_are_those_of_the_contract(tmp_path: Path) -> None:
    assert dds(tmp_path, "") == DdsSection(
        marketplace_url="https://marketplace.meevo.com",
        public_api_url="",
        client_id="invented-id",
        client_secret=Secret("invented-secret"),
        entities=("Client", "Employee", "Appointment", "Sale"),
        items_per_page=200,
        overlap=600,
        first_window=7 * 86400 - 600,
        calls_per_minute=60,
        calls_per_day=1000,
        parallel=4,
        maintenance=None,
        zone="",
        locations=(),
    )


def test_every_value_of_the_file_arrives_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    config = load(
        tmp_path,
        """
        [mirror]
        path = "rooms/salon.db"
        mode = "0660"
        deletes = "mark"
        [http]
        timeout = "2m"
        attempts = 1
        max_wait = "0s"
        ca_file = "ca.pem"
        [dds]
        marketplace_url = "https://market.example/"
        public_api_url = "http://127.0.0.1:8080/publicapi/"
        client_id = "literal-id"
        client_secret = "env:OTHER"
        entities = ["EmployeeActual", "Sale"]
        items_per_page = 50
        overlap = "24h"
        first_window = "2d"
        calls_per_minute = 0
        calls_per_day = 5000
        parallel = 1
        maintenance = "22:30-04:00"
        zone = "America/New_York"
        [[dds.locations]]
        tenant_id = 11
        location_id = 9
        [[dds.locations]]
        tenant_id = 11
        location_id = 10
        [ops]
        metrics_file = "told/delta.prom"
        ping_url = "env:PING"
        [starter]
        source = "exports"
        key_file = "/keys/id"
        key_passphrase = "env:OTHER"
        known_hosts = "known"
        [starter.columns]
        Sale = ["TenantId", { name = "Total ", type = "number" }, { name = "Note" }]
        Client = ["É", "é"]
        """,
        {"OTHER": "s", "PING": "https://Health.example/an-id/?a=b"},
    )
    assert config.starter.source == str(tmp_path / "exports")
    assert (config.starter.key_file, config.starter.known_hosts) == (Path("/keys/id"), tmp_path / "known")
    assert config.starter.key_passphrase is not None
    assert config.starter.key_passphrase.reveal() == "s"
    assert config.starter.columns == {
        "Sale": (StarterColumn("TenantId", None), StarterColumn("Total", "number"), StarterColumn("Note", None)),
        "Client": (StarterColumn("É", None), StarterColumn("é", None)),
    }
    assert config.mirror == MirrorSection(path=tmp_path / "rooms" / "salon.db", mode=0o660, deletes="mark")
    assert config.http == HttpSection(timeout=120, attempts=1, max_wait=0, ca_file=tmp_path / "ca.pem")
    assert config.require_dds() == DdsSection(
        marketplace_url="https://market.example",
        public_api_url="http://127.0.0.1:8080/publicapi",
        client_id="literal-id",
        client_secret=Secret("s"),
        entities=("EmployeeActual", "Sale"),
        items_per_page=50,
        overlap=86400,
        first_window=2 * 86400,
        calls_per_minute=0,
        calls_per_day=5000,
        parallel=1,
        maintenance=Maintenance(22 * 60 + 30, 4 * 60, ZoneInfo("America/New_York")),
        zone="America/New_York",
        locations=(Location(11, 9), Location(11, 10)),
    )
    assert config.ops == OpsSection(tmp_path / "told" / "delta.prom", Secret("https://health.example/an-id?a=b"))


def test_first_window_never_reaches_into_the_margin(tmp_path: Path) -> None:
    assert dds(tmp_path, 'first_window = "7d"').first_window == FEED_REACH == 6 * 86400 + 23 * 3600 + 50 * 60
    assert dds(tmp_path, 'first_window = "10070m"').first_window == FEED_REACH
    assert dds(tmp_path, 'first_window = "10069m"').first_window == FEED_REACH - 60


def test_all_six_entities_can_be_followed(tmp_path: Path) -> None:
    names = ["Client", "Employee", "Appointment", "Sale", "EmployeeSchedule", "EmployeeActual"]
    assert list(dds(tmp_path, f"entities = {names}").entities) == names == list(ENTITIES)


def test_entities_that_can_be_configured_are_those_that_the_dds_edge_knows() -> None:
    assert ENTITIES == tables.ENTITIES


def test_configuration_cannot_be_changed_afterwards(tmp_path: Path) -> None:
    config = load(tmp_path, "[dds]\n")
    for part in (config, config.mirror, config.http, config.require_dds()):
        with pytest.raises(FrozenInstanceError):
            setattr(part, fields(part)[0].name, None)


def test_missing_dds_section_is_named_when_it_is_needed(tmp_path: Path) -> None:
    config = load(tmp_path, "")
    with pytest.raises(ConfigError, match=r"config\.toml: the section \[dds\] is missing"):
        config.require_dds()


def test_file_with_windows_line_ends_and_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b'\xef\xbb\xbf[mirror]\r\npath = "m.db"\r\n')
    assert load_config(path, {}).mirror.path == tmp_path / "m.db"


# Paths


def test_relative_paths_are_relative_to_the_file_and_not_to_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "secret").write_text("kept apart\n")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tmp_path / "etc" / "config.toml").write_text('[dds]\nclient_secret = "file:../secret"\n')
    config = load_config(Path("../etc/config.toml"), ENVIRON)
    assert config.mirror.path.is_absolute()
    assert config.mirror.path.resolve() == tmp_path / "etc" / "mirror.db"
    assert config.require_dds().client_secret.reveal() == "kept apart"


def test_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert load(tmp_path, '[mirror]\npath = "~/m.db"').mirror.path == tmp_path / "home" / "m.db"


def test_home_of_an_unknown_user_is_refused(tmp_path: Path) -> None:
    assert "mirror.path begins with ~no-such-user," in refusal(tmp_path, '[mirror]\npath = "~no-such-user/m.db"')


def test_absolute_path_stays(tmp_path: Path) -> None:
    assert load(tmp_path, '[mirror]\npath = "/srv/m.db"').mirror.path == Path("/srv/m.db")


# Durations


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("10m", 600), ("2h", 7200), ("7d", 604800), ("0s", 0), ("007m", 420), ("36500d", 36500 * 86400)],
)
def test_duration_is_read_as_seconds(text: str, seconds: int) -> None:
    assert read_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "10", "m", "-1m", "+1m", "1.5h", "1h30m", "10 m", " 10m", "10m\n", "10M", "10w", "1_0m", "\u0661m", "ten"]
)
def test_what_is_no_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no duration; .* 90s, 10m, 2h, 7d"):
        read_duration(text)


@pytest.mark.parametrize("text", ["36501d", "3153600001s", "9" * 5000 + "s"])
def test_duration_that_no_calendar_holds_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^a duration may not be longer than 36500d$"):
        read_duration(text)


@given(st.integers(0, 36500), st.sampled_from("smhd"))
def test_every_duration_written_is_the_one_read(number: int, unit: str) -> None:
    assert read_duration(f"{number}{unit}") == number * {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit]


# Refusals of values: what is written, and what the message says of it

MIRROR = [
    ('path = ""', "mirror.path is empty; name the file"),
    ("path = 5", "mirror.path must be text in quotes, not a number"),
    ('path = "a\\u0000b"', "mirror.path holds a NUL character"),
    ("mode = 600", 'mirror.mode must be text, not a number; write octal digits in quotes, such as "0600"'),
    ("mode = 0o600", "mirror.mode must be text, not a number"),
    ('mode = "rw"', "mirror.mode is 'rw', which is no file mode"),
    ('mode = "0680"', "mirror.mode is '0680', which is no file mode"),
    ('mode = "60"', "mirror.mode is '60', which is no file mode"),
    ('mode = "4600"', "mirror.mode is '4600', which is no file mode"),
    ('mode = "0400"', "mirror.mode is '0400', but the owner must be able to read and write"),
    ('mode = "0260"', "mirror.mode is '0260', but the owner must be able to read and write"),
    ('mode = "0700"', "mirror.mode is '0700', but a mirror is nothing to execute"),
    ('deletes = "keep"', "mirror.deletes is 'keep'; give \"remove\""),
    ('deletes = "Mark"', "mirror.deletes is 'Mark'; give"),
    ("deletes = true", "mirror.deletes must be text in quotes, not a boolean"),
    ('paths = "m.db"', "mirror.paths is no known key; did you mean path?"),
    ('DELETES = "mark"', "mirror.DELETES is no known key; did you mean deletes?"),
    ("attempts = 1", "mirror.attempts is no known key; it belongs under [http]"),
    ('colour = "red"', "mirror.colour is no known key; known are path, mode, deletes"),
]
HTTP = [
    ("timeout = 30", 'http.timeout must be a duration in quotes, such as "30s", not a number'),
    ('timeout = "30"', "http.timeout cannot be used: '30' is no duration"),
    ('timeout = "0s"', "http.timeout is 0s; it may not be shorter than 1s"),
    ('timeout = "61m"', "http.timeout is 61m; it may not be longer than 1h"),
    ("attempts = 0", "http.attempts is too small; give a whole number of at least 1"),
    ("attempts = 1.0", "http.attempts must be a whole number without quotes, not a decimal number"),
    ("attempts = true", "http.attempts must be a whole number without quotes, not a boolean"),
    ('attempts = "6"', "http.attempts must be a whole number without quotes, not text"),
    (f"attempts = {2**63}", "http.attempts is too large"),
    (f"attempts = 0x{'f' * 5000}", "http.attempts is too large"),
    ("max_wait = 2026-01-01", 'http.max_wait must be a duration in quotes, such as "60s", not a date or time'),
    ('max_wait = "-1s"', "http.max_wait cannot be used: '-1s' is no duration"),
    ('max_wait = "36501d"', "http.max_wait cannot be used: a duration may not be longer"),
    ('ca_file = "absent.pem"', "absent.pem, which does not exist; name a PEM file"),
    ('ca_file = "."', ", which is a folder; name a PEM file"),
    ('time_out = "30s"', "http.time_out is no known key; did you mean timeout?"),
    ("'a\\u001bb' = 1", "http.a\\u001bb is no known key; known are timeout, attempts, max_wait, ca_file"),
    ('"a\\u001bb" = 1', "http.'a\\x1bb' is no known key"),
]
DDS = [
    ("entities = []", "dds.entities is empty; name at least one entity"),
    ('entities = "Client"', 'dds.entities must be an array, such as ["Client", "Sale"], not text'),
    ("entities = [1]", "dds.entities must hold names in quotes, not a number"),
    ('entities = ["client"]', "dds.entities names 'client', which is no entity; did you mean Client?"),
    ('entities = ["SAL"]', "dds.entities names 'SAL', which is no entity; did you mean Sale?"),
    ('entities = ["Sale", "EmployeeSchedules"]', "names 'EmployeeSchedules', which is no entity; did you mean EmployeeSchedule?"),
    (
        'entities = ["Voucher"]',
        "which is no entity; known are Client, Employee, Appointment, Sale, EmployeeSchedule, EmployeeActual",
    ),
    ('entities = ["Sale", "Client", "Sale"]', "dds.entities names Sale twice"),
    ("items_per_page = 0", "dds.items_per_page is too small; give a whole number from 1 to 200"),
    ("items_per_page = 201", "dds.items_per_page is too large; give a whole number from 1 to 200"),
    ('overlap = "1441m"', "dds.overlap is 1441m; it may not be longer than 1d"),
    ('first_window = "169h"', "dds.first_window is 169h; it may not be longer than 7d"),
    ('first_window = "0d"', "dds.first_window is 0d; it may not be shorter than 1s"),
    ("calls_per_minute = -1", "dds.calls_per_minute is too small; give a whole number of at least 0"),
    ("calls_per_day = -1", "dds.calls_per_day is too small; give a whole number of at least 0"),
    ("parallel = 0", "dds.parallel is too small; give a whole number of at least 1"),
    ("item_per_page = 100", "dds.item_per_page is no known key; did you mean items_per_page?"),
    ("locations = 9", "dds.locations must be tables [[dds.locations]], not a number"),
    ("locations = [9]", "dds.locations must be tables [[dds.locations]]; entry 1 is a number"),
    ("[dds.locations]\ntenant_id = 1\nlocation_id = 1", "dds.locations is one table; write [[dds.locations]] with two brackets"),
    ("[[dds.locations]]\ntenant_id = 1", "dds.locations.location_id (entry 1) is missing"),
    ("[[dds.locations]]\nlocation_id = 1", "dds.locations.tenant_id (entry 1) is missing"),
    ("[[dds.locations]]\ntenant_id = 0\nlocation_id = 1", "dds.locations.tenant_id (entry 1) is too small"),
    ('[[dds.locations]]\ntenant_id = 1\nlocation_id = "9"', "dds.locations.location_id (entry 1) must be a whole number"),
    ("[[dds.locations]]\ntenant = 1", "dds.locations.tenant (entry 1) is no known key; did you mean tenant_id?"),
    (
        "locations = [{tenant_id=1, location_id=9}, {tenant_id=2, location_id=9}, {tenant_id=1, location_id=9}]",
        "dds.locations has tenant_id 1, location_id 9 twice (entries 1 and 3); take one away",
    ),
]
STARTER = [
    ('source = "ftp://host/x"', "starter.source is neither a folder nor an SFTP address"),
    ("source = 5", "starter.source must be text in quotes"),
    ('key_passphrase = "env:"', 'starter.key_passphrase is "env:" without a name'),
    ('key_passphrase = "file:"', 'starter.key_passphrase is "file:" without a path'),
    ('keyfile = "x"', "starter.keyfile is no known key; did you mean key_file?"),
    ("columns = 5", "starter.columns must be a table [starter.columns], not a number"),
    ('[starter.columns]\nSale = "TenantId"', "starter.columns.Sale must be an array of all columns of the file"),
    ("[starter.columns]\nSale = []", "starter.columns.Sale is empty; name all columns"),
    ("[starter.columns]\nSale = [5]", "starter.columns.Sale has no name in column 1"),
    ('[starter.columns]\nSale = ["A", " "]', "starter.columns.Sale has no name in column 2"),
    ('[starter.columns]\nSale = [{ type = "text" }]', "starter.columns.Sale has no name in column 1"),
    ('[starter.columns]\nSale = [{ name = "A", type = "int" }]', "has an unknown type in column 1; known are text, number, guid"),
    ('[starter.columns]\nSale = [{ name = "A", typ = "text" }]', "has an unknown key typ in column 1; known are name, type"),
    ('[starter.columns]\nSale = ["A", "B", "a "]', "starter.columns.Sale names the column a  twice"),
    ('[starter.columns]\nSale = ["A"]\nsale = ["A"]', "starter.columns names the table sale twice (as Sale, too)"),
]


@pytest.mark.parametrize(
    ("section", "line", "said"),
    [
        (section, *row)
        for section, rows in (("mirror", MIRROR), ("http", HTTP), ("dds", DDS), ("starter", STARTER))
        for row in rows
    ],
    ids=lambda text: text[:40].replace("\n", " "),
)
def test_value_that_cannot_be_used_is_refused_by_name(tmp_path: Path, section: str, line: str, said: str) -> None:
    message = refusal(tmp_path, f"[{section}]\n{line}\n")
    assert message.startswith(f"{tmp_path}/config.toml: ")
    assert said in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[mirrors]\n", "mirrors is no section; did you mean mirror?"),
        ("[DDS]\n", "DDS is no section; did you mean dds?"),
        ("[telephone]\n", "telephone is no section; known are mirror, http, dds, ops, starter"),
        ('timeout = "30s"\n', "timeout is no section; as a key it belongs under [http]"),
        ("mirror = 5\n", "mirror must be a section, written [mirror], not a number"),
        ("[[http]]\n", "http must be a section, written [http], not an array"),
        ('[dds]\n[dds.mask]\nClient = "hash"\n', "dds.mask is no known key"),
    ],
)
def test_unknown_or_misshapen_section_is_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    message = refusal(tmp_path, text)
    assert message.startswith(f"{tmp_path}/config.toml: ")
    assert said in message


@pytest.mark.parametrize("value", ["0600", "600", "0660", "0640", "0644", "0666"])
def test_mode_that_lets_the_owner_read_and_write_is_taken(tmp_path: Path, value: str) -> None:
    assert load(tmp_path, f'[mirror]\nmode = "{value}"').mirror.mode == int(value, 8)


@pytest.mark.parametrize(
    ("line", "least", "most"),
    [
        ('overlap = "{}s"', 0, 86400),
        ('first_window = "{}s"', 1, FEED_REACH),
        ("items_per_page = {}", 1, 200),
        ("calls_per_minute = {}", 0, 2**63 - 1),
        ("calls_per_day = {}", 0, 2**63 - 1),
        ("parallel = {}", 1, 2**63 - 1),
    ],
)
def test_both_ends_of_a_range_belong_to_it(tmp_path: Path, line: str, least: int, most: int) -> None:
    key = line.split(" ")[0]
    assert getattr(dds(tmp_path, line.format(least)), key) == least
    assert getattr(dds(tmp_path, line.format(most)), key) == most


# URLs


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://market.example", "https://market.example"),
        ("https://market.example/", "https://market.example"),
        ("https://market.example:8443/gate/way//", "https://market.example:8443/gate/way"),
        ("HTTPS://Market.Example/Gate", "https://market.example/Gate"),
        ("https://[2001:db8::1]:443", "https://[2001:db8::1]:443"),
        ("https://localhost", "https://localhost"),
        ("http://localhost:5000", "http://localhost:5000"),
        ("http://LOCALHOST", "http://localhost"),
        ("http://127.0.0.1:1/", "http://127.0.0.1:1"),
        ("http://127.255.255.254", "http://127.255.255.254"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("http://[0:0:0:0:0:0:0:1]", "http://[0:0:0:0:0:0:0:1]"),
    ],
)
def test_url_is_kept_without_its_last_slash(tmp_path: Path, given: str, kept: str) -> None:
    section = dds(tmp_path, f'marketplace_url = "{given}"\npublic_api_url = "{given}"')
    assert (section.marketplace_url, section.public_api_url) == (kept, kept)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("http://market.example", "must begin with https://"),
        ("http://127.0.0.1.example", "must begin with https://"),
        ("http://localhost.example", "must begin with https://"),
        ("http://128.0.0.1", "must begin with https://"),
        ("http://127.1", "must begin with https://"),
        ("http://0x7f000001", "must begin with https://"),
        ("http://0.0.0.0", "must begin with https://"),
        ("http://[::2]", "must begin with https://"),
        ("http://[::ffff:127.0.0.1]", "must begin with https://"),
        ("ftp://localhost", "is no https:// address"),
        ("market.example", "is no https:// address"),
        ("//market.example", "is no https:// address"),
        ("https://", "has a host or a port that cannot be read"),
        ("https:///gate", "has a host or a port that cannot be read"),
        ("https:market.example", "has a host or a port that cannot be read"),
        ("https://market.example:", "has a host or a port that cannot be read"),
        ("https://market.example:0", "has a host or a port that cannot be read"),
        ("https://market.example:65536", "has a host or a port that cannot be read"),
        ("https://market.example:port", "has a host or a port that cannot be read"),
        ("https://[::1", "has a host or a port that cannot be read"),
        ("http://[::1].example", "has a host or a port that cannot be read"),
        ("http://localhost\\\\.example", "has a host or a port that cannot be read"),
        ("https://%6c.example", "has a host or a port that cannot be read"),
        ("https://ann:Tr0ub4dor@market.example", "holds credentials"),
        ("https://Tr0ub4dor@market.example", "holds credentials"),
        ("http://localhost@market.example", "holds credentials"),
        ("http://localhost\\\\@market.example", "holds credentials"),
        ("https://market.example/?key=Tr0ub4dor", "has a query or a fragment"),
        ("https://market.example?", "has a query or a fragment"),
        ("https://market.example/#Tr0ub4dor", "has a query or a fragment"),
        (" https://market.example", "holds blanks"),
        ("https://market.exa\\nmple", "holds blanks"),
        ("https://m\u00e4rkte.example", "holds blanks, control characters or letters outside ASCII"),
    ],
)
def test_url_that_is_not_safe_is_refused_without_being_shown(tmp_path: Path, given: str, said: str) -> None:
    for key in ("marketplace_url", "public_api_url"):
        message = refusal(tmp_path, f'[dds]\n{key} = "{given}"')
        assert f"config.toml: dds.{key} {said}" in message
        assert "example " not in message


def test_only_the_public_api_url_may_be_empty(tmp_path: Path) -> None:
    assert dds(tmp_path, 'public_api_url = ""').public_api_url == ""
    assert "dds.marketplace_url is empty; give an https:// address" in refusal(tmp_path, '[dds]\nmarketplace_url = ""')


# Secrets


@pytest.mark.parametrize("key", ["client_id", "client_secret"])
def test_secret_is_taken_from_the_environment_variable_named(tmp_path: Path, key: str) -> None:
    section = dds(tmp_path, f'{key} = "env:OTHER"', {**ENVIRON, "OTHER": " with blanks "})
    assert plain(section, key) == " with blanks "


@pytest.mark.parametrize("key", ["client_id", "client_secret"])
@pytest.mark.parametrize("environ", [{}, {"OTHER": ""}])
def test_variable_that_is_missing_or_empty_is_refused_by_its_name(tmp_path: Path, key: str, environ: dict[str, str]) -> None:
    said = refusal(tmp_path, f'[dds]\n{key} = "env:OTHER"', ENVIRON | environ)
    assert f"dds.{key} is taken from the environment variable OTHER, which is not set or empty" in said


@pytest.mark.parametrize("missing", ["DDS_CLIENT_ID", "DDS_CLIENT_SECRET"])
def test_default_variables_are_looked_for_when_nothing_else_is_said(tmp_path: Path, missing: str) -> None:
    environ = {name: HIDDEN for name in ENVIRON if name != missing}
    assert f"environment variable {missing}, which is not set" in refusal(tmp_path, "[dds]\n", environ)


@pytest.mark.parametrize("key", ["client_id", "client_secret"])
@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"kept", "kept"),
        (b"kept\n", "kept"),
        (b"kept\r\n", "kept"),
        (b"\xef\xbb\xbfkept\r\n", "kept"),
        (b" k \n pt \n", " k \n pt "),
        ("gr\u00fcn\n".encode(), "gr\u00fcn"),
    ],
)
def test_secret_is_taken_from_the_file_named_less_its_line_end(tmp_path: Path, key: str, body: bytes, text: str) -> None:
    (tmp_path / "kept").write_bytes(body)
    assert plain(dds(tmp_path, f'{key} = "file:kept"'), key) == text


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "which is empty"),
        (b"\r\n\n", "which is empty"),
        (b"\xff" + HIDDEN.encode(), "which is not UTF-8"),
        (b"\xed\xa0\x80" + HIDDEN.encode(), "which is not UTF-8"),
    ],
)
def test_file_of_a_secret_that_holds_none_is_refused(tmp_path: Path, body: bytes, said: str) -> None:
    (tmp_path / "kept").write_bytes(body)
    message = refusal(tmp_path, '[dds]\nclient_secret = "file:kept"')
    assert f"dds.client_secret is taken from the file {tmp_path}/kept, {said}" in message


def test_file_of_a_secret_that_cannot_be_read_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    for name, said in (("absent", "does not exist"), ("folder", "is a folder"), ("loop", "cannot be read (Too many")):
        message = refusal(tmp_path, f'[dds]\nclient_secret = "file:{name}"')
        assert f"dds.client_secret is taken from the file {tmp_path}/{name}, which {said}" in message


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ('""', 'is empty; give it as "env:NAME" or "file:PATH"'),
        ('"env:"', 'is "env:" without a name'),
        ('"file:"', 'is "file:" without a path'),
        ("12345678", "must be text in quotes, not a number"),
    ],
)
@pytest.mark.parametrize("key", ["client_id", "client_secret"])
def test_secret_that_is_none_is_refused(tmp_path: Path, key: str, value: str, said: str) -> None:
    assert f"dds.{key} {said}" in refusal(tmp_path, f"[dds]\n{key} = {value}")


def test_variable_that_is_not_utf8_is_refused_and_not_shown(tmp_path: Path) -> None:
    environ = ENVIRON | {"OTHER": os.fsdecode(b"\xff" + HIDDEN.encode())}
    assert "variable OTHER, which is not UTF-8" in refusal(tmp_path, '[dds]\nclient_secret = "env:OTHER"', environ)


def test_secret_shows_itself_to_nobody_but_reveal() -> None:
    secret = Secret(HIDDEN)
    assert secret.reveal() == HIDDEN
    assert f"{secret} {secret!r} {secret!s} {[secret]} {deepcopy(secret)}" == "*** *** *** [***] ***"
    assert not hasattr(secret, "__dict__")


def test_secrets_are_equal_when_their_texts_are() -> None:
    assert Secret("a") == Secret("a")
    assert hash(Secret("a")) == hash(Secret("a"))
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"


@pytest.mark.parametrize("value", [HIDDEN, "env:OTHER", "file:kept"])
def test_no_repr_of_the_configuration_shows_a_secret(tmp_path: Path, value: str) -> None:
    (tmp_path / "kept").write_text(HIDDEN)
    text = f'[dds]\nclient_id = "{value}"\nclient_secret = "{value}"\n'
    config = load(tmp_path, text, {"OTHER": HIDDEN})
    assert plain(config.require_dds(), "client_secret") == HIDDEN
    assert HIDDEN not in repr(config)
    assert HIDDEN not in str(config)
    assert HIDDEN not in repr(asdict(config)["dds"]["client_secret"])
    assert HIDDEN not in repr(config.warnings)


@pytest.mark.parametrize(
    "spoilt",
    [
        "[dds]\nclient_secret = {literal}\n[http]\nattempts = 0",
        "[dds]\nclient_secret = {literal}\nentities = []",
        "[dds]\nclient_secret = {literal}\nclient_secret = {literal}",
        "[dds]\nclient_secret = [{literal}]",
        "[dds]\nclient_secret = Tr0ub4dor",
        '[dds]\nclient_secret = "Tr0ub4dor',
        '[dds]\nclient_secret = "Tr0ub4dor\\q"',
        '[dds]\nclient_secret = "Tr0ub4dor"Tr0ub4dor',
        "[dds]\nclient_secret {literal}",
        "[dds]\nclient_secrets = {literal}",
        "[dds]\nmarketplace_url = {literal}",
        "[http]\nattempts = {literal}",
        "[dss]\nclient_secret = {literal}",
    ],
)
def test_no_refusal_shows_a_secret_that_stands_in_the_file(tmp_path: Path, spoilt: str) -> None:
    assert refusal(tmp_path, spoilt.replace("{literal}", f'"{HIDDEN}"'))


def plain(section: DdsSection, key: str) -> str:
    value = getattr(section, key)
    return value.reveal() if isinstance(value, Secret) else str(value)


# A secret that few commands need


def passphrase(folder: Path, value: str, environ: Mapping[str, str]) -> Secret | None:
    return load(folder, f'[starter]\nkey_passphrase = "{value}"\n', environ).starter.key_passphrase


@pytest.mark.parametrize(
    ("value", "said"),
    [("env:OTHER", "environment variable OTHER, which is not set or empty"), ("file:absent", "absent, which does not exist")],
)
def test_passphrase_that_is_not_there_stops_only_who_asks_for_it(tmp_path: Path, value: str, said: str) -> None:
    found = passphrase(tmp_path, value, {})
    assert found is not None
    with pytest.raises(ConfigError, match=said):
        found.reveal()


def test_passphrase_is_text_or_variable_or_file_or_none(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text(f"{HIDDEN}\n")
    for value in (HIDDEN, "env:OTHER", "file:kept"):
        found = passphrase(tmp_path, value, {"OTHER": HIDDEN})
        assert found is not None
        assert found.reveal() == HIDDEN
        assert HIDDEN not in repr(found)
    assert passphrase(tmp_path, "", {}) is None


def test_literal_passphrase_that_others_can_read_is_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    for value, warned in ((HIDDEN, 1), ("env:OTHER", 0), ("", 0)):
        path.write_text(f'[starter]\nkey_passphrase = "{value}"\n')
        path.chmod(0o644)
        warnings = load_config(path, {}).warnings
        assert len(warnings) == warned
        assert all("starter.key_passphrase stands there in plain text" in warning for warning in warnings)


def test_address_of_a_source_is_kept_as_it_is_and_shown_in_no_repr(tmp_path: Path) -> None:
    config = load(tmp_path, f'[starter]\nsource = "sftp://user:{HIDDEN}@host/x"\n')
    assert config.starter.source == f"sftp://user:{HIDDEN}@host/x"
    assert HIDDEN not in repr(config)


# The key of hashes


@pytest.mark.parametrize("value", [HIDDEN, "env:OTHER", "file:kept"])
def test_key_of_hashes_is_fetched_when_it_is_asked_for_and_shown_nowhere(tmp_path: Path, value: str) -> None:
    (tmp_path / "kept").write_text(f"{HIDDEN}\n")
    config = load(tmp_path, f'[mirror]\nmask_key = "{value}"\n', {"OTHER": HIDDEN})
    keyed = config.require_mask_key("this")
    assert keyed.check() == Keyed(HIDDEN).check()
    assert HIDDEN not in f"{config!r} {keyed!r}"


def test_key_of_hashes_that_cannot_be_fetched_stops_only_who_asks_for_it(tmp_path: Path) -> None:
    config = load(tmp_path, '[mirror]\nmask_key = "env:OTHER"\n', {})
    with pytest.raises(ConfigError, match=r"mirror.mask_key is taken from the environment variable OTHER, which is not set"):
        config.require_mask_key("this")


def test_missing_key_of_hashes_is_refused_with_the_way_to_make_one(tmp_path: Path) -> None:
    for text in ("", '[mirror]\nmask_key = ""\n'):
        with pytest.raises(ConfigError, match=r"mirror.mask_key is empty, and this needs it; make one with .*token_hex\(32\)"):
            load(tmp_path, text, {}).require_mask_key("this")


# Literal secrets in a file that others can read


@pytest.mark.parametrize(
    ("mode", "line", "warned"),
    [
        (0o600, f'client_secret = "{HIDDEN}"', False),
        (0o700, f'client_secret = "{HIDDEN}"', False),
        (0o622, f'client_secret = "{HIDDEN}"', False),
        (0o640, f'client_secret = "{HIDDEN}"', True),
        (0o604, f'client_secret = "{HIDDEN}"', True),
        (0o644, f'client_secret = "{HIDDEN}"', True),
        (0o644, 'client_secret = "env:OTHER"', False),
        (0o644, 'client_secret = "file:kept"', False),
        (0o644, 'client_id = "no secret"', False),
        (0o644, "", False),
    ],
)
def test_literal_secret_that_others_can_read_is_warned_of(tmp_path: Path, mode: int, line: str, warned: bool) -> None:
    (tmp_path / "kept").write_text(HIDDEN)
    path = tmp_path / "config.toml"
    path.write_text(f"[dds]\n{line}\n")
    path.chmod(mode)
    warnings = load_config(path, {**ENVIRON, "OTHER": HIDDEN}).warnings
    assert len(warnings) == warned
    for warning in warnings:
        assert warning.startswith(f"{path}: dds.client_secret stands there in plain text")
        assert f"chmod 600 {path}" in warning
        assert HIDDEN not in warning


# Refusals of the whole file


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "absent.toml", {})
    assert f"{tmp_path}/absent.toml: the configuration file does not exist; name the right one" in message_of(caught.value)


def test_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the configuration file is a folder; name the right one"):
        load_config(tmp_path, {})


def test_file_that_the_system_cannot_open_is_refused_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ConfigError, match=r"the configuration file cannot be read \(Too many levels"):
        load_config(tmp_path / "loop", {})


def test_file_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.touch(mode=0o000)
    with without_rights(), pytest.raises(ConfigError, match="the configuration file may not be read by this user"):
        load_config(path, {})


@contextmanager
def without_rights() -> Iterator[None]:
    """Let nothing be read by right of being root, to whom no file is closed."""
    mine = os.geteuid()
    if mine == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(mine)


@pytest.mark.parametrize("body", [b"[mirror]\n# gr\xfcn\n", "[mirror]\n# gr\u00fcn\n".encode("utf-16")])
def test_file_that_is_not_utf8_is_refused_with_its_line(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(body)
    line = 1 if body.startswith(b"\xff") else 2
    with pytest.raises(ConfigError, match=f"config.toml: line {line} is not UTF-8; save the file as UTF-8") as caught:
        load_config(path, {})
    assert caught.value.__cause__ is None  # it would carry the whole file, a literal secret included


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[mirror]\npath = mirror.db\n", "at line 2, column"),
        ("[mirror\n", "at line 1, column"),
        ("[mirror]\n\n[mirror]\n", "at line 3, column"),
        ("path", "at end of document"),
        (f"x = {'9' * 5000}\n", "a number is too long"),
        (f"x = {'[' * 5000}\n", "nested too deep"),
    ],
)
def test_what_is_not_toml_is_refused_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    message = refusal(tmp_path, text)
    assert f"{tmp_path}/config.toml: not TOML" in message
    assert said in message


# Which file


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    """A place for a configuration per way to find it, all there, best first."""
    found = {
        "given": tmp_path / "given.toml",
        "variable": tmp_path / "variable.toml",
        "cwd": tmp_path / "cwd" / "config.toml",
        "xdg": tmp_path / "xdg" / "delta-mirror" / "config.toml",
        "home": tmp_path / "home" / ".config" / "delta-mirror" / "config.toml",
    }
    for path in found.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return found


def find(tmp_path: Path, given: str | None = None, **environ: str) -> Path:
    return find_config(given, environ, tmp_path / "cwd", tmp_path / "home")


def test_configuration_is_found_in_the_order_promised(tmp_path: Path, places: dict[str, Path]) -> None:
    variables = {"DELTA_MIRROR_CONFIG": str(places["variable"]), "XDG_CONFIG_HOME": str(tmp_path / "xdg")}
    assert find(tmp_path, str(places["given"]), **variables) == places["given"]
    assert find(tmp_path, **variables) == places["variable"]
    del variables["DELTA_MIRROR_CONFIG"]
    assert find(tmp_path, **variables) == places["cwd"]
    places["cwd"].unlink()
    assert find(tmp_path, **variables) == places["xdg"]
    assert find(tmp_path) == places["home"]


def test_relative_names_are_relative_to_the_working_folder(tmp_path: Path, places: dict[str, Path]) -> None:
    assert find(tmp_path, "../given.toml").resolve() == places["given"]
    assert find(tmp_path, DELTA_MIRROR_CONFIG="../variable.toml").resolve() == places["variable"]


def test_tilde_in_a_name_is_the_home_folder(tmp_path: Path, places: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find(tmp_path, "~/given.toml") == places["given"]
    assert find(tmp_path, DELTA_MIRROR_CONFIG="~/variable.toml") == places["variable"]


def test_empty_variable_counts_as_not_set(tmp_path: Path, places: dict[str, Path]) -> None:
    assert find(tmp_path, DELTA_MIRROR_CONFIG="") == places["cwd"]
    places["cwd"].unlink()
    assert find(tmp_path, XDG_CONFIG_HOME="") == places["home"]


def test_relative_xdg_folder_is_ignored(tmp_path: Path, places: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    places["cwd"].unlink()
    assert find(tmp_path, XDG_CONFIG_HOME="xdg") == places["home"]


def test_file_that_was_asked_for_is_never_replaced_by_another(tmp_path: Path, places: dict[str, Path]) -> None:
    assert find(tmp_path, str(tmp_path / "absent.toml")) == tmp_path / "absent.toml"
    with pytest.raises(ConfigError, match=r"^\$DELTA_MIRROR_CONFIG names .*/absent\.toml, which does not exist"):
        find(tmp_path, DELTA_MIRROR_CONFIG=str(tmp_path / "absent.toml"))
    with pytest.raises(ConfigError, match=r"^--config is empty"):
        find(tmp_path, "")
    with pytest.raises(ConfigError, match=r"^--config begins with ~no-such-user, "):
        find(tmp_path, "~no-such-user/config.toml")


def test_dangling_link_is_not_passed_over(tmp_path: Path, places: dict[str, Path]) -> None:
    places["cwd"].unlink()
    places["cwd"].symlink_to("absent.toml")
    assert find(tmp_path) == places["cwd"]


def test_nothing_found_says_where_was_looked_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        find(tmp_path)
    message = message_of(caught.value)
    for place in (
        "--config",
        "$DELTA_MIRROR_CONFIG",
        f"{tmp_path}/cwd/config.toml",
        f"{tmp_path}/home/.config/delta-mirror/config.toml",
    ):
        assert place in message
    assert "copy config.example.toml" in message


# The example


def switched_on() -> str:
    """Return the example with the settings that are switched off in it: `#` and, without a blank, TOML."""
    return re.sub(r"^#(?=[\[\"A-Za-z])", "", EXAMPLE.read_text(encoding="utf-8"), flags=re.MULTILINE)


def test_example_shows_every_key_and_no_other() -> None:
    shown = tomllib.loads(switched_on())
    sections = {
        "mirror": MirrorSection,
        "http": HttpSection,
        "dds": DdsSection,
        "ops": OpsSection,
        "starter": StarterSection,
        "nexus": NexusSection,
        "accela": AccelaSection,
    }
    assert list(shown) == list(sections)
    for name, section in sections.items():
        assert list(shown[name]) == [known.name for known in fields(section)]
    assert [list(location) for location in shown["dds"]["locations"]] == [list(Location._fields)]


def test_example_shows_the_defaults(tmp_path: Path) -> None:
    shown = load(tmp_path, EXAMPLE.read_text(encoding="utf-8"))
    assert shown == load(tmp_path, "[dds]\n[nexus]\n[accela]\n")
    assert shown.warnings == ()


def test_example_with_everything_switched_on_loads(tmp_path: Path) -> None:
    config = load(tmp_path, switched_on().replace('mask_key = ""', 'mask_key = "a key of tests"'))

    assert config.mirror.mask["ClientPhone"] == {"*": "drop", "PhoneTypeEnum": "keep"}
    assert config.require_dds().locations == (Location(11, 9),)
    assert config.accela is not None
    assert read_map("", "Client", config.accela.map["Client"]).contact_id == "ExternalId"


def test_example_says_of_every_key_what_it_means() -> None:
    keys = [line for line in EXAMPLE.read_text(encoding="utf-8").splitlines() if re.match(r"#?[a-z_]+ = ", line)]
    sections = (MirrorSection, HttpSection, DdsSection, OpsSection, StarterSection, NexusSection, AccelaSection)
    # `mask`, `locations`, `columns` and `map` are tables; `contact_id` is the one key of a map that is no field.
    assert len(keys) == sum(len(fields(section)) for section in sections) - 4 + len(Location._fields) + 1
    for line in keys:
        assert re.search(r" # \S.{10,}", line), line


# The way of every command


def test_importing_the_configuration_brings_in_nothing_heavy() -> None:
    heavy = ["click", "requests", "sqlite3", "sqlite_utils", "orjson", "dateutil", "tenacity", "difflib", "logging", "zoneinfo"]
    code = (
        f"import sys; before = set(sys.modules); import delta_mirror.config; print(*(set(sys.modules) - before) & set({heavy}))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == []


# The section of Accela


ACCELA = """[accela]
app_id = "637"
app_secret = "env:ACCELA_SECRET"
agency = "ISLANDTON"
username = "officer"
password = "file:password"
[accela.map.NexusClient]
"firstName" = "FirstName"
"gender" = { column = "Gender", values = { Male = "M" } }
"""


def test_accela_is_read_with_its_maps_as_written(tmp_path: Path) -> None:
    (tmp_path / "password").write_text(f"{HIDDEN}\n", encoding="utf-8")

    accela = load(tmp_path, ACCELA, {"ACCELA_SECRET": HIDDEN}).require_accela()

    assert (accela.auth_url, accela.api_url) == ("https://auth.accela.com", "https://apis.accela.com")
    assert (accela.app_id, accela.agency, accela.environment, accela.lang) == ("637", "ISLANDTON", "PROD", "")
    assert accela.app_secret.reveal() == accela.password.reveal() == HIDDEN
    assert accela.map == {"NexusClient": {"firstName": "FirstName", "gender": {"column": "Gender", "values": {"Male": "M"}}}}
    assert HIDDEN not in repr(accela)


def test_an_accela_section_that_is_not_filled_in_loads_and_is_refused_only_by_what_needs_it(tmp_path: Path) -> None:
    config = load(tmp_path, '[accela]\nagency = ""\n')

    with pytest.raises(ConfigError) as caught:
        config.require_accela()
    assert "accela.app_id is empty" in message_of(caught.value)
    with pytest.raises(ConfigError, match=r"the section \[accela\] is missing"):
        load(tmp_path, "").require_accela()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[accela]\nurl = 'x'", "accela.url is no known key"),
        ("[accela]\napi_url = 'http://apis.example.com'", "accela.api_url must begin with https://"),
        ("[accela]\napp_secret = 'env:NOT_THERE'", "accela.app_secret is taken from the environment variable NOT_THERE"),
        ("[accela]\nagency = ' X'", "accela.agency holds blanks at an end"),
        ("[accela]\napp_id = 'é'", "accela.app_id holds blanks at an end"),
        ("[accela]\nmap = 7", "accela.map must be tables"),
        ("[accela.map.Klient]\nfirstName = 'FirstName'", "accela.map names 'Klient', which is no entity; did you mean Client?"),
        ("[accela.map]\nClient = 'FirstName'", "accela.map has Client as text; write a table [accela.map.Client]"),
    ],
)
def test_what_is_wrong_in_accela_is_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    assert said in refusal(tmp_path, text)


def test_a_literal_password_that_others_can_read_is_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f'[accela]\npassword = "{HIDDEN}"\n', encoding="utf-8")
    path.chmod(0o644)

    [warning] = load_config(path, {}).warnings

    assert "accela.password stands there in plain text" in warning
    assert HIDDEN not in warning
