"""Caps of the chat client; each with its unit in its name and its reason.

Asserts say how caps relate.
"""


# -- what a client remembers (key_file), owner tokens --------------------------------------------

TOKEN_CHARS_MAX = 128  # that a client keeps; a server of another version may make longer ones

# -- the client ----------------------------------------------------------------------------------

FINISH_STALL_S = 10.0  # the end of a pipe waits so long for the next datagram to go out at all
CONFIRM_S = 5.0  # after the last datagram: how long the end of a pipe waits for confirmation
PROGRESS_ROOMS = 2_000  # rooms of a listing after which its progress is shown
NEWS_FOLD_S = 2.0  # joins and parts within it become one line
DEAF_TOLD = 3  # times that a group was joined anew in vain; then a person is told
ALONE_S = 8.0  # of silence in a room where others should be, then a hint
BELL_S = 5.0  # at most one bell in it
CONFIRM_SETTLE_S = 0.5  # members that are present and not yet heard are heard within it
OPENING_S = 0.4  # after entering: the first line names the members heard by then
PIPE_QUEUE_MAX = 32  # messages that wait to be sent; then the pipe waits too
ROOMS_KNOWN_MAX = 20_000  # of the directory, for Tab and to find a room again
LISTED_ROOMS_MAX = 1_000_000  # of one directory; a longer list is told without end
FOLD_PER_S = 5.0  # lines of one sender on a live screen; further lines become one
FOLD_BURST = 20.0
FOLD_SENDERS_MAX = 1_024  # for whom lines are counted, and names are completed
JOIN_TRIES = 2  # directories that have gone by the time that they are connected to; then host
SCAN_S_MAX = 3.0  # for several directories to say whether they list a room
KEEP_S = 0.05  # after the greeting the directory is remembered: the prompt is drawn before
NOBODY_CAME_S = 20.0  # of hosting a directory alone, then a hint
REMAKE_S = 1.0  # of many who miss their room in a new directory, the first makes it within that
REMAKE_AGAIN_S_MAX = 60.0  # then it is tried again, whatever the directory asks to wait
SLOW_S = 1.0  # after that the user is told that a command waits for the directory
FAULTS_MAX = 100  # unexpected exceptions after which a client at a terminal ends
SHOWN_LINES_DEFAULT = 20  # of /history and of `tail`

TTL_MAX = 255  # one byte in the header of IP

# -- doctor --------------------------------------------------------------------------------------

DOCTOR_ASKS = 3  # of the members of a room; the first is the burst
DOCTOR_ASK_S = 0.6  # apart
DOCTOR_ASKS_MAX = 8  # while somebody who is heard has answered none
DOCTOR_LATE_S = 7.0  # who is present speaks every 6 s at least
DOCTOR_WAIT_S_MAX = 6.0  # that a directory may ask to wait; it lets one ask in 5 s
DOCTOR_MEMBERS_MAX = 64  # told of; in a larger room not all of them answer
DOCTOR_WATCH_S = 300.0  # of --watch: some switches forget after 260 s
DOCTOR_WATCH_S_MAX = 86_400.0
DOCTOR_MEMBERS_EVERY_S = 10.0
DOCTOR_EVERY_S = 30.0
DOCTOR_POLL_S = 0.05  # so that a query of a switch is seen alone

assert DOCTOR_WAIT_S_MAX > 5

# -- what is shown of a room ---------------------------------------------------------------------

CATCH_UP_S = 1.5  # after entering: where nobody was heard by then, there is no history to wait for
WAIT_TOLD_S = 2.0  # when history is still missing then, the user is told
HISTORY_WAIT_S = 10.0  # the longest wait for the rest of the history; then it is shown as it is
HELD_S = 3.0  # a line of now does not wait longer for the history before it
REMARKS_PER_S = 1.0  # remarks that strangers can cause ...
REMARKS_BURST = 20.0  # ... and so many at once; further ones are only counted
NEWS_NAMES_MAX = 1_024  # names of those who came, left or send too fast, until they are shown
HERE_S = 20.0  # after entering a large room: members first heard within it were there before
IGNORED_MAX = 256  # members hidden by /ignore, ids and names each
LATE_S = 60.0  # a line that came so much later than its sender's lines do shows when it was said
CLOCK_STEADY_S = 3.0  # when two lines differ less in their lateness, their sender's clock is slow
CLOCK_WRONG_S = 86_400.0  # a sender that is off by a day has a wrong clock: its lines are not late

KEPT_MESSAGES_MAX = 10_000  # that /history asks the directory for
KEEPERS_KNOWN_MAX = 4  # keepers of a room: those of a directory that was started again
PASSING_S = 8.0  # a member that comes, speaks and goes within it is not announced (> CONFIRM_S)
SAY_TIMEOUT_S_MAX = 86_400.0  # of `say --timeout`

assert PASSING_S > CONFIRM_S + CONFIRM_SETTLE_S
assert OPENING_S < CATCH_UP_S < WAIT_TOLD_S < HELD_S < HISTORY_WAIT_S

# -- several rooms -------------------------------------------------------------------------------

CHAT_ROOMS_MAX = 16  # that one client is in: numbers that a person still keeps apart
ROOMS_HISTORY_MESSAGES_MAX = 16_384  # of all rooms together: below 24 MB
BACKGROUND_BURST = 3.0  # lines of a room in the background that are shown at once ...
BACKGROUND_PER_S = 0.1  # ... and so many more: beyond it they are kept
BACKGROUND_KEPT_MAX = 20  # lines kept until their room comes to the front; older ones are counted
BACKGROUND_TOLD_S = 2.0  # after the first kept line their number is told ...
BACKGROUND_AGAIN_S = 60.0  # ... and at most so often
ROOM_KEYS_MAX = 9  # rooms that have a key, Alt-1 to Alt-9

# -- keys of sealed rooms --------------------------------------------------------------------------

KEY_TRIES_MAX = 3  # questions for one key; then the user looks it up first
KEY_FILE_WAIT_S = 30.0  # for a pipe whose writer asks for a passphrase of its own, as gpg does
KEY_FILE_BYTES_MAX = 4_096  # of the first line: a passphrase has a hundred at most
