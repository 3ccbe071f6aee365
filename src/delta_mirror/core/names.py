"""How names of tables and columns are compared: as SQLite does, everywhere.

Invariants:

- Two names are one if they differ in ASCII case alone; beyond ASCII each letter is itself.
"""

_ASCII_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def fold(name: str) -> str:
    """Return *name* as SQLite compares names: without regard to case in ASCII, and to the letter beyond."""
    return name.lower() if name.isascii() else name.translate(_ASCII_LOWER)
