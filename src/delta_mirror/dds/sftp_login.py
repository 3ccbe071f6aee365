"""Logging in to an SFTP host: with a key, after the host has shown that it is the one that is known.

Invariants:

- A host whose key is not known, or not the known one, gets nothing from us, not even the name of the user.
- There is one way in, the configured key: no agent, no password, no key that happens to lie about, no settings of other programs.
- No message holds the passphrase or anything of the key but its fingerprint.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from delta_mirror.dds.sftp_address import PORT, SftpAddress
from delta_mirror.errors import ConfigError, CredentialsError, DeltaMirrorError, RefusedError, UnreachableError

_PUTTY = b"PuTTY-User-Key-File-"
_PUBLIC = (b"ssh-", b"ecdsa-", b"sk-", b"---- BEGIN SSH2 PUBLIC KEY")
_LARGEST_KEY = 64 * 1024  # bytes
_KEYSCAN_NAMES = {"ssh-ed25519": "ed25519", "ssh-ed448": "ed448", "ssh-rsa": "rsa"}  # anything else is ecdsa


@dataclass(frozen=True, slots=True)
class Login:
    """What a connection needs. `known_hosts` is the file, `known` what it says; *timeout* is seconds."""

    address: SftpAddress
    key_file: Path
    key: asyncssh.SSHKey
    known_hosts: Path
    known: asyncssh.SSHKnownHosts
    timeout: float

    @classmethod
    def read(
        cls, address: SftpAddress, key_file: Path | None, passphrase: str | None, known_hosts: Path | None, timeout: float
    ) -> "Login":
        """Return the way in to *address*.

        Raises:
            ConfigError: the key or the file of known hosts cannot be used.
        """
        if key_file is None:
            raise ConfigError(
                f"{address}: there is no key to log in with; name the private key from the welcome kit in [starter] key_file"
            )
        key = read_key(key_file, passphrase)
        hosts = known_hosts or _own_known_hosts()
        return cls(address, key_file, key, hosts, _read_known_hosts(hosts, may_be_missing=known_hosts is None), timeout)

    async def connect(self) -> asyncssh.SSHClientConnection:
        """Return a connection, logged in.

        Raises:
            DeltaMirrorError: the host's key or ours was not accepted.
            asyncssh.Error, OSError, TimeoutError: the host was not reached.
        """
        witness = _Witness()
        try:
            return await asyncssh.connect(
                self.address.host,
                self.address.port,
                username=self.address.user,
                client_keys=[self.key],
                known_hosts=self._match,
                client_factory=lambda: witness,
                config=None,
                agent_path=None,
                x509_trusted_certs=None,
                preferred_auth=["publickey"],
                gss_kex=False,
                gss_auth=False,
                connect_timeout=self.timeout,
                login_timeout=self.timeout,
                keepalive_interval=max(1.0, self.timeout / 3),
                keepalive_count_max=3,
            )
        except asyncssh.HostKeyNotVerifiable as error:
            raise self._doubt(witness.key) from error
        except asyncssh.PermissionDenied as error:
            raise CredentialsError(
                f"{self.address} does not let the user {self.address.user} in with the key {self.key_file} "
                f"({self.key.get_fingerprint()}); compare user, key and host with the welcome kit"
            ) from error
        except (asyncssh.KeyExchangeFailed, asyncssh.ProtocolNotSupported) as error:
            raise UnreachableError(f"{self.address} and this program have no way to talk in common ({error.reason})") from error

    def _match(self, host: str, addr: str, port: int | None) -> "asyncssh.known_hosts._KnownHostsResult":
        # Not by the address that the name resolves to: another host that is known could then stand in for this one.
        return asyncssh.match_known_hosts(self.known, self.address.host, "", port)

    def _doubt(self, shown: asyncssh.SSHKey | None) -> DeltaMirrorError:
        """Return the error for a host that has *shown* a key that is not known; None where it was revoked or no plain key."""
        name, hosts = self.address.known_as, shlex.quote(str(self.known_hosts))
        if shown is None:
            return RefusedError(
                f"{self.address} shows a key that {self.known_hosts} revokes, or a certificate of an authority that it does not "
                "know; nothing was sent there. Ask the vendor for the host's key"
            )
        kind, print_ = shown.get_algorithm(), shown.get_fingerprint()
        port = "" if self.address.port == PORT else f"-p {self.address.port} "
        scan = f"ssh-keyscan {port}-t {_KEYSCAN_NAMES.get(kind, 'ecdsa')} {shlex.quote(self.address.host)} >> {hosts}"
        look = f"ssh-keygen -l -F {shlex.quote(name)} -f {hosts}"
        if self._match("", "", None if self.address.port == PORT else self.address.port)[0]:
            return RefusedError(
                f"{self.address} shows another key ({kind}, {print_}) than the one in {self.known_hosts}: it was renewed, or "
                "somebody pretends to be this host; nothing was sent there. If the vendor confirms the new one: "
                f"ssh-keygen -R {shlex.quote(name)} -f {hosts} && {scan}"
            )
        return RefusedError(
            f"{self.address} is not in {self.known_hosts}; nothing was sent there. It shows the key {print_} ({kind}): if the "
            f"vendor confirms that it is theirs, run {scan} and see that {look} shows the same"
        )


class _Witness(asyncssh.SSHClient):
    """Sees the key of a host that is not known."""

    def __init__(self) -> None:
        self.key: asyncssh.SSHKey | None = None

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Note *key* and refuse it."""
        self.key = key
        return False


def read_key(path: Path, passphrase: str | None) -> asyncssh.SSHKey:
    """Return the private key that *path* holds.

    Raises:
        ConfigError: it cannot be read, is no OpenSSH key, or the passphrase does not open it.
    """
    try:
        with path.open("rb") as file:
            body = file.read(_LARGEST_KEY)
    except FileNotFoundError as error:
        raise ConfigError(f"[starter] key_file names {path}, which does not exist; name the private key") from error
    except OSError as error:
        raise ConfigError(f"[starter] key_file names {path}, which cannot be read ({error.strerror})") from error
    if body.startswith(_PUTTY):
        raise ConfigError(
            f"{path} is a key of PuTTY; convert it once, with PuTTY's own tool (package putty-tools): {conversion(path)} "
            "and name the new file in [starter] key_file. The passphrase stays the same"
        )
    if body.startswith(_PUBLIC):
        raise ConfigError(f"{path} is the public half of a key; name the private one in [starter] key_file")
    try:
        return asyncssh.import_private_key(body, passphrase)
    except asyncssh.KeyEncryptionError as error:
        raise ConfigError(f"{path} cannot be opened: [starter] key_passphrase is not its passphrase ({error})") from error
    except asyncssh.KeyImportError as error:
        if "assphrase" in str(error) or "decrypt" in str(error):
            raise ConfigError(f"{path} has a passphrase; give the right one in [starter] key_passphrase") from error
        raise ConfigError(f"{path} holds no private key that can be read; it must be an OpenSSH key") from error


def conversion(path: Path) -> str:
    """Return the command that makes an OpenSSH key of the PuTTY key *path*, beside it."""
    plain = path.with_suffix("") if path.suffix.lower() == ".ppk" else path.with_name(path.name + ".openssh")
    return f"puttygen {shlex.quote(str(path))} -O private-openssh -o {shlex.quote(str(plain))}"


def _own_known_hosts() -> Path:
    try:
        return Path("~/.ssh/known_hosts").expanduser()
    except RuntimeError as error:
        raise ConfigError("this user has no home folder; name the file with the host's key in [starter] known_hosts") from error


def _read_known_hosts(path: Path, *, may_be_missing: bool) -> asyncssh.SSHKnownHosts:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError as error:
        if may_be_missing:
            return asyncssh.import_known_hosts("")
        raise ConfigError(f"[starter] known_hosts names {path}, which does not exist; make it, or leave it empty") from error
    except OSError as error:
        raise ConfigError(f"the known hosts in {path} cannot be read ({error.strerror})") from error
    try:
        return asyncssh.import_known_hosts(text)
    except ValueError as error:
        raise ConfigError(f"{path} is no file of known hosts: {error}") from error
