"""The relay as a transport of `LiveRoom`, beside that of the group: each datagram by its road.

What is to be sent to everybody goes by the group, or to the directory (`Carrier`), as `Roads` says.
Of what a carried member says to everybody, SESSIONs go by the group as well, one in ROAD_PROBE_S:
by these the directory and the others learn whether multicast works. (More of them, and the others
would take us for one who loses less than it does.) Its goodbye goes both ways, too, but for the
first word of it, which follows what was said last: by the group it would overtake that.

What the relay brought has the source `("relay", sender id)`: an answer to that one alone goes back
through the directory. Nothing here knows a frame: datagrams go in and come out.

Datagrams of the relay are handed on together, once a tick, in the order in which they came.
"""

from __future__ import annotations

from evloop.room.limits import (
    CROWD_SENDERS,
    RELAY_BURST_MAX,
    RELAY_HELD_MAX,
    ROAD_PROBE_S,
    ROAD_SENDERS_MAX,
)
from evloop.room.roads import ALONE, FULL, GROUP, LEG, OFF, PROBING, RELAY
from evloop.system.timers import NEVER, nothing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from evloop.net.links import Interface
    from evloop.room.events import Event
    from evloop.room.live import Transport
    from evloop.room.roads import Roads, Word
    from evloop.system.loop import Loop
    from evloop.system.timers import Timer

    Burst = list[tuple[bytes, Any]]

    class Carrier(Protocol):
        """The directory, for one room.

        `ask` tells it a wish; `answered(word, leg)` follows, later: its word, and the source of
        what it sends to the group itself ("" none), or None and "" where it refuses. `known`: it
        has answered since the link is there, so that it can be given datagrams. `up` gives it a
        datagram for everybody (None) or for one member; False: too much waits, so that is lost.
        """

        @property
        def known(self) -> bool: ...
        def ask(self, wish: str, answered: Callable[[Word | None, str], object]) -> None: ...
        def up(self, datagram: bytes, member: bytes | None) -> bool: ...


_MAGIC = b"\xf5\x45"  # a datagram of a reliable room: see `reliable.packets`
_SESSION, _BYE = b"\x13", b"\x14"  # its byte 2: version and type
_REPAIR = 0x01  # of byte 3


class RelayTransport:
    """`group` (None: no socket could be had, or none is wanted) and the directory, as one.

    `tell(event)` gets the changes of the road, `turned()` is called when we may have missed
    something by it.
    """

    __slots__ = (
        "_came",
        "_deliver",
        "_ends",
        "_goodbye",
        "_held",
        "_leg",
        "_loop",
        "_probe_at",
        "_started",
        "_timer",
        "_was_carried",
        "carrier",
        "dropped",
        "group",
        "relayed_in",
        "relayed_out",
        "roads",
        "tell",
        "turned",
    )

    def __init__(self, loop: Loop, roads: Roads, group: Transport | None, carrier: Carrier) -> None:
        self._loop = loop
        self.roads = roads
        self.group = group
        self.carrier = carrier
        self._deliver: Callable[..., object] = nothing
        self.tell: Callable[[Event], object] = nothing
        self.turned: Callable[[], object] = nothing
        self._came: Burst = []  # by the relay, in this tick
        self._held: list[bytes] = []  # for everybody, until the directory has answered
        self._leg: tuple[str, int] | None = None  # from where it sends to the group
        # While both roads are tried: from where the group brought whom first. An address that
        # brings more than one is that of another directory's leg.
        self._ends: dict[Any, bytes] = {}
        self._probe_at = -NEVER  # when the group may next be told that we are here
        self._started = False  # and not left
        self._goodbye = False  # a word of it was sent
        self._was_carried = roads.carried
        self.relayed_in = self.relayed_out = self.dropped = 0
        self._timer: Timer = loop.call_at(NEVER, self._on_timer)

    # -- the link to the directory ---------------------------------------------------------------

    def linked(self) -> None:
        """It is there, perhaps again, and relays."""
        self.roads.linked(self._loop.now)
        self._was_carried = False  # what was said meanwhile has not come
        self._turn()

    def lost(self) -> None:
        """It is away; what was to be said by it is lost, and the session repairs that."""
        self._held.clear()
        self.roads.lost(self._loop.now)
        self._turn()

    def leaving(self) -> None:
        """The room is left: the last words go as before, and the directory is asked no more."""
        self._started = False
        self._timer.cancel()

    def came(self, datagram: bytes) -> None:
        """The directory brought a datagram of the room."""
        if self.roads.state not in (PROBING, FULL, ALONE):
            return  # it was on its way while we stepped off
        if not self._came:
            self._loop.defer(self._hand_over)
        elif len(self._came) >= RELAY_BURST_MAX:
            self.dropped += 1
            return
        self.relayed_in += 1
        self._came.append((datagram, ("relay", datagram[8:16])))

    def _hand_over(self) -> None:
        burst, self._came = self._came, []
        state = self.roads.state
        if state not in (PROBING, FULL, ALONE):
            return
        if self._note(burst, RELAY):
            self._turn()
        # While both roads are tried, what the relay brings fills the gaps that are to be measured.
        self._deliver(burst, state != PROBING)

    # -- as a transport --------------------------------------------------------------------------

    @property
    def source(self) -> Any:
        return self.group.source if self.group is not None else None

    @property
    def echoes(self) -> bool:
        """Only a group hears itself."""
        return self.group is not None and self.group.echoes and not self.roads.carried

    def receive(self, deliver: Callable[..., object], ready: Callable[[], object]) -> None:
        self._deliver = deliver
        self._started = True
        if self.group is not None:
            self.group.receive(self._by_group, ready)
        self._turn()

    def _by_group(self, burst: Burst, sample: bool = True, direct: bool = False) -> None:
        if self._note(burst, GROUP):
            self._turn()
        self._deliver(burst, sample, direct)

    def _note(self, burst: Burst, road: int) -> bool:
        came, now, leg = self.roads.came, self._loop.now, self._leg
        changed = False
        for data, source in burst:
            if data[:2] == _MAGIC and len(data) > 16:
                way = road
                if leg is not None and road == GROUP and source[1] == leg[1]:
                    way = LEG if source[0].partition("%")[0] == leg[0] else GROUP
                sender, repair = data[8:16], bool(data[3] & _REPAIR)
                apart = way == GROUP and not repair and self._is_apart(source, sender)
                changed |= came(sender, repair, way, now, apart=apart)
        return changed

    def _is_apart(self, source: Any, sender: bytes) -> bool:
        """Whether nobody but `sender` was heard from there, as far as it matters."""
        if self.roads.state != PROBING:
            return False
        ends = self._ends
        if len(ends) >= ROAD_SENDERS_MAX and source not in ends:
            return False
        return ends.setdefault(source, sender) == sender

    def send(self, data: bytes, target: Any) -> bool:
        """To everybody (None), or to the one that a datagram came from."""
        if target is not None:
            if target[0] == "relay":
                self._up(data, target[1])
                return True
            return self.group is None or self.group.send(data, target)
        roads, group = self.roads, self.group
        if not roads.carried:
            if data[:2] == _MAGIC and not data[3] & _REPAIR:
                roads.said(self._loop.now)
            return group is None or group.send(data, None)
        known = self.carrier.known  # until then the group is all that there is
        if group is not None and (self._is_probe(data) or roads.by_both or not known):
            try:
                group.send(data, None)
            except OSError:  # as good as lost on the way: the relay is the road
                self.dropped += 1
        if known:
            self._up(data, None)
        elif len(self._held) < RELAY_HELD_MAX:
            self._held.append(data)
        else:
            self.dropped += 1
        return True

    def _is_probe(self, data: bytes) -> bool:
        if data[:2] != _MAGIC:
            return False
        kind, now = data[2:3], self._loop.now
        if kind == _SESSION and now >= self._probe_at:
            self._probe_at = now + ROAD_PROBE_S
            return True
        begun = self._goodbye
        self._goodbye |= kind == _BYE
        return begun and kind == _BYE

    def _up(self, data: bytes, member: bytes | None) -> None:
        if self.roads.carried and self.carrier.known and self.carrier.up(data, member):
            self.relayed_out += 1
        else:
            self.dropped += 1

    def leave(self) -> None:
        if self.group is not None:
            self.group.leave()

    def join(self) -> None:
        if self.group is not None:
            self.group.join()

    def reopen(self, interface: Interface | None = None) -> None:
        if self.group is not None:
            self.group.reopen(interface)

    def move(self, address: str, port: int, choose: Callable[[], Any]) -> None:
        if self.group is not None:
            self.group.move(address, port, choose)

    def close(self) -> None:
        self._timer.cancel()
        self._held.clear()
        if self.group is not None:
            self.group.close()

    def describe(self) -> str:
        return self.group.describe() if self.group is not None else "the directory"

    def stats(self) -> dict[str, int]:
        return {
            **(self.group.stats() if self.group is not None else {}),
            "relayed_in": self.relayed_in,
            "relayed_out": self.relayed_out,
            "relay_dropped": self.dropped,
        }

    # -- the choice ------------------------------------------------------------------------------

    def _on_timer(self) -> None:
        self.roads.handle_timer(self._loop.now)
        self._turn()

    def _turn(self) -> None:
        """Something may be another way now: ask what is due, tell what has changed."""
        if not self._started:
            return
        roads, now = self.roads, self._loop.now
        wish = roads.question(now)
        if wish:
            self.carrier.ask(wish, self._answered)
        state = roads.state
        if state != PROBING:
            self._ends.clear()
        if state == OFF:
            self._flush()
        changes, roads.changes = roads.changes, []
        for change in changes:
            self.tell(change)
        self._timer.move(roads.next_deadline())
        was, self._was_carried = self._was_carried, roads.carried
        if roads.carried and not was:
            self.turned()

    def _answered(self, word: Word | None, leg: str) -> None:
        if word is None:
            self.roads.unanswered(self._loop.now)
        else:
            host, _, port = leg.rpartition(":")
            self._leg = (host.strip("[]"), int(port)) if port.isdigit() else None
            self.roads.answered(word, self._loop.now)
            if word.heard is not None and word.members > CROWD_SENDERS:
                # It brings what it hears to all whom it carries; a crowd can spare the second word.
                self._held = [data for data in self._held if data[2:3] != _SESSION]
            self._flush()
        self._turn()

    def _flush(self) -> None:
        """What waited for the directory goes the way that is ours by now."""
        held, self._held = self._held, []
        for data in held:
            if self.roads.carried:
                self._up(data, None)
            else:
                self.send(data, None)
