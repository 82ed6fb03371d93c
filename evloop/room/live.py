"""One room live: a session on its two sockets and its one timer.

A datagram's way: `receive` (a bounded burst) -> `session.receive_datagram` for each, then once
`pump`: send what the session wants sent, hand its events up, set the timer to its next deadline.
The timer takes the same road. Nothing here knows what a datagram means, nor that there is only
one room.

A bug in the session, or in who is told, costs the datagram or the event in hand and no more: it is
counted, told once, and the room goes on.

    state     leave()                       session is done or LEAVE_S   close()
    live      -> leaving (goodbyes go out)  -                            -> closed
    leaving   -                             -> closed                    -> closed
    closed    -                             -                            -
"""

from __future__ import annotations

from evloop.net.interfaces import choose_interface
from evloop.net.limits import DATAGRAMS_PER_WAKE_MAX
from evloop.net.multicast import (
    destination,
    granted_buffer,
    kernel_drops,
    open_receiver,
    open_sender,
    receive,
)
from evloop.room.limits import BURST_S, FAULT_REST_S, LEAVE_S
from evloop.system.timers import nothing

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from typing import Any, Protocol

    from evloop.system.loop import Loop
    from evloop.system.timers import Timer

    Event = tuple[Any, ...]

    class Session(Protocol):
        """What `RoomSession` and `PlainSession` have in common; see there."""

        nickname: str
        sender_id: bytes

        def say(self, text: str, now: float, wall: int, kind: int = 0) -> None: ...
        def rename(self, nickname: str, now: float, wall: int) -> None: ...
        def receive_datagram(self, data: bytes, source: object, now: float) -> None: ...
        def handle_timer(self, now: float) -> None: ...
        def next_deadline(self) -> float: ...
        def datagrams_to_send(self) -> list[tuple[bytes, object | None]]: ...
        def events(self) -> list[Event]: ...
        def members(self, now: float) -> list[tuple[bytes, str, float]]: ...
        def history(self, count: int) -> list[Event]: ...
        def stats(self) -> dict[str, int]: ...
        def label(self, sender: bytes, name: str) -> str: ...
        def queued(self) -> int: ...
        def confirm(self, now: float) -> None: ...
        def unconfirmed(self) -> int: ...
        def confirmers(self) -> tuple[int, int]: ...
        def leave(self, now: float, wall: int) -> None: ...


LIVE, LEAVING, CLOSED = range(3)


class LiveRoom:
    """A member of the room at (`address`, `port`), both canonical.

    `make_session(own_source)` makes the session, `wall` is unix time. `on_events(events)` gets what
    happened in the session, and ("trouble", why): nothing can be sent because of `why`; "": it is
    over; and once ("fault", what): an exception, which cost no more than what it was about. `on_pump()` is called whenever the session may have moved, `on_closed()` once, when the
    room is left and its sockets are closed. Raises SetupError when these cannot be had.
    """

    __slots__ = (
        "_deadline",
        "_faulty_until",
        "_group",
        "_heard",
        "_loop",
        "_on_events",
        "_receiver",
        "_sender",
        "_timer",
        "_waiting",
        "_wall",
        "_watches",
        "faults",
        "interface",
        "on_closed",
        "on_pump",
        "send_errors",
        "session",
        "state",
        "trouble",
    )

    def __init__(
        self,
        loop: Loop,
        address: str,
        port: int,
        *,
        make_session: Callable[[Any], Session],
        interface: str | None,
        directory: tuple[Any, ...] | None,
        ttl: int,
        wall: Callable[[], float],
        on_events: Callable[[list[Event]], object],
    ) -> None:
        self.interface = choose_interface(address, interface, directory)
        receiver = open_receiver(address, port, self.interface)
        try:
            self._sender = open_sender(address, port, self.interface, ttl)
        except BaseException:
            receiver.close()
            raise
        self._receiver = receiver
        self._group = destination(address, port, self.interface)
        self._loop = loop
        self._wall = wall
        self._on_events = on_events
        self.on_pump: Callable[[], object] = nothing
        self.on_closed: Callable[[], object] = nothing
        self.state = LIVE
        self.send_errors = 0
        self.faults = 0  # exceptions that were contained
        self._faulty_until = float("-inf")  # the timer raised: it rests until then
        self.trouble = ""  # why nothing can be sent to the group
        self._heard = float("-inf")  # when something was last received
        self._waiting: list[tuple[bytes, Any]] = []  # what the kernel had no room for
        self.session = make_session(self._sender.getsockname())
        self._watches = [
            loop.watch(receiver, lambda: self._receive(receiver)),
            loop.watch(self._sender, lambda: self._receive(self._sender), self.pump),
        ]
        self._timer: Timer = loop.call_at(float("inf"), self._on_timer)
        self._deadline: Timer = loop.call_at(float("inf"), self.close)
        self.pump()

    def say(self, text: str, kind: int) -> None:
        """Send `text`; Refused when it is too long or too much waits already."""
        self.session.say(text, self._loop.now, int(self._wall()), kind)
        self.pump()

    def rename(self, nickname: str) -> None:
        """Be called `nickname` from now on; Refused `bad_name`."""
        self.session.rename(nickname, self._loop.now, int(self._wall()))
        self.pump()

    def confirm(self) -> None:
        """Ask the members to confirm what was sent."""
        self.session.confirm(self._loop.now)
        self.pump()

    def stats(self) -> dict[str, int]:
        """The session's counters and those of the sockets."""
        return {
            **self.session.stats(),
            "send_errors": self.send_errors,
            "faults": self.faults,
            "dropped_by_kernel": kernel_drops(self._receiver) + kernel_drops(self._sender),
            "receive_buffer_bytes": granted_buffer(self._receiver),
        }

    def leave(self) -> None:
        """Say goodbye; `on_closed` tells when that is done."""
        if self.state == LIVE:
            self.state = LEAVING
            self._deadline.move(self._loop.now + LEAVE_S)
            self.session.leave(self._loop.now, int(self._wall()))
            self.pump()

    def close(self) -> None:
        """Close at once; a second call does nothing."""
        if self.state == CLOSED:
            return
        self.state = CLOSED
        self._timer.cancel()
        self._deadline.cancel()
        for watch in self._watches:
            watch.close()
        self.on_closed()

    def _receive(self, sock: socket.socket) -> None:
        session, now = self.session, self._loop.now
        # A lone datagram is read alone: to be told that there is no second one costs a system call
        # and an exception. What came with it wakes us again, and then all is drained.
        most = 1 if now > self._heard + BURST_S else DATAGRAMS_PER_WAKE_MAX
        self._heard = now
        for data, source in receive(sock, most):
            try:
                session.receive_datagram(data, source, now)
            except Exception as error:  # the datagram is dropped
                self._fault(error)
        self.pump()

    def _on_timer(self) -> None:
        self._guarded(self.session.handle_timer, self._loop.now)
        self.pump()

    def _guarded(self, act: Callable[..., Any], *arguments: Any) -> Any:
        """What `act` returns; None when it raises."""
        try:
            return act(*arguments)
        except Exception as error:
            self._fault(error)
            self._faulty_until = self._loop.now + FAULT_REST_S
            return None

    def _fault(self, error: Exception) -> None:
        """Something raised: count it, and tell of the first."""
        self.faults += 1
        if self.faults == 1:
            kind = type(error).__name__
            try:
                self._on_events([("fault", f"{kind}: {error}" if str(error) else kind)])
            except Exception:
                self.faults += 1  # who would be told is what is broken

    def pump(self) -> None:
        """Carry what the session has for the network, for the user and for the timer."""
        if self.state == CLOSED:
            return
        session = self.session
        waiting = self._waiting
        waiting += self._guarded(session.datagrams_to_send) or ()
        if waiting:
            self._send(waiting)
        for event in self._guarded(session.events) or ():
            self._guarded(self._on_events, [event])
        if self.state == CLOSED:  # by who was told
            return
        deadline = self._guarded(session.next_deadline)
        if deadline is None or self._faulty_until > self._loop.now:
            deadline = max(deadline or 0.0, self._faulty_until)
        self._timer.move(deadline)
        if self.state == LEAVING and deadline == float("inf") and not self._waiting:
            self.close()
        else:
            self._guarded(self.on_pump)

    def _send(self, waiting: list[tuple[bytes, Any]]) -> None:
        group, sendto = self._group, self._sender.sendto
        done = 0
        for data, target in waiting:
            try:
                sendto(data, group if target is None else target)
            except BlockingIOError:
                break
            except OSError as error:
                # As good as lost on the way, which the session repairs. To a single member it is
                # mostly an ICMP answer to an earlier datagram; to the group, the network is away.
                self.send_errors += 1
                if target is None:
                    self._tell_trouble(error.strerror or str(error))
            else:
                if target is None and self.trouble:
                    self._tell_trouble("")
            done += 1
        del waiting[:done]
        self._watches[1].want_write(bool(waiting))

    def _tell_trouble(self, why: str) -> None:
        """Nothing can be sent because of `why`, or again ("")."""
        if bool(why) != bool(self.trouble):
            self._on_events([("trouble", why)])
        self.trouble = why
