"""grpc.reflection in v1 and v1alpha: which services there are, and their descriptors.

Enters: its requests, and the names of the services. Leaves: its answers; a stop ends its streams.
Does not know: which models are served.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from grpc_reflection.v1alpha import reflection, reflection_pb2

from serve.api.gate import CallGate
from serve.api.standard.calls import guard, read
from serve.api.standard.health import HEALTH
from serve.api.wire import Context, Handler

REFLECTIONS = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
"""The two versions differ in their package alone, so that one set of messages reads and writes both."""


class Reflection(reflection.aio.ReflectionServicer):
    """The library's reflection, in both versions, with methods and other members found by name."""

    def __init__(self, service_names: Iterable[str]) -> None:
        super().__init__(sorted({*service_names, HEALTH, *REFLECTIONS}))
        self._ended = asyncio.Event()

    def handlers(self, gate: CallGate) -> dict[str, Handler]:
        """The gRPC handlers by name, for either version."""
        serialize = reflection_pb2.ServerReflectionResponse.SerializeToString
        return guard(
            gate, {"ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(self._answer, None, serialize)}
        )

    def end(self) -> None:
        """Take no more requests."""
        self._ended.set()

    async def _answer(self, requests: AsyncIterable[bytes], context: Context) -> AsyncIterator[Any]:
        replies: Any = super().ServerReflectionInfo(self._read_until_ended(requests, context), context)
        async for reply in replies:
            yield reply

    async def _read_until_ended(self, requests: AsyncIterable[bytes], context: Context) -> AsyncIterator[Any]:
        stream, ended = aiter(requests), asyncio.create_task(self._ended.wait())
        try:
            while not ended.done():
                coming = asyncio.ensure_future(anext(stream, None))
                await asyncio.wait((coming, ended), return_when=asyncio.FIRST_COMPLETED)
                data = coming.result() if coming.done() else None
                coming.cancel()
                if data is None:
                    return
                yield await read(reflection_pb2.ServerReflectionRequest, data, context)
        finally:
            ended.cancel()

    def _file_containing_symbol(self, request: Any, fully_qualified_name: str) -> Any:
        """As the library, which finds messages and services; a method or a field is looked up in its parent."""
        parent, _, member = fully_qualified_name.rpartition(".")
        name = parent if member in _members_of(parent) else fully_qualified_name
        find: Any = super()._file_containing_symbol  # type: ignore[misc]  # the library's types leave it out
        return find(request, name)


def _members_of(name: str) -> set[str]:
    """The names of a service's methods, a message's fields or an enum's values; of nothing else."""
    pool = descriptor_pool.Default()
    for find, members in (
        (pool.FindServiceByName, "methods_by_name"),
        (pool.FindMessageTypeByName, "fields_by_name"),
        (pool.FindEnumTypeByName, "values_by_name"),
    ):
        try:
            return set(getattr(find(name), members))
        except KeyError:
            continue
    return set()
