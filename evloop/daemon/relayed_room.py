"""A room that the directory relays: who is told what, and from where it came.

    comes from           to the group   to members with `full`             to one
    the group            never          all but those whose id it bears *  -
    a member, to room    once           all but that connection            -
    a member, to one     -              -                                  who asked in bulk **
    the leg alone        -              -                                  members that asked **
    the seat (a keeper)  once           all                                who asked in bulk **

    *  a repair (flag 01) bears the id of who said it first: it goes to all
    ** by a NACK with a name in it, RELAY_ASKER_S ago at most; it came from there

What came from the group never goes back to it, and the room has one leg: so there is no loop,
however many directories relay it. Nothing is changed, not even a copy left out: the session's
loss estimates live on them. No tag is checked and no key is needed: of a datagram that begins with
F5 45 bytes 2, 3, 8 to 15 and 24 to 31 are looked at.

A `Seat` is a member without a connection: the keeper. It is handed all that a member would be, as
(datagram, opaque source), once a tick; it talks by `RelayedRoom.say`, and to one source by `tell`.
"""

from __future__ import annotations

from evloop.base.ratelimit import TokenBucket
from evloop.daemon.limits import (
    BOUND_AFTER_S,
    BOUND_KEPT_S,
    EARLY_S,
    EARLY_SENDERS_MAX,
    RELAY_ASKER_S,
    RELAY_ASKERS_MAX,
    RELAY_QUEUE_BYTES,
    RELAY_STALE_S,
    RELAY_UP_BURST_BYTES,
    RELAY_UP_BYTES_PER_S,
)
from evloop.directory.limits import BOUND_TOLD_MAX, RELAY_DATAGRAM_BYTES_MAX
from evloop.directory.protocol import PLAIN, RELIABLE
from evloop.directory.relay_frames import FULL, OFF, room_frame

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Protocol

    from evloop.daemon.connection import Connection
    from evloop.daemon.relay_leg import Leg
    from evloop.directory.protocol import RoomEntry

    Burst = list[tuple[bytes, Any]]

    class Seat(Protocol):
        """A member without a connection."""

        def take(self, burst: Burst) -> object:
            """Datagrams came, each with its source."""

        def gone(self) -> object:
            """The room was deleted: nothing comes any more, and nothing goes out."""

    class Shared(Protocol):
        """What the rooms of one relay share."""

        @property
        def now(self) -> float: ...
        def wake(self, room: RelayedRoom, /) -> object: ...
        def drop(self, why: str, count: int = 1, /) -> object: ...
        def may_send(self, size: int, /) -> bool: ...
        def count(self, way: str, datagrams: int, /) -> object: ...
        def hand(self, seat: Seat, burst: Burst, /) -> object: ...


MAGIC = b"\xf5\x45"
_NACK = b"\x12"  # version 1, type 2
_REPAIR = 0x01  # the flag
_NOBODY = bytes(8)

# Why a datagram is not carried.
FRAME = "frame"  # it makes no sense, or is too long
GRANT = "grant"  # the connection has no grant there
FOREIGN = "foreign"  # not of a session, in a room of sessions
RATE = "rate"  # a member sends too much
SERVER_RATE = "server_rate"  # all members together would be sent too much
ASKED = "not_asked"  # for somebody who has not asked
SLOW = "slow"  # too much waits for its receiver already
STALE = "stale"  # its receiver has been behind for too long
LEG = "leg"  # the kernel did not take it, or there is no leg
DROPS = (FRAME, GRANT, FOREIGN, RATE, SERVER_RATE, ASKED, SLOW, STALE, LEG)
UP, DOWN = "up", "down"
WAYS = (UP, DOWN)


class Member:
    """A connection in a relayed room. `wish`: what it was granted; `heard`, `asked`: when the group
    brought it, and it asked in bulk; `since`: it is here under this id; `said`: so many datagrams
    of it, but repairs, the group has brought since then."""

    __slots__ = (
        "asked", "bucket", "connection", "heard", "room", "said", "sender", "since", "wish",
    )  # fmt: skip

    def __init__(
        self, room: RelayedRoom, connection: Connection, sender: bytes, now: float
    ) -> None:
        self.room = room
        self.connection = connection
        self.bucket = TokenBucket(RELAY_UP_BYTES_PER_S, RELAY_UP_BURST_BYTES, now)
        self.wish = OFF
        self.asked = float("-inf")
        self.be(sender, now)

    def be(self, sender: bytes, now: float) -> None:
        """From now on its id is `sender`."""
        self.sender = sender
        self.since = now
        self.heard = float("-inf")
        self.said = 0


class RelayedRoom:
    """One room. `leg` is None where none can be had, or is not wished for."""

    __slots__ = (
        "_asked",
        "_askers",
        "_bound",
        "_bound_at",
        "_by_id",
        "_direct",
        "_early",
        "_for_seat",
        "_pending",
        "_plain",
        "_sealed",
        "_seat_asked",
        "_shared",
        "_woken",
        "entry",
        "full",
        "heard",
        "leg",
        "members",
        "opener",
        "seat",
        "seat_id",
        "tried",
    )

    def __init__(self, shared: Shared, entry: RoomEntry, opener: str) -> None:
        self._shared = shared
        self.entry = entry
        self.opener = opener  # the visitor on whose account the leg is
        self.leg: Leg | None = None
        self.tried = float("-inf")  # when a leg was last asked for
        self._plain = entry.mode == PLAIN
        self._sealed = entry.mode not in (PLAIN, RELIABLE)
        self.members: dict[Connection, Member] = {}  # all that gave a sender, the newest last
        self.full: dict[Member, None] = {}  # those that are sent what the room says
        self.heard = 0  # datagrams that the group has brought of anybody, but repairs
        self._by_id: dict[bytes, list[Member]] = {}
        # When the group brought it, by ids that nobody bears: who enters speaks before it has.
        self._early: dict[bytes, float] = {}
        self._askers: dict[bytes, tuple[Any, float]] = {}  # of the group: from where, when
        self._asked: dict[Member, None] = {}  # members, who asked last is the last one
        self._pending: list[tuple[bytes, Iterable[Member]]] = []  # frames, and who is left out
        self._direct: dict[Member, list[bytes]] = {}  # frames for one
        self._woken = False
        self._bound: list[bytes] = []
        self._bound_at = float("-inf")
        self.seat: Seat | None = None
        self.seat_id: bytes | None = None
        self._seat_asked = float("-inf")
        self._for_seat: Burst = []

    # -- who is here -------------------------------------------------------------------------------

    @property
    def empty(self) -> bool:
        """Nobody needs this room any more."""
        return not self.members and self.seat is None

    def join(self, connection: Connection, sender: bytes) -> Member:
        """The member that `connection` is from now on, as `sender`; it has no grant when new."""
        member = self.members.get(connection)
        now = self._shared.now
        if member is None:
            member = self.members[connection] = Member(self, connection, sender, now)
        elif member.sender == sender:
            return member
        else:
            self._unlist(member)
            member.be(sender, now)
            self.members[connection] = self.members.pop(connection)  # the newest
        self._by_id.setdefault(sender, []).append(member)
        early = self._early.pop(sender, float("-inf"))
        if early + EARLY_S > now:
            member.heard = early
        return member

    def grant(self, member: Member, wish: str) -> None:
        """It has what it wishes."""
        member.wish = wish
        if wish == FULL:
            self.full[member] = None
        else:
            self.full.pop(member, None)
        if wish == OFF:
            self._asked.pop(member, None)
            member.asked = float("-inf")

    def part(self, member: Member) -> None:
        """It is here no more."""
        self.grant(member, OFF)
        del self.members[member.connection]
        self._direct.pop(member, None)
        self._unlist(member)

    def _unlist(self, member: Member) -> None:
        namesakes = self._by_id[member.sender]
        namesakes.remove(member)
        if not namesakes:
            del self._by_id[member.sender]

    def sit(self, seat: Seat, sender: bytes) -> None:
        """`seat` is a member from now on, as `sender`."""
        self.seat, self.seat_id = seat, sender
        self._seat_asked = float("-inf")

    def rise(self) -> None:
        """It is none any more."""
        self.seat = self.seat_id = None
        self._for_seat = []

    def bound(self, sender: bytes) -> list[bytes]:
        """Ids of members that the group does not bring, the newest first, without `sender`."""
        now = self._shared.now
        if now >= self._bound_at + BOUND_KEPT_S:  # else who asks again and again costs too much
            self._bound_at = now
            self._bound = found = []
            for member in reversed(list(self.members.values())):
                if max(member.since, member.heard) + BOUND_AFTER_S <= now:
                    found.append(member.sender)
                    if len(found) > BOUND_TOLD_MAX:
                        break
        return [one for one in self._bound if one != sender][:BOUND_TOLD_MAX]

    # -- what comes --------------------------------------------------------------------------------

    def hear(self, burst: Burst) -> None:
        """The group brought this."""
        for datagram, source in burst:
            if not 0 < len(datagram) <= RELAY_DATAGRAM_BYTES_MAX:
                self._shared.drop(FRAME)
                continue
            left_out: Iterable[Member] = ()
            if not self._plain and datagram[:2] == MAGIC and len(datagram) >= 16:
                sender = datagram[8:16]
                if not datagram[3] & _REPAIR:
                    left_out = self._by_id.get(sender, ())
                    self.heard += 1
                    for member in left_out:
                        member.heard = self._shared.now
                        member.said += 1
                    if not left_out:
                        self._hear_early(sender)
                if self._asks_in_bulk(datagram):
                    self._note_asker(sender, source)
            self._carry(datagram, left_out, source)

    def _hear_early(self, sender: bytes) -> None:
        early = self._early
        early.pop(sender, None)
        early[sender] = self._shared.now
        if len(early) > EARLY_SENDERS_MAX:
            del early[next(iter(early))]

    def told(self, burst: Burst) -> None:
        """This came to the leg alone: a bulk answer for those of ours who have asked."""
        since = self._shared.now - RELAY_ASKER_S
        asked = self._asked
        while asked and next(iter(asked)).asked < since:
            del asked[next(iter(asked))]
        for datagram, source in burst:
            if not 0 < len(datagram) <= RELAY_DATAGRAM_BYTES_MAX:
                self._shared.drop(FRAME)
                continue
            for member in asked:
                self._carry_to(member, datagram)
            if self.seat is not None and self._seat_asked >= since:
                self._hand(datagram, source)
            elif not asked:
                self._shared.drop(ASKED)

    def take(self, member: Member, target: bytes | None, datagram: bytes) -> None:
        """A member sent this, to the room (None) or to the one of that id."""
        shared = self._shared
        if member.wish == OFF:
            shared.drop(GRANT)
            return
        if not member.bucket.take(shared.now, len(datagram)):
            shared.drop(RATE)
            return
        if not self._plain and datagram[:2] != MAGIC:
            shared.drop(FOREIGN)
            return
        shared.count(UP, 1)
        if target is not None:
            self._pass_on(target, datagram, member)
            return
        if self._asks_in_bulk(datagram):
            member.asked = shared.now
            self._asked.pop(member, None)
            self._asked[member] = None
        self._to_group(datagram)
        self._carry(datagram, (member,), member)

    # -- the seat ----------------------------------------------------------------------------------

    def say(self, datagram: bytes) -> None:
        """The seat says this to the room."""
        if self._asks_in_bulk(datagram):
            self._seat_asked = self._shared.now
        self._to_group(datagram)
        self._put(datagram, ())

    def tell(self, source: Any, datagram: bytes) -> None:
        """The seat says this to one source, which has just asked in bulk; else it is dropped."""
        since = self._shared.now - RELAY_ASKER_S
        if isinstance(source, Member):
            if source.asked >= since and source.connection in self.members:
                self._carry_to(source, datagram)
                return
        elif any(place == source and when >= since for place, when in self._askers.values()):
            self._to_group(datagram, source)
            return
        self._shared.drop(ASKED)

    def _hand(self, datagram: bytes, source: Any) -> None:
        self._for_seat.append((datagram, source))
        self._wake()

    # -- who asks ----------------------------------------------------------------------------------

    def _asks_in_bulk(self, datagram: bytes) -> bool:
        """Whether it is a NACK that names who is to answer. In a sealed room that cannot be read:
        there any NACK counts."""
        if self._plain or datagram[2:3] != _NACK or datagram[:2] != MAGIC:
            return False
        return self._sealed or (len(datagram) >= 32 and datagram[24:32] != _NOBODY)

    def _note_asker(self, sender: bytes, source: Any) -> None:
        askers = self._askers
        askers.pop(sender, None)
        if len(askers) >= RELAY_ASKERS_MAX:
            del askers[next(iter(askers))]
        askers[sender] = (source, self._shared.now)

    def _pass_on(self, target: bytes, datagram: bytes, member: Member) -> None:
        """To where the last bulk NACK of `target` came from."""
        since = self._shared.now - RELAY_ASKER_S
        where, when = self._askers.get(target, (None, since))
        best: Member | None = None
        for one in self._by_id.get(target, ()):
            if one.asked >= max(when, since) and one is not member:
                best, when = one, one.asked
        if target == self.seat_id and self._seat_asked >= max(when, since):
            self._hand(datagram, member)
        elif best is not None:
            self._carry_to(best, datagram)
        elif where is not None and when >= since:
            self._to_group(datagram, where)
        else:
            self._shared.drop(ASKED)

    # -- what goes ---------------------------------------------------------------------------------

    def _to_group(self, datagram: bytes, address: Any = None) -> None:
        if self.leg is None:
            return
        if not self._shared.may_send(len(datagram)):
            self._shared.drop(SERVER_RATE)
        elif not self.leg.send(datagram, address):
            self._shared.drop(LEG)

    def _carry(self, datagram: bytes, left_out: Iterable[Member], source: Any) -> None:
        if self.seat is not None:
            self._hand(datagram, source)
        self._put(datagram, left_out)

    def _put(self, datagram: bytes, left_out: Iterable[Member]) -> None:
        if self.full:
            self._pending.append((room_frame(self.entry.handle, datagram), left_out))
            self._wake()

    def _carry_to(self, member: Member, datagram: bytes) -> None:
        self._direct.setdefault(member, []).append(room_frame(self.entry.handle, datagram))
        self._wake()

    def _wake(self) -> None:
        if not self._woken:
            self._woken = True
            self._shared.wake(self)

    def flush(self) -> None:
        """The end of a tick: hand the seat what came, then queue for each member what is its."""
        self._woken = False
        if self.seat is not None and self._for_seat:
            burst, self._for_seat = self._for_seat, []
            self._shared.hand(self.seat, burst)
        direct, self._direct = self._direct, {}
        for member, frames in direct.items():
            if self._shared.may_send(sum(map(len, frames))):
                self._queue(member, frames, b"")
            else:
                self._shared.drop(SERVER_RATE, len(frames))
        pending, self._pending = self._pending, []
        full = self.full
        if not pending or not full:
            return
        frames = [frame for frame, _ in pending]
        joined = b"".join(frames)
        if not self._shared.may_send(len(joined) * len(full)):
            self._shared.drop(SERVER_RATE, len(frames) * len(full))
            return
        apart = {member for _, left_out in pending for member in left_out}
        short = len(joined) <= RELAY_QUEUE_BYTES
        at_once = 0
        for member in full:
            if member in apart:
                own = [frame for frame, left_out in pending if member not in left_out]
                if own:
                    self._queue(member, own, b"")
            elif short and not member.connection.queued:  # as nearly always
                member.connection.send_loose(joined)
                at_once += 1
            else:
                self._queue(member, frames, joined)
        self._shared.count(DOWN, at_once * len(frames))

    def _queue(self, member: Member, frames: list[bytes], joined: bytes) -> None:
        """Queue `frames` for a member, as many as there is room for; `joined`: all of them, if
        somebody has made it."""
        connection, shared = member.connection, self._shared
        if connection.behind_since + RELAY_STALE_S <= shared.now:
            shared.drop(STALE, len(frames))
            return
        space = RELAY_QUEUE_BYTES - connection.queued
        joined = joined or b"".join(frames)
        fit = len(frames)
        if len(joined) > space:
            fit = _that_fit(frames, space)
            shared.drop(SLOW, len(frames) - fit)
            joined = b"".join(frames[:fit])
        if fit:
            shared.count(DOWN, fit)
            connection.send_loose(joined)


def _that_fit(frames: list[bytes], space: int) -> int:
    """How many of the first frames have `space` bytes together."""
    for count, frame in enumerate(frames):
        space -= len(frame)
        if space < 0:
            return count
    return len(frames)
