"""Programs under test as processes: started with a pinned environment, driven and read by one poll.

Nothing here sleeps: a test waits for what a program says, for its end, or until a deadline, in
`Crew.until`, which reads the output of every program of the test meanwhile, so that none of them
is held up by a full pipe.
"""

from __future__ import annotations

import fcntl
import os
import pty
import random
import select
import shutil
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tests.support.elsewhere import box

ROOT = Path(__file__).parents[2]
# Far above any honest wait. A program starts in 0.3 s, but in 20 s where seventeen others want two
# cores, and this session of the machine is the one that is to give way.
PATIENCE_S = 60.0
PIECE_BYTES = 65_536
TOLD_CHARS = 1_500  # of each program's output, when a wait failed

# Before a command on Linux: the kernel kills it when whoever has started it ends, in whatever way.
DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()

T = TypeVar("T")


def environment(**more: str) -> dict[str, str]:
    """What a program under test sees: nothing of the developer's own settings."""
    kept = ("PATH", "HOME", "XDG_STATE_HOME", "COVERAGE_PROCESS_START")
    elsewhere: dict[str, str] = {}
    if "TESTS_ELSEWHERE" in os.environ:  # python3 -m tests.support.elsewhere
        folder = Path(os.environ["XDG_STATE_HOME"]).with_name("elsewhere")
        elsewhere = box(folder, *os.environ["TESTS_ELSEWHERE"].split())
    return {
        **elsewhere,
        **{name: os.environ[name] for name in kept if name in os.environ},
        "LANG": "C.UTF-8",
        "USER": "guest",
        "PYTHONWARNINGS": "error",
        "PYTHONDONTWRITEBYTECODE": "1",
        "EVLOOP_INTERFACE": "127.0.0.1",
        **more,
    }


class Program:
    """One process. `out` and `err` are what it has written so far; `status` is None while it runs.

    `stdin`: None gives it a pipe (`type`, `end`), else a descriptor. `stdout`, `stderr` likewise.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        environ: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
    ) -> None:
        self.arguments = list(arguments)
        # Readable once it has ended. Not on Linux: a pipe whose other end it holds.
        lacking = not hasattr(os, "pidfd_open")
        self._exit, held = os.pipe() if lacking else (-1, -1)
        self.process = subprocess.Popen(
            self.arguments,
            pass_fds=(held,) if lacking else (),
            cwd=cwd,
            env=environment(**(environ or {})),
            stdin=subprocess.PIPE if stdin is None else stdin,
            stdout=subprocess.PIPE if stdout is None else stdout,
            stderr=subprocess.PIPE if stderr is None else stderr,
        )
        self.pid = self.process.pid
        if lacking:
            os.close(held)
        elif sys.platform == "linux":
            self._exit = os.pidfd_open(self.pid)
        self._taken: dict[str, bytearray] = {"out": bytearray(), "err": bytearray()}
        self._sources: dict[int, str] = {}
        for name, pipe in (("out", self.process.stdout), ("err", self.process.stderr)):
            if pipe is not None:
                os.set_blocking(pipe.fileno(), False)
                self._sources[pipe.fileno()] = name
        self._to_write = bytearray()
        self._ending = False
        self._input = -1
        if self.process.stdin is not None:
            self._input = self.process.stdin.fileno()
            os.set_blocking(self._input, False)

    # -- what it says ------------------------------------------------------------------------

    @property
    def out(self) -> str:
        return self._taken["out"].decode(errors="replace")

    @property
    def err(self) -> str:
        return self._taken["err"].decode(errors="replace")

    @property
    def out_bytes(self) -> bytes:
        return bytes(self._taken["out"])

    @property
    def lines(self) -> list[str]:
        """The whole lines of its output so far."""
        return self.out.split("\n")[:-1]

    @property
    def status(self) -> int | None:
        """The exit status; negative: the signal that ended it."""
        return self.process.returncode

    # -- what it is told ---------------------------------------------------------------------

    def type(self, text: str | bytes) -> None:
        """Give it `text` on stdin, as it takes it."""
        assert not self._ending, f"its stdin was closed\n{self.tell()}"
        self._to_write += text.encode() if isinstance(text, str) else text
        self._write()

    def end(self) -> None:
        """Close its stdin, once all is written."""
        self._ending = True
        self._write()

    def signal(self, signum: int) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signum)

    def _write(self) -> None:
        while self._to_write and self._input >= 0:
            try:
                sent = os.write(self._input, self._to_write[:PIECE_BYTES])
            except BlockingIOError:
                return
            except OSError:  # it has closed its end: EPIPE, or EIO of a terminal
                self._to_write.clear()
                self._ending = True
                break
            del self._to_write[:sent]
        if self._ending and self.process.stdin is not None:
            self._input = -1
            self.process.stdin.close()

    # -- for the poll --------------------------------------------------------------------------

    def interests(self) -> list[tuple[int, int]]:
        """(descriptor, events) to be polled."""
        wanted = [(fd, select.POLLIN) for fd in self._sources]
        if self.process.returncode is None:
            wanted.append((self._exit, select.POLLIN))
        if self._to_write and self._input >= 0:
            wanted.append((self._input, select.POLLOUT))
        return wanted

    def ready(self, fd: int) -> None:
        """One of its descriptors is ready."""
        if fd == self._exit:
            if self.process.poll() is None:
                self.process.wait()  # it has closed all that it had, so it ends just now
        elif fd in self._sources:
            self._read(fd)
        elif self._to_write:
            self._write()

    def _read(self, fd: int) -> None:
        try:
            data = os.read(fd, PIECE_BYTES)
        except BlockingIOError:
            return
        except OSError:  # a terminal whose other side has closed
            data = b""
        if data:
            self._taken[self._sources[fd]] += data
        else:
            del self._sources[fd]

    @property
    def done(self) -> bool:
        """Ended, and all that it wrote is read."""
        return self.process.returncode is not None and not self._sources

    def close(self) -> None:
        """End it, if it still runs."""
        if self.process.poll() is None:
            self.process.kill()  # also ends one that is stopped
        self.process.wait()
        os.close(self._exit)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()  # raw writes only: nothing is left in a buffer

    def tell(self) -> str:
        """What is known of it, for the message of a failed wait."""
        words = " ".join(self.arguments)
        return (
            f"{words}\n  status {self.status}"
            f"\n  stdout: {self.out[-TOLD_CHARS:]!r}\n  stderr: {self.err[-TOLD_CHARS:]}"
        )


class Seated(Program):
    """A program on a terminal of its own: `out` is the screen's side, `type` the keyboard's."""

    ROWS, COLUMNS = 24, 80

    def __init__(
        self,
        arguments: Sequence[str],
        environ: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
    ) -> None:
        self._screen, inner = pty.openpty()
        size = struct.pack("HHHH", self.ROWS, self.COLUMNS, 0, 0)
        fcntl.ioctl(self._screen, termios.TIOCSWINSZ, size)
        try:
            # setsid -c: a session of its own, whose controlling terminal is stdin.
            super().__init__(
                ["setsid", "-c", *arguments],
                stdin=inner,
                stdout=inner,
                stderr=inner,
                environ={"TERM": "xterm", **(environ or {})},
                cwd=cwd,
            )
        except BaseException:
            os.close(self._screen)
            raise
        finally:
            os.close(inner)
        os.set_blocking(self._screen, False)
        self._sources[self._screen] = "out"
        self._input = self._screen

    def attributes(self) -> list[Any]:
        """termios attributes of the terminal."""
        return termios.tcgetattr(self._screen)

    def hang_up(self) -> None:
        """The terminal goes, as when its window is closed."""
        self._sources.pop(self._screen, None)
        os.close(self._screen)
        self._screen = self._input = -1

    def close(self) -> None:
        super().close()
        if self._screen >= 0:
            os.close(self._screen)


class Server(Program):
    """A directory. `port` is known once it is ready."""

    READY = "evloop.server: listening on "

    @property
    def listens(self) -> bool:
        return self.READY in self.err and "\n" in self.err.partition(self.READY)[2]

    @property
    def port(self) -> int:
        assert self.listens, self.tell()
        return int(self.err.partition(self.READY)[2].partition("\n")[0].rpartition(":")[2])

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.port}"


class Crew:
    """The programs of one test; all of them are read while any of them is awaited."""

    def __init__(self) -> None:
        self.programs: list[Program] = []

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for program in self.programs:
            program.close()
        self.programs.clear()

    def add(self, program: Program) -> Program:
        self.programs.append(program)
        return program

    def start_server(
        self,
        *options: str,
        listen: str = "127.0.0.1:0",
        prefix: Sequence[str] = (),
        stdin: int = subprocess.DEVNULL,
        stdout: int | None = None,
        stderr: int | None = None,
        memory: bool = True,
    ) -> Server:
        """Start a directory, and wait for nothing. In memory, unless `options` have `--state`."""
        store = ("--memory",) if memory and "--state" not in options else ()
        words = [*prefix, sys.executable, "-m", "evloop.server", "--listen", listen]
        server = Server([*words, *store, *options], stdin=stdin, stdout=stdout, stderr=stderr)
        self.add(server)
        return server

    def server(self, *options: str, **how: object) -> Server:
        """A directory that listens."""
        server = self.start_server(*options, **how)  # type: ignore[arg-type]
        self.until(lambda: server.listens or server.done)
        assert server.listens, server.tell()
        return server

    def client(
        self,
        *words: str,
        server: Server | str | None = None,
        module: str = "evloop.client",
        prefix: Sequence[str] = (),
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        **environ: str,
    ) -> Program:
        """A client with options and a command, its stdin a pipe unless told."""
        place = server.place if isinstance(server, Server) else server
        arguments = [*prefix, sys.executable, "-m", module]
        arguments += ["--server", place] if place is not None else []
        program = Program(
            [*arguments, *words], environ=environ, stdin=stdin, stdout=stdout, stderr=stderr
        )
        return self.add(program)

    def piped(self, text: str | bytes, *words: str, server: Server | str | None = None) -> Program:
        """A client whose stdin is `text`, run to its end."""
        client = self.client(*words, server=server)
        client.type(text)
        client.end()
        return self.finish(client)

    def chatter(
        self, name: str, room: str, *options: str, mode: str = "", **how: object
    ) -> Program:
        """Somebody in `room`: lines typed are messages. Wait for `in_room`."""
        command = ["chat", room, *(("--mode", mode) if mode else ())]
        return self.client("--name", name, *options, *command, **how)  # type: ignore[arg-type]

    def in_room(self, *programs: Program) -> None:
        """Wait until each has said that it is in."""
        self.until(lambda: all("-- in " in program.err for program in programs))

    # -- waiting -----------------------------------------------------------------------------

    def until(
        self,
        what: Callable[[], T],
        seconds: float = PATIENCE_S,
        why: str = "",
        every: float = PATIENCE_S,
    ) -> T:
        """Read everybody's output until `what` holds; return it.

        It is asked again whenever somebody has written or ended, and `every` so many seconds.
        """
        deadline = time.monotonic() + seconds
        while True:
            found = what()
            if found:
                return found
            left = deadline - time.monotonic()
            assert left > 0, "\n".join([f"it never happened: {why}", *self._told()])
            self._poll(min(left, every))

    def read_for(self, seconds: float) -> None:
        """Read everybody's output for so long: for what must NOT come, or a schedule."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._poll(left)

    def finish(self, program: Program, seconds: float = PATIENCE_S) -> Program:
        """Wait until `program` has ended and all of its output is here."""
        self.until(lambda: program.done, seconds, "it did not end")
        return program

    def _poll(self, seconds: float) -> None:
        poll = select.poll()
        owners: dict[int, Program] = {}
        for program in self.programs:
            for fd, events in program.interests():
                poll.register(fd, events)
                owners[fd] = program
        for fd, _ in poll.poll(max(1, int(seconds * 1000))):
            owners[fd].ready(fd)

    def _told(self) -> list[str]:
        return [program.tell() for program in self.programs]


def installed(folder: Path) -> Path:
    """Make `folder`, with the three programs by name as an installation has them."""
    folder.mkdir()
    for name in ("evloop", "evloop-client", "evloop-server"):
        module = name.replace("-", ".")
        script = folder / name
        script.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m {module} "$@"\n')
        script.chmod(0o755)
    return folder


def closed_stdin() -> tuple[str, ...]:
    """A prefix that starts a program with descriptor 0 closed."""
    return ("sh", "-c", 'exec "$@" <&-', "sh")


def fresh_place() -> tuple[str, int]:
    """A group and port that no other test on this machine uses at the same time."""
    rng = random.Random(os.urandom(8))
    return f"239.255.{rng.randint(1, 254)}.{rng.randint(1, 254)}", rng.randint(20_000, 60_000)


def fresh_room() -> str:
    address, port = fresh_place()
    return f"{address}:{port}"


def fresh_words() -> tuple[str, str]:
    """The same as words of makeroom. A room made without them has the place of its name, and so
    meets all that are called so on this machine: those of other tests that run now, too."""
    address, port = fresh_place()
    return address, str(port)


def no_trace(*programs: Program) -> None:
    """None of them showed a traceback, an internal error or a warning."""
    for program in programs:
        for word in ("Traceback", "internal error:", "Warning", "Exception ignored"):
            assert word not in program.err + program.out, program.tell()
