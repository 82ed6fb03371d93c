"""Caps of the directory's protocol and rules, and of its client; each with its reason.

Asserts say how caps relate.
"""

from evloop.base.limits import INTEGER_MAX, PAYLOAD_BYTES_MAX

# -- messages, directory and store ---------------------------------------------------------------

BATCH_MEMBERS_MAX = 64  # requests of one JSON-RPC batch
ID_CHARS_MAX = 64  # of a request's id, when it is a string
ID_BYTES_MAX = 6 * ID_CHARS_MAX + 2  # as JSON: at worst each character becomes \u0000
ID_DIGITS = 15  # of a common id: any such number has less than 53 bits
TAILS_MAX = 128  # common requests remembered, for all clients together ...
TAIL_BYTES_MAX = 160  # ... with so many bytes after the id; the values read take 4 kB at worst
REPLY_BYTES_MAX = 1_000  # any reply but getdir's, so that a batch of them fits a frame
ROOM_BYTES_MAX = 300  # a room as JSON; its name at worst has every byte escaped
PAGE_ROOMS_MAX = 500  # rooms of one getdir reply
PAGE_BYTES_MAX = PAYLOAD_BYTES_MAX - 640  # rooms of one page; the rest is id, version, next
PAGES_CACHED_MAX = 32  # whole replies kept until the next change: 2 MiB at most
BLOCK_ROOMS = 128  # rooms joined into one cached piece of a page; a block splits at twice that
AFTER_BYTES_MAX = 256  # of getdir's `after`, before it is folded: no room's name has as many
NAME_AS_SENT_FACTOR = 3  # before it is normalised a name may be longer by this factor (NFD)
ROOMS_MAX = 10_000  # default of --max-rooms; about 1 kB each
ROOMS_PER_ADDRESS_MAX = 2_000  # default of --rooms-per-address: one visitor cannot fill it all
NETWORK_ROOMS_FACTOR = 4  # all addresses of a /64 of ours together: so many times that
ROOMS_ENTERED_MAX = 64  # rooms that one connection is in at once; a person is in a few
DIRECTORY_ID_DIGITS = 16  # hex digits of a directory's identity: 64 random bits are unique
PLACES_OF_A_NAME = 64  # that a room without an address tries: part of the protocol, not ours alone
PLACE_DRAWS_MAX = 64  # random draws after these, among 3 * 10^8; nearly always one is enough

HISTORY_ROWS = 200  # messages that `history` tells where no limit is given: 0.4 ms
HISTORY_ROWS_MAX = 500  # of one request
RELAY_DATAGRAM_BYTES_MAX = 2_048  # carried by a frame: so much is read of one, too (net/limits)
RELAY_UNSENT_BYTES_MAX = 65_536  # that wait in a client: more would be old when it came
BOUND_TOLD_MAX = 64  # members that hang on the relay, told to one who enters: 1.2 kB

assert 10**ID_DIGITS <= INTEGER_MAX
assert BATCH_MEMBERS_MAX * (REPLY_BYTES_MAX + 1) + 2 <= PAYLOAD_BYTES_MAX
assert ROOM_BYTES_MAX < PAGE_BYTES_MAX  # else a page could be empty and paging never end
assert ROOM_BYTES_MAX + ID_BYTES_MAX + 200 <= REPLY_BYTES_MAX

# -- what a client remembers (key_file), owner tokens --------------------------------------------

KEEPSAKE_LINES_MAX = 5_000  # newest kept when the file is written anew; ~150 B a line
KEEPSAKE_BYTES_MAX = 4 * 2**20  # a larger file was not written by us
KEEPSAKE_KEY_CHARS_MAX = 700  # a host name (253), a port, the fold of a room name (378)
TOKENS_TRIED_MAX = 8  # for one room: a directory goes by a few names, and a room is made anew
TOKEN_BYTES = 16  # of an owner token: 128 bits cannot be guessed

assert KEEPSAKE_LINES_MAX * (KEEPSAKE_KEY_CHARS_MAX + 80) < KEEPSAKE_BYTES_MAX

# -- the client ----------------------------------------------------------------------------------

CONNECT_S_MAX = 5.0  # for each address, and for the directory's first word
ADDRESS_AWAY_S = 1.5  # our address of a connection may come back; then the connection works again
PING_S_MAX = 3.0  # for an answer after the network has changed; then it is connected anew
REQUEST_S_MAX = 10.0  # for an answer; then the connection is as good as gone, and made anew
RECONNECT_S_MIN = 0.5  # the first back-off; doubled each time
RECONNECT_S_MAX = 30.0
ADDRESS_BYTES_MAX = 45  # of a room, as text: the longest IPv6 address
MODE_BYTES_MAX = 32  # of a room's mode; those of today have 8
FOREIGN_READ_MAX = 8  # source addresses in the report of a probe
COUNT_READ_MAX = 1_000_000  # any count of such a report; those of today are 20 at most
SENTENCE_CHARS_MAX = 500  # shown of what a directory says; its own sentences have at most 250

# -- finding directories on the network (discovery), and who hosts (hosts) ------------------------

SEARCH_ASKS_S = (0.0, 0.12, 0.36)  # with 30 % lost each way, 2 % hear no answer to three questions
SEARCH_LISTEN_S = 0.12  # then, if nothing was found, also asked so that multicast answers come
SEARCH_S = 0.8  # a search is over: whoever is there answers in 0.12 s (RFC 6762, 6)
SEARCH_FILL_S = 0.1  # what an answer lacks is asked for; most bring all at once
SEARCH_ALONE_S = 0.06  # no other answers within it: there is one directory
SEARCH_COMPANY_S = 0.25  # who hosts if need be waits so long for others, so that all choose alike
SEARCH_EVERY_S = 0.25  # a longer search asks so often
SEARCH_LAST_S = 0.02  # before its end who is about to host asks once more
SEARCH_COMPANY_ASKS_S = (0.1, 0.2)  # and after the first answer: others begin to host just now
SEARCH_AGAIN_S = 5.0  # a lost directory is looked for so often
FOUND_MAX = 32  # directories of one search: more is a flood, and no list for a person
FOUND_PER_SOURCE_MAX = 4  # so one machine cannot fill the list
FOUND_ADDRESSES_MAX = 8  # of one directory: the addresses of one interface
ADDRESS_S_MAX = 1.0  # for each announced address, which is on this network; then the next
KNOWN_IDS_MAX = 64  # directories remembered: nobody meets so many; the newest stay
KNOWN_NAME_CHARS_MAX = 64  # of a directory's name in that file; a label has 63 bytes
HOST_PROBES_S = 0.75  # nothing was found for so long, and a random 0.25 s: then this one hosts
HOST_DRAW_S = 0.25
HOST_AGAIN_S = 2.5  # who was in a directory that has moved looks longer: there is one, most likely
# Who started at the same moment is found by these; at 50 % loss 1 in 2,000 is missed by all.
HOST_ASKS_S = (0.15, 0.5, 1.5, 2.5, 4.0, 6.5, 10.0, 20.0)
HOST_CONFIRM_S = 1.0  # while another hosts too, whether it still does
HOST_CONFIRM_S_MAX = 30.0  # then both stay as they are
HOST_PATIENCE_S = 3.0  # a host with a higher id that is empty has yielded by then
HOST_RETRY_S = 0.3  # two hosts went to each other at once: the higher id tries again within it
SERVERS_MAX = 16  # of `--server A,B`: a person types two or three

assert SEARCH_ASKS_S[-1] + SEARCH_COMPANY_S < SEARCH_S
assert FOUND_PER_SOURCE_MAX <= FOUND_MAX
# -- being found on the network (responder) -------------------------------------------------------

ANNOUNCE_DRAW_S = 0.25  # machines that get their power back together do not all probe together
OWN_PROBES = 3  # for one's own names ...
OWN_PROBE_EVERY_S = 0.25  # ... so far apart (RFC 6762, 8.1)
ANNOUNCE_TIMES = 2  # one may be lost ...
ANNOUNCE_EVERY_S = 1.0  # ... and the next comes after so long (8.3)
ANNOUNCED_TTL_S = 4_500  # of what does not depend on an address (10)
ANNOUNCED_HOST_TTL_S = 120  # of what does
ANNOUNCED_ADDRESSES_MAX = 8  # of one link, so that an announcement is below 600 bytes
ANNOUNCED_LABEL_BYTES_MAX = 58  # of a name; a space and 4 digits make it a label of 63
ANSWER_WAIT_S_MIN, ANSWER_WAIT_S_MAX = 0.02, 0.06  # others answer too (6): they are to be few
ANSWER_TRUNCATED_S_MIN, ANSWER_TRUNCATED_S_MAX = 0.4, 0.5  # the rest of a question comes (7.2)
ANSWER_EVERY_S = 1.0  # on one link, however many ask
DEFEND_EVERY_S = 0.25  # when somebody probes for a name of ours, who waits 0.75 s in all
ASKERS_WAITING_MAX = 16  # whose rest is waited for, on one link; then the oldest is answered
UNICAST_ANSWERS_PER_S = 50.0  # of all links together: a class of 30 that starts at once is served
UNICAST_ANSWERS_BURST = 50.0
UNICAST_TTL_S = 10  # RFC 6762, 6.7
RENAMES_AT_ONCE = 15.0  # RFC 6762, 8.1: then somebody means it
RENAME_EVERY_S = 5.0
FINGERPRINT_DIGITS_TOLD = 32  # of a certificate's SHA-256: 128 bits, so that it fits with the rest
SELF_CHECK_S = 1.0  # the own announcement comes back within it: the kernel needs microseconds

assert DEFEND_EVERY_S < OWN_PROBES * OWN_PROBE_EVERY_S  # else a name is taken unanswered

# -- keys of sealed rooms (roomkeys) --------------------------------------------------------------

PASSPHRASE_CHARACTERS_MIN = 12  # of one that makes a room: shorter ones are guessed within a day
PASSPHRASE_BYTES_MAX = 1_024  # more is a file that was given by mistake
KEY_DERIVE_S_MAX = 60.0  # a Pi Zero takes 3 to 6 s, and may be busy
