"""What `status` and `doctor` say of people who were erased: how many are marked, and whether the files are clear of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from delta_mirror.core.keyed import Keyed
from delta_mirror.mirror.marks import CHECK, PENDING, check_key
from delta_mirror.mirror.read import Reader


@dataclass(frozen=True, slots=True)
class ErasedTally:
    """How many are marked, and since when bytes of somebody may still be in the files; None: they are not."""

    marked: int
    pending_since: str | None


def read_erased_tally(reader: Reader) -> ErasedTally | None:
    """Return how things stand with those who were erased, None where nobody was."""
    _, [row] = reader.ask(f"select (select count(*) from _erased), (select value from _meta where key = '{PENDING}')")
    marked, pending_since = cast("tuple[int, str | None]", row)
    return ErasedTally(marked, pending_since) if marked else None


def check_key_of(reader: Reader, path: Path, keyed: Keyed) -> bool:
    """Return whether the mirror at *path* keeps hashes already; they are of this key then.

    Raises:
        MirrorFileError: they are of another one.
    """
    _, rows = reader.ask(f"select value from _meta where key = '{CHECK}'")
    if rows:
        check_key(path, keyed, str(rows[0][0]))
    return bool(rows)
