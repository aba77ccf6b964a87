"""grpc.health.v1 for a server that stops: a watch ends with it.

Enters: what the library's health service gets. Leaves: what it answers. Does not know: what is served.
"""

import asyncio
from typing import Any

from grpc_health.v1 import health, health_pb2

LAST_WORDS_S = 0.2
"""For a watch to hear NOT_SERVING before it ends."""


class Health(health.aio.HealthServicer):
    """The library's, whose watches would go on for ever and hold up a stop for all of its grace."""

    def __init__(self) -> None:
        super().__init__()
        self._ended = asyncio.Event()

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:  # noqa: N802  # the .proto's
        """Tell of every change, until the caller leaves or the server stops."""
        watch = asyncio.create_task(super().Watch(request, context))
        ended = asyncio.create_task(self._ended.wait())
        try:
            await asyncio.wait((watch, ended), return_when=asyncio.FIRST_COMPLETED)
            if watch.done():
                watch.result()  # it goes on until it fails, and gRPC should hear of that
        finally:
            watch.cancel()
            ended.cancel()

    async def enter_graceful_shutdown(self) -> None:
        """Say NOT_SERVING to everybody, and end the watches a moment later."""
        await super().enter_graceful_shutdown()
        asyncio.get_running_loop().call_later(LAST_WORDS_S, self._ended.set)
