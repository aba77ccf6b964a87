"""Which models are live: the supervisor decides, and every worker follows."""
