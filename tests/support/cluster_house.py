"""A whole server of a cluster in the test's own process: its etcd is the model of the simulator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from evloop.daemon import cluster
from evloop.daemon.calls import Call
from evloop.daemon.replica import Replica
from evloop.system.loop import Loop
from tests.simulation.engine import World
from tests.support.live import Caller, House


class ModelEngine:
    """In the place of `Engine`: the calls of a server's replica go to the model of etcd."""

    world: World

    def __init__(
        self,
        loop: Loop,
        replica: Replica,
        endpoints: object,
        context: object,
        on_events: Callable[[], object],
    ) -> None:
        self.number = len(self.world.members) + 1
        self.dead = False
        self.stopped_until = 0.0
        self.replica = replica
        self.sent: list[Call] = []
        self._loop = loop
        self._on_events = on_events
        self._timer = loop.call_at(loop.now, self._on_timer)
        self.world.members.append(self)  # type: ignore[arg-type]

    def pump(self) -> None:
        replica, calls, world = self.replica, self.replica.calls, self.world
        world.now = max(world.now, self._loop.now)
        while calls.dropped or calls.to_send or replica.events:
            dropped, calls.dropped = calls.dropped, []
            for number in dropped:
                world.dropped(self, number)  # type: ignore[arg-type]
            to_send, calls.to_send = calls.to_send, []
            self.sent += to_send
            for call in to_send:
                world.send(self, call)  # type: ignore[arg-type]
            if replica.events:
                self._on_events()
        self.wake()

    def wake(self) -> None:
        self._timer.move(min(self.replica.next_deadline(), self.world.next_at()))

    def _on_timer(self) -> None:
        now = self._loop.now
        self.world.run(now)
        if self.replica.next_deadline() <= now:
            self.replica.handle_timer(now)
        self.pump()

    def close(self) -> None:
        self.dead = True
        self._timer.cancel()


class Servant(House):
    """A server of a cluster in this process. `listens` from its `begin` on; `waits`: what it told
    whoever started it before that."""

    def __init__(self, *options: str) -> None:
        self.listens = False
        self.waits: list[str] = []
        super().__init__("--cluster", "192.0.2.1", "--no-announce", *options)

    def open(self) -> None:
        assert self.server.cluster is not None
        self.server.cluster.follow(self._begin, self.waits.append)

    def _begin(self) -> list[str]:
        self.listens = True
        super().open()
        return []

    def reason(self, caller: Caller, method: str, **params: Any) -> str:
        """Why a request was refused, and in which words."""
        error = self.call(caller, method, **params)["error"]
        return f"{error['data']['reason']}: {error['message']}"

    def result(self, caller: Caller, method: str, **params: Any) -> dict[str, Any]:
        result: dict[str, Any] = self.call(caller, method, **params)["result"]
        return result


def calm_world(monkeypatch: pytest.MonkeyPatch) -> World:
    """A model of etcd on a good network, which all servers made from now on use."""
    world = World(1, endpoints=1)
    world.healed = True
    monkeypatch.setattr(ModelEngine, "world", world, raising=False)
    monkeypatch.setattr(cluster, "Engine", ModelEngine)
    return world


def names(house: House, caller: Caller) -> list[str]:
    return [room["name"] for room in house.call(caller, "getdir")["result"]["rooms"]]
