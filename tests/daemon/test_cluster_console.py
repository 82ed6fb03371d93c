"""The console of one of several servers: `servers`, and a deletion that takes its time."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from evloop.base.errors import Refused
from evloop.daemon.cluster_console import answers, server_lines
from evloop.daemon.console import ANSWERS
from evloop.daemon.replica import Replica

OWN, OTHER = "0000000a", "0000000b"


class Cluster:
    """As much of one as a console needs."""

    def __init__(self) -> None:
        self.replica = Replica("main", OWN, 1, {}, "0" * 16, random.Random(1), 0.0)
        self.dispatcher = self
        self.asked: list[tuple[str, Callable[[bytes, Refused | None], object]]] = []

    def operator_deletes(self, name: str, then: Callable[[bytes, Refused | None], object]) -> None:
        self.asked.append((name, then))


class Console:
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, line: str) -> None:
        self.said.append(line)


def test_servers_are_listed_ours_first_and_nothing_of_theirs_is_trusted() -> None:
    cluster: Any = Cluster()
    assert server_lines(cluster) == ["no servers are known: no answer yet"]
    servers = cluster.replica.census.servers
    servers[OTHER] = {"site": "south", "listen": ["192.0.2.2:44444"], "evloop": "0.2"}
    servers[OWN] = {"site": "north\x1b[31m", "listen": 7}
    first, second = server_lines(cluster)
    assert first.startswith(f"  {OWN}  north") and first.endswith("this one")
    assert "\x1b" not in first
    assert second == f"  {OTHER}  south  192.0.2.2:44444  0.2"


def test_a_deletion_is_told_when_it_is_known() -> None:
    cluster: Any = Cluster()
    console: Any = Console()
    rows = answers(ANSWERS, cluster)
    assert list(rows)[-3:] == ["servers", "help", "quit"]
    assert set(rows) == {*ANSWERS, "servers"}
    assert rows["deleteroom"][1](console, "lab") == []
    ((name, then),) = cluster.asked
    assert name == "lab"
    then(b'{"version":2,"room":{"name":"Lab"}}', None)
    then(b"", Refused(7, "storage_failed", "the store is away"))
    assert console.said == ["deleted room Lab", "the store is away"]
    assert "this one" not in "".join(rows["servers"][1](console, ""))
