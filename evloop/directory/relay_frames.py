"""The relay on the wire: frames that carry datagrams of a room, and what `enter` tells of it.

A frame whose payload begins with F5 is no JSON (the byte occurs in no UTF-8). All integers are
big-endian; a datagram has 1 to RELAY_DATAGRAM_BYTES_MAX bytes:

    F5 52 | handle u32 | datagram               up: to the room; down: from the room
    F5 55 | handle u32 | member 8 | datagram    up alone: to the member of that id
    F5 48 | handle u32 | n x (came u32, length u16, datagram)    down alone: kept history

The handle names a room for one run of the server; `enter` tells it. Such a frame acts in its place
among the requests and is never answered. What makes no sense is dropped and counted, on both sides:
the parsers return None for it and raise nothing.
"""

from __future__ import annotations

from struct import Struct

from evloop.base.errors import INVALID_REQUEST, BadMessage
from evloop.base.limits import PAYLOAD_BYTES_MAX
from evloop.base.strictjson import encode
from evloop.directory.limits import (
    ADDRESS_BYTES_MAX,
    BOUND_TOLD_MAX,
    RELAY_DATAGRAM_BYTES_MAX,
)
from evloop.framing import pack_header

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

MARK = 0xF5  # the first byte of each such payload
TO_ROOM, TO_MEMBER, HISTORY = 0x52, 0x55, 0x48

OFF, UP, FULL = "off", "up", "full"
WISHES = (OFF, UP, FULL)

_HEAD = Struct(">BBI")
_MEMBER_HEAD = Struct(">BBI8s")
_RECORD = Struct(">IH")
_LEG_BYTES_MAX = ADDRESS_BYTES_MAX + len("[]:65535")
_HEX = "0123456789abcdef"


def is_relay(payload: bytes) -> bool:
    """Whether a payload is one of these and no JSON."""
    return payload[:1] == b"\xf5"


# -- whole frames, with their length in front ------------------------------------------------------


def room_frame(handle: int, datagram: bytes) -> bytes:
    """A datagram to the room, or from it."""
    return b"%b%b%b" % (
        pack_header(_HEAD.size + len(datagram)),
        _HEAD.pack(MARK, TO_ROOM, handle),
        datagram,
    )


def member_frame(handle: int, member: bytes, datagram: bytes) -> bytes:
    """A datagram to the one member whose id has the 8 bytes `member`; up alone."""
    return b"%b%b%b" % (
        pack_header(_MEMBER_HEAD.size + len(datagram)),
        _MEMBER_HEAD.pack(MARK, TO_MEMBER, handle, member),
        datagram,
    )


def history_frames(handle: int, records: Iterable[tuple[int, bytes]]) -> list[bytes]:
    """Kept datagrams with their `came` (unix seconds), in their order, in as many frames as it
    takes."""
    frames: list[bytes] = []
    parts: list[bytes] = []
    size = _HEAD.size
    for came, datagram in records:
        more = _RECORD.size + len(datagram)
        if size + more > PAYLOAD_BYTES_MAX:
            frames.append(_history_frame(handle, size, parts))
            parts, size = [], _HEAD.size
        parts += _RECORD.pack(came, len(datagram)), datagram
        size += more
    if parts:
        frames.append(_history_frame(handle, size, parts))
    return frames


def _history_frame(handle: int, size: int, parts: list[bytes]) -> bytes:
    return pack_header(size) + _HEAD.pack(MARK, HISTORY, handle) + b"".join(parts)


# -- payloads that came ----------------------------------------------------------------------------


def parse_up(payload: bytes) -> tuple[int, bytes | None, bytes] | None:
    """What a client sent: (handle, id of the one member or None, datagram); None: nothing."""
    if len(payload) <= _HEAD.size:
        return None
    _, kind, handle = _HEAD.unpack_from(payload)
    member = None
    at = _HEAD.size
    if kind == TO_MEMBER:
        at = _MEMBER_HEAD.size
        member = payload[_HEAD.size : at]
    elif kind != TO_ROOM:
        return None
    if not 0 < len(payload) - at <= RELAY_DATAGRAM_BYTES_MAX:
        return None
    return handle, member, payload[at:]


def parse_down(payload: bytes) -> tuple[int, int, Any] | None:
    """What a server sent: (TO_ROOM, handle, datagram) or (HISTORY, handle, [(came, datagram),
    ...]); None: nothing."""
    if len(payload) <= _HEAD.size:
        return None
    _, kind, handle = _HEAD.unpack_from(payload)
    if kind == TO_ROOM:
        datagram = payload[_HEAD.size :]
        return None if len(datagram) > RELAY_DATAGRAM_BYTES_MAX else (kind, handle, datagram)
    records = _read_records(payload) if kind == HISTORY else None
    return None if records is None else (kind, handle, records)


def _read_records(payload: bytes) -> list[tuple[int, bytes]] | None:
    records = []
    at = _HEAD.size
    while at < len(payload):
        if at + _RECORD.size > len(payload):
            return None
        came, length = _RECORD.unpack_from(payload, at)
        at += _RECORD.size
        if not 0 < length <= min(RELAY_DATAGRAM_BYTES_MAX, len(payload) - at):
            return None
        records.append((came, payload[at : at + length]))
        at += length
    return records


# -- the result of enter ---------------------------------------------------------------------------


class Entered:
    """What `enter` tells of the relay.

    `handle`: 0 where the directory knows no relay; `keeper`: the sender id of its keeper or None;
    `granted`: one of WISHES, "" when nothing was asked; `heard`: whole seconds since the directory
    last heard this sender by the group, None: never; `multicast`: whether the directory is in the
    group itself; `leg`: from where it sends to the group, "ADDRESS:PORT" or None; `bound`: ids of
    members whom the group does not bring but by that leg, the newest first; `others`: how many
    datagrams of others the group has brought it so far, but repairs, None: it does not tell.
    """

    __slots__ = ("bound", "granted", "handle", "heard", "keeper", "leg", "multicast", "others")

    def __init__(
        self,
        handle: int = 0,
        keeper: bytes | None = None,
        granted: str = "",
        heard: int | None = None,
        multicast: bool = False,
        leg: str | None = None,
        bound: Sequence[bytes] = (),
        others: int | None = None,
    ) -> None:
        self.handle = handle
        self.keeper = keeper
        self.granted = granted
        self.heard = heard
        self.multicast = multicast
        self.leg = leg
        self.bound = bound
        self.others = others

    def extend(self, body: bytes) -> bytes:
        """`body`, a JSON object with a member at least, and these members behind its own."""
        members: dict[str, Any] = {"handle": self.handle}
        if self.keeper is not None:
            members["keeper"] = self.keeper.hex()
        if self.granted:
            members.update(
                relay=self.granted,
                heard=self.heard,
                multicast=self.multicast,
                leg=self.leg,
                bound=[one.hex() for one in self.bound],
            )
            if self.others is not None:
                members["others"] = self.others
        return b"%b,%b" % (body[:-1], encode(members)[1:])


def read_entered(value: object) -> Entered:
    """These members of a result of `enter`; what is absent has its default. BadMessage: one of
    them is none that a server tells."""
    told: dict[str, Any] = value if type(value) is dict else {}
    keeper, granted = told.get("keeper"), told.get("relay", "")
    heard, leg = told.get("heard"), told.get("leg")
    handle, multicast = told.get("handle", 0), told.get("multicast", False)
    bound, others = told.get("bound", []), told.get("others")
    good = (
        type(handle) is int
        and 0 <= handle < 2**32
        and (granted == "" or granted in WISHES)
        and all(one is None or (type(one) is int and one >= 0) for one in (heard, others))
        and type(multicast) is bool
        and (leg is None or (type(leg) is str and len(leg) <= _LEG_BYTES_MAX))
        and type(bound) is list
    )
    if not good:
        sentence = "the server's message cannot be understood: what it tells of its relay"
        raise BadMessage(INVALID_REQUEST, sentence)
    return Entered(
        handle,
        None if keeper is None else _read_id(keeper),
        granted,
        heard,
        multicast,
        leg,
        [_read_id(one) for one in bound[:BOUND_TOLD_MAX]],
        others,
    )


def _read_id(value: object) -> bytes:
    sender = sender_of(value) if type(value) is str else None
    if sender is None:
        sentence = "the server's message cannot be understood: a sender id is none"
        raise BadMessage(INVALID_REQUEST, sentence)
    return sender


def sender_of(text: str) -> bytes | None:
    """The 8 bytes of a sender id written as 16 digits (lower case); None: it is none that anybody
    can have."""
    if len(text) != 16 or text.strip(_HEX):
        return None
    return bytes.fromhex(text) if text.strip("0") else None
