"""The door as a process: its sockets, the directory, and rooms on loopback multicast."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.irc.live import QUIET, DoorProcess, Visitor
from tests.support.live import ROOT

TICKS = 80  # in so many a door has loaded all that it loads after its start


def evloop(door: DoorProcess, *words: str) -> subprocess.CompletedProcess[str]:
    """evloop's own client, as another member."""
    command = [sys.executable, "-m", "evloop.client", "--server", door.server, *words]
    environ = {**os.environ, **QUIET}
    return subprocess.run(
        command, cwd=ROOT, env=environ, text=True, capture_output=True, check=False, timeout=30
    )


def test_irc_clients_and_evloop_talk(door: DoorProcess) -> None:
    ann = door.user("Ann", "message-tags", "server-time")
    bob = door.user("Bob")
    room = f"日本-{door.channel[5:]}"
    ann.join(f"#{room}")
    bob.join(f"#{room}")
    ann.wait_for(f":Bob!bob@evloop JOIN #{room}")
    bob.say(f"PRIVMSG #{room} :grüß 🎉")
    line = ann.wait_for(f":Bob!bob@evloop PRIVMSG #{room} :grüß 🎉")
    assert line.startswith("@time=2") and ";msgid=" in line
    said = evloop(door, "--name", "Mel", "say", room, "three", "words")
    assert said.returncode == 0, said.stderr
    for visitor in (ann, bob):
        assert "!" in visitor.wait_for(f"PRIVMSG #{room} :three words")
    listed = evloop(door, "getdir")
    assert "2 here" in listed.stdout
    bob.say("QUIT :done")
    assert "ERROR :Closing link: done" in bob.until_closed()
    ann.wait_for(f"PART #{room} :left")
    ann.say("LIST")
    assert f" 322 Ann #{room} 1 :239." in ann.wait_for(" 322 ")
    door.until(lambda: f"evloop: made room {room}: 239." in door.log)


def test_what_a_script_says_before_it_goes_arrives(door: DoorProcess) -> None:
    """It shuts its side at once, as `printf | nc` does."""
    ann = door.user("Ann")
    ann.join(door.channel)
    bot = door.connect()
    bot.say(
        "NICK bot",
        "USER bot 0 * :Bot",
        f"JOIN {door.channel}",
        f"PRIVMSG {door.channel} :done",
        "PING last",
    )
    bot.sock.shutdown(socket.SHUT_WR)
    ann.wait_for(f"PRIVMSG {door.channel} :done")
    assert any(line.endswith("PONG evloop.internal :last") for line in bot.until_closed())


@pytest.mark.parametrize("signum, status", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_says_goodbye(door: DoorProcess, signum: int, status: int) -> None:
    ann = door.user("Ann")
    ann.join(door.channel)
    program = [sys.executable, "-m", "evloop.client", "--server", door.server, "--name", "Tail"]
    with subprocess.Popen(
        [*program, "--json", "tail", door.channel[1:]],
        cwd=ROOT,
        env={**os.environ, **QUIET},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as tail:
        assert tail.stdout is not None
        assert '"Ann"' in next(line for line in tail.stdout if '"joined"' in line)
        assert door.end(signum) == status
        assert ann.until_closed()[-1] == "ERROR :Closing link: this door closes"
        left = next(line for line in tail.stdout if '"left"' in line)
        assert '"Ann"' in left and '"bye"' in left
        tail.terminate()


def test_there_must_be_a_directory() -> None:
    door = DoorProcess(server="127.0.0.1:1")
    try:
        assert door.process.wait(20) == 69
        door.read_log()
        assert "127.0.0.1:1" in door.log and "IRC clients" not in door.log
    finally:
        door.close()


def test_where_it_may_listen(door: DoorProcess, tmp_path: Path) -> None:
    taken = DoorProcess(place=f"127.0.0.1:{door.port}", server=door.server)
    beyond = DoorProcess(place="0.0.0.0:0", server=door.server)
    file = tmp_path / "file"
    file.write_text("mine")
    there = DoorProcess(place=str(file), server=door.server)
    keyed = DoorProcess("--tls-key", str(file), server=door.server)
    for one, status, why in (
        (taken, 1, "evloop: irc: cannot listen on 127.0.0.1:"),
        (beyond, 2, "evloop: irc: 0.0.0.0:"),
        (there, 1, "something that is no socket is there"),
        (keyed, 2, "--tls-key needs --tls-cert"),
    ):
        try:
            assert one.process.wait(20) == status
            one.read_log()
            assert why in one.log
        finally:
            one.close()
    assert file.read_text() == "mine"


def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "irc"
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(path))
    door = DoorProcess(place=str(path))
    try:
        door.ready()
        assert door.place == str(path)
        assert path.stat().st_mode & 0o777 == 0o600
        visitor = Visitor(str(path))
        visitor.say("NICK Ann", "USER a 0 * :A")
        visitor.wait_for(" 001 Ann ")
        visitor.close()
        assert door.end() == 143
        assert not path.exists()
    finally:
        door.close()


def test_a_web_page(door: DoorProcess) -> None:
    page = door.connect()
    page.say("POST / HTTP/1.1", "Host: 127.0.0.1", "", "NICK evil", "USER a 0 * :A", "JOIN #lab")
    assert page.until_closed() == ["ERROR :Closing link: this is no web server"]


def test_a_door_that_makes_no_rooms() -> None:
    door = DoorProcess("--no-make")
    try:
        ann = door.ready().user("Ann")
        ann.say(f"JOIN {door.channel},two")
        ann.wait_for(" 403 Ann two :a channel is # and a room's name")
        refused = ann.wait_for(f" 403 Ann {door.channel} :")
        assert f"there is no room {door.channel[1:]}" in refused
    finally:
        door.close()


def test_a_door_for_others_tells_what_can_be_overheard_and_takes_no_key() -> None:
    door = DoorProcess(place="0.0.0.0:0", environ={"EVLOOP_IRC_PASSWORD": "open sesame"})
    try:
        door.ready()
        assert "without TLS the password and what is said can be overheard" in door.log
        ann = door.connect()
        ann.say("PASS :open sesame", "NICK Ann", "USER a 0 * :A")
        ann.wait_for(" 376 ")
        room = f"den-{os.getpid()}"
        assert evloop(door, "makeroom", room, "--mode", "sealed").returncode == 0
        ann.say(f"JOIN #{room} :correct horse battery staple")
        assert "overhear" in ann.wait_for(f" 475 Ann #{room} :")
    finally:
        door.close()


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_who_does_not_register_is_closed(door: DoorProcess) -> None:
    silent = door.connect()
    silent.say("NICK Ann")
    line = silent.wait_for("ERROR", 60.0)
    assert line == "ERROR :Closing link: not registered within 30 s"


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to be another user")
def test_another_user_of_the_machine(door: DoorProcess) -> None:
    code = (
        "import os, socket, sys\n"
        "os.setuid(65534)\n"  # it may read no module from now on
        "sock = socket.socket()\n"
        f"sock.connect(('127.0.0.1', {door.port}))\n"
        "sock.sendall(b'NICK Ann\\r\\nUSER a 0 * :A\\r\\n')\n"
        "print(sock.makefile().read())\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], text=True, capture_output=True, check=False, timeout=20
    )
    assert said.stdout.strip() == "ERROR :Closing link: this door is another user's", said.stderr


def test_a_room_that_the_directory_carries() -> None:
    """Each nick is carried over its own connection, its goodbye too."""
    door = DoorProcess(options=("--relay", "always"))
    try:
        door.ready()
        ann, bob = door.user("Ann"), door.user("Bob")
        ann.join(door.channel)
        bob.join(door.channel)
        ann.wait_for(f":Bob!bob@evloop JOIN {door.channel}")
        bob.say(f"PRIVMSG {door.channel} :by the directory")
        ann.wait_for("by the directory")
        bob.say(f"PART {door.channel}")
        ann.wait_for(f":Bob!bob@evloop PART {door.channel} :left")
        assert door.end() == 143
    finally:
        door.close()


def test_a_sealed_room_is_entered_with_its_key(tmp_path: Path) -> None:
    home = {"XDG_STATE_HOME": str(tmp_path / "door")}
    door = DoorProcess(environ=home)
    name = f"den-{os.getpid()}"
    try:
        door.ready()
        made = evloop(door, "makeroom", name, "--mode", "sealed")
        assert made.returncode == 0, made.stderr
        code = re.search(r"[0-9A-Z]{4}(-[0-9A-Z]{4}){6}", made.stdout + made.stderr)
        assert code is not None, made
        ann, bob = door.user("Ann"), door.user("Bob")
        slip = code[0][:-1] + ("0" if code[0][-1] != "0" else "1")
        for key in ("", f" {slip}", " :short"):
            ann.say(f"JOIN #{name}{key}")
            refused = ann.wait_for(f" Ann #{name} :")
            assert refused.split(" ")[1] == "475" and code[0] not in refused
            advice = f":room {name} is sealed: /join #{name} KEY"
            assert refused.endswith(advice) == (not key), refused
        ann.say("LIST")
        assert any(f"#{name} " in row and row.endswith(" sealed") for row in ann.up_to(" 323 "))
        ann.say(f"JOIN #{name} {code[0]}")
        ann.wait_for(" 366 ")
        for room in (f"open-{os.getpid()}", f"open-{os.getpid()}"):
            # Neither made nor entered: who gives a key does not mean to talk in the open.
            ann.say(f"JOIN #{room} {code[0]}")
            assert ann.wait_for(f" Ann #{room} :").split(" ")[1] == "475"
            assert evloop(door, "makeroom", room).returncode in (0, 1)
        bob.say(f"JOIN #{name} {code[0]}")
        ann.wait_for(f":Bob!bob@evloop JOIN #{name}")
        bob.say(f"PRIVMSG #{name} :under the seal")
        ann.wait_for("under the seal")
        # It is remembered, now that somebody has proved to have it.
        ann.say(f"PART #{name}", f"JOIN #{name}")
        ann.wait_for(" 366 ")
        assert code[0] not in door.log
    finally:
        door.close()


def test_the_files_go_away_under_a_door(tmp_path: Path) -> None:
    """It makes rooms and enters sealed ones all the same: what that needs is loaded already."""
    shutil.copytree(ROOT / "evloop", tmp_path / "evloop")
    before = ("sh", "-c", f'cd {tmp_path}; exec "$@"', "sh")
    door = DoorProcess(before=before, environ={"XDG_STATE_HOME": str(tmp_path / "home")})
    den = f"under-{os.getpid()}"
    try:
        door.ready()
        made = evloop(door, "makeroom", den, "--mode", "sealed")
        code = re.search(r"[0-9A-Z]{4}(-[0-9A-Z]{4}){6}", made.stdout + made.stderr)
        assert code is not None, made
        ann, bob = door.user("Ann"), door.user("Bob")
        for _ in range(TICKS):
            ann.all_so_far()  # a tick at least, in which a module is loaded
        os.rename(tmp_path / "evloop", tmp_path / "evloop.old")
        for visitor in (ann, bob):
            visitor.join(door.channel)
            visitor.say(f"JOIN #{den} {code[0]}")
            visitor.wait_for(f" 366 {'Ann' if visitor is ann else 'Bob'} #{den} ")
        for channel in (door.channel, f"#{den}"):
            bob.say(f"PRIVMSG {channel} :still here")
            ann.wait_for(f" PRIVMSG {channel} :still here")
        door.read_log()
        assert "internal error" not in door.log
    finally:
        door.close()
