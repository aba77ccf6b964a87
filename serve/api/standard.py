"""The standard services: grpc.health.v1, and reflection in v1 and v1alpha.

Enters: their requests, and which models are served. Leaves: their answers; a stop ends their streams.
Does not know: what a model is. They answer while the server drains, too.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from serve.api.gate import CallGate
from serve.api.status import refuse
from serve.api.wire import Context, Handler, parse
from serve.errors import InklingError, NotFound, quote

HEALTH = "grpc.health.v1.Health"
REFLECTIONS = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
"""The two versions differ in their package alone, so that one set of messages reads and writes both."""

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Health:
    """The health of the server, `""`, of its services, and of each model by name. On the event loop alone.

    The library's own service has one waiting list per name that only one of several watchers leaves rightly.
    """

    def __init__(self) -> None:
        self._statuses: dict[str, int] = {"": NOT_SERVING}
        self._changed = asyncio.Event()
        self._has_ended = False

    def set_serving(self, names: Iterable[str]) -> None:
        """These names, and no others, are SERVING from now on. Nothing happens after `end`."""
        if not self._has_ended:
            self._statuses = dict.fromkeys(names, SERVING)
            self._announce()

    def end(self) -> None:
        """Everything is NOT_SERVING for good; watches send that and end."""
        self._has_ended = True
        self._statuses = dict.fromkeys(self._statuses, NOT_SERVING)
        self._announce()

    def handlers(self, gate: CallGate) -> dict[str, Handler]:
        """The gRPC handlers by name."""
        serialize = health_pb2.HealthCheckResponse.SerializeToString
        return gate.standard(
            {
                "Check": grpc.unary_unary_rpc_method_handler(self._check, None, serialize),
                "Watch": grpc.unary_stream_rpc_method_handler(self._watch, None, serialize),
                "List": grpc.unary_unary_rpc_method_handler(self._list, None, None),
            },
            is_open=True,
        )

    def _announce(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _check(self, data: bytes, context: Context) -> Message:
        name = (await _read(health_pb2.HealthCheckRequest, data, context)).service
        if name not in self._statuses:
            await refuse(context, NotFound(f"wanted a service or a model of this server, got {quote(name)}"))
        return health_pb2.HealthCheckResponse(status=self._statuses[name])

    async def _watch(self, data: bytes, context: Context) -> AsyncIterator[Message]:
        """Send the status and every change, until the caller leaves or the server stops."""
        name = (await _read(health_pb2.HealthCheckRequest, data, context)).service
        sent = None
        while True:
            changed, status = self._changed, self._statuses.get(name, _UNKNOWN)
            if status != sent:
                sent = status
                yield health_pb2.HealthCheckResponse(status=status)
                continue  # it may have changed while it was sent
            if self._has_ended:
                return
            await changed.wait()

    async def _list(self, data: bytes, context: Context) -> bytes:
        """A HealthListResponse, whose one field is a map; older packages than 1.83 do not have the message."""
        entries = (
            _field(1, name.encode()) + _field(2, health_pb2.HealthCheckResponse(status=status).SerializeToString())
            for name, status in self._statuses.items()
        )
        return b"".join(_field(1, entry) for entry in entries)


class Reflection(reflection.aio.ReflectionServicer):
    """The library's reflection, in both versions, with methods and other members found by name."""

    def __init__(self, service_names: Iterable[str]) -> None:
        super().__init__(sorted({*service_names, HEALTH, *REFLECTIONS}))
        self._ended = asyncio.Event()

    def handlers(self, gate: CallGate) -> dict[str, Handler]:
        """The gRPC handlers by name, for either version."""
        serialize = reflection_pb2.ServerReflectionResponse.SerializeToString
        return gate.standard(
            {"ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(self._answer, None, serialize)}
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
                yield await _read(reflection_pb2.ServerReflectionRequest, data, context)
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


async def _read(kind: Any, data: bytes, context: Context) -> Any:
    """A message, or the end of the call with what was wanted."""
    try:
        return parse(kind, data)
    except InklingError as error:
        await refuse(context, error)


def _field(number: int, value: bytes) -> bytes:
    """A length-delimited field in protobuf's wire format; the value is shorter than 2 GiB."""
    length, size = b"", len(value)
    while size > 0x7F:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + value
