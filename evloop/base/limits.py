"""Every cap, with its unit in its name and its reason beside it. Imports nothing.

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
BURST_S = 0.003  # what comes so soon after a datagram belongs to a burst, and is drained
DATAGRAM_READ_BYTES = 2_048  # ours have 1,200 at most; the rest of a longer one is not read
ACCEPT_BATCH_MAX = 64  # a storm of connections shares the loop with those who are in
ACCEPT_PAUSE_S = 0.1  # out of descriptors: try again soon, but do not spin
SIGNALS_PER_WAKE_MAX = 64
SLEEP_S_MAX = 86_400.0  # of one select: epoll takes at most 2**31 - 1 ms
STALE_TIMERS_MIN = 64  # below, cancelled timers are not worth a sweep
RECEIVE_BUFFER_BYTES = 4 * 2**20  # asked for; holds over 6,000 small datagrams (the default: 256)
RESOLVE_S_MAX = 5.0  # a silent resolver would take 10 s and more
RESOLVE_ADDRESSES_MAX = 16  # of one name; connecting tries them one by one
RESOLVE_ANSWER_BYTES_MAX = 4_096  # PIPE_BUF: written whole, so the child never waits for us

assert SLEEP_S_MAX * 1000 < 2**31
assert RESOLVE_ADDRESSES_MAX * 80 < RESOLVE_ANSWER_BYTES_MAX

# -- streams (framed TCP) --------------------------------------------------------------------------

OUT_HIGH_WATER_BYTES = 256 * 1024  # above it nothing more is read from this peer
OUT_QUEUE_BYTES_MAX = 1024 * 1024  # above it (notifications alone get there) the peer is cut off
FRAMES_PER_TICK = 1_024  # of all streams together: about 5 ms, until timers and the rest come
FRAMES_PER_WAKE = 64  # of one stream, then the others' turn
FRAMES_FREE = 4  # of each stream in each tick, whatever the others do
LARGE_FRAME_BYTES = 1_024  # of a request; larger ones, batches above all, are never free
REQUEST_UNIT_BYTES = 32  # so much of a large request counts as one more frame
CHANGE_UNITS = 4  # so many frames more does a stored change count: 20 us, and its news
REPLY_UNIT_BYTES = 4_096  # so much of a reply counts as one more frame
FREE_REPLY_UNITS = 512  # of a tick: after 2 MiB of replies, 3 ms, nothing is free any more
ENDS_PER_TICK = 256  # of connections: about 3 ms
LEAVES_PER_END = 8  # so many rooms that it was in count as one end more: 2.8 us each
EXPIRED_PER_TICK_MAX = 64  # of one deadline; the rest in the next tick
SENDS_PER_TICK = 256  # about 5 ms: to send costs 20 us where the receiver is on the same machine
SENDS_LIGHT = 8  # so few are sent without adding up what they hold
SEND_UNIT_BYTES = 8_192  # so much to send counts as one send more (2 ms a MiB, copied and received)
SENDS_BEHIND_MIN = 64  # of them to those that were passed over, however many are new
UNFINISHED_FRAME_S = 10.0  # for the first frame, and for the rest of a started one
WRITE_PROGRESS_S = 10.0  # a peer that reads nothing for so long is gone
BAD_MESSAGES_MAX = 16  # payloads in a row that are no requests; one more ends the connection
LINGER_S = 1.0  # how long a closed peer may take to read its last reply
LINGER_BYTES_MAX = 1024 * 1024  # what it may still send meanwhile; dropped unread

# One reply may come on top of the high-water mark; the rest is room for notifications.
assert SENDS_BEHIND_MIN < SENDS_PER_TICK
assert ENDS_PER_TICK > 2 * ACCEPT_BATCH_MAX  # else a storm on two listeners would pile up
assert FRAMES_FREE <= FRAMES_PER_WAKE <= FRAMES_PER_TICK
assert OUT_HIGH_WATER_BYTES + FRAME_BYTES_MAX < OUT_QUEUE_BYTES_MAX

# -- messages, directory and store -------------------------------------------------------------

BATCH_MEMBERS_MAX = 64  # requests of one JSON-RPC batch
JSON_DEPTH_MAX = 8  # brackets open at once; a request needs three, a page of the directory four
ID_CHARS_MAX = 64  # of a request's id, when it is a string
ID_BYTES_MAX = 6 * ID_CHARS_MAX + 2  # as JSON: at worst each character becomes \u0000
ID_DIGITS = 15  # of a common id: any such number has less than 53 bits
TAILS_MAX = 128  # common requests remembered, for all clients together ...
TAIL_BYTES_MAX = 160  # ... with so many bytes behind the id; what was read takes 4 kB at worst
INTEGER_MAX = 2**53 - 1  # beyond, a reader that keeps numbers as doubles loses digits
REPLY_BYTES_MAX = 1_000  # any reply but getdir's, so that a batch of them fits a frame
ROOM_BYTES_MAX = 300  # a room as JSON; its name at worst has every byte escaped
PAGE_ROOMS_MAX = 500  # rooms of one getdir reply
PAGE_BYTES_MAX = PAYLOAD_BYTES_MAX - 640  # rooms of one page; the rest is id, version, next
PAGES_CACHED_MAX = 32  # whole replies kept until the next change: 2 MiB at most
BLOCK_ROOMS = 128  # rooms joined into one cached piece of a page; a block splits at twice that
AFTER_CHARS_MAX = 1_024  # of getdir's `after`, before it is folded: no room's fold is as long
ROOMS_MAX = 10_000  # default of --max-rooms; about 1 kB each
ROOMS_PER_ADDRESS_MAX = 2_000  # default of --rooms-per-address: one visitor can not fill it all
ROOMS_ENTERED_MAX = 64  # rooms that one connection is in at once; a person is in a few
PLACE_DRAWS_MAX = 64  # random draws for a free place among 10^9; nearly always one is enough
CHANGES_PER_S = 100  # default of --change-rate: makeroom and deleteroom from one address
CHANGE_BURST = 2_000  # a script that sets up a site; at least 20 seconds' worth of the rate
CHANGE_BURST_S = 20
RATED_ADDRESSES_MAX = 20_000  # addresses whose rate is remembered; twice the default of clients

assert 10**ID_DIGITS <= INTEGER_MAX
assert BATCH_MEMBERS_MAX * (REPLY_BYTES_MAX + 1) + 2 <= PAYLOAD_BYTES_MAX
assert ROOM_BYTES_MAX < PAGE_BYTES_MAX  # else a page could be empty and paging never end
assert ROOM_BYTES_MAX + ID_BYTES_MAX + 200 <= REPLY_BYTES_MAX

# -- the terminal --------------------------------------------------------------------------------

CSI_BYTES_MAX = 32  # parameters of one control sequence; real ones are below 20
SEQUENCE_SILENCE_S = 0.15  # a lone Esc, or a sequence cut off: no more is coming
PASTE_GUARD_S = 0.03  # bytes glued to the end of a paste belong to it
PASTE_SILENCE_S = 1.0  # a paste whose end was lost: from then on a lone Ctrl-] or Ctrl-C ends it
TAB_COLUMNS = 4  # a pasted tab becomes so many spaces
LINE_CHARACTERS_MAX = 8_192  # more than the longest message (8 parts of 900 bytes)
CLUSTER_CHARACTERS_MAX = 32  # code points of one cluster; piled-up accents beyond are cut apart
CELLS_CACHED_MAX = 4_096  # clusters beyond ASCII whose width is remembered
UNDO_STEPS_MAX = 64
HISTORY_LINES_MAX = 500  # typed lines kept, in memory and in the file
HISTORY_FILE_BYTES_MAX = 4_194_304  # a longer file is not ours: read no further
SEARCH_CHARACTERS_MAX = 128
CANDIDATES_SHOWN_MAX = 100  # completions listed
INTERRUPT_TWICE_S = 2.0  # two Ctrl-C on an empty line within this time leave
FLUSH_INTERVAL_S = 0.05  # messages are drawn at most 20 times a second
MESSAGES_WAITING_MAX = 500  # a terminal that is slower than the room shows the newest
RECEIPT_SLOW_S = 0.3  # a flush answered later than this halves the batch
RECEIPT_QUICK_S = 0.05  # and sooner than this doubles it
RECEIPT_LOST_S = 2.0  # the terminal does not answer at all: never ask again
RECEIPT_DRAIN_MS = 300  # how long the last answer is awaited before the shell gets the terminal
FLUSH_BYTES_MAX = 65_536  # of messages in one flush to a quick terminal: 1.3 MB a second
BATCH_BYTES_MIN = 128  # of messages in one flush to a slow terminal
BATCH_BYTES_START = 512  # half a second at 9600 baud
BATCH_BYTES_MAX = 16_384
BAUD_SLOW = 38_400  # below this the line itself says that it is slow
FOREGROUND_POLL_S = 0.25  # in the background: `fg` after `bg` sends no signal

assert PASTE_GUARD_S < SEQUENCE_SILENCE_S < PASTE_SILENCE_S
assert BATCH_BYTES_MIN <= BATCH_BYTES_START <= BATCH_BYTES_MAX <= FLUSH_BYTES_MAX
assert RECEIPT_QUICK_S < RECEIPT_SLOW_S < RECEIPT_LOST_S

# -- the client's standard streams -----------------------------------------------------------------

OUTLET_BYTES_MAX = 8 * 1024 * 1024  # waits for a slow reader of our output; then lines are counted
LINE_BYTES_MAX = 65_536  # of one line of stdin; a longer one is refused, not held
LINES_WAITING_MAX = 1_000  # lines read ahead while a command runs; then stdin is not read

# -- TLS -----------------------------------------------------------------------------------------

TLS_HANDSHAKE_S = 5.0  # a stranger without keys may hold a connection this long
TLS_HANDSHAKES_PER_TICK = 3  # 2 ms with an elliptic key, 18 with RSA of 4,096 bits; then the next
TLS_CONTROL_RECORDS_MAX = 256  # handshake, tickets and key updates of one connection's life
TLS_SLICE_BYTES = 8_192  # looked at before more is taken: 300 key updates, 6 ms
TLS_READ_BYTES_MAX = 65_536  # of one read from the record layer; a record holds 16,384

# -- who is let in (guard) -----------------------------------------------------------------------

CLIENTS_MAX = 10_000  # default of --max-clients; 0.4 kB each when idle
CLIENTS_PER_ADDRESS_MAX = 256  # default of --max-per-address: an office behind one router
CONNECTIONS_PER_S = 200.0  # new ones from one address; a reconnecting office, not a flood
CONNECTIONS_BURST = 1_000  # at once, after a pause: a restart of everything at that address
DESCRIPTORS_RESERVED = 32  # of RLIMIT_NOFILE: listeners, the store, epoll, refused clients
DESCRIPTORS_MIN = DESCRIPTORS_RESERVED + 8  # a server for fewer than 8 clients is a mistake
HELLO_CHARS_MAX = 64  # kept of what a client calls itself; shown on the console
KEEPALIVE_IDLE_S = 60  # a silent client is asked whether it is there (the default: 2 hours) ...
KEEPALIVE_INTERVAL_S = 15  # ... so often ...
KEEPALIVE_PROBES = 4  # ... so many times; then its connection, and its place, are given up
FULL_RETRY_S = 5.0  # what a client is told to wait when a place must become free first

assert CLIENTS_PER_ADDRESS_MAX <= CONNECTIONS_BURST  # one address may come back all at once
assert CLIENTS_MAX < RATED_ADDRESSES_MAX

# -- figures for watching (metrics) ----------------------------------------------------------------

METRICS_EVERY_S = 15.0  # Prometheus' usual scrape interval
METRIC_KINDS_MAX = 64  # values of one label; all are names of ours, this is for mistakes of ours

# -- the reliable room ---------------------------------------------------------------------------

DATAGRAM_BYTES_MAX = 1_200  # fits any link unfragmented, IPv6 and tunnels included
PART_BYTES_MAX = 900  # text in one DATA; with header, parents, name and tag below 1,200
PARTS_MAX = 8  # parts of one message
MESSAGE_BYTES_MAX = PARTS_MAX * PART_BYTES_MAX
PARENTS_MAX = 3
COPIES_MAX = 15  # four bits announce them
COPY_SPACING_S = 0.008  # apart, so that a short burst of loss does not take them all
COPY_TIMER_S = 0.007  # of our own next copy: others reckon with 8 ms, and none may come later
NACK_RANGES_MAX = 55  # fits a datagram
NACK_MESSAGES_MAX = 1_024  # of one NACK are considered: a forged one costs no more
SESSION_ENTRIES = 16  # senders listed in an ordinary SESSION
SESSION_ENTRIES_MAX = 50  # in answer to a newcomer

WINDOW_MESSAGES = 1_024  # held ahead of a gap, for each sender
SENDERS_MAX = 1_024  # sender records of a room
SENDER_KEPT_S = 600.0  # heard so recently, a record never makes room for a new one
NEW_SENDERS_PER_S = 64
GAPS_MAX = 2_048  # missing messages remembered for a room
HEARSAY_GAPS_MAX = 512  # of these, how many only strangers speak of
HEARSAY_SENDER_GAPS_MAX = 64  # of one sender
HEARSAY_UNHEARD_GAPS_MAX = 16  # of a sender from whom no DATA was accepted
CLAIMS_MAX = 1_024  # senders without a record of whom somebody spoke
SKIPPED_MAX = 1_024  # messages of one sender stepped over that may still be shown late
HEADS_MAX = 64  # messages that nobody has named as a parent yet
PARENT_WAIT_S = 1.0  # a message waits so long for its parents
LAMPORT_JUMP_MAX = 1 << 20  # a larger one is an error or an attack: not followed

HISTORY_MESSAGES_MAX = 4_096
HISTORY_BYTES_MAX = 4 * 2**20
HISTORY_S = 86_400.0
HISTORY_ASKED_MAX = 200  # a late joiner asks for so many of each sender
NEWCOMER_S = 5.0  # what is learned of so soon after joining was there before me

DELAY_S_MIN = 0.005  # clamps of the one-way delay: timers in proportion to it
DELAY_S_MAX = 0.25
ROUND_TRIP_S_MAX = 1.0  # a longer one was a pause of somebody, a leap of a clock, or forged
ECHOES_AWAITED_MAX = 16  # my last SESSIONs whose echoes are believed
DELAY_S_START = 0.01  # until the first echo
TRICKLE_S_MIN = 0.1
TRICKLE_S_MAX = 8.0
EXPLAIN_S = 0.3  # a digest that differs so long without a reason is worth a long list
PRESENCE_S_MIN = 6.0
MEMBERS_MAX = 16_384  # present members
DEPARTED_MAX = 64  # members that said BYE, remembered so that stragglers do not revive them
LABELS_KEPT_MAX = 1_024  # names as shown, found before; a name in a datagram has 255 bytes
DEPARTED_S = 1.0  # for so long; after that a word is a word
ECHOES_MAX = 32  # datagrams of mine that may come back to me: copies of a line, and SESSIONs
GREETED_MEMBERS_MAX = 20  # in rooms up to this size a new member is answered by everybody
MEMBERS_TRUSTED = 16  # times those that I count: what others count is believed no further
MEMBER_VOTES_MAX = 15  # `members` fields whose median estimates the size of the room
CONTROL_GAP_MAX = 32  # a larger jump of a control counter is an outage, not loss
STUCK_ASKS = 6  # a gap asked for so often no longer holds anything up
GONE_ASKS = 8  # and so often, over GONE_S at least, is reported and stepped over
GONE_S = 30.0
NACK_BACKOFF_S_MAX = 8.0
NACK_RETRY_S_MAX = 1.0  # of the back-off until a gap is stuck
NACK_HELD_S_MAX = 2.0  # others' NACKs push mine back no further than this from first sight
EVIDENCE_EVERY_S = 1.0  # evidence makes one gap due so often at most
VOLUNTEERS = 8  # holders that answer one NACK, on average, before suppression
ASKS_REMEMBERED_MAX = 4_096  # messages somebody asked for: counts, hold-downs, answers due
ASK_REMEMBERED_S = 10.0  # an ask after such a silence is a first ask again
BULK_GAPS_MIN = 16  # due gaps that make a NACK name one holder
BULK_ASKED_MAX = 128  # messages one such NACK asks for: what one holder may send in a burst
BULK_PER_S = 400
BULK_BURST = 128  # half of what a default receive buffer holds
BULK_PER_MINUTE = 1_000  # for one asker
BULK_ASKERS_MAX = 64  # remembered
HOLDERS_MAX = 16  # peers remembered that said they hold messages I lack
LOSS_SAMPLES_MAX = 512  # then both counts are halved: about twenty seconds of a busy room
LOSS_SAMPLES_MIN = 48  # below, the loss is unknown: in a large room the worst guess rules
LOSS_UNKNOWN = 255  # percent, on the wire: too few samples to tell
LOSS_ASSUMED = 30  # percent, while nobody has told any
LOSS_PRIOR_SAMPLES = 48  # what the others tell weighs as much as so many samples of mine
LOSS_PENDING_MAX = 256  # messages whose announced copies are awaited
MISS_MAX = 1 / 200  # aim of the unasked copies: the share of receivers that miss all of them
MISS_MEMBERS = 0.4  # or so many members, whichever is less
MISS_SMALL_MAX = 1 / 400  # in a small room, where what waits behind a miss is else over 1 % of all
SMALL_ROOM_MEMBERS = 20
DATA_PER_S, DATA_BURST = 5, 10
REPAIR_PER_S, REPAIR_BURST = 20, 20
ROOM_REPAIR_PER_S = 100  # repairs of all members together
NACK_PER_S, NACK_BURST = 5, 20
SESSION_PER_S, SESSION_BURST = 20, 20
BYTES_PER_S = 64_000  # everything one member sends into a room
BYTES_BURST = BYTES_PER_S - DATAGRAM_BYTES_MAX  # the rest is for goodbyes, which wait for nothing
OUTBOX_MAX = 1_024  # own messages that wait for the rate
BYE_TIMES, BYE_SPACING_S = 3, 0.05
CONFIRM_S_MIN = 0.1  # a confirmation waits at random up to this or
CONFIRM_MEMBER_S = 0.002  # this for each member
CONFIRM_ASKERS_MAX = 8  # answered by one SESSION
CONFIRM_BACKOFF_S_MAX = 8.0
CONFLICT_EVERY_S = 60.0  # a quarrel over one number is reported so often, for each sender

assert 24 + 5 + 12 * PARENTS_MAX + 1 + NICKNAME_BYTES_MAX + 1 + PART_BYTES_MAX + 16 <= (
    DATAGRAM_BYTES_MAX
)
assert 24 + 9 + 16 * NACK_RANGES_MAX + 16 <= DATAGRAM_BYTES_MAX
assert 24 + 33 + NICKNAME_BYTES_MAX + 1 + 16 * SESSION_ENTRIES_MAX + 16 <= DATAGRAM_BYTES_MAX
assert HEARSAY_UNHEARD_GAPS_MAX < HEARSAY_SENDER_GAPS_MAX < HEARSAY_GAPS_MAX < GAPS_MAX
assert WINDOW_MESSAGES <= GAPS_MAX  # one sender's window always fits when nobody else is missing
assert HISTORY_ASKED_MAX <= WINDOW_MESSAGES  # else a newcomer's window could not hold its history
assert HISTORY_MESSAGES_MAX * DATAGRAM_BYTES_MAX > HISTORY_BYTES_MAX  # so bytes need their own cap
assert STUCK_ASKS < GONE_ASKS
assert BULK_GAPS_MIN <= BULK_ASKED_MAX <= NACK_MESSAGES_MAX
assert COPIES_MAX * COPY_SPACING_S < 2 * TRICKLE_S_MIN

# -- what a client remembers (keepsakes), owner tokens -------------------------------------------

KEEPSAKE_LINES_MAX = 5_000  # newest kept when the file is written anew; ~150 B a line
KEEPSAKE_BYTES_MAX = 4 * 2**20  # a larger file was not written by us
KEEPSAKE_KEY_CHARS_MAX = 400  # a host name (253), a port, a room name
TOKEN_BYTES = 16  # of an owner token: 128 bits can not be guessed
TOKEN_CHARS_MAX = 128  # that a client keeps; a server of another version may make longer ones

assert KEEPSAKE_LINES_MAX * (KEEPSAKE_KEY_CHARS_MAX + 80) < KEEPSAKE_BYTES_MAX

# -- the server ------------------------------------------------------------------------------------

COMMIT_WAIT_TICKS = 3  # without sleep, that a commit waits for more changes to share its sync
LISTEN_BACKLOG = 4096  # a short queue costs a storm of clients SYN retries of a second
TURNED_AWAY_MAX = 16  # told why, at one time; more are only closed
DRAIN_S = 2.0  # for goodbyes, after SIGTERM

assert TURNED_AWAY_MAX < DESCRIPTORS_RESERVED

# -- the client ------------------------------------------------------------------------------------

CONNECT_S_MAX = 5.0  # for each address, and for the directory's first word
RECONNECT_S_MIN = 0.5  # the first back-off; doubled each time
RECONNECT_S_MAX = 30.0
LEAVE_S = 1.0  # a room that says goodbye is closed after that, done or not
CONFIRM_S = 5.0  # after the last datagram: how long the end of a pipe waits for confirmation
PROGRESS_ROOMS = 2_000  # rooms of a listing after which its progress is shown
NEWS_FOLD_S = 2.0  # joins and parts within it become one line
ALONE_S = 30.0  # of silence in a room where others should be, then a hint
BELL_S = 5.0  # at most one bell in it
CONFIRM_SETTLE_S = 0.5  # who is present, but not yet heard, makes himself known within it
OPENING_S = 0.4  # after entering: the first line names who was heard by then
PIPE_QUEUE_MAX = 32  # messages that wait to be sent; then the pipe waits too
SENTENCE_CHARS_MAX = 500  # shown of what a directory says; its own sentences have at most 250
LISTED_ROOMS_MAX = 1_000_000  # of one directory; a longer list is told without end
FOLD_PER_S = 5.0  # lines of one sender on a live screen; what is more becomes one line
FOLD_BURST = 20.0
FOLD_SENDERS_MAX = 1_024  # for whom lines are counted, and names are completed
SHOWN_LINES_DEFAULT = 20  # of /history and of `tail`

# -- rooms that nobody needs (expiry) --------------------------------------------------------------

EXPIRE_DAYS_MAX = 36_500.0  # of --expire; a century is never
EXPIRY_SWEEP_S = 3_600.0  # how often it is looked who was where; a crash forgets so much
EXPIRY_SWEEPS_MIN = 20  # looks in the span of --expire, where that is short
EXPIRY_PIECE_ROOMS = 1_000  # looked at in one tick: 0.5 ms, and 2.5 us for each that is stored
EXPIRED_PER_SWEEP_MAX = 100  # rooms removed at once; the rest a moment later
EXPIRY_PAUSE_S = 1.0
STATUS_EVERY_S = 10.0  # the service manager is told the figures at most so often
TTL_MAX = 255  # one byte in the header of IP
CATCH_UP_S = 1.5  # after entering: what of the history has come by then is what `tail -n` shows
