"""The maintenance window: which moments lie in it, and what it explains."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from delta_mirror.core.maintenance import AFTERMATH, Maintenance
from delta_mirror.errors import (
    BudgetError,
    CredentialsError,
    DiskFullError,
    LimitedError,
    PagingError,
    ProtocolError,
    StreamRefusedError,
    UnreachableError,
)

NEW_YORK = ZoneInfo("America/New_York")
NIGHT = Maintenance(0, 6 * 60, NEW_YORK)
OVER_MIDNIGHT = Maintenance(22 * 60 + 30, 4 * 60, NEW_YORK)


def at(text: str) -> float:
    """Return a moment of UTC in seconds since the epoch."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("window", "moment", "is_in"),
    [
        (NIGHT, "2026-05-04T03:59:59", False),  # 23:59:59 in New York
        (NIGHT, "2026-05-04T04:00:00", True),
        (NIGHT, "2026-05-04T09:59:59", True),
        (NIGHT, "2026-05-04T10:00:00", False),
        (NIGHT, "2026-01-04T04:30:00", False),  # in winter it begins an hour later by UTC
        (NIGHT, "2026-01-04T10:30:00", True),
        (OVER_MIDNIGHT, "2026-05-04T02:29:59", False),
        (OVER_MIDNIGHT, "2026-05-04T02:30:00", True),
        (OVER_MIDNIGHT, "2026-05-04T04:00:00", True),
        (OVER_MIDNIGHT, "2026-05-04T07:59:59", True),
        (OVER_MIDNIGHT, "2026-05-04T08:00:00", False),
        (Maintenance(18 * 60, 24 * 60, NEW_YORK), "2026-05-05T03:59:59", True),
        (Maintenance(18 * 60, 24 * 60, NEW_YORK), "2026-05-05T04:00:00", False),
        (Maintenance(0, 6 * 60, ZoneInfo("Asia/Kathmandu")), "2026-05-04T18:14:00", False),  # 5:45 ahead
        (Maintenance(0, 6 * 60, ZoneInfo("Asia/Kathmandu")), "2026-05-04T18:15:00", True),
    ],
)
def test_window_is_what_clocks_on_the_wall_of_its_zone_show(window: Maintenance, moment: str, *, is_in: bool) -> None:
    assert window.covers(at(moment)) == is_in


@pytest.mark.parametrize(("day", "hours"), [("2026-03-08", 5), ("2026-11-01", 7), ("2026-05-04", 6)])
def test_night_on_which_clocks_are_put_forward_is_an_hour_shorter_and_back_an_hour_longer(day: str, hours: int) -> None:
    start = datetime.fromisoformat(day).replace(tzinfo=UTC)
    minutes = [start + timedelta(minutes=minute) for minute in range(26 * 60)]
    of_day = [moment for moment in minutes if moment.astimezone(NEW_YORK).date().isoformat() == day]

    assert sum(NIGHT.covers(moment.timestamp()) for moment in of_day) == hours * 60


@pytest.mark.parametrize(
    ("error", "is_explained"),
    [
        (UnreachableError("x"), True),
        (LimitedError("x"), True),
        (LimitedError("x", until=at("2026-05-11T05:00:00")), True),
        (CredentialsError("x"), False),
        (BudgetError("x"), False),
        (StreamRefusedError("x", 403), False),
        (ProtocolError("x"), False),
        (PagingError("x"), False),
        (DiskFullError("x"), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_only_that_the_service_is_not_there_is_explained_and_only_within_the_window(
    error: Exception, *, is_explained: bool
) -> None:
    assert NIGHT.explains(error, at("2026-05-04T05:00:00")) == is_explained
    assert not NIGHT.explains(error, at("2026-05-04T12:00:00"))


@pytest.mark.parametrize(
    ("noted_at", "lasts", "is_explained"),
    [
        ("2026-05-04T09:59:00", AFTERMATH, True),
        ("2026-05-04T09:59:00", AFTERMATH + 60, False),  # a pause of hours is news, whenever it was asked for
        ("2026-05-04T10:00:00", AFTERMATH, False),
    ],
)
def test_short_pause_that_was_asked_for_within_the_window_may_outlast_it(
    noted_at: str, lasts: float, *, is_explained: bool
) -> None:
    noted = at(noted_at)

    assert NIGHT.explains(LimitedError("x", noted + lasts, noted), at("2026-05-04T10:05:00")) == is_explained
