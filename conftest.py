"""What holds for all tests, wherever they lie: see `tests/skips.py`, and that no test fails because a machine is slow."""

import signal

from hypothesis import HealthCheck, settings

pytest_plugins = ["skips"]

settings.register_profile("any machine", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

# A shell starts what runs in its background with Ctrl-C ignored, and every process under it would inherit that: the tests that
# interrupt one would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
