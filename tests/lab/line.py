"""A long line for TCP: run in a namespace, where there is no netem.

    python3 -m tests.lab.line DELAY_MS[@BYTES_PER_S] LISTEN TARGET [LISTEN TARGET ...]

LISTEN and TARGET are HOST:PORT. Every byte takes DELAY_MS, each way, and of each connection no more
than BYTES_PER_S come in a second: what is more waits at who sends it. A line "stall" on stdin holds
up everything that is on the way, "go" lets it through; the end of stdin ends the program.
"""

from __future__ import annotations

import selectors
import socket
import sys
import time
from collections import deque
from typing import Any

READ_BYTES = 65_536
QUEUE_BYTES_MAX = 8 << 20  # on the way; then no more is read
SLOW_READ_BYTES = 500  # of a line with a rate: pieces small enough to come evenly
SLOW_BUFFER_BYTES = 4_096  # that the kernel takes for it, so that who sends notices


class Way:
    """What goes from one socket to another."""

    def __init__(self, source: socket.socket, sink: socket.socket, rate: float = 0.0) -> None:
        self.source, self.sink = source, sink
        self.rate = rate  # bytes a second; 0: no bound
        self.free_at = 0.0  # when all that was read before has come, without the delay
        self.queue: deque[tuple[float, bytes]] = deque()  # (when it arrives, bytes; b"": the end)
        self.waiting = 0
        self.reading = True
        self.over = False

    @property
    def full(self) -> bool:
        """Whether no more is to be read for now."""
        return self.waiting >= (SLOW_READ_BYTES if self.rate else QUEUE_BYTES_MAX)

    def read(self, now: float, delay_s: float) -> None:
        try:
            data = self.source.recv(SLOW_READ_BYTES if self.rate else READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self.reading = bool(data)
        self.waiting += len(data)
        self.free_at = max(now, self.free_at) + (len(data) / self.rate if self.rate else 0.0)
        self.queue.append((self.free_at + delay_s, data))

    def write(self, now: float) -> None:
        """Hand over what has arrived."""
        while self.queue and self.queue[0][0] <= now and not self.over:
            when, data = self.queue.popleft()
            try:
                if not data:
                    self.over = True
                    self.sink.shutdown(socket.SHUT_WR)
                    return
                sent = self.sink.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.over = True
                self.reading = False
                return
            self.waiting -= sent
            if sent < len(data):
                self.queue.appendleft((when, data[sent:]))
                return


class Line:
    """All connections over one line."""

    def __init__(self, delay_s: float, rate: float = 0.0) -> None:
        self.delay_s = delay_s
        self.rate = rate
        self.stalled = False
        self.listeners: dict[socket.socket, tuple[str, int]] = {}
        self.ways: list[Way] = []

    def listen(self, place: tuple[str, int], target: tuple[str, int]) -> None:
        listener = socket.create_server(place)
        listener.setblocking(False)
        self.listeners[listener] = target

    def accept(self, listener: socket.socket) -> None:
        near, _ = listener.accept()
        far = socket.socket()
        for sock in (near, far) if self.rate else ():
            for buffer in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                sock.setsockopt(socket.SOL_SOCKET, buffer, SLOW_BUFFER_BYTES)
        try:
            far.settimeout(1.0)
            far.connect(self.listeners[listener])
        except OSError:
            near.close()
            far.close()
            return
        for sock in (near, far):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.ways += [Way(near, far, self.rate), Way(far, near, self.rate)]

    def step(self) -> bool:
        """Wait for something, and act on it; False when stdin has ended."""
        with selectors.DefaultSelector() as selector:
            what: dict[socket.socket, Way | None] = dict.fromkeys(self.listeners)
            what.update((way.source, way) for way in self.ways if way.reading and not way.full)
            for sock in what:
                selector.register(sock, selectors.EVENT_READ)
            selector.register(sys.stdin, selectors.EVENT_READ)
            ready: list[Any] = [key.fileobj for key, _ in selector.select(self._patience())]
        now = time.monotonic()
        for one in ready:
            if one is sys.stdin:
                word = sys.stdin.readline()
                if not word:
                    return False
                self.stalled = word == "stall\n"
                print(word, end="", flush=True)
            elif one in self.listeners:
                self.accept(one)
            else:
                way = what[one]
                assert way is not None
                way.read(now, self.delay_s)
        if not self.stalled:
            for way in self.ways:
                way.write(time.monotonic())
        self._sweep()
        return True

    def _patience(self) -> float:
        if self.stalled:
            return 1.0
        first = min((way.queue[0][0] for way in self.ways if way.queue), default=float("inf"))
        return min(1.0, max(0.001, first - time.monotonic()))

    def _sweep(self) -> None:
        """Close connections of which both ways are over."""
        over = {way.source for way in self.ways if way.over and not way.queue}
        for way in self.ways:
            if way.source in over and way.sink in over:
                way.source.close()
        self.ways = [way for way in self.ways if way.source.fileno() >= 0]


def place_of(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def main() -> None:
    delay, _, rate = sys.argv[1].partition("@")
    line = Line(float(delay) / 1000, float(rate or 0))
    for listen, target in zip(sys.argv[2::2], sys.argv[3::2]):
        line.listen(place_of(listen), place_of(target))
    print("ready", flush=True)
    while line.step():
        pass


if __name__ == "__main__":
    main()
