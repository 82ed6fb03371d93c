"""A search for directories with its sockets: `discovery` asks and judges, this sends and listens.

On each link two kinds of sockets, of each family of which the link has an address:

    asking      an ephemeral port of the link's own address: an answer to it is unicast
    listening   bound to the group and port 5353 (and not to the wildcard, which would take from a
                program that came before what is sent to it alone): asked from here, the answer is
                multicast. Opened only when nothing else has answered.

What cannot be opened or sent is left out: the other links and families may do.
"""

from __future__ import annotations

import socket
from functools import partial
from struct import pack

from evloop.base.addresses import is_link_local
from evloop.base.names import display
from evloop.directory.announcement import GUEST
from evloop.directory.discovery import Net, Search
from evloop.directory.limits import SEARCH_S
from evloop.directory.target import Target
from evloop.net import compat, mdns
from evloop.net.interfaces import Interface, named, packed_of, read_links, subnets_of
from evloop.net.limits import DATAGRAMS_PER_WAKE_MAX, MDNS_DATAGRAM_BYTES_MAX
from evloop.net.links import address_for, announceable
from evloop.net.multicast import destination

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from evloop.directory.discovery import Found
    from evloop.net.links import Link
    from evloop.system.loop import Loop, Watch

HOPS = 255  # RFC 6762, 11: who receives it may see that no router has passed it on


def searched_links(wanted: str | None) -> tuple[Link, ...]:
    """The links that are searched; `wanted`: the only one, by name or address. SetupError."""
    links = read_links()
    if not wanted:
        return announceable(links)
    return announceable(links, named(links, wanted), True)


def target_of(found: Found, name: str) -> Target:
    """What to connect to for a directory that was found and is called `name`."""
    addresses = []
    for address, link in found.addresses:
        family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
        text = text_of(address, link)
        at = (text, found.port) if len(address) == 4 else (text, found.port, 0, link)
        addresses.append((family, at))
    host = text_of(*found.addresses[0])
    number = found.id if ":" not in found.id else ""  # who tells no id may be anybody
    via = f"found on {display(', '.join(found.links))}"
    return Target(
        host,
        found.port,
        addresses=addresses,
        id=number,
        name=name,
        via=via,
        guest=found.kind == GUEST,
        tls=found.tls,
        fp=found.fp,
    )


def text_of(address: bytes, link: int) -> str:
    """An address as people write it, with its link where it needs one."""
    if len(address) == 4:
        return socket.inet_ntoa(address)
    text = socket.inet_ntop(socket.AF_INET6, address)
    try:
        return f"{text}%{socket.if_indextoname(link)}" if link else text
    except OSError:  # it went just now
        return f"{text}%{link}"


class Browser:
    """One search on `links`.

    `look(found, over)` is called after everything that comes and when it is over; it returns when
    it wants to be called again. The owner ends it by `close`, at the latest when it is over.
    """

    __slots__ = ("_closed", "_links", "_listening", "_look", "_loop", "_own", "_search", "_senders",
                 "_timer", "_watches")  # fmt: skip

    def __init__(
        self,
        loop: Loop,
        links: Sequence[Link],
        look: Callable[[list[Found], bool], float],
        *,
        tls_only: bool = False,
        own: str = "",
        patience: float = SEARCH_S,
    ) -> None:
        self._loop = loop
        self._links = links
        self._look = look
        self._own = own  # an address that --interface names
        self._watches: list[Watch] = []
        # (socket, where to) of those that ask, and of those that are bound to port 5353
        self._senders: list[tuple[socket.socket, Any]] = []
        self._listening: list[tuple[socket.socket, Any]] | None = None
        self._closed = False
        nets = [Net(link.ifindex, link.name, subnets_of(link)) for link in links]
        self._search = Search(nets, loop.now, tls_only=tls_only, patience=patience)
        self._senders = self._open(listens=False)
        self._timer = loop.call_at(loop.now, self._on_timer)

    def close(self) -> None:
        """End it; a second call does nothing."""
        self._closed = True
        self._timer.cancel()
        watches, self._watches = self._watches, []
        for watch in watches:
            watch.close()

    def _open(self, *, listens: bool) -> list[tuple[socket.socket, Any]]:
        opened: list[tuple[socket.socket, Any]] = []
        for link in self._links:
            for group in (mdns.GROUP_IPV4, mdns.GROUP_IPV6):
                interface = Interface(link.ifindex, link.name, address_for(link, group, self._own))
                if not interface.address:
                    continue
                try:
                    sock = _socket_of(group, interface, listens)
                except OSError:  # the link has gone, or port 5353 is not shared: others may do
                    continue
                read = partial(self._readable, sock, link.ifindex, listens)
                self._watches.append(self._loop.watch(sock, read, release=sock.close))
                opened.append((sock, destination(group, mdns.PORT, interface)))
        return opened

    def _on_timer(self) -> None:
        self._search.handle_timer(self._loop.now)
        self._ask()
        self._looked()

    def _ask(self) -> None:
        for data, multicast in self._search.questions():
            if multicast and self._listening is None:
                self._listening = self._open(listens=True)
            senders = (self._listening or []) if multicast else self._senders
            for sock, target in senders:
                try:
                    sock.sendto(data, target)
                except OSError:
                    continue  # no carrier, a firewall: as lost as it would be on the way

    def _readable(self, sock: socket.socket, link: int, listens: bool) -> None:
        """`listens`: it is bound to the group, so what it hears was sent to the group."""
        taken = False
        for _ in range(DATAGRAMS_PER_WAKE_MAX):
            try:
                data, source = sock.recvfrom(MDNS_DATAGRAM_BYTES_MAX + 1)
            except OSError:  # drained, or what an earlier datagram has met
                break
            packed = packed_of(source[0])
            if self._search.receive(
                data, packed, source[1], link, multicast=listens, now=self._loop.now
            ):
                taken = True
        if taken:
            self._looked()

    def _looked(self) -> None:
        if self._closed:
            return
        again = self._look(self._search.found(), self._search.over(self._loop.now))
        if not self._closed:
            self._timer.move(min(again, self._search.next_deadline()))


def _socket_of(group: str, interface: Interface, listens: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in group else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        compat.hear_only_own_groups(sock)
        if listens:
            compat.share_port(sock)
        (_prepare_ipv6 if ":" in group else _prepare_ipv4)(sock, group, interface, listens)
        compat.send_as_far_as(sock, HOPS)
    except BaseException:
        sock.close()
        raise
    return sock


def _prepare_ipv4(sock: socket.socket, group: str, interface: Interface, listens: bool) -> None:
    if listens:
        sock.bind((group, mdns.PORT))
        compat.join_ipv4(sock, group, interface)
    else:
        sock.bind((interface.address, 0))
    compat.send_by_ipv4(sock, group, interface)


def _prepare_ipv6(sock: socket.socket, group: str, interface: Interface, listens: bool) -> None:
    compat.ask(sock, socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if listens:
        compat.hear_one_interface(sock, interface.name)
        sock.bind((group, mdns.PORT, 0, interface.ifindex))
        member = socket.inet_pton(socket.AF_INET6, group) + pack("@I", interface.ifindex)
        compat.need(sock, socket.IPPROTO_IPV6, "IPV6_JOIN_GROUP", member)
    else:
        near = is_link_local(packed_of(interface.address))
        sock.bind((interface.address, 0, 0, interface.ifindex if near else 0))
    compat.need(sock, socket.IPPROTO_IPV6, "IPV6_MULTICAST_IF", interface.ifindex)
