"""The multicast datagrams of a reliable room: bytes to tuples and back.

     0  2  magic F5 45            8  8  sender id
     2  1  version 1, type       16  4  seq
     3  1  flags                 20  4  wall clock, unix seconds
     4  2  key id                24  .  body
     6  2  body length            .  16 tag = BLAKE2b-128(place 00 header body)

`Codec.open` returns a tuple, or the NAME of the reason why a datagram is dropped: bad datagrams are
counted, never raised. It judges in the order of cost and touches nothing but its argument; every
length is checked against the bytes at hand before anything is cut or made, so what a datagram
declares allocates nothing. (Tuples and not objects: a frozen dataclass made of the same fields
measured seven times the time.)

The five types share one header; `flags` bit 01 and the high four bits change on the way (a repair,
a copy) and are left out of the tag, so a repair is the original datagram with one byte changed.
With a key all this is otherwise: see `sealing`, which only a sealed room loads.
"""

from __future__ import annotations

import struct
from struct import Struct

from evloop.base.errors import LocalProtocolError
from evloop.base.names import display
from evloop.room.reliable.limits import (
    DATAGRAM_BYTES_MAX,
    NACK_RANGES_MAX,
    PARENTS_MAX,
    PART_BYTES_MAX,
    SEQ_END,
    SESSION_ENTRIES_MAX,
)

try:  # the extension itself: hashlib costs start-up time and, with some OpenSSLs, much more
    from _blake2 import blake2b
except ImportError:
    from hashlib import blake2b

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    Fields = tuple[Any, ...]  # what a type's body holds, as its parser's docstring says
    Range = tuple[bytes, int, int]  # (sender, lo, hi), half open
    Datagram = tuple[bytes, object | None]  # (bytes, to: the group when None)
    Packet = tuple[int, int, bytes, int, int, Fields]

DATA, NACK, SESSION, BYE, PROBE = 1, 2, 3, 4, 5
ASKER, DIRECTORY = 0, 1  # from whom a PROBE is
RELAYED, SEALED, MORE = 0x01, 0x02, 0x08  # flags
DIRECT = 0x04  # of a packet that was sent to this member alone; no flag of a datagram

NOBODY = bytes(8)  # the sender id that nobody has: "anyone" in a NACK, "none" in an echo
HEADER_BYTES = 24
TAG_BYTES = 16

MAGIC = 0xF545
VERSION = 1
UNDER_TAG = 0x0E  # the flags that the tag covers
KNOWN_FLAGS = RELAYED | MORE | 0xF0  # in an open room; SEALED belongs to a key, see `sealing`
HEADER = Struct(">HBBHH8sII")
DATA_HEAD = Struct(">IB")
_DATA_HEADS = tuple([Struct(">IB" + count * "8sI") for count in range(PARENTS_MAX + 1)])
_PARENT_COUNT_AT = HEADER_BYTES + 4
_RANGE = Struct(">8sII")
_PARENT = Struct(">8sI")
NACK_HEAD = Struct(">8sB")
SESSION_HEAD = Struct(">QI8sIIBBHB")
PROBE_HEAD = Struct(">QIBBB")

REASONS = (
    "short", "magic", "version", "type", "flags", "length", "key", "tag", "body", "number",
)  # fmt: skip

LATER = ("", "unproven", "replayed")  # what a sealed room's `gate` does not take in now


def as_repair(datagram: bytes) -> bytes:
    """The same DATA, sent by anyone: flag 01 set, no copies announced."""
    return b"%b%c%b" % (datagram[:3], datagram[3] & UNDER_TAG | RELAYED, datagram[4:])


def as_copy(datagram: bytes, more: int) -> bytes:
    """The same DATA, sent by its source, with `more` unasked copies still to come."""
    return b"%b%c%b" % (datagram[:3], datagram[3] & UNDER_TAG | more << 4, datagram[4:])


def as_tagged(datagram: bytes) -> bytes:
    """The same DATA with the flags under its tag alone: neither a repair nor a copy."""
    return b"%b%c%b" % (datagram[:3], datagram[3] & UNDER_TAG, datagram[4:])


def plain_text(data: bytes) -> str:
    """The text of a datagram of a plain room, without what could harm; "" when it is none."""
    if data[:1] == b"\xf5":  # a byte that occurs in no UTF-8
        return ""
    try:
        text = data.decode().rstrip("\0\r\n")
    except UnicodeDecodeError:
        return ""
    return text if display(text) == text else ""


def _parse_data(data: bytes, end: int) -> Fields | str | None:
    """(lamport, parents as ((sender, seq), ...), name bytes, kind, text bytes)"""
    count = data[_PARENT_COUNT_AT]
    if count > PARENTS_MAX:
        return None
    lamport, _, *named = _DATA_HEADS[count].unpack_from(data, HEADER_BYTES)
    at = _PARENT_COUNT_AT + 1 + 12 * count
    name_end = at + 1 + data[at]
    if not name_end < end <= name_end + 1 + PART_BYTES_MAX:
        return None
    parents = tuple(zip(named[::2], named[1::2])) if named else ()
    for _, seq in parents:
        if seq >= SEQ_END:
            return "number"
    return lamport, parents, data[at + 1 : name_end], data[name_end], data[name_end + 1 : end]


def _parse_nack(data: bytes, end: int) -> Fields | None:
    """(to: sender id or NOBODY, ranges as raw bytes for `ranges`)"""
    to, count = NACK_HEAD.unpack_from(data, HEADER_BYTES)
    at = HEADER_BYTES + NACK_HEAD.size
    if count > NACK_RANGES_MAX or at + 16 * count != end:
        return None
    return to, data[at:end]


def _parse_session(data: bytes, end: int) -> Fields | None:
    """(digest, sent, echo sender, echo sent, echo held, ask, loss, members, name bytes,
    entries as raw bytes for `ranges`)"""
    *head, name_length = SESSION_HEAD.unpack_from(data, HEADER_BYTES)
    at = HEADER_BYTES + SESSION_HEAD.size
    name_end = at + name_length
    if name_end >= end or name_end + 1 + 16 * data[name_end] != end:
        return None
    if data[name_end] > SESSION_ENTRIES_MAX:
        return None
    return *head, data[at:name_end], data[name_end + 1 : end]


def _parse_bye(data: bytes, end: int) -> Fields | None:
    """()"""
    return () if end == HEADER_BYTES else None


def _parse_probe(data: bytes, end: int) -> Fields | None:
    """(nonce, sent, from: ASKER or DIRECTORY, index, of); zeros may follow them"""
    fields = PROBE_HEAD.unpack_from(data, HEADER_BYTES)
    at = HEADER_BYTES + PROBE_HEAD.size
    if at > end or fields[2] > DIRECTORY or data[at:end].strip(b"\0"):
        return None
    return fields


PARSERS = {  # by version and type
    VERSION << 4 | DATA: _parse_data,
    VERSION << 4 | NACK: _parse_nack,
    VERSION << 4 | SESSION: _parse_session,
    VERSION << 4 | BYE: _parse_bye,
    VERSION << 4 | PROBE: _parse_probe,
}


def ranges(raw: bytes) -> list[Range]:
    """[(sender, lo, hi), ...] of a NACK or a SESSION.

    It is not done in parsing, since most SESSIONs have an equal digest: their list is not needed.
    """
    return list(_RANGE.iter_unpack(raw))


class Codec:
    """The datagrams of one open room: its place is part of every tag."""

    __slots__ = ("_hash", "key_id")

    def __init__(self, place: str) -> None:
        """`place`: canonical "ADDRESS:PORT"."""
        self.key_id = 0  # that of an open room
        self.move(place)

    def move(self, place: str) -> None:
        """The room is at another place from now on."""
        self._hash = blake2b(place.encode() + b"\0", digest_size=TAG_BYTES)

    def tagged(self, datagram: bytes) -> bytes:
        """The same datagram with the tag of the place of now; nothing else in it changes."""
        untagged = datagram[:-TAG_BYTES]
        covered = b"%b%c%b" % (untagged[:3], untagged[3] & UNDER_TAG, untagged[4:])
        return untagged + self.tag_of(covered)

    def tag_of(self, covered: bytes) -> bytes:
        hasher = self._hash.copy()  # the place is hashed once a room, not once a datagram
        hasher.update(covered)
        return hasher.digest()

    def pack(self, kind: int, flags: int, sender: bytes, seq: int, wall: int, body: bytes) -> bytes:
        """One datagram of type `kind`. Raises LocalProtocolError when it would be too long."""
        if len(body) > DATAGRAM_BYTES_MAX - HEADER_BYTES - TAG_BYTES:
            raise LocalProtocolError(f"a body of {len(body)} bytes does not fit a datagram")
        head = HEADER.pack(
            MAGIC,
            VERSION << 4 | kind,
            flags & UNDER_TAG,
            self.key_id,
            len(body),
            sender,
            seq & 0xFFFFFFFF,
            wall & 0xFFFFFFFF,
        )
        datagram = head + body
        datagram += self.tag_of(datagram)
        return datagram if flags == flags & UNDER_TAG else as_copy(datagram, flags >> 4)

    # How a copy and a repair are made depends on what the tag covers.
    as_copy = staticmethod(as_copy)
    as_repair = staticmethod(as_repair)

    @staticmethod
    def same(one: bytes, other: bytes) -> bool:
        """Whether two datagrams with right tags are the same message."""
        return one[-TAG_BYTES:] == other[-TAG_BYTES:]

    def open(self, data: bytes, now: float = 0.0, direct: bool = False) -> Packet | str:
        """(type, flags, sender, seq, wall, fields), or the reason (of REASONS) for a drop.

        `now`, and `direct` (sent to this member alone), matter in a sealed room only: see `gate`.
        """
        end = len(data) - TAG_BYTES
        if end < HEADER_BYTES:
            return "magic" if data[:2] != b"\xf5\x45" else "short"
        magic, kind, flags, key_id, length, sender, seq, wall = HEADER.unpack_from(data)
        if magic != MAGIC:
            return "magic"
        parse = PARSERS.get(kind)
        if parse is None:
            return "version" if kind >> 4 != VERSION else "type"
        if flags & ~KNOWN_FLAGS:
            return "flags" if flags & 0x04 else "key"
        if length != end - HEADER_BYTES or end > DATAGRAM_BYTES_MAX - TAG_BYTES:
            return "length"
        if flags & ~UNDER_TAG:
            covered = b"%b%c%b" % (data[:3], flags & UNDER_TAG, data[4:end])
        else:
            covered = data[:end]
        hasher = self._hash.copy()
        hasher.update(covered)
        if hasher.digest() != data[end:] or key_id:
            return "key" if key_id else "tag"
        try:
            fields = parse(data, end)
        except (struct.error, IndexError):  # it ends before a part that it must have
            fields = None
        if not isinstance(fields, tuple):
            return fields or "body"
        if seq == SEQ_END and kind & 0x0F == DATA:
            return "number"
        return kind & 0x0F, flags, sender, seq, wall, fields


def as_ranges(keys: Iterable[tuple[bytes, int]], most: int) -> tuple[list[Range], int]:
    """(`keys`, sorted, as at most `most` ranges, how many keys these hold)."""
    found: list[Range] = []
    taken = 0
    for sender, seq in keys:
        if found and found[-1][0] == sender and found[-1][2] == seq:
            found[-1] = (sender, found[-1][1], seq + 1)
        elif len(found) < most:
            found.append((sender, seq, seq + 1))
        else:
            break
        taken += 1
    return found, taken


def data_body(
    lamport: int, parents: Sequence[tuple[bytes, int]], name: bytes, kind: int, text: bytes
) -> bytes:
    """The body of a DATA; at most PARENTS_MAX parents, PART_BYTES_MAX bytes of text."""
    if len(parents) > PARENTS_MAX or len(text) > PART_BYTES_MAX:
        raise LocalProtocolError("too many parents, or too much text for one part")
    named = b"".join([_PARENT.pack(sender, seq) for sender, seq in parents])
    head = DATA_HEAD.pack(lamport, len(parents))
    return b"%b%b%c%b%c%b" % (head, named, len(name), name, kind, text)


def _range_list(entries: Iterable[Range]) -> bytes:
    return b"".join([_RANGE.pack(sender, lo, hi) for sender, lo, hi in entries])


def nack_body(to: bytes, entries: Sequence[Range]) -> bytes:
    """The body of a NACK to one member or NOBODY (anyone); at most NACK_RANGES_MAX ranges."""
    if len(entries) > NACK_RANGES_MAX:
        raise LocalProtocolError("too many ranges for one NACK")
    return NACK_HEAD.pack(to, len(entries)) + _range_list(entries)


def session_body(
    digest: int,
    sent: int,
    echo: tuple[bytes, int, int],
    ask: int,
    loss: int,
    members: int,
    name: bytes,
    entries: Sequence[Range],
) -> bytes:
    """The body of a SESSION; `sent` and the echo's times in us (mod 2^32), loss in percent."""
    fixed = SESSION_HEAD.pack(
        digest, sent & 0xFFFFFFFF, *echo, ask, loss, min(members, 0xFFFF), len(name)
    )
    return b"%b%b%c%b" % (fixed, name, len(entries), _range_list(entries))


def probe_body(nonce: int, sent: int, origin: int, index: int, of: int, size: int) -> bytes:
    """The body of a PROBE, padded so that the datagram has `size` bytes (at least all it needs);
    `sent` in us (mod 2^32)."""
    body = PROBE_HEAD.pack(nonce, sent & 0xFFFFFFFF, origin, index, of)
    return body.ljust(size - HEADER_BYTES - TAG_BYTES, b"\0")
