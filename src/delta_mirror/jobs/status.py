"""`sync status`: what the mirror knows of every stream, and how fresh it is. Changes nothing, and needs no network.

Invariants:

- All of it is one state of the mirror, also while a run writes, and nothing is counted record by record, links apart.
- Lag is now minus the moment at which the last completed drain began; a quiet stream is as fresh as one that changes.
- Configured streams that the mirror has never met are `new`; streams that are no longer configured are shown as such, and
  count for nothing.
- Without a mirror file there is nothing to report, and none is made.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from delta_mirror.config import Config, DdsSection
from delta_mirror.core.model import Stream
from delta_mirror.core.names import fold
from delta_mirror.core.values import EPOCH, SECOND, read_ticks
from delta_mirror.dds.tables import FEED_CHILDREN
from delta_mirror.jobs.selection import Selection
from delta_mirror.mirror.accela_tally import AccelaTally, read_accela_tally
from delta_mirror.mirror.erased_tally import ErasedTally, read_erased_tally
from delta_mirror.mirror.file import own_time
from delta_mirror.mirror.lock import last_holder
from delta_mirror.mirror.mask_state import MaskState, read_mask_state
from delta_mirror.mirror.read import ACCOUNT, NexusTally, Pause, Reader, Run, StreamState


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """One stream: what the mirror knows of it, how far it lags in seconds, whether it is configured."""

    known: StreamState
    lag_seconds: int | None
    is_configured: bool


@dataclass(frozen=True, slots=True)
class Status:
    """The whole mirror, or what was selected of it.

    `calls` has those of the running UTC day by location (tenant and location), `calls_per_day` how many there may be, 0 any
    number. `quarantine` counts all that is set aside, `set_aside` that of each stream. `starter_tables` are the child tables
    that came by starter alone, by tenant and entity: no delta keeps them up to date. `holder` is the process that last wrote, and
    whether it lives, as far as that is known. `nexus` is None where no message ever came, `accela` where nothing is tied to a
    contact, `erased` where nobody was erased. `mask` is what is left to be done for the mask of the configuration.
    """

    mirror: str
    exists: bool
    calls_per_day: int
    streams: Sequence[StreamStatus] = ()
    calls: Mapping[tuple[int, int], int] = field(default_factory=dict)
    pauses: Sequence[Pause] = ()
    quarantine: int = 0
    set_aside: Mapping[Stream, int] = field(default_factory=dict)
    starter_tables: Mapping[tuple[int, str], Sequence[str]] = field(default_factory=dict)
    last_run: Run | None = None
    holder: tuple[int, bool] | None = None
    nexus: NexusTally | None = None
    accela: AccelaTally | None = None
    erased: ErasedTally | None = None
    mask: MaskState = field(default_factory=MaskState)

    def exceeding(self, max_age: int) -> list[StreamStatus]:
        """Return the configured streams that lag more than *max_age* seconds, and those that were never drained to their end."""
        return [each for each in self.streams if each.is_configured and (each.lag_seconds is None or each.lag_seconds > max_age)]


def read_status(config: Config, now: float, selection: Selection | None = None) -> Status:
    """Return the state of the mirror at *now*, our own clock in seconds since the epoch.

    Raises:
        RefusedError: the configuration names nothing to report of, or the mirror cannot be read.
    """
    path = config.mirror.path
    dds = config.dds
    if dds is None and config.nexus is None and not path.exists():
        dds = config.require_dds()
    selected = selection or Selection()
    calls_per_day = dds.calls_per_day if dds else 0
    configured = {stream for stream in _configured(dds) if selected.takes(stream)}
    if not path.exists():
        streams = [StreamStatus(StreamState(stream), None, is_configured=True) for stream in sorted(configured)]
        return Status(str(path), exists=False, calls_per_day=calls_per_day, streams=streams)
    with Reader.open(path) as reader, reader.one_state():
        known = {state.stream: state for state in reader.read_streams() if selected.takes(state.stream)}
        known.update({stream: StreamState(stream) for stream in configured if stream not in known})
        streams = [
            StreamStatus(
                state,
                _lag(state, now),
                # Without locations in the configuration all of the account are meant, and what the mirror has met is.
                is_configured=stream in configured or (dds is not None and not dds.locations and stream.entity in dds.entities),
            )
            for stream, state in sorted(known.items())
        ]
        places = {stream[:2] for stream in known}
        concerned = places | {ACCOUNT}
        set_aside = {stream: number for stream, number in reader.quarantine_by_stream().items() if selected.takes(stream)}
        return Status(
            str(path),
            exists=True,
            calls_per_day=calls_per_day,
            streams=streams,
            calls={place: calls for place, calls in reader.calls_of(own_time(now)[:10]).items() if place in places},
            pauses=[pause for pause in reader.pauses(now) if (pause.tenant_id, pause.location_id) in concerned],
            quarantine=reader.quarantine_count() if selected == Selection() else sum(set_aside.values()),
            set_aside=set_aside,
            starter_tables=_starter_tables(streams, reader.child_tables()),
            last_run=reader.last_run(),
            holder=last_holder(path),
            nexus=reader.nexus_tally(),
            accela=read_accela_tally(reader),
            erased=read_erased_tally(reader),
            mask=read_mask_state(reader, config.mirror.mask),
        )


def _configured(dds: DdsSection | None) -> list[Stream]:
    return [] if dds is None else [Stream(*place, entity) for place in dds.locations for entity in dds.entities]


def _lag(state: StreamState, now: float) -> int | None:
    caught_up = read_ticks(state.caught_up_at) if state.caught_up_at else None
    return None if caught_up is None else max(0, int(now) - (caught_up - EPOCH) // SECOND)


def _starter_tables(
    streams: Sequence[StreamStatus], tables: Sequence[tuple[str, str, int | None]]
) -> dict[tuple[int, str], list[str]]:
    """Return, of tenants and entities that stand on a starter, the child tables that no delta is known to bring."""
    brought = {(entity, fold(name), tenant_id) for entity, name, tenant_id in tables}
    found: dict[tuple[int, str], list[str]] = {}
    for tenant_id, wanted in sorted({(e.known.stream.tenant_id, e.known.stream.entity) for e in streams if e.known.baseline}):
        fed = {fold(name) for name in FEED_CHILDREN.get(wanted, ())}
        names = [
            name
            for entity, name, tenant in tables
            if (entity, tenant) == (wanted, None) and fold(name) not in fed and (entity, fold(name), tenant_id) not in brought
        ]
        if names:
            found[tenant_id, wanted] = names
    return found
