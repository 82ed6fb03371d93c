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
