"""No field outside the map ever changes, and each change reaches its contact once: random contacts, maps, changes and faults.

What must hold is said here from the drawn data alone, without a line of the program.
"""

import json
from collections.abc import Iterator
from copy import deepcopy
from itertools import pairwise
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from delta_mirror.simulator.accela import ENUMERATIONS, AccelaDials, AccelaFault, AccelaService
from office import Office

EXAMPLES = 30
COLUMNS = ("A", "B", "C", "D")
TEXTS = ("firstName", "middleName", "email", "phone3", "comment", "postOfficeBox", "address.addressLine1", "address.city")
CHOICES = ("gender", "race", "status", "address.state", "birthCity")
DATES = ("birthDate", "deceasedDate")
FIELDS = (*TEXTS, *CHOICES, *DATES)

Faulty = Literal["lost, done", "lost, not done", "500", "400", "429", "401", "emse", "404"]

odd = ["", " ", "x", "Émile", '"', "{}", "0012", "a\nb", "\U0001f642", "null"]
plain = st.none() | st.sampled_from(odd) | st.text(max_size=5)
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
value = st.sampled_from(["x", "y", "Ünder", "0", "7.50", "a b"])
day = st.sampled_from(["1980-02-03", "2001-12-31", "1999-01-01"])


def of_field(name: str) -> st.SearchStrategy[object]:
    """Return what a contact may hold in a field."""
    if name in CHOICES:
        return st.none() | value.map(lambda bare: {"value": bare, "text": f"text of {bare}"})
    if name in DATES:
        return st.none() | day | day.map(lambda date: f"{date} 00:00:00")
    return plain


member_names = st.text(max_size=3).filter(lambda name: "." not in name)


@st.composite
def contact(draw: st.DrawFn) -> dict[str, Any]:
    """A contact with some of its fields, and with members that nobody knows."""
    made: dict[str, Any] = {
        f"unknown{name}": member for name, member in draw(st.dictionaries(member_names, junk, max_size=3)).items()
    }
    for name in draw(st.lists(st.sampled_from(FIELDS), unique=True)):
        put_at(made, name, draw(of_field(name)))
    if "address" not in made and draw(st.booleans()):
        made["address"] = None
    return made


def put_at(made: dict[str, Any], name: str, held: object) -> None:
    above, _, last = name.rpartition(".")
    (made.setdefault(above, {}) if above else made)[last] = held


def found_at(held: dict[str, Any], name: str) -> str:
    """Return what a person sees in a field of a contact."""
    above, _, last = name.rpartition(".")
    place = (held.get(above) or {}) if above else held
    bare = place.get(last)
    if name in ENUMERATIONS and isinstance(bare, dict):
        bare = bare.get("value")
    text = "" if bare is None or not str(bare).strip() else str(bare)
    return text[:10] if name in DATES else text


def without(held: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Return a contact without the fields of these names; an empty address is none."""
    left = deepcopy(held)
    for name in names:
        above, _, last = name.rpartition(".")
        place = left.get(above) if above else left
        if isinstance(place, dict):
            place.pop(last, None)
    if not left.get("address"):
        left.pop("address", None)
    return left


@st.composite
def worlds(draw: st.DrawFn) -> dict[str, Any]:
    """Contacts, a map, and rounds of changes and faults."""
    names = draw(st.lists(st.sampled_from(FIELDS), min_size=1, max_size=len(COLUMNS), unique=True))
    of_column = [day.map(lambda date: f"{date}T00:00:00") if name in DATES else value for name in names]
    change = st.tuples(*(st.none() | each for each in of_column))
    people = draw(st.integers(1, 2))
    faults: tuple[Faulty, ...] = ("lost, done", "lost, not done", "500", "400", "429", "401", "emse", "404")
    return {
        "names": names,
        "clear": [draw(st.booleans()) for _ in names],
        "contacts": [draw(contact()) for _ in range(people)],
        "rounds": draw(st.lists(st.tuples(*([change] * people)), min_size=1, max_size=3)),
        "faults": draw(st.lists(st.none() | st.sampled_from(faults), min_size=3, max_size=3)),
        "dials": AccelaDials(
            put=draw(st.sampled_from(["merge", "replace"])),
            get=draw(st.sampled_from(["array", "object"])),
            null=draw(st.sampled_from(["clears", "ignored"])),
            dates=draw(st.sampled_from(["as sent", "with midnight"])),
        ),
    }


def fault(kind: Faulty | None) -> list[AccelaFault]:
    match kind:
        case None:
            return []
        case "lost, done":
            return [AccelaFault("lost", "PUT", written="at once")]
        case "lost, not done":
            return [AccelaFault("lost", "PUT")]
        case "emse":
            return [AccelaFault("emse", "PUT")]
        case "404":
            return [AccelaFault("answer", "GET", status=404)]
        case _:
            return [AccelaFault("answer", "PUT", status=int(kind))]


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with AccelaService() as service:
        office = Office(tmp_path_factory.mktemp("office"), service)
        office.take("first", dict.fromkeys(COLUMNS, "x"))
        yield office


def unmapped(office: Office, ids: list[str], names: list[str]) -> list[str]:
    return [json.dumps(without(office.service.contacts[id_], names), sort_keys=True) for id_ in ids]


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(world=worlds())
def test_no_field_outside_the_map_ever_changes_and_each_change_reaches_its_contact_once(
    office: Office, world: dict[str, Any]
) -> None:
    service, names = office.service, world["names"]
    service.dials, service.written, service.faults = world["dials"], [], []
    people = [f"p{office.minute}-{number}" for number in range(len(world["contacts"]))]
    service.contacts = {id_: {"id": id_, **drawn} for id_, drawn in zip(people, world["contacts"], strict=True)}
    office.configure(
        "[accela.map.Client]\n"
        + "\n".join(
            f'"{name}" = {{ column = "{column}", clear = {str(clear).lower()} }}'
            for name, column, clear in zip(names, COLUMNS, world["clear"], strict=False)
        )
    )
    office.sql("delete from _accela_links")
    office.sql("delete from _accela_pushes")
    office.link(*(f"Client,{id_},{id_},11,9" for id_ in people))
    before = unmapped(office, people, names)
    seen = {id_: {name: found_at(service.contacts[id_], name) for name in names} for id_ in people}

    def expect(id_: str, change: tuple[str | None, ...]) -> None:
        for name, clear, new in zip(names, world["clear"], change, strict=True):
            if new is not None or clear:
                seen[id_][name] = (new or "")[:10] if name in DATES else (new or "")

    for changes, kind in zip(world["rounds"], world["faults"], strict=False):
        drawn = {id_: dict(zip(COLUMNS, change, strict=False)) for id_, change in zip(people, changes, strict=True)}
        office.take_all({id_: {"Always": office.minute, **columns} for id_, columns in drawn.items()})
        service.faults = fault(kind)
        office.push()
        service.faults = []
        assert unmapped(office, people, names) == before
    # Of several changes of one record only the last is sure to have been seen; a fault may have hidden those before.
    for _ in range(2):
        report = office.push()
    assert report.outcome == "done"
    assert report.calls == 0, "the second quiet run found something to do"
    assert unmapped(office, people, names) == before
    for id_, change in zip(people, world["rounds"][-1], strict=True):
        expect(id_, change)
        for name, clear, new in zip(names, world["clear"], change, strict=True):
            if new is not None or clear:
                assert found_at(service.contacts[id_], name) == seen[id_][name]
    for id_ in people:
        # A null that the service ignores has changed nothing: after a lost answer it is sent once more.
        may_repeat = any(world["clear"]) and service.dials.null == "ignored"
        bodies = [body for whose, body in service.written if whose == id_ and not may_repeat]
        assert all(body != next_body for body, next_body in pairwise(bodies)), "a change was sent twice"
    assert "sent" not in office.outcomes()
