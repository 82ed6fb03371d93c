"""evloop: group chat for local networks, by IP multicast, with no server on the way of a message.

A small directory server lists the rooms over TCP; the members of a room talk to each other
directly. Everything runs on one `selectors` loop in one thread, on the standard library alone.
"""

import sys

# In words that old interpreters read too: they would stop at the next file with a traceback.
if sys.version_info < (3, 9):  # noqa: UP036
    raise SystemExit(
        "evloop needs Python 3.9 or newer; this is %d.%d (%s)"  # noqa: UP031
        % (sys.version_info[0], sys.version_info[1], sys.executable)
    )

__version__ = "0.2.0.dev0"
