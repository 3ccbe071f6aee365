"""The section `[nexus]`: what is loaded from it, what is refused, and when its keys are needed."""

import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import pytest

from delta_mirror.config import Config, NexusSection, Secret, load_config
from delta_mirror.errors import ConfigError

HIDDEN = "Tr0ub4dor"  # stands for a secret wherever a test says that none may show
WHOLE = {
    "service_bus_url": "https://nowhere.servicebus.windows.net/",
    "topic": "client-profiles",
    "subscription": "county",
    "key_name": "listen-only",
    "key": HIDDEN,
}


def load(folder: Path, keys: Mapping[str, str], environ: Mapping[str, str] | None = None, mode: int = 0o600) -> Config:
    path = folder / "config.toml"
    path.write_text("[nexus]\n" + "".join(f"{name} = '{value}'\n" for name, value in keys.items()), encoding="utf-8")
    path.chmod(mode)
    return load_config(path, environ or {})


def test_whole_section_arrives_as_it_stands_and_its_key_shows_itself_to_nobody(tmp_path: Path) -> None:
    config = load(tmp_path, WHOLE)
    assert config.require_nexus() == NexusSection(
        "https://nowhere.servicebus.windows.net", "client-profiles", "county", "listen-only", Secret(HIDDEN)
    )
    assert HIDDEN not in repr(config)


def test_without_the_section_everything_else_loads_and_only_what_needs_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.toml").touch()
    config = load_config(tmp_path / "config.toml", {})
    assert config.nexus is None
    with pytest.raises(ConfigError, match=re.escape("the section [nexus] is missing")):
        config.require_nexus()


@pytest.mark.parametrize("name", [each.name for each in fields(NexusSection)])
@pytest.mark.parametrize("is_there", [True, False], ids=["empty", "missing"])
def test_key_that_is_missing_or_empty_is_refused_by_name_where_it_is_needed(tmp_path: Path, name: str, is_there: bool) -> None:
    keys = {key: value for key, value in WHOLE.items() if key != name} | ({name: ""} if is_there else {})
    config = load(tmp_path, keys)
    with pytest.raises(ConfigError, match=rf"nexus\.{name} is missing or empty") as caught:
        config.require_nexus()
    assert HIDDEN not in str(caught.value)


def test_every_missing_key_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nexus\.topic, nexus\.key are missing or empty"):
        load(tmp_path, {**WHOLE, "topic": "", "key": ""}).require_nexus()


@pytest.mark.parametrize("name", ["profiles", "tenant/profiles", "county/$DeadLetterQueue", "county_1.v2-b", "\u00e4mter"])
def test_names_that_a_broker_takes_are_taken(tmp_path: Path, name: str) -> None:
    assert load(tmp_path, {**WHOLE, "topic": name, "subscription": name}).require_nexus().topic == name


@pytest.mark.parametrize(
    "name",
    ["https://nowhere.example/profiles", "/profiles", "profiles/", "a//b", "..", "a/../b", "a b", "a?b", "a#b", "a%2fb", r"a\b"],
)
@pytest.mark.parametrize("key", ["topic", "subscription"])
def test_what_would_lead_elsewhere_is_no_name(tmp_path: Path, key: str, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"nexus\.{key} is no name of a topic or subscription"):
        load(tmp_path, {**WHOLE, key: name})


def test_the_url_has_to_be_safe(tmp_path: Path) -> None:
    for url in ("sb://nowhere.servicebus.windows.net", "http://nowhere.servicebus.windows.net"):
        with pytest.raises(ConfigError, match=r"nexus\.service_bus_url .*https://"):
            load(tmp_path, {**WHOLE, "service_bus_url": url})
    assert load(tmp_path, {**WHOLE, "service_bus_url": "http://127.0.0.1:80"}).require_nexus()


def test_the_key_comes_from_the_environment_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text(HIDDEN + "\n", encoding="utf-8")
    assert load(tmp_path, {**WHOLE, "key": "env:BUS_KEY"}, {"BUS_KEY": HIDDEN}).require_nexus().key.reveal() == HIDDEN
    assert load(tmp_path, {**WHOLE, "key": "file:kept"}).require_nexus().key.reveal() == HIDDEN
    with pytest.raises(ConfigError, match="BUS_KEY, which is not set"):
        load(tmp_path, {**WHOLE, "key": "env:BUS_KEY"})


@pytest.mark.parametrize(("mode", "key", "warned"), [(0o644, HIDDEN, True), (0o600, HIDDEN, False), (0o644, "", False)])
def test_literal_key_that_others_can_read_is_warned_of(tmp_path: Path, mode: int, key: str, warned: bool) -> None:
    warnings = load(tmp_path, {**WHOLE, "key": key}, mode=mode).warnings
    assert ["nexus.key stands there in plain text" in warning for warning in warnings] == [True] * warned
    assert HIDDEN not in "".join(warnings)
