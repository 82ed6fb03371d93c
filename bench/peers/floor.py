"""The floor of Python: poll, recv and send, without looking at the bytes.

floor.py REQUEST_BYTES REPLY_FILE: as many replies as whole requests fit the bytes that came. No
server in this interpreter can be faster.
"""

from __future__ import annotations

import select
import socket
import sys
from collections.abc import Callable

from bench.peers.rpc import say_listening

Recv = Callable[[int], bytes]
Send = Callable[[bytes], None]


def main() -> None:
    size = int(sys.argv[1])
    with open(sys.argv[2], "rb") as file:
        payload = file.read()
    reply = len(payload).to_bytes(4, "big") + payload
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    accepting = listener.fileno()
    poller = select.epoll()
    poller.register(accepting, select.EPOLLIN)
    clients: dict[int, tuple[socket.socket, Recv, Send]] = {}
    say_listening(listener.getsockname()[1])
    poll = poller.poll
    while True:
        for descriptor, _ in poll():
            if descriptor == accepting:
                client = listener.accept()[0]
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                clients[client.fileno()] = (client, client.recv, client.sendall)
                poller.register(client, select.EPOLLIN)
                continue
            client, recv, send = clients[descriptor]
            try:
                data = recv(65_536)
                if data:
                    send(reply * (len(data) // size))
                    continue
            except ConnectionError:
                pass  # gone with replies unread: the same as gone
            poller.unregister(descriptor)
            del clients[descriptor]
            client.close()


if __name__ == "__main__":
    main()
