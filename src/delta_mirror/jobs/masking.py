"""`[mirror.mask]` for the jobs: read with what the services' own rules say of its names, and carried out on what is there.

Invariants:

- A name that can be no table of a service, and a column that something is told by, is refused by name before anything is written.
- Whoever opens the mirror to write has carried out the mask of the configuration before he does anything else.
- What a mask no longer takes away does not come back by itself: that is said, with what brings it back.
"""

import logging
from collections.abc import Collection, Iterable
from contextlib import suppress

from delta_mirror.config import Config
from delta_mirror.config.words import shown, suggestion
from delta_mirror.core.mask import EVERY, Mask, Terms, hashes
from delta_mirror.core.names import fold
from delta_mirror.dds import maskable as of_dds
from delta_mirror.dds.tables import ENTITIES, FEED_CHILDREN
from delta_mirror.errors import ConfigError, DeltaMirrorError
from delta_mirror.mirror.masking import Carried, Messages, Renewed, carry_out_mask, is_due, keep_met
from delta_mirror.mirror.read import Reader
from delta_mirror.mirror.write import Mirror
from delta_mirror.nexus import maskable as of_nexus
from delta_mirror.nexus.sections import CLIENT_TABLE

_log = logging.getLogger("delta_mirror.mirror")


def entity_of(table: str) -> str | None:
    """Return whose table *table* is, None where that cannot be told by its name."""
    return of_nexus.entity_of(table) or of_dds.entity_of(table)


def why_needed(table: str, column: str) -> str | None:
    """Return why *column* of *table* cannot be masked, None where it can."""
    if of_nexus.entity_of(table) is not None:
        return of_nexus.why_needed(table, column)
    return of_dds.why_needed(table, column)


TERMS = Terms(why_needed, entity_of)


def mask_of(config: Config) -> Mask:
    """Return the mask of the configuration, one that masks nothing where it has none.

    Raises:
        ConfigError: it names no table of a service, or a column that cannot be masked, or hashes without a key; nothing was
            written.
    """
    rules = config.mirror.mask
    _refuse_strangers(config, [table for table in rules if entity_of(table) is None])
    for table, named in rules.items():
        right = table if of_nexus.entity_of(table) else of_dds.stored_as(table)
        if fold(right) != fold(table):
            raise ConfigError(f"{config.path}: mirror.mask.{shown(table)} is called {right} in the mirror; name it so")
        for column, action in named.items():
            why = None if column == EVERY or action == "keep" else why_needed(table, column)
            if why:
                raise ConfigError(
                    f"{config.path}: mirror.mask.{shown(table)} cannot mask {shown(column)}, which {why}; take it away, or write "
                    '"keep"'
                )
    return Mask(rules, TERMS, config.require_mask_key('"hash" in [mirror.mask]') if hashes(rules) else None)


def _refuse_strangers(config: Config, tables: Iterable[str]) -> None:
    """Refuse *tables*, which are not named as a service names its own, unless the mirror holds tables of these names."""
    strangers = list(tables)
    if not strangers:
        return
    known: set[str] = set()
    if config.mirror.path.exists():
        with Reader.open(config.mirror.path) as reader:
            known = {fold(name) for _, name, _ in reader.child_tables()}
    for table in strangers:
        if fold(table) not in known:
            names = [*ENTITIES, *sorted(name for names in FEED_CHILDREN.values() for name in names), *of_nexus.TABLES.values()]
            raise ConfigError(f"{config.path}: mirror.mask.{shown(table)} is no table of the mirror; {suggestion(table, names)}")


def put_on(mirror: Mirror, mask: Mask, *, dry_run: bool = False) -> None:
    """Let *mirror* hold what *mask* allows and nothing else: of what is there now, and of all that comes.

    A *dry_run* writes nothing, and so leaves what is there as it is.

    Raises:
        MirrorFileError: what is there was hashed with another key; nothing was changed.
    """
    mirror.mask = mask
    if dry_run:
        if is_due(mirror, mask):
            _log.warning("[mirror.mask] has changed; the next run that writes carries it out on what the mirror holds")
        return
    carried = carry_out_mask(mirror, mask, Messages(CLIENT_TABLE, _renew, _has_place_in))
    if carried.columns:
        _log.info("[mirror.mask] was carried out on what the mirror held: %s", ", ".join(carried.columns))
    for line in _told(carried):
        _log.warning(line)


def note_met(mirror: Mirror, mask: Mask) -> None:
    """Keep which of the columns that are named have come, so that `sync doctor` can tell of the others."""
    with suppress(DeltaMirrorError):
        keep_met(mirror, mask)


def _renew(mask: Mask, tables: Collection[str], body: bytes) -> Renewed | None:
    from delta_mirror.nexus.masking import renew  # only where there are messages to be looked at

    return renew(mask, tables, body)


def _has_place_in(tables: Collection[str], section: str) -> bool:
    from delta_mirror.nexus.masking import has_place_in

    return has_place_in(tables, section)


def _told(carried: Carried) -> Iterable[str]:
    if carried.lifted:
        yield (
            f"[mirror.mask] no longer takes away {', '.join(carried.lifted)}, but what was taken away cannot be brought back "
            "from the mirror: rows are whole again as they are sent anew. `sync full-starter` and the deltas after it bring all "
            "of the DDS, `sync verify --repair` the records that differ, and messages of Nexus only their files"
        )
    if carried.unswept:
        yield (
            f"values that [mirror.mask] takes away may still lie in free pages of the mirror or in its WAL: {carried.unswept}. "
            "The next run that writes tries again"
        )
