"""Caps of names, addresses, framing and JSON; each with its unit in its name and its reason.

Asserts say how caps relate.
"""


# -- names and addresses -------------------------------------------------------------------------

ROOM_NAME_BYTES_MAX = 64  # UTF-8 after NFC; fits a line of a listing and a prompt
NICKNAME_BYTES_MAX = 32  # UTF-8 after NFC; length is one byte in a datagram
FOLDED_CHARS_MAX = 64  # characters normalised at once: n combining marks in a row take n * n steps
PORT_MIN = 1024  # smaller ports are privileged
PORT_MAX = 65535

# -- framing and messages (directory protocol) ---------------------------------------------------

LENGTH_BYTES = 4
PAYLOAD_BYTES_MAX = 65_536  # checked when the length has arrived: no peer makes us hold more
FRAME_BYTES_MAX = LENGTH_BYTES + PAYLOAD_BYTES_MAX

assert NICKNAME_BYTES_MAX < 256
assert 4 * PAYLOAD_BYTES_MAX < 2**24

# -- streams (framed TCP) ------------------------------------------------------------------------

LARGE_FRAME_BYTES = 1_024  # larger requests (mostly batches) always count against a visitor's share

# -- messages, directory and store ---------------------------------------------------------------

JSON_DEPTH_MAX = 8  # brackets open at once; a request needs three, a page of the directory four
INTEGER_MAX = 2**53 - 1  # a reader that keeps numbers as doubles loses digits of larger ones
CHANGE_BURST = 2_000  # enough for a script that sets up a site; at least 20 seconds of the rate
CHANGE_BURST_S = 20
RATED_ADDRESSES_MAX = 20_000  # addresses whose rate is remembered; twice the default of clients
