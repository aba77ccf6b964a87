"""Flags -> the whole way, for each door of this package."""
