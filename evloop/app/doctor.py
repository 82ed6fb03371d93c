"""`doctor`: gathers what `diagnosis` judges, with the directory as second channel.

    state      what                                             then
    probing    how far is the directory, who is in the room,    -> probing again, or -> listening
               one `probe` (1.1 s), two asks more on the way
    listening  until the asks are answered; LATE_S where one    -> over
               who should be there is not heard
    over       the evidence is handed on

A second probe is made when one burst came in part, and one of a fresh group when nothing came at
all and no reason was found. It joins groups and no room: nobody sees it as a member.
"""

from __future__ import annotations

import errno
import os

from evloop.app.diagnosis import (
    Evidence,
    Heard,
    receiving_of,
    sending_of,
    undecided,
    verdict,
    wants_fresh,
)
from evloop.app.limits import (
    DOCTOR_ASK_S,
    DOCTOR_ASKS,
    DOCTOR_ASKS_MAX,
    DOCTOR_LATE_S,
    DOCTOR_MEMBERS_MAX,
    DOCTOR_WAIT_S_MAX,
)
from evloop.base.addresses import is_loopback, plain_host, same_network
from evloop.base.errors import METHOD_NOT_FOUND, SLOW_DOWN, EvloopError, Refused
from evloop.base.limits import PORT_MAX
from evloop.base.names import check_member_name
from evloop.directory import protocol
from evloop.directory.client import READY
from evloop.net import compat
from evloop.net.counters import neighbour_flags, querier_version, read
from evloop.net.interfaces import explain_interface, owner_of
from evloop.net.limits import RECEIVE_BUFFER_BYTES
from evloop.room.probe import REPORT_S, SENDS_S, Probe, Unicast
from evloop.room.reliable.limits import LOSS_UNKNOWN
from evloop.room.reliable.packets import ASKER
from evloop.system.timers import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random
    from typing import Any

    from evloop.directory.client import DirectoryClient
    from evloop.net.interfaces import Interface
    from evloop.system.loop import Loop

    Then = Callable[["Evidence", "EvloopError | None"], object]

_ANY_GROUP = "239.255.1.1"  # for asking which interface a room would take
_NOWHERE = ("127.0.0.1", 0)  # of a socket to which nobody sends
_ANSWER_S = 0.35  # after an ask all have answered, also in a room of many
_LATE_S = 0.05  # a machine that is busy counts late: look again


class Place:
    """What is looked at. `name`: as it was asked for, "" for no room; `address`, `port`: where it
    is, "" and 0 where that is not known; `params`: of `probe`; `counted`: others there, -1: ask;
    `reliable`: known to be so, though no directory says it."""

    __slots__ = ("address", "counted", "name", "params", "port", "reliable")

    def __init__(
        self,
        name: str = "",
        address: str = "",
        port: int = 0,
        *,
        listed: bool = False,
        counted: int = -1,
        reliable: bool = False,
    ) -> None:
        self.name = name
        self.address = address
        self.port = port
        self.counted = counted
        self.reliable = reliable
        self.params: dict[str, Any] = {"fresh": True}
        if listed:
            self.params = {"name": name}
        elif address:
            self.params = {"address": address, "port": port}


class Setting:
    """What an examination has from its program: the loop, the connection, the user's options.
    `own`: sender ids of this program's rooms; `known`: its certificate was known before; `relay`:
    what --relay says; `road`: that the room takes, where one is in it."""

    __slots__ = ("known", "link", "loop", "own", "relay", "rng", "road", "ttl", "wall", "wanted")

    def __init__(
        self,
        loop: Loop,
        link: DirectoryClient,
        *,
        wanted: str | None,
        ttl: int,
        rng: Random,
        wall: Callable[[], float],
        own: frozenset[bytes] = frozenset(),
        known: bool = False,
        relay: str = "auto",
        road: str = "",
    ) -> None:
        self.relay = relay
        self.road = road
        self.loop = loop
        self.link = link
        self.wanted = wanted
        self.ttl = ttl
        self.rng = rng
        self.wall = wall
        self.own = own
        self.known = known


class Examination:
    """One look at the network. `then(evidence, error)` is called once, unless it is stopped;
    `say(text)` when it takes longer."""

    __slots__ = (
        "_answered",
        "_answers_due",
        "_begun",
        "_interface",
        "_link",
        "_loop",
        "_main",
        "_names",
        "_place",
        "_probes",
        "_say",
        "_setting",
        "_steps",
        "_then",
        "_timer",
        "_unicast",
        "evidence",
        "over",
    )

    def __init__(
        self, setting: Setting, place: Place, say: Callable[[str], object], then: Then
    ) -> None:
        self._setting = setting
        self._loop, self._link = setting.loop, setting.link
        self._place = place
        self._say = say
        self._then = then
        self._begun = self._loop.now
        self._interface: Interface | None = None
        self._main: Probe | None = None  # of the room, from whose port members are asked
        self._probes: list[Probe] = []
        self._unicast: Unicast | None = None
        self._answered: dict[bytes, set[int]] = {}  # of members: the asks that they answered
        self._names: dict[bytes, tuple[str, int | None]] = {}  # and their names, and their loss
        self._answers_due = NEVER  # all probes are made: when the asks should be answered
        self._steps: list[tuple[float, Callable[[], object]]] = []
        self._timer = self._loop.call_at(NEVER, self._on_timer)
        self.over = False
        self.evidence = Evidence(room=place.name, ttl=setting.ttl)

    def begin(self, error: EvloopError | None = None) -> None:
        """`error`: why the directory that was asked for is not connected."""
        connected = self._link.state == READY
        try:
            self._choose(self._place.address, self._link.address if connected else None)
            if connected:
                self._describe_directory()
                # In a tick of its own: what was loaded and looked at until now took its time.
                self._loop.defer(lambda: self._loop.defer(self._ask_directory))
            else:
                self._unconnected(error)
        except EvloopError as failure:
            self._finish(failure)

    def begin_asking(self, group: str, port: int) -> None:
        """Ask the members of the room at a place alone, without the directory."""
        it, rng = self.evidence, self._setting.rng
        it.can_ask = True
        address = self._link.address if self._link.state == READY else None
        try:
            self._choose(group, address)
            unicast = Unicast(_NOWHERE)
            probe = self._open_probe(group, port, unicast, rng.randbytes(8).hex(), burst=False)
        except (EvloopError, OSError) as error:
            failure = error if isinstance(error, EvloopError) else Refused(1, "", str(error))
            self._finish(failure)
            return
        self._begin_asks(probe)
        it.asked = 0
        self._ask_members()
        self._listen()

    @property
    def group(self) -> tuple[str, int]:
        """Where the first probe was; ("", 0): there was none."""
        return (self._main.address, self._main.port) if self._main is not None else ("", 0)

    def stop(self) -> None:
        """Give up; nobody is told."""
        if not self.over:
            self.over = True
            self._timer.cancel()
            for probe in self._probes:
                probe.close()
            if self._unicast is not None:  # of a probe that was not answered yet
                self._unicast.sock.close()

    def _finish(self, error: EvloopError | None) -> None:
        if not self.over:
            self.stop()
            self._gather_members()
            self._gather_denial()
            self._then(self.evidence, error)

    # -- this machine, and the directory ---------------------------------------------------------

    def _choose(self, group: str, directory: tuple[Any, ...] | None) -> None:
        it = self.evidence
        interface, it.reason, it.all_names = explain_interface(
            group or _ANY_GROUP, self._setting.wanted, directory
        )
        self._interface = interface
        it.ipv6 = ":" in group
        it.interface, it.address = interface.name, interface.address
        it.prefix = owner_of(it.address)[1]
        if not is_loopback(interface.address):
            it.querier = querier_version(read("/proc/net/igmp"), interface.name)

    def _describe_directory(self) -> None:
        it, link = self.evidence, self._link
        assert link.wire is not None and link.address is not None
        it.endpoint, it.tls, it.known_before = (
            link.endpoint,
            link.wire.encrypted,
            self._setting.known,
        )
        it.relay = self._setting.relay if link.relays else "none"
        it.road = self._setting.road
        theirs = plain_host(link.address[0])
        it.here = is_loopback(theirs) or bool(owner_of(theirs)[0])
        it.reached_by = owner_of(plain_host(link.wire.own[0]))[0]

    def _ask_directory(self) -> None:
        if self.over:
            return
        it, place, asked = self.evidence, self._place, self._loop.now

        def ponged(value: Any) -> None:
            it.round_trip_s = self._loop.now - asked
            if "name" in place.params and place.counted < 0:
                # To be told how many are there, one is counted a moment.
                self._ask("enter", {"name": place.name}, entered)
            self._make_probe(place.params)

        def entered(value: Any) -> None:
            room, members = protocol.read_room(value.get("room") if value else None)
            place.counted, place.port = max(0, members - 1), room.port
            self._ask("leave", {"name": place.name}, _ignore)

        self._ask("ping", {}, ponged)

    def _ask(
        self,
        method: str,
        params: dict[str, Any],
        done: Callable[[Any], object],
        refused: Callable[[EvloopError], object] | None = None,
    ) -> None:
        """Ask the directory. What comes after the end is dropped; an error ends it all, unless
        somebody takes it."""

        def answered(value: Any, error: EvloopError | None) -> None:
            if self.over:
                return
            if error is None:
                done(value)
            else:
                (refused or self._finish)(error)

        try:
            self._link.request(method, params, answered)
        except EvloopError as error:
            self._finish(error)

    def _unconnected(self, error: EvloopError | None) -> None:
        """No directory: what this machine alone can tell."""
        it, place, rng = self.evidence, self._place, self._setting.rng
        if error is not None:
            address = self._link.address
            it.endpoint = self._link.endpoint
            it.connect_error = str(error).rpartition(": ")[2]
            it.their_address = address[0] if address else ""
            unheard = "does not answer", os.strerror(errno.EHOSTUNREACH)
            it.silent = any(words in str(error) for words in unheard)
            if compat.LOCAL_NETWORK_DENIED in str(error):
                it.denied = compat.LOCAL_NETWORK_DENIED
            it.neighbour = neighbour_flags(read("/proc/net/arp"), it.their_address)
        group, port = place.address, place.port
        if not group:
            group, port = f"239.255.{rng.randint(1, 254)}.{rng.randint(1, 254)}", 25_000
        elif not place.reliable:
            port = port + 1 if port < PORT_MAX else port - 1
        own = _NOWHERE
        try:
            probe = self._open_probe(group, port, Unicast(own), rng.randbytes(8).hex())
        except OSError as failure:
            raise Refused(1, "no_probe", str(failure)) from None
        probe.on_counted = lambda: self._alone(probe)
        if place.reliable:
            it.can_ask = True
            self._begin_asks(probe)

    def _alone(self, probe: Probe) -> None:
        self.evidence.mine = [probe.report()]
        self._listen()

    # -- probes ----------------------------------------------------------------------------------

    def _make_probe(self, params: dict[str, Any], fresh: bool = False) -> None:
        assert self._link.wire is not None and self._link.address is not None
        peer = self._link.address
        nonce = self._setting.rng.randbytes(8).hex()
        unicast = self._unicast = Unicast(self._link.wire.own)

        def agreed(value: Any) -> None:
            unicast.target = (peer[0], _number_of(value, "udp"), *peer[2:])
            try:
                self._agreed(value, unicast, nonce, fresh)
            except EvloopError as error:
                unicast.sock.close()
                self._finish(error)

        def refused(error: EvloopError) -> None:
            unicast.sock.close()
            self._not_probed(error, lambda: self._make_probe(params, fresh))

        self._ask("probe", {**params, "nonce": nonce, "udp": unicast.port}, agreed, refused)

    def _not_probed(self, error: EvloopError, again: Callable[[], object]) -> None:
        """The directory makes no probe, or not now."""
        if not isinstance(error, Refused) or error.reason == "no_such_room":
            self._finish(error)
            return
        wait = _wait_of(error)
        if wait:
            self._say(f"the directory asks to wait {wait:.1f} s")
            self._step(wait + 0.01, again)
            return
        if not self.evidence.theirs:
            old = error.code == METHOD_NOT_FOUND
            self.evidence.no_probe = "the directory is too old for probes" if old else str(error)
        self._listen()

    def _agreed(self, value: Any, unicast: Unicast, nonce: str, fresh: bool) -> None:
        it, place = self.evidence, self._place
        agreed = protocol.read_probe(value)
        if not fresh and self._main is None:
            it.their_address, it.seen_as = agreed.address, agreed.seen_as
            it.wall_off_s = agreed.wall - self._setting.wall()
            if it.ipv6 != (":" in agreed.group):
                self._choose(agreed.group, self._link.address)
            it.on_link = same_network(it.address, it.prefix or agreed.prefix, it.their_address)
            it.can_ask = bool(place.name) and agreed.port == place.port
        probe = self._open_probe(agreed.group, agreed.port, unicast, nonce)
        self._step(REPORT_S, lambda: self._fetch(probe, nonce, fresh))
        if it.can_ask and self._main is None:
            self._begin_asks(probe)
        self._main = self._main or probe

    def _open_probe(
        self, group: str, port: int, unicast: Unicast, nonce: str, burst: bool = True
    ) -> Probe:
        assert self._interface is not None
        probe = Probe(
            self._loop,
            group,
            port,
            self._interface,
            unicast,
            origin=ASKER,
            nonce=int(nonce, 16),
            sender_id=self._setting.rng.randbytes(8),
            ttl=self.evidence.ttl,
        )
        self._probes.append(probe)
        self.evidence.receive_buffer = (probe.granted, RECEIVE_BUFFER_BYTES)
        if burst:
            probe.start()
        return probe

    def _fetch(self, probe: Probe, nonce: str, fresh: bool) -> None:
        """The burst is over: what did the directory hear?"""
        if not probe.counted:
            self._step(_LATE_S, lambda: self._fetch(probe, nonce, fresh))
            return

        def told(value: Any) -> None:
            report = protocol.read_report(value)
            it = self.evidence
            if fresh:
                it.fresh = probe.report()
            else:
                it.mine = [*it.mine, probe.report()]
                it.theirs = [*it.theirs, report]
            self._after_probe()

        def refused(error: EvloopError) -> None:
            wait = _wait_of(error)
            if wait:
                self._step(wait + 0.01, lambda: self._fetch(probe, nonce, fresh))
            else:
                self._not_probed(error, self._listen)

        self._ask("probed", {"nonce": nonce}, told, refused)

    def _after_probe(self) -> None:
        it = self.evidence
        if undecided(it):
            self._make_probe(self._place.params)
        elif wants_fresh(it):
            self._make_probe({"fresh": True}, fresh=True)
        else:
            self._listen()

    # -- members ---------------------------------------------------------------------------------

    def _begin_asks(self, probe: Probe) -> None:
        """The burst of `probe` was the first ask; two more follow."""
        self._main = probe
        probe.on_session = self._heard
        self.evidence.asked = 1
        begun = SENDS_S[ASKER]
        for number in range(1, DOCTOR_ASKS):
            self._step(begun + number * DOCTOR_ASK_S, self._ask_members)

    def _ask_members(self) -> None:
        assert self._main is not None
        self._main.ask(self.evidence.asked)
        self.evidence.asked += 1

    def _heard(self, sender: bytes, fields: Any) -> None:
        """A SESSION of a member; its echo says whether it answers an ask of mine."""
        _, _, echo, echo_sent, _, _, loss, _, name, _ = fields
        probe = self._main
        if sender in self._setting.own or probe is None:
            return
        if sender not in self._names and len(self._names) >= DOCTOR_MEMBERS_MAX:
            return
        self._names[sender] = (_name_of(sender, name), None if loss == LOSS_UNKNOWN else loss)
        answered = self._answered.setdefault(sender, set())
        if echo == probe.sender_id and echo_sent in probe.asked:
            answered.add(probe.asked[echo_sent])
        if self._loop.now >= self._answers_due:
            self._listen_on()

    def _listen(self) -> None:
        """All probes are made."""
        ends = self._begun
        if self.evidence.can_ask:
            ends += SENDS_S[ASKER] + (DOCTOR_ASKS - 1) * DOCTOR_ASK_S + _ANSWER_S
        self._answers_due = max(ends, self._loop.now)
        self._step(self._answers_due - self._loop.now, self._listen_on)

    def _listen_on(self) -> None:
        """Whether somebody is still to be waited for."""
        it = self.evidence
        missing = self._place.counted > len(self._names) or not all(self._answered.values())
        ways = [verdict(way(it)) for way in (receiving_of, sending_of)] if it.theirs else []
        late = self._begun + DOCTOR_LATE_S
        if not it.can_ask or not missing or not all(ways) or self._loop.now >= late:
            self._finish(None)
        elif not self._steps:
            if it.asked < DOCTOR_ASKS_MAX:
                self._ask_members()
            self._step(min(1.0, late - self._loop.now), self._listen_on)

    def _gather_denial(self) -> None:
        if any(probe.denied for probe in self._probes):
            self.evidence.denied = compat.LOCAL_NETWORK_DENIED

    def _gather_members(self) -> None:
        it = self.evidence
        it.counted = max(self._place.counted, 0)
        names = [name for name, _ in self._names.values()]
        it.members = [
            Heard(
                name if names.count(name) == 1 else f"{name}~{sender[-2:].hex()}",
                len(self._answered[sender]),
                loss,
            )
            for sender, (name, loss) in self._names.items()
        ]

    # -- time ------------------------------------------------------------------------------------

    def _step(self, seconds: float, act: Callable[[], object]) -> None:
        self._steps.append((self._loop.now + seconds, act))
        self._timer.move(min(when for when, _ in self._steps))

    def _on_timer(self) -> None:
        now = self._loop.now
        due = sorted([step for step in self._steps if step[0] <= now], key=lambda step: step[0])
        self._steps = [step for step in self._steps if step[0] > now]
        for _, act in due:
            if not self.over:
                act()
        if not self.over:
            self._timer.move(min((when for when, _ in self._steps), default=NEVER))


def _wait_of(error: EvloopError) -> float:
    """How long the directory asks to wait, 0.0: it does not, or too long."""
    if not isinstance(error, Refused) or error.code != SLOW_DOWN or not error.data:
        return 0.0
    wait = error.data.get("retry_after")
    if not isinstance(wait, (int, float)) or not 0 < wait <= DOCTOR_WAIT_S_MAX:
        return 0.0
    return float(wait)


def _ignore(value: Any) -> None:
    """Nothing depends on the answer."""


def _number_of(value: Any, member: str) -> int:
    number = value.get(member) if isinstance(value, dict) else None
    return number if type(number) is int and 0 < number <= PORT_MAX else PORT_MAX


def _name_of(sender: bytes, raw: bytes) -> str:
    try:
        return check_member_name(raw.decode())
    except (Refused, UnicodeDecodeError):
        return sender.hex()
