"""What stands around a run: whole files, the format of metrics, and the call of a health check, over real sockets."""

import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from delta_mirror.ops.ping import ping
from delta_mirror.ops.prometheus import Metric, Sample, as_text, write_metrics
from delta_mirror.ops.whole_file import written_whole
from health import Check, listening

# A line of the format: comment, or name, labels, value.
LINE = re.compile(
    r'# (HELP|TYPE) \w+ .*|[a-zA-Z_:][\w:]*(\{\w+="([^"\\\n]|\\[\\"n])*"(,\w+="([^"\\\n]|\\[\\"n])*")*\})? -?[\d.e+]+'
)


# Whole files


def test_file_has_its_name_only_when_it_is_whole_and_its_mode_whatever_the_umask(tmp_path: Path) -> None:
    file = tmp_path / "told"
    file.write_text("before", encoding="ascii")
    before = os.umask(0o777)
    try:
        with written_whole(file, 0o644) as partial:
            assert stat.S_IMODE(partial.stat().st_mode) == 0o644
            partial.write_text("after", encoding="ascii")
            assert file.read_text(encoding="ascii") == "before"
    finally:
        os.umask(before)
    assert file.read_text(encoding="ascii") == "after"
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [file]


def test_file_that_cannot_be_finished_leaves_the_old_one_and_nothing_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "told"
    file.write_text("before", encoding="ascii")

    def fail() -> None:
        with written_whole(file, 0o644) as partial:
            partial.write_text("half", encoding="ascii")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert file.read_text(encoding="ascii") == "before"
    assert list(tmp_path.iterdir()) == [file]


def test_leftover_of_a_dead_process_goes_and_that_of_a_living_one_stays(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as living:
        dead = subprocess.Popen([sys.executable, "-c", ""])
        dead.wait()
        (tmp_path / f".told.{dead.pid}.partial").touch()
        (tmp_path / f".told.{dead.pid}.partial-journal").touch()
        (tmp_path / f".told.{living.pid}.partial").touch()
        (tmp_path / f".other.{dead.pid}.partial").touch()
        with written_whole(tmp_path / "told", 0o644):
            pass
        assert {path.name for path in tmp_path.iterdir()} == {"told", f".told.{living.pid}.partial", f".other.{dead.pid}.partial"}
        living.kill()


# Metrics


def test_metrics_are_in_the_format_whatever_stands_in_a_label() -> None:
    odd = 'a "quote", a \\ backslash,\na new line } 1'
    text = as_text(
        [
            Metric("records", "some live", [Sample({"entity": odd, "tenant": "11"}, 3.0), Sample({"entity": "Sale"}, 0.25)]),
            Metric("quarantine", "none here", []),
            Metric("at", "large", [Sample({}, 1_780_000_000.0)]),
        ]
    )

    assert text.endswith("\n")
    assert [line for line in text.splitlines() if not LINE.fullmatch(line)] == []
    assert text.splitlines() == [
        "# HELP delta_mirror_records some live",
        "# TYPE delta_mirror_records gauge",
        'delta_mirror_records{entity="a \\"quote\\", a \\\\ backslash,\\na new line } 1",tenant="11"} 3',
        'delta_mirror_records{entity="Sale"} 0.25',
        "# HELP delta_mirror_quarantine none here",
        "# TYPE delta_mirror_quarantine gauge",
        "# HELP delta_mirror_at large",
        "# TYPE delta_mirror_at gauge",
        "delta_mirror_at 1780000000",
    ]


def test_label_that_is_no_text_is_written_all_the_same(tmp_path: Path) -> None:
    write_metrics(tmp_path / "metrics.prom", [Metric("records", "half", [Sample({"entity": "a\ud800"}, 1)])])

    assert (tmp_path / "metrics.prom").read_text(encoding="ascii").endswith('{entity="a\\ud800"} 1\n')


def test_metrics_can_be_read_by_others(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_metrics(tmp_path / "delta.prom", [Metric("at", "x", [Sample({}, 1)])])
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "delta.prom").stat().st_mode) == 0o644


# The health check


@pytest.fixture
def check() -> Iterator[Check]:
    with listening() as check:
        yield check


def call(check: Check, path: str = "/secret", *, went_well: bool = True, limit: float = 20.0) -> str | None:
    return ping(check.url + path, went_well=went_well, ca_file="", is_local=True, limit=limit)


@pytest.mark.parametrize(
    ("path", "good", "bad"),
    [("/secret", "/secret", "/secret/fail"), ("/s?a=b", "/s?a=b", "/s/fail?a=b"), ("", "/", "/fail")],
)
def test_good_run_is_told_by_the_address_itself_and_a_bad_one_by_fail_behind_it(
    check: Check, path: str, good: str, bad: str
) -> None:
    assert call(check, path) is None
    assert call(check, path, went_well=False) is None

    assert check.paths == [good, bad]


def test_redirect_is_not_followed(check: Check) -> None:
    check.status, check.location = 302, f"{check.url}/elsewhere"

    assert call(check) == "its answer is a redirect (status 302), which is not followed"
    assert check.paths == ["/secret"]


def test_health_check_that_refuses_or_is_not_there_is_said_without_its_address(check: Check) -> None:
    check.status = 404
    refused = call(check)
    gone = ping("http://127.0.0.1:1/secret", went_well=True, ca_file="", is_local=True)
    odd = ping("https://[/secret", went_well=True, ca_file="", is_local=False)

    assert refused == "it answers with status 404"
    for trouble in (gone, odd):
        assert trouble is not None
        assert trouble.startswith("it cannot be reached (")
        assert "secret" not in trouble
        assert "127.0.0.1" not in trouble


def test_health_check_that_does_not_answer_is_not_waited_for(check: Check) -> None:
    check.release.clear()

    assert call(check, limit=0.2) == "no answer in 0 s"


def test_password_of_a_netrc_is_not_sent(check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login ada password invented\n", encoding="ascii")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))

    assert call(check) is None
    assert "Authorization" not in check.headers[0]
