"""Replicas on the model of etcd: no rule is broken, and the oracle is no decoration.

python3 -m tests.simulation.test_engine 100 200     plays these seeds
"""

from __future__ import annotations

import json
import sys
from base64 import b64decode
from collections.abc import Callable
from typing import Any

import pytest

from evloop.base.errors import CANT_CREATE, Refused
from evloop.daemon import changes, etcd, replica
from evloop.daemon.changes import Change, Changes, storage_failed
from evloop.daemon.etcd import KeyValue
from evloop.daemon.importing import Import
from evloop.daemon.replica import FATAL, LIVE, Replica
from evloop.directory.protocol import RoomEntry
from tests.simulation.engine import (
    KEYS,
    Asked,
    Member,
    RuleBroken,
    World,
    linearizable,
    play,
)

QUICK_SEEDS = 12
SLOW_SEEDS = 2_000


def test_some_seeds() -> None:
    outcomes: set[str] = set()
    resyncs = 0
    for seed in range(QUICK_SEEDS):
        world = play(seed)
        outcomes |= {one.outcome for one in world.asked}
        resyncs += sum(member.replica.resyncs for member in world.members)
    told = {"ok", "failed", "unknown", "room_exists", "no_such_room", "address_in_use"}
    assert outcomes == told
    assert resyncs


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("part", range(20))
def test_many_seeds(part: int) -> None:
    share = SLOW_SEEDS // 20
    for seed in range(1000 + part * share, 1000 + (part + 1) * share):
        try:
            play(seed)
        except RuleBroken as error:
            raise AssertionError(f"seed {seed}: {error}") from error


# -- bugs that were planted ------------------------------------------------------------------------


def _without(target: str, kind: str) -> Callable[[Any], Any]:
    """Takes the compare of `kind` with `target` out of the transactions of changes."""

    def plant(patch: Any) -> None:
        for name in ("_make", "_delete"):
            method = getattr(Changes, name)

            def without(self: Changes, change: Change, method: Any = method) -> bytes:
                body = json.loads(method(self, change))
                prefix = KEYS.all_of(kind)[0]
                body["compare"] = [
                    one
                    for one in body["compare"]
                    if one["target"] != target or not _key(one).startswith(prefix)
                ]
                return json.dumps(body).encode()

            patch.setattr(Changes, name, without)

    return plant


def _key(compare: dict[str, str]) -> bytes:
    return b64decode(compare["key"])


def _unknown_called_failed(patch: Any) -> None:
    def lost(self: Changes) -> None:
        for change in list(self._sent.values()):
            if change.state == changes.SENT:
                self._over(change, storage_failed())

    patch.setattr(Changes, "lost", lost)


def _sent_again_unfenced(patch: Any) -> None:
    def lost(self: Changes) -> None:
        for change in list(self._sent.values()):
            if change.state == changes.SENT:
                self.again(change)

    patch.setattr(Changes, "lost", lost)


def _refused_by_the_copy(patch: Any) -> None:
    ask = Changes.ask

    def refuse(self: Changes, change: Change, now: float) -> None:
        there = change.fold in self._replica.rooms
        if there == (change.op == changes.MAKE):
            reason = "room_exists" if there else "no_such_room"
            self._over(change, Refused(1, reason, reason))
        else:
            ask(self, change, now)

    patch.setattr(Changes, "ask", refuse)


def _answered_before_its_version(patch: Any) -> None:
    decided = Changes.decided

    def early(self: Changes, change: Change, status: int, answer: Any, now: float) -> None:
        decided(self, change, status, answer, now)
        if change.state == changes.GRANTED:
            self._over(change, None)

    patch.setattr(Changes, "decided", early)


def _follows_from_too_late(patch: Any) -> None:
    watch = etcd.watch

    def late(key: bytes, end: bytes, start: int) -> bytes:
        return watch(key, end, start + (key == KEYS.head))

    patch.setattr(etcd, "watch", late)


def _resync_without_a_word(patch: Any) -> None:
    class Silent(list):  # type: ignore[type-arg]
        def append(self, event: Any) -> None:
            if event[0] == replica.LOADED:
                event = (*event[:2], False)
            super().append(event)

    start = Replica.__init__

    def init(self: Replica, *arguments: Any) -> None:
        start(self, *arguments)
        self.events = Silent()

    patch.setattr(Replica, "__init__", init)
    pump = Member.pump

    def pumped(self: Member) -> None:
        pump(self)
        self.replica.events = Silent(self.replica.events)

    patch.setattr(Member, "pump", pumped)


BUGS: dict[str, Callable[[Any], object]] = {
    "no compare of the place": _without("CREATE", "p"),
    "no compare of the name": _without("CREATE", "n"),
    "no compare of the epoch": _without("MOD", "s"),
    "unknown is called failed": _unknown_called_failed,
    "sent again without a fence": _sent_again_unfenced,
    "refused by the copy": _refused_by_the_copy,
    "answered before its version": _answered_before_its_version,
    "follows from R + 2": _follows_from_too_late,
    "read anew without a word": _resync_without_a_word,
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_caught(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    BUGS[bug](monkeypatch)
    for seed in range(60):
        try:
            play(seed, 40.0)
        except (RuleBroken, AssertionError):
            return
    raise AssertionError("60 seeds, and nobody noticed")


# -- imports ---------------------------------------------------------------------------------------


def _import_twice(seed: int, monkeypatch: pytest.MonkeyPatch) -> World:
    """Two servers import at once, in trouble: one of them makes the directory, and it alone."""
    fatal: list[tuple[str, int]] = []

    def act_on(self: Member, event: Any) -> None:  # what is judged here is the store
        if event[0] == FATAL:
            fatal.append(event[1:])

    monkeypatch.setattr(Member, "act_on", act_on)
    monkeypatch.setattr(World, "grow_states", lambda self: None)  # its first version is not 0
    world = World(seed)
    lists = []
    for number, count in ((1, 130), (2, 70)):
        rooms = [
            RoomEntry(f"{number}-{n}", f"239.255.{number}.{n}", 5000, made=1) for n in range(count)
        ]
        lists.append({room.fold for room in rooms})
        member = world.join()
        member.replica.importing = Import(rooms, 1_000 * number, f"{number:016x}")
    world.run(60.0)
    world.heal()
    world.run(90.0)
    start, end = KEYS.all_of("n")
    there = {key[len(start) :].decode() for key in world.store.keys if start <= key < end}
    if there not in lists:
        raise RuleBroken(f"{len(there)} rooms are there, of two imports")
    live = [member for member in world.members if member.replica.state == LIVE]
    if len(live) != 1 or len(fatal) != 1 or fatal[0][1] != CANT_CREATE:
        raise RuleBroken(f"{len(live)} servers live, and it was told {fatal}")
    if (
        set(live[0].replica.rooms) != there
        or live[0].replica.version != world.store.truth[0][1].base
    ):
        raise RuleBroken("the server that has imported has other rooms")
    return world


def test_of_two_imports_one_makes_the_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    won = {_import_twice(seed, monkeypatch).store.truth[0][1].base for seed in range(8)}
    assert won == {1_000, 2_000}


def test_two_imports_without_the_compare_of_theirs_are_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unguarded(self: Import, steps: Any, now: float) -> None:
        body = etcd.txn([etcd.is_there(KEYS.head, False)], steps)
        self._known().calls.post(etcd.TXN, body, self._stepped, now)

    monkeypatch.setattr(Import, "step", unguarded)
    for seed in range(40):
        try:
            _import_twice(seed, monkeypatch)
        except RuleBroken:
            return
    raise AssertionError("40 seeds, and nobody noticed")


# -- the oracle's own oracle -----------------------------------------------------------------------


def asked(begun: float, ended: float, op: str, outcome: str) -> Asked:
    return Asked(begun, ended, op, "lab", outcome, 0, (), "")


INF = float("inf")
HISTORIES = [
    (True, [asked(0, 1, "make", "ok"), asked(2, 3, "delete", "ok")]),
    (False, [asked(0, 1, "make", "ok"), asked(2, 3, "make", "ok")]),
    (False, [asked(0, 1, "delete", "ok")]),
    (True, [asked(0, 1, "make", "room_exists"), asked(0, INF, "make", "unknown")]),
    (False, [asked(0, 1, "make", "room_exists"), asked(2, INF, "make", "unknown")]),
    (True, [asked(0, 5, "make", "ok"), asked(1, 2, "make", "room_exists")]),
    (True, [asked(0, 5, "make", "ok"), asked(1, 2, "delete", "no_such_room")]),
    (False, [asked(0, 1, "make", "ok"), asked(2, 3, "delete", "no_such_room")]),
    (False, [asked(0, 1, "make", "failed"), asked(2, 3, "make", "room_exists")]),
]


@pytest.mark.parametrize("good, history", HISTORIES)
def test_which_histories_have_an_order(good: bool, history: list[Asked]) -> None:
    assert linearizable(history) == good


def test_a_seed_replays_to_the_letter() -> None:
    assert play(5, 20.0).asked == play(5, 20.0).asked


def test_a_store_of_an_older_backup_is_not_taken() -> None:
    """Reads go on from the copy, changes are refused, and it is said again each minute."""
    world = World(1)
    world.heal()
    member = world.join()
    world.run(5.0)
    for name in ("lab", "hall"):
        member.ask("make", name, (f"239.255.7.{len(name)}", 5000))
    world.run(8.0)
    assert [one.outcome for one in world.asked] == ["ok", "ok"]
    store = world.store
    head = store.keys[KEYS.head]
    old = KeyValue(head[0].key, _head_at(store, 2), head[0].mod, 2)
    store.keys[KEYS.head] = old, head[1], head[2]
    told: list[str] = []
    member.act_on = lambda event: told.append(event[-1])  # type: ignore[method-assign]
    member.replica.trouble(etcd.EngineError("cut"), world.now)
    member.pump()
    world.run(80.0)
    assert member.replica.state == replica.BROKEN
    assert len(told) >= 2 and "was a backup restored" in told[-1]
    assert member.replica.version == 2


def test_a_fence_that_the_log_overtakes_is_no_older_backup() -> None:
    """A server that is live fences (the bridge is connected); before it hears of that, the log
    tells it of a change that came after. Its fence's answer is then older than its copy."""
    world = World(1)
    world.heal()
    one, other = world.join(), world.join()
    world.run(5.0)
    one.replica.info["bridge"] = True
    one.replica.fence(world.now)
    (call,) = one.replica.calls.to_send
    one.replica.calls.to_send = []
    status, answer = world.answer(call.path, json.loads(call.body or b""))
    other.ask("make", "lab", ("239.255.7.1", 5000))
    world.run(6.0)
    assert one.replica.version == 1  # and the answer, still under way, tells of version 0
    one.replica.calls.answered(call.number, status, json.dumps(answer).encode(), world.now)
    one.pump()
    assert one.replica.state == LIVE, one.replica.why
    one.ask("make", "hall", ("239.255.7.2", 5000))
    world.run(7.0)
    assert [asked.outcome for asked in world.asked] == ["ok", "ok"]


def _head_at(store: Any, version: int) -> bytes:
    heads = [found for _, _, found in store.log if found.key == KEYS.head]
    value: bytes = heads[version - 1].value
    return value


def main() -> int:
    first, last = int(sys.argv[1]), int(sys.argv[2])
    for seed in range(first, last):
        try:
            play(seed)
        except RuleBroken as error:
            print(f"seed {seed}: {error}")
            return 1
    print(f"{last - first} seeds, no rule was broken")
    return 0


if __name__ == "__main__":
    sys.exit(main())
