"""The standard services, grpc.health.v1 and reflection, and how they are added to a server.

Enters: the requests of the libraries' services. Leaves: their answers; their streams end when the server stops.
Does not know: what is served.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection

from serve.api.gate import CallGate, Handler

WATCH_END_S = 0.2
"""Seconds between the message NOT_SERVING and the end of a watch."""


class Health(health.aio.HealthServicer):
    """The library's health service, whose watches end when the server stops."""

    def __init__(self) -> None:
        super().__init__()
        self._ended = asyncio.Event()

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:  # the .proto's
        """Send every change, until the caller leaves or the server stops."""
        watch = asyncio.create_task(super().Watch(request, context))
        ended = asyncio.create_task(self._ended.wait())
        try:
            await asyncio.wait((watch, ended), return_when=asyncio.FIRST_COMPLETED)
            if watch.done():
                watch.result()  # it ends by failing, and gRPC gets the failure
        finally:
            watch.cancel()
            ended.cancel()

    async def enter_graceful_shutdown(self) -> None:
        """Set everything to NOT_SERVING, and end the watches a moment later."""
        await super().enter_graceful_shutdown()
        asyncio.get_running_loop().call_later(WATCH_END_S, self._ended.set)


class Reflection(reflection.aio.ReflectionServicer):
    """The library's reflection service, whose streams end when the server stops."""

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
    """Stands in for a grpc.aio server to generated code: it passes methods through the gate and registers none.

    grpc.aio waits at every call for the next one of each registered method, so every registered method costs all calls
    (docs/benchmarks/history.md). The methods are found by name instead.
    """

    def __init__(self, server: grpc.aio.Server, gate: CallGate) -> None:
        self._server = server
        self._gate = gate

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Do nothing: generated code gives the same methods to the other function."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Handler]) -> None:
        """Add the methods of a service, to be found by name."""
        counted = self._gate.standard(handlers)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, counted),))
