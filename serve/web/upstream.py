"""The gRPC server behind the door: one channel to it, or one to each of its workers.

Enters: endpoints; request messages with the metadata of their callers. Leaves: replies, or an HttpError.
Does not know: HTTP, who listens.
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import grpc

from serve.client.channel import make_call_options, open_aio_channel
from serve.client.endpoint import Endpoint
from serve.pb.classifier_pb2_grpc import ClassifierServiceStub
from serve.pb.open_inference_pb2_grpc import GRPCInferenceServiceStub
from serve.web.failures import from_rpc

Metadata = Sequence[tuple[str, str]]

HEALTH = "/grpc.health.v1.Health/Check"
SERVING = b"\x08\x01"
"""A HealthCheckResponse whose status is SERVING. The request for the whole server is an empty message."""
RETRIED = ("UNAVAILABLE", "CANCELLED")
"""Codes of calls that gRPC tries again. An overloaded server is the caller's to try again, who is told when."""


class Upstream:
    """Calls a server. Made and used on one event loop."""

    def __init__(self, endpoints: Iterable[Endpoint], timeout_s: float, max_message_bytes: int) -> None:
        """Several endpoints are the workers of one server, over which calls are spread. Raises ConfigError."""
        self._timeout_s = timeout_s
        targets = list(endpoints)
        self._channels = [
            open_aio_channel(
                endpoint, make_call_options(endpoint, max_message_bytes, RETRIED) if len(targets) == 1 else ()
            )
            for endpoint in targets
        ]
        self._stubs: list[dict[str, Any]] = [
            {
                **vars(ClassifierServiceStub(channel)),
                **vars(GRPCInferenceServiceStub(channel)),
                HEALTH: channel.unary_unary(HEALTH),
            }
            for channel in self._channels
        ]
        self._turns = itertools.cycle(range(len(self._channels)))

    async def call(self, method: str, request: Any, metadata: Metadata) -> Any:
        """The reply to a request. Raises HttpError. A task that is cancelled cancels its call."""
        for others in reversed(range(len(self._channels))):
            try:
                return await self._choose()[method](request, timeout=self._timeout_s, metadata=metadata)
            except grpc.aio.AioRpcError as error:
                # A worker that ends takes its calls along. Another one answers them.
                if not others or error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise from_rpc(error, self._timeout_s) from error
        raise AssertionError("there is no channel")

    async def is_serving(self) -> bool:
        """Whether the server takes requests. It asks without a token, as probes do. Raises HttpError."""
        reply: bytes = await self.call(HEALTH, b"", ())
        return reply == SERVING

    async def close(self) -> None:
        """Close the connections."""
        for channel in self._channels:
            await channel.close()

    def _choose(self) -> dict[str, Any]:
        """The stubs of the next channel that is connected; of the next one, if none is."""
        turn = next(self._turns)
        if len(self._channels) > 1:
            for _ in self._channels:
                if self._channels[turn].get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY:
                    break
                turn = next(self._turns)
        return self._stubs[turn]
