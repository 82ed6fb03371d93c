"""Caps of the engine that loses nothing; each with its unit in its name and its reason.

Asserts say how caps relate.
"""

from evloop.base.limits import NICKNAME_BYTES_MAX
from evloop.room.limits import HISTORY_MESSAGES_MAX

# -- the reliable room ---------------------------------------------------------------------------

DATAGRAM_BYTES_MAX = 1_200  # fits any link unfragmented, IPv6 and tunnels included
PART_BYTES_MAX = 900  # text in one DATA: with header, parents, name and tag it is below 1,200
PARTS_MAX = 8  # parts of one message
MESSAGE_BYTES_MAX = PARTS_MAX * PART_BYTES_MAX
PARENTS_MAX = 3
# Numbers and Lamport times have 32 bits. The last number is never used: a SESSION and a NACK name
# the number after the last message, and that would not fit its field.
SEQ_END = 2**32 - 1
COPIES_MAX = 15  # four bits announce them
COPY_SPACING_S = 0.008  # between copies, so that a short burst of loss does not take them all
COPY_TIMER_S = 0.007  # of our own next copy: others reckon with 8 ms, and none may come later
NACK_RANGES_MAX = 55  # fits a datagram
NACK_MESSAGES_MAX = 1_024  # one NACK asks for no more
NACK_HELD_MAX = 128  # held messages considered because of one NACK, which may be forged
SESSION_ENTRIES = 16  # senders listed in an ordinary SESSION
SESSION_ENTRIES_MAX = 50  # in answer to a newcomer
OTHER_KEY_ROW = 3  # datagrams of one other key, with nothing of ours between: somebody is there
OTHER_KEY_TOLD_S = 60.0  # each other key is told so often at most
OTHER_KEYS_MAX = 64  # of which it is remembered that they were told
# Of a sealed room (see gate): what strangers without the key can make it remember and do.
NAMES_MAX = 32  # strangers and new members that a SESSION names
STRANGERS_MAX = 1_024  # senders remembered that are not proven, as many as there are records
LISTED_SENDERS_MAX = 2_048  # senders whose messages proven members list: twice the records
SPANS_MAX = 4  # ranges of one sender that proven members list, where they do not touch
WAITING_MAX = 64  # DATA of strangers that wait for proof: 77 kB
STRANGER_S = 10.0  # they wait so long, and a stranger is named so long after its last word
REPLAY_WINDOW = 64  # counters below the highest that a NACK may have
# SESSIONs sent because of strangers: who finds no token is answered within half a second.
STRANGERS_ANSWERS_PER_S, STRANGERS_ANSWERS_BURST = 2.0, 10.0
REPEATED_MIN = 16  # DATA that waited in vain within
REPEATED_TOLD_S = 60.0  # this are no accident: it is told, once
REPEATED_MAX = 1_024  # of these are told apart
WINDOW_MESSAGES = 1_024  # held ahead of a gap, for each sender
SENDERS_MAX = 1_024  # sender records of a room
SENDER_KEPT_S = 600.0  # a record of a member of standing that spoke so lately makes no room
FORGOTTEN_MAX = 1_024  # senders remembered whose records made room, or found none
NEW_SENDERS_PER_S = 64
GAPS_MAX = 2_048  # missing messages remembered for a room
GAPS_SENDER_MAX = 256  # gaps of one sender at a time: its others are noted as these are closed
GAPS_NOTED_MAX = 96  # gaps noted because of one datagram, so that its cost is bounded
NAMED_MAX = 512  # numbers that one NACK or SESSION may make me look at
HEARSAY_NOTED_MAX = 240  # numbers that one SESSION may make me ask for by hearsay
HEARSAY_GAPS_MAX = 512  # gaps that are known by hearsay only
HEARSAY_SENDER_GAPS_MAX = 64  # the same, of one sender
HEARSAY_UNHEARD_GAPS_MAX = 16  # the same, of a sender from whom no DATA was accepted
ADOPT_S = 2.0  # an entry with lo = hi was told for so long before it is adopted
LISTED_S = 600.0  # an adopted record that nobody has listed for so long makes room first
ADOPTIONS_TOLD_MAX = 1_024  # such entries remembered
CLAIMS_MAX = 1_024  # senders without a record whose messages somebody says to hold
SKIPPED_MAX = 1_024  # messages stepped over at once that may still be shown late
SKIPPED_RANGES_MAX = 32  # for one sender, so that a thousand senders do not fill the memory
HEADS_MAX = 64  # messages that nobody has named as a parent yet
SHOWN_PER_STEP = 12  # one datagram may free a thousand messages: the rest is shown by the timer
PARENT_WAIT_S = 1.0  # a message waits so long for its parents
FIRST_WORD_S = 0.3  # my first DATA waits at most so long to learn the Lamport time of the room
FIRST_WORD_ASKED_S = 1.0  # the same when I wait for confirmation anyway: a `say` on a busy machine
LAMPORT_JUMP_MAX = 1 << 20  # a larger jump is an error or an attack, and is not followed
LAMPORT_PER_S = 64  # jumps are followed at this rate: the end of 32 bits is two years away
LAMPORT_BURST = 4_096  # followed at once: as much as the other half of a partition may have said
HISTORY_BYTES_MAX = 4 * 2**20
HISTORY_S = 86_400.0
HISTORY_SWEEP_S = 60.0  # between two searches for messages that are too old
STRANGERS_SHARE = 0.5  # of a full history: more of it is for members of standing
OVERTAKEN_S = 1.0  # DATA that came so lately may have overtaken a SESSION of its sender
WORD_LATER_S = 0.1  # more than that, for the way
WORDS_PER_S, WORDS_BURST = 10, 10  # SESSIONs against datagrams that others send with my id
FULL_TOLD_S = 60.0  # a full table is reported once, and again when it had room for so long
STANDING_S = 60.0  # a member heard for so long, and more than once, is no stranger
HISTORY_ASKED_MAX = 200  # messages of each sender that a late joiner asks for
NEWCOMER_S = 5.0  # what is learned of so soon after joining was there before me
DELAY_S_MIN = 0.005  # bounds of the one-way delay: timers are in proportion to it
DELAY_S_MAX = 0.25
ROUND_TRIP_S_MAX = 1.0  # a longer one was a pause of somebody, a leap of a clock, or forged
DELAY_PEERS_MAX = 16  # members whose echoes count: those that echoed last
DELAY_DOUBT = 3  # where only two have echoed, the delay is no more than so many times the less
DELAY_ECHOES = 4  # of each, so that one echo that was late does not count
ECHOES_AWAITED_MAX = 16  # my last SESSIONs whose echoes are believed
DELAY_S_START = 0.01  # assumed until the first echo
TRICKLE_S_MIN = 0.1
TRICKLE_S_MAX = 8.0
TRICKLE_DELAYS = 8  # the shortest interval is so many d at least: half of it is a way and back
TRICKLE_HELD_S = 1.0  # news and their copies put a SESSION off no longer than this
BEHIND_S = 2.0  # being behind puts a SESSION off no longer: a stranger can keep me behind
EXPLAIN_S = 0.3  # after a digest has differed so long without a known reason, the list is long
WONDER_S_MAX = 64.0  # and then after twice as long each time, up to this, while mine is the same
PRESENCE_S_MIN = 6.0
MEMBERS_MAX = 16_384  # present members
ROOM_SAMPLE = 32  # members looked at when a full table must make room
FOLLOW_MAX = 32  # a control counter further on does not continue the count, it may be forged
RIVAL_WORDS = 3  # continuations of another count, and none of its own: that is its sender's
FOLLOW_INTERVALS = 1.25  # of T without a continuation: another count may be its sender's
DEPARTED_MAX = 64  # members that said BYE, remembered so that stragglers do not revive them
LABELS_KEPT_MAX = 1_024  # names judged before; a name in a datagram has 255 bytes
DEPARTED_S = 1.0  # they are remembered for so long; a SESSION after that revives them
ECHOES_MAX = 32  # datagrams of mine that may come back to me: copies of a line, and SESSIONs
GREETED_MEMBERS_MAX = 20  # in rooms up to this size a new member is answered by everybody
YOUNG_S = 10.0  # in a larger one who came so lately tells newcomers again that it is here:
AGAIN_S = 0.5  # so long after the last of them was heard,
AGAIN_MEMBER_S = 0.004  # and within so long for each member: 250 SESSIONs a second
AGAIN_TIMES = 2  # no more often: each new id that a stranger invents moves all that are young
MEMBERS_TRUSTED = 16  # others' counts of members are believed up to so many times my own
CONTROL_GAP_MAX = 32  # a larger jump of a control counter is an outage, not loss
STUCK_ASKS = 6  # a gap asked for so often no longer counts as behind
GONE_ASKS = 8  # a gap asked for so often, over GONE_S at least, is reported and stepped over
GONE_S = 30.0
LET_GO_S = 2.5  # what is from before my time is given up so long after STUCK_ASKS: a repair of it
# may be held down for 20 far, and two may be lost
NACK_BACKOFF_S_MAX = 8.0
NACK_RETRY_S_MAX = 1.0  # longest back-off until a gap is stuck
NACK_HELD_S_MAX = 2.0  # others' NACKs put mine off no further than this after the gap was found
EVIDENCE_EVERY_S = 1.0  # evidence brings the next ask for a gap forward so often at most
VOLUNTEERS = 8  # holders that answer one NACK, on average, before suppression
ASKS_REMEMBERED_MAX = 4_096  # messages somebody asked for: counts, hold-downs, answers due
ASK_REMEMBERED_S = 10.0  # an ask after such a silence is a first ask again
# A newcomer asks another holder after 4 d: an answer takes 2 d, and nobody else can spare it.
ALONE_DELAYS = 4
BULK_GAPS_MIN = 16  # with so many gaps due, a NACK names one holder
HOLDERS_UNHEARD_MAX = 4  # so many in a row of whom nothing came: maybe nothing can, for a firewall
ASK_ALL_S = 5.0  # keeps away what is sent to me alone; so for so long all are asked
BULK_ASKED_MAX = 128  # messages that such a NACK asks for: what one holder may send in a burst
BULK_PER_S = 400
BULK_PER_STEP = 24  # sent in one step of the timer; the next step follows at once
BULK_BURST = 128  # half of what a default receive buffer holds
BULK_PER_MINUTE = 1_000  # messages sent to one asker
BULK_ASKERS_MAX = 64  # askers whose use of that is remembered
# What all members together send by unicast, about 64 kB/s over 10 s: all hear the NACKs to each.
ROOM_BULK_BYTES_PER_S = 24_000
ROOM_BULK_BYTES_BURST = 400_000
# Messages sent by unicast to all strangers together, and to all members of standing together: for
# each NACK of theirs to one member, a second, and what can be saved of that (the histories of a few
# newcomers; what many members lack after the network was cut in two).
BULK_PER_NACK = 1.5
ROOM_BULK_PER_S = 0.5
STRANGERS_BULK_BURST = 2_000
MEMBERS_BULK_BURST = 4_000
REPAIRS_PER_NACK = 2.0  # repairs that the whole room may send for a NACK to anyone, on average
REPAIRS_EARNED_MAX = 15.0  # of them, not needed so far, are for NACKs that ask for more
REPAIRS_FIRST = 8.0  # so many of these there are when a member joins
REPAIRS_OWED_PER_S = 0.005  # paid without a NACK: several members may repair at once
# NACKs of the room for what only strangers or hearsay promise: what one promise brings them, and
# each repair. Several members may ask at once, so on average one promise makes one NACK or two.
NACKS_PER_PROMISE, NACKS_PER_REPAIR = 0.5, 0.5
PROMISES_NACKS_PER_S = 0.3
PROMISES_NACKS_BURST = 6
# NACKs of the room that name a sender, until somebody claims anew that messages of it exist: where
# nothing is lost one does, and two may ask at once; and one more for each so many percent of loss.
CLAIM_NACKS = 2
CLAIM_LOSS_STEP = 4
ROOM_SESSIONS_PER_S, ROOM_SESSIONS_BURST = 60, 120  # of members; beyond that Trickle is silent
ANSWERS_SHARE = 0.5  # of BYTES_BURST: the rest is for what nobody asked this member to send
HOLDERS_MAX = 16  # peers remembered that said they hold messages I lack
LOSS_SAMPLES_MAX = 512  # then both counts are halved: about twenty seconds of a busy room
LOSS_SAMPLES_MIN = 48  # with fewer the loss is unknown: in a large room the worst guess counts
# But in a room of few, who has lost none of so many tells so: at 30 % loss 1 of 35 does, until it
# loses the first.
LOSS_CLEAN_MIN = 10
FEW_MEMBERS = 4  # so many have too few samples for long
LOSS_UNKNOWN = 255  # percent, on the wire: too few samples to tell
LOSS_BEYOND_MEDIAN = 5  # percent beyond twice the median: one member counts with no more
LOSS_APART = 20  # percent: who tells so much and more is not like those that tell a quarter of it
LOSS_ASSUMED = 30  # percent, while nobody has told any
LOSS_PRIOR_SAMPLES = 48  # what the others tell weighs as much as so many samples of mine
LOSS_SHARE_MIN = 48.0  # samples that any sender may have in the window
# Of a sender's losses are believed: three times the odds of the better half of the room plus
# LOSS_DOUBT for each datagram seen, and LOSS_DOUBT_SAMPLES more (4 gave a biased start).
LOSS_DOUBT = 1 / 16
LOSS_DOUBT_SAMPLES = 5.0
LOSS_PENDING_MAX = 256  # messages whose announced copies are awaited
COPIES_DOUBTED = 3  # copies more that the quarter of members with the most loss may call for
MISS_MAX = 1 / 200  # aim of the unasked copies: the share of receivers that miss all of them
MISS_MEMBERS = 0.4  # the same as a number of members; the smaller of the two is the aim
MISS_SMALL_MAX = 1 / 400  # the aim in a small room, so that at most 1 % wait behind a miss
SMALL_ROOM_MEMBERS = 20
DATA_PER_S, DATA_BURST = 5, 10
REACH_MESSAGES = 64  # numbers of DATA beyond the one its sender told last that are believed, and
REACH_PER_S = 4 * DATA_PER_S  # so many more a second: clocks leap, and SESSIONs get lost
REPAIR_PER_S, REPAIR_BURST = 20, 20
ROOM_REPAIR_PER_S = 100  # repairs of all members together
NACK_PER_S, NACK_BURST = 5, 20
SESSION_PER_S, SESSION_BURST = 20, 20
BYTES_PER_S = 64_000  # everything one member sends into a room
BYTES_BURST = BYTES_PER_S - DATAGRAM_BYTES_MAX  # the rest is for BYEs, which never wait
OUTBOX_MAX = 1_024  # own messages that wait for the rate
BYE_TIMES, BYE_SPACING_S = 3, 0.05
CONFIRM_S_MIN = 0.1  # a confirmation waits a random time up to this or,
CONFIRM_MEMBER_S = 0.002  # if that is more, up to this for each member
CONFIRM_ASKERS_MAX = 8  # askers that one SESSION answers
CONFIRM_BACKOFF_S_MAX = 8.0
ANSWERS_PER_S = 1.0  # SESSIONs that answer, to strangers together and to members together
ANSWERS_BURST = 3  # answers to strangers at once
ANSWERS_MEMBERS_BURST = 5  # answers to members of standing at once
ANSWERS_YOUNG_BURST = 20  # at once, to new members in my own first minute
PROBES_REMEMBERED_MAX = 64  # nonces of PROBEs, answered or not: each counts once
PROBE_ANSWERS = 64  # members that answer a PROBE, on average: in a larger room not all of them
DEAF_S = 21.0  # who heard me within 3.5 times 6 s counts me
DEAF_SESSIONS = 3  # without a sign that it hears me, and
DEAF_SESSIONS_EACH = 8  # so many more for each other member that it could have echoed instead
DEAF_MEMBERS_MAX = 10  # in a larger room nothing is concluded
POSED_MAX = 64  # remembered DATA of strangers under my own next numbers
CONFLICT_EVERY_S = 60.0  # two messages under one number are reported so often, for each sender

assert 24 + 5 + 12 * PARENTS_MAX + 1 + NICKNAME_BYTES_MAX + 1 + PART_BYTES_MAX + 16 <= (
    DATAGRAM_BYTES_MAX
)
assert 24 + 9 + 16 * NACK_RANGES_MAX + 16 <= DATAGRAM_BYTES_MAX
assert 24 + 33 + NICKNAME_BYTES_MAX + 1 + 16 * SESSION_ENTRIES_MAX + 16 <= DATAGRAM_BYTES_MAX
# In a sealed room 8 bytes more of nonce, and the names.
assert 24 + 8 + 33 + 33 + 16 * SESSION_ENTRIES_MAX + 2 + 8 * NAMES_MAX + 16 <= DATAGRAM_BYTES_MAX
assert HEARSAY_UNHEARD_GAPS_MAX < HEARSAY_SENDER_GAPS_MAX < HEARSAY_GAPS_MAX < GAPS_MAX
assert HISTORY_ASKED_MAX <= GAPS_SENDER_MAX <= GAPS_MAX
assert GAPS_NOTED_MAX <= GAPS_SENDER_MAX
assert NACK_RANGES_MAX * 9 <= NAMED_MAX  # a NACK of single numbers, each looked for twice
assert HISTORY_ASKED_MAX <= WINDOW_MESSAGES  # else a newcomer's window could not hold its history
assert HISTORY_MESSAGES_MAX * DATAGRAM_BYTES_MAX > HISTORY_BYTES_MAX  # so bytes need their own cap
assert STUCK_ASKS < GONE_ASKS
assert BULK_GAPS_MIN <= BULK_ASKED_MAX <= NACK_HELD_MAX <= NACK_MESSAGES_MAX
assert COPIES_MAX * COPY_SPACING_S < 2 * TRICKLE_S_MIN
