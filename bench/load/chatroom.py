"""A multicast room on loopback, seen from outside: listening sockets, real clients, a terminal.

Everything is pinned to 127.0.0.1: membership and sending. Nothing leaves the machine.
"""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import termios
import time

from bench.harness import machine
from bench.harness.common import Context
from bench.harness.processes import (
    ROOT,
    Failed,
    end,
    environment,
    pinned,
)

GROUP = "239.255.77.1"
LOOPBACK = "127.0.0.1"
MULTICAST_ALL = 49
PROMPT = b"evloop> "
_ports = iter(range(45_000 + os.getpid() % 3_000, 65_000))


def next_port() -> int:
    """A room of its own for each measurement."""
    return next(_ports)


def open_receiver(port: int, buffer_bytes: int = 0, group: str = GROUP) -> socket.socket:
    """A member's receiving socket."""
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if buffer_bytes:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    receiver.bind((group, port))
    request = socket.inet_aton(group) + socket.inet_aton(LOOPBACK) + struct.pack("=i", 0)
    receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
    receiver.setsockopt(socket.IPPROTO_IP, MULTICAST_ALL, 0)
    receiver.setblocking(False)
    return receiver


def open_sender() -> socket.socket:
    """A socket that sends to groups over loopback."""
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(LOOPBACK))
    return sender


class Listeners:
    """`count` sockets in one room, read by us; a context manager."""

    def __init__(self, count: int, port: int | None = None) -> None:
        self.port = next_port() if port is None else port
        self._sockets = [open_receiver(self.port) for _ in range(count)]
        self._poller = select.epoll()
        self._by_descriptor = {s.fileno(): s for s in self._sockets}
        for descriptor in self._by_descriptor:
            self._poller.register(descriptor, select.EPOLLIN)

    def __enter__(self) -> Listeners:
        return self

    def __exit__(self, *_: object) -> None:
        self._poller.close()
        for receiver in self._sockets:
            receiver.close()

    def drain(self, needle: bytes = b"") -> int:
        """Read all that is there; how many datagrams held `needle`."""
        found = 0
        while events := self._poller.poll(0):
            for descriptor, _ in events:
                receiver = self._by_descriptor[descriptor]
                try:
                    while True:
                        found += needle in receiver.recv(2048)
                except BlockingIOError:
                    pass  # this one is empty: the next
        return found


def sockets_at(port: int) -> list[list[str]]:
    """The lines of /proc/net/udp of sockets bound to `port`, split; the last field is `drops`."""
    with open("/proc/net/udp") as file:
        rows = [line.split() for line in file.readlines()[1:]]
    return [row for row in rows if int(row[1].split(":")[1], 16) == port]


def drops_of(pid: int, port: int) -> int:
    """Datagrams that the kernel dropped at the sockets of `pid` bound to `port`."""
    own = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            own.add(os.readlink(f"/proc/{pid}/fd/{name}"))
        except FileNotFoundError:
            pass  # closed since the listing
    return sum(int(row[-1]) for row in sockets_at(port) if f"socket:[{row[9]}]" in own)


class EvloopMember:
    """A real client in a room without a directory; its stdin is a pipe or (`terminal`) a pty."""

    def __init__(
        self,
        context: Context,
        name: str,
        *,
        port: int | None = None,
        core: int | None = None,
        terminal: bool = False,
        wait: bool = True,
    ) -> None:
        self.port = next_port() if port is None else port
        place = f"{GROUP}:{self.port}"
        command = [context.python, "-S", "-m", "evloop.client", "--name", name]
        before = len(sockets_at(self.port))
        self._terminal = Terminal(command, core=core) if terminal else None
        if self._terminal is not None:
            self.process = self._terminal.process
        else:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=ROOT,
                env=environment(),
                preexec_fn=pinned(machine.cores()[0] if core is None else core),  # noqa: PLW1509
            )
        if self._terminal is not None:
            self._terminal.expect(PROMPT, 10)
        self.say(f"chat {place}")
        if wait:
            self.wait_joined(before + 1)

    def wait_joined(self, sockets: int, at_most_s: float = 10.0) -> None:
        """Until that many sockets are in the room."""
        deadline = time.monotonic() + at_most_s
        while len(sockets_at(self.port)) < sockets:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.__exit__(None, None, None)
                status = self.process.returncode
                raise Failed(f"evloop.client did not enter the room (exit status {status})")
            time.sleep(0.02)

    @property
    def pid(self) -> int:
        return self.process.pid

    def say(self, text: str) -> None:
        if self._terminal is not None:
            self._terminal.write(text.encode() + b"\r")
        else:
            assert self.process.stdin is not None
            self.process.stdin.write(text.encode() + b"\n")
            self.process.stdin.flush()

    @property
    def terminal(self) -> Terminal:
        """The terminal of a member that was given one."""
        assert self._terminal is not None
        return self._terminal

    def __enter__(self) -> EvloopMember:
        return self

    def __exit__(self, *_: object) -> None:
        if self._terminal is not None:
            self._terminal.close()
        else:
            end(self.process)


class Terminal:
    """A program on a pty of 80 x 24; a context manager."""

    def __init__(self, command: list[str], core: int | None = None) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
        pin = pinned(machine.cores()[0] if core is None else core)

        def prepare() -> None:
            pin()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # ours now: job control asks who owns it

        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=ROOT,
            env=environment({"TERM": "xterm-256color"}),
            preexec_fn=prepare,  # noqa: PLW1509
            start_new_session=True,
        )
        os.close(slave)
        self.seen = b""

    def write(self, data: bytes) -> None:
        os.write(self._master, data)

    def read(self, wait_s: float) -> bytes:
        """What comes within `wait_s`; empty when nothing does or the program has ended."""
        ready, _, _ = select.select([self._master], [], [], wait_s)
        if not ready:
            return b""
        try:
            data = os.read(self._master, 65_536)
        except OSError:  # EIO: the other side has closed
            data = b""
        self.seen += data
        return data

    def expect(self, text: bytes, at_most_s: float) -> None:
        """Read until `text` was seen."""
        deadline = time.monotonic() + at_most_s
        while text not in self.seen:
            left = deadline - time.monotonic()
            if left <= 0 or (not self.read(left) and self.process.poll() is not None):
                raise Failed(f"no {text!r} in {self.seen[-200:]!r}")

    def look(self, wait_s: float) -> None:
        """Read for `wait_s`."""
        deadline = time.monotonic() + wait_s
        while True:
            left = deadline - time.monotonic()
            self.read(max(0.0, left))
            if left <= 0:
                return

    def drawn(self) -> bytes:
        """All that was drawn and read since the last call."""
        seen, self.seen = self.seen, b""
        return seen

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(3)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        os.close(self._master)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
