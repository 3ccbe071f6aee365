"""Which linked records are to be pushed: those that have changed since they were last, by the log of changes.

Invariants:

- Every map is checked against the mirror before anything else happens; what cannot be is refused by name.
- A link is due if nothing was pushed for it yet, if its record has changed since, or if the log can no longer say: it was pruned.
- Whoever was tried longest ago comes first, so that neither a limit nor a contact that always fails keeps others waiting.
- Nothing here writes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from delta_mirror.accela.links import after, plan_column
from delta_mirror.accela.mapping import CONTACT_ID, EntityMap, check_map, read_map
from delta_mirror.config import AccelaSection, Config
from delta_mirror.config.words import shown
from delta_mirror.core.links import Left, Link, LinkPlan, Tables, Who
from delta_mirror.core.mask import Mask
from delta_mirror.core.names import fold
from delta_mirror.dds.tables import FEED_CHILDREN
from delta_mirror.errors import ConfigError
from delta_mirror.mirror.accela import Pushes


@dataclass(frozen=True, slots=True)
class Due:
    """A link of which something is to be pushed. `changed_seq` is the number of its record's last change since the last push.

    `left` is a push of it that nothing has settled yet; `last_number` and `last_outcome` are those of its last one. `is_retry`
    says that what did not take is tried again.
    """

    link: Link
    changed_seq: int = 0
    left: Left | None = None
    last_number: int = 0
    last_outcome: str | None = None
    is_retry: bool = False


@dataclass(slots=True)
class Chosen:
    """What is to be done in a run. `links` is to be carried out first; `head` is up to where the log was looked at.

    `orphans` are pushes left behind that belong to no link of now; `quiet` links of which nothing is to be pushed. `rivals` are
    records that claim one contact; `absent` counts links of records that the mirror does not hold, `unmapped` those of no map.
    """

    maps: dict[str, EntityMap] = field(default_factory=dict)
    links: LinkPlan = field(default_factory=LinkPlan)
    head: int = 0
    due: list[Due] = field(default_factory=list)
    orphans: list[Left] = field(default_factory=list)
    quiet: list[Link] = field(default_factory=list)
    rivals: list[Who] = field(default_factory=list)
    absent: int = 0
    total: int = 0
    unmapped: dict[str, int] = field(default_factory=dict)


def read_maps(config: Config, section: AccelaSection) -> dict[str, EntityMap]:
    """Return the maps of the configuration, by entity.

    Raises:
        ConfigError: a field, a type or a form is unknown.
    """
    return {entity: read_map(str(config.path), entity, table) for entity, table in section.map.items()}


def refuse_masked_maps(config: Config, mask: Mask, maps: Mapping[str, EntityMap]) -> None:
    """Refuse *maps* that would push to Accela what the mirror does not hold.

    Raises:
        ConfigError: a map reads a column that is masked.
    """
    for entity, fields in maps.items():
        read = [(rule.field, rule.table or entity, column) for rule in fields.rules for column in rule.columns()]
        if fields.contact_id is not None:
            read.append((CONTACT_ID, entity, fields.contact_id))
        for name, table, column in read:
            if mask.action(table, column) != "keep":
                raise ConfigError(
                    f"{config.path}: accela.map.{entity}.{shown(name)} reads {table}.{shown(column)}, which [mirror.mask] takes "
                    "away; take one of the two away, nothing was pushed"
                )


def choose_due(where: str, pushes: Pushes, maps: Mapping[str, EntityMap], *, retry_failed: bool) -> Chosen:
    """Return what is to be done; *where* names the configuration in a refusal.

    Raises:
        ConfigError: a map names a column or a table that the mirror has not.
    """
    chosen = Chosen(head=pushes.head())
    for entity, asked in maps.items():
        tables = pushes.tables(entity)
        if tables is not None:  # of an entity of which nothing was ever mirrored, nothing can be due
            chosen.maps[entity] = check_map(where, asked, _with_known(entity, tables))
    links = pushes.links()
    for entity, checked in chosen.maps.items():
        if checked.contact_id is not None:
            plan, rivals = plan_column(links, entity, pushes.claims(entity, checked.contact_id))
            links = after(links, plan)
            _join(chosen.links, plan)
            chosen.rivals += rivals
    chosen.total = len(links)
    for link in links:
        if link.who.entity not in maps:
            chosen.unmapped[link.who.entity] = chosen.unmapped.get(link.who.entity, 0) + 1
    _choose(chosen, pushes, [link for link in links if link.who.entity in chosen.maps], retry_failed=retry_failed)
    return chosen


def _choose(chosen: Chosen, pushes: Pushes, links: Sequence[Link], *, retry_failed: bool) -> None:
    """Part *links* into those that are due and those that are not."""
    left = {(each.who.person, each.contact_id): each for each in pushes.left()}
    pushed = [link.pushed_seq for link in links if link.pushed_seq is not None]
    changed = _by_person(pushes.changed(min([chosen.head, *pushed, *(each.seq for each in left.values())])))
    pruned = pushes.pruned_through()
    known = pushes.known([link.who for link in links if link.pushed_seq is None])
    due: list[tuple[Link, int]] = []
    for link in links:
        # A person who is linked by a column is one record, wherever it has changed.
        is_person = chosen.maps[link.who.entity].contact_id is not None
        seq = changed.get(link.who.person if is_person else link.who, 0)
        if link.pushed_seq is None:
            if link.who not in known:
                chosen.absent += 1
                continue
        elif link.pushed_seq >= max(seq, pruned):
            chosen.quiet.append(link)
            continue
        due.append((link, seq))
    last = pushes.last_pushes([*chosen.quiet, *(link for link, _ in due)] if retry_failed else [link for link, _ in due])
    if retry_failed:
        due += [(link, 0) for link in chosen.quiet if link.who in last and last[link.who][1] == "partly"]
        again = {link.who for link, _ in due}
        chosen.quiet = [link for link in chosen.quiet if link.who not in again]
    for link, seq in due:
        number, outcome = last.get(link.who, (0, None))
        own = left.pop((link.who.person, link.contact_id), None)
        chosen.due.append(Due(link, seq, own, number, outcome, retry_failed))
    chosen.orphans = sorted(left.values(), key=lambda each: each.number)
    chosen.due.sort(key=lambda each: (each.last_number, each.changed_seq, each.link.who))


def _by_person(changed: Mapping[Who, int]) -> dict[Who | tuple[str, int, str], int]:
    """Return *changed* by record, and by person over all locations."""
    found: dict[Who | tuple[str, int, str], int] = {}
    for who, seq in changed.items():
        found[who] = seq
        found[who.person] = max(seq, found.get(who.person, 0))
    return found


def _with_known(entity: str, tables: Tables) -> Tables:
    """Return *tables* with the child tables that the feed is known to bring, and that nothing has made yet."""
    there = {fold(name) for name in tables.children}
    known = {name: None for name in sorted(FEED_CHILDREN.get(entity, ())) if fold(name) not in there}
    return Tables(tables.root, {**tables.children, **known})


def _join(whole: LinkPlan, plan: LinkPlan) -> None:
    whole.added.extend(plan.added)
    whole.changed.extend(plan.changed)
    whole.removed.extend(plan.removed)
    whole.unchanged.extend(plan.unchanged)
