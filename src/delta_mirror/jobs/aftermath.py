"""What happens after each run that writes, whatever command it was: the metrics file, and the call of the health check.

Invariants:

- The metrics are written while the run still has the lock: of two runs the later one has the last word. The health check is
  called afterwards, so that nobody waits for it.
- Neither fails a run or changes its exit code; what went wrong with them is a warning, which names no secret.
- A command that wrote no run (another one holds the mirror, the configuration is refused, `--dry-run`) tells nobody anything.
"""

import logging
from collections.abc import Callable

from delta_mirror.calls.addresses import is_loopback
from delta_mirror.config import Config
from delta_mirror.errors import DeltaMirrorError
from delta_mirror.jobs.outcome import WENT_WELL
from delta_mirror.mirror.read import Reader
from delta_mirror.mirror.write import Mirror

_log = logging.getLogger("delta_mirror.ops")


class Aftermath:
    """What is told of the run that *mirror* has seen, if it has seen one. *now* is our own clock."""

    def __init__(self, config: Config, mirror: Mirror, now: Callable[[], float]) -> None:
        self._config = config
        self._mirror = mirror
        self._now = now
        self._went_well: bool | None = None

    def tell_file(self) -> None:
        """Write the metrics file, and note how the run went."""
        file, ping_url = self._config.ops.metrics_file, self._config.ops.ping_url
        if self._mirror.run_id is None or (file is None and ping_url is None):
            return
        self._went_well = False
        try:
            with Reader.open(self._mirror.path) as reader:
                self._went_well = reader.outcome(self._mirror.run_id) in WENT_WELL and not self._mirror.has_drift
            if file is not None:
                from delta_mirror.jobs.metrics import collect_metrics  # only those who have a metrics file pay for importing it
                from delta_mirror.ops.prometheus import write_metrics

                write_metrics(file, collect_metrics(self._config, self._now()))
        except OSError as error:
            _log.warning(
                "the metrics file %s cannot be written (%s); mend owner or mode of its folder, or make room", file, error.strerror
            )
        except DeltaMirrorError as error:
            _log.warning("no metrics were written: %s", error)

    def tell_health_check(self) -> None:
        """Call the health check, for good or bad."""
        url = self._config.ops.ping_url
        if self._went_well is None or url is None:
            return
        from delta_mirror.ops.ping import ping  # requests takes long to import, and not every command that writes has it

        address = url.reveal()
        ca_file = str(self._config.http.ca_file or "")
        trouble = ping(address, went_well=self._went_well, ca_file=ca_file, is_local=is_loopback(address))
        if trouble is not None:
            _log.warning("the health check ([ops] ping_url) was not told of this run: %s", trouble)
