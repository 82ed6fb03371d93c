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
