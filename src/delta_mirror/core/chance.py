"""What chance may have brought about: a feed that shuffles equals, or everything, anew at every call shows by lot what it shows.

Invariants:

- What is believed because chance would hardly have it so is wrong less than once in a hundred thousand times.
- The odds are those of the worst feed: one in which every entry may stand at every place, drawn anew for every page.
"""

from math import comb, log, perm

DOUBT = log(100_000)  # how unlikely, as a logarithm, what is ruled out has to be


def may_hide(missing: int, among: int, passes: int) -> bool:
    """Return whether chance may have hidden so many entries, of so many in a list, in each of so many passes over it.

    It hides one from all pages of a pass with odds of 1/e at most, and several with the product of theirs at most. Which ones it
    would be is not known.
    """
    return passes * missing - log(comb(among, missing)) < DOUBT


def may_repeat(entries: int, times: int, *, in_order: bool) -> bool:
    """Return whether chance may have put the same entries on another page so many times, in the same order or in any.

    Two pages of so many entries have places for twice as many.
    """
    ways = perm(2 * entries, entries) if in_order else comb(2 * entries, entries)
    return times * log(ways) < DOUBT
