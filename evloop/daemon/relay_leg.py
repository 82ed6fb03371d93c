"""The directory's own sockets in the group of a room that it relays: the leg.

    state    opened                   `close`
    (none)   -> here, or SetupError   -
    here     follows the network (room.attachment), may be away for a while      -> (none)

It is opened by the interface that a client without a directory would take, or by --interface. One
on loopback is none, unless --interface names it: nobody else could be there. Unicast has the reach
of the group's datagrams, so that nobody can have us send off the link.
"""

from __future__ import annotations

from evloop.base.addresses import endpoint_of
from evloop.base.errors import FAILED, SetupError
from evloop.directory.limits import RELAY_DATAGRAM_BYTES_MAX
from evloop.net.interfaces import Chooser, LinkWatcher
from evloop.net.limits import BURST_S, DATAGRAMS_PER_WAKE_MAX
from evloop.net.links import LOOPBACK, holder, link_of
from evloop.net.multicast import destination, join, leave, open_receiver, open_sender, receive
from evloop.room.attachment import JOIN, LEAVE, REOPEN, Attachment
from evloop.system.timers import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from typing import Any

    from evloop.net.links import Interface, Link
    from evloop.system.loop import Loop, Watch

    Burst = list[tuple[bytes, Any]]


class Leg:
    """Sockets of one room. `heard(burst)` is called with what the group brought, without what went
    out from here; `told(burst)` with what came to this leg alone. SetupError: it cannot be had."""

    __slots__ = (
        "_attachment",
        "_group",
        "_heard",
        "_last",
        "_loop",
        "_place",
        "_receiver",
        "_sender",
        "_source",
        "_timer",
        "_told",
        "_ttl",
        "_watcher",
        "_watches",
    )

    def __init__(
        self,
        loop: Loop,
        watcher: LinkWatcher,
        place: tuple[str, int],
        wanted: str | None,
        ttl: int,
        heard: Callable[[Burst], object],
        told: Callable[[Burst], object],
    ) -> None:
        self._loop = loop
        self._watcher = watcher
        self._place = place
        self._ttl = ttl
        self._heard, self._told = heard, told
        self._last = float("-inf")  # when something last came
        self._watches: list[Watch] = []
        choose = Chooser(place[0], wanted, _no_directory)
        interface = choose(watcher.links)
        link = link_of(watcher.links, interface.ifindex)
        if not wanted and link is not None and link.flags & LOOPBACK:
            raise SetupError("this machine has no network", FAILED)
        self._attachment = Attachment(interface, watcher.links, choose, fixed=bool(wanted))
        self._open(interface)
        self._timer = loop.call_at(NEVER, self._look)
        watcher.subscribe(self._changed)

    def _open(self, interface: Interface) -> None:
        address, port = self._place
        receiver = open_receiver(address, port, interface)
        try:
            sender = open_sender(address, port, interface, self._ttl)
        except BaseException:
            receiver.close()
            raise
        self._release()
        self._receiver, self._sender = receiver, sender
        self._group = destination(address, port, interface)
        self._source: tuple[Any, ...] = sender.getsockname()
        watch = self._loop.watch
        self._watches = [
            watch(receiver, lambda: self._receive(receiver, True), release=receiver.close),
            watch(sender, lambda: self._receive(sender, False), release=sender.close),
        ]

    @property
    def source(self) -> str:
        """From where it sends, "ADDRESS:PORT", without a zone: others have their own."""
        return endpoint_of(self._source[0].partition("%")[0], self._source[1])

    @property
    def works(self) -> bool:
        """Whether its interface is there now."""
        return not self._attachment.away

    def send(self, datagram: bytes, target: Any = None) -> bool:
        """Send to the group, or to one address; whether the kernel took it."""
        try:
            self._sender.sendto(datagram, self._group if target is None else target)
        except OSError:  # no room now, or no network: it is lost, as any datagram may be
            return False
        return True

    def close(self) -> None:
        """Leave the group; a second call does nothing."""
        self._timer.cancel()
        self._watcher.unsubscribe(self._changed)
        self._release()

    def _release(self) -> None:
        for watch in self._watches:
            watch.close()
        self._watches = []

    # -- the network -------------------------------------------------------------------------------

    def _changed(self, links: tuple[Link, ...]) -> None:
        self._do(self._attachment.changed(links, self._loop.now))

    def _look(self) -> None:
        self._do(self._attachment.look(self._loop.now))

    def _do(self, action: str) -> None:
        attachment, address = self._attachment, self._place[0]
        try:
            if action == LEAVE:
                leave(self._receiver, address, attachment.interface)
            elif action == JOIN:
                join(self._receiver, address, attachment.interface)
            elif action == REOPEN:
                self._open(attachment.target)
                attachment.opened()
        except SetupError as error:
            attachment.failed(error.sentence, self._loop.now)
        except OSError as error:  # gone while it was asked for: the next look opens it anew
            attachment.failed(error.strerror or str(error), self._loop.now)
        self._timer.move(attachment.due)

    # -- datagrams ---------------------------------------------------------------------------------

    def _receive(self, sock: socket.socket, by_group: bool) -> None:
        now = self._loop.now
        most = 1 if now > self._last + BURST_S else DATAGRAMS_PER_WAKE_MAX
        self._last = now
        # A byte more than may be carried: what is longer would else be carried cut.
        burst = receive(sock, most, RELAY_DATAGRAM_BYTES_MAX + 1)
        if ":" in self._place[0]:
            here = (0, self._attachment.interface.ifindex)
            burst = [it for it in burst if it[1][3] in here]
        if by_group:
            self._heard([it for it in burst if not self._is_own(it[1])])
        else:
            self._told(burst)

    def _is_own(self, source: tuple[Any, ...]) -> bool:
        """Whether a datagram of the group went out from here: the kernel brings it back."""
        own = self._source
        if source[1] != own[1]:
            return False
        host = source[0].partition("%")[0]
        if own[0].strip(":"):
            return bool(host == own[0].partition("%")[0])
        return holder(self._watcher.links, host) is not None  # bound to "::": any of ours


def _no_directory() -> None:
    """The directory is this process: its rooms are not reached by way of another."""
