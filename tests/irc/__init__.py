"""Tests of the IRC door; `world` has a door without sockets."""
