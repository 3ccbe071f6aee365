"""Trying an input, and looking for one that fails.

Invariants:

- A failure is an exception that the target's check lets through: none of the errors of the tree, or an assertion of the check.
- Each try is bounded in processor time by the size of its input; what takes longer is a failure, too.
- A failure is known by its kind and by the line of the program that it comes from, and is told once.
"""

import resource
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Generic, TypeVar

from fuzz.choices import Choices

Sent = TypeVar("Sent")

LONGEST_TRY = 20.0  # seconds of processor time that any input may take: a table that gets its 1,900 columns takes some
PER_MEGABYTE = 20.0  # seconds more for each megabyte of it
LARGEST_PROCESS = 3 << 30  # bytes of address space, beyond which a long search gets a MemoryError
_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Target(Generic[Sent]):
    """One thing that takes in what comes from outside.

    `make` turns choices into an input, `check` gives it to the program and fails where something is not as it should be; `open`
    makes, for a series of tries, the folder that `check` works in. `size` is how large an input is, in octets.
    """

    name: str
    make: Callable[[Choices], Sent]
    open: Callable[[Path], AbstractContextManager[Callable[[Sent], None]]]
    size: Callable[[Sent], int]
    longest: int = 400  # octets of choices


@dataclass(frozen=True, slots=True)
class Failure:
    """An input that fails: the choices that make it, what it is, and how it ended. Equal `signature`: most likely one cause."""

    octets: bytes
    sent: str
    signature: str
    told: str


def attempt(target: Target[Sent], check: Callable[[Sent], None], octets: bytes) -> Failure | None:
    """Return how the input that *octets* make fails, None where it does not."""
    sent = target.make(Choices(octets))
    allowed = LONGEST_TRY + PER_MEGABYTE * target.size(sent) / (1 << 20)
    begun = time.process_time()
    try:
        check(sent)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
        return Failure(octets, repr(sent), _signature(error), traceback.format_exc())
    spent = time.process_time() - begun
    if spent > allowed:
        return Failure(octets, repr(sent), "too slow", f"{spent:.1f} s of processor time for {target.size(sent)} octets")
    return None


def _signature(error: BaseException) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(str(_ROOT / "src"))]
    last = (frames or traceback.extract_tb(error.__traceback__))[-1]
    words = str(error).splitlines()[0][:60] if isinstance(error, AssertionError) and str(error) else ""
    return f"{type(error).__name__} in {Path(last.filename).name}, {last.name}: {last.line} {words}".strip()


def inputs(seed: int, longest: int) -> Iterator[bytes]:
    """Yield octets of choices without end: new ones, and what is left of earlier ones with some changed."""
    random = Random(seed)
    pool: list[bytes] = []
    while True:
        if pool and random.random() < 0.4:
            octets = bytearray(random.choice(pool))
            for _ in range(random.randint(1, 4)):
                at = random.randint(0, len(octets))
                octets[at : at + random.randint(0, 3)] = random.randbytes(random.randint(0, 3))
            made = bytes(octets) or b"\0"
        else:
            # Zeros among them: what is plain around what is odd gets further than what is odd throughout.
            plain = random.choice((0.0, 0.3, 0.6, 0.8))
            made = bytes(0 if random.random() < plain else random.randrange(256) for _ in range(random.randint(1, longest)))
        pool.append(made)
        if len(pool) > 200:
            pool.pop(random.randrange(len(pool)))
        yield made


def smaller(target: Target[Sent], check: Callable[[Sent], None], failure: Failure, seconds: float = 10.0) -> Failure:
    """Return a failure of the same signature with as few choices as can be found in so many seconds of processor time."""
    until = time.process_time() + seconds
    size = max(len(failure.octets) // 2, 1)
    while size and time.process_time() < until:
        for at in range(0, len(failure.octets), size):
            for shorter in (
                failure.octets[:at] + failure.octets[at + size :],
                failure.octets[:at] + bytes(len(failure.octets[at : at + size])) + failure.octets[at + size :],
            ):
                if shorter == failure.octets or time.process_time() > until:
                    continue
                found = attempt(target, check, shorter)
                if found is not None and found.signature == failure.signature:
                    failure = found
                    break
        size //= 2
    return failure


def fast_folder() -> str | None:
    """Return where files are written fastest, None where the usual place has to do."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def bound_memory() -> None:
    """Let this process get a MemoryError instead of all the memory of the machine."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (LARGEST_PROCESS, hard))
