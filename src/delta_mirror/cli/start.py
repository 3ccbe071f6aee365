"""Where `sync` and `delta-mirror` begin.

Invariants:

- Ctrl-C ends the program silently also while it is still being loaded: nothing has begun that would have to be put in order.
  So nothing that takes time is imported before `main` listens.
"""

import gc
import os
import signal


def main() -> None:
    """Load the program and run it."""
    # Only where Python would raise KeyboardInterrupt: what the caller has us ignore (nohup) stays ignored.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda number, frame: os._exit(128 + number))
    # A page is some ten thousand objects, none of them in a cycle: Python would look through them every 700. Loading the program
    # alone leaves fifty-five thousand.
    gc.set_threshold(100_000, 20, 20)

    try:
        from delta_mirror.cli.main import main as run

        run()
    finally:
        # All is closed and written. On its way out Python would look for cycles among a hundred thousand objects, several times:
        # that was an eighth of a run that finds nothing new.
        gc.freeze()
