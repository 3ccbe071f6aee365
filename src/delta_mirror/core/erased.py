"""Who was erased, as far as that can be known without knowing who it was: hashes under a key, and questions to them.

Invariants:

- A mark says nothing of whom it marks: it is a hash of tenant, entity and id under the operator's key.
- A person is marked for a tenant, at all of its locations.
- What bears no id that can be read may name one all the same: then its words are asked for, whole ones and no parts of words.
  Of what `[mirror.mask]` has changed these are the words that were sent; once it is kept, the hash of an id names him, too.
"""

import json
import re
from collections.abc import Collection

from delta_mirror.core.keyed import Keyed
from delta_mirror.core.model import Value
from delta_mirror.core.values import is_guid

_LONGEST = 512  # characters; no id is longer, and a picture is one word of a million
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_NUMBER = re.compile(r"-?[0-9]{1,18}")
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
        return self.is_among(tenant_id, entity, words_of(body))

    def is_among(self, tenant_id: int, entity: str, words: Collection[str]) -> bool:
        """Return whether any of *words* is the id of a person who was erased."""
        return any(self.find(tenant_id, entity, word) for word in words)


def hashes_of(keyed: Keyed, id_: str) -> set[str]:
    """Return what `[mirror.mask]` may have put in the place of an id, in the forms in which one is sent."""
    forms: list[Value] = [id_, id_.lower(), id_.upper()]
    if _NUMBER.fullmatch(id_):
        forms.append(int(id_))
    return {keyed.digest("mask", form) for form in forms}


def words_of(body: str) -> set[str]:
    """Return everything in *body* that may be an id, whether or not it is JSON that can be read."""
    words = {found for found in _BARE.findall(body) if len(found) <= _LONGEST}
    return words | {_unescaped(found) for found in _QUOTED.findall(body) if len(found) <= _LONGEST}


def _unescaped(quoted: str) -> str:
    try:
        return str(json.loads(f'"{quoted}"'))
    except ValueError:
        return quoted
