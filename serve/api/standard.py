"""The standard services, for a server that stops: grpc.health.v1 and reflection, and how they are registered.

Enters: what the libraries' services get. Leaves: what they answer; their streams end with the server.
Does not know: what is served.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection

LAST_WORDS_S = 0.2
"""For a watch to hear NOT_SERVING before it ends."""


class Health(health.aio.HealthServicer):
    """The library's, whose watches would go on for ever and hold up a stop for all of its grace."""

    def __init__(self) -> None:
        super().__init__()
        self._ended = asyncio.Event()

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:  # the .proto's
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


class Reflection(reflection.aio.ReflectionServicer):
    """The library's, whose streams stay open for as long as their callers like, and held up a stop for its grace."""

    def __init__(self, service_names: tuple[str, ...]) -> None:
        super().__init__(service_names)
        self._ended = asyncio.Event()

    async def ServerReflectionInfo(  # type: ignore[override]  # the .proto's; its types want a coroutine
        self, requests: AsyncIterable[Any], context: Any
    ) -> AsyncIterator[Any]:
        """Answer each request, until the caller has no more or the server stops."""
        replies: Any = super().ServerReflectionInfo(self._until_ended(requests), context)
        async for reply in replies:
            yield reply

    async def _until_ended(self, requests: AsyncIterable[Any]) -> AsyncIterator[Any]:
        stream, ended = aiter(requests), asyncio.create_task(self._ended.wait())
        try:
            while not ended.done():
                coming = asyncio.ensure_future(anext(stream, None))
                await asyncio.wait((coming, ended), return_when=asyncio.FIRST_COMPLETED)
                request = coming.result() if coming.done() else None
                coming.cancel()
                if request is None:
                    return
                yield request
        finally:
            ended.cancel()

    def end(self) -> None:
        """Take no more requests."""
        self._ended.set()


class Registrar:
    """Stands before a grpc.aio server for generated code, and registers nothing.

    At each call grpc.aio waits for the next one of every method that is registered, so each costs all calls: nine of
    them a twentieth of a call to `mnist-cnn`.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """All methods of a service, by name."""
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(
        self, service: str, handlers: "Mapping[str, grpc.RpcMethodHandler[Any, Any]]"
    ) -> None:
        """The same ones again, which are left out."""
