import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from delta_mirror.dds.export_runs import ExportFile
from delta_mirror.dds.export_source import Source, open_source
from delta_mirror.errors import ExportError, RefusedError

NAME = "Client_20260501.csv"


@contextmanager
def opened(source: str | Path) -> Iterator[Source]:
    folder = Path(source)
    with open_source(
        str(source), key_file=None, key_passphrase=None, known_hosts=None, work_folder=folder, timeout=5.0
    ) as of_source:
        yield of_source


def listed(source: str | Path) -> list[ExportFile]:
    with opened(source) as of_source:
        return sorted(of_source.list(), key=lambda file: file.name)


def put(folder: Path, name: str = NAME, body: bytes = b"one") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(body)
    return folder / name


def refusal(source: str | Path) -> str:
    with pytest.raises(RefusedError) as caught:
        listed(source)
    return str(caught.value)


# What is found


def test_file_is_listed_with_all_that_is_known_of_it(tmp_path: Path) -> None:
    path = put(tmp_path / "Tenant11" / "Location9", body=b"12345")
    os.utime(path, (1_000_000_000, 1_000_000_000.25))
    (file,) = listed(tmp_path)
    assert file == ExportFile(11, 9, "Client", "20260501", str(path), str(path), 5, 1_000_000_000.25)


def test_locations_are_found_at_any_depth_and_in_any_case(tmp_path: Path) -> None:
    put(tmp_path / "Tenant11" / "Location9")
    put(tmp_path / "a" / "b" / "TENANT12" / "location1")
    put(tmp_path / "Tenant11" / "Location9" / "Tenant13" / "Location2")
    assert [(file.tenant_id, file.location_id) for file in listed(tmp_path)] == [(11, 9), (13, 2), (12, 1)]


@pytest.mark.parametrize("source", ["Tenant11/Location9", "Tenant11", "."])
def test_source_may_be_the_location_itself_or_lie_in_a_tenant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    put(tmp_path / "Tenant11" / "Location9")
    monkeypatch.chdir(tmp_path)
    assert [(file.tenant_id, file.location_id) for file in listed(source)] == [(11, 9)]
    monkeypatch.chdir(tmp_path / source)
    assert [(file.tenant_id, file.location_id) for file in listed(".")] == [(11, 9)]


def test_files_outside_of_locations_and_what_is_no_file_are_not_listed(tmp_path: Path) -> None:
    put(tmp_path / "Tenant11" / "Location9")
    put(tmp_path / "Tenant11")
    put(tmp_path)
    (tmp_path / "Tenant11" / "Location9" / "Sale_20260501.csv").mkdir()
    os.mkfifo(tmp_path / "Tenant11" / "Location9" / "Employee_20260501.csv")
    assert [Path(file.path).name for file in listed(tmp_path)] == [NAME]


def test_strays_in_a_location_are_listed_as_no_table(tmp_path: Path) -> None:
    put(tmp_path / "Tenant11" / "Location9", "readme.html")
    (file,) = listed(tmp_path)
    assert (file.table, file.date) == ("", "")


def test_links_are_followed_and_no_loop_is_walked_twice(tmp_path: Path) -> None:
    put(tmp_path / "kept" / "Tenant11" / "Location9")
    (tmp_path / "latest").symlink_to("kept")
    (tmp_path / "kept" / "Tenant11" / "Location9" / "up").symlink_to("../..")
    (tmp_path / "kept" / "self").symlink_to(".")
    (tmp_path / "itself").symlink_to("itself")
    (file,) = listed(tmp_path)
    assert file.path == str(tmp_path / "kept" / "Tenant11" / "Location9" / NAME)


def test_link_to_a_folder_elsewhere_is_found(tmp_path: Path) -> None:
    put(tmp_path / "store" / "may")
    (tmp_path / "source" / "Tenant11").mkdir(parents=True)
    (tmp_path / "source" / "Tenant11" / "Location9").symlink_to(tmp_path / "store" / "may")
    assert len(listed(tmp_path / "source")) == 1


def test_link_to_a_file_is_the_file_and_one_that_leads_nowhere_is_remarked(tmp_path: Path) -> None:
    folder = tmp_path / "Tenant11" / "Location9"
    put(tmp_path / "store", body=b"12345")
    folder.mkdir(parents=True)
    (folder / NAME).symlink_to(tmp_path / "store" / NAME)
    (folder / "Sale_20260501.csv").symlink_to("nowhere")
    with opened(tmp_path) as source:
        assert [file.size for file in source.list()] == [5]
        assert source.remarks == [f"{folder}/Sale_20260501.csv cannot be looked at (No such file or directory)"]
        source.list()
        assert len(source.remarks) == 1


def test_names_that_are_no_utf8_and_names_with_line_feeds_are_read(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/of\xe9\n/Tenant11/Location9"
    os.makedirs(folder)  # noqa: PTH103 - a name that is no text
    put(Path(os.fsdecode(folder)))
    with opened(tmp_path) as source, source.open(source.list()[0]) as chunks:
        assert b"".join(chunks) == b"one"


# What cannot be a source


def test_source_that_is_not_there_is_refused(tmp_path: Path) -> None:
    said = refusal(tmp_path / "absent")
    assert said.startswith(f"there is no folder {tmp_path}/absent; SOURCE is the folder above Tenant<id>/Location<id>")


def test_source_that_is_a_file_is_refused(tmp_path: Path) -> None:
    assert f"{tmp_path}/{NAME} is a file; where it is an archive, unpack it" in refusal(put(tmp_path))


def test_source_without_a_location_is_refused(tmp_path: Path) -> None:
    put(tmp_path)
    assert f"{tmp_path} holds no folder Tenant<id>/Location<id>; SOURCE is the folder above" in refusal(tmp_path)


def test_source_with_an_empty_location_has_no_files(tmp_path: Path) -> None:
    (tmp_path / "Tenant11" / "Location9").mkdir(parents=True)
    assert listed(tmp_path) == []


@pytest.mark.parametrize("source", ["ftp://host/x", "https://host/x", "s3://bucket"])
def test_address_of_another_kind_is_no_folder(source: str) -> None:
    assert "SOURCE is neither a folder nor an SFTP address; write sftp://user@host/path" in refusal(source)


# What is read is what was listed


def test_large_file_comes_in_chunks(tmp_path: Path) -> None:
    body = os.urandom(3 * 1024 * 1024 + 1)
    put(tmp_path / "Tenant11" / "Location9", body=body)
    with opened(tmp_path) as source, source.open(source.list()[0]) as chunks:
        found = list(chunks)
    assert b"".join(found) == body
    assert max(map(len, found)) == 1024 * 1024


def read_after(tmp_path: Path, meddle: object) -> str:
    """Return what is said where *meddle* is done to a file while it is read: after its first chunk, before its last."""
    path = put(tmp_path / "Tenant11" / "Location9", body=bytes(2 * 1024 * 1024))
    os.utime(path, (1_000_000_000, 1_000_000_000))
    with opened(tmp_path) as source, source.open(source.list()[0]) as chunks:
        next(chunks)
        assert callable(meddle)
        meddle(path)
        with pytest.raises(ExportError) as caught:
            list(chunks)
    return str(caught.value)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")
    os.utime(path, (1_000_000_000, 1_000_000_000))


def shrink(path: Path) -> None:
    os.truncate(path, 1024 * 1024)
    os.utime(path, (1_000_000_000, 1_000_000_000))


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"other")


def put_another_in_its_place(path: Path) -> None:
    path.with_name("new").write_bytes(b"new")
    path.with_name("new").rename(path)


@pytest.mark.parametrize("meddle", [grow, shrink, overwrite, put_another_in_its_place, Path.unlink])
def test_file_that_changes_while_it_is_read_is_refused_by_name(tmp_path: Path, meddle: object) -> None:
    said = read_after(tmp_path, meddle)
    assert said.startswith(f"{tmp_path}/Tenant11/Location9/{NAME} has changed since it was found")


@pytest.mark.parametrize("meddle", [grow, overwrite, Path.unlink])
def test_file_that_has_changed_since_it_was_listed_is_refused_before_its_first_byte(tmp_path: Path, meddle: object) -> None:
    path = put(tmp_path / "Tenant11" / "Location9")
    os.utime(path, (1_000_000_000, 1_000_000_000))
    with opened(tmp_path) as source:
        (file,) = source.list()
        assert callable(meddle)
        meddle(path)
        with pytest.raises(ExportError, match=f"{NAME} has changed since it was found"), source.open(file) as chunks:
            next(chunks)


def test_file_that_became_a_folder_is_refused(tmp_path: Path) -> None:
    path = put(tmp_path / "Tenant11" / "Location9")
    with opened(tmp_path) as source:
        (file,) = source.list()
        path.unlink()
        path.mkdir()
        with pytest.raises(ExportError, match=NAME), source.open(file) as chunks:
            next(chunks)


def test_failure_in_the_hands_of_the_reader_is_not_one_of_the_file(tmp_path: Path) -> None:
    put(tmp_path / "Tenant11" / "Location9")
    with opened(tmp_path) as source:
        (file,) = source.list()
        with pytest.raises(OSError, match="full"), source.open(file):
            raise OSError(28, "full")


def test_nothing_is_written_at_the_source(tmp_path: Path) -> None:
    put(tmp_path / "Tenant11" / "Location9")
    before = sorted((path, path.lstat().st_mtime_ns) for path in tmp_path.rglob("*"))
    with opened(tmp_path) as source, source.open(source.list()[0]) as chunks:
        list(chunks)
    assert sorted((path, path.lstat().st_mtime_ns) for path in tmp_path.rglob("*")) == before
