"""A terminal or pipe that nobody reads: whoever writes to it goes on with everything else."""

from __future__ import annotations

import fcntl
import os
import pty
import sys
import termios
from collections.abc import Callable, Iterator

import pytest

from tests.support.live import Caller
from tests.support.processes import Crew, fresh_room

ROOM_FOR_FEW = 2_000  # bytes: less than what is written, so a writer that waits stays there


def a_pipe() -> tuple[int, int]:
    return os.pipe()


def a_terminal() -> tuple[int, int]:
    master, slave = pty.openpty()
    attributes = termios.tcgetattr(slave)
    attributes[3] &= ~termios.ECHO
    termios.tcsetattr(slave, termios.TCSANOW, attributes)
    return master, slave


def fill(reader: int, writer: int) -> None:
    """Leave room for a few bytes: poll says that it is writable, but it takes little."""
    own = os.open(f"/proc/self/fd/{writer}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        while True:
            os.write(own, b"." * 512)
    except BlockingIOError:
        pass
    finally:
        os.close(own)
    left = ROOM_FOR_FEW
    while left > 0:
        left -= len(os.read(reader, left))


def unread(terminal: int) -> int:
    """Bytes that were typed and not read by the program yet."""
    return int.from_bytes(fcntl.ioctl(terminal, termios.FIONREAD, bytes(4)), sys.byteorder)


@pytest.fixture(params=[a_pipe, a_terminal], ids=["pipe", "terminal"])
def stalled(request: pytest.FixtureRequest) -> Iterator[int]:
    """A descriptor that has been written to, and is read no more."""
    make: Callable[[], tuple[int, int]] = request.param
    reader, writer = make()
    fill(reader, writer)
    yield writer
    os.close(reader)
    os.close(writer)


def test_a_server_whose_log_nobody_reads_serves(crew: Crew, stalled: int) -> None:
    server = crew.start_server("--verbose", listen="127.0.0.1:0")
    crew.until(lambda: server.listens)
    port = server.port
    server.signal(15)
    crew.finish(server)
    deaf = crew.start_server("--verbose", listen=f"127.0.0.1:{port}", stderr=stalled)

    def answered() -> Caller | None:
        try:
            return Caller(("127.0.0.1", port))
        except ConnectionRefusedError:
            return None

    first = crew.until(answered, every=0.05)
    assert first is not None
    for host in range(2, 14):  # five lines an event and visitor, then they are held back
        for _ in range(5):
            Caller(("127.0.0.1", port), f"127.0.0.{host}").close()
    caller: Caller = first
    asked = caller.ask("ping")
    crew.until(lambda: caller.reply(asked), every=0.05)
    caller.close()
    deaf.signal(15)
    crew.finish(deaf)
    assert deaf.status == 0


def test_a_foreground_server_on_a_stalled_terminal_serves(crew: Crew) -> None:
    """The operator's ssh stands still in the middle of a long listing."""
    master, slave = pty.openpty()
    try:
        server = crew.start_server(stdin=slave, stdout=slave)
        crew.until(lambda: server.listens)
        caller = Caller(("127.0.0.1", server.port))
        for number in range(20):
            asked = caller.ask("makeroom", name=f"{number:02}" + "x" * 60)
            crew.until(lambda asked=asked: caller.reply(asked), every=0.05)  # type: ignore[misc]
        os.write(master, b"rooms\n" * 200)  # 400 kB; nobody reads any of it
        crew.until(lambda: not unread(slave), every=0.05)
        asked = caller.ask("ping")
        crew.until(lambda: caller.reply(asked), every=0.05)
        caller.close()
        server.signal(15)
        crew.finish(server)
        assert server.status == 0
    finally:
        os.close(master)
        os.close(slave)


@pytest.mark.parametrize("deaf", ["stdout", "stderr"])
def test_a_plain_client_that_nobody_reads_is_still_a_member(
    crew: Crew, stalled: int, deaf: str
) -> None:
    """It goes on to take part, which it could not if it stood in a write."""
    room = fresh_room()
    watcher = crew.chatter("Watcher", room)
    crew.in_room(watcher)
    how = {deaf: stalled}
    listener = crew.chatter("Deaf", room, "--plain", **how)  # type: ignore[arg-type]
    crew.until(lambda: "Deaf" in watcher.err)
    for number in range(12):
        if deaf == "stderr":
            listener.type("/who\n" * 20)
        watcher.type("x" * 900 + "\n")
        listener.type(f"word {number}\n")
        crew.until(lambda word=f"word {number}\n": word in watcher.out)  # type: ignore[misc]
    watcher.end()
    crew.finish(watcher)
    listener.signal(15)
    crew.finish(listener)
