"""kill -9 at random moments under pipelined load: every acknowledged change is there, nothing else.

One writer sends makeroom and deleteroom without waiting for replies; the server is killed after a
random number of them; the next server starts on the same file. A change without a reply may have
happened or not; an answered one must have.
"""

from __future__ import annotations

import os
import random
import select
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import Crew, Server
from tests.support.rpc import Wire

KILLS = 50  # of each seed
SEEDS = (1, 2)
MEMBERS = tuple(sorted(("name", "address", "port", "mode", "members", "made", "keep")))
BURST = 600  # requests under way when the kill comes, at most: several ticks, several commits
# The kill comes at a random moment of a span which follows what a burst takes on this machine now:
# longer after a kill in mid-burst, shorter after one that came too late.
SPAN_S, SPAN_S_MIN, SPAN_S_MAX = 0.02, 0.0005, 0.1
LONGER, SHORTER = 1.2, 0.7


def load(rng: random.Random, known: dict[str, Any], round_number: int) -> list[tuple[str, str]]:
    """(method, name): new rooms and deletions, also of rooms that this very burst makes."""
    names = list(known)
    changes = []
    for at in range(rng.randint(100, BURST)):
        if names and rng.random() < 0.48:
            changes.append(("deleteroom", names.pop(rng.randrange(len(names)))))
        else:
            name = f"r{round_number}-{at}"
            changes.append(("makeroom", name))
            names.append(name)
    return changes


def one_round(
    wire: Wire, server: Server, known: dict[str, Any], rng: random.Random, number: int, span: float
) -> tuple[list[tuple[str, str]], int]:
    """Load, then the kill; `known` is brought up to date. Returns (unsure changes, version)."""
    changes = load(rng, known, number)
    version = 0
    wire.send(b"".join(wire.frame(method, name=name) for method, name in changes))
    select.select([], [], [], rng.uniform(0, span))  # the random moment
    os.kill(server.pid, signal.SIGKILL)
    answered = 0
    while answered < len(changes) and (reply := wire.receive()) is not None:
        version = max(version, apply(known, changes[answered], reply))
        answered += 1
    return changes[answered:], version


def apply(known: dict[str, Any], change: tuple[str, str], reply: dict[str, Any]) -> int:
    """An answered change is certain; return its version."""
    method, name = change
    assert "result" in reply, (change, reply)
    room = reply["result"]["room"]
    assert room["name"] == name
    if method == "makeroom":
        known[name] = room
    else:
        assert known.pop(name) == room
    version: int = reply["result"]["version"]
    return version


def settle(known: dict[str, Any], unsure: list[tuple[str, str]], found: dict[str, Any]) -> None:
    """Of the changes whose fate the kill has hidden, the first so many happened, the rest not."""
    names = set(known)
    happened = 0
    while names != set(found):
        assert happened < len(unsure), "no number of the unanswered changes explains what is there"
        method, name = unsure[happened]
        happened += 1
        if method == "makeroom":
            names.add(name)
        else:
            names.remove(name)
    for _, name in unsure[:happened]:
        if name in found:
            known.setdefault(name, found[name])
        else:
            known.pop(name, None)


def check_file(path: Path) -> None:
    """SQLite itself finds nothing wrong with what the kill has left."""
    with sqlite3.connect(path) as database:
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
    database.close()


@pytest.mark.parametrize("seed", SEEDS)
def test_killed_at_random_moments_nothing_acknowledged_is_lost(
    crew: Crew, tmp_path: Path, seed: int
) -> None:
    path = tmp_path / "directory.db"
    rng = random.Random(seed)
    known: dict[str, Any] = {}
    unsure: list[tuple[str, str]] = []
    least = 0
    span = SPAN_S
    hidden = 0  # how often the kill hid the fate of a change: else this test shows nothing
    options = ("--state", str(path), "--change-rate", "0", "--rooms-per-address", "0")
    for number in range(KILLS):
        server = crew.server(*options)
        with Wire(server.port) as wire:
            # Nothing acknowledged is lost, nothing half-made is there, the version never goes back.
            found = {room["name"]: room for room in wire.rooms()}
            settle(known, unsure, found)
            assert found == known
            assert {tuple(sorted(room)) for room in found.values()} <= {MEMBERS}
            places = [(room["address"], room["port"]) for room in found.values()]
            assert len(places) == len(set(places))
            version = wire.result("hello")["version"]
            assert version >= least
            unsure, seen = one_round(wire, server, known, rng, number, span)
            span *= LONGER if unsure else SHORTER
            span = min(max(span, SPAN_S_MIN), SPAN_S_MAX)
            least = max(least, version, seen)
            hidden += bool(unsure)
        crew.finish(server)
        assert server.status == -signal.SIGKILL
        assert "rror" not in server.err, server.tell()
        server.close()
        crew.programs.remove(server)
    assert hidden > KILLS // 4, hidden
    check_file(path)
