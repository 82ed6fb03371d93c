"""Log lines for the operator: one line for each event, followed by its fields as `key=value`.

    2026-11-22T12:01:07.412Z warning closed peer=192.0.2.7:50112 why="frame too large"
    <4>closed peer=192.0.2.7:50112 why="frame too large"         the same, in the journal

`logging` is not used: it costs 5 ms and 1 MB at start. The text of an event is a constant of the
program; values may come from a peer and are made safe, so that no peer can forge a line.

Repeats are held back. A "kind" is an event and a visitor (addresses.prefix_of its `peer`):

    lines of this kind in this window      what happens
    fewer than LOG_REPEATS_MAX             printed
    more, or too many kinds to tell apart  counted; one line "... 812 more" when the window ends

Each event also has a window over all visitors, since a stranger may come from many addresses.
The end of a window needs a timer: set `schedule` to the loop's `call_at`. It is asked for only
when something was held back, so an idle process has none.
"""

from __future__ import annotations

import os
import time

from evloop.base.addresses import prefix_of
from evloop.base.names import quoted, utf8_parts
from evloop.system.limits import (
    LOG_EVENT_REPEATS_MAX,
    LOG_KINDS_MAX,
    LOG_LINE_BYTES_MAX,
    LOG_QUEUE_BYTES_MAX,
    LOG_REPEATS_MAX,
    LOG_VALUE_CHARS_MAX,
    LOG_WINDOW_S,
)
from evloop.system.stdout import Writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from evloop.system.loop import Loop

# The severities of syslog (RFC 5424), which are the journal's too.
ERROR, WARNING, NOTICE, INFO, DEBUG = range(3, 8)
_WORDS = {ERROR: "error", WARNING: "warning", NOTICE: "notice", INFO: "info", DEBUG: "debug"}


class _Window:
    """How often one kind of line came since `ends - LOG_WINDOW_S`."""

    __slots__ = ("count", "ends", "held")

    def __init__(self, ends: float) -> None:
        self.ends = ends
        self.count = 0
        self.held = 0


class Log:
    """Writes lines no less severe than `level` (ERROR..DEBUG).

    `write` takes one line without its end and must not raise; `wall` is unix time, `clock` is
    monotonic, both in seconds. Hot paths ask `debugging` before they build the fields.
    """

    __slots__ = (
        "_armed",
        "_clock",
        "_journal",
        "_level",
        "_wall",
        "schedule",
        "windows",
        "write",
    )

    def __init__(
        self,
        write: Callable[[str], None],
        *,
        level: int,
        journal: bool,
        wall: Callable[[], float],
        clock: Callable[[], float],
    ) -> None:
        self.write = write
        self._level = level
        self._journal = journal
        self._wall = wall
        self._clock = clock
        # (severity, event, visitor), visitor "" for all of them together; oldest first, since
        # every window is equally long.
        self.windows: dict[tuple[int, str, str], _Window] = {}
        self.schedule: Callable[[float, Callable[[], None]], object] | None = None
        self._armed = False  # `schedule` was asked and has not called back

    @property
    def debugging(self) -> bool:
        return self._level >= DEBUG

    def error(self, event: str, **fields: object) -> None:
        self._event(ERROR, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        if self._level >= WARNING:
            self._event(WARNING, event, fields)

    def notice(self, event: str, **fields: object) -> None:
        if self._level >= NOTICE:
            self._event(NOTICE, event, fields)

    def info(self, event: str, **fields: object) -> None:
        if self._level >= INFO:
            self._event(INFO, event, fields)

    def debug(self, event: str, **fields: object) -> None:
        if self._level >= DEBUG:
            self._event(DEBUG, event, fields)

    def flush_repeats(self) -> None:
        """End the windows that are over, and log how much each held back: the timer's callback."""
        self._armed = False
        self._end_windows(self._clock())
        for window in self.windows.values():
            if window.held:
                self._arm(window.ends)
                return

    def close(self) -> None:
        """End every window and log how much each held back: the process ends."""
        self._end_windows(float("inf"))

    # -- repeats ---------------------------------------------------------------------------------

    def _event(self, severity: int, event: str, fields: dict[str, object]) -> None:
        now = self._clock()
        self._end_windows(now)
        visitor = _visitor(fields.get("peer"))
        most = LOG_REPEATS_MAX if visitor else LOG_EVENT_REPEATS_MAX
        if self._held(severity, event, visitor, most, now):
            return
        # Only lines that would be printed count here: one noisy visitor must not use up the
        # share of all the others.
        if visitor and self._held(severity, event, "", LOG_EVENT_REPEATS_MAX, now):
            return
        self._line(severity, event, fields)

    def _held(self, severity: int, event: str, visitor: str, most: int, now: float) -> bool:
        key = (severity, event, visitor)
        window = self.windows.get(key)
        if window is None:
            if visitor and len(self.windows) >= LOG_KINDS_MAX:
                return False  # the event's own window still bounds it
            window = self.windows[key] = _Window(now + LOG_WINDOW_S)
        window.count += 1
        if window.count <= most:
            return False
        window.held += 1
        self._arm(window.ends)
        return True

    def _arm(self, when: float) -> None:
        if self.schedule is not None and not self._armed:
            self._armed = True
            self.schedule(when, self.flush_repeats)

    def _end_windows(self, now: float) -> None:
        while self.windows:
            key = next(iter(self.windows))
            window = self.windows[key]
            if window.ends > now:
                return
            del self.windows[key]
            if window.held:
                severity, event, visitor = key
                self._line(severity, f"{event} ... {window.held} more", {"peer": visitor or None})

    def trace(self, error: BaseException) -> None:
        """The stack of `error`, for `--debug`: several lines, as Python writes them."""
        from traceback import format_exception

        for line in "".join(format_exception(type(error), error, error.__traceback__)).split("\n"):
            self.write(line)

    # -- the text --------------------------------------------------------------------------------

    def _line(self, severity: int, event: str, fields: dict[str, object]) -> None:
        if self._journal:
            head = f"<{severity}>{event}"
        else:
            head = f"{iso_utc(self._wall())} {_WORDS[severity]} {event}"
        tail = "".join(f" {key}={_value(it)}" for key, it in fields.items() if it is not None)
        self.write(head + tail)


def _visitor(peer: object) -> str:
    """The prefix of a `peer` field: "192.0.2.7:50112", "[2001:db8::1]:50112" or a bare host."""
    if peer is None:
        return ""
    host, _, port = str(peer).rpartition(":")
    if host.startswith("["):
        return prefix_of(host[1:-1])
    return prefix_of(host if host and ":" not in host and port.isdigit() else str(peer))


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    # Cut before escaping: it would be waste to escape a megabyte of which 200 characters are shown.
    shown = quoted(text[: LOG_VALUE_CHARS_MAX + 1], LOG_VALUE_CHARS_MAX)
    if (
        shown == text
        and text.isprintable()
        and shown
        and not any(sign in shown for sign in ' "\\=')
    ):
        return shown
    return '"' + shown.replace("\\", "\\\\").replace('"', '\\"') + '"'


def iso_utc(wall: float) -> str:
    """Unix seconds as ISO 8601 in UTC with milliseconds; a clock out of all range is shown raw."""
    thousandths = round(wall * 1000)
    try:
        moment = time.gmtime(thousandths // 1000)
    except (OverflowError, OSError, ValueError):
        return f"@{wall}"
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', moment)}.{thousandths % 1000:03d}Z"


def goes_to_journal(environ: Mapping[str, str], descriptor: int = 2) -> bool:
    """Whether `descriptor` is the stream that systemd names in JOURNAL_STREAM (dev:inode)."""
    device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    if not (device.isascii() and device.isdigit() and inode.isascii() and inode.isdigit()):
        return False
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return (status.st_dev, status.st_ino) == (int(device), int(inode))


def cut_line(line: str) -> str:
    """`line` in at most LOG_LINE_BYTES_MAX bytes, and a sign that it is not all."""
    data = line.encode(errors="replace")
    if len(data) <= LOG_LINE_BYTES_MAX:
        return line
    return utf8_parts(data, LOG_LINE_BYTES_MAX)[0].decode() + "…"


def log_writer(loop: Loop) -> Writer:
    """Standard error for a log: lines that a stopped reader does not take are counted."""
    lost = "... %d lines could not be written"
    return Writer(2, loop, most=LOG_QUEUE_BYTES_MAX, lost=lost)


def stderr_log(writer: Writer, level: int = INFO) -> Log:
    """The log of a process: `writer`, real clocks, the journal's form where it reads it."""
    return Log(
        lambda line: writer.line(cut_line(line)),
        level=level,
        journal=goes_to_journal(os.environ),
        wall=time.time,
        clock=time.monotonic,
    )
