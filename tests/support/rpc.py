"""The directory protocol as a stranger speaks it: a length, then one JSON-RPC object."""

from __future__ import annotations

import json
import socket
import ssl
import struct
from typing import Any

REPLY_S = 30.0


class Wire:
    """One connection; blocks, with a deadline. Independent of the code under test."""

    def __init__(
        self, port: int, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
    ) -> None:
        self.sock = socket.create_connection((host, port), timeout=REPLY_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self.sock = tls.wrap_socket(self.sock, server_hostname="localhost")
        self.notifications: list[dict[str, Any]] = []
        self._buffer = b""
        self._id = 0

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def frame(self, method: str, **params: Any) -> bytes:
        """A request as bytes, with the next id."""
        self._id += 1
        message = {"jsonrpc": "2.0", "id": self._id, "method": method, "params": params}
        payload = json.dumps(message).encode()
        return struct.pack("!I", len(payload)) + payload

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def receive(self) -> dict[str, Any] | None:
        """The next message; None when the connection has ended."""
        while True:
            if len(self._buffer) >= 4:
                (length,) = struct.unpack_from("!I", self._buffer)
                if len(self._buffer) >= 4 + length:
                    payload = self._buffer[4 : 4 + length]
                    self._buffer = self._buffer[4 + length :]
                    message: dict[str, Any] = json.loads(payload)
                    return message
            try:
                data = self.sock.recv(1 << 18)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self._buffer += data

    def reply(self) -> dict[str, Any]:
        """The next reply; notifications before it are kept."""
        while True:
            message = self.receive()
            assert message is not None, "the server closed the connection"
            if "id" in message:
                return message
            self.notifications.append(message)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The reply to one request."""
        self.send(self.frame(method, **params))
        return self.reply()

    def result(self, method: str, **params: Any) -> dict[str, Any]:
        reply = self.call(method, **params)
        assert "result" in reply, reply
        result: dict[str, Any] = reply["result"]
        return result

    def rooms(self) -> list[dict[str, Any]]:
        """The whole directory, page by page."""
        found: list[dict[str, Any]] = []
        after: dict[str, str] = {}
        while True:
            page = self.result("getdir", **after)
            found += page["rooms"]
            if page["next"] is None:
                return found
            after = {"after": page["next"]}
