"""Who of a sealed room is there now, and what of each sender is taken in.

A right tag says who made a datagram, not when: somebody without the key may have recorded it
yesterday. Wall clocks lie on small boxes, so freshness is proven and not dated (as by the Echo of
RFC 9175, but in a group): my sender id is random and new at each join, so a SESSION that names my
id was made after I came. It names me as echo, as an entry of its list, as a stranger or as a
member. Towards me a sender is

    state      SESSION that   SESSION that   a proven member's   BYE      silent
               names me       does not       list of members
    unknown    -> proven      -> stranger    -> proven           final    -
    stranger   -> proven      kept anew      -> proven; (1)      final    unknown
    proven     taken in       taken in       -                   final    unknown

(1) the last SESSION that it sent is taken in now, with the time at which it came. What gets in:

    from               SESSION             BYE                 NACK            DATA
    proven             its counter is      the same            each counter    number >= the lowest
                       above all before                        once (2)        lo listed for it
    stranger, unknown  no: `unproven`      no: `unproven`      the same, if    within [lo, hi) that
                                                               it names me     proven members list;
                                                                               else it waits

(2) within a window of REPLAY_WINDOW counters below the highest. What has come before is `replayed`.
A BYE is final: an id is used for one stay. DATA that waits is taken in when it is listed, or its
sender is proven; after STRANGER_S, or when WAITING_MAX wait and it is the oldest, it was in vain.

A proven member's list is the room's history, whoever sends the bytes. `Gate` knows no bytes and no
timers: `evloop.room.reliable.entrance` asks it for each datagram.
"""

from __future__ import annotations

from evloop.room.reliable.limits import (
    LISTED_SENDERS_MAX,
    MEMBERS_MAX,
    NAMES_MAX,
    REPLAY_WINDOW,
    SPANS_MAX,
    STRANGER_S,
    STRANGERS_MAX,
    WAITING_MAX,
)
from evloop.room.reliable.packets import ranges
from evloop.system.timers import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from evloop.room.reliable.packets import Fields, Range

    Key = tuple[bytes, int]

TAKEN, REPLAYED, UNPROVEN, WAITS = "taken", "replayed", "unproven", ""
NAMED_TIMES = 2  # a member that became proven is named in so many of my SESSIONs
_ID_BYTES = 8


class Peer:
    """What is remembered of one sender."""

    __slots__ = ("counter", "final", "floor", "heard", "kept", "window")

    def __init__(self, now: float) -> None:
        self.counter = -1  # the highest of its control datagrams
        self.floor = -1  # the same, when it last ceased to be proven
        self.window = 0  # bit n: counter - n has come
        self.heard = now
        self.final = False  # it has said BYE
        self.kept: tuple[Any, float] | None = None  # a stranger's last SESSION, when it came

    def rises(self, counter: int) -> bool:
        """Note `counter`, if it is above all before."""
        return counter > self.counter and self.once(counter)

    def once(self, counter: int) -> bool:
        """Note `counter`; whether it came for the first time, and not too long after others."""
        ahead = counter - self.counter
        if ahead > 0:
            before = self.window << ahead if ahead < REPLAY_WINDOW else 0
            self.window = (before | 1) & (1 << REPLAY_WINDOW) - 1
            self.counter = counter
            return True
        if ahead <= -REPLAY_WINDOW or self.window >> -ahead & 1:
            return False
        self.window |= 1 << -ahead
        return True


def _ids(raw: bytes) -> list[bytes]:
    return [raw[at : at + _ID_BYTES] for at in range(0, len(raw), _ID_BYTES)]


class Gate:
    """The senders of one room as member `own` sees them.

    `released`: kept SESSIONs of senders that are proven now, as they were handed in, and when each
    came. `admitted`: more DATA is admitted than before, so what waits may be looked at.
    `vain`: (sender, number) of DATA that waited in vain, until they are fetched.
    """

    __slots__ = (
        "_former", "_listed", "_others", "_own", "_proven", "_unheard", "_waiting", "admitted",
        "fresh", "released", "strangers", "vain",
    )  # fmt: skip

    def __init__(self, own: bytes) -> None:
        self._own = own
        self._proven: dict[bytes, Peer] = {}
        self._former: dict[bytes, Peer] = {}  # that were proven before; the newest last
        self._others: dict[bytes, Peer] = {}  # that never were; the order is that of meeting
        self._unheard: dict[bytes, float] = {}  # proven by a list alone, since when
        self.fresh: dict[bytes, int] = {}  # members to be named, and how often still
        self.strangers: dict[bytes, float] = {}  # to be named, since when; the newest last
        self._listed: dict[bytes, list[tuple[int, int]]] = {}  # the newest span last
        self._waiting: dict[Key, tuple[float, Any]] = {}  # DATA, the oldest first
        self.admitted = False
        self.released: list[tuple[Any, float]] = []
        self.vain: list[Key] = []

    # -- the four kinds of datagrams -------------------------------------------------------------

    def names_me(self, fields: Fields) -> bool:
        """Whether a SESSION with these fields was made by somebody who knows my id."""
        own = self._own
        if fields[2] == own:
            return True
        strangers, members = fields[10], fields[11]
        if own in _ids(strangers) or own in _ids(members):
            return True
        return own in fields[9] and any(origin == own for origin, _, _ in ranges(fields[9]))

    def names_me_stranger(self, fields: Fields) -> bool:
        """Whether its sender does not know yet whether I am there."""
        return self._own in _ids(fields[10])

    def session(
        self, sender: bytes, counter: int, fields: Fields, kept: object, differs: bool, now: float
    ) -> str:
        """A SESSION with the `fields` of a sealed room: TAKEN, REPLAYED or UNPROVEN.

        `kept` is remembered in the last case, and in `released` later. `differs`: its digest is not
        mine; else its list tells nothing new.
        """
        peer = self._proven.get(sender)
        if peer is not None:
            if not peer.rises(counter):
                return REPLAYED
            peer.heard = now
            if self.names_me_stranger(fields):
                self.fresh[sender] = max(1, self.fresh.get(sender, 0))
        else:
            peer = self._meet(sender, now)
            names_me = self.names_me(fields)
            if peer.final or counter <= (peer.floor if names_me else peer.counter):
                return REPLAYED
            if not names_me:
                peer.once(counter)
                peer.heard = now
                peer.kept = kept, now
                self.strangers.pop(sender, None)
                self.strangers[sender] = now
                return UNPROVEN
            # It may have overtaken a later one that does not name me, which is taken in then.
            newest = peer.rises(counter)
            if newest:
                peer.kept = None
            self._prove(sender, peer, now)
            self._list_own(sender, fields)
            if not newest:
                return REPLAYED
        self._unheard.pop(sender, None)
        self._read(sender, fields, differs, now)
        return TAKEN

    def bye(self, sender: bytes, counter: int, now: float) -> str:
        """A BYE: TAKEN, REPLAYED or UNPROVEN."""
        peer = self._proven.get(sender)
        if peer is None:
            peer = self._meet(sender, now)
            if not peer.rises(counter):
                return REPLAYED
            verdict = UNPROVEN
        elif not peer.rises(counter):
            return REPLAYED
        else:
            self._cease(sender, peer)
            verdict = TAKEN
        peer.final = True
        peer.kept = None
        self.strangers.pop(sender, None)
        return verdict

    def nack(self, sender: bytes, counter: int, fields: Fields, now: float) -> str:
        """A NACK: TAKEN, REPLAYED or UNPROVEN."""
        peer = self._proven.get(sender)
        if peer is None:
            to, raw = fields
            own = self._own
            if to != own and not (own in raw and any(one == own for one, _, _ in ranges(raw))):
                return UNPROVEN
            peer = self._meet(sender, now)
            if peer.final:
                return REPLAYED
        return TAKEN if peer.once(counter) else REPLAYED

    def admits(self, sender: bytes, seq: int) -> bool:
        """Whether DATA is taken in now, whoever sends it."""
        spans = self._listed.get(sender, ())
        if sender in self._proven:
            for lo, _ in spans:
                if seq >= lo:
                    return True
            return not spans
        return any(lo <= seq < hi for lo, hi in spans)

    def lists(self, sender: bytes, seq: int) -> bool:
        """Whether a proven member listed the message: somebody present held it since I came."""
        return any(lo <= seq < hi for lo, hi in self._listed.get(sender, ()))

    # -- DATA that waits -------------------------------------------------------------------------

    def wait(self, sender: bytes, seq: int, data: object, now: float) -> str:
        """DATA that is not admitted: WAITS, or UNPROVEN when one under its number does already, or
        its sender is proven: that one does not hold it any more."""
        key = sender, seq
        if key in self._waiting or sender in self._proven:
            return UNPROVEN
        self._waiting[key] = now, data
        if len(self._waiting) > WAITING_MAX:
            oldest = next(iter(self._waiting))
            del self._waiting[oldest]
            self.vain.append(oldest)
        return WAITS

    def take_admitted(self) -> list[Any]:
        """What waited and is admitted now, as it was handed in."""
        self.admitted = False
        keys = [key for key in self._waiting if self.admits(*key)]
        return [self._waiting.pop(key)[1] for key in keys]

    def waits_until(self) -> float:
        """When to call `expire`."""
        due = NEVER
        for since, _ in self._waiting.values():  # the oldest
            due = since + STRANGER_S
            break
        return due

    def expire(self, now: float) -> None:
        """What has waited for too long was in vain."""
        gone = [key for key, (since, _) in self._waiting.items() if since + STRANGER_S <= now]
        for key in gone:
            del self._waiting[key]
        self.vain += gone

    # -- what my next SESSION tells --------------------------------------------------------------

    def names(self, now: float) -> tuple[list[bytes], list[bytes]]:
        """(strangers, members) to be named in the SESSION that is sent now."""
        members = list(self.fresh)[:NAMES_MAX]
        for member in members:
            self.fresh[member] -= 1
            if not self.fresh[member]:
                del self.fresh[member]
        strangers: list[bytes] = []
        for stranger in reversed(list(self.strangers)):
            if now > self.strangers[stranger] + STRANGER_S:
                break
            if len(strangers) + len(members) == NAMES_MAX:
                return strangers, members
            strangers.append(stranger)
            del self.strangers[stranger]
        self.strangers.clear()  # what is left is too old
        return strangers, members

    def has_strangers(self, now: float) -> bool:
        """Whether the next SESSION would name a stranger."""
        newest = next(reversed(self.strangers.values()), -NEVER)
        return now <= newest + STRANGER_S

    # -- members come and go ---------------------------------------------------------------------

    def is_proven(self, sender: bytes) -> bool:
        return sender in self._proven

    def gone(self, sender: bytes) -> None:
        """The present member `sender` was silent for too long, or has left."""
        peer = self._proven.get(sender)
        if peer is not None:
            self._cease(sender, peer)

    def unheard_until(self, patience: float) -> float:
        """When to call `forget_unheard` with that `patience`."""
        due = NEVER
        for since in self._unheard.values():
            due = since + patience
            break
        return due

    def forget_unheard(self, patience: float, now: float) -> None:
        """Who is proven by a list alone, and sent nothing for `patience` seconds, is unknown."""
        for sender in [one for one, since in self._unheard.items() if since + patience <= now]:
            self.gone(sender)

    def stats(self) -> dict[str, int]:
        """The sizes of the tables."""
        return {
            "proven": len(self._proven),
            "strangers": len(self._others),
            "former": len(self._former),
            "listed": len(self._listed),
            "waiting": len(self._waiting),
        }

    def _known(self, sender: bytes) -> Peer | None:
        return self._former.get(sender) or self._others.get(sender)

    def _meet(self, sender: bytes, now: float) -> Peer:
        """The record of a sender that is not proven.

        Those that were proven have a table of their own: what a stranger replays cannot make me
        forget how far a member had come.
        """
        peer = self._known(sender)
        if peer is None:
            peer = self._others[sender] = Peer(now)
            if len(self._others) > STRANGERS_MAX // 2:
                oldest = next(iter(self._others))
                del self._others[oldest]
                self.strangers.pop(oldest, None)
        return peer

    def _prove(self, sender: bytes, peer: Peer, now: float) -> None:
        self._others.pop(sender, None)
        self._former.pop(sender, None)
        self.strangers.pop(sender, None)
        if len(self._proven) >= MEMBERS_MAX:
            oldest = next(iter(self._unheard), None) or next(iter(self._proven))
            self._cease(oldest, self._proven[oldest])
        self._proven[sender] = peer
        self.fresh[sender] = NAMED_TIMES
        self.admitted |= bool(self._waiting)
        if peer.kept is not None:
            self.released.append(peer.kept)
            peer.kept = None
        else:
            self._unheard[sender] = now

    def _cease(self, sender: bytes, peer: Peer) -> None:
        """`sender` is not proven any more; its counters stay known."""
        del self._proven[sender]
        self.fresh.pop(sender, None)
        self._unheard.pop(sender, None)
        peer.floor = peer.counter
        self._former[sender] = peer
        if len(self._former) > STRANGERS_MAX // 2:
            oldest = next(iter(self._former))
            del self._former[oldest]
            self.strangers.pop(oldest, None)

    # -- lists -----------------------------------------------------------------------------------

    def _list_own(self, sender: bytes, fields: Fields) -> None:
        """Who becomes proven by its own SESSION is listed as its own entry says."""
        own = [(lo, hi) for origin, lo, hi in ranges(fields[9]) if origin == sender]
        self._list(sender, *(own or [(0, 0)])[0])

    def read(self, sender: bytes, fields: Fields, now: float) -> None:
        """Take in the lists of a SESSION that was `released`."""
        self._unheard.pop(sender, None)
        self._list_own(sender, fields)
        self._read(sender, fields, True, now)

    def _read(self, sender: bytes, fields: Fields, differs: bool, now: float) -> None:
        if differs and fields[9]:
            listed: list[Range] = ranges(fields[9])
            for origin, lo, hi in listed:
                if origin != self._own:
                    self._list(origin, lo, hi)
        for member in _ids(fields[11]):
            if member != self._own and member not in self._proven:
                peer = self._known(member) or Peer(now)
                if not peer.final:
                    self._prove(member, peer, now)

    def _list(self, origin: bytes, lo: int, hi: int) -> None:
        """A proven member holds [lo, hi) of `origin`."""
        if hi < lo:
            return
        spans = self._listed.get(origin)
        if spans is None:
            self._listed[origin] = [(lo, hi)]
            self.admitted |= bool(self._waiting)
            if len(self._listed) > LISTED_SENDERS_MAX:
                del self._listed[next(iter(self._listed))]
            return
        apart = []
        for span in spans:
            if span[0] <= hi and lo <= span[1]:
                lo, hi = min(lo, span[0]), max(hi, span[1])
            else:
                apart.append(span)
        apart.append((lo, hi))
        if apart != spans:
            self._listed[origin] = apart[-SPANS_MAX:]
            self.admitted |= bool(self._waiting)
