"""Caps of the directory server; each with its unit in its name and its reason.

Asserts say how caps relate.
"""

from evloop.base.limits import INTEGER_MAX, RATED_ADDRESSES_MAX
from evloop.net.limits import HELD_AFTER_BYTES, OUT_HIGH_WATER_BYTES

# -- life as a service ---------------------------------------------------------------------------

LISTEN_SOCKETS_MAX = 64  # taken over from the service manager, or by --listen; each is watched

# -- streams (framed TCP) ------------------------------------------------------------------------

CHANGE_UNITS = 4  # so many frames more does a stored change count: 20 us, and its news
LEAVES_PER_END = 8  # so many rooms that it was in count as one end more: 2.8 us each
BAD_MESSAGES_MAX = 16  # payloads in a row that are no requests; one more ends the connection

# -- messages, directory and store ---------------------------------------------------------------

CHANGES_PER_S = 100  # default of --change-rate: makeroom and deleteroom from one address

# -- who is let in (guard) -----------------------------------------------------------------------

CLIENTS_MAX = 10_000  # default of --max-clients; 0.4 kB each when idle
CLIENTS_PER_ADDRESS_MAX = 256  # default of --max-per-address: an office behind one router
NETWORK_FACTOR = 16  # so many times that, and of other limits per address, for a /64 of ours
CONNECTIONS_PER_S = 200.0  # new ones from one address; a reconnecting office, not a flood
CONNECTIONS_BURST = 1_000  # at once, after a pause: a restart of everything at that address
DESCRIPTORS_RESERVED = 32  # of RLIMIT_NOFILE: listeners, the store, epoll, refused clients
DESCRIPTORS_MIN = DESCRIPTORS_RESERVED + 8  # a server for fewer than 8 clients is a mistake
HELLO_CHARS_MAX = 64  # kept of what a client calls itself; shown on the console
FULL_RETRY_S = 5.0  # what a client is told to wait when a place must become free first

assert CLIENTS_PER_ADDRESS_MAX <= CONNECTIONS_BURST  # one address may come back all at once
assert CLIENTS_MAX < RATED_ADDRESSES_MAX

# -- figures for watching (metrics) --------------------------------------------------------------

METRICS_EVERY_S = 15.0  # Prometheus' usual scrape interval
METRIC_KINDS_MAX = 64  # values of one label; all are names of ours, this is for mistakes of ours

# -- probes for `doctor` -------------------------------------------------------------------------

PROBES_MAX = 4  # at once: at worst 80 datagrams and 53 kB/s on the link
PROBE_S = 2.0  # then the sockets of a probe are closed, whether its report was fetched or not
PROBE_REPORTS_MAX = 64  # reports kept for who comes late
PROBES_PER_S = 0.2  # probes of one address, and
PROBES_BURST = 4  # at once

# -- the relay -----------------------------------------------------------------------------------

RELAY_MEMBERS_MAX = 500  # default of --relay-members: 4 ms for a lone datagram to all of them
RELAY_UP_BYTES_PER_S = 80_000.0  # of one member in one room: what a session sends (64 kB/s) and ...
RELAY_UP_BURST_BYTES = 128_000.0  # ... what TCP held back for a second
RELAY_OUT_BYTES_PER_S = 16_000_000.0  # of the whole server, all that goes out: the amplification
RELAY_OUT_BURST_BYTES = 16_000_000.0
RELAY_QUEUE_BYTES = 65_536  # that wait for one connection: the burst of a bulk answer fits
RELAY_STALE_S = 2.0  # who has not taken everything for so long gets nothing new: it would be late
RELAY_UNSENT_BYTES = 16_384  # in the kernel of a connection with a grant; else it takes 3 to 4 MB
RELAY_ASKERS_MAX = 64  # of one room, from the group, whose bulk answers are let through ...
RELAY_ASKER_S = 10.0  # ... for so long: one NACK and its answer
RELAY_LEGS_MAX = 256  # rooms whose group the directory is in, two descriptors each
RELAY_LEGS_PER_ADDRESS_MAX = 32  # of them because of one address, so that nobody takes all
RELAY_LEG_SHARE = 16  # all legs together have that part of the descriptors at most
RELAY_LEG_AGAIN_S = 30.0  # after one could not be had
EARLY_S = 2.0  # who enters speaks in the group first: then it was heard already
EARLY_SENDERS_MAX = 256  # of a room, that nobody bears yet: as many as enter within a second
BOUND_AFTER_S = 25.0  # not heard by the group for so long: a member hangs on the relay
BOUND_KEPT_S = 1.0  # for who asks again: to find them takes 1 us a member

assert RELAY_MEMBERS_MAX * RELAY_QUEUE_BYTES < HELD_AFTER_BYTES  # readers may all be slow at once
assert RELAY_QUEUE_BYTES < OUT_HIGH_WATER_BYTES  # relayed bytes alone never stop the reading

# -- the server ----------------------------------------------------------------------------------

COMMIT_WAIT_TICKS = 3  # without sleep, that a commit waits for more changes to share its sync
TURNED_AWAY_MAX = 16  # told why, at one time; more are only closed
RELOAD_PAUSE_S = 1.0  # between two readings of the TLS files, 6 ms each, however often SIGHUP comes
HANG_UP_S = 5.0  # after its terminal has gone, SIGHUP ends a server; later it is a wish to reload
DRAIN_S = 2.0  # for goodbyes, after SIGTERM

assert TURNED_AWAY_MAX < DESCRIPTORS_RESERVED

# -- rooms that nobody needs (expiry) ------------------------------------------------------------

EXPIRE_DAYS_MAX = 36_500.0  # of --expire; a century is never
EXPIRY_SWEEP_S = 3_600.0  # how often it is looked who was where; a crash forgets so much
EXPIRY_SWEEPS_MIN = 20  # looks in the span of --expire, where that is short
EXPIRY_PIECE_ROOMS = 1_000  # looked at in one tick: 0.5 ms, and 2.5 us for each that is stored
EXPIRED_PER_SWEEP_MAX = 100  # rooms removed at once; the rest a moment later
EXPIRY_PAUSE_S = 1.0
STATUS_EVERY_S = 10.0  # the service manager is told the figures at most so often

CERT_ADDRESSES_MAX = 64  # in a certificate of --make-cert; a host of containers has hundreds

# -- the state file ------------------------------------------------------------------------------

CHECKPOINT_S = 3.0  # after a change: from then on a copy of the file alone holds it
LOG_BYTES_MAX = 4 * 2**20  # of the log, about 1,000 pages; sqlite's own figure for its checkpoints
VERSION_MAX = 2**52  # of a state file; what is above is damage, and would soon be no JSON integer
BACKUP_WAIT_S = 5.0  # for a server of 0.1.0 that holds the file, or a change of this one
MAKER_CHARS_MAX = 64  # an IPv6 address has 45

assert VERSION_MAX < INTEGER_MAX // 1.5

# -- the keeper, and the file of what was said -----------------------------------------------------

KEEP_DAYS = 30.0  # default of --keep-days
KEEP_DAYS_MAX = 36_500.0  # a century is for ever
HISTORY_ROOM_ROWS_MAX = 20_000  # messages of a room: months of talk
HISTORY_ROOM_BYTES_MAX = 8 * 2**20  # of a room
KEPT_BYTES_MAX = 2**30  # of all, on the disk
HISTORY_ROW_BYTES = 72  # on the disk, besides the datagram: 222 bytes for one of 150
HISTORY_ROWS_PER_TICK = 100  # removed at once: 0.4 ms
HISTORY_PAGES_PER_TICK = 250  # of 4 KiB, given back to the system at once
HISTORY_MARK_S = 3_600.0  # between two marks of the age of messages
HISTORY_PAGE_BYTES = 192 * 1024  # of datagrams in one answer; more comes with the next request
KEEPER_ROOMS_MAX = 100  # at once: 60 MB
KEEPER_MESSAGES = 400  # of a room in memory: 584 kB, restored in 5 ms
KEEPER_SENDERS = 32  # restored: with 100 that said little a newcomer waits 18 s, with 32 1.5 s
KEEPER_STAYS_S = 60.0  # in a room that everybody has left: most come back at once, if at all
KEEPER_BACK_S = 60.0  # after a failure of the file it is tried again
KEEPER_DEAD_MAX = 1_000  # deletions remembered while the file cannot be used
KEEPER_COMMIT_MESSAGES = 64  # that wait for their commit
KEEPER_COMMIT_S = 0.2  # and how long

assert KEPT_BYTES_MAX > 100 * HISTORY_ROOM_BYTES_MAX

# -- several servers on etcd (replica) -----------------------------------------------------------

CHANGES_IN_FLIGHT = 8  # at etcd, of one server: 390 a second were measured with it
CHANGE_S = 10.0  # for a change, with all that it takes to find out about it
CHANGE_TRIES_MAX = 8  # transactions of one change: places that others took, rooms made anew
ENGINE_REQUEST_S = 1.5  # for an answer; an election takes 1 to 2 s
ENGINE_AWAY_S = 5.0  # without etcd, changes are refused at once
ENGINE_BACKOFF_S_MIN, ENGINE_BACKOFF_S_MAX = 0.05, 2.0  # between two tries of an endpoint
ENGINE_PROBE_S = 2.0  # how often etcd is asked for the version, in case a watch hangs
ENGINE_PAGE_ROOMS = 500  # read at once: 3 ms, and 0.2 MB
ENGINE_PIECE_ROOMS = 100  # of them that one tick takes in: 1.5 ms
WORD_CHARS_MAX = 32  # of --directory and --site
ENGINE_ENDPOINTS_MAX = 16  # of --cluster: etcd itself has 3 or 5
LEASE_S = 15.0  # a server that is gone for so long is gone
KEEP_ALIVE_S = 5.0
STALE_S = 10.0  # without a word of etcd, clients are told how long it has been
BROKEN_EVERY_S = 60.0  # an operator is told again of what only he can mend
COUNTS_EVERY_S = 1.0  # the counts of members are written; 100 keys at most ...
COUNTS_PER_WRITE = 100  # ... in one transaction, of which etcd takes 128 steps
SERVERS_FOLLOWED_MAX = 64  # of one directory
MEMBERS_PER_TICK = 500  # rooms whose count has changed elsewhere: 3 ms
HELLO_VERSION_S = 2.0  # a client that knows a newer list waits so long for this server's
WAITING_EVERY_S = 60.0  # a server that waits for etcd at its start says so again
WAITING_FIRST_S = 2.0  # and first, so long after its start
REVOKE_S = 0.5  # for etcd to hear that this server ends
PASSWORD_BYTES_MAX = 1_024  # of --cluster-password-file
CACHE_EVERY_S = 1.0  # the copy of the directory in a file is brought up to date
CACHE_ROOMS_PER_TICK = 500  # of them written at once: 2 ms
CACHE_SERVED_S = 10.0  # without etcd at the start, the copy of the last time is served
IMPORT_ROOMS_PER_WRITE = 60  # two keys each

assert KEEP_ALIVE_S + 2 * ENGINE_REQUEST_S < LEASE_S
assert ENGINE_REQUEST_S < ENGINE_AWAY_S < CHANGE_S
assert COUNTS_PER_WRITE <= 128 and 2 * IMPORT_ROOMS_PER_WRITE + 4 <= 128

# -- the bridge between sites ----------------------------------------------------------------------

BRIDGE_ROOMS_MAX = 512  # carried at once: two sockets each
BRIDGE_ROOM_PER_S = 400.0  # datagrams of one room, each way
BRIDGE_PER_S = 4_000.0  # of all rooms, each way: 0.2 of a core
BRIDGE_BURST_S = 2.0  # of that rate may pass at once: a join, a repair in bulk
BRIDGE_HEARD_MAX = 4_096  # sources of a room that were heard in its group; all forgotten when full
BRIDGE_LINGER_S = 10.0  # a room is carried on after the last member of one side has left
BRIDGE_LOOK_S = 0.1  # between two looks at who is where: news come in bursts
BRIDGE_WORDS_EVERY_S = 60.0  # the operator is told why nothing is carried
