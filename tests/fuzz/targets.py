"""All targets, by name."""

from collections.abc import Mapping
from typing import Any

from fuzz import accela, arguments, feed, messages, service, settings, sftp, starter
from fuzz.engine import Target

TARGETS: Mapping[str, Target[Any]] = {
    target.name: target
    for target in (
        feed.TARGET,
        starter.TARGET,
        messages.TARGET,
        settings.TARGET,
        arguments.TARGET,
        service.TARGET,
        accela.TARGET,
        sftp.TARGET,
    )
}
