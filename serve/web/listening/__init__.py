"""How the door listens: sockets, TLS, connections, and its stop."""
