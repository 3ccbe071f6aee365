"""Files of messages, read as they are found: by lines, as one object, as one array; compressed, cut off, broken."""

import gzip
import json
import os
import resource
import subprocess
import tracemalloc
from pathlib import Path

import pytest

from delta_mirror.errors import RefusedError
from delta_mirror.nexus.files import DamagedError, Limits, Source, find_sources
from nexus_messages import SAMPLE

ONE, TWO = b'{"a": 1}', b'{"b": [1, "]}"]}'
WHOLE = SAMPLE.strip()


def read(path: Path, content: bytes, limits: Limits | None = None) -> list[bytes]:
    path.write_bytes(content)
    return list(Source(path, limits or Limits()).bodies())


LAYOUTS = [
    pytest.param(b"", [], id="empty"),
    pytest.param(b" \r\n\n", [], id="blanks"),
    pytest.param(b"\xef\xbb\xbf", [], id="nothing but a byte order mark"),
    pytest.param(ONE, [ONE], id="one line"),
    pytest.param(ONE + b"\n" + TWO + b"\n", [ONE, TWO], id="lines"),
    pytest.param(b"\xef\xbb\xbf\r\n" + ONE + b"\r\n\r\n  " + TWO + b" \r\n", [ONE, TWO], id="lines as Windows writes them"),
    pytest.param(ONE + b"\n\xef\xbb\xbf" + TWO, [ONE, TWO], id="two files put into one"),
    pytest.param(ONE + b"\n{broken\n[1]\n" + TWO, [ONE, b"{broken", b"[1]", TWO], id="broken lines"),
    pytest.param(b"{broken\n" + ONE, [b"{broken", ONE], id="a broken first line"),
    pytest.param(b"hello\n" + ONE, [b"hello", ONE], id="a first line that is no JSON at all"),
    pytest.param(b"5\n" + ONE, [b"5", ONE], id="a first line that is a number"),
    pytest.param(ONE + b" " + TWO, [ONE + b" " + TWO], id="two objects in one line"),
    pytest.param(WHOLE, [WHOLE], id="one object over many lines"),
    pytest.param(b"\n\xef\xbb\xbf" + WHOLE + b"\n\n", [WHOLE], id="one object with blanks around it"),
    pytest.param(WHOLE + b"\n{", [*WHOLE.split(b"\n"), b"{"], id="one object and something more"),
    pytest.param(b"[]", [], id="an empty array"),
    pytest.param(b"[" + ONE + b"," + TWO + b"]", [ONE, TWO], id="an array in one line"),
    pytest.param(b" [\n " + ONE + b" ,\n" + WHOLE + b"\n]\n", [ONE, WHOLE], id="an array over many lines"),
    pytest.param(b'[1, null, "x", ' + ONE + b"]", [b"1", b"null", b'"x"', ONE], id="an array of all sorts"),
    pytest.param(b"[" + ONE + b",]", [b"[" + ONE + b",]"], id="an array with a comma too much"),
    pytest.param(b"[" + ONE + b"\n" + TWO, [b"[" + ONE, TWO], id="an array without an end"),
    pytest.param(b"[" + ONE + b"] x", [b"[" + ONE + b"] x"], id="an array and something more"),
    pytest.param(b'{"a": NaN}\n' + ONE, [b'{"a": NaN}', ONE], id="lines that begin with NaN"),
    pytest.param(b"[" + b"1" * 9000 + b"," + ONE + b"]", [b"1" * 9000, ONE], id="a number without an end"),
    pytest.param(b'["\xff\xfe", ' + ONE + b"]", [b'"\xff\xfe"', ONE], id="bytes that are no UTF-8"),
    pytest.param(b"\x00" + ONE + b"\n" + ONE, [b"\x00" + ONE, ONE], id="a NUL"),
    pytest.param(b"[" * 100_000, [b"[" * 100_000], id="very deep"),
    pytest.param(b'{"a": "' + "é€😀".encode() * 99_999 + b'"}', [b'{"a": "' + "é€😀".encode() * 99_999 + b'"}'], id="long"),
    pytest.param(
        b'[{"a": "' + "é€😀".encode() * 99_999 + b'"},\n' + ONE + b"]",
        [b'{"a": "' + "é€😀".encode() * 99_999 + b'"}', ONE],
        id="a long one in an array",
    ),
]


@pytest.mark.parametrize(("content", "bodies"), LAYOUTS)
def test_messages_are_found_in_every_layout_to_the_letter(tmp_path: Path, content: bytes, bodies: list[bytes]) -> None:
    assert read(tmp_path / "messages.json", content) == bodies
    assert read(tmp_path / "messages.json.gz", gzip.compress(content)) == bodies


@pytest.mark.parametrize(("content", "bodies"), LAYOUTS)
def test_what_comes_through_a_pipe_is_read_alike(tmp_path: Path, content: bytes, bodies: list[bytes]) -> None:
    (tmp_path / "messages").write_bytes(content)
    with subprocess.Popen(["cat", tmp_path / "messages"], stdout=subprocess.PIPE) as cat:  # in which there is no way back
        assert cat.stdout is not None
        assert list(Source(Path(f"/dev/fd/{cat.stdout.fileno()}")).bodies()) == bodies


@pytest.mark.parametrize(("opening", "closing", "count"), [(b"[", b"]", 1), (b"{broken\n", b"", 2)])
def test_what_comes_compressed_through_a_pipe_takes_no_more_of_the_disk_than_was_sent(
    tmp_path: Path, opening: bytes, closing: bytes, count: int
) -> None:
    blanks = b" " * (1 << 20)
    with gzip.open(tmp_path / "messages.gz", "wb") as file:
        file.write(opening + ONE)
        for _ in range(24):
            file.write(blanks)
        file.write(closing)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with subprocess.Popen(["cat", tmp_path / "messages.gz"], stdout=subprocess.PIPE) as cat:
        assert cat.stdout is not None
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, before[1]))
        try:
            assert len(list(Source(Path(f"/dev/fd/{cat.stdout.fileno()}")).bodies())) == count
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_an_array_is_split_at_every_border_of_chunks(tmp_path: Path) -> None:
    limits = Limits(chunk=7)
    wanted = [json.dumps({"n": n, "text": 'é\\"]}' * n, "list": [1.5, True, None]}).encode() for n in range(40)]
    assert read(tmp_path / "messages.json", b"[" + b" ,\n".join(wanted) + b"]", limits) == wanted
    assert read(tmp_path / "messages.json", WHOLE, limits) == [WHOLE]
    broken = b'[{"a": tru, ' + ONE + b"]"
    assert read(tmp_path / "messages.json", broken, limits) == [broken]


@pytest.mark.parametrize(
    "content",
    [ONE + b"\n" + TWO * 50_000 + b"\n" + TWO, b"[" + ONE + b"," + b",".join([TWO] * 50_000) + b"]"],
    ids=["lines", "array"],
)
def test_a_compressed_file_that_breaks_off_gives_what_came_before(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "messages.gz"
    whole = gzip.compress(content)
    path.write_bytes(whole[:-12])
    found = Source(path).bodies()
    assert next(found) == ONE
    with pytest.raises(DamagedError, match="breaks off"):
        list(found)
    path.write_bytes(whole[:40] + b"\xff" * 40 + whole[80:])
    with pytest.raises(DamagedError, match="damaged"):
        list(Source(path).bodies())


def test_memory_does_not_grow_with_an_array(tmp_path: Path) -> None:
    path = tmp_path / "messages.json"
    with path.open("wb") as file:
        file.write(b"[" + ONE)
        for _ in range(40):
            file.write((b"," + b'{"text": "' + b"x" * 990 + b'"}') * 200)
        file.write(b"]")
    tracemalloc.start()
    try:
        assert sum(1 for _ in Source(path).bodies()) == 8_001
        assert tracemalloc.get_traced_memory()[1] < path.stat().st_size / 4
    finally:
        tracemalloc.stop()


def test_a_message_beyond_all_measure_is_no_message(tmp_path: Path) -> None:
    limits = Limits(longest=1000, chunk=100)
    with pytest.raises(DamagedError, match="more than"):
        read(tmp_path / "messages.json", b"x" * 2000, limits)
    with pytest.raises(DamagedError, match="more than"):
        read(tmp_path / "messages.json", b'["' + b"x" * 5000 + b'"]', limits)


def test_folders_are_read_in_order_of_names_and_hidden_files_are_passed_over(tmp_path: Path) -> None:
    for name in ("b.json", "a/2.json", "a/1.json", "c.json", ".hidden", ".git/x.json", "a/.swp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(ONE)
    (tmp_path / "d").symlink_to(tmp_path)  # would lead round in circles
    names = [str(source.path.relative_to(tmp_path)) for source in find_sources([str(tmp_path)]) if source.path]
    assert names == ["a/1.json", "a/2.json", "b.json", "c.json"]
    named = find_sources([str(tmp_path / ".hidden"), "-", str(tmp_path / "b.json")])
    assert [source.name for source in named] == [str(tmp_path / ".hidden"), "standard input", str(tmp_path / "b.json")]


@pytest.mark.parametrize("path", ["gone", "gone/deeper", "a\0b", "closed"])
def test_a_path_that_cannot_be_read_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "closed").write_bytes(ONE)
    (tmp_path / "closed").chmod(0)
    if path == "closed" and os.access(tmp_path / "closed", os.R_OK):
        path = "gone"  # root may read everything
    with pytest.raises(RefusedError, match="nothing was taken"):
        find_sources([str(tmp_path / path)])


def test_an_empty_path_is_refused_and_is_not_the_folder_we_stand_in() -> None:
    with pytest.raises(RefusedError, match="a path is empty"):
        find_sources([""])


def test_a_file_that_vanishes_is_damaged(tmp_path: Path) -> None:
    with pytest.raises(DamagedError, match="cannot be read"):
        list(Source(tmp_path / "gone").bodies())
