"""`sync demo`: the first thing that a stranger types."""

from pathlib import Path

from installed import Shop


def test_the_demo_shows_a_baseline_deltas_and_a_proof_and_touches_nothing(shop: Shop, tmp_path: Path) -> None:
    room = tmp_path / "room"
    room.mkdir()
    before = shop.configuration.read_bytes()
    process = shop.start("demo", TMPDIR=str(room))
    ended = shop.end(process)
    assert "sync full-starter" in ended.out
    assert "nothing differs" in ended.out
    [error] = [line for line in ended.err.splitlines() if "error" in line]
    assert "in quarantine: 1 message" in error  # the broken line that is part of the show
    assert '-> "2 New Street"' in ended.out
    assert "pushed address.addressLine1" in ended.out
    assert not shop.mirror.exists()
    assert shop.configuration.read_bytes() == before
    [folder] = room.iterdir()
    assert {path.name for path in folder.iterdir()} >= {"mirror.db", "config.toml", "export"}
