"""The floor of a client on a terminal: wait, recvfrom and write, without looking at the bytes.

reader.py PORT: every datagram to the bench's group and PORT is written to stdout as one line above
a prompt, as it came. Says "reading" first.
"""

from __future__ import annotations

import os
import select
import sys

from bench.load.chatroom import open_receiver

TAG_BYTES = 16


def main() -> None:
    receiver = open_receiver(int(sys.argv[1]))
    poller = select.epoll()
    poller.register(receiver.fileno(), select.EPOLLIN)
    os.write(1, b"reading\n")
    while True:
        poller.poll()
        data, _ = receiver.recvfrom(2048)
        os.write(1, b"\r\x1b[K" + data[24:-TAG_BYTES] + b"\nroom> ")


if __name__ == "__main__":
    main()
