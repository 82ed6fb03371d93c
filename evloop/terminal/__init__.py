"""Between a person and lines of text: words, keys, line editor, renderer, tty.

Read `keys` first (bytes become keys), then `editor` (keys become edits) with `line`, `layout` and
`renderer` (edits become bytes for the screen), then the two front ends, `screen_mode` and
`line_mode`, and `report` (events become sentences). Imports base and system.
"""
