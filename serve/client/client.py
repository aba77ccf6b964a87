"""A typed client: image bytes -> labelled probabilities, from a running server.

Enters: the bytes of image files. Leaves: frozen dataclasses, or CallError with code, reason and message.
Needs only the base dependencies. Does not know: ONNX Runtime, files, how the server works.

    with Client("127.0.0.1:50051") as client:
        print(client.classify(Path("cat.png").read_bytes(), model="cifar10-cnn").best)
"""

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import grpc
from google.rpc import code_pb2
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from serve.client.channel import open_channel
from serve.client.endpoint import DEFAULT_ADDRESS, Endpoint
from serve.client.handshake import explain_failure
from serve.errors import CallError
from serve.pb import classifier_pb2 as pb
from serve.pb.classifier_pb2_grpc import ClassifierServiceStub

DEFAULT_MAX_MESSAGE_BYTES = 16 * 2**20
OVERHEAD_BYTES = 64 * 2**10
"""Bytes of a call that gRPC buffers beside its message, rounded up."""

GRPC_REASON = "GRPC"
"""Reason of a status that comes from gRPC itself and not from a server."""
NO_CONNECTION = ("UNAVAILABLE", "DEADLINE_EXCEEDED")
"""Codes of calls for which gRPC found no connection."""

Reply = TypeVar("Reply")

# Retried is what another try may mend: no server or one that stops, and, after the pause that it asks for, a full one.
_RETRY = {
    "maxAttempts": 5,
    "initialBackoff": "0.1s",
    "maxBackoff": "2s",
    "backoffMultiplier": 2,
    # A server that stops cancels the calls that it has not begun. A call that its caller cancels is not retried.
    "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "CANCELLED"],
}


@dataclass(frozen=True, slots=True)
class ClassProbability:
    """One class: its label in the requested language, its index, its probability from 0 to 1."""

    label: str
    index: int
    probability: float


@dataclass(frozen=True, slots=True)
class Timing:
    """The server's time by stage, in microseconds. `batch_size` images shared the run."""

    queue_us: int
    decode_us: int
    prepare_us: int
    inference_us: int
    total_us: int
    batch_size: int


@dataclass(frozen=True, slots=True)
class Classification:
    """The answer for one image: the classes, most probable first, and the model that gave them."""

    model: str
    version: str
    precision: str
    classes: tuple[ClassProbability, ...]
    timing: Timing
    prepared_png: bytes
    """The prepared pixels as a PNG file if `return_prepared` was set, else empty."""

    @property
    def best(self) -> ClassProbability:
        """The most probable class."""
        return self.classes[0]


class Client:
    """Calls one server, from any number of threads. Every method raises CallError.

    A server spreads connections, not calls, over its worker processes. So a client that is to use several workers
    needs several `connections`.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        timeout_s: float = 30,
        connections: int = 1,
        max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
        tls_ca: str | Path | None = None,
        tls_cert: str | Path | None = None,
        tls_key: str | Path | None = None,
        token: str = "",
    ) -> None:
        """`tls_ca` or `tls_cert` turns TLS on; they and `tls_key` are PEM files, which are read now.

        Raises ConfigError if one of them, or the token, cannot be used.
        """
        ca, cert, key = (Path(path) if path else None for path in (tls_ca, tls_cert, tls_key))
        self._endpoint = Endpoint(address, ca, cert, key, token)
        self._has_answered = False
        service_config = {"methodConfig": [{"name": [{}], "retryPolicy": _RETRY}]}
        self._max_message_bytes = max_message_bytes
        self._timeout_s = timeout_s
        options = [
            ("grpc.service_config", json.dumps(service_config)),
            # gRPC does not retry a call that is larger than its buffer, which is 256 KiB by default.
            ("grpc.per_rpc_retry_buffer_size", max_message_bytes + OVERHEAD_BYTES),
        ]
        self._channels = [open_channel(self._endpoint, options) for _ in range(connections)]
        self._stubs = itertools.cycle([ClassifierServiceStub(channel) for channel in self._channels])

    def classify(
        self,
        image: bytes,
        *,
        model: str = "",
        version: str = "",
        top_k: int = 0,
        language: str = "",
        return_prepared: bool = False,
    ) -> Classification:
        """Classify one image. An empty model means the only one of the server, an empty version the highest.

        `top_k` is the number of classes in the answer; 0 gives 5.
        """
        options = pb.ClassifyOptions(top_k=top_k, language_code=language, return_prepared=return_prepared)
        request = pb.ClassifyRequest(model=model, version=version, image=image, options=options)
        reply = self._call(self._stub().Classify, request)
        return _to_classification(reply.classification, reply)

    def classify_many(
        self, images: Sequence[bytes], *, model: str = "", version: str = "", top_k: int = 0, language: str = ""
    ) -> list[Classification | CallError]:
        """Classify many images in one call. An image that failed has a CallError in its place."""
        options = pb.ClassifyOptions(top_k=top_k, language_code=language)
        request = pb.BatchClassifyRequest(model=model, version=version, images=images, options=options)
        reply = self._call(self._stub().BatchClassify, request)
        return [
            _to_error(result.error) if result.HasField("error") else _to_classification(result.classification, reply)
            for result in reply.results
        ]

    def list_models(self) -> pb.ListModelsResponse:
        """The served models, and the refused model files with reasons."""
        reply: pb.ListModelsResponse = self._call(self._stub().ListModels, pb.ListModelsRequest())
        return reply

    def get_model(self, model: str = "", version: str = "") -> pb.Model:
        """The description of one model."""
        reply: pb.GetModelResponse = self._call(self._stub().GetModel, pb.GetModelRequest(model=model, version=version))
        return reply.model

    def wait_until_ready(self, timeout_s: float) -> None:
        """Return as soon as the server answers. Raises CallError with UNAVAILABLE after `timeout_s`."""
        request = pb.ListModelsRequest()
        try:
            self._stub().ListModels(request, timeout=timeout_s, wait_for_ready=True, metadata=self._endpoint.metadata)
        except grpc.RpcError as error:
            found = self._explain(error)
            if found.reason == GRPC_REASON:
                found = CallError("UNAVAILABLE", "NO_SERVER", f"no server answered within {timeout_s:g} s")
            raise found from error

    def close(self) -> None:
        """Close the connections."""
        for channel in self._channels:
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _stub(self) -> ClassifierServiceStub:
        """The stub of the next connection, round-robin."""
        return next(self._stubs)

    def _call(self, method: Callable[..., Reply], request: Any) -> Reply:
        if request.ByteSize() > self._max_message_bytes:
            raise CallError(
                "RESOURCE_EXHAUSTED",
                "MESSAGE_TOO_LARGE",
                f"wanted a message of at most {self._max_message_bytes:,} bytes, got {request.ByteSize():,}",
            )
        try:
            reply = method(request, timeout=self._timeout_s, metadata=self._endpoint.metadata)
        except grpc.RpcError as error:
            raise self._explain(error) from error
        self._has_answered = True
        return reply

    def _explain(self, error: Any) -> CallError:
        """The error of a failed call. If no server has answered yet, TLS may be the reason."""
        found = _from_rpc_error(error)
        may_be_tls = found.reason == GRPC_REASON and found.code in NO_CONNECTION and not self._has_answered
        if may_be_tls and (sentence := explain_failure(self._endpoint)):
            return CallError("UNAVAILABLE", "TLS_FAILED", sentence)
        return found


def open_client(endpoint: Endpoint, connections: int = 1) -> Client:
    """A client of an endpoint. Raises ConfigError."""
    return Client(
        endpoint.address,
        connections=connections,
        tls_ca=endpoint.tls_ca,
        tls_cert=endpoint.tls_cert,
        tls_key=endpoint.tls_key,
        token=endpoint.token,
    )


def _from_rpc_error(error: Any) -> CallError:
    """The google.rpc.Status in the trailers if the server sent one, else gRPC's own code and details."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            return _to_error(Status.FromString(value))
    return CallError(error.code().name, GRPC_REASON, error.details() or "no details")


def _to_error(status: Status) -> CallError:
    info = ErrorInfo()
    for detail in status.details:
        if detail.Is(ErrorInfo.DESCRIPTOR):
            detail.Unpack(info)
    return CallError(code_pb2.Code.Name(status.code), info.reason, status.message)


def _to_classification(
    message: pb.Classification, reply: pb.ClassifyResponse | pb.BatchClassifyResponse
) -> Classification:
    timing = message.timing
    return Classification(
        model=reply.model,
        version=reply.version,
        precision=reply.precision,
        classes=tuple(ClassProbability(each.label, each.index, each.probability) for each in message.classes),
        timing=Timing(
            queue_us=timing.queue_us,
            decode_us=timing.decode_us,
            prepare_us=timing.prepare_us,
            inference_us=timing.inference_us,
            total_us=timing.total_us,
            batch_size=timing.batch_size,
        ),
        prepared_png=message.prepared_png,
    )
