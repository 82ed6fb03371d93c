"""Caps of the engine that loses nothing; each with its unit in its name and its reason.

Asserts say how caps relate.
"""

from evloop.base.limits import NICKNAME_BYTES_MAX
from evloop.room.limits import HISTORY_MESSAGES_MAX

# -- the reliable room ---------------------------------------------------------------------------

DATAGRAM_BYTES_MAX = 1_200  # fits any link unfragmented, IPv6 and tunnels included
PART_BYTES_MAX = 900  # text in one DATA; with header, parents, name and tag below 1,200
PARTS_MAX = 8  # parts of one message
MESSAGE_BYTES_MAX = PARTS_MAX * PART_BYTES_MAX
PARENTS_MAX = 3
# Numbers and Lamport times have 32 bits. The last number is nobody's: the number behind it, which
# a SESSION and a NACK must be able to say, would not fit its field.
SEQ_END = 2**32 - 1
COPIES_MAX = 15  # four bits announce them
COPY_SPACING_S = 0.008  # apart, so that a short burst of loss does not take them all
COPY_TIMER_S = 0.007  # of our own next copy: others reckon with 8 ms, and none may come later
NACK_RANGES_MAX = 55  # fits a datagram
NACK_MESSAGES_MAX = 1_024  # one NACK asks for no more
NACK_HELD_MAX = 128  # of those that are held, so many are considered: a forged NACK costs no more
SESSION_ENTRIES = 16  # senders listed in an ordinary SESSION
SESSION_ENTRIES_MAX = 50  # in answer to a newcomer
WINDOW_MESSAGES = 1_024  # held ahead of a gap, for each sender
SENDERS_MAX = 1_024  # sender records of a room
SENDER_KEPT_S = 600.0  # heard so recently, a record never makes room for a new one
NEW_SENDERS_PER_S = 64
GAPS_MAX = 2_048  # missing messages remembered for a room
GAPS_SENDER_MAX = 256  # of one sender at a time: its others are noted as these are closed
GAPS_NOTED_MAX = 96  # by one datagram: what it costs is bounded
NAMED_MAX = 512  # numbers that one NACK or SESSION may make me look at
HEARSAY_NOTED_MAX = 240  # numbers that one SESSION may make me ask for by hearsay
HEARSAY_GAPS_MAX = 512  # of these, how many only strangers speak of
HEARSAY_SENDER_GAPS_MAX = 64  # of one sender
HEARSAY_UNHEARD_GAPS_MAX = 16  # of a sender from whom no DATA was accepted
CLAIMS_MAX = 1_024  # senders without a record of whom somebody spoke
SKIPPED_MAX = 1_024  # messages stepped over at once that may still be shown late
SKIPPED_RANGES_MAX = 32  # of one sender: a thousand senders must not fill the memory with them
HEADS_MAX = 64  # messages that nobody has named as a parent yet
SHOWN_PER_STEP = 12  # one datagram may free a thousand messages: the rest is shown by the timer
PARENT_WAIT_S = 1.0  # a message waits so long for its parents
FIRST_WORD_S = 0.3  # my first DATA waits so long at most to learn what time it is in the room
LAMPORT_JUMP_MAX = 1 << 20  # a larger one is an error or an attack: not followed
LAMPORT_PER_S = 64  # so fast it follows jumps: the end of 32 bits is two years away
LAMPORT_BURST = 4_096  # what a partition may have said meanwhile
HISTORY_BYTES_MAX = 4 * 2**20
HISTORY_S = 86_400.0
HISTORY_SWEEP_S = 60.0  # what is older is looked for so often
STRANGERS_SHARE = 0.5  # of a full history: who was not here for a while gets no more of it
OVERTAKEN_S = 1.0  # DATA that came so lately may have overtaken a SESSION of its sender
FULL_TOLD_S = 60.0  # a table that was full so lately is not told of again
STANDING_S = 60.0  # who has been heard for so long, and more than once, is no stranger
HISTORY_ASKED_MAX = 200  # a late joiner asks for so many of each sender
NEWCOMER_S = 5.0  # what is learned of so soon after joining was there before me
DELAY_S_MIN = 0.005  # clamps of the one-way delay: timers in proportion to it
DELAY_S_MAX = 0.25
ROUND_TRIP_S_MAX = 1.0  # a longer one was a pause of somebody, a leap of a clock, or forged
DELAY_PEERS_MAX = 15  # members whose newest echo has a vote: of an odd number
ECHOES_AWAITED_MAX = 16  # my last SESSIONs whose echoes are believed
DELAY_S_START = 0.01  # until the first echo
TRICKLE_S_MIN = 0.1
TRICKLE_S_MAX = 8.0
TRICKLE_HELD_S = 1.0  # news and their copies put a SESSION off no longer than this
BEHIND_S = 2.0  # and being behind no longer than this: a stranger can keep me behind
EXPLAIN_S = 0.3  # a digest that differs so long without a reason is worth a long list
PRESENCE_S_MIN = 6.0
MEMBERS_MAX = 16_384  # present members
ROOM_SAMPLE = 32  # members looked at when a full table must make room
FOLLOW_MAX = 32  # a control counter further on does not continue the count, it may be forged
FOLLOW_INTERVALS = 1.25  # of T without a continuation: another count may be its sender's
DEPARTED_MAX = 64  # members that said BYE, remembered so that stragglers do not revive them
LABELS_KEPT_MAX = 1_024  # names judged before; a name in a datagram has 255 bytes
DEPARTED_S = 1.0  # for so long; after that a word is a word
ECHOES_MAX = 32  # datagrams of mine that may come back to me: copies of a line, and SESSIONs
GREETED_MEMBERS_MAX = 20  # in rooms up to this size a new member is answered by everybody
MEMBERS_TRUSTED = 16  # times those that I count: what others count is believed no further
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
BULK_PER_STEP = 24  # at one time: the next step follows at once
BULK_BURST = 128  # half of what a default receive buffer holds
BULK_PER_MINUTE = 1_000  # for one asker
BULK_ASKERS_MAX = 64  # remembered
# What all members together send by unicast: 64 kB/s over 10 s. Everybody hears who is asked.
ROOM_BULK_BYTES_PER_S = 24_000
ROOM_BULK_BYTES_BURST = 400_000
STRANGERS_BULK_PER_S = (
    16  # about 1,000 a minute: messages that strangers together are sent by unicast
)
STRANGERS_BULK_BURST = 2_000  # a newcomer's history, at once
REPAIRS_PER_NACK = 2.0  # repairs that a NACK to anyone makes the room send on average, and
REPAIRS_SAVED_MAX = 15.0  # so many more that were not used up before
REPAIRS_SAVED_PER_S = 0.2
FIRST_ASK_S = 0.25  # older gaps were asked for already, by somebody if not by me
RETRIES_PER_S = 1.0  # NACKs of the room that ask strangers' promises again; a repair earns one
RETRIES_BURST = 10
ANSWERS_SHARE = 0.5  # of the bytes at once: the rest is for what I send of my own accord
HOLDERS_MAX = 16  # peers remembered that said they hold messages I lack
LOSS_SAMPLES_MAX = 512  # then both counts are halved: about twenty seconds of a busy room
LOSS_SAMPLES_MIN = 48  # below, the loss is unknown: in a large room the worst guess rules
LOSS_UNKNOWN = 255  # percent, on the wire: too few samples to tell
LOSS_BEYOND_MEDIAN = 5  # percent, and twice the median: with no more one member counts
LOSS_ASSUMED = 30  # percent, while nobody has told any
LOSS_PRIOR_SAMPLES = 48  # what the others tell weighs as much as so many samples of mine
LOSS_SHARE_MIN = 48.0  # samples that any sender may have in the window
LOSS_DOUBT = 1 / 16  # lost for each one seen, and thrice the odds of the better half of the room,
LOSS_DOUBT_SAMPLES = 5.0  # and so many more: all beyond is not believed (4: a biased start)
LOSS_PENDING_MAX = 256  # messages whose announced copies are awaited
COPIES_DOUBTED = 3  # that the quarter which tells the most loss may call for alone
MISS_MAX = 1 / 200  # aim of the unasked copies: the share of receivers that miss all of them
MISS_MEMBERS = 0.4  # or so many members, whichever is less
MISS_SMALL_MAX = 1 / 400  # in a small room, where what waits behind a miss is else over 1 % of all
SMALL_ROOM_MEMBERS = 20
DATA_PER_S, DATA_BURST = 5, 10
REACH_MESSAGES = 64  # beyond its own word a member's DATA may reach so far at once, then
REACH_PER_S = 4 * DATA_PER_S  # so much further a second: clocks leap, and words get lost
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
ANSWERS_PER_S = 1.0  # SESSIONs that answer, to strangers together and to members together
ANSWERS_BURST = 3  # at once to strangers, and
ANSWERS_MEMBERS_BURST = 5  # to members of standing
POSED_MAX = 64  # DATA of strangers under my next numbers, remembered
CONFLICT_EVERY_S = 60.0  # a quarrel over one number is reported so often, for each sender

assert 24 + 5 + 12 * PARENTS_MAX + 1 + NICKNAME_BYTES_MAX + 1 + PART_BYTES_MAX + 16 <= (
    DATAGRAM_BYTES_MAX
)
assert 24 + 9 + 16 * NACK_RANGES_MAX + 16 <= DATAGRAM_BYTES_MAX
assert 24 + 33 + NICKNAME_BYTES_MAX + 1 + 16 * SESSION_ENTRIES_MAX + 16 <= DATAGRAM_BYTES_MAX
assert HEARSAY_UNHEARD_GAPS_MAX < HEARSAY_SENDER_GAPS_MAX < HEARSAY_GAPS_MAX < GAPS_MAX
assert HISTORY_ASKED_MAX <= GAPS_SENDER_MAX <= GAPS_MAX
assert GAPS_NOTED_MAX <= GAPS_SENDER_MAX
assert NACK_RANGES_MAX * 9 <= NAMED_MAX  # a NACK of single numbers, each looked for twice
assert HISTORY_ASKED_MAX <= WINDOW_MESSAGES  # else a newcomer's window could not hold its history
assert HISTORY_MESSAGES_MAX * DATAGRAM_BYTES_MAX > HISTORY_BYTES_MAX  # so bytes need their own cap
assert STUCK_ASKS < GONE_ASKS
assert BULK_GAPS_MIN <= BULK_ASKED_MAX <= NACK_HELD_MAX <= NACK_MESSAGES_MAX
assert COPIES_MAX * COPY_SPACING_S < 2 * TRICKLE_S_MIN
