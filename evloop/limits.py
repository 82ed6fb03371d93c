"""Every cap, with its unit in its name and its reason beside it. Floor 0: imports nothing.

What a peer can grow has a cap here. The asserts at the end of a section say how caps relate.
"""

# -- names and addresses -------------------------------------------------------------------------

ROOM_NAME_BYTES_MAX = 64  # UTF-8 after NFC; fits a line of a listing and a prompt
NICKNAME_BYTES_MAX = 32  # UTF-8 after NFC; length is one byte in a datagram
PORT_MIN = 1024  # below are privileged ports
PORT_MAX = 65535

# -- framing and messages (directory protocol) -------------------------------------------------

HEADER_BYTES = 4
PAYLOAD_BYTES_MAX = 65_536  # judged when the header has arrived: nobody makes us hold more
FRAME_BYTES_MAX = HEADER_BYTES + PAYLOAD_BYTES_MAX

assert NICKNAME_BYTES_MAX < 256
assert 4 * PAYLOAD_BYTES_MAX < 2**24

# -- log lines -----------------------------------------------------------------------------------

LOG_WINDOW_S = 10.0  # repeats are counted over this long, then told in one line
LOG_REPEATS_MAX = 5  # lines of one event from one visitor in a window; more tell nothing new
LOG_EVENT_REPEATS_MAX = 50  # lines of one event from all visitors in a window: 5/s at most
LOG_KINDS_MAX = 1_000  # windows held at once, ~200 B each; beyond, visitors share the event's own
LOG_VALUE_CHARS_MAX = 200  # of one value; the line must hold several
LOG_LINE_BYTES_MAX = 4_000  # a pipe that polls writable takes PIPE_BUF (4,096) bytes, no more

assert LOG_REPEATS_MAX < LOG_EVENT_REPEATS_MAX < LOG_KINDS_MAX
assert LOG_LINE_BYTES_MAX + 4 <= 4_096

# -- the plain room --------------------------------------------------------------------------------

PLAIN_DATAGRAM_BYTES_MAX = 256  # the receive buffer of the programs of old
PLAIN_BURST = 50  # a paste goes at once
PLAIN_PER_S = 200  # then as fast as a receiver with the default socket buffer (256 datagrams) reads
PLAIN_QUEUE_MAX = 10_000  # messages waiting; beyond it `say` is refused
PLAIN_HISTORY_MAX = 1_000  # messages kept for /history

assert PLAIN_DATAGRAM_BYTES_MAX > NICKNAME_BYTES_MAX + 8

# -- life as a service ---------------------------------------------------------------------------

LISTEN_SOCKETS_MAX = 64  # taken over from the service manager, or by --listen; each is watched

# -- the loop and its sources (loop, accept, stdin, multicast, resolve) ----------------------------

EVENTS_PER_TICK_MAX = 256  # of more, the kernel keeps its own turn; timers and hooks get theirs
READ_BYTES_PER_WAKE = 65_536  # one recv per wake and descriptor: nobody starves the rest
DATAGRAMS_PER_WAKE_MAX = 64  # measured: draining up to 64 takes 1.5 to 1.7 times more under flood
ACCEPT_BATCH_MAX = 64  # a storm of connections shares the loop with those who are in
ACCEPT_PAUSE_S = 0.2  # out of descriptors: try again soon, but do not spin
SIGNALS_PER_WAKE_MAX = 64
SLEEP_S_MAX = 86_400.0  # of one select: epoll takes at most 2**31 - 1 ms
STALE_TIMERS_MIN = 64  # below, cancelled timers are not worth a sweep
RECEIVE_BUFFER_BYTES = 4 * 2**20  # asked for; holds over 6,000 small datagrams (the default: 256)
RESOLVE_S_MAX = 5.0  # a silent resolver would take 10 s and more

assert SLEEP_S_MAX * 1000 < 2**31

# -- streams (framed TCP) --------------------------------------------------------------------------

OUT_HIGH_WATER_BYTES = 256 * 1024  # above it nothing more is read from this peer
OUT_QUEUE_BYTES_MAX = 1024 * 1024  # above it (notifications alone get there) the peer is cut off
FRAMES_PER_WAKE = 256  # then the others' turn: 256 requests are about 2 ms
UNFINISHED_FRAME_S = 10.0  # for the first frame, and for the rest of a started one
WRITE_PROGRESS_S = 10.0  # a peer that reads nothing for so long is gone
LINGER_S = 1.0  # how long a closed peer may take to read its last reply
LINGER_BYTES_MAX = 1024 * 1024  # what it may still send meanwhile; dropped unread

# One reply may come on top of the high-water mark; the rest is room for notifications.
assert OUT_HIGH_WATER_BYTES + FRAME_BYTES_MAX < OUT_QUEUE_BYTES_MAX
