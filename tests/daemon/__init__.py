"""Tests of the directory server's parts."""
