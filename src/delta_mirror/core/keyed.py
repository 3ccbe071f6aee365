"""Hashes under a key: what only its holder can find again from what he knows, and nobody from the hash.

A plain hash of an e-mail address or of an id is no secret: whoever has a list of candidates hashes them all and compares. Under a
key (HMAC-SHA256) nobody without it can.

Invariants:

- What is hashed says what it is for, so that a hash of one purpose is never one of another.
- Two lists of parts have one encoding only if they are the same list: each part bears its kind and its length.
- Values that are equal in the mirror have one hash: 12 and 12.0 are equal, "12" is neither.
- The key stands in no `repr` and leaves the object in no other way.
"""

import hmac
from typing import Literal

from delta_mirror.core.model import Value

Purpose = Literal["check", "erased", "mask"]
LENGTH = 64  # characters of a hash, lower-case hex digits


class Keyed:
    """A key, and the hashes that it makes. It shows itself to nobody."""

    __slots__ = ("_key",)

    def __init__(self, key: str) -> None:
        self._key = key.encode(errors="surrogatepass")

    def __repr__(self) -> str:
        return "***"

    def digest(self, purpose: Purpose, *parts: Value | None) -> str:
        """Return the hash of *parts* for *purpose*."""
        return hmac.digest(self._key, b"".join([_encoded(purpose), *map(_encoded, parts)]), "sha256").hex()

    def check(self) -> str:
        """Return what tells this key from another one, and nothing of the key."""
        return self.digest("check")


def _encoded(part: Value | None) -> bytes:
    """Return *part* as bytes that say of which kind and how long it is, so that parts in a row cannot run into each other."""
    kind, text = "n", ""
    if isinstance(part, str):
        kind, text = "s", part
    elif isinstance(part, float):
        kind, text = ("i", str(int(part))) if part.is_integer() else ("f", repr(part))
    elif part is not None:
        kind, text = "i", str(int(part))
    body = text.encode(errors="surrogatepass")
    return b"%s%d:%s" % (kind.encode(), len(body), body)
