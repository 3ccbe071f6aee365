"""Where `sync` and `delta-mirror` begin.

Invariants:

- Nothing is imported here that takes time: Ctrl-C and SIGTERM end the program silently also while it is still being loaded, when
  nothing has begun that would have to be brought to an end.
"""

import os
import signal
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def main() -> None:
    """Load the program and run it."""
    # What the caller has us ignore (nohup, a job in the background of a script) stays ignored.
    heard = {number: signal.getsignal(number) for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN}
    for number in heard:
        signal.signal(number, _end)
    from delta_mirror.cli.main import main as run

    run(lambda: _give_back(heard))


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)


def _give_back(handlers: object) -> None:
    """Not used."""
