"""Carries rooms between sites: unchanged datagrams, over NATS, by one server of each site.

Who carries what follows from what all servers read in the cluster, so that no election is needed:
of the servers of a site with a bridge, the one with the highest BLAKE2b-64(SERVER, PLACE). While
they differ about it, a datagram comes twice or not at all, and the sessions of a room bear both.

    a datagram comes from                   its port          goes to
    the group                               24444 to 24955    nowhere: a bridge put it there
    the group                               any other         the other sites
    another site                            -                 the group, from the sending socket
    its own site, by NATS                   -                 nowhere
    unicast to the sending socket           24444 to 24955    nowhere
    unicast to it, heard in the group       any other         the other sites
    unicast to it, not heard in the group   any other         nowhere: it may come from anywhere

The last rows are answers in bulk, by unicast, to a question that the bridge put into the group.
What cannot be carried now is dropped and counted: loss, which the sessions repair.

    a room    members here and elsewhere, and it is ours    no longer                back again
    carried   stays                                         -> lingering (members)   -
                                                            -> left (not ours)
    lingering -> carried                                    stays, BRIDGE_LINGER_S   -> carried
    left      -> carried                                    -                        -
"""

from __future__ import annotations

from evloop.base.errors import SetupError
from evloop.base.names import place_of
from evloop.base.ratelimit import TokenBucket
from evloop.daemon.limits import (
    BRIDGE_BURST_S,
    BRIDGE_HEARD_MAX,
    BRIDGE_LINGER_S,
    BRIDGE_LOOK_S,
    BRIDGE_PER_S,
    BRIDGE_ROOM_PER_S,
    BRIDGE_ROOMS_MAX,
    BRIDGE_WORDS_EVERY_S,
)
from evloop.net.interfaces import packed_of
from evloop.net.multicast import (
    BRIDGE_PORTS,
    destination,
    open_receiver,
    open_sender,
    receive,
)
from evloop.net.nats import READY
from evloop.room.reliable.limits import DATAGRAM_BYTES_MAX
from evloop.system.timers import NEVER, Paced

try:
    from _blake2 import blake2b
except ImportError:  # another Python than CPython
    from hashlib import blake2b

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, NamedTuple

    from evloop.net.interfaces import Interface
    from evloop.net.nats import NatsLink
    from evloop.system.log import Log
    from evloop.system.loop import Loop, Watch

    class Sites(NamedTuple):
        servers: Mapping[str, Mapping[str, Any]]  # SERVER -> what s/SERVER says
        members: Mapping[str, Mapping[str, int]]  # SERVER -> fold -> members, own ones included
        places: Mapping[str, tuple[str, int]]  # fold -> address and port, of those folds
else:
    from collections import namedtuple

    Sites = namedtuple("Sites", "servers members places")

# Why a datagram was dropped.
AWAY, UNSENT, RATE, SIZE, REFUSED = "away", "unsent", "rate", "size", "refused"
DROPS = (AWAY, UNSENT, RATE, SIZE, REFUSED)


def carrier(servers: Iterable[str], place: str) -> str:
    """Which of `servers` carries the room at `place`; "" when there is none."""
    wanted = place.encode()
    return max(
        servers,
        key=lambda server: blake2b(server.encode() + wanted, digest_size=8).digest(),
        default="",
    )


def wanted_folds(sites: Sites, server: str, site: str) -> set[str]:
    """Folds of the rooms with members at `site` and at another one, that `server` carries."""
    bridging = _bridges_of(sites, site)
    here: set[str] = set()
    elsewhere: set[str] = set()
    for one, counts in sites.members.items():
        says = sites.servers.get(one)
        if says is not None:  # else its lease has ended, and its numbers go with it
            (here if says.get("site") == site else elsewhere).update(
                fold for fold, count in counts.items() if count > 0
            )
    return {
        fold
        for fold in here & elsewhere
        if fold in sites.places and carrier(bridging, place_of(*sites.places[fold])) == server
    }


def _bridges_of(sites: Sites, site: str) -> list[str]:
    """The servers of `site` that can carry rooms now."""
    return [
        server
        for server, says in sites.servers.items()
        if says.get("site") == site and says.get("bridge") is True
    ]


def goes_to_other_sites(port: int, by_group: bool, heard: bool) -> bool:
    """Whether what came from source port `port` is carried.

    `by_group`: it came to the group, else by unicast; `heard`: its source was heard in the group.
    """
    return port not in BRIDGE_PORTS and (by_group or heard)


def subject_of(directory: str, address: str, port: int, site: str) -> str:
    """What the datagrams of `site` in a room are published under; `site` may be `*`."""
    return f"evloop.{directory}.r.{packed_of(address).hex()}-{port}.{site}"


class _Room:
    """One room that is carried: its sockets, and how much of it may pass."""

    __slots__ = (
        "dead_at",
        "group",
        "heard",
        "place",
        "rate_in",
        "rate_out",
        "sender",
        "sid",
        "subject",
        "watches",
    )

    def __init__(self, place: tuple[str, int], sid: int, subject: bytes, now: float) -> None:
        self.place = place
        self.sid = sid
        self.subject = subject  # of what we publish
        self.dead_at = NEVER  # when it is left, for nobody is in it at one of the sides
        self.heard: set[tuple[str, int]] = set()  # sources that were heard in the group
        burst = BRIDGE_BURST_S * BRIDGE_ROOM_PER_S
        self.rate_out = TokenBucket(BRIDGE_ROOM_PER_S, burst, now)
        self.rate_in = TokenBucket(BRIDGE_ROOM_PER_S, burst, now)
        self.watches: list[Watch] = []
        self.sender: socket.socket | None = None
        self.group: tuple[Any, ...] = ()


class Bridge:
    """Carries the rooms of `directory` between `site` and the others, for server `server`.

    `look()` tells what the cluster says now; call `changed` when that may be something else.
    `want(bool)` is told whether the cluster should count on us. `choose(address)` is the interface
    of a group. `drops` counts by DROPS.
    """

    __slots__ = (
        "_asked",
        "_choose",
        "_directory",
        "_link",
        "_log",
        "_look",
        "_looks",
        "_loop",
        "_rate_in",
        "_rate_out",
        "_rooms",
        "_server",
        "_sid",
        "_site",
        "_timer",
        "_ttl",
        "_want",
        "_words_at",
        "carried_in",
        "carried_out",
        "drops",
    )

    def __init__(
        self,
        loop: Loop,
        log: Log,
        link: NatsLink,
        who: tuple[str, str, str],
        look: Callable[[], Sites],
        want: Callable[[bool], object],
        choose: Callable[[str], Interface],
        ttl: int,
        drops: dict[str, int],
    ) -> None:
        """`who`: the directory's name, our SERVER, our site."""
        self._loop = loop
        self._log = log
        self._link = link
        self._directory, self._server, self._site = who
        self._look = look
        self._want = want
        self._choose = choose
        self._ttl = ttl
        self.drops = drops
        self.carried_in = self.carried_out = 0
        burst = BRIDGE_BURST_S * BRIDGE_PER_S
        self._rate_out = TokenBucket(BRIDGE_PER_S, burst, loop.now)
        self._rate_in = TokenBucket(BRIDGE_PER_S, burst, loop.now)
        self._rooms: dict[tuple[str, int], _Room] = {}
        self._asked: dict[str, _Room] = {}  # by the sid of its subscription
        self._sid = 0
        self._words_at = float("-inf")  # when the operator was last told of NATS
        self._looks = Paced(loop, BRIDGE_LOOK_S, self._settle)
        self._timer = loop.call_at(NEVER, self.changed)
        link.ready, link.lost = self._ready, self._lost
        link.message, link.refused = self._from_site, self._refused

    def changed(self) -> None:
        """Look, soon, whether other rooms are to be carried now."""
        self._looks.ask()

    @property
    def rooms(self) -> int:
        """How many are carried now."""
        return len(self._rooms)

    def readings(self) -> dict[str, float]:
        """Figures, by the names of `daemon.metrics`."""
        return {
            "bridge_rooms": len(self._rooms),
            "bridge_in": self.carried_in,
            "bridge_out": self.carried_out,
        }

    def close(self) -> None:
        """Carry nothing more."""
        self._leave_all()
        self._timer.cancel()
        self._link.close()

    # -- NATS ------------------------------------------------------------------------------------

    def _ready(self) -> None:
        self._words_at = float("-inf")
        self._log.notice("the bridge is connected", nats=self._link.server)
        self._want(True)
        self.changed()

    def _lost(self, why: str) -> None:
        if self._may_tell():
            self._log.warning("the bridge carries nothing", why=why)
        self._want(False)
        self._leave_all()

    def _refused(self, words: str) -> None:
        if self._may_tell():
            self._log.warning("NATS refuses the bridge a subject", why=words)

    def _may_tell(self) -> bool:
        """Whether the operator is told again what is wrong."""
        if self._loop.now < self._words_at + BRIDGE_WORDS_EVERY_S:
            return False
        self._words_at = self._loop.now
        return True

    # -- which rooms -----------------------------------------------------------------------------

    def _settle(self) -> None:
        """Carry what is to be carried, and no more."""
        if self._link.state != READY:
            return
        now = self._loop.now
        sites = self._look()
        wanted = {sites.places[fold] for fold in wanted_folds(sites, self._server, self._site)}
        ours = self._ours(sites)
        for place, room in list(self._rooms.items()):
            if place in wanted:
                room.dead_at = NEVER
            elif place not in ours or room.dead_at <= now:
                self._leave(room)
            elif room.dead_at == NEVER:
                room.dead_at = now + BRIDGE_LINGER_S
        for place in sorted(wanted - set(self._rooms)):
            if len(self._rooms) >= BRIDGE_ROOMS_MAX:
                why = f"{len(wanted)} are to be carried, and {BRIDGE_ROOMS_MAX} is the most"
                if self._may_tell():
                    self._log.warning("the bridge leaves rooms out", why=why)
                break
            self._carry(place)
        # A room whose sockets could not be had is tried again.
        missing = len(self._rooms) < min(len(wanted), BRIDGE_ROOMS_MAX)
        soonest = min((room.dead_at for room in self._rooms.values()), default=NEVER)
        self._timer.move(min(soonest, now + BRIDGE_LINGER_S) if missing else soonest)

    def _ours(self, sites: Sites) -> set[tuple[str, int]]:
        """Places that are still rooms, and that we would carry if somebody were there."""
        bridging = _bridges_of(sites, self._site)
        there = set(sites.places.values())
        return {
            place
            for place in self._rooms
            if place in there and carrier(bridging, place_of(*place)) == self._server
        }

    def _carry(self, place: tuple[str, int]) -> None:
        address, port = place
        self._sid += 1
        subject = subject_of(self._directory, address, port, self._site).encode()
        room = _Room(place, self._sid, subject, self._loop.now)
        try:
            interface = self._choose(address)
            receiver = open_receiver(address, port, interface)
            try:
                sender = open_sender(address, port, interface, self._ttl, bridge=True)
            except BaseException:
                receiver.close()
                raise
        except SetupError as error:
            if self._may_tell():
                self._log.warning("the bridge cannot carry a room", why=str(error))
            return
        room.group = destination(address, port, interface)
        room.sender = sender
        watch = self._loop.watch
        room.watches = [
            watch(receiver, lambda: self._from_group(room, receiver), release=receiver.close),
            watch(sender, lambda: self._from_member(room, sender), release=sender.close),
        ]
        self._rooms[place] = self._asked[str(room.sid)] = room
        self._link.subscribe(subject_of(self._directory, address, port, "*"), room.sid)

    def _leave(self, room: _Room) -> None:
        del self._rooms[room.place], self._asked[str(room.sid)]
        for watch in room.watches:
            watch.close()
        self._link.unsubscribe(room.sid)

    def _leave_all(self) -> None:
        for room in list(self._rooms.values()):
            self._leave(room)
        self._timer.move(NEVER)

    # -- datagrams -------------------------------------------------------------------------------

    def _from_group(self, room: _Room, sock: socket.socket) -> None:
        heard = room.heard
        payloads = []
        for data, source in receive(sock):
            if goes_to_other_sites(source[1], True, True):
                if len(heard) >= BRIDGE_HEARD_MAX:
                    heard.clear()
                heard.add(source[:2])
                payloads.append(data)
        self._to_sites(room, payloads)

    def _from_member(self, room: _Room, sock: socket.socket) -> None:
        self._to_sites(
            room,
            [
                data
                for data, source in receive(sock)
                if goes_to_other_sites(source[1], False, source[:2] in room.heard)
            ],
        )

    def _to_sites(self, room: _Room, payloads: list[bytes]) -> None:
        now = self._loop.now
        fit = [data for data in payloads if 0 < len(data) <= DATAGRAM_BYTES_MAX]
        self.drops[SIZE] += len(payloads) - len(fit)
        may = [data for data in fit if room.rate_out.take(now) and self._rate_out.take(now)]
        self.drops[RATE] += len(fit) - len(may)
        if not may:
            return
        if self._link.publish(room.subject, may):
            self.carried_out += len(may)
        else:
            self.drops[UNSENT if self._link.state == READY else AWAY] += len(may)

    def _from_site(self, sid: str, subject: str, payload: bytes) -> None:
        room = self._asked.get(sid)
        if room is None or subject.rpartition(".")[2] == self._site:
            return  # left meanwhile; or of our own site, by another server that carries it too
        now = self._loop.now
        if not 0 < len(payload) <= DATAGRAM_BYTES_MAX:
            self.drops[SIZE] += 1
        elif not (room.rate_in.take(now) and self._rate_in.take(now)):
            self.drops[RATE] += 1
        else:
            assert room.sender is not None
            try:
                room.sender.sendto(payload, room.group)
                self.carried_in += 1
            except OSError:  # no room in the kernel, or the interface is down just now
                self.drops[REFUSED] += 1
