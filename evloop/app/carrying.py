"""The directory as a road of the user's rooms: opens a room with it, and tells it of the link."""

from __future__ import annotations

from evloop.base.errors import Refused, SetupError
from evloop.directory.client import READY
from evloop.directory.protocol import PLAIN
from evloop.directory.relaying import Relaying
from evloop.net.interfaces import NoSuchInterface
from evloop.room.relay import RelayTransport
from evloop.room.roads import OFF, Roads, Word
from evloop.terminal.report import RELAY_HINT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from evloop.app.network import Network
    from evloop.app.shell import Client
    from evloop.directory.client import DirectoryClient
    from evloop.directory.protocol import RoomEntry
    from evloop.directory.relay_frames import Entered
    from evloop.room.attachment import Attachment
    from evloop.room.live import LiveRoom, Transport

AUTO, ALWAYS, NEVER = "auto", "always", "never"  # of --relay
_NONE_BOUND: frozenset[bytes] = frozenset()  # one for all rooms: an empty set has 0.2 kB


class RoomCarrier:
    """What `RelayTransport` needs of the directory, for the room `name` and our `sender` id."""

    __slots__ = ("_link", "_name", "_relaying", "_sender")

    def __init__(self, link: DirectoryClient, name: str, sender: bytes) -> None:
        self._link = link
        self._name = name
        self._sender = sender
        self._relaying = Relaying(link)

    @property
    def known(self) -> bool:
        return self._relaying.known

    def up(self, datagram: bytes, member: bytes | None) -> bool:
        return self._relaying.up(datagram, member)

    def ask(self, wish: str, answered: Callable[[Word | None, str], object]) -> None:
        def entered(told: Entered | None, members: int) -> None:
            if told is None:
                answered(None, "")
                return
            granted, heard, multicast = told.granted or OFF, told.heard, told.multicast
            keeper, bound = told.keeper or b"", frozenset(told.bound) if told.bound else _NONE_BOUND
            word = Word(granted, heard, members, multicast, bound, keeper, told.others)
            answered(word, told.leg or "")

        if self._link.state == READY:
            self._relaying.enter(self._name, self._sender, wish, entered)
        else:
            answered(None, "")

    def listen(self, take: Callable[[bytes], object]) -> None:
        """Give `take` what comes for the room."""
        self._relaying.take = take

    def forget(self) -> None:
        """The connection is another one."""
        self._relaying.forget()


class Carried:
    """A room of the user, as far as the directory carries it."""

    __slots__ = ("_carrier", "_link", "transport")

    def __init__(self, link: DirectoryClient, carrier: RoomCarrier, transport: RelayTransport):
        self._link = link
        self._carrier = carrier
        self.transport = transport
        carrier.listen(transport.came)

    def begin(self, room: LiveRoom) -> None:
        """`room` has the transport, and is about to start."""
        room.roads = self.transport.roads
        self.transport.tell, self.transport.turned = room.tell, room.missed
        self.ready()

    def ready(self) -> None:
        """The directory is connected, perhaps again."""
        if self._link.state == READY and self._link.relays:
            self._carrier.forget()
            self.transport.linked()

    def lost(self) -> bool:
        """It is away; whether without it we lack people whom multicast does not bring."""
        relied = self.transport.roads.relied
        self._carrier.forget()
        self.transport.lost()
        return relied

    def left(self) -> None:
        """The user has left the room: enter it no more."""
        self.transport.leaving()

    def closed(self) -> None:
        """Its goodbyes are said."""
        self._carrier.forget()


def open_room(
    client: Client, network: Network, entry: RoomEntry, sender: bytes, listed: bool
) -> tuple[Transport, Attachment | None, Carried | None]:
    """The room `entry`, of a directory if it is `listed`: its transport, how that follows the
    network (None: it has no sockets), and what the directory does for it (None: the group is the
    only road).

    A plain room has no sender ids and shows whatever comes: it takes one road alone, the relay
    where no socket can be had or where that is wanted. SetupError: no socket, and no directory that
    relays is connected. Refused: the relay is wanted, and the directory is none.
    """
    link, options = client.link, client.options
    relay = options.relay if listed else NEVER
    relays = link.state == READY and link.relays
    if options.relay == ALWAYS and not listed:
        sentence = "a room by ADDRESS:PORT has no directory to carry it; leave out --relay always"
        raise Refused(1, "no_relay", sentence)
    if relay == ALWAYS and link.state == READY and not relays:
        sentence = f"{link.endpoint} carries no rooms; leave out --relay always"
        raise Refused(1, "no_relay", sentence)
    group: Transport | None = None
    attachment: Attachment | None = None
    if relay != ALWAYS:
        try:
            group, attachment = network.open(entry.address, entry.port, options.ttl)
        except SetupError as error:
            if not relays or relay == NEVER or isinstance(error, NoSuchInterface):
                raise
    if options.relay == NEVER and relays:
        client.style.alone_hint = RELAY_HINT
    if group is not None and (relay == NEVER or entry.mode == PLAIN):
        return group, attachment, None
    carrier = RoomCarrier(link, entry.name, sender)
    roads = Roads(sender, sockets=group is not None, always=relay == ALWAYS)
    transport = RelayTransport(client.loop, roads, group, carrier)
    return transport, attachment, Carried(link, carrier, transport)
