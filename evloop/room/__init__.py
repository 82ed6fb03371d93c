"""One chat room: live on a transport, reliable or plain.

Read `events` first (the table of what happens in a room), then `live` (a session on a transport
and one timer), `plain`, and the package `reliable`, which is the engine that loses nothing. Imports
base, system and net.
"""
