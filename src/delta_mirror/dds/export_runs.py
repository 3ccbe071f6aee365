"""Which of the files of a Starter Export belong together, and which run of each location is to be read.

Invariants:

- A run is one date of one folder `Tenant<id>/Location<id>`, or two adjacent dates where no table is in both: a dump that passes
  midnight bears two. Files of two folders are never mixed.
- A run is complete when the root file of every wanted entity is there; of an entity that has no root file, any of its files.
  What is not complete is never chosen.
- What is chosen is the newest complete run of each location, or the one of a wanted date.
- A run has only files of wanted entities. What was passed over, and why, is said: nothing is left out in silence.
- Upper and lower case are the same everywhere.

Where three dates in a row could be paired in two ways, the newest two are a pair. Either way would be right: no export is one
snapshot, and the deltas start well before the earlier of its dates (docs/service.md, "Starter Export").
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import NamedTuple

from delta_mirror.dds.export_tables import facts_of, split_file_name
from delta_mirror.errors import ExportError

ROOTLESS = frozenset({"EmployeeSchedule", "EmployeeActual"})  # no file has their root rows (docs/service.md, "Starter Export")
DAY = timedelta(days=1)
MOST_NAMES = 5  # of files, in one message
LONGEST_NAME = 100  # characters of one of them

_FOLDERS = re.compile(r"(?:.*/)?tenant(\d{1,18})/location(\d{1,18})", re.ASCII | re.IGNORECASE | re.DOTALL)
_DATE = re.compile(r"(\d{4})(\d\d)(\d\d)", re.ASCII)

Place = tuple[int, int]
"""A tenant and one of its locations."""


@dataclass(frozen=True, slots=True)
class ExportFile:
    """One file in the folder of a location, as it was when it was seen.

    `table` is the table as the file's name has it, and `date` the digits of the date, which may be cut off; both are empty where
    the name is no table's. `name` is for messages, `path` is what the source opens. `modified` is seconds since the epoch.
    """

    tenant_id: int
    location_id: int
    table: str
    date: str
    name: str
    path: str
    size: int
    modified: float


@dataclass(frozen=True, slots=True)
class ExportRun:
    """One run: its location, its date (or two, the earlier first), and its files by the table's name in the file's name."""

    tenant_id: int
    location_id: int
    dates: tuple[date, ...]
    files: Mapping[str, ExportFile]


class Choice(NamedTuple):
    """The runs to be read, at most one of each location, and what was passed over, in sentences."""

    runs: list[ExportRun]
    passed_over: list[str]


def read_date(digits: str) -> date | None:
    """Return the date that `YYYYMMDD` says, None where it says none."""
    found = _DATE.fullmatch(digits)
    if found is None:
        return None
    try:
        return date(int(found[1]), int(found[2]), int(found[3]))
    except ValueError:
        return None


def place_of(folder: str) -> Place | None:
    """Return whose folder this is: its path, with `/`, ends in `Tenant<id>/Location<id>`. None of any other one."""
    found = _FOLDERS.fullmatch(folder.rstrip("/"))
    return None if found is None else (int(found[1]), int(found[2]))


def export_file(place: Place, folder: str, name: str, *, path: str, size: int, modified: float) -> ExportFile:
    """Return the file *name* in the folder of *place*; *folder* is what messages call that."""
    table, digits = split_file_name(name) or ("", "")
    return ExportFile(*place, table, digits, f"{folder.rstrip('/')}/{name}", path, size, modified)


def choose_runs(
    files: Iterable[ExportFile],
    places: Collection[Place],
    entities: Sequence[str],
    wanted_date: date | None = None,
    left_out: Collection[ExportFile] = (),
) -> Choice:
    """Return a run of each of *places* that has one, in their order, and what was passed over. No *places* at all means any.

    Of the files *left_out* whoever asks knows that they are not wanted, and no word is lost on them.

    Raises:
        ExportError: a table has two files of one date, or a location two folders with the same run: which is meant is not known.
    """
    folders: dict[Place, dict[str, list[ExportFile]]] = {}
    for file in files:
        folders.setdefault((file.tenant_id, file.location_id), {}).setdefault(_folder_of(file), []).append(file)
    said = [
        f"{_named(place)}: {', '.join(sorted(folders[place]))} passed over, as this location is not wanted"
        for place in sorted(folders)
        if places and place not in places and not all(file in left_out for of in folders[place].values() for file in of)
    ]
    runs: list[ExportRun] = []
    for place in dict.fromkeys(places or sorted(folders)):
        if place not in folders:
            said.append(f"{_named(place)}: there is no folder Tenant{place[0]}/Location{place[1]} with files")
            continue
        of_place = [_sort_folder(name, folders[place][name], entities, left_out, said) for name in sorted(folders[place])]
        chosen = _choose(place, of_place, wanted_date)
        for folder in of_place:
            read = chosen[1].dates if chosen is not None and chosen[0] is folder else ()
            said.extend(folder.passed_over(read, wanted_date))
        if chosen is not None:
            runs.append(chosen[1])
            continue
        which = "no complete run" if wanted_date is None else f"no complete run of {wanted_date:%Y%m%d}"
        said.append(f"{_named(place)}: {which}, so that nothing of this location is read")
    return Choice(runs, said)


@dataclass(slots=True)
class _Folder:
    """The files of wanted tables in one folder: by date and, under its name in lower case, by table.

    `cut` has the files whose date is cut off. Under such a name each dump overwrites the one before, so that one file is the only
    one that any of the runs has.
    """

    name: str
    place: Place
    entities: Sequence[str]
    by_date: dict[date, dict[str, ExportFile]] = field(default_factory=dict)
    cut: list[ExportFile] = field(default_factory=list)

    def add(self, file: ExportFile) -> None:
        """Take in a file of a wanted table."""
        own_date = read_date(file.date)
        if own_date is None:
            self.cut.append(file)
            return
        tables = self.by_date.setdefault(own_date, {})
        twin = tables.setdefault(file.table.lower(), file)
        if twin is not file:
            raise ExportError(f"{twin.name} and {_base(file)} are two files of one table and date; take one of them away")

    def runs(self) -> Iterator[ExportRun]:
        """Yield the runs of this folder, the newest first; each date is in one of them."""
        left = sorted(self.by_date)
        while left:
            later = left.pop()
            yield self._run(left.pop(), later) if left and self._is_one_run(left[-1], later) else self._run(later)

    def runs_of(self, wanted: date) -> Iterator[ExportRun]:
        """Yield the runs that *wanted* can be a date of, those of two dates first."""
        for pair in ((wanted, wanted + DAY), (wanted - DAY, wanted)):
            if self._is_one_run(*pair):
                yield self._run(*pair)
        if wanted in self.by_date:
            yield self._run(wanted)

    def lacks(self, run: ExportRun) -> list[str]:
        """Return the entities of which *run* lacks what makes it complete."""
        facts = [facts_of(table) for table in run.files]
        there = {each.entity for each in facts if each.is_root or each.entity in ROOTLESS}
        return [entity for entity in self.entities if entity not in there]

    def passed_over(self, read: Collection[date], wanted_date: date | None) -> Iterator[str]:
        """Yield which runs of this folder are passed over, and why, where those of the dates *read* are not."""
        for run in self.runs():
            dates = [own_date for own_date in run.dates if own_date not in read]
            if not dates:
                continue
            lacking = self.lacks(run)
            if lacking:
                why = f"not complete: without {', '.join(lacking)}"
            else:
                why = "older" if wanted_date is None else "another date is wanted"
            yield f"{self.name}: {_dated(dates)} passed over, {why}"
        known = [f"{own_date:%Y%m%d}" for own_date in self.by_date]
        strange = [file for file in self.cut if not any(each.startswith(file.date) for each in known)]
        if strange:
            yield f"{self.name}: {_listed(strange)} passed over, as it is of none of the dates that are here"

    def _is_one_run(self, earlier: date, later: date) -> bool:
        if later - earlier != DAY or earlier not in self.by_date or later not in self.by_date:
            return False
        return self.by_date[earlier].keys().isdisjoint(self.by_date[later])

    def _run(self, *dates: date) -> ExportRun:
        files = {table: file for own_date in dates for table, file in self.by_date[own_date].items()}
        for file in self.cut:
            if any(f"{own_date:%Y%m%d}".startswith(file.date) for own_date in dates):
                files.setdefault(file.table.lower(), file)
        return ExportRun(*self.place, dates, {file.table: file for file in files.values()})


def _sort_folder(
    name: str, files: Sequence[ExportFile], entities: Sequence[str], left_out: Collection[ExportFile], said: list[str]
) -> _Folder:  # fmt: skip
    """Return one folder, its files sorted; add to *said* those that are of no wanted table, but for those *left_out*."""
    folder = _Folder(name, (files[0].tenant_id, files[0].location_id), entities)
    others: dict[str, list[ExportFile]] = {}
    for file in sorted(files, key=lambda each: each.name):
        entity = facts_of(file.table).entity
        if not file.table:
            others.setdefault("the name is not that of a table with a date", []).append(file)
        elif entity is None:
            others.setdefault("it is not known whose table it is", []).append(file)
        elif entity not in entities:
            if file in left_out:
                continue
            others.setdefault(f"{entity} is not wanted", []).append(file)
        else:
            folder.add(file)
    said.extend(f"{name}: {_listed(of_kind)} passed over, as {why}" for why, of_kind in others.items())
    return folder


def _choose(place: Place, folders: Sequence[_Folder], wanted_date: date | None) -> tuple[_Folder, ExportRun] | None:
    """Return the run of *place* that is to be read, and where it lies; None where there is no complete one."""
    best: list[tuple[_Folder, ExportRun]] = []
    for folder in folders:
        runs = folder.runs() if wanted_date is None else folder.runs_of(wanted_date)
        best.extend([(folder, run) for run in runs if not folder.lacks(run)][:1])
    if wanted_date is None and best:
        newest = max(run.dates[-1] for _, run in best)
        best = [(folder, run) for folder, run in best if run.dates[-1] == newest]
    if len(best) > 1:
        names = " and ".join(folder.name for folder, _ in best)
        raise ExportError(f"{_named(place)}: {names} have a run of {_dated(best[0][1].dates)} each; name one of them as SOURCE")
    return best[0] if best else None


def _folder_of(file: ExportFile) -> str:
    return file.name.rpartition("/")[0]


def _base(file: ExportFile) -> str:
    return file.name.rpartition("/")[2]


def _dated(dates: Sequence[date]) -> str:
    return " and ".join(f"{own_date:%Y%m%d}" for own_date in dates)


def _named(place: Place) -> str:
    return f"tenant {place[0]}, location {place[1]}"


def _listed(files: Sequence[ExportFile]) -> str:
    """Return the names of files of one folder, no more of them than can be read."""
    names = [_base(file) for file in files[:MOST_NAMES]]
    shown = ", ".join(name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}…" for name in names)
    return shown if len(files) <= MOST_NAMES else f"{shown} and {len(files) - MOST_NAMES} more"
