"""What is said beside the results, on standard error: as plain lines, or as one JSON object a line.

Invariants:

- `--quiet` lets errors through and nothing else, so that cron mails only trouble: a call that was answered at the second
  attempt is none.
- The words are the same in both forms.
"""

import json
import logging
import sys
import time

LOGGER = logging.getLogger("delta_mirror")

_JSON = json.JSONEncoder(ensure_ascii=False)  # once: `json.dumps` would build one for every line of a listing


class _AsJson(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
        told = {"at": at, "level": record.levelname.lower(), "message": record.getMessage()}
        return json_text(told)


class _AsText(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        prefix = {logging.ERROR: "error: ", logging.WARNING: "warning: "}.get(record.levelno, "")
        return prefix + printable(record.getMessage())


def printable(text: str) -> str:
    """Return *text* with what cannot be printed as escapes.

    Names of columns and of files come from outside: none of them may steer a terminal or begin a line of its own.
    """
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def plain(text: str) -> str:
    """Return *text*, which may be JSON and is then the same JSON, with what cannot be printed as the escapes that JSON has."""
    return text if text.isprintable() else "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in text)


def json_text(value: object) -> str:
    """Return *value* as JSON on one line, with what cannot be printed as escapes."""
    return plain(_JSON.encode(value))


def set_up_messages(*, verbose: bool, quiet: bool, log_format: str) -> None:
    """Send the program's messages to standard error, in this form and from this level on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_AsJson() if log_format == "json" else _AsText())
    LOGGER.handlers[:] = [handler]
    LOGGER.propagate = False
    LOGGER.setLevel(logging.ERROR if quiet else logging.DEBUG if verbose else logging.INFO)


def tell(message: str) -> None:
    """Say what an operator may like to know; not with `--quiet`."""
    LOGGER.info("%s", message)


def warn(message: str) -> None:
    """Say what an operator should look at."""
    LOGGER.warning("%s", message)


def complain(message: str) -> None:
    """Say what kept a thing from being done."""
    LOGGER.error("%s", message)


def say_failure(message: str, *, is_expected: bool) -> None:
    """Complain of what went wrong; of what the maintenance window explains, nobody is to get mail."""
    if is_expected:
        warn(f"within the maintenance window ([dds] maintenance): {message}")
    else:
        complain(message)
