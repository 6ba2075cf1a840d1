"""One module a peer, run in the peer's own environment: install, enqueue N, ping N."""
