"""The connections of a simulated room to its directories, and what is the loop at their ends.

A pipe is one way of a TCP connection: all comes, in order, however late. What the kernel has not
taken waits in the queue of its owner, who sees how much that is and since when (as `Stream` shows
it), and may let things fall.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

from evloop.system.timers import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.world import Member, World

KERNEL_BYTES = 32_768  # of one way: 16 KiB unsent, and 16 KiB that the reader has not read
RESENT_S = 0.2  # what TCP needs to notice a loss; all that follows waits


class Timer:
    """One timer of a `Clock`."""

    def __init__(self, clock: Clock, act: Callable[[], object]) -> None:
        self._clock, self._act = clock, act
        self.due = NEVER  # by the clock
        self._armed = inf  # by the world

    def move(self, when: float) -> None:
        self.due = when
        self.arm()

    def cancel(self) -> None:
        self.due = NEVER

    def arm(self) -> None:
        """See that the world fires us in time."""
        world = self._clock.world
        when = max(self.due - self._clock.offset, world.now)
        if when < self._armed:
            self._armed = when
            world.at(when, self._fire, when)

    def _fire(self, stamp: float) -> None:
        if stamp != self._armed:
            return
        self._armed = inf
        if self.due == NEVER or not self._clock.running:
            return  # who is paused looks again afterwards
        if self.due > self._clock.now:
            self._armed = self._clock.world.now + max(self.due - self._clock.now, 1e-6)
            self._clock.world.at(self._armed, self._fire, self._armed)
            return
        self.due = NEVER
        self._act()


class Clock:
    """What the product takes for its loop: that of a member, or of the directories (None)."""

    def __init__(self, world: World, member: Member | None) -> None:
        self.world, self._member = world, member
        self.timers: list[Timer] = []

    @property
    def offset(self) -> float:
        return self._member.offset if self._member is not None else 0.0

    @property
    def running(self) -> bool:
        return self._member is None or self._member.running

    @property
    def now(self) -> float:
        return self.world.now + self.offset

    def call_at(self, when: float, act: Callable[[], object]) -> Timer:
        timer = Timer(self, act)
        self.timers.append(timer)
        timer.move(when)
        return timer

    def defer(self, act: Callable[[], object]) -> None:
        def due(_: object) -> None:
            act()

        self.world.at(self.world.now, due)

    def guard(self, _: object, act: Callable[..., object], *arguments: Any) -> None:
        act(*arguments)


class Line(NamedTuple):
    """Of a member's connection: seconds one way, bytes a second, chance of a loss."""

    delay: float = 0.005
    rate: float = 1_000_000.0
    loss: float = 0.0


class Pipe:
    """One way of a connection. What is put in comes out in order, or not at all after `close`.

    `queued` are the bytes that the kernel has not taken, `behind_since` is as in `Stream`.
    """

    def __init__(
        self, world: World, line: Line, ready: Callable[[], bool], arrive: Callable[[Any], None]
    ) -> None:
        self._world, self.line, self._ready, self._arrive = world, line, ready, arrive
        self._queue: deque[tuple[int, Any]] = deque()
        self._wire: deque[tuple[int, float, Any]] = deque()  # size, when it can be read, what
        self._kernel = 0  # bytes
        self._free_at = self._last = 0.0
        self.queued = 0
        self.behind_since = NEVER
        self.stalled_until = 0.0
        self.closed = False

    def put(self, size: int, what: Any) -> None:
        if self.closed:
            return
        self._queue.append((size, what))
        self.queued += size
        self._send()

    def _send(self) -> None:
        world, line = self._world, self.line
        while self._queue and self._kernel < KERNEL_BYTES:
            size, what = self._queue.popleft()
            self.queued -= size
            self._kernel += size
            self._free_at = max(world.now, self._free_at) + size / line.rate
            late = RESENT_S if world.rng.random() < line.loss else 0.0
            self._last = max(self._last, self._free_at + line.delay + late)
            self._wire.append((size, self._last, what))
            world.at(self._last, self._due)
        if not self._queue:
            self.behind_since = NEVER
        elif self.behind_since == NEVER:
            self.behind_since = world.now

    def stall(self, seconds: float) -> None:
        """Nothing can be read for so long."""
        self.stalled_until = max(self.stalled_until, self._world.now + seconds)
        self._world.at(self.stalled_until, self._due)

    def mend(self, line: Line) -> None:
        """It is a better line from now on, for what is under way as well."""
        self.line = line
        now = self._free_at = self._world.now
        self._last = now + line.delay
        self._wire = deque((size, min(when, self._last), it) for size, when, it in self._wire)
        self._world.at(self._last, self._due)

    def _due(self, _: object) -> None:
        self.read()

    def read(self) -> None:
        """The reader takes what is there."""
        now = self._world.now
        while self._wire and not self.closed and self._ready() and now >= self.stalled_until:
            size, when, what = self._wire[0]
            if when > now:
                break
            self._wire.popleft()
            self._kernel -= size
            self._arrive(what)
        if not self.closed:
            self._send()
