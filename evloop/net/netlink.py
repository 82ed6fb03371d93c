"""rtnetlink: what the kernel says of its interfaces and their addresses, as a table. Pure.

The kernel answers a dump with many messages in a few datagrams, and tells each change with one
message to who listens to the groups below; both have the same form (RFC 3549; <linux/netlink.h>,
<linux/rtnetlink.h>, <linux/if_link.h>, <linux/if_addr.h>), in the byte order of this machine:

    message     length u32, type u16, flags u16, sequence u32, port u32, body; padded to 4 bytes
    link        family u8, u8, device type u16, index i32, flags u32, change u32, attributes
    address     family u8, prefix length u8, flags u8, scope u8, index u32, attributes
    attribute   length u16, type u16, value; padded to 4 bytes

`Table.take` puts a datagram into the table. Any bytes raise `BadNetlink` or nothing. To look anew
(the start, or messages were lost): `begin`, then a dump of links, then one of addresses, each taken
until `dumping` is False; then `end` drops what was not told again.
"""

from __future__ import annotations

from struct import pack, unpack_from

from evloop.base.errors import EvloopError
from evloop.net.links import RUNNING, UP, USED, Link, Own

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GROUPS = 0x1 | 0x10 | 0x100  # RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR

GET_LINKS, GET_ADDRESSES = 18, 22
_ERROR, _DONE = 2, 3
_NEW_LINK, _DEL_LINK, _NEW_ADDRESS, _DEL_ADDRESS = 16, 17, 20, 21
_REQUEST_DUMP = 0x001 | 0x300  # NLM_F_REQUEST, NLM_F_DUMP
_INTERRUPTED = 0x10  # NLM_F_DUMP_INTR: it changed meanwhile, and something may be left out
_FLAGS_OF_HEAD = {GET_LINKS: 16, GET_ADDRESSES: 8}
_EXT_MASK, _SKIP_STATISTICS = 29, 0x8  # IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS

_IFLA_IFNAME, _IFLA_CARRIER_CHANGES = 3, 35
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_AF_INET, _AF_INET6 = 2, 10
_TEMPORARY, _OPTIMISTIC, _DAD_FAILED, _DEPRECATED, _TENTATIVE = 0x01, 0x04, 0x08, 0x20, 0x40
_ADDRESS_BYTES = {_AF_INET: 4, _AF_INET6: 16}


class BadNetlink(EvloopError):
    """What came is no netlink, or the kernel refuses."""

    __slots__ = ()


def dump_request(kind: int, sequence: int) -> bytes:
    """Ask for everything; `kind` is GET_LINKS or GET_ADDRESSES."""
    body = bytes(_FLAGS_OF_HEAD[kind])
    if kind == GET_LINKS:
        body += pack("=HHI", 8, _EXT_MASK, _SKIP_STATISTICS)
    return pack("=IHHII", 16 + len(body), kind, _REQUEST_DUMP, sequence, 0) + body


def messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """(type, flags, sequence, body) of each message in a datagram."""
    at = 0
    while at < len(data):
        if len(data) - at < 16:
            raise BadNetlink("a message is cut in its head")
        length, kind, flags, sequence = unpack_from("=IHHI", data, at)
        if not 16 <= length <= len(data) - at:
            raise BadNetlink(f"a message of {length} bytes, of which {len(data) - at} came")
        yield kind, flags, sequence, data[at + 16 : at + length]
        at += length + 3 & ~3


def _attributes(body: bytes, at: int) -> dict[int, bytes]:
    found = {}
    while len(body) - at >= 4:
        length, kind = unpack_from("=HH", body, at)
        if not 4 <= length <= len(body) - at:
            raise BadNetlink(f"an attribute of {length} bytes, of which {len(body) - at} came")
        found[kind & 0x3FFF] = body[at + 4 : at + length]  # without NLA_F_NESTED, BYTEORDER
        at += length + 3 & ~3
    return found


class Table:
    """The interfaces and their addresses; `text_of(bytes)` writes an address of 4 or 16 bytes.

    `dumping`: the end of a dump has not come. `incomplete`: it must be looked at anew.
    """

    __slots__ = ("_addresses", "_epoch", "_links", "_seen", "_text_of", "dumping", "incomplete")

    def __init__(self, text_of: Callable[[bytes], str]) -> None:
        self._text_of = text_of
        self._links: dict[int, tuple[str, int, int, int]] = {}  # name, flags, changes, epoch
        # (index, address) as the kernel has them, a dead or unproved one None
        self._addresses: dict[tuple[int, bytes], Own | None] = {}
        self._epoch = 0
        self._seen: set[object] | None = None  # since `begin`
        self.dumping = False
        self.incomplete = False

    def links(self) -> tuple[Link, ...]:
        """All of them, by number."""
        own: dict[int, list[Own]] = {}
        for (index, _), one in self._addresses.items():
            if one is not None:
                own.setdefault(index, []).append(one)
        return tuple(
            Link(index, name, flags & USED, tuple(own.get(index, ())), epoch)
            for index, (name, flags, _, epoch) in sorted(self._links.items())
        )

    def woke(self) -> None:
        """The machine slept: each link counts as new."""
        self._epoch += 1
        for index, (name, flags, changes, epoch) in self._links.items():
            self._links[index] = name, flags, changes, epoch + 1

    def begin(self) -> None:
        """Everything is asked for again."""
        self._seen = set()
        self.incomplete = False

    def end(self) -> None:
        """All was told: what was not is gone."""
        seen, self._seen = self._seen or set(), None
        for index in [index for index in self._links if index not in seen]:
            self._forget(index)
        for key in [key for key in self._addresses if key not in seen]:
            del self._addresses[key]

    def take(self, data: bytes, sequence: int = 0) -> None:
        """Put in what a datagram tells; `sequence` is that of the dump that was asked for."""
        for kind, flags, number, body in messages(data):
            if kind == _ERROR or (kind == _DONE and number == sequence):
                self.dumping = False
            if kind == _ERROR:
                if len(body) < 4:
                    raise BadNetlink("an error without a number")
                raise BadNetlink(f"the kernel refuses (errno {-unpack_from('=i', body)[0]})")
            if number == sequence and flags & _INTERRUPTED:
                self.incomplete = True
            if kind in (_NEW_LINK, _DEL_LINK):
                self._take_link(kind == _NEW_LINK, body)
            elif kind in (_NEW_ADDRESS, _DEL_ADDRESS):
                self._take_address(kind == _NEW_ADDRESS, body)

    def _take_link(self, there: bool, body: bytes) -> None:
        if len(body) < 16:
            raise BadNetlink("a link is cut in its head")
        family, index, flags = unpack_from("=BxxxiI", body)
        if family not in (0, _AF_INET6):
            return  # of a bridge: its port has changed, or left it; the interface is still there
        attributes = _attributes(body, 16)
        if not there:
            if family == 0:
                self._forget(index)
            return
        before = self._links.get(index)
        raw = attributes.get(_IFLA_IFNAME)
        if raw is None and before is None:
            raise BadNetlink("a link without a name")
        name = before[0] if raw is None and before else (raw or b"").partition(b"\0")[0].decode(
            "utf-8", "surrogateescape"
        )  # fmt: skip
        word = attributes.get(_IFLA_CARRIER_CHANGES, b"")
        changes = unpack_from("=I", word)[0] if len(word) == 4 else before[2] if before else 0
        self._links[index] = name, flags, changes, self._epoch_of(before, flags, changes)
        if self._seen is not None:
            self._seen.add(index)

    def _epoch_of(self, before: tuple[str, int, int, int] | None, flags: int, changes: int) -> int:
        """Another number when it is new, or was away since it was last told of."""
        running = UP | RUNNING
        if before is not None:
            was, now = before[1] & running == running, flags & running == running
            if not now or (was and changes - before[2] < 2):
                return before[3]
        self._epoch += 1
        return self._epoch

    def _forget(self, index: int) -> None:
        self._links.pop(index, None)
        for key in [key for key in self._addresses if key[0] == index]:
            del self._addresses[key]

    def _take_address(self, there: bool, body: bytes) -> None:
        if len(body) < 8:
            raise BadNetlink("an address is cut in its head")
        family, prefix, flags, _, index = unpack_from("=BBBBI", body)
        if family not in _ADDRESS_BYTES:
            return
        attributes = _attributes(body, 8)
        raw = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS, b"")
        if len(raw) != _ADDRESS_BYTES[family]:
            raise BadNetlink(f"an address of {len(raw)} bytes")
        word = attributes.get(_IFA_FLAGS, b"")
        if len(word) == 4:
            flags = unpack_from("=I", word)[0]
        key = (index, raw)
        if self._seen is not None:
            self._seen.add(key)
        if not there:
            self._addresses.pop(key, None)
            return
        unproved = flags & _DAD_FAILED or flags & (_TENTATIVE | _OPTIMISTIC) == _TENTATIVE
        if family == _AF_INET:
            unproved, flags = 0, flags & ~_TEMPORARY  # there it is "secondary"
        passing = bool(flags & (_TEMPORARY | _DEPRECATED))
        own = None if unproved else Own(self._text_of(raw), prefix, passing)
        self._addresses[key] = own
