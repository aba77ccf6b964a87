"""The web process, as the supervisor sees it: its sockets, its start, its stop."""
