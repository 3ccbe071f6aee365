"""The same work by hand with sqlite-utils: what its documentation leads to, and the same by someone who has been bitten.

    python bench/peers/by_hand.py begin|tuned URL CLIENT_ID CLIENT_SECRET TENANT LOCATION FILE

`begin` upserts each page, clients by their id and phones by client and number, lets sqlite-utils make tables and columns as they
come, and goes on from the newest date that the service named. `tuned` puts whole rows in the place of the old ones, the phones of
a client with them, a page in one transaction, takes away what the service calls deleted, and begins ten minutes further back.
"""

import contextlib
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import requests
from sqlite_utils import Database

WAYS = ("begin", "tuned")
DELETED = 2028
OVERLAP = timedelta(minutes=10)
PAGE = 200  # records


def pages(url: str, client_id: str, client_secret: str, tenant: str, location: str, start: str) -> Iterator[dict]:
    """Yield the pages of the feed from *start* on, up to the first empty one."""
    with requests.Session() as session:
        form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": client_secret}
        answer = session.post(f"{url}/oauth2/token", data=form, timeout=30)
        answer.raise_for_status()
        session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        number = 0
        while True:
            query = {"TenantId": tenant, "LocationId": location, "StartDate": start, "PageNumber": number}
            query |= {"ItemsPerPage": PAGE, "RequestId": str(uuid.uuid4())}
            answer = session.get(f"{url}/publicapi/v1/cdc/entity/Client/changes", params=query, timeout=30)
            answer.raise_for_status()
            page = answer.json()
            if not page["data"]:
                return
            yield page
            number += 1


def split(clients: list[dict]) -> list[dict]:
    """Take the phones from *clients* and return them as rows of their own."""
    return [
        {**phone, "Client_TId": client["EntityId"], "Number": number}
        for client in clients
        for number, phone in enumerate(client.pop("ClientPhone_T", ()))
    ]


def upsert(database: Database, clients: list[dict]) -> None:
    """Put *clients* into the tables, as the documentation shows it."""
    phones = split(clients)
    database["Client"].upsert_all(clients, pk="EntityId", alter=True)
    database["ClientPhone"].upsert_all(phones, pk=("Client_TId", "Number"), alter=True)


def replace(database: Database, clients: list[dict]) -> None:
    """Put *clients*, of each the newest version, in the place of what was there."""
    newest = {client["EntityId"]: client for client in sorted(clients, key=lambda client: client["DateUpdated"])}
    living = [client for client in newest.values() if client["ObjectStateEnum"] != DELETED]
    phones = split(living)
    with database.atomic():
        for table, key in (("Client", "EntityId"), ("ClientPhone", "Client_TId")):
            if database[table].exists():
                database.conn.executemany(f"delete from [{table}] where {key} = ?", [(each,) for each in newest])
        database["Client"].insert_all(living, pk="EntityId", alter=True)
        database["ClientPhone"].insert_all(phones, pk=("Client_TId", "Number"), alter=True)


def main(way: str, url: str, client_id: str, client_secret: str, tenant: str, location: str, file: str) -> None:
    """Read the changes since the watermark, page by page, and move the watermark."""
    database = Database(file)
    database.enable_wal()
    start = (datetime.now(UTC) - timedelta(days=6)).isoformat()
    if database["Watermark"].exists():
        start = next(iter(database["Watermark"].rows))["at"]
    newest = start
    if way == "tuned":
        database.conn.execute("pragma synchronous = normal")
        with contextlib.suppress(ValueError):
            start = (datetime.fromisoformat(start) - OVERLAP).isoformat()
    for page in pages(url, client_id, client_secret, tenant, location, start):
        (replace if way == "tuned" else upsert)(database, [entry["Client_T"] for entry in page["data"]])
        newest = max(newest, page["lastChangeDateIncludedInPage"])
    database["Watermark"].insert({"id": 1, "at": newest}, pk="id", replace=True)
    database.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
