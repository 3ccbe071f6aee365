"""Where a file lies between its download and its reading: on the disk, and readable for this process alone.

An export may be larger than memory. But it holds everything, and what `[mirror.mask]` takes away is to touch no disk: so what
lies there is encrypted, with a key that was made for this one file and is gone with it.

Invariants:

- The file has no name, lies in a private folder, and is gone with the process, however that ends.
- The key leaves memory never; nothing but a stream of noise is ever written.
- Bytes are written once, in order, and read once, in order, from the first on.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR

_KEY_SIZE, _NONCE_SIZE = 32, 16  # bytes


class Store:
    """A file that is written from its beginning to its end, and then read so."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        # A counter never comes twice under one key: the key is made for this file alone, and no byte is written twice.
        cipher = Cipher(AES256(os.urandom(_KEY_SIZE)), CTR(os.urandom(_NONCE_SIZE)))
        self._encrypt, self._decrypt = cipher.encryptor(), cipher.decryptor()

    def tell(self) -> int:
        """Return how many bytes were written."""
        return self._file.tell()

    def write(self, piece: bytes) -> None:
        """Write *piece* behind what is there.

        Raises:
            OSError: the disk is full, or fails; nothing more can be written then.
        """
        rest = memoryview(self._encrypt.update(piece))
        while rest:
            rest = rest[self._file.write(rest) :]

    def read(self, size: int) -> Iterator[bytes]:
        """Yield all that was written, in pieces of up to *size* bytes."""
        self._file.seek(0)
        while piece := self._file.read(size):
            yield self._decrypt.update(piece)


@contextmanager
def open_store(folder: Path) -> Iterator[Store]:
    """Let the body use a new store in *folder*.

    Raises:
        OSError: it cannot be made.
    """
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        yield Store(file)
