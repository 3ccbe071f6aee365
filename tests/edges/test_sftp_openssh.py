"""Against OpenSSH's own server, and with PuTTY's own converter: what our messages advise is done to the letter, in a shell."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from getpass import getuser
from pathlib import Path

import pytest

from delta_mirror.dds.export_source import open_source
from delta_mirror.dds.sftp_login import read_key
from delta_mirror.errors import ConfigError, CredentialsError, DeltaMirrorError, RefusedError

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
PUTTYGEN = shutil.which("puttygen")
PRIVATE = Path("/run/sshd")  # where sshd shuts itself in when root starts it
FOLDER = "Tenant11/Location9"
PASSPHRASE = "Tr0ub4dor"


def run(*command: str | Path) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return done.stdout


def make_key(path: Path, kind: str = "ed25519", passphrase: str = "") -> Path:
    path.unlink(missing_ok=True)
    run("ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "", "-a", "1", "-f", path)
    return path


class Site:
    """A server of OpenSSH on loopback, and what a client of it has."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.known_hosts = folder / "known_hosts"
        self.known_hosts.touch()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        make_key(folder / "host")
        key = make_key(folder / "id", passphrase=PASSPHRASE)
        (folder / "authorized").write_text(key.with_suffix(".pub").read_text())

    def start(self) -> None:
        """Serve, and wait until the port is open."""
        assert SSHD is not None
        config = self.folder / "sshd_config"
        config.write_text(
            f"ListenAddress 127.0.0.1\nPort {self.port}\nHostKey {self.folder}/host\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {self.folder}/authorized\nStrictModes no\nPasswordAuthentication no\n"
            "PermitRootLogin prohibit-password\nSubsystem sftp internal-sftp\n"
        )
        with (self.folder / "sshd.log").open("ab") as log:
            self._process = subprocess.Popen([SSHD, "-D", "-e", "-f", config], stderr=log, start_new_session=True)
        ends = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                assert time.monotonic() < ends
                assert self._process.poll() is None, (self.folder / "sshd.log").read_text()
                continue
            return

    def stop(self) -> None:
        """Take the server down."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait(10)
            self._process = None

    def read(self, key: str = "id", passphrase: str | None = PASSPHRASE) -> dict[str, bytes]:
        """Return the files of the export that is served."""
        with open_source(
            f"sftp://{getuser()}@127.0.0.1:{self.port}{self.folder}/served",
            key_file=self.folder / key,
            key_passphrase=passphrase,
            known_hosts=self.known_hosts,
            work_folder=self.folder,
            timeout=10.0,
            attempts=2,
            sleep=lambda seconds: None,
        ) as source:
            found = {}
            for file in source.list():
                with source.open(file) as chunks:
                    found[file.path] = b"".join(chunks)
            return found

    def refusal(self, kind: type[DeltaMirrorError]) -> str:
        with pytest.raises(kind) as caught:
            self.read()
        return str(caught.value)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    if SSHD is None or (os.getuid() == 0 and not PRIVATE.is_dir()):
        pytest.skip("needs OpenSSH's server: install openssh-server; as root, mkdir /run/sshd, too")
    found = Site(tmp_path)
    found.start()
    try:
        yield found
    finally:
        found.stop()


def advised(said: str, command: str) -> str:
    """Return the command line that begins so in a message."""
    found = re.search(rf"{command} .*?(?= and see | and name | shows |$)", said)
    assert found is not None, said
    return found.group()


def test_what_the_message_advises_makes_an_unknown_host_known_and_its_files_are_read(site: Site) -> None:
    body = os.urandom(5 * 1024 * 1024 + 1)
    path = site.folder / "served" / FOLDER / "Client_20260501.csv"
    path.parent.mkdir(parents=True)
    path.write_bytes(body)

    said = site.refusal(RefusedError)
    subprocess.run(advised(said, "ssh-keyscan"), shell=True, check=True, capture_output=True)
    shown = subprocess.run(advised(said, "ssh-keygen -l"), shell=True, check=True, capture_output=True, text=True).stdout
    (fingerprint,) = re.findall(r"SHA256:\S+", said)
    assert fingerprint in shown

    assert site.read() == {str(path): body}


def test_what_the_message_advises_takes_the_new_key_of_a_host_for_the_old_one(site: Site) -> None:
    (site.folder / "served" / FOLDER).mkdir(parents=True)
    subprocess.run(advised(site.refusal(RefusedError), "ssh-keyscan"), shell=True, check=True, capture_output=True)
    assert site.read() == {}
    site.stop()
    make_key(site.folder / "host")
    site.start()
    said = site.refusal(RefusedError)
    assert "shows another key" in said
    subprocess.run(advised(said, "ssh-keygen -R"), shell=True, check=True, capture_output=True)
    assert site.read() == {}


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
def test_keys_of_all_kinds_log_in_and_others_do_not(site: Site, kind: str) -> None:
    (site.folder / "served" / FOLDER).mkdir(parents=True)
    subprocess.run(advised(site.refusal(RefusedError), "ssh-keyscan"), shell=True, check=True, capture_output=True)
    make_key(site.folder / "other", kind, PASSPHRASE)
    with pytest.raises(CredentialsError, match="does not let the user"):
        site.read("other")
    (site.folder / "authorized").write_text((site.folder / "other.pub").read_text())
    assert site.read("other") == {}


def test_agent_is_not_asked_although_it_has_the_right_key(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run(advised(site.refusal(RefusedError), "ssh-keyscan"), shell=True, check=True, capture_output=True)
    make_key(site.folder / "right")
    make_key(site.folder / "other", passphrase=PASSPHRASE)
    (site.folder / "authorized").write_text((site.folder / "right.pub").read_text())
    socket_path = site.folder / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", socket_path], stdout=subprocess.DEVNULL) as agent:
        try:
            wait_for(socket_path)
            monkeypatch.setenv("SSH_AUTH_SOCK", str(socket_path))
            run("ssh-add", "-q", site.folder / "right")
            with pytest.raises(CredentialsError):
                site.read("other")
        finally:
            agent.terminate()


def wait_for(path: Path) -> None:
    ends = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < ends


@pytest.mark.parametrize("version", ["2", "3"])
@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
def test_what_the_message_advises_makes_a_key_of_putty_usable(tmp_path: Path, kind: str, version: str) -> None:
    if PUTTYGEN is None:
        pytest.skip("needs PuTTY's converter: install putty-tools")
    word, putty = tmp_path / "word", tmp_path / "welcome kit.ppk"
    word.write_text(f"{PASSPHRASE}\n")
    quick = f"version={version}" if version == "2" else "version=3,passes=1"
    run(PUTTYGEN, "-q", "-t", kind, "--ppk-param", quick, "--new-passphrase", word, "-o", putty)

    with pytest.raises(ConfigError, match="is a key of PuTTY; convert it once") as caught:
        read_key(putty, PASSPHRASE)
    command = advised(str(caught.value), "puttygen")
    # At a terminal it asks for the passphrase.
    subprocess.run(f"{command} --old-passphrase {shlex.quote(str(word))}", shell=True, check=True, capture_output=True)

    made = read_key(tmp_path / "welcome kit", PASSPHRASE)
    assert made.export_public_key().split()[:2] == run(PUTTYGEN, putty, "-L").encode().split()[:2]
    with pytest.raises(ConfigError, match="key_passphrase"):
        read_key(tmp_path / "welcome kit", "wrong")
