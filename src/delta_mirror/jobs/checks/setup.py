"""Checks of what was set up: the configuration, who can read its secrets, who is told of runs."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from delta_mirror.jobs.checks.case import Case, Finding, ok, wrong

_OTHERS = 0o066  # group and others may read or write


def check_configuration(case: Case) -> Iterator[Finding]:
    """The file was read by the time this is called; what it says of where to find the service is looked at when that is asked."""
    config = case.config
    if config.dds is None and config.nexus is None and not config.starter.source and not case.has_mirror:
        what = f"{config.path} names nothing to mirror: it has neither [dds] nor [nexus], and there is no mirror yet"
        yield wrong("configuration", what, "copy config.example.toml and fill it in")
    else:
        yield ok("configuration", f"{config.path} can be used")


def check_secrets(case: Case) -> Iterator[Finding]:
    """Secrets that others can read: literal ones in the configuration, and the files that it names."""
    config = case.config
    files = dict(config.secret_files)
    if config.starter.key_file is not None and config.starter.key_file.exists():  # that it is not there is told elsewhere
        files["starter.key_file"] = config.starter.key_file
    exposed = [wrong("secrets", warning, f"chmod 600 {config.path}") for warning in config.warnings]
    exposed += [trouble for key, file in files.items() if (trouble := _trouble_of_file(key, file))]
    yield from exposed or [ok("secrets", "nobody else can read them")]


def _trouble_of_file(key: str, file: Path) -> Finding | None:
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
    except OSError as error:
        return wrong("secrets", f"{key} is taken from {file}, which cannot be read ({error.strerror})", f"mend {key}")
    if mode & _OTHERS:
        return wrong("secrets", f"{key} is taken from {file}, which others may read (mode {mode:04o})", f"chmod 600 {file}")
    return None


def check_telling(case: Case) -> Iterator[Finding]:
    """The metrics file can be written; the health check is not called, as that would tell it something."""
    file = case.config.ops.metrics_file
    if file is None:
        return
    folder = file.parent
    if not folder.is_dir():
        yield wrong("metrics file", f"there is no folder {folder}", f"mkdir -p {folder}, or mend [ops] metrics_file")
    elif not os.access(folder, os.W_OK | os.X_OK) or file.is_dir():
        yield wrong("metrics file", f"{file} cannot be written by this user", f"mend owner or mode of {folder}")
    else:
        yield from _check_collector(file)


def _check_collector(file: Path) -> Iterator[Finding]:
    if file.suffix == ".prom":
        yield ok("metrics file", f"{file} can be written")
    else:
        yield wrong("metrics file", f"{file} does not end in .prom, so that node_exporter does not read it", "rename it")
