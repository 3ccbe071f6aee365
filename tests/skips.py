"""A skipped test fails the run, unless it is expected here: a test that quietly does not run shows nothing."""

import pytest

# Node id, without parameters, and why it is skipped: {"tests/edges/test_lock.py::test_name": "why"}.
_OPENSSH = "needs OpenSSH's server, which CI installs"
_PUTTY = "needs PuTTY's converter of keys, which CI installs"
EXPECTED_SKIPS: dict[str, str] = {
    "tests/torture/test_torture.py::test_mirror_withstands_everything_at_once": "needs a C compiler, and glibc",
    "tests/torture/test_torture.py::test_mirror_withstands_a_file_system_that_is_full_to_the_last_page": "mounts need root",
    "tests/commands/test_doctor.py::test_disk_without_room_for_the_next_starter": "mounts need root",
    "tests/commands/test_doctor.py::test_network_file_system_is_found_and_refused_by_what_writes": "mounts need root",
    "tests/commands/test_erase.py::test_without_room_to_write_the_file_anew_nothing_is_written": "mounts need root",
    "tests/edges/test_hostile_file.py::test_schema_cannot_be_written_as_if_it_were_a_table": "Python can say so from 3.12 on",
    "tests/docs/test_units.py::test_systemd_takes_the_units": "systemd-analyze is on machines with systemd only",
} | {
    f"tests/edges/test_sftp_openssh.py::{name}": reason
    for name, reason in {
        "test_what_the_message_advises_makes_an_unknown_host_known_and_its_files_are_read": _OPENSSH,
        "test_what_the_message_advises_takes_the_new_key_of_a_host_for_the_old_one": _OPENSSH,
        "test_keys_of_all_kinds_log_in_and_others_do_not": _OPENSSH,
        "test_agent_is_not_asked_although_it_has_the_right_key": _OPENSSH,
        "test_what_the_message_advises_makes_a_key_of_putty_usable": _PUTTY,
    }.items()
}


class _Skips:
    def __init__(self) -> None:
        self.unexpected: dict[str, None] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self._note(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self._note(report.nodeid)

    def _note(self, nodeid: str) -> None:
        if nodeid.split("[")[0] not in EXPECTED_SKIPS:
            self.unexpected[nodeid] = None

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.unexpected and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for nodeid in self.unexpected:
            terminalreporter.write_line(f"skipped, and not in EXPECTED_SKIPS of tests/skips.py: {nodeid}", red=True)


def pytest_configure(config: pytest.Config) -> None:
    """Watch for skips where results come together: with xdist that is the controller, and not its workers."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Skips())
