"""Checks of what keeps people private: the key of hashes, and of those who were erased the marks and the bytes that are left."""

from collections.abc import Iterator

from delta_mirror.errors import RefusedError
from delta_mirror.jobs.checks.case import Case, Finding, ok, wrong
from delta_mirror.mirror.erased_tally import check_key_of, read_erased_tally
from delta_mirror.mirror.read import Reader

SHORTEST = 16  # characters; who has the mirror can try shorter keys one by one
_MAKE = 'python3 -c "import secrets; print(secrets.token_hex(32))"'


def check_erased(case: Case) -> Iterator[Finding]:
    """The key is there and the right one; nothing is left in the files of anybody who was erased. Not used: not told of."""
    secret, path = case.config.mirror.mask_key, case.config.mirror.path
    keyed = case.config.mask_key()
    tally, is_kept = None, False
    if case.has_mirror:
        with Reader.open(path) as reader:
            tally = read_erased_tally(reader)
            try:
                is_kept = keyed is not None and check_key_of(reader, path, keyed)
            except RefusedError as error:
                yield wrong("erased", str(error), "put the former key back as [mirror] mask_key")
                return
    if tally is not None and keyed is None:
        what = f"[mirror] mask_key is empty, and {tally.marked:,} are marked as erased: nothing can be written"
        yield wrong("erased", what, "put the key back as [mirror] mask_key")
    elif secret is not None and keyed is not None and not is_kept and len(secret.reveal()) < SHORTEST:
        what = f"[mirror] mask_key has fewer than {SHORTEST} characters: whoever has the mirror can guess it"
        yield wrong("erased", what, f"{_MAKE}, before it is used")
    elif tally is not None and tally.pending_since:
        what = f"since {tally.pending_since} bytes of somebody who was erased may be in the files of the mirror"
        yield wrong("erased", what, "sync erase, with the same ENTITY and ID")
    elif tally is not None:
        yield ok("erased", f"{tally.marked:,} are marked, and kept out")
