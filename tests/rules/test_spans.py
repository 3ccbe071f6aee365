"""Spans of time as people say them."""

import pytest

from delta_mirror.core.spans import span


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3_599, "59 min"),
        (3_600, "1 h"),
        (86_399, "23 h"),
        (86_400, "1 d"),
        (30.5 * 86_400, "30 d"),
    ],
)
def test_span_is_said_in_its_largest_unit_rounded_down(seconds: float, said: str) -> None:
    assert span(seconds) == said
