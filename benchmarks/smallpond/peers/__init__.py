"""One program a peer, run by the peer's own interpreter; none imports another."""
