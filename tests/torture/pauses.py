"""Pauses that the service has asked for, and whether they are kept by the calls of later runs.

Invariants:

- Only a run that could note a pause is held to have noted it: it ended by itself, its disk was sound and its clock right.
- A run whose own clock is wrong is not measured: it cannot know that the time is not over.
"""

from collections.abc import Sequence

from delta_mirror.simulator import SECOND, Call
from delta_mirror.simulator.accela import AccelaCall
from torture.plan import CLOCK, DISK, FULL, SIGNALS, Step

_UNNOTED = {*CLOCK, *DISK, FULL, *SIGNALS, "file moved away", "new file grown"}
PUBLIC = ("changes", "latest", "enums")


class Pauses:
    """What of each location must not be called yet, by the clock of the world."""

    def __init__(self) -> None:
        self._until: dict[int | None, int] = {}
        self._until_at_agency = 0

    def check(self, step: Step, calls: Sequence[Call]) -> None:
        """Pass if none of the public *calls* of *step* came within a pause of an earlier one."""
        if _names(step) & set(CLOCK):
            return
        for call in calls:
            assert call.at >= self._until.get(call.location, 0), f"location {call.location} was called within a pause"

    def learn(self, step: Step, calls: Sequence[Call], code: int | None) -> None:
        """Note the pauses that *step* was asked for, if it could note them itself."""
        if code != 3 or _names(step) & _UNNOTED:
            return
        for trouble in step.troubles:
            for call in calls if trouble.name.endswith("Retry-After") else ():
                if call.status == int(trouble.name[:3]):
                    until = call.at + int(trouble.value) * SECOND
                    self._until[call.location] = max(until, self._until.get(call.location, 0))

    def check_agency(self, step: Step, begun: int, calls: Sequence[AccelaCall]) -> None:
        """Pass if *step*, which was *begun* within a pause that Accela had asked for, has made none of *calls*."""
        assert not calls or begun >= self._until_at_agency or _names(step) & set(CLOCK), "Accela was called within a pause"

    def learn_of_agency(self, step: Step, begun: int, calls: Sequence[AccelaCall], code: int | None) -> None:
        """Note the pause that Accela has asked *step* for by a 429, and pass if nothing was asked after it in the same run."""
        refused = [place for place, call in enumerate(calls) if call.status == 429]
        asked = max((int(each.value) for each in step.troubles if each.name == "429 with Retry-After"), default=0)
        if not asked or not refused or "429" in _names(step):
            return
        assert refused[0] == len(calls) - 1, "Accela was called again after it had asked for a pause"
        if code == 3 and "--dry-run" not in step.options and not _names(step) & _UNNOTED:
            self._until_at_agency = max(self._until_at_agency, begun + asked * SECOND)

    def forget(self) -> None:
        """From now on another mirror grows, which knows of none."""
        self._until.clear()
        self._until_at_agency = 0


def _names(step: Step) -> set[str]:
    return {each.name for each in step.troubles}
