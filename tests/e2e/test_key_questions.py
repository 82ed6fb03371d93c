"""Questions for keys, on a terminal: how each ends, and what comes to the screen meanwhile."""

from __future__ import annotations

import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.homes import Home, make, screen_of
from tests.support.live import Process
from tests.support.processes import fresh_words
from tests.support.pty_run import PtyRun

QUESTION = "key of lab (not shown):"
EDITOR, PLAIN = pytest.param([], id="editor"), pytest.param(["--plain"], id="plain")
BOTH = pytest.mark.parametrize("options", [EDITOR, PLAIN])
# The editor's questions are those of `test_sealed_rooms`, and of the first test here.
MOSTLY_PLAIN = pytest.mark.parametrize(
    "options", [pytest.param([], id="editor", marks=pytest.mark.slow), PLAIN]
)


class Town:
    """A server with an open room `garden` and a sealed one `lab`, which Ann has made."""

    def __init__(self, path: Path, server: Process) -> None:
        self.ann, self.bob = Home(path / "ann", server), Home(path / "bob", server)
        self.code = make(self.ann)
        done = self.ann.client("makeroom", "garden", *fresh_words())
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    server = Process().ready()
    try:
        yield Town(tmp_path_factory.mktemp("town"), server)
    finally:
        server.close()


def open_question(run: PtyRun, count: int, question: str = QUESTION) -> None:
    """Wait until a question is open, and was shown so many times in all (0: however often)."""

    def asked(_: object) -> bool:
        assert run.screen is not None
        shown = bytes(run.raw).count(question.encode())
        return run.screen.used()[-1] == question and count in (0, shown)

    run.expect(asked)


def echoes(run: PtyRun) -> bool:
    return bool(termios.tcgetattr(run.slave)[3] & termios.ECHO)


@BOTH
def test_a_question_in_a_room_ends_alone_and_what_comes_meanwhile_has_its_own_line(
    town: Town, options: list[str]
) -> None:
    """By Ctrl-C, by the escape key, and by Ctrl-D behind a part of the key, which is said nowhere:
    the room with the line stays, and its end is no failure."""
    with town.bob.person("Bob", *options, "chat", "garden") as run:
        run.expect_line("-- in garden")
        with town.ann.person("Ann", "chat", "garden") as one:
            one.expect_line("-- in garden")
            for number, key in enumerate(("half\x03", "half\x1d", "\x04")):
                run.send("/join lab\r")
                open_question(run, 2 * number + 1 if options else 0)
                one.send(f"word {number}\r")
                run.expect_line(f"Ann: word {number}")
                open_question(run, 2 * number + 2 if options else 0)
                if options and key == "\x04":
                    run.send("half\x04")  # the driver hands over what was typed
                run.send(key)
                run.expect(lambda _: not options or echoes(run))
                if not options:
                    run.expect_last("garden>")
                run.send(f"here {number}\r")
                one.expect_line(f"Bob: here {number}")
            run.expect_line("evloop: join lab: room lab is sealed, and no key was given")
            shown = screen_of(run).splitlines()
            assert [f"Ann: word {number}" in shown for number in range(3)] == [True] * 3
            assert "half" not in screen_of(one) and b"half" not in bytes(run.raw)
            run.send("/quit\r")
            assert run.wait() == 0 and run.restored()


@MOSTLY_PLAIN
def test_what_the_directory_tells_at_a_question_of_the_prompt(
    town: Town, options: list[str]
) -> None:
    with town.bob.person("Bob", *options) as run:
        run.expect_last("evloop>")
        run.send("makeroom attic --passphrase\r")
        first = "passphrase of attic (not shown):"
        open_question(run, 0, first)
        run.send("half a passphrase\x03")
        run.expect_last("evloop>")
        run.send("makeroom attic --passphrase\r")
        open_question(run, 2 if options else 0, first)
        run.send("half a passphrase\r")
        again = "the same passphrase of attic again:"
        open_question(run, 0, again)
        made = town.ann.client("makeroom", f"shed-{len(options)}", *fresh_words())
        assert made.returncode == 0, made.stderr
        run.expect_line(f"-- made room shed-{len(options)}:")
        open_question(run, 2 if options else 0, again)
        run.send("\x03")
        run.expect_last("evloop>")
        assert f"again: -- made room shed-{len(options)}" not in screen_of(run)
        run.send("quit\r")
        assert run.wait() == 0 and run.restored()
        assert b"half a passphrase" not in bytes(run.raw)


def test_a_note_does_not_stick_to_the_prompt_of_lines(town: Town) -> None:
    with town.bob.person("Bob", "--plain") as run:
        run.expect_last("evloop>")
        assert town.ann.client("makeroom", "yard", *fresh_words()).returncode == 0
        run.expect_line("-- made room yard:")
        run.expect_last("evloop>")
        assert any(line.startswith("-- made room yard:") for line in screen_of(run).splitlines())


@MOSTLY_PLAIN
def test_a_question_before_the_first_room_of_a_place_shows_nothing_of_its_answer(
    town: Town, options: list[str]
) -> None:
    """No directory is asked, so the question comes before anything else is read."""
    words = ("chat", ":".join(fresh_words()), "--mode", "sealed")
    with town.bob.person("Bob", *options, *words) as run:
        run.expect_line("(not shown):")
        run.send("half\x03")
        assert run.wait() == 130 and run.restored()
    with town.bob.person("Bob", *options, *words) as run:
        run.expect_line("(not shown):")
        run.send(town.code + "\r")
        run.expect_line("(sealed, ")
        run.send("/quit\r")
        assert run.wait() == 0 and run.restored()
        assert town.code.encode() not in bytes(run.raw)


@BOTH
@pytest.mark.parametrize(("rooms", "status"), [(["garden", "lab"], 0), (["lab", "lab2"], 130)])
@pytest.mark.slow
def test_several_rooms_whose_questions_are_given_up(
    town: Town, options: list[str], rooms: list[str], status: int
) -> None:
    """Whoever is in one room has failed in nothing; who is in none was interrupted."""
    if "lab2" in rooms and town.ann.client("key", "lab2").returncode:
        make(town.ann, name="lab2")
    with town.bob.person("Bob", *options, "chat", *rooms) as run:
        for room in rooms:
            if room != "garden":
                run.expect_line(f"key of {room} (not shown):")
                run.send("\x03")
        if not status:
            run.expect(lambda _: not options or echoes(run))
            run.expect_line("-- in garden")
            if not options:
                run.expect_last("garden>")
            run.send("/quit\r")
        assert run.wait() == status and run.restored()
