"""One line from `say` to `sendto`, through a real session and a real socket. Imports evloop.

    speaker.py MEMBERS MESSAGES PORT BYTES [bare]

MEMBERS - 1 others are present: soon after each line some of them say, in turn and in the name of
the rest, that they have it (SESSIONs that agree, as in a room without loss). When nobody on this
host is in the group, what is left is what a sender pays whose receivers are on other hosts. The
session's clock is ours (five messages a second is its limit); what is measured is CPU time.

With `bare`, the first datagram of each line is sent once more, by nothing but `sendto`, when the
line's own time has been taken: the floor.

Prints {"say_us": [...], "bare_us": [...], "all_us": x, ...}: each line's own way and its
floor; the mean with everything else that the session had to do for it (timers, SESSIONs in and
out); and how many datagrams it sent a line.
"""

from __future__ import annotations

import json
import math
import random
import socket
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.load import datagrams
from evloop.room.reliable.session import RoomSession

GROUP = "239.255.77.1"
STEP_S = 0.25
ECHO_S = 0.04  # when the first of the others has answered
MEET_S = 1.0  # a first line waits so long at most for word of who is there
REFRESH_S = 5.0  # everybody is heard so often


class Speaker:
    """A session on its socket, and the clock that it is told."""

    def __init__(self, members: int, port: int) -> None:
        rng = random.Random(1)
        self._group = GROUP, port
        self._place = f"{GROUP}:{port}"
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        interface = socket.inet_aton("127.0.0.1")
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)
        self._me = rng.randbytes(8)
        self.others = [rng.randbytes(8) for _ in range(members - 1)]
        self.said = b""  # the first datagram of what was sent last
        self._answers = 0  # SESSIONs of the others so far
        self.now = 1000.0
        self.session = RoomSession(
            place=self._place, sender_id=self._me, nickname="me", rng=rng, now=self.now
        )

    def send(self) -> int:
        """Send what is to be sent; how many datagrams that were."""
        session = self.session
        out = session.datagrams_to_send()
        for data, _ in out:
            self._socket.sendto(data, self._group)
        session.events()
        if out:
            self.said = out[0][0]
        return len(out)

    def send_bare(self) -> None:
        """The floor: the system call, and the bytes of the last line."""
        self._socket.sendto(self.said, self._group)

    def run_until(self, then: float) -> None:
        """Let the session do all that is due until `then`."""
        due = self.now
        while (deadline := self.session.next_deadline()) <= then:
            due = max(due, deadline)
            self.session.handle_timer(due)
            self.send()

    def answers(self, held: int, count: int) -> list[bytes]:
        """SESSIONs of the next `count` others: they have `held` lines of mine."""
        wires = []
        for _ in range(count):
            turn, number = divmod(self._answers, len(self.others))
            self._answers += 1
            wire = datagrams.session(
                self._place,
                self.others[number],
                turn,
                {self._me: held},
                name=f"m{number}",
                members=len(self.others) + 1,
                sent_us=int(self.now * 1e6) & 0xFFFFFFFF,
            )
            wires.append(wire)
        return wires

    def hear(self, wires: list[bytes], now: float) -> None:
        """Take SESSIONs in."""
        for wire in wires:
            self.session.receive_datagram(wire, "other", now)


def main() -> None:
    members, messages, port, size = (int(argument) for argument in sys.argv[1:5])
    text = ("Good morning, everybody. Coffee is ready " * 30)[:size]
    speaker = Speaker(members, port)
    session, count = speaker.session, math.ceil((members - 1) * STEP_S / REFRESH_S)
    speaker.hear(speaker.answers(0, members - 1), speaker.now)
    speaker.now += MEET_S
    speaker.run_until(speaker.now)
    before = session.stats()
    clock = time.process_time  # CPU, soft interrupts included: what others take is not ours
    say_us: list[float] = []
    bare_us: list[float] = []
    bare = sys.argv[5:] == ["bare"]
    other_s = 0.0
    for number in range(messages):
        speaker.now += STEP_S
        now = speaker.now
        begin = clock()
        session.say(text, now, number)
        sent = speaker.send()
        session.next_deadline()
        say_us.append((clock() - begin) * 1e6)
        if not sent:
            raise SystemExit(f"message {number} was not sent: {session.queued()} wait")
        if bare:
            begin = clock()
            speaker.send_bare()
            bare_us.append((clock() - begin) * 1e6)
        wires = speaker.answers(number + 1, count)
        begin = clock()
        speaker.run_until(now + ECHO_S)
        speaker.hear(wires, now + ECHO_S)
        speaker.run_until(now + STEP_S)
        other_s += clock() - begin
    present = len(session.members(speaker.now))
    if present != members:
        raise SystemExit(f"{present} members instead of {members}")
    stats = session.stats()
    everything = sum(say_us) + other_s * 1e6
    counted = ("sent", "copies_sent", "sessions_sent")
    figures = {key: (stats[key] - before[key]) / messages for key in counted}
    found = {"say_us": say_us, "bare_us": bare_us, "all_us": everything / messages}
    print(json.dumps({**found, **figures}))


if __name__ == "__main__":
    main()
