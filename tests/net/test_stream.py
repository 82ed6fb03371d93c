"""Framed TCP on a real loop and real socket pairs; deadlines on a clock that the test moves."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from evloop.base.errors import FrameError
from evloop.framing import FrameDecoder, pack_frame
from evloop.net.hub import Hub
from evloop.net.limits import (
    ENDS_PER_TICK,
    FRAMES_PER_TICK,
    LINGER_BYTES_MAX,
    LINGER_S,
    OUT_HIGH_WATER_BYTES,
    OUT_QUEUE_BYTES_MAX,
    UNFINISHED_FRAME_S,
    WRITE_PROGRESS_S,
)
from evloop.net.stream import (
    CLOSED,
    CLOSING,
    LINGERING,
    OPEN,
    Stream,
)
from evloop.system.limits import EXPIRED_PER_TICK_MAX
from evloop.system.loop import Loop


class Recorder(Stream):
    """Notes what happens; answers each payload with what `answer` makes of it."""

    def __init__(self, hub: Hub, sock: socket.socket) -> None:
        self.taken: list[bytes] = []
        self.errors: list[str] = []
        self.endings: list[str] = []
        self.answer = b""
        super().__init__(hub, sock)

    def payloads(self, frames: list[bytes]) -> int:
        for taken, data in enumerate(frames, 1):
            self.taken.append(data)
            if self.answer:
                self.send(pack_frame(self.answer))
            if self.full or self.state != OPEN:
                return taken
        return len(frames)

    def broken(self, error: FrameError) -> None:
        self.errors.append(str(error))
        self.send(pack_frame(b"broken"))
        super().broken(error)

    def ended(self, why: str) -> None:
        self.endings.append(why)


class World:
    def __init__(self) -> None:
        self.time = 1000.0
        self.loop = Loop(clock=lambda: self.time)
        self.hub = Hub(self.loop)
        self.loop.before_sleep(self.hub.flush)
        ours, self.peer = socket.socketpair()
        ours.setblocking(False)
        self.peer.setblocking(False)
        self.stream = Recorder(self.hub, ours)

    def ticks(self, count: int = 6) -> None:
        """Run the loop without waiting."""
        for _ in range(count):
            self.loop.defer(lambda: None)
            self.loop.tick()

    def read(self) -> bytes:
        """What the peer can read now; b"" when that is nothing, or the end."""
        data = b""
        try:
            while piece := self.peer.recv(1 << 20):
                data += piece
        except BlockingIOError:
            pass
        return data

    def frames(self) -> list[bytes]:
        decoder = FrameDecoder()
        decoder.feed(self.read())
        return list(iter(decoder.next_frame, None))


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.peer.close()
    world.loop.close()


def test_frames_come_out_however_they_were_cut(world: World) -> None:
    for byte in pack_frame(b"one") + pack_frame(b"") + pack_frame(b"two"):
        world.peer.send(bytes([byte]))
        world.ticks(1)
    assert world.stream.taken == [b"one", b"", b"two"]


def test_all_replies_of_a_tick_leave_in_one_send(world: World) -> None:
    world.stream.answer = b"yes"
    world.peer.send(pack_frame(b"?") * 10)
    world.ticks()
    assert world.frames() == [b"yes"] * 10


def test_a_burst_is_handled_in_turns_and_whole(world: World) -> None:
    world.peer.send(pack_frame(b"x") * 3 * FRAMES_PER_TICK)
    for tick in range(1, 4):
        world.ticks(1)
        assert len(world.stream.taken) == tick * FRAMES_PER_TICK


def test_above_the_high_water_mark_nothing_more_is_handled(world: World) -> None:
    world.stream.answer = bytes(60_000)
    world.peer.send(pack_frame(b"?") * 100)
    world.ticks(20)
    handled = len(world.stream.taken)
    assert handled < 100
    assert world.stream.queued <= OUT_HIGH_WATER_BYTES + 60_004
    got = 0
    for _ in range(400):
        got += len(world.read())
        world.ticks(2)
    assert got == 100 * 60_004 and len(world.stream.taken) == 100


def test_who_never_reads_is_cut_off_after_the_progress_time(world: World) -> None:
    world.stream.answer = bytes(60_000)
    world.peer.send(pack_frame(b"?") * 100)
    world.ticks(20)
    world.time += WRITE_PROGRESS_S / 2
    world.ticks()
    assert world.stream.state == OPEN
    world.time += WRITE_PROGRESS_S
    world.ticks()
    assert world.stream.state == CLOSED and len(world.stream.endings) == 1
    assert len(world.hub.unsent) == 0


def test_who_reads_a_little_is_kept(world: World) -> None:
    world.stream.answer = bytes(60_000)
    world.peer.send(pack_frame(b"?") * 100)
    for _ in range(30):
        world.ticks(3)
        world.peer.recv(65_536)  # less than what makes the kernel ask for more
        world.time += WRITE_PROGRESS_S * 0.4
        world.ticks(3)
    assert world.stream.state == OPEN


def test_a_queue_over_the_cap_ends_the_stream(world: World) -> None:
    piece = pack_frame(bytes(60_000))
    for _ in range(OUT_QUEUE_BYTES_MAX // len(piece) + 1):
        world.stream.send(piece)
    assert world.stream.state == LINGERING and world.stream.queued == 0
    assert world.stream.send(piece) == -1
    world.ticks()
    assert world.stream.endings == [] and world.read() == b""
    world.time += LINGER_S
    world.ticks()
    assert world.stream.endings == ["it reads too slowly"]
    assert [len(each) for each in (world.hub.unfinished, world.hub.unsent)] == [0, 0]


def test_a_crowd_that_reads_too_slowly_is_closed_a_few_a_tick(world: World) -> None:
    pairs = [socket.socketpair() for _ in range(2 * EXPIRED_PER_TICK_MAX)]
    crowd = [Recorder(world.hub, ours) for ours, _ in pairs]
    for stream in crowd:
        stream.send(bytes(OUT_QUEUE_BYTES_MAX + 1))
    world.time += LINGER_S
    left = [len(crowd)]
    while left[-1]:
        world.ticks(1)
        left.append(sum(stream.fd >= 0 for stream in crowd))
        assert left[-2] - left[-1] <= EXPIRED_PER_TICK_MAX
    world.ticks(1)  # to tell the last
    assert all(stream.endings == ["it reads too slowly"] for stream in crowd)
    for _, peer in pairs:
        peer.close()


def test_those_that_end_together_are_told_a_few_a_tick(world: World) -> None:
    pairs = [socket.socketpair() for _ in range(ENDS_PER_TICK + 1)]
    crowd = [Recorder(world.hub, ours) for ours, _ in pairs]
    for stream in crowd:
        stream.abort("over")
    world.ticks(1)
    assert sum(len(stream.endings) for stream in crowd) == ENDS_PER_TICK
    world.ticks(1)
    assert [stream.endings for stream in crowd] == [["over"]] * len(crowd)
    for _, peer in pairs:
        peer.close()


def test_a_reply_can_be_replaced_until_the_end_of_the_tick(world: World) -> None:
    world.stream.send(pack_frame(b"first"))
    place = world.stream.send(pack_frame(b"promise"))
    gone = world.stream.send(pack_frame(b"news"))
    world.stream.replace(place, pack_frame(b"sorry"))
    world.stream.replace(gone, b"")
    world.ticks()
    assert world.frames() == [b"first", b"sorry"]
    assert world.stream.queued == 0


def test_replacing_everything_by_nothing_sends_nothing(world: World) -> None:
    world.stream.replace(world.stream.send(pack_frame(b"x")), b"")
    world.ticks()
    assert world.read() == b"" and world.stream.state == OPEN


@pytest.mark.parametrize("first", [b"", b"\0", b"\0\0\0\5ab"])
def test_an_unfinished_frame_has_its_time(world: World, first: bytes) -> None:
    world.peer.send(first) if first else None
    world.ticks()
    world.time += UNFINISHED_FRAME_S * 0.9
    if first:
        world.peer.send(b"\0")  # dribbling does not help
    world.ticks()
    assert world.stream.state == OPEN
    world.time += UNFINISHED_FRAME_S * 0.2
    world.ticks()
    assert world.stream.endings == ["a frame was not finished in time"]
    assert len(world.hub.unfinished) == 0


def test_idle_after_a_whole_frame_is_welcome(world: World) -> None:
    world.peer.send(pack_frame(b"x"))
    world.ticks()
    world.time += 1_000_000
    world.ticks()
    assert world.stream.state == OPEN and len(world.hub.unfinished) == 0


def test_each_frame_has_its_own_time(world: World) -> None:
    """Someone who is always in the middle of some frame, but finishes them, is kept."""
    rest, begin = pack_frame(b"xy")[3:], pack_frame(b"xy")[:3]
    world.peer.send(begin)
    for _ in range(10):
        world.time += UNFINISHED_FRAME_S * 0.6
        world.peer.send(rest + begin)
        world.ticks()
    assert world.stream.state == OPEN and len(world.stream.taken) == 10


def test_the_end_inside_a_frame_is_broken(world: World) -> None:
    world.peer.send(pack_frame(b"whole") + b"\0\0")
    world.peer.shutdown(socket.SHUT_WR)
    world.ticks()
    assert world.stream.taken == [b"whole"]
    assert "ended inside a frame" in world.stream.errors[0]
    assert world.frames() == [b"broken"]
    assert len(world.stream.endings) == 1


def test_what_was_asked_before_the_end_is_answered(world: World) -> None:
    world.stream.answer = b"yes"
    world.peer.send(pack_frame(b"?") * 700)
    world.peer.shutdown(socket.SHUT_WR)
    world.ticks(12)
    assert world.frames() == [b"yes"] * 700
    assert world.stream.endings == ["the peer closed the connection"]


def test_large_answers_are_flushed_after_the_peers_end(world: World) -> None:
    world.stream.answer = bytes(60_000)
    world.peer.send(pack_frame(b"?") * 50)
    world.peer.shutdown(socket.SHUT_WR)
    got = 0
    for _ in range(300):
        world.ticks(2)
        got += len(world.read())
    assert got == 50 * 60_004 and world.stream.state == CLOSED


def test_too_long_a_frame_is_answered_and_closed_without_a_reset(world: World) -> None:
    world.peer.send(b"\xff\xff\xff\xff" + bytes(50_000))
    world.ticks()
    assert "larger than 65536" in world.stream.errors[0]
    assert world.stream.state == LINGERING
    assert world.frames() == [b"broken"]
    world.peer.send(bytes(1000))  # still writing: dropped, not reset
    world.ticks()
    assert world.stream.state == LINGERING
    world.peer.shutdown(socket.SHUT_WR)
    world.ticks()
    assert world.stream.state == CLOSED and world.stream.endings == ["frame_error"]


def test_lingering_is_bounded_in_time(world: World) -> None:
    world.stream.close("because")
    assert world.stream.state == CLOSING
    world.ticks()
    assert world.stream.state == LINGERING
    world.time += LINGER_S
    world.ticks()
    assert world.stream.endings == ["because"] and len(world.hub.lingering) == 0


def test_lingering_is_bounded_in_bytes(world: World) -> None:
    world.stream.close("because")
    world.ticks()
    sent = 0
    while world.stream.state == LINGERING:
        sent += world.peer.send(bytes(65_536))
        world.ticks(1)
        assert sent < LINGER_BYTES_MAX + 10 * 65_536
    world.ticks()
    assert world.stream.endings == ["because"]


def test_a_peer_that_resets_ends_its_own_stream(world: World) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    peer = socket.create_connection(listener.getsockname())
    ours, _ = listener.accept()
    listener.close()
    ours.setblocking(False)
    stream = Recorder(world.hub, ours)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()
    world.ticks()
    assert stream.endings == ["Connection reset by peer"]
    assert world.stream.state == OPEN


def test_abort_and_close_after_the_end_do_nothing(world: World) -> None:
    world.stream.abort("enough")
    world.stream.abort("again")
    world.stream.close("again")
    world.ticks()
    assert world.stream.endings == ["enough"]
