"""The server under a service manager: sockets handed over, told how it is, stopped and killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.test_metrics import samples
from tests.support.live import (
    ROOT,
    Caller,
    House,
    Process,
    request,
)

ACTIVATE = shutil.which("systemd-socket-activate")


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.bind(str(tmp_path / "notify"))
    made.setblocking(False)
    yield made
    made.close()


def heard(manager: socket.socket) -> list[str]:
    said = []
    while True:
        try:
            said.append(manager.recv(4096).decode())
        except BlockingIOError:
            return said


def test_the_service_manager_is_told_everything(
    processes: list[Process], manager: socket.socket, tmp_path: Path
) -> None:
    environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
    process = Process(environ=environ)
    processes.append(process)
    said: list[str] = []

    def told(what: str) -> bool:
        said.extend(heard(manager))
        return any(what in line for line in said)

    process.ready()
    process.until(lambda: told("READY=1\nSTATUS=0 rooms, 0 clients"))
    said.clear()
    process.until(lambda: told("WATCHDOG=1") and said.count("WATCHDOG=1") >= 3)
    process.process.send_signal(signal.SIGHUP)
    process.until(lambda: told("RELOADING=1\nMONOTONIC_USEC="))
    process.until(lambda: told("READY=1"))
    process.process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.process.pid, os.WSTOPPED | os.WNOWAIT)
    heard(manager)
    # Stopped for longer than its watchdog: silent, which is what a watchdog is for.
    with pytest.raises(AssertionError, match="it never happened"):
        process.until(lambda: heard(manager), 0.6)
    process.process.send_signal(signal.SIGCONT)
    said.clear()
    process.until(lambda: told("WATCHDOG=1"))
    assert said.count("WATCHDOG=1") <= 2, "one ping is owed after a long stop, not many"
    process.process.terminate()
    assert process.wait() == 0
    assert told("STOPPING=1")


@pytest.mark.skipif(ACTIVATE is None, reason="needs systemd-socket-activate")
def test_systemd_hands_its_socket_over() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = [sys.executable, "-m", "evloop.server", "--memory"]
    run = subprocess.Popen(
        [str(ACTIVATE), "-l", f"127.0.0.1:{port}", *server],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert run.stderr is not None
    try:
        line = b""
        while b"Listening on" not in line:  # systemd's own word that it listens
            line = run.stderr.readline()
            assert line
        with socket.create_connection(("127.0.0.1", port), timeout=20) as caller:
            caller.sendall(request("ping", 1, {}))  # this starts the server
            reply = caller.recv(4096)
            assert json.loads(reply[4:])["result"] == {}
            assert run.poll() is None
            run.terminate()
            assert b"closing" in caller.recv(4096)
        assert run.wait(20) == 0
        assert f"listening on 127.0.0.1:{port}" in run.stderr.read().decode()
    finally:
        run.kill()
        run.wait()
        run.stderr.close()


def test_sockets_that_make_no_sense_end_the_server(processes: list[Process]) -> None:
    # exec keeps the process id: LISTEN_PID is that of the server.
    command = 'export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@" 3</dev/null'
    process = Process(before=("sh", "-c", command, "sh"), listen=False)
    processes.append(process)
    assert process.wait() == 2
    assert "cannot take over the sockets" in process.log and "Traceback" not in process.log


def test_the_journal_gets_priorities_and_no_time(tmp_path: Path) -> None:
    command = (
        'exec 2>"$0"; JOURNAL_STREAM=$(stat -L -c %d:%i "$0"); export JOURNAL_STREAM; exec "$@"'
    )
    log = tmp_path / "journal"
    log.touch()
    server = [sys.executable, "-m", "evloop.server", "--memory", "--listen", "127.0.0.1:0"]
    run = subprocess.Popen(
        ["sh", "-c", command, str(log), *server], cwd=ROOT, stdin=subprocess.DEVNULL
    )
    try:
        while "listening on" not in log.read_text():
            assert run.poll() is None
        run.terminate()
        assert run.wait(20) == 0
    finally:
        run.kill()
        run.wait()
    lines = log.read_text().splitlines()
    assert lines[0].startswith("evloop.server: listening on 127.0.0.1:")
    assert lines[1].startswith("<5>started version=")
    assert lines[2].startswith("<5>stopping why=")


def test_figures_on_the_wire_and_in_a_file(processes: list[Process], tmp_path: Path) -> None:
    path = tmp_path / "evloop.prom"
    process = Process("--metrics-file", str(path))
    processes.append(process)
    process.ready()
    caller = Caller(process.address)
    try:
        process.call(caller, "makeroom", name="lab")
        process.call(caller, "makeroom", name="lab")
        figures = process.call(caller, "stats")["result"]
    finally:
        caller.close()
    assert figures["rooms"] == 1 and figures["clients"] == 1
    assert figures["requests"]["makeroom"] == 2
    assert figures["rejects"] == {"room_exists": 1}
    assert figures["commits"] == 1
    assert figures["frames"] == 3
    assert figures["resident_bytes"] > 1_000_000 and figures["open_descriptors"] > 5
    found = samples(path.read_text())
    assert found["rooms", ""] == 0, "as it was when the file was written"
    assert ("loop_lag_seconds_bucket", "+Inf") in found


def test_stats_are_for_this_machine_unless_told() -> None:
    for options, allowed in (((), False), (("--stats-from", "192.0.2.1"), True)):
        house = House(*options)
        try:
            caller = house.caller()
            house.call(caller, "ping")
            (connection,) = house.dispatcher.connections.values()
            connection.host = "192.0.2.1"  # as if it came from there
            reply = house.call(caller, "stats")
            assert ("result" in reply) == allowed
            assert allowed or reply["error"]["data"]["reason"] == "not_allowed"
        finally:
            house.close()


def test_owner_tokens_on_plain_tcp_are_warned_about(processes: list[Process]) -> None:
    for place, warned in (("127.0.0.1:0", False), ("0.0.0.0:0", True)):
        process = Process("--delete", "owner", "--listen", place, listen=False)
        processes.append(process)
        process.ready()
        assert ("owner tokens can be overheard" in process.log) == warned
        process.close()
