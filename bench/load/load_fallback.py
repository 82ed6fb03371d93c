"""The load generator where there is no C compiler: the same options and figures, on selectors.

It is the limit of what it measures: requests per second and latencies are its own before they are
the server's. CPU per request of the server stays a fair figure.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import sys
import time

CLOCK_CPU = 2  # see bench/harness/machine.py
READ_SIZE = 65_536


class Connection:
    """One client: requests out, replies in, when each was asked."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.socket = socket.create_connection(("127.0.0.1", load.options.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.asked: list[float] = []

    def ask(self, most: int) -> None:
        load = self.load
        requests = []
        while len(self.asked) < most and load.may_ask():
            requests.append(load.request())
            self.asked.append(time.perf_counter())
        if requests:
            self.socket.sendall(b"".join(requests))

    def read(self) -> int:
        """Take what has come; how many replies that were."""
        data = self.socket.recv(READ_SIZE)
        if not data:
            raise SystemExit("load: the server closed a connection")
        buffer, start = self.buffer + data, 0
        now = time.perf_counter()
        replies = 0
        while len(buffer) - start >= 4:
            end = start + 4 + int.from_bytes(buffer[start : start + 4], "big")
            if end > len(buffer):
                break
            self.load.take(buffer[start + 4 : end], now - self.asked.pop(0))
            start = end
            replies += 1
        self.buffer = buffer[start:]
        return replies


class Load:
    """All connections, and what was counted."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        with open(options.request, "rb") as file:
            payload = file.read()
        self.frame = len(payload).to_bytes(4, "big") + payload
        self.expected = None
        if options.expect:
            with open(options.expect, "rb") as file:
                self.expected = file.read()
        self.number = options.counter_from
        self.started = self.wrong = 0
        self.waits: list[float] = []
        self.bytes_in = 0

    def may_ask(self) -> bool:
        return not self.options.count or self.started < self.options.count

    def request(self) -> bytes:
        self.started += 1
        if self.options.counter < 0:
            return self.frame
        at = 4 + self.options.counter
        self.number += 1
        return self.frame[:at] + b"%08d" % (self.number - 1) + self.frame[at + 8 :]

    def take(self, payload: bytes, took: float) -> None:
        self.waits.append(took)
        self.bytes_in += 4 + len(payload)
        if self.expected is not None:
            self.wrong += payload != self.expected
        else:
            self.wrong += b'"result"' not in payload or b'"error"' in payload

    def run(self, connections: list[Connection], seconds: float) -> None:
        deadline = time.perf_counter() + seconds
        options = self.options
        pace = options.pace_us / 1e6
        due = time.perf_counter()
        with selectors.DefaultSelector() as selector:
            for connection in connections:
                selector.register(connection.socket, selectors.EVENT_READ, connection)
                if not pace:
                    connection.ask(options.depth)
            while (now := time.perf_counter()) < deadline:
                if options.count and len(self.waits) >= options.count:
                    break
                if pace and now >= due:
                    due += pace
                    for connection in connections:
                        connection.ask(len(connection.asked) + 1)
                wait = min(deadline, due) - now if pace else deadline - now
                for key, _ in selector.select(max(0.0, wait)):
                    if key.data.read() and not pace:
                        key.data.ask(options.depth)

    def finish(self, connections: list[Connection]) -> None:
        """Wait for what is in flight."""
        for connection in connections:
            while connection.asked:
                connection.read()

    def percentile_us(self, share: float) -> float:
        ordered = sorted(self.waits)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)] * 1e6 if ordered else 0.0


def main() -> int:
    parser = argparse.ArgumentParser()
    for name, kind, default in (
        ("port", int, 0),
        ("connections", int, 1),
        ("depth", int, 1),
        ("seconds", float, 1.0),
        ("warmup", float, 0.2),
        ("count", int, 0),
        ("pace-us", int, 0),
        ("request", str, ""),
        ("expect", str, ""),
        ("counter", int, -1),
        ("counter-from", int, 0),
    ):
        parser.add_argument(f"--{name}", type=kind, default=default)
    parser.add_argument("--cpu-of", type=int, action="append", default=[])
    parser.add_argument("--hold", action="store_true")
    options = parser.parse_args()
    load = Load(options)
    connections = []
    for _ in range(options.connections):
        connection = Connection(load)
        connections.append(connection)
        connection.ask(1)
        load.finish([connection])
    if options.hold:
        print("held", flush=True)
        sys.stdin.read()
        return 0
    load.started = 0
    if not options.count and options.warmup:
        load.run(connections, options.warmup)
        load.finish(connections)
    load.waits, load.bytes_in = [], 0

    def server_cpu() -> int:
        return sum(time.clock_gettime_ns((~pid << 3) | CLOCK_CPU) for pid in options.cpu_of)

    begin, cpu, own = time.perf_counter(), server_cpu(), time.process_time_ns()
    load.run(connections, options.seconds)
    seconds = time.perf_counter() - begin
    cpu, own = server_cpu() - cpu, time.process_time_ns() - own
    whole = not options.count or len(load.waits) >= options.count
    figures = {
        "requests": len(load.waits),
        "seconds": seconds,
        "wrong": load.wrong,
        "whole": whole,
        "bytes_in": load.bytes_in,
        "server_cpu_ns": cpu,
        "load_cpu_ns": own,
        "p50_us": load.percentile_us(0.5),
        "p90_us": load.percentile_us(0.9),
        "p99_us": load.percentile_us(0.99),
        "p999_us": load.percentile_us(0.999),
        "max_us": max(load.waits, default=0.0) * 1e6,
    }
    load.finish(connections)
    print(json.dumps(figures))
    return int(bool(load.wrong) or not whole)


if __name__ == "__main__":
    sys.exit(main())
