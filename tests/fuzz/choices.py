"""Octets read as choices: the same octets make the same input, whoever has made them up.

Invariants:

- Octets that have run out count as zeros, and zero chooses what is plainest: less octets make a smaller input, never a failure.
- One octet decides one thing, as far as that goes, so that a small change of the octets is a small change of the input.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

Chosen = TypeVar("Chosen")


class Choices:
    """Makes choices by the octets that it is given."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self._at = 0

    @property
    def is_spent(self) -> bool:
        """Whether the octets have run out."""
        return self._at >= len(self._octets)

    def octets(self, count: int) -> bytes:
        """Return so many octets as they stand there, fewer where they run out."""
        taken = self._octets[self._at : self._at + count]
        self._at += count
        return taken

    def below(self, bound: int) -> int:
        """Return a number from 0 to *bound*, which is left out."""
        if bound <= 1:
            return 0
        return int.from_bytes(self.octets(((bound - 1).bit_length() + 7) // 8)) % bound

    def one_in(self, chance: int) -> bool:
        """Return something that is true once in *chance* times, and never once the octets have run out."""
        return self.below(256) * chance >= 256 * (chance - 1) if chance > 1 else True

    def among(self, known: Sequence[Chosen]) -> Chosen:
        """Return one of *known*, the first where nothing else is chosen."""
        return known[self.below(len(known))]

    def some(self, make: Callable[[], Chosen], most: int) -> list[Chosen]:
        """Return from none to *most* of what *make* makes."""
        return [make() for _ in range(self.below(most + 1))]
