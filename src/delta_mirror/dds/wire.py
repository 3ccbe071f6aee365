"""The DDS's JSON, read into pages of records.

Invariants:

- A page is either read whole or refused (`ProtocolError`): what has no array of data is no empty page. The envelope decides
  that. Reading the entries takes four fifths of the time, fails for none, and can be left for later (`Sent`).
- One broken entry does not spoil its page: it becomes `Broken`, in its place, with its JSON text.
- Every value has the form in which it is stored, and none is bent on the way (`exact_json`). A number that SQLite cannot give
  back is text of the digits sent; a key that stands twice in an object is noticed.
- No error and no reason names a value of a record.

Source: docs/service.md, "Envelope" and "Records".
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeGuard, cast

from delta_mirror.core.exact_json import (
    Digits,
    Json,
    Twice,
    UnreadableError,
    UnwritableError,
    holds_twice,
    is_deeper,
    pairs_of,
    read_json,
    write_anyhow,
    write_sorted,
)
from delta_mirror.core.model import Broken, Child, Entry, Instant, Page, Record, Row, Stream
from delta_mirror.core.names import fold
from delta_mirror.core.values import is_guid, plain_date_time, plain_row_version, read_instant
from delta_mirror.dds.tables import (
    CHANGED,
    KEY,
    KEY_ALIASES,
    VERSION,
    Keys,
    column_name,
    drop_keys,
    is_deleted,
    is_entity,
    is_id_column,
    keys_of_child,
    keys_of_root,
    table_name,
    take_key,
)
from delta_mirror.errors import ProtocolError

DEEPEST = 32  # levels of child tables in a record, and of arrays and objects in one value; real records have three
_TOO_DEEP = f"it is nested deeper than {DEEPEST} levels"


class Sent(NamedTuple):
    """A page whose envelope has been read, and whose entries are still as they were sent."""

    entries: list[Json]
    last_change: Instant | None
    reference_id: str | None

    def read(self, stream: Stream, clock: int) -> Page:
        """Return the page, its entries in the order sent. *clock* is the service's clock in ticks."""
        reader = _EntryReader(stream)
        entries: list[Entry] = []
        digests: list[int] = []
        for element in self.entries:
            entry, digest = reader.read(element)
            entries.append(entry)
            digests.append(digest)
        return Page(entries, digests, self.last_change, clock, self.reference_id)


def read_page(body: bytes, stream: Stream, clock: int) -> Page:
    """Return the page that *body* holds: `open_page`, and then `Sent.read`."""
    return open_page(body, stream).read(stream, clock)


def open_page(body: bytes, stream: Stream) -> Sent:
    """Return the page that *body* holds, with its entries unread.

    Envelope keys are matched without regard to case (docs/service.md, "Envelope").

    An answer without an array of data is refused even when it looks like an envelope otherwise. The service leaves out members
    that are null, but it documents the page without changes as one with an *empty array*; taking anything less for the end of
    a stream would lose what comes after it.

    Raises:
        ProtocolError: *body* is no page, or carries an `Error`; the message has the referenceId and no values.
    """
    try:
        members, repeated = _members(read_json(body))
    except UnreadableError as reason:
        raise _refusal(stream, f"is no page: {reason}", None) from None
    reference_id = _reference(members)
    error = members.get("error")
    if error is not None:
        raise _refusal(stream, f"carries an error{_error_words(error)}", reference_id)
    sent = members.get("data")
    if not isinstance(sent, list):
        raise _refusal(stream, "is no page: it has no array of data", reference_id)
    if "data" in repeated:
        raise _refusal(stream, "is no page: it has more than one array of data", reference_id)
    return Sent(sent, read_instant(members.get("lastchangedateincludedinpage")), reference_id)


def read_entry(body: str, stream: Stream) -> Entry:
    """Return what the entry *body* holds, as it stood in the array of a page: a broken one may be whole for a newer program."""
    try:
        element = read_json(body.encode())
    except UnreadableError as reason:
        return Broken(None, None, body, str(reason))
    return _EntryReader(stream).read(element)[0]


def reference_of(body: bytes) -> str | None:
    """Return the referenceId of any answer, None where there is none that could be shown."""
    try:
        return _reference(_members(read_json(body))[0])
    except UnreadableError:
        return None


def is_own_json(body: bytes) -> bool:
    """Return whether the service itself may have written *body*: a JSON object that is no known web server's or gateway's.

    What the service answers past the last page is not documented, so nothing more can be asked for. What stands in front of
    such services speaks JSON, too, and says the same few things when it does not find them.
    """
    try:
        members, _ = _members(read_json(body))
    except UnreadableError:
        return False
    return frozenset(members) not in _FOREIGN


# The whole answers "not found" of Azure API Management, of ASP.NET without a route, and of API gateways at large.
_FOREIGN = (
    frozenset({"statuscode", "message"}),
    frozenset({"message", "messagedetail"}),
    frozenset({"fault"}),
)


# ---- the envelope


def _members(envelope: Json) -> tuple[dict[str, Json], set[str]]:
    """Return the members of an envelope by their names in lower case, and the names that came more than once.

    A null member is the same as none. Of several, the first is taken.
    """
    if not isinstance(envelope, dict):
        raise UnreadableError("it is JSON, but no object")
    members: dict[str, Json] = {}
    repeated = set()
    for name, value in pairs_of(envelope):
        folded = name.lower()
        if value is None:
            continue
        if folded in members:
            repeated.add(folded)
        else:
            members[folded] = value
    return members, repeated


_SHOWABLE = re.compile(r"[\w.:-]{1,80}", re.ASCII)


def _showable(value: Json) -> str | None:
    """Return *value* where it is a short code, None where it could be anything else: it goes into messages and logs."""
    if isinstance(value, str | int) and _SHOWABLE.fullmatch(str(value)):
        return str(value)
    return None


def _reference(members: Mapping[str, Json]) -> str | None:
    own = _showable(members.get("referenceid"))
    error = members.get("error")
    if own is None and isinstance(error, dict):
        return _showable(_members(error)[0].get("referenceid"))
    return own


def _error_words(error: Json) -> str:
    """Return what may be said of an `Error`: its code and how many validations failed. Its message may quote what was sent."""
    if not isinstance(error, dict):
        return ""
    members, _ = _members(error)
    code = _showable(members.get("errorcode"))
    failures = members.get("validationfailures")
    words = f" with code {code}" if code else ""
    if isinstance(failures, list) and failures:
        words += f" and {len(failures)} failed validation{'s' if len(failures) > 1 else ''}"
    return words


def _refusal(stream: Stream, what: str, reference_id: str | None) -> ProtocolError:
    return ProtocolError(
        f"The answer for {stream.entity} of tenant {stream.tenant_id}, location {stream.location_id} {what}. "
        "Nothing of it was taken, and the next run asks again. "
        f"If it stays so, tell the vendor the referenceId {reference_id or '(the answer bears none)'}."
    )


# ---- entries


class _UnfitError(Exception):
    """An entry cannot be stored; the text is the reason, without values."""


class _Columns:
    """What is special about a column, by its name as sent: found out once a page, not once a value.

    `ids` are the columns in which GUIDs are written in lower case. `odd` are those that need a closer look: row versions, other
    spellings of known columns, names that cannot be stored. `mixed` says whether two names that differ only in case have been
    met; only then do rows have to be looked through for it.
    """

    def __init__(self) -> None:
        self.known: set[str] = set()
        self.ids: set[str] = set()
        self.odd: set[str] = set()
        self.mixed = False
        self._folded: set[str] = set()

    def learn(self, names: Iterable[str]) -> None:
        """Find out about those of *names* that have not been met yet."""
        for name in set(names) - self.known:
            self.known.add(name)
            self.mixed = self.mixed or fold(name) in self._folded
            self._folded.add(fold(name))
            if is_id_column(name):
                self.ids.add(name)
            if name.startswith("_") or "\0" in name or name == VERSION or name != column_name(name):
                self.odd.add(name)


class _Tables(dict[str, str]):
    """The mirror's name of a child table, by its name as sent; the same in one page for names that differ only in case."""

    def __init__(self) -> None:
        super().__init__()
        self._spelled: dict[str, str] = {}

    def __missing__(self, name: str) -> str:
        table = table_name(name)
        if not table:
            raise _UnfitError(f"the name of a child table, {name!r}, leaves nothing to call it")
        if "\0" in table:
            raise _UnfitError(f"the name of a child table, {name!r}, holds a NUL")
        if is_entity(table):
            raise _UnfitError(f"a child table, {name!r}, is named like an entity")
        self[name] = table = self._spelled.setdefault(fold(table), table)
        return table


_STORED_DATE_TIME = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{7})?(?:[+-]\d\d:\d\d)?", re.ASCII
)  # a text of this shape is stored as it is, whether it is a date-time (then it has its form already) or not
_stored = _STORED_DATE_TIME.fullmatch

_VERSION_FORM = re.compile(r"[0-9A-F]{16}", re.ASCII)


def _is_version(value: Json) -> TypeGuard[str]:
    """Return whether *value* is a row version in its stored form."""
    return isinstance(value, str) and _VERSION_FORM.fullmatch(value) is not None


_Arrays = list[tuple[str, list[dict[str, Json]]]]


class _EntryReader:
    """Reads the entries of one page; keeps what it learns about names, which are the same from entry to entry."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._columns = _Columns()
        self._tables = _Tables()

    def read(self, element: Json) -> tuple[Entry, int]:
        """Return the entry that *element* is, and its digest."""
        whole = element
        try:
            element = _unwrap(element)
            text = _checked_text(element)
            return self._record(_root_of(element)), hash(text)
        except _UnfitError as reason:
            broken = _broken(self._stream.entity, whole, element, str(reason))
            return broken, hash(broken.body)

    def _record(self, sent: dict[str, Json]) -> Record:
        entity = self._stream.entity
        root, arrays = self._row(sent)
        key = take_key(entity, root)
        if key is None or key[0] in "{[":  # an object or an array has become JSON text
            raise _UnfitError("the root bears no key")
        if "\0" in key:
            raise _UnfitError("the root's key holds a NUL")
        children: dict[str, list[Child]] = {}
        if arrays:
            self._add_children(children, arrays, keys_of_root(self._stream, root), None, DEEPEST)
        version = root.get(VERSION)
        return Record(
            key,
            read_instant(sent[CHANGED] if CHANGED in sent else _find(sent, CHANGED)),
            version if _is_version(version) else None,
            is_deleted(entity, root, children),
            root,
            children,
        )

    def _add_children(
        self, children: dict[str, list[Child]], arrays: _Arrays, keys: Keys, parent: int | None, levels: int
    ) -> None:
        """Put the rows of *arrays*, which one object holds, into *children*, each followed by the rows that it holds itself."""
        if levels == 0:
            raise _UnfitError(_TOO_DEEP)
        names = [self._tables[name] for name, _ in arrays]
        if len(set(names)) < len(names):
            raise _UnfitError("two arrays of one object go to one child table")
        for name, (_, sent_rows) in zip(names, arrays, strict=True):
            rows = children.setdefault(name, [])
            for sent in sent_rows:
                row, deeper = self._row(sent)
                drop_keys(keys, row)
                rows.append(Child(row, parent))
                if deeper:
                    own = keys_of_child(self._stream.entity, keys, row)
                    self._add_children(children, deeper, own, len(rows) - 1, levels - 1)

    def _row(self, sent: dict[str, Json]) -> tuple[Row, _Arrays | None]:
        """Return the columns of one object in their stored form, and the arrays of objects in it, which are child tables.

        This loop sees every value of a page: what is usual is decided in it without a call.
        """
        columns = self._columns
        if not columns.known.issuperset(sent):
            columns.learn(sent)
        ids = columns.ids
        row: dict[str, Json] = sent.copy()
        arrays: _Arrays | None = None
        for name, value in sent.items():
            if type(value) is str:
                if len(value) > 16:  # no GUID is shorter, and no date-time that is not stored as it is
                    if value[10] == "T":
                        if not _stored(value):
                            row[name] = plain_date_time(value) or value
                    elif name in ids and not value.islower() and is_guid(value):
                        row[name] = value.lower()
            elif type(value) is int or type(value) is float:
                pass
            elif type(value) is bool:
                row[name] = int(value)
            elif value is None:
                del row[name]
            elif _is_table(value):
                del row[name]
                if arrays is None:
                    arrays = []
                arrays.append((name, value))
            elif isinstance(value, Digits):
                row[name] = str(value)
            else:
                row[name] = text = write_sorted(value).decode()
                # So many levels have as many brackets: counting them spares the walk through nearly every value.
                if text.count("[") + text.count("{") > DEEPEST and is_deeper(value, DEEPEST):
                    raise _UnfitError(_TOO_DEEP)
        stored = cast("Row", row)
        if columns.mixed:
            _refuse_twins(stored)
        for name in columns.odd:
            if name in stored and (name != VERSION or not _is_version(stored[name])):
                _mend(stored, name)
        return stored, arrays


def _mend(row: Row, name: str) -> None:
    """Give the odd column *name* of *row* its stored form, and refuse the row where it has none."""
    if name.startswith("_"):
        raise _UnfitError(f"the column {name!r} begins with an underscore")
    if "\0" in name:
        raise _UnfitError(f"the name of the column {name!r} holds a NUL")
    column = column_name(name)
    value = row.pop(name)
    if column == VERSION:
        value = plain_row_version(value)
    elif is_id_column(column) and isinstance(value, str) and is_guid(value):
        value = value.lower()
    row[column] = value


def _refuse_twins(names: Iterable[str]) -> None:
    seen: dict[str, str] = {}
    for name in names:
        twin = seen.setdefault(fold(name), name)
        if twin != name:
            raise _UnfitError(f"the columns {twin!r} and {name!r} differ only in case")


_OBJECTS = frozenset({dict, Twice})


def _is_table(value: Json) -> TypeGuard[list[dict[str, Json]]]:
    """Return whether *value* is a child table: an array of objects, or an empty one."""
    return type(value) is list and _OBJECTS.issuperset(map(type, value))


def _checked_text(element: Json) -> bytes:
    """Return the sorted JSON of an entry, of which it is certain then that it can be stored as far as its values go."""
    try:
        return write_sorted(element)
    except UnwritableError:
        pass
    if is_deeper(element, DEEPEST):
        raise _UnfitError(_TOO_DEEP)
    raise _UnfitError("a key stands twice in one object" if holds_twice(element) else "a text holds half a surrogate pair")


def _unwrap(element: Json) -> Json:
    """Return the entry itself where *element* holds nothing but `SnapshotData`: an object, or the text of one."""
    if not isinstance(element, dict):
        raise _UnfitError("the entry is no object")
    members = _present(element)
    name, snapshot = members[0] if len(members) == 1 else ("", None)
    if name.lower() == "snapshotdata":
        if type(snapshot) is not str:
            return snapshot
        try:
            return read_json(snapshot.encode("utf-8", "surrogatepass"))
        except UnreadableError as reason:
            raise _UnfitError(f"its SnapshotData cannot be read: {reason}") from None
    return element


def _root_of(element: Json) -> dict[str, Json]:
    """Return the root object, whatever the service calls its table: those names are not all documented."""
    members = _present(element) if isinstance(element, dict) else []
    if len(members) == 1 and isinstance(root := members[0][1], dict):
        return root
    raise _UnfitError("the entry has no single root object")


def _present(sent: dict[str, Json]) -> list[tuple[str, Json]]:
    """Return the members of an object that are not null, one that stands twice in it twice."""
    return [(name, value) for name, value in pairs_of(sent) if value is not None]


def _find(sent: dict[str, Json], column: str) -> Json:
    return next((value for name, value in sent.items() if column_name(name) == column), None)


def _broken(entity: str, whole: Json, element: Json, reason: str) -> Broken:
    """Return the entry *whole* as one that cannot be applied, with what can be read of *element*, the entry unwrapped."""
    record_id, changed = None, None
    try:
        root = _root_of(element)
    except _UnfitError:
        pass
    else:
        changed = read_instant(_find(root, CHANGED))
        for name in (KEY, *KEY_ALIASES[entity]):
            key = _find(root, name)
            if type(key) in (str, int) and key != "" and str(key).isprintable():
                record_id = str(key).lower() if is_guid(str(key)) else str(key)
                break
    return Broken(record_id, changed, write_anyhow(whole), reason)
