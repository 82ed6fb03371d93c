"""Loads for the programs that are measured: requests, datagrams, rooms, IRC."""
