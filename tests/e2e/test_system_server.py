"""The directory as a process: big listings, many clients and rude ones, signals, stdin, state."""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from pathlib import Path

import pytest

from evloop import __version__
from evloop.daemon.limits import DRAIN_S
from evloop.net.limits import WRITE_PROGRESS_S
from tests.support.namespaces import ipv6
from tests.support.pairs import both
from tests.support.processes import (
    Crew,
    Server,
    closed_stdin,
    no_trace,
)
from tests.support.rpc import Wire
from tests.support.sources import ROOT

LIFTED = ("--max-rooms", "0", "--rooms-per-address", "0", "--change-rate", "0")


def make_rooms(wire: Wire, names: list[str]) -> None:
    """Pipelined, a thousand at a time."""
    for start in range(0, len(names), 1_000):
        some = names[start : start + 1_000]
        wire.send(b"".join(wire.frame("makeroom", name=name) for name in some))
        for name in some:
            assert wire.reply()["result"]["room"]["name"] == name


def test_a_thousand_rooms_made_by_one_client_listed_by_another(crew: Crew) -> None:
    server = crew.server()
    names = [f"room-{number * 7919 % 1000:03}" for number in range(1_000)]
    assert names != sorted(names)
    maker = crew.piped("connect\n" + "".join(f"makeroom {name}\n" for name in names), server=server)
    assert (maker.status, maker.err) == (0, "")
    assert len(maker.lines) == 1_000
    reader = crew.piped("", "getdir", server=server)
    listed = [line.split() for line in reader.lines]
    assert [row[0] for row in listed] == sorted(names)
    made = {line.split()[2].rstrip(":"): line.split()[3] for line in maker.lines}
    assert {row[0]: f"{row[1]}:{row[2]}" for row in listed} == made
    assert reader.status == 0


def test_ten_thousand_rooms_are_listed_within_a_second(crew: Crew) -> None:
    """Of processor time, of both: others may use this machine too."""
    server = crew.server(*LIFTED)
    names = [f"room-{number:05}" for number in range(10_000)]
    with Wire(server.port) as wire:
        make_rooms(wire, names)
    crew.read_for(0.0)
    before, times = processor_s(server), os.times()
    reader = crew.piped("", "getdir", server=server)
    ended = os.times()
    took = processor_s(server) - before
    took += ended.children_user - times.children_user
    took += ended.children_system - times.children_system
    assert [line.split()[0] for line in reader.lines] == names
    print(f"10,000 rooms, start and end of the client included: {took:.2f} s of processor")
    assert took < 2  # a second on a quiet machine


def test_a_hundred_clients_and_three_rude_ones(crew: Crew) -> None:
    server = crew.server(*LIFTED)
    clients = [Wire(server.port) for _ in range(100)]
    rude = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(3)]
    dribbler, silent, junk = rude
    try:
        make_rooms(clients[0], [f"room-{number:03}" for number in range(500)])
        whole = clients[0].frame("getdir")
        silent.setblocking(False)
        for _ in range(200):  # asks for megabytes, and reads nothing of them
            try:
                silent.send(20 * whole)
            except BlockingIOError:
                break
        junk.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        slowest = 0.0
        for number in range(30):
            dribbler.send(whole[number : number + 1])
            begin = time.monotonic()
            for at, one in enumerate(clients):
                one.send(one.frame("makeroom", name=f"from-{at}-{number}"))
            for at, one in enumerate(clients):
                assert one.reply()["result"]["room"]["name"] == f"from-{at}-{number}"
            slowest = max(slowest, time.monotonic() - begin)
        assert len(clients[0].rooms()) == 500 + 3_000
        print(f"a round of 100 changes took at most {1000 * slowest:.0f} ms")
        assert slowest < WRITE_PROGRESS_S, "everybody waited for who does not read"
        # The junk was answered, and its connection ended; the others never noticed.
        junk.settimeout(20)
        answer = b""
        while data := junk.recv(4096):
            answer += data
        assert b"frame_too_large" in answer
        assert server.status is None
        no_trace(server)
    finally:
        for one in clients:
            one.sock.close()
        for sock in rude:
            sock.close()


def test_watchers_see_every_change_of_many_writers_in_order(crew: Crew) -> None:
    server = crew.server(*LIFTED)
    watchers = [Wire(server.port) for _ in range(3)]
    writers = [Wire(server.port) for _ in range(8)]
    try:
        start = [one.result("watch")["version"] for one in watchers]
        for number, one in enumerate(writers):
            frames = []
            for at in range(100):
                frames.append(one.frame("makeroom", name=f"w{number}-{at}"))
                if at % 3 == 0:
                    frames.append(one.frame("deleteroom", name=f"w{number}-{at}"))
            one.send(b"".join(frames))
        for one in writers:
            for _ in range(134):
                assert "result" in one.reply()
        changes = 8 * 134
        rooms = {room["name"]: room for room in writers[0].rooms()}
        for one, before in both(watchers, start):
            while len(one.notifications) < changes:
                message = one.receive()
                assert message is not None
                one.notifications.append(message)
            versions = [it["params"]["version"] for it in one.notifications]
            assert versions == list(range(before + 1, before + changes + 1))
            mirror = {}
            for it in one.notifications:
                room = it["params"]["room"]
                if it["method"] == "room_made":
                    mirror[room["name"]] = room
                else:
                    del mirror[room["name"]]
            assert mirror == rooms
    finally:
        for one in watchers + writers:
            one.sock.close()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_it_says_goodbye_and_ends_well(crew: Crew, signum: int) -> None:
    server = crew.server()
    with Wire(server.port) as wire:
        wire.result("hello")
        server.signal(signum)
        goodbye = wire.receive()
        assert goodbye is not None and goodbye["method"] == "closing"
        assert goodbye["params"]["reason"]
        assert wire.receive() is None
    crew.finish(server)
    assert server.status == 0
    with pytest.raises(ConnectionRefusedError):
        Wire(server.port)
    no_trace(server)


def test_what_was_asked_before_the_end_is_answered(crew: Crew, tmp_path: Path) -> None:
    """The change and SIGTERM arrive together: it is answered and kept, or neither."""
    path = str(tmp_path / "directory.db")
    server = crew.server("--state", path)
    with Wire(server.port) as wire:
        wire.send(wire.frame("makeroom", name="last"))
        server.signal(signal.SIGTERM)
        messages = iter(wire.receive, None)
        answered = any("result" in message for message in messages)
    crew.finish(server)
    again = crew.server("--state", path)
    with Wire(again.port) as wire:
        there = [room["name"] for room in wire.rooms()] == ["last"]
    assert there or not answered


def _end_by_two_signals(crew: Crew) -> float:
    """Seconds from the first signal to the end, with somebody who does not read."""
    server = crew.server(*LIFTED)
    with Wire(server.port) as wire:
        make_rooms(wire, [f"room-{number:03}" for number in range(500)])
    with socket.create_connection(("127.0.0.1", server.port)) as deaf:
        # Its answers fill every buffer: the server would wait for it as long as it may.
        with Wire(server.port) as wire:
            getdir = wire.frame("getdir")
            deaf.setblocking(False)
            for _ in range(400):
                try:
                    deaf.send(getdir)
                except BlockingIOError:
                    break
            wire.result("ping")
        begin = time.monotonic()
        server.signal(signal.SIGTERM)
        crew.until(lambda: "stopping" in server.err)
        crew.read_for(0.2)
        assert server.status is None  # it drains
        server.signal(signal.SIGTERM)
        crew.finish(server)
        took = time.monotonic() - begin
    assert server.status == 0
    return took


def test_the_second_signal_ends_it_at_once(crew: Crew) -> None:
    """One that waited would take DRAIN_S each time; a busy machine delays one of some tries."""
    assert any(_end_by_two_signals(crew) < DRAIN_S - 0.1 for _ in range(5))


def test_it_drains_no_longer_than_two_seconds(crew: Crew) -> None:
    server = crew.server(*LIFTED)
    with Wire(server.port) as wire:
        make_rooms(wire, [f"room-{number:03}" for number in range(500)])
    with socket.create_connection(("127.0.0.1", server.port)) as deaf:
        with Wire(server.port) as wire:
            deaf.sendall(40 * wire.frame("getdir"))
            wire.result("ping")
        begin = time.monotonic()
        server.signal(signal.SIGTERM)
        crew.finish(server)
        assert time.monotonic() - begin < 6
    assert server.status == 0


def test_a_second_server_on_the_same_file_says_who_is_in_the_way(
    crew: Crew, tmp_path: Path
) -> None:
    path = str(tmp_path / "directory.db")
    first = crew.server("--state", path)
    second = crew.start_server("--state", path)
    crew.finish(second)
    assert second.status == 73
    assert str(first.pid) in second.err and path in second.err
    assert not second.listens  # before it listens
    assert len(second.err.splitlines()) == 1
    first.signal(signal.SIGTERM)
    crew.finish(first)
    third = crew.server("--state", path)  # the way is free again
    assert third.listens


@pytest.mark.parametrize("where", ["/proc/nowhere/directory.db", "/dev/null/x.db", "/"])
def test_a_state_file_that_can_not_be_made_is_73(crew: Crew, where: str) -> None:
    server = crew.finish(crew.start_server("--state", where))
    assert server.status == 73, server.tell()
    assert len(server.err.splitlines()) == 1 and where in server.err
    assert "listening" not in server.err


def test_rooms_are_there_after_a_restart_and_the_version_goes_on(
    crew: Crew, tmp_path: Path
) -> None:
    path = str(tmp_path / "directory.db")
    first = crew.server("--state", path)
    with Wire(first.port) as wire:
        make_rooms(wire, ["a", "b", "c"])
        wire.result("deleteroom", name="b")
        before, version = wire.rooms(), wire.result("hello")["version"]
    first.signal(signal.SIGTERM)
    crew.finish(first)
    second = crew.server("--state", path)
    with Wire(second.port) as wire:
        assert wire.rooms() == before
        assert wire.result("hello")["version"] >= version


def test_the_start_line_tells_version_state_file_and_rooms(crew: Crew, tmp_path: Path) -> None:
    """Behind the ready lines, which programs read; an operator sees what runs, and on what."""
    path = tmp_path / "two words.db"
    first = crew.server("--state", str(path))
    start = f"notice started version={__version__} state="
    crew.until(lambda: start in first.err)
    assert first.err.splitlines()[1].endswith(f'{start}"{path}" rooms=0')
    with Wire(first.port) as wire:
        make_rooms(wire, ["a", "b", "c"])
        assert wire.result("hello")["server"] == f"evloop/{__version__}"
    first.signal(signal.SIGTERM)
    crew.finish(first)
    # A relative name is told as the file that it is: the log is read in another directory.
    again = crew.server("--state", os.path.relpath(path, ROOT))
    crew.until(lambda: again.err.count("\n") == 2)
    assert again.err.splitlines()[1].endswith(f'{start}"{path}" rooms=3')
    memory = crew.server()
    crew.until(lambda: memory.err.count("\n") == 2)
    assert memory.err.splitlines()[1].endswith(f"{start}memory rooms=0")


def test_a_quiet_server_has_no_start_line(crew: Crew) -> None:
    server = crew.server("--quiet")
    server.signal(signal.SIGTERM)
    crew.finish(server)
    assert len(server.err.splitlines()) == 1 and server.READY in server.err


def test_the_default_state_file(crew: Crew) -> None:
    """Without --state and --memory: under $XDG_STATE_HOME, for nobody else to read."""
    server = crew.server(memory=False)
    with Wire(server.port) as wire:
        wire.result("makeroom", name="a")
    file = Path(os.environ["XDG_STATE_HOME"], "evloop", "directory.db")
    assert file.stat().st_mode & 0o077 == 0


def test_a_port_that_is_taken_is_one_clear_line(crew: Crew) -> None:
    first = crew.server()
    second = crew.finish(crew.start_server(listen=first.place))
    assert second.status not in (0, 70, None), second.tell()
    assert len(second.err.splitlines()) == 1 and first.place in second.err
    no_trace(second)


@pytest.mark.parametrize(
    "words", [["--frobnicate"], ["--max-rooms", "many"], ["--memory", "--state", "x"]]
)
def test_usage_is_2(crew: Crew, words: list[str]) -> None:
    server = crew.finish(crew.start_server(*words))
    assert server.status == 2
    no_trace(server)


def test_bad_places_to_listen(crew: Crew) -> None:
    for place in ("nowhere", "127.0.0.1:99999", "127.0.0.1:x", "300.0.0.1:4000", "192.0.2.1:0"):
        server = crew.finish(crew.start_server(listen=place))
        assert server.status not in (0, 70), server.tell()
        assert place.rpartition(":")[0] in server.err
        no_trace(server)


@pytest.mark.parametrize("kind", ["closed", "/dev/null", "file", "/dev/zero", "pipe", "ended pipe"])
def test_it_runs_on_whatever_stdin_is(crew: Crew, kind: str, tmp_path: Path) -> None:
    """Without a terminal there is no console: stdin is not even read."""
    path = tmp_path / "lines"
    path.write_text("quit\n")
    inner, outer = os.pipe()
    stdin = {"file": lambda: os.open(path, os.O_RDONLY), "closed": lambda: inner}.get(
        kind, lambda: inner if "pipe" in kind else os.open(kind, os.O_RDONLY)
    )()
    try:
        if kind == "pipe":
            os.write(outer, b"quit\n")
        if kind == "ended pipe":
            os.close(outer)
        prefix = closed_stdin() if kind == "closed" else ()
        server = crew.start_server(stdin=stdin, prefix=prefix)
        crew.until(lambda: server.listens)
        with Wire(server.port) as wire:
            wire.result("makeroom", name="a")
            assert [room["name"] for room in wire.rooms()] == ["a"]
        busy = processor_s(server)
        select.select([], [], [], 0.3)
        assert processor_s(server) - busy < 0.15  # it does not spin
        assert server.status is None
    finally:
        for fd in {stdin, inner} | (set() if kind == "ended pipe" else {outer}):
            os.close(fd)


def processor_s(server: Server) -> float:
    """CPU time used so far (proc(5), stat)."""
    fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@ipv6
def test_several_addresses_each_with_its_ready_line(crew: Crew) -> None:
    server = crew.server("--listen", "[::1]:0")
    crew.until(lambda: server.err.count("listening on") == 2)
    second = int(server.err.splitlines()[1].rpartition(":")[2])
    with Wire(server.port) as one, Wire(second, "::1") as two:
        one.result("makeroom", name="a")
        assert [room["name"] for room in two.rooms()] == ["a"]
