"""Names of tables and columns: one where SQLite takes them for one."""

import sqlite3
from contextlib import closing

import pytest

from delta_mirror.core.names import fold

NAMES = [
    *("Client", "CLIENT", "client", "STRASSE", "strasse", "Straße", "Ärger", "ärger", "ÄRGER"),
    *("\u0130", "i\u0307", "i", "\u212a", "k", "@Z", "`z"),
]


def test_folded_name_is_in_small_letters() -> None:
    assert [fold(name) for name in ("EmailAddress", "ÄRGER")] == ["emailaddress", "Ärger"]


@pytest.mark.parametrize("name", NAMES)
def test_two_names_are_one_exactly_where_they_are_one_column_of_sqlite(name: str) -> None:
    for other in NAMES:
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.execute(f'create table "t" ("{name}")')
            columns = connection.execute("select count(*) from pragma_table_info('t') where name = ? collate nocase", [other])
            assert (fold(name) == fold(other)) is bool(columns.fetchone()[0])
