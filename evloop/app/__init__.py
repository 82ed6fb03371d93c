"""The chat client: commands, main prompt, chat mode and one-shots.

Read `shell` first (the client between its user, a directory and a room), then `commands`,
`prompt`, `presence`, `chat` and `view` (how a room looks), `startup` and `options`. Imports base,
system, net, directory, room and terminal.
"""
