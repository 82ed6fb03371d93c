"""Values that every package needs; nothing here uses a socket, a clock or a file.

Read `errors` first (who can be wrong, and the exit status of each), then `names` (what a room, a
nickname and an address may be), `strictjson`, `addresses`, `ratelimit` and `limits`.
Imports nothing of ours but itself.
"""
