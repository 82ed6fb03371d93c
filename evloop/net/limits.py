"""Caps of sockets (streams, TLS, look-ups, datagrams); each with its unit and its reason.

Asserts say how caps relate.
"""

from evloop.base.limits import FRAME_BYTES_MAX

# -- the loop and its sources --------------------------------------------------------------------

DATAGRAMS_PER_WAKE_MAX = 64  # measured: draining up to 64 takes 1.5 to 1.7 times more under flood
BURST_S = 0.003  # what comes so soon after a datagram belongs to a burst, and is drained
DATAGRAM_READ_BYTES = 2_048  # ours have 1,200 at most; the rest of a longer one is not read
ACCEPT_BATCH_MAX = 64  # then the connections that exist are served
ACCEPT_PAUSE_S = 0.1  # before the next try when there are no descriptors, so as not to spin
RECEIVE_BUFFER_BYTES = 4 * 2**20  # asked for; holds over 6,000 small datagrams (the default: 256)
BRIDGE_PORT_FIRST = 24_444  # of bridges alone, to the last: below most systems' ephemeral ports
BRIDGE_PORT_LAST = 24_955
SENDER_PORT_TRIES = 64  # for a port that is none of those, where a system hands them out
RESOLVE_S_MAX = 5.0  # a silent resolver would take 10 s and more
RESOLVE_ADDRESSES_MAX = 16  # of one name; connecting tries them one by one
RESOLVE_ANSWER_BYTES_MAX = 4_096  # PIPE_BUF: written whole, so the child never waits for us

assert RESOLVE_ADDRESSES_MAX * 80 < RESOLVE_ANSWER_BYTES_MAX

LINKS_ANNOUNCED_MAX = 8  # interfaces that a directory is announced and searched on
NETLINK_READ_BYTES = 65_536  # one message of a dump has 32 KiB at most
NETLINK_DUMPS_MAX = 3  # of one look, when the kernel says that it changed meanwhile
CHANGE_SETTLES_S = 0.2  # after the last word of a change of the network it is looked at ...
CHANGE_SETTLES_S_MAX = 1.0  # ... and so long after the first at the latest
INTERFACES_POLL_S = 2.0  # where nothing tells of changes

# -- streams (framed TCP) ------------------------------------------------------------------------

OUT_HIGH_WATER_BYTES = 256 * 1024  # above it nothing more is read from this peer
OUT_QUEUE_BYTES_MAX = 1024 * 1024  # above it (notifications alone get there) the peer is cut off
HELD_BYTES_MAX = 64 * 2**20  # of all connections together: half frames, and what is not read
HELD_FREE_BYTES = 4_096  # so much of one connection does not count: 10,000 of them are 40 MB
HELD_AFTER_BYTES = 48 * 2**20  # when it is too much: those that hold most go, down to this
FRAMES_PER_TICK = 1_024  # of all streams together: about 5 ms, until timers and the rest come
FRAMES_PER_WAKE = 64  # of one stream, before the others have their turn
FRAMES_FREE = 4  # of each stream in each tick, however many the others send
REQUEST_UNIT_BYTES = 32  # so much of a large request counts as one more frame
REPLY_UNIT_BYTES = 4_096  # so much of a reply counts as one more frame
FREE_REPLY_UNITS = 512  # of a tick: after 2 MiB of replies (3 ms) all frames count
ENDS_PER_TICK = 256  # of connections: about 3 ms
SENDS_PER_TICK = 256  # about 5 ms: to send costs 20 us where the receiver is on the same machine
SENDS_LIGHT = 8  # so few streams are sent to without adding up their bytes
SEND_UNIT_BYTES = 8_192  # so much to send counts as one send more (2 ms a MiB, copied and received)
SENDS_BEHIND_MIN = 64  # of these to streams of earlier ticks, however many new ones there are
UNFINISHED_FRAME_S = 10.0  # for the first frame, and for the rest of a started one
WRITE_PROGRESS_S = 10.0  # a peer that reads nothing for so long is gone
LINGER_S = 1.0  # how long a closed peer may take to read its last reply
LINGER_BYTES_MAX = 1024 * 1024  # what it may still send meanwhile; dropped unread

# One reply may come on top of the high-water mark; the rest is room for notifications.
assert SENDS_BEHIND_MIN < SENDS_PER_TICK
assert OUT_QUEUE_BYTES_MAX < HELD_AFTER_BYTES < HELD_BYTES_MAX
assert ENDS_PER_TICK > 2 * ACCEPT_BATCH_MAX  # else a storm on two listeners would pile up
assert FRAMES_FREE <= FRAMES_PER_WAKE <= FRAMES_PER_TICK
assert OUT_HIGH_WATER_BYTES + FRAME_BYTES_MAX < OUT_QUEUE_BYTES_MAX

# -- connections to other people's servers (etcd, NATS) ------------------------------------------

CHANNEL_OPEN_S = 5.0  # until one address has answered, TLS included
CHANNEL_UNSENT_BYTES_MAX = (
    256 * 1024
)  # beyond it nothing more is taken; the owner says what follows
CHANNEL_READ_BYTES = 65_536  # of one wake-up
NATS_LINE_BYTES_MAX = 64 * 1024  # an INFO names the servers of its cluster: a few kB
NATS_PAYLOAD_BYTES_MAX = 64 * 1024  # ours have 1,200; what others publish is dropped, not fatal
NATS_PING_S = 5.0  # of silence, and it is asked whether it is there ...
NATS_SILENCE_S = 10.0  # ... and so much, and it is not
NATS_RETRY_S_MIN = 0.5
NATS_RETRY_S_MAX = 8.0

# -- TLS -----------------------------------------------------------------------------------------

TLS_HANDSHAKE_S = 5.0  # a stranger without keys may hold a connection this long
TLS_HANDSHAKES_PER_TICK = 3  # 2 ms with an elliptic key, 18 with RSA of 4,096 bits; then the next
TLS_CONTROL_RECORDS_MAX = 256  # handshake, tickets and key updates of one connection's life
TLS_SLICE_BYTES = 8_192  # looked at before more is taken: 300 key updates, 6 ms
TLS_READ_BYTES_MAX = 65_536  # of one read from the record layer; a record holds 16,384

# -- who is let in (guard) -----------------------------------------------------------------------

KEEPALIVE_IDLE_S = 60  # silence after which TCP asks whether a client is there (default: 2 hours)
KEEPALIVE_INTERVAL_S = 15  # between two such probes
KEEPALIVE_PROBES = 4  # unanswered probes after which the connection is closed
# What was sent and is not acknowledged for so long ends a connection too: while there is such,
# the kernel asks no keepalive, and would try for 15 minutes.
USER_TIMEOUT_MS = (KEEPALIVE_IDLE_S + KEEPALIVE_INTERVAL_S * KEEPALIVE_PROBES) * 1000

# -- the server ----------------------------------------------------------------------------------

LISTEN_BACKLOG = 4096  # with a shorter one, many clients at once wait a second for SYN retries

# -- multicast DNS -------------------------------------------------------------------------------

MDNS_DATAGRAM_BYTES_MAX = 9_000  # RFC 6762, 17; what is longer is not read
MDNS_RECORDS_MAX = 64  # and questions, of one datagram; ours have 4 to 11
MDNS_POINTERS_MAX = 16  # of one name; each leads further to the front
MDNS_NAME_BYTES_MAX = 255  # RFC 1035; no lower cap on labels: a reverse IPv6 name has 34
MDNS_LABELS_MAX = 512  # of one datagram: 64 names of 127 labels would take 3 ms
MDNS_ATTRIBUTES_MAX = 64  # of a TXT record; ours has 6
MDNS_FILTER_OFFSETS = 400  # bytes behind the headers where the kernel looks for a name of ours
MDNS_FILTER_OFFSETS_FEW = 100  # where it has room for so much only: 120 fit, 150 do not

assert MDNS_DATAGRAM_BYTES_MAX < 2**14  # so far does a pointer reach
assert MDNS_NAME_BYTES_MAX // 2 < MDNS_LABELS_MAX

# -- HTTP, as a client (http1) -------------------------------------------------------------------

HTTP_HEAD_BYTES_MAX = 16 * 1024  # of an answer; etcd's has 400
HTTP_BODY_BYTES_MAX = 4 * 2**20  # of an answer; a page of 500 rooms is 0.3 MB
HTTP_LINE_BYTES_MAX = 4 * 2**20  # of an answer in lines: many changes of a watch come as one
HTTP_SIZE_LINE_BYTES_MAX = 256  # the size of a chunk, and what a proxy may write behind it
HTTP_IDLE_MAX = 8  # connections kept for the next requests
