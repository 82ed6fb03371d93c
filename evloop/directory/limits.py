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
TAIL_BYTES_MAX = 160  # ... with so many bytes behind the id; what was read takes 4 kB at worst
REPLY_BYTES_MAX = 1_000  # any reply but getdir's, so that a batch of them fits a frame
ROOM_BYTES_MAX = 300  # a room as JSON; its name at worst has every byte escaped
PAGE_ROOMS_MAX = 500  # rooms of one getdir reply
PAGE_BYTES_MAX = PAYLOAD_BYTES_MAX - 640  # rooms of one page; the rest is id, version, next
PAGES_CACHED_MAX = 32  # whole replies kept until the next change: 2 MiB at most
BLOCK_ROOMS = 128  # rooms joined into one cached piece of a page; a block splits at twice that
AFTER_BYTES_MAX = 256  # of getdir's `after`, before it is folded: no room's name has as many
NAME_AS_SENT_FACTOR = 3  # so many times a name's bytes may it have before it is normalised (NFD)
ROOMS_MAX = 10_000  # default of --max-rooms; about 1 kB each
ROOMS_PER_ADDRESS_MAX = 2_000  # default of --rooms-per-address: one visitor cannot fill it all
NETWORK_ROOMS_FACTOR = 4  # so many times that for all addresses of a /64 of ours, together
ROOMS_ENTERED_MAX = 64  # rooms that one connection is in at once; a person is in a few
DIRECTORY_ID_DIGITS = 16  # hex digits of a directory's identity: 64 random bits never meet
PLACES_OF_A_NAME = 64  # that a room without an address tries: part of the protocol, not ours alone
PLACE_DRAWS_MAX = 64  # random draws after these, among 3 * 10^8; nearly always one is enough

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
SENTENCE_CHARS_MAX = 500  # shown of what a directory says; its own sentences have at most 250
