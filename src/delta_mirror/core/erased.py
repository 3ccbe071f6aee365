"""Who was erased, as far as that can be known without knowing who it was: hashes under a key, and questions to them.

Invariants:

- A mark says nothing of whom it marks: it is a hash of tenant, entity and id under the operator's key.
- A person is marked for a tenant, at all of its locations.
- What bears no id that can be read may name one all the same: then its words are asked for, whole ones and no parts of words.
"""

import json
import re
from collections.abc import Collection

from delta_mirror.core.keyed import Keyed
from delta_mirror.core.values import is_guid

_LONGEST = 512  # characters; no id is longer, and a picture is one word of a million
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_BARE = re.compile(r"[^\s\"'\\,:;=<>(){}\[\]]+")


def mark_of(keyed: Keyed, tenant_id: int, entity: str, id_: str) -> str:
    """Return the mark of one person; a GUID has one, in whatever case it is written."""
    return keyed.digest("erased", tenant_id, entity, id_.lower() if is_guid(id_) else id_)


class Erased:
    """The people who are marked, and the key of their *marks*."""

    def __init__(self, keyed: Keyed, marks: Collection[str]) -> None:
        self._keyed = keyed
        self._marks = frozenset(marks)

    def find(self, tenant_id: int, entity: str, id_: str) -> str | None:
        """Return the mark of a person who was erased, None of anybody else."""
        mark = mark_of(self._keyed, tenant_id, entity, id_)
        return mark if mark in self._marks else None

    def is_named_in(self, tenant_id: int, entity: str, body: str) -> bool:
        """Return whether *body*, in which no id could be read, names a person who was erased."""
        return any(self.find(tenant_id, entity, word) for word in words_of(body))


def words_of(body: str) -> set[str]:
    """Return everything in *body* that may be an id, whether or not it is JSON that can be read."""
    words = {found for found in _BARE.findall(body) if len(found) <= _LONGEST}
    return words | {_unescaped(found) for found in _QUOTED.findall(body) if len(found) <= _LONGEST}


def _unescaped(quoted: str) -> str:
    try:
        return str(json.loads(f'"{quoted}"'))
    except ValueError:
        return quoted
