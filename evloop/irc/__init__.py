"""The IRC door: IRC clients of this user take part in rooms as they are.

Read `codec` first (lines and what they may hold), then `state` (the door, its clients and members),
`person`, `seat` (a member in a room), `past` (history), `commands` and `queries` (what each command
does), all without sockets; then `rooms`, `peer` and `door`, which have them. Imports base, system,
net, directory, room, terminal and app. Loaded with the command `irc` only.
"""
