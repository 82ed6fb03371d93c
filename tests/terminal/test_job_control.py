"""Job control in a real shell in a real terminal (tmux): Ctrl-Z, fg, bg, kill -9."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.processes import PATIENCE_S, ROOT

TMUX = shutil.which("tmux")
SHELLS = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "dash": ["dash", "-i"],
    "busybox": ["busybox", "ash", "-i"],
}
LOOK_AGAIN_S = 0.2  # for what a window does not show: asking tmux takes a process each time

pytestmark = pytest.mark.skipif(TMUX is None, reason="tmux is not installed")


class Tmux:
    """One window of a tmux server of our own."""

    def __init__(self, socket: Path, shell: list[str]) -> None:
        self.command = [TMUX or "tmux", "-S", str(socket), "-f", "/dev/null"]
        environment = {**os.environ, "PS1": "sh> ", "ENV": "", "LC_ALL": "C.UTF-8"}
        environment.pop("TMUX", None)
        self.run(*("new-session", "-d", "-x", "80", "-y", "24", *shell), cwd=ROOT, env=environment)
        # What the window shows comes through here too: a sign that it is worth to look again.
        signs = socket.with_name("signs")
        os.mkfifo(signs)
        self.signs = os.open(signs, os.O_RDWR | os.O_NONBLOCK)
        self.run("pipe-pane", "-O", f"exec cat >{signs}")

    def close(self) -> None:
        self.run("kill-server")
        os.close(self.signs)

    def run(self, *arguments: str, **options: object) -> str:
        done = subprocess.run(
            [*self.command, *arguments],
            check=True,
            capture_output=True,
            text=True,
            **options,  # type: ignore[call-overload]
        )
        return str(done.stdout)

    def type(self, text: str, enter: bool = True) -> None:
        self.run("send-keys", "-l", text)
        if enter:
            self.run("send-keys", "Enter")

    def key(self, name: str) -> None:
        self.run("send-keys", name)

    def lines(self) -> list[str]:
        return self.run("capture-pane", "-p").rstrip("\n").split("\n")

    def shows(self, end: str) -> bool:
        """Whether a line ends so; what was typed ahead is answered behind a prompt."""
        return any(line.endswith(end) for line in self.lines())

    def expect(self, last: str) -> list[str]:
        """Wait until the last line is `last`."""
        self.wait_for(lambda: self.lines()[-1].rstrip() == last)
        return self.lines()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end, "\n".join(self.lines())
            if select.select([self.signs], [], [], LOOK_AGAIN_S)[0]:
                os.read(self.signs, 65_536)

    def settings(self) -> list[object]:
        """tcgetattr of the window's terminal; a shell that waits for a line has its own."""
        tty = self.run("display-message", "-p", "#{pane_tty}").strip()
        fd = os.open(tty, os.O_RDWR | os.O_NOCTTY)
        try:
            return termios.tcgetattr(fd)
        finally:
            os.close(fd)

    def child(self) -> int:
        """The process that the shell has started."""
        pid = int(self.run("display-message", "-p", "#{pane_pid}"))
        [child] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(child)


@pytest.fixture(params=[name for name in SHELLS if shutil.which(SHELLS[name][0])])
def tmux(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Tmux]:
    window = Tmux(tmp_path / "tmux", SHELLS[request.param])
    window.expect("sh>")
    yield window
    window.close()


def state(pid: int) -> str:
    """The letter of proc(5): T stopped, Z ended and not yet asked after; "-" gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "-"


def in_foreground(pid: int) -> bool:
    """Whether its group has the terminal; see proc(5) for pgrp and tpgid."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return fields[2] == fields[5]


def start(tmux: Tmux, suffix: str = "") -> None:
    tmux.type(f"{sys.executable} -m tests.support.lineclient {suffix}".rstrip())


def test_suspend_and_foreground(tmux: Tmux) -> None:
    before = tmux.settings()
    start(tmux)
    tmux.expect("lab>")
    assert tmux.settings() != before
    tmux.type("half a line", enter=False)
    tmux.expect("lab> half a line")
    tmux.key("C-z")
    tmux.expect("sh>")
    tmux.wait_for(lambda: tmux.settings() == before)
    tmux.type("fg")
    tmux.expect("lab> half a line")
    tmux.key("Enter")
    tmux.wait_for(lambda: "Mel: half a line" in tmux.lines())
    tmux.key("C-]")
    tmux.expect("sh>")
    tmux.wait_for(lambda: tmux.settings() == before)


def test_background_then_foreground(tmux: Tmux) -> None:
    before = tmux.settings()
    start(tmux)
    tmux.expect("lab>")
    tmux.key("C-z")
    tmux.expect("sh>")
    tmux.type("bg")
    tmux.type("echo the shell''s")
    tmux.wait_for(lambda: tmux.shows("the shells"))
    tmux.wait_for(lambda: tmux.settings() == before)
    tmux.type("fg")
    tmux.expect("lab>")  # though no signal has said so
    tmux.type("still here")
    tmux.wait_for(lambda: "Mel: still here" in tmux.lines())
    tmux.type("/quit")
    tmux.expect("sh>")
    tmux.wait_for(lambda: tmux.settings() == before)


def test_started_in_the_background(tmux: Tmux) -> None:
    before = tmux.settings()
    start(tmux, "--say 20 &")
    tmux.type("echo the shell''s")
    tmux.wait_for(lambda: tmux.shows("the shells"))
    tmux.wait_for(lambda: tmux.settings() == before)
    tmux.type("fg")
    tmux.wait_for(lambda: any("bob: line 20 " in line for line in tmux.lines()))
    tmux.expect("lab>")
    tmux.type("hello")
    tmux.wait_for(lambda: "Mel: hello" in tmux.lines())
    tmux.key("C-d")
    tmux.expect("sh>")
    tmux.wait_for(lambda: tmux.settings() == before)


def test_stopped_from_outside_and_ended_in_the_background(tmux: Tmux) -> None:
    start(tmux)
    tmux.expect("lab>")
    child = tmux.child()
    os.kill(child, signal.SIGSTOP)  # cannot be caught: the terminal is left as it is
    tmux.wait_for(lambda: state(child) == "T" and tmux.lines()[-1].rstrip().endswith("sh>"))
    tmux.type("stty sane; bg; echo the shell''s")
    tmux.wait_for(lambda: any(line.endswith("the shells") for line in tmux.lines()))
    os.kill(child, signal.SIGTERM)
    tmux.wait_for(lambda: state(child) in "Z-")
    # It ended in the background and has changed nothing: lines are still lines.
    tmux.type("stty -a | grep -c -w -e icanon; echo do''ne")
    tmux.wait_for(lambda: "done" in tmux.lines())
    assert "1" in tmux.lines()


def test_stopped_from_outside_and_brought_back(tmux: Tmux) -> None:
    start(tmux)
    tmux.expect("lab>")
    tmux.type("half", enter=False)
    tmux.expect("lab> half")
    child = tmux.child()
    os.kill(child, signal.SIGSTOP)
    tmux.wait_for(lambda: state(child) == "T" and tmux.lines()[-1].rstrip().endswith("sh>"))
    tmux.type("stty sane; fg")
    tmux.expect("lab> half")
    tmux.type(" a line")
    tmux.wait_for(lambda: "Mel: half a line" in tmux.lines())
    tmux.key("C-]")
    tmux.expect("sh>")


def test_after_kill_9_enter_still_works(tmux: Tmux) -> None:
    start(tmux)
    tmux.expect("lab>")
    child = tmux.child()
    os.kill(child, signal.SIGKILL)
    tmux.wait_for(lambda: state(child) in "Z-" and tmux.lines()[-1].rstrip().endswith("sh>"))
    # dash and ash repair nothing, but ICRNL was left on, so Enter still ends a line.
    tmux.type("echo al''ive; stty sane")
    tmux.wait_for(lambda: any(line.endswith("alive") for line in tmux.lines()))


def test_the_next_command_finds_blocking_descriptors(tmux: Tmux) -> None:
    start(tmux)
    tmux.expect("lab>")
    tmux.key("C-]")
    tmux.expect("sh>")
    tmux.type("cd /proc/self/fdinfo && cat 0 1 2 | grep flags; echo do''ne")
    tmux.wait_for(lambda: "done" in tmux.lines())
    flags = [line for line in tmux.lines() if line.startswith("flags:")]
    assert len(flags) == 3
    assert not any(int(line.split()[-1], 8) & os.O_NONBLOCK for line in flags)


def test_the_client_itself(tmux: Tmux) -> None:
    """Ctrl-Z, bg, fg, and a SIGSTOP from outside, with the whole client in a room of its own."""
    before = tmux.settings()
    room = f"239.255.77.{os.getpid() % 256}:{49152 + os.getpid() % 16000}"
    tmux.type(f"{sys.executable} -m evloop.client --name Mel --time=off chat {room}")
    tmux.expect(f"{room}>")
    client = tmux.child()
    tmux.type("half a li", enter=False)
    tmux.expect(f"{room}> half a li")
    tmux.key("C-z")
    tmux.expect("sh>")
    tmux.wait_for(lambda: tmux.settings() == before)
    tmux.type("bg")
    tmux.wait_for(lambda: state(client) == "S")
    tmux.type("fg")
    tmux.expect(f"{room}> half a li")
    os.kill(client, signal.SIGSTOP)
    tmux.expect("sh>")
    tmux.type("fg")
    tmux.expect(f"{room}> half a li")
    tmux.type("ne")
    tmux.wait_for(lambda: "Mel: half a line" in tmux.lines())
    tmux.key("C-]")
    tmux.expect("sh>")
    tmux.wait_for(lambda: tmux.settings() == before)


def test_a_server_in_the_background_leaves_what_is_typed_to_the_shell(tmux: Tmux) -> None:
    tmux.type(f"{sys.executable} -m evloop.server --memory --listen 127.0.0.1:0 &")
    tmux.wait_for(lambda: any("listening on" in line for line in tmux.lines()))
    child = tmux.child()
    for word in ("one", "two"):
        tmux.type(f"echo the shell''s {word}")
        tmux.wait_for(partial(tmux.shows, f"the shells {word}"))
    assert state(child) in "RS", "reading the terminal has stopped it"
    tmux.type("fg")
    tmux.wait_for(lambda: in_foreground(child))  # or the shell's editor takes what is typed
    tmux.type("rooms")
    tmux.wait_for(lambda: "no rooms" in tmux.lines())
    tmux.type("quit")
    tmux.wait_for(lambda: state(child) == "-")
