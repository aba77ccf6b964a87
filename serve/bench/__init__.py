"""Load on a server, and the ceiling that it is compared with."""
