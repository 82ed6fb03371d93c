"""Whole programs on a system that is not Linux, as far as `support/elsewhere.py` can pretend it.

And on a Linux that lacks a part: a sandbox without /proc, a kernel without IPv6.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.elsewhere import box
from tests.support.namespaces import namespaced
from tests.support.pairs import both
from tests.support.processes import ROOT, Crew, Program, Seated, fresh_room, fresh_words, no_trace
from tests.support.pty_run import PtyRun
from tests.support.rpc import Wire
from tests.support.tls_files import Files

LOSSY = str(Path(__file__).with_name("lossy.py"))

Prefix = Callable[..., tuple[str, ...]]


@pytest.fixture
def elsewhere(tmp_path: Path) -> Prefix:
    """What stands before the command of a program, so that it runs on such a system."""

    def prefix(*modes: str) -> tuple[str, ...]:
        folder = tmp_path / "-".join(modes).replace("/", "_").replace(":", "_")
        return ("env", *(f"{name}={value}" for name, value in box(folder, *modes).items()))

    return prefix


systems = pytest.mark.parametrize(
    "modes",
    [("darwin",), ("darwin", "kqueue"), ("noproc",), ("noipv6",)],
    ids=["darwin", "kqueue", "noproc", "noipv6"],
)


@pytest.fixture
def tls_files(tmp_path: Path) -> Files:
    folder = tmp_path / "tls"
    folder.mkdir()
    return Files(folder)


@pytest.fixture
def namespace() -> Iterator[str]:
    """The path of a network namespace with an interface net0, 10.77.0.1, for as long as the test.

    Nothing can leave by it: the other end of its cable is in there too.
    """
    script = """
set -e
ip link set lo up
ip link add net0 type veth peer name far0
ip link set net0 up
ip link set far0 up
ip addr add 10.77.0.1/24 dev net0
echo ready
exec cat
"""
    holder = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with holder:
        assert holder.stdin is not None and holder.stdout is not None
        if holder.stdout.readline() != b"ready\n":
            pytest.skip("this system makes no network namespace with an interface")
        yield f"/proc/{holder.pid}/ns/net"
        holder.stdin.close()


def seat(crew: Crew, prefix: tuple[str, ...], module: str, *words: str) -> Seated:
    """A client on a terminal, with lines that can be read."""
    program = Seated([*prefix, sys.executable, "-m", module, "--plain", *words])
    crew.add(program)
    return program


def test_the_shim_hides_what_it_says(elsewhere: Prefix) -> None:
    """Or all that follows would be tests of this machine."""
    code = """
import os, select, selectors, socket, sys, time
assert sys.platform == "darwin"
assert not hasattr(select, "epoll") and selectors.DefaultSelector is selectors.SelectSelector
for name in ("AF_NETLINK", "SO_BINDTODEVICE", "TCP_KEEPIDLE", "SOCK_CLOEXEC"):
    assert not hasattr(socket, name), name
assert not os.path.exists("/proc/self")
from evloop.net import compat
assert not compat.LINUX and compat.DARWIN
loopback = [it for it in compat.addresses() if it.address == "127.0.0.1"]
assert len(loopback) == 1 and loopback[0].flags & 0x8
assert loopback[0].prefix == 8
assert all(it.flags & 0x1000 for it in compat.addresses() if not it.flags & 0x8 and it.flags & 0x40)
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
assert not compat.ask(sock, socket.SOL_SOCKET, 25, b"lo")
sock.close()
"""
    done = subprocess.run(
        [*elsewhere("darwin"), sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@systems
def test_terminals_and_pipes_chat(crew: Crew, elsewhere: Prefix, modes: tuple[str, ...]) -> None:
    prefix = elsewhere(*modes)
    server = crew.server(prefix=prefix)
    made = crew.finish(crew.client("makeroom", "lab", *fresh_words(), server=server, prefix=prefix))
    assert made.status == 0, made.tell()
    piped = [crew.chatter(name, "lab", server=server, prefix=prefix) for name in ("Ann", "Bob")]
    crew.in_room(*piped)
    words = ("--server", server.place, "--name")
    seated = [seat(crew, prefix, "evloop.client", *words, name) for name in ("Mel", "Zoe")]
    crew.until(lambda: all(one.out.endswith("evloop> ") for one in seated))
    for one in seated:
        one.type("chat lab\n")
    crew.until(lambda: all("-- in lab" in one.out for one in seated))
    piped[0].type("from a pipe\n")
    crew.until(lambda: all("Ann: from a pipe" in one.out for one in (piped[1], *seated)))
    seated[0].type("from a terminal\n")
    crew.until(lambda: all("Mel: from a terminal" in one.out for one in (*piped, seated[1])))
    listed = crew.finish(crew.client("getdir", "--json", server=server, prefix=prefix))
    assert json.loads(listed.lines[0])["members"] == 4, listed.tell()
    for line in piped:
        line.end()
    for terminal in seated:
        terminal.type("/quit\n")
    for program in (*piped, *seated):
        assert crew.finish(program).status == 0, program.tell()
    no_trace(server, *piped, *seated)


@pytest.mark.parametrize("modes", [("darwin",), ("darwin", "kqueue")], ids=["darwin", "kqueue"])
def test_the_line_editor(elsewhere: Prefix, modes: tuple[str, ...]) -> None:
    prefix = elsewhere(*modes)
    room = fresh_room()
    runs = []
    for name in ("Mel", "Bob"):
        words = ["evloop.client", "--name", name, "chat", room]
        runs.append(PtyRun([*prefix, sys.executable, "-m", *words]))
    mel, bob = runs
    with mel, bob:
        for run in runs:
            run.expect_line("-- in ")
        mel.send("Good mornin!\x1b[Dg\r")
        bob.expect_line("Mel: Good morning!")
        for run in runs:
            run.send("/quit\r")
            assert run.wait() == 0
            assert run.restored()


def test_one_shots(crew: Crew, elsewhere: Prefix) -> None:
    prefix = elsewhere("darwin")
    server = crew.server(prefix=prefix)
    watch = crew.client("--json", server=server, prefix=prefix)
    watch.type("connect\ngetdir\n")
    with Wire(server.port) as wire:
        crew.until(lambda: wire.result("stats")["watchers"] == 1, every=0.05)
    room = fresh_room()
    address, _, port = room.partition(":")
    made = crew.finish(crew.client("makeroom", "lab", address, port, server=server, prefix=prefix))
    assert made.status == 0, made.tell()
    watch.type("getdir\n")  # out of its own list, which the directory keeps true
    crew.until(lambda: '"lab"' in watch.out)
    tail = crew.client("tail", "lab", server=server, prefix=prefix)
    crew.until(lambda: "lab" in tail.err)
    said = crew.client("--name", "Mel", "say", "lab", "dinner", server=server, prefix=prefix)
    said.end()
    assert crew.finish(said).status == 0, said.tell()
    crew.until(lambda: "Mel: dinner" in tail.out)
    watch.end()
    assert crew.finish(watch).status == 0, watch.tell()
    no_trace(server, watch, made, tail, said)


def test_a_room_that_loses_a_fifth(crew: Crew, elsewhere: Prefix) -> None:
    prefix, room = elsewhere("darwin"), fresh_room()
    people = []
    for seed, name in enumerate(("Ann", "Bob", "Cal"), 1):
        lossy = [*prefix, sys.executable, LOSSY, "20", "0", str(seed)]
        words = ["evloop.client", "--name", name, "chat", room]
        people.append(crew.add(Program([*lossy, *words])))
    crew.in_room(*people)
    wanted = []
    for number in range(20):
        for one, name in both(people, ("Ann", "Bob", "Cal")):
            one.type(f"{number}\n")
            wanted.append(f"{name}: {number}")
    crew.until(lambda: all(len(one.lines) >= len(wanted) for one in people))
    for one in people:
        assert sorted(one.lines) == sorted(wanted)
        one.end()
    for one in people:
        crew.finish(one)
        assert re.search(r"lossy: of \d+ datagrams [1-9]\d* were lost", one.err), one.tell()
    no_trace(*people)


def test_the_one_command(crew: Crew, elsewhere: Prefix) -> None:
    server = crew.server()
    place = server.place  # a port that is free as soon as it has ended
    server.signal(15)
    crew.finish(server)
    ann = seat(crew, elsewhere("darwin", "kqueue"), "evloop", "--server", place)
    crew.until(lambda: ann.out.endswith("evloop> "))
    assert "this one hosts it" in ann.out
    ann.type(f"makeroom lab {' '.join(fresh_words())}\nchat lab\n")
    crew.until(lambda: "-- in lab" in ann.out)
    ann.type("/quit\n")
    assert crew.finish(ann).status == 0
    no_trace(ann)


def test_members_and_directory_on_different_systems(crew: Crew, elsewhere: Prefix) -> None:
    server = crew.server(prefix=elsewhere("darwin"))
    crew.piped("", "makeroom", "lab", *fresh_words(), server=server)
    here = crew.chatter("Here", "lab", server=server)
    there = crew.chatter("There", "lab", server=server, prefix=elsewhere("darwin", "kqueue"))
    crew.in_room(here, there)
    for number in range(5):
        here.type(f"{number} ä\n")
        there.type(f"{number} é\n")
    crew.until(lambda: len(here.lines) == len(there.lines) == 10)
    histories = []
    for one in (here, there):
        one.type("/history\n")
        crew.until(lambda: "-- end of history --" in one.err)  # noqa: B023
        told = one.err.rpartition("-- the last ")[2].partition("-- end of history --")[0]
        lines = told.splitlines()[1:]
        histories.append([line.removesuffix("  [late]").partition(" ")[2] for line in lines])
    assert histories[0] == histories[1] and len(histories[0]) == 10
    no_trace(server, here, there)


# -- TLS -------------------------------------------------------------------------------------------


def test_tls_elsewhere(crew: Crew, elsewhere: Prefix, tls_files: Files) -> None:
    prefix = elsewhere("darwin")
    server = crew.server("--tls-cert", tls_files.cert, "--tls-key", tls_files.key, prefix=prefix)
    options = ("--tls", "--tls-ca", tls_files.ca, "getdir")
    client = crew.finish(crew.client(*options, server=server, prefix=prefix))
    assert client.status == 0, client.tell()
    no_trace(server, client)


def test_a_python_with_libressl_says_so(crew: Crew, elsewhere: Prefix, tls_files: Files) -> None:
    prefix = elsewhere("darwin", "libressl")
    sentence = "this Python has no TLS 1.3 (LibreSSL 2.8.3): install Python from python.org\n"
    files = ("--tls-cert", tls_files.cert, "--tls-key", tls_files.key)
    refused = crew.start_server(*files, prefix=prefix)
    crew.finish(refused)
    assert (refused.status, refused.err) == (2, f"evloop: {sentence}")
    server = crew.server(*files)
    client = crew.client("--tls", "--tls-ca", tls_files.ca, "getdir", server=server, prefix=prefix)
    crew.finish(client)
    assert client.status == 77, client.tell()
    assert sentence in client.err and client.err.count("\n") == 1
    # What needs no TLS goes on.
    plain = crew.server(prefix=prefix)
    assert crew.finish(crew.client("getdir", server=plain, prefix=prefix)).status == 0


# -- macOS asks the person -------------------------------------------------------------------------

SENTENCE = (
    "macOS keeps this program from the local network: System Settings, Privacy & Security,"
    " Local Network: allow your terminal, and start it again"
)


def test_macos_keeps_it_from_the_local_network(crew: Crew, elsewhere: Prefix) -> None:
    client = crew.client("chat", fresh_room(), prefix=elsewhere("darwin", "deny"))
    crew.until(lambda: SENTENCE in client.err)
    client.type("one\ntwo\n")
    client.end()
    crew.finish(client)
    assert client.err.count(SENTENCE) == 1
    no_trace(client)


def test_macos_keeps_it_from_a_directory(crew: Crew, elsewhere: Prefix) -> None:
    prefix = elsewhere("darwin", "deny")
    near = crew.client("getdir", server="192.168.77.77:1", prefix=prefix)
    assert crew.finish(near).status == 69
    assert SENTENCE in near.err and near.err.count("\n") == 1
    far = crew.client("getdir", server="192.0.2.1:1", prefix=prefix)
    assert crew.finish(far).status == 69
    assert SENTENCE not in far.err
    linux = crew.client("getdir", server="192.168.77.77:1", prefix=elsewhere("deny"))
    assert crew.finish(linux).status == 69
    assert SENTENCE not in linux.err


def test_doctor_finds_that_macos_keeps_it_from_the_local_network(
    crew: Crew, elsewhere: Prefix
) -> None:
    """One row and no other, for whatever else is missing is a consequence; none on Linux."""
    server = crew.server(prefix=elsewhere("darwin"))
    for mode, place in (("darwin deny", server.place), ("darwin deny", "192.168.77.77:1")):
        prefix = elsewhere(*mode.split())
        done = crew.finish(crew.client("--json", "doctor", server=place, prefix=prefix))
        rows = [json.loads(line) for line in done.lines if '"finding"' in line]
        assert [(row["id"], row["level"], row["what"]) for row in rows] == [
            ("local_network_denied", "bad", SENTENCE)
        ], done.tell()
        assert done.status == 1
    linux = crew.finish(
        crew.client("--json", "doctor", server=server.place, prefix=elsewhere("deny"))
    )
    assert "local_network_denied" not in linux.out and '"finding"' in linux.out, linux.tell()


# -- an interface that goes and comes --------------------------------------------------------------


@namespaced
def test_an_interface_that_goes_and_comes(crew: Crew, elsewhere: Prefix, namespace: str) -> None:
    """The address is taken away and given back: trouble is told, and then what was said comes."""
    prefix = ("nsenter", f"--net={namespace}", *elsewhere("darwin"))
    command = [*prefix, sys.executable, "-m", "evloop.client"]
    ann, bob = (
        crew.add(
            Program(
                [*command, "--name", name, "chat", "239.255.7.7:5777"],
                environ={"EVLOOP_INTERFACE": "net0"},
            )
        )
        for name in ("Ann", "Bob")
    )
    crew.in_room(ann, bob)
    ann.type("before\n")
    crew.until(lambda: "Ann: before" in bob.lines)

    def ip(words: str) -> None:
        subprocess.run(["nsenter", f"--net={namespace}", "ip", *words.split()], check=True)

    ip("link set net0 down")
    ann.type("meanwhile\n")
    crew.until(lambda: "cannot send" in ann.err)
    ip("link set net0 up")
    crew.until(lambda: "Ann: meanwhile" in bob.lines)
    no_trace(ann, bob)


def test_the_figures_leave_out_what_only_linux_tells(
    crew: Crew, elsewhere: Prefix, tmp_path: Path
) -> None:
    text = {}
    for mode in ("darwin", "noipv6"):
        path = tmp_path / mode / "figures"
        path.parent.mkdir(exist_ok=True)
        crew.server("--metrics-file", str(path), prefix=elsewhere(mode))
        text[mode] = path.read_text()
    for name in ("evloop_resident_bytes", "evloop_open_descriptors"):
        assert name in text["noipv6"] and name not in text["darwin"]
    assert "evloop_connections" in text["darwin"]
