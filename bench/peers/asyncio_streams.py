"""The peer on asyncio streams: a coroutine for each connection, as the documentation shows it."""

from __future__ import annotations

import asyncio
import socket

from bench.peers.rpc import PAYLOAD_MAX, say_listening, service_from_arguments


async def main() -> None:
    reply_to = service_from_arguments().reply_to

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                length = int.from_bytes(await reader.readexactly(4), "big")
                if length > PAYLOAD_MAX:
                    break
                writer.write(reply_to(await reader.readexactly(length)))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has gone, which ends its coroutine and nothing else
        finally:
            writer.close()

    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    server = await asyncio.start_server(serve, sock=listener, backlog=4096)
    say_listening(listener.getsockname()[1])
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
