"""What holds for all tests, wherever they lie: see `tests/skips.py`."""

import signal

pytest_plugins = ["skips"]

# A shell starts what runs in its background with Ctrl-C ignored, and every process under it would inherit that: the tests that
# interrupt one would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
