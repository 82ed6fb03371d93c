"""Caps of a live room and of plain rooms; each with its unit in its name and its reason.

Asserts say how caps relate.
"""

from evloop.base.limits import NICKNAME_BYTES_MAX

# -- the plain room ------------------------------------------------------------------------------

PLAIN_DATAGRAM_BYTES_MAX = 256  # the receive buffer of the programs of old
PLAIN_BURST = 50  # a paste goes at once
PLAIN_PER_S = 200  # then as fast as a receiver with the default socket buffer (256 datagrams) reads
PLAIN_QUEUE_MAX = 10_000  # messages waiting; beyond it `say` is refused
PLAIN_HISTORY_MAX = 1_000  # messages kept for /history

assert PLAIN_DATAGRAM_BYTES_MAX > NICKNAME_BYTES_MAX + 8

FAULT_PAUSE_S = 1.0  # after a bug of ours in a session's timer: the loop is not kept busy by it

# -- the reliable room ---------------------------------------------------------------------------

HISTORY_MESSAGES_MAX = 4_096

# -- the client ----------------------------------------------------------------------------------

LEAVE_S = 1.0  # a room that says goodbye is closed after that, done or not
FAULT_REST_S = 1.0  # after an exception of a session's timer: it must not raise without end
