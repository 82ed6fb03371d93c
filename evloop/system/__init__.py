"""The process and its one loop: descriptors, timers, signals, standard streams, log and files.

Read `loop` first: everything else hands it functions to call. Then `timers`, `stdin`, `stdout`,
`log`, `files` and `process`. Imports base.
"""
