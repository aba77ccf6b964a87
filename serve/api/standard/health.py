"""grpc.health.v1: the health of the server, of its services and of its models.

Enters: its requests, and which models are served. Leaves: its answers; a stop ends its streams.
Does not know: what a model is.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2

from serve.api.gate import CallGate
from serve.api.standard.calls import guard, read
from serve.api.status import refuse
from serve.api.wire import Context, Handler
from serve.errors import NotFound, quote

HEALTH = "grpc.health.v1.Health"

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
        return guard(
            gate,
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
        name = (await read(health_pb2.HealthCheckRequest, data, context)).service
        if name not in self._statuses:
            await refuse(context, NotFound(f"wanted a service or a model of this server, got {quote(name)}"))
        return health_pb2.HealthCheckResponse(status=self._statuses[name])

    async def _watch(self, data: bytes, context: Context) -> AsyncIterator[Message]:
        """Send the status and every change, until the caller leaves or the server stops."""
        name = (await read(health_pb2.HealthCheckRequest, data, context)).service
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


def _field(number: int, value: bytes) -> bytes:
    """A length-delimited field in protobuf's wire format; the value is shorter than 2 GiB."""
    length, size = b"", len(value)
    while size > 0x7F:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + value
