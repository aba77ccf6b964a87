"""A stub of the Open Inference Protocol."""

from collections.abc import Iterator

import grpc
import pytest

from serve.pb.open_inference_pb2_grpc import GRPCInferenceServiceStub
from tests.support import RunningServer


@pytest.fixture(scope="module")
def stub(server: RunningServer) -> Iterator[GRPCInferenceServiceStub]:
    """The protocol's methods on the server with the tiny models."""
    with grpc.insecure_channel(server.address) as channel:
        yield GRPCInferenceServiceStub(channel)
