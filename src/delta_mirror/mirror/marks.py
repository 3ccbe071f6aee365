"""The marks of people who were erased, as the mirror keeps them: read once a run, asked a page at a time.

Invariants:

- A mirror without marks costs one look as it is opened, and nothing after that.
- A mirror with marks is written to only by who has the key that they were made with: with another one nobody would be found,
  and everybody would come back in silence.
- Of a record that is listed by the feed the mirror knows the change date, although it knows no more of it: a drain counts what
  the feed lists, and would otherwise look for what was passed by. Such a date goes as soon as the feed cannot list it any more.
"""

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import orjson

from delta_mirror.core.erased import Erased
from delta_mirror.core.keyed import Keyed
from delta_mirror.core.model import Stream
from delta_mirror.errors import MirrorFileError
from delta_mirror.mirror.schema import has_table

CHECK = "mask_key_check"  # in `_meta`: what tells the key of this mirror from another one
PENDING = "erase_pending"  # in `_meta`: since when bytes of somebody who was erased may still be in the file
IN_STREAM = "tenant_id = :tenant_id and location_id = :location_id and entity = :entity"

Key = Callable[[], Keyed | None]
"""Returns the operator's key, None where there is none; raises what keeps it from being had."""


def load_erased(connection: sqlite3.Connection, path: Path, key: Key) -> Erased | None:
    """Return who is marked in the mirror behind *connection*, None where nobody is. The *key* is asked for only if it is needed.

    Raises:
        RefusedError: there are marks, and the key is not to be had, or is another one.
    """
    if not has_table(connection, "_erased"):
        return None
    marks = [mark for (mark,) in connection.execute("select mark from _erased")]
    if not marks:
        return None
    keyed = key()
    if keyed is None:
        raise MirrorFileError(
            f"{path} has marks of people who were erased, and [mirror] mask_key is empty, so that they could come back; nothing "
            'was written. Put the key that they were made with in its place again; docs/operating.md, "Privacy", says what to do '
            "if it is lost"
        )
    found = connection.execute("select value from _meta where key = ?", (CHECK,)).fetchone()
    check_key(path, keyed, None if found is None else found[0])
    return Erased(keyed, marks)


def check_key(path: Path, keyed: Keyed, kept: str | None) -> None:
    """Return if *keyed* is the key of the mirror, of which *kept* is what it keeps to tell.

    Raises:
        MirrorFileError: it is another one.
    """
    if kept != keyed.check():
        raise MirrorFileError(
            f"{path} was used with another [mirror] mask_key, and people who were erased from it would come back; nothing was "
            'written. Put the former key in its place again; docs/operating.md, "Privacy", says what to do if it is lost'
        )


def dates_of(connection: sqlite3.Connection, stream: Stream, marks: Iterable[str]) -> dict[str, int]:
    """Return the change dates under which the feed of *stream* last listed those who bear *marks*, where it has, in ticks."""
    found = connection.execute(
        f"select mark, ticks from _erased_dates where {IN_STREAM} and mark in (select value from json_each(:marks))",
        {**stream._asdict(), "marks": orjson.dumps(list(marks)).decode()},
    )
    return dict(found.fetchall())


def note_dates(connection: sqlite3.Connection, stream: Stream, dates: Mapping[str, int]) -> None:
    """Note under which change dates the feed lists those who bear these marks; the latest one counts."""
    connection.executemany(
        "insert into _erased_dates (tenant_id, location_id, entity, mark, ticks) values (?, ?, ?, ?, ?) "
        "on conflict (tenant_id, location_id, entity, mark) do update set ticks = max(ticks, excluded.ticks)",
        [(*stream, mark, ticks) for mark, ticks in dates.items()],
    )


def forget_dates(connection: sqlite3.Connection, stream: Stream, before: int) -> None:
    """Forget the dates before *before* (ticks), which the feed of *stream* cannot list any more."""
    connection.execute(f"delete from _erased_dates where {IN_STREAM} and ticks < :before", {**stream._asdict(), "before": before})
