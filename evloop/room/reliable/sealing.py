"""The datagrams of a sealed room: those of `packets`, authenticated and encrypted.

The header is that of an open room, with a key id that is not 0 and flag 02 set. H is the header
with flags & 0E, P the body as in an open room (that of a SESSION ends with names, see below), all
integers big-endian:

    v    = BLAKE2b-128(K_siv, H P), its first 8 bytes
    S_i  = BLAKE2b-512(K_stream, i as 4 bytes, H, v)                       i = 0, 1, 2 ...
    body = v, P xor (S_0 S_1 ...)
    tag  = BLAKE2b-128(K_tag, "ADDRESS:PORT" 00, header with flags & FE, body)

Keyed BLAKE2b (RFC 7693) is a pseudorandom function here, three times: as a synthetic nonce (the
idea of RFC 5297), as a stream in counter mode, and as a MAC over header and ciphertext (the generic
scheme N2 of Namprempre, Rogaway and Shrimpton, 2014). (H, v) is the nonce: H alone is unique as
long as sender ids are, and v saves a machine that was cloned, or counts badly. A receiver need not
check v: the tag covers it.

Of the header only flag 01 is outside the tag. So each unasked copy has a tag of its own, made by
its source, and a repair is ANY copy as it came, with flag 01 set and nothing else changed. Two
datagrams are the same message when their bytes from 4 to the tag are equal.

The body of a SESSION ends with whom its sender knows of, see `gate`:

    s u8 | m u8 | s x sender 8 (strangers) | m x sender 8 (members)           s + m <= 32

What is not ours is dropped for the first of these reasons: short, magic, direct, version, type,
flags, length, key, tag, body, number. The tag is judged before anything is decrypted.
"""

from __future__ import annotations

import struct

from evloop.base.errors import LocalProtocolError
from evloop.room.reliable.limits import DATAGRAM_BYTES_MAX, NAMES_MAX, SEQ_END, SESSION_ENTRIES_MAX
from evloop.room.reliable.packets import (
    DATA,
    HEADER,
    HEADER_BYTES,
    MAGIC,
    PARSERS,
    PROBE,
    RELAYED,
    SEALED,
    SESSION,
    SESSION_HEAD,
    TAG_BYTES,
    UNDER_TAG,
    VERSION,
    Codec,
)

try:
    from _blake2 import blake2b
except ImportError:
    from hashlib import blake2b
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from evloop.room.reliable.packets import Fields, Packet

    Header = tuple[int, int, bytes, int, int]  # (type, flags, sender, seq, wall)


def _builtin_compare() -> Callable[[bytes, bytes], bool]:
    """Compares in a time that does not depend on where the bytes differ."""
    try:  # `hmac` would load OpenSSL, for a public name of the same builtin
        from _operator import _compare_digest
    except ImportError:
        from hmac import compare_digest

        return compare_digest
    return _compare_digest


equal_bytes = _builtin_compare()

KEY_BYTES = 32  # of a room key
NONCE_BYTES = 8  # v
OVERHEAD_BYTES = HEADER_BYTES + NONCE_BYTES + TAG_BYTES
_BLOCK_BYTES = 64
_LABEL = b"evloop sealed 1"
_KNOWN = 0xFF & ~0x04  # flags
_DATA_KIND = VERSION << 4 | DATA
_BODY_AT = HEADER_BYTES + NONCE_BYTES


def room_key_of(secret: bytes, place: str) -> bytes:
    """The key of the room at `place`, canonical "ADDRESS:PORT", of its `secret` (16 or 32 bytes):
    the same secret at another place is another key."""
    salt = b"%b\0%b" % (_LABEL, place.encode())
    return blake2b(salt, digest_size=KEY_BYTES, key=secret).digest()


def subkey(room_key: bytes, use: str) -> bytes:
    """The key for one `use`: "tag", "siv" or "stream"."""
    return blake2b(use.encode(), digest_size=KEY_BYTES, key=room_key).digest()


def key_id_of(room_key: bytes) -> int:
    """The 16 bits that every datagram shows of its key; never 0, which is an open room."""
    found = blake2b(b"id", digest_size=32, key=room_key).digest()[:2]
    return int.from_bytes(found, "big") or 1


def names_tail(strangers: Sequence[bytes], members: Sequence[bytes]) -> bytes:
    """The end of a SESSION's body; LocalProtocolError: more names than fit it."""
    if len(strangers) + len(members) > NAMES_MAX:
        raise LocalProtocolError("too many names for one SESSION")
    counts = bytes((len(strangers), len(members)))
    return b"%b%b%b" % (counts, b"".join(strangers), b"".join(members))


def _parse_session(data: bytes, end: int) -> Fields | None:
    """As that of an open room, and then (..., strangers, members), both as raw bytes."""
    *head, name_length = SESSION_HEAD.unpack_from(data, HEADER_BYTES)
    at = HEADER_BYTES + SESSION_HEAD.size
    name_end = at + name_length
    if name_end >= end or data[name_end] > SESSION_ENTRIES_MAX:
        return None
    listed_end = name_end + 1 + 16 * data[name_end]
    if listed_end + 2 > end:
        return None
    strangers, members = data[listed_end], data[listed_end + 1]
    if strangers + members > NAMES_MAX or listed_end + 2 + 8 * (strangers + members) != end:
        return None
    middle = listed_end + 2 + 8 * strangers
    return (
        *head,
        data[at:name_end],
        data[name_end + 1 : listed_end],
        data[listed_end + 2 : middle],
        data[middle:end],
    )


# A PROBE is for the port beside a sealed room's, so it is no type here.
_PARSERS = {kind: parse for kind, parse in PARSERS.items() if kind & 0x0F != PROBE}
_PARSERS[VERSION << 4 | SESSION] = _parse_session


class SealedCodec(Codec):
    """The datagrams of one sealed room."""

    __slots__ = ("_first", "_siv", "_stream")

    def __init__(self, place: str, room_key: bytes) -> None:
        """`place`: canonical "ADDRESS:PORT"; `room_key`: KEY_BYTES, see `room_key_of`."""
        if len(room_key) != KEY_BYTES:
            raise LocalProtocolError("a room key has 32 bytes")
        tag_key = subkey(room_key, "tag")
        self._hash = blake2b(place.encode() + b"\0", digest_size=TAG_BYTES, key=tag_key)
        self._siv = blake2b(digest_size=16, key=subkey(room_key, "siv"))
        self._stream = blake2b(digest_size=_BLOCK_BYTES, key=subkey(room_key, "stream"))
        self._first = self._stream.copy()
        self._first.update(bytes(4))  # of S_0, by far the most frequent one
        self.key_id = key_id_of(room_key)

    # -- what does not go by with a key --------------------------------------------------------

    def move(self, place: str) -> None:
        """A key belongs to its place: LocalProtocolError."""
        raise LocalProtocolError("the key of a room belongs to its place")

    def tagged(self, datagram: bytes) -> bytes:
        """The same datagram with the tag that it ought to have."""
        covered = b"%b%c%b" % (datagram[:3], datagram[3] & ~RELAYED, datagram[4:-TAG_BYTES])
        return b"%b%b" % (datagram[:-TAG_BYTES], self.tag_of(covered))

    # -- making --------------------------------------------------------------------------------

    def masked(self, text: bytes, nonce: bytes) -> bytes:
        """`text` with the stream of `nonce`, which is H and v, laid over it."""
        length = len(text)
        hasher = self._first.copy()
        hasher.update(nonce)
        stream = hasher.digest()
        if length > _BLOCK_BYTES:
            blocks = [stream]
            for number in range(1, -(-length // _BLOCK_BYTES)):
                hasher = self._stream.copy()
                hasher.update(b"%b%b" % (number.to_bytes(4, "big"), nonce))
                blocks.append(hasher.digest())
            stream = b"".join(blocks)
        over = int.from_bytes(text, "big") ^ int.from_bytes(stream[:length], "big")
        return over.to_bytes(length, "big")

    def pack(self, kind: int, flags: int, sender: bytes, seq: int, wall: int, body: bytes) -> bytes:
        """One datagram of type `kind`; LocalProtocolError when it would be too long."""
        if len(body) > DATAGRAM_BYTES_MAX - OVERHEAD_BYTES:
            raise LocalProtocolError(f"a body of {len(body)} bytes does not fit a datagram")
        head = HEADER.pack(
            MAGIC,
            VERSION << 4 | kind,
            flags & UNDER_TAG | SEALED,
            self.key_id,
            NONCE_BYTES + len(body),
            sender,
            seq & 0xFFFFFFFF,
            wall & 0xFFFFFFFF,
        )
        hasher = self._siv.copy()
        hasher.update(head + body)
        nonce = head + hasher.digest()[:NONCE_BYTES]
        untagged = nonce + self.masked(body, nonce)
        datagram = untagged + self.tag_of(untagged)
        return self.as_copy(datagram, flags >> 4) if flags >> 4 else datagram

    def as_copy(self, datagram: bytes, more: int) -> bytes:
        """The same DATA with `more` unasked copies still to come; only its source can make it."""
        flags = datagram[3] & UNDER_TAG | more << 4
        untagged = b"%b%c%b" % (datagram[:3], flags, datagram[4:-TAG_BYTES])
        return untagged + self.tag_of(untagged)

    @staticmethod
    def as_repair(datagram: bytes) -> bytes:
        """The same DATA, sent by anyone: flag 01 set; all else is under the tag of its source."""
        return b"%b%c%b" % (datagram[:3], datagram[3] | RELAYED, datagram[4:])

    @staticmethod
    def same(one: bytes, other: bytes) -> bool:
        """Whether two datagrams with right tags are the same message."""
        return one[4:-TAG_BYTES] == other[4:-TAG_BYTES]

    # -- reading -------------------------------------------------------------------------------

    def judge(self, data: bytes, direct: bool = False) -> Header | str:
        """(type, flags, sender, seq, wall) when its tag is right, or the reason for a drop.

        `direct`: it was sent to this member alone, and so it can be nothing but a repair."""
        end = len(data) - TAG_BYTES
        if end < HEADER_BYTES:
            return "magic" if data[:2] != b"\xf5\x45" else "short"
        magic, kind, flags, key_id, length, sender, seq, wall = HEADER.unpack_from(data)
        if magic != MAGIC:
            return "magic"
        if direct and not (kind == _DATA_KIND and flags & RELAYED):
            return "direct"
        if kind not in _PARSERS:
            return "version" if kind >> 4 != VERSION else "type"
        if flags & ~_KNOWN:
            return "flags"
        if length != end - HEADER_BYTES or end > DATAGRAM_BYTES_MAX - TAG_BYTES:
            return "length"
        if key_id != self.key_id or not flags & SEALED:
            return "key"
        if flags & RELAYED:
            covered = b"%b%c%b" % (data[:3], flags & ~RELAYED, data[4:end])
        else:
            covered = data[:end]
        if not equal_bytes(self.tag_of(covered), data[end:]):
            return "tag"
        return kind & 0x0F, flags, sender, seq, wall

    def read(self, data: bytes, header: Header) -> Packet | str:
        """What `data`, of which `judge` says `header`, holds; or the reason for a drop."""
        kind, flags, _, seq, _ = header
        end = len(data) - TAG_BYTES
        if end < _BODY_AT:
            return "body"
        if flags == flags & UNDER_TAG:
            head, nonce = data[:HEADER_BYTES], data[:_BODY_AT]
        else:
            head = b"%b%c%b" % (data[:3], flags & UNDER_TAG, data[4:HEADER_BYTES])
            nonce = head + data[HEADER_BYTES:_BODY_AT]
        # With the tag behind it, as in an open room: the parsers look there before they compare.
        plain = b"%b%b%b" % (head, self.masked(data[_BODY_AT:end], nonce), data[end:])
        try:
            fields = _PARSERS[data[2]](plain, end - NONCE_BYTES)
        except (struct.error, IndexError):  # it ends before a part that it must have
            fields = None
        if not isinstance(fields, tuple):
            return fields or "body"
        if seq == SEQ_END and kind == DATA:
            return "number"
        return *header, fields

    def open(self, data: bytes, now: float = 0.0, direct: bool = False) -> Packet | str:
        """As that of an open room: (type, flags, sender, seq, wall, fields), or the reason for a
        drop. The fields of a SESSION are two more. Whether it is new is for `gate` to say."""
        header = self.judge(data, direct)
        return header if isinstance(header, str) else self.read(data, header)
