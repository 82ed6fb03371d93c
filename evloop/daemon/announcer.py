"""Announces this directory on the networks of this machine: the responder's sockets and log lines.

What is said and when is `directory.responder`; by which links is `net.links`. A link that comes,
goes or gets another address is announced, forgotten, announced again. Nothing here ends the server:
a socket that cannot be had is one warning.

    listening on                   announced are
    loopback alone                 nothing; this module is not even loaded
    every address of a family      on each link, the link's addresses of that family
    one address                    on that address's link, that address alone
"""

from __future__ import annotations

import errno
import os
import socket
from random import Random

from evloop.base.addresses import is_loopback, on_link
from evloop.base.names import quoted
from evloop.directory.announcement import Service
from evloop.directory.limits import FINGERPRINT_DIGITS_TOLD
from evloop.directory.responder import ANNOUNCED, Place, Responder
from evloop.net import mdns_socket
from evloop.net.interfaces import (
    Interface,
    Link,
    LinkWatcher,
    announceable,
    named,
    packed_of,
    subnets_of,
)
from evloop.net.mdns import GROUP_IPV4, GROUP_IPV6, REASONS
from evloop.system.timers import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from typing import Any

    from evloop.daemon.metrics import Metrics
    from evloop.system.log import Log
    from evloop.system.loop import Loop, Watch


class Listening:
    """Where a server listens, as far as others can reach it.

    families: lengths of the addresses that are all listened on, 4 or 16; addresses: single ones.
    """

    __slots__ = ("addresses", "families", "port")

    def __init__(self, port: int, families: Collection[int], addresses: Collection[bytes]) -> None:
        self.port = port
        self.families = families
        self.addresses = addresses


# Why a datagram was dropped, besides what the codec says of it: it is not about us; the system did
# not take it from us.
FOREIGN, UNSENT = "foreign", "unsent"
DROPS = (*REASONS, FOREIGN, UNSENT)


def listening_on(listeners: Sequence[socket.socket]) -> Listening | None:
    """What others can reach; None: nothing. Of several ports it is the first one that is found."""
    port = 0
    families: set[int] = set()
    addresses: set[bytes] = set()
    for listener in listeners:
        host, own_port = listener.getsockname()[:2]
        packed = packed_of(host)
        if is_loopback(host):
            continue
        port = port or own_port
        if port != own_port:
            continue
        if any(packed):
            addresses.add(packed)
        else:
            families.add(len(packed))
            v6 = listener.family == socket.AF_INET6
            if v6 and not listener.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
                families.add(4)
    return Listening(port, families, addresses) if port else None


def announcer_of(
    loop: Loop,
    log: Log,
    listeners: Sequence[socket.socket],
    who: tuple[str, str, str, str],
    wanted: str | None,
    metrics: Metrics,
) -> DirectoryAnnouncer | None:
    """What announces the directory behind `listeners`; None when nobody else can reach it.

    `who`: its name, id and kind, and the fingerprint of its certificate, "" without TLS.
    """
    listening = listening_on(listeners)
    if listening is None:
        return None
    name, identity, kind, fingerprint = who
    fp = fingerprint[:FINGERPRINT_DIGITS_TOLD]
    service = Service(name, identity, kind, listening.port, fp)
    drops = metrics.kinds("mdns_drops", DROPS)
    return DirectoryAnnouncer(loop, log, LinkWatcher(loop), service, listening, wanted, drops)


class DirectoryAnnouncer:
    """Announces `service` until `close`.

    `watcher` tells of links, and is closed with it; `wanted`: --interface, None without it; `drops`
    counts datagrams that were dropped, by DROPS.
    """

    __slots__ = (
        "_filtered",
        "_ipv4",
        "_ipv6",
        "_joined",
        "_listening",
        "_log",
        "_loop",
        "_places",
        "_timer",
        "_told",
        "_wanted",
        "_wanted_name",
        "_warned",
        "_watcher",
        "responder",
    )

    def __init__(
        self,
        loop: Loop,
        log: Log,
        watcher: LinkWatcher,
        service: Service,
        listening: Listening,
        wanted: str | None,
        drops: dict[str, int],
    ) -> None:
        self._loop = loop
        self._log = log
        self._watcher = watcher
        self._listening = listening
        self._wanted = wanted
        self._wanted_name = ""  # of the link that had the wanted address
        self._ipv4: Watch | None = None
        self._joined: dict[int, tuple[int, Interface]] = {}  # epoch and link of IPv4
        self._ipv6: dict[int, tuple[int, Watch]] = {}  # epoch and socket
        self._places: dict[int, Place] = {}
        self._told: dict[int, str] = {}  # what was logged, by link
        self._filtered: bool | None = None  # the kernel drops what is not about us
        self._warned = False  # that others hold the port
        self.responder = Responder(service, Random(os.urandom(16)), loop.now)
        self.responder.bad = drops
        self._timer = loop.call_at(NEVER, self._on_time)
        watcher.subscribe(self._changed)
        self._changed(watcher.links)

    def close(self) -> None:
        """Say goodbye, and nothing more; a second call does nothing."""
        self._watcher.close()
        self.responder.close()
        self._send()
        self._timer.cancel()
        self._forget(set())
        if self._ipv4 is not None:
            self._ipv4.close()
            self._ipv4 = None

    def set_fingerprint(self, fingerprint: str) -> None:
        """The certificate is another one."""
        self.responder.set_fingerprint(fingerprint[:FINGERPRINT_DIGITS_TOLD], self._loop.now)
        self._pump()

    # -- links -------------------------------------------------------------------------------------

    def _changed(self, links: Sequence[Link]) -> None:
        """The interfaces of this machine are these now."""
        taken = announceable(links, self._asked(links), self._wanted is not None)
        self._forget({link.ifindex for link in taken})
        found = [(link.ifindex, self._place(link)) for link in taken]
        self._places = {index: place for index, place in found if place is not None}
        self.responder.set_links(self._places, self._loop.now)
        self._pump()

    def _asked(self, links: Sequence[Link]) -> Link | None:
        """What --interface means; an address that is gone stands for the link that had it."""
        if self._wanted is None:
            return None
        link = named(links, self._wanted) or named(links, self._wanted_name)
        if link is not None:
            self._wanted_name = link.name
        return link

    def _place(self, link: Link) -> Place | None:
        """What the responder is to know of a link, its sockets open; None: nothing is said there.

        Of a family without an address nothing is said (it would be sent from 0.0.0.0), nor of one
        whose socket cannot be had.
        """
        listening = self._listening
        own = [(packed_of(it.text), it) for it in link.addresses]
        lasts = any(not it.passing for _, it in own)
        told = [
            packed
            for packed, it in own
            if packed in listening.addresses
            or (len(packed) in listening.families and not (lasts and it.passing))
        ]
        if not told:
            return None
        by = set()
        # Sent from an address that is announced, where there is one.
        ipv4 = [packed for packed in [*told, *dict(own)] if len(packed) == 4]
        if ipv4 and self._open_ipv4(link, socket.inet_ntoa(ipv4[0])):
            by.add(4)
        if any(len(packed) == 16 for packed, _ in own) and self._open_ipv6(link):
            by.add(16)
        subnets = [(packed, bits) for packed, bits in subnets_of(link) if len(packed) in by]
        return Place(link.epoch, subnets, told) if by else None

    def _open_ipv4(self, link: Link, address: str) -> bool:
        """Whether there is a socket that hears this link, and sends there from `address`."""
        interface = Interface(link.ifindex, link.name, address)
        epoch, before = self._joined.get(link.ifindex, (-1, None))
        try:
            if self._ipv4 is None:
                self._ipv4 = self._watch(mdns_socket.open_ipv4(), 0)
            sock: Any = self._ipv4.fileobj
            if before is not None and epoch != link.epoch:
                # Switches have forgotten it: the kernel reports a group only when it is joined.
                mdns_socket.leave(sock, before)
                before = None
            if before is None:
                mdns_socket.join(sock, interface)
        except OSError as error:
            self._joined.pop(link.ifindex, None)
            self._cannot(error, link)
            return False
        self._joined[link.ifindex] = link.epoch, interface
        return True

    def _open_ipv6(self, link: Link) -> bool:
        epoch, watch = self._ipv6.pop(link.ifindex, (-1, None))
        if watch is not None and epoch != link.epoch:
            watch.close()
            watch = None
        try:
            watch = watch or self._watch(mdns_socket.open_ipv6(link.ifindex), link.ifindex)
        except OSError as error:
            self._cannot(error, link)
            return False
        self._ipv6[link.ifindex] = link.epoch, watch
        return True

    def _watch(self, sock: socket.socket, index: int) -> Watch:
        self._filtered = None  # some do, this one does not
        return self._loop.watch(sock, lambda: self._receive(sock, index), release=sock.close)

    def _forget(self, staying: Collection[int]) -> None:
        """Leave the links that are gone, by their old numbers."""
        for index in [index for index in self._joined if index not in staying]:
            _, interface = self._joined.pop(index)
            if self._ipv4 is not None:
                sock: Any = self._ipv4.fileobj
                mdns_socket.leave(sock, interface)
        for index in [index for index in self._ipv6 if index not in staying]:
            self._ipv6.pop(index)[1].close()
        for index in [index for index in self._told if index not in staying]:
            del self._told[index]

    def _cannot(self, error: OSError, link: Link) -> None:
        if error.errno == errno.EADDRINUSE:
            if not self._warned:
                self._warned = True
                self._log.warning(
                    "port 5353 is held by another program that does not share it;"
                    " contrib/avahi/evloop.service announces through avahi-daemon"
                )
        elif error.errno != errno.EAFNOSUPPORT:  # a kernel without IPv6
            why = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
            self._log.warning("this directory cannot be announced", why=why, interface=link.name)

    # -- datagrams ---------------------------------------------------------------------------------

    def _receive(self, sock: socket.socket, index: int) -> None:
        now = self._loop.now
        for data, source, port, by in mdns_socket.receive(sock, index):
            if mdns_socket.is_about_us(data):
                link = by or self._link_of(source)
                self.responder.receive(data, source, port, link, now)
            else:
                self.responder.bad[FOREIGN] += 1
        self._pump()

    def _link_of(self, source: bytes) -> int:
        """The link by which it came, where the system does not tell: that of its subnet."""
        for index, place in self._places.items():
            if on_link(source, place.subnets):
                return index
        return 0

    def _on_time(self) -> None:
        self.responder.handle_timer(self._loop.now)
        self._pump()

    def _pump(self) -> None:
        """What the responder wants done, once after each of its calls."""
        self._send()
        for kind, index, what in self.responder.events():
            name = self._name_of(index)
            if kind == ANNOUNCED:
                label = str(what)
                if self._told.get(index) != label:
                    self._told[index] = label
                    self._log.notice(f"announced as {label}", interface=name)
            else:
                group = GROUP_IPV6 if what else GROUP_IPV4
                self._log.warning(
                    f"multicast does not come back to interface={quoted(name)}: a firewall here"
                    f" drops UDP 5353 to {group}, so nobody will find this directory by itself"
                )
        settled = not self.responder.is_probing()
        if settled != self._filtered:
            self._filtered = settled
            for watch in [self._ipv4, *[watch for _, watch in self._ipv6.values()]]:
                if watch is not None:
                    sock: Any = watch.fileobj
                    mdns_socket.drop_foreign(sock, settled)
        self._timer.move(self.responder.next_deadline())

    def _send(self) -> None:
        """A datagram that the system does not take is lost, as it could be on the way."""
        for data, index, ipv6, to in self.responder.datagrams_to_send():
            try:
                if ipv6 and index in self._ipv6:
                    sock: Any = self._ipv6[index][1].fileobj
                    mdns_socket.send_ipv6(sock, data, index, to)
                elif not ipv6 and index in self._joined and self._ipv4 is not None:
                    sock = self._ipv4.fileobj
                    mdns_socket.send_ipv4(sock, data, self._joined[index][1], to)
            except OSError:
                self.responder.bad[UNSENT] += 1

    def _name_of(self, index: int) -> str:
        return next((it.name for it in self._watcher.links if it.ifindex == index), str(index))
