"""The client as a person uses it: on a real pty, in real rooms on loopback."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.live import Caller, Process
from tests.support.processes import fresh_words
from tests.support.pty_run import PtyRun

PASTE_BEGIN, PASTE_END = "\x1b[200~", "\x1b[201~"
ESCAPE_CODES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z@`~]")


def place() -> str:
    """A room of this test's own: workers of one run must not hear each other."""
    low, high = os.urandom(2)
    return f"239.255.{low % 254 + 1}.{high}:{49152 + (os.getpid() * 31 + high) % 16000}"


@pytest.fixture
def server() -> Iterator[Process]:
    server = Process().ready()
    yield server
    server.close()


def person(name: str, *arguments: str, **options: object) -> PtyRun:
    return PtyRun.python("evloop.client", "--name", name, "--time=off", *arguments, **options)


def in_room(name: str, room: str, *arguments: str, **options: object) -> PtyRun:
    run = person(name, "chat", room, *arguments, **options)
    try:
        run.expect_line("-- in ")
    except BaseException:
        run.close()
        raise
    return run


def rows(run: PtyRun) -> list[str]:
    assert run.screen is not None
    return [line for line in run.screen.scrollback + run.screen.used() if line]


def knows(run: PtyRun, name: str) -> None:
    """Wait until `name` is told to be present."""
    words = (f"{name} joined", f"with {name}")
    run.expect(lambda screen: any(word in row for row in rows(run) for word in words))


class Injector:
    """Raw datagrams into a plain room, from 127.0.0.1."""

    def __init__(self, room: str) -> None:
        group, _, port = room.partition(":")
        self.target = (group, int(port))
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setsockopt(
            socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1")
        )

    def say(self, data: bytes) -> None:
        self.sock.sendto(data, self.target)

    def __enter__(self) -> Injector:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


def test_two_talk_and_a_half_typed_line_is_never_disturbed() -> None:
    room = place()
    with in_room("Mel", room) as mel, in_room("Bob", room) as bob:
        mel.send("half a li")
        mel.expect_last(f"{room}> half a li")
        bob.send("is the kettle on?\r")
        mel.expect_line("Bob: is the kettle on?")
        mel.expect_last(f"{room}> half a li")
        mel.send("ne\r")
        for run in (mel, bob):
            run.expect_line("Mel: half a line")
        assert rows(mel).count("Mel: half a line") == 1
        assert rows(bob).count("Mel: half a line") == 1
        assert f"{room}> half a line" not in rows(mel), "Enter erases the typed row"


def test_ctrl_bracket_leaves_at_once_from_anywhere(server: Process) -> None:
    with person("Mel", "--server", f"127.0.0.1:{server.address[1]}") as mel:
        mel.expect_last("evloop>")
        mel.send(f"makeroom lab {' '.join(fresh_words())}\rchat lab\r")
        mel.expect_last("lab>")
        mel.send("half a line\x1b[D\x1b[D\x1b\x1d")
        mel.expect_line("-- left lab --")
        mel.expect_last("evloop>")
        mel.send("connect\r")
        mel.expect_line(f"evloop: directory 127.0.0.1:{server.address[1]}, 1 room")
        mel.send("getdir\r")
        mel.expect_line("  lab  ")
        mel.send("\x04")
        assert mel.wait() == 0 and mel.restored()


def test_ctrl_d_and_ctrl_c_in_a_room() -> None:
    room = place()
    with in_room("Mel", room) as mel:
        mel.send("some text\x03")
        mel.expect_last(f"{room}>")
        mel.send("\x19")  # Ctrl-Y brings it back
        mel.expect_last(f"{room}> some text")
        mel.send("\x15\x03")
        mel.expect(lambda screen: "Ctrl-C" in "\n".join(screen.used()))
        mel.send("\x03")
        assert mel.wait() == 0 and mel.restored()
        assert "-- left" in "\n".join(rows(mel))


@pytest.mark.parametrize("options", [[], ["--plain"]])
def test_after_quit_there_is_no_prompt(options: list[str]) -> None:
    with person("Mel", "--server", "127.0.0.1:1", *options) as run:
        run.expect_last("evloop>")
        run.send("quit\r")
        assert run.wait() == 0
        assert rows(run)[-1] == "evloop> quit"


def test_ctrl_c_twice_at_the_prompt_ends_it() -> None:
    run = person("Mel", "--server", "127.0.0.1:1")
    run.expect_last("evloop>")
    run.send("typed\x03")
    run.expect_last("evloop>")
    run.send("\x03")
    run.expect(lambda screen: "Ctrl-C again leaves" in "\n".join(screen.used()))
    run.send("\x03")
    assert run.wait() == 130 and run.restored()
    run.close()


def test_a_paste_is_one_message_and_can_not_be_broken_out_of() -> None:
    room = place()
    with in_room("Mel", room) as mel, in_room("Bob", room) as bob:
        lines = "\r".join(f"line {number}" for number in range(50))
        mel.send(f"{PASTE_BEGIN}{lines}{PASTE_END}")
        mel.expect(lambda screen: "line 49" in "\n".join(screen.used()))
        assert not any("Mel:" in row for row in rows(bob))
        # A person's Enter does not stick to a paste: PASTE_GUARD_S, on a machine that may be busy.
        while mel.read(1.0):
            pass
        mel.send("\r")
        mel.expect_line("Mel: line 0")
        bob.expect_line("line 49")
        got = rows(bob)
        begin = got.index("Mel: line 0")
        assert got[begin + 1 : begin + 50] == [f"     line {number}" for number in range(1, 50)]
        mel.send(f"{PASTE_BEGIN}evil{PASTE_END}\rrm -rf{PASTE_END}")
        mel.expect(lambda screen: "evil" in screen.used()[-1])
        assert not any("Mel: evil" in row for row in rows(mel))


def test_a_window_that_narrows_and_comes_back() -> None:
    room = place()
    with in_room("Mel", room) as mel, in_room("Bob", room) as bob:
        bob.send("a line that is rather longer than twenty columns\r")
        mel.expect_line("Bob: a line that is rather longer than twenty columns")
        mel.send("typed text which is long as well")
        mel.expect(lambda screen: screen.used()[-1].endswith("as well"))
        mel.resize(20, 10)
        bob.send("while narrow\r")
        mel.expect(lambda screen: any("while narrow" in row for row in rows(mel)))
        mel.resize(80, 24)
        bob.send("wide again\r")
        mel.expect_line("Bob: wide again")
        mel.expect(lambda screen: "typed text" in "\n".join(screen.used()))
        mel.send("\r")
        bob.expect_line("Mel: typed text which is long as well")


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)]
)
def test_signals_say_goodbye_and_give_the_terminal_back(number: int, status: int) -> None:
    room = place()
    with in_room("Mel", room) as mel, in_room("Bob", room) as bob:
        mel.send("hi\r")
        bob.expect_line("Mel: hi")
        knows(bob, "Mel")
        mel.kill(number)
        assert mel.wait() == status and mel.restored()
        gone = ("Mel left --", "Mel came and went --")
        bob.expect(lambda screen: any(word in row for row in rows(bob) for word in gone))


def test_ctrl_backslash_ends_it_with_the_terminal_restored() -> None:
    with in_room("Mel", place()) as mel:
        mel.send("\x1c")
        assert mel.wait() == 128 + signal.SIGQUIT and mel.restored()


def test_after_kill_9_a_shell_can_still_be_used() -> None:
    with in_room("Mel", place()) as mel:
        mel.kill(signal.SIGKILL)
        mel.wait()
        now = termios.tcgetattr(mel.slave)
        assert now[0] & termios.ICRNL, "Enter works in a shell that keeps the raw terminal"


def test_tab_completes_commands_rooms_and_names(server: Process) -> None:
    where = f"127.0.0.1:{server.address[1]}"
    with person("Mel", "--server", where) as mel, person("Bobby", "--server", where) as bob:
        mel.expect_last("evloop>")
        bob.expect_last("evloop>")
        mel.send("mak\tkitchen\r")
        bob.expect_line("-- made room kitchen")
        bob.send("ch\tki\t\r")
        bob.expect_last("kitchen>")
        mel.expect_line("made room kitchen")
        mel.send("ch\tki\t\r")
        mel.expect_last("kitchen>")
        bob.send("hello\r")
        mel.expect_line("Bobby: hello")
        mel.send("bo\tthere you are\r")
        bob.expect_line("Mel: Bobby: there you are")
        mel.send("/st\t\r")
        mel.expect_line("received")


def test_commands_are_kept_across_runs_and_what_was_said_is_not(tmp_path: Path) -> None:
    room = place()
    with in_room("Mel", room) as mel:
        mel.send("a secret\r/history 5\r")
        mel.expect_line("Mel: a secret")
        mel.expect_line("-- the last 1 message --")
        mel.send("\x10\x10")  # in memory it is there
        mel.expect_last(f"{room}> a secret")
        mel.send("\x15\x04")
        assert mel.wait() == 0
    file = tmp_path / "state" / "evloop" / "history"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_text() == "/history 5\n"
    file.write_text("said to a release before 0.2\n/history 7\n")
    with in_room("Mel", room) as mel:
        mel.send("\x12hist\r")  # Ctrl-R
        mel.expect_line("-- the last 0 messages --")
        mel.send("\x04")
        assert mel.wait() == 0
    assert file.read_text() == "/history 7\n"
    with in_room("Mel", room, "--no-history") as mel:
        mel.send("\x10")  # nothing above
        mel.expect_last(f"{room}>")


def test_hostile_text_acts_on_no_terminal() -> None:
    room = place()
    with in_room("Mel", room, "--color=never", "--mode=plain") as mel, Injector(room) as injector:
        begin = len(mel.raw)
        attacks = [
            b"Eve: \x1b]0;owned\x07\x1b[2J\x1b[31mred\x9b2J",
            b"\x1b[201~\r: name",
            bytes(range(32)) + b": all of them",
            b"Eve: " + bytes(range(127, 160)),
            "Eve: \u202eoverride\u2066isolate\u2028line".encode(),
        ]
        for attack in attacks:
            injector.say(attack)
        injector.say(b"Eve: the end")
        mel.expect_line("Eve: the end")
        left = ESCAPE_CODES.sub(b"", bytes(mel.raw[begin:])).decode()
        for allowed in "\r\n\b":
            left = left.replace(allowed, "")
        assert left.isprintable(), ascii(left)


def test_a_flood_never_hides_what_is_typed() -> None:
    """1,000 messages in a second into a plain room, while half a line stands there."""
    room = place()
    with in_room("Mel", room, "--mode=plain") as mel, Injector(room) as injector:
        mel.send("half a li")
        mel.expect_last(f"{room}> half a li")
        typed = "half a li"
        for number in range(1_000):
            injector.say(b"Eve: message %d" % number)
            if number % 100 == 50:
                key = "abcdefghij"[number // 100]
                typed += key
                mel.send(key)
                mel.expect_last(f"{room}> {typed}")
        mel.expect_line("Eve: message 999")
        mel.expect_last(f"{room}> half a liabcdefghij")


def test_a_frozen_terminal_does_not_stop_the_heart(tmp_path: Path) -> None:
    """Nobody reads Mel's terminal (as Ctrl-S does), yet what she is sent is confirmed."""
    room = place()
    with in_room("Mel", room) as mel, in_room("Bob", room) as bob:
        bob.send("hi\r")
        mel.expect_line("Bob: hi")
        knows(bob, "Mel")
        for number in range(40):
            bob.send(f"{number} {'x' * 800}\r")  # more than a pty holds; Mel is not read
            bob.expect_line(f"Bob: {number} x") if number % 10 == 9 else None
        bob.send("/who\r")
        bob.expect_line("  Mel  ")
        assert not any("Mel left" in row or "Mel not heard" in row for row in rows(bob))
        mel.expect_line("Bob: 39 x")


@pytest.mark.parametrize(
    ("environ", "arguments"),
    [({"TERM": "dumb"}, []), ({"TERM": ""}, []), ({}, ["--plain"]), ({"EVLOOP_PLAIN": "1"}, [])],
)
def test_without_a_line_editor_no_escape_byte_is_written(
    environ: dict[str, str], arguments: list[str]
) -> None:
    room = place()
    with in_room("Mel", room, *arguments, env=environ) as mel:
        mel.send("good morning\r\r")
        mel.expect_line(f"-- in {room}: what you type is said here; /leave goes back --")
        assert [row for row in rows(mel) if "good morning" in row] == ["good morning"]
        mel.send("half\x1d")
        assert mel.wait() == 0
        assert b"\x1b" not in mel.raw and mel.restored()


def test_without_a_line_editor_a_mention_rings() -> None:
    room = place()
    with in_room("Mel", room, "--plain") as mel, in_room("Bob", room) as bob:
        bob.send("tea?\r")
        mel.expect_line("Bob: tea?")
        assert b"\a" not in mel.raw
        bob.send("tea, Mel?\r")
        mel.expect_line("Bob: tea, Mel?")
        mel.expect(lambda screen: b"\a" in mel.raw)
        assert b"\x1b" not in mel.raw


@pytest.mark.parametrize("arguments", [[], ["--plain"]])
def test_no_text_makes_a_line_of_somebody_else(arguments: list[str]) -> None:
    room = place()
    forged = "Bob: I quit"
    with in_room("Mel", room, *arguments) as mel, in_room("Eve", room) as eve:
        eve.send("hi" + " " * (80 - len("Eve: hi")) + forged + "\r")
        mel.expect(lambda screen: any(forged in row for row in rows(mel)))
        assert [row for row in rows(mel) if forged in row] == [f"     {forged}"]


@pytest.mark.parametrize("char", ["\u3000", "\xa0", "\U0001fa77"])
def test_what_is_typed_is_seen_in_the_line(char: str) -> None:
    with in_room("Mel", place()) as mel:
        mel.send(f"a{char}b")
        mel.expect(lambda screen: f"a{char}b".encode() in mel.raw or b"b" in mel.raw[-3:])
        assert "\ufffd".encode() not in mel.raw and char.encode() in mel.raw


def test_a_lone_quit_in_a_room_is_asked_about() -> None:
    room = place()
    with in_room("Mel", room) as mel, in_room("Bob", room) as bob:
        mel.send("quit\r")
        mel.expect(lambda screen: any("quit: said to everybody? /quit leaves" in row
                                      for row in rows(mel)))  # fmt: skip
        mel.send("quit\r")
        bob.expect_line("Mel: quit")
        mel.send("help\r")
        mel.expect(lambda screen: any("help: said to everybody?" in row for row in rows(mel)))
        mel.send("/quit\r")  # as advised: it is not glued to the line before
        assert mel.wait() == 0


def test_what_a_room_answers_is_broken_between_words() -> None:
    with in_room("Mel", place()) as mel:
        mel.send("key 000G-40R4-0M30-E209-185G-R38E-1ZF0\r")
        mel.expect(lambda screen: any("says it --" in row for row in rows(mel)))
        shown = [row.rstrip() for row in rows(mel)]
        last = next(at for at, row in enumerate(shown) if "says it --" in row)
        first = next(at for at, row in enumerate(shown) if row.startswith("-- key 000G"))
        assert last > first
        sentence = " ".join(row.strip() for row in shown[first : last + 1])
        assert "said to everybody? it reads like the key of a sealed room; the same" in sentence


def test_no_color_means_none() -> None:
    room = place()
    for environ, colored in (({"NO_COLOR": "1"}, False), ({}, True)):
        with in_room("Mel", room, env=environ) as mel:
            mel.send("hi\r")
            mel.expect_line("Mel: hi")
            mel.send("\x04")
            mel.wait()
            assert (re.search(rb"\x1b\[3[1-6]m", mel.raw) is not None) is colored


def test_under_lc_all_c_nothing_but_ascii_is_written() -> None:
    room = place()
    with in_room("Mel", room, env={"LC_ALL": "C"}) as mel, in_room("Bob", room) as bob:
        bob.send("grün 你好\r")
        mel.expect_line("Bob: gr")
        assert bytes(mel.raw).isascii()


# -- what is loaded, and how much it takes ---------------------------------------------------

# Beyond what an empty package loads. A new name here costs every user at each start.
ALLOWED = """
    __future__ _bisect _blake2 _bz2 _collections _compression _functools _hashlib _heapq _json
    _locale _lzma
    _operator _random _sha512 _signal _socket _sre _struct _weakref _weakrefset argparse array
    atexit binascii bisect bz2 collections copyreg enum errno fcntl fnmatch functools gc gettext
    heapq
    ipaddress itertools json keyword locale lzma math operator os pwd random re reprlib resource
    select selectors shutil signal socket sre_compile sre_constants sre_parse stat struct termios
    textwrap types unicodedata warnings
    weakref zlib
"""
# Of ours: what is for pipes, for rooms, for a directory, and for what is asked for by name.
NOT_YET = ("app.chat", "app.doctor", "daemon.server", "irc.door", "room.live", "terminal.line_mode")
NEVER = "asyncio threading logging dataclasses subprocess typing pathlib ssl sqlite3"


def test_only_what_is_needed_is_loaded_before_the_first_prompt(
    server: Process, tmp_path: Path
) -> None:
    log = tmp_path / "imports"
    where = f"127.0.0.1:{server.address[1]}"
    command = f"exec {sys.executable} -S -X importtime -m evloop.client --server {where} 2>{log}"
    with PtyRun(["sh", "-c", command]) as run:
        run.expect_last("evloop>")
    loaded = {
        line.rpartition("|")[2].strip()
        for line in log.read_text().splitlines()
        if line.startswith("import time:")
    }
    (tmp_path / "nothing").mkdir()
    (tmp_path / "nothing" / "__init__.py").write_text("")
    (tmp_path / "nothing" / "__main__.py").write_text("")
    empty = subprocess.run(
        [sys.executable, "-S", "-X", "importtime", "-m", "nothing"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    before = {line.rpartition("|")[2].strip() for line in empty.stderr.splitlines()}
    ours = {name.partition(".")[0] for name in loaded - before} - {"evloop", "imported package"}
    assert not ours & set(NEVER.split()), ours
    assert ours <= set(ALLOWED.split()), sorted(ours - set(ALLOWED.split()))
    assert not {f"evloop.{name}" for name in NOT_YET} & loaded


@pytest.mark.parametrize(
    ("words", "said", "status"),
    [
        ("getdir", "  lab  239.255.7.1   5751   0 here", 0),
        ("GETDIR", "  lab  239.255.7.1   5751   0 here", 0),
        ("makeroom lab", "evloop: makeroom lab: room lab exists already (239.255.7.1:5751)", 1),
        ("deleteroom nope", "evloop: deleteroom nope: there is no room nope", 1),
        ("chat nope", "evloop: chat nope: there is no room nope; makeroom nope makes it", 1),
        ("say nope hello", "evloop: say nope: there is no room nope; makeroom nope makes it", 1),
        ("getdr", 'evloop: unknown command "getdr": did you mean getdir?', 2),
        ("chat", "evloop: chat: too few arguments; usage: chat ROOM | ADDRESS:PORT ...", 2),
        ("--server 127.0.0.1:99999", None, 2),
    ],
)
def test_a_command_at_a_terminal_prints_and_tells_how_it_went(
    server: Process, words: str, said: str | None, status: int
) -> None:
    host, port = server.address
    at = f"{host}:{port}"
    caller = Caller(server.address)
    server.call(caller, "makeroom", name="lab", address="239.255.7.1", port=5751)
    caller.close()
    run = person("Mel", "--server", at, *words.split(), columns=100)
    assert run.wait() == status
    told = [row for row in rows(run) if row.strip()]
    assert told == [said] if said else told[0].startswith("evloop: ")
    assert termios.tcgetattr(run.slave) == run.before
    run.close()
