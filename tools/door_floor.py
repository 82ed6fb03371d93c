"""The system calls of an IRC door with two members, and no work: the floor of `tools.door_cost`.

What its first client sends goes to a multicast group on loopback; each of two sockets in the group
hears it, and what the second one hears is sent to all other clients.
"""

from __future__ import annotations

import os
import select
import socket
import sys

GROUP, HOST = "239.255.113.42", "127.0.0.1"
LINE_BYTES = 120  # about what the door makes of the line that `door_cost` says
READ_BYTES = 65_536


def receiver(port: int) -> socket.socket:
    """One in the group; port 0: of any port."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((GROUP, port))
    member = socket.inet_aton(GROUP) + socket.inet_aton(HOST)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
    return sock


def main() -> int:
    """Serve until stdin ends."""
    listener = socket.create_server((HOST, 0))
    heard = [receiver(0)]
    heard.append(receiver(heard[0].getsockname()[1]))
    group = heard[0].getsockname()
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(HOST))
    print(listener.getsockname()[1], flush=True)
    clients: list[socket.socket] = []
    poller = select.epoll()
    for fd in (0, listener.fileno(), *[one.fileno() for one in heard]):
        poller.register(fd, select.EPOLLIN)
    line = b"x" * LINE_BYTES + b"\r\n"
    while True:
        for fd, _ in poller.poll():
            if fd == listener.fileno():
                clients.append(listener.accept()[0])
                poller.register(clients[-1].fileno(), select.EPOLLIN)
            elif fd == heard[0].fileno():
                heard[0].recv(READ_BYTES)
            elif fd == heard[1].fileno():
                heard[1].recv(READ_BYTES)
                for client in clients[1:]:
                    client.send(line)
            elif fd == 0:
                if not os.read(0, 1):
                    return 0
            else:
                said = clients[0].recv(READ_BYTES)
                if not said:
                    return 0
                sender.sendto(said, group)


if __name__ == "__main__":
    sys.exit(main())
