"""One server of a cluster, whose etcd is the model of the simulator."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.simulation.engine import World
from tests.support.cluster_house import Servant, calm_world


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return calm_world(monkeypatch)


@pytest.fixture
def servant(world: World) -> Iterator[Servant]:
    servant = Servant()
    servant.until(lambda: servant.listens)
    yield servant
    servant.close()
