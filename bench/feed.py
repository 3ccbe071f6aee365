"""A feed of any length that takes no room: each page is computed when it is asked for.

Record number i is dated i steps after the first one, so that where a StartDate leads to is a division. Told `change N` on
standard input, the first N records change now: they leave their places and stand at the end. The first line of standard output
is the address; it ends with its standard input.

    python bench/feed.py RECORDS
"""

import hashlib
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import orjson

from delta_mirror.core.values import DAY, EPOCH, SECOND, read_ticks, write_ticks

TENANT, LOCATION = 11, 9


class Feed:
    """What the feed lists: *records* of them, over the four days that end a day ago."""

    def __init__(self, records: int) -> None:
        self.records = records
        self._first = EPOCH + round(time.time()) * SECOND - 5 * DAY
        self._step = 4 * DAY // records
        self._changed, self._changed_at = 0, 0

    def change(self, number: int) -> None:
        """Let the first *number* records change now."""
        self._changed, self._changed_at = number, EPOCH + round(time.time() * SECOND)

    def page(self, start: str, number: int, size: int) -> bytes:
        """Return page *number* of what is dated at *start* or later."""
        begin = self._place(read_ticks(start) or 0) + number * size
        entries = [self._entry(place) for place in range(begin, min(begin + size, self.records))]
        members: dict[str, object] = {"pageNumber": number, "itemsPerPage": size, "tenantId": TENANT, "locationId": LOCATION}
        if entries:
            members["lastChangeDateIncludedInPage"] = entries[-1]["Client_T"]["DateUpdated"]
        return orjson.dumps({**members, "referenceId": "bench", "data": entries})

    def _place(self, start: int) -> int:
        """Return at which place of the list the first entry stands that is dated at *start* or later."""
        kept = self.records - self._changed
        if self._changed and start > self._first + self.records * self._step:
            return kept + min(self._changed, max(0, start - self._changed_at))
        number = max(0, -(-(start - self._first) // self._step))
        return min(kept, max(0, number - self._changed))

    def _entry(self, place: int) -> dict[str, dict[str, object]]:
        kept = self.records - self._changed
        number = place + self._changed if place < kept else place - kept
        date = self._first + number * self._step if place < kept else self._changed_at + number
        digits = hashlib.md5(number.to_bytes(8), usedforsecurity=False).hexdigest()
        key = f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
        client: dict[str, object] = {
            "TenantId": TENANT,
            "EntityId": key,
            "HomeLocationId": LOCATION,
            "EntityVersion": f"{date - EPOCH:016X}",
            "DateCreated": write_ticks(self._first + number * self._step),
            "DateUpdated": write_ticks(date),
            "FirstName": f"First{number % 997}",
            "LastName": f"Invented-{number % 7919}",
            "EmailAddress": f"client.{number}@{'example' if place < kept else 'moved.example'}.com",
            "LoyaltyPoints": number % 500,
            "AccountBalance": number % 10_000 / 100,
            "ObjectStateEnum": 2026,
            "ClientPhone_T": [
                {"Client_TId": key, "CountryCode": "1", "PhoneNumber": f"555{number % 10**7:07}", "IsDefault": True}
            ],
        }
        return {"Client_T": client}


class Conversation(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    feed: Feed

    def do_POST(self) -> None:
        """Give a token."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer({"access_token": "bench", "token_type": "Bearer", "expires_in": 3600})

    def do_GET(self) -> None:
        """Give a page, or what else a run asks for."""
        url = urlsplit(self.path)
        asked = {name.lower(): values[0] for name, values in parse_qs(url.query).items()}
        if url.path.endswith("/apps/tenant"):
            address = "http://{}:{}".format(*self.server.server_address[:2])
            self._answer([{"tenantId": TENANT, "publicApiUrl": address, "locations": [{"locationId": LOCATION}]}])
        elif url.path.endswith("/changes"):
            self._answer(self.feed.page(asked["startdate"], int(asked["pagenumber"]), int(asked["itemsperpage"])))
        else:
            self._answer({"ObjectState": {"2026": "Active"}})

    def _answer(self, body: object) -> None:
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the class above names it
        """Say nothing."""


def main(records: str) -> None:
    """Serve until standard input ends."""
    Conversation.feed = Feed(int(records))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Conversation)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print("http://{}:{}".format(*server.server_address[:2]), flush=True)
    for line in sys.stdin:
        Conversation.feed.change(int(line.split()[1]))
        print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
