"""Hypothesis as a mutation tester needs it: few examples, the same each time, and no search for a shorter one after a failure.

A plugin of pytest, named on its command line by `run.py`: it has to be there before the tests make settings of their own.
"""

import pytest
from hypothesis import HealthCheck, Phase, settings

MOST_EXAMPLES = 60  # of one test; a fault that only more of them show would cost seconds for each of a hundred faults

settings.register_profile(
    "quick",
    max_examples=MOST_EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("quick")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Hold the tests that ask for more examples to `MOST_EXAMPLES`, too."""
    for test in (getattr(item, "obj", None) for item in items):
        asked = getattr(test, "_hypothesis_internal_use_settings", None)
        if isinstance(asked, settings) and asked.max_examples > MOST_EXAMPLES:
            test._hypothesis_internal_use_settings = settings(asked, max_examples=MOST_EXAMPLES)  # type: ignore[union-attr]
