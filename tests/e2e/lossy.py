"""A program to which not every datagram comes, and some come twice. It needs no root.

    python tests/e2e/lossy.py LOST TWICE SEED MODULE [ARGUMENT...]

runs `python -m MODULE ARGUMENT...` of the evloop in the current directory, whatever its version.
Of 100 datagrams LOST do not arrive and TWICE arrive a second time. At its end it tells on standard
error how many those were, so that a test can see that there was loss at all.

It takes them away at `socket.recvfrom`, by which every version of evloop reads a room, and not in a
module of evloop: modules move. Only the standard library is imported, since this file also runs
where the package `tests` is not.
"""

from __future__ import annotations

import atexit
import os
import random
import runpy
import socket
import sys
from typing import Any

TOLD = "lossy: of {all} datagrams {lost} were lost and {twice} came twice\n"


def lose(lost_percent: int, twice_percent: int, seed: int) -> None:
    """From now on every UDP socket of this process is on a bad network."""
    rng = random.Random(seed)
    receive = socket.socket.recvfrom
    again: dict[socket.socket, tuple[bytes, Any]] = {}  # what comes a second time
    counts = {"all": 0, "lost": 0, "twice": 0}

    def recvfrom(sock: socket.socket, *arguments: int) -> tuple[bytes, Any]:
        if sock.family not in (socket.AF_INET, socket.AF_INET6):
            return receive(sock, *arguments)  # the kernel's own, netlink's, comes over no network
        if sock in again:
            return again.pop(sock)
        while True:
            datagram = receive(sock, *arguments)  # BlockingIOError: there are no more
            counts["all"] += 1
            fate = rng.randrange(100)
            if fate < lost_percent:
                counts["lost"] += 1
                continue
            if fate >= 100 - twice_percent:
                counts["twice"] += 1
                again[sock] = datagram
            return datagram

    socket.socket.recvfrom = recvfrom  # type: ignore[method-assign,assignment]
    atexit.register(lambda: sys.stderr.write(TOLD.format(**counts)))


def main() -> None:
    lost, twice, seed, module, *words = sys.argv[1:]
    sys.path[0] = os.getcwd()  # as `python -m` does, instead of the folder of this file
    sys.argv = [module, *words]
    lose(int(lost), int(twice), int(seed))
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
