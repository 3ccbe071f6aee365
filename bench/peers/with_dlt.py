"""The same work with dlt: its rest_api source, merge on the key, SQLite through its sqlalchemy destination.

    python bench/peers/with_dlt.py begin|tuned URL CLIENT_ID CLIENT_SECRET TENANT LOCATION FILE

`begin` is what its documentation begins with: a resource with a primary key, the merge disposition, an incremental cursor, a page
number that counts up until a page is empty. `tuned` is what its documentation offers beyond that, as far as it helps here:

- right: `hard_delete` for what the service calls deleted, `dedup_sort` for two versions of one record, a `lag` of ten minutes;
- fast: an index on the key of its staging table (without it 1,000 changes take twice as long; `create_primary_keys` does the
  same, but then an id that comes twice ends the run), no compression of its own files, two normalizing processes, larger buffers,
  a WAL without a flush per commit, columns of nested values that are kept as JSON.

In both, telemetry is off, as nothing here leaves the machine, and the dataset is `main`, so that the file is the database.
"""

import os
import sqlite3
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

DELETED = 2028
LAG = 600  # seconds
PAGE = 200  # records
TUNED = {
    "DATA_WRITER__DISABLE_COMPRESSION": "true",
    "DATA_WRITER__BUFFER_MAX_ITEMS": "20000",
    "EXTRACT__DATA_WRITER__FILE_MAX_ITEMS": "5000",  # files are what the processes share out among themselves
    "NORMALIZE__WORKERS": "2",
    "LOAD__WORKERS": "1",  # SQLite takes one writer
    "RUNTIME__LOG_LEVEL": "ERROR",
}


def main(way: str, url: str, client_id: str, client_secret: str, tenant: str, location: str, file: str) -> None:
    """Load what has changed since the last time."""
    os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
    os.environ["DLT_DATA_DIR"] = str(Path(file).with_suffix(""))
    os.environ.update(TUNED if way == "tuned" else {})
    import dlt  # reads the environment as it is imported
    from dlt.sources.rest_api import rest_api_source

    pipeline = dlt.pipeline("clients", destination=destination(way, file), dataset_name="main")
    client = {
        "base_url": f"{url}/publicapi/v1/",
        "auth": {
            "type": "oauth2_client_credentials",
            "access_token_url": f"{url}/oauth2/token",
            "client_id": client_id,
            "client_secret": client_secret,
        },
        "paginator": {
            "type": "page_number",
            "base_page": 0,
            "page_param": "PageNumber",
            "total_path": None,
            "stop_after_empty_page": True,
        },
    }
    pipeline.run(rest_api_source({"client": client, "resources": [resource(way, tenant, location)]}))
    staging = Path(file).with_name(f"{Path(file).stem}__main_staging.db")
    if way == "tuned" and staging.exists():
        with closing(sqlite3.connect(staging)) as connection:
            connection.execute("create index if not exists client_key on client (entity_id)")


def resource(way: str, tenant: str, location: str) -> dict:
    """Return the feed of clients as a resource of dlt."""
    start = (datetime.now(UTC) - timedelta(days=6)).isoformat()
    incremental = {"start_param": "StartDate", "cursor_path": "DateUpdated", "initial_value": start}
    clients = {
        "name": "Client",
        "primary_key": "EntityId",
        "write_disposition": "merge",
        "endpoint": {
            "path": "cdc/entity/Client/changes",
            "data_selector": "data[*].Client_T",
            "params": {"TenantId": tenant, "LocationId": location, "ItemsPerPage": PAGE},
            "incremental": incremental,
        },
    }
    if way == "tuned":
        incremental["lag"] = LAG
        clients["processing_steps"] = [{"map": lambda row: {**row, "_is_deleted": row["ObjectStateEnum"] == DELETED}}]
        clients["columns"] = {
            "_is_deleted": {"data_type": "bool", "hard_delete": True},
            "DateUpdated": {"dedup_sort": "desc"},
            "Tags": {"data_type": "json"},
            "ContactPreferences": {"data_type": "json"},
        }
    return clients


def destination(way: str, file: str) -> object:
    """Return SQLite, behind dlt's destination."""
    import dlt

    if way == "begin":
        return dlt.destinations.sqlalchemy(f"sqlite:///{file}")
    import sqlalchemy

    engine = sqlalchemy.create_engine(f"sqlite:///{file}")

    @sqlalchemy.event.listens_for(engine, "connect")
    def connected(connection: object, _: object) -> None:
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = normal")

    return dlt.destinations.sqlalchemy(engine)


if __name__ == "__main__":
    main(*sys.argv[1:])
