"""The fields of an export's column, given the form in which they are stored.

Invariants:

- `stored_form` says what a field becomes. Everything else here only does the same faster, for many fields of one column at a
  time, or gives up and leaves them to it.
- Text is never turned into a number, and quoted text is kept to the letter. Without quotes in the file, a field is a number only
  where its column is known to hold numbers.
- A row version is never a number: sixteen hex digits are text even where all of them are decimal, unless the column is known to
  hold numbers.
- What is bare and wholly a GUID or a date-time has the form that the feed gives it.

Columns are converted whole because a call per field would cost more than all the rest of a load. Fields that recur are looked
up; for those that hardly do, a proof over all of them joined (are they of one shape, is there any other character?) costs a
fraction of a look at each.

Source: docs/service.md, "Starter Export".
"""

import re
from collections.abc import Iterable
from datetime import date

from delta_mirror.core.model import Value
from delta_mirror.core.values import is_guid, plain_date_time, plain_number, plain_row_version
from delta_mirror.dds.export_tables import Kind

_HEX_DIGITS = 16  # of a row version
_HEX = re.compile(rf"[0-9a-fA-F]{{{_HEX_DIGITS}}}", re.ASCII)


def stored_form(field: str, kind: Kind, *, quoted: bool) -> Value | None:
    """Return what is stored of a field of a column of *kind*; *quoted* says whether the file writes its text in quotes."""
    if field == "":
        return None
    if quoted and is_quoted(field):
        text = field[1:-1]
        # Whether files quote row versions is not known; the feed's are normalised however they are written.
        return plain_row_version(text) if kind == "version" and text else text
    if kind == "text":
        return field
    if kind == "version":
        return plain_row_version(field)
    if is_guid(field):
        return field.lower()
    date_time = plain_date_time(field)
    if date_time is not None:
        return date_time
    if kind == "number" or (quoted and not _HEX.fullmatch(field)):
        return plain_number(field)
    return field


def is_quoted(field: str) -> bool:
    """Return whether one leading and one trailing quote stand around *field*; a lone quote is text."""
    return len(field) > 1 and field[0] == field[-1] == '"'


def is_word(field: str) -> bool:
    """Return whether *field*, which has no quotes around it, can be nothing but text: no number, GUID, date or row version."""
    if _LETTER.search(field) is None or is_guid(field) or _NO_WORD.fullmatch(field) or plain_date_time(field):
        return False
    return isinstance(plain_number(field), str)


_NO_WORD = re.compile(rf"{_HEX.pattern}|0x[0-9a-fA-F]*|true|false", re.ASCII | re.IGNORECASE)
_LETTER = re.compile(r"[^\W\d_]")


class Column:
    """Converts one column of a file, batch by batch."""

    def __init__(self, kind: Kind, *, quoted: bool) -> None:
        self._kind = kind
        self._quoted = quoted
        self._numbers = kind == "number" or (quoted and kind not in ("text", "version"))
        self._known = _Known(kind, quoted=quoted)
        self._recurs: bool | None = None  # not known before the first batch

    def stored(self, fields: list[str]) -> list[Value | None]:
        """Return what is stored of *fields*."""
        if self._recurs is None:
            self._recurs = len(set(fields)) * _RECURRENCES <= len(fields)
        if self._recurs:
            known = self._known.met
            values = list(map(self._known.__getitem__, fields))
            self._recurs = (self._known.met - known) * _RECURRENCES <= len(fields)
            return values
        if "" not in fields:
            return list(self._all_present(fields))
        present = list(filter(None, fields))
        if not present:
            return [None] * len(fields)
        stored = iter(self._all_present(present))
        return [next(stored) if field else None for field in fields]

    def _all_present(self, fields: list[str]) -> Iterable[Value | None]:
        fast = self._fast(fields)
        return map(self._known.__getitem__, fields) if fast is None else fast

    def _fast(self, fields: list[str]) -> Iterable[Value] | None:
        """Return what is stored of *fields*, none of them empty, by the way that fits the first; None where it fits not all."""
        first, size = fields[0], len(fields[0])
        if self._kind == "version":
            return _row_versions(fields)
        if self._quoted and first[0] == '"':
            return _without_quotes(fields)
        if self._kind == "text":
            return None if self._quoted else fields
        if size == _GUID_SIZE:
            return _guids(fields)
        if first[4:5] == "-":
            return _dates(fields) if size == _DATE_SIZE else _date_times(fields)
        if self._numbers:
            return _decimals(fields) if "." in first else _integers(fields)
        return _plain_texts(fields)


class _Known(dict[str, Value | None]):
    """What is stored of the fields that have been met; forgets them when they become many."""

    def __init__(self, kind: Kind, *, quoted: bool) -> None:
        super().__init__()
        self._kind = kind
        self._quoted = quoted
        self.met = 0  # fields for the first time, or anew

    def __missing__(self, field: str) -> Value | None:
        self.met += 1
        value = stored_form(field, self._kind, quoted=self._quoted)
        if len(field) <= _LONGEST_REMEMBERED:
            if len(self) >= _REMEMBERED:
                self.clear()
            self[field] = value
        return value


_RECURRENCES = 8  # on average, below which it is not worth while to look fields up
_REMEMBERED = 1024  # fields of a column
_LONGEST_REMEMBERED = 64  # characters; what memory this takes must not depend on what people have written


# ---- whole columns. Each returns None where one field is not what it is for. "|" joins them: the proofs leave no room for
# another one in a field, because what they ask for has exactly as many as there are joints.

_GUID_SIZE = 36
_GUID_SHAPE = b"00000000-0000-0000-0000-000000000000"
_DATE_SIZE = 10
_DATE_SHAPE = b"0000-00-00"
_DATE_TIME_SHAPES = {
    len(shape): shape
    for shape in (
        b"0000-00-00 00:00:00.0000000 -00:00",
        b"0000-00-00 00:00:00 -00:00",
        b"0000-00-00 00:00:00.0000000",
        b"0000-00-00 00:00:00",
    )
}
_DIGITS = b"0123456789"
_ALL_HEX = bytes.maketrans(b"123456789abcdefABCDEF", b"0" * 21)
_UPPER_HEX = bytes.maketrans(b"123456789ABCDEF", b"0" * 15)
_DIGITS_AND_SIGNS = bytes.maketrans(b"123456789+", b"0" * 9 + b"-")
_LONGEST_EXACT = 15  # digits that a double holds whatever they are


def _have_shape(joined: bytes, table: bytes, shape: bytes, count: int) -> bool:
    return joined.translate(table) == (shape + b"|") * (count - 1) + shape


def _without_quotes(fields: list[str]) -> list[str] | None:
    # "|@|" instead of "|": text may hold the one, but not the other.
    joined = "|@|".join(fields)
    if joined[-1] != '"' or len(joined) == 1:
        return None
    bare = joined[1:-1].split('"|@|"')
    return bare if len(bare) == len(fields) else None


def _row_versions(fields: list[str]) -> list[str] | None:
    joined = "|".join(fields)
    if joined.isascii() and _have_shape(joined.encode(), _UPPER_HEX, b"0" * _HEX_DIGITS, len(fields)):
        return fields
    return None


def _guids(fields: list[str]) -> list[str] | None:
    joined = "|".join(fields)
    if joined.isascii() and _have_shape(joined.encode(), _ALL_HEX, _GUID_SHAPE, len(fields)):
        return joined.lower().split("|")
    return None


def _dates(fields: list[str]) -> list[str] | None:
    """Return *fields* themselves where all have the shape of a date, which is neither a date-time nor a number."""
    joined = "|".join(fields)
    if joined.isascii() and _have_shape(joined.encode(), _DIGITS_AND_SIGNS, _DATE_SHAPE, len(fields)):
        return fields
    return None


def _date_times(fields: list[str]) -> list[str] | None:
    size = len(fields[0])
    shape = _DATE_TIME_SHAPES.get(size)
    joined = "|".join(fields)
    if shape is None or not joined.isascii():
        return None
    octets = joined.encode()
    if not _have_shape(octets, _DIGITS_AND_SIGNS, shape, len(fields)):
        return None
    step = size + 1
    digits_in_range = (
        max(octets[14::step]) <= ord("5")  # tens of minutes
        and max(octets[17::step]) <= ord("5")  # tens of seconds
        and max(set(zip(octets[11::step], octets[12::step], strict=True))) <= tuple(b"23")
    )
    if not digits_in_range or not all(map(_is_date, {field[:_DATE_SIZE] for field in fields})):
        return None
    if shape[-6:-5] == b"-" and not all(map(_is_offset, {field[-6:] for field in fields})):
        return None
    return joined.replace(" +", "+").replace(" -", "-").replace(" ", "T").split("|")


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _is_offset(text: str) -> bool:
    return plain_date_time("2000-01-01 00:00:00" + text) is not None


def _integers(fields: list[str]) -> list[int] | None:
    joined = "|" + "|".join(fields)
    if not joined.isascii() or joined.encode().translate(None, _DIGITS + b"-|"):
        return None
    if joined.count("|0") != fields.count("0") or "|-0" in joined or len(max(fields, key=len)) > _LONGEST_EXACT:
        return None
    try:
        return list(map(int, fields))
    except ValueError:
        return None


def _decimals(fields: list[str]) -> list[float] | None:
    joined = "|" + "|".join(fields) + "|"
    if not joined.isascii() or joined.encode().translate(None, _DIGITS + b".-|"):
        return None
    # Each has one point (float takes none with two), a digit behind it, and before it no zero that something follows.
    if joined.count(".") != len(fields) or ".|" in joined or len(max(fields, key=len)) > _LONGEST_EXACT + 1:
        return None
    if joined.count("|0") != joined.count("|0.") or joined.count("|-0") != joined.count("|-0."):
        return None
    try:
        return list(map(float, fields))
    except ValueError:
        return None


def _plain_texts(fields: list[str]) -> list[str] | None:
    """Return *fields* themselves where none of them can be a GUID or a date-time."""
    joined = "|".join(fields)
    if "-" not in joined or (":" not in joined and _GUID_SIZE not in set(map(len, fields))):
        return fields
    return None
