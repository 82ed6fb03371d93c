"""The real thing: raw mode on a real pty, and what is left of it afterwards."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import signal
import sys
import termios
import time
from collections.abc import Iterator

import pytest

from evloop.system import stdout
from evloop.terminal import tty as terminals
from evloop.terminal.limits import FLUSH_INTERVAL_S, MESSAGES_WAITING_MAX
from evloop.terminal.tty import (
    Tty,
    charset_of,
    is_smart,
)
from tests.support.processes import PATIENCE_S
from tests.support.pty_run import PtyRun

CLIENT = "tests.support.lineclient"


def client(*arguments: str, **options: object) -> PtyRun:
    run = PtyRun.python(CLIENT, *arguments, **options)
    run.expect_last("lab>") if run.screen is not None else None
    return run


@pytest.fixture
def line() -> Iterator[tuple[int, int]]:
    """(master, slave) of a pty that is not our controlling terminal."""
    master, slave = pty.openpty()
    yield master, slave
    os.close(master)
    os.close(slave)


def drain(master: int) -> bytes:
    os.set_blocking(master, False)
    data = b""
    try:
        while True:
            data += os.read(master, 65_536)
    except BlockingIOError:
        return data


@pytest.mark.parametrize("number", [errno.ENOTTY, errno.EIO, errno.EPERM, errno.ENOSYS])
def test_without_job_control_what_is_typed_is_ours(
    number: int, line: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "getpgrp", lambda: -1)  # as Python tells that it was refused
    monkeypatch.setattr(os, "tcgetpgrp", lambda fd: 1)
    assert terminals.in_foreground(line[1])
    monkeypatch.undo()
    monkeypatch.setattr(os, "tcgetpgrp", refuse)
    assert terminals.in_foreground(line[1])


# -- end to end ------------------------------------------------------------------------------


def test_type_resize_and_leave() -> None:
    with client("--say", "3") as run:
        run.send("yes, since noox\x7fn")
        run.expect_last("lab> yes, since noon")
        run.expect_line("bob: line 3")
        assert run.screen is not None
        assert run.screen.bracketed
        run.resize(40, 10)
        run.send("\r")
        run.expect_line("Mel: yes, since noon")
        run.send("\x04")
        assert run.wait() == 0
        assert run.restored()
        assert not run.screen.bracketed


@pytest.mark.parametrize(
    ("end", "status"),
    [("/quit\r", 0), ("\x1d", 0), ("half\x1d", 0), ("/crash\r", 1), ("\x1c", 131)],
)
def test_however_it_ends_the_terminal_is_as_before(end: str, status: int) -> None:
    with client() as run:
        assert run.before != termios.tcgetattr(run.slave)
        run.send(end)
        assert run.wait() == status
        assert run.restored()
        assert run.screen is not None
        assert not run.screen.bracketed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_signals_give_the_terminal_back(number: int) -> None:
    with client() as run:
        run.kill(number)
        assert run.wait() == (131 if number == signal.SIGQUIT else 143)
        assert run.restored()


@pytest.mark.parametrize("end", ["", "; import sys; sys.exit(3)", "; raise OSError", "; 1 / 0"])
def test_a_program_that_forgets_is_reminded_at_exit(end: str) -> None:
    program = f"from evloop.terminal.tty import Tty; terminal = Tty(); terminal.enter(){end}"
    with PtyRun([sys.executable, "-c", program]) as run:
        assert run.wait() in (0, 1, 3)
        assert terminals.PASTE_ON in run.raw
        assert run.restored()


def test_ctrl_backslash_ends_a_program_that_hangs() -> None:
    with client() as run:
        run.send("/hang\r")
        while not run.read(0.2).endswith(b"\n") and run.read(0.2):
            pass
        run.send("\x1c")
        assert run.wait() == 131
        assert run.restored()


def test_the_shells_descriptors_never_become_nonblocking() -> None:
    with client("--say", "50") as run:
        run.expect_line("bob: line 50")
        assert fcntl.fcntl(run.slave, fcntl.F_GETFL) == run.flags


def test_a_hang_up_ends_it() -> None:
    with client() as run:
        os.close(run.slave)
        os.close(run.master)
        run.master, run.slave = pty.openpty()
        assert run.wait() in (0, 143)


def test_raw_mode_leaves_what_others_need(line: tuple[int, int]) -> None:
    _, slave = line
    attributes = termios.tcgetattr(slave)
    attributes[0] |= termios.ICRNL | termios.IXON | termios.ISTRIP
    termios.tcsetattr(slave, termios.TCSANOW, attributes)
    before = termios.tcgetattr(slave)
    with Tty(slave, slave):
        raw = termios.tcgetattr(slave)
        assert raw[0] == before[0] & ~termios.ISTRIP  # ICRNL and IXON as they were
        assert not raw[3] & (termios.ICANON | termios.ECHO | termios.IEXTEN)
        assert raw[3] & termios.ISIG
        assert raw[6][termios.VINTR] == raw[6][termios.VSUSP] == b"\0"
        assert raw[6][termios.VQUIT] == before[6][termios.VQUIT]
    assert termios.tcgetattr(slave) == before


def test_leaving_twice_and_entering_twice_are_harmless(line: tuple[int, int]) -> None:
    _, slave = line
    before = termios.tcgetattr(slave)
    terminal = Tty(slave, slave)
    terminal.leave()
    for _ in range(2):
        terminal.enter()
        terminal.enter()
        assert termios.tcgetattr(slave) != before
        terminal.leave()
        terminal.leave()
        assert termios.tcgetattr(slave) == before
    terminal.close()
    terminal.close()


def test_coming_back_twice_does_not_take_raw_for_the_users_settings(
    line: tuple[int, int],
) -> None:
    _, slave = line
    before = termios.tcgetattr(slave)
    terminal = Tty(slave, slave)
    assert terminal.resume()
    raw = termios.tcgetattr(slave)
    termios.tcsetattr(slave, termios.TCSANOW, before)  # as a shell does with a stopped job
    assert terminal.resume()
    assert terminal.resume()
    assert termios.tcgetattr(slave) == raw
    terminal.close()
    assert termios.tcgetattr(slave) == before


# -- trap 3: EINTR and EIO ---------------------------------------------------------------------


def test_tcsetattr_is_tried_again_after_a_signal(
    line: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, slave = line
    before = termios.tcgetattr(slave)
    real, refusals = termios.tcsetattr, [errno.EINTR, errno.EINTR]

    def interrupted(fd: int, when: int, attributes: list[object]) -> None:
        if refusals:
            raise termios.error(refusals.pop(), "interrupted")
        real(fd, when, attributes)  # type: ignore[arg-type]

    monkeypatch.setattr(termios, "tcsetattr", interrupted)
    with Tty(slave, slave) as terminal:
        assert terminal.raw
        assert not refusals
        refusals += [errno.EINTR] * 3
    assert not refusals
    assert termios.tcgetattr(slave) == before


def test_a_terminal_that_is_gone_is_no_error() -> None:
    master, slave = pty.openpty()
    with Tty(slave, slave) as terminal:
        os.close(master)
        assert terminal.read() == b""
        terminal.write(b"nobody reads this")
        assert not terminal.pending
    os.close(slave)


# -- traps 1 and 2: writing ---------------------------------------------------------------------


def test_a_full_terminal_does_not_block_and_loses_nothing(line: tuple[int, int]) -> None:
    master, slave = line
    with Tty(slave, slave) as terminal:
        drain(master)
        data = bytes(range(32, 127)) * 1000
        terminal.write(data)
        assert terminal.pending
        assert terminal.refused
        seen = drain(master)
        while terminal.pending:
            terminal.flush()
            seen += drain(master)
        assert seen == data


def test_where_it_can_not_be_opened_again_it_does_not_block_either(
    line: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    master, slave = line
    monkeypatch.setattr(stdout, "terminal_again", lambda fd: None)
    with Tty(slave, slave) as terminal:
        assert terminal.fileno() == slave
        drain(master)
        data = b"ab\n" * 20_000
        terminal.write(data)  # a blocking write would hang here for good
        assert terminal.pending
        seen = drain(master)
        while terminal.pending:
            terminal.flush()
            seen += drain(master)
        assert seen == data.replace(b"\n", b"\r\n")


def test_dev_tty_is_the_second_choice_but_only_if_it_is_the_same(
    line: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, slave = line
    monkeypatch.setattr(os, "ttyname", lambda fd: "/dev/no-such-terminal")
    # Whatever /dev/tty is for the tests, it is not this pty.
    assert stdout.terminal_again(slave) is None


@pytest.mark.parametrize("stopped", [False, True])
def test_leaving_a_terminal_that_takes_nothing_is_quick_and_clean(
    line: tuple[int, int], stopped: bool
) -> None:
    master, slave = line
    before = termios.tcgetattr(slave)
    terminal = Tty(slave, slave)
    terminal.enter()
    drain(master)
    if stopped:
        os.write(master, b"\x13")  # Ctrl-S
    terminal.write(b"x" * 100_000)
    assert terminal.pending
    began = time.monotonic()
    terminal.close()
    assert time.monotonic() - began < PATIENCE_S / 6  # waiting for it would have no end
    assert termios.tcgetattr(slave) == before
    assert drain(master).endswith(terminals.PASTE_OFF)


def test_the_last_receipt_is_not_left_to_the_shell(line: tuple[int, int]) -> None:
    master, slave = line
    terminal = Tty(slave, slave)
    terminal.enter()
    terminal.write(b"hello\n\x1b[5n")
    os.write(master, b"\x1b[0n")
    terminal.close()
    os.set_blocking(slave, False)
    attributes = termios.tcgetattr(slave)
    attributes[3] &= ~termios.ICANON
    termios.tcsetattr(slave, termios.TCSANOW, attributes)
    with pytest.raises(BlockingIOError):
        os.read(slave, 100)


# -- trap 2: Ctrl-S; trap 7: slow lines -------------------------------------------------------


@pytest.mark.parametrize("seconds", [3.0, pytest.param(60.0, marks=pytest.mark.slow)])
def test_a_frozen_terminal_stops_no_heart_beat(tmp_path: object, seconds: float) -> None:
    beats = f"{tmp_path}/beats"
    with client("--say", "2000", "--every", str(seconds / 3000), "--beat", beats) as run:
        run.send("\x13")
        end = time.monotonic() + seconds + PATIENCE_S
        # 10 a second, on a machine of one's own; the first of them makes the file.
        while not os.path.exists(beats) or os.path.getsize(beats) < 10 * seconds:
            assert time.monotonic() < end, "it beats no more"
            run.read(0.1)
        run.send("\x11")
        run.expect_line("bob: line 2000")
        assert run.screen is not None
        lines = [row for row in run.screen.scrollback + run.screen.used() if "bob" in row]
        assert [int(row.split()[2]) for row in lines[-MESSAGES_WAITING_MAX:]] == list(
            range(2001 - MESSAGES_WAITING_MAX, 2001)
        )
        run.send("\x04")
        assert run.wait() == 0
        assert run.restored()


@pytest.mark.parametrize("how", ["--blocking", "--slow"])
def test_the_other_ways_of_writing_work_too(how: str) -> None:
    with client(how, "--say", "200") as run:
        run.send("half")
        end = time.monotonic() + 20.0
        while b"line 200 " not in run.raw and time.monotonic() < end:
            if b"\x1b[5n" in run.read(0.1):
                run.send("\x1b[0n")
        run.expect_last("lab> half")
        run.send("\x1d")
        assert run.wait() == 0
        assert run.restored()


class SlowLine:
    """Reads a pty as a serial line of `baud` would, and answers ESC[5n when it gets there."""

    def __init__(self, run: PtyRun, baud: int) -> None:
        self.run = run
        self.rate = baud / 10.0
        self.began = time.monotonic()
        self.taken = 0
        self.answered = 0

    def read(self) -> bytes:
        """What has come over the line by now."""
        due = int((time.monotonic() - self.began) * self.rate) - self.taken
        data = self.run.read(0.02, max(1, due)) if due > 0 else b""
        if due <= 0:
            self.run.read(0.0, 1)
        elif len(data) < due:
            self.taken += due - len(data)  # the line was idle: time is not saved up
        self.taken += len(data)
        asked = self.run.raw.count(b"\x1b[5n")
        if asked > self.answered:
            self.answered = asked
            self.run.send("\x1b[0n")
        return data


def test_at_9600_baud_a_key_is_seen_soon_behind_a_flood() -> None:
    with client("--say", "3000", "--every", "0.003", baud=termios.B9600) as run:
        line = SlowLine(run, 9600)
        waits = []  # bytes that came over the line before the key was seen
        for number in range(10):
            key = "qzjkvwyQZJ"[number]
            run.send(key)
            end = time.monotonic() + PATIENCE_S
            mark = len(run.raw)
            while key.encode() not in run.raw[mark:]:
                line.read()
                assert time.monotonic() < end
            waits.append(len(run.raw) - mark)
        waits.sort()
        assert waits[5] < 9_600 / 10, waits  # a second; the unpaced median is 8 s
        run.send("\x1d")
        assert run.wait() == 0
        assert run.restored()


def resident_kib(pid: int) -> int:
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


@pytest.mark.parametrize("seconds", [2, pytest.param(30, marks=pytest.mark.slow)])
def test_a_flood_is_drawn_20_times_a_second_and_keys_are_quick(seconds: int) -> None:
    """1,000 lines a second, 10 keys a second."""
    count = str(1000 * (seconds + 5))
    with client("--say", count, "--every", "0.001", emulate=False) as run:
        while b"lab> " not in run.raw:
            run.read(1.0)
        run.raw.clear()
        began = time.monotonic()
        before = resident_kib(run.pid)
        waits, redraws = [], 0
        for number in range(10 * seconds):
            key = b"QZ"[number % 2 : number % 2 + 1]
            while run.read(0.0):  # what was drawn before the key
                pass
            run.send(b"\x15" + key)  # alone in the line: the key before is drawn no more
            mark = len(run.raw)
            while key not in run.raw[mark:]:
                assert run.read(PATIENCE_S)
            waits.append(run.raw[mark : run.raw.index(key, mark)].count(b"lab> ") + 1)
            while time.monotonic() < began + (number + 1) / 10:
                run.read(0.02)
            redraws += run.raw.count(b"lab> ")
            run.raw.clear()
        took = time.monotonic() - began
        assert redraws <= took / FLUSH_INTERVAL_S + 3
        assert resident_kib(run.pid) <= before + 1024
        # The next drawing shows the key, or the one after it. (There are 20 a second, so that this
        # is 60 ms on a machine of one's own.)
        waits.sort()
        print(f"drawings until a key is seen: {waits[len(waits) // 2]}, at most {waits[-1]}")
        assert waits[int(0.98 * len(waits)) - 1] <= 3, waits[-5:]
        run.send("\x1d")
        assert run.wait() == 0


# -- trap 9 and small things ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "charset"),
    [
        ({"LC_ALL": "C"}, "ascii"),
        ({"LC_ALL": "C", "LANG": "en_US.UTF-8"}, "ascii"),
        ({"LC_CTYPE": "de_DE.utf8", "LANG": "C"}, "utf-8"),
        ({"LANG": "en_US.UTF-8"}, "utf-8"),
        ({"LC_ALL": "", "LANG": "C.UTF-8"}, "utf-8"),
        ({"LC_CTYPE": "UTF-8"}, "utf-8"),  # what a Mac's ssh hands over
        ({"LC_CTYPE": "UTF-8", "LANG": "en_US.UTF-8"}, "utf-8"),
        ({"LC_CTYPE": "C"}, "ascii"),
        ({"LANG": "de_DE.ISO-8859-1"}, "latin-1"),
        ({"LANG": "de_DE@euro"}, "ascii"),
        ({}, "ascii"),
    ],
)
def test_the_charset_is_decided_by_hand(environment: dict[str, str], charset: str) -> None:
    assert charset_of(environment) == charset


def test_who_gets_an_editor(line: tuple[int, int]) -> None:
    _, slave = line
    reading, writing = os.pipe()
    other_master, other = pty.openpty()
    assert is_smart({"TERM": "xterm"}, slave, slave)
    assert not is_smart({"TERM": "dumb"}, slave, slave)
    assert not is_smart({}, slave, slave)
    assert not is_smart({"TERM": "xterm"}, reading, slave)
    assert not is_smart({"TERM": "xterm"}, slave, writing)
    assert not is_smart({"TERM": "xterm"}, slave, other)
    for fd in (reading, writing, other_master, other):
        os.close(fd)


def test_size_and_speed(line: tuple[int, int]) -> None:
    _, slave = line
    terminal = Tty(slave, slave)
    assert terminal.size() == (80, 24)
    assert terminal.baud == 38_400
    attributes = termios.tcgetattr(slave)
    attributes[4] = attributes[5] = termios.B9600
    termios.tcsetattr(slave, termios.TCSANOW, attributes)
    assert terminal.baud == 9600
    terminal.close()
