"""What the documentation says of the program exists in the program, and what the program has is documented."""

import re
import tomllib
from pathlib import Path
from typing import get_args

import click
import documents
import pytest
from documents import DOCUMENTS, ROOT, SOURCE, code_in, headings, rows, section, spans, text_of

from delta_mirror.accela.contact import FIELDS
from delta_mirror.accela.mapping import read_map
from delta_mirror.accela.push_plan import Outcome
from delta_mirror.cli import common, main
from delta_mirror.dds.tables import ENTITIES, FEED_CHILDREN
from delta_mirror.mirror.schema import CHILD_COLUMNS, OWN_TABLES, ROOT_COLUMNS

README = ROOT / "README.md"
OPERATING = ROOT / "docs" / "operating.md"
MIRROR = ROOT / "docs" / "mirror.md"
PROMISES = ROOT / "docs" / "promises.md"
SERVICE = ROOT / "docs" / "service.md"
ACCELA = ROOT / "docs" / "accela.md"
CONTRIBUTING = ROOT / "docs" / "contributing.md"

PROMISED = 11

# Options of other programs that the documentation shows.
FOREIGN_OPTIONS = {
    "--clients",
    "--dial",
    "--messages",
    "--only",
    "--records",
    "--repeats",
    "--rounds",
    "--sales",
    "--seed",
    "--sizes",
    "--svg",
}


def all_exit_codes() -> set[int]:
    return {
        0,
        main.EXIT_DEFECT,
        *main.EXIT_CODES.values(),
        common.EXIT_UNFINISHED,
        common.EXIT_CHECK_FAILED,
        main.EXIT_INTERRUPTED,
        main.EXIT_TERMINATED,
    }


def all_commands() -> dict[str, click.Command]:
    """Return every command under its whole name, those within a group of commands too."""
    found: dict[str, click.Command] = {"sync": main.sync}
    waiting: list[tuple[str, click.Group]] = [("sync", main.sync)]
    while waiting:
        name, group = waiting.pop()
        context = click.Context(group)
        for child in group.list_commands(context):
            command = group.get_command(context, child)
            assert command is not None
            found[f"{name} {child}"] = command
            if isinstance(command, click.Group):
                waiting.append((f"{name} {child}", command))
    return found


def options_of(name: str) -> set[str]:
    parameters = all_commands()[name].params
    given = {option for parameter in parameters if isinstance(parameter, click.Option) for option in parameter.opts}
    return given | ({"-h", "--help"} if name == "sync" else set())


def paragraphs(document: Path) -> list[str]:
    return re.split(r"\n\s*\n", documents.prose_of(document))


# Commands, options, exit codes


def test_every_command_has_its_section_and_every_section_its_command() -> None:
    documented = {found for heading in headings(OPERATING) for found in code_in(heading) if found.startswith("sync")}

    assert documented == set(all_commands())


@pytest.mark.parametrize("command", all_commands())
def test_section_of_a_command_has_its_options_and_no_others(command: str) -> None:
    cells = [row[0] for row in rows(section(OPERATING, f"`{command}`"))]
    documented = {code.split()[0] for cell in cells for code in code_in(cell)}

    assert documented == options_of(command)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_no_document_speaks_of_a_command_that_there_is_not_yet_as_if_there_were(document: Path) -> None:
    today = "\n\n".join(part for part in paragraphs(document) if "Not yet:" not in part)
    code = "\n".join([*re.findall(r"`([^`\n]+)`", today), *(block.text for block in documents.blocks("sh", document))])
    plain = re.sub(r" --(quiet|verbose)| --config \S+", "", code)

    assert set(documents.words_after(plain, "sync")) <= set(main.COMMANDS)
    assert {f"sync quarantine {word}" for word in documents.words_after(plain, "sync quarantine")} <= set(all_commands())


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_option_that_a_document_names_exists(document: Path) -> None:
    today = "\n\n".join(part for part in re.split(r"\n\s*\n", text_of(document)) if "Not yet:" not in part)
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", re.sub(r"^-- .*$", "", today, flags=re.MULTILINE)))

    assert named <= set().union(FOREIGN_OPTIONS, *map(options_of, all_commands()))


@pytest.mark.parametrize("document", [README, OPERATING], ids=lambda document: document.name)
def test_exit_codes_are_those_of_the_program(document: Path) -> None:
    assert {int(row[0]) for row in rows(section(document, "Exit codes"))} == all_exit_codes()


def test_every_kind_of_error_ends_with_the_exit_code_that_its_tree_says() -> None:
    tree = (SOURCE / "errors.py").read_text(encoding="utf-8")
    said = {name: int(code) for name, code in re.findall(r"── (\w+) .*exit (\d)$", tree, re.MULTILINE)}

    assert said == {kind.__name__: code for kind, code in main.EXIT_CODES.items()}


# Configuration


def example() -> dict[str, dict[str, object]]:
    """Return the example configuration with the location and the map that it shows switched on."""
    text = re.sub(r"^#(\[|\"|\w+ = )", r"\1", (ROOT / "config.example.toml").read_text(encoding="utf-8"), flags=re.MULTILINE)
    found: dict[str, dict[str, object]] = tomllib.loads(text)
    return found


def shown_value(cell: str) -> object:
    return tomllib.loads(f"value = {cell.strip('`')}")["value"]


@pytest.mark.parametrize("name", sorted(example()))
def test_keys_and_defaults_of_a_section_are_those_of_the_example(name: str) -> None:
    documented = {code_in(row[0])[0]: shown_value(row[1]) for row in rows(section(OPERATING, f"`[{name}]`"))}

    assert documented == {
        key: value for key, value in example()[name].items() if not isinstance(value, dict | list) or key == "entities"
    }


def test_keys_of_a_location_are_those_of_the_example() -> None:
    locations = example()["dds"]["locations"]
    assert isinstance(locations, list)

    assert [code_in(row[0])[0] for row in rows(section(OPERATING, "`[[dds.locations]]`"))] == list(locations[0])


def test_no_section_of_the_configuration_is_documented_that_there_is_not() -> None:
    documented = {found for heading in headings(OPERATING) for found in re.findall(r"`(\[.+\])`", heading)}

    assert documented == {
        *(f"[{name}]" for name in example()),
        "[mirror.mask]",
        "[[dds.locations]]",
        "[starter.columns]",
        "[accela.map.ENTITY]",
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_key_that_a_document_names_with_its_section_exists(document: Path) -> None:
    named = re.findall(r"`\[(\w+)\] (\w+)", documents.prose_of(document))

    assert [(name, key) for name, key in named if key not in example().get(name, {})] == []


@pytest.mark.parametrize("block", documents.blocks("toml"), ids=lambda block: block.document.name)
def test_every_configuration_that_is_shown_loads(block: documents.Block, tmp_path: Path) -> None:
    from delta_mirror.config import load_config

    (tmp_path / "secret.txt").write_text("invented", encoding="utf-8")
    (tmp_path / "config.toml").write_text(block.text, encoding="utf-8")

    config = load_config(tmp_path / "config.toml", {"ACCELA_APP_SECRET": "invented", "ACCELA_PASSWORD": "invented"})

    assert config.dds is None or config.dds.locations
    for entity, table in {} if config.accela is None else config.accela.map.items():
        assert read_map(block.document.name, entity, table).rules


@pytest.mark.parametrize("kind", ["text", "enumeration", "date_time"])
def test_fields_of_a_contact_are_documented_by_their_kind(kind: str) -> None:
    [listed] = [row[1] for row in rows(section(ACCELA, "The fields of a contact")) if row[0] == kind.replace("_", "-")]

    assert set(code_in(listed)) == {name for name, its in FIELDS.items() if its == kind}


def test_outcomes_of_a_push_are_documented() -> None:
    documented = [code_in(row[0])[0] for row in rows(section(ACCELA, "What a run does"))]

    assert set(documented) == set(get_args(Outcome))


# The mirror


def test_every_own_table_is_documented_and_no_other() -> None:
    documented = {found for heading in headings(MIRROR) for found in re.findall(r"`(_\w+)`", heading)}

    assert documented == set(OWN_TABLES)


@pytest.mark.parametrize("name", sorted(OWN_TABLES))
def test_columns_and_key_of_an_own_table_are_documented_in_their_order(name: str) -> None:
    text = section(MIRROR, f"`{name}`")
    key = re.search(r"Key: ([^.]+)\.", text)

    assert [code_in(row[0])[0] for row in rows(text)] == list(OWN_TABLES[name].columns)
    assert tuple(code_in(key.group(1)) if key else ()) == OWN_TABLES[name].key


def test_own_columns_of_data_tables_are_documented_in_their_order() -> None:
    named = [code_in(row[0])[0] for row in rows(section(MIRROR, "Columns of the mirror's own"))]

    assert named == [*ROOT_COLUMNS, *CHILD_COLUMNS]


def test_every_entity_is_documented_with_its_root_and_its_children() -> None:
    documented = {row[0]: (code_in(row[1]), set(code_in(row[2]))) for row in rows(section(MIRROR, "Data tables"))}

    assert documented == {entity: ([entity], set(FEED_CHILDREN[entity])) for entity in ENTITIES}


# Promises, tests, modules, links, targets


def test_every_promise_names_modules_and_tests() -> None:
    promises = [heading for heading in headings(PROMISES) if re.match(r"\d", heading)]
    lacking = [
        promise
        for promise in promises
        if not re.search(r"^Kept in: `", section(PROMISES, promise), re.MULTILINE)
        or not re.search(r"^Shown by:\n\n- `test_", section(PROMISES, promise), re.MULTILINE)
    ]

    assert [int(promise.split(".")[0]) for promise in promises] == list(range(1, PROMISED + 1))
    assert lacking == []


def test_every_clause_of_the_vendor_is_shown_by_a_test() -> None:
    clauses = rows(section(SERVICE, "The vendor's words, clause by clause"))

    assert clauses
    assert [row[0] for row in clauses if not any(code.startswith("test_") for code in code_in(row[2]))] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_test_that_a_document_cites_exists(document: Path) -> None:
    cited = {code for code in spans(document) if code.startswith("test_")}

    assert cited - documents.names_of_tests() == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_file_that_a_document_cites_exists(document: Path) -> None:
    cited = {code for code in spans(document) if re.fullmatch(r"[\w./-]+(\.py|/)", code)}
    bases = (ROOT, SOURCE)

    assert {path for path in cited if not any((base / path).exists() for base in bases)} == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    broken = []
    for link in documents.links(document):
        path, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (anchor and anchor not in map(documents.anchor, headings(target))):
            broken.append(link)

    assert broken == []


def test_every_page_of_the_documentation_is_linked_from_the_readme() -> None:
    linked = {(ROOT / link).resolve() for link in documents.links(README) if "://" not in link}

    assert set(DOCUMENTS) - {README} <= linked


def test_every_section_that_the_code_cites_exists() -> None:
    cited = {
        (name, heading)
        for path in SOURCE.rglob("*.py")
        for name, listed in re.findall(r"docs/([\w-]+\.md), ((?:\"[^\"]+\"(?:, | and )?)+)", path.read_text(encoding="utf-8"))
        for heading in re.findall(r"\"([^\"]+)\"", listed)
    }

    assert cited
    assert {(name, heading) for name, heading in cited if heading not in headings(ROOT / "docs" / name)} == set()


def targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_target_of_make_that_a_document_names_exists(document: Path) -> None:
    code = "\n".join([*spans(document), *(block.text for block in documents.blocks("sh", document))])

    assert set(documents.words_after(code, "make")) <= targets()


def test_every_target_of_make_is_documented() -> None:
    named = {code.removeprefix("make ") for row in rows(section(CONTRIBUTING, "Daily commands")) for code in code_in(row[0])}

    assert named - {"make"} == targets()


def test_the_program_that_cron_calls_is_named_by_an_absolute_path() -> None:
    lines = [line for block in documents.blocks("cron") for line in block.text.splitlines()]

    assert lines
    assert [line for line in lines if not re.fullmatch(r"(\S+ ){5}/\S+/sync .*", line)] == []


def test_the_sum_of_calls_is_right() -> None:
    table = [row for row in rows(section(README, "Run it from cron")) if "minutes" in row[0]]

    assert len(table) == 2
    for every, runs, calls, _ in table:
        a_day = 24 * 60 // int(every.split()[0])
        assert int(runs) == a_day
        assert int(calls.replace(",", "")) == 4 * 2 * a_day
