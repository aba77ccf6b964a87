"""Load on a server, and the ceiling and the peers that it is compared with."""
