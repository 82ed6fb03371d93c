"""Tests of the directory's protocol, rules and client."""
