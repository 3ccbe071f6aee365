"""What messages give that each say something about one thing, whatever the order in which they arrive.

A thing is, say, one address of one client. Each message says what some of its columns hold at one moment, or that it is gone
at one moment. Its state is what the messages give when they are applied in the order of those moments.

No message has to be applied a second time for that, and none has to be at hand any more: of each column it is enough to know
which message has set it last, and of the thing which message has emptied it last. A message that arrives late sets the
columns that no later one has set, unless a later one has emptied the thing.

Invariants:

- `Held.take` may be given messages in any order, and any of them again: what is then held is the same.
- An order key is a text; keys compare as the messages' moments do, and no two different messages have the same one.
- A column that was set to NULL is remembered as set: an older message does not fill it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from delta_mirror.core.model import Row, Value

_UPTO_DIGEST = 40  # digits of time, rank and number in an order key

Content = Value | list[Row]  # a column, or the rows of a table below this one


class Place(NamedTuple):
    """What a message speaks of: a section of a client, or one item of a section (`item_id` is empty where there is one only)."""

    client_id: str
    section: str
    item_id: str


class Statement(NamedTuple):
    """What a message says of its place: that it is gone, or what some of its columns hold (None: nothing)."""

    order: str
    removes: bool
    values: Mapping[str, Content | None]


def order_key(ticks: int, rank: int, number: int | None, digest: str) -> str:
    """Return the key by which messages are put in order: by time, rank, number (those without one first) and digest."""
    return f"{ticks:019}{rank}{0 if number is None else number + 1:020}{digest}"


def without_digest(order: str) -> str:
    """Return *order* without what its digest says of its message: as the last one of the same moment, rank and number.

    So whichever of those is taken anew, nothing is changed by it.
    """
    return order and order[:_UPTO_DIGEST] + "f" * (len(order) - _UPTO_DIGEST)


def ticks_of(order: str) -> int:
    """Return the time that an order key begins with."""
    return int(order[:19])


@dataclass(slots=True)
class Held:
    """What is held of one place.

    `newest` and `emptied` are the order keys of the latest message and of the latest one that emptied it, "" without one.
    `setters` has of each column that was ever set since the key of the message that set it last. `values` has what is not NULL.
    """

    newest: str = ""
    emptied: str = ""
    setters: dict[str, str] = field(default_factory=dict)
    values: dict[str, Content] = field(default_factory=dict)

    @property
    def is_there(self) -> bool:
        """Whether the thing exists: the latest message has not emptied it."""
        return self.newest > self.emptied

    def take(self, said: Statement) -> bool:
        """Put *said* in its place; return whether that has changed anything, be it only who has set what."""
        order = said.order
        if order <= self.emptied or order == self.newest:
            return False
        changed = order > self.newest
        if changed:
            self.newest = order
        if said.removes:
            self.emptied = order
            for column in [column for column, setter in self.setters.items() if setter < order]:
                del self.setters[column]
                self.values.pop(column, None)
            return True
        for column, value in said.values.items():
            if order > self.setters.get(column, ""):
                self.setters[column] = order
                changed = True
                if value is None or value == []:
                    self.values.pop(column, None)
                else:
                    self.values[column] = value
        return changed
