"""IRC servers as peers of a chat room: started on loopback from a directory of their own, and
members that log in, join one channel and read.

Flood protection is switched off in each (a room's sender is not slowed down by us, either), and so
are DNS and ident look-ups.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable
from pathlib import Path

from bench.harness import build
from bench.harness.common import Context
from bench.harness.processes import Failed, Server

CHANNEL = "#lab"
JOIN_S = 30.0

_NGIRCD = """
[Global]
Name = irc.bench.invalid
Info = bench
Listen = 127.0.0.1
Ports = {port}
ServerUID = root
ServerGID = root
[Limits]
MaxConnections = 0
MaxConnectionsIP = 0
MaxJoins = 0
MaxPenaltyTime = 0
PingTimeout = 3600
[Options]
DNS = no
Ident = no
PAM = no
"""

_INSPIRCD = """
<path configdir="{place}" datadir="{place}" logdir="{place}" moduledir="{modules}">
<server name="irc.bench.invalid" description="bench" network="bench">
<bind address="127.0.0.1" port="{port}" type="clients">
<connect name="all" allow="*" timeout="60" pingfreq="3600" resolvehostnames="no" useident="no"
 threshold="100000" commandrate="10000000" fakelag="no" softsendq="1048576" hardsendq="4194304"
 recvq="65536" localmax="20000" globalmax="20000" maxchans="100" maxconnwarn="no" limit="20000">
<class name="shutdown" commands="DIE RESTART">
<performance softlimit="20000" somaxconn="4096" quietbursts="yes">
<dns server="127.0.0.1" timeout="1">
<log method="file" type="*" level="default" target="{place}/inspircd.log">
"""


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _place(context: Context, name: str) -> Path:
    place = context.files / name
    place.mkdir(exist_ok=True)
    return place


def _ngircd(context: Context) -> Server:
    program, libraries = build.debian("ngircd", "usr/sbin/ngircd", ("libident",))
    port, place = _free_port(), _place(context, "ngircd")
    config = place / "ngircd.conf"
    config.write_text(_NGIRCD.format(port=port))
    command = [program, "-n", "-f", config]
    return Server(command, cwd=place, port=port, extra={"LD_LIBRARY_PATH": str(libraries)})


def _inspircd(context: Context) -> Server:
    program, libraries = build.debian("inspircd", "usr/sbin/inspircd")
    port, place = _free_port(), _place(context, "inspircd")
    config = place / "inspircd.conf"
    modules = program.parents[1] / "lib" / "inspircd" / "modules"
    config.write_text(_INSPIRCD.format(port=port, place=place, modules=modules))
    command = [program, "--config", config, "--nofork", "--nopid", "--runasroot"]
    return Server(command, cwd=place, port=port, extra={"LD_LIBRARY_PATH": str(libraries)})


def _miniircd(context: Context) -> Server:
    python = build.with_package(context.python, "miniircd", "miniircd")
    port, place = _free_port(), _place(context, "miniircd")
    program = python.parent / "miniircd"
    command = [python, program, "--listen", "127.0.0.1", "--ports", str(port)]
    if os.geteuid() == 0:
        command += ["--setuid", "root"]
    return Server(command, cwd=place, port=port)


SERVERS: dict[str, Callable[[Context], Server]] = {
    "ngircd": _ngircd,
    "inspircd": _inspircd,
    "miniircd": _miniircd,
}


class Channel:
    """`members` connections in one channel, and one more that speaks; a context manager."""

    def __init__(self, server: Server, members: int) -> None:
        self._poller = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        wait_port(server)
        for number in range(members + 1):
            member = socket.create_connection(("127.0.0.1", server.port), timeout=JOIN_S)
            member.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            member.setblocking(False)
            member.sendall(f"NICK m{number}\r\nUSER m{number} 0 * :m\r\n".encode())
            self._sockets[member.fileno()] = member
            self._poller.register(member, select.EPOLLIN)
        self._join()
        self.speaker = member  # an IRC server does not send one's own words back

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, *_: object) -> None:
        self._poller.close()
        for member in self._sockets.values():
            member.close()

    def _join(self) -> None:
        """Log in and join with all at once: some servers take a second for each that waits."""
        waiting = dict.fromkeys(self._sockets, b"")
        deadline = time.monotonic() + JOIN_S
        while waiting:
            if time.monotonic() > deadline:
                raise Failed(f"{len(waiting)} IRC members did not join: {[*waiting.values()][:2]}")
            for descriptor, _ in self._poller.poll(0.1):
                member = self._sockets[descriptor]
                data = member.recv(65_536)
                if not data:
                    raise Failed(f"IRC log-in ended: {waiting.get(descriptor, b'')[-200:]!r}")
                if descriptor not in waiting:
                    continue  # the others' JOINs
                had, said = waiting[descriptor], waiting[descriptor] + data
                waiting[descriptor] = said
                for line in data.split(b"\r\n"):
                    if line.startswith(b"PING"):
                        member.sendall(b"PONG" + line[4:] + b"\r\n")
                if b" 001 " in said and b" 001 " not in had:
                    member.sendall(f"JOIN {CHANNEL}\r\n".encode())
                if b" 366 " in said:
                    del waiting[descriptor]

    def say(self, text: str) -> None:
        self.speaker.sendall(f"PRIVMSG {CHANNEL} :{text}\r\n".encode())

    def drain(self, needle: bytes = b"") -> int:
        """Read all that is there; how often `needle` came."""
        found = 0
        for descriptor, _ in self._poller.poll(0, len(self._sockets) or 1):
            try:
                data = self._sockets[descriptor].recv(65_536)
            except BlockingIOError:
                continue
            if not data:
                raise Failed("the IRC server closed a member's connection")
            found += data.count(needle) if needle else 0
        return found


def wait_port(server: Server, at_most_s: float = 15.0) -> None:
    """Until the server accepts: it does not say so itself."""
    deadline = time.monotonic() + at_most_s
    while True:
        try:
            socket.create_connection(("127.0.0.1", server.port), timeout=1).close()
            return
        except OSError as error:
            if server.process.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"{server.command[0]}: {error}; {server.words()[-300:]}") from None
            time.sleep(0.05)
