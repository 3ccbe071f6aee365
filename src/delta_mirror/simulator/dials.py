"""What the service's documents leave open, one dial per question; the defaults are the well-behaved service.

Invariants:

- Every combination of dials is a service that could exist (docs/service.md, "Open questions").
- A dial changes how the world is shown, never the world.
"""

from dataclasses import dataclass
from typing import Literal

from delta_mirror.simulator.clock import DAY, MINUTE

LAG = 5 * MINUTE  # "until about 5 minutes ago"; off by default
LARGEST_PAGE = 200  # rows; what the service documents as its maximum
STANDARD_ENTITIES = ("Client", "Employee", "Appointment", "Sale")

Order = Literal["ascending", "ascending_ties_random", "ascending_but_one", "descending", "by_id", "random_stable", "random"]


@dataclass(frozen=True, slots=True)
class Dials:
    """How the simulated service behaves.

    Attributes:
        start_inclusive: a change dated exactly StartDate is listed.
        start_precision: what StartDate is rounded to before it is compared.
        start_rounding: the way in which it is rounded.
        start_offset_ignored: only StartDate's wall clock is read, as if it were written at `written_offset`.
        written_offset: the offset at which the service writes its dates: `+00:00`, `-04:00`, `Z`.
        order: the order of a listing. `random` and the ties of `ascending_ties_random` are drawn anew at each call.
        stray: the id that `ascending_but_one` lists last; where it is empty, the service picks one that stays the same.
        page_base: 1 means that page 0 is page 1 once more.
        past_end: what a page after the last one answers.
        max_page_size: the ItemsPerPage that the service grants at most.
        short_pages: a page that is not the last may lack rows at its end, which open the next page.
        per_change: every change is listed with the record as it was then, not every record once.
        lag: ticks for which a change stays hidden after it was made.
        late_share: the share of changes that stay hidden `late_by` longer.
        late_by: ticks.
        envelope: the case of the envelope's keys.
        snapshot_data: wraps each entry as `SnapshotData`, a string that holds JSON or the object itself.
        last_change: the envelope names the last change of its page.
        numbers_as_strings: all numbers come in quotes.
        row_version: how an `EntityVersion` is written.
        empty_children: what a child table without rows is.
        omitted: child tables, by their names in the feed, that the partner is not entitled to.
        date_header: answers have a Date, by the clock of the world.
        too_old: what a StartDate before the reach of the feed does.
        reach: ticks that the feed reaches back.
        gzip: answers are compressed for those who accept it.
        suffixed_url: `publicApiUrl` ends in `/publicapi`.
        enabled: the entities that the partner may ask for.
        seed: what "random" is drawn from.
    """

    start_inclusive: bool = False
    start_precision: Literal["100ns", "ms", "1/300s", "1s"] = "100ns"
    start_rounding: Literal["down", "nearest"] = "down"
    start_offset_ignored: bool = False
    written_offset: str = "+00:00"
    order: Order = "ascending"
    stray: str = ""
    page_base: Literal[0, 1] = 0
    past_end: Literal["empty", "404"] = "empty"
    max_page_size: int = LARGEST_PAGE
    short_pages: bool = False
    per_change: bool = False
    lag: int = 0
    late_share: float = 0.0
    late_by: int = 0
    envelope: Literal["camel", "pascal"] = "camel"
    snapshot_data: Literal["string", "object"] | None = None
    last_change: bool = True
    numbers_as_strings: bool = False
    row_version: Literal["hex", "base64", "number"] = "hex"
    empty_children: Literal["left_out", "array"] = "left_out"
    omitted: frozenset[str] = frozenset()
    date_header: bool = True
    too_old: Literal["clamp", "400"] = "clamp"
    reach: int = 7 * DAY
    gzip: bool = True
    suffixed_url: bool = False
    enabled: tuple[str, ...] = STANDARD_ENTITIES
    seed: int = 1
