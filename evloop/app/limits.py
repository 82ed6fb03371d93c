"""Caps of the chat client; each with its unit in its name and its reason.

Asserts say how caps relate.
"""


# -- what a client remembers (key_file), owner tokens --------------------------------------------

TOKEN_CHARS_MAX = 128  # that a client keeps; a server of another version may make longer ones

# -- the client ----------------------------------------------------------------------------------

CONFIRM_S = 5.0  # after the last datagram: how long the end of a pipe waits for confirmation
PROGRESS_ROOMS = 2_000  # rooms of a listing after which its progress is shown
NEWS_FOLD_S = 2.0  # joins and parts within it become one line
ALONE_S = 30.0  # of silence in a room where others should be, then a hint
BELL_S = 5.0  # at most one bell in it
CONFIRM_SETTLE_S = 0.5  # who is present, but not yet heard, makes himself known within it
OPENING_S = 0.4  # after entering: the first line names who was heard by then
PIPE_QUEUE_MAX = 32  # messages that wait to be sent; then the pipe waits too
LISTED_ROOMS_MAX = 1_000_000  # of one directory; a longer list is told without end
FOLD_PER_S = 5.0  # lines of one sender on a live screen; what is more becomes one line
FOLD_BURST = 20.0
FOLD_SENDERS_MAX = 1_024  # for whom lines are counted, and names are completed
SLOW_S = 1.0  # then a person is told whom a command waits for
FAULTS_MAX = 100  # bugs of ours that a client at a terminal outlives
SHOWN_LINES_DEFAULT = 20  # of /history and of `tail`

TTL_MAX = 255  # one byte in the header of IP
CATCH_UP_S = 1.5  # after entering: what of the history has come by then is what `tail -n` shows
