"""A mask: what it says, what a mirror holds under it, and what must be found nowhere.

Invariants:

- Nothing of the program is used: what a hash is, is written down here a second time.
- What is masked has words that nobody else has: the way a telephone number is written, family names that are given here.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from oracle import Row, Value
from torture.people import files_of_the_program

MASK_KEY = "3b" * 32
MASK: Mapping[str, Mapping[str, str]] = {
    "Client": {"LastName": "hash", "LoyaltyPoints": "hash", "AccountBalance": "hash", "Address1": "drop"},
    "ClientPhone": {"PhoneNumber": "hash", "FullPhoneNumber": "drop"},
    "Sale": {"Total": "hash"},
    "NexusClient": {"LastName": "hash"},
    "NexusContact": {"Contact": "hash"},
}
FAMILY = "Veiled"  # what the family names of this salon begin with, where there is a mask
WORDS = (b"+1 (", FAMILY.encode(), b"Family", b"555-00")


def configuration() -> str:
    """Return the mask as a section of the configuration."""
    tables = (f"{table} = {{ {_pairs(columns)} }}" for table, columns in MASK.items())
    return "\n".join(["", "[mirror.mask]", *tables, ""])


def _pairs(columns: Mapping[str, str]) -> str:
    return ", ".join(f"{name} = {json.dumps(action)}" for name, action in columns.items())


def veiled_row(table: str, row: Row) -> Row:
    """Return what is held of *row* of *table*."""
    acts = MASK.get(table, {})
    return {name: veiled(value) if acts.get(name) == "hash" else value for name, value in row.items() if acts.get(name) != "drop"}


def veiled(value: Value) -> Value:
    """Return the hash that is held instead of *value*; the empty text stays as it is."""
    if value == "":
        return value
    kind, text = ("s", value) if isinstance(value, str) else ("f" if value % 1 else "i", repr(value if value % 1 else int(value)))
    parts = b"".join(f"{each}{len(body.encode())}:{body}".encode() for each, body in (("s", "mask"), (kind, text)))
    return hmac.new(MASK_KEY.encode(), parts, hashlib.sha256).hexdigest()


def check_nothing_is_clear(folder: Path, others: Sequence[Path] = ()) -> None:
    """Pass if no file that the program has made in *folder*, nor any of *others*, has what the mask takes away."""
    for path in (*files_of_the_program(folder), *others):
        body = path.read_bytes()
        left = [word for word in WORDS if word in body]
        assert not left, f"{path.name} has {left[0]!r}, which is masked"
