"""The files of a Starter Export, read into rows.

A file is UTF-16LE with a byte order mark; `|@|` stands between the columns, `|$|` after every row, the last one too. There is no
escape, no line break between rows, and line feeds within text: no CSV parser can read it. Files of 2021 have no header and no
quotes, files of 2025 have both.

Invariants:

- A file is read whole or refused (`ExportError`), with the row and without a value. What does not end in `|$|` was cut off.
- The same bytes give the same rows, however they are cut into chunks.
- Memory is flat: at most a block of the file and the rows of one batch are held at a time.
- Markers are found from left to right, so that a bar belongs to one marker alone: a field without quotes may be `$` or `@`. Text
  that holds a whole marker cannot be told from one; the row then has the wrong number of columns, and the file is refused.

Source: docs/service.md, "Starter Export". What becomes of a field is told in `dds/export_values.py`.
"""

import re
from codecs import BOM_UTF16_LE, getincrementaldecoder
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, repeat
from typing import NamedTuple, NoReturn

from delta_mirror.core.model import Value
from delta_mirror.core.names import fold
from delta_mirror.dds.export_tables import Kind, TableFacts, kind_of
from delta_mirror.dds.export_values import Column, is_quoted, is_word
from delta_mirror.dds.tables import column_name
from delta_mirror.errors import ExportError

BATCH = 4096  # rows, at most
BLOCK = 1 << 20  # bytes that are taken in hand at a time
LONGEST_ROW = 1 << 23  # characters; what goes on for longer without an end of a row is no export

_COLUMN_END = "|@|"
_ROW_END = "|$|"
_MARKER = re.compile(r"\|[@$]\|")
_BEFORE_A_BAR = ("|@", "|$")  # where these stand before what looks like the end of a row, its first bar may belong to them
_SAMPLE = 512  # rows by which the kind of a file is told

_FETCH_AGAIN = "Fetch the file again; if it stays so, ask the vendor for a new export."
_RELOAD = "Ask the vendor what the columns of the file are, and for a new export."

GivenColumn = str | tuple[str, Kind]
"""A column as the configuration names it: its name, or its name and its kind."""


class Batch(NamedTuple):
    """Some rows of a file, in order.

    `columns` are named as they are stored; of the values, in their stored form, `None` is NULL. `first_row` is the number of the
    first of the rows, counted from 1, the header not counted. `tells_empty`: the file can tell the empty string from NULL; one
    that writes its text without quotes cannot, and has None for both.
    """

    columns: tuple[str, ...]
    rows: list[tuple[Value | None, ...]]
    first_row: int
    tells_empty: bool = True


def read_table(
    chunks: Iterable[bytes], file: str, facts: TableFacts, given: Sequence[GivenColumn] = ()
) -> Iterator[Batch]:  # fmt: skip
    """Yield the rows that *chunks*, the bytes of one file, hold: no batch of a file without a header and without rows.

    *file* is its name for messages. *given* are the columns that the configuration names: all of them in file order for a file
    without a header, in any case the kinds of those that are given one.

    Raises:
        ExportError: the file is not what it should be; batches that were yielded before are part of a file to be refused.
    """
    reader = _TableReader(file, facts, given)
    decoder = _Decoder()
    blocks = _blocks(chunks)
    first = next(blocks, b"")
    if not first.startswith(BOM_UTF16_LE):
        reader.refuse("is not UTF-16 with a byte order mark in front, as every file of an export is")
    for block in chain((first[len(BOM_UTF16_LE) :],), blocks):
        text, is_sound = decoder.decode(block)
        yield from reader.take(text)
        if not is_sound:
            reader.refuse("holds half a surrogate pair, which is no text", in_row=True)
    if decoder.is_within_a_character or reader.is_within_a_row:
        reader.refuse("is cut off: every row ends in |$|, and this one does not", in_row=True)
    yield from reader.empty_batch()


def _blocks(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield *chunks* in pieces of one block, whatever they are cut into."""
    held: list[bytes] = []
    size = 0
    for chunk in chunks:
        held.append(chunk)
        size += len(chunk)
        if size >= BLOCK:
            octets = b"".join(held)
            rest = size % BLOCK
            for begin in range(0, size - rest, BLOCK):
                yield octets[begin : begin + BLOCK]
            held, size = [octets[size - rest :]], rest
    if size:
        yield b"".join(held)


class _Decoder:
    """Turns the octets of a file into text, and says what is wrong with them."""

    def __init__(self) -> None:
        self._decoder = getincrementaldecoder("utf-16-le")()

    def decode(self, octets: bytes) -> tuple[str, bool]:
        """Return the text of *octets* and what the ones before left over, and whether it is sound to its end."""
        try:
            return self._decoder.decode(octets), True
        except UnicodeDecodeError as error:
            return error.object[: error.start].decode("utf-16-le"), False

    @property
    def is_within_a_character(self) -> bool:
        """Whether octets are left that are not yet a character."""
        return self._decoder.getstate()[0] != b""


class _TableReader:
    """Takes the text of a file piece by piece and gives its rows."""

    def __init__(self, file: str, facts: TableFacts, given: Sequence[GivenColumn]) -> None:
        self._file = file
        self._facts = facts
        self._given = given
        self._rest = ""  # what stands behind the end of the last row
        self._names: tuple[str, ...] = ()
        self._header: list[str] | None = None  # its fields as they stand there
        self._columns: list[Column] = []
        self._is_quoted = True  # not known before the first row
        self._rows = 0  # that have been given

    @property
    def is_within_a_row(self) -> bool:
        """Whether text is left that is not yet a row."""
        return self._rest != ""

    def take(self, text: str) -> Iterator[Batch]:
        """Yield the rows that end in *text*."""
        text = self._rest + text
        end = _last_row_end(text)
        self._rest = text[end:]
        if len(self._rest) > LONGEST_ROW:
            self.refuse(f"goes on for more than {LONGEST_ROW:,} characters without an end of the row", in_row=True)
        text = text[:end]
        if text and not self._names:
            text = text[self._read_names(text) :]
        if text and not self._columns:
            self._tell_kinds(text)
        if text:
            yield from self._batches(text)

    def empty_batch(self) -> Iterator[Batch]:
        """Yield a batch without rows where there was a header and nothing else: the columns are known all the same."""
        if self._header is not None and self._rows == 0:
            yield Batch(self._names, [], 1)

    def refuse(self, what: str, *, in_row: bool = False, advice: str = _FETCH_AGAIN) -> NoReturn:
        """Refuse the file: it, or the row in hand, *what*."""
        raise ExportError(f"{self._file}{f', row {self._rows + 1}' if in_row else ''}: {what}. {advice}")

    def _read_names(self, text: str) -> int:
        """Take the names of the columns from the header, or from what is known; return where the rows begin."""
        end = next(marker.end() for marker in _MARKER.finditer(text) if marker[0] == _ROW_END)
        [first] = _rows_of(text[:end])
        begin = 0
        if _is_header(first):
            self._header = first
            self._names = tuple(column_name(_unquoted(name).strip()) for name in first)
            begin = end
        elif self._given:
            self._names = tuple(column_name(_name_of(column)) for column in self._given)
        elif self._facts.columns is not None:
            self._names = self._facts.columns
        else:
            self.refuse(f"has no header, and its {len(first)} columns are not known in full", advice=self._naming_advice())
        self._check_names()
        return begin

    def _check_names(self) -> None:
        seen: dict[str, str] = {}
        for name in self._names:
            if name == "" or "\0" in name:
                self.refuse("has a column without a name that could be stored", advice=_RELOAD)
            if name.startswith("_"):
                self.refuse(f"has the column {name!r}; names that begin with an underscore are the mirror's own", advice=_RELOAD)
            folded = fold(name)
            if folded in seen:
                self.refuse(f"has two columns that are one: {seen[folded]!r} and {name!r}", advice=_RELOAD)
            seen[folded] = name

    def _tell_kinds(self, text: str) -> None:
        """Find out from the header and the first rows whether text is written in quotes, and make ready to convert."""
        rows = text.split(_ROW_END, _SAMPLE)[:-1]
        self._is_quoted = _is_quoted_file(self._header, (field for row in rows for field in row.split(_COLUMN_END)))
        kinds: dict[str, Kind] = {column_name(column[0]): column[1] for column in self._given if not isinstance(column, str)}
        for name in self._names:
            self._columns.append(Column(kinds.get(name) or kind_of(self._facts, name), quoted=self._is_quoted))

    def _batches(self, text: str) -> Iterator[Batch]:
        """Yield the rows of *text*, which ends with one."""
        columns = _split(text, len(self._names)) or self._split_row_by_row(text)
        count = len(columns[0])
        for begin in range(0, count, BATCH):
            parts = [fields[begin : begin + BATCH] for fields in columns] if count > BATCH else columns
            rows = list(zip(*(column.stored(part) for column, part in zip(self._columns, parts, strict=True)), strict=True))
            yield Batch(self._names, rows, self._rows + 1, self._is_quoted)
            self._rows += len(rows)

    def _split_row_by_row(self, text: str) -> list[list[str]]:
        """Return the columns of *text*, found one row after the other; refuse the row that does not fit."""
        width = len(self._names)
        rows = _rows_of(text)
        for place, row in enumerate(rows):
            if len(row) != width:
                self._rows += place
                advice = _FETCH_AGAIN if self._header is not None or self._rows else self._naming_advice()
                self.refuse(f"its number of columns is {len(row)}, not {width}", in_row=True, advice=advice)
        return [list(column) for column in zip(*rows, strict=True)]

    def _naming_advice(self) -> str:
        return f"Name all of them in file order in the configuration, under [starter.columns] as {self._facts.table} = [...]."


def _last_row_end(text: str) -> int:
    """Return where the last whole row of *text*, which begins with a row, ends, 0 where none does."""
    found = text.rfind(_ROW_END)
    if found > 1 and text[found - 2 : found] in _BEFORE_A_BAR:
        return max((marker.end() for marker in _MARKER.finditer(text) if marker[0] == _ROW_END), default=0)
    return 0 if found < 0 else found + len(_ROW_END)


def _rows_of(text: str) -> list[list[str]]:
    """Return the fields of the rows of *text*, whole ones, row by row."""
    rows: list[list[str]] = []
    row: list[str] = []
    begin = 0
    for found in _MARKER.finditer(text):
        row.append(text[begin : found.start()])
        begin = found.end()
        if found[0] == _ROW_END:
            rows.append(row)
            row = []
    return rows


def _split(text: str, width: int) -> list[list[str]] | None:
    """Return the columns of *text*, whole rows of so many columns; None where that is not certain at a glance.

    Split by the ends of columns alone, the last field of each row is in one piece with the first of the next. When each of these
    pieces has the end of a row in it, and no other piece has, then no row has more or fewer columns.
    """
    if width == 1:
        return None
    pieces = text.split(_COLUMN_END)
    step = width - 1
    joints = pieces[step::step]
    if len(pieces) != len(joints) * step + 1 or list(map(str.count, joints, repeat(_ROW_END))).count(1) != len(joints):
        return None
    # A dollar sign is hardly ever found in text, and a single character is counted many times faster than three.
    if text.count(_ROW_END[1]) != len(joints) and text.count(_ROW_END) != len(joints):
        return None
    ends = _ROW_END.join(joints).split(_ROW_END)
    return [[pieces[0], *ends[1:-1:2]], *(pieces[place::step] for place in range(1, step)), ends[::2]]


_NAME = re.compile(r"\w[\w ]*")


def _is_header(fields: Sequence[str]) -> bool:
    """Return whether *fields* are names: the first is `TenantId`, or it is among them and all the others look like names, too."""
    names = [_unquoted(field).strip() for field in fields]
    if names[0].lower() == _TENANT:
        return True
    return _TENANT in map(str.lower, names) and all(map(_NAME.fullmatch, names))


_TENANT = "tenantid"


def _is_quoted_file(header: Sequence[str] | None, fields: Iterable[str]) -> bool:
    """Return whether a file writes text in quotes, by its header and some of its fields.

    Quotes around a field alone show nothing, a nickname may bring its own. Words without any show that text is not quoted here.
    """
    quotes = words = False
    for field in fields:
        if is_quoted(field):
            quotes = True
        elif not words and field:
            words = is_word(field)
    if header is not None and any(map(is_quoted, header)):
        return quotes or not words
    return quotes and not words


def _unquoted(name: str) -> str:
    return name[1:-1] if is_quoted(name) else name


def _name_of(column: GivenColumn) -> str:
    return (column if isinstance(column, str) else column[0]).strip()
