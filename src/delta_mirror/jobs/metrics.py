"""What a monitor is told of a mirror after each run: how fresh every stream is, how the last runs went, what is left of the day.

Invariants:

- Only configured streams: an alarm for one that nobody follows any more would never end.
- Times are given as such and not as ages: an age grows while nobody writes the file, and that is what an alarm is for.
- Names of metrics and labels are a contract with dashboards (docs/operating.md, "Metrics"): they may grow, and do not change.
"""

from collections.abc import Iterator, Mapping, Sequence

from delta_mirror import __version__
from delta_mirror.config import Config
from delta_mirror.core.model import Stream
from delta_mirror.core.values import EPOCH, SECOND, read_ticks
from delta_mirror.jobs.outcome import WENT_WELL
from delta_mirror.jobs.status import Status, read_status
from delta_mirror.mirror.accela_tally import AccelaTally, read_accela_tally
from delta_mirror.mirror.read import NexusTally, Reader, Run
from delta_mirror.ops.prometheus import Metric, Sample

STATES = ("new", "following", "failing", "gap")


def collect_metrics(config: Config, now: float) -> list[Metric]:
    """Return all metrics of the mirror as it stands.

    Raises:
        MirrorFileError: there is none, or it cannot be read.
    """
    with Reader.open(config.mirror.path) as reader:
        runs = reader.last_runs()
        quarantine = reader.quarantine_count()
        nexus = [*_of_nexus(reader.nexus_tally(), reader.has_dead_letters())]
        accela = [*_of_accela(read_accela_tally(reader))]
    metrics = [
        Metric("info", "1; the version of the program is a label", [Sample({"version": __version__}, 1)]),
        Metric("quarantine", "things that could not be applied", [Sample({}, quarantine)]),
        *_of_runs(runs),
    ]
    if config.dds is not None:
        status = read_status(config, now)
        metrics += _of_streams(status)
        metrics += _of_locations(status)
    return [*metrics, *nexus, *accela]


def _of_runs(runs: Sequence[Run]) -> Iterator[Metric]:
    labelled = [(run, {"command": run.command}) for run in runs]
    begun = [(labels, _epoch(run.started_at)) for run, labels in labelled]
    ended = [(labels, _epoch(run.ended_at)) for run, labels in labelled]
    yield Metric("last_run_start_time_seconds", "when the last run of a command began", _where_known(begun))
    yield Metric("last_run_end_time_seconds", "when it ended; not there of one that was killed", _where_known(ended))
    yield Metric(
        "last_run_success",
        "1 if all was done, or all but what the maintenance window explains, else 0",
        [Sample(labels, run.outcome in WENT_WELL) for run, labels in labelled],
    )
    yield Metric(
        "last_run_outcome",
        "1; the outcome is a label, as in _runs",
        [Sample({**labels, "outcome": run.outcome or "killed"}, 1) for run, labels in labelled],
    )
    yield Metric("last_run_calls", "its calls to the public API", [Sample(labels, run.calls) for run, labels in labelled])
    yield Metric("last_run_pages", "pages that it read", [Sample(labels, run.pages) for run, labels in labelled])
    yield Metric(
        "last_run_records",
        "what became of the records that it met",
        [Sample({**labels, "what": what}, number) for run, labels in labelled for what, number in run.counts.as_dict().items()],
    )


def _of_streams(status: Status) -> Iterator[Metric]:
    known = [(each.known, _labels(each.known.stream)) for each in status.streams if each.is_configured]
    yield Metric(
        "stream_caught_up_time_seconds",
        "the moment up to which a stream is known to be complete; lag is time() less this",
        _where_known([(labels, _epoch(state.caught_up_at)) for state, labels in known]),
    )
    yield Metric(
        "stream_last_success_time_seconds",
        "when a drain of the stream was last completed",
        _where_known([(labels, _epoch(state.last_success_at)) for state, labels in known]),
    )
    yield Metric("stream_records", "records that live", [Sample(labels, state.records) for state, labels in known])
    yield Metric(
        "stream_state",
        "1 for the state that the stream is in, 0 for the others",
        [Sample({**labels, "state": name}, state.state == name) for state, labels in known for name in STATES],
    )
    yield Metric(
        "stream_drift",
        "records that differed when the stream was last verified, less those that were repaired",
        _where_known([(labels, state.verified_differing) for state, labels in known]),
    )
    yield Metric(
        "stream_quarantine",
        "things of the stream that could not be applied",
        [Sample(labels, status.set_aside.get(state.stream, 0)) for state, labels in known],
    )


def _of_locations(status: Status) -> Iterator[Metric]:
    places = sorted({each.known.stream[:2] for each in status.streams if each.is_configured})
    yield Metric("calls_today", "calls of this UTC day", [Sample(_place(*place), status.calls.get(place, 0)) for place in places])
    yield Metric("calls_per_day", "calls that a location may have a day; 0: any number", [Sample({}, status.calls_per_day)])
    yield Metric(
        "paused_until_time_seconds",
        "until when a location is left alone; tenant and location 0 stand for all of them",
        [Sample(_place(pause.tenant_id, pause.location_id), pause.until) for pause in status.pauses],
    )


def _of_nexus(tally: NexusTally | None, has_dead_letters: bool | None) -> Iterator[Metric]:
    outcomes = () if tally is None else ("applied", "superseded", "quarantined", "repeated")
    yield Metric(
        "nexus_messages",
        "messages taken so far, by outcome; repeated are those that came again",
        [Sample({"outcome": outcome}, getattr(tally, outcome)) for outcome in outcomes],
    )
    yield Metric("nexus_clients", "clients of Nexus that the mirror holds", [] if tally is None else [Sample({}, tally.clients)])
    yield Metric(
        "nexus_last_received_time_seconds",
        "when a message was last taken",
        _where_known([({}, _epoch(tally.last_received_at if tally else None))]),
    )
    yield Metric(
        "nexus_last_occurred_time_seconds",
        "the OccurredOn of the newest message",
        _where_known([({}, _epoch(tally.last_occurred_at if tally else None))]),
    )
    yield Metric(
        "nexus_dead_letters",
        "1 if the broker had given messages up when it was last asked, else 0",
        _where_known([({}, has_dead_letters)]),
    )


def _of_accela(tally: AccelaTally | None) -> Iterator[Metric]:
    states = {} if tally is None else {"waiting": tally.waiting, "failed": tally.failed, "partly": tally.partly}
    yield Metric("accela_links", "records that are tied to a contact", [] if tally is None else [Sample({}, tally.links)])
    yield Metric(
        "accela_pushes",
        "links that wait for a push, and whose last one failed or was taken in part",
        [Sample({"state": state}, number) for state, number in states.items()],
    )
    yield Metric(
        "accela_last_pushed_time_seconds",
        "when a record was last pushed",
        _where_known([({}, _epoch(tally.last_pushed_at if tally else None))]),
    )


def _where_known(samples: Sequence[tuple[Mapping[str, str], int | None]]) -> list[Sample]:
    return [Sample(labels, value) for labels, value in samples if value is not None]


def _labels(stream: Stream) -> dict[str, str]:
    return {**_place(stream.tenant_id, stream.location_id), "entity": stream.entity}


def _place(tenant_id: int, location_id: int) -> dict[str, str]:
    return {"tenant": str(tenant_id), "location": str(location_id)}


def _epoch(text: str | None) -> int | None:
    ticks = read_ticks(text) if text else None
    return None if ticks is None else (ticks - EPOCH) // SECOND
