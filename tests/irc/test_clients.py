"""Real IRC clients at the door: irssi, epic5 and catgirl in tmux, weechat without a screen.

Each does what a person does first: connects, enters a room, talks with a bare client on the same
door and with evloop's own client, changes the nick, and comes back later.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.irc.live import QUIET, DoorProcess, Visitor
from tests.support.live import ROOT
from tests.support.processes import PATIENCE_S
from tests.support.tls_files import trusting

pytestmark = pytest.mark.slow


def until(what: Callable[[], bool], told: Callable[[], str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, told()
        time.sleep(0.05)


class Terminal:
    """A client in a tmux of its own; `command` is for the shell."""

    def __init__(self, folder: Path, name: str, command: str) -> None:
        self._name = f"evloop-{name}-{os.getpid()}"
        environ = {
            **os.environ,
            "TERM": "screen-256color",
            "LC_ALL": "C.UTF-8",
            "HOME": str(folder),
        }
        self._tmux("new-session", "-d", "-x", "110", "-y", "40", command, environ=environ)

    def _tmux(self, *words: str, environ: dict[str, str] | None = None) -> str:
        done = subprocess.run(
            ["tmux", "-L", self._name, "-f", "/dev/null", "-u", *words],
            capture_output=True,
            text=True,
            check=False,
            env=environ,
        )
        return done.stdout

    def type(self, text: str) -> None:
        self._tmux("send-keys", "-l", text)
        self._tmux("send-keys", "Enter")

    def screen(self) -> str:
        return self._tmux("capture-pane", "-p")

    def wait_for(self, *parts: str) -> None:
        """Until one of `parts` is on the screen."""
        until(lambda: any(part in self.screen() for part in parts), self.screen)

    def wait_end(self) -> None:
        """Until the client has ended, and its tmux with it."""
        until(lambda: not self._tmux("list-sessions"), self.screen)

    def close(self) -> None:
        self._tmux("kill-server")


class Irssi(Terminal):
    """irssi, connected as Ann."""

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(folder, "irssi", f"irssi --home={folder} --noconnect")
        self.wait_for("Irssi")
        self.type("/set term_charset utf-8")
        self.type("/set nick Ann")
        self.type("/set cmd_queue_speed 10msec")  # else it spreads its own commands over seconds
        self.type(f"/connect 127.0.0.1 {port}")
        self.wait_for("End of /MOTD", "no operators", "operators, topics")


class Weechat:
    """weechat-headless, driven by its fifo and read by its log files."""

    def __init__(self, folder: Path, port: int, channel: str) -> None:
        self._folder = folder
        self._buffer = f"evloop.{channel}"
        server = f"/server add evloop 127.0.0.1/{port} -nicks=Ann -username=ann -realname=Ann"
        first = [
            "/set logger.file.flush_delay 0",
            "/set irc.server_default.ssl off",
            "/set irc.look.smart_filter off",
            "/set irc.server_default.anti_flood_prio_high 0",  # it spreads its own commands
            "/set irc.server_default.anti_flood_prio_low 0",
            server,
            "/connect evloop",
        ]
        command = ["weechat-headless", "--dir", str(folder)]
        for one in first:
            command += ["-r", one]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        )
        self._fifo = folder / f"weechat_fifo_{self.process.pid}"
        until(self._fifo.exists, lambda: "no fifo of weechat")
        self.wait_for("operators, topics", "server.evloop")

    def type(self, text: str, buffer: str = "") -> None:
        with self._fifo.open("w") as fifo:
            fifo.write(f"irc.{buffer or self._buffer} *{text}\n")

    def log(self, buffer: str = "") -> str:
        path = self._folder / "logs" / f"irc.{buffer or self._buffer}.weechatlog"
        return path.read_text() if path.exists() else ""

    def wait_for(self, part: str, buffer: str = "") -> None:
        until(lambda: part in self.log(buffer), lambda: self.log(buffer))

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE_S)


def own_client(door: DoorProcess, text: str) -> None:
    """evloop's own client says something as Mel, who is another member."""
    command = [sys.executable, "-m", "evloop.client", "--server", door.server, "--name", "Mel"]
    environ = {**os.environ, **QUIET}
    done = subprocess.run(
        [*command, "say", door.channel[1:], *shlex.split(text)],
        cwd=ROOT,
        env=environ,
        check=False,
        capture_output=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(
    not shutil.which("irssi") or not shutil.which("tmux"), reason="needs irssi and tmux"
)
def test_irssi(door: DoorProcess, tmp_path: Path) -> None:
    bob = door.user("Bob")
    bob.join(door.channel)
    bob.say(f"PRIVMSG {door.channel} :said before")
    irssi = Irssi(tmp_path, door.port)
    try:
        irssi.type(f"/join {door.channel}")
        irssi.wait_for(f"Irssi: {door.channel}: Total of 2 nicks")
        ann = bob.wait_for(f"JOIN {door.channel}")
        assert ann.startswith(":Ann!")
        irssi.wait_for("said before")
        talk(irssi.type, irssi.wait_for, bob, door.channel)
        own_client(door, "from evloop itself")
        irssi.wait_for("from evloop itself")
        irssi.type("/list -YES")
        irssi.type("/window goto 1")
        irssi.type("/whois Robert")
        irssi.wait_for("Bob Real")
        irssi.type("/window goto 2")
        irssi.type(f"/part {door.channel}")
        gone(bob, door.channel)
        irssi.type("/quit")
    finally:
        irssi.close()


@pytest.mark.skipif(
    not shutil.which("weechat-headless") or not list(Path("/usr/lib").glob("**/plugins/fifo.so")),
    reason="needs weechat-headless and its plugin fifo",
)
def test_weechat(door: DoorProcess, tmp_path: Path) -> None:
    bob = door.user("Bob")
    bob.join(door.channel)
    bob.say(f"PRIVMSG {door.channel} :said before")
    weechat = Weechat(tmp_path, door.port, door.channel)
    try:
        weechat.type(f"/join {door.channel}", "server.evloop")
        bob.wait_for(":Ann!")
        weechat.wait_for("said before")
        talk(weechat.type, weechat.wait_for, bob, door.channel)
        own_client(door, "from evloop itself")
        weechat.wait_for("from evloop itself")
        weechat.type("/part")
        gone(bob, door.channel)
        # It comes back: what was missed is there, once.
        bob.say(f"PRIVMSG {door.channel} :said meanwhile")
        weechat.type(f"/join {door.channel}", "server.evloop")
        weechat.wait_for("said meanwhile")
        own_client(door, "and on it goes")
        weechat.wait_for("and on it goes")
        assert weechat.log().count("said meanwhile") == 1, weechat.log()
    finally:
        weechat.close()


@pytest.mark.skipif(
    not shutil.which("epic5") or not shutil.which("tmux"), reason="needs epic5 and tmux"
)
def test_epic5(door: DoorProcess, tmp_path: Path) -> None:
    epic = Terminal(tmp_path, "epic5", f"epic5 Ann 127.0.0.1:{door.port}")
    try:
        epic.wait_for("End of /MOTD", "operators, topics")
        a_first_try(epic, door)
    finally:
        epic.close()


@pytest.mark.skipif(
    not all(shutil.which(name) for name in ("catgirl", "tmux", "openssl")),
    reason="needs catgirl, tmux and openssl",
)
def test_catgirl(tmp_path: Path) -> None:
    """It speaks TLS alone, and is told which certificate to trust."""
    certificate = tmp_path / "door.pem"
    make = [sys.executable, "-m", "evloop.server", "--make-cert", str(certificate)]
    subprocess.run(make, cwd=ROOT, check=True, capture_output=True, timeout=60)
    door = DoorProcess("--tls-cert", str(certificate), "--tls-key", f"{certificate}.key")
    door.tls = trusting(str(certificate))
    door.tls.check_hostname = False
    catgirl = None
    try:
        door.ready()
        command = f"catgirl -t {certificate} -h 127.0.0.1 -p {door.port} -n Ann"
        catgirl = Terminal(tmp_path, "catgirl", command)
        catgirl.wait_for("operators, topics")
        a_first_try(catgirl, door)
    finally:
        if catgirl is not None:
            catgirl.close()
        door.close()


def a_first_try(ann: Terminal, door: DoorProcess) -> None:
    """What a person does first in a client: join, talk, act, take another name, part, quit."""
    bob, channel = door.user("Bob"), door.channel
    bob.join(channel)
    bob.say(f"PRIVMSG {channel} :said before")
    ann.type(f"/join {channel}")
    assert bob.wait_for(f"JOIN {channel}").startswith(":Ann!")
    ann.wait_for("said before")
    ann.type("grüß dich, 日本 🎉")
    assert bob.wait_for(":grüß dich, 日本 🎉").startswith(":Ann!")
    bob.say(f"PRIVMSG {channel} :hello Ann", f"PRIVMSG {channel} :\x01ACTION bows\x01")
    ann.wait_for("hello Ann")
    ann.wait_for("Bob bows")
    ann.type("/me waves")
    bob.wait_for("ACTION waves\x01")
    ann.type("/nick Änn")
    assert bob.wait_for(" NICK ").endswith(" NICK :Änn")
    ann.type(f"/part {channel}")
    gone(bob, channel)
    ann.type("/quit")
    ann.wait_end()


def gone(bob: Visitor, channel: str) -> None:
    """Until Änn has left, and not Mel, who says one thing and leaves too."""
    while not bob.wait_for(f" PART {channel} :left").startswith(":Änn!"):
        pass


def talk(
    write: Callable[[str], None], wait_for: Callable[[str], None], bob: Visitor, channel: str
) -> None:
    """Both say something, act, and change their nicks."""
    write("grüß dich, 日本 🎉")
    assert bob.wait_for("grüß dich").startswith(":Ann!")
    bob.say(f"PRIVMSG {channel} :hello Ann")
    wait_for("hello Ann")
    write("/me waves")
    assert bob.wait_for("waves").endswith(f"PRIVMSG {channel} :\x01ACTION waves\x01")
    bob.say(f"PRIVMSG {channel} :\x01ACTION bows\x01")
    wait_for("bows")
    write("/nick Änn")
    assert bob.wait_for(" NICK ").endswith(" NICK :Änn")
    bob.say("NICK Robert")
    wait_for("Robert")
    for number in range(25):
        bob.say(f"PRIVMSG {channel} :line {number} of 25")
    wait_for("line 24 of 25")
    bob.say(f"PRIVMSG {channel} :" + "long " * 90 + "end")
    wait_for("long end")
