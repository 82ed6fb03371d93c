"""Real processes over real sockets: what the system tests share."""
