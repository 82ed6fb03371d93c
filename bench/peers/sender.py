"""The floor of a client that speaks: wait, read a line, sendto; it hears nothing.

sender.py PORT: every line of stdin goes to the bench's group and PORT as one datagram.
"""

from __future__ import annotations

import os
import select
import sys

from bench.load.chatroom import GROUP, open_sender

TAG = bytes(40)  # about what a DATA has around its text


def main() -> None:
    port = int(sys.argv[1])
    poller = select.epoll()
    poller.register(0, select.EPOLLIN)
    with open_sender() as sender:
        while True:
            poller.poll()
            line = os.read(0, 2048)
            if not line:
                return
            sender.sendto(TAG + line, (GROUP, port))


if __name__ == "__main__":
    main()
