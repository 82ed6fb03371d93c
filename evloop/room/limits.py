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

# -- the roads of a room: its group, the directory's relay, or both -------------------------------

# A member says something every 6 s (in rooms of more than 15, less often: "intervals" are of that).
OFF_ASK_S = 60.0  # by the group alone, the directory is asked so often whether it hears us
ALONE_ASK_S = 60.0  # with nobody to compare roads with, or no other road
REFUSED_ASK_S = 1.0  # after a refusal, then twice as long each time: a room that a new directory
# lacks is made again within a second or two
RELAYED_ASK_S = 15.0  # carried, so that we step off soon when multicast works again
PROBING_ASK_S = 3.0  # while it is found out
PROBING_QUICK_S = 36.0  # and for so long: after that nothing more comes of asking often
PROBING_S = 12.0  # nothing is decided before: two words of everybody
CROWD_SENDERS = 16  # but in a crowd: more would know each other only after much has been relayed
CROWD_ASK_S = 0.5  # and then the directory is asked so often at most whether it hears us
STEADY_S = 60.0  # all must be well for so long before we step off again
ROUNDED_S = 2.0  # what it told of when it heard us is in whole seconds, and was on its way
MISSES_MAX = 8  # in a row by the relay alone: of 30 % loss that happens once in 15,000
HEARD_S, HEARD_INTERVALS = 25.0, 4  # who heard us so lately hears us: 0.8 % of silence at 30 % loss
HEARD_LAPSE_S = 20.0  # longer than that not to be heard ends a steady minute: 0.02 % at 30 % loss
RECENT_S, RECENT_INTERVALS = 30.0, 5  # whom the relay brought so lately must be heard, too
BOUND_TOLD_S = 28.0  # who hangs on the relay is known to the directory after 25 s, and then told
LEG_TRUSTED_S = 30.0  # heard by itself so lately, a sender is heard by the directory's leg as well
QUIET_ASK_S = 7.5  # longer than any word of presence takes without loss: then, and as often as ...
QUIET_ASK_AGAIN_S = 4.0  # ... this at most, the directory is asked what it heard meanwhile
QUIET_S_MIN, QUIET_S_MAX = 20.0, 60.0  # nobody heard for so long is a reason to doubt
SENDERS_S, SENDERS_INTERVALS = 60.0, 10  # and so is who was not heard in that: 30 % loss to the 10
DOUBT_AGAIN_S_MIN, DOUBT_AGAIN_S_MAX = 60.0, 600.0  # between two doubts that are believed
ROAD_SENDERS_MAX = 1_024  # senders that are told apart; who was first heard first makes room
ROAD_PROBE_S = 5.0  # of a carried member's words so often one goes by the group: the probe
RELAY_HELD_MAX = 64  # datagrams that wait for the directory's answer: a paste and more
RELAY_BURST_MAX = 512  # datagrams of the relay in one tick, the rest is lost: 64 KiB of lines

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
