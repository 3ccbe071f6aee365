"""Which mirrored record belongs to which contact: the rows of a file, or the column of a mirror, against the links that are held.

Invariants:

- One contact belongs to one record, and one record to one contact.
- A link whose contact is another one than before counts as never pushed; any other change of it does not.
- A file is taken whole or not at all, and a refusal names its line.
"""

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from delta_mirror.core.links import NEXUS, Claim, Link, LinkPlan, Who
from delta_mirror.core.values import is_guid
from delta_mirror.errors import RefusedError

COLUMNS = ("entity", "id", "contact_id", "tenant_id", "location_id")


_OTHER_MARKS = {"semicolons": ";", "tabs": "\t"}  # what spreadsheets write in their place


class FileRow(NamedTuple):
    """One row of a file: the line it ends on, the record, and its contact, empty where the link is to go."""

    line: int
    who: Who
    contact_id: str


# ---- a file


def read_file(lines: Iterable[str], entities: Sequence[str]) -> list[FileRow]:
    """Return the rows of a CSV with the columns `entity,id,contact_id`, and `tenant_id,location_id` for records of the DDS.

    Raises:
        RefusedError: a column or an entity is unknown, a number is none, a record stands there twice.
    """
    reader = csv.reader(lines, strict=True)
    try:
        head = [name.strip().lower() for name in next(reader, [])]
        _check_head(head)
        rows = [_read_row(reader.line_num, dict(zip(head, row, strict=True)), entities) for row in _whole_rows(reader, head)]
    except csv.Error as error:
        raise RefusedError(
            f"line {reader.line_num} is no CSV ({error}); write fields with commas or quotes in double quotes"
        ) from error
    lines_of: dict[Who, int] = {}
    for row in rows:
        if row.who in lines_of:
            raise RefusedError(f"lines {lines_of[row.who]} and {row.line} name the same record; take one away")
        lines_of[row.who] = row.line
    return rows


def _check_head(head: Sequence[str]) -> None:
    needed = COLUMNS[:3]
    lacking = [name for name in needed if name not in head]
    if lacking:
        other = next((name for name, mark in _OTHER_MARKS.items() if len(head) == 1 and mark in head[0]), None)
        advice = f"; its fields are parted by {other}: save it with commas" if other else ""
        raise RefusedError(f"the first line must name the columns {', '.join(needed)}; it lacks {lacking[0]}{advice}")
    unknown = [name for name in head if name not in COLUMNS]
    if unknown:
        raise RefusedError(f"the first line names {unknown[0]!r}, which is no column; known are {', '.join(COLUMNS)}")
    if len(set(head)) < len(head):
        raise RefusedError("the first line names a column twice; take one away")


def _whole_rows(reader: Iterator[list[str]], head: Sequence[str]) -> Iterator[list[str]]:
    """Yield the rows that are not blank.

    Raises:
        RefusedError: one has more or fewer fields than the first line.
    """
    for row in reader:
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(head):
            line = getattr(reader, "line_num", 0)
            raise RefusedError(f"line {line} has {len(row)} fields, and the first line names {len(head)}; mend the line")
        yield row


def _read_row(line: int, cells: Mapping[str, str], entities: Sequence[str]) -> FileRow:
    row = {name: cell.strip() for name, cell in cells.items()}
    entity = row["entity"]
    if entity not in entities:
        raise RefusedError(f"line {line} names an entity that there is not; known are {', '.join(entities)}")
    if not row["id"]:
        raise RefusedError(f"line {line} names no id; give the record's, as it stands in the mirror")
    if not row["id"].isprintable():
        raise RefusedError(f"line {line} has an id that no record can have; give the record's, as it stands in the mirror")
    if not row["contact_id"].isprintable():
        raise RefusedError(f"line {line} has a contact_id that no contact can have; give the id that Accela shows")
    places = [_place(line, name, row.get(name, ""), is_needed=entity != NEXUS) for name in ("tenant_id", "location_id")]
    id_ = row["id"].lower() if is_guid(row["id"]) and entity != NEXUS else row["id"]
    return FileRow(line, Who(entity, places[0], places[1], id_), row["contact_id"])


def _place(line: int, name: str, text: str, *, is_needed: bool) -> int:
    if not is_needed:
        if text not in ("", "0"):
            raise RefusedError(f"line {line} has a {name}; a record of {NEXUS} has none, so leave it empty")
        return 0
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise RefusedError(f"line {line} needs a whole number as {name}, as a record of the DDS stands under tenant and location")
    return int(text)


def plan_file(held: Sequence[Link], rows: Sequence[FileRow]) -> LinkPlan:
    """Return what *rows* do to the links that are *held*; those that they do not name stay.

    Raises:
        RefusedError: two records would have one contact.
    """
    before = {link.who: link for link in held}
    lines = {row.who: row.line for row in rows}
    after = {who: link.contact_id for who, link in before.items()} | {row.who: row.contact_id for row in rows}
    owners: dict[str, Who] = {}
    for who, contact_id in after.items():
        if not contact_id:
            continue
        other = owners.setdefault(contact_id, who)
        if other != who:
            where = sorted(lines[each] for each in (who, other) if each in lines)
            named = f"lines {where[0]} and {where[1]} tie" if len(where) == 2 else f"line {where[0]} and a link that is held tie"
            raise RefusedError(
                f"{named} two records to one contact; a contact belongs to one record. Name the other record with an empty "
                "contact_id to unlink it"
            )
    plan = LinkPlan()
    for row in rows:
        _settle(plan, before.get(row.who), row.who, row.contact_id)
    return plan


# ---- a column of the mirror


def plan_column(held: Sequence[Link], entity: str, claims: Iterable[Claim]) -> tuple[LinkPlan, list[Who]]:
    """Return what *claims*, one for each record of *entity*, do to the links that are *held*, and who cannot be linked.

    A record that is deleted, or gone, keeps its link, so that its end is noted, unless a living one claims the contact. Living
    ones that claim the same contact have none. A person at several locations is one record: the link moves with it.
    """
    claims = list(claims)
    mine = {link.who.person: link for link in held if link.who.entity == entity}
    taken = {link.contact_id for link in held if link.who.entity != entity}
    rivals = Counter(claim.contact_id for claim in claims if claim.is_alive and claim.contact_id)
    refused = {claim.who for claim in claims if claim.is_alive and (rivals[claim.contact_id] > 1 or claim.contact_id in taken)}
    living = {claim.who.person: claim for claim in claims if claim.is_alive}
    plan = LinkPlan()
    for person in {**mine, **living}:
        link, claim = mine.get(person), living.get(person)
        if claim is not None:
            _settle(plan, link, claim.who, "" if claim.who in refused else claim.contact_id)
        elif link is not None:
            _settle(plan, link, link.who, "" if rivals[link.contact_id] else link.contact_id)
    return plan, sorted(refused)


def _settle(plan: LinkPlan, link: Link | None, who: Who, contact_id: str) -> None:
    """Add to *plan* how *link*, None where there is none yet, becomes the one of *who* to *contact_id*."""
    if link is None:
        if contact_id:
            plan.added.append(Link(who, contact_id))
        return
    wanted = link._replace(who=who) if link.contact_id == contact_id else Link(who, contact_id)
    if wanted == link:
        plan.unchanged.append(link)
        return
    if not contact_id or who != link.who:
        plan.removed.append(link.who)
    if contact_id:
        plan.changed.append(wanted)


def after(held: Sequence[Link], plan: LinkPlan) -> list[Link]:
    """Return the links as they are once *plan* is carried out."""
    links = {link.who: link for link in held}
    for who in plan.removed:
        links.pop(who, None)
    return list((links | {link.who: link for link in [*plan.added, *plan.changed]}).values())
