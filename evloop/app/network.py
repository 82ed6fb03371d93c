"""What becomes of the client's rooms and of its link to the directory when the network changes."""

from __future__ import annotations

from evloop.directory.client import READY
from evloop.net.interfaces import Chooser, LinkWatcher
from evloop.net.multicast import MulticastTransport
from evloop.room.attachment import Attachment
from evloop.system.timers import nothing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from evloop.directory.client import DirectoryClient
    from evloop.net.links import Link
    from evloop.room.live import LiveRoom
    from evloop.system.loop import Loop


class Network:
    """Tells `link`, each of `rooms` and `on_change` of every change. `wanted`: what --interface
    says, or None.

    Made with the first room, or in the first idle moment after the prompt.
    """

    __slots__ = (
        "_directory", "_link", "_links", "_loop", "_on_change", "_rooms", "_wanted", "_watcher",
    )  # fmt: skip

    def __init__(
        self,
        loop: Loop,
        link: DirectoryClient,
        rooms: Collection[LiveRoom],
        wanted: str | None,
        on_change: Callable[[], object] = nothing,
    ) -> None:
        self._loop = loop
        self._link = link
        # One for all rooms: where the directory is, or None.
        self._directory = lambda: link.address if link.state == READY else None
        self._rooms = rooms
        self._on_change = on_change
        self._wanted = wanted
        self._watcher = LinkWatcher(loop)
        self._watcher.subscribe(self._changed)
        self._links = self._watcher.links

    def open(self, group: str, port: int, ttl: int) -> tuple[MulticastTransport, Attachment]:
        """The sockets of a room, and how it follows the network; SetupError."""
        choose = self._chooser(group)
        transport = MulticastTransport(self._loop, group, port, choose, ttl)
        return transport, self._attachment(choose)

    def move(self, room: LiveRoom, group: str, port: int) -> None:
        """Give `room` sockets at another place; SetupError: all is as before."""
        if room.attachment is None:
            return  # it has none: the directory carries it wherever it is
        choose = self._chooser(group)
        room.transport.move(group, port, choose)
        room.attachment = self._attachment(choose)

    def _chooser(self, group: str) -> Chooser:
        """What says, now and later, by which interface `group` is reached."""
        return Chooser(group, self._wanted, self._directory)

    def _attachment(self, choose: Chooser) -> Attachment:
        assert choose.chosen is not None, "it was not asked yet"
        return Attachment(choose.chosen, self._watcher.links, choose, fixed=bool(self._wanted))

    def _changed(self, links: tuple[Link, ...]) -> None:
        before, self._links = self._links, links
        self._loop.guard(self._link, self._link.network_changed, before, links)
        for room in list(self._rooms):
            self._loop.guard(room, room.network_changed, links)
        self._loop.guard(self, self._on_change)
