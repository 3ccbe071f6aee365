"""The short form of the search: every target with choices that are the same each time. The long form is `make fuzz`."""

from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from fuzz.engine import Target, attempt, inputs
from fuzz.targets import TARGETS

# Tries that take some seconds of processor time each target.
TRIES = {
    "feed": 150,
    "starter": 200,
    "messages": 100,
    "settings": 1500,
    "arguments": 250,
    "service": 12,
    "accela": 10,
    "sftp": 60,
    "broker": 15,
}


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_from_outside_ends_in_anything_but_what_is_documented(name: str, tmp_path: Path) -> None:
    target: Target[Any] = TARGETS[name]
    with target.open(tmp_path) as check:
        for octets in islice(inputs(20_261_122, target.longest), TRIES[name]):
            failure = attempt(target, check, octets)
            assert failure is None, f"{failure.signature}\n{failure.sent[:2000]}\n{failure.told}"
