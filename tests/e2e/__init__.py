"""Whole programs on real sockets, terminals and shells."""
