"""Which interface of this machine a group is reached by; the table of all, and its changes.

A room joins its group on ONE interface; `evloop.net.links` says which, and what a `Link` is.

    links = read_links()                         the table of now; () where nothing is told
    watcher = LinkWatcher(loop)                  opens the netlink socket, then asks for the table
    watcher.links                                the table, as last told of
    watcher.subscribe(changed)                   `changed(links)`, when what we use is another
    named(links, "eth0")                         the Link that --interface means
    announceable(links), choose(links, group)    see `evloop.net.links`

Linux tells changes by itself (netlink): who watches is woken by nothing else. Elsewhere, and where
netlink is refused (seccomp, a systemd unit without AF_NETLINK), the list is read every
INTERFACES_POLL_S. A link's `epoch` is another one after each moment in which switches have
forgotten what it had joined: it was made, came up, got its carrier back, or the machine slept.
"""

from __future__ import annotations

import errno
import socket

from evloop.base.errors import FAILED, SetupError
from evloop.base.names import quoted
from evloop.net.compat import (
    Sleep,
    addresses,
    default_interfaces,
    interface_names,
    open_netlink,
    own_address_towards,
)
from evloop.net.limits import (
    CHANGE_SETTLES_S,
    CHANGE_SETTLES_S_MAX,
    DATAGRAMS_PER_WAKE_MAX,
    INTERFACES_POLL_S,
    NETLINK_DUMPS_MAX,
    NETLINK_READ_BYTES,
)
from evloop.net.links import (
    ASKED_FOR,
    RUNNING,
    UP,
    USED,
    Interface,
    Link,
    Own,
    announceable,
    choose,
    explain,
    find,
)
from evloop.net.netlink import GET_ADDRESSES, GET_LINKS, GROUPS, BadNetlink, Table, dump_request
from evloop.system.timers import NEVER

__all__ = [
    "Chooser",
    "Interface",
    "Link",
    "LinkWatcher",
    "Own",
    "announceable",
    "choose",
    "choose_interface",
    "explain",
    "explain_interface",
    "named",
    "owner_of",
    "read_links",
    "towards",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from evloop.system.loop import Loop

    Changed = Callable[[tuple[Link, ...]], object]


# -- the table of now ------------------------------------------------------------------------------


class NoSuchInterface(SetupError):
    """The interface that the user has named is none."""


def read_links() -> tuple[Link, ...]:
    """All interfaces, by number; () where the system tells nothing at all."""
    try:
        with open_netlink(0) as sock:
            table = Table(_text_of)
            _dump(sock, table)
            return table.links()
    except (OSError, BadNetlink):
        return _told_links(())


def _text_of(packed: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


def packed_of(address: str) -> bytes:
    """An address as 4 or 16 bytes, without its zone."""
    if ":" in address:
        return socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    return socket.inet_aton(address)


def subnets_of(link: Link) -> list[tuple[bytes, int]]:
    """Each (own address, bits of its subnet); where the system does not tell the size of one, only
    the address itself."""
    packed = [(packed_of(own.text), own.prefix) for own in link.addresses]
    return [(own, bits if bits >= 0 else 8 * len(own)) for own, bits in packed]


def _dump(sock: socket.socket, table: Table) -> None:
    """Ask for all, and take it: the kernel has each part ready when it is read.

    What is told meanwhile comes between the parts, in its order.
    """
    for number in range(1, NETLINK_DUMPS_MAX + 1):
        table.begin()
        for kind in (GET_LINKS, GET_ADDRESSES):
            sequence = 2 * number + (kind == GET_ADDRESSES)
            sock.sendto(dump_request(kind, sequence), (0, 0))
            table.dumping = True
            while table.dumping:
                data, (port, _) = sock.recvfrom(NETLINK_READ_BYTES)
                if port == 0:  # others may write to us, too
                    table.take(data, sequence)
        table.end()
        if not table.incomplete:
            return


def _told_links(before: Sequence[Link]) -> tuple[Link, ...]:
    """The table where there is no netlink; `before`: the last one, for the epochs."""
    flags: dict[str, int] = {}
    own: dict[str, list[Own]] = {}
    for entry in addresses():
        flags[entry.name] = entry.flags & USED
        found = own.setdefault(entry.name, [])
        if entry.address:
            found.append(Own(entry.address, entry.prefix, False))
    last = {link.ifindex: link for link in before}
    epoch = max([link.epoch for link in before], default=0)
    links = []
    for name, bits in flags.items():
        try:
            index = socket.if_nametoindex(name)
        except OSError:  # it went just now
            continue
        was = last.get(index)
        same = was is not None and (was.name, was.flags & (UP | RUNNING)) == (
            name,
            bits & (UP | RUNNING),
        )
        if was is None or not (same or not bits & RUNNING):
            epoch += 1
        mine = epoch if was is None or not (same or not bits & RUNNING) else was.epoch
        links.append(Link(index, name, bits, tuple(own[name]), mine))
    return tuple(sorted(links))


# -- its changes -----------------------------------------------------------------------------------


class LinkWatcher:
    """The table of interfaces, and who is told when it is another one: `Changed(links)`.

    What changed is looked at CHANGE_SETTLES_S after the last message of a row of them: what came
    and went in it is told only when something was lost by it (`epoch`). `sleep` tells of suspends.
    """

    __slots__ = (
        "_changed",
        "_first",
        "_look",
        "_loop",
        "_lost",
        "_sleep",
        "_sock",
        "_table",
        "_watch",
        "links",
        "wakes",
    )

    def __init__(self, loop: Loop, sleep: Sleep | None = None) -> None:
        self._loop = loop
        self._changed: list[Changed] = []
        self._first = NEVER  # when the first of the messages came that were not looked at yet
        self._lost = False  # messages were: ask for all
        self._look = loop.call_at(NEVER, self._looks)
        self._sleep = Sleep() if sleep is None else sleep
        self._table = Table(_text_of)
        self._sock: socket.socket | None = None
        self.wakes = 0  # how often there was something to read
        self.links: tuple[Link, ...] = ()
        self._open()
        loop.before_sleep(self._check_sleep)

    @property
    def polls(self) -> bool:
        """Whether nothing tells of changes, and the list is read again and again."""
        return self._sock is None

    def subscribe(self, changed: Changed) -> None:
        """Call `changed(links)` from now on."""
        self._changed.append(changed)

    def unsubscribe(self, changed: Changed) -> None:
        """Call it no more."""
        self._changed = [one for one in self._changed if one != changed]

    def close(self) -> None:
        """Tell nothing any more; a second call does nothing."""
        self._changed = []
        self._look.cancel()
        if self._sock is not None:
            self._watch.close()
            self._sock = None

    def _open(self) -> None:
        sock = None
        try:
            sock = open_netlink(GROUPS)  # before the dump: nothing is missed between the two
            _dump(sock, self._table)
        except (OSError, BadNetlink):
            if sock is not None:
                sock.close()
            self._poll()
            return
        self._sock = sock
        self._watch = self._loop.watch(sock, self._readable, release=sock.close)
        self.links = self._table.links()

    def _readable(self) -> None:
        assert self._sock is not None
        self.wakes += 1
        try:
            for _ in range(DATAGRAMS_PER_WAKE_MAX):
                data, (port, _) = self._sock.recvfrom(NETLINK_READ_BYTES)
                if port == 0:
                    self._table.take(data)
        except BlockingIOError:
            pass
        except (OSError, BadNetlink):
            self._lost = True  # ENOBUFS: they came faster than we read
        if self._lost or self._table.links() != self.links:
            now = self._loop.now
            self._first = min(self._first, now)
            self._look.move(min(now + CHANGE_SETTLES_S, self._first + CHANGE_SETTLES_S_MAX))

    def _looks(self) -> None:
        self._first = NEVER
        if self._sock is None:
            self._poll()
            return
        if self._lost:
            self._lost = False
            try:
                _dump(self._sock, self._table)
            except (OSError, BadNetlink) as error:
                if isinstance(error, OSError) and error.errno == errno.ENOBUFS:
                    self._lost = True
                    self._look.move(self._loop.now + CHANGE_SETTLES_S)
                    return
                self._watch.close()
                self._sock = None
                self._poll()
                return
        self._take(self._table.links())

    def _poll(self) -> None:
        self._look.move(self._loop.now + INTERFACES_POLL_S)
        self._take(_told_links(self.links))

    def _take(self, links: tuple[Link, ...]) -> None:
        if links == self.links:
            return
        self.links = links
        for changed in self._changed:
            self._loop.guard(self, changed, links)

    def _check_sleep(self) -> None:
        """Once a tick. Who slept has lost what he had joined, whatever the interfaces say."""
        if self._sleep.happened():
            self._table.woke()
            self._take(tuple(link._replace(epoch=link.epoch + 1) for link in self.links))


# -- the choice ------------------------------------------------------------------------------------


class Chooser:
    """The interface of one room, now and whenever it is asked again.

    `wanted`: what the user said (a name or an address), which is then not second-guessed; an
    address stands for its interface when it is gone. `directory()`: numeric socket address of the
    directory, (host, port, ...), or None. `chosen`: what it said last.
    """

    __slots__ = ("_directory", "_group", "_name", "chosen", "wanted")

    def __init__(
        self,
        group: str,
        wanted: str | None,
        directory: Callable[[], tuple[Any, ...] | None],
    ) -> None:
        self._group = group
        self.wanted = wanted
        self._directory = directory
        self._name = ""  # of the interface that had the wanted address
        self.chosen: Interface | None = None

    def __call__(self, links: tuple[Link, ...] | None = None) -> Interface:
        """By the table of now, or by `links`. SetupError: there is none, or it cannot do it."""
        self.chosen = None
        self.chosen = chosen = self._choose(links)
        return chosen

    def _choose(self, links: tuple[Link, ...] | None) -> Interface:
        known = read_links() if links is None else links
        if not known:
            return _untold(self.wanted)
        if self.wanted:
            link = named(known, self.wanted) or named(known, self._name)
            if link is None:
                raise _no_such(self.wanted)
            self._name = link.name
            return choose(known, self._group, link, prefer=_canonical(self.wanted)[0])
        own = towards(self._directory())
        return choose(known, self._group, None, own, default_interfaces(":" in self._group))


def choose_interface(
    group: str, wanted: str | None, directory: tuple[Any, ...] | None
) -> Interface:
    """The interface for the canonical `group`, once; see `Chooser`."""
    return Chooser(group, wanted, lambda: directory)()


def explain_interface(
    group: str, wanted: str | None, directory: tuple[Any, ...] | None
) -> tuple[Interface, str, list[tuple[str, str]]]:
    """As `choose_interface`: (the interface, why that one, [(another one, why not that), ...])."""
    known = read_links()
    if not known:
        return _untold(wanted), ASKED_FOR, []
    if not wanted:
        return explain(known, group, None, towards(directory), default_interfaces(":" in group))
    link = named(known, wanted)
    if link is None:
        raise _no_such(wanted)
    return explain(known, group, link, prefer=_canonical(wanted)[0])


def owner_of(address: str) -> tuple[str, int]:
    """(name of the interface, bits of its subnet) that has `address`; ("", 0): none has, or it is
    not told. The bits alone are 0 where they are not told."""
    link = find(read_links(), *_canonical(address))
    if link is None:
        return "", 0
    bits = [own.prefix for own in link.addresses if own.text == _canonical(address)[0]]
    return link.name, max([*bits, 0])


def towards(directory: tuple[Any, ...] | None) -> str:
    """Our canonical address from which `directory` is reached; "" when it is on this machine."""
    if directory is None:
        return ""
    own = _canonical(own_address_towards(*directory))[0]
    return "" if own == _canonical(str(directory[0]))[0] else own


def named(links: Sequence[Link], wanted: str) -> Link | None:
    """The interface that has the name or the address `wanted`."""
    return find(links, *_canonical(wanted)) or find(links, wanted)


def _canonical(address: str) -> tuple[str, str]:
    """An address as a table of links has it, and its zone; any other text as it is."""
    bare, _, zone = address.partition("%")
    if ":" in bare:
        try:
            packed = socket.inet_pton(socket.AF_INET6, bare)
        except (OSError, ValueError):
            return address, ""
        if packed.startswith(bytes(10) + b"\xff\xff"):  # an IPv4-mapped address
            return socket.inet_ntoa(packed[12:]), ""
        return socket.inet_ntop(socket.AF_INET6, packed), zone
    return address, ""


def has_ipv4() -> bool:
    """Whether this machine has any IPv4 address but those of loopback; True where it does not
    tell."""
    known = [entry.address for entry in addresses()]
    return not known or any("." in one and not one.startswith("127.") for one in known)


def _untold(wanted: str | None) -> Interface:
    """Where the system tells nothing about its interfaces, an address names one all the same."""
    try:
        address = socket.inet_ntoa(socket.inet_aton(wanted or ""))
    except OSError:
        raise SetupError(
            "this system does not tell its interfaces: give the IPv4 address of one by --interface",
            FAILED,
        ) from None
    return Interface(0, address, address)


def _no_such(wanted: str) -> SetupError:
    names = ", ".join(quoted(name) for name in interface_names())
    return NoSuchInterface(
        f'no interface has the name or address "{quoted(wanted)}"; there are: {names}', FAILED
    )
