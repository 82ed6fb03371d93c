"""evloop: group chat for local networks, by IP multicast, with no server on the way of a message.

A small directory server lists the rooms over TCP; the members of a room talk to each other
directly. Everything runs on one `selectors` loop in one thread, on the standard library alone.
"""

__version__ = "0.2.0.dev0"
