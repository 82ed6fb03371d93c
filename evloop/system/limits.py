"""Caps of the loop, the log and the standard streams; each with its unit and its reason.

Asserts say how caps relate.
"""


# -- log lines -----------------------------------------------------------------------------------

LOG_WINDOW_S = 10.0  # repeats are counted over this long, then told in one line
LOG_REPEATS_MAX = 5  # lines of one event from one visitor in a window; more tell nothing new
LOG_EVENT_REPEATS_MAX = 50  # lines of one event from all visitors in a window: 5/s at most
LOG_KINDS_MAX = 1_000  # windows held at once, ~200 B each; beyond that, visitors share the event's
LOG_VALUE_CHARS_MAX = 200  # characters of one value; the line must hold several values
LOG_LINE_BYTES_MAX = 4_000  # below PIPE_BUF (4,096): a pipe takes such a line whole or not at all
LOG_QUEUE_BYTES_MAX = 256 * 1024  # waiting for a slow reader of the log; further lines are counted

assert LOG_REPEATS_MAX < LOG_EVENT_REPEATS_MAX < LOG_KINDS_MAX
assert LOG_LINE_BYTES_MAX + 4 <= 4_096
assert LOG_LINE_BYTES_MAX < LOG_QUEUE_BYTES_MAX

# -- the loop and its sources --------------------------------------------------------------------

EVENTS_PER_TICK_MAX = 256  # further events wait in the kernel, so that timers and hooks get a turn
OPEN_FILES_MIN = 1_024  # taken where the limit is not told: what most systems start with
READ_BYTES_PER_WAKE = 65_536  # one recv per wake and descriptor, so that none starves the rest
SIGNALS_PER_WAKE_MAX = 64
SLEEP_S_MAX = 86_400.0  # of one select: epoll takes at most 2**31 - 1 ms
STALE_TIMERS_MIN = 64  # fewer cancelled timers are not worth a sweep

assert SLEEP_S_MAX * 1000 < 2**31

# -- streams (framed TCP) ------------------------------------------------------------------------

EXPIRED_PER_TICK_MAX = 64  # members of one `Timeouts`; the rest expire in the next tick

# -- the terminal --------------------------------------------------------------------------------

HISTORY_LINES_MAX = 500  # typed lines kept, in memory and in the file
HISTORY_FILE_BYTES_MAX = 4_194_304  # a longer file is not ours: no more of it is read
NAME_FILE_BYTES_MAX = 256  # a chat name has at most 32
FOREGROUND_POLL_S = 0.25  # between two looks while in the background: `fg` after `bg` is no signal

# -- the client's standard streams ---------------------------------------------------------------

OUTLET_BYTES_MAX = 8 * 1024 * 1024  # waiting for a slow reader of stdout; further lines are counted
WRITE_BYTES_PER_WAKE = 256 * 1024  # of one writer, so that long output to it does not hold the loop
LINE_BYTES_MAX = 65_536  # of one line of stdin; a longer one is refused, not held
