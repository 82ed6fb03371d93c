"""What happens in a room: the one table of events between a session and the code that shows them.

    what      class     fields, after `what`                      emitted by          shown as
    message   Said      sender seq name kind text wall mark       message_log,        a chat line
                        verified                                  session, plain
    joined    Joined    sender name                               session             a remark
    left      Left      sender name why                           session             a remark
    renamed   Renamed   sender old name                           session             a remark
    lost      Lost      sender name count                         delivery            a remark
    conflict  Conflict  sender name seq                           message_log         a remark
    unheard   Unheard   sender name                               session             a sentence
    trouble   Trouble   why where                                 live                a sentence
    blocked   Blocked   times                                     live                a sentence
    deaf      Deaf      times                                     live                a sentence
    foreign   Foreign   mode                                      plain               a sentence
    full      Full      table                                     message_log         a sentence
    other_key OtherKey  theirs yours proven                       strays              a sentence
    repeated  Repeated  count                                     entrance            a sentence
    fault     Fault     error                                     live                a sentence
    road      Road      road senders why                          roads               a sentence

    what      the word of the first column: the key for dispatch, and `type` of a JSON object
    sender    8 bytes drawn at each join, or NO_SENDER where nobody can be told from another
    seq       number of the message at its sender (of the first part, when it came in parts);
              NO_SEQ where there are no numbers
    name      the nickname that the sender gives itself; "" where the text names nobody
    old       the nickname before
    kind      TEXT, or ME for what its sender does (`* Mel waves`)
    text      as it was said, newlines included; NOT safe for a terminal
    wall      unix seconds by the clock of the sender, 0 where it is not told
    mark      "" live; "history" from before our time; "late" after it was reported as lost;
              "early" shown before what its sender had seen; "plain" text of an unknown sender
    verified  whether a key of the room proves the sender
    why       of left: "bye" or "silent" (not heard for too long); of trouble: why nothing can be
              sent, "" when that is over, or when the room is elsewhere now; of road: "" as the road
              says, "lost" the directory is away, "refused" it carries no more members, "always" the
              user wants it so
    where     the interface and the address by which the room is entered now, for people
    times     how often something sent to the group did not come back; how often the group was
              joined anew since nobody is heard
    table     what strangers filled: "gaps", "senders", "members", "claims" or "history"; told once
              a flood
    error     an unexpected exception in this program that was caught, told once a room
    road      by which road it goes: "off" (the group), "up", "full" or "alone" (the directory)
    senders   of road "full": ids of those whom multicast does not bring
    count     messages that nobody here holds any more; of repeated: old messages that somebody
              sends again, which are not shown
    theirs    the id of another key with which somebody sends here, 0 for none; and
    yours     the id of the key of this room, 0 when it is open
    proven    whether a member of this room is present
    mode      the mode of a room that datagrams here belong to, though ours is another; told once

All fields but `what`, `mark`, `mode` and `verified` come from the network: a stranger may have
invented them. An event equals the bare tuple of its fields.
"""

from __future__ import annotations

from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TEXT, ME = range(2)  # kinds of a message, on the wire too
NO_SENDER = b""
NO_SEQ = -1

Said = namedtuple("Said", "what sender seq name kind text wall mark verified")
Joined = namedtuple("Joined", "what sender name")
Left = namedtuple("Left", "what sender name why")
Renamed = namedtuple("Renamed", "what sender old name")
Lost = namedtuple("Lost", "what sender name count")
Conflict = namedtuple("Conflict", "what sender name seq")
Unheard = namedtuple("Unheard", "what sender name")  # it is here, and does not hear me
Trouble = namedtuple("Trouble", "what why where", defaults=("",))
Blocked = namedtuple("Blocked", "what times")
Deaf = namedtuple("Deaf", "what times")
Foreign = namedtuple("Foreign", "what mode")
Full = namedtuple("Full", "what table")
Fault = namedtuple("Fault", "what error")
Road = namedtuple("Road", "what road senders why")
OtherKey = namedtuple("OtherKey", "what theirs yours proven")
Repeated = namedtuple("Repeated", "what count")

# The whole table: the word of `what` and its class.
TABLE: dict[str, Any] = {
    "message": Said,
    "joined": Joined,
    "left": Left,
    "renamed": Renamed,
    "lost": Lost,
    "conflict": Conflict,
    "unheard": Unheard,
    "trouble": Trouble,
    "blocked": Blocked,
    "deaf": Deaf,
    "foreign": Foreign,
    "full": Full,
    "fault": Fault,
    "road": Road,
    "other_key": OtherKey,
    "repeated": Repeated,
}

if TYPE_CHECKING:
    Event = (
        Said
        | Joined
        | Left
        | Renamed
        | Lost
        | Conflict
        | Unheard
        | Trouble
        | Blocked
        | Deaf
        | Foreign
        | Full
        | Fault
        | Road
        | OtherKey
        | Repeated
    )
