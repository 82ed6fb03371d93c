"""Framed TCP on the loop: read, decode, queue, flush, close.

A Stream is one connection; what all of a loop share is a `hub.Hub`. Nothing is sent while a tick's
requests are handled; the owner calls `Hub.flush` from a before_sleep hook, after it has committed
what the replies promise. All replies of a tick leave in one send (6.3x against one send per frame,
pipelined).

The states of a stream, and what moves it on:

    state      reads                          queue empty      peer's end       abort
    open       frames -> `payload`            -                -> closing       -> closed
    held       nothing; released: -> open     -                waits            -> closed
    closing    nothing (what is read whole    -> lingering     -                -> closed
               already is still answered)     or closed
    lingering  dropped                        -                -> closed        -> closed
    closed     -                              -                -                -

`lingering` (our side is shut, theirs is read and dropped for a moment) is there because closing a
socket with unread bytes makes the kernel send a reset, which destroys the last reply on its way.

`scheduler` decides which stream is served in which tick.

Backpressure: above OUT_HIGH_WATER_BYTES no more frames are handled and nothing is read until the
queue is empty again; above OUT_QUEUE_BYTES_MAX (only notifications can get there) the peer
is too slow: its queue is dropped, and it goes from open or closing to lingering. What is sent
loosely (`send_loose`) never ends a stream by itself.

The memory of all streams together has a budget too: see `scheduler.Holdings`.

With TLS the bytes pass a pipe (tls.TlsPipe) on their way: opened before the decoder, sealed in
`flush`, because until the end of the tick a queued frame may still be replaced.
"""

from __future__ import annotations

import socket

from evloop.base.errors import FrameError
from evloop.base.limits import LARGE_FRAME_BYTES
from evloop.framing import FrameDecoder
from evloop.net.limits import (
    FRAMES_FREE,
    LINGER_BYTES_MAX,
    OUT_HIGH_WATER_BYTES,
    OUT_QUEUE_BYTES_MAX,
    REPLY_UNIT_BYTES,
    REQUEST_UNIT_BYTES,
    TLS_HANDSHAKES_PER_TICK,
)
from evloop.net.tcp import unacknowledged
from evloop.system.limits import READ_BYTES_PER_WAKE
from evloop.system.loop import READ, Watched
from evloop.system.timers import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from evloop.net.hub import Hub
    from evloop.net.tls import TlsPipe

HELD, OPEN, CLOSING, LINGERING, CLOSED = range(-1, 4)


class Stream(Watched):
    """One framed connection. Subclasses say what a payload means.

    `payloads(frames)` is called with the frames that came, `broken(error)` once when the stream
    cannot be framed any more, `insecure(why)` once when TLS failed, `expired()` when a frame was
    not finished in time, `ended(why)` once when it is over. `queued` (bytes that wait to be sent),
    `behind_since` (when the kernel first did not take all of them; NEVER: it has), `state` and
    `why` are for reading.
    """

    __slots__ = (
        "_ahead",
        "_eof",
        "_hub",
        "_loose",
        "_out",
        "_paused",
        "_pipe",
        "_sealed",
        "_timed",
        "_unacknowledged",
        "behind_since",
        "decoder",
        "queued",
        "state",
        "why",
    )

    fileobj: socket.socket
    decodes: Any = FrameDecoder  # what cuts the bytes into frames; another protocol has another

    def __init__(self, hub: Hub, sock: socket.socket, pipe: TlsPipe | None = None) -> None:
        self._hub = hub
        self.decoder = self.decodes()
        self._ahead: list[bytes] | tuple[()] = ()  # frames that `payloads` did not take yet
        self._out: list[bytes] | tuple[()] = ()  # a list of its own only while there is something
        self.queued = 0  # bytes in _out and _sealed
        self._eof = False
        self._paused = False  # not reading, because the queue is above the high-water mark
        self._unacknowledged = -1  # bytes in the kernel's queue when we looked; -1: it took all
        self.behind_since = NEVER
        self._loose = False  # nothing in the queue is owed to the peer: see `send_loose`
        self.state = OPEN
        self.why = ""
        super().__init__(hub.loop, sock, True)
        hub.unfinished.start(self)
        self._timed = True  # a frame has begun, or the first is awaited: `hub.unfinished` runs
        self._pipe = pipe
        self._sealed = b""  # what the pipe made and the kernel did not take yet
        if pipe is not None:
            hub.shaking.start(self)
            self._send_sealed(pipe.start())

    # -- for the owner -----------------------------------------------------------------------

    def payloads(self, frames: list[bytes]) -> int:
        """Whole frames came: take them in turn, and return how many.

        One at least; no more after one that left `full` or not open.
        """
        raise NotImplementedError

    def broken(self, error: FrameError) -> None:
        """The peer sent what cannot be framed; nothing more will be read."""
        self.close("frame_error")

    def insecure(self, why: str) -> None:
        """TLS failed; the peer has been told by an alert, if it speaks TLS at all."""
        self.close(why)

    def go_plain(self) -> bool:
        """After `insecure`: whether the peer speaks no TLS at all. From now on, nor do we."""
        if self._pipe is None or not self._pipe.plain_peer:
            return False
        self._hub.shaking.stop(self)
        self._pipe = None
        return True

    def expired(self) -> None:
        """A frame, or the rest of it, did not come in UNFINISHED_FRAME_S."""
        self.abort("a frame was not finished in time")

    def overloaded(self) -> None:
        """All streams together hold too much, and this one most."""
        self.abort("too much waits for slow readers")

    def ended(self, why: str) -> None:
        """The stream is closed; called at the end of the tick."""

    @property
    def encrypted(self) -> bool:
        """Whether it speaks TLS."""
        return self._pipe is not None

    @property
    def own(self) -> tuple[Any, ...]:
        """Our own address of the connection, as of a socket."""
        own: tuple[Any, ...] = self.fileobj.getsockname()
        return own

    @property
    def full(self) -> bool:
        """Whether so much waits to be sent that no further frame is handled."""
        return self.queued > OUT_HIGH_WATER_BYTES

    def send(self, frames: bytes) -> int:
        """Queue frames, already packed, for the end of the tick; return their place in the queue.

        The place holds until then: see `replace`.
        """
        if self.state > CLOSING:
            return -1
        out = self._out
        if out:
            out.append(frames)
        else:
            self._out = out = [frames]
            self._hub.dirty.append(self)
        self.queued += len(frames)
        if self._loose:
            self._owe()
        if self.queued > OUT_QUEUE_BYTES_MAX:
            self._give_up()
        return len(out) - 1

    def send_loose(self, frames: bytes) -> None:
        """Queue frames that nobody waits for: as `send`, but a peer that does not read them is not
        cut off for that. The caller keeps the queue short."""
        if not self.queued and not self._out and self.state <= OPEN:  # as nearly always
            self._loose = True
            if self._pipe is None:
                self._offer(frames)
                return
            self._out = [frames]
            self._hub.dirty.append(self)
            self.queued = len(frames)
            return
        waits = self.queued and not self._loose
        self._loose = False
        self.send(frames)
        self._loose = not waits

    def _offer(self, data: bytes) -> bool:
        """Give the kernel what it takes of `data`, all that waits, and keep the rest; whether it
        has taken all. An error ends the stream."""
        try:
            sent = self.fileobj.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self.abort(error.strerror or str(error))
            return False
        if sent < len(data):
            self._keep(data, sent)
            return False
        return True

    def _owe(self) -> None:
        """From now on something in the queue is owed: whoever does not read it in time is gone."""
        self._loose = False
        if self._unacknowledged >= 0:
            self._unacknowledged = unacknowledged(self.fileobj)  # what counts is progress from now
            self._hub.unsent.start(self)

    def replace(self, place: int, frames: bytes) -> None:
        """Send something else instead of what `send` queued in this tick; b"": nothing."""
        if self.state <= CLOSING:
            out = self._out
            assert out, "send gave the place"
            self.queued += len(frames) - len(out[place])
            out[place] = frames

    def close(self, why: str) -> None:
        """Read no more, send what is queued, then close."""
        if self.state <= OPEN:
            self.state = CLOSING
            self.why = why
            if self._loose:
                self._owe()
            self._in_time()
            self.want_read(False)
            if not self._out:
                self._hub.dirty.append(self)  # flush() finds nothing to send and goes on

    def hold(self) -> None:
        """Handle no more frames and read nothing, until `release_hold`."""
        if self.state == OPEN:
            self.state = HELD
            self._in_time()
            self.want_read(False)

    def release_hold(self) -> None:
        """Go on with the frames that came meanwhile."""
        if self.state == HELD:
            self.state = OPEN
            self._hub.turns.wait(self)

    def _give_up(self) -> None:
        """The peer reads too slowly: drop its queue. It is closed by its deadline, a few streams in
        each tick, since the same news may be too much for thousands (3,400 in one tick: 62 ms)."""
        self._lose(LINGERING, "it reads too slowly")
        self._in_time()
        self._hub.unsent.stop(self)
        self._hub.lingering.start(self)

    def _lose(self, state: int, why: str) -> None:
        self.state, self.why = state, why
        self._out, self._sealed, self.queued = (), b"", 0
        self._hub.holdings.note(self, 0)

    def abort(self, why: str) -> None:
        """Close at once; what is queued is lost."""
        if self.state == CLOSED:
            return
        self._lose(CLOSED, why)
        hub = self._hub
        if self._pipe is not None:
            hub.shaking.stop(self)
        hub.unfinished.stop(self)
        hub.unsent.stop(self)
        hub.lingering.stop(self)
        hub.turns.closed.append(self)
        self.close_descriptor()

    def fail(self) -> None:
        """A handler has raised, and may have told the peer already: close the stream."""
        if self.state <= OPEN:
            self.abort("internal error")

    def stalled(self) -> None:
        """Nothing could be added to the kernel's queue in WRITE_PROGRESS_S.

        Over a slow line that is no proof: the kernel asks for more only when a third of its queue
        is free. What counts is whether the peer has acknowledged any byte.
        """
        left = unacknowledged(self.fileobj)
        if left < self._unacknowledged:
            self._unacknowledged = left
            self._hub.unsent.start(self)
        else:
            self.abort("it does not read what is sent to it")

    def release(self) -> None:
        self.fileobj.close()

    # -- reading -----------------------------------------------------------------------------

    def on_read(self) -> None:
        pipe, hub = self._pipe, self._hub
        if pipe is not None and pipe.shaking and hub.shaken >= TLS_HANDSHAKES_PER_TICK:
            return  # it is still readable in the next tick: streams that wait go first
        try:
            data = self.fileobj.recv(READ_BYTES_PER_WAKE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.abort(error.strerror or str(error))
            return
        if self.state == LINGERING:
            self._drop(data)
            return
        if pipe is not None:
            plain = self._unseal(pipe, data)
            if plain is None:
                return
            self.decoder.feed(plain)
        elif data:
            self.decoder.feed(data)
        else:
            self._eof = True
            self.want_read(False)
        share = hub.turns.share()
        if share == FRAMES_FREE and self.decoder.next_size() > LARGE_FRAME_BYTES:
            self.want_read(False)
            hub.turns.wait(self)
        else:
            self._handle(share)

    def _unseal(self, pipe: TlsPipe, data: bytes) -> bytes | None:
        """What `data` (empty: the end) was before it was sealed; None: nothing for us in it."""
        plain = b""
        self._hub.shaken += pipe.shaking
        if data:
            plain, wire = pipe.receive(data)
            self._send_sealed(wire)
        else:
            pipe.end()
        if pipe.shaking:
            return None
        self._hub.shaking.stop(self)
        if not data or pipe.ended:
            self._eof = True
            self.want_read(False)
        if pipe.failure is not None:
            self.insecure(pipe.failure)
            return None
        return plain

    def _handle(self, share: int) -> None:
        """Hand over the frames that are whole, at most `share` of them."""
        hub, decoder = self._hub, self.decoder
        left, before = share, self.queued
        try:
            while self.queued <= OUT_HIGH_WATER_BYTES and self.state == OPEN:
                ahead = self._ahead
                if left <= 0 and (ahead or decoder.rest):
                    # The others' turn; the rest of what was read waits for ours.
                    self.want_read(False)
                    hub.turns.wait(self)
                    return
                if ahead:
                    frames = ahead[:left]
                else:
                    frames = decoder.next_frames(left)
                if not frames:
                    if self._eof:
                        decoder.finish()
                    break
                if self._timed:
                    self._in_time()  # the next frame has its own time
                taken = self.payloads(frames)
                left -= taken
                if ahead:
                    self._ahead = ahead[taken:]
                elif taken < len(frames):
                    self._ahead = frames[taken:]
                last = len(frames[taken - 1])  # only the last of a list is ever large
                if last > LARGE_FRAME_BYTES:
                    left -= last // REQUEST_UNIT_BYTES
                over = not (decoder.rest or self._ahead)
                if over and self._mask & READ and self.queued <= OUT_HIGH_WATER_BYTES:
                    return  # as nearly always: there is nothing to change
        except FrameError as error:
            self._in_time()
            self.broken(error)
            return
        finally:
            hub.turns.frames_left -= share - left
            if self.queued - before >= REPLY_UNIT_BYTES:
                hub.turns.replied((self.queued - before) // REPLY_UNIT_BYTES)
                self._account()
                if hub.holdings.too_much():
                    hub.turns.stop()  # who holds most is cut off first, at the end of this tick
        self._watch_reading()

    def go_on(self, share: int) -> None:
        """Handle more frames: it is this stream's turn, or there is room in the queue again."""
        if self.state == OPEN:
            self._handle(share)

    def _in_time(self) -> None:
        """No frame is awaited any more."""
        if self._timed:
            self._timed = False
            self._hub.unfinished.stop(self)

    def _watch_reading(self) -> None:
        if self.state != OPEN:
            return
        full = self.queued > OUT_HIGH_WATER_BYTES
        self._account()
        if self._eof and not full:
            self.close("the peer closed the connection")
            return
        self._paused = full
        self.want_read(not full and not self._eof)
        # A frame that waits for room in our own queue is not the peer's delay.
        if self.decoder.rest and not full:
            self._timed = True
            self._hub.unfinished.start(self)
        else:
            self._in_time()

    def _account(self) -> None:
        self._hub.holdings.note(self, self.queued + len(self.decoder.rest))

    def _drop(self, data: bytes) -> None:
        self.queued += len(data)  # nothing is sent any more: the counter is free for this
        if not data or self.queued > LINGER_BYTES_MAX:
            self.abort(self.why)

    # -- writing -----------------------------------------------------------------------------

    def on_write(self) -> None:
        # Not now: changes that the queue reports may not be on disk before the end of the tick.
        self.want_write(False)
        self._hub.dirty.append(self)

    def _send_sealed(self, wire: bytes) -> None:
        if wire and self.state <= CLOSING:
            self._hub.dirty.append(self)
            self._sealed += wire
            self.queued += len(wire)

    def _seal(self, pipe: TlsPipe) -> bytes:
        """What goes on the wire now, at the end with TLS's goodbye."""
        wire = self._sealed + pipe.send(b"".join(self._out))
        if self.state == CLOSING:
            wire += pipe.close()
        self._sealed = b""
        return wire

    def flush(self) -> None:
        """Send as much of the queue as the kernel takes; go on with closing when it is empty."""
        out = self._out
        if out or (self._pipe is not None and self.state <= CLOSING):
            if self._pipe is not None:
                data = self._seal(self._pipe)
            else:
                data = out[0] if len(out) == 1 else b"".join(out)
            if data and not self._offer(data):
                return
            self.queued = 0
            self._out = ()
            if self._hub.holdings.total:
                self._account()
        elif self.state == CLOSED:
            return
        if self._unacknowledged >= 0:
            self._unacknowledged = -1
            self.behind_since = NEVER
            self._hub.unsent.stop(self)
            self.want_write(False)
        if self.state == CLOSING:
            self._finish()
        elif self._paused:
            self._paused = False
            self._hub.turns.wait(self)

    def _keep(self, data: bytes, sent: int) -> None:
        if sent or self._unacknowledged < 0:
            self._hub.unsent.stop(self)  # progress: the span begins anew
            if self._unacknowledged < 0:
                self.behind_since = self._hub.loop.now
            self._unacknowledged = unacknowledged(self.fileobj)
        if not self._loose:
            self._hub.unsent.start(self)
        if self._pipe is None:
            self._out = [data[sent:]]
        else:
            self._out = ()
            self._sealed = data[sent:]
        self.queued = len(data) - sent
        self._account()
        self.want_write(True)

    def _finish(self) -> None:
        if self._eof:
            self.abort(self.why)
            return
        self.state = LINGERING
        self.decoder = self.decodes()
        try:
            self.fileobj.shutdown(socket.SHUT_WR)
        except OSError:  # the peer reset it meanwhile: then there is nothing to linger for
            self.abort(self.why)
            return
        self._hub.lingering.start(self)
        self.want_read(True)
