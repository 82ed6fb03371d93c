"""Caps of a live room and of plain rooms; each with its unit in its name and its reason.

Asserts say how caps relate.
"""

from evloop.base.limits import NICKNAME_BYTES_MAX

# -- the plain room ------------------------------------------------------------------------------

PLAIN_DATAGRAM_BYTES_MAX = 256  # the receive buffer of older programs
PLAIN_BURST = 50  # lines of a paste that are sent at once
PLAIN_PER_S = 200  # then as fast as a receiver with the default socket buffer (256 datagrams) reads
PLAIN_QUEUE_MAX = 10_000  # messages waiting; beyond it `say` is refused
PLAIN_HISTORY_MAX = 1_000  # messages kept for /history

assert PLAIN_DATAGRAM_BYTES_MAX > NICKNAME_BYTES_MAX + 8

FAULT_PAUSE_S = 1.0  # after an exception in a session's timer: it must not keep the loop busy

# -- the network of a room -----------------------------------------------------------------------

NETWORK_GONE_S = 2.0  # a carrier or a device that is gone for so long is told, or another is taken
ADDRESS_GONE_S = 1.5  # an address alone: DHCP gives another, or the same one again
SEND_FAILS_S = 2.0  # what the network refuses for so long is told
REJOIN_GAP_S = 0.05  # from leaving to joining: others on this machine must have left, too
REOPEN_AGAIN_S = 1.0  # sockets that could not be had are tried again
DEAF_AGAIN_S = 60.0  # while others should be heard and are not, the group is joined anew so often
OWN_BACK_S = 1.0  # what was sent to the group has come back to us by then ...
OWN_LOST_MAX = 3  # ... and if it did not so often, one after the other, something drops it

# -- the reliable room ---------------------------------------------------------------------------

HISTORY_MESSAGES_MAX = 4_096

# -- probes (doctor) -----------------------------------------------------------------------------

PROBES_SENT = 20  # of a burst: with one lost in ten, 18 still come
PROBE_SPACING_S = 0.003  # apart: 13 kB in 60 ms fit any buffer on the way
PROBE_UNICAST_TIMES = 5  # of a burst, to the other side alone
PROBE_ASK_TIMES = 3  # a further ask of the members, so that one that is lost is no deafness
PROBE_FOREIGN_MAX = 8  # source addresses of other datagrams that are told

assert PROBES_SENT % 2 == 0  # half of them are long

# -- the client ----------------------------------------------------------------------------------

LEAVE_S = 1.0  # a room that is left is closed after that, whether all goodbyes were sent or not
