"""Probes: the directory sends to a group and hears it, so that `doctor` learns what arrives.

What a stranger can make the directory do is bounded: PROBES_MAX probes at once, one a connection,
PROBES_PER_S from one address; TTL 1; and unicast goes only to the address of the connection.

    state      probe          REPORT_S        probed           PROBE_S, or the connection ends
    (none)     -> running     -               no_probe         -
    running    slow_down      -> counted      slow_down        -> (none)
    counted    slow_down      -               -> (none)        -> (none), its report is kept
"""

from __future__ import annotations

from evloop.base.addresses import plain_host
from evloop.base.errors import NO_PROBE, SLOW_DOWN, Refused, SetupError
from evloop.base.limits import PORT_MAX
from evloop.base.ratelimit import AddressRates
from evloop.base.strictjson import encode
from evloop.daemon.late import load_late
from evloop.daemon.limits import (
    PROBE_REPORTS_MAX,
    PROBE_S,
    PROBES_BURST,
    PROBES_MAX,
    PROBES_PER_S,
)
from evloop.directory import requests
from evloop.directory.protocol import RELIABLE
from evloop.net.compat import own_address_towards
from evloop.net.interfaces import choose_interface, has_ipv4, owner_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random
    from typing import Any

    from evloop.daemon.connection import Connection
    from evloop.directory.registry import Directory
    from evloop.room.probe import Probe
    from evloop.system.log import Log
    from evloop.system.loop import Loop
    from evloop.system.timers import Timer


class _Running:
    """One probe under way."""

    __slots__ = ("ends", "nonce", "probe", "since", "timer")

    def __init__(self, probe: Probe, nonce: str, since: float, timer: Timer) -> None:
        self.probe = probe
        self.nonce = nonce
        self.since = since
        self.ends = since + PROBE_S
        self.timer = timer


class Prober:
    """The probes of one directory. `interface`: what its operator has named, `allowed`: not
    --no-probe."""

    __slots__ = (
        "_directory",
        "_interface",
        "_log",
        "_loop",
        "_probes",
        "_random_bytes",
        "_rates",
        "_reports",
        "_rng",
        "_running",
        "_wall",
        "_why_not",
    )

    def __init__(
        self,
        loop: Loop,
        log: Log,
        directory: Directory,
        *,
        rng: Random,
        wall: Callable[[], float],
        random_bytes: Callable[[int], bytes],
        interface: str | None,
        allowed: bool,
    ) -> None:
        self._loop = loop
        self._log = log
        self._directory = directory
        self._rng = rng
        self._wall = wall
        self._random_bytes = random_bytes
        self._interface = interface
        self._why_not = "" if allowed else "this directory was started with --no-probe"
        self._probes: Any = None  # the module, loaded with the first probe
        self._rates = AddressRates(PROBES_PER_S, PROBES_BURST)
        self._running: dict[int, _Running] = {}  # by number of the connection
        self._reports: dict[tuple[int, str], bytes] = {}  # of those that were not fetched in time

    def __len__(self) -> int:
        return len(self._running)

    def probe(self, connection: Connection, parameters: dict[str, Any]) -> bytes:
        """Begin a probe; raises Refused."""
        name, place, nonce, udp = requests.read_probe(parameters)
        group, port = self._place(name, place, connection.by_ipv6 and not has_ipv4())
        probes = self._loaded()
        self._check_limits(connection)
        try:
            peer = connection.fileobj.getpeername()  # OSError: it has gone
            own = connection.own
            if plain_host(peer[0]) != peer[0].partition("%")[0]:  # IPv4 on a socket for both
                peer, own = (plain_host(peer[0]), 0), (plain_host(own[0]), 0)
            interface = choose_interface(group, self._interface, peer)
            unicast = probes.Unicast(own)
            unicast.target = (peer[0], udp, *peer[2:])
            probe = probes.Probe(
                self._loop,
                group,
                port,
                interface,
                unicast,
                origin=probes.DIRECTORY,
                nonce=int(nonce, 16),
                sender_id=self._random_bytes(8),
            )
        except SetupError as error:
            raise _no_probe(f"no probe: {error.sentence}") from None
        except OSError as error:
            raise _no_probe(f"no probe: {error.strerror}") from None
        number = connection.number
        timer = self._loop.call_at(self._loop.now + PROBE_S, lambda: self._late(number))
        self._running[number] = _Running(probe, nonce, self._loop.now, timer)
        probe.start()
        address = interface.address or own_address_towards(*peer)
        return encode(
            {
                "group": group,
                "port": port,
                "address": address,
                "prefix": owner_of(address)[1],
                "interface": interface.name,
                "seen_as": plain_host(connection.host),
                "udp": unicast.port,
                "wall": int(self._wall()),
            }
        )

    def probed(self, connection: Connection, parameters: dict[str, Any]) -> bytes:
        """The report of this connection's probe, which is then over; raises Refused."""
        nonce = requests.read_probed(parameters)
        number = connection.number
        running = self._running.get(number)
        if running is None or running.nonce != nonce:
            report = self._reports.pop((number, nonce), None)
            if report is None:
                raise _no_probe("this connection has no probe of that nonce")
            return report
        if not running.probe.counted:
            wait = max(running.since + self._loaded().REPORT_S - self._loop.now, 0.1)
            sentence = f"the probe is not over; ask again in {wait:.2g} s"
            raise Refused(SLOW_DOWN, "slow_down", sentence, {"retry_after": wait})
        return self._end(number)

    def forget(self, connection: Connection) -> None:
        """A connection has ended, and its probe with it."""
        if connection.number in self._running:
            self._end(connection.number)

    def close(self) -> None:
        """End all."""
        for number in list(self._running):
            self._end(number)

    def _loaded(self) -> Any:
        """The module of probes; Refused where there can be none."""

        def load() -> Any:
            from evloop.room import probe  # late: few ask for one

            return probe

        if self._probes is None and not self._why_not:
            self._probes = load_late(self._log, "probe", load)
            if self._probes is None:
                self._why_not = "no probe: the files of this directory are others now"
        if self._why_not:
            raise _no_probe(self._why_not)
        return self._probes

    def _place(
        self, name: str | None, place: tuple[str, int] | None, ipv6: bool
    ) -> tuple[str, int]:
        """Where a probe is made. In a room whose members would take a PROBE for text, or have
        another key, it is on the port beside. `ipv6`: of such a group where it is a fresh one."""
        if name is not None:
            room = self._directory.find(name)
        elif place is not None:
            known = self._directory.at(*place)
            if known is None:
                return place[0], beside(place[1])
            room = known
        else:
            return self._directory.fresh_place(self._rng, ipv6)
        return room.address, room.port if room.mode == RELIABLE else beside(room.port)

    def _check_limits(self, connection: Connection) -> None:
        now = self._loop.now
        mine = self._running.get(connection.number)
        if mine is not None:
            raise _slow_down("one probe at a time on a connection", mine.ends - now)
        if len(self._running) >= PROBES_MAX:
            soonest = min(one.ends for one in self._running.values())
            raise _slow_down(f"{PROBES_MAX} probes are under way", soonest - now)
        wait = self._rates.take(connection.visitor, now)
        if wait:
            raise _slow_down(f"too many probes from {connection.visitor}", wait)

    def _late(self, number: int) -> None:
        nonce = self._running[number].nonce
        self._reports[number, nonce] = self._end(number)
        if len(self._reports) > PROBE_REPORTS_MAX:
            del self._reports[next(iter(self._reports))]

    def _end(self, number: int) -> bytes:
        running = self._running.pop(number)
        running.timer.cancel()
        running.probe.close()
        return encode(running.probe.report())


def beside(port: int) -> int:
    """The port next to that of a room."""
    return port + 1 if port < PORT_MAX else port - 1


def _no_probe(sentence: str) -> Refused:
    return Refused(NO_PROBE, "no_probe", sentence)


def _slow_down(why: str, wait: float) -> Refused:
    wait = max(wait, 0.01)
    sentence = f"{why}; try again in {wait:.2g} s"
    return Refused(SLOW_DOWN, "slow_down", sentence, {"retry_after": wait})
