"""serve.client.client: a call is retried if no server took it, and not for other failures."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from serve.api.inkling_v1 import SERVICE
from serve.client.client import Client
from serve.errors import CallError
from serve.pb import classifier_pb2 as pb


class FailsOnce:
    """A server that fails the first call with a status, and answers the second with an empty message."""

    def __init__(self, code: grpc.StatusCode) -> None:
        self.image_bytes: list[int] = []
        self._code = code
        self._server = grpc.server(ThreadPoolExecutor(1), options=[("grpc.max_receive_message_length", -1)])
        handler = grpc.unary_unary_rpc_method_handler(
            self._answer, pb.ClassifyRequest.FromString, pb.ClassifyResponse.SerializeToString
        )
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE.full_name, {"Classify": handler}),)
        )
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def _answer(self, request: pb.ClassifyRequest, context: Any) -> pb.ClassifyResponse:
        self.image_bytes.append(len(request.image))
        if len(self.image_bytes) == 1:
            context.abort(self._code, "not now")
        return pb.ClassifyResponse()

    def stop(self) -> None:
        """Stop the server."""
        self._server.stop(None).wait()


@pytest.fixture
def failing(request: pytest.FixtureRequest) -> Iterator[FailsOnce]:
    server = FailsOnce(request.param)
    yield server
    server.stop()


@pytest.mark.parametrize("failing", [grpc.StatusCode.UNAVAILABLE], indirect=True)
@pytest.mark.parametrize("image_bytes", [100, 2**20, 15 * 2**20])
def test_an_unavailable_call_of_any_size_is_retried(failing: FailsOnce, image_bytes: int) -> None:
    with Client(failing.address) as client:
        client.classify(bytes(image_bytes))
    assert failing.image_bytes == [image_bytes] * 2


@pytest.mark.parametrize(
    "failing", [grpc.StatusCode.INTERNAL, grpc.StatusCode.DEADLINE_EXCEEDED], indirect=True, ids=lambda code: code.name
)
def test_a_call_with_another_failure_is_not_retried(failing: FailsOnce) -> None:
    with Client(failing.address) as client, pytest.raises(CallError):
        client.classify(b"image")
    assert failing.image_bytes == [5]
