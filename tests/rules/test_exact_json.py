"""JSON without loss: both parsers give the same, and what is nested too deeply for one of them is read by the other."""

import json

import pytest

from delta_mirror.core.exact_json import Json, Twice, UnreadableError, holds_twice, is_deeper, pairs_of, read_json, write_anyhow
from rules.counted import counted

WRITABLE = 254  # levels that the fast parser, which reads some more, can write


def nested(levels: int, innermost: str) -> bytes:
    return ("[" * levels + innermost + "]" * levels).encode()


def innermost(value: Json) -> Json:
    while isinstance(value, list):
        [value] = value
    return value


@pytest.mark.parametrize("levels", [0, 1, WRITABLE, WRITABLE + 1, 400])
def test_key_that_stands_twice_is_noticed_however_deep_it_stands(levels: int) -> None:
    found = innermost(read_json(nested(levels, '{"a":1,"b":2,"a":3}')))
    assert isinstance(found, Twice)
    assert list(pairs_of(found)) == [("a", 1), ("b", 2), ("a", 3)]
    assert write_anyhow(read_json(nested(levels, '{"a":1,"a":3}'))) == nested(levels, '{"a":1,"a":3}').decode()


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": "b:c", "n": [1, -2.5, 123456789012345, 1e5, 1e-5, 1E+20, 0.00012345], "t": true, "x": null}',
        b'{"a":"x\\n\\u00e9: \\"","b":{"c":[{"d":1},{"d":2}]}}',
        b'["page-1234x", "a:b", "1234567890123456", "{\\"a\\":1}"]',
        '{"Name":"Zo\u00eb 12","At":"2026-05-04T12:00:00.1234567+00:00"}'.encode(),
        nested(WRITABLE, "1"),
    ],
)
def test_what_cannot_be_bent_is_read_by_the_fast_parser_alone(body: bytes) -> None:
    with counted("_read_carefully") as calls:
        found = read_json(body)

    assert calls.number == 0
    assert found == json.loads(body)


def test_what_no_parser_can_follow_is_said_to_be_nested_too_deeply() -> None:
    with pytest.raises(UnreadableError, match=r"^it is nested too deeply$"):
        read_json(nested(200_000, ""))


@pytest.mark.parametrize(
    ("value", "levels"),
    [
        (1, 0),
        ("[[]]", 0),
        ([], 1),
        ({}, 1),
        ([1, {}], 2),
        ({"a": [], "b": 1}, 2),
        ([[], [[]], []], 3),
        ({"a": {"b": {"c": 1}}}, 3),
    ],
)
def test_levels_are_arrays_and_objects_within_one_another(value: Json, levels: int) -> None:
    assert is_deeper(value, levels) is False
    assert all(is_deeper(value, fewer) for fewer in range(levels))


TWICE = Twice([("a", 1), ("a", 2)])
WITH: list[Json] = [TWICE, [TWICE], {"b": [1, TWICE]}, [{"c": TWICE}]]
WITHOUT: list[Json] = [{"a": 1}, [{"a": 1}, {"a": 1}], "aa", 1, None]


def test_key_that_stands_twice_is_found_wherever_it_stands() -> None:
    assert [holds_twice(value) for value in WITH] == [True] * len(WITH)
    assert [holds_twice(value) for value in WITHOUT] == [False] * len(WITHOUT)
