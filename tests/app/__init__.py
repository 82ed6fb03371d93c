"""Tests of the chat client's parts."""
