"""A whole server for tests: in this process with a clock that can skip, or as a process."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evloop.daemon.options import parse_options
from evloop.daemon.server import Server
from evloop.framing import FrameDecoder, pack_frame
from evloop.system.log import INFO, Log
from evloop.system.loop import Loop
from tests.support.processes import PATIENCE_S

ROOT = Path(__file__).parents[2]


class Caller:
    """A simple client: sends frames, and keeps what comes back."""

    def __init__(self, address: tuple[str, int], source: str | None = None) -> None:
        self.sock = socket.socket()
        if source is not None:
            self.sock.bind((source, 0))
        try:
            self.sock.connect(address)
        except OSError:
            self.sock.close()
            raise
        self.sock.setblocking(False)
        self.decoder = FrameDecoder()
        self.got: list[dict[str, Any]] = []
        self.relayed: list[bytes] = []  # payloads of the relay, which are no JSON
        self.closed = False  # the server has ended it
        self.reset = False
        self.last_id = 0

    def send(self, data: bytes) -> int:
        """As much as the kernel takes."""
        try:
            return self.sock.send(data)
        except BlockingIOError:
            return 0
        except (BrokenPipeError, ConnectionResetError):
            self.closed = True
            return 0

    def ask(self, method: str, **params: Any) -> int:
        """Send a request; return its id."""
        self.last_id += 1
        self.send(request(method, self.last_id, params))
        return self.last_id

    def read(self) -> bool:
        """Take what has come; return whether the server has closed."""
        while not self.closed:
            try:
                data = self.sock.recv(1 << 18)
            except BlockingIOError:
                break
            except ConnectionResetError:
                self.closed = self.reset = True
                break
            if not data:
                self.closed = True
            self.take(data)
        while (frame := self.decoder.next_frame()) is not None:
            if frame[:1] == b"\xf5":
                self.relayed.append(frame)
            else:
                self.got.append(json.loads(frame))
        return self.closed

    def take(self, data: bytes) -> None:
        """What came on the socket; b"" is its end."""
        self.decoder.feed(data)

    def reply(self, number: int) -> dict[str, Any] | None:
        self.read()
        return next((it for it in self.got if it.get("id") == number), None)

    def close(self) -> None:
        self.sock.close()


def request(method: str, number: int, params: dict[str, Any]) -> bytes:
    message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
    return pack_frame(json.dumps(message).encode())


class House:
    """A server in this process, on a loop whose clock runs, and can be moved on by `skip`."""

    def __init__(self, *options: str) -> None:
        self.skipped = 0.0
        self.stopped: float | None = None
        self.lines: list[str] = []
        self.loop = Loop(clock=self.clock)
        log = Log(self.lines.append, level=INFO, journal=True, wall=time.time, clock=self.clock)
        log.schedule = self.loop.call_at
        self.ended = False
        self.callers: list[Caller] = []
        arguments = options if "--state" in options else ("--memory", *options)
        try:
            self.server = Server(self.loop, parse_options(arguments), log, self._end)
        except BaseException:
            self.loop.close()
            raise
        self.dispatcher = self.server.dispatcher
        self.open()

    def open(self) -> None:
        """Listen."""
        place = self.server.listen(["127.0.0.1:0"])[0]
        self.address = ("127.0.0.1", int(place.rpartition(":")[2]))

    def clock(self) -> float:
        return (time.monotonic() if self.stopped is None else self.stopped) + self.skipped

    def stop_clock(self) -> None:
        """From now on time passes by `skip` alone, however long this machine takes."""
        self.stopped = time.monotonic()

    def _end(self) -> None:
        self.ended = True

    def caller(self, source: str | None = None) -> Caller:
        caller = Caller(self.address, source)
        self.callers.append(caller)
        return caller

    def tick(self, count: int = 1) -> None:
        """Ticks that do not wait."""
        for _ in range(count):
            self.loop.defer(_nothing)
            self.loop.tick()

    def skip(self, seconds: float) -> None:
        """Let time pass, in steps in which every timer can run."""
        while seconds > 0:
            step = min(seconds, 0.5)
            self.skipped += step
            seconds -= step
            self.tick(2)

    def until(self, what: Callable[[], Any]) -> Any:
        """Run the server until `what` holds; return it."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            self.tick()
            found = what()
            if found:
                return found
            assert time.monotonic() < deadline, f"it never happened; log: {self.lines[-5:]}"

    def call(self, caller: Caller, method: str, **params: Any) -> dict[str, Any]:
        """The reply to a request."""
        number = caller.ask(method, **params)
        reply: dict[str, Any] = self.until(lambda: caller.reply(number))
        return reply

    def close(self) -> None:
        for caller in self.callers:
            caller.close()
        self.server.close()
        self.loop.close()


def _nothing() -> None:
    """A tick with something deferred does not wait."""


class Process:
    """`python3 -m evloop.server` (or `command`) as a process of its own."""

    def __init__(
        self,
        *options: str,
        before: tuple[str, ...] = (),
        environ: dict[str, str] | None = None,
        memory: bool = True,
        listen: bool = True,
    ) -> None:
        arguments = [*before, sys.executable, "-m", "evloop.server", *options]
        arguments += ["--memory"] if memory else []
        arguments += ["--listen", "127.0.0.1:0"] if listen else []
        self.process = subprocess.Popen(
            arguments,
            cwd=ROOT,
            # Who starts it by hand may have set no interface, and then a relay's leg takes eth0.
            env={"EVLOOP_INTERFACE": "127.0.0.1", **os.environ, **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert self.process.stderr is not None
        self._stderr = self.process.stderr
        os.set_blocking(self._stderr.fileno(), False)
        self.log = ""
        self.address = ("127.0.0.1", 0)

    def ready(self) -> Process:
        """Wait for the ready line."""
        self.until(lambda: "listening on " in self.log)
        line = self.log.partition("listening on ")[2].partition("\n")[0]
        self.address = ("127.0.0.1", int(line.rpartition(":")[2]))
        return self

    def read_log(self) -> None:
        data = self._stderr.read()
        if data:
            self.log += data.decode()

    def until(self, what: Callable[[], Any], seconds: float = PATIENCE_S) -> Any:
        """Wait until `what` holds, reading the log meanwhile."""
        deadline = time.monotonic() + seconds
        while True:
            self.read_log()
            found = what()
            if found:
                return found
            left = deadline - time.monotonic()
            assert left > 0, f"it never happened; log:\n{self.log}"
            # The log is the only thing to wait for; what else changes is looked at again soon.
            select.select([self._stderr], [], [], min(left, 0.02))

    def call(self, caller: Caller, method: str, **params: Any) -> dict[str, Any]:
        number = caller.ask(method, **params)
        reply: dict[str, Any] = self.until(lambda: caller.reply(number))
        return reply

    def cpu_s(self) -> float:
        """CPU time used so far (proc(5), stat)."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def wait(self, seconds: float = PATIENCE_S) -> int:
        self.until(lambda: self.process.poll() is not None, seconds)
        self.read_log()
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait()
        self._stderr.close()


def tls_call(address: tuple[str, int], context: ssl.SSLContext, method: str) -> dict[str, Any]:
    """One request over the standard library's own TLS socket; blocks, for a server process."""
    with (
        socket.create_connection(address, timeout=PATIENCE_S) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as wrapped,
    ):
        wrapped.sendall(request(method, 1, {}))
        decoder = FrameDecoder()
        while (frame := decoder.next_frame()) is None:
            data = wrapped.recv(1 << 16)
            assert data, "it was closed"
            decoder.feed(data)
        reply: dict[str, Any] = json.loads(frame)
        return reply
