"""The directory of rooms: its wire protocol, its rules, and the client's side of it.

Read `protocol` first (JSON-RPC messages as values and bytes), then `requests` (what the
parameters may be), `registry` (the rules), `pages` (the sorted listing), and for the client's side
`client` and `trust`. Imports base, system and net.
"""
