"""The bare loop that `bench/nexus.py` compares with: parse, log, upsert; what one would write by hand in an afternoon.

It knows the three sections that the bench sends, and takes them in the order in which they come: nothing is sorted, nothing is
removed, no change is logged, no column is new, and what is broken ends it.

    python bench/nexus_bare_loop.py MESSAGES MIRROR
"""

import hashlib
import json
import sqlite3
import sys

BATCH = 2000


def main(messages: str, mirror: str) -> None:
    """Take the lines of *messages* into *mirror*."""
    connection = sqlite3.connect(mirror, isolation_level=None)
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma synchronous = normal")
    connection.execute("create table messages (id text primary key, client text, at text, section text, body text)")
    connection.execute("create table Personal (client, FirstName, MiddleName, LastName, primary key (client))")
    connection.execute("create table Address (client, item, AddressType, Address, primary key (client, item))")
    connection.execute("create table Contact (client, item, ContactType, Contact, primary key (client, item))")
    with open(messages, encoding="utf-8") as lines:  # noqa: PTH123 - a script
        for number, line in enumerate(lines):
            if number % BATCH == 0:
                connection.execute("begin")
            take(connection, line)
            if number % BATCH == BATCH - 1:
                connection.execute("commit")
        if connection.in_transaction:
            connection.execute("commit")
    connection.close()


def take(connection: sqlite3.Connection, line: str) -> None:
    """Log one message, and upsert its section."""
    message = json.loads(line)
    client = message["Client"]["IntegrationId"]
    details = message["Details"]
    section = details["SubType"]
    id_ = hashlib.sha256(line.encode()).hexdigest()
    connection.execute(
        "insert or ignore into messages values (?, ?, ?, ?, ?)", (id_, client, message["Action"]["OccurredOn"], section, line)
    )
    if section == "Personal Details":
        connection.execute(
            "insert into Personal values (?, ?, ?, ?) on conflict (client) do update set FirstName = excluded.FirstName, "
            "MiddleName = excluded.MiddleName, LastName = excluded.LastName",
            (client, details["FirstName"], details["MiddleName"] or None, details["LastName"]),
        )
        return
    kind, value = ("AddressType", "Address") if section == "Address Details" else ("ContactType", "Contact")
    connection.execute(
        f"insert into {value} values (?, ?, ?, ?) on conflict (client, item) do update set {kind} = excluded.{kind}, "
        f"{value} = excluded.{value}",
        (client, message["Activity"]["Identifier"], details[kind], details[value]),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
