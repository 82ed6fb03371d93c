"""How long a datagram takes one way: to those that are near, and to all.

Each SESSION carries the time when it was sent, and the same time of the last SESSION that its
sender heard, with how long ago that was (an echo). Half of the round trip, without that time, is
the delay. An echo counts only when I did send at that time, and lately, and when it comes in a new
datagram of its sender (the caller checks that): a replay must not make my timers slow. No single
member decides: in an open room any of them may lie, and an echo can be held back, or come early.

    estimate     of                                                          used for
    `value`      the second least; each member counts by the least of its    asking, answering,
                 last DELAY_ECHOES. Of two the larger, but no more than      copies, Trickle
                 DELAY_DOUBT times the less; of one, its own
    `far`        the median of the newest of each; rises fast, falls slowly  holding repairs down

What is asked of all is answered by the nearest, so one member with a long way must not make
everybody slow. But what was repaired is not repaired again before those far away can have asked.
"""

from __future__ import annotations

from struct import Struct

from evloop.room.reliable.limits import (
    DELAY_DOUBT,
    DELAY_ECHOES,
    DELAY_PEERS_MAX,
    DELAY_S_MAX,
    DELAY_S_MIN,
    DELAY_S_START,
    ECHOES_AWAITED_MAX,
    ROUND_TRIP_S_MAX,
)
from evloop.room.reliable.packets import NOBODY

_SENT = Struct(">I")


class _Echoes:
    """What one member has echoed: the newest last."""

    __slots__ = ("standing", "ways")

    def __init__(self) -> None:
        self.ways: list[float] = []  # an empty deque has 0.6 kB, and each member has one
        self.standing = False  # it was of standing with the newest


class Delay:
    """The estimates in seconds, and the echo owed to the last SESSION heard.

    The echo goes to a member of standing if one was heard since the last: a stranger that speaks
    after everybody must not keep their echoes from them. While there are echoes of members of
    standing, those of strangers do not count.
    """

    __slots__ = (
        "_heard", "_known", "_mine", "_owed", "_peer", "_peers", "_sent", "far", "value",
    )  # fmt: skip

    def __init__(self) -> None:
        self.value = self.far = DELAY_S_START
        self._known = False
        # When I sent, in us, the last ECHOES_AWAITED_MAX, packed: as a list that is 0.7 kB.
        self._mine = b""
        self._peer = NOBODY
        self._owed = False  # to a member of standing
        self._sent = 0
        self._heard = 0.0
        self._peers: dict[bytes, _Echoes] = {}  # the order is that of the newest echo

    def heard(self, peer: bytes, sent: int, now: float, standing: bool = False) -> None:
        """A SESSION of `peer`, sent at `sent` us of its clock."""
        if self._owed and not standing:
            return
        self._owed = standing
        self._peer = peer
        self._sent = sent
        self._heard = now

    def sending(self, now: float) -> int:
        """The `sent` of a SESSION that goes out now."""
        sent = int(now * 1e6) & 0xFFFFFFFF
        self._mine = (self._mine + _SENT.pack(sent))[-_SENT.size * ECHOES_AWAITED_MAX :]
        return sent

    def echo(self, now: float) -> tuple[bytes, int, int]:
        """The echo for a SESSION that is sent now: (peer, its time of sending, microseconds since
        it came); the peer is NOBODY when none was heard."""
        self._owed = False
        held = int((now - self._heard) * 1e6) & 0xFFFFFFFF if self._peer != NOBODY else 0
        return self._peer, self._sent, held

    def echoed(self, peer: bytes, sent: int, held: int, now: float, standing: bool = False) -> None:
        """My SESSION sent at `sent` us of my clock came back by `peer`, which held it `held` us."""
        one_way = ((int(now * 1e6) - sent - held) & 0xFFFFFFFF) / 2e6
        if one_way > ROUND_TRIP_S_MAX / 2 or (sent,) not in _SENT.iter_unpack(self._mine):
            return
        peers = self._peers
        echoes = peers.pop(peer, None) or _Echoes()
        if len(peers) >= DELAY_PEERS_MAX:
            strangers = (other for other, known in peers.items() if not known.standing)
            del peers[next(strangers, None) or next(iter(peers))]
        peers[peer] = echoes
        echoes.ways.append(min(max(one_way, DELAY_S_MIN), DELAY_S_MAX))
        del echoes.ways[:-DELAY_ECHOES]
        echoes.standing = standing
        self._estimate()

    def _estimate(self) -> None:
        heard = [echoes for echoes in self._peers.values() if echoes.standing]
        heard = heard or list(self._peers.values())
        if not heard:
            return
        least = sorted([min(echoes.ways) for echoes in heard])
        self.value = least[min(1, len(least) - 1)]
        if len(least) == 2:
            self.value = min(self.value, DELAY_DOUBT * least[0])  # one of the two may hold it back
        newest = sorted([echoes.ways[-1] for echoes in heard])
        self._move(newest[(len(newest) - 1) // 2])

    def _move(self, median: float) -> None:
        if not self._known:
            self.far = median
            self._known = True
            return
        # An estimate that is far too long is no noise: the first echo was false, or the network
        # has changed.
        pace = 2 if median > self.far else 4 if median < self.far / 2 else 16
        self.far += (median - self.far) / pace

    def gone(self, peer: bytes) -> None:
        """`peer` left, or is silent."""
        if self._peers.pop(peer, None) is not None:
            self._estimate()
