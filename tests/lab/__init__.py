"""A lab of network namespaces: real programs, real multicast, real loss, nothing of it outside."""
