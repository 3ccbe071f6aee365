"""Which of the configured streams a command means."""

from dataclasses import dataclass

from delta_mirror.core.model import Stream


@dataclass(frozen=True, slots=True)
class Selection:
    """What an operator has selected; an empty tuple means all."""

    tenants: tuple[int, ...] = ()
    locations: tuple[int, ...] = ()
    entities: tuple[str, ...] = ()

    def takes(self, stream: Stream) -> bool:
        """Return whether *stream* is selected."""
        return (
            (not self.tenants or stream.tenant_id in self.tenants)
            and (not self.locations or stream.location_id in self.locations)
            and (not self.entities or stream.entity in self.entities)
        )
