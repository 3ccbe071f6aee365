"""A simulated salon with its service, and a shop: the folder in which the program is called."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from installed import Shop

from delta_mirror.simulator import Service, World


@pytest.fixture
def world() -> World:
    """A salon chain of one tenant and two locations, in which nothing has happened yet."""
    return World(seed=7)


@pytest.fixture
def service(world: World) -> Iterator[Service]:
    """The well-behaved service of that salon."""
    with Service(world) as service:
        yield service


@pytest.fixture
def shop(tmp_path: Path, service: Service) -> Shop:
    """A folder with a configuration for it, and no mirror yet."""
    return Shop(tmp_path, service)
