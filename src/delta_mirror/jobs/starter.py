"""A Starter Export as the jobs read it: where it lies, which run of each location is meant, and its files into a staging.

Invariants:

- Only what is configured and selected is read; what was passed over is said.
- A file that is refused leaves its whole entity out, before the mirror is touched.
- What a mask takes away is gone from the rows before they are laid out.
- What is worked on lies in a private folder that is empty before and gone afterwards.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from delta_mirror.config import Config
from delta_mirror.core.erased import Erased
from delta_mirror.core.mask import Mask
from delta_mirror.core.model import Stream
from delta_mirror.core.values import EPOCH, SECOND
from delta_mirror.dds.export import Batch, GivenColumn, read_table
from delta_mirror.dds.export_folder import FolderSource
from delta_mirror.dds.export_runs import ExportFile, ExportRun, choose_runs
from delta_mirror.dds.export_source import Source, open_source
from delta_mirror.dds.export_tables import TableFacts, facts_of
from delta_mirror.dds.sftp_address import is_address, read_address
from delta_mirror.dds.tables import CHANGED, DELETE_MARKS, KEY
from delta_mirror.errors import ExportError, RefusedError
from delta_mirror.jobs.selection import Selection
from delta_mirror.jobs.session import LOOK_AROUND
from delta_mirror.mirror.baseline import Dates
from delta_mirror.mirror.staged import Mark, Rules
from delta_mirror.mirror.staging import Staging
from delta_mirror.mirror.workspace import Check, work_folder

DEFAULT_ENTITIES = ("Client", "Employee", "Appointment", "Sale")  # as of `[dds] entities`, for a file without that section

Place = tuple[int, int]
"""A tenant and one of its locations."""


@dataclass(slots=True)
class Progress:
    """How far the reading of the files has come. `total` and `done` are bytes of all selected files, `rows` those of all files.

    Of files on a host each byte counts twice, once as it is downloaded and once as it is read. `stage` is what is being done with
    `stream` just now.
    """

    total: int = 0
    done: int = 0
    rows: int = 0
    stream: Stream | None = None
    stage: str = "reading"


Watch = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Part:
    """One entity of one location in an export: the unit that is loaded, compared or refused as a whole."""

    stream: Stream
    run: ExportRun
    files: Sequence[tuple[TableFacts, ExportFile]]

    @property
    def dates(self) -> Dates:
        """What the date of the files sets; of two dates the earlier."""
        return Dates.of(min(self.run.dates))

    @property
    def tables(self) -> set[str]:
        """The mirror's names of the tables that the export has of it."""
        return {facts.table for facts, _ in self.files}

    @property
    def size(self) -> int:
        """How many bytes its files have."""
        return sum(file.size for _, file in self.files)


@dataclass(slots=True)
class Starter:
    """A Starter Export, open. `passed_over` says what is not read and why; `incomplete` are places that have no complete run."""

    parts: list[Part]
    passed_over: list[str]
    incomplete: list[Place]
    progress: Progress
    check: Check
    _source: Source
    _folder: Path
    _watch: Watch
    _columns: Mapping[str, Sequence[GivenColumn]]
    _passes: int  # that are made over the bytes of a file
    _mask: Mask | None

    @contextmanager
    def staged(self, part: Part, erased: Erased | None) -> Iterator[Staging]:
        """Let the body have the files of *part* in a staging that is complete, but for people who were *erased*.

        Raises:
            ExportError: a file, or what the files say together, is refused.
        """
        rules = Rules(KEY, CHANGED, [Mark(*mark) for mark in DELETE_MARKS.get(part.stream.entity, ())])
        self.progress.stream, self.progress.stage = part.stream, "reading"
        done_before = self.progress.done
        try:
            with Staging(self._folder, part.stream, rules, self.check, erased=erased) as staging:
                for facts, file in part.files:
                    with self._source.open(file) as chunks:
                        self.progress.stage = "reading"
                        batches = read_table(self._counted(chunks), file.name, facts, self._columns.get(file.table.lower(), ()))
                        staging.load(facts, file.name, self._masked(facts.table, self._with_rows_counted(batches)))
                self._tell("sorting")
                staging.settle()
                staging.close()
                self._tell("comparing")
                yield staging
        finally:
            self.progress.done = done_before + self._passes * part.size

    def _counted(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self.check()
            self.progress.done += len(chunk)
            self._watch(self.progress)
            yield chunk

    def _with_rows_counted(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        for batch in batches:
            self.progress.rows += len(batch.rows)
            yield batch

    def _masked(self, table: str, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield *batches* of *table* as they may be laid out beside the mirror: the staging is a file, too."""
        mask = self._mask
        for batch in batches:
            kept = mask.columns(table, batch.columns) if mask else None
            if mask is None or kept is None:
                yield batch
            else:
                names = tuple(batch.columns[place] for place, _ in kept)
                rows = [tuple(mask.value(action, row[place]) for place, action in kept) for row in batch.rows]
                yield batch._replace(columns=names, rows=rows)

    def _tell(self, stage: str) -> None:
        self.progress.stage = stage
        self._watch(self.progress)


@contextmanager
def open_starter(
    config: Config,
    source: str | None,
    places: Sequence[Place] | None,
    selection: Selection,
    *,
    wanted_date: date | None = None,
    folder: Path,
    mask: Mask | None = None,
    watch: Watch = lambda progress: None,
    check: Check = lambda: None,
) -> Iterator[Starter]:
    """Open the Starter Export at *source*, by default the configured one, and choose what is to be read of it.

    *places* are the configured ones, None where every place that the export has is meant. *folder* is for work.
    Rows come as *mask* leaves them.

    Raises:
        RefusedError: there is no source, or it cannot be read as one.
        UnfinishedError: the host of an address cannot be reached.
    """
    source = _source_of(config, source)
    progress, passes = Progress(), 2 if is_address(source) else 1

    def note(size: int) -> None:
        progress.done += size
        progress.stage = "downloading"
        watch(progress)

    with _opened(config, source, folder, check, note) as opened:
        files = opened.list()
        there = {(file.tenant_id, file.location_id) for file in files}
        configured = sorted(there) if places is None else places
        entities = [name for name in _entities(config) if not selection.entities or name in selection.entities]
        wanted = [place for place in configured if _is_selected(selection, place)]
        left_out = {file for file in files if _is_left_out(config, configured, selection, file)}
        runs, passed_over = choose_runs(files, wanted, entities, wanted_date, left_out) if wanted and entities else ([], [])
        parts = [part for run in runs for part in _parts(run, entities)]
        progress.total = passes * sum(part.size for part in parts)
        chosen = {(run.tenant_id, run.location_id) for run in runs}
        incomplete = [place for place in wanted if place in there and place not in chosen]
        columns = {
            table.lower(): [column.name if column.type is None else (column.name, column.type) for column in listed]
            for table, listed in config.starter.columns.items()
        }
        said = [*opened.remarks, *passed_over]
        if left_out:
            said.append(f"{len(left_out):,} file{'' if len(left_out) == 1 else 's'} passed over that the options do not select")
        yield Starter(parts, said, incomplete, progress, check, opened, folder, watch, columns, passes, mask)


def refuse_future(part: Part, now: float) -> None:
    """Refuse an export whose watermark would lie after *now*: the deltas would pass over what changes until then.

    The files may be dated tomorrow, where the vendor's day begins before that of UTC.

    Raises:
        ExportError: it would.
    """
    if part.dates.watermark > EPOCH + int(now * SECOND):
        raise ExportError(
            f"{part.stream}: the export is of {part.dates.baseline}, a day that has not come; see that the clock of this machine "
            "is right, and look at the names of the files"
        )


def check_source(config: Config, source: str | None) -> None:
    """Return if there is a source, as far as that can be told at once: a folder that has files of a location, or an address.

    So that a path that is mistyped makes no mirror.

    Raises:
        RefusedError: there is none.
    """
    named = _source_of(config, source)
    if is_address(named):
        read_address(named)
    else:
        FolderSource(named).list()


def _opened(
    config: Config,
    source: str,
    folder: Path,
    check: Check = lambda: None,
    fetched: Callable[[int], None] = lambda size: None,
) -> AbstractContextManager[Source]:
    """Return *source*, to be opened with what the configuration says; arguments as of `open_starter` and `open_source`."""
    starter = config.starter
    return open_source(
        source,
        key_file=starter.key_file,
        # Looked up for an address alone: whoever reads a folder need not have it.
        key_passphrase=starter.key_passphrase.reveal() if starter.key_passphrase and is_address(source) else None,
        known_hosts=starter.known_hosts,
        work_folder=folder,
        timeout=config.http.timeout,
        attempts=config.http.attempts,
        check=check,
        sleep=lambda seconds: _sleep(seconds, check),
        fetched=fetched,
    )


def list_source(config: Config, source: str | None) -> list[ExportFile]:
    """Return what lies in *source*, by default the configured one, in the folders of locations; nothing is read of a file.

    Raises:
        RefusedError: there is no source, or it cannot be read as one.
        UnfinishedError: the host of an address cannot be reached, or refuses the key.
    """
    with folder_for_work(config, is_file=False) as folder, _opened(config, _source_of(config, source), folder) as opened:
        return list(opened.list())


def _source_of(config: Config, given: str | None) -> str:
    source = given or config.starter.source
    if not source:
        raise RefusedError(
            "no SOURCE is given and [starter] source is empty; name the folder above Tenant<id>/Location<id>, or an address "
            "like sftp://user@host/path"
        )
    return source


@contextmanager
def folder_for_work(config: Config, *, is_file: bool) -> Iterator[Path]:
    """Make the folder for work: beside the mirror, where that *is_file*, else where the system has room for such things."""
    with ExitStack() as stack:
        if is_file:
            yield stack.enter_context(work_folder(config.mirror.path))
        else:
            yield Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="delta-mirror-")))


def _sleep(seconds: float, check: Check) -> None:
    ends = time.monotonic() + seconds
    while (left := ends - time.monotonic()) > 0:
        check()
        time.sleep(min(left, LOOK_AROUND))


def _entities(config: Config) -> Sequence[str]:
    return DEFAULT_ENTITIES if config.dds is None else config.dds.entities


def _is_selected(selection: Selection, place: Place) -> bool:
    return (not selection.tenants or place[0] in selection.tenants) and (
        not selection.locations or place[1] in selection.locations
    )  # fmt: skip


def _is_left_out(config: Config, configured: Sequence[Place], selection: Selection, file: ExportFile) -> bool:
    """Return whether *file* is of what is configured, and not of what is selected."""
    place = (file.tenant_id, file.location_id)
    if place not in configured:
        return False
    if not _is_selected(selection, place):
        return True
    entity = facts_of(file.table).entity
    return bool(selection.entities) and entity in _entities(config) and entity not in selection.entities


def _parts(run: ExportRun, entities: Sequence[str]) -> Iterator[Part]:
    """Yield what *run* has of each entity, in their order; the root first, then by name."""
    known = [(facts_of(file.table), file) for file in run.files.values()]
    for entity in entities:
        files = sorted(
            ((facts, file) for facts, file in known if facts.entity == entity),
            key=lambda each: (not each[0].is_root, each[1].table),
        )
        if files:
            yield Part(Stream(run.tenant_id, run.location_id, entity), run, files)
