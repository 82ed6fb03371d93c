"""Long random runs: `make fuzz`."""
