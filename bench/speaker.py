"""One line from `say` to `sendto`, through a real session and a real socket. Imports evloop.

    speaker.py MEMBERS MESSAGES PORT

The session has heard SESSIONs of MEMBERS - 1 others, and goes on hearing them. When nobody on this
host is in the group, what is left is what a sender pays whose receivers are on other hosts. The
session's clock is ours (five messages a second is its limit), the time that is measured is not.
Prints {"say_us": [...], "all_us": x}: each message's own way, and the mean with everything else
that the session had to do (timers, SESSIONs in and out).
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
TEXT = "Good morning, everybody. Coffee is ready"
STEP_S = 0.25
REFRESH_S = 5.0  # often enough for nobody to be taken for gone


def main() -> None:
    members, messages, port = (int(argument) for argument in sys.argv[1:4])
    place = f"{GROUP}:{port}"
    rng = random.Random(1)
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
    me = rng.randbytes(8)
    others = [rng.randbytes(8) for _ in range(members - 1)]
    now = 1000.0
    session = RoomSession(place=place, sender_id=me, nickname="me", rng=rng, now=now)
    counter, due = 0, now
    clock = time.perf_counter
    while session.next_deadline() <= now:  # the first words of a newcomer
        session.handle_timer(now)
        session.datagrams_to_send()
    now += STEP_S
    say_us: list[float] = []
    other_s = 0.0
    for number in range(messages):
        if now >= due:
            counter, due = counter + 1, now + REFRESH_S
            held = {me: number}
            for position, other in enumerate(others):
                wire = datagrams.session(
                    place,
                    other,
                    counter,
                    held,
                    name=f"m{position}",
                    members=members,
                    sent_us=int(now * 1e6) & 0xFFFFFFFF,
                )
                begin = clock()
                session.receive_datagram(wire, "other", now)
                other_s += clock() - begin
        begin = clock()
        session.say(TEXT, now, number)
        out = session.datagrams_to_send()
        for data, _ in out:
            sender.sendto(data, (GROUP, port))
        session.events()
        session.next_deadline()
        say_us.append((clock() - begin) * 1e6)
        if not out:
            raise SystemExit(f"message {number} was not sent: {session.queued()} wait")
        now += STEP_S
        begin = clock()
        while session.next_deadline() <= now:
            session.handle_timer(session.next_deadline())
            for data, _ in session.datagrams_to_send():
                sender.sendto(data, (GROUP, port))
            session.events()
        other_s += clock() - begin
    present = len(session.members(now))
    if present != members:
        raise SystemExit(f"{present} members instead of {members}")
    everything = sum(say_us) + other_s * 1e6
    stats = session.stats()
    sent = {key: stats[key] / messages for key in ("sent", "copies_sent", "sessions_sent")}
    print(json.dumps({"say_us": say_us, "all_us": everything / messages, **sent}))


if __name__ == "__main__":
    main()
