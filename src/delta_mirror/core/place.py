"""What of a drain outlives its process, as JSON can hold it; times are ticks.

Keys that came later may be missing in what an older release has left.
"""

from typing import Literal, NotRequired, TypedDict

Mode = Literal["following", "sweeping", "counting", "done"]


class Place(TypedDict):
    """Where an unfinished drain stands.

    A list that is being swept is begun anew at its first page: what a pass has shown lives in memory. `listed` is how many
    entries dated before `counted_to` were met.
    """

    mode: Mode
    start: int
    first_call: int | None
    anchor: int
    step: int
    last: int | None
    reached: tuple[int, str] | None
    counted_to: int
    listed: int
    full: int
    uneven: bool
    offset: str | None
    anchored: bool
    old_versions: bool
    passes: int
    page: int
    pages: int
    from_one: NotRequired[bool | None]


class Debt(TypedDict):
    """Lists that are to be counted again, one a run in turn: their StartDates, and for how many more runs.

    Two starts find what one would not: the oldest covers all that was passed by as a record not held before; a record that was
    held in an older version is only missed in a count that begins after that version. A list just counted goes last, and a drain
    that brought nothing new puts no start in the place of another: two quiet runs count both. `full` is the size of a full page.
    """

    starts: list[int]
    full: int
    runs: int


class Habits(TypedDict):
    """What one drain has learnt of its service and the next can use: each only spares calls where it is still true.

    `offset` is the one in which change dates are written, `step` how far before a change to anchor (as a place in
    STEPS_BACK), `full` the size of a full page, `from_one` whether pages are counted from 1: of a page so small that chance may
    have repeated it, only this tells.
    """

    offset: str | None
    step: int
    full: int
    from_one: NotRequired[bool | None]


NO_HABITS = Habits(offset=None, step=0, full=0)
