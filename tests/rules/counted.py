"""How often a function is called: by watching, so that what is watched stays as it is."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass(slots=True)
class Calls:
    """How often so far."""

    number: int = 0


@contextmanager
def counted(name: str) -> Iterator[Calls]:
    """Count the calls of functions in Python that bear *name*, in this thread."""
    calls = Calls()

    def note(frame: FrameType, event: str, _: object) -> None:
        calls.number += event == "call" and name in frame.f_code.co_name

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(before)
