"""A directory that has fallen silent: nobody at the prompt is held up for long."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator

import pytest

from tests.support.processes import Crew, Server
from tests.support.pty_run import PtyRun


@pytest.fixture
def silent(crew: Crew) -> Iterator[Server]:
    """A directory that answers, until its process is stopped."""
    server = crew.server()
    yield server
    server.signal(signal.SIGCONT)


def prompt(server: Server, *options: str) -> PtyRun:
    words = ["-m", "evloop.client", "--server", server.place, "--name", "Mel", *options]
    return PtyRun([sys.executable, *words])


@pytest.mark.parametrize("options", [(), ("--plain",)], ids=["screen", "plain"])
def test_a_person_is_told_and_ctrl_c_ends_the_command_alone(
    silent: Server, options: tuple[str, ...]
) -> None:
    with prompt(silent, *options) as run:
        run.expect_line("help lists the commands")
        silent.signal(signal.SIGSTOP)
        run.send("getdir\r")
        run.expect_line(f"still waiting for {silent.place} (Ctrl-C gives up)")
        run.send("\x03")
        run.expect_line("given up")
        run.send("name\r")  # the prompt is there again
        run.expect_line("Mel")
        run.send("quit\r")
        assert run.wait() == 0


@pytest.mark.parametrize("options", [(), ("--plain",)], ids=["screen", "plain"])
def test_bye_and_connect_do_not_wait_behind_it(
    crew: Crew, silent: Server, options: tuple[str, ...]
) -> None:
    other = crew.server()
    with prompt(silent, *options) as run:
        run.expect_line("help lists the commands")
        silent.signal(signal.SIGSTOP)
        run.send(f"getdir\rname\rconnect {other.place}\r")
        run.expect_line("still waiting")
        run.expect_line(f"evloop: directory {other.place}")
        run.send("getdir\r")
        run.expect_line("no rooms yet")
        other.signal(signal.SIGSTOP)
        run.send("getdir\rbye\r")
        run.expect_line("given up")
        run.send("getdir\r")
        run.expect_line("not connected; connect")
        other.signal(signal.SIGCONT)
        run.send("quit\r")
        assert run.wait() == 0


def test_a_script_goes_on_after_ten_seconds(crew: Crew, silent: Server) -> None:
    client = crew.client(server=silent)
    client.type("connect\nname\n")
    crew.until(lambda: client.out)
    silent.signal(signal.SIGSTOP)
    client.type("getdir\nname Cyd\nname\n")
    client.end()
    crew.finish(client)
    assert "it has not answered in 10 s" in client.err
    assert client.lines[-1] == "Cyd"
    assert client.status == 69
    assert "still waiting" not in client.err, "a script's errors are for what went wrong"


def test_ctrl_c_while_the_start_connects_leaves_the_prompt(silent: Server) -> None:
    silent.signal(signal.SIGSTOP)
    with prompt(silent) as run:
        run.expect_line("still waiting")
        run.send("\x03")
        run.expect_line("no directory yet")
        run.send("quit\r")
        assert run.wait() == 0
