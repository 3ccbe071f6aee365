"""What `status` says of Accela: how many records are tied to contacts, and how their pushes stand.

Invariants:

- A link is counted in one place only: it waits, or it is as its last push to the contact that it has now has left it.
- It waits by the log of changes, as a push would find it; the map and the contact are not asked.
- A contact that fails for months makes nobody read the log of months: whose last push failed has failed, changed or not.
"""

from dataclasses import dataclass
from typing import cast

from delta_mirror.mirror.read import Reader


@dataclass(frozen=True, slots=True)
class AccelaTally:
    """How many links there are, how many of them wait for a push, and of how many the last push failed, or took in part."""

    links: int
    waiting: int
    failed: int
    partly: int
    last_pushed_at: str | None


# The log has no index by record: it is read once, from where the link that is furthest behind and has not failed stands.
_STANDING = """
with last as (
    select *, (select outcome from _accela_pushes p where p.entity = l.entity and p.tenant_id = l.tenant_id
               and p.location_id = l.location_id and p.id = l.id and p.contact_id = l.contact_id
               order by number desc limit 1) as outcome
    from _accela_links l
), log as (
    select entity, tenant_id, location_id, id, max(seq) as seq from _changes
    where seq > (select min(pushed_seq) from last where outcome is not 'failed') group by 1, 2, 3, 4
), stand as (
    select last.pushed_seq is null or coalesce(log.seq > last.pushed_seq, 0) as has_changed, pushed_at, outcome
    from last left join log using (entity, tenant_id, location_id, id)
)
select count(*), coalesce(sum(has_changed and outcome is not 'failed'), 0), coalesce(sum(outcome = 'failed'), 0),
    coalesce(sum(outcome = 'partly' and not has_changed), 0), max(pushed_at)
from stand
"""


def read_accela_tally(reader: Reader) -> AccelaTally | None:
    """Return how things stand with Accela, None where nothing is linked."""
    if not reader.ask("select 1 from sqlite_master where name = '_accela_links'")[1]:
        return None  # a mirror of an earlier version, which the next run brings up
    found = reader.ask(_STANDING)[1]
    links, waiting, failed, partly, last = cast("tuple[int, int, int, int, str | None]", found[0])
    return AccelaTally(links, waiting, failed, partly, last) if links else None
