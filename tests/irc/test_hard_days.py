"""The door as a process when much comes at once, or what it needs goes away."""

from __future__ import annotations

import os
import socket
import ssl
from pathlib import Path

import pytest

from tests.irc.live import DoorProcess, Visitor
from tests.support.live import Process
from tests.support.tls_files import trusting

CERTIFICATES = Path(__file__).parents[1] / "support" / "certificates"


def listed(visitor: Visitor) -> list[str]:
    """What LIST answers."""
    visitor.say("LIST")
    return visitor.up_to(" 323 ")


def test_a_paste_arrives_whole(door: DoorProcess) -> None:
    ann, bob = door.user("Ann"), door.user("Bob")
    ann.join(door.channel)
    bob.join(door.channel)
    bob.say(*[f"PRIVMSG {door.channel} :line {number}" for number in range(25)])
    for number in range(25):
        assert ann.wait_for(f"PRIVMSG {door.channel} :line ").endswith(f":line {number}")


def test_ten_thousand_lines_at_once(door: DoorProcess) -> None:
    """What waits has a cap, each line too many is told, and others are served meanwhile."""
    ann, bob = door.user("Ann"), door.user("Bob")
    bob.join(door.channel)
    ann.join("#elsewhere" + door.channel[1:])
    lines = "".join([f"PRIVMSG {door.channel} :line {number}\r\n" for number in range(10_000)])
    bob.sock.settimeout(20)
    sent = 0
    data = lines.encode()
    while sent < len(data):
        sent += bob.sock.send(data[sent:])
        ann.all_so_far()
        while bob.read(0.001):
            pass
        bob.sock.settimeout(20)
    bob.say("PING end")
    bob.wait_for("PONG evloop.internal :end", 60)
    assert door.process.poll() is None
    assert not bob.closed


def test_a_client_that_does_not_read(door: DoorProcess) -> None:
    ann, deaf = door.user("Ann"), door.user("Deaf")
    deaf.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    deaf.say(f"JOIN {door.channel}")
    deaf.sock.settimeout(1.0)
    try:
        for _ in range(3_000):
            deaf.sock.sendall(b"MOTD\r\nVERSION\r\n" * 20)
    except OSError:  # nothing more is taken from it
        pass
    assert ann.all_so_far() == []  # others are served


def test_forty_clients(door: DoorProcess) -> None:
    visitors = [door.connect() for _ in range(40)]
    for at, visitor in enumerate(visitors):
        try:
            visitor.say(f"NICK n{at}", "USER a 0 * :A")
        except OSError:
            pass
    for visitor in visitors[:32]:
        visitor.wait_for(" 376 ")
    for visitor in visitors[32:]:
        assert visitor.until_closed()[0].startswith("ERROR :Closing link: 32 clients")
    visitors[0].say("QUIT")
    visitors[0].until_closed()
    door.user("late")


def test_two_clients_are_one_member(door: DoorProcess) -> None:
    one, two, bob = door.user("Ann"), door.user("Ann", "echo-message"), door.user("Bob")
    bob.join(door.channel)
    one.join(door.channel)
    two.wait_for(" 366 ")
    bob.wait_for(":Ann!")
    one.say(f"PRIVMSG {door.channel} :from one")
    two.wait_for("from one")
    assert [line for line in bob.all_so_far() if "JOIN" in line] == []
    bob.say(f"WHO {door.channel}")
    bob.wait_for(" 315 ")
    one.say("QUIT")
    one.until_closed()
    two.say(f"PRIVMSG {door.channel} :still here")
    bob.wait_for("still here")
    two.say("QUIT")
    bob.wait_for(f"PART {door.channel} :left")


def test_the_directory_goes_and_comes_back() -> None:
    directory = Process("--no-announce").ready()
    port = directory.address[1]
    door = DoorProcess(server=f"127.0.0.1:{port}")
    back: Process | None = None
    try:
        door.ready()
        ann, bob = door.user("Ann"), door.user("Bob")
        ann.join(door.channel)
        bob.join(door.channel)
        directory.close()
        ann.wait_for(f"NOTICE Ann :the directory 127.0.0.1:{port} is away")
        ann.say("JOIN #other")
        ann.wait_for(" 437 Ann #other ")
        bob.say(f"PRIVMSG {door.channel} :the chat goes on")
        ann.wait_for("the chat goes on")
        ann.say("JOIN #239.255.7.9:5799")
        ann.wait_for(" 366 Ann #239.255.7.9:5799 ")
        back = Process("--no-announce", "--listen", f"127.0.0.1:{port}", listen=False).ready()
        ann.wait_for(f"NOTICE Ann :the directory 127.0.0.1:{port} is back")
        wanted = f"{door.channel} 2 :"  # both are counted in it again
        while not any(wanted in line for line in listed(ann)):
            pass
    finally:
        door.close()
        directory.close()
        if back is not None:
            back.close()


def test_a_password_and_tls(tmp_path: Path) -> None:
    cert, key = CERTIFICATES / "server.pem", CERTIFICATES / "server.key"
    words = ("--tls-cert", str(cert), "--tls-key", str(key))
    door = DoorProcess(*words, environ={"EVLOOP_IRC_PASSWORD": "open sesame"})
    door.tls = trusting(str(CERTIFICATES / "ca.pem"))
    door.tls.check_hostname = False
    try:
        door.ready()
        for password, answer in (("wrong", " 464 "), ("open sesame", " 001 Ann ")):
            visitor = door.connect()
            visitor.say(f"PASS :{password}", "NICK Ann", "USER a 0 * :A")
            visitor.wait_for(answer)
        assert isinstance(visitor.sock, ssl.SSLSocket)
        assert visitor.sock.version() == "TLSv1.3"
    finally:
        door.close()


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs /proc")
def test_how_much_memory_it_takes(door: DoorProcess) -> None:
    """The goal of the plan is 8 MB of private memory over an empty Python, at rest."""

    def private(pid: int) -> int:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as rollup:
            rows = [line.split() for line in rollup if line.startswith("Private_")]
        return sum(int(row[1]) for row in rows)

    door.user("Ann").join(door.channel)
    assert private(door.process.pid) < 24_000  # kB, all of the interpreter included


def test_a_kept_room(tmp_path: Path) -> None:
    """The directory's silent member is nobody to see, and what it keeps can be asked for."""
    state = ("--state", str(tmp_path / "rooms.db"))
    directory = Process("--no-announce", "--keep", "all", *state, memory=False).ready()
    door = DoorProcess(server=f"127.0.0.1:{directory.address[1]}")
    try:
        door.ready()
        ann = door.user("Ann", "echo-message")
        ann.join(door.channel)
        for number in range(3):
            ann.say(f"PRIVMSG {door.channel} :said {number}")
            ann.wait_for(f":said {number}")
        ann.say("QUIT")
        ann.until_closed()
        bob = door.user("Bob", "draft/chathistory", "batch", "message-tags", "server-time")
        names = next(line for line in bob.join(door.channel) if " 353 " in line)
        assert set(names.rpartition(":")[2].split()) <= {"Bob", "Ann"}
        bob.say(f"CHATHISTORY LATEST {door.channel} * 50")
        told = [line.rpartition(":")[2] for line in bob.up_to("BATCH -") if "PRIVMSG" in line]
        assert told == ["said 0", "said 1", "said 2"]
    finally:
        door.close()
        directory.close()
