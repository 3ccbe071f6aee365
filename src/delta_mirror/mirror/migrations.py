"""How a mirror of an older form becomes one of today's: forward only, step by step.

A form is what `user_version` says. It rises where a program of the form before would do wrong with the file. A table, a column or
an index that is merely new needs no form of its own: it stands in `schema.OWN_TABLES`, and what a file lacks of that is added.

Invariants:

- Each step is one transaction with the row in `_migrations` that says it was made: a process that is killed in the middle leaves
  the form before, whole, and the next one begins the step anew.
- The form is read within the transaction of each step, so that of two processes only one takes it.
- Nothing that a mirror holds is lost: a step may add, move and count, and drops nothing.
- A step stands here for ever, as it was released: mirrors of every form are still on somebody's disk.
- A new file is made in today's form at once; it takes no steps.
- Whoever only reads an older form changes nothing: what it lacks is lent to the one connection that reads (`lend_missing`).
"""

import logging
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from delta_mirror import __version__
from delta_mirror.mirror.file import APPLICATION_ID, SCHEMA_VERSION, own_time
from delta_mirror.mirror.schema import OWN_TABLES, complete_own_tables, count_records, has_column, missing, missing_indexes, quote

_log = logging.getLogger("delta_mirror.mirror")


class Migration(NamedTuple):
    """One step to the form *version*; *carry_out* is called within its transaction, on a file of the form before."""

    version: int
    what: str
    carry_out: Callable[[sqlite3.Connection], None]


def _count_what_was_never_counted(connection: sqlite3.Connection) -> None:
    """Fill `_streams.records` in mirrors of the time before it: status would show a full stream as empty."""
    if not has_column(connection, "_streams", "records"):
        complete_own_tables(connection, ["_streams"])
        count_records(connection)


MIGRATIONS: Sequence[Migration] = (
    # Form 1 is that of the first release. Form 2 keeps this record, and may hold what a program of form 1 would not heed: marks
    # of people who were erased, columns that are masked, messages of which a base was folded.
    Migration(2, "the record of migrations; records counted where they were not", _count_what_was_never_counted),
)


def migrate(connection: sqlite3.Connection, now: float, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Bring the mirror, or the empty file, behind *connection* to today's form. *now* is our own clock, for the record."""
    for migration in migrations:
        if 0 < _form(connection) < migration.version:
            with _immediate(connection):
                if _form(connection) < migration.version:  # another process may have been quicker
                    complete_own_tables(connection, ["_migrations"])
                    migration.carry_out(connection)
                    _note(connection, migration.version, now, migration.what)
            _log.info("the mirror was brought to form %d of its own tables: %s", migration.version, migration.what)
    if _form(connection) and not missing(connection) and not missing_indexes(connection):
        return
    with _immediate(connection):
        is_new = _form(connection) == 0
        made = complete_own_tables(connection)
        if is_new:
            connection.execute(f"pragma application_id = {APPLICATION_ID}")
            _note(connection, SCHEMA_VERSION, now, "made")
        elif made:
            _note(connection, _form(connection), now, f"added {', '.join(made)}")


def lend_missing(connection: sqlite3.Connection) -> None:
    """Let *connection*, which cannot write, see an older form as if it were today's: what it lacks is empty, for it alone.

    Temporary tables and views hide those of the file that bear the same names. They live in memory.
    """
    lacking = missing(connection)
    if not lacking:
        return
    connection.execute("pragma temp_store = memory")
    for name, columns in lacking.items():
        table = OWN_TABLES[name]
        if set(columns) == set(table.columns):
            connection.execute(f"create temp table {quote(name)} ({', '.join(map(quote, columns))})")
        else:
            lent = ", ".join(f"{_literal(table.defaults.get(column))} as {quote(column)}" for column in columns)
            connection.execute(f"create temp view {quote(name)} as select *, {lent} from main.{quote(name)}")


def _literal(default: str | int | None) -> str:
    return "null" if default is None else str(default) if isinstance(default, int) else f"'{default}'"


def _form(connection: sqlite3.Connection) -> int:
    return int(connection.execute("pragma user_version").fetchone()[0])


def _note(connection: sqlite3.Connection, version: int, now: float, what: str) -> None:
    connection.execute(
        "insert into _migrations (version, at, program, what) values (?, ?, ?, ?)", (version, own_time(now), __version__, what)
    )
    connection.execute(f"pragma user_version = {version}")


@contextmanager
def _immediate(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("begin immediate")
    try:
        yield
        connection.execute("commit")
    except BaseException:
        if connection.in_transaction:
            connection.execute("rollback")
        raise
