"""A typed client: image bytes -> labelled probabilities, from a running server.

Enters: the bytes of image files. Leaves: frozen dataclasses, or CallError with code, reason and sentence.
Needs only the base dependencies. Does not know: onnxruntime, files, how the server works.

    with Client("127.0.0.1:50051") as client:
        print(client.classify(Path("cat.png").read_bytes(), model="cifar10-cnn").best)
"""

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import grpc
from google.rpc import code_pb2
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from serve.client.channel import limit_proxy
from serve.errors import CallError
from serve.pb import classifier_pb2 as pb
from serve.pb.classifier_pb2_grpc import ClassifierServiceStub

DEFAULT_ADDRESS = "127.0.0.1:50051"
DEFAULT_MAX_MESSAGE_BYTES = 16 * 2**20
FRAME_BYTES = 64 * 2**10
"""More than what gRPC keeps of a call beside its message."""

Reply = TypeVar("Reply")

# UNAVAILABLE alone is retried: the call reached no server, or one that was stopping.
_RETRY = {
    "maxAttempts": 5,
    "initialBackoff": "0.1s",
    "maxBackoff": "2s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}


@dataclass(frozen=True, slots=True)
class ClassProbability:
    """One class: its label in the language asked for, its index, its probability."""

    label: str
    index: int
    probability: float


@dataclass(frozen=True, slots=True)
class Timing:
    """Where the server's time went, in microseconds; `batch_size` images shared the run."""

    queue_us: int
    decode_us: int
    prepare_us: int
    inference_us: int
    total_us: int
    batch_size: int


@dataclass(frozen=True, slots=True)
class Classification:
    """The answer for one image: classes, most probable first, and which model gave it."""

    model: str
    version: str
    precision: str
    classes: tuple[ClassProbability, ...]
    timing: Timing
    prepared_png: bytes
    """What the network saw, where `return_prepared` asked for it."""

    @property
    def best(self) -> ClassProbability:
        """The most probable class."""
        return self.classes[0]


class Client:
    """Calls one server, from any number of threads. Every method raises CallError.

    A server spreads connections over its worker processes, not calls: `connections` above 1 lets one client use more
    than one of them.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        timeout_s: float = 30,
        connections: int = 1,
        max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
    ) -> None:
        service_config = {"methodConfig": [{"name": [{}], "retryPolicy": _RETRY}]}
        self._max_message_bytes = max_message_bytes
        self._timeout_s = timeout_s
        options: list[tuple[str, Any]] = [
            ("grpc.service_config", json.dumps(service_config)),
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.use_local_subchannel_pool", 1),  # channels of equal options otherwise share one connection
            # A call that is larger than this is not retried: 256 KiB, unless one says so.
            ("grpc.per_rpc_retry_buffer_size", max_message_bytes + FRAME_BYTES),
            *limit_proxy(address),
        ]
        self._channels = [grpc.insecure_channel(address, options=options) for _ in range(connections)]
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
        """Classify one image; an empty model is the server's only one, an empty version the highest."""
        options = pb.ClassifyOptions(top_k=top_k, language_code=language, return_prepared=return_prepared)
        request = pb.ClassifyRequest(model=model, version=version, image=image, options=options)
        reply = self._call(self._stub().Classify, request)
        return _to_classification(reply.classification, reply)

    def classify_many(
        self, images: Sequence[bytes], *, model: str = "", version: str = "", top_k: int = 0, language: str = ""
    ) -> list[Classification | CallError]:
        """Classify many images in one call; an image that failed has its error in its place."""
        options = pb.ClassifyOptions(top_k=top_k, language_code=language)
        request = pb.BatchClassifyRequest(model=model, version=version, images=images, options=options)
        reply = self._call(self._stub().BatchClassify, request)
        return [
            _to_error(result.error) if result.HasField("error") else _to_classification(result.classification, reply)
            for result in reply.results
        ]

    def list_models(self) -> pb.ListModelsResponse:
        """The models that are served, and the files that were refused."""
        reply: pb.ListModelsResponse = self._call(self._stub().ListModels, pb.ListModelsRequest())
        return reply

    def get_model(self, model: str = "", version: str = "") -> pb.Model:
        """The description of one model."""
        reply: pb.GetModelResponse = self._call(self._stub().GetModel, pb.GetModelRequest(model=model, version=version))
        return reply.model

    def wait_until_ready(self, timeout_s: float) -> None:
        """Return as soon as the server answers; CallError with UNAVAILABLE if it does not in time."""
        request = pb.ListModelsRequest()
        try:
            self._stub().ListModels(request, timeout=timeout_s, wait_for_ready=True)
        except grpc.RpcError as error:
            raise CallError("UNAVAILABLE", "NO_SERVER", f"no server answered within {timeout_s:g} s") from error

    def close(self) -> None:
        """Close the connections."""
        for channel in self._channels:
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _stub(self) -> ClassifierServiceStub:
        """The next connection's, in turn."""
        return next(self._stubs)

    def _call(self, method: Callable[..., Reply], request: Any) -> Reply:
        if request.ByteSize() > self._max_message_bytes:
            raise CallError(
                "RESOURCE_EXHAUSTED",
                "MESSAGE_TOO_LARGE",
                f"wanted a message of at most {self._max_message_bytes:,} bytes, got {request.ByteSize():,}",
            )
        try:
            return method(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise _from_rpc_error(error) from error


def _from_rpc_error(error: Any) -> CallError:
    """The status in the trailers where the server sent one, else what gRPC itself says."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            return _to_error(Status.FromString(value))
    return CallError(error.code().name, "GRPC", error.details() or "no details")


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
