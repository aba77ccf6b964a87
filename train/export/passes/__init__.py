"""Graphs that run a net on some of their images again, and the same graphs taken apart."""
