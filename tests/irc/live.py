"""A directory, an IRC door and IRC clients as real processes and sockets, on loopback."""

from __future__ import annotations

import os
import select
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable

from tests.support.live import ROOT, Process
from tests.support.processes import PATIENCE_S

QUIET = {"EVLOOP_INTERFACE": "127.0.0.1"}


class DoorProcess:
    """`python3 -m evloop.client irc` and its directory. `port`: where IRC clients come in."""

    def __init__(
        self,
        *words: str,
        place: str = "127.0.0.1:0",
        server: str = "",
        before: tuple[str, ...] = (),
        options: tuple[str, ...] = (),
        environ: dict[str, str] | None = None,
    ) -> None:
        self.directory = None if server else Process("--no-announce").ready()
        if self.directory is not None:
            server = f"127.0.0.1:{self.directory.address[1]}"
        self.server = server
        self.users: list[Visitor] = []
        self.tls: ssl.SSLContext | None = None  # how its clients connect
        program = [*before, sys.executable, "-m", "evloop.client", "--server", server, *options]
        self.process = subprocess.Popen(
            [*program, "irc", place, *words],
            cwd=ROOT,
            env={**os.environ, **QUIET, **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self.process.stderr is not None
        os.set_blocking(self.process.stderr.fileno(), False)
        self.log = ""

    def ready(self) -> DoorProcess:
        """Wait until it listens."""
        self.until(lambda: "IRC clients: " in self.log)
        return self

    @property
    def place(self) -> str:
        """What it says it listens on."""
        return self.log.partition("IRC clients: ")[2].partition("\n")[0]

    @property
    def channel(self) -> str:
        """One of this door alone: the place of a room follows from its name."""
        return f"#lab-{self.server.rpartition(':')[2]}"

    @property
    def port(self) -> int:
        return int(self.place.rpartition(":")[2])

    def read_log(self) -> None:
        assert self.process.stderr is not None
        data = self.process.stderr.read()
        self.log += data.decode() if data else ""

    def until(self, what: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            self.read_log()
            if what():
                return
            assert self.process.poll() is None, f"it has ended: {self.log}"
            assert time.monotonic() < deadline, f"it never happened: {self.log}"
            assert self.process.stderr is not None
            select.select([self.process.stderr], [], [], 0.05)

    def connect(self) -> Visitor:
        sock = socket.create_connection(("127.0.0.1", self.port))
        visitor = Visitor("", self.tls.wrap_socket(sock) if self.tls is not None else sock)
        self.users.append(visitor)
        return visitor

    def user(self, nick: str, *caps: str) -> Visitor:
        """A registered client with these capabilities."""
        visitor = self.connect()
        if caps:
            visitor.say(f"CAP REQ :{' '.join(caps)}")
        visitor.say(f"NICK {nick}", f"USER {nick.lower()} 0 * :{nick} Real")
        if caps:
            visitor.say("CAP END")
        visitor.wait_for(" 376 ")
        visitor.lines.clear()
        return visitor

    def end(self, signum: int = signal.SIGTERM) -> int:
        """Signal it; its exit status."""
        self.process.send_signal(signum)
        return self.process.wait(PATIENCE_S)

    def close(self) -> None:
        for user in self.users:
            user.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_S)
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()
        if self.directory is not None:
            self.directory.close()


class Visitor:
    """One IRC client on a socket; `lines` is what came and was not taken."""

    def __init__(self, address: tuple[str, int] | str, sock: socket.socket | None = None) -> None:
        if sock is None:
            family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
            sock = socket.socket(family, socket.SOCK_STREAM)
            sock.connect(address)
        self.sock = sock
        self.lines: list[str] = []
        self.closed = False
        self._rest = b""

    def say(self, *lines: str) -> None:
        self.sock.sendall("".join([f"{line}\r\n" for line in lines]).encode())

    def read(self, patience: float) -> bool:
        """Take what comes within `patience`; whether anything did."""
        self.sock.settimeout(patience)
        try:
            data = self.sock.recv(1 << 16)
        except socket.timeout:  # which is no TimeoutError before Python 3.10
            return False
        except ConnectionResetError:
            data = b""
        self.closed |= not data
        *lines, self._rest = (self._rest + data).split(b"\r\n")
        self.lines += [line.decode() for line in lines]
        return True

    def wait_for(self, part: str, patience: float = PATIENCE_S) -> str:
        """The first line with `part` in it; those up to it are taken."""
        deadline = time.monotonic() + patience
        while True:
            for at, line in enumerate(self.lines):
                if part in line:
                    del self.lines[: at + 1]
                    return line
            assert not self.closed, f"closed; {self.lines}"
            left = deadline - time.monotonic()
            assert left > 0 and self.read(left), f"no {part!r} came; {self.lines}"

    def up_to(self, part: str) -> list[str]:
        """All lines up to the first with `part` in it; they are taken."""
        deadline = time.monotonic() + PATIENCE_S
        while not any(part in line for line in self.lines):
            assert not self.closed and time.monotonic() < deadline, self.lines
            self.read(PATIENCE_S)
        at = next(at for at, line in enumerate(self.lines) if part in line) + 1
        lines, self.lines = self.lines[:at], self.lines[at:]
        return lines

    def until_closed(self) -> list[str]:
        """All that comes until the door closes the connection."""
        deadline = time.monotonic() + PATIENCE_S
        while not self.closed:
            assert time.monotonic() < deadline
            self.read(PATIENCE_S)
        return self.lines

    def all_so_far(self) -> list[str]:
        """What came up to an answer to a PING of now."""
        mark = f"mark{time.monotonic_ns()}"
        self.say(f"PING {mark}")
        return self.up_to(mark)[:-1]

    def join(self, channel: str) -> list[str]:
        """Enter a channel; what came up to the end of its names."""
        self.say(f"JOIN {channel}")
        return self.up_to(" 366 ")

    def close(self) -> None:
        self.sock.close()
