"""A command called within this process, and what must hold of whatever it ends with."""

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from delta_mirror.cli import main

SECRET = "s3cret-of-the-shop"
EXIT_CODES = (0, 2, 3, 4, 5)


class Ended(NamedTuple):
    """Exit code, standard output and standard error of a call."""

    code: int
    out: str
    err: str


def call(arguments: Sequence[str]) -> Ended:
    """Return how a call of the program with *arguments* ends."""
    out, err = io.BytesIO(), io.BytesIO()
    streams = sys.stdin, sys.stdout, sys.stderr
    with Path(os.devnull).open(encoding="utf-8") as nothing:
        told = io.TextIOWrapper(out, encoding="utf-8"), io.TextIOWrapper(err, encoding="utf-8", errors="backslashreplace")
        sys.stdin, sys.stdout, sys.stderr = nothing, *told
        try:
            code = main.run(arguments)
        finally:
            sys.stdin, sys.stdout, sys.stderr = streams
        for stream in told:
            stream.flush()
    return Ended(code, out.getvalue().decode(), err.getvalue().decode())


def check_ending(ended: Ended, *, silent_about: Sequence[str] = (SECRET,)) -> None:
    """Pass if a call has ended with a documented exit code, has steered no terminal, and is *silent_about* what it should be.

    Raises:
        AssertionError: it has not.
    """
    assert ended.code in EXIT_CODES, f"exit {ended.code}"
    for text in (ended.out, ended.err):
        for secret in silent_about:
            assert secret not in text, "a secret or a value is shown"
        odd = [each for each in text if not each.isprintable() and each not in "\n\t"]
        assert not odd, f"a terminal could be steered: {odd[0]!a}"
    assert ended.code or not ended.err.startswith("error"), "an error ends with 0"
