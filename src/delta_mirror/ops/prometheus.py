"""Metrics as a text file that Prometheus' node_exporter picks up (its "textfile" collector).

The format: prometheus.io/docs/instrumenting/exposition_formats, "Text-based format".

Invariants:

- The file is whole or not there, and others may read it: the exporter is another user. It holds numbers and names of streams, and
  no value of a record.
- Whatever stands in a label stays within its quotes.
- Each metric has its help and its type once, and is there even where it has no samples: a query can tell "none" from "gone".
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from delta_mirror.ops.whole_file import written_whole

MODE = 0o644
PREFIX = "delta_mirror_"


class Sample(NamedTuple):
    """One number, under its labels."""

    labels: Mapping[str, str]
    value: float


class Metric(NamedTuple):
    """One metric, a gauge; the name without the prefix that all of ours bear. Times are in seconds since the epoch."""

    name: str
    help: str
    samples: Sequence[Sample]


def write_metrics(file: Path, metrics: Sequence[Metric]) -> None:
    """Let *file* hold *metrics* and nothing else.

    Raises:
        OSError: it cannot be written; it is as it was.
    """
    with written_whole(file, MODE) as partial:
        partial.write_bytes(as_text(metrics).encode(errors="backslashreplace"))


def as_text(metrics: Sequence[Metric]) -> str:
    """Return *metrics* as the format has them."""
    return "".join(_lines(metric) for metric in metrics)


def _lines(metric: Metric) -> str:
    name = PREFIX + metric.name
    head = f"# HELP {name} {metric.help}\n# TYPE {name} gauge\n"
    return head + "".join(f"{name}{_labels(sample.labels)} {_number(sample.value)}\n" for sample in metric.samples)


def _labels(labels: Mapping[str, str]) -> str:
    parts = [f'{name}="{_escaped(value)}"' for name, value in labels.items()]
    return f"{{{','.join(parts)}}}" if parts else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
