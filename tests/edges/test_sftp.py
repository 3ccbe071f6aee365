import base64
import hmac
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh
import pytest

from delta_mirror.dds.export_runs import ExportFile
from delta_mirror.dds.export_source import Source, open_source
from delta_mirror.dds.sftp_login import conversion, read_key
from delta_mirror.errors import (
    ConfigError,
    CredentialsError,
    DeltaMirrorError,
    ExportError,
    RefusedError,
    UnreachableError,
)
from ssh_server import Server

NAME = "Client_20260501.csv"
FOLDER = "Tenant11/Location9"
PASSPHRASE = "Tr0ub4dor"
MEGABYTE = 1024 * 1024


@pytest.fixture(scope="session")
def key() -> asyncssh.SSHKey:
    return asyncssh.generate_private_key("ssh-ed25519")


@dataclass
class Site:
    """A server, what it serves, and what a client of it has."""

    folder: Path
    server: Server
    waits: list[float] = field(default_factory=list)

    @property
    def root(self) -> Path:
        return self.folder / "served"

    @property
    def work(self) -> Path:
        return self.folder / "work"

    def put(self, name: str = NAME, body: bytes = b"one", under: str = FOLDER) -> Path:
        path = self.root / under / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        return path

    def know(self, line: str) -> None:
        (self.folder / "known_hosts").write_text(line)


@pytest.fixture
def site(tmp_path: Path, key: asyncssh.SSHKey) -> Iterator[Site]:
    (tmp_path / "served").mkdir()
    (tmp_path / "work").mkdir()
    key.write_private_key(tmp_path / "id")
    with Server(tmp_path / "served", key) as server:
        found = Site(tmp_path, server)
        found.know(server.known_host())
        yield found


class Opened:
    """A source that is open; what it waits for is noted and not waited for."""

    def __init__(
        self, site: Site, path: str = "/", url: str = "", attempts: int = 3, timeout: float = 5.0, key_file: str = "id"
    ) -> None:
        self._site = site
        self._stack = ExitStack()
        self._source = open_source(
            url or site.server.url(path),
            key_file=site.folder / key_file,
            key_passphrase=None,
            known_hosts=site.folder / "known_hosts",
            work_folder=site.work,
            timeout=timeout,
            attempts=attempts,
            sleep=site.waits.append,
        )

    def __enter__(self) -> Source:
        return self._stack.enter_context(self._source)

    def __exit__(self, *error: object) -> None:
        self._stack.close()


def listed(site: Site, path: str = "/") -> list[ExportFile]:
    with Opened(site, path) as source:
        return sorted(source.list(), key=lambda file: file.name)


def body_of(source: Source, file: ExportFile) -> bytes:
    with source.open(file) as chunks:
        return b"".join(chunks)


def refusal(site: Site, kind: type[DeltaMirrorError], path: str = "/", url: str = "") -> str:
    with Opened(site, path, url) as source, pytest.raises(kind) as caught:
        source.list()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What is found and read


def test_file_is_listed_and_read_whole(site: Site) -> None:
    body = os.urandom(5 * MEGABYTE + 1)
    path = site.put(body=body, under=f"up/load/{FOLDER}")
    os.utime(path, (1_000_000_000, 1_000_000_000))
    with Opened(site, "/up") as source:
        (file,) = source.list()
        where = f"/up/load/{FOLDER}/{NAME}"
        assert file == ExportFile(11, 9, "Client", "20260501", where, where, len(body), 1_000_000_000.0)
        with source.open(file) as chunks:
            found = list(chunks)
        assert b"".join(found) == body
        assert max(map(len, found)) == MEGABYTE
    assert site.server.faults.connections == 1


def test_empty_file_is_read(site: Site) -> None:
    site.put(body=b"")
    with Opened(site) as source:
        assert body_of(source, source.list()[0]) == b""


@pytest.mark.parametrize("path", ["/", "", "/~/", "/up", "/~/up", "/up/", f"/up/{FOLDER}", "/up/Tenant11", "/of%20may/../up"])
def test_source_is_a_path_from_the_root_or_from_where_a_login_begins(site: Site, path: str) -> None:
    site.put(under=f"up/{FOLDER}")
    assert [file.path for file in listed(site, path)] == [f"/up/{FOLDER}/{NAME}"]


def test_names_that_are_no_utf8_are_read(site: Site) -> None:
    site.put(under=os.fsdecode(b"of\xe9/") + FOLDER)
    with Opened(site, "/of%E9") as source:
        assert body_of(source, source.list()[0]) == b"one"


def test_links_are_followed_and_no_loop_is_walked_twice(site: Site) -> None:
    site.put(under=f"kept/{FOLDER}")
    (site.root / "kept" / FOLDER / "Sale_20260501.csv").symlink_to(NAME)
    (site.root / "kept" / FOLDER / "lost").symlink_to("nowhere")
    (site.root / "latest").symlink_to("kept")
    (site.root / "kept" / "up").symlink_to("..")
    with Opened(site) as source:
        found = sorted(file.path for file in source.list())
        assert found == [f"/kept/{FOLDER}/{NAME}", f"/kept/{FOLDER}/Sale_20260501.csv"]
        assert [remark.partition(" (")[0] for remark in source.remarks] == [f"/kept/{FOLDER}/lost cannot be looked at"]


def test_server_on_ipv6_is_reached(tmp_path: Path, key: asyncssh.SSHKey) -> None:
    for folder in ("served", "work"):
        (tmp_path / folder).mkdir()
    key.write_private_key(tmp_path / "id")
    with Server(tmp_path / "served", key, host="::1") as server:
        site = Site(tmp_path, server)
        site.know(server.known_host())
        site.put()
        assert f"@[::1]:{server.port}/" in server.url("/")
        assert len(listed(site)) == 1


# What cannot be a source


def test_path_that_is_not_there_is_refused_with_where_a_login_begins(site: Site) -> None:
    said = refusal(site, ExportError, "/absent")
    assert said.startswith(f"there is no folder /absent on 127.0.0.1:{site.server.port}; a login begins in /, and")


def test_path_that_is_a_file_is_refused(site: Site) -> None:
    site.put()
    assert f"{NAME} on 127.0.0.1:{site.server.port} is a file" in refusal(site, ExportError, f"/{FOLDER}/{NAME}")


def test_path_without_a_location_is_refused(site: Site) -> None:
    site.put(under="up")
    said = refusal(site, ExportError, "/up")
    assert said.startswith(f"/up on 127.0.0.1:{site.server.port} holds no folder Tenant<id>/Location<id>; SOURCE is")


def test_what_may_not_be_read_is_told_apart_from_what_is_not_there(site: Site) -> None:
    path = site.put(body=b"12")

    def deny(path: str) -> None:
        raise asyncssh.SFTPPermissionDenied("no")

    with Opened(site) as source:
        (file,) = source.list()
        site.server.faults.at_read = deny
        with pytest.raises(ExportError, match=f"{NAME} on 127.0.0.1:{site.server.port} may not be read by the user salon"):
            body_of(source, file)
        path.unlink()
        with pytest.raises(ExportError, match=f"{NAME} has changed since it was found"):
            body_of(source, file)
    assert site.waits == []


# What is read is what was listed


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")
    os.utime(path, (1_000_000_000, 1_000_000_000))


def touch(path: Path) -> None:
    os.utime(path, (1_000_000_001, 1_000_000_001))


def shrink(path: Path) -> None:
    os.truncate(path, 1)
    os.utime(path, (1_000_000_000, 1_000_000_000))


@pytest.mark.parametrize("meddle", [grow, touch, shrink, Path.unlink])
@pytest.mark.parametrize("when", ["before", "while"])
def test_file_that_changes_between_two_looks_is_refused_by_name(site: Site, meddle: object, when: str) -> None:
    path = site.put(body=bytes(3 * MEGABYTE))
    os.utime(path, (1_000_000_000, 1_000_000_000))
    assert callable(meddle)
    with Opened(site) as source:
        (file,) = source.list()
        read: list[str] = []
        site.server.faults.at_read = read.append
        if when == "before":
            meddle(path)
        else:
            site.server.faults.at_read = lambda read: meddle(path) if path.exists() else None
        with pytest.raises(ExportError, match=f"/{FOLDER}/{NAME} has changed since it was found"), source.open(file):
            pass
        assert read == []  # what has changed already is not downloaded first


def test_files_pass_one_at_a_time_and_leave_nothing_behind(site: Site) -> None:
    site.put(body=b"12345")
    with Opened(site) as source:
        (file,) = source.list()
        with source.open(file) as chunks:
            assert list(site.work.iterdir()) == []  # no name that a run that is killed could leave
            assert b"".join(chunks) == b"12345"
    assert list(site.work.iterdir()) == []


def test_work_folder_that_cannot_hold_the_file_is_named(site: Site) -> None:
    site.put()
    with Opened(site) as source:
        (file,) = source.list()
        site.work.rmdir()
        with pytest.raises(ExportError, match=f"{site.work} cannot hold what is downloaded"), source.open(file):
            pass


def test_full_disk_is_told_apart_from_a_lost_line(site: Site) -> None:
    site.put(body=bytes(MEGABYTE))
    # A limit of the process stands for the end of the disk; it holds for that process alone.
    program = """
import resource, signal, sys
from pathlib import Path
from delta_mirror.dds.export_source import open_source
from delta_mirror.errors import DiskFullError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
url, folder = sys.argv[1], Path(sys.argv[2])
with open_source(url, key_file=folder / "id", key_passphrase=None, known_hosts=folder / "known_hosts",
                 work_folder=folder / "work", timeout=5.0) as source:
    (file,) = source.list()
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    try:
        with source.open(file):
            pass
    except DiskFullError as error:
        print(error)
"""
    said = subprocess.run(
        [sys.executable, "-c", program, site.server.url("/"), site.folder], capture_output=True, text=True, check=True
    )
    assert said.stderr == ""
    assert said.stdout.endswith("is full; make room for the largest file of the export, and call again\n")
    assert site.server.faults.connections == 1


# The line


def test_download_that_is_broken_off_goes_on_where_it_was(site: Site) -> None:
    body = os.urandom(9 * MEGABYTE)
    site.put(body=body)
    site.server.faults.lines_lost_at = [3 * MEGABYTE] * 4
    with Opened(site, attempts=2) as source:
        assert body_of(source, source.list()[0]) == body
    # Each line brings something; two in a row that bring nothing would have been the end.
    assert site.server.faults.connections == 4
    assert site.waits == [1.0] * 3


def test_line_that_is_lost_again_and_again_is_given_up(site: Site) -> None:
    site.put(body=bytes(MEGABYTE))
    site.server.faults.lines_lost_at = [0] * 9
    with Opened(site, attempts=4) as source, pytest.raises(UnreachableError) as caught:
        body_of(source, source.list()[0])
    assert str(caught.value).startswith(f"127.0.0.1:{site.server.port} cannot be read over SFTP, after 4 attempts (")
    assert site.waits == [1.0, 2.0, 4.0]


def test_source_works_again_after_it_was_given_up(site: Site) -> None:
    site.put(body=bytes(MEGABYTE))
    site.server.faults.lines_lost_at = [0, 0]
    with Opened(site, attempts=2) as source:
        (file,) = source.list()
        with pytest.raises(UnreachableError):
            body_of(source, file)
        assert body_of(source, file) == bytes(MEGABYTE)


def test_host_that_takes_requests_and_never_answers_is_given_up(site: Site) -> None:
    site.put()
    site.server.faults.silent = True
    with Opened(site, attempts=2, timeout=0.1) as source:
        (file,) = source.list()
        with pytest.raises(UnreachableError, match=r"after 2 attempts \(no answer in time\)"):
            body_of(source, file)


def test_host_that_is_down_is_tried_several_times(site: Site) -> None:
    site.server.stop()
    said = refusal(site, UnreachableError)
    assert said.startswith(f"127.0.0.1:{site.server.port} cannot be read over SFTP, after 3 attempts (")
    assert "see that host and port are right" in said
    assert site.waits == [1.0, 2.0]


def test_host_that_is_no_ssh_server_is_given_up(site: Site) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def answer() -> None:
            for _ in range(3):
                with listener.accept()[0] as line:
                    line.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        said = refusal(site, UnreachableError, url=f"sftp://salon@127.0.0.1:{port}/")
        thread.join()
    assert said.startswith(f"127.0.0.1:{port} cannot be read over SFTP, after 3 attempts (")


def test_wait_is_broken_off_at_once(site: Site) -> None:
    class StoppedError(Exception):
        pass

    def check() -> None:
        raise StoppedError

    site.put()
    site.server.faults.silent = True
    with open_source(
        site.server.url("/"),
        key_file=site.folder / "id",
        key_passphrase=None,
        known_hosts=site.folder / "known_hosts",
        work_folder=site.work,
        timeout=60.0,
        check=lambda: check() if stopping.is_set() else None,
    ) as source:
        stopping = threading.Event()
        (file,) = source.list()
        stopping.set()
        with pytest.raises(StoppedError), source.open(file):
            pass


# The host's key


def test_unknown_host_is_refused_with_its_fingerprint_and_the_line_that_makes_it_known(site: Site) -> None:
    site.know("")
    said = refusal(site, RefusedError)
    server, hosts = site.server, site.folder / "known_hosts"
    assert f"127.0.0.1:{server.port} is not in {hosts}; nothing was sent there" in said
    assert server.host_key.get_fingerprint() in said
    assert f"ssh-keyscan -p {server.port} -t ed25519 127.0.0.1 >> {hosts}" in said
    assert f"ssh-keygen -l -F '[127.0.0.1]:{server.port}' -f {hosts}" in said
    assert server.faults.logins == 0
    assert site.waits == []


def test_changed_host_is_refused_with_both_ways_out(site: Site) -> None:
    site.know(site.server.known_host(asyncssh.generate_private_key("ssh-ed25519")))
    said = refusal(site, RefusedError)
    assert "it was renewed, or somebody pretends to be this host" in said
    assert site.server.host_key.get_fingerprint() in said
    assert f"ssh-keygen -R '[127.0.0.1]:{site.server.port}' -f" in said
    assert site.server.faults.logins == 0


def test_host_that_is_known_by_a_key_of_another_kind_is_refused(site: Site) -> None:
    site.know(site.server.known_host(asyncssh.generate_private_key("ecdsa-sha2-nistp256")))
    assert refusal(site, DeltaMirrorError)
    assert site.server.faults.logins == 0


def test_revoked_key_is_refused_although_it_is_known(site: Site) -> None:
    site.know(site.server.known_host() + "@revoked " + site.server.known_host())
    assert "a key that" in refusal(site, RefusedError)
    assert site.server.faults.logins == 0


def test_address_of_another_host_that_is_known_does_not_vouch_for_this_one(site: Site) -> None:
    said = refusal(site, RefusedError, url=f"sftp://salon@localhost:{site.server.port}/")
    assert f"localhost:{site.server.port} is not in" in said


def test_known_hosts_may_be_hashed_and_hold_comments_and_strange_lines(site: Site) -> None:
    site.put()
    name, public = site.server.known_host().split(" ", 1)
    salt = os.urandom(20)
    shown = [base64.b64encode(part).decode() for part in (salt, hmac.digest(salt, name.encode(), "sha1"))]
    site.know(f"# of the vendor\n\nneither host nor key\n|1|{'|'.join(shown)} {public}")
    assert len(listed(site)) == 1


def test_known_hosts_that_are_named_and_not_there_are_refused(site: Site) -> None:
    (site.folder / "known_hosts").unlink()
    with pytest.raises(ConfigError, match=r"\[starter\] known_hosts names .*known_hosts, which does not exist"), Opened(site):
        pass


def test_without_a_file_that_is_named_the_users_own_is_asked(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.put()
    monkeypatch.setenv("HOME", str(site.folder / "home"))
    given = {"key_file": site.folder / "id", "known_hosts": None, "work_folder": site.work}

    def number_listed() -> int:
        with open_source(site.server.url("/"), key_passphrase=None, timeout=5.0, **given) as source:  # type: ignore[arg-type]
            return len(source.list())

    with pytest.raises(RefusedError, match=f"is not in {site.folder}/home/.ssh/known_hosts"):
        number_listed()
    (site.folder / "home" / ".ssh").mkdir(parents=True)
    (site.folder / "home" / ".ssh" / "known_hosts").write_text(site.server.known_host())
    assert number_listed() == 1


def test_user_without_a_home_has_to_name_the_known_hosts(site: Site) -> None:
    program = f"""
import os, pwd
from pathlib import Path
from delta_mirror.dds.export_source import open_source
from delta_mirror.errors import ConfigError
del os.environ["HOME"]
pwd.getpwuid = {{}}.__getitem__
try:
    with open_source({site.server.url("/")!r}, key_file=Path({str(site.folder / "id")!r}), key_passphrase=None, known_hosts=None,
                     work_folder=Path(), timeout=5.0):
        pass
except ConfigError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout == "this user has no home folder; name the file with the host's key in [starter] known_hosts\n"


# Our key


def test_login_that_is_refused_is_a_matter_of_credentials(site: Site) -> None:
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(site.folder / "other")
    with Opened(site, key_file="other") as source, pytest.raises(CredentialsError) as caught:
        source.list()
    said = str(caught.value)
    assert f"127.0.0.1:{site.server.port} does not let the user salon in with the key {site.folder}/other (SHA256:" in said
    assert site.waits == []  # asking again could lock the user out


def test_user_that_is_not_known_is_refused_the_same_way(site: Site) -> None:
    said = refusal(site, CredentialsError, url=f"sftp://nobody@127.0.0.1:{site.server.port}/")
    assert "does not let the user nobody in" in said


def test_neither_agent_nor_other_keys_are_tried(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(site.folder / "other")
    (site.folder / ".ssh").mkdir()
    (site.folder / "id").rename(site.folder / ".ssh" / "id_ed25519")
    (site.folder / ".ssh" / "config").write_text(f"IdentityFile {site.folder}/.ssh/id_ed25519\n")
    monkeypatch.setenv("HOME", str(site.folder))
    with Opened(site, key_file="other") as source, pytest.raises(CredentialsError):
        source.list()
    assert site.server.faults.logins == 0


def test_address_without_a_key_is_refused_with_what_to_configure(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match=r"there is no key to log in with; name the private key .* in \[starter\] key_file"),
        open_source(
            "sftp://salon@host/x", key_file=None, key_passphrase=None, known_hosts=None, work_folder=tmp_path, timeout=5.0
        ),
    ):
        pass


def write_key(path: Path, kind: str, form: str, passphrase: str | None) -> None:
    made = asyncssh.generate_private_key(kind)
    # One round of deriving the key from the passphrase: that it takes time is of no use here.
    path.write_bytes(made.export_private_key(form, passphrase, rounds=1, ignore_few_rounds=True))


@pytest.mark.parametrize("form", ["openssh", "pkcs8-pem", "pkcs1-pem"])
@pytest.mark.parametrize("kind", ["ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256"])
def test_key_with_a_passphrase_is_opened_by_it_and_by_nothing_else(tmp_path: Path, kind: str, form: str) -> None:
    if (kind, form) in {("ssh-ed25519", "pkcs1-pem")}:
        return  # there is no such form
    write_key(tmp_path / "id", kind, form, PASSPHRASE)
    assert read_key(tmp_path / "id", PASSPHRASE).get_algorithm() == kind
    for wrong in (None, "", "wrong"):
        with pytest.raises(ConfigError, match=r"\[starter\] key_passphrase") as caught:
            read_key(tmp_path / "id", wrong)
        assert PASSPHRASE not in str(caught.value)


def test_key_without_a_passphrase_is_read_whether_one_is_configured_or_not(tmp_path: Path) -> None:
    write_key(tmp_path / "id", "ssh-ed25519", "openssh", None)
    assert read_key(tmp_path / "id", None) == read_key(tmp_path / "id", "unneeded")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (None, "which does not exist; name the private key"),
        (b"", "holds no private key that can be read"),
        (
            b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
            "holds no private key that can be read",
        ),
        (bytes(1000), "holds no private key that can be read"),
        (b"ssh-ed25519 AAAA invented", "is the public half of a key; name the private one"),
        (b"---- BEGIN SSH2 PUBLIC KEY ----\n", "is the public half of a key; name the private one"),
    ],
)
def test_what_is_no_private_key_is_refused_with_what_it_is(tmp_path: Path, body: bytes | None, said: str) -> None:
    if body is not None:
        (tmp_path / "id").write_bytes(body)
    with pytest.raises(ConfigError, match=said):
        read_key(tmp_path / "id", None)


def test_folder_in_place_of_a_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read \(Is a directory\)"):
        read_key(tmp_path, None)


@pytest.mark.parametrize("version", [b"2", b"3"])
def test_key_of_putty_is_refused_with_the_line_that_converts_it(tmp_path: Path, version: bytes) -> None:
    path = tmp_path / "from the vendor.ppk"
    path.write_bytes(b"PuTTY-User-Key-File-" + version + b": ssh-rsa\r\nEncryption: none\r\n")
    with pytest.raises(ConfigError) as caught:
        read_key(path, None)
    plain = tmp_path / "from the vendor"
    assert f"puttygen '{path}' -O private-openssh -o '{plain}'" in str(caught.value)
    assert shlex.split(conversion(path)) == ["puttygen", str(path), "-O", "private-openssh", "-o", str(plain)]
    assert conversion(tmp_path / "id").endswith("id.openssh")


# The extra


def test_without_the_package_sftp_is_refused_with_how_to_install_it_and_folders_are_read(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir(parents=True)
    program = f"""
import sys
sys.modules["asyncssh"] = None
from pathlib import Path
from delta_mirror.dds.export_source import open_source
from delta_mirror.errors import RefusedError
given = dict(key_file=None, key_passphrase=None, known_hosts=None, work_folder=Path(), timeout=5.0)
with open_source({str(tmp_path)!r}, **given) as source:
    assert source.list() == []
try:
    with open_source("sftp://salon@host/x", **given):
        pass
except RefusedError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout == "SFTP needs a package that is not installed: pip install 'delta-mirror[sftp]'\n"
