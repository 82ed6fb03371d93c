"""etcd is away for an hour, for ever, and at the start: what clients of a whole server are told.

The server is one process with real clients; etcd is the model of `tests.simulation.engine`, and the
clock is moved on by hand. What real members of etcd do is in tests/e2e/test_cluster*.py and in
tests/lab/test_cluster.py.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evloop.base.strictjson import encode
from evloop.daemon import etcd
from evloop.daemon.changes import MAKE
from evloop.daemon.limits import CACHE_SERVED_S, CHANGE_S, ENGINE_BACKOFF_S_MAX
from evloop.directory.protocol import RoomEntry
from tests.simulation.engine import KEYS, World
from tests.support.cluster_house import ModelEngine, Servant, names

HOUR = 3_600.0
FAILED = "storage_failed: the directory's store is away; nothing was changed, try again later"


def counts(world: World) -> list[bytes]:
    """What the servers have told etcd of how many are in a room."""
    start, end = KEYS.all_of("m")
    return [one[0].value for key, one in world.store.keys.items() if start <= key < end]


def asked(servant: Servant) -> int:
    """How many requests its replica has sent to etcd."""
    (engine,) = [one for one in ModelEngine.world.members if isinstance(one, ModelEngine)]
    return len(engine.sent)


@pytest.mark.parametrize("hours", [1, pytest.param(24, marks=pytest.mark.slow)])
def test_etcd_is_away_for_long_and_comes_back(servant: Servant, world: World, hours: int) -> None:
    """Under way: unknown. In the first seconds: not done. Then refused at once; reads go on."""
    ann, bob = servant.caller(), servant.caller()
    assert servant.result(ann, "makeroom", name="lab")["version"] == 1
    servant.result(bob, "watch")
    servant.result(ann, "enter", name="lab")
    world.lose(0)
    begun = servant.clock()
    under_way = servant.caller()
    number = under_way.ask("makeroom", name="under-way")
    servant.tick(2)
    servant.skip(CHANGE_S + 1.0)
    reply = under_way.reply(number)
    assert reply is not None and reply["error"]["data"]["reason"] == "storage_unknown"
    assert "whether room under-way was made is not known yet" in reply["error"]["message"]

    before = asked(servant)
    servant.skip(hours * HOUR - (servant.clock() - begun))
    assert asked(servant) - before <= hours * HOUR / (ENGINE_BACKOFF_S_MAX / 2)
    for method in ("makeroom", "deleteroom"):
        since = servant.clock()
        assert servant.reason(ann, method, name="lab") == FAILED
        assert servant.clock() - since < CHANGE_S / 2  # at once, not when a change's time is over
    assert names(servant, ann) == ["lab"]
    assert servant.result(ann, "ping") == {}
    assert servant.result(servant.caller(), "enter", name="lab")["room"]["members"] == 2
    stale = servant.result(ann, "hello")["stale"]
    assert abs(stale - (servant.clock() - begun)) <= 10
    told = [line for line in servant.lines if "the cluster does not answer" in line]
    assert len(told) == 1
    readings = servant.dispatcher.readings()
    assert readings["cluster_live"] == 0
    assert readings["cluster_away_seconds"] >= hours * HOUR - 10

    world.heal()
    servant.skip(ENGINE_BACKOFF_S_MAX)
    servant.until(lambda: "the cluster answers again" in servant.lines[-1])
    assert "stale" not in servant.result(ann, "hello")
    assert servant.result(ann, "makeroom", name="hall")["version"] == 2
    assert names(servant, ann) == ["hall", "lab"]
    bob.read()
    assert [one["method"] for one in bob.got if "method" in one] == ["room_made"]
    assert not bob.closed
    # Its lease had ended, and its counts are written anew.
    servant.until(lambda: counts(world) == [b"2"])


@pytest.mark.parametrize("compacted", [False, True])
def test_what_others_did_meanwhile_is_told_or_its_watchers_go(
    servant: Servant, world: World, compacted: bool
) -> None:
    watcher = servant.caller()
    servant.result(watcher, "watch")
    world.lose(0)
    servant.skip(HOUR / 6)
    ann = servant.caller()
    for number, name in enumerate(("hall", "ops", "zoo"), 2):  # a server for which etcd is there
        by_others(world, name, number)
    if compacted:
        world.store.compacted = world.store.revision
    world.heal()
    servant.skip(ENGINE_BACKOFF_S_MAX)
    servant.until(lambda: names(servant, ann) == ["hall", "ops", "zoo"])
    watcher.read()
    told = [one["method"] for one in watcher.got if "method" in one]
    if compacted:
        assert told == ["closing"] and watcher.closed
        assert watcher.got[-1]["params"]["reason"].startswith("this server missed changes")
    else:
        assert told == ["room_made"] * 3
        assert [one["params"]["version"] for one in watcher.got[1:]] == [1, 2, 3]


def by_others(world: World, name: str, number: int) -> None:
    """A room is made in etcd, by none of our servers."""
    room = RoomEntry(name, f"239.255.9.{number}", 5000, made=1, maker="192.0.2.1")
    place, record = etcd.place_text(room.address, room.port), etcd.record_of(room)
    base = world.store.truth[0][1].base
    body = etcd.txn(
        [],
        [
            etcd.put(KEYS.name(room.fold), encode(record)),
            etcd.put(KEYS.place(place), name.encode()),
            etcd.put(KEYS.head, etcd.head_value(base, f"other-{number}", MAKE, room.fold, record)),
        ],
    )
    status, _ = world.answer(etcd.TXN, json.loads(body))
    assert status == etcd.OK


def test_etcd_is_away_at_the_start_for_an_hour(world: World) -> None:
    """It says so after 2 s and each minute, listens nowhere, and then founds the directory."""
    world.lose(0)
    house = Servant()
    try:
        house.skip(HOUR)
        assert not house.listens
        assert 60 <= len(house.waits) <= 61
        assert all(
            one.startswith("waiting for the cluster at 192.0.2.1:2379: ") for one in house.waits
        )
        world.heal()
        house.skip(ENGINE_BACKOFF_S_MAX)
        house.until(lambda: house.listens)
        assert house.result(house.caller(), "makeroom", name="lab")["version"] == 1
    finally:
        house.close()


def test_etcd_is_away_at_the_start_and_there_is_a_copy(world: World, tmp_path: Path) -> None:
    """The rooms of the last time are shown, for an hour; what others made comes with etcd."""
    copy = ("--state", str(tmp_path / "copy.db"))
    first = Servant(*copy)
    try:
        first.until(lambda: first.listens)
        ann = first.caller()
        assert first.result(ann, "makeroom", name="lab")["version"] == 1
        identity = first.result(ann, "hello")["id"]
        first.skip(2.0)  # the copy is at most a second old
    finally:
        first.close()
    world.members.clear()
    world.lose(0)
    house = Servant(*copy)
    try:
        house.skip(CACHE_SERVED_S - 1.0)
        assert not house.listens
        house.skip(2.0)
        assert house.listens
        house.skip(HOUR)
        bob = house.caller()
        hello = house.result(bob, "hello")
        assert (hello["id"], hello["version"]) == (identity, 1)
        assert hello["stale"] >= HOUR
        assert names(house, bob) == ["lab"]
        assert house.reason(bob, "makeroom", name="hall") == FAILED
        by_others(world, "ops", 2)
        world.heal()
        house.skip(ENGINE_BACKOFF_S_MAX)
        house.until(lambda: "the cluster answers" in house.lines[-1])
        assert names(house, bob) == ["lab", "ops"]
        hello = house.result(bob, "hello")
        assert "stale" not in hello and (hello["id"], hello["version"]) == (identity, 2)
        assert house.result(bob, "makeroom", name="hall")["version"] == 3
    finally:
        house.close()
