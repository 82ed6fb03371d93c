"""The floor of a silent member: wait and recvfrom, without looking at the bytes.

listener.py GROUP PORT: runs until it is killed; says "listening" first. As many of these as a
crowd has members show what no member in this Python can be cheaper than.
"""

from __future__ import annotations

import os
import select
import sys

from bench.load.chatroom import open_receiver

BURST = 64  # as a client: that many datagrams at one wake-up


def main() -> None:
    receiver = open_receiver(int(sys.argv[2]), 4 << 20, sys.argv[1])
    poller = select.epoll()
    poller.register(receiver.fileno(), select.EPOLLIN)
    os.write(1, b"listening\n")
    while True:
        poller.poll()
        try:
            for _ in range(BURST):
                receiver.recvfrom(2048)
        except BlockingIOError:
            pass


if __name__ == "__main__":
    main()
