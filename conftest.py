"""What holds for all tests, wherever they lie: see `tests/skips.py`, and that no test fails because a machine is slow."""

from hypothesis import HealthCheck, settings

pytest_plugins = ["skips"]

settings.register_profile("any machine", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
