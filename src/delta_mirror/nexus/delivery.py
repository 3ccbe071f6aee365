"""A message as it is handed over, and what becomes of it.

Invariants:

- `body` is what came, to the letter. Nothing here has looked into it.
"""

from typing import Literal, NamedTuple

Outcome = Literal["applied", "superseded", "quarantined", "repeated", "erased"]


class Delivery(NamedTuple):
    """One message: its body, and what the broker says of it, where it came from one."""

    body: bytes
    message_id: str | None = None
    sequence: int | None = None
