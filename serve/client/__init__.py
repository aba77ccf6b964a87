"""The typed client of a server, for threads and for asyncio, and the commands that use it."""

from serve.client.aio import AsyncClient
from serve.client.client import Client
from serve.client.messages import Classification, ClassProbability, Timing
from serve.errors import CallError

__all__ = ["AsyncClient", "CallError", "ClassProbability", "Classification", "Client", "Timing"]
