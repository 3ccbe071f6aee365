"""Pauses that the service has asked for, and whether they are kept by the calls of later runs.

Invariants:

- Only a run that could note a pause is held to have noted it: it ended by itself, its disk was sound and its clock right.
- A run whose own clock is wrong is not measured: it cannot know that the time is not over.
"""

from collections.abc import Sequence

from delta_mirror.simulator import SECOND, Call
from torture.plan import CLOCK, DISK, SIGNALS, Step

PUBLIC = ("changes", "latest", "enums")


class Pauses:
    """What of each location must not be called yet, by the clock of the world."""

    def __init__(self) -> None:
        self._until: dict[int | None, int] = {}

    def check(self, step: Step, calls: Sequence[Call]) -> None:
        """Pass if none of the public *calls* of *step* came within a pause of an earlier one."""
        if _names(step) & set(CLOCK):
            return
        for call in calls:
            assert call.at >= self._until.get(call.location, 0), f"location {call.location} was called within a pause"

    def learn(self, step: Step, calls: Sequence[Call], code: int | None) -> None:
        """Note the pauses that *step* was asked for, if it could note them itself."""
        if code != 3 or _names(step) & {*CLOCK, *DISK, *SIGNALS, "file moved away", "new file grown"}:
            return
        for trouble in step.troubles:
            for call in calls if trouble.name.endswith("Retry-After") else ():
                if call.status == int(trouble.name[:3]):
                    until = call.at + int(trouble.value) * SECOND
                    self._until[call.location] = max(until, self._until.get(call.location, 0))

    def forget(self) -> None:
        """From now on another mirror grows, which knows of none."""
        self._until.clear()


def _names(step: Step) -> set[str]:
    return {each.name for each in step.troubles}
