"""One room live: a session on its transport and its one timer.

A datagram's way: the transport delivers a bounded burst -> `session.receive_datagram` for each,
then once `pump`: send what the session wants sent, pass its events on, set the timer to its next
deadline. The timer does the same. Nothing here depends on what a datagram means, by which way it
came, or that there is only one room: a room needs no terminal and no sockets.

An unexpected exception in the session, or in a callback, costs the present datagram or event and
no more: it is counted, reported once, and the room goes on.

What the network does in between costs it nothing but time: by the table of interfaces
(`network_changed`) its transport leaves and joins its group, or opens its sockets anew, and the
session is the same: its id, its numbers, its history. What was said meanwhile the session repairs.

    state     leave()                       session is done or LEAVE_S   close()
    live      -> leaving (goodbyes go out)  -                            -> closed
    leaving   -                             -> closed                    -> closed
    closed    -                             -                            -
"""

from __future__ import annotations

import errno

from evloop.base.errors import EvloopError, SetupError
from evloop.room.attachment import BACK, JOIN, LEAVE, NOTHING, REOPEN
from evloop.room.events import Blocked, Deaf, Fault, Left, Trouble
from evloop.room.limits import (
    DEAF_AGAIN_S,
    FAULT_PAUSE_S,
    LEAVE_S,
    OWN_BACK_S,
    OWN_LOST_MAX,
    REOPEN_AGAIN_S,
    SEND_FAILS_S,
)
from evloop.system.timers import NEVER, nothing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from evloop.net.links import Interface, Link
    from evloop.room.attachment import Attachment
    from evloop.room.events import Event, Said
    from evloop.room.roads import Roads
    from evloop.system.loop import Loop
    from evloop.system.timers import Timer

    class Transport(Protocol):
        """The way of a room's datagrams; `evloop.net.multicast.MulticastTransport` is one.

        `source` is where our own datagrams seem to come from, if they come back. `receive` begins:
        `deliver` is called with each burst of (datagram, source), and with what
        `RoomSession.receive_datagram` knows as `sample` and `direct`; `ready` when `send` has
        returned False and would take something again. `send` to None is to everybody, to a source
        to that one alone; OSError: it is lost, and so may be what follows. `leave` and `join` the
        group without closing anything (OSError). `reopen` opens anew after the network has changed,
        by `interface` if one is given, `move` at another group and port by the interface that
        `choose` says; SetupError: all is as before. `describe` says for people by which way.
        `echoes`: what it sends to everybody comes back to itself.
        """

        @property
        def source(self) -> object: ...
        @property
        def echoes(self) -> bool: ...
        def receive(self, deliver: Callable[..., object], ready: Callable[[], object]) -> None: ...
        def send(self, data: bytes, target: Any) -> bool: ...
        def leave(self) -> None: ...
        def join(self) -> None: ...
        def reopen(self, interface: Interface | None = None) -> None: ...
        def move(self, address: str, port: int, choose: Callable[[], Any]) -> None: ...
        def close(self) -> None: ...
        def describe(self) -> str: ...
        def stats(self) -> dict[str, int]: ...

    class Session(Protocol):
        """What `RoomSession` and `PlainSession` have in common; see there."""

        nickname: str
        sender_id: bytes
        repairs: bool  # what is lost on the way comes all the same

        def say(self, text: str, now: float, wall: int, kind: int = 0) -> None: ...
        def rename(self, nickname: str, now: float, wall: int) -> None: ...
        def move(self, place: str, now: float) -> None: ...
        def receive_datagram(
            self, data: bytes, source: object, now: float, sample: bool = True, direct: bool = False
        ) -> None: ...
        def handle_timer(self, now: float) -> None: ...
        def next_deadline(self) -> float: ...
        def datagrams_to_send(self) -> list[tuple[bytes, object | None]]: ...
        def events(self) -> list[Event]: ...
        def members(self, now: float) -> list[tuple[bytes, str, float]]: ...
        def history(self, count: int) -> list[Said]: ...
        def limit_history(self, messages: int) -> None: ...
        def stats(self) -> dict[str, int]: ...
        def label(self, sender: bytes, name: str) -> str: ...
        def queued(self) -> int: ...
        def confirm(self, now: float, later: bool = False) -> None: ...
        def unconfirmed(self) -> int: ...
        def confirmers(self) -> tuple[int, int]: ...
        def unheard_by(self) -> frozenset[bytes]: ...
        def caught_up(self) -> bool: ...
        def solicit(self) -> None: ...
        def leave(self, now: float, wall: int) -> None: ...


LIVE, LEAVING, CLOSED = range(3)

# How `sendto` fails when an address or an interface has gone: the table of interfaces will tell.
_OF_THE_NETWORK = (
    errno.EADDRNOTAVAIL,
    errno.EHOSTUNREACH,
    errno.EINVAL,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.ENODEV,
)


class LiveRoom:
    """A member of one room: `session` on `transport`, which are the room's own from now on.

    `wall` is unix time. Nothing moves before `start`. `on_events(events)` then gets what happened
    in the session, and Trouble, Blocked, Deaf (the network) and Fault (a bug was contained).
    `on_pump()` is called whenever the session may have moved, `on_closed()` once, when the room is
    left and its transport is closed. `attachment` says what to do when the network changes; without
    one it is as it is.
    """

    __slots__ = (
        "_blocked",
        "_deadline",
        "_deaf",
        "_deaf_times",
        "_failing",
        "_faulty",
        "_held_until",
        "_loop",
        "_network",
        "_own_lost",
        "_timer",
        "_unanswered",
        "_waiting",
        "_wall",
        "attachment",
        "faults",
        "on_closed",
        "on_events",
        "on_pump",
        "roads",
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
        attachment: Attachment | None = None,
    ) -> None:
        self._loop = loop
        self.attachment = attachment
        self.roads: Roads | None = None  # where there is more than the group: see `relay`
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
        self._failing = NEVER  # since when sending to the group fails
        self._held_until = -NEVER  # what nobody would repair is not sent before
        self._unanswered = NEVER  # when something was sent to the group that did not come back yet
        self._own_lost = 0  # how often that was so, one after the other
        self._blocked = False  # that was told
        self._deaf_times = 0  # how often the group was joined anew because nobody is heard
        self._deaf: Timer | None = None  # few rooms ever need it
        self._network = loop.call_at(NEVER, self._look_at_network)
        self._waiting: list[tuple[bytes, Any]] = []  # what the transport had no room for
        self._timer: Timer = loop.call_at(NEVER, self._on_timer)
        self._deadline: Timer | None = None  # of leaving

    def start(self) -> None:
        """Begin to send and to receive."""
        self.transport.receive(self._receive, self.pump)
        if self.attachment is not None:
            self._look_at_network()
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
            self._deadline = self._loop.call_at(self._loop.now + LEAVE_S, self.close)
            self.session.leave(self._loop.now, int(self._wall()))
            self.pump()

    def close(self) -> None:
        """Close at once; a second call does nothing."""
        if self.state == CLOSED:
            return
        self.state = CLOSED
        for timer in (self._timer, self._deadline, self._deaf, self._network):
            if timer is not None:
                timer.cancel()
        self.transport.close()
        self.on_closed()

    # -- the network -------------------------------------------------------------------------

    @property
    def where(self) -> str:
        """For people: by which way, and from which address."""
        return self.attachment.where if self.attachment is not None else self.transport.describe()

    def way(self) -> dict[str, str]:
        """The same for /stats: "interface", "address" where there is one, and "road" where there
        is more than one."""
        road = {"road": self.road} if self.road else {}
        if self.attachment is None:
            return {"interface": self.transport.describe(), **road}
        interface = self.attachment.interface
        return {"interface": interface.name, "address": interface.address, **road}

    @property
    def road(self) -> str:
        """The state of `roads`; "": the group is the only road."""
        return self.roads.state if self.roads is not None else ""

    def missed(self) -> None:
        """We take another road: what was said meanwhile may not have come by the one of before."""
        if self.state == LIVE:
            self.session.solicit()
            self.pump()

    def reopen(self) -> None:
        """Open the transport anew; SetupError: all is as before."""
        self.transport.reopen()
        self.session.solicit()
        self.pump()

    def move(self, place: str) -> None:
        """The transport was opened anew at another `place`: the same session goes on there."""
        self._waiting.clear()  # it has the tags of the old place, and is repaired if need be
        self.session.move(place, self._loop.now)
        self.pump()

    def network_changed(self, links: tuple[Link, ...]) -> None:
        """The table of interfaces is another one."""
        if self.attachment is not None and self.state != CLOSED:
            self._do(self.attachment.changed(links, self._loop.now))

    def rejoin(self) -> None:
        """Others are here and are not heard: leave the group and join it, now and every
        DEAF_AGAIN_S, until somebody is heard (a switch forgets who has joined)."""
        if self.attachment is None or self.state != LIVE:
            return
        if self._deaf is None:
            self._deaf = self._loop.call_at(NEVER, self.rejoin)
        self._deaf.move(self._loop.now + DEAF_AGAIN_S)
        if not self.attachment.away:
            self._deaf_times += 1
            self.tell(Deaf("deaf", self._deaf_times))
            self._do(self.attachment.rejoin(self._loop.now))

    def give_up(self) -> None:
        """Nobody else is here: there is nothing to be heard."""
        if self._deaf is not None:
            self._deaf.move(NEVER)
        self._deaf_times = 0

    def _look_at_network(self) -> None:
        assert self.attachment is not None  # it has armed the timer
        self._do(self.attachment.look(self._loop.now))

    def _do(self, action: str) -> None:
        """Do what the attachment wants done."""
        attachment, now = self.attachment, self._loop.now
        assert attachment is not None
        before = attachment.where
        try:
            if action == LEAVE:
                self.transport.leave()
            elif action == JOIN:
                self.transport.join()
            elif action == REOPEN:
                self.transport.reopen(attachment.target)
                attachment.opened()
        except SetupError as error:
            attachment.failed(error.sentence, now)
        except OSError as error:  # gone while it was asked for: the next look opens it anew
            attachment.failed(error.strerror or str(error), now)
        else:
            if action in (JOIN, REOPEN, BACK):
                self.session.solicit()
                self._unanswered, self._own_lost = NEVER, 0
        if action != NOTHING or attachment.why:  # else what a firewall refuses is refused still
            self._tell_trouble(attachment.why, attachment.where != before)
        if self.state == CLOSED:  # who was told has closed the room
            return
        if action == REOPEN and not attachment.away:
            self._do(attachment.look(now))
            return
        self._network.move(attachment.due)
        if action != NOTHING or not attachment.away:
            self.pump()

    # -- datagrams and time ------------------------------------------------------------------

    def _receive(
        self, burst: list[tuple[bytes, Any]], sample: bool = True, direct: bool = False
    ) -> None:
        session, now = self.session, self._loop.now
        if burst:
            self._unanswered = NEVER
            self._own_lost = 0
        take = session.receive_datagram
        for data, source in burst:
            try:
                take(data, source, now, sample, direct)
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
            self.tell(Fault("fault", f"{kind}: {error}" if str(error) else kind))

    def _ask(self, act: Callable[..., Any], *arguments: Any) -> Any:
        """What `act`, a method of the session, returns; None when it raises."""
        try:
            return act(*arguments)
        except Exception as error:  # noqa: BLE001 - the room goes on
            self._faulty = self._loop.now
            self._fault(error)
            return None

    def tell(self, event: Event) -> None:
        """Pass `event` on."""
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
        if not self._held():
            waiting += self._ask(session.datagrams_to_send) or ()
            if waiting:
                self._send(waiting)
        for event in self._ask(session.events) or ():
            self.tell(event)
            if event.what in ("left", "joined") and self.state != CLOSED:
                self._count_heard(event)
        if self.state == CLOSED:  # a callback has closed the room
            return
        held = self._held()  # by what was refused just now, too
        deadline = self._held_until if held else self._ask(session.next_deadline)
        rested = self._faulty + FAULT_PAUSE_S
        if deadline is None or (deadline < rested and rested > self._loop.now):
            deadline = rested  # not at once, if it is due still
        self._timer.move(deadline)
        if self.state == LEAVING and deadline == NEVER and not self._waiting:
            self.close()
        else:
            try:
                self.on_pump()
            except Exception as error:  # noqa: BLE001 - no business of the room
                self._fault(error)

    def _held(self) -> bool:
        """Whether nothing is to be sent now: it would be lost, and nobody would repair it."""
        if self.session.repairs or self.attachment is None or self.state == LEAVING:
            return False
        if self.attachment.away:
            self._held_until = NEVER
        elif self._held_until == NEVER:
            self._held_until = -NEVER
        return self._loop.now < self._held_until

    def _count_heard(self, event: Event) -> None:
        if not isinstance(event, Left):
            self.give_up()
        elif event.why == "silent" and len(self.session.members(self._loop.now)) == 1:
            self._loop.defer(self.rejoin)  # everybody: it is more likely that we do not hear

    def _send(self, waiting: list[tuple[bytes, Any]]) -> None:
        send = self.transport.send
        done = 0
        to_group = False
        for data, target in waiting:
            try:
                if not send(data, target):
                    break
            except OSError as error:
                # As good as lost on the way, which the session repairs. To a single member it is
                # mostly an ICMP answer to an earlier datagram; to the group, the network is away.
                self.send_errors += 1
                if target is None and self._not_sent(error):
                    break
            else:
                to_group |= target is None
            done += 1
        del waiting[:done]
        if to_group:
            self._sent()

    def _not_sent(self, error: OSError) -> bool:
        """Something for everybody was refused; whether it is kept for later."""
        now, attachment = self._loop.now, self.attachment
        passing = attachment is not None and error.errno in _OF_THE_NETWORK
        self._failing = min(self._failing, now)
        if not passing or now >= self._failing + SEND_FAILS_S:
            self._tell_trouble(error.strerror or str(error))
        if not passing or self.session.repairs:
            return False
        self._held_until = now + REOPEN_AGAIN_S
        return True

    def _sent(self) -> None:
        """Something went to everybody. Without a carrier that succeeds, too."""
        self._failing = NEVER
        if self.attachment is None or not self.attachment.away:
            self._tell_trouble("")
        if not self.transport.echoes:
            return
        now = self._loop.now
        if self._unanswered == NEVER:
            self._unanswered = now
        elif now > self._unanswered + OWN_BACK_S:
            self._unanswered = now
            self._own_lost += 1
            if self._own_lost == OWN_LOST_MAX and not self._blocked:
                self._blocked = True
                self.tell(Blocked("blocked", self._own_lost))

    def _tell_trouble(self, why: str, moved: bool = False) -> None:
        """Nothing can be sent because of `why`, or again (""); `moved`: we are elsewhere now."""
        if moved or bool(why) != bool(self.trouble):
            self.on_events([Trouble("trouble", why, "" if why else self.where)])
        self.trouble = why
