"""Tests of the loop and of what a process is made of."""
