"""The peer on asyncio's Protocol, or with `--uvloop` on uvloop: callbacks, one write per read.

The buffer is scanned by offset and cut once, and all replies to one read leave in one write: the
two techniques that matter most on any event loop.
"""

from __future__ import annotations

import asyncio
import importlib
import socket
import sys
from typing import cast

from bench.peers.rpc import PAYLOAD_MAX, Service, say_listening, service_from_arguments


class Connection(asyncio.Protocol):
    """One client: frames in, replies out."""

    __slots__ = ("_buffer", "_reply_to", "_transport")

    _transport: asyncio.Transport

    def __init__(self, service: Service) -> None:
        self._buffer = b""
        self._reply_to = service.reply_to

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        start, size = 0, len(buffer)
        replies = []
        while size - start >= 4:
            length = int.from_bytes(buffer[start : start + 4], "big")
            if length > PAYLOAD_MAX:
                self._transport.close()
                break
            end = start + 4 + length
            if end > size:
                break
            replies.append(self._reply_to(buffer[start + 4 : end]))
            start = end
        self._buffer = buffer[start:]
        if len(replies) == 1:
            self._transport.write(replies[0])
        elif replies:
            self._transport.write(b"".join(replies))


async def main() -> None:
    service = service_from_arguments()
    loop = asyncio.get_running_loop()
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    server = await loop.create_server(lambda: Connection(service), sock=listener, backlog=4096)
    say_listening(listener.getsockname()[1])
    await server.serve_forever()


if __name__ == "__main__":
    if "--uvloop" in sys.argv:
        importlib.import_module("uvloop").install()
    asyncio.run(main())
