"""What a competent person would write by hand to load a Starter Export: the yardstick of `bench/starter.py`.

Files are read block by block, split by their separators, and inserted as they come, into tables with keys. It is not part of the
program, and it is no advice. Nothing is converted: numbers and NULL are text, text keeps its quotes. A file that was cut off
passes, and so does one with a row too many; a second load begins from nothing; nobody learns what has changed.

    python bench/bare_starter.py FOLDER FILE
"""

import codecs
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

BLOCK = 1 << 20  # bytes
KEYS = {"Client": "Client_TId", "Sale": "EntityId", "SaleLine": "EntityId, SaleLine_Seq"}


def rows_of(path: Path) -> Iterator[list[str]]:
    """Yield the rows of a file, its header first."""
    decoder = codecs.getincrementaldecoder("utf-16")()
    rest = ""
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            rows = (rest + decoder.decode(block)).split("|$|")
            rest = rows.pop()
            for row in rows:
                yield row.split("|@|")


def load(database: sqlite3.Connection, path: Path) -> None:
    """Put one file into a table of its own."""
    table = path.name.partition("_")[0]
    rows = rows_of(path)
    names = [name.strip('" ') for name in next(rows)]
    key = f", primary key ({KEYS[table]})" if table in KEYS else ""
    database.execute(f"create table {table} ({', '.join(names)}{key})")
    database.executemany(f"insert into {table} values ({', '.join('?' * len(names))})", rows)


def main(folder: str, file: str) -> None:
    """Load every table of one location."""
    database = sqlite3.connect(file)
    database.execute("pragma journal_mode = wal")
    database.execute("pragma synchronous = normal")
    with database:
        for path in sorted(Path(folder).glob("Tenant*/Location*/*.csv")):
            load(database, path)
    database.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
