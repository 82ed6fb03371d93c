"""Whatever is inherited is respected or made harmless: signals, descriptors, places, kernels."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.live import Caller
from tests.support.processes import ROOT, Crew, Program, Seated, environment, fresh_room
from tests.support.rpc import Wire

MODULES = ("evloop.client", "evloop.server", "evloop")


def ignoring(*signals: str) -> tuple[str, ...]:
    """A prefix that starts a program as nohup and scripts do."""
    return ("sh", "-c", f"trap '' {' '.join(signals)}; exec \"$@\"", "sh")


def test_ignored_signals_stay_ignored(crew: Crew) -> None:
    server = crew.server(prefix=ignoring("INT", "HUP"))
    tail = crew.client("tail", fresh_room(), prefix=ignoring("HUP", "INT"))
    crew.in_room(tail)
    for program in (server, tail):
        program.signal(signal.SIGHUP)
        program.signal(signal.SIGINT)
    with Wire(server.port) as wire:
        assert wire.result("ping") == {}
    for program in (server, tail):
        assert program.status is None
        program.signal(signal.SIGTERM)
        crew.finish(program)
    assert (server.status, tail.status) == (0, 143)


def on_a_terminal(crew: Crew, *prefix: str) -> tuple[Seated, Wire]:
    """A server in the foreground of a terminal, and a visitor of it."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    words = [sys.executable, "-m", "evloop.server", "--memory", "--listen", f"127.0.0.1:{port}"]
    server = Seated([*prefix, *words])
    crew.add(server)
    crew.until(lambda: f":{port}\r\n" in server.out)
    return server, Wire(port)


def test_a_server_ends_with_its_terminal(crew: Crew) -> None:
    server, wire = on_a_terminal(crew)
    with wire:
        assert wire.result("ping") == {}
        server.hang_up()
        told = wire.receive()
        assert told is not None and told["method"] == "closing"
        assert told["params"]["reason"] == "its terminal has gone"
    crew.finish(server)
    assert server.status == 0


def test_a_server_that_ignores_hang_ups_outlives_its_terminal(crew: Crew) -> None:
    server, wire = on_a_terminal(crew, *ignoring("HUP"))
    with wire:
        assert wire.result("ping") == {}
        server.hang_up()
        assert wire.result("ping") == {}
        server.signal(signal.SIGHUP)
        assert wire.result("ping") == {}
        server.signal(signal.SIGTERM)
    crew.finish(server)
    assert server.status == 0


def test_a_hang_up_is_a_wish_while_the_terminal_is_there(crew: Crew) -> None:
    server, wire = on_a_terminal(crew)
    with wire:
        server.signal(signal.SIGHUP)
        assert wire.result("ping") == {}
    assert server.status is None


def test_children_inherit_what_is_ignored(crew: Crew) -> None:
    """The child that looks names up ignores what its parent ignores."""
    program = (
        "import signal\n"
        "from evloop.net.resolve import Lookup\n"
        "from evloop.system.loop import Loop\n"
        "loop = Loop()\n"
        "loop.on_signal(signal.SIGHUP, loop.stop)\n"
        "loop.on_signal(signal.SIGTERM, loop.stop)\n"
        "def resolver(host, port):\n"
        "    kept = [signal.getsignal(it) == signal.SIG_IGN for it in (1, 15)]\n"
        "    address = '10.0.0.%d%d' % tuple(kept)\n"
        "    return [(2, 1, 6, '', (address, port))]\n"
        "def told(addresses, why):\n"
        "    print(addresses[0][1][0], why)\n"
        "    loop.stop()\n"
        "Lookup(loop, 'a.name', 1, told, resolver)\n"
        "loop.run()\n"
        "loop.close()\n"
    )
    words = [*ignoring("HUP"), sys.executable, "-c", program]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "10.0.0.10 \n"


def starting(code: str) -> tuple[str, ...]:
    """A prefix that runs `code` in a Python, which then becomes the program."""
    return (
        sys.executable,
        "-c",
        f"import os, signal, sys\n{code}\nos.execv(sys.argv[1], sys.argv[1:])",
    )


def test_children_are_waited_for_though_their_ends_were_ignored(crew: Crew, tmp_path: Path) -> None:
    """Who ignores SIGCHLD has no children to wait for: parents that do so start us, too."""
    prefix = starting("signal.signal(signal.SIGCHLD, signal.SIG_IGN)")
    server = crew.server()
    asked = crew.client("getdir", server=f"localhost:{server.port}", prefix=prefix)
    assert crew.finish(asked).status == 0, asked.tell()
    if shutil.which("openssl"):
        words = [sys.executable, "-m", "evloop.server", "--make-cert", str(tmp_path / "cert")]
        made = crew.add(Program([*prefix, *words]))
        assert crew.finish(made).status == 0, made.tell()


def test_signals_that_came_blocked_are_heard(crew: Crew) -> None:
    """A thread of a larger program may have blocked all before it started us."""
    prefix = starting("signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())")
    server = crew.server(prefix=prefix)
    tail = crew.client("tail", fresh_room(), prefix=prefix)
    crew.in_room(tail)
    for program, status in ((server, 0), (tail, 143)):
        program.signal(signal.SIGTERM)
        assert crew.finish(program).status == status, program.tell()


@pytest.mark.parametrize(
    "words",
    [["--state", "s.db"], ["--backup", "b.db"], ["--memory", "--keep-file", "h.db"]],
    ids=["state", "backup", "keep"],
)
def test_a_working_directory_that_is_gone(crew: Crew, words: list[str]) -> None:
    code = "import tempfile\nhere = tempfile.mkdtemp()\nos.chdir(here)\nos.rmdir(here)"
    prefix = (*starting(code), "/usr/bin/env", f"PYTHONPATH={ROOT}", sys.executable)
    command = [*prefix, "-m", "evloop.server", "--listen", "127.0.0.1:0"]
    program = crew.add(Program([*command, *words]))
    assert crew.finish(program).status == 73, program.tell()
    why = os.strerror(errno.ENOENT)
    assert program.err == f"evloop: {words[-1]}: the working directory cannot be used: {why}\n"


@pytest.mark.parametrize("files", [6, 8])
@pytest.mark.parametrize("module", MODULES)
def test_too_few_open_files_are_one_line(crew: Crew, module: str, files: int) -> None:
    code = f"import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, ({files}, {files}))"
    words = [] if module == "evloop.server" else ["getdir"]
    program = crew.add(Program([*starting(code), sys.executable, "-m", module, *words]))
    assert crew.finish(program).status == 1, program.tell()
    assert program.err == f"evloop: the limit of {files} open files is too low; see ulimit -n\n"


def test_however_few_files_may_be_open_a_command_works_or_says_why_and_ends(crew: Crew) -> None:
    """Whatever cannot be opened or loaded, at each point of the way into a room."""
    server, room = crew.server(), "lab"
    assert crew.finish(crew.client("makeroom", room, server=server.place)).status == 0
    crew.in_room(crew.chatter("Ann", room, server=server.place))
    programs = []
    for files in range(6, 20):  # with fewer, Python itself does not start everywhere
        code = f"import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, ({files}, {files}))"
        for words in (["getdir"], ["say", room, "a word"], ["chat", room]):
            asked = crew.client(*words, server=server.place, prefix=starting(code))
            asked.end()
            programs.append(asked)
    for asked in programs:
        assert crew.finish(asked).status is not None, asked.tell()
        told = asked.out + asked.err
        assert "internal error" not in told and "Traceback" not in told, asked.tell()
        assert asked.status == 0 or "Too many open files" in told or "too low" in told, asked.tell()
    assert [asked.status for asked in programs[-3:]] == [0, 0, 0], "20 are enough"


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_that_nobody_reads_or_that_fits_nowhere(module: str, option: str) -> None:
    words = [sys.executable, "-m", module, option]
    reader, writer = os.pipe()
    os.close(reader)

    def run(stdout: int) -> tuple[int, bytes]:
        done = subprocess.run(
            words, stdout=stdout, stderr=subprocess.PIPE, cwd=ROOT, env=environment(), check=False
        )
        return done.returncode, done.stderr

    assert run(writer) == (0, b"")
    os.close(writer)
    with open("/dev/full", "w") as full:
        assert run(full.fileno()) == (1, f"evloop: standard output: {os.strerror(28)}\n".encode())


def start_and_stop(crew: Crew, where: Path, *prefix: str) -> tuple[int, str]:
    program = f'cd {where}; PYTHONPATH={ROOT}; export PYTHONPATH; exec "$@"'
    server = crew.start_server(prefix=("sh", "-c", program, "sh", *prefix), memory=False)
    crew.until(lambda: server.listens or server.done)
    server.signal(signal.SIGTERM)
    crew.finish(server)
    assert server.status is not None
    return server.status, server.err


def test_a_relative_place_for_state_is_ignored(crew: Crew, tmp_path: Path) -> None:
    home, where = tmp_path / "home", tmp_path / "where"
    where.mkdir()
    status, _ = start_and_stop(crew, where, "env", "XDG_STATE_HOME=relative", f"HOME={home}")
    assert status == 0 and os.listdir(where) == []
    assert (home / ".local/state/evloop/directory.db").exists()


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="root and setpriv")
def test_without_a_home_and_without_a_user_entry(crew: Crew) -> None:
    """A container with any user id. pytest's own folder is for root alone."""
    where = Path("/tmp") / f"evloop-test-{os.getpid()}"
    where.mkdir()
    where.chmod(0o777)
    try:
        user = ("setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups")
        status, err = start_and_stop(
            crew, where, "env", "-u", "HOME", "-u", "XDG_STATE_HOME", *user
        )
        assert status == 73 and "--state FILE" in err
        assert os.listdir(where) == []
    finally:
        shutil.rmtree(where)


def test_a_link_as_state_file_and_metrics_file(crew: Crew, tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir(mode=0o700)
    state, figures = tmp_path / "state.db", tmp_path / "evloop.prom"
    state.symlink_to(real / "directory.db")
    figures.symlink_to(real / "figures")
    for rooms in (["one"], ["one", "two"]):
        server = crew.server("--state", str(state), "--metrics-file", str(figures))
        with Wire(server.port) as wire:
            wire.result("makeroom", name=rooms[-1])
            assert [room["name"] for room in wire.rooms()] == rooms
        server.signal(signal.SIGTERM)
        crew.finish(server)
        assert server.status == 0
        assert state.is_symlink() and figures.is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["evloop.prom", "real", "state.db"]
    assert (real / "figures").read_text().startswith("# HELP")


# What a kernel built without IPv6, or one whose /proc is closed, is like to Python.
WITHOUT_IPV6 = """
import errno, os, socket
true = socket.socket.__init__
def no_ipv6(self, family=-1, *more, **named):
    if family == socket.AF_INET6:
        raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
    true(self, family, *more, **named)
socket.socket.__init__ = no_ipv6
"""
WITHOUT_PROC = """
import builtins, os
def closed(true):
    def opened(path, *more, **named):
        if str(path).startswith('/proc'):
            raise PermissionError(13, 'Permission denied', path)
        return true(path, *more, **named)
    return opened
builtins.open, os.open, os.listdir = closed(open), closed(os.open), closed(os.listdir)
os.stat = closed(os.stat)
"""


@pytest.mark.parametrize("kernel", [WITHOUT_IPV6, WITHOUT_PROC], ids=["no-ipv6", "no-proc"])
def test_an_unusual_kernel(crew: Crew, tmp_path: Path, kernel: str) -> None:
    """A server on every address, a client by name, a room: all as if nothing were missing."""
    (tmp_path / "sitecustomize.py").write_text(kernel)
    path = str(tmp_path)
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    prefix = ("env", f"PYTHONPATH={path}")
    server = crew.start_server(prefix=prefix, listen=f":{port}")
    crew.until(lambda: server.listens or server.done)
    assert server.listens, server.tell()
    room = fresh_room()
    place = f"localhost:{port}"
    ann = crew.chatter("Ann", room, server=place, prefix=prefix)
    crew.in_room(ann)
    made = crew.piped("connect\nmakeroom lab\ngetdir\n", server=place)
    assert made.status == 0, made.tell()
    also = crew.client("--server", place, "getdir", prefix=prefix)
    crew.finish(also)
    assert also.status == 0 and "lab" in also.out, also.tell()
    said = crew.client("--name", "Bob", "say", room, "hello", prefix=prefix)
    crew.finish(said)
    assert said.status == 0, said.tell()
    crew.until(lambda: "Bob: hello" in ann.out)
    caller = Caller(("127.0.0.1", port))
    asked = caller.ask("stats")
    crew.until(lambda: caller.reply(asked), every=0.05)
    caller.close()
