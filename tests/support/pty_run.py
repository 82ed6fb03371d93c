"""Programs on a real pseudo-terminal, seen through the emulator; waiting is on readiness only."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable

from tests.support.processes import PATIENCE_S
from tests.support.screen import Emulator


def login_tty(slave: int) -> None:
    """In a child: a session of its own, `slave` its controlling terminal and fd 0 to 2."""
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for descriptor in range(3):
        os.dup2(slave, descriptor)
    if slave > 2:
        os.close(slave)


class PtyRun:
    """A child process whose controlling terminal we hold the other end of."""

    def __init__(
        self,
        arguments: list[str],
        *,
        columns: int = 80,
        rows: int = 24,
        env: dict[str, str] | None = None,
        baud: int | None = None,
        emulate: bool = True,
    ) -> None:
        self.screen = Emulator(columns, rows) if emulate else None
        self.raw = bytearray()
        # The slave is kept open here: settings can be compared after the child has gone.
        self.master, self.slave = pty.openpty()
        self.set_size(columns, rows)
        attributes = termios.tcgetattr(self.slave)
        if baud is not None:
            attributes[4] = attributes[5] = baud
            termios.tcsetattr(self.slave, termios.TCSANOW, attributes)
        self.before = termios.tcgetattr(self.slave)
        self.flags = fcntl.fcntl(self.slave, fcntl.F_GETFL)
        environment = {**os.environ, "TERM": "xterm", "LC_ALL": "C.UTF-8", **(env or {})}
        self.pid = os.fork()
        if self.pid == 0:
            try:
                login_tty(self.slave)
                os.execvpe(arguments[0], arguments, environment)
            finally:
                os._exit(127)
        self.status: int | None = None

    @classmethod
    def python(cls, module: str, *arguments: str, **options: object) -> PtyRun:
        return cls([sys.executable, "-m", module, *arguments], **options)  # type: ignore[arg-type]

    def set_size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, columns: int, rows: int) -> None:
        """The window changes; the kernel sends SIGWINCH to the foreground."""
        if self.screen is not None:
            self.screen.resize(columns, rows)
        self.set_size(columns, rows)

    def send(self, data: bytes | str) -> None:
        os.write(self.master, data.encode() if isinstance(data, str) else data)

    def read(self, timeout: float, most: int = 65_536) -> bytes:
        """What the program has written, b"" when nothing comes in time."""
        ready, _, _ = select.select([self.master], [], [], timeout)
        if not ready:
            return b""
        data = os.read(self.master, most)
        self.raw += data
        if self.screen is not None:
            # The driver has made CR LF of LF; the emulator does that itself.
            self.screen.write(data.replace(b"\r\n", b"\n"))
        return data

    def expect(self, condition: Callable[[Emulator], bool], patience: float = PATIENCE_S) -> None:
        """Read until the screen is as it should be."""
        assert self.screen is not None
        end = time.monotonic() + patience
        while not condition(self.screen):
            left = end - time.monotonic()
            if left <= 0 or not self.read(left):
                raise AssertionError(f"the screen shows {self.screen.used()}")

    def expect_line(self, text: str) -> None:
        self.expect(lambda screen: any(text in line for line in screen.scrollback + screen.used()))

    def expect_last(self, text: str) -> None:
        self.expect(lambda screen: screen.used()[-1] == text)

    def kill(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self) -> int:
        """The exit status as a shell has it."""
        end = time.monotonic() + PATIENCE_S
        while self.status is None:
            self.read(0.01)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                self.status = code if code >= 0 else 128 - code
            elif time.monotonic() > end:
                raise AssertionError("it does not end")
        while self.read(0.0):
            pass
        return self.status

    def close(self) -> None:
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.master)
        os.close(self.slave)

    def __enter__(self) -> PtyRun:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def restored(self) -> bool:
        """Whether settings and flags are as before the program ran."""
        now = termios.tcgetattr(self.slave)
        return now == self.before and fcntl.fcntl(self.slave, fcntl.F_GETFL) == self.flags
