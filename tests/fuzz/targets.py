"""All targets, by name."""

from collections.abc import Mapping
from typing import Any

from fuzz import accela, arguments, broker, feed, messages, service, settings, sftp, starter
from fuzz.engine import Target

TARGETS: Mapping[str, Target[Any]] = {
    module.TARGET.name: module.TARGET for module in (feed, starter, messages, settings, arguments, service, accela, sftp, broker)
}
