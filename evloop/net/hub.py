"""What all framed connections of a loop share: who has something to send, budgets and deadlines."""

from __future__ import annotations

from evloop.net.limits import (
    LINGER_S,
    TLS_HANDSHAKE_S,
    UNFINISHED_FRAME_S,
    WRITE_PROGRESS_S,
)
from evloop.net.scheduler import FairScheduler, Holdings
from evloop.system.timers import Timeouts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evloop.net.stream import Stream
    from evloop.system.loop import Loop


class Hub:
    """What the streams of one loop share; `turns` are the budgets of a tick."""

    __slots__ = (
        "dirty",
        "holdings",
        "lingering",
        "loop",
        "shaken",
        "shaking",
        "turns",
        "unfinished",
        "unsent",
    )

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.turns = FairScheduler(loop.defer, self.gave_up)
        self.dirty: list[Stream] = []
        self.holdings = Holdings()
        self.unfinished = Timeouts(loop, UNFINISHED_FRAME_S, _expired_unfinished)
        self.unsent = Timeouts(loop, WRITE_PROGRESS_S, _expired_unsent)
        self.lingering = Timeouts(loop, LINGER_S, _expired_lingering)
        self.shaken = 0  # handshakes that were worked on in this tick
        self.shaking = Timeouts(loop, TLS_HANDSHAKE_S, _expired_shaking)

    def flush(self) -> None:
        """Send what was queued, then tell the owners of streams that have ended. At a tick's end.

        They are told here, and not from inside their own calls, so that a stream never ends while
        one of its methods is running.
        """
        self.shaken = 0
        turns = self.turns
        turns.refill()
        dirty, self.dirty = self.dirty, []
        dirty = turns.to_send(dirty)
        self.holdings.relieve()
        while dirty or (turns.closed and turns.ends_left > 0):
            for stream in dirty:
                try:
                    stream.flush()
                except Exception as error:  # noqa: BLE001 - it costs this stream alone
                    self.gave_up(stream, error)
            self.holdings.relieve()
            if turns.closed:
                for stream in turns.to_end():
                    self.loop.guard(stream, stream.ended, stream.why)
            dirty, self.dirty = self.dirty, []

    def gave_up(self, stream: Stream, error: Exception) -> None:
        """A callback of `stream` has raised: tell the loop's owner, and close the stream."""
        self.loop.failed(stream, error)
        self.loop.guard(stream, stream.abort, "internal error")


def _expired_unfinished(stream: Stream) -> None:
    stream.expired()


def _expired_unsent(stream: Stream) -> None:
    stream.stalled()


def _expired_lingering(stream: Stream) -> None:
    stream.abort(stream.why)


def _expired_shaking(stream: Stream) -> None:
    stream.abort("the TLS handshake was not finished in time")
