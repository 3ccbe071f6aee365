"""What holds for all tests, wherever they lie: see `tests/skips.py`."""

pytest_plugins = ["skips"]
