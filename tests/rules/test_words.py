"""Texts of a configuration: how durations and URLs are read, and what a refusal says of a value without saying it."""

import errno
import os
import re
from datetime import date
from pathlib import Path

import pytest

from delta_mirror.config.words import (
    LONGEST,
    LONGEST_SHOWN,
    duration_text,
    expanded,
    fits_a_header,
    is_utf8,
    kind_of,
    plain_url,
    quoted,
    read_duration,
    shown,
    suggestion,
    why,
)
from delta_mirror.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0),
        ("000s", 0),
        ("90s", 90),
        ("010m", 600),
        ("2h", 7_200),
        ("7d", 604_800),
        ("36500d", LONGEST),
        (f"{LONGEST}s", LONGEST),
    ],
)
def test_duration_is_a_whole_number_and_a_unit(text: str, seconds: int) -> None:
    assert read_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "7", "d", "7 d", "7D", "-1s", "1.5h", "٣s", "1h30m"])
def test_what_is_no_duration_is_refused_with_what_one_looks_like(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration") as caught:
        read_duration(text)
    assert str(caught.value) == f"{text!r} is no duration; write a whole number and s, m, h or d: 90s, 10m, 2h, 7d"


@pytest.mark.parametrize("text", ["36501d", f"{LONGEST + 1}s", "9" * 5_000 + "s"])
def test_duration_has_a_bound(text: str) -> None:
    with pytest.raises(ValueError, match="longer") as caught:
        read_duration(text)
    assert str(caught.value) == "a duration may not be longer than 36500d"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0d"), (1, "1s"), (90, "90s"), (120, "2m"), (7_200, "2h"), (86_400, "1d"), (90_000, "25h")]
)
def test_duration_is_written_in_the_largest_unit_that_leaves_no_rest(seconds: int, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("https://Example.ORG", "https://example.org"),
        ("HTTPS://example.org:8443/Path/a//", "https://example.org:8443/Path/a"),
        ("https://example.org/X//", "https://example.org/X"),
        ("https://[fe80::1]/x", "https://[fe80::1]/x"),
        ("http://localhost:1/", "http://localhost:1"),
        ("http://127.1.2.3", "http://127.1.2.3"),
        ("http://[::1]:80", "http://[::1]:80"),
        ("http://[0:0:0:0:0:0:0:1]", "http://[0:0:0:0:0:0:0:1]"),
    ],
)
def test_url_is_kept_in_one_form(text: str, plain: str) -> None:
    assert plain_url(text) == plain


_UNREADABLE = "has a host or a port that cannot be read; give https://host or https://host:port"
_PLAIN_HTTP = "must begin with https://; plain http:// is for this machine alone (localhost, 127.0.0.0/8, [::1])"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty; give an https:// address"),
        ("https://a b", "holds blanks, control characters or letters outside ASCII; give a plain https:// address"),
        ("https://a\tb", "holds blanks, control characters or letters outside ASCII; give a plain https:// address"),
        ("https://ä.example", "holds blanks, control characters or letters outside ASCII; give a plain https:// address"),
        ("https://a.example/?q=1", "has a query or a fragment (? or #); leave it away"),
        ("https://a.example/#f", "has a query or a fragment (? or #); leave it away"),
        ("https://a.example:x", _UNREADABLE),
        ("https://a.example:0", _UNREADABLE),
        ("https://a.example:99999", _UNREADABLE),
        ("https://", _UNREADABLE),
        ("https://-a.example", _UNREADABLE),
        (r"https://a\b", _UNREADABLE),
        ("ftp://a.example", "is no https:// address; give https://host or https://host:port"),
        ("a.example", "is no https:// address; give https://host or https://host:port"),
        ("https://user:word@a.example", "holds credentials (before the @); leave them away"),
        ("http://a.example", _PLAIN_HTTP),
        ("http://128.0.0.1", _PLAIN_HTTP),
        ("http://[::2]", _PLAIN_HTTP),
        ("http://localhost.example", _PLAIN_HTTP),
    ],
)
def test_url_that_cannot_be_used_is_refused_without_being_shown(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        plain_url(text)
    assert str(caught.value) == said
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_what_was_meant_is_the_nearest_of_what_is_known_or_any_of_it() -> None:
    known = ["Client", "Employee", "Sale"]
    assert suggestion("CLIENTS", known) == "did you mean Client?"
    assert suggestion("xyz", known) == "known are Client, Employee, Sale"


def test_value_is_called_by_its_kind() -> None:
    kinds = {
        True: "a boolean",
        17: "a number",
        1.5: "a decimal number",
        "x": "text",
        date(2026, 1, 1): "a date or time",
    }
    assert {value: kind_of(value) for value in kinds} == kinds
    assert [kind_of([]), kind_of({})] == ["an array", "a table"]


def test_text_of_the_file_upsets_no_terminal_and_is_cut_where_it_is_long() -> None:
    longest = "x" * LONGEST_SHOWN
    assert [shown("name"), shown(""), shown("a\x1b[2J"), shown(longest), shown(longest + "x")] == [
        "name",
        "''",
        r"'a\x1b[2J'",
        longest,
        f"{longest}…",
    ]
    assert [quoted("a'b"), quoted("\n"), quoted(longest + "x")] == ['"a\'b"', r"'\n'", f"'{longest}…'"]


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOENT, "does not exist"),
        (errno.EISDIR, "is a folder"),
        (errno.EACCES, "may not be read by this user"),
        (errno.EIO, f"cannot be read ({os.strerror(errno.EIO)})"),
    ],
)
def test_file_that_could_not_be_read_is_said_to_be_what_it_is(number: int, said: str) -> None:
    assert why(OSError(number, os.strerror(number))) == said


def test_text_that_came_from_no_utf_8_is_known() -> None:
    assert [is_utf8(text) for text in ("", "ä€", b"\xff".decode(errors="surrogateescape"))] == [True, True, False]


@pytest.mark.parametrize(
    ("text", "fits"), [("", True), ("a b", True), (" a", False), ("a ", False), ("ä", False), ("a\nb", False), ("a\x00", False)]
)
def test_header_of_http_holds_printable_ascii_without_a_blank_at_either_end(text: str, fits: bool) -> None:
    assert fits_a_header(text) is fits


def test_home_in_front_of_a_path_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/jo")
    assert [expanded(text, "x") for text in ("~/a", "a/~", "/b")] == [Path("/home/jo/a"), Path("a/~"), Path("/b")]
    with pytest.raises(ConfigError) as caught:
        expanded("~nobody-of-this-name/a", "mirror.path")
    said = "mirror.path begins with ~nobody-of-this-name, and there is no such home folder; write the whole path"
    assert str(caught.value) == said
    assert caught.value.__suppress_context__
