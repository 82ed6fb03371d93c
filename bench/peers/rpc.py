"""The work that every Python peer does for a request: a small, honest directory in memory.

It does what directory-protocol.md asks of a request (UTF-8, duplicate keys, NaN, the members of the
request, the id, unknown params) and answers with bytes: a reply is formatted around an encoded id,
and a page joins rooms that were encoded once. So the peers have the same tricks as evloop for the
work itself, and what is compared is the machinery around it.
"""

from __future__ import annotations

import argparse
import bisect
import json
import sys
from json.encoder import encode_basestring_ascii
from typing import Any

PAGE_MAX = 500
PAYLOAD_MAX = 65_536
MEMBERS = frozenset(("jsonrpc", "id", "method", "params"))


class Refused(Exception):
    """A request that is answered with an error: (code, sentence)."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate key")
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


_decode = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant).decode


def room_bytes(name: str, address: str, port: int) -> bytes:
    """One ROOM of the protocol, encoded."""
    return json.dumps(
        {
            "name": name,
            "address": address,
            "port": port,
            "mode": "reliable",
            "members": 0,
            "made": 1795348801,
        },
        separators=(",", ":"),
    ).encode()


class Directory:
    """Rooms by folded name; each encoded when it is made."""

    def __init__(self, rooms: int, *, reencode: bool = False) -> None:
        self.version = 1795348801
        self.names = [f"r{number:08d}" for number in range(rooms)]
        self.encoded = [room_bytes(name, *place(i)) for i, name in enumerate(self.names)]
        self.reencode = reencode

    def page(self, after: str, limit: int) -> bytes:
        start = bisect.bisect_right(self.names, after) if after else 0
        end = min(start + limit, len(self.names))
        if self.reencode:
            names = self.names
            chosen = [room_bytes(names[i], *place(i)) for i in range(start, end)]
        else:
            chosen = self.encoded[start:end]
        last = b'"%b"' % self.names[end - 1].encode() if end < len(self.names) else b"null"
        return b'{"version":%d,"rooms":[%b],"next":%b}' % (
            self.version,
            b",".join(chosen),
            last,
        )

    def make(self, params: dict[str, Any]) -> bytes:
        name = params.get("name")
        if not isinstance(name, str) or not name:
            raise Refused(-32602, "name must be a text")
        at = bisect.bisect_left(self.names, name)
        if at < len(self.names) and self.names[at] == name:
            raise Refused(1, f"room {name} exists already")
        room = room_bytes(name, *place(len(self.names)))
        self.names.insert(at, name)
        self.encoded.insert(at, room)
        self.version += 1
        return b'{"version":%d,"room":%b}' % (self.version, room)


def place(number: int) -> tuple[str, int]:
    """The address of room `number`: 239.255.1.0 on, 16,000 ports each."""
    return f"239.255.{1 + number // 16_000}.7", 49_152 + number % 16_000


class Service:
    """Requests in, replies out; shared by all connections of a server."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._methods = {"ping": self._ping, "getdir": self._getdir, "makeroom": directory.make}

    def reply_to(self, payload: bytes) -> bytes:
        """The whole frame that answers `payload` (empty for a notification)."""
        try:
            request = _decode(payload.decode())
        except (ValueError, RecursionError):
            return _error(b"null", -32700, "not acceptable JSON")
        if (
            type(request) is not dict
            or not MEMBERS.issuperset(request)
            or request.get("jsonrpc") != "2.0"
            or type(method := request.get("method")) is not str
            or type(params := request.get("params", {})) is not dict
        ):
            return _error(b"null", -32600, "not a request")
        tag: Any = request.get("id")
        kind = type(tag)
        if kind is int and -(2**53) < tag < 2**53:
            mark = b"%d" % tag
        elif isinstance(tag, str) and len(tag) <= 64:
            mark = encode_basestring_ascii(tag).encode()
        elif "id" in request:
            return _error(b"null", -32600, "not an id")
        else:
            mark = b""
        handler = self._methods.get(method)
        if handler is None:
            return _error(mark, -32601, "no such method") if mark else b""
        try:
            result = handler(params)
        except Refused as refused:
            return _error(mark, *refused.args) if mark else b""
        if not mark:
            return b""
        reply = b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (mark, result)
        return len(reply).to_bytes(4, "big") + reply

    @staticmethod
    def _ping(params: dict[str, Any]) -> bytes:
        if params:
            raise Refused(-32602, "ping takes nothing")
        return b"{}"

    def _getdir(self, params: dict[str, Any]) -> bytes:
        after, limit = "", PAGE_MAX
        for key, value in params.items():
            if key == "limit" and type(value) is int and 1 <= value <= PAGE_MAX:
                limit = value
            elif key == "after" and type(value) is str:
                after = value.casefold()
            else:
                raise Refused(-32602, f"bad {key}")
        return self._directory.page(after, limit)


def _error(mark: bytes, code: int, sentence: str) -> bytes:
    reply = b'{"jsonrpc":"2.0","id":%b,"error":{"code":%d,"message":"%b"}}' % (
        mark,
        code,
        sentence.encode(),
    )
    return len(reply).to_bytes(4, "big") + reply


def service_from_arguments() -> Service:
    """What `--rooms N [--reencode]` on the command line of a peer asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rooms", type=int, default=0)
    parser.add_argument("--reencode", action="store_true", help="encode each room for each page")
    options, _ = parser.parse_known_args()
    return Service(Directory(options.rooms, reencode=options.reencode))


def say_listening(port: int) -> None:
    """The line that the bench waits for, the same as evloop.server's."""
    print(f"peer: listening on 127.0.0.1:{port}", file=sys.stderr, flush=True)
