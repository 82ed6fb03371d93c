"""A model of etcd and of the network to it, on a virtual clock, with replicas that use it.

The store is linearizable: transactions happen one after another, and `truth` is every change of the
directory with the time at which it happened. Everything around it is as bad as it can be: requests
and answers come late and get lost; what a server has given up is applied all the same; fences,
leases and imports happen twice (changes do not: neither TCP nor etcd's gateway sends one anew);
plain reads are old; endpoints vanish; watches fall silent, repeat themselves and are cut by
compaction; leases run out; servers are stopped for seconds, or killed.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from bisect import bisect_left
from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import Any, NamedTuple

from evloop.base.errors import Refused
from evloop.daemon import etcd
from evloop.daemon.calls import Call
from evloop.daemon.changes import DELETE, MAKE, Change
from evloop.daemon.etcd import Head, KeyValue
from evloop.daemon.replica import (
    APPLIED,
    FATAL,
    IS_BROKEN,
    LIVE,
    LOADED,
    OUTCOME,
    READ,
    READING,
    Replica,
)
from evloop.directory.protocol import RoomEntry

NAMES = ("lab", "hall", "ops", "zoo")
PLACES = tuple((f"239.255.7.{number}", 5000) for number in range(1, 4))
NAME = "main"
KEYS = etcd.Keys(NAME)


class RuleBroken(AssertionError):
    """A rule of the directory was broken."""


def _text(data: bytes) -> str:
    return b64encode(data).decode()


class Store:
    """The keys, and what became of them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.revision = 1
        self.compacted = 0
        self.keys: dict[bytes, tuple[KeyValue, int, str]] = {}  # with create revision and lease
        self.log: list[tuple[int, bool, KeyValue]] = []  # (revision, deleted, key and value)
        self.leases: dict[str, float] = {}  # when each ends
        self.truth: list[tuple[float, Head]] = []

    # -- reading -----------------------------------------------------------------------------

    def at(self, revision: int) -> dict[bytes, tuple[KeyValue, int, str]]:
        """The keys as they were."""
        if revision >= self.revision:
            return self.keys
        keys: dict[bytes, tuple[KeyValue, int, str]] = {}
        for when, deleted, found in self.log:
            if when > revision:
                break
            if deleted:
                keys.pop(found.key, None)
            else:
                keys[found.key] = found, 0, ""
        return keys

    def read(self, body: dict[str, Any], now_at: int) -> dict[str, Any]:
        key = b64decode(body["key"])
        end = b64decode(body["range_end"]) if "range_end" in body else key + b"\0"
        keys = self.at(int(body.get("revision", now_at)))
        found = sorted(one for one in keys if key <= one < end)
        limit = int(body.get("limit", "0")) or len(found) + 1
        answer: dict[str, Any] = {"kvs": [as_json(keys[one][0]) for one in found[:limit]]}
        if len(found) > limit:
            answer["more"] = True
        return answer

    # -- writing -----------------------------------------------------------------------------

    def transact(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """(status, answer) of /v3/kv/txn."""
        held = all(self._holds(one) for one in body["compare"])
        steps = body["success" if held else "failure"]
        for step in steps:
            lease = step.get("request_put", {}).get("lease")
            if lease is not None and lease not in self.leases:
                return 404, {"error": "etcdserver: requested lease not found", "code": 5}
        writes = any("request_range" not in step for step in steps)
        revision = self.revision + writes
        responses: list[dict[str, Any]] = []
        for step in steps:
            if "request_put" in step:
                self._put(step["request_put"], revision)
                responses.append({"response_put": {}})
            elif "request_delete_range" in step:
                self._delete(step["request_delete_range"], revision)
                responses.append({"response_delete_range": {}})
            else:
                responses.append({"response_range": self.read(step["request_range"], 2**60)})
        self.revision = revision
        self.check()
        answer: dict[str, Any] = {"header": header(revision), "responses": responses}
        if held:
            answer["succeeded"] = True
        self._world.written()
        return 200, answer

    def _holds(self, compare: dict[str, Any]) -> bool:
        key = b64decode(compare["key"])
        found = self.keys.get(key)
        if compare["target"] == "CREATE":
            end = b64decode(compare["range_end"]) if "range_end" in compare else key + b"\0"
            return not any(key <= one < end for one in self.keys)
        if compare["target"] == "MOD":
            return (found[0].mod if found else 0) == int(compare["mod_revision"])
        version = found[0].version if found else 0
        return version > 0 if compare["result"] == "GREATER" else version == 0

    def _put(self, body: dict[str, Any], revision: int) -> None:
        key, value = b64decode(body["key"]), b64decode(body["value"])
        old = self.keys.get(key)
        found = KeyValue(key, value, revision, old[0].version + 1 if old else 1)
        self.keys[key] = found, old[1] if old else revision, body.get("lease", "")
        self.log.append((revision, False, found))
        if key == KEYS.head:
            self.truth.append((self._world.now, Head(found)))

    def _delete(self, body: dict[str, Any], revision: int) -> None:
        key = b64decode(body["key"])
        end = b64decode(body["range_end"]) if "range_end" in body else key + b"\0"
        for one in [it for it in self.keys if key <= it < end]:
            del self.keys[one]
            self.log.append((revision, True, KeyValue(one, b"", revision, 0)))

    def end_leases(self) -> None:
        for lease in [one for one, when in self.leases.items() if when <= self._world.now]:
            self.end_lease(lease)

    def end_lease(self, lease: str) -> None:
        del self.leases[lease]
        gone = [key for key, one in self.keys.items() if one[2] == lease]
        if gone:
            self.revision += 1
            for key in gone:
                del self.keys[key]
                self.log.append((self.revision, True, KeyValue(key, b"", self.revision, 0)))
            self._world.written()

    def check(self) -> None:
        """No name and no place twice: each room has its place, and each place its room."""
        places: dict[str, str] = {}
        for key, (found, _, _) in self.keys.items():
            if key.startswith(KEYS.all_of("n")[0]):
                room = json.loads(found.value)
                place = etcd.place_text(room["address"], room["port"])
                if place in places:
                    raise RuleBroken(f"{place} is of {places[place]} and of {room['name']}")
                places[place] = room["name"]
        start, end = KEYS.all_of("p")
        held = {
            key[len(start) :].decode(): one[0].value.decode()
            for key, one in self.keys.items()
            if start <= key < end
        }
        if places != held:
            raise RuleBroken(f"rooms {places} and places {held}")


def header(revision: int) -> dict[str, str]:
    return {"revision": str(revision)}


def as_json(found: KeyValue) -> dict[str, str]:
    return {
        "key": _text(found.key),
        "value": _text(found.value),
        "mod_revision": str(found.mod),
        "version": str(found.version),
    }


class Watch:
    """A watch that an endpoint serves."""

    def __init__(self, number: int, member: Member, endpoint: int, body: dict[str, Any]) -> None:
        create = body["create_request"]
        self.number = number
        self.member = member
        self.endpoint = endpoint
        self.key = b64decode(create["key"])
        self.end = b64decode(create["range_end"]) if "range_end" in create else self.key + b"\0"
        self.next = int(create["start_revision"])
        self.ready_at = 0.0  # lines come in order
        self.over = False


class Asked(NamedTuple):
    """A request of a client: when, what; and what it was answered."""

    begun: float
    ended: float  # inf: never
    op: str
    name: str
    outcome: str  # "ok", "unknown", "failed", or the reason of the refusal
    version: int
    tags: tuple[str, ...]
    place: str


class Member:
    """A server: a replica, and what its clients know."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        rng = Random(world.rng.random())
        server = f"{number:08x}"
        self.replica = world.replica(
            NAME, server, world.endpoints, {"site": "x"}, f"{number:016x}", rng, world.now
        )
        self.stopped_until = 0.0
        self.dead = False
        self.seen = -1  # the version that its watchers know
        self.rooms: dict[str, tuple[str, str]] = {}  # fold -> (name, place)
        self.read: dict[str, tuple[str, str]] = {}  # what is being read anew
        self.open: dict[Change, tuple[float, list[str]]] = {}
        self.changed_at = 0.0
        self.pump()

    def pump(self) -> None:
        """What the engine would do."""
        calls = self.replica.calls
        while calls.to_send or calls.dropped or self.replica.events:
            dropped, calls.dropped = calls.dropped, []
            for number in dropped:
                self.world.dropped(self, number)
            to_send, calls.to_send = calls.to_send, []
            for call in to_send:
                if call.change is not None and call.change in self.open:
                    self.open[call.change][1].append(call.change.tag)
                self.world.send(self, call)
            events, self.replica.events = self.replica.events, []
            for event in events:
                self.act_on(event)
        self.world.wake(self, self.replica.next_deadline())

    def act_on(self, event: tuple[Any, ...]) -> None:
        kind = event[0]
        if kind == APPLIED:
            self._applied(event[1], event[2])
        elif kind == READING:
            self.read = {}
        elif kind == READ:
            self.read.update((room.fold, (room.name, place_of(room))) for room in event[1])
        elif kind == LOADED:
            _, version, moved = event
            if self.seen >= 0 and version != self.seen and not moved:
                raise RuleBroken("changes were skipped without a word")
            self.seen = version
            self.rooms = self.read
            if self.rooms != self.world.state_at(version):
                raise RuleBroken(f"a load at {version} is not what was there")
        elif kind == OUTCOME:
            self._over(event[1])
        elif kind in (FATAL, IS_BROKEN):
            raise RuleBroken(f"it is broken: {event[1]}")

    def _applied(self, head: Head, change: Change | None) -> None:
        if head.version != self.seen + 1:
            raise RuleBroken(f"version {head.version} was told after {self.seen}")
        self.seen = head.version
        _, truth = self.world.truth_of(head.version)
        if (truth.op, truth.fold, truth.change) != (head.op, head.fold, head.change):
            raise RuleBroken(f"version {head.version} is not the same everywhere")
        if head.op == "make":
            assert head.room is not None
            self.rooms[head.fold] = head.room.name, place_of(head.room)
        else:
            del self.rooms[head.fold]
        if self.rooms != self.world.state_at(head.version):
            raise RuleBroken(f"the copy at {head.version} is not what was there")
        if change is not None:
            self._over(change)

    def ask(self, op: str, name: str, place: tuple[str, int]) -> None:
        now = self.world.now
        change = Change(op, name, name)
        if op == MAKE:
            change.room = RoomEntry(name, *place, made=int(now), maker="192.0.2.1")
            if self.world.rng.random() < 0.3:
                change.places = iter(PLACES)
        self.open[change] = now, []
        self.replica.ask(change, now)
        self.pump()

    def _over(self, change: Change) -> None:
        begun, tags = self.open.pop(change)
        outcome = "ok"
        if isinstance(change.outcome, Refused):
            outcome = {"storage_failed": "failed", "storage_unknown": "unknown"}.get(
                change.outcome.reason, change.outcome.reason
            )
        elif change.version > self.seen:
            raise RuleBroken(f"answered at {self.seen}, before its version {change.version}")
        self.world.answered(self, change, begun, tags, outcome)

    def kill(self) -> None:
        """Nobody hears any more of what it was asked for."""
        self.dead = True
        for change, (begun, tags) in self.open.items():
            self.world.note(change, begun, float("inf"), "unknown", tags)
        self.open.clear()


def place_of(room: RoomEntry) -> str:
    return etcd.place_text(room.address, room.port)


class World:
    """The virtual clock, the network, the store, and all members."""

    def __init__(self, seed: int, members: int = 3, endpoints: int = 3) -> None:
        self.rng = Random(seed)
        self.now = 0.0
        self.endpoints = endpoints
        self.replica: Callable[..., Replica] = Replica
        self.store = Store(self)
        self.asked: list[Asked] = []
        self.healed = False
        self._heap: list[tuple[float, int, Callable[[], object]]] = []
        self._seq = 0
        self._down: dict[int, float] = {}  # endpoint -> until when
        self._watches: list[Watch] = []
        self._under_way: set[tuple[int, int]] = set()  # (member, call) that may be answered
        self._states: list[dict[str, tuple[str, str]]] = []  # by version
        self._leases = 0
        self._numbers = 0
        self._members_wanted = members
        self.members: list[Member] = []

    # -- time --------------------------------------------------------------------------------

    def at(self, when: float, act: Callable[[], object]) -> None:
        self._seq += 1
        heappush(self._heap, (max(when, self.now), self._seq, act))

    def run(self, until: float) -> None:
        while self._heap and self._heap[0][0] <= until:
            self.now, _, act = heappop(self._heap)
            self.store.end_leases()
            act()
        self.now = until

    def next_at(self) -> float:
        """When something happens next."""
        return self._heap[0][0] if self._heap else float("inf")

    def join(self) -> Member:
        self._numbers += 1
        member = Member(self, self._numbers)
        self.members.append(member)
        return member

    def wake(self, member: Member, when: float) -> None:
        """Its timer, which replaces the one before."""
        member.changed_at = stamp = member.changed_at + 1

        def due() -> None:
            if not member.dead and member.changed_at == stamp:
                if member.stopped_until > self.now:
                    self.at(member.stopped_until, due)
                    return
                member.replica.handle_timer(self.now)
                member.pump()

        if when != float("inf"):
            self.at(when, due)

    def tell(self, member: Member, act: Callable[[], object]) -> None:
        """Something comes to a member, when it is not stopped."""

        def arrive() -> None:
            if member.dead:
                return
            if member.stopped_until > self.now:
                self.at(member.stopped_until, arrive)
                return
            act()
            member.pump()

        arrive()

    # -- the network -------------------------------------------------------------------------

    def delay(self) -> float:
        rng = self.rng
        if self.healed or rng.random() < 0.85:
            return rng.uniform(0.001, 0.02)
        return rng.uniform(0.02, 3.0) if rng.random() < 0.5 else rng.uniform(0.02, 0.3)

    def dropped(self, member: Member, number: int) -> None:
        self._under_way.discard((member.number, number))
        for watch in self._watches:
            if watch.member is member and watch.number == number:
                watch.over = True
        self._watches = [watch for watch in self._watches if not watch.over]

    def send(self, member: Member, call: Call) -> None:
        rng = self.rng
        self._under_way.add((member.number, call.number))
        fate = 1.0 if self.healed else rng.random()
        if fate < 0.02:  # it does not arrive, and nothing comes back
            return
        if fate < 0.04:
            self.at(self.now + self.delay(), lambda: self._reset(member, call))
            return
        self.at(self.now + self.delay(), lambda: self._arrived(member, call))
        if fate < 0.05 and call.lines is None and call.change is None:
            self.at(self.now + 4 * self.delay(), lambda: self._arrived(member, call))

    def _reset(self, member: Member, call: Call) -> None:
        if (member.number, call.number) in self._under_way:
            self._under_way.discard((member.number, call.number))
            now = self.now
            self.tell(member, lambda: member.replica.calls.failed(call.number, "reset", now))

    def _arrived(self, member: Member, call: Call) -> None:
        if self._down.get(call.endpoint, 0.0) > self.now:
            self._reset(member, call)
            return
        body = json.loads(call.body) if call.body else {}
        if call.path == etcd.WATCH:
            if (member.number, call.number) in self._under_way:
                self._watches.append(Watch(call.number, member, call.endpoint, body))
                self._serve(self._watches[-1], first=True)
            return
        status, answer = self.answer(call.path, body)
        fate = 1.0 if self.healed else self.rng.random()
        if fate < 0.02:  # it was done, and nobody hears of it
            return
        if fate < 0.04:
            self.at(self.now + self.delay(), lambda: self._reset(member, call))
            return
        if fate < 0.05:
            status, answer = 503, {"error": "etcdserver: request timed out", "code": 14}
        data = json.dumps(answer).encode()

        def back() -> None:
            if (member.number, call.number) in self._under_way:
                self._under_way.discard((member.number, call.number))
                calls = member.replica.calls
                self.tell(member, lambda: calls.answered(call.number, status, data, self.now))

        self.at(self.now + self.delay(), back)

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """(status, answer) to a request that arrives now."""
        store = self.store
        if path == etcd.VERSION:
            return 200, {"etcdserver": "3.4.23"}
        if path == etcd.GRANT:
            self._leases += 1
            lease = str(self._leases)
            store.leases[lease] = self.now + float(body["TTL"])
            return 200, {"ID": lease, "TTL": body["TTL"]}
        if path == etcd.KEEP_ALIVE:
            lives = body["ID"] in store.leases
            if lives:
                store.leases[body["ID"]] = self.now + 15.0
            return 200, {"result": {"ID": body["ID"], **({"TTL": "15"} if lives else {})}}
        if path == etcd.REVOKE:
            if body["ID"] in store.leases:
                store.end_lease(body["ID"])
            return 200, {}
        if path == etcd.TXN:
            return store.transact(body)
        revision = store.revision
        if not self.healed and self.rng.random() < 0.05:  # an old answer
            revision = max(store.compacted, 1, revision - self.rng.randrange(1, 12))
        wanted = int(body.get("revision", revision))
        if wanted < store.compacted:
            return 400, {"error": "etcdserver: mvcc: required revision has been compacted"}
        return 200, {"header": header(revision), **store.read(body, revision)}

    # -- watches -----------------------------------------------------------------------------

    def written(self) -> None:
        """The store has changed."""
        self.grow_states()
        for watch in list(self._watches):
            self._serve(watch)

    def _serve(self, watch: Watch, first: bool = False) -> None:
        if watch.over or (self._down.get(watch.endpoint, 0.0) > self.now and not first):
            return
        store = self.store
        lines: list[dict[str, Any]] = [{"created": True}] if first else []
        if watch.next <= store.compacted and first:
            lines.append({"canceled": True, "compact_revision": str(store.compacted)})
            watch.over = True
        else:
            begin = bisect_left(store.log, (watch.next,))
            events = [
                {"type": "DELETE", "kv": as_json(one)} if deleted else {"kv": as_json(one)}
                for _, deleted, one in store.log[begin:]
                if watch.key <= one.key < watch.end
            ]
            watch.next = max(watch.next, store.revision + 1)
            if events:
                if not self.healed and self.rng.random() < 0.02:
                    events = [events[0], *events]  # etcd may repeat itself
                lines.append({"events": events})
        for line in lines:
            data = json.dumps({"result": {"header": header(store.revision), **line}}).encode()
            watch.ready_at = max(watch.ready_at, self.now + self.delay())
            self.at(watch.ready_at, lambda data=data: self._line(watch, data))  # type: ignore[misc]

    def _line(self, watch: Watch, data: bytes) -> None:
        member = watch.member
        if (member.number, watch.number) in self._under_way:
            calls = member.replica.calls
            self.tell(member, lambda: calls.line(watch.number, data, self.now))

    # -- what goes wrong ---------------------------------------------------------------------

    def trouble(self) -> None:
        """One of the things that happen."""
        rng = self.rng
        what = rng.random()
        if what < 0.3:
            self._down[rng.randrange(self.endpoints)] = self.now + rng.uniform(0.1, 6.0)
        elif what < 0.4:
            for endpoint in range(self.endpoints):
                self._down[endpoint] = self.now + rng.uniform(0.5, 12.0)
        elif what < 0.6:
            member = rng.choice(self.members)
            member.stopped_until = self.now + rng.uniform(0.1, 20.0)
        elif what < 0.7:
            self.members.remove(member := rng.choice(self.members))
            member.kill()
            self.at(self.now + rng.uniform(0.0, 2.0), self.join)
        elif what < 0.85:
            self.store.compacted = self.store.revision - rng.randrange(3)
        elif self._watches:  # one falls silent
            rng.choice(self._watches).over = True
        if not self.members:
            self.join()

    def lose(self, endpoint: int) -> None:
        """Nobody answers there, for ever."""
        self._down[endpoint] = float("inf")

    def heal(self) -> None:
        self.healed = True
        self._down.clear()
        for member in self.members:
            member.stopped_until = 0.0

    # -- what is known -----------------------------------------------------------------------

    def truth_of(self, version: int) -> tuple[float, Head]:
        when, head = self.store.truth[version]
        assert head.version == version
        return when, head

    def state_at(self, version: int) -> dict[str, tuple[str, str]]:
        self.grow_states()
        return self._states[version]

    def grow_states(self) -> None:
        for _, head in self.store.truth[len(self._states) :]:
            state = dict(self._states[-1]) if self._states else {}
            if head.op == "make":
                assert head.room is not None
                if head.fold in state:
                    raise RuleBroken(f"{head.fold} was made twice")
                state[head.fold] = head.room.name, place_of(head.room)
            elif head.op == "delete" and state.pop(head.fold, None) is None:
                raise RuleBroken(f"{head.fold} was deleted and was not there")
            self._states.append(state)

    def answered(
        self, member: Member, change: Change, begun: float, tags: list[str], outcome: str
    ) -> None:
        self.note(change, begun, self.now, outcome, tags)

    def note(
        self, change: Change, begun: float, ended: float, outcome: str, tags: list[str]
    ) -> None:
        place = place_of(change.room) if change.room is not None else ""
        self.asked.append(
            Asked(begun, ended, change.op, change.name, outcome, change.version, tuple(tags), place)
        )


def play(seed: int, seconds: float = 60.0, replica: Callable[..., Replica] = Replica) -> World:
    """A run of trouble, then of peace; all rules are checked. The seed replays it to the letter."""
    world = World(seed)
    world.replica = replica
    rng = world.rng
    for _ in range(rng.randrange(2, 6)):
        world.at(rng.uniform(0.0, 3.0), world.join)
    when = 1.0
    while when < seconds:
        world.at(when, lambda: _ask(world))
        when += rng.expovariate(3.0)
    when = 3.0
    while when < seconds:
        world.at(when, world.trouble)
        when += rng.expovariate(0.3)
    world.run(seconds)
    world.heal()
    world.run(seconds + 40.0)
    for _ in range(3):
        _ask(world)
    world.run(seconds + 60.0)
    last = len(world.store.truth) - 1
    for member in world.members:
        if member.replica.state != LIVE or member.seen != last:
            raise RuleBroken(f"at peace, but {member.replica.state} at {member.seen} of {last}")
        if member.open:
            raise RuleBroken("somebody waits for ever")
    judge(world)
    return world


def _ask(world: World) -> None:
    if world.members:
        rng = world.rng
        op = MAKE if rng.random() < 0.6 else DELETE
        rng.choice(world.members).ask(op, rng.choice(NAMES), rng.choice(PLACES))


# -- the oracle ------------------------------------------------------------------------------------


def judge(world: World) -> None:
    """What clients were told, against what was: and by itself, name by name."""
    by_tag = {head.change: (when, head) for when, head in world.store.truth}
    for one in world.asked:
        done = [by_tag[tag] for tag in one.tags if tag in by_tag]
        if len(done) > 1:
            raise RuleBroken(f"{one} was done {len(done)} times")
        if one.outcome == "ok":
            if not done or done[0][1].version != one.version:
                raise RuleBroken(f"{one} was acknowledged, and is not there at its version")
            if not one.begun <= done[0][0] <= one.ended:
                raise RuleBroken(f"{one} happened at {done[0][0]}")
        elif one.outcome != "unknown" and done:
            raise RuleBroken(f"{one} was refused, and appeared at {done[0][1].version}")
        if one.outcome in ("room_exists", "no_such_room", "address_in_use"):
            _justified(world, one)
    for name in NAMES:
        history = [one for one in world.asked if one.name == name]
        if not linearizable(history):
            raise RuleBroken(f"no order explains what was told of {name}: {history}")


def _justified(world: World, one: Asked) -> None:
    """Whether a refusal was true at some moment between question and answer."""
    times = [when for when, _ in world.store.truth]
    for version, when in enumerate(times):
        until = times[version + 1] if version + 1 < len(times) else float("inf")
        if until < one.begun or when > one.ended:
            continue
        state = world.state_at(version)
        taken = any(place == one.place for _, place in state.values())
        true = {
            "room_exists": one.name in state,
            "no_such_room": one.name not in state,
            "address_in_use": taken,
        }
        if true[one.outcome]:
            return
    raise RuleBroken(f"{one} was refused, and there was never a reason")


def linearizable(history: list[Asked]) -> bool:
    """Wing and Gong: whether some order of these requests of one name, each at a moment between its
    begin and its end, explains all answers. Those whose outcome is unknown may have happened."""
    told = [one for one in history if one.outcome not in ("failed", "address_in_use", "too_late")]
    ops = sorted(told, key=lambda one: one.begun)
    certain = frozenset(n for n, one in enumerate(ops) if one.outcome != "unknown")
    seen: set[tuple[frozenset[int], bool]] = set()
    stack: list[tuple[frozenset[int], bool]] = [(frozenset(range(len(ops))), False)]
    while stack:
        left, there = state = stack.pop()
        if not left & certain:
            return True
        if state in seen:
            continue
        seen.add(state)
        first_end = min(_end_of(ops[n]) for n in left)
        for n in left:
            one = ops[n]
            if one.begun > first_end:
                continue
            after = _after(one, there)
            if after is not None:
                stack.append((left - {n}, after))
            if one.outcome == "unknown":  # it may never have happened
                stack.append((left - {n}, there))
    return False


def _end_of(one: Asked) -> float:
    return float("inf") if one.outcome == "unknown" else one.ended


def _after(one: Asked, there: bool) -> bool | None:
    """Whether the room is there after a request that found it `there`; None: it cannot be so."""
    if one.outcome in ("ok", "unknown"):
        if (one.op == MAKE) == there:
            return None
        return not there
    wanted = one.outcome == "room_exists"
    return there if there == wanted else None
