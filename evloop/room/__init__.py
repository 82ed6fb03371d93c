"""One chat room: live on its sockets, reliable or plain.

Read `live` first (a session on a transport and one timer), then `plain`, then the package
`reliable`, which is the engine that loses nothing. Imports base, system and net.
"""
