"""What a competent person would write by hand in an afternoon: the yardstick of `make bench`.

requests, json and sqlite3; a typed root and a typed child table; a page a transaction; a token, a RequestId per call, gzip. It is
not part of the program, and it is no advice. What it lacks is what the program is for: it keeps no log of changes and no
tombstones, forgets columns that it was not written for, writes again what has not changed, takes no lock, counts no calls,
repeats none, and loses every record that slides over a page border while it reads.

    python bench/bare_loop.py URL CLIENT_ID CLIENT_SECRET TENANT LOCATION FILE
"""

import json
import sqlite3
import sys
import uuid
from datetime import UTC, datetime, timedelta

import requests

ROOT = {
    "EntityId": "text",
    "HomeLocationId": "integer",
    "EntityVersion": "text",
    "CreatedBy_User_TId": "text",
    "DateCreated": "text",
    "DateUpdated": "text",
    "FirstName": "text",
    "MiddleName": "text",
    "LastName": "text",
    "GenderEnum": "integer",
    "BirthDate": "text",
    "Address1": "text",
    "City": "text",
    "State": "text",
    "ZipCode": "text",
    "Country": "text",
    "EmailAddress": "text",
    "IsMinor": "integer",
    "AllowsEmail": "integer",
    "AccountBalance": "real",
    "LoyaltyPoints": "integer",
    "ObjectStateEnum": "integer",
    "Tags": "text",
}
CHILD = {
    "PhoneTypeEnum": "integer",
    "CountryCode": "text",
    "PhoneNumber": "text",
    "FullPhoneNumber": "text",
    "UseForTextMarketing": "integer",
}
PAGE = 200  # records
DELETED = 2028


def open_database(path: str) -> sqlite3.Connection:
    """Return a connection to the file, its tables made."""
    database = sqlite3.connect(path)
    database.execute("pragma journal_mode = wal")
    database.execute("pragma synchronous = normal")
    root = ", ".join(f"{name} {kind}" for name, kind in ROOT.items())
    child = ", ".join(f"{name} {kind}" for name, kind in CHILD.items())
    database.execute(f"create table if not exists Client ({root}, primary key (EntityId))")
    database.execute(f"create table if not exists ClientPhone (Client_TId text, n integer, {child}, primary key (Client_TId, n))")
    database.execute("create table if not exists Watermark (at text)")
    return database


def sign_in(session: requests.Session, url: str, client_id: str, client_secret: str) -> None:
    """Put a token into the headers of *session*."""
    form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": client_secret}
    answer = session.post(f"{url}/oauth2/token", data=form, headers={"Accept": "application/json"}, timeout=30)
    answer.raise_for_status()
    session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"


def fetch(session: requests.Session, url: str, place: tuple[str, str], start: str, number: int) -> dict:
    """Return one page."""
    query = {
        "TenantId": place[0],
        "LocationId": place[1],
        "StartDate": start,
        "PageNumber": number,
        "ItemsPerPage": PAGE,
        "RequestId": str(uuid.uuid4()),
    }
    answer = session.get(f"{url}/publicapi/v1/cdc/entity/Client/changes", params=query, timeout=30)
    answer.raise_for_status()
    return json.loads(answer.content)


def write(database: sqlite3.Connection, clients: list[dict]) -> None:
    """Put the records of one page in the place of what was there."""
    living = [client for client in clients if client["ObjectStateEnum"] != DELETED]
    deleted = [(client["EntityId"],) for client in clients if client["ObjectStateEnum"] == DELETED]
    database.executemany("delete from Client where EntityId = ?", deleted)
    database.executemany("delete from ClientPhone where Client_TId = ?", [(client["EntityId"],) for client in clients])
    database.executemany(
        f"insert or replace into Client values ({', '.join('?' * len(ROOT))})",
        [[plain(client.get(name)) for name in ROOT] for client in living],
    )
    database.executemany(
        f"insert into ClientPhone values ({', '.join('?' * (len(CHILD) + 2))})",
        [
            [client["EntityId"], n, *(plain(phone.get(name)) for name in CHILD)]
            for client in living
            for n, phone in enumerate(client.get("ClientPhone_T", ()))
        ],
    )


def plain(value: object) -> object:
    """Return *value* as a column can hold it."""
    return json.dumps(value) if isinstance(value, list | dict) else value


def main(url: str, client_id: str, client_secret: str, tenant: str, location: str, path: str) -> None:
    """Read the changes since the watermark, page by page, and move the watermark."""
    database = open_database(path)
    known = database.execute("select at from Watermark").fetchone()
    start = known[0] if known else (datetime.now(UTC) - timedelta(days=6)).isoformat()
    number, newest = 0, start
    with requests.Session() as session:
        sign_in(session, url, client_id, client_secret)
        while True:
            page = fetch(session, url, (tenant, location), start, number)
            if not page["data"]:
                break
            newest = page["lastChangeDateIncludedInPage"]
            with database:
                write(database, [entry["Client_T"] for entry in page["data"]])
            number += 1
    with database:
        database.execute("delete from Watermark")
        database.execute("insert into Watermark values (?)", (newest,))
    database.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
