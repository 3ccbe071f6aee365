"""Which of the configured streams, and which record, a command means."""

from dataclasses import dataclass

from delta_mirror.core.model import Stream
from delta_mirror.core.values import is_guid
from delta_mirror.errors import RefusedError


@dataclass(frozen=True, slots=True)
class Selection:
    """What an operator has selected; an empty tuple means all."""

    tenants: tuple[int, ...] = ()
    locations: tuple[int, ...] = ()
    entities: tuple[str, ...] = ()

    @property
    def is_everything(self) -> bool:
        """Whether nothing was selected, and so everything is meant."""
        return not (self.tenants or self.locations or self.entities)

    def takes(self, stream: Stream) -> bool:
        """Return whether *stream* is selected."""
        return (
            (not self.tenants or stream.tenant_id in self.tenants)
            and (not self.locations or stream.location_id in self.locations)
            and (not self.entities or stream.entity in self.entities)
        )


def checked_id(id_: str) -> str:
    """Return the id of a record, as it was typed, as the mirror writes ids.

    Raises:
        RefusedError: it would not be an id in an address.
    """
    if not id_.strip() or id_ in (".", "..") or not id_.isprintable():
        raise RefusedError("an ID is empty, or holds what no id holds; give ids as they stand in the column _id")
    return stored_id(id_)


def stored_id(id_: str) -> str:
    """Return the id of a record, as it was typed, as the mirror writes ids. The mirror may hold ids that are none in an address.

    Raises:
        RefusedError: no text in the mirror is like that.
    """
    if not id_.strip() or any("\ud800" <= character <= "\udfff" for character in id_):
        raise RefusedError("an ID is empty, or no text in UTF-8; give ids as they stand in the column _id")
    return id_.lower() if is_guid(id_) else id_
