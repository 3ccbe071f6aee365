"""The metrics that are documented are those that are written."""

import sqlite3
from contextlib import closing
from pathlib import Path

import documents

from delta_mirror.config import load_config
from delta_mirror.jobs.metrics import collect_metrics
from delta_mirror.mirror.write import Mirror
from delta_mirror.ops.prometheus import Metric

CONFIG = """\
[dds]
client_id = "invented"
client_secret = "invented"
[[dds.locations]]
tenant_id = 11
location_id = 9
"""


def written(folder: Path) -> list[Metric]:
    """Return the metrics of a mirror in which there is something of everything."""
    file = folder / "config.toml"
    file.write_text(CONFIG, encoding="utf-8")
    config = load_config(file)
    with Mirror.open(config.mirror.path) as mirror:
        mirror.begin_run("deltas")
    with closing(sqlite3.connect(config.mirror.path)) as bare, bare:
        bare.execute("update _runs set ended_at = started_at, outcome = 'done'")
        bare.execute(
            "insert into _streams (tenant_id, location_id, entity, caught_up_at, last_success_at, verified_differing) "
            "values (11, 9, 'Client', '2026-05-04T12:00:00Z', '2026-05-04T12:00:00Z', 0)"
        )
        bare.execute("insert into _pauses values (11, 9, 2000000000.0, 'x', 0.0)")
        tally = '{"last_received_at": "2026-05-04T12:00:00Z", "last_occurred_at": "2026-05-04T12:00:00.1234567Z"}'
        bare.execute("insert into _meta (key, value) values ('nexus', ?), ('nexus_dead_letters', '0')", (tally,))
        bare.execute("insert into _accela_links values ('Client', 11, 9, 'c-1', '253', 1, '2026-05-04T12:00:00Z')")
    return collect_metrics(config, now=1_780_000_000.0)


def test_metrics_and_their_labels_are_those_of_the_documentation(tmp_path: Path) -> None:
    table = documents.rows(documents.section(documents.ROOT / "docs" / "operating.md", "Metrics"))
    documented = {documents.code_in(row[0])[0]: [label for label in row[1].split(", ") if label] for row in table}

    assert documented == {metric.name: list(metric.samples[0].labels) for metric in written(tmp_path)}
