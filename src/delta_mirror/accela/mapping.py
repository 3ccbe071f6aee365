"""What `[accela.map.ENTITY]` says: read and checked once, then asked of every record what its contact is to hold.

Invariants:

- Every name in a map is known before anything is sent: fields and types here, columns and tables by those of the mirror. A
  refusal names what it refuses.
- A rule gives a text, nothing (NULL: the field is left alone, or cleared where the rule says so), or a reason why it can say
  neither; that leaves the field alone, too.
- A value is never shifted, rounded or guessed: a date is the day that stands in the mirror, whatever its offset.
- No reason and no refusal holds a value of a record.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Literal, NamedTuple

from delta_mirror.accela.contact import FIELDS, why_not_mappable
from delta_mirror.core.links import Cells, Source, Tables
from delta_mirror.core.model import Row, Value
from delta_mirror.core.names import fold
from delta_mirror.errors import ConfigError

CONTACT_ID = "contact_id"  # the key of a map that is no field: the column that holds the contact's id
LONGEST_NUMBER = 1e15  # up to here a double holds every whole number

Form = Literal["text", "date", "datetime"]
_FORMS: Mapping[str, Form] = {"text": "text", "date": "date", "datetime": "datetime"}
_KEYS = {
    "const": ("const",),
    "table": ("table", "where", "column", "values", "type", "clear"),
    "column": ("column", "values", "type", "clear"),
}
_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+")
_DAY = re.compile(r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(:\d\d)?(?:\.\d+)?(?: ?(?:Z|[+-]\d\d:?\d\d))?)?", re.ASCII)
_MIDNIGHT = "00:00"

NOT_LISTED = "its value is not in the table of values"
NO_DATE = "its value is no date"


class Part(NamedTuple):
    """A piece of a template: literal text, or the value of a column."""

    text: str
    is_column: bool


@dataclass(frozen=True, slots=True)
class Rule:
    """What one field of a contact is to hold.

    `parts` is a template (a single column, as a rule; a constant is one without columns). `table` is the child table that it
    is read from, None the root; `where` are columns of it with the texts that they must have. `values` translates, None not.
    """

    field: str
    parts: tuple[Part, ...]
    form: Form = "text"
    table: str | None = None
    where: tuple[tuple[str, str], ...] = ()
    values: Mapping[str, str] | None = None
    clear: bool = False

    def columns(self) -> list[str]:
        """Return the columns that it reads, those of `where` too."""
        return [part.text for part in self.parts if part.is_column] + [column for column, _ in self.where]


@dataclass(frozen=True, slots=True)
class EntityMap:
    """A whole `[accela.map.ENTITY]`. `contact_id` is the column that holds the contact's id, None where a file links."""

    entity: str
    rules: tuple[Rule, ...]
    contact_id: str | None = None

    def tables(self) -> list[str]:
        """Return the child tables that it reads, each once."""
        return list(dict.fromkeys(rule.table for rule in self.rules if rule.table is not None))


class Built(NamedTuple):
    """What the mapped fields are to hold (None: nothing), and why others, by their names, are left alone."""

    wanted: Mapping[str, str | None]
    left: Mapping[str, str]


# ---- reading a map


def read_map(where: str, entity: str, table: Mapping[str, object]) -> EntityMap:
    """Return the map that *table* is; *where* names the file in a refusal.

    Raises:
        ConfigError: a field, a type or a form is unknown.
    """
    rules = []
    contact_id: str | None = None
    for name, value in table.items():
        place = f"{where}: accela.map.{entity}.{_shown(name)}"
        if name == CONTACT_ID:
            if not isinstance(value, str) or not value or "{" in value or "}" in value:
                raise ConfigError(f"{place} must be the name of one column, in quotes")
            contact_id = value
            continue
        reason = why_not_mappable(name)
        if reason is not None:
            raise ConfigError(f"{place}: {_shown(name)} {reason}{_near(name)}")
        rules.append(_read_rule(place, name, value))
    if not rules:
        raise ConfigError(f"{where}: accela.map.{entity} maps no field; name at least one, or take the table away")
    return EntityMap(entity, tuple(rules), contact_id)


def _read_rule(place: str, name: str, value: object) -> Rule:
    form: Form = "date" if FIELDS[name] == "date_time" else "text"
    if isinstance(value, str):
        return Rule(name, _read_template(place, value), form)
    if not isinstance(value, dict):
        raise ConfigError(f"{place} must be a column or a template in quotes, or a table in braces")
    kind = next((key for key in _KEYS if key in value), None)
    if kind is None:
        raise ConfigError(f"{place} is a table without column, table or const; one of them has to be there")
    unknown = [key for key in value if key not in _KEYS[kind]]
    if unknown:
        raise ConfigError(
            f"{place}: {_shown(unknown[0])} is no key of a table with {kind}; its keys are {', '.join(_KEYS[kind])}"
        )
    if kind == "const":
        return Rule(name, (Part(_text(place, "const", value["const"]), is_column=False),))
    rule = Rule(name, _read_template(place, _text(place, "column", value.get("column"))), form)
    if "type" in value:
        asked = value["type"]
        if not isinstance(asked, str) or asked not in _FORMS:
            raise ConfigError(f"{place}: type is {_shown(str(asked))}, which is no type; known are {', '.join(_FORMS)}")
        rule = replace(rule, form=_FORMS[asked])
    if "values" in value:
        if "type" in value:
            raise ConfigError(f"{place} has both values and type; a value that is looked up needs no type")
        rule = replace(rule, values=_read_values(place, value["values"]))
    if "clear" in value:
        if not isinstance(value["clear"], bool):
            raise ConfigError(f"{place}: clear must be true or false")
        rule = replace(rule, clear=value["clear"])
    if kind == "table":
        table = _text(place, "table", value["table"])
        rule = replace(rule, table=table, where=_read_where(place, value.get("where", {})))
    return rule


def _read_template(place: str, text: str) -> tuple[Part, ...]:
    if not text:
        raise ConfigError(f"{place} is empty; name a column")
    if "{" not in text and "}" not in text:
        return (Part(text, is_column=True),)
    parts: list[Part] = []
    for found in _PIECE.finditer(text):
        piece, column = found.group(), found.group(1)
        if piece in ("{{", "}}"):
            parts.append(Part(piece[0], is_column=False))
        elif column:
            parts.append(Part(column, is_column=True))
        elif piece in ("{", "}", "{}"):
            raise ConfigError(f'{place} has a brace without a column; write "{{FirstName}} {{LastName}}", a brace itself twice')
        else:
            parts.append(Part(piece, is_column=False))
    if not any(part.is_column for part in parts):
        raise ConfigError(f'{place} names no column; a text that is always the same is written {{ const = "..." }}')
    return tuple(parts)


def _read_values(place: str, values: object) -> Mapping[str, str]:
    if not isinstance(values, dict) or not values or not all(isinstance(value, str) for value in values.values()):
        raise ConfigError(f'{place}: values must be a table of texts, such as {{ Male = "M", Female = "F" }}')
    return dict(values)


def _read_where(place: str, where: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(where, dict):
        raise ConfigError(f'{place}: where must be a table of columns and their values, such as {{ AddressType = "Home" }}')
    for column, value in where.items():
        if not isinstance(value, str | int | float):
            raise ConfigError(f"{place}: where.{_shown(column)} must be a text, a number, true or false")
    return tuple((column, as_text(value)) for column, value in where.items())


def _text(place: str, key: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{place}: {key} {'is missing' if value is None else 'must be a text that is not blank'}")
    return value


# ---- checking it against the mirror


def check_map(where: str, checked: EntityMap, tables: Tables) -> EntityMap:
    """Return *checked* with columns and tables as the mirror spells them.

    Raises:
        ConfigError: the mirror has no such column or table.
    """
    rules = []
    for rule in checked.rules:
        place = f"{where}: accela.map.{checked.entity}.{rule.field}"
        columns: Sequence[str] | None = tables.root
        table = rule.table
        if table is not None:
            table = _spelt(table, tables.children)
            if table is None:
                raise ConfigError(
                    f"{place}: {_shown(str(rule.table))} is no table of a {checked.entity} in the mirror; "
                    f"{_listed(tables.children, 'there is none')}"
                )
            columns = tables.children[table]
        if columns is not None:
            found = {column: _column(place, column, columns, table or checked.entity) for column in rule.columns()}
            rule = replace(
                rule,
                table=table,
                parts=tuple(Part(found[part.text], part.is_column) if part.is_column else part for part in rule.parts),
                where=tuple((found[column], value) for column, value in rule.where),
            )
        rules.append(rule)
    contact_id = checked.contact_id
    if contact_id is not None:
        contact_id = _column(f"{where}: accela.map.{checked.entity}.{CONTACT_ID}", contact_id, tables.root, checked.entity)
    return replace(checked, rules=tuple(rules), contact_id=contact_id)


def _column(place: str, name: str, columns: Sequence[str], table: str) -> str:
    found = _spelt(name, columns)
    if found is None:
        near = _closest(name, columns)
        hint = f"did you mean {near}?" if near else "a column is there once a record has borne it"
        raise ConfigError(f"{place}: {_shown(name)} is no column of {table} in the mirror; {hint}")
    return found


def _spelt(name: str, known: Iterable[str]) -> str | None:
    """Return the one of *known* that is *name*, in whatever case, as SQLite takes names."""
    known = list(known)
    return name if name in known else next((each for each in known if fold(each) == fold(name)), None)


def _listed(names: Iterable[str], none: str) -> str:
    listed = ", ".join(sorted(names))
    return f"there are {listed}" if listed else none


def _near(name: str) -> str:
    near = _closest(name, FIELDS)
    return f"; did you mean {near}?" if near and why_not_mappable(name) == "is no field of a contact" else ""


def _closest(name: str, known: Iterable[str]) -> str | None:
    from difflib import get_close_matches

    by_lower = {each.lower(): each for each in known}
    near = get_close_matches(name.lower(), by_lower, n=1)
    return by_lower[near[0]] if near else None


def _shown(name: str) -> str:
    return name if name.isprintable() and name and name == name.strip() else repr(name)


# ---- asking it


def crowded(asked: EntityMap, source: Source) -> set[str]:
    """Return the child tables of which several rows meet one rule, and only the log can tell which of them has changed last."""
    return {
        rule.table
        for rule in asked.rules
        if rule.table is not None
        and rule.table not in source.dated
        and sum(_meets(row, rule) for row in source.children.get(rule.table, ())) > 1
    }


def newest_first(rows: Sequence[Cells], log: Iterable[tuple[Sequence[Row], Sequence[Row]]]) -> list[Cells]:
    """Return *rows* of a child table by their last change, newest first; of equal ones in the order given.

    *log* has, newest first, what the table's rows were before and after each change. A row that no change has brought is as old
    as the record.
    """
    undated = [(number, _service_columns(row)) for number, row in enumerate(rows)]
    order: list[int] = []
    for before, after in log:
        came, gone = list(map(_service_columns, after)), list(map(_service_columns, before))
        now = [number for number, row in undated if came.count(row) > gone.count(row)]
        order += now
        undated = [(number, row) for number, row in undated if number not in now]
        if not undated:
            break
    return [rows[number] for number in [*order, *(number for number, _ in undated)]]


def build(asked: EntityMap, source: Source) -> Built:
    """Return what the contact of *source* is to hold by *asked*; of several child rows that meet a rule the first counts."""
    wanted: dict[str, str | None] = {}
    left: dict[str, str] = {}
    for rule in asked.rules:
        row = source.root
        if rule.table is not None:
            row = next((each for each in source.children.get(rule.table, ()) if _meets(each, rule)), {})
        text, reason = _formed(rule, _filled(rule.parts, row))
        if reason is not None:
            left[rule.field] = reason
        elif text is not None:
            wanted[rule.field] = text
        elif rule.clear:
            wanted[rule.field] = None
    return Built(wanted, left)


def as_text(value: Value) -> str:
    """Return a value of the mirror, or one of the configuration, as text: 12.0 is 12, true is 1 as in the mirror."""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float) and value.is_integer() and abs(value) < LONGEST_NUMBER:
        return str(int(value))
    return str(value)


def _filled(parts: Sequence[Part], row: Cells) -> str | None:
    """Return the template with the values of *row*; None where one of them is NULL, or nothing but blanks comes out."""
    texts = []
    for part in parts:
        value = row.get(part.text) if part.is_column else part.text
        if value is None:
            return None
        texts.append(as_text(value))
    text = "".join(texts)
    return text if text.strip() else None


def _formed(rule: Rule, text: str | None) -> tuple[str | None, str | None]:
    """Return *text* as the rule wants it, or why that cannot be."""
    if text is None:
        return None, None
    if rule.values is not None:
        found = rule.values.get(text)
        if found is None:
            return None, NOT_LISTED
        return (found if found.strip() else None), None
    if rule.form == "text":
        return text, None
    day = as_day(text, with_time=rule.form == "datetime")
    return day, NO_DATE if day is None else None


def as_day(text: str, *, with_time: bool) -> str | None:
    """Return the day that *text* names, `yyyy-MM-dd`, *with_time* `yyyy-MM-dd HH:mm:ss`; None where it names none.

    It is the day as written there. The offset is left away: a birthday has none, and Accela keeps none.
    """
    found = _DAY.fullmatch(text.strip())
    if found is None:
        return None
    day, minutes, seconds = found.groups()
    try:
        date.fromisoformat(day)
    except ValueError:
        return None
    return f"{day} {minutes or _MIDNIGHT}{seconds or ':00'}" if with_time else day


def _meets(row: Cells, rule: Rule) -> bool:
    for column, text in rule.where:
        value = row.get(column)
        if value is None or as_text(value) != text:
            return False
    return True


def _service_columns(row: Cells) -> dict[str, Value]:
    """Return what the log has of a row: without NULLs and the mirror's own columns."""
    return {column: value for column, value in row.items() if value is not None and not column.startswith("_")}
