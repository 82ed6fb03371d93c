"""The records of senders: who has spoken, how far each has got, and which of them are kept.

`VersionVector` holds them. Its digest is the XOR over all senders of a hash of (sender, next
number), kept up to date at each step, so that comparing two members costs one comparison. A SESSION
lists the records that changed most recently first; the last quarter of its list rotates through the
others.

Equal digests are what makes a room quiet, so when there are more senders than SENDERS_MAX, all
members must keep the same ones. Each record has a rank, and within a rank the oldest by (Lamport
time of its newest message, sender id) goes first, which is the same order everywhere:

    rank     its sender                                     makes room for
    QUIET    all others                                     a newer one, and who speaks now
    RECENT   is present, or spoke in the last STANDING_S    a member of standing, and one that is
                                                            present since before the record began
    MEMBER   is of standing and present                     a newer one, and who speaks now
    SPEAKER  is of standing, and spoke in SENDER_KEPT_S     nobody

A repair does not make its sender one that speaks now: it brings back what is newer than the oldest,
and nothing else. Whom a member has forgotten or refused is remembered for a while (`Forgotten`): it
is not asked for again when others list it, as long as its place would be below the oldest here. So
what members keep may differ for a while, by what each of them heard itself; but what one lists that
another would keep, that one takes, and so they come to keep the same.

An adopted record (see `adoption`) counts in the digest and in lists, and is no record otherwise:
`known` does not find it. It is the first to make room: of several the one that nobody has listed
for LISTED_S, and then the one with the least sender id, which is the same order everywhere.
"""

from __future__ import annotations

from collections import namedtuple
from heapq import nsmallest
from struct import Struct

from evloop.room.reliable.limits import (
    FORGOTTEN_MAX,
    LISTED_S,
    SENDER_KEPT_S,
    SENDERS_MAX,
    STANDING_S,
)
from evloop.system.timers import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import NamedTuple

    from evloop.room.reliable.membership import Member
    from evloop.room.reliable.reorder import Sender

    Place = tuple[int, int, bytes]  # (rank, Lamport time, sender): the least makes room first

    class Forgotten(NamedTuple):
        """What is remembered of a sender without a record: all numbers below `shown` were taken
        in, `hi` is the number after the newest that came, and `lamport` the time of that."""

        shown: int
        hi: int
        lamport: int
else:
    Forgotten = namedtuple("Forgotten", "shown hi lamport")

try:
    from _blake2 import blake2b
except ImportError:
    from hashlib import blake2b
_ITEM = Struct(">8sI")
QUIET, RECENT, MEMBER, SPEAKER = range(4)
ADOPTED = -1  # below all ranks
FIRST_S = 0.2  # the record that makes room first is looked for so often, unless some record changes


def digest_item(sender: bytes, hi: int) -> int:
    """What a sender with next expected number `hi` > 0 adds (by XOR) to the digest."""
    return int.from_bytes(blake2b(_ITEM.pack(sender, hi), digest_size=8).digest(), "big")


def rank(member: Member | None, standing: bool, heard: float, now: float) -> int:
    """The rank of a sender that is present as `member`, is or was of `standing`, and said something
    at `heard`."""
    if standing or (member is not None and member.standing(now)):
        if heard >= now - SENDER_KEPT_S:
            return SPEAKER
        return QUIET if member is None else MEMBER
    return QUIET if member is None and heard < now - STANDING_S else RECENT


class VersionVector:
    """The records, by sender id. `members` are those that are present; `own` is my record, which
    takes a place when I have said something, as it does with all others."""

    __slots__ = (
        "_cursor", "_first", "_first_at", "_listed", "_own", "_recent", "adopted", "digest",
        "forgotten", "holding", "members", "streams",
    )  # fmt: skip

    def __init__(self, members: Mapping[bytes, Member], own: Sender | None = None) -> None:
        self.streams: dict[bytes, Sender] = {}
        self.forgotten: dict[bytes, Forgotten] = {}  # the newest last
        self.adopted: dict[bytes, float] = {}  # when each was listed last
        self.digest = 0
        self.holding = 0  # how many records have messages that are held
        self.members = members
        self._own = own
        self._recent: dict[bytes, None] = {}  # the order is that of the last change
        self._cursor = 0
        self._listed = 0
        self._first: tuple[Place, Sender] | None = None  # what `first` has found
        self._first_at = -NEVER  # and when
        if own is not None:
            self.add(own)

    def known(self, sender: bytes) -> Sender | None:
        """The record of `sender` that began with something it said; None: there is none."""
        return None if sender in self.adopted else self.streams.get(sender)

    def full(self) -> bool:
        return self.room() <= 0

    def overfull(self) -> bool:
        """Whether one record must go, because I have spoken and my own takes a place."""
        return len(self.streams) > SENDERS_MAX

    def first(self, now: float) -> tuple[Place, Sender]:
        """The record that makes room first, and its place."""
        members = self.members
        if self.adopted:
            sender = self.adopted_first(1, now)[0]
            return (ADOPTED, 0, sender), self.streams[sender]
        if self._first is not None and now <= self._first_at + FIRST_S:
            (level, _, sender), one = self._first
            if level == rank(members.get(sender), one.standing, one.heard, now):
                return self._first
        place, sender = min(
            [
                ((rank(members.get(sender), one.standing, one.heard, now), one.lamport, sender),
                 sender)
                for sender, one in self.streams.items()
            ]
        )  # fmt: skip
        self._first, self._first_at = (place, self.streams[sender]), now
        return self._first

    def spare(self, sender: bytes, lamport: int, live: bool, now: float) -> Sender | None:
        """The record that makes room for `sender`, whose newest message has Lamport time `lamport`;
        None: there is no place for it. `live`: it speaks now, this is no repair."""
        place, stream = self.first(now)
        member = self.members.get(sender)
        mine = rank(member, False, now if live else -NEVER, now), lamport, sender
        if place[0] == RECENT:
            earlier = member is not None and member.since < stream.began
            taken = mine[0] > RECENT or (mine[0] == RECENT and earlier)
        elif place[0] == SPEAKER:
            taken = False
        else:
            taken = live or mine > place
        return stream if taken else None

    def wants(self, sender: bytes, hi: int, now: float) -> bool:
        """Whether messages of `sender`, which has no record, up to number `hi` are of use."""
        known = self.forgotten.get(sender)
        if known is None or hi > known.hi or not self.full():
            return True
        return self.spare(sender, known.lamport, False, now) is not None

    def forget(self, sender: bytes, shown: int, hi: int, lamport: int) -> None:
        """Remember a sender that has no record any more, or got none."""
        before = self.forgotten.pop(sender, Forgotten(0, 0, 0))
        self.forgotten[sender] = Forgotten(
            max(shown, before.shown), max(hi, before.hi), max(lamport, before.lamport)
        )
        if len(self.forgotten) > FORGOTTEN_MAX:
            del self.forgotten[next(iter(self.forgotten))]

    def add(self, stream: Sender) -> None:
        self.streams[stream.sender] = stream
        self.moved(stream)

    def room(self) -> int:
        """How many more records there may be."""
        silent = self._own is not None and not self._own.hi
        return SENDERS_MAX + silent - len(self.streams)

    def adopted_first(self, count: int, now: float, new: Iterable[bytes] = ()) -> list[bytes]:
        """Those `count` of the adopted records, and of `new` ones, that make room first."""
        before = now - LISTED_S
        places = [(listed >= before, sender) for sender, listed in self.adopted.items()]
        places += [(True, sender) for sender in new]
        return [sender for _, sender in nsmallest(count, places)]

    def adopt(self, stream: Sender, now: float) -> None:
        """Count `stream`, of which nothing is held and nothing was heard."""
        self.adopted[stream.sender] = now
        self.add(stream)
        del self._recent[stream.sender]

    def remove(self, stream: Sender) -> None:
        del self.streams[stream.sender]
        self.adopted.pop(stream.sender, None)
        self.holding -= stream.holding
        self._first = None
        self._recent.pop(stream.sender, None)
        self.digest ^= stream.item
        self._listed -= stream.item != 0

    def moved(self, stream: Sender) -> None:
        """`stream.hi` or `stream.lo` has changed."""
        self._first = None
        sender = stream.sender
        item = digest_item(sender, stream.hi) if stream.hi else 0
        self.digest ^= stream.item ^ item
        self._listed += (item != 0) - (stream.item != 0)
        stream.item = item
        self.emptied(stream)
        recent = self._recent
        recent.pop(sender, None)
        recent[sender] = None

    def emptied(self, stream: Sender) -> None:
        """Less of `stream` may be held: `lo` has changed."""
        holding = stream.lo < stream.hi
        self.holding += holding - stream.holding
        stream.holding = holding

    def listing(
        self, count: int, first: bytes, own: bytes = b"", turns: bool = False
    ) -> list[tuple[bytes, int, int]]:
        """At most `count` of (sender, lo, hi): sender `first` at the head, then those that changed
        most recently up to three quarters (with `turns`: to one quarter), then the others in turn,
        adopted ones last. `own` is among them in any case, but not before what is newer: a newcomer
        that has something to say asks for the newest message of the first sender listed."""
        streams = self.streams
        recent = [*reversed(self._recent), *self.adopted]
        head = (first, *recent[:1], own)
        wanted = dict.fromkeys(one for one in head if one in streams and streams[one].hi)
        newest = count // 4 if turns else count - count // 4
        at = 0
        while at < len(recent) and len(wanted) < newest:
            if streams[recent[at]].hi:
                wanted[recent[at]] = None
            at += 1
        rest = recent[at:]
        if len(rest) > count - newest:
            start = self._cursor % len(rest)
            self._cursor += count - newest
            rest = rest[start:] + rest[:start]
        for sender in rest[: 2 * count]:
            if len(wanted) >= count:
                break
            if streams[sender].hi:
                wanted[sender] = None
        return [(sender, streams[sender].lo, streams[sender].hi) for sender in wanted]

    def listed(self) -> int:
        """How many senders a complete list would have."""
        return self._listed
