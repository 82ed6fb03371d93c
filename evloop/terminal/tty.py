"""The user's terminal: raw mode, size, reading, writing; nothing else writes to it.

    with Tty() as terminal:              # raw, bracketed paste on; restored on the way out
        terminal.write(editor.take(now))      # never blocks; what is refused waits here
        terminal.flush()                      # when the descriptor is writable and `pending`

Descriptors 0 to 2 stay as they are: their O_NONBLOCK is shared with the shell. The tty is opened
again for ourselves (see system/stdout, whose Writer writes here too).

Raw mode is the user's own settings without line editing, echo and the keys that we read ourselves
(Ctrl-C, Ctrl-Z, Ctrl-V). ICRNL stays on, so that a shell that inherits the terminal from a killed
program still has an Enter key; so do IXON (Ctrl-S) and VQUIT: Ctrl-\\ ends the program even when it
hangs, and gives the terminal back first.

    state     enter      leave     suspend          resume
    cooked    -> raw     nothing   stop, cooked     -> raw in the foreground, else cooked
    raw       nothing    -> cooked -> cooked, stop  -> raw in the foreground, else cooked

In the background neither changes the terminal: it is another program's.
"""

from __future__ import annotations

import atexit
import errno
import os
import select
import signal

from evloop.system.stdout import Writer
from evloop.terminal.limits import RECEIPT_DRAIN_MS

try:
    import termios
except ImportError:  # on other systems one line says what is missing
    raise SystemExit("evloop: this Python has no termios; evloop needs Linux or a Unix") from None

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

READ_BYTES = 4096
PASTE_ON = b"\x1b[?2004h"
PASTE_OFF = b"\x1b[?2004l"
RECEIPT_ASKED = b"\x1b[5n"
RECEIPT = b"\x1b[0n"
_BAUDS = {
    getattr(termios, f"B{rate}"): rate
    for rate in (50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 9600, 19200)
}


def charset_of(environment: dict[str, str] | os._Environ[str]) -> str:
    """ "utf-8", "latin-1" or "ascii" by the locale: Python claims UTF-8 in the C locale too."""
    for variable in ("LC_ALL", "LC_CTYPE", "LANG"):
        value = environment.get(variable, "")
        if value:
            language, dot, name = value.partition("@")[0].partition(".")
            # A Mac's ssh hands over LC_CTYPE=UTF-8: a character set without a language.
            name = (name if dot else language).lower().replace("-", "")
            if name in ("utf8", "utf"):
                return "utf-8"
            if name in ("iso88591", "iso885915", "latin1"):
                return "latin-1"
            return "ascii"
    return "ascii"


def is_smart(environment: dict[str, str] | os._Environ[str], stdin: int, stdout: int) -> bool:
    """Whether a line can be edited: both ends the same tty, and TERM not dumb."""
    return (
        environment.get("TERM", "") not in ("", "dumb")
        and os.isatty(stdin)
        and os.isatty(stdout)
        and os.fstat(stdin).st_rdev == os.fstat(stdout).st_rdev
    )


def _attributes(fd: int) -> list[int | list[bytes | int]] | None:
    """tcgetattr; None when the terminal is gone."""
    try:
        return termios.tcgetattr(fd)
    except termios.error as error:
        if error.args[0] in (errno.EIO, errno.ENOTTY):
            return None
        raise


def _set_attributes(fd: int, attributes: list[int | list[bytes | int]]) -> bool:
    """tcsetattr, tried again after a signal; False when the terminal is gone."""
    while True:
        try:
            termios.tcsetattr(fd, termios.TCSANOW, attributes)
            return True
        except termios.error as error:  # not an OSError, and not retried by Python
            if error.args[0] == errno.EINTR:
                continue
            if error.args[0] in (errno.EIO, errno.ENOTTY):
                return False
            raise


def in_foreground(fd: int) -> bool:
    """Whether what is typed at `fd` is ours; in the background it is the shell's."""
    own = os.getpgrp()
    try:
        return os.tcgetpgrp(fd) == own or own < 0  # a sandbox that does not tell which one is ours
    except OSError as error:
        # Not our controlling terminal, or a sandbox that does not tell: no job control. Or gone:
        # let the caller find out.
        return error.errno != errno.EBADF


def set_escape(fd: int, escape: bytes) -> Callable[[], None]:
    """Make `escape` end a line of terminal `fd` at once; return what puts that back."""
    attributes: list[Any] = termios.tcgetattr(fd)
    before = attributes[6][termios.VEOL]
    attributes[6][termios.VEOL] = escape
    termios.tcsetattr(fd, termios.TCSANOW, attributes)

    def restore() -> None:
        now: list[Any] | None = _attributes(fd)  # the echo is hidden and shown in between
        if now is not None:
            now[6][termios.VEOL] = before
            _set_attributes(fd, now)

    return restore


def hide_echo(fd: int) -> Callable[[], None]:
    """Show nothing of what is typed at terminal `fd`; return what puts the echo back."""
    attributes = _attributes(fd)
    if attributes is None:
        return lambda: None
    shown = attributes[3]
    attributes[3] = _as_int(shown) & ~(termios.ECHO | termios.ECHOE | termios.ECHOK)
    _set_attributes(fd, attributes)

    def restore() -> None:
        now = _attributes(fd)
        if now is not None:
            now[3] = shown
            _set_attributes(fd, now)

    return restore


class Tty:
    """A context manager around raw mode."""

    __slots__ = ("_out", "_owed", "_quit", "_saved", "_stdin", "raw")

    def __init__(self, stdin: int = 0, stdout: int = 1) -> None:
        self._stdin = stdin
        self._out = Writer(stdin)
        if not self._out.own:
            self._out.close()
            self._out = Writer(stdout)
        self._saved: list[int | list[bytes | int]] | None = None
        self._owed = False  # we asked ESC[5n and have not seen the answer
        self.raw = False
        self._quit: object = None  # what SIGQUIT did before
        atexit.register(self.leave)

    def __enter__(self) -> Tty:
        self.enter()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """The descriptor to watch for reading and writing."""
        return self._out.fileno() if self._out.own else self._stdin

    @property
    def refused(self) -> bool:
        """Whether the terminal has had no room at least once."""
        return self._out.refused

    @property
    def pending(self) -> bool:
        """Whether refused bytes wait: watch for writability, and draw nothing new."""
        return self._out.queued > 0

    @property
    def baud(self) -> int:
        """The line's speed in bits a second; 38400 for all that is not slower."""
        attributes = _attributes(self._stdin)
        return 38_400 if attributes is None else _BAUDS.get(_as_int(attributes[5]), 38_400)

    def size(self) -> tuple[int, int]:
        """(columns, rows), 80 x 24 where the terminal does not say."""
        try:
            columns, rows = os.get_terminal_size(self.fileno())
        except OSError:
            columns, rows = 0, 0
        return columns or 80, rows or 24

    def enter(self) -> None:
        """Raw mode on; does nothing when it is on, or when we are in the background."""
        if self.raw or not self.in_foreground():
            return
        if self._saved is None:
            self._saved = _attributes(self._stdin)
        saved = self._saved
        if saved is None:
            return
        raw = [*saved[:6], list(saved[6])]  # type: ignore[arg-type]
        raw[0] = _as_int(raw[0]) & ~(termios.INLCR | termios.IGNCR | termios.ISTRIP)
        raw[1] = _as_int(raw[1]) | termios.OPOST | termios.ONLCR
        raw[3] = _as_int(raw[3]) & ~(termios.ICANON | termios.ECHO | termios.IEXTEN)
        controls = raw[6]
        assert isinstance(controls, list)
        controls[termios.VMIN] = 1
        controls[termios.VTIME] = 0
        for key in (termios.VINTR, termios.VSUSP):
            controls[key] = b"\0"
        if _set_attributes(self._stdin, raw):
            self.raw = True
            if signal.getsignal(signal.SIGQUIT) != signal.SIG_IGN:
                self._quit = signal.signal(signal.SIGQUIT, self._on_quit)
            self.write(PASTE_ON)

    def leave(self) -> None:
        """Give the terminal back as it was; safe to call at any time, twice too.

        What was not written yet is written if that takes no time, else it is lost.
        """
        if not self.raw or self._saved is None:
            return
        self._forget_raw()
        saved, self._saved = self._saved, None
        if not self.in_foreground():
            self._out.forget()
            return
        self.write(PASTE_OFF)
        if self.pending:
            self._break_through()
        elif self._owed:
            self._drain_receipt()
        _set_attributes(self._stdin, saved)

    def _forget_raw(self) -> None:
        self.raw = False
        if signal.getsignal(signal.SIGQUIT) != signal.SIG_IGN:
            signal.signal(signal.SIGQUIT, self._quit or signal.SIG_DFL)  # type: ignore[arg-type]

    def _break_through(self) -> None:
        """The terminal is stopped by Ctrl-S, or full: drop output, but not what the shell needs.

        TCOON alone lifts only what TCOOFF did; after the pair the Ctrl-S is lifted too.
        """
        fd = self._out.fileno()
        self._out.forget()
        try:
            termios.tcflush(fd, termios.TCOFLUSH)
            termios.tcflow(fd, termios.TCOOFF)
            termios.tcflow(fd, termios.TCOON)
        except termios.error:
            return  # the terminal is gone
        self.write(PASTE_OFF)
        self._out.forget()

    def _on_quit(self, signum: int, _frame: object) -> None:
        """Ctrl-\\: give the terminal back, then end, even when the program hangs."""
        self.leave()
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)

    def _drain_receipt(self) -> None:
        """Read the terminal's answer that is still to come: else the shell gets it as input."""
        self._owed = False
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        seen = bytearray()
        while RECEIPT not in seen and poll.poll(RECEIPT_DRAIN_MS):
            data = self.read()
            if not data:
                break
            seen += data

    def close(self) -> None:
        """`leave`, and close our own descriptor."""
        self.leave()
        atexit.unregister(self.leave)
        self._out.close()

    def read(self) -> bytes | None:
        """What was typed; None when nothing is there, b"" when the terminal is gone.

        None in the background too: what is typed there is the shell's, and reading it would stop
        us (SIGTTIN). After a SIGSTOP and `bg` the read may come before the SIGCONT is seen.
        """
        if not self.in_foreground():
            return None
        try:
            data = os.read(self.fileno(), READ_BYTES)
            if RECEIPT in data:
                self._owed = False
            return data
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno == errno.EIO:
                return b""
            raise

    def write(self, data: bytes) -> None:
        """Write, or keep what the terminal does not take now."""
        if RECEIPT_ASKED in data:
            self._owed = True
        self._out.send(data)

    def flush(self) -> bool:
        """Write what waits; True when nothing waits any more."""
        return self._out.flush()

    # -- job control -----------------------------------------------------------------------

    def in_foreground(self) -> bool:
        """Whether the terminal is ours to use. After `bg` then `fg` no signal says so: ask."""
        return in_foreground(self._stdin)

    def suspend(self) -> None:
        """Give the terminal back and stop this process group; returns when it is continued.

        Then call `resume`.
        """
        if signal.getsignal(signal.SIGTSTP) == signal.SIG_IGN:
            return  # our parent has set SIGTSTP to be ignored: we must not stop
        self.leave()
        before = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(0, signal.SIGTSTP)  # we stop in here
        signal.signal(signal.SIGTSTP, before)

    def resume(self) -> bool:
        """After SIGCONT, and every FOREGROUND_POLL_S while it says False: may we draw again?

        True: raw mode is on again. False: we are in the background, so neither read nor write.
        """
        if self.raw:
            # Perhaps we were stopped by a SIGSTOP, and the shell has changed the terminal: set raw
            # mode again. The user's own settings are still known.
            self._forget_raw()
        self.enter()
        return self.raw


def _as_int(value: int | list[bytes | int]) -> int:
    assert isinstance(value, int)
    return value
