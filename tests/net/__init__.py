"""Tests of sockets on the loop."""
