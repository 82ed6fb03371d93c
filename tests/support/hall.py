"""Several sessions in one process that hear each other at once, for as long as you like.

`evloop say` from cron is a new sender each time, which is gone when its line is said.
"""

from __future__ import annotations

from random import Random

from evloop.room.events import Said
from evloop.room.reliable.session import RoomSession
from tests.support.rooms import PLACE, data

QUIET_S = 300.0
# Four or five members with T of 6 s send 0.9 SESSIONs a second when all is well.
SESSIONS_MAX = int(1.2 * QUIET_S)


class Hall:
    """Members that hear each other, each by its number."""

    def __init__(self, members: int) -> None:
        self.now = 1_000.0
        self.members: dict[int, RoomSession] = {}
        self.away: set[int] = set()
        self.sent = 0
        self.said = 0
        self.shown: dict[int, list[tuple[bytes, int]]] = {}
        for n in range(members):
            self.join(n)

    def join(self, n: int) -> None:
        self.members[n] = RoomSession(
            place=PLACE,
            sender_id=bytes([200 + n]) * 8,
            nickname=f"m{n}",
            rng=Random(n),
            now=self.now,
        )
        self.shown[n] = []

    def _pump(self) -> None:
        again = True
        while again:
            again = False
            for n, one in self.members.items():
                self.shown[n] += [(e.sender, e.seq) for e in one.events() if isinstance(e, Said)]
                for datagram, _ in one.datagrams_to_send():
                    again = True
                    self.sent += 1
                    for other in self.members:
                        if other != n and not {n, other} & self.away:
                            self.members[other].receive_datagram(datagram, ("h", n), self.now)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            due = min(one.next_deadline() for one in self.members.values())
            if due > end:
                break
            self.now = max(self.now, due)
            for one in self.members.values():
                if one.next_deadline() <= self.now:
                    one.handle_timer(self.now)
            self._pump()
        self.now = end

    def hear(self, datagram: bytes, deaf: int = -1) -> None:
        for n, one in self.members.items():
            if n != deaf and n not in self.away:
                one.receive_datagram(datagram, "cron", self.now)
        self._pump()

    def lines(self, count: int, apart: float = 10.0) -> None:
        """So many new senders say one line each and are gone."""
        for _ in range(count):
            lamport = 1 + max(one.message_log.lamport.value for one in self.members.values())
            self.said += 1
            # Ids are random: their order is not that in which they come.
            sender = Random(self.said).randbytes(8)
            self.hear(data(sender, 0, f"cron {self.said}", lamport=lamport, name="cron"))
            self.run(apart)

    def nacks(self) -> int:
        return sum(one.stats()["nacks_sent"] for one in self.members.values())

    def is_quiet(self) -> int:
        """All agree, nobody asks, and nothing is shown twice; how much is sent in QUIET_S."""
        nacks = self.nacks()
        self.sent = 0
        self.run(QUIET_S)
        assert len({one.digest() for one in self.members.values()}) == 1
        assert self.nacks() == nacks
        assert self.sent <= SESSIONS_MAX
        for shown in self.shown.values():
            assert len(set(shown)) == len(shown)  # no message twice
        return self.sent
