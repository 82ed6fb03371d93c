"""Sealed rooms as people use them: a server, terminals, pipes and files."""

from __future__ import annotations

import json
import os
import signal
import stat
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.homes import CODE, Home, key_file, make, screen_of
from tests.support.live import Process
from tests.support.processes import fresh_words
from tests.support.pty_run import PtyRun

SECRET_WORDS = "the pears are ripe"
QUESTION = "key of lab (not shown):"


@pytest.fixture
def server() -> Iterator[Process]:
    server = Process().ready()
    yield server
    server.close()


@pytest.mark.parametrize("options", [[], ["--plain"]])
def test_two_people_meet_and_nothing_of_the_key_is_shown_or_kept_but_in_its_file(
    ann: Home, bob: Home, options: list[str]
) -> None:
    code = make(ann)
    with ann.person("Ann", *options, "chat", "lab") as one:
        one.expect_line("-- in lab (sealed, ")
        with bob.person("Bob", *options) as other:
            other.expect_last("evloop>")
            other.send("chat lab\r")
            other.expect_line(QUESTION)
            other.send(f"key {code}\r")
            other.expect_line("-- in lab (sealed, ")
            one.expect_line("Bob joined")
            other.send(SECRET_WORDS + "\r")
            one.expect_line(f"Bob: {SECRET_WORDS}")
            other.send("/key\r")
            other.expect_line(f"key {code}")
            other.send("\x1d")
            other.expect_last("evloop>")
            other.send("getdir\r")
            other.expect_line("  sealed")
            other.send("quit\r")
            assert other.wait() == 0 and other.restored()
        assert code.encode() not in bytes(one.raw)
        # What was asked for was shown; what was typed was not.
        assert bytes(other.raw).count(code.encode()) == 1
    ring = bob.path / "evloop" / "room_keys"
    assert stat.S_IMODE(ring.stat().st_mode) == 0o600
    for name, data in {**bob.files(), **ann.files()}.items():
        assert SECRET_WORDS.encode() not in data and code.encode() not in data, name
        assert name == "room_keys" or b"/key" not in data


def test_without_a_key_nobody_is_asked_in_a_pipe_and_with_a_file_it_works(
    ann: Home, bob: Home
) -> None:
    code = make(ann)
    done = bob.client("say", "lab", "hello")
    assert done.returncode == 77 and done.stdout == ""
    assert done.stderr == (
        "evloop: say lab: room lab is sealed: give its key by --key-file FILE, or type it once at a"
        " terminal\n"
    )
    path = key_file(bob, code)
    with ann.person("Ann", "chat", "lab") as one:
        one.expect_line("-- in lab (sealed, ")
        done = bob.client("--key-file", path, "say", "lab", SECRET_WORDS)
        assert (done.returncode, done.stderr) == (0, "")
        done = bob.client("say", "lab", "and again", EVLOOP_KEY_FILE=path)
        assert (done.returncode, done.stderr) == (0, "")
        one.expect_line(SECRET_WORDS)
        one.expect_line("and again")
    assert "room_keys" not in bob.files()
    os.chmod(path, 0o644)
    done = bob.client("--key-file", path, "say", "lab", "hello")
    assert done.returncode == 77
    assert f"{path} can be read by others: chmod 600 {path}" in done.stderr


def test_another_key_is_told_on_both_sides_and_say_ends_with_77(ann: Home, bob: Home) -> None:
    make(ann)
    wrong = key_file(bob, "000G-40R4-0M30-E209-185G-R38E-1ZF0")
    with ann.person("Ann", "chat", "lab") as one:
        one.expect_line("-- in lab (sealed, ")
        with bob.person("Bob", "--key-file", wrong, "chat", "lab") as other:
            other.expect_line("-- in lab (sealed, ")
            one.send("one\rtwo\rthree\r")
            other.expect_line("-- somebody here has another key (")
            other.expect_line("is yours right? key lab --set at the")
            other.send("one\rtwo\rthree\r")
            one.expect_line("-- somebody here has another key (")
            assert "two" not in screen_of(other).replace("Bob: two", "")
        done = bob.client("--key-file", wrong, "say", "lab", "--timeout", "3", "hello")
        assert done.returncode == 77, done.stderr
        assert "evloop: say lab: not confirmed: who is there has another key" in done.stderr


def test_a_room_that_was_sealed_and_is_open_now_is_not_entered(ann: Home, bob: Home) -> None:
    make(ann)
    assert bob.client("deleteroom", "lab").returncode == 0
    address, port = fresh_words()
    assert bob.client("makeroom", "lab", address, port).returncode == 0
    done = ann.client("say", "lab", SECRET_WORDS)
    assert done.returncode == 77
    assert f" and is now reliable at {address}:{port}: not entered. If that is" in done.stderr
    assert ann.client("key", "lab", "--forget").returncode == 0
    done = ann.client("say", "lab", "--anybody", "--timeout", "1", "hello")
    assert done.returncode == 0, done.stderr


def has_slips(run: PtyRun, count: int) -> None:
    run.expect(lambda _: screen_of(run).count("the key has a slip") == count)


@pytest.mark.parametrize("options", [[], ["--plain"]])
def test_a_question_ends_by_ctrl_c_by_tries_and_by_signals(
    ann: Home, bob: Home, options: list[str]
) -> None:
    make(ann)
    with bob.person("Bob", *options) as run:
        run.expect_last("evloop>")
        run.send("chat lab\r")
        run.expect_line(QUESTION)
        run.send("half a key")
        run.send("\x03")
        run.expect_last("evloop>")
        run.send("name\r")
        run.expect_line("Bob")
        run.send("chat lab\r")
        for tries in range(1, 4):
            run.expect(lambda screen: screen.used()[-1].endswith(QUESTION))
            run.send("AAAA-AAAA-AAAA-AAAA-AAAA-AAAA-AAAA\r")
            has_slips(run, tries)
        run.expect_last("evloop>")
        run.send("chat lab\r")
        run.expect(lambda screen: screen.used()[-1].endswith(QUESTION))
        run.send("half a key")
        run.kill(signal.SIGTERM)
        assert run.wait() == 143 and run.restored()
        assert b"half" not in bytes(run.raw) and b"AAAA" not in bytes(run.raw)


@pytest.mark.parametrize(("command", "status"), [("chat", 130), ("say", 130)])
def test_a_one_shot_whose_question_is_given_up(
    ann: Home, bob: Home, command: str, status: int
) -> None:
    make(ann)
    words = [command, "lab", *(["hello"] if command == "say" else [])]
    with bob.person("Bob", *words) as run:
        run.expect_line(QUESTION)
        run.send("\x03")
        assert run.wait() == status and run.restored()
    with bob.person("Bob", *words) as run:
        run.expect_line(QUESTION)
        run.send("\x04")
        assert run.wait() == 77 and run.restored()


def test_ctrl_z_in_cooked_mode_shows_the_echo_to_the_shell(ann: Home, bob: Home) -> None:
    make(ann)
    with bob.person("Bob", "--plain", "chat", "lab") as run:
        run.expect_line(QUESTION)

        def echoes() -> bool:
            return bool(termios.tcgetattr(run.slave)[3] & termios.ECHO)

        assert not echoes()
        run.kill(signal.SIGTSTP)
        _, stopped = os.waitpid(run.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(stopped) and echoes()
        run.kill(signal.SIGCONT)
        run.expect(lambda screen: "\n".join(screen.used()).count(QUESTION) == 2)
        assert not echoes()
        run.send("\x03")
        assert run.wait() == 130 and run.restored()


def test_a_passphrase_makes_a_room_and_opens_it(ann: Home, bob: Home) -> None:
    words = "correct horse battery staple"
    with ann.person("Ann") as one:
        one.expect_last("evloop>")
        one.send("makeroom lab --passphrase\r")
        one.expect_line("passphrase of lab (not shown):")
        one.send(words + "\r")
        one.expect_line("the same passphrase of lab again:")
        one.send(words + "\r")
        one.expect_line("made room lab: 239.255.")
        one.expect_line("whoever has this passphrase reads")
        one.send("key lab\r")
        one.expect_line("-- the key of lab was made of a passphrase; tell that --")
        one.send("chat lab\r")
        one.expect_line("-- in lab (sealed, ")
        path = key_file(bob, words)
        done = bob.client("--key-file", path, "say", "lab", SECRET_WORDS)
        assert done.returncode == 0, done.stderr
        one.expect_line(SECRET_WORDS)
        assert words.encode() not in bytes(one.raw)


def test_for_scripts(ann: Home) -> None:
    done = ann.client("--json", "makeroom", "lab", *fresh_words(), "--sealed")
    made = json.loads(done.stdout)
    assert made["mode"] == "sealed" and CODE.fullmatch(f"key {made['key']}")
    shown = json.loads(ann.client("--json", "key", "lab").stdout)
    assert shown == {"v": 1, "type": "key", "room": "lab", "key": made["key"]}
    assert json.loads(ann.client("--json", "getdir").stdout)["mode"] == "sealed"
    done = ann.client("key", "garden")
    assert (done.returncode, done.stderr) == (1, "evloop: key: no key of garden is remembered\n")
    again = json.loads(ann.client("--json", "key", "lab", "--new").stdout)["key"]
    assert json.loads(ann.client("--json", "key", "lab").stdout)["key"] == again != made["key"]
    ann.client("key", "lab", "--forget")
    done = ann.client("key", "lab", "--new")
    assert CODE.fullmatch(done.stdout.strip()), "the directory is asked where the room is"
    done = ann.client("makeroom", "shed", "--sealed", "--mode", "plain")
    assert (done.returncode, done.stderr) == (2, "evloop: makeroom: --mode plain is not sealed\n")


def test_no_child_sees_the_key_in_its_arguments_or_its_environment(ann: Home, bob: Home) -> None:
    """Every process that the client starts, by its own arguments and environment."""
    code = make(ann)
    path = key_file(bob, code)
    with bob.person("Bob", "--key-file", path, "chat", "lab") as run:
        run.expect_line("-- in lab (sealed, ")
        family = [run.pid]
        for pid in family:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            family += [int(child) for child in children]
        for pid in family:
            for what in ("environ", "cmdline"):
                assert code.encode() not in Path(f"/proc/{pid}/{what}").read_bytes()


def test_the_directory_never_hears_of_the_key(tmp_path: Path) -> None:
    """All that two clients send to it, and its own disk, while a room is made and talked in. What
    was said is in no trace either, nor is a key that came by a file anywhere else."""
    state = tmp_path / "state.db"
    server = Process("--state", str(state), memory=False).ready()
    try:
        ann, bob = Home(tmp_path / "ann", server), Home(tmp_path / "bob", server)
        code = make(ann)
        secret = (ann.path / "evloop" / "room_keys").read_text().split()[-1]
        with ann.person("Ann", "--debug", "chat", "lab") as one:
            one.expect_line("-- in lab (sealed, ")
            words = ("--debug", "--key-file", key_file(bob, code), "say", "lab", SECRET_WORDS)
            done = bob.client(*words)
            assert done.returncode == 0 and SECRET_WORDS not in done.stderr, done.stderr
            one.expect_line(f": {SECRET_WORDS}")
            log = bytes(one.raw) + done.stderr.encode()
            shown = [line for line in screen_of(one).splitlines() if SECRET_WORDS in line]
            assert len(shown) == 1, "as a message, and in no trace"
        others = [data for name, data in bob.files().items() if name != "the key"]
        assert not any(what in data for data in others for what in (code.encode(), secret.encode()))
        disk = b"".join(path.read_bytes() for path in tmp_path.glob("state.db*"))
        for where in (disk, log):
            for what in (code.encode(), secret.encode(), bytes.fromhex(secret)):
                assert what not in where
    finally:
        server.close()
