"""The typed client of a server, and the commands that use it."""

from serve.client.client import Classification, Client

__all__ = ["Classification", "Client"]
