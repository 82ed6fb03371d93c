"""One seed, one bad day in a room of several sites, which bridges join: as in `swarm`, and more.

Members of one site hear each other by multicast; what a bridge hears goes to the bridges of all
other sites, which put it into their groups. Which datagram is carried is the product's own rule
(`daemon.bridge.goes_to_other_sites`); a bridge is known by its port, and an answer in bulk comes to
it by unicast. Beside the faults of `swarm`, lines between sites are long, bridges are killed and
start again, NATS is down, forgets what a slow consumer does not take, and a site has two bridges.
Then all that ends, but the length of the lines and the second bridges stay, and the same is asked
as of any day: within 10 s everybody has everything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from evloop.daemon import bridge as product
from evloop.net.multicast import BRIDGE_PORTS
from evloop.room.reliable.limits import DATAGRAM_BYTES_MAX
from tests.simulation.oracle import Violation
from tests.simulation.swarm import Day, Outcome, live_through
from tests.simulation.world import Member, World

SITE_FAULTS = ("killed", "no NATS", "slow consumer", "long lines", "lossy bridges", "twins")
FIRST_BRIDGE = -1_000  # the address of a bridge; of the next one, one less
MEMBER_PORT = 40_000
CARRIED_MAX = 500_000  # more in one day go round and round
NEARLY_OVER_S = 1.5  # before the end of the day bridges are left alone


class Bridge:
    """What carries the room at one site."""

    __slots__ = ("address", "heard", "loss", "running", "site")

    def __init__(self, address: int, site: int) -> None:
        self.address = address
        self.site = site
        self.running = True
        self.loss = 0.0  # of what it should hear in its group
        self.heard: set[int] = set()  # sources heard in the group


class SiteWorld(World):
    """A world of sites. `sites` has that of each member, by index."""

    def __init__(self, seed: int, **options: Any) -> None:
        super().__init__(seed, **options)
        self.sites: list[int] = []
        self.next_site = 0  # of the member that joins now
        self.bridges: dict[int, Bridge] = {}  # by address
        self.wan = (0.001, 0.002)  # seconds between two bridges
        self.wan_loss = 0.0
        self.nats = True
        self.carried = 0

    def add_bridge(self, site: int) -> Bridge:
        address = FIRST_BRIDGE - len(self.bridges)
        bridge = self.bridges[address] = Bridge(address, site)
        return bridge

    def furnish(self, member: Member) -> None:
        self.sites.append(self.next_site)

    def site_of(self, source: int) -> int:
        """Where a source is; strangers are at the first site."""
        if source in self.bridges:
            return self.bridges[source].site
        return self.sites[source] if source >= 0 else 0

    def reached_by(self, source: int, side: int) -> list[tuple[int, float]]:
        site = self.site_of(source)
        return [(index, loss) for index, loss in self.ears(side) if self.sites[index] == site]

    def multicast(self, data: bytes, source: int, side: int = 0) -> None:
        super().multicast(data, source, side)
        if self.cut:
            return
        port = BRIDGE_PORTS[0] if source in self.bridges else MEMBER_PORT
        for bridge in self.bridges.values():
            near = bridge.site == self.site_of(source) and bridge.address != source
            heard = near and (side, 0) not in self.blocked and self._hears(bridge)
            if heard and product.goes_to_other_sites(port, True, True):
                bridge.heard.add(source)
                self._publish(bridge, data)

    def _hears(self, bridge: Bridge) -> bool:
        return bridge.running and self.rng.random() >= bridge.loss

    def _send(self, member: Member, data: bytes, target: object | None) -> None:
        bridge = self.bridges.get(target) if isinstance(target, int) else None
        if bridge is None:
            super()._send(member, data, target)
            return
        if self.cut:
            return
        self.note_sent(member, data, True)
        near = (member.side, 0) not in self.blocked and bridge.site == self.sites[member.index]
        known = member.index in bridge.heard
        heard = near and self._hears(bridge)
        if heard and product.goes_to_other_sites(MEMBER_PORT, False, known):
            self._publish(bridge, data)

    def _publish(self, bridge: Bridge, data: bytes) -> None:
        if not self.nats or len(data) > DATAGRAM_BYTES_MAX:
            return
        self.carried += 1
        if self.carried > CARRIED_MAX:
            raise Violation("loop", "datagrams go round between the sites", self.now)
        low, high = self.wan
        for other in self.bridges.values():
            if other.site != bridge.site and self.rng.random() >= self.wan_loss:
                when = self.now + low + (high - low) * self.rng.random()
                self.at(when, self.arrived, (other, data))

    def arrived(self, told: tuple[Bridge, bytes]) -> None:
        """NATS has brought a datagram to a bridge."""
        bridge, data = told
        if bridge.running and self.nats:
            self.multicast(data, bridge.address)


class SiteDay(Day):
    """The script of one seed."""

    world: SiteWorld

    def __init__(self, seed: int, tell: Callable[[str], None] | None, sealed: bool = False) -> None:
        super().__init__(seed, tell, sealed)
        rng = self.rng
        self.trouble = {fault for fault in SITE_FAULTS if rng.random() < 0.4}
        self.count_of_sites = rng.choice((2, 2, 2, 3, 4))

    def make_world(self, seed: int, tell: Callable[[str], None] | None, key: bytes) -> World:
        return SiteWorld(seed, tell=tell, key=key)

    def prepare(self) -> None:
        rng, world = self.rng, self.world
        for site in range(self.count_of_sites):
            for _ in range(2 if "twins" in self.trouble and rng.random() < 0.6 else 1):
                bridge = world.add_bridge(site)
                if "lossy bridges" in self.trouble:
                    bridge.loss = rng.uniform(0.01, 0.4)
        if "long lines" in self.trouble:
            length = rng.choice((0.04, 0.075, 0.15, 0.3))
            world.wan = length, length * rng.uniform(1.0, 1.2)
        super().prepare()
        if world.tell:
            world.tell(f"{self.count_of_sites} sites and {' '.join(sorted(self.trouble))}")
        for fault, most, act in (
            ("killed", 4, self._kill),
            ("no NATS", 2, self._no_nats),
            ("slow consumer", 4, self._slow),
        ):
            if fault in self.trouble:
                for _ in range(rng.randint(1, most)):
                    world.at(rng.uniform(0.5, self.length - NEARLY_OVER_S), act)

    def move_in(self, name: str, offset: float, loss: float) -> Member:
        self.world.next_site = self.rng.randrange(self.count_of_sites)
        return self.world.join(name, offset=offset, loss=loss)

    # -- trouble ---------------------------------------------------------------------------------

    def _until(self, longest: float) -> float:
        return min(self.world.now + self.rng.uniform(0.1, longest), self.length)

    def _kill(self, _: object) -> None:
        bridge = self.rng.choice(list(self.world.bridges.values()))
        bridge.running = False
        bridge.heard.clear()
        self.world.at(self._until(15.0), self._start, bridge)

    def _start(self, bridge: Bridge) -> None:
        bridge.running = True

    def _no_nats(self, _: object) -> None:
        self.world.nats = False
        self.world.at(self._until(10.0), self._nats_again)

    def _nats_again(self, _: object) -> None:
        self.world.nats = True

    def _slow(self, _: object) -> None:
        self.world.wan_loss = self.rng.uniform(0.2, 1.0)
        self.world.at(self._until(2.0), self._quick_again)

    def _quick_again(self, _: object) -> None:
        self.world.wan_loss = 0.0

    def heal(self) -> None:
        super().heal()
        world = self.world
        world.nats, world.wan_loss = True, 0.0
        for bridge in world.bridges.values():
            bridge.running, bridge.loss = True, 0.0


def run_sites(seed: int, tell: Callable[[str], None] | None = None) -> Outcome:
    """Live through the day of `seed`; a broken rule is in the outcome, not raised."""
    return live_through(SiteDay(seed, tell), seed)


def run_sealed_sites(seed: int, tell: Callable[[str], None] | None = None) -> Outcome:
    """The same day in a sealed room."""
    return live_through(SiteDay(seed, tell, sealed=True), seed)
