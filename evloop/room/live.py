"""One room live: a session on its transport and its one timer.

A datagram's way: the transport delivers a bounded burst -> `session.receive_datagram` for each,
then once `pump`: send what the session wants sent, pass its events on, set the timer to its next
deadline. The timer does the same. Nothing here depends on what a datagram means, by which way it
came, or that there is only one room: a room needs no terminal and no sockets.

An unexpected exception in the session, or in a callback, costs the present datagram or event and
no more: it is counted, reported once, and the room goes on.

    state     leave()                       session is done or LEAVE_S   close()
    live      -> leaving (goodbyes go out)  -                            -> closed
    leaving   -                             -> closed                    -> closed
    closed    -                             -                            -
"""

from __future__ import annotations

from evloop.base.errors import EvloopError
from evloop.room.events import Fault, Trouble
from evloop.room.limits import FAULT_PAUSE_S, LEAVE_S
from evloop.system.timers import nothing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from evloop.room.events import Event, Said
    from evloop.system.loop import Loop
    from evloop.system.timers import Timer

    class Transport(Protocol):
        """The way of a room's datagrams; `evloop.net.multicast.MulticastTransport` is one.

        `source` is where our own datagrams seem to come from, if they come back. `receive` begins:
        `deliver` is called with each burst of (datagram, source), `ready` when `send` has returned
        False and would take something again. `send` to None is to everybody, to a source to that
        one alone; OSError: it is lost, and so may be those after it. `reopen` opens anew after the
        network has changed, `move` at another group and port by the interface that `choose` says;
        SetupError: all is as before. `describe` says for people by which way.
        """

        @property
        def source(self) -> object: ...
        def receive(
            self, deliver: Callable[[list[tuple[bytes, Any]]], object], ready: Callable[[], object]
        ) -> None: ...
        def send(self, data: bytes, target: Any) -> bool: ...
        def reopen(self) -> None: ...
        def move(self, address: str, port: int, choose: Callable[[], Any]) -> None: ...
        def close(self) -> None: ...
        def describe(self) -> str: ...
        def stats(self) -> dict[str, int]: ...

    class Session(Protocol):
        """What `RoomSession` and `PlainSession` have in common; see there."""

        nickname: str
        sender_id: bytes

        def say(self, text: str, now: float, wall: int, kind: int = 0) -> None: ...
        def rename(self, nickname: str, now: float, wall: int) -> None: ...
        def move(self, place: str, now: float) -> None: ...
        def receive_datagram(self, data: bytes, source: object, now: float) -> None: ...
        def handle_timer(self, now: float) -> None: ...
        def next_deadline(self) -> float: ...
        def datagrams_to_send(self) -> list[tuple[bytes, object | None]]: ...
        def events(self) -> list[Event]: ...
        def members(self, now: float) -> list[tuple[bytes, str, float]]: ...
        def history(self, count: int) -> list[Said]: ...
        def stats(self) -> dict[str, int]: ...
        def label(self, sender: bytes, name: str) -> str: ...
        def queued(self) -> int: ...
        def confirm(self, now: float) -> None: ...
        def unconfirmed(self) -> int: ...
        def confirmers(self) -> tuple[int, int]: ...
        def unheard_by(self) -> set[bytes]: ...
        def caught_up(self) -> bool: ...
        def leave(self, now: float, wall: int) -> None: ...


LIVE, LEAVING, CLOSED = range(3)


class LiveRoom:
    """A member of one room: `session` on `transport`, which are the room's own from now on.

    `wall` is unix time. Nothing moves before `start`. `on_events(events)` then gets what happened
    in the session, and Trouble: nothing can be sent because of `why`; "": that is over; and Fault:
    an unexpected exception was caught. `on_pump()` is called whenever the session may have
    something new, `on_closed()` once, when the room is left and its transport is closed.
    """

    __slots__ = (
        "_deadline",
        "_faulty",
        "_loop",
        "_timer",
        "_waiting",
        "_wall",
        "faults",
        "on_closed",
        "on_events",
        "on_pump",
        "send_errors",
        "session",
        "state",
        "transport",
        "trouble",
    )

    def __init__(
        self,
        loop: Loop,
        transport: Transport,
        session: Session,
        wall: Callable[[], float],
    ) -> None:
        self._loop = loop
        self._wall = wall
        self.transport = transport
        self.session = session
        self.on_events: Callable[[list[Event]], object] = nothing
        self.on_pump: Callable[[], object] = nothing
        self.on_closed: Callable[[], object] = nothing
        self.state = LIVE
        self.send_errors = 0
        self.faults = 0  # unexpected exceptions that were caught
        self._faulty = float("-inf")  # when the session last raised: its timer pauses after that
        self.trouble = ""  # why nothing can be sent to the group
        self._waiting: list[tuple[bytes, Any]] = []  # what the transport had no room for
        self._timer: Timer = loop.call_at(float("inf"), self._on_timer)
        self._deadline: Timer = loop.call_at(float("inf"), self.close)

    def start(self) -> None:
        """Begin to send and to receive."""
        self.transport.receive(self._receive, self.pump)
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
        """The session's counters and those of the transport."""
        return {
            **self.session.stats(),
            "send_errors": self.send_errors,
            "faults": self.faults,
            **self.transport.stats(),
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
        self.transport.close()
        self.on_closed()

    def reopen(self) -> None:
        """The network has changed: open the transport anew; SetupError: all is as before."""
        self.transport.reopen()
        self.pump()

    def move(self, place: str) -> None:
        """The transport was opened anew at another `place`: the same session goes on there."""
        self._waiting.clear()  # it has the tags of the old place, and is repaired if need be
        self.session.move(place, self._loop.now)
        self.pump()

    def _receive(self, burst: list[tuple[bytes, Any]]) -> None:
        session, now = self.session, self._loop.now
        take = session.receive_datagram
        for data, source in burst:
            try:
                take(data, source, now)
            except Exception as error:  # noqa: BLE001 - the datagram is dropped
                self._fault(error)
        self.pump()

    def _on_timer(self) -> None:
        self._ask(self.session.handle_timer, self._loop.now)
        self.pump()

    def _fault(self, error: Exception) -> None:
        """An unexpected exception: the datagram or event is lost. It is reported only once, because
        a stranger may be able to cause it again and again, and must not end this program.
        (EvloopErrors are raised on: the owner of the loop handles them.)"""
        if isinstance(error, EvloopError):
            self._loop.failed(self, error)
            return
        self.faults += 1
        if self.faults == 1:
            kind = type(error).__name__
            self._tell(Fault("fault", f"{kind}: {error}" if str(error) else kind))

    def _ask(self, act: Callable[..., Any], *arguments: Any) -> Any:
        """What `act`, a method of the session, returns; None when it raises."""
        try:
            return act(*arguments)
        except Exception as error:  # noqa: BLE001 - the room goes on
            self._faulty = self._loop.now
            self._fault(error)
            return None

    def _tell(self, event: Event) -> None:
        try:
            self.on_events([event])
        except Exception as error:  # noqa: BLE001 - the others are told all the same
            self._fault(error)

    def pump(self) -> None:
        """Send the session's datagrams, pass its events on, and set the timer."""
        if self.state == CLOSED:
            return
        session = self.session
        waiting = self._waiting
        waiting += self._ask(session.datagrams_to_send) or ()
        if waiting:
            self._send(waiting)
        for event in self._ask(session.events) or ():
            self._tell(event)
        if self.state == CLOSED:  # a callback has closed the room
            return
        deadline = self._ask(session.next_deadline)
        rested = self._faulty + FAULT_PAUSE_S
        if deadline is None or (deadline < rested and rested > self._loop.now):
            deadline = rested  # not at once, if it is due still
        self._timer.move(deadline)
        if self.state == LEAVING and deadline == float("inf") and not self._waiting:
            self.close()
        else:
            try:
                self.on_pump()
            except Exception as error:  # noqa: BLE001 - no business of the room
                self._fault(error)

    def _send(self, waiting: list[tuple[bytes, Any]]) -> None:
        send = self.transport.send
        done = 0
        for data, target in waiting:
            try:
                if not send(data, target):
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

    def _tell_trouble(self, why: str) -> None:
        """Nothing can be sent because of `why`, or again ("")."""
        if bool(why) != bool(self.trouble):
            self.on_events([Trouble("trouble", why)])
        self.trouble = why
