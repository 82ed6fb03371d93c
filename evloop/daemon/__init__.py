"""The directory server: dispatch, group commit, admission, store and operations.

Read `server` first (what is put together), then `dispatcher` (what a request does),
`group_commit` (no reply before the disk has it), `store`, `admission`, and what operators see:
`metrics`, `console`, `systemd`, `options`. Imports base, system, net, directory, room and terminal.
"""
