"""One line from `say` to `sendto`, through a real session and a real socket. Imports evloop.

    speaker.py MEMBERS MESSAGES PORT BYTES

MEMBERS - 1 others are present: soon after each line some of them say, in turn and in the name of
the rest, that they have it (SESSIONs that agree, as in a room without loss). When nobody on this
host is in the group, what is left is what a sender pays whose receivers are on other hosts. The
session's clock is ours (five messages a second is its limit); what is measured is CPU time.

Prints {"say_us": [...], "all_us": x, ...}: each line's own way; the mean with everything else that
the session had to do for it (timers, SESSIONs in and out); and how many datagrams it sent a line.
"""

from __future__ import annotations

import json
import random
import socket
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import datagrams
from evloop.session import RoomSession

GROUP = "239.255.77.1"
STEP_S = 0.25
ECHO_S = 0.04  # when the first of the others has answered
REFRESH_S = 5.0  # everybody is heard so often


def main() -> None:
    members, messages, port, size = (int(argument) for argument in sys.argv[1:5])
    text = ("Good morning, everybody. Coffee is ready " * 30)[:size]
    place = f"{GROUP}:{port}"
    rng = random.Random(1)
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
    me = rng.randbytes(8)
    others = [rng.randbytes(8) for _ in range(members - 1)]
    answers = -(-(members - 1) * STEP_S // REFRESH_S) if others else 0
    now = 1000.0
    session = RoomSession(place=place, sender_id=me, nickname="me", rng=rng, now=now)
    spoken = 0
    clock = time.process_time  # CPU, soft interrupts included: what others take is not ours

    def send() -> int:
        out = session.datagrams_to_send()
        for data, _ in out:
            sender.sendto(data, (GROUP, port))
        session.events()
        return len(out)

    def run_until(then: float) -> None:
        due = now
        while (deadline := session.next_deadline()) <= then:
            due = max(due, deadline)
            session.handle_timer(due)
            send()

    def answer(held: int, count: int) -> list[bytes]:
        nonlocal spoken
        wires = []
        for _ in range(count):
            turn, number = divmod(spoken, len(others))
            spoken += 1
            wire = datagrams.session(
                place,
                others[number],
                turn,
                {me: held},
                name=f"m{number}",
                members=members,
                sent_us=int(now * 1e6) & 0xFFFFFFFF,
            )
            wires.append(wire)
        return wires

    for wire in answer(0, len(others)):
        session.receive_datagram(wire, "other", now)
    run_until(now + STEP_S)
    now += STEP_S
    before = session.stats()
    say_us: list[float] = []
    other_s = 0.0
    for number in range(messages):
        begin = clock()
        session.say(text, now, number)
        sent = send()
        session.next_deadline()
        say_us.append((clock() - begin) * 1e6)
        if not sent:
            raise SystemExit(f"message {number} was not sent: {session.queued()} wait")
        wires = answer(number + 1, int(answers))
        begin = clock()
        run_until(now + ECHO_S)
        for wire in wires:
            session.receive_datagram(wire, "other", now + ECHO_S)
        run_until(now + STEP_S)
        other_s += clock() - begin
        now += STEP_S
    present = len(session.members(now))
    if present != members:
        raise SystemExit(f"{present} members instead of {members}")
    stats = session.stats()
    everything = sum(say_us) + other_s * 1e6
    counted = ("sent", "copies_sent", "sessions_sent")
    figures = {key: (stats[key] - before[key]) / messages for key in counted}
    print(json.dumps({"say_us": say_us, "all_us": everything / messages, **figures}))


if __name__ == "__main__":
    main()
