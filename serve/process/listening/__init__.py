"""The port of a server, and the listeners that share it."""
