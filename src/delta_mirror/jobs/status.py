"""`sync status`: what the mirror knows of every stream, and how fresh it is. Changes nothing, and needs no network.

Invariants:

- Lag is now minus the moment at which the last completed drain began; a quiet stream is as fresh as one that changes.
- Configured streams that the mirror has never met are `new`; streams that are no longer configured are shown as such.
- Without a mirror file there is nothing to report, and none is made.
"""

from dataclasses import dataclass, field

from delta_mirror.config import Config
from delta_mirror.core.model import Stream
from delta_mirror.core.values import EPOCH, SECOND, read_ticks
from delta_mirror.mirror.read import Reader, Run, StreamState


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """One stream: what `_streams` has of it, how many records live, how far it lags in seconds, whether it is configured."""

    known: StreamState
    records: int
    lag_seconds: int | None
    is_configured: bool


@dataclass(frozen=True, slots=True)
class Status:
    """The whole mirror."""

    mirror: str
    exists: bool
    streams: list[StreamStatus] = field(default_factory=list)
    quarantine: int = 0
    last_run: Run | None = None


def read_status(config: Config, now: float) -> Status:
    """Return the state of the mirror at *now*, our own clock in seconds since the epoch."""
    dds = config.require_dds()
    path = config.mirror.path
    configured = [Stream(*place, entity) for place in dds.locations for entity in dds.entities]
    if not path.exists():
        streams = [StreamStatus(StreamState(stream), 0, None, is_configured=True) for stream in configured]
        return Status(str(path), exists=False, streams=streams)
    with Reader.open(path) as reader:
        known = {state.stream: state for state in reader.read_streams()}
        for stream in configured:
            known.setdefault(stream, StreamState(stream))
        streams = [
            StreamStatus(
                state,
                reader.count_records(stream),
                _lag(state, now),
                # Without locations in the configuration all of the account are meant, and what the mirror has met is.
                is_configured=stream in configured or (not dds.locations and stream.entity in dds.entities),
            )
            for stream, state in sorted(known.items())
        ]
        return Status(str(path), exists=True, streams=streams, quarantine=reader.quarantine_count(), last_run=reader.last_run())


def _lag(state: StreamState, now: float) -> int | None:
    caught_up = read_ticks(state.caught_up_at) if state.caught_up_at else None
    return None if caught_up is None else max(0, int(now) - (caught_up - EPOCH) // SECOND)
