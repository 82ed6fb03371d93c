"""contrib/recipes: each is run as its users would, in a room with somebody who listens."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.test_system_first import free_port
from tests.support.processes import Crew, Program, Server, fresh_place, installed
from tests.support.sources import ROOT

RECIPES = ROOT / "contrib" / "recipes"


class Site:
    """An installation, a directory with the room ops, and Ann in it."""

    def __init__(self, crew: Crew, folder: Path) -> None:
        self.crew = crew
        self.folder = folder
        self.server: Server = crew.server()
        address, port = fresh_place()
        made = crew.piped("", "makeroom", "ops", address, str(port), server=self.server)
        assert made.status == 0, made.tell()
        self.environ = {
            "PATH": f"{installed(folder / 'bin')}:/usr/sbin:/usr/bin:/bin",
            "EVLOOP_SERVER": self.server.place,
            "EVLOOP_INTERFACE": "127.0.0.1",
            "HOME": str(folder),
        }
        self.ann = crew.chatter("Ann", "ops", server=self.server)
        crew.in_room(self.ann)

    def start(self, *words: str | Path, **more: str) -> Program:
        environ = {**self.environ, **more}
        program = Program([str(word) for word in words], environ=environ, cwd=self.folder)
        self.crew.add(program)
        return program

    def run(self, *words: str | Path, status: int = 0, **more: str) -> Program:
        program = self.start(*words, **more)
        program.end()
        self.crew.finish(program)
        assert program.status == status, program.tell()
        return program

    def heard(self, line: str) -> None:
        """Wait until Ann has heard it. Two of a name that meet have a tag each."""
        self.crew.until(lambda: line in self.said(), why=line)

    def said(self) -> list[str]:
        """The lines that Ann has heard, without tags."""
        return [re.sub(r"^(\w+)~[0-9a-f]+: ", r"\1: ", line) for line in self.ann.lines]


@pytest.fixture
def site(crew: Crew, tmp_path: Path) -> Site:
    return Site(crew, tmp_path)


def need(*tools: str) -> None:
    for tool in tools:
        if shutil.which(tool, path="/usr/sbin:/usr/bin:/bin") is None:
            pytest.skip(f"{tool} is not installed")


def test_a_bot_of_ten_lines(site: Site) -> None:
    lines = (RECIPES / "bot.py").read_text().splitlines()
    assert len([line for line in lines if line and not line.startswith(("#!", '"""'))]) <= 10
    bot = site.start(sys.executable, RECIPES / "bot.py", "ops")
    site.crew.until(lambda: "-- bot" in site.ann.err, why="the bot is there")
    site.ann.type("what is it?\n!time\n")
    site.crew.until(lambda: any(line.startswith("bot: It is ") for line in site.said()))
    site.ann.type("thank you\n!time\n")
    site.crew.until(lambda: sum(": It is " in line for line in site.ann.lines) == 2)
    said = [line for line in site.said() if line.startswith("bot: ")]
    assert len(said) == 2 and all(re.fullmatch(r"bot: It is \d\d:\d\d\.", one) for one in said)
    assert bot.status is None


def crontab() -> list[tuple[str, str]]:
    """(the five fields, command) of each line; cron's own reading of it."""
    lines = []
    for line in (RECIPES / "crontab").read_text().splitlines():
        match = re.fullmatch(r"((?:[\d*/,-]+ ){5})(.*)", line)
        if match:
            lines.append((match[1].strip(), match[2]))
        else:
            assert re.fullmatch(r"#.*|[A-Z_]+=\S+", line), line
    return lines


def test_lines_of_cron(site: Site) -> None:
    morning, full = crontab()
    assert morning[0] == "0 9 * * 1-5"
    for _, command in (morning, full):
        assert "%" not in command, "the command would end there"
    site.run("/bin/sh", "-c", morning[1])
    site.heard("cron: Good morning!")
    fake = site.folder / "bin" / "df"
    for used in (12, 95):
        fake.write_text(f"#!/bin/sh\necho Filesystem blocks\necho /dev/x 9 8 1 {used}% /srv\n")
        fake.chmod(0o755)
        done = site.run("/bin/sh", "-c", full[1])
        assert (done.out, done.err) == ("", "")  # or cron would send mail
    site.heard("cron: /srv is 95% full")
    assert not [line for line in site.ann.lines if "12%" in line]


def unit() -> dict[str, str]:
    text = (RECIPES / "evloop-failed@.service").read_text()
    return dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))


def test_a_unit_that_tells_of_one_that_failed(site: Site) -> None:
    """As systemd would start it: with its specifiers replaced, and its environment."""
    start = unit()["ExecStart"]
    host = socket.gethostname().partition(".")[0]
    assert set(re.findall(r"%.", start)) == {"%i", "%l"}
    words = shlex.split(start.replace("%i", "backup.service").replace("%l", host))
    assert words[0] == "/usr/bin/evloop-client"
    site.run(site.folder / "bin" / "evloop-client", *words[1:])
    site.heard(f"{host}: backup.service has failed: journalctl -u backup.service")


def test_the_unit_has_no_mistakes(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    copy = tmp_path / "evloop-failed@backup.service"
    text = (RECIPES / "evloop-failed@.service").read_text()
    copy.write_text(text.replace("/usr/bin/evloop-client", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert [line for line in done.stderr.splitlines() if "evloop-failed" in line] == []


def test_a_hook_of_git(site: Site) -> None:
    need("git")
    git = ["git", "-c", "user.name=Bob", "-c", "user.email=bob@box.lan"]
    site.run("git", "init", "-q", "--bare", "box.git")
    shutil.copy(RECIPES / "post-receive", site.folder / "box.git" / "hooks" / "post-receive")
    site.run("git", "init", "-q", "work")
    in_work = [*git, "-C", "work"]
    for what in ("Begin", "Say /quit and go on"):
        site.run(*in_work, "commit", "-q", "--allow-empty", "-m", what)
    site.run(*in_work, "push", "-q", "../box.git", "HEAD:refs/heads/main")
    site.heard("git: main: Bob: Begin")
    site.heard("git: main: Bob: Say /quit and go on")
    site.run(*in_work, "commit", "-q", "--allow-empty", "-m", "More")
    site.run(*in_work, "push", "-q", "../box.git", "HEAD:refs/heads/main", "HEAD:refs/tags/v1")
    site.heard("git: main: Bob: More")
    site.run(*in_work, "push", "-q", "../box.git", ":refs/tags/v1")
    site.heard("git: v1 was deleted")
    assert sum("Bob: Begin" in line and "main" in line for line in site.ann.lines) == 1


def test_a_bridge_to_mqtt(site: Site) -> None:
    need("mosquitto", "mosquitto_sub", "mosquitto_pub", "sed", "grep", "setsid")
    port = str(free_port())
    broker = site.start("mosquitto", "-v", "-p", port)
    site.crew.until(lambda: re.search(r"mosquitto version \S+ running", broker.err))
    there = ["-h", "127.0.0.1", "-p", port]
    listener = site.start("mosquitto_sub", *there, "-t", "lab/said")
    site.ann.type("before the bridge\n")
    # In a group of its own: the programs of a pipeline do not end with its shell.
    bridge = site.start("setsid", "sh", RECIPES / "mqtt-bridge", "ops", "lab", *there)
    try:
        site.crew.until(lambda: "-- mqtt" in site.ann.err, why="the bridge is there")
        site.crew.until(lambda: broker.err.count("Received SUBSCRIBE") == 2)
        for text in ("22.5 degrees", "/quit", "12 %"):
            site.run("mosquitto_pub", *there, "-t", "lab/say", "-m", text)
            site.heard(f"mqtt: {text}")
        site.ann.type("hello bridge\n")
        site.crew.until(lambda: "hello bridge" in listener.out)
        (said,) = [json.loads(line) for line in listener.lines]  # not its own, and no history
        assert (said["name"], said["text"]) == ("Ann", "hello bridge")
    finally:
        os.killpg(bridge.process.pid, signal.SIGTERM)


def test_every_recipe_is_named_in_its_page() -> None:
    page = (RECIPES / "README.md").read_text()
    for path in RECIPES.iterdir():
        assert path.name == "README.md" or f"`{path.name}" in page
