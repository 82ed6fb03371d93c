"""Caps of the line editor and of the screen; each with its unit and its reason.

Asserts say how caps relate.
"""


# -- the terminal --------------------------------------------------------------------------------

CSI_BYTES_MAX = 32  # parameters of one control sequence; real ones are below 20
SEQUENCE_SILENCE_S = 0.15  # a lone Esc, or a sequence cut off: no more is coming
PASTE_GUARD_S = 0.03  # bytes glued to the end of a paste belong to it
PASTE_SILENCE_S = 1.0  # after such a pause a lone Ctrl-] or Ctrl-C ends a paste: its end was lost
TAB_COLUMNS = 4  # a pasted tab becomes so many spaces
LINE_CHARACTERS_MAX = 8_192  # more than the longest message (8 parts of 900 bytes)
CLUSTER_CHARACTERS_MAX = 32  # code points of one cluster; piled-up accents beyond are cut apart
CELLS_CACHED_MAX = 4_096  # clusters beyond ASCII whose width is remembered
UNDO_STEPS_MAX = 64
SEARCH_CHARACTERS_MAX = 128
HUNG_COLUMNS_MIN = 20  # in a narrower window rows begin anywhere: no forged line can be told
LINE_START_CHARACTERS_MAX = 64  # of a row that are looked at: a time, a tag, and the longest name
CANDIDATES_SHOWN_MAX = 100  # completions listed
INTERRUPT_TWICE_S = 2.0  # two Ctrl-C on an empty line within this time leave
FLUSH_INTERVAL_S = 0.05  # messages are drawn at most 20 times a second
MESSAGES_WAITING_MAX = 500  # a terminal that is slower than the room shows the newest
RECEIPT_SLOW_S = 0.3  # a flush answered later than this halves the batch
RECEIPT_QUICK_S = 0.05  # a flush answered sooner than this doubles it
RECEIPT_LOST_S = 2.0  # the terminal does not answer at all: never ask again
RECEIPT_DRAIN_MS = 300  # how long the last answer is awaited before the shell gets the terminal
FLUSH_BYTES_MAX = 65_536  # of messages in one flush to a quick terminal: 1.3 MB a second
BATCH_BYTES_MIN = 128  # of messages in one flush to a slow terminal
BATCH_BYTES_START = 512  # half a second at 9600 baud
BATCH_BYTES_MAX = 16_384
BAUD_SLOW = 38_400  # a terminal on a slower line counts as slow from the start

assert PASTE_GUARD_S < SEQUENCE_SILENCE_S < PASTE_SILENCE_S
assert BATCH_BYTES_MIN <= BATCH_BYTES_START <= BATCH_BYTES_MAX <= FLUSH_BYTES_MAX
assert RECEIPT_QUICK_S < RECEIPT_SLOW_S < RECEIPT_LOST_S

COLUMNS_DEFAULT = 80  # of a terminal that does not tell

# -- words ---------------------------------------------------------------------------------------

NAMES_ENTERED_MAX = 12  # names on the first line of a room; the others are counted
NAMES_FOLDED_MAX = 6  # names of one kind of news
NAMES_FLOOD_MAX = 3  # of those who send too fast

# -- the client's standard streams ---------------------------------------------------------------

HIDDEN_CHARACTERS_MAX = 4_096  # of a key that is typed or pasted; a file of one has 4 KiB too
LINES_WAITING_MAX = 1_000  # lines read ahead while a command runs; then stdin is not read
