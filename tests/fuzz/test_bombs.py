"""What is small or plain and costs much: each is a page, a file or a message of some megabytes, with bounds on what it may take.

Bounds are many times what is usual, and far below what anything but a pass or two over the input would take.
"""

import gzip
import time
import tracemalloc
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

from delta_mirror.config import load_config
from delta_mirror.core.model import Stream
from delta_mirror.dds.export import read_table
from delta_mirror.dds.export_tables import facts_of
from delta_mirror.dds.wire import read_page
from delta_mirror.errors import DeltaMirrorError
from delta_mirror.nexus.delivery import Delivery
from delta_mirror.nexus.files import DamagedError, Limits, Source
from delta_mirror.nexus.message import read_message
from fuzz import line, service

CLIENTS = Stream(11, 9, "Client")
UNIT = 1 << 18
SECONDS = 10.0  # of processor time
TIMES = 60  # how many bytes may be taken for each that is sent: an object of a single member takes as much

BOMBS = {
    "arrays in arrays": b"[" * UNIT,
    "arrays in arrays that end": b"[" * UNIT + b"]" * UNIT,
    "objects in objects": b'{"a":' * (UNIT // 5),
    "a text of ten megabytes": b'{"data":[{"Client_T":{"EntityId":"a","Note":"' + b"x" * 40 * UNIT + b'"}}]}',
    "a text of escapes": b'{"data":[{"Client_T":{"EntityId":"a","Note":"' + b"\\u0041" * (UNIT // 6) + b'"}}]}',
    "a text of halves of surrogates": b'{"data":[{"Client_T":{"EntityId":"a","Note":"' + b"\\ud800" * (UNIT // 6) + b'"}}]}',
    "a number without end": b'{"data":[{"Client_T":{"EntityId":"a","Total":' + b"7" * UNIT + b"}}]}",
    "a fraction without end": b'{"data":[{"Client_T":{"EntityId":"a","Total":0.' + b"7" * UNIT + b"}}]}",
    "an exponent without end": b'{"data":[{"Client_T":{"EntityId":"a","Total":1e' + b"7" * UNIT + b"}}]}",
    "one member again and again": b'{"data":[{"Client_T":{"EntityId":"a"' + b',"a":1' * (UNIT // 6) + b"}}]}",
    "thirty thousand columns": b'{"data":[{"Client_T":{"EntityId":"a"'
    + b"".join(b',"c%d":1' % number for number in range(30_000))
    + b"}}]}",
    "thirty thousand empty entries": b'{"data":[' + b"{}," * 30_000 + b"{}]}",
    "colons": b'{"data":[{"Client_T":{"EntityId":"a","Note":"' + b":" * UNIT + b'"}}]}',
    "backslashes": b'"' + b"\\" * UNIT,
    "octets that are no text": b"\xff" * UNIT,
}


def measured(call: Callable[[], object]) -> tuple[float, int]:
    """Return the processor time and the peak of memory that *call* takes; the errors of the tree are an answer."""
    tracemalloc.start()
    begun = time.thread_time()
    try:
        call()
    except DeltaMirrorError:
        pass
    finally:
        spent = time.thread_time() - begun
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return spent, peak


@pytest.mark.parametrize("name", BOMBS)
def test_answer_costs_no_more_than_its_size(name: str) -> None:
    body = BOMBS[name]

    for reader in (lambda: read_page(body, CLIENTS, 0), lambda: read_message(Delivery(body))):
        spent, peak = measured(reader)
        assert spent < SECONDS
        assert peak < TIMES * len(body) + 40 * UNIT


@pytest.mark.parametrize("text", ["|@|", "x", "|@", "|$", '"', "\0"])
def test_export_without_an_end_of_a_row_costs_no_more_than_its_size(text: str) -> None:
    octets = ("\ufeff" + "TenantId|@|EntityId|$|" + text * (UNIT // len(text))).encode("utf-16-le")
    chunks = [octets[at : at + 65_536] for at in range(0, len(octets), 65_536)]

    spent, peak = measured(lambda: list(read_table(iter(chunks), "Client_20260504.csv", facts_of("Client"))))

    assert spent < SECONDS
    assert peak < TIMES * len(octets)


@pytest.mark.parametrize("text", [b"[", b"a", b"\0", b'{"a": "' + b"x" * 990 + b'"}\n', b" ", b"\n"])
def test_compressed_file_takes_memory_by_its_longest_message_and_not_by_its_size(tmp_path: Path, text: bytes) -> None:
    packed = BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb") as file:
        for _ in range(4):
            file.write(text * (UNIT // len(text)))
    (tmp_path / "bomb.gz").write_bytes(packed.getvalue())
    limits = Limits(longest=UNIT, chunk=1 << 16)

    def read() -> None:
        try:
            for _ in Source(tmp_path / "bomb.gz", limits).bodies():
                pass
        except DamagedError:
            pass

    spent, peak = measured(read)

    assert spent < 3 * SECONDS
    assert peak < TIMES * UNIT


@pytest.mark.parametrize(
    "line", ["a" + ".a" * 100_000 + " = 1", "a = " + "[" * 500_000, "a = " + "{a = " * 100_000, "[a]\n" * 100, '"' * 500_000]
)
def test_configuration_costs_no_more_than_its_size(tmp_path: Path, line: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(line, encoding="utf-8")

    spent, peak = measured(lambda: load_config(path, {}))

    assert spent < SECONDS
    assert peak < 400 * UNIT


def test_answer_that_is_packed_twice_takes_no_more_memory_than_an_answer_may() -> None:
    packed = gzip.compress(gzip.compress(bytes(16 * service.LARGEST_BODY), mtime=0), mtime=0)
    bomb = line.plain(packed, headers=[("Content-Encoding", "gzip, gzip")])
    assert len(bomb) < 1000

    with line.Line() as host:
        host.script(lambda asked: bomb)
        _, peak = measured(lambda: service._ask(host, service.Answers((), (), (), (), is_listed=False)))

    assert peak < 8 * service.LARGEST_BODY
