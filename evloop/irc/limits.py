"""Caps of the IRC door; each with its unit in its name and its reason.

Asserts say how caps relate.
"""

from evloop.room.limits import HISTORY_MESSAGES_MAX

# -- lines ---------------------------------------------------------------------------------------

IRC_LINE_BYTES_MAX = 510  # of a line without its tags and its CRLF (RFC 2812, 2.3)
TAGS_BYTES_MAX = 4_096  # of a client's tags, with their @ and the blank behind them (IRCv3)
SENT_BYTES_MAX = 512  # of a line that we send, CRLF included and tags not
SOURCE_USER_BYTES_MAX = 32  # of what USER says; the directory's names have as many

# -- who is at the door --------------------------------------------------------------------------

IRC_CLIENTS_MAX = 32  # connections: a person has few clients, and each costs a descriptor
IRC_SEATS_MAX = 64  # rooms times nicks: each has two sockets, and a history of some megabytes
MEMBERS_REMEMBERED_MAX = 4 * IRC_SEATS_MAX  # whose USER stands in what they said
REGISTER_S = 30.0  # from the connection to NICK and USER: a person may type them
IRC_LINES_WAITING_MAX = 1_000  # behind a command that waits for the directory: a paste, not a flood
AWAY_BYTES_MAX = 200  # of the text of AWAY, as 005 says
IRC_LISTED_MAX = 2_000  # rooms of one LIST: more would be cut off by the client's queue

# -- entering ------------------------------------------------------------------------------------

PLAYBACK_MESSAGES = 50  # that a client gets which does not ask for history
ARRIVALS_MAX = 500  # messages whose time of arrival is remembered, and that can be asked for
CHATHISTORY_MAX = 200  # messages of one answer, as 005 says
OLDER_S = 5.0  # for the directory to tell of a kept room; then what is here is answered
CHATHISTORY_WAITING_MAX = 16  # requests that wait until the history of a room is complete

# -- the end -------------------------------------------------------------------------------------

FAREWELL_S = 5.0  # after a room is left: for what was said last and waits to be sent
GOODBYE_S = 1.5  # for goodbyes in the rooms after SIGTERM

assert CHATHISTORY_MAX <= ARRIVALS_MAX <= HISTORY_MESSAGES_MAX
assert PLAYBACK_MESSAGES <= ARRIVALS_MAX
