"""`[accela.map.ENTITY]`: what is refused by name, and what a record then says."""

import tomllib
from typing import Any

import pytest

from delta_mirror.accela.mapping import (
    NO_DATE,
    NOT_LISTED,
    EntityMap,
    Part,
    as_day,
    build,
    check_map,
    crowded,
    newest_first,
    read_map,
)
from delta_mirror.core.links import Source, Tables
from delta_mirror.core.model import Row
from delta_mirror.errors import ConfigError

TABLES = Tables(
    ["_client_id", "FirstName", "LastName", "DateOfBirth", "Gender", "Number"],
    {"NexusAddress": ["_client_id", "_item_id", "AddressType", "Address"], "Later": None},
)


def mapped(text: str, entity: str = "NexusClient") -> EntityMap:
    return check_map("config.toml", read_map("config.toml", entity, tomllib.loads(text)), TABLES)


def wanted(text: str, children: Any = None, **root: Any) -> dict[str, str | None]:
    return dict(build(mapped(text), Source(root, children or {})).wanted)


@pytest.mark.parametrize(
    ("line", "root", "value"),
    [
        ('"firstName" = "FirstName"', {"FirstName": "Ann"}, "Ann"),
        ('"firstName" = "firstname"', {"FirstName": "Ann"}, "Ann"),
        ('"firstName" = "FirstName"', {"FirstName": 12.0}, "12"),
        ('"firstName" = "FirstName"', {"FirstName": 0.5}, "0.5"),
        ('"firstName" = "FirstName"', {"FirstName": "0012"}, "0012"),
        ('"firstName" = "FirstName"', {"FirstName": 1}, "1"),
        ('"firstName" = "{FirstName} {LastName}"', {"FirstName": "Ann", "LastName": "Example"}, "Ann Example"),
        ('"firstName" = "{{{FirstName}}}"', {"FirstName": "Ann"}, "{Ann}"),
        ('"firstName" = { column = "{FirstName}-{Number}" }', {"FirstName": "Ann", "Number": 7}, "Ann-7"),
        ('"firstName" = { const = "individual" }', {}, "individual"),
        ('"gender" = { column = "Gender", values = { Male = "M", Female = "F" } }', {"Gender": "Male"}, "M"),
        ('"gender" = { column = "Number", values = { 2026 = "A" } }', {"Number": 2026}, "A"),
        ('"birthDate" = { column = "DateOfBirth", type = "date" }', {"DateOfBirth": "1980-02-03T23:30:00-08:00"}, "1980-02-03"),
        ('"birthDate" = "DateOfBirth"', {"DateOfBirth": "1980-02-03T00:00:00.0000000+00:00"}, "1980-02-03"),
        (
            '"birthDate" = { column = "DateOfBirth", type = "datetime" }',
            {"DateOfBirth": "1980-02-03T23:30+14:00"},
            "1980-02-03 23:30:00",
        ),
        ('"birthDate" = { column = "DateOfBirth", type = "datetime" }', {"DateOfBirth": "1980-02-03"}, "1980-02-03 00:00:00"),
        ('"comment" = { column = "DateOfBirth", type = "text" }', {"DateOfBirth": "1980-02-03T00:00"}, "1980-02-03T00:00"),
    ],
)
def test_a_rule_gives_a_text(line: str, root: dict[str, Any], value: str) -> None:
    assert list(wanted(line, **root).values()) == [value]


@pytest.mark.parametrize(
    ("line", "root"),
    [
        ('"firstName" = "FirstName"', {"FirstName": None}),
        ('"firstName" = "FirstName"', {}),
        ('"firstName" = "FirstName"', {"FirstName": "  "}),
        ('"firstName" = "{FirstName} {LastName}"', {"FirstName": "Ann", "LastName": None}),
        ('"firstName" = { column = "FirstName", clear = false }', {"FirstName": None}),
        ('"gender" = { column = "Gender", values = { X = "" } }', {"Gender": "X"}),
    ],
)
def test_a_null_leaves_the_field_alone(line: str, root: dict[str, Any]) -> None:
    assert wanted(line, **root) == {}


def test_a_null_clears_where_the_rule_says_so() -> None:
    assert wanted('"email" = { column = "FirstName", clear = true }', FirstName=None) == {"email": None}
    assert wanted('"email" = { table = "NexusAddress", column = "Address", clear = true }') == {"email": None}


@pytest.mark.parametrize(
    ("line", "root", "reason"),
    [
        ('"gender" = { column = "Gender", values = { Male = "M" }, clear = true }', {"Gender": "male"}, NOT_LISTED),
        ('"birthDate" = "DateOfBirth"', {"DateOfBirth": "3.2.1980"}, NO_DATE),
        ('"birthDate" = { column = "DateOfBirth", clear = true }', {"DateOfBirth": "1980-02-30"}, NO_DATE),
    ],
)
def test_a_value_that_cannot_be_said_leaves_the_field_alone_and_gives_the_reason(
    line: str, root: dict[str, Any], reason: str
) -> None:
    built = build(mapped(line), Source(root))

    assert (built.wanted, list(built.left.values())) == ({}, [reason])


ADDRESS = '"phone1" = { table = "NexusAddress", where = { AddressType = "Home" }, column = "Address" }'


def test_a_row_of_a_child_table_is_found_by_what_it_holds() -> None:
    rows = [{"AddressType": "Work", "Address": "W"}, {"AddressType": "Home", "Address": "H"}]

    assert wanted(ADDRESS, {"NexusAddress": rows}) == {"phone1": "H"}
    assert wanted(ADDRESS.replace('"Home"', '"home"'), {"NexusAddress": rows}) == {}
    assert wanted('"phone1" = { table = "nexusaddress", column = "address" }', {"NexusAddress": rows}) == {"phone1": "W"}


@pytest.mark.parametrize(("asked", "held"), [("true", 1), ("2", "2"), ("2.0", 2), ('"2"', 2.0)])
def test_where_compares_as_text(asked: str, held: Any) -> None:
    line = f'"phone1" = {{ table = "NexusAddress", where = {{ AddressType = {asked} }}, column = "Address" }}'

    assert wanted(line, {"NexusAddress": [{"AddressType": held, "Address": "H"}]}) == {"phone1": "H"}


def test_it_matters_which_row_is_newest_only_where_several_meet_a_rule() -> None:
    home, work = {"AddressType": "Home", "Address": "H"}, {"AddressType": "Work", "Address": "W"}

    assert crowded(mapped(ADDRESS), Source({}, {"NexusAddress": [home, work]})) == set()
    assert crowded(mapped(ADDRESS), Source({}, {"NexusAddress": [home, home]})) == {"NexusAddress"}
    assert crowded(mapped(ADDRESS), Source({}, {"NexusAddress": [home, home]}, frozenset(["NexusAddress"]))) == set()
    assert crowded(mapped(ADDRESS), Source({})) == set()


def test_rows_are_sorted_by_their_last_change_then_by_their_key() -> None:
    a, b, c = ({"_item_id": name, "X": name, "Y": None} for name in "abc")
    said: dict[str, Row] = {name: {"X": name} for name in "abc"}
    log: list[tuple[list[Row], list[Row]]] = [([said["b"]], [said["b"], said["c"]]), ([], [said["b"]])]

    assert newest_first([a, b, c], log) == [c, b, a]
    assert newest_first([a, b, c], []) == [a, b, c]
    assert newest_first([a, b], [([], [said["a"], said["b"]])]) == [a, b]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('"firstNam" = "FirstName"', "firstNam is no field of a contact; did you mean firstName?"),
        (
            '"address" = "FirstName"',
            'address is a whole object; map its parts, each in quotes: "address.addressLine1", "address.city" ...',
        ),
        ('address.city = "FirstName"', 'in quotes: "address.addressLine1"'),
        ('"gender.value" = "Gender"', 'map "gender"'),
        ('"firstName" = ""', "is empty; name a column"),
        ('"firstName" = 7', "must be a column or a template"),
        ('" firstName" = "FirstName"', "' firstName' is no field of a contact; did you mean firstName?"),
        ('"zzzz" = "FirstName"', "zzzz is no field of a contact"),
        ('"firstName" = "{"', "a brace without a column"),
        ('"firstName" = "FirstName}"', 'write "{FirstName} {LastName}", a brace itself twice'),
        ('"firstName" = "{} x"', "a brace without a column"),
        ('"firstName" = "{{x}}"', "names no column"),
        ('"firstName" = {}', "without column, table or const"),
        ('"firstName" = { colum = "X" }', "without column, table or const"),
        (
            '"firstName" = { column = "FirstName", where = { A = "b" } }',
            "where is no key of a table with column; its keys are column, values, type, clear",
        ),
        ('"firstName" = { const = "x", clear = true }', "clear is no key of a table with const; its keys are const"),
        ('"firstName" = { const = " " }', "const must be a text that is not blank"),
        ('"firstName" = { column = 1 }', "column must be a text that is not blank"),
        ('"firstName" = { table = "", column = "Address" }', "table must be a text that is not blank"),
        ('"firstName" = { table = "NexusAddress" }', "column is missing"),
        (
            '"firstName" = { column = "FirstName", type = "time" }',
            "type is time, which is no type; known are text, date, datetime",
        ),
        ('"firstName" = { column = "FirstName", type = 1 }', "type is 1, which is no type"),
        ('"firstName" = { column = "FirstName", clear = "yes" }', "clear must be true or false"),
        ('"firstName" = { column = "FirstName", values = {} }', "values must be a table of texts"),
        ('"firstName" = { column = "FirstName", values = { A = 1 } }', "values must be a table of texts"),
        ('"firstName" = { column = "FirstName", values = { A = "1" }, type = "date" }', "both values and type"),
        ('"firstName" = { table = "NexusAddress", where = "x", column = "Address" }', "where must be a table"),
        ('"firstName" = { table = "NexusAddress", where = { A = [] }, column = "Address" }', "where.A must be a text"),
        ('contact_id = "{Number}"\n"firstName" = "FirstName"', "must be the name of one column"),
        ('contact_id = "Number}"\n"firstName" = "FirstName"', "must be the name of one column"),
        ('contact_id = ""\n"firstName" = "FirstName"', "must be the name of one column"),
        ('contact_id = 1\n"firstName" = "FirstName"', "must be the name of one column"),
        ('contact_id = "Number"', "maps no field"),
        ('"firstName" = "FristName"', "FristName is no column of NexusClient in the mirror; did you mean FirstName?"),
        (
            '"firstName" = "{FirstName} {Zzzz}"',
            "Zzzz is no column of NexusClient in the mirror; a column is there once a record has borne it",
        ),
        (
            '"firstName" = { table = "NexusAdress", column = "Address" }',
            "NexusAdress is no table of a NexusClient in the mirror; there are Later, NexusAddress",
        ),
        ('"firstName" = { table = "NexusAddress", column = "Street" }', "Street is no column of NexusAddress"),
        ('"firstName" = { table = "NexusAddress", where = { Kind = "x" }, column = "Address" }', "Kind is no column"),
        ('contact_id = "Nope"\n"firstName" = "FirstName"', "contact_id: Nope is no column of NexusClient"),
    ],
)
def test_what_is_unknown_is_refused_by_name(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        mapped(text)
    assert said in str(caught.value)
    assert str(caught.value).startswith("config.toml: accela.map.NexusClient")


def test_column_that_differs_beyond_ascii_is_another_one() -> None:
    asked = read_map("config.toml", "Client", tomllib.loads('"firstName" = "é"'))
    with pytest.raises(ConfigError, match="é is no column of Client in the mirror; did you mean É"):
        check_map("config.toml", asked, Tables(["É"], {}))


def test_where_the_mirror_has_no_child_tables_a_refusal_says_so() -> None:
    asked = read_map("config.toml", "Client", tomllib.loads('"phone1" = { table = "ClientPhone", column = "Number" }'))
    with pytest.raises(ConfigError, match=r"ClientPhone is no table of a Client in the mirror; there is none$"):
        check_map("config.toml", asked, Tables(["Number"], {}))


def test_map_knows_what_it_reads() -> None:
    asked = mapped(
        'contact_id = "number"\n"birthDate" = "DateOfBirth"\n"comment" = "{{{firstname}"\n'
        '"phone1" = { table = "nexusaddress", where = { addresstype = 1 }, column = "address" }\n'
        '"phone2" = { table = "NexusAddress", column = "Address" }'
    )
    birth, comment, phone, _ = asked.rules
    assert (asked.contact_id, asked.tables()) == ("Number", ["NexusAddress"])
    assert (birth.form, comment.form) == ("date", "text")
    assert comment.parts == (Part("{", is_column=False), Part("FirstName", is_column=True))
    assert (phone.columns(), phone.where) == (["Address", "AddressType"], (("AddressType", "1"),))


def test_columns_of_a_table_that_is_known_and_does_not_exist_yet_are_taken_at_their_word() -> None:
    assert wanted('"phone1" = { table = "Later", column = "Anything" }') == {}


@pytest.mark.parametrize("text", ["", "1980", "1980-2-3", "03/02/1980", "1980-02-03x", "1980-13-01", "1980-02-03T25"])
def test_what_is_no_date_is_none(text: str) -> None:
    assert as_day(text, with_time=False) is None
