"""`_enums`: what the numbers of the service's enumerations mean, fetched once a week in the course of `sync deltas`.

Invariants:

- The table is replaced whole, in one transaction, by an answer that holds something; by anything less it stays as it is.
- A failure is told, and never makes a run fail: labels are a convenience. The next UTC day it is tried again.
- One call, counted for the first stream that was drained: where no stream could be, nothing is asked.
"""

import threading
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta

from delta_mirror.core.model import Stream
from delta_mirror.errors import DiskFullError, ProtocolError, UnfinishedError
from delta_mirror.jobs.session import Session, StoppedError, unless_stopped

WEEK = timedelta(days=7)
DAY = timedelta(days=1)
_DUE = "enums_due"  # in _meta: the UTC day from which on they are asked for again


def refresh_enums(session: Session, drained: Sequence[Stream], stop: threading.Event) -> str | None:
    """Fetch the enumerations anew if a week has gone by; return what an operator should know where that failed."""
    mirror = session.mirror
    today = datetime.fromtimestamp(mirror.now(), UTC).date()
    if not drained:
        return None
    with mirror.transaction() as tx:
        due = tx.kept(_DUE)
    if due is not None and not _is_due(due, today):
        return None
    try:
        enums = unless_stopped(lambda: session.service.fetch_enums(drained[0]), stop)
        if not any(enums.values()):
            raise ProtocolError("the enums: the answer names no value")
        with mirror.transaction() as tx:
            tx.replace_enums(enums)
            tx.keep(_DUE, (today + WEEK).isoformat())
    except StoppedError:
        return None
    except UnfinishedError as error:
        with suppress(DiskFullError), mirror.transaction() as tx:
            tx.keep(_DUE, (today + DAY).isoformat())
        return f"the labels of enumerations (`_enums`) are not renewed, the next try is tomorrow: {error}"
    return None


def _is_due(due: str, today: date) -> bool:
    """Return whether the day has come. A day that lies further off than a week was noted under a wrong clock."""
    return not today.isoformat() < due <= (today + WEEK).isoformat()
