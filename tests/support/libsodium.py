"""Sealed datagrams a second time, by libsodium's BLAKE2b and from the document alone.

It shares no line with `evloop.room.reliable.sealing`: what the two disagree on is a bug in one of
them, or a sentence of docs/sealed.md that can be read in two ways. `bindings` is nacl.bindings
(PyNaCl), handed in, since it may be missing.
"""

from __future__ import annotations

from itertools import count
from typing import Any


class Sodium:
    """One room's keys, and its datagrams."""

    def __init__(self, bindings: Any, room_key: bytes, place: str) -> None:
        self._bindings = bindings
        self.place = place
        self.subkeys = {
            use: self.blake2b(use.encode(), 32, room_key) for use in ("tag", "siv", "stream", "id")
        }
        self.key_id = self.subkeys["id"][:2]
        if self.key_id == bytes(2):
            self.key_id = b"\0\1"

    def blake2b(self, message: bytes, length: int, key: bytes = b"") -> bytes:
        digest: bytes = self._bindings.crypto_generichash_blake2b_salt_personal(
            message, digest_size=length, key=key, salt=b"", person=b""
        )
        return digest

    def _stream(self, header: bytes, nonce: bytes, length: int) -> bytes:
        stream = b""
        for number in count():
            if len(stream) >= length:
                return stream[:length]
            block = number.to_bytes(4, "big") + header + nonce
            stream += self.blake2b(block, 64, self.subkeys["stream"])
        raise AssertionError

    def _tag(self, datagram: bytes) -> bytes:
        header = bytearray(datagram[:24])
        header[3] &= 0xFE
        covered = self.place.encode() + b"\0" + bytes(header) + datagram[24:]
        return self.blake2b(covered, 16, self.subkeys["tag"])

    def seal(
        self, kind: int, flags: int, sender: bytes, seq: int, wall: int, plain: bytes
    ) -> bytes:
        header = b"\xf5\x45" + bytes([0x10 | kind, flags & 0x0E | 0x02]) + self.key_id
        header += (8 + len(plain)).to_bytes(2, "big") + sender
        header += seq.to_bytes(4, "big") + wall.to_bytes(4, "big")
        nonce = self.blake2b(header + plain, 16, self.subkeys["siv"])[:8]
        stream = self._stream(header, nonce, len(plain))
        body = bytes(a ^ b for a, b in zip(plain, stream))
        datagram = header[:3] + bytes([flags | 0x02]) + header[4:] + nonce + body
        return datagram + self._tag(datagram)

    def open(self, datagram: bytes) -> bytes | None:
        """The plain body, or None."""
        if datagram[:2] != b"\xf5\x45" or datagram[4:6] != self.key_id or not datagram[3] & 2:
            return None
        if self._tag(datagram[:-16]) != datagram[-16:]:
            return None
        header = datagram[:3] + bytes([datagram[3] & 0x0E]) + datagram[4:24]
        sealed = datagram[32:-16]
        stream = self._stream(header, datagram[24:32], len(sealed))
        return bytes(a ^ b for a, b in zip(sealed, stream))
