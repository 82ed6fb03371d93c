"""The engine that loses nothing: bytes and time in; bytes, events and a deadline out.

Pure: no socket, no clock, no randomness of its own. Read `packets` first (the datagrams), then
`session` (who calls whom), and the rules in the order of docs/room-protocol.md: `egress`,
`announce`, `reorder`, `delivery`, `message_log`, `gaps`, `nack`, `repair`, `membership`,
`estimators`, `suppression`. Imports base, system and net at most; today only base.
"""
