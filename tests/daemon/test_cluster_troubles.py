"""One of several servers, whose etcd is full, forgets its password, is of a newer form; and counts
of members. etcd is the model of the simulator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evloop.base.errors import MISMATCH, SetupError
from evloop.base.strictjson import encode
from evloop.daemon import etcd
from evloop.daemon.etcd import KeyValue
from evloop.daemon.limits import COUNTS_EVERY_S, COUNTS_PER_WRITE
from evloop.daemon.server import say_waiting
from tests.simulation.engine import KEYS, World
from tests.support.cluster_house import ModelEngine, Servant, names

Answer = tuple[int, dict[str, Any]]
FULL = {"error": "etcdserver: mvcc: database space exceeded", "code": 8}


def test_an_etcd_that_is_full_refuses_at_once_and_says_why(
    servant: Servant, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Surely nothing was done: `storage_failed`, and not unknown. Room is made, and it goes on."""
    ann = servant.caller()
    answer = world.answer

    def full(path: str, body: dict[str, Any]) -> Answer:
        return (429, FULL) if path == etcd.TXN and body["compare"] else answer(path, body)

    monkeypatch.setattr(world, "answer", full)
    since = servant.clock()
    assert servant.reason(ann, "makeroom", name="lab").startswith("storage_failed: ")
    assert servant.clock() - since < 5.0
    told = [line for line in servant.lines if "the cluster takes no changes" in line]
    assert told and "database space exceeded" in told[0]
    assert names(servant, ann) == []
    monkeypatch.setattr(world, "answer", answer)
    assert servant.result(ann, "makeroom", name="lab")["version"] == 1


def test_a_token_that_is_not_valid_any_more_is_got_anew(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """etcd forgets tokens when it is started again: the change was not done, and is made once."""
    answer = world.answer
    given: list[int] = []
    refused: list[str] = []

    def guarded(path: str, body: dict[str, Any]) -> Answer:
        if path == etcd.AUTHENTICATE:
            assert body == {"name": "evloop", "password": "secret"}
            given.append(len(given))
            return 200, {"token": f"token-{len(given)}"}
        if path == etcd.TXN and len(body["compare"]) > 2 and not refused:
            refused.append(path)
            return 401, {"error": "etcdserver: invalid auth token", "code": 16}
        return answer(path, body)

    file = tmp_path / "password"
    file.write_text("secret\n")
    monkeypatch.setattr(world, "answer", guarded)
    house = Servant("--cluster-user", "evloop", "--cluster-password-file", str(file))
    try:
        house.until(lambda: house.listens)
        (engine,) = (one for one in world.members if isinstance(one, ModelEngine))
        ann = house.caller()
        assert house.result(ann, "makeroom", name="lab")["version"] == 1
        assert refused and len(given) == 2
        assert engine.replica.calls.token == "token-2"
        assert [head.op for _, head in world.store.truth] == ["found", "make"]
        assert not any("secret" in line for line in house.lines)
    finally:
        house.close()


@pytest.mark.parametrize("serves", [False, True], ids=["at the start", "later"])
def test_a_directory_of_a_newer_form(world: World, serves: bool) -> None:
    """Before the ready line the server ends with 76; later it goes on with what it knows."""
    house = Servant()
    cluster = house.server.cluster
    assert cluster is not None
    try:
        if serves:
            house.until(lambda: house.listens)
            ann = house.caller()
            house.result(ann, "makeroom", name="lab")
        value = encode({"f": 2, "b": 0, "c": "later-1", "op": "make"})
        world.store.keys[KEYS.head] = KeyValue(KEYS.head, value, 2, 1), 2, ""
        if not serves:
            with pytest.raises(SetupError, match="newer evloop") as ended:
                cluster.run(list, house.waits.append)
            assert ended.value.exit_status == MISMATCH
            return
        world.lose(0)
        house.skip(5.0)
        world.heal()
        house.until(lambda: any("takes no changes" in line for line in house.lines))
        assert house.reason(ann, "makeroom", name="hall").startswith("storage_failed: ")
        assert names(house, ann) == ["lab"]
    finally:
        house.close()


def writes(engine: ModelEngine) -> list[int]:
    """How many counts each of its writes had."""
    found = []
    for call in engine.sent:
        body = json.loads(call.body or b"{}")
        steps = body.get("success", ()) if call.path == etcd.TXN and not body["compare"] else ()
        if len(steps) and all("request_range" not in step for step in steps):
            found.append(len(steps))
    return found


def test_counts_are_written_once_a_second_some_at_a_time(servant: Servant, world: World) -> None:
    """A room in which people come and go all the time costs one write a second."""
    (engine,) = (one for one in world.members if isinstance(one, ModelEngine))
    census = engine.replica.census
    for number in range(COUNTS_PER_WRITE + 50):
        census.set_own(f"r{number}", 1, servant.loop.now)
    engine.wake()
    servant.skip(3 * COUNTS_EVERY_S)
    assert writes(engine) == [COUNTS_PER_WRITE, 50]
    engine.sent.clear()
    for count in range(20):
        census.set_own("r1", count, servant.loop.now)
        engine.wake()
        servant.skip(0.1)
    servant.skip(2 * COUNTS_EVERY_S)
    assert 2 <= len(writes(engine)) <= 4
    key = KEYS.members(engine.replica.server, "r1")
    assert world.store.keys[key][0].value == b"19"
    census.set_own("r1", 0, servant.loop.now)
    engine.wake()
    servant.skip(2 * COUNTS_EVERY_S)
    assert key not in world.store.keys


def test_counts_of_others_are_added_and_go_with_their_server(
    servant: Servant, world: World
) -> None:
    """Whatever else lies there is no number, and changes nothing."""
    ann = servant.caller()
    servant.result(ann, "makeroom", name="lab")
    servant.result(ann, "enter", name="lab")
    status, granted = world.answer(etcd.GRANT, json.loads(etcd.grant(3.0)))
    assert status == etcd.OK
    other, lease = "00000bad", granted["ID"]

    def put(key: bytes, value: bytes) -> None:
        body = etcd.txn([], [etcd.put(key, value, lease)])
        assert world.answer(etcd.TXN, json.loads(body))[0] == etcd.OK

    def members() -> int:
        (room,) = servant.result(ann, "getdir")["rooms"]
        return int(room["members"])

    put(KEYS.members(other, "lab"), b"41")
    servant.until(lambda: members() == 42)
    for rubbish in (b"many", b"-1", b"9" * 30, b"", "\u0663".encode()):
        put(KEYS.members(other, "lab"), rubbish)
    put(KEYS.members(other, "nowhere"), b"7")
    put(KEYS.all_of("m")[0] + b"no-fold", b"7")
    put(KEYS.members(other, "lab"), b"2")
    servant.until(lambda: members() == 3)
    servant.skip(4.0)  # its lease ends
    servant.until(lambda: members() == 1)


def test_whoever_started_it_is_told_what_it_waits_for() -> None:
    """On standard error and, by the service manager's socket, in its status."""
    told: list[str] = []

    class Listener:
        line = status = staticmethod(told.append)

    listener: Any = Listener()
    say_waiting("waiting for the cluster at 192.0.2.1:2379: nobody answers", listener, listener)
    sentence = "waiting for the cluster at 192.0.2.1:2379: nobody answers"
    assert told == [f"evloop.server: {sentence}", sentence]
