"""People who chat: real clients in one room over multicast on loopback."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import struct
import termios
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.pairs import both
from tests.support.processes import (
    Crew,
    Program,
    fresh_place,
    fresh_room,
    fresh_words,
    no_trace,
)
from tests.support.rpc import Wire

needs_socat = pytest.mark.skipif(shutil.which("socat") is None, reason="socat is not installed")


@contextmanager
def listener(address: str, port: int) -> Iterator[socket.socket]:
    """A member of the group without any of evloop: sees the bytes on the wire."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        joined = socket.inet_aton(address) + socket.inet_aton("127.0.0.1")
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, joined)
        sock.settimeout(30)
        yield sock


@contextmanager
def speaker() -> Iterator[socket.socket]:
    """Sends to a group on loopback, nowhere else."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, struct.pack("b", 0))
        yield sock


@pytest.mark.parametrize("count", [2, 10])
@pytest.mark.parametrize("mode", ["reliable", "plain"])
def test_everybody_sees_each_message_once_with_its_senders_name(
    crew: Crew, count: int, mode: str
) -> None:
    server = crew.server()
    crew.piped("", "makeroom", "lab", *fresh_words(), "--mode", mode, server=server)
    names = [f"P{number}" for number in range(count)]
    people = [crew.chatter(name, "lab", server=server) for name in names]
    crew.in_room(*people)
    for number in range(3):
        for name, one in both(names, people):
            one.type(f"{number} of {name}\n")
    wanted = [f"{name}: {number} of {name}" for number in range(3) for name in names]
    crew.until(lambda: all(len(one.lines) >= len(wanted) for one in people))
    people[0].type("the end\n")  # whatever came twice would have come before it
    wanted.append(f"{names[0]}: the end")
    crew.until(lambda: all(wanted[-1] in one.lines for one in people))
    for one in people:
        one.end()
    for one in people:
        crew.finish(one)
        assert one.status == 0
        assert sorted(one.lines) == sorted(wanted), one.tell()
        for name in names:  # each sender in order
            mine = [line for line in one.lines if line.startswith(f"{name}: ") and " of " in line]
            assert mine == [f"{name}: {number} of {name}" for number in range(3)]
    no_trace(server, *people)


def test_two_rooms_on_one_port_do_not_hear_each_other(crew: Crew) -> None:
    first, port = fresh_place()
    second = "239.255.7.201" if first != "239.255.7.201" else "239.255.7.202"
    for mode in ("plain", "reliable"):
        a = crew.chatter("A", f"{first}:{port}", mode=mode)
        b = crew.chatter("B", f"{first}:{port}", mode=mode)
        x = crew.chatter("X", f"{second}:{port}", mode=mode)
        y = crew.chatter("Y", f"{second}:{port}", mode=mode)
        crew.in_room(a, b, x, y)
        a.type("in the first\n")
        x.type("in the second\n")
        # What each pair hears last was sent last: had the other room come through, it were there.
        crew.until(lambda: b.lines and y.lines)  # noqa: B023
        b.type("end\n")
        y.type("end\n")
        crew.until(lambda: len(a.lines) > 1 and len(x.lines) > 1)  # noqa: B023
        assert a.lines == ["A: in the first", "B: end"]
        assert x.lines == ["X: in the second", "Y: end"]
        for one in (a, b, x, y):
            one.end()
        for one in (a, b, x, y):
            crew.finish(one)
            assert one.status == 0


def test_exact_bytes_on_the_wire_of_a_plain_room(crew: Crew) -> None:
    address, port = fresh_place()
    with listener(address, port) as wire:
        mel = crew.chatter("Mel", f"{address}:{port}", mode="plain")
        crew.in_room(mel)
        mel.type("Good morning!\n")
        mel.type("x" * 250 + "\u00fc" + "y" * 300 + "\n")
        crew.until(lambda: mel.lines)
        assert wire.recv(2048) == b"Mel: Good morning!"
        parts = [wire.recv(2048) for _ in range(3)]
        assert all(len(part) <= 256 and part.startswith(b"Mel: ") for part in parts)
        text = "".join(part.decode().removeprefix("Mel: ") for part in parts)
        assert text == "x" * 250 + "\u00fc" + "y" * 300
    mel.end()
    assert crew.finish(mel).status == 0
    assert mel.lines[0] == "Mel: Good morning!"


@needs_socat
def test_socat_reads_and_writes_in_a_plain_room(crew: Crew) -> None:
    address, port = fresh_place()
    group = f"{address}:{port}"
    mel = crew.chatter("Mel", group, mode="plain")
    crew.in_room(mel)
    reads = f"UDP4-RECV:{port},bind={address},ip-add-membership={address}:127.0.0.1,reuseaddr"
    reader = crew.add(Program(["socat", "-u", "-d", "-d", "-d", reads, "STDOUT"]))
    crew.until(lambda: "starting data transfer loop" in reader.err)
    writes = f"UDP4-DATAGRAM:{group},ip-multicast-if=127.0.0.1,ip-multicast-ttl=0"
    writer = crew.add(Program(["socat", "-u", "STDIN", writes]))
    writer.type("Old: good morning\n")
    crew.until(lambda: mel.lines)
    assert mel.lines == ["Old: good morning"]
    mel.type("Good morning!\n")
    crew.until(lambda: "Good morning!" in reader.out)
    assert reader.out == "Old: good morning\nMel: Good morning!"
    writer.type(b"\x1b[31mred\xff\n")  # escape sequences and half characters: made safe
    crew.until(lambda: len(mel.lines) > 2)
    assert "red" in mel.lines[2] and "\x1b" not in mel.out
    no_trace(mel)


def test_plain_text_in_a_reliable_room_is_marked(crew: Crew) -> None:
    address, port = fresh_place()
    ann = crew.chatter("Ann", f"{address}:{port}")
    late = crew.chatter("Eve", f"{address}:{port}", "--json")
    crew.in_room(ann, late)
    with speaker() as stranger:
        stranger.sendto(b"Mel: who am I?", (address, port))
        stranger.sendto(b"\x1b]0;title\x07", (address, port))  # control characters: not shown
        stranger.sendto(b"\xff\xfe", (address, port))
        stranger.sendto(b"", (address, port))
        stranger.sendto(b"Mel: the end", (address, port))
    crew.until(lambda: len(ann.lines) == 2 and "the end" in late.out)
    assert ann.lines == ["? Mel: who am I?", "? Mel: the end"]
    objects = [json.loads(line) for line in late.lines]
    shown = [it for it in objects if it["type"] == "message"]
    assert [it["text"] for it in shown] == ["Mel: who am I?", "Mel: the end"]
    assert all(it["mark"] == "plain" and it["seq"] is None for it in shown)
    assert all(it["verified"] is False for it in shown)


def test_the_server_is_killed_while_two_chat_and_comes_back(crew: Crew, tmp_path: Path) -> None:
    options = ("--state", str(tmp_path / "directory.db"))
    server = crew.server(*options)
    place = server.place
    crew.piped("", "makeroom", "lab", *fresh_words(), server=place)
    ann = crew.chatter("Ann", "lab", server=place)
    bob = crew.client("--name", "Bob", server=place)
    bob.type("connect\nchat lab\n")
    crew.in_room(ann, bob)
    ann.type("one\n")
    crew.until(lambda: "Ann: one" in bob.lines)
    server.signal(signal.SIGKILL)
    crew.finish(server)
    crew.until(lambda: "is away" in ann.err and "is away" in bob.err)
    ann.type("two\n")
    bob.type("three\n")
    both = ["Ann: one", "Ann: two", "Bob: three"]
    crew.until(lambda: sorted(ann.lines) == both and sorted(bob.lines) == both)

    again = crew.server(*options, listen=place)

    # Both come back by themselves, and say again that they are in the room.
    with Wire(again.port) as wire:
        (lab,) = wire.rooms()
        assert lab["name"] == "lab"
        crew.until(lambda: wire.rooms()[0]["members"] == 2, every=0.05)
    crew.until(lambda: "is back" in ann.err and "is back" in bob.err)
    # Notifications come again, while chatting.
    crew.piped("", "makeroom", "other", server=place)
    crew.until(lambda: "made room other" in bob.err)
    bob.type("/leave\ngetdir\nbye\n")
    bob.end()
    crew.finish(bob)
    assert any(line.split()[:1] == ["lab"] for line in bob.lines)
    ann.end()
    crew.finish(ann)
    assert (ann.status, bob.status) == (0, 0)
    no_trace(again, ann, bob)


def test_a_server_that_ends_says_goodbye_to_those_who_chat(crew: Crew) -> None:
    server = crew.server()
    crew.piped("", "makeroom", "lab", *fresh_words(), server=server)
    ann = crew.chatter("Ann", "lab", server=server)
    crew.in_room(ann)
    server.signal(signal.SIGTERM)
    crew.finish(server)
    crew.until(lambda: "told to end" in ann.err and "is away" in ann.err)
    ann.type("still here\n")
    crew.until(lambda: ann.lines == ["Ann: still here"])


def test_what_the_directory_counts_is_believed_before_anybody_is_heard(crew: Crew) -> None:
    """Many that come at once do not all speak at once: each knows how many they are."""
    server = crew.server()
    crew.piped("", "makeroom", "lab", *fresh_words(), server=server)
    with ExitStack() as stack:
        for _ in range(6):
            wire = stack.enter_context(Wire(server.port))
            assert wire.result("enter", name="lab")["room"]["name"] == "lab"
        ann = crew.chatter("Ann", "lab", server=server)
        crew.in_room(ann)
        ann.type("/stats\n")
        crew.until(lambda: "receive buffer" in ann.err)
    rows = [line.rsplit(None, 1) for line in ann.err.splitlines()]
    counts = {row[0].strip(): row[1] for row in rows if len(row) == 2}
    assert (counts["members"], counts["members estimate"]) == ("1", "7")


def test_chat_with_no_directory_anywhere(crew: Crew) -> None:
    room = fresh_room()
    ann, bob = crew.chatter("Ann", room), crew.chatter("Bob", room)
    crew.in_room(ann, bob)
    ann.type("hello\n")
    crew.until(lambda: bob.lines == ["Ann: hello"])
    bob.type("hello yourself\n")
    crew.until(lambda: ann.lines == ["Ann: hello", "Bob: hello yourself"])


def test_commands_of_a_room(crew: Crew) -> None:
    room = fresh_room()
    ann, bob = crew.chatter("Ann", room), crew.chatter("Bob", room)
    crew.in_room(ann, bob)
    crew.until(lambda: "Bob" in ann.err and "Ann" in bob.err)
    ann.type("//slashed\n/nope\n/me waves\n/who\n/name\n/history 2\n/stats\n/help who\n")
    crew.until(lambda: "who is here, and when" in ann.err)
    assert ann.lines == ["Ann: /slashed", "* Ann waves"]
    crew.until(lambda: bob.lines == ["Ann: /slashed", "* Ann waves"])
    said = ann.err.splitlines()
    assert 'evloop: unknown command "/nope"' in ann.err
    assert any(line.split() == ["Ann", "you"] for line in said)
    assert any(line.split()[:1] == ["Bob"] for line in said)
    assert "name: too few arguments" in ann.err
    assert "-- the last 2 messages --" in said
    assert any(line.split()[0] == "sent" for line in said if line.startswith("  "))
    assert any(line.startswith("  receive buffer bytes") for line in said)
    ann.type("/name Lea\n")
    crew.until(lambda: "-- Ann is now Lea --" in bob.err)
    ann.type("renamed\n/leave\n")
    crew.until(lambda: "Lea: renamed" in bob.lines and "Lea left" in bob.err)
    crew.finish(ann)
    assert ann.status == 2  # of the first that failed: /nope


@pytest.mark.parametrize("mode", ["reliable", "plain"])
def test_lines_that_are_no_messages(crew: Crew, mode: str) -> None:
    """Each is answered; what comes behind it is sent all the same."""
    room = fresh_room()
    ann = crew.chatter("Ann", room, mode=mode)
    mel = crew.chatter("Mel", room, mode=mode)
    crew.in_room(ann, mel)
    mel.type(b"\xff\xfe\n" + 70_000 * b"x" + b"\n\n   \n" + 10_000 * b"y" + b"\nfine\n")
    crew.until(lambda: "Mel: fine" in ann.lines)
    mel.end()
    crew.finish(mel)
    said = mel.err.splitlines()
    assert any("line 1 is not UTF-8" in line for line in said)
    assert any("line 2 is longer than 65536 bytes" in line for line in said)
    if mode == "reliable":
        assert any("10000 bytes; 7200 fit" in line for line in said)
        assert ann.lines == ["Mel: fine"]
        assert mel.status == 2  # of the first that failed
    else:  # cut to pieces that the programs of old can read
        parts = [line.removeprefix("Mel: ") for line in ann.lines]
        assert "".join(parts) == 10_000 * "y" + "fine"
        assert max(map(len, ann.lines)) <= 256
    no_trace(ann, mel)


def test_two_of_one_name_are_told_apart(crew: Crew) -> None:
    room = fresh_room()
    one, two, ann = (crew.chatter(name, room) for name in ("Mel", "mel", "Ann"))
    crew.in_room(one, two, ann)
    crew.until(lambda: "Mel" in ann.err and "mel" in ann.err)
    one.type("I am Mel\n")
    crew.until(lambda: ann.lines)
    who, _, text = ann.lines[0].partition(": ")
    assert text == "I am Mel" and who.startswith("Mel~") and len(who) == len("Mel~3f2a")


def test_a_host_that_never_answers_while_chatting(crew: Crew, tmp_path: Path) -> None:
    """The directory is lost, and its name cannot be looked up any more: the chat goes on."""
    place = tmp_path / "resolv.conf"
    place.write_text("nameserver 192.0.2.1\noptions timeout:3 attempts:3\n")
    server = crew.server()
    port = server.port
    crew.piped("", "makeroom", "lab", *fresh_words(), server=server)
    # In a mount namespace of its own /etc/resolv.conf names a resolver that never answers, and
    # /etc/hosts knows the directory's name only until it is emptied.
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 directory.test\n")
    script = (
        f'mount --bind {place} /etc/resolv.conf && mount --bind {hosts} /etc/hosts && exec "$@"'
    )
    prefix = ("unshare", "--mount", "sh", "-c", script, "sh")
    probe = crew.finish(crew.add(Program([*prefix, "true"])))
    if probe.status != 0:
        pytest.skip("needs root and mount namespaces")
    ann = crew.chatter("Ann", "lab", server=f"directory.test:{port}", prefix=prefix)
    bob = crew.chatter("Bob", "lab", server=server)
    crew.in_room(ann, bob)
    hosts.write_text("")
    server.signal(signal.SIGKILL)
    crew.finish(server)
    crew.until(lambda: "is away" in ann.err)
    crew.read_for(1.2)  # by now Ann looks the name up again: the first back-off is at most 0.5 s
    for number in range(5):
        begin = len(bob.lines)
        ann.type(f"{number}\n")
        crew.until(lambda begin=begin: len(bob.lines) > begin, 2.0)  # type: ignore[misc]
    assert bob.lines == [f"Ann: {number}" for number in range(5)]
    no_trace(ann, bob)


def test_connect_to_a_silent_host_gives_up_and_can_be_interrupted(crew: Crew) -> None:
    """A listener whose queue is full answers no SYN: the same as a host that is not there."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        place = f"127.0.0.1:{full.getsockname()[1]}"
        stuffing = []
        try:
            for _ in range(4):
                one = socket.socket()
                one.setblocking(False)
                one.connect_ex(full.getsockname())
                stuffing.append(one)
            waiting = crew.client(server=place)
            waiting.type("connect\nname\n")
            ended = crew.piped("", "getdir", server=place)
            assert ended.status == 69 and "does not answer" in ended.err
            crew.until(lambda: "does not answer" in waiting.err)
            crew.until(lambda: waiting.lines == ["guest"])
        finally:
            for one in stuffing:
                one.close()


def test_say_and_tail(crew: Crew) -> None:
    server = crew.server()
    crew.piped("", "makeroom", "ops", *fresh_words(), server=server)
    alone = crew.piped("nobody hears\n", "say", "ops", server=server)
    assert alone.status == 75 and "nobody is there" in alone.err and alone.out == ""
    ann = crew.chatter("Ann", "ops", server=server)
    crew.in_room(ann)
    done = crew.piped("backup done\n", "--name", "job", "say", "ops", server=server)
    assert (done.status, done.out, done.err) == (0, "", "")
    assert ann.lines == ["job: backup done"]
    tail = crew.client("--name", "eye", "tail", "ops", "-n", "1", server=server)
    crew.until(lambda: tail.lines == ["job: backup done"])
    ann.type("seen\n")
    crew.until(lambda: tail.lines == ["job: backup done", "Ann: seen"])
    tail.signal(signal.SIGINT)
    assert crew.finish(tail).status == 130


def test_tail_into_head_ends_silently(crew: Crew) -> None:
    room = fresh_room()
    read, write = os.pipe()
    try:
        tail = crew.client("--name", "eye", "tail", room, stdout=write)
    finally:
        os.close(write)
    ann = crew.chatter("Ann", room)
    crew.in_room(tail, ann)
    ann.type("one\n")
    assert os.read(read, 100) == b"Ann: one\n"
    os.close(read)
    ann.type("two\nthree\n")
    crew.finish(tail)
    assert tail.status == 0
    no_trace(tail)


def test_a_client_whose_output_nobody_reads_goes_on(crew: Crew) -> None:
    """Its pipe is full; it waits for its reader, but the room does not wait for it."""
    room = fresh_room()
    read, write = os.pipe()
    try:
        stuck = crew.chatter("Stu", room, mode="plain", stdout=write)
    finally:
        os.close(write)
    try:
        ann = crew.chatter("Ann", room, mode="plain")
        crew.in_room(stuck, ann)
        count = 400
        ann.type("".join(f"{number:03} {'x' * 240}\n" for number in range(count)))
        crew.until(lambda: len(ann.lines) == count)
        stuck.type("still here\n")
        crew.until(lambda: "Stu: still here" in ann.lines)
        assert waiting_bytes(read) >= 60_000  # as much as a pipe holds, but for its last page
        os.set_blocking(read, False)
        taken = bytearray()

        def all_taken() -> bool:  # and nothing is lost when it reads on
            try:
                taken.extend(os.read(read, 1 << 16))
            except BlockingIOError:
                return False
            return taken.count(b"\n") == count + 1

        crew.until(all_taken, 10, every=0.02)
        shown = taken.decode().splitlines()
        shown.remove("Stu: still here")
        assert shown == [line for line in ann.lines if line.startswith("Ann: ")]
    finally:
        os.close(read)


def waiting_bytes(pipe: int) -> int:
    """Bytes that wait in a pipe (FIONREAD)."""
    (waiting,) = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))
    assert isinstance(waiting, int)
    return waiting
