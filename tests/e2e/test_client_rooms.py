"""The client between its rooms and a directory that goes, comes back and changes; on a real pty."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.live import Caller, Process
from tests.support.processes import fresh_words
from tests.support.pty_run import PtyRun


@pytest.fixture
def server() -> Iterator[Process]:
    server = Process().ready()
    yield server
    server.close()


def person(server: Process, *arguments: str) -> PtyRun:
    where = f"127.0.0.1:{server.address[1]}"
    return PtyRun.python("evloop.client", "--time=off", "--server", where, *arguments, columns=120)


def rows(run: PtyRun) -> list[str]:
    assert run.screen is not None
    return [line for line in run.screen.scrollback + run.screen.used() if line]


def words(run: PtyRun) -> str:
    """The screen as one text: sentences are broken between words."""
    return " ".join(" ".join(rows(run)).split())


def expect(run: PtyRun, text: str) -> None:
    run.expect(lambda screen: text in words(run))


def members(server: Process, name: str) -> int:
    """How many the directory counts in a room; it says so to who comes, and that is one more."""
    caller = Caller(server.address)
    try:
        reply = server.call(caller, "enter", name=name)
        return int(reply["result"]["room"]["members"]) - 1
    finally:
        caller.close()


def test_the_name_given_last_is_kept_and_said_first(server: Process) -> None:
    with person(server) as run:
        expect(run, "Ctrl-D quits.")
        run.send("name Fay\rname\rquit\r")
        assert run.wait() == 0
    kept = Path(os.environ["XDG_STATE_HOME"], "evloop", "name")
    assert kept.read_text() == "Fay\n" and kept.stat().st_mode & 0o777 == 0o600
    with person(server) as run:
        expect(run, "You are Fay.")
        run.send(f"makeroom lab {' '.join(fresh_words())}\rchat lab\r/name Gil\r")
        expect(run, "-- Fay is now Gil --")
        run.send("\x04\x04")
        assert run.wait() == 0
    with person(server, "--name", "Ann") as run:
        expect(run, "You are Ann.")
    with person(server, "--no-history") as run:
        expect(run, "Ctrl-D quits.")
        assert "You are Gil." not in words(run)
        run.send("name Eve\rquit\r")
        assert run.wait() == 0
    assert kept.read_text() == "Gil\n"


def test_a_room_that_is_deleted_or_made_anew_is_told_to_who_is_in_it(server: Process) -> None:
    with person(server, "--name=Mel") as mel, person(server, "--name=Bob") as bob:
        mel.expect_last("evloop>")
        mel.send("makeroom lab 239.255.7.1 5751\rchat lab\r")
        mel.expect_last("lab>")
        bob.expect_last("evloop>")
        bob.send("deleteroom lab\r")
        expect(bob, "1 other is in it; deleteroom lab again")
        bob.send("deleteroom lab\r")
        expect(bob, "deleted room lab")
        expect(mel, "lab was deleted; the talk goes on among who is here")
        expect(mel, "makeroom lab 239.255.7.1 5751 makes it again")
        bob.send("makeroom lab 239.255.7.2 5752\r")
        expect(mel, "room lab was made anew at 239.255.7.2:5752")
        mel.send("/leave\rchat lab\r")
        mel.expect(lambda screen: words(mel).count("-- in lab") == 2)
        assert members(server, "lab") == 1


def test_tab_knows_the_rooms_after_every_connect(server: Process) -> None:
    with person(server, "--name=Mel") as mel, person(server, "--name=Bob") as bob:
        mel.expect_last("evloop>")
        mel.send("bye\r")
        bob.expect_last("evloop>")
        bob.send("makeroom kitchen\r")
        expect(bob, "made room kitchen")
        mel.send("connect\r")
        expect(mel, ", 1 room evloop>")
        mel.send("chat kit\t")
        mel.expect_last("evloop> chat kitchen")
        bob.send("deleteroom kitchen\rmakeroom kiosk\r")
        expect(mel, "made room kiosk")
        mel.send("\x15chat k\t")
        mel.expect_last("evloop> chat kiosk")


def test_a_room_is_left_and_entered_while_the_directory_is_away(tmp_path: Path) -> None:
    state = str(tmp_path / "directory.db")
    first = Process("--state", state, memory=False).ready()
    second = None
    try:
        with person(first, "--name=Mel") as mel:
            mel.expect_last("evloop>")
            mel.send(f"makeroom lab {' '.join(fresh_words())}\rchat lab\r")
            mel.expect_last("lab>")
            first.close()
            expect(mel, "is away")
            mel.send("/leave\rchat lab\r")
            mel.expect(lambda screen: words(mel).count("-- in lab") == 2)
            expect(mel, "going by what 127.0.0.1")
            place = f"127.0.0.1:{first.address[1]}"
            second = Process("--state", state, "--listen", place, memory=False, listen=False)
            again = second.ready()
            expect(mel, "is back")
            again.until(lambda: members(again, "lab") == 1)
    finally:
        first.close()
        if second is not None:
            second.close()


def test_a_chat_that_does_not_open_leaves_nobody_counted(server: Process) -> None:
    with person(server, "--name=Mel", "--interface=nosuch") as mel:
        mel.expect_last("evloop>")
        mel.send(f"makeroom lab {' '.join(fresh_words())}\rchat lab\r")
        expect(mel, "no interface has the name")
        assert members(server, "lab") == 0


def test_errors_are_not_the_dimmest_lines(server: Process) -> None:
    with person(server, "--name=Mel") as mel:
        mel.expect_last("evloop>")
        mel.send("chat nosuch\r")
        expect(mel, "evloop: chat nosuch:")
        assert b"\x1b[1;31mevloop: chat nosuch:" in mel.raw and b"\x1b[2mevloop" not in mel.raw


def test_sentences_break_between_words(server: Process) -> None:
    where = f"127.0.0.1:{server.address[1]}"
    with PtyRun.python("evloop.client", "--server", where, "--name=Mel", columns=40) as mel:
        mel.expect_last("evloop>")
        shown = rows(mel)
        assert " ".join(" ".join(shown).split()).endswith("Ctrl-D quits. evloop>")
        assert all(len(row) < 40 for row in shown)
        assert not any(row.endswith(("comman", "Ctrl")) for row in shown) and len(shown) > 3


def test_a_one_shot_chat_is_told_of_its_room(server: Process) -> None:
    """On a terminal and in a pipe; a script hears nothing of other rooms."""
    name = f"r{os.urandom(4).hex()}"
    caller = Caller(server.address)
    server.call(caller, "makeroom", name=name)
    where = f"127.0.0.1:{server.address[1]}"
    script = subprocess.Popen(
        [sys.executable, "-m", "evloop.client", "--server", where, "tail", name],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert script.stderr is not None
        with person(server, "chat", name) as run:
            expect(run, f"-- in {name}")
            assert f"-- in {name}" in script.stderr.readline()
            server.call(caller, "makeroom", name=f"{name}-2")
            expect(run, f"made room {name}-2")
            server.call(caller, "deleteroom", name=name)
            expect(run, f"{name} was deleted; the talk goes on")
            told = script.stderr.readline()
            while "joined" in told:
                told = script.stderr.readline()
            assert f"{name} was deleted" in told
            run.send("/leave\r")
            assert run.wait() == 0
    finally:
        script.terminate()
        script.communicate()
        caller.close()
