"""Sockets on the loop: framed TCP, TLS, listening, name lookup and multicast.

Read `stream` first (one framed connection), then `scheduler` (whose turn it is), `tls`,
`acceptor`, `resolve`, `interfaces` and `multicast`. Imports base and system.
"""
