"""Processes: one that serves, many on one port, and what starts and stops them."""
