"""Taking Nexus messages into the mirror, a batch in each transaction."""

from collections.abc import Sequence

from delta_mirror.mirror.write import Mirror
from delta_mirror.nexus.delivery import Delivery, Outcome


class Intake:
    """Takes deliveries into *mirror*; *source* is what quarantine says of where a thing came from.

    `durable` makes every commit survive a power failure (`synchronous = full`).
    """

    def __init__(self, mirror: Mirror, run_id: int, *, source: str, durable: bool = False) -> None:
        raise NotImplementedError

    def take(self, deliveries: Sequence[Delivery]) -> list[Outcome]:
        """Return what became of *deliveries*, in their order; all of them are committed by then, or none and it raises."""
        raise NotImplementedError
