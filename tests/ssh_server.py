"""A real SSH server on loopback, of a package's making, with a thread of its own.

What it serves is a folder; its faults are dials that a test turns.
"""

import asyncio
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import asyncssh


@dataclass(slots=True)
class Faults:
    """What goes wrong. `lines_lost_at` has, for each connection in turn, after how many bytes of files it is cut."""

    lines_lost_at: list[int] = field(default_factory=list)
    at_read: Callable[[str], None] = lambda path: None
    silent: bool = False  # requests are taken and never answered
    logins: int = 0
    connections: int = 0


class Server:
    """The server; a context manager. *root* is what it serves, as the root of its file system."""

    def __init__(self, root: Path, key: asyncssh.SSHKey, *, user: str = "salon", host: str = "127.0.0.1", port: int = 0) -> None:
        self.faults = Faults()
        self.host_key = asyncssh.generate_private_key("ssh-ed25519")
        self.user = user
        self.host = host
        self.port = port
        self._root = root
        self._key = key
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="ssh server")

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Go down, if that has not happened yet."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(10)
            assert not self._thread.is_alive()

    def url(self, path: str) -> str:
        """Return the address of *path* on this server."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"sftp://{self.user}@{host}:{self.port}{path}"

    def known_host(self, key: asyncssh.SSHKey | None = None) -> str:
        """Return the line of a `known_hosts` file that this server needs."""
        public = (key or self.host_key).export_public_key().decode().strip()
        return f"[{self.host}]:{self.port} {public}\n"

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _serve(self) -> None:
        server = self

        class Doorman(asyncssh.SSHServer):
            def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
                server.faults.connections += 1

            def public_key_auth_supported(self) -> bool:
                return True

            def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
                known = username == server.user and key.export_public_key() == server._key.export_public_key()
                server.faults.logins += known
                return known

        class Files(asyncssh.SFTPServer):
            def __init__(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
                super().__init__(chan, chroot=os.fsencode(server._root))
                self._line = chan.get_connection()
                lost_at = server.faults.lines_lost_at
                self._left = lost_at.pop(0) if lost_at else None
                self._names: dict[int, str] = {}

            def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
                opened = super().open(path, pflags, attrs)
                self._names[id(opened)] = os.fsdecode(path)
                return opened

            async def read(self, file_obj: object, offset: int, size: int) -> bytes:
                server.faults.at_read(self._names[id(file_obj)])
                if server.faults.silent:
                    await server._stop.wait()
                found = super().read(file_obj, offset, size)
                assert isinstance(found, bytes)
                if self._left is not None:
                    self._left -= len(found)
                    if self._left < 0:
                        self._line.abort()
                return found

        listener = await asyncssh.listen(
            self.host,
            self.port,
            server_factory=Doorman,
            server_host_keys=[self.host_key],
            sftp_factory=Files,
            gss_host=None,
            config=[],
        )
        self.port = listener.get_port()
        self._ready.set()
        await self._stop.wait()
        listener.close()
        await listener.wait_closed()
