"""`sync changes`: the log of changes, in the order in which they were carried out."""

from collections.abc import Iterator

from delta_mirror.config import Config
from delta_mirror.core.values import EPOCH, SECOND
from delta_mirror.jobs.selection import Selection
from delta_mirror.mirror.file import own_time
from delta_mirror.mirror.read import Logged, Reader


def read_changes(
    config: Config,
    selection: Selection,
    *,
    ids: tuple[str, ...] = (),
    run_id: int | None = None,
    since: int | None = None,
    limit: int | None = None,
) -> Iterator[Logged]:
    """Yield the logged changes that meet every filter given; *since* in ticks.

    Raises:
        MirrorFileError: there is no mirror, or it cannot be read.
    """
    with Reader.open(config.mirror.path) as reader:
        yield from reader.changes(
            tenants=selection.tenants,
            locations=selection.locations,
            entities=selection.entities,
            ids=[id_.lower() for id_ in ids],
            run_id=run_id,
            since=None if since is None else own_time((since - EPOCH) / SECOND),
            limit=limit,
        )
