"""Mirrors to try things on, and what must hold of any mirror."""

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from delta_mirror.dds.tables import FEED_CHILDREN
from delta_mirror.mirror.schema import OWN_TABLES, quote
from delta_mirror.mirror.write import Mirror
from fuzz.lossless import fold


def template(folder: Path) -> Path:
    """Return an empty mirror in *folder*, to be copied: to make one takes a hundred times as long."""
    path = folder / "empty.db"
    if not path.exists():
        with Mirror.open(path, feed_tables=FEED_CHILDREN):
            pass
    return path


def assert_only_these(
    path: Path, wanted: Mapping[str, Collection[str]], *, root: str, own: Sequence[Sequence[str]]
) -> None:  # fmt: skip
    """Pass if the mirror is sound, and has beside its own tables those that are *wanted*, with their columns, and no others.

    Names are folded. *own* are the mirror's own columns of a root and of a child.

    Raises:
        AssertionError: it has not.
    """
    with closing(sqlite3.connect(path)) as mirror:
        assert mirror.execute("pragma integrity_check").fetchone() == ("ok",)
        found = mirror.execute("select type, name from sqlite_master where substr(name, 1, 7) <> 'sqlite_'").fetchall()
        kinds = {kind for kind, _ in found}
        assert "trigger" not in kinds, "there is a trigger"
        tables = {fold(name): name for kind, name in found if kind == "table" and name not in OWN_TABLES}
        assert set(tables) == set(wanted), "there are other tables than those of the records"
        views = {fold(name) for kind, name in found if kind == "view"}
        assert views == ({f"_once_{root}"} if root in wanted else set()), "there is a view too many, or too few"
        for folded, name in tables.items():
            columns = [row[1] for row in mirror.execute(f"pragma table_info({quote(name)})")]
            expected = own[0] if folded == root else own[1]
            assert tuple(columns[: len(expected)]) == tuple(expected), "the own columns are not in front"
            assert {fold(column) for column in columns[len(expected) :]} == set(wanted[folded]), "a table has other columns"
        for view in views:
            mirror.execute(f"select * from {quote(view)}").fetchall()


def assert_sound(path: Path) -> None:
    """Pass if the file is whole and every view of it can be read.

    Raises:
        AssertionError: it is not.
    """
    with closing(sqlite3.connect(path)) as mirror:
        assert mirror.execute("pragma integrity_check").fetchone() == ("ok",)
        for (view,) in mirror.execute("select name from sqlite_master where type = 'view'").fetchall():
            mirror.execute(f"select * from {quote(view)}").fetchall()


def assert_printable(text: str) -> None:
    """Pass if *text* can steer no terminal and breaks no line.

    Raises:
        AssertionError: it can.
    """
    assert text.isprintable(), "a terminal could be steered by what is printed"
