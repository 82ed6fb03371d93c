"""Tests of keys, editor, renderer and tty."""
