"""The typed client of a server, and its commands."""

from serve.client.client import Classification, Client

__all__ = ["Classification", "Client"]
