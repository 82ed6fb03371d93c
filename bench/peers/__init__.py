"""Servers to be compared with: the same JSON-RPC work, on other frameworks. None imports evloop."""
